"""Send the same inputs with stock Celery and through the ledger, and print what became of each: run in Django's shell."""

import base64
import json
import math
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import redis
from celery import current_app, group
from django.db import connection, transaction
from django.utils.translation import gettext_lazy
from kombu.serialization import register

from drumline.broker.publishing import publish
from drumline.message import Message
from drumline.models import DurableTask

register(
    "backwards", lambda value: json.dumps(value)[::-1], lambda text: json.loads(text[::-1]), "text/backwards", "utf-8"
)
register("unicode", str, str, "application/text", "utf-8")

TEXTS = {
    "NUL": "a\0b",
    "lone surrogate": "caf\udce9.csv",
    "escape that is none": "a\\u0000b\\ud800",
    "quotes and dollars": "'\"\\%s %(x)s $$ ☃ 😀",
    "300 characters": "n" * 300,
}
VALUES = {
    **TEXTS,
    "NaN": math.nan,
    "infinity": math.inf,
    "datetime": datetime(2026, 11, 27, 12, tzinfo=UTC),
    "naive datetime": datetime(2026, 11, 27, 12),  # noqa: DTZ001
    "date": date(2026, 11, 27),
    "time": datetime(2026, 11, 27, 12, tzinfo=UTC).time(),
    "Decimal": Decimal("1.10"),
    "UUID": uuid.UUID(int=7),
    "bytes": b"\xff\0",
    "tuple": (1, (2, 3)),
    "integer keys": {1: 2, None: 3},
    "huge integer": 2**200,
    "lazy text": gettext_lazy("Yes"),
    "marked as text": {"__type__": "uuid", "__value__": {"hex": uuid.UUID(int=7).hex}},
    "deep": [[[[[[{"a": [None, True]}]]]]]],
    "an object": object(),
    "a set": {1},
    "a tuple as key": {(1, 2): 3},
}
LATER = datetime(2099, 1, 1, 12, tzinfo=UTC)

# What is said to apply_async; `args` and the options.
INPUTS = {
    **{f"argument: {name}": {"args": [value]} for name, value in VALUES.items()},
    **{f"keyword: {name}": {"kwargs": {"value": value}} for name, value in VALUES.items()},
    **{f"keyword's name: {name}": {"kwargs": {text: 1}} for name, text in TEXTS.items()},
    **{f"header: {name}": {"headers": {"value": value}} for name, value in VALUES.items()},
    **{f"header's name: {name}": {"headers": {text: 1}} for name, text in TEXTS.items()},
    **{f"stamp: {name}": {"stamped_headers": ["stamp"], "stamp": value} for name, value in VALUES.items()},
    **{f"name: {name}": {"name": text} for name, text in TEXTS.items()},
    **{f"shadow: {name}": {"shadow": text} for name, text in TEXTS.items()},
    **{f"argsrepr: {name}": {"argsrepr": text} for name, text in TEXTS.items()},
    **{f"task_id: {name}": {"task_id": text} for name, text in TEXTS.items()},
    **{f"root_id: {name}": {"root_id": text, "parent_id": text} for name, text in TEXTS.items()},
    **{f"group_id: {name}": {"group_id": text} for name, text in TEXTS.items()},
    "task_id: a UUID": {"task_id": uuid.UUID(int=8)},
    "task_id: a number": {"task_id": 42},
    "task_id: a braced UUID": {"task_id": f"{{{uuid.UUID(int=9)}}}"},
    "root_id: a UUID": {"root_id": uuid.UUID(int=8), "parent_id": uuid.UUID(int=8)},
    "priority: 5.0": {"priority": 5.0},
    "priority: 5.5": {"priority": 5.5},
    "priority: text": {"priority": "5"},
    "priority: a word": {"priority": "high"},
    "priority: huge": {"priority": 10**9},
    "priority: NaN": {"priority": math.nan},
    "time_limit: infinity": {"time_limit": math.inf, "soft_time_limit": math.inf},
    "time_limit: Decimal": {"time_limit": Decimal("1.5")},
    "retries: huge": {"retries": 2**40},
    "replaced_task_nesting: huge": {"replaced_task_nesting": 2**20},
    "eta: a datetime": {"eta": LATER},
    "eta: a naive datetime": {"eta": LATER.replace(tzinfo=None)},
    "eta: another time zone": {"eta": LATER.astimezone(timezone(timedelta(hours=-9)))},
    "eta: a date": {"eta": LATER.date()},
    "eta: text": {"eta": "2099-01-01T12:00:00+00:00"},
    "eta: text of a date": {"eta": "2099-01-01"},
    "eta: the last moment": {"eta": datetime.max.replace(tzinfo=timezone(timedelta(hours=-9)))},
    "eta: the first moment": {"eta": datetime.min.replace(tzinfo=timezone(timedelta(hours=9)))},
    "eta: no time": {"eta": "tomorrow"},
    "countdown: a fraction": {"countdown": 0.001},
    "countdown: negative": {"countdown": -5},
    "countdown: infinity": {"countdown": math.inf},
    "countdown: NaN": {"countdown": math.nan},
    "countdown: beats eta": {"countdown": 0.5, "eta": LATER},
    "expires: a datetime": {"expires": LATER},
    "expires: a naive datetime": {"expires": LATER.replace(tzinfo=None)},
    "expires: text": {"expires": "2099-01-01T12:00:00"},
    "expires: no time": {"expires": "tomorrow"},
    "expires: a fraction": {"expires": 3600.5},
    "expires: negative": {"expires": -3600},
    "expires: a date": {"expires": LATER.date()},
    "expires: infinity": {"expires": math.inf},
    "reply_to: lone surrogate": {"reply_to": TEXTS["lone surrogate"]},
    "compression": {"args": ["x" * 2000], "compression": "zlib"},
    "compression: unknown": {"compression": "unknown"},
    "serializer: unknown": {"serializer": "unknown"},
    "serializer: binary": {"serializer": "pickle"},
    "serializer: not accepted": {"serializer": "backwards"},
    "serializer: plain text": {"serializer": "unicode", "args": ["☃\0"]},
    "serializer: text that is none": {"serializer": "unicode", "shadow": "x"},
    "queue: unknown": {"queue": "unknown"},
    "properties": {"message_id": "m\0", "app_id": TEXTS["lone surrogate"], "delivery_mode": 1},
    "link: lone surrogate": {"link": [{"task": "probe.fail", "args": ["\udce9\0"], "kwargs": {}, "options": {}}]},
    "args: no list": {"args": 5},
    "kwargs: no mapping": {"kwargs": [1]},
}

VOLATILE = ("published", "durable", "origin", "eta")


def main() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE callers (name text)")
    broker = redis.Redis.from_url(current_app.conf.broker_url)
    report = {name: _compare(broker, name, dict(options)) for name, options in INPUTS.items()}
    print("report:" + json.dumps(report))  # noqa: T201


def _compare(broker, name, options) -> dict:
    options.setdefault("task_id", str(uuid.uuid4()))
    stock, stock_error = _sent(broker, lambda: _send(options, durable=False))
    DurableTask.objects.all().delete()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO callers VALUES (%s)", [name.encode("ascii", "replace").decode()])
        error = None
        try:
            _send(options, durable=True)
        except Exception as raised:  # noqa: BLE001
            error = f"{type(raised).__name__}: {raised}"
        rows = list(DurableTask.objects.all())
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM callers WHERE name = %s", [name.encode("ascii", "replace").decode()])
        [kept] = cursor.fetchone()
    _take(broker)
    differs = ""
    if rows:
        publish([Message.loads(rows[0].message)])
        ledger = _take(broker)
        differs = _difference(stock, ledger) if stock else ""
    return {
        "stock": repr(stock_error) if stock_error else "sent",
        "error": repr(error) if error else "",
        "rows": len(rows),
        "caller": kept,
        "differs": differs,
        "due": repr(rows[0].due_at) if rows else "",
    }


def _send(options, *, durable) -> None:
    options = {**options, "durable": durable}
    task_name = options.pop("name", "probe.fail")
    current_app.send_task(task_name, options.pop("args", None), options.pop("kwargs", None), **options)


def _sent(broker, send):
    error = None
    try:
        send()
    except Exception as raised:  # noqa: BLE001
        error = f"{type(raised).__name__}: {raised}"
    return _take(broker), error


def _take(broker):
    """Return the one message that the broker holds in whichever list, and empty it."""
    found = [broker.lrange(key, 0, -1) for key in broker.scan_iter() if broker.type(key) == b"list"]
    broker.flushdb()
    messages = [message for messages in found for message in messages]
    assert len(messages) <= 1, messages
    return json.loads(messages[0]) if messages else None


def _difference(stock, ledger) -> str:
    """Return what a worker would receive differently; the time is the ledger's to wait for."""
    for message in (stock, ledger):
        for header in VOLATILE:
            message["headers"].pop(header, None)
        for volatile in ("delivery_tag",):
            message["properties"].pop(volatile)
        message["properties"]["delivery_info"].pop("exchange", None)
        # A moment of its own for each: what is left of a time from now.
        if isinstance(message["headers"].get("expires"), str) and "2099" not in message["headers"]["expires"]:
            message["headers"]["expires"] = message["headers"]["expires"][:16]
        message["properties"].pop("expiration", None)
        message["properties"]["reply_to"] = str(message["properties"].get("reply_to"))[:3]
        if message["headers"].get("compression") is None:
            message["body"] = base64.b64decode(message["body"]).decode("utf-8", "surrogatepass")
        for name in ("id", "root_id", "parent_id"):
            message["headers"][name] = _id(message["headers"][name])
        message["properties"]["correlation_id"] = _id(message["properties"]["correlation_id"])
    one, other = json.dumps(stock, sort_keys=True), json.dumps(ledger, sort_keys=True)
    return "" if one == other else f"stock {one}\nledger {other}"


def _id(value):
    """Return an id as text: as an object, a worker of stock Celery gets it back as one."""
    if isinstance(value, dict):
        return str(uuid.UUID(value["__value__"]["hex"]))
    return value if value is None else str(value)


__all__ = ["group", "main"]

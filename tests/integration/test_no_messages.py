"""What a list of Redis can hold beside messages: the worker logs and drops it, and goes on with the next one."""

import base64
import json
from uuid import uuid4

from tests.support.waiting import wait_until


def message(*, body: bytes = b"[[], {}, {}]", content_type: str = "application/json", **changes) -> str:
    """Return the entry of a task that a worker runs, if nothing is changed."""
    properties = {
        "body_encoding": "base64",
        "delivery_tag": str(uuid4()),
        "delivery_info": {"exchange": "default", "routing_key": "default"},
    }
    headers = {"task": "drumline.ping", "id": str(uuid4())}
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": content_type,
            "headers": changes.get("headers", {**headers, **changes.get("more_headers", {})}),
            "properties": {**properties, **changes.get("properties", {})},
        }
    )


NO_MESSAGES = {
    "text": "no message",
    "bytes": b"\xff\xfe\x00",
    "a number": "7",
    "null": "null",
    "a list": "[1]",
    "other keys": '{"a": 1}',
    "no delivery information": message(properties={"delivery_info": None}),
    "an unknown encoding": message(properties={"body_encoding": "rot13"}),
    "headers that are a list": message(headers=[1]),
    "headers without an id": message(headers={"task": "drumline.ping"}),
    "a task's name that is a list": message(headers={"task": ["drumline.ping"], "id": "1"}),
    "a body that is no JSON": message(body=b"{"),
    "a body of another shape": message(body=b"[1]"),
    "pickle": message(content_type="application/x-python-serialize"),
    "an unknown content type": message(content_type="text/unknown"),
    "an unknown compression": message(more_headers={"compression": "none"}),
    "time limits that are none": message(more_headers={"timelimit": 5}),
    "an eta that is none": message(more_headers={"eta": "tomorrow"}),
}


def test_what_is_no_message_is_dropped_and_the_worker_goes_on_at_once(application, broker):
    application.with_probe()
    worker = application.worker("default")
    pid = worker.popen.pid

    for what, entry in NO_MESSAGES.items():
        broker.client.lpush("default", entry)
        wait_until(
            lambda: not worker.alive() or (not broker.client.llen("default") and not broker.client.hlen("unacked")),
            f"{what} is dropped:\n{worker.text()[-3000:]}",
        )
        assert worker.alive(), f"{what} ended the worker:\n{worker.text()[-3000:]}"

    assert application.enqueue("drumline.ping", "--queue", "default")["state"] == "SUCCESS"
    assert worker.popen.pid == pid
    assert "Connection to broker lost" not in worker.text()
    assert worker.text().count("not_a_message") >= 8

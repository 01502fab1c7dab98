"""What stock Celery takes, the ledger takes; what is not the ledger's goes where it was sent."""

import json

import pytest

# What stock Celery takes and no worker could run, and the sentence that the sender gets.
REFUSED = {
    "eta: no time": "is not a time",
    "serializer: binary": "which is not text. Set CELERY_TASK_SERIALIZER to json",
    "serializer: not accepted": "which is not in CELERY_ACCEPT_CONTENT",
}


@pytest.fixture(params=["postgresql", "sqlite"])
def either(request, application, tmp_path):
    """The project on each database, with the probe's tasks."""
    application.with_probe()
    if request.param == "sqlite":
        application.env["DATABASE_URL"] = f"sqlite:///{tmp_path / 'db.sqlite3'}"
        application.env["DJANGO_SETTINGS_MODULE"] = "probe_development"
        application.manage("migrate")
    return application


def test_every_input_that_stock_celery_takes_is_kept_as_stock_would_send_it(either):
    said = either.manage("shell", "--no-imports", "--command", "import sent_inputs; sent_inputs.main()")
    [line] = [line for line in said.stdout.splitlines() if line.startswith("report:")]
    report = json.loads(line.removeprefix("report:"))

    wrong = {}
    for name, got in report.items():
        refused = REFUSED.get(name)
        taken = got["rows"] == 1 and not got["error"]
        if got["caller"] != 1:
            wrong[name] = f"the caller's transaction was lost: {got}"
        elif refused:
            if taken or refused not in got["error"]:
                wrong[name] = f"not refused with its sentence: {got}"
        elif got["stock"] == "sent" and not taken:
            wrong[name] = f"stock takes it: {got}"
        elif got["stock"] != "sent" and taken:
            wrong[name] = f"stock refuses it: {got}"
        elif got["differs"]:
            wrong[name] = f"another message: {got}"
    assert not wrong, "\n".join(f"{name}: {why}" for name, why in wrong.items())
    assert len(report) > 150


@pytest.fixture
def shell(application):
    """Run code in the project's shell and return what it printed, one JSON value a line."""
    application.with_probe()

    def run(code: str, **env: str) -> list:
        before = (
            "import json, logging, redis\nfrom celery import Celery, current_app as app\n"
            "from django.db import connection, transaction\nfrom kombu import Connection, Exchange, Queue\n"
            "from drumline.models import DurableTask\n"
            "def say(value): print('said:' + json.dumps(value))\n"
            "def rows(): return sorted(DurableTask.objects.values_list('name', flat=True))\n"
        )
        said = application.manage("shell", "--no-imports", "--command", before + code, **env)
        run.log = said.stdout + said.stderr
        return [json.loads(line.removeprefix("said:")) for line in said.stdout.splitlines() if line.startswith("said:")]

    return run


def lists(client) -> dict[str, int]:
    """Return how many messages each list of the broker holds."""
    return {key: client.llen(key) for key in client.scan_iter() if client.type(key) == "list"}


def test_another_broker_and_another_application_get_what_is_sent_to_them_once(shell, broker):
    import redis

    elsewhere = broker.url.removesuffix("/0") + "/1"
    other = redis.Redis(port=broker.port, db=1, decode_responses=True)

    said = shell(f"""
import os
from probe.tasks import note
url = {elsewhere!r}
note.app.conf.broker_url
# It would beat the URL that an application is made with.
del os.environ['CELERY_BROKER_URL']
with Connection(url) as connection_:
    note.apply_async(('x', 'connection'), connection=connection_)
    note.apply_async(('x', 'producer'), producer=app.amqp.Producer(connection_, auto_declare=False))
Celery('partner', broker=url, set_as_current=False).send_task('partner.count', queue='counting')
say(rows())
# The same broker, by a connection of the caller's own.
with app.connection_for_write() as connection_:
    note.apply_async(('x', 'own'), connection=connection_, countdown=3600)
say(rows())
# The application that was created last is the current one.
own = note.app
partner = Celery('second-partner', broker=url)
partner.send_task('partner.count', queue='counting')
try:
    partner.send_task('partner.count', durable=True)
except ValueError as error:
    say(str(error))
own.send_task('probe.note', ('x', 'own'), countdown=3600)
say(rows())
""")

    assert said[:2] == [[], ["probe.note"]]
    assert "Remove durable=True" in said[2]
    assert said[3] == ["probe.note"] * 2
    assert lists(other) == {"default": 2, "counting": 2}
    assert lists(broker.client) == {}


def test_a_name_that_this_application_does_not_know_goes_to_the_broker_once_and_never_to_the_ledger(shell, broker):
    [before, rows] = shell("""
import sys
app.send_task('partner.count', queue='low')
app.send_task('partner.count', queue='low')
# Known to the project, and not yet to this process.
say('apps.reports.tasks' in sys.modules and 'reports.cleanup_old' in app.tasks)
app.send_task('reports.cleanup_old')
# Workers of this project that have more tasks than this process can know.
app.send_task('only.known.to.workers', durable=True, queue='low')
app.send_task('drumline.ping', durable=False, queue='high')
say(rows())
""")

    del before
    assert rows == ["only.known.to.workers", "reports.cleanup_old"]
    assert lists(broker.client) == {"low": 4, "high": 1}
    assert shell.log.count("task_sent_without_ledger") == 1


def test_an_exchange_without_a_queue_of_this_project_and_a_broadcast_are_not_the_ledgers(shell):
    said = shell("""
from kombu.common import Broadcast
from probe.tasks import note
app.amqp.queues.add(Broadcast('everybody'))
app.amqp.queues.add(Queue('media', Exchange('media', 'topic'), routing_key='media.#'))
note.apply_async(('x', 'broadcast'), queue='everybody')
note.apply_async(('x', 'media'), exchange='media', routing_key='media.video.cut', countdown=60)
say([row.queue for row in DurableTask.objects.all()])
try:
    note.apply_async(('x', 'nowhere'), exchange='partner', routing_key='partner.key', durable=True)
except ValueError as error:
    say(str(error))
""")

    assert said[0] == ["media"]
    assert "matches no queue in CELERY_TASK_QUEUES" in said[1]


def test_outside_a_transaction_a_task_is_sent_again_over_a_new_connection_and_inside_one_django_decides(
    shell, cluster, sql
):
    said = shell(f"""
import psycopg
from probe.tasks import note
def end_connection():
    with connection.cursor() as cursor:
        cursor.execute('SELECT pg_backend_pid()')
        pid = cursor.fetchone()[0]
    with psycopg.connect('host={cluster.folder} port={cluster.port} user=drumline dbname=postgres', autocommit=True) as one:
        one.execute('SELECT pg_terminate_backend(%s, 5000)', [pid])
note.delay('x', 'before')
end_connection()
note.delay('x', 'alone')
end_connection()
from celery import group
group(note.si('x', str(number)) for number in range(1500)).delay()
try:
    with transaction.atomic():
        end_connection()
        note.delay('x', 'inside')
except Exception as error:
    say(type(error).__module__)
note.delay('x', 'after')
""")

    assert said == ["django.db.utils"]
    assert sql("SELECT count(*) FROM drumline_ledger") == [(1503,)]
    assert sql("SELECT count(*) FROM drumline_ledger WHERE message LIKE '%inside%'") == [(0,)]


def test_the_event_of_a_sent_task_follows_its_message_and_never_waits_for_the_broker(shell, broker):
    events = broker.client.pubsub()
    events.psubscribe("*celeryev*")

    code = """
from drumline.celery_hooks.producer import LedgerProducer
from probe.tasks import note
app.conf.update(CELERY_TASK_SEND_SENT_EVENT=True)
assert app.conf.task_send_sent_event
# Whatever uses Celery's own connection waits for the broker as long as Celery's settings say.
def refuse(self):
    raise AssertionError('the connection with the long patience')
LedgerProducer._real = property(refuse)
for _ in range(3):
    note.delay('x', 'sent')
try:
    with transaction.atomic():
        note.delay('x', 'rolled back')
        raise LookupError
except LookupError:
    say(rows())
say(DurableTask.objects.filter(published_at=None).count())
"""
    assert shell(code) == [["probe.note"] * 3, 0]
    assert lists(broker.client) == {"default": 3}
    told = [
        json.loads(message["data"])
        for message in iter(lambda: events.get_message(timeout=1), None)
        if message["type"] == "pmessage"
    ]
    assert len(told) == 3

    broker.kill()
    assert shell(code) == [["probe.note"] * 6, 3]


def test_a_kombu_without_batches_publishes_one_by_one(shell, broker):
    assert shell("""
from celery import group
from kombu import Producer
from probe.tasks import note
if hasattr(Producer, 'batch'):
    del Producer.batch
group(note.si('x', str(number)) for number in range(20)).delay()
say(DurableTask.objects.filter(published_at=None).count())
""") == [0]
    assert lists(broker.client) == {"default": 20}


def test_an_error_that_is_not_the_brokers_is_said_as_what_it_is_and_holds_no_other_message(shell, broker):
    said = shell("""
from drumline.broker.publishing import breaker
from drumline.relay import relay
from probe.tasks import note
with transaction.atomic():
    note.delay('x', 'broken')
    note.delay('x', 'unreadable')
    # As after an update of a library: it was kept, and cannot be published any more.
    row = DurableTask.objects.get(message__contains='broken')
    DurableTask.objects.filter(id=row.id).update(message=row.message.replace('"properties": {', '"properties": {"compression": "lost", '))
    DurableTask.objects.filter(message__contains='unreadable').update(message='no JSON')
    DurableTask.objects.update(published_at=None)
redis.Redis.from_url(app.conf.broker_url).flushall()
for number in range(3):
    note.apply_async(('x', str(number)), countdown=0.001)
clock = [0.0]
one = relay.Relay(clock=lambda: clock[0])
one.round()
say([breaker.is_closed(), one.status()])
say(DurableTask.objects.filter(published_at=None).count())
for _ in range(8):
    clock[0] += 301
    one.round()
say(list(DurableTask.objects.filter(published_at=None, state=0).values_list('name', flat=True)))
say(sorted(DurableTask.objects.filter(state=3).values_list('error', flat=True)))
""")

    closed, status = said[0]
    assert closed
    assert "2 cannot be published" in status
    assert said[1:3] == [2, []]
    unreadable, broken = said[3]
    assert broken.startswith("it could not be published: KeyError: 'lost'")
    assert unreadable.startswith("it could not be published: JSONDecodeError")
    assert lists(broker.client) == {"default": 3}
    assert "message_not_published" in shell.log
    assert "relay_broker_unavailable" not in shell.log

"""Beat on PostgreSQL, beside rows that SQL may write and Python cannot read."""

from tests.support.waiting import wait_until

ENTRIES = """
from datetime import timedelta
from django.utils import timezone
from django_celery_beat.models import *
second = IntervalSchedule.objects.create(every=1, period="seconds")
nothing = IntervalSchedule.objects.create(every=0, period="seconds")
mars = CrontabSchedule.objects.create(minute="*")
past = ClockedSchedule.objects.create(clocked_time=timezone.now() - timedelta(hours=1))
for name, when in {"a fine": {"interval": second}, "for ever": {"interval": second}, "nothing": {"interval": nothing},
        "mars": {"crontab": mars}, "full": {"interval": second, "total_run_count": 2**31 - 1},
        "passed": {"clocked": past, "one_off": True}, "z fine": {"interval": second}}.items():
    PeriodicTask.objects.create(name=name, task="drumline.ping", **when)
"""


def test_rows_that_cannot_be_read_or_written_stop_no_other_entry(application, sql):
    application.manage("shell", "--no-imports", "--command", ENTRIES)
    sql("UPDATE django_celery_beat_periodictask SET start_time = 'infinity' WHERE name = 'for ever'")
    sql("UPDATE django_celery_beat_crontabschedule SET timezone = 'Mars/Olympus' WHERE minute = '*' AND hour = '*'")

    beat = application.beat()
    runs = "SELECT name FROM django_celery_beat_periodictask WHERE total_run_count >= 3 AND name LIKE '%fine'"
    wait_until(lambda: len(sql(runs)) == 2 or not beat.alive(), "the entries beside the broken ones run")

    assert len(sql(runs)) == 2, beat.text()[-3000:]
    assert {line["entry"] for line in beat.said("entry_broken")} == {"for ever", "mars", "nothing"}
    assert {line["entry"] for line in beat.said("run_not_sent")} == {"full"}
    assert beat.said("run_sent", entry="passed")
    assert not beat.said("beat_database_unavailable")

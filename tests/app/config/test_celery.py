import pytest
from celery import current_app
from kombu.exceptions import EncodeError

from config.celery import app, carry_only_what_correlates


def test_only_json_travels():
    assert app.conf.accept_content == ["json"]
    assert {app.conf.task_serializer, app.conf.result_serializer, app.conf.event_serializer} == {"json"}


def test_a_task_outlives_its_worker_and_never_runs_for_ever():
    assert app.conf.task_acks_late
    assert app.conf.worker_prefetch_multiplier == 1
    assert (app.conf.task_soft_time_limit, app.conf.task_time_limit) == (1500, 1800)
    assert app.conf.broker_transport_options["visibility_timeout"] == 7200


def test_database_connections_are_reused_between_tasks():
    assert app.conf.get("CELERY_DB_REUSE_MAX") == 100


@pytest.mark.parametrize(
    ("task", "queue"),
    [
        ("notifications.send_welcome_email", "high"),
        ("notifications.send_reminder", "high"),
        ("notifications.send_weekly_digest", "low"),
        ("notifications.send_weekly_digest_to_user", "low"),
        ("drumline.ping", "default"),
        ("users.cleanup_expired_sessions", "low"),
        ("celery.backend_cleanup", "low"),
        ("debug_task", "default"),
        ("something.unrouted", "default"),
    ],
)
def test_each_task_goes_to_its_queue(task, queue):
    assert app.amqp.router.route({}, task)["queue"].name == queue


def test_the_projects_application_is_the_current_one_and_knows_every_task():
    assert current_app.main == "drumline"
    assert {"drumline.ping", "notifications.send_welcome_email", "users.cleanup_expired_sessions"} <= set(
        current_app.tasks
    )


def test_every_scheduled_task_exists():
    assert {entry["task"] for entry in app.conf.beat_schedule.values()} <= set(app.tasks)


def test_what_is_not_json_is_refused_before_it_is_sent():
    with pytest.raises(EncodeError):
        app.tasks["drumline.ping"].apply_async(args=[object()])


def test_a_message_carries_only_what_ties_log_lines_together():
    context = {"request_id": "r", "user_id": None, "ip": "192.0.2.1", "parent_task_id": "p"}
    carry_only_what_correlates(context)
    assert context == {"request_id": "r", "parent_task_id": "p"}


def test_the_debug_task_prints_its_request_and_stores_no_result(caplog):
    task = app.tasks["debug_task"]
    caplog.set_level("INFO")
    task.apply(args=[1], kwargs={"two": 2}, task_id="the-id")
    assert "Request: <Context: " in caplog.text
    assert "'id': 'the-id'" in caplog.text
    assert "'two': 2" in caplog.text
    assert task.ignore_result

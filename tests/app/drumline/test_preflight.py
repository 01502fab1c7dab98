"""What is said of settings that lose, double or leave open, and what is not said of safe ones."""

from types import SimpleNamespace

import pytest
from celery import Celery, current_app
from django.core.management import CommandError, call_command
from django.db import connections

from drumline.preflight import celery_settings
from drumline.preflight.celery_settings import settings_notes, settings_problems
from drumline.preflight.django_settings import django_problems
from drumline.preflight.tasks import serving_problems, task_notes, task_problems


def nothing():
    """Stand for a task."""


@pytest.fixture
def _on_postgresql(monkeypatch):
    """The unit tests run on SQLite, which is named as a problem."""
    monkeypatch.setattr(connections["default"], "vendor", "postgresql")


pytestmark = pytest.mark.usefixtures("_on_postgresql")


def test_a_fleet_that_serves_every_queue_passes(capsys):
    call_command("drumline_check", "--serve", "high,default,low")
    assert "every routed queue is served" in capsys.readouterr().out


def test_a_queue_that_nobody_serves_is_named_with_what_goes_there():
    with pytest.raises(CommandError) as caught:
        call_command("drumline_check", "--serve", "default, low")
    assert "queue high is not served" in str(caught.value)
    assert "route notifications.*" in str(caught.value)


def test_serving_nothing_names_every_queue():
    with pytest.raises(CommandError) as caught:
        call_command("drumline_check", "--serve", "")
    assert str(caught.value).count("is not served") == 3


def test_a_served_queue_that_is_not_declared_is_named():
    with pytest.raises(CommandError, match="queue hgih is served but task_queues does not declare it"):
        call_command("drumline_check", "--serve", "high,default,low,hgih")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("task_acks_late", False),
        ("task_always_eager", True),
        ("accept_content", ["json", "pickle"]),
        ("result_accept_content", ["pickle"]),
        ("task_serializer", "pickle"),
        ("result_serializer", "pickle"),
        ("task_time_limit", None),
        ("task_soft_time_limit", None),
        ("task_soft_time_limit", 1800),
        ("worker_prefetch_multiplier", 0),
        ("worker_prefetch_multiplier", 4),
        ("task_create_missing_queues", True),
        ("broker_connection_max_retries", 100),
        ("beat_scheduler", "celery.beat:PersistentScheduler"),
        ("enable_utc", False),
        ("beat_scheduler", "django_celery_beat.schedulers:DatabaseScheduler"),
        ("broker_connection_retry", False),
        ("task_acks_on_failure_or_timeout", False),
        ("task_reject_on_worker_lost", True),
        ("worker_cancel_long_running_tasks_on_connection_loss", True),
        ("result_expires", None),
        ("broker_transport_options", {"visibility_timeout": 7200}),
        ("broker_transport_options", {"visibility_timeout": 7200, "socket_timeout": 9, "retry_on_timeout": True}),
        ("broker_url", "redis://10.0.0.5:6379/0"),
        ("broker_url", "amqp://guest:guest@mq.example.com//"),
        ("broker_url", "memory://"),
    ],
)
def test_a_dangerous_setting_is_named(setting, value):
    app = Celery("copy", set_as_current=False)
    app.conf.update(
        {
            name: current_app.conf[name]
            for name in (
                "accept_content",
                "beat_scheduler",
                "broker_connection_max_retries",
                "broker_transport_options",
                "broker_url",
                "result_accept_content",
                "task_acks_late",
                "task_create_missing_queues",
                "task_soft_time_limit",
                "task_time_limit",
                "result_expires",
                "worker_cancel_long_running_tasks_on_connection_loss",
                "worker_prefetch_multiplier",
            )
        }
    )
    assert list(settings_problems(app)) == []
    app.conf.update({setting: value})
    problems = list(settings_problems(app))
    assert len(problems) == 1
    assert problems[0].startswith(setting)


def test_a_visibility_timeout_below_the_time_limit_is_named():
    app = Celery("copy", set_as_current=False)
    app.conf.update(
        broker_url=current_app.conf.broker_url,
        broker_transport_options={"visibility_timeout": 600},
        task_time_limit=1800,
        task_soft_time_limit=1500,
    )
    assert any("visibility_timeout 600 must exceed task_time_limit 1800" in line for line in settings_problems(app))


def test_queues_of_tasks_and_schedules_count_as_routed():
    app = Celery("routes", set_as_current=False)
    app.conf.beat_schedule = {"nightly": {"task": "x", "schedule": 5, "options": {"queue": "night"}}}

    @app.task(name="own", queue="special", shared=False)
    def own():
        pass

    problems = "\n".join(serving_problems(app, ["celery"]))
    assert "queue night is not served, and schedule nightly" in problems
    assert "queue special is not served, and task own" in problems


def test_a_setting_that_celery_does_not_know_is_corrected(monkeypatch):
    app = Celery("typo", set_as_current=False, namespace="CELERY")
    project = SimpleNamespace(CELERY_TASK_ACK_LATE=True, CELERY_EMAIL_BACKEND="x", CELERY_TASK_TRACK_STARTED=True)
    monkeypatch.setattr(celery_settings, "settings", project)
    assert [line for line in settings_problems(app) if "is no setting" in line] == [
        "CELERY_TASK_ACK_LATE is no setting of Celery and does nothing: write CELERY_TASK_ACKS_LATE"
    ]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"time_limit": 8000, "soft_time_limit": 7000}, "time_limit 8000 must be less than visibility_timeout 7200"),
        ({"soft_time_limit": 1900}, "soft_time_limit 1900 must be less than time_limit 1800"),
        ({"max_retries": None}, "max_retries is None"),
        ({"rate_limit": "10/m"}, "rate_limit 10/m has no effect"),
    ],
)
def test_an_option_of_a_task_that_contradicts_a_setting_is_named(options, named):
    app = Celery("tasks", set_as_current=False, broker="redis://127.0.0.1")
    app.conf.update(
        broker_transport_options={"visibility_timeout": 7200}, task_time_limit=1800, worker_disable_rate_limits=True
    )
    app.task(name="safe", shared=False)(nothing)
    app.task(name="own", shared=False, **options)(nothing)
    [problem] = task_problems(app)
    assert problem.startswith("task own: ")
    assert named in problem


def test_a_task_that_is_not_durable_is_noted():
    app = Celery("tasks", set_as_current=False)
    app.task(name="safe", shared=False)(nothing)
    app.task(name="own", shared=False, durable=False)(nothing)
    [note] = task_notes(app)
    assert note.startswith("task own is not durable")


def test_results_that_django_does_not_keep_are_noted():
    assert list(settings_notes(current_app)) == []
    [note] = settings_notes(Celery("results", set_as_current=False, backend="redis://127.0.0.1"))
    assert "a chord's body can be lost" in note


def test_safe_settings_of_django_pass():
    assert list(django_problems()) == []


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("DEBUG", True, "DEBUG is True"),
        ("USE_TZ", False, "USE_TZ is False"),
        ("DATABASE_ROUTERS", ["tests.app.drumline.test_preflight.Elsewhere"], "puts the ledger into database 'other'"),
    ],
)
def test_a_dangerous_setting_of_django_is_named(settings, monkeypatch, setting, value, named):
    monkeypatch.setitem(connections.settings, "other", connections.settings["default"])
    monkeypatch.setattr("django.db.backends.sqlite3.base.DatabaseWrapper.vendor", "postgresql")
    setattr(settings, setting, value)
    [problem] = django_problems()
    assert named in problem


def test_connections_that_are_kept_unseen_are_named(monkeypatch):
    values = connections["default"].settings_dict
    for name, value in {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": False}.items():
        monkeypatch.setitem(values, name, value)
    [problem] = django_problems()
    assert '"CONN_HEALTH_CHECKS": True' in problem


class Elsewhere:
    """A router that takes the ledger away."""

    def db_for_write(self, *_args, **_hints):
        return "other"

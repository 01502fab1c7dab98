"""What is said of settings that lose, double or leave open, and what is not said of safe ones."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import Celery, current_app
from celery.app.routes import MapRoute
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections
from django_celery_results.models import TaskResult
from kombu import Exchange, Queue

from drumline import conf
from drumline.ledger import store
from drumline.preflight import celery_settings
from drumline.preflight.celery_settings import settings_notes, settings_problems
from drumline.preflight.django_settings import LEAST, django_problems
from drumline.preflight.queues import serving_problems, waiting_problems
from drumline.preflight.routes import routed_queues
from drumline.preflight.task_options import task_notes, task_problems


def nothing():
    """Stand for a task."""


@pytest.fixture
def _on_postgresql(monkeypatch):
    """The unit tests run on SQLite, which is named as a problem."""
    monkeypatch.setattr(connections["default"], "vendor", "postgresql")
    monkeypatch.setattr("drumline.management.commands.drumline_check.pooling_problems", list)


pytestmark = pytest.mark.usefixtures("_on_postgresql")


@pytest.mark.django_db
def test_a_fleet_that_serves_every_queue_passes(capsys):
    call_command("drumline_check", "--serve", "high,default,low")
    assert "every routed queue is served" in capsys.readouterr().out


@pytest.mark.django_db
def test_a_queue_that_nobody_serves_is_named_with_what_goes_there():
    with pytest.raises(CommandError) as caught:
        call_command("drumline_check", "--serve", "default, low")
    assert "queue high is not served" in str(caught.value)
    assert "route notifications.*" in str(caught.value)


@pytest.mark.django_db
def test_serving_nothing_names_every_queue():
    with pytest.raises(CommandError) as caught:
        call_command("drumline_check", "--serve", "")
    assert str(caught.value).count("is not served") == 3


@pytest.mark.django_db
def test_a_served_queue_that_is_not_declared_is_named():
    with pytest.raises(CommandError, match="queue hgih is served but not declared in task_queues"):
        call_command("drumline_check", "--serve", "high,default,low,hgih")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("task_acks_late", False),
        ("task_protocol", 1),
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
        ("broker_url", ["redis://127.0.0.1:6379/0", "redis://10.0.0.5:6379/0"]),
        ("broker_write_url", "redis://10.0.0.5:6379/0"),
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
    app.conf.update(control_queue_durable=True, event_queue_durable=True)
    assert list(settings_problems(app)) == []
    app.conf.update({setting: value})
    problems = list(settings_problems(app))
    assert len(problems) == 1
    assert problems[0].startswith(setting.replace("_write_", "_"))


@pytest.mark.parametrize(
    ("installed", "scheduler", "schedule", "said"),
    [
        (True, "drumline.beat.scheduler:Scheduler", {"nightly": {}}, None),
        (True, "celery.beat:PersistentScheduler", {}, "one host; set it to drumline.beat.scheduler:Scheduler"),
        (False, "celery.beat:PersistentScheduler", {}, None),
        (False, "celery.beat:PersistentScheduler", {"nightly": {}}, "pip install 'drumline[beat]'"),
        (False, "drumline.beat.scheduler:Scheduler", {}, 'add "django_celery_beat" and "drumline.beat"'),
        (False, "django", {}, "two beats send each run twice; pip install"),
    ],
)
def test_a_scheduler_that_loses_or_doubles_runs_is_named_with_what_the_project_lacks(
    monkeypatch, installed, scheduler, schedule, said
):
    monkeypatch.setattr(celery_settings.apps, "is_installed", lambda name: installed or name != "drumline.beat")
    app = Celery("scheduled", set_as_current=False)
    app.conf.update(beat_scheduler=scheduler, beat_schedule=schedule)
    problems = [line for line in settings_problems(app) if line.startswith("beat_scheduler")]
    assert len(problems) == (said is not None)
    assert not said or said in problems[0]


@pytest.mark.parametrize("setting", ["control_queue_durable", "event_queue_durable"])
def test_a_queue_that_rabbitmq_4_3_refuses_is_named(setting):
    app = Celery("copy", set_as_current=False)
    app.conf.update(broker_url="amqp://app:p@mq.example.com//", control_queue_durable=True, event_queue_durable=True)
    assert not any("_queue_durable" in line for line in settings_problems(app))

    app.conf.update({setting: False})
    assert [line.split()[0] for line in settings_problems(app) if "RabbitMQ 4.3" in line] == [setting]


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
    assert "queue night is not served, but schedule nightly" in problems
    assert "queue special is not served, but task own" in problems


def by_code(name, _args, _kwargs, _options, task=None, **_):
    """Route as a project's function would."""
    return {"queue": "coded"} if name == "own" and task is not None else None


def needs_arguments(name, args, *_, **__):
    """Route by the first argument, which preflight does not know."""
    return {"queue": args[0]} if name == "own" else None


class ByClass:
    """A router of the form before Celery 4."""

    def route_for_task(self, name, _args=None, _kwargs=None):
        return "classy" if name == "own" else None


HERE = __name__


@pytest.mark.parametrize(
    ("routes", "queues"),
    [
        (None, set()),
        ({}, set()),
        ({"own": {"queue": "a"}, "feed.*": {"queue": "b"}}, {"a", "b"}),
        ({"own": "a", re.compile(r"(video|image)\..*"): {"queue": "b"}}, {"a", "b"}),
        ([{"own": {"queue": "a"}}, {"feed.*": "b"}], {"a", "b"}),
        (([("own", {"queue": "a"}), ("feed.*", {"queue": "b"})],), {"a", "b"}),
        (MapRoute({"own": {"queue": "a"}, "feed.*": "b"}), {"a", "b"}),
        ([MapRoute([("own", "a")])], {"a"}),
        ({"own": {"queue": Queue("object")}}, {"object"}),
        ({"own": {"exchange": "media", "routing_key": "video"}}, {"bound"}),
        ({"own": {"priority": 5}}, set()),
        (by_code, {"coded"}),
        ([by_code], {"coded"}),
        (f"{HERE}.by_code", {"coded"}),
        ((f"{HERE}:ByClass",), {"classy"}),
        (ByClass(), {"classy"}),
    ],
)
def test_every_form_of_a_route_that_celery_takes_is_read(routes, queues):
    app = Celery("routes", set_as_current=False)
    app.conf.task_queues = [Queue("celery"), Queue("bound", Exchange("media"), routing_key="video")]
    app.conf.task_routes = routes
    app.task(name="own", shared=False)(nothing)
    assert app.amqp.router.route({}, "own"), "Celery itself does not take this form"

    routed = routed_queues(app)
    assert set(routed.queues) == queues | {"celery"}
    assert routed.problems == []


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ([("own", {"queue": "a"})], "which Celery cannot read"),
        ({7: {"queue": "a"}}, "which Celery cannot read"),
        ({"own": None}, "route own leads to None"),
        ("no.such.router", "task_routes names no.such.router, which cannot be imported"),
    ],
)
def test_a_route_on_which_celery_fails_is_a_problem(routes, said):
    app = Celery("routes", set_as_current=False)
    app.conf.task_routes = routes
    app.task(name="own", shared=False)(nothing)
    with pytest.raises(Exception):  # noqa: B017  whatever Celery raises
        app.amqp.router.route({}, "own")
    [problem] = serving_problems(app, ["celery"])
    assert said in problem


def test_what_a_route_decides_by_arguments_is_noted_as_unread():
    app = Celery("routes", set_as_current=False)
    app.conf.task_routes = needs_arguments
    app.task(name="own", shared=False)(nothing)
    assert any("cannot be called without arguments: IndexError" in note for note in routed_queues(app).notes)


def test_a_served_queue_that_celery_creates_is_not_called_wrong():
    app = Celery("routes", set_as_current=False)
    app.conf.task_create_missing_queues = True
    assert list(serving_problems(app, ["celery", "made"])) == []


@pytest.mark.django_db
def test_tasks_that_wait_in_a_queue_that_is_not_served_are_a_problem(monkeypatch):
    monkeypatch.setattr(connections["default"], "vendor", "sqlite")
    for countdown in (0, 600):
        current_app.tasks["drumline.ping"].apply_async(queue="low", countdown=countdown)
    assert list(waiting_problems(["low"])) == []
    [problem] = waiting_problems(["high", "default"])
    assert problem.startswith("queue low is not served, but 2 tasks wait in it")
    assert "drumline-manage queues move low QUEUE" in problem


@pytest.mark.django_db
def test_a_database_without_tables_is_noted_and_not_a_crash(capsys, monkeypatch):
    def no_table():
        raise DatabaseError('relation "drumline_ledger" does not exist')

    monkeypatch.setattr("drumline.preflight.queues.queue_states", no_table)
    call_command("drumline_check", "--serve", "high,default,low")
    assert "the database could not be checked: relation" in capsys.readouterr().out


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("task_queues", ["high", "low"]),
        ("task_time_limit", "half an hour"),
        ("broker_transport_options", {"visibility_timeout": "two hours"}),
        ("broker_url", "redis://[::1"),
        ("accept_content", 7),
    ],
)
def test_a_value_that_no_check_expects_is_a_problem_and_not_a_traceback(monkeypatch, setting, value):
    app = Celery("odd", set_as_current=False, broker="redis://127.0.0.1")
    app.conf.update({setting: value})
    monkeypatch.setattr("drumline.management.commands.drumline_check.application", lambda: app)
    with pytest.raises(CommandError, match="cannot be read: "):
        call_command("drumline_check", "--serve", "celery")


def test_a_setting_that_celery_does_not_know_is_corrected(monkeypatch):
    app = Celery("typo", set_as_current=False, namespace="CELERY")
    project = SimpleNamespace(CELERY_TASK_ACK_LATE=True, CELERY_EMAIL_BACKEND="x", CELERY_TASK_TRACK_STARTED=True)
    monkeypatch.setattr(celery_settings, "settings", project)
    assert [line for line in settings_problems(app) if "is not a Celery setting" in line] == [
        "CELERY_TASK_ACK_LATE is not a Celery setting and is ignored; did you mean CELERY_TASK_ACKS_LATE?"
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


def test_names_of_the_brokers_keys_that_flower_does_not_know_are_noted():
    app = Celery("names", set_as_current=False, backend="django-db")
    assert list(settings_notes(app)) == []
    app.conf.broker_transport_options = {"sep": ":", "priority_steps": [0, 4, 8]}
    [note] = settings_notes(app)
    assert note.startswith("broker_transport_options has sep: Flower")


def test_results_that_django_does_not_keep_are_noted():
    assert list(settings_notes(current_app)) == []
    [note] = settings_notes(Celery("results", set_as_current=False, backend="redis://127.0.0.1"))
    assert "the body of a chord can be lost" in note


def test_safe_settings_of_django_pass():
    assert list(django_problems()) == []


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("DEBUG", True, "DEBUG is True"),
        ("USE_TZ", False, "USE_TZ is False"),
        ("DATABASE_ROUTERS", [f"{__name__}.Elsewhere"], "puts the ledger into database 'other'"),
        ("DATABASE_ROUTERS", [f"{__name__}.Replica"], "reads the ledger from database 'other'"),
        (
            "DATABASE_ROUTERS",
            [f"{__name__}.ReplicaOfResults"],
            "reads task results from database 'other' and writes them",
        ),
    ],
)
def test_a_dangerous_setting_of_django_is_named(settings, monkeypatch, setting, value, named):
    monkeypatch.setitem(connections.settings, "other", connections.settings["default"])
    monkeypatch.setattr("django.db.backends.sqlite3.base.DatabaseWrapper.vendor", "postgresql")
    setattr(settings, setting, value)
    [problem] = django_problems()
    assert named in problem


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("DURABLE", "false", "is 'false', which counts as True; set it to True or False in the Django settings"),
        ("DURABLE", 0, "is 0, which counts as False; set it to True or False in"),
        ("PGBOUNCER", "false", "is 'false', which counts as True; set it to True, False or None in"),
        ("LEASE", "8", "is 8.0, and a worker sends a heartbeat every 3 s"),
        ("LEASE", True, "is True; set it to a number in"),
        (
            "LEASE",
            -1,
            "is -1, and a worker sends a heartbeat every 3 s, so one that lives may be declared dead; set it to 9 or",
        ),
        ("LEASE", 8.9, "is 8.9, and a worker sends a heartbeat every 3 s"),
        ("KEEP_FINISHED", float("inf"), "is inf; set it to a number in"),
        ("KEEP_FINISHED", float("nan"), "is nan; set it to a number in"),
        ("KEEP_FINISHED", -5, "is -5, which is negative; set it to 0 or more in the Django settings"),
        ("KEEP_FINISHED", None, "is None; set it to a number in"),
        ("MAX_ATTEMPTS", "three", "is 'three'; set it to a whole number in"),
        ("MAX_ATTEMPTS", 2.5, "is 2.5; set it to a whole number in"),
        ("MAX_ATTEMPTS", 0, "is 0, but every task is started at least once; set it to 1 or more in"),
        ("PUBLISH_TIMEOUT", 0, "is 0, which leaves no time; set it to more than 0 in"),
        ("MAX_PUBLISH_LAG", -0.5, "is -0.5, which leaves no time; set it to more than 0 in"),
        ("CELERY_APP", None, "is None; set it to a string in"),
    ],
)
def test_a_value_that_drumline_cannot_use_is_named_with_one_that_it_can(settings, setting, value, said):
    setattr(settings, f"DRUMLINE_{setting}", value)
    [problem] = django_problems()
    assert problem.startswith(f"DRUMLINE_{setting} {said}")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("DURABLE", False),
        ("PGBOUNCER", True),
        ("PGBOUNCER", None),
        ("LEASE", 9),
        ("LEASE", 15.5),
        ("LEASE", "15"),
        ("MAX_ATTEMPTS", "3"),
        ("KEEP_FINISHED", 0),
        ("KEEP_FINISHED", 3600),
        ("MAX_ATTEMPTS", 1),
        ("PUBLISH_TIMEOUT", 0.2),
        ("CELERY_APP", "config.celery.app"),
    ],
)
def test_a_value_that_drumline_can_use_passes(settings, setting, value):
    setattr(settings, f"DRUMLINE_{setting}", value)
    assert list(django_problems()) == []


def test_every_default_of_drumlines_own_settings_is_a_value_that_passes(settings):
    for name in conf.TYPES:
        setattr(settings, name, getattr(conf, name.removeprefix("DRUMLINE_").lower())())
    assert list(django_problems()) == []


def test_every_setting_that_drumline_reads_has_a_type():
    assert set(re.findall(r'"(DRUMLINE_\w+)"', Path(conf.__file__).read_text(encoding="utf-8"))) == conf.TYPES.keys()
    assert LEAST.keys() <= conf.TYPES.keys()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("DRUMLINE_KEEP_FINSIHED", "did you mean DRUMLINE_KEEP_FINISHED?"),
        ("DRUMLINE_LEASES", "did you mean DRUMLINE_LEASE?"),
        (
            "DRUMLINE_COLOUR",
            "remove it, or give a setting of your own another prefix. Drumline's: DRUMLINE_CELERY_APP, ",
        ),
    ],
)
def test_a_setting_that_drumline_does_not_know_is_named(settings, name, said):
    setattr(settings, name, 5)
    [problem] = django_problems()
    assert problem.startswith(f"{name} is not a Drumline setting and is ignored; {said}")


@pytest.mark.django_db
def test_a_deploy_is_refused_for_a_setting_of_drumlines_own(settings):
    settings.DRUMLINE_LEASE = "a while"
    with pytest.raises(CommandError, match="DRUMLINE_LEASE is 'a while'"):
        call_command("drumline_check")


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

    def db_for_read(self, model, **_hints):
        return "other" if model is TaskResult else None


class Replica:
    """A router that reads the ledger from a replica."""

    app = "drumline"

    def db_for_read(self, model, **_hints):
        return "other" if model._meta.app_label == self.app else None


class ReplicaOfResults(Replica):
    """One that reads the results of tasks from there."""

    app = "django_celery_results"


def test_without_its_driver_the_ledger_starts_so_that_preflight_can_say_so(monkeypatch):
    asked = []
    monkeypatch.setattr(store, "connection", SimpleNamespace(vendor="postgresql"))
    monkeypatch.setattr(store, "_engine", asked.append)
    store.load_engine()
    monkeypatch.setattr(store, "find_spec", lambda _: None)
    store.load_engine()

    assert asked == ["postgresql"]

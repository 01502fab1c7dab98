import json
import os
import pickle
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from drumline.beat.due import due_after

APP = Path(__file__).resolve().parents[3] / "app"
PRODUCTION = {
    "PATH": os.environ["PATH"],
    "PYTHONWARNINGS": "error",
    "DJANGO_SETTINGS_MODULE": "config.settings.production",
    "ADMIN_SECOND_FACTOR": "required",
    "DJANGO_ALLOWED_HOSTS": "drumline.example.com",
    "DJANGO_SECRET_KEY": "a-key-with-More-than-50-characters-of-9-different-kinds-in-it",
    "DJANGO_TIME_ZONE": "UTC",
    "DATABASE_URL": "postgresql://drumline:p@127.0.0.1:1/drumline",
    "CELERY_BROKER_URL": "redis://app:p@127.0.0.1:1/0",
    "CELERY_TASK_SOFT_TIME_LIMIT": "1500",
    "CELERY_TASK_TIME_LIMIT": "1800",
    "CELERY_VISIBILITY_TIMEOUT": "7200",
    "EMAIL_HOST": "127.0.0.1",
    "EMAIL_PORT": "25",
    "EMAIL_USE_TLS": "false",
    "DEFAULT_FROM_EMAIL": "no-reply@example.com",
    "LOG_LEVEL": "INFO",
    "SITE_URL": "https://drumline.example.com",
}


def run(*args, **env):
    return subprocess.run(
        [sys.executable, *args], cwd=APP, env={**PRODUCTION, **env}, capture_output=True, text=True, check=False
    )


def test_the_production_settings_pass_djangos_deployment_check():
    result = run("manage.py", "check", "--deploy", "--fail-level", "WARNING")
    assert result.returncode == 0, result.stderr


def test_the_production_settings_pass_the_celery_preflight():
    result = run("manage.py", "drumline_check", "--serve", "high,default,low")
    assert result.returncode == 0, result.stderr


@pytest.mark.django_db
def test_no_migration_is_missing():
    from django.core.management import call_command

    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("DATABASE_URL", "sqlite:////tmp/x.sqlite3"), ("DJANGO_ALLOWED_HOSTS", "*"), ("DJANGO_SECRET_KEY", "short")],
)
def test_production_refuses_what_is_fit_only_for_development(variable, value):
    result = run("manage.py", "check", **{variable: value})
    assert result.returncode == 1
    assert f"{variable} " in result.stderr
    assert "Traceback" not in result.stderr


def test_a_start_without_settings_names_the_variable():
    result = run("manage.py", "check", DJANGO_SETTINGS_MODULE="")
    assert result.returncode == 1
    assert "DJANGO_SETTINGS_MODULE is missing" in result.stderr


def test_the_variables_of_a_settings_module_can_be_listed_without_an_environment():
    result = subprocess.run(
        [sys.executable, "-m", "config.env", "config.settings.production"],
        cwd=APP,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    secrets = {variable["name"]: variable["secret"] for variable in json.loads(result.stdout)}
    assert secrets == {
        "ADMIN_SECOND_FACTOR": False,
        "CELERY_BROKER_URL": True,
        "CELERY_TASK_SOFT_TIME_LIMIT": False,
        "CELERY_TASK_TIME_LIMIT": False,
        "CELERY_VISIBILITY_TIMEOUT": False,
        "CRM_TOKEN": True,
        "CRM_URL": False,
        "DATABASE_URL": True,
        "DEFAULT_FROM_EMAIL": False,
        "DJANGO_ALLOWED_HOSTS": False,
        "DJANGO_SECRET_KEY": True,
        "DJANGO_SETTINGS_MODULE": False,
        "DJANGO_TIME_ZONE": False,
        "EMAIL_HOST": False,
        "EMAIL_HOST_PASSWORD": True,
        "EMAIL_HOST_USER": False,
        "EMAIL_PORT": False,
        "EMAIL_USE_TLS": False,
        "LOG_LEVEL": False,
        "SENTRY_DSN": True,
        "SITE_URL": False,
        "STRIPE_API_KEY": True,
        "STRIPE_URL": False,
        "SUPPLIER_URL": False,
    }


def test_the_release_directory_is_the_resolved_one(tmp_path):
    (tmp_path / "current").symlink_to(APP)
    result = subprocess.run(
        [sys.executable, "-c", "from config.settings import production; print(production.BASE_DIR)"],
        cwd=tmp_path / "current",
        env=PRODUCTION,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == str(APP)


def test_development_needs_no_environment():
    result = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=APP,
        env={"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "config.settings.development"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_queues_on_rabbitmq_are_quorum_queues_and_a_publish_waits_for_the_confirmation():
    told = run(
        "-c",
        "import json; from config.settings import production as it; "
        "print(json.dumps([[queue.queue_arguments for queue in it.CELERY_TASK_QUEUES], "
        "it.CELERY_BROKER_TRANSPORT_OPTIONS]))",
        CELERY_BROKER_URL="amqps://app:p@127.0.0.1:1/drumline",
    )
    arguments, options = json.loads(told.stdout)
    assert arguments == [{"x-queue-type": "quorum"}] * 3
    assert options["confirm_publish"] is True
    assert "visibility_timeout" not in options


def test_every_queue_on_rabbitmq_is_durable_and_none_is_exclusive():
    # RabbitMQ 4.3 refuses what is neither; it refuses an exclusive queue to the next life of a killed worker.
    told = run(
        "-c",
        "import json; from config.celery import app; from celery.events.receiver import EventReceiver; "
        "from unittest.mock import MagicMock; mailbox = app.control.mailbox; "
        "queues = [mailbox.get_queue('low-1@host'), mailbox.get_reply_queue(), "
        "EventReceiver(MagicMock(), app=app).queue, *app.amqp.queues.values()]; "
        "print(json.dumps([[queue.name, queue.durable, queue.exclusive, queue.auto_delete] for queue in queues]))",
        CELERY_BROKER_URL="amqp://app:p@127.0.0.1:1/drumline",
    )
    queues = json.loads(told.stdout)
    assert len(queues) == 6
    assert [queue[0] for queue in queues if queue[1:] != [True, False, False]] == []


def test_a_worker_on_rabbitmq_needs_no_client_of_redis():
    told = run(
        "-c",
        "import sys; sys.modules['redis'] = None; import django; django.setup(); "
        "from drumline.celery_hooks import envelopes; envelopes.install(); print('ready')",
        CELERY_BROKER_URL="amqp://app:p@127.0.0.1:1/drumline",
    )
    assert told.stdout == "ready\n", told.stderr


@pytest.mark.parametrize(
    ("entry", "last", "due"),
    [
        # The clocks of Vienna are put forward on Sunday 29 March 2026, and back on Sunday 25 October.
        ("notifications.send_weekly_digest", "2026-03-23T08:00+01:00", "2026-03-30T08:00+02:00"),
        ("notifications.send_weekly_digest", "2026-10-19T08:00+02:00", "2026-10-26T08:00+01:00"),
        ("users.cleanup_expired_sessions", "2026-03-28T02:00+01:00", "2026-03-29T03:00+02:00"),
        ("users.cleanup_expired_sessions", "2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"),
        ("users.cleanup_expired_sessions", "2026-10-24T02:00+02:00", "2026-10-25T02:00+02:00"),
        ("users.cleanup_expired_sessions", "2026-10-25T02:00+02:00", "2026-10-26T02:00+01:00"),
    ],
)
def test_the_codes_schedule_follows_the_sites_clock_through_its_changes(vienna, entry, last, due):
    last, due = datetime.fromisoformat(last), datetime.fromisoformat(due)
    assert due_after(vienna[entry], last, last) == due


@pytest.fixture(scope="module")
def vienna():
    """The schedule of a site in Vienna."""
    dump = "import pickle, sys; from config.settings import production as it; "
    dump += "sys.stdout.write(pickle.dumps({n: e['schedule'] for n, e in it.CELERY_BEAT_SCHEDULE.items()}).hex())"
    told = run("-c", dump, DJANGO_TIME_ZONE="Europe/Vienna")
    assert told.returncode == 0, told.stderr
    return pickle.loads(bytes.fromhex(told.stdout))


def test_a_time_zone_that_is_none_is_refused():
    result = run("manage.py", "check", DJANGO_TIME_ZONE="Europe/Wien")
    assert result.returncode == 1
    assert "DJANGO_TIME_ZONE is 'Europe/Wien', which is no time zone" in result.stderr

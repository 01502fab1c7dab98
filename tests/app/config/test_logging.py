import json
import logging
import logging.config

import pytest
import structlog

from config.settings.logging import READABLE_LINES, structured
from drumline.logs import get_logger


@pytest.fixture
def line(capsys):
    """Configure logging for one test, and give what it wrote."""
    kept = structlog.get_config()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configure(**options):
        logging.config.dictConfig(structured("INFO", **options))
        structlog.configure(cache_logger_on_first_use=False)
        return lambda: capsys.readouterr().err

    yield configure
    structlog.configure(**kept)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_one_json_object_with_its_level_and_logger(line):
    read = line()
    structlog.get_logger("apps.users").info("user_created", user_id=7)
    assert {"event": "user_created", "user_id": 7, "level": "info", "logger": "apps.users"}.items() <= json.loads(
        read()
    ).items()


def test_a_librarys_plain_message_becomes_json_too(line):
    read = line()
    logging.getLogger("urllib3").warning("took %d ms", 5)
    assert json.loads(read())["event"] == "took 5 ms"


def test_a_traceback_shows_no_local_variable(line):
    read = line()

    def sign_in(typed):
        raise LookupError(f"no account with {len(typed)} letters")

    try:
        sign_in("hunter2" * 2)
    except LookupError:
        structlog.get_logger("x").exception("failed")
    text = read()
    assert "LookupError" in text
    assert "hunter2hunter2" not in text


@pytest.mark.parametrize("key", ["password", "new_password1", "csrf_token", "Authorization", "client_secret"])
def test_a_field_that_names_a_secret_is_blanked(line, key):
    read = line()
    structlog.get_logger("x").info("event", **{key: "hunter2"})
    assert "hunter2" not in read()


def test_development_lines_are_for_people(line):
    read = line(lines=READABLE_LINES)
    structlog.get_logger("x").info("user_created", user_id=7)
    text = read()
    assert "user_created" in text
    assert not text.startswith("{")


def test_a_line_of_the_package_has_its_bare_event_and_its_values_as_fields(line):
    read = line()
    get_logger("drumline.worker").warning("worker_dead", worker="high-1@host", api_key="sesame")
    written = json.loads(read())
    assert (written["event"], written["worker"], written["api_key"]) == ("worker_dead", "high-1@host", "(hidden)")

"""A line of the package says all it knows under a plain formatter, and has its values as fields for others."""

import logging

from drumline.logs import get_logger

logger = get_logger("drumline.tests")


def test_a_line_has_its_event_and_values_as_text_and_as_attributes(caplog):
    logger.warning("worker_dead", worker="high-1@host", trouble="100 % silent")

    [record] = caplog.records
    assert record.getMessage() == "worker_dead worker=high-1@host trouble=100 % silent"
    assert (record.event, record.worker) == ("worker_dead", "high-1@host")


def test_the_traceback_and_extra_are_loggings_own(caplog):
    try:
        raise ValueError("why")  # noqa: TRY301
    except ValueError:
        logger.exception("failed", task="drumline.ping", extra={"more": 1})

    assert "ValueError: why" in caplog.text
    assert caplog.records[0].more == 1


def test_the_package_configures_no_logging():
    assert not logging.getLogger("drumline").handlers

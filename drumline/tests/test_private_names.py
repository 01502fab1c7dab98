"""What the package uses of Celery, kombu and Django though they do not document it: it says first which one moved."""

import ast
import inspect
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import drumline
from drumline.celery_hooks import signals, versions
from drumline.celery_hooks.versions import NAMES, untested

# Modules whose names are no public interface.
INTERNAL = (
    "billiard",
    "celery._state",
    "celery.app.",
    "celery.bootsteps",
    "celery.concurrency",
    "celery.worker",
    "kombu.pools",
    "kombu.transport",
    "kombu.utils.url",
    "django_celery_beat.schedulers",
    "django_celery_beat.clockedschedule",
    "django_celery_results.backends",
)
DOCUMENTED = {"celery.bootsteps:StartStopStep"}


def find(name: str) -> None:
    """Fail if nothing has this name, or what has it takes other parameters."""
    path, _, parameters = name.partition("(")
    module, _, qualified = path.partition(":")
    found = import_module(module)
    if hasattr(found, "__path__") and find_spec(f"{module}.{qualified}"):
        # Of a package, a module is an attribute once somebody has imported it.
        import_module(f"{module}.{qualified}")
    for part in qualified.split("."):
        owner, found = found, inspect.getattr_static(found, part, None)
        if found is None and inspect.isclass(owner):
            # What only the instances have, which are called `self`, or `c` in the consumer's steps.
            source = "".join(inspect.getsource(each) for each in owner.__mro__ if each.__module__ != "builtins")
            assert re.search(rf"\b(self|c)\.{part}\b|\b{part} = ", source), f"{name} is gone"
        else:
            assert hasattr(owner, part), f"{name} is gone"
    if parameters:
        wanted = parameters.removesuffix(")").split(", ")
        called = found.__init__ if inspect.isclass(found) else found
        assert list(inspect.signature(called).parameters)[: len(wanted)] == wanted, f"{name} takes other parameters"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_used_though_it_is_not_documented_is_where_it_was(name):
    if name.startswith("django_celery_"):
        pytest.importorskip(name.partition(".")[0])
    find(name)


def test_the_list_holds_every_import_of_an_internal_module():
    listed = {name.partition("(")[0] for name in NAMES} | DOCUMENTED
    missing = {
        f"{node.module}:{alias.name}"
        for path in Path(drumline.__path__[0]).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(INTERNAL)
        for alias in node.names
        if not any(f"{name}.".startswith(f"{node.module}:{alias.name}.") for name in listed)
    }
    assert missing == set()


def test_a_name_that_moved_is_named():
    with pytest.raises(AssertionError, match=r"celery\.worker\.request:Request\.on_vanished is gone"):
        find("celery.worker.request:Request.on_vanished")
    with pytest.raises(AssertionError, match="takes other parameters"):
        find("celery.worker.request:Request.on_timeout(self, timeout, soft)")


@pytest.mark.django_db
def test_a_version_that_was_not_tested_is_said_at_a_workers_start_and_by_the_check(
    monkeypatch, caplog, capsys, settings
):
    from django.core.management import CommandError, call_command

    assert list(untested()) == []
    monkeypatch.setattr(versions, "version", {"celery": "5.9.1", "kombu": "5.7.0", "django": "4.1"}.__getitem__)
    assert list(untested()) == [
        "celery 5.9.1 was not tested with this version of Drumline, which was with 5.4 to 5.7",
        "django 4.1 was not tested with this version of Drumline, which was with 4.2 to 6.1",
    ]
    signals.warn_of_versions()
    assert [record.getMessage().split()[0] for record in caplog.records] == ["version_not_tested"] * 2
    # One problem of its own, since what else is found depends on the database.
    settings.DEBUG = True
    with pytest.raises(CommandError):
        call_command("drumline_check")
    assert "note: celery 5.9.1 was not tested" in capsys.readouterr().out

"""How the package is built: each rule that its rooms follow, read from its source and from what importing it does."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import drumline

SOURCE = Path(drumline.__file__).parent
MODULES = {
    ".".join(("drumline", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
    if "migrations" not in path.parts
}

# From the top: what stands lower imports nothing that stands higher, and what shares a line knows nothing of the other.
LAYERS = (
    {"apps"},
    {"hosting"},
    {"management", "beat"},
    {"celery_hooks", "relay", "admin", "web", "tasks"},
    {"tasks_backend"},
    {"preflight"},
    {"worker"},
    {"sending"},
    {"health"},
    {"ledger"},
    {"broker"},
    {"message"},
    {"application", "models", "storable"},
    {"conf", "logs", "systemd"},
)
# What runs, as opposed to what is used by it.
ACTORS = ("worker", "relay", "beat", "management")
# What a project that installs the package has, and what comes with Celery and Django.
LIBRARIES = {"amqp", "asgiref", "billiard", "celery", "django", "kombu"}
# Of django-celery-beat, which has no public way to either.
OF_CELERY_BEAT = {"widget._choices", "CodeEntry._unpack_fields"}
EXTRAS = {
    "django_celery_beat": "drumline.beat",
    "django_celery_results": "drumline.celery_hooks.chords",
    "django_tasks": "drumline.tasks_backend",
    "gunicorn": "drumline.hosting.gunicorn",
    "psycopg": "drumline.ledger.postgresql",
    "redis": "drumline.celery_hooks.ring",
}
CELERY = ("amqp", "billiard", "celery", "kombu")
STORE = ("drumline.ledger.store", "drumline.ledger.portable", "drumline.ledger.postgresql", "drumline.models")
STATE_NUMBER = re.compile(r"\bstate\s*(=|<>|IN)\s*\(?\s*\d", re.IGNORECASE)
TABLE = re.compile(r"\bdrumline_ledger\b|\b(from|into|update|join|table)\s+\"?drumline_", re.IGNORECASE)


@pytest.fixture(scope="module")
def graph():
    grimp = pytest.importorskip("grimp")
    return grimp.build_graph("drumline", exclude_type_checking_imports=True, cache_dir=None)


def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"), module)


def without_types(source: ast.Module) -> ast.Module:
    """Leave out what is imported for a type checker alone."""
    source.body = [
        node for node in source.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    ]
    return source


def imported(module: str) -> Iterator[tuple[str, str]]:
    """Yield what a module imports by a statement: the module, and the name in it or nothing."""
    for node in ast.walk(without_types(tree(module))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def under(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def test_every_room_has_its_place(graph):
    rooms = {name.split(".")[1] for name in graph.modules if name.count(".")} - {"migrations"}
    assert rooms == set().union(*LAYERS), "name the room in LAYERS, where its imports lead down"


def test_no_import_leads_back_up(graph):
    layers = [{f"drumline.{room}" for room in layer} for layer in LAYERS]
    assert sorted(map(str, graph.find_illegal_dependencies_for_layers(layers=layers))) == []


def test_what_a_worker_is_built_of_imports_no_actor(graph):
    below = [room for layer in LAYERS[LAYERS.index({"worker"}) + 1 :] for room in layer]
    reached = [
        f"{room} imports {actor}"
        for room in below
        for actor in ACTORS
        if graph.chain_exists(f"drumline.{room}", f"drumline.{actor}", as_packages=True)
    ]
    assert reached == []


def test_the_package_needs_its_libraries_and_nothing_of_the_repository_around_it():
    roots = {(module, name.partition(".")[0]) for module in MODULES for name, _ in imported(module)}
    others = sorted(
        f"{module} imports {root}"
        for module, root in roots
        if root not in LIBRARIES | {"drumline"} | sys.stdlib_module_names
        and not under(module, (EXTRAS.get(root, "none"),))
    )
    assert others == []


def test_only_celery_hooks_reaches_into_what_celery_keeps_to_itself():
    found = [
        f"{module}: {what}"
        for module in MODULES
        if not under(module, ("drumline.celery_hooks",))
        for what in (*private_imports(module), *private_attributes(module))
    ]
    assert found == []


def private_imports(module: str) -> Iterator[str]:
    for name, part in imported(module):
        if under(name, CELERY) and re.search(r"(^|\.)_", f"{name}.{part}"):
            yield f"{name} {part}"


def private_attributes(module: str) -> Iterator[str]:
    """Yield what is read or set of an object that may be Celery's: not of Django's, the library's own or this module's."""
    celery = any(under(name, CELERY) for name, _ in imported(module))
    for node in ast.walk(tree(module)):
        if not (celery and isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)):
            continue
        owner = ast.unparse(node.value)
        if owner not in {"self", "cls", "super()"} and node.attr != "_meta" and ast.unparse(node) not in OF_CELERY_BEAT:
            yield ast.unparse(node)


def test_only_celery_hooks_changes_what_celery_defines():
    found = [
        f"{module}: {change}"
        for module in MODULES
        if not under(module, ("drumline.celery_hooks",))
        for change in changes(module)
    ]
    assert found == []


def changes(module: str) -> Iterator[str]:
    """Yield each assignment to an attribute of something imported from Celery."""
    theirs = {part or name for name, part in imported(module) if under(name, CELERY)}
    for node in ast.walk(tree(module)):
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Attribute) and ast.unparse(target.value).partition(".")[0] in theirs:
                yield ast.unparse(target)
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if called == "setattr" and ast.unparse(node.args[0]).partition(".")[0] in theirs:
            yield ast.unparse(node)


IMPORT_EVERYTHING = """
import importlib, pkgutil, sys, types
import django
import drumline.apps
install, drumline.apps.DrumlineConfig.ready = drumline.apps.DrumlineConfig.ready, lambda self: None
django.setup()
from celery import signals
from celery.utils.dispatch import Signal

# What the package imports of Celery, before it: only the package itself may change anything then.
for name in {celery!r}:
    importlib.import_module(name)

def classes():
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] in {{"celery", "kombu", "billiard", "django_celery_results"}}:
            yield name, module
            for value in list(vars(module).values()):
                if isinstance(value, type) and value.__module__ == name:
                    yield f"{{name}}.{{value.__qualname__}}", value

def seen():
    found = {{}}
    for name, owner in classes():
        for attribute, value in list(vars(owner).items()):
            if not attribute.startswith("__") or attribute == "__trace__":
                found[name, attribute] = len(value.receivers) if isinstance(value, Signal) else id(value)
    return found

def changed(before):
    after = seen()
    return sorted(f"{{name}}.{{attribute}}" for (name, attribute), value in after.items()
                  if before.get((name, attribute), value) != value or (attribute == "__trace__" and (name, attribute) not in before))

before = seen()
for name in {modules!r}:
    importlib.import_module(name)
print(changed(before))
install(None)
print(changed(before))
"""


def test_importing_any_module_changes_nothing_and_the_call_in_apps_changes_all():
    celery = sorted(
        {name for module in MODULES for name, _ in imported(module) if under(name, CELERY)} | {"celery.worker"}
    )
    modules = sorted(module for module in MODULES if not under(module, skipped()))
    script = IMPORT_EVERYTHING.format(celery=celery, modules=modules)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    by_importing, by_installing = map(ast.literal_eval, done.stdout.splitlines()[-2:])

    assert by_importing == []
    expected = {
        "celery.app.base.Celery.producer_or_acquire",
        "celery.app.base.Celery.send_task",
        "celery.app.task.Task.__trace__",
        "celery.signals.worker_ready",
        "celery.signals.task_prerun",
    }
    assert expected <= set(by_installing)


def skipped() -> tuple[str, ...]:
    """Return what needs a library that is not installed, or another engine than this database's."""
    from importlib.util import find_spec

    return tuple(home for library, home in EXTRAS.items() if find_spec(library) is None)


def test_no_module_but_the_store_knows_the_number_of_a_state_or_the_name_of_a_table():
    found = [f"{module}: {what}" for module in MODULES if module not in STORE for what in raw(module)]
    assert found == []


def raw(module: str) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (
                match[0] for pattern in (STATE_NUMBER, TABLE) for match in [pattern.search(node.value)] if match
            )
        if isinstance(node, ast.keyword) and re.fullmatch(r"state(__in)?", node.arg or "") and numbers(node.value):
            yield f"{node.arg}={ast.unparse(node.value)}"
        if isinstance(node, ast.Compare) and ast.unparse(node.left).endswith(".state") and numbers(node):
            yield ast.unparse(node)


def numbers(node: ast.AST) -> bool:
    return any(isinstance(each, ast.Constant) and type(each.value) is int for each in ast.walk(node))


@pytest.mark.django_db
def test_a_row_that_is_changed_past_the_store_is_found():
    """By the fixture that watches every test of the package."""
    from drumline.ledger import retention

    source = "from drumline.models import DurableTask\nDurableTask.objects.filter(state=0).update(state=2)\n"
    bypass = compile(source, retention.__file__, "exec")
    with pytest.raises(AssertionError, match="past the store"):
        exec(bypass, {})

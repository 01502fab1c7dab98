"""Looks at a project's checkout and says what a deploy must know. It never imports the project's code."""

from __future__ import annotations

import ast
import json
import os
import platform
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drumline_cli.errors import Failure, shown
from drumline_cli.source import (
    Class,
    Code,
    FromEnvironment,
    Named,
    Reader,
    Unknown,
    constant,
    dotted,
    environment_read,
    files_below,
    keyword,
    python_files,
)

_LOCKS = ("uv.lock", "poetry.lock", "Pipfile.lock", "pylock.toml")
_REQUIREMENTS = (
    *("requirements.txt", "requirements/production.txt", "requirements/prod.txt", "requirements/base.txt"),
    *("requirements-production.txt", "requirements-prod.txt", "requirements/requirements.txt"),
)
_PRODUCTION = ("production", "prod", "live", "deploy")
_ENVIRONMENTS = (".venv", "venv", "env")
_INSTALLED = "site-packages"
_TESTS = {"tests", "test", "testing", "e2e"}
_SENDERS = {"apply_async", "apply_async_on_commit", "delay_on_commit", "send_task", "set", "signature", "subtask", "si"}
_FRAMEWORKS = {"django.tasks", "django_tasks"}
_TASKS = {"shared_task", "task", "periodic_task"}
_HEALTH = re.compile(r"\^?(healthz?|health[-_]check|readyz|livez|ht|_health|status/health|up|ping)/?\$?")
_NOTABLE = (
    *(
        "gunicorn",
        "uvicorn",
        "uvicorn-worker",
        "daphne",
        "granian",
        "hypercorn",
        "whitenoise",
        "channels",
        "flower",
        "drumline",
    ),
    *("psycopg", "psycopg2", "psycopg2-binary", "psycopg-c", "mysqlclient", "django-redis", "django-celery-beat"),
)
DEFAULT_QUEUE = "celery"
# Django's, of a task that names none.
_DJANGOS_QUEUE = "default"
# A Celery application, a class of the project's own that is one, and a function that makes one.
_CELERY = re.compile(r"(^|[._])(\w*Celery(App)?|(make|create|build|get)_celery\w*)$")
# What the hosts run by themselves.
_RUNS_ANYWAY = re.compile(
    r"\bcelery\b.*\b(worker|beat|flower)\b|\b(gunicorn|uvicorn|daphne|granian|hypercorn|runserver|migrate|collectstatic)\b"
)
_CONFIGURED = re.compile(rb"""config_from_object\(\s*["']?(django\.conf:)?settings\b""")
# What only a settings module does.
_URLS = re.compile(rb"(?m)^\s*ROOT_URLCONF\s*=")
_TELLING = re.compile(
    rb"task|queue|[Cc]elery|environ|getenv|env\(|env\.|config\(|get_secret|websocket_urlpatterns|\.conf"
)
_QUEUE = re.compile(rb"""\bqueue\s*=\s*["']([\w.:-]+)["']""")


@dataclass(frozen=True, slots=True)
class Where:
    """A line of the checkout."""

    path: Path
    line: int = 0

    def __str__(self) -> str:
        return f"{shown(self.path)}:{self.line}" if self.line else shown(self.path)


@dataclass(frozen=True, slots=True)
class Choice:
    """One value that was found, and where."""

    value: str
    where: Where
    name: str = ""


@dataclass(slots=True)
class Queue:
    """A queue, where it is named, and the longest limits that a task of it asks for, in seconds."""

    name: str
    where: Where
    soft_time_limit: int = 0
    time_limit: int = 0


@dataclass(slots=True)
class Note:
    """What a person should know, where it stands, and what to do about it."""

    what: str
    where: Where | None = None
    fix: str = ""


@dataclass(slots=True)
class Survey:
    """What was found in a checkout. Paths of choices are relative to it."""

    checkout: Path
    top: Path
    # What runs management commands there.
    manage: str
    name: str
    settings: list[Choice] = field(default_factory=list)
    celery: list[Choice] = field(default_factory=list)
    wsgi: list[Choice] = field(default_factory=list)
    asgi: list[Choice] = field(default_factory=list)
    dependencies: list[Choice] = field(default_factory=list)
    hashed: bool = True
    python: Choice | None = None
    packages: set[str] = field(default_factory=set)
    queues: dict[str, Queue] = field(default_factory=dict)
    environment: dict[str, Where] = field(default_factory=dict)
    installed: list[str] = field(default_factory=list)
    values: dict[str, Named] = field(default_factory=dict)
    schedule: list[str] = field(default_factory=list)
    health: Choice | None = None
    commands: list[Choice] = field(default_factory=list)
    crons: list[Choice] = field(default_factory=list)
    processes: list[Choice] = field(default_factory=list)
    builds: list[Choice] = field(default_factory=list)
    # Variables of the environment without which the settings do not load.
    required: dict[str, Where] = field(default_factory=dict)
    sockets: list[str] = field(default_factory=list)
    # The class of django-configurations that holds the settings.
    configuration: Choice | None = None
    # Where django.tasks, or its backport, is used.
    tasks: Where | None = None
    notes: list[Note] = field(default_factory=list)

    @property
    def root(self) -> str:
        """The folder where imports begin, relative to the checkout."""
        return str(self.top.relative_to(self.checkout))

    def setting(self, name: str) -> Any:
        """Return a setting's value, None if it is not set or only running the code would tell it."""
        named = self.values.get(name)
        value = named.value if named else None
        if isinstance(value, FromEnvironment):
            value = value.default
        return None if isinstance(value, Unknown) else value

    def has(self, *names: str) -> bool:
        """Return whether one of these is among INSTALLED_APPS."""
        return any(app == name or app.startswith(f"{name}.") for app in self.installed for name in names)

    def fixed(self, name: str) -> Any:
        """Return a setting's value if the source states it, whatever the environment holds; else None."""
        named = self.values.get(name)
        value = named.value if named else None
        return None if isinstance(value, (Unknown, FromEnvironment)) else value

    def folder(self, name: str) -> str | None:
        """Return a setting's folder relative to `top`, None if it is elsewhere or not known."""
        value = self.fixed(name)
        if not isinstance(value, (str, Path)) or not str(value):
            return None
        path = self.top / value
        return str(path.relative_to(self.top)) if self.ships(path) else None

    def ships(self, path: Path) -> bool:
        """Return whether a path is below `top`, and not in a package that is installed there."""
        return path.is_relative_to(self.top) and path != self.top and _INSTALLED not in path.parts

    def log_files(self) -> list[Path]:
        """Return the files that LOGGING writes."""
        logging = self.fixed("LOGGING")
        handlers = logging.get("handlers") if isinstance(logging, dict) else None
        each = handlers.values() if isinstance(handlers, dict) else ()
        names = [handler.get("filename") for handler in each if isinstance(handler, dict)]
        return [self.top / name for name in names if isinstance(name, (str, Path))]

    @property
    def asynchronous(self) -> bool:
        """Whether the site is served by ASGI."""
        return bool(self.asgi) and (self.websockets or bool(self.packages & {"uvicorn", "uvicorn-worker", "daphne"}))

    @property
    def websockets(self) -> bool:
        """Whether the project speaks more than HTTP."""
        return self.has("channels") or "channels" in self.packages


def look(checkout: Path, *, root: str = "", settings: str = "", celery: str = "") -> Survey:
    """Read a checkout. `root`, `settings` and `celery` are what the user named, which must be there."""
    package = _installed(checkout, settings)
    top, manage = _top(checkout, root, settings, package)
    code = Code(top, checkout)
    if settings and code.find(settings) is None:
        code.package = package
    survey = Survey(checkout, top, manage, checkout.name)
    _entry_points(code, survey, settings)
    _settings(code, survey)
    _required(code, survey)
    _walk(code, survey, celery)
    _dependencies(survey)
    _files(survey)
    _queues_of_settings(survey)
    return survey


def _installed(checkout: Path, module: str) -> Path | None:
    """The package that holds a module in the checkout's virtual environment, or in the active one."""
    name = module.partition(".")[0]
    folders = [checkout / folder for folder in _ENVIRONMENTS]
    folders += [Path(active)] if (active := os.environ.get("VIRTUAL_ENV")) else []
    found = [path for folder in folders for path in folder.glob(f"lib/python3*/{_INSTALLED}/{name or '-'}/__init__.py")]
    return found[0].parent if found else None


def _top(checkout: Path, root: str, asked: str, package: Path | None) -> tuple[Path, str]:
    """The folder where imports begin, and what runs management commands there."""
    top = (checkout / root).resolve()
    if root and (top / "manage.py").is_file():
        return _of_manage(top, checkout)
    found = [
        path
        for depth in range(4)
        for path in sorted(checkout.glob("*/" * depth + "manage.py"))
        if not root
        and not {"node_modules", "site-packages", ".venv", "venv"} & set(path.parts)
        and not _is_test(path, checkout)
    ]
    if found:
        shallow = [path for path in found if len(path.parts) == len(found[0].parts)]
        if len(shallow) > 1:
            raise _several(shallow, [path.parent for path in shallow], checkout)
        return _of_manage(found[0].parent, checkout)
    settings = [path for path in python_files(top) if _URLS.search(path.read_bytes()) and not _is_test(path, checkout)]
    begin = {_importable(path.parent, checkout): path for path in reversed(settings)}
    if len(begin) > 1:
        raise _several(list(begin.values()), list(begin), checkout)
    if begin and (not root or top in begin):
        return next(iter(begin)), "-m django"
    if package and not begin:
        main = package / "__main__.py"
        runs = main.is_file() and "execute_from_command_line" in main.read_text(errors="replace")
        return top, f"-m {package.name}" if runs else "-m django"
    if asked and not begin:
        raise _no_settings(asked, checkout)
    if root:
        raise Failure(
            f"The folder {root} holds no manage.py.",
            where=top,
            fix="Name the folder that holds it: drumline init --root FOLDER",
        )
    raise Failure(
        "No manage.py and no settings were found here, so this is not the checkout of a Django project.",
        where=checkout,
        fix="Go to your project's checkout and run drumline init again, or name it: drumline init --project FOLDER",
    )


def _no_settings(asked: str, checkout: Path) -> Failure:
    return Failure(
        f"The settings module {asked} is neither in this checkout nor in its virtual environment.",
        where=checkout,
        fix="If a dependency has it, install that where init looks: uv venv && uv pip install -r requirements.txt",
    )


def _of_manage(folder: Path, checkout: Path) -> tuple[Path, str]:
    """Where imports begin beside a manage.py; in a package that names settings of its own, it is one of its modules."""
    inside = re.search(rf"""["']{re.escape(folder.name)}\.""", (folder / "manage.py").read_text(errors="replace"))
    if inside and folder != checkout and (folder / "__init__.py").is_file() and not (folder / folder.name).is_dir():
        return folder.parent, f"-m {folder.name}.manage"
    return folder, "manage.py"


def _importable(folder: Path, checkout: Path) -> Path:
    """The folder from which the packages of a folder are imported."""
    while (folder / "__init__.py").is_file() and folder != checkout:
        folder = folder.parent
    return folder


def _several(found: list[Path], folders: list[Path], checkout: Path) -> Failure:
    return Failure(
        f"There are {len(found)} Django projects here: {', '.join(str(path.relative_to(checkout)) for path in found)}.",
        where=checkout,
        fix=f"Name one: drumline init --root {folders[0].relative_to(checkout)}",
    )


def _is_test(path: Path, checkout: Path) -> bool:
    installed = (folder for folder in path.parents if folder.name == _INSTALLED)
    parts = path.relative_to(next(installed, checkout)).parts
    return bool(_TESTS & set(parts[:-1])) or parts[-1].startswith("test_") or parts[-1] in {"tests.py", "conftest.py"}


def _entry_points(code: Code, survey: Survey, asked: str) -> None:
    """The settings modules that manage.py, wsgi.py and their like name, the one for production first."""
    named = _named_settings(code, survey)
    if asked:
        survey.settings = [_asked_settings(code, survey, asked, named)]
        return
    for choice in list(named.values()):
        if code.find(choice.value) is None:
            del named[choice.value]
            what = f"the settings module {choice.value} does not exist"
            survey.notes.append(Note(what, choice.where, "name the right one: --settings MODULE"))
            continue
        # A sibling for production is never the one that manage.py names.
        package = choice.value.rpartition(".")[0]
        for sibling in _PRODUCTION if package else ():
            name = f"{package}.{sibling}"
            path = code.find(name)
            if name not in named and path is not None:
                named[name] = Choice(name, Where(path))
    if not named:
        for path in code.files():
            if "ROOT_URLCONF" in code.names(path) and not _is_test(path, survey.checkout):
                named[code.module_of(path)] = Choice(code.module_of(path), Where(path))
    if not named:
        raise Failure(
            "No settings module was found.",
            where=survey.top,
            fix="Name it: drumline init --settings shop.settings",
        )
    survey.settings = sorted(named.values(), key=_rank)


def _named_settings(code: Code, survey: Survey) -> dict[str, Choice]:
    """What DJANGO_SETTINGS_MODULE is set to, by its value."""
    named: dict[str, Choice] = {}
    module = survey.manage.removeprefix("-m ").removesuffix(".py")
    for path in (
        *filter(None, [code.find(module)]),
        *sorted(survey.top.glob("*/[wa]sgi.py")),
        *sorted(survey.top.glob("*/celery*.py")),
    ):
        parsed = code.parse(path)
        if parsed.problem:
            survey.notes.append(Note(f"{path.name} is not valid Python ({parsed.problem})", Where(path)))
        for node in ast.walk(parsed.tree):
            match node:
                case ast.Call(func=func, args=[ast.Constant("DJANGO_SETTINGS_MODULE"), value]) if dotted(func).endswith(
                    "setdefault"
                ):
                    given = constant(value) or getattr(environment_read(value), "default", None)
                case ast.Assign(targets=[ast.Subscript(slice=ast.Constant("DJANGO_SETTINGS_MODULE"))], value=value):
                    given = constant(value)
                case ast.Call(func=func, args=[ast.Constant("DJANGO_CONFIGURATION"), ast.Constant(str(name))]) if (
                    dotted(func).endswith("setdefault")
                ):
                    survey.configuration = survey.configuration or Choice(name, Where(path, node.lineno))
                    continue
                case _:
                    continue
            if isinstance(given, str):
                named[given] = Choice(given, Where(path, node.lineno))
    return named


def _asked_settings(code: Code, survey: Survey, asked: str, named: dict[str, Choice]) -> Choice:
    path = code.find(asked)
    if path is None:
        near = next((choice.value for choice in named.values() if code.find(choice.value)), "")
        if not near:
            raise _no_settings(asked, survey.checkout)
        raise Failure(
            f"The settings module {asked} does not exist.",
            where=survey.top.joinpath(*asked.split(".")).with_suffix(".py"),
            fix=f"drumline init --settings {near}",
        )
    return Choice(asked, Where(path))


def _rank(choice: Choice) -> tuple[int, int]:
    last = choice.value.rpartition(".")[2]
    level = 0 if last in _PRODUCTION else 2 if last in {"local", "dev", "development", "test", "testing"} else 1
    return level, 0 if choice.where.path.name == "wsgi.py" else 1


def _settings(code: Code, survey: Survey) -> None:
    chosen = survey.settings[0]
    path = code.find(chosen.value)
    if path is None:
        return
    survey.values = _configured(code, survey, path) if survey.configuration else code.names(path)
    apps = survey.setting("INSTALLED_APPS")
    survey.installed = [app for app in apps if isinstance(app, str)] if isinstance(apps, list) else []
    if problem := code.parse(path).problem:
        raise Failure(
            f"The settings module is not valid Python: {problem}",
            where=path,
            fix="Correct it, then run drumline init again.",
        )
    for setting, choices in (("WSGI_APPLICATION", survey.wsgi), ("ASGI_APPLICATION", survey.asgi)):
        value = survey.setting(setting)
        if isinstance(value, str) and "." in value:
            module, _, variable = value.rpartition(".")
            named = survey.values[setting]
            choices.append(Choice(f"{module}:{variable}", Where(named.path, named.line)))
    packages = [survey.top / chosen.value.split(".")[0], *sorted(path.parent for path in survey.top.glob("*/wsgi.py"))]
    for name, choices in (("wsgi", survey.wsgi), ("asgi", survey.asgi)):
        for package in packages:
            entry = code.find(f"{package.name}.{name}")
            if not choices and entry is not None:
                choices.append(Choice(f"{code.module_of(entry)}:application", Where(entry)))


def _configured(code: Code, survey: Survey, path: Path) -> dict[str, Named]:
    """The attributes of the class for production among those of a settings module, where django-configurations reads one."""
    classes = {name: code.resolve(named) for name, named in code.names(path).items()}
    found = {name: named for name, named in classes.items() if isinstance(named.value, Class)}
    named = survey.configuration.value if survey.configuration else ""
    chosen = next((name for last in _PRODUCTION for name in found if name.lower() == last), named)
    if chosen not in found:
        return code.names(path)
    survey.configuration = Choice(chosen, Where(found[chosen].path, found[chosen].line))
    return code.attributes(found[chosen].value)


def _required(code: Code, survey: Survey) -> None:
    """What the settings read from the environment without a default."""
    settings = code.find(survey.settings[0].value)
    if settings is None:
        return
    paths = [path for path in code.seen() if path.is_relative_to(settings.parent)]
    given = {name for path in paths for node in ast.walk(code.parse(path).tree) for name in _given_defaults(node)}
    for path in paths:
        tree = code.parse(path).tree
        # A reader of the project's own decides by itself what is missing.
        own = {
            alias.asname or alias.name
            for statement in ast.walk(tree)
            if isinstance(statement, ast.ImportFrom)
            for alias in statement.names
            if code.find(f"{statement.module}.{alias.name}") or code.find(statement.module or "")
        }
        tested = given.union(*map(_tested, ast.walk(tree)))
        left_out = _left_out(code, path)
        for node in ast.walk(tree):
            if node in left_out:
                continue
            read = environment_read(node)
            called = dotted(node.func) if isinstance(node, ast.Call) else ""
            # os.getenv gives None for what is not there.
            loads = called.endswith((".get", "getenv")) or called.partition(".")[0] in own
            if read is not None and not read.has_default and not loads and read.name not in tested:
                survey.required.setdefault(read.name, Where(path, getattr(node, "lineno", 0)))


def _left_out(code: Code, path: Path) -> set[ast.AST]:
    """What a module does not come to by the defaults of what it reads from the environment; DEBUG is off."""
    reader = Reader(code, path, code.names(path))
    found: set[ast.AST] = set()
    for node in ast.walk(code.parse(path).tree):
        if not isinstance(node, ast.If):
            continue
        decided = reader.value(node.test)
        if dotted(node.test) == "DEBUG" or (isinstance(decided, FromEnvironment) and "DEBUG" in decided.name):
            decided = False
        elif isinstance(decided, FromEnvironment) and decided.has_default:
            decided = decided.default if isinstance(decided.default, (bool, int, str)) else Unknown()
        elif isinstance(decided, FromEnvironment):
            # Nothing is there unless somebody says so; what comes in its place may need what it reads.
            decided = False
        if not isinstance(decided, Unknown):
            found.update(inner for each in (node.orelse if decided else node.body) for inner in ast.walk(each))
    return found


def _tested(node: ast.AST) -> list[str]:
    """The variable of the environment that is asked for in `"X" in os.environ`."""
    match node:
        case ast.Compare(left=ast.Constant(str(name)), ops=[ast.In() | ast.NotIn()], comparators=[held]) if dotted(
            held
        ).endswith("environ"):
            return [name]
        case _:
            return []


def _given_defaults(node: ast.AST) -> list[str]:
    """The variables of the environment that django-environ's Env(X=(str, "")) gives a default."""
    match node:
        case ast.Call(func=func, keywords=keywords) if dotted(func).endswith("Env"):
            return [each.arg for each in keywords if each.arg and isinstance(each.value, ast.Tuple)]
        case _:
            return []


def _walk(code: Code, survey: Survey, celery: str) -> None:
    """One look at every file: Celery applications, tasks and their queues, what is read from the environment."""
    conf: dict[str, Named] = {}
    unread: list[Path] = []
    for path in code.files():
        if _is_test(path, survey.checkout):
            continue
        if path.parent.name == "commands" and path.parent.parent.name == "management" and not path.stem.startswith("_"):
            survey.commands.append(Choice(path.stem, Where(path)))
        # Most files of a large project name nothing of this, and parsing is what takes long.
        text = path.read_bytes()
        if not _TELLING.search(text):
            continue
        module = code.parse(path)
        if module.problem:
            unread.append(path)
            for found in _QUEUE.finditer(text):
                line = text[: found.start()].count(b"\n") + 1
                survey.queues.setdefault(found[1].decode(), Queue(found[1].decode(), Where(path, line)))
            continue
        _applications(code, survey, path, module.tree.body)
        for node in ast.walk(module.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for decorator in node.decorator_list:
                    _task(code, survey, path, decorator)
            elif isinstance(node, ast.Call):
                _call(code, survey, path, node, conf)
            elif isinstance(node, ast.Assign):
                _assign(code, path, node, conf, survey.sockets)
            elif isinstance(node, ast.ImportFrom) and node.module in _FRAMEWORKS:
                survey.tasks = survey.tasks or Where(path, node.lineno)
            if (read := environment_read(node)) is not None:
                survey.environment.setdefault(read.name, Where(path, getattr(node, "lineno", 0)))
    if unread:
        names = ", ".join(shown(path) for path in unread[:3]) + (" …" if len(unread) > 3 else "")  # noqa: PLR2004
        version = ".".join(platform.python_version_tuple()[:2])
        what = f"not valid for Python {version}, and only searched for queues: {names}"
        survey.notes.append(Note(what, fix="if the project is for a newer Python, run drumline with that one"))
    for name, named in conf.items():
        survey.values.setdefault(f"CELERY_{name.upper()}", named)
    _choose_celery(code, survey, celery)
    _urls(code, survey)


def _choose_celery(code: Code, survey: Survey, asked: str) -> None:
    if asked:
        module, colon, variable = asked.partition(":")
        path = code.find(module)
        if not colon or not variable.isidentifier():
            raise Failure(
                f"--celery {asked} is not of the form module:variable.", fix="drumline init --celery shop.celery:app"
            )
        if path is None or variable not in code.names(path):
            found = f"drumline init --celery {survey.celery[0].value}" if survey.celery else ""
            raise Failure(
                f"There is no Celery application {asked}: "
                + ("no such module." if path is None else f"the module has no {variable}."),
                where=path or survey.top,
                fix=found or "Name the module and the variable that hold it: --celery shop.celery:app",
            )
        survey.celery = [Choice(asked, Where(path))]
    elif not survey.celery and not survey.tasks:
        raise Failure(
            "No Celery application was found: nothing like app = Celery(...).",
            where=survey.top,
            fix="Create one (celery.py in Celery's First steps with Django), or name it: drumline init --celery shop.celery:app",
        )
    else:
        package = survey.settings[0].value.split(".")[0]
        survey.celery.sort(key=lambda choice: (not _reads_settings(choice), choice.value.split(".")[0] != package))


def _reads_settings(choice: Choice) -> bool:
    """Whether a Celery application is configured with Django's settings."""
    return _CONFIGURED.search(choice.where.path.read_bytes()) is not None


def _task(code: Code, survey: Survey, path: Path, decorator: ast.expr) -> None:
    if not isinstance(decorator, ast.Call) or dotted(decorator.func).rpartition(".")[2] not in _TASKS:
        return
    for option in ("queue", "queue_name"):
        queue = _text(keyword(decorator, option), code, path, survey)
        if queue:
            found = survey.queues.setdefault(queue, Queue(queue, Where(path, decorator.lineno)))
            soft = constant(keyword(decorator, "soft_time_limit"))
            hard = constant(keyword(decorator, "time_limit"))
            found.soft_time_limit = max(found.soft_time_limit, soft if isinstance(soft, int) else 0)
            found.time_limit = max(found.time_limit, hard if isinstance(hard, int) else 0)


def _text(node: ast.expr | None, code: Code, path: Path, survey: Survey) -> str:
    """The text of an expression: a literal, a name, or a setting."""
    value: Any = None
    match node:
        case None:
            return ""
        case ast.Constant():
            value = node.value
        case ast.Attribute(value=ast.Name("settings"), attr=name):
            value = survey.setting(name)
        case ast.Name():
            value = Reader(code, path, code.names(path)).value(node)
    if isinstance(value, FromEnvironment):
        value = value.default
    return value if isinstance(value, str) else ""


def _call(code: Code, survey: Survey, path: Path, call: ast.Call, conf: dict[str, Named]) -> None:
    called = dotted(call.func) or (call.func.attr if isinstance(call.func, ast.Attribute) else "")
    verb = called.rpartition(".")[2]
    if verb in _SENDERS and (queue := _text(keyword(call, "queue"), code, path, survey)):
        survey.queues.setdefault(queue, Queue(queue, Where(path, call.lineno)))
    elif called.endswith("conf.update"):
        for each in call.keywords:
            if each.arg:
                conf[each.arg] = Named(_value(code, path, each.value), path, call.lineno)
        for given in call.args:
            if isinstance(value := _value(code, path, given), dict):
                conf.update({str(key): Named(inner, path, call.lineno) for key, inner in value.items()})


def _value(code: Code, path: Path, node: ast.expr) -> Any:
    return Reader(code, path, code.names(path)).value(node)


def _applications(code: Code, survey: Survey, path: Path, body: list[ast.stmt]) -> None:
    """The Celery applications that a module holds; one within a function is there only once that is called."""
    for statement in body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(name), *_], value=ast.Call(func=func))
                | ast.AnnAssign(target=ast.Name(name), value=ast.Call(func=func))
            ) if _CELERY.search(dotted(func)):
                survey.celery.append(Choice(f"{code.module_of(path)}:{name}", Where(path, statement.lineno)))
            case ast.If(body=inner, orelse=other) | ast.Try(body=inner, orelse=other):
                _applications(code, survey, path, [*inner, *other])


def _assign(code: Code, path: Path, node: ast.Assign, conf: dict[str, Named], sockets: list[str]) -> None:
    target = node.targets[0]
    if isinstance(target, ast.Name) and target.id == "websocket_urlpatterns":
        for call in ast.walk(node.value):
            route = constant(call.args[0]) if isinstance(call, ast.Call) and call.args else None
            if isinstance(route, str) and (first := re.match(r"\^?/?([\w-]+)/", route)):
                sockets.append(f"/{first[1]}/")
    if isinstance(target, ast.Attribute) and dotted(target.value).endswith("conf"):
        conf[target.attr] = Named(_value(code, path, node.value), path, node.lineno)


def _urls(code: Code, survey: Survey) -> None:
    """The path that says whether the site is well: the middleware's of `drumline`, or one of the project's own."""
    middleware = survey.setting("MIDDLEWARE")
    if isinstance(middleware, list) and any(
        str(name).startswith("drumline.") and "Health" in str(name) for name in middleware
    ):
        named = survey.values["MIDDLEWARE"]
        survey.health = Choice("/readyz", Where(named.path, named.line))
    module = survey.setting("ROOT_URLCONF")
    path = code.find(module) if isinstance(module, str) else None
    if path is None:
        return
    for node in ast.walk(code.parse(path).tree):
        if (
            isinstance(node, ast.Call)
            and dotted(node.func).rpartition(".")[2] in {"path", "re_path", "url"}
            and node.args
        ):
            route = constant(node.args[0])
            if isinstance(route, str) and _HEALTH.fullmatch(route) and survey.health is None:
                clean = "/" + route.strip("^$")
                survey.health = Choice(clean, Where(path, node.lineno))


def _dependencies(survey: Survey) -> None:
    folders = list(dict.fromkeys([survey.checkout, survey.top]))
    for name in (*_LOCKS, *_REQUIREMENTS):
        for folder in folders:
            path = folder / name
            if path.is_file():
                survey.dependencies.append(Choice(str(path.relative_to(survey.checkout)), Where(path)))
    for path in [folder / name for folder in folders for name in ("pyproject.toml", "setup.py")]:
        # They say what the project needs and not in which version.
        listed = (
            re.search(r"dependencies|install_requires", path.read_text(errors="replace")) if path.is_file() else None
        )
        if not survey.dependencies and listed:
            survey.dependencies.append(Choice(str(path.relative_to(survey.checkout)), Where(path)))
    if not survey.dependencies:
        raise Failure(
            f"No file of dependencies was found: {', '.join(_LOCKS)}, requirements.txt or pyproject.toml.",
            where=survey.checkout,
            fix="Lock them and commit the file: uv lock   (or pip freeze > requirements.txt)",
        )
    chosen = survey.checkout / survey.dependencies[0].value
    text = _with_included(chosen)
    survey.hashed = "hash" in text
    survey.packages = {name for name in _NOTABLE if _names_package(text, name)}
    for path in (survey.top / ".python-version", survey.checkout / ".python-version", survey.checkout / "runtime.txt"):
        if path.is_file() and survey.python is None and (match := re.search(r"\d+\.\d+(\.\d+)?", path.read_text())):
            survey.python = Choice(match[0], Where(path))
    for path in dict.fromkeys((survey.top / "pyproject.toml", survey.checkout / "pyproject.toml")):
        if survey.python is None and path.is_file():
            try:
                project = tomllib.loads(path.read_text())
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                survey.notes.append(Note(f"not valid TOML: {error}", Where(path), "correct it"))
                continue
            wanted = project.get("project", {}).get("requires-python") or project.get("tool", {}).get("poetry", {}).get(
                "dependencies", {}
            ).get("python")
            if isinstance(wanted, str):
                survey.python = Choice(wanted, Where(path))


def _with_included(path: Path, *above: Path) -> str:
    """The text of a file of dependencies, with the requirements files that it includes."""
    text = path.read_text(errors="replace")
    for name in re.findall(r"(?m)^(?:-r|--requirement)[ =]?\s*(\S+)", text) if path.suffix in {".txt", ".in"} else ():
        included = (path.parent / name).resolve()
        if included.is_file() and included not in {path.resolve(), *above}:
            text += "\n" + _with_included(included, path.resolve(), *above)
    return text


def _names_package(text: str, name: str) -> bool:
    escaped = re.escape(name).replace(r"\-", "[-_.]")
    return (
        re.search(rf'(?im)(^{escaped}\s*(\[[^\]]*\])?\s*([=<>~!;@ ]|$)|name = "{escaped}"|"{escaped}": \{{)', text)
        is not None
    )


def _files(survey: Survey) -> None:
    """What files beside the code say: build steps, other processes, timers."""
    for folder in dict.fromkeys((survey.checkout, survey.top)):
        package = folder / "package.json"
        if package.is_file():
            try:
                scripts = json.loads(package.read_text()).get("scripts", {})
            except (ValueError, AttributeError):
                scripts = {}
                survey.notes.append(Note("not valid JSON", Where(package), "correct it"))
            if isinstance(scripts, dict) and "build" in scripts:
                survey.builds.append(Choice("npm run build", Where(package)))
        for procfile in ("Procfile", "Procfile.prod"):
            path = folder / procfile
            if path.is_file():
                for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
                    name, colon, command = line.partition(":")
                    known = name.strip() in {"web", "worker", "beat", "release"} or _RUNS_ANYWAY.search(command)
                    if colon and not known and not line.startswith("#"):
                        survey.processes.append(Choice(command.strip(), Where(path, number), name.strip()))
        for path in sorted([*folder.glob("*crontab*"), *folder.glob("cron.d/*"), *folder.glob("*.cron")]):
            if path.is_file():
                for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
                    if "manage.py" in line and not line.lstrip().startswith("#"):
                        survey.crons.append(Choice(line.strip(), Where(path, number)))
    jobs = survey.setting("CRONJOBS")
    if isinstance(jobs, list):
        named = survey.values["CRONJOBS"]
        survey.crons += [
            Choice(" ".join(map(str, job)), Where(named.path, named.line)) for job in jobs if isinstance(job, list)
        ]
    if any(path.match("locale/*/LC_MESSAGES/*.po") for path in files_below(survey.top, ".po")):
        survey.builds.append(Choice("django-admin compilemessages", Where(survey.top)))
    if (survey.checkout / ".gitmodules").is_file():
        survey.notes.append(Note("the checkout has git submodules", Where(survey.checkout / ".gitmodules")))
    attributes = survey.checkout / ".gitattributes"
    if attributes.is_file() and "filter=lfs" in attributes.read_text(errors="replace"):
        survey.notes.append(Note("files are kept in Git LFS", Where(attributes)))


def _queues_of_settings(survey: Survey) -> None:
    """The queues that settings name: routes, declarations, the default, entries of the schedule."""
    for prefix in ("CELERY_TASK_", "CELERY_"):
        for name, named in _routed(survey, f"{prefix}ROUTES"):
            _add_queue(survey, name, named)
        declared = survey.values.get(f"{prefix}QUEUES")
        if declared and isinstance(declared.value, (list, dict)):
            for name in declared.value:
                _add_queue(survey, name, declared)
        if (default := survey.setting(f"{prefix}DEFAULT_QUEUE")) is not None:
            _add_queue(survey, default, survey.values[f"{prefix}DEFAULT_QUEUE"])
    if survey.tasks and not survey.celery:
        survey.queues.setdefault(_DJANGOS_QUEUE, Queue(_DJANGOS_QUEUE, survey.tasks))
    elif survey.setting("CELERY_TASK_DEFAULT_QUEUE") is None and survey.setting("CELERY_DEFAULT_QUEUE") is None:
        # Celery's own name for the queue of whatever is routed nowhere.
        survey.queues.setdefault(DEFAULT_QUEUE, Queue(DEFAULT_QUEUE, survey.celery[0].where))
    for setting in ("CELERY_BEAT_SCHEDULE", "CELERYBEAT_SCHEDULE"):
        entries = survey.setting(setting)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            survey.schedule.append(str(name))
            options = entry.get("options") if isinstance(entry, dict) else None
            if isinstance(options, dict):
                _add_queue(survey, options.get("queue"), survey.values[setting])
    soft, hard = survey.setting("CELERY_TASK_SOFT_TIME_LIMIT"), survey.setting("CELERY_TASK_TIME_LIMIT")
    for queue in survey.queues.values():
        queue.soft_time_limit = queue.soft_time_limit or (soft if isinstance(soft, int) else 0)
        queue.time_limit = queue.time_limit or (hard if isinstance(hard, int) else 0)


def _add_queue(survey: Survey, name: Any, named: Named) -> None:
    if isinstance(name, str) and name:
        survey.queues.setdefault(name, Queue(name, Where(named.path, named.line)))


def _routed(survey: Survey, setting: str) -> list[tuple[str, Named]]:
    named = survey.values.get(setting)
    if named is None:
        return []
    value = named.value
    found = []
    for route in _routes(value):
        queue = route.get("queue") if isinstance(route, dict) else route
        if isinstance(queue, FromEnvironment):
            queue = queue.default
        if isinstance(queue, str):
            found.append((queue, named))
    if not found or any(isinstance(part, (str, Unknown)) for part in (value if isinstance(value, list) else [value])):
        survey.notes.append(
            Note(
                f"{setting} routes by code; which queues it names was not seen",
                Where(named.path, named.line),
                "add them to app_queues",
            )
        )
    return found


def _routes(value: Any) -> list[Any]:
    """The routes in a setting: the values of dicts, the second of pairs, both also within lists."""
    match value:
        case dict():
            return list(value.values())
        case [str(), (dict() | str()) as route]:
            return [route]
        case list():
            return [route for part in value for route in _routes(part)]
        case _:
            return []

"""What nobody may copy from this application, found in its source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

# Modules whose functions are called by a request.
VIEWS = {"api", "views", "admin", "middleware"}
# What takes longer than a request may: somebody else's server, a mail server, a document, a nap.
SLOW = (
    *("django.core.mail", "httpx", "reportlab", "requests", "smtplib", "socket", "stripe", "subprocess"),
    *("time.sleep", "urllib.request"),
)
SENDS = {"apply_async", "apply_async_on_commit", "delay", "delay_on_commit", "s", "send_task", "si", "signature"}
RESULTS = {"apply_async", "AsyncResult", "delay", "send_task"}
WAITS = {"collect", "get", "join", "wait"}
JSON = {"Any", "None", "bool", "dict", "float", "int", "list", "str"}
# Celery calls an errback where it sees the failure, with what it has at hand.
ERRBACK = {"error", "exc", "request", "traceback"}
# A manager's or a queryset's, which return a row.
ROWS = {"create", "earliest", "first", "get", "get_or_create", "last", "latest", "update_or_create"}
CHARGES = {"capture", "confirm", "create"}
EVERY_TIME_ANOTHER = {"choice", "now", "random", "time", "token_hex", "token_urlsafe", "uuid1", "uuid4"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(folder: Path) -> dict[str, str]:
    """The modules below a folder of packages, by their dotted names."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        if "migrations" not in parts:
            found[".".join(parts).removesuffix(".__init__")] = path.read_text()
    return found


class Module:
    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.tree = ast.parse(text)
        # What a name stands for: `from apps.crm import services as crm` makes `crm` apps.crm.services.
        self.imported: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.name if alias.asname else alias.name.split(".")[0]
                    self.imported[alias.asname or name] = name
            elif isinstance(node, ast.ImportFrom):
                self.imported |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        self.functions: dict[str, Function] = {}
        for top in self.tree.body:
            if isinstance(top, Function):
                self.functions[top.name] = top
            elif isinstance(top, ast.ClassDef):
                methods = [node for node in top.body if isinstance(node, Function)]
                self.functions |= {f"{top.name}.{node.name}": node for node in methods}

    def resolve(self, node: ast.expr, owner: str = "") -> str:
        """The full name of what an expression names, as far as it can be read."""
        match node:
            case ast.Name(id=name):
                return self.imported.get(name, f"{self.name}.{name}")
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                return f"{self.name}.{owner}.{name}"
            case ast.Attribute(value=value, attr=name):
                return f"{self.resolve(value, owner)}.{name}"
        return "?"


class Code:
    """A set of modules, and what is wrong with them."""

    def __init__(self, modules: dict[str, str]) -> None:
        self.modules = {name: Module(name, text) for name, text in modules.items()}
        self.functions = {
            f"{module.name}.{name}": (module, name, node)
            for module in self.modules.values()
            for name, node in module.functions.items()
        }
        self.tasks = {name for name, (module, _, node) in self.functions.items() if self._task_options(module, node)}
        self.models = {
            node.name
            for module in self.modules.values()
            if "models" in module.name.split(".")
            for node in module.tree.body
            if isinstance(node, ast.ClassDef)
        }

    def problems(self) -> list[str]:
        return sorted(
            {*self.parameters_that_are_no_json(), *self.rows_as_arguments(), *self.slow_views(), *self.unsafe_charges()}
        )

    def parameters_that_are_no_json(self) -> Iterator[str]:
        """A task takes what JSON holds: ids, and never objects."""
        for name in sorted(self.tasks):
            module, _, node = self.functions[name]
            bound = any(isinstance(value, ast.Constant) and value.value for value in self._task_options(module, node))
            arguments = [*node.args.posonlyargs, *node.args.args][bound:] + node.args.kwonlyargs
            for argument in arguments:
                names = _names(argument.annotation)
                if argument.arg.lstrip("_") not in ERRBACK and (not names or names - JSON or names <= {"Any", "None"}):
                    yield f"{name}: its parameter {argument.arg} is not declared as what JSON holds; pass an id"

    def rows_as_arguments(self) -> Iterator[str]:
        """Whoever sends a task gives it a row's id, and never the row."""
        for name, (module, _, node) in self.functions.items():
            rows = self._rows(module, node)
            for call in _calls(node):
                if _called(call) not in SENDS:
                    continue
                values = [*call.args, *(keyword.value for keyword in call.keywords)]
                for value in _flat(values):
                    if (isinstance(value, ast.Name) and value.id in rows) or _text(value).endswith("request.user"):
                        yield f"{name}: sends a task with {_text(value)}, which is a row; pass {_text(value)}.pk"

    def slow_views(self) -> Iterator[str]:
        """A request sends a task, and neither does its work nor waits for it, wherever that is written."""
        for name, (module, _, _) in self.functions.items():
            if VIEWS & set(module.name.split(".")):
                for problem in self._slow(name, set()):
                    yield f"{name}: {problem}; have a task do it"

    def unsafe_charges(self) -> Iterator[str]:
        """Whoever charges does so under a key that is the same when the task runs again."""
        for name, (module, _, node) in self.functions.items():
            if "stripe" not in {full.split(".")[0] for full in module.imported.values()}:
                continue
            for call in _calls(node):
                if _called(call) not in CHARGES or ".objects." in _text(call.func):
                    continue
                keys = list(_idempotency_keys(call))
                if not keys:
                    yield f"{name}: {_text(call.func)} has no idempotency key, and charges again when the task does"
                for key in keys:
                    fresh = {_called(part) for part in _calls(key)} & EVERY_TIME_ANOTHER
                    if fresh or isinstance(key, ast.Constant):
                        yield f"{name}: the idempotency key {_text(key)} is not the same for the same charge alone"

    def _task_options(self, module: Module, node: Function) -> list[ast.expr]:
        """The `bind` of a task, or whatever says that it is one; nothing for another function."""
        for decorator in node.decorator_list:
            options = decorator.keywords if isinstance(decorator, ast.Call) else []
            named = module.resolve(decorator.func if isinstance(decorator, ast.Call) else decorator)
            if named == "celery.shared_task" or named.endswith("app.task"):
                return [option.value for option in options if option.arg == "bind"] or [ast.Name("shared_task")]
        return []

    def _rows(self, module: Module, node: Function) -> set[str]:
        """The names in a function that stand for a row of a model."""
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        rows = {argument.arg for argument in arguments if _names(argument.annotation) & self.models}
        for part in ast.walk(node):
            match part:
                case ast.Assign(targets=[target], value=value) if self._is_row(module, value):
                    # `row, created = …` of get_or_create: the first of them.
                    rows |= {_text(target.elts[0] if isinstance(target, ast.Tuple) else target)}
                case ast.For(target=ast.Name(id=name), iter=iterated) if ".objects" in _text(iterated):
                    values = any(word in _text(iterated) for word in ("values_list(", "values("))
                    rows |= set() if values else {name}
        return rows

    def _is_row(self, module: Module, value: ast.expr) -> bool:
        if not isinstance(value, ast.Call):
            return False
        full = module.resolve(value.func)
        if full in self.functions:
            return bool(_names(self.functions[full][2].returns) & self.models) and "QuerySet" not in _names(
                self.functions[full][2].returns
            )
        return full.rpartition(".")[2] in self.models or (_called(value) in ROWS and ".objects." in _text(value.func))

    def _slow(self, name: str, seen: set[str]) -> Iterator[str]:
        """What a function does, or has done by those it calls, that takes long."""
        if name in seen:
            return
        seen.add(name)
        module, local, node = self.functions[name]
        results = {
            _text(part.targets[0])
            for part in ast.walk(node)
            if isinstance(part, ast.Assign) and _called(part.value) in RESULTS
        }
        for call in _calls(node):
            full = module.resolve(call.func, local.rpartition(".")[0])
            if full.startswith(tuple(f"{slow}." for slow in SLOW)) or full in SLOW:
                yield f"calls {full} in {name}"
            elif full in self.tasks:
                yield f"runs the task {full} in {name}"
            elif full in self.functions:
                yield from self._slow(full, seen)
            elif isinstance(call.func, ast.Attribute) and call.func.attr in WAITS:
                waited_for = call.func.value
                if _called(waited_for) in RESULTS or _text(waited_for) in results:
                    yield f"waits for a task's result in {name}"


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (part for part in ast.walk(node) if isinstance(part, ast.Call))


def _called(node: ast.AST) -> str:
    """The last name of what is called; nothing where nothing is."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else _text(node.func)


def _text(node: ast.AST) -> str:
    return ast.unparse(node)


def _names(annotation: ast.expr | None) -> set[str]:
    """The names in an annotation, one in quotes too."""
    if annotation is None:
        return set()
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    parts = list(ast.walk(annotation))
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    names |= {part.attr for part in parts if isinstance(part, ast.Attribute)}
    return names | {"None" for part in parts if isinstance(part, ast.Constant) and part.value is None}


def _flat(values: list[ast.expr]) -> Iterator[ast.expr]:
    """The items of what is passed, those of tuples, lists and dictionaries too."""
    for value in values:
        match value:
            case ast.Tuple(elts=items) | ast.List(elts=items):
                yield from _flat(items)
            case ast.Dict(values=items):
                yield from _flat(items)
            case _:
                yield value


def _idempotency_keys(call: ast.Call) -> Iterator[ast.expr]:
    for part in ast.walk(call):
        match part:
            case ast.keyword(arg="idempotency_key", value=value):
                yield value
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "idempotency_key":
                        yield value

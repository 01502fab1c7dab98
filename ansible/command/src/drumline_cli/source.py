"""Reads Python source without running it: what a module's names are, as far as the text says."""

from __future__ import annotations

import ast
import contextlib
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# Folders that hold no code of the project's own.
SKIPPED = {
    *(".git", ".hg", ".svn", ".tox", ".nox", ".venv", "venv", "env", "node_modules", "__pycache__", "site-packages"),
    *("build", "dist", "deploy", ".eggs", ".cache", ".mypy_cache", ".ruff_cache", ".pytest_cache"),
}
# How libraries spell "read this variable of the environment": os, django-environ, environs, python-decouple.
_READERS = {"getenv", "env", "config", "environ", "get_env"}
_MOST_FILES = 20_000
_MOST_IMPORTS = 20


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that only running the code would tell."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A value of another module, which is read once somebody asks for it."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Class:
    """A class, whose attributes are settings where a project uses django-configurations."""

    path: Path
    node: ast.ClassDef


@dataclass(frozen=True, slots=True)
class FromEnvironment:
    """A value that is read from a variable of the environment, and what is made of its text: bool, int, or split at what."""

    name: str
    default: Any = None
    has_default: bool = False
    made: str = ""


@dataclass(frozen=True, slots=True)
class Named:
    """A value, and the line that gives it."""

    value: Any
    path: Path
    line: int


@dataclass(slots=True)
class Module:
    """One source file, parsed; `problem` says why it could not be."""

    path: Path
    tree: ast.Module
    problem: str = ""


@dataclass(slots=True)
class Code:
    """The Python files of a checkout, each parsed once. `top` is where imports begin."""

    top: Path
    checkout: Path
    # A package of the environment that holds the settings, and is read like the project's own code.
    package: Path | None = None
    _modules: dict[Path, Module] = field(default_factory=dict)
    _names: dict[Path, dict[str, Named]] = field(default_factory=dict)

    def files(self) -> Iterator[Path]:
        """Yield the Python files that the project itself consists of."""
        yield from python_files(self.top)
        if self.package:
            yield from python_files(self.package)

    def base(self, path: Path) -> Path:
        """Return the folder from which a file is imported."""
        return self.package.parent if self.package and path.is_relative_to(self.package) else self.top

    def parse(self, path: Path) -> Module:
        """Return a file's syntax tree, an empty one if it cannot be read."""
        if path not in self._modules:
            try:
                module = Module(path, ast.parse(path.read_bytes(), filename=str(path)))
            except (SyntaxError, ValueError) as error:
                line = getattr(error, "lineno", None)
                module = Module(path, ast.Module([], []), f"line {line}: {error.args[0]}" if line else str(error))
            except (OSError, RecursionError) as error:
                module = Module(path, ast.Module([], []), str(error))
            self._modules[path] = module
        return self._modules[path]

    def find(self, module: str) -> Path | None:
        """Return the file of a module, or None if the project has none of that name."""
        if not module.strip("."):
            return None
        found = _file_in(self.top, module)
        if found is None and self.package and module.partition(".")[0] == self.package.name:
            found = _file_in(self.package.parent, module)
        return found

    def module_of(self, path: Path) -> str:
        """Return the name that a file is imported by."""
        parts = list(path.relative_to(self.base(path)).with_suffix("").parts)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def seen(self) -> list[Path]:
        """Return the files whose names were asked for, directly or by an import."""
        return list(self._names)

    def names(self, path: Path) -> dict[str, Named]:
        """Return a module's names with their values, those of its star imports included."""
        if path not in self._names:
            # An import that leads back here finds what is known so far.
            names = self._names[path] = {}
            Reader(self, path, names).read(self.parse(path).tree.body)
            # What a settings module takes over is its own.
            for name, named in list(names.items()):
                if name.isupper():
                    names[name] = self.resolve(named)
        return self._names[path]

    def attributes(self, found: Class) -> dict[str, Named]:
        """Return a class's attributes with their values, those of its bases included."""
        names = dict(self.names(found.path))
        for base in reversed(found.node.bases):
            named = names.get(base.id) if isinstance(base, ast.Name) else None
            inherited = self.resolve(named).value if named else None
            if isinstance(inherited, Class) and inherited != found:
                names |= self.attributes(inherited)
        Reader(self, found.path, names).read(found.node.body)
        return {name: self.resolve(named) for name, named in names.items() if name.isupper()}

    def resolve(self, named: Named) -> Named:
        """Return a name's value, through the modules that it was imported from."""
        for _ in range(_MOST_IMPORTS):
            if not isinstance(named.value, Imported):
                return named
            known = self.names(named.value.path)
            named = known.get(named.value.name, Named(Unknown(), named.path, named.line))
        return Named(Unknown(), named.path, named.line)


def python_files(top: Path) -> Iterator[Path]:
    """Yield a folder's Python files, without environments, caches and hidden folders."""
    yield from files_below(top, ".py")


def files_below(top: Path, suffix: str) -> Iterator[Path]:
    """Yield a folder's files of one kind, without environments, caches and hidden folders."""
    count = 0
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        for entry in entries:
            if entry.is_symlink():
                continue
            if entry.is_dir():
                skipped = entry.name in SKIPPED or entry.name.startswith(".") or (entry / "pyvenv.cfg").exists()
                if not skipped:
                    folders.append(entry)
            elif entry.suffix == suffix:
                count += 1
                if count > _MOST_FILES:
                    return
                yield entry


def dotted(node: ast.expr) -> str:
    """Return `a.b.c` of an expression, or nothing if it is something else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])


def constant(node: ast.expr | None) -> Any:
    """Return a literal's value, else None."""
    return node.value if isinstance(node, ast.Constant) else None


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """Return a keyword argument of a call."""
    return next((each.value for each in call.keywords if each.arg == name), None)


def environment_read(node: ast.AST) -> FromEnvironment | None:
    """Return the environment variable that an expression reads, if it reads one."""
    if isinstance(node, ast.Subscript) and dotted(node.value).endswith("environ"):
        if not isinstance(node.ctx, ast.Load):
            return None
        name = constant(node.slice)
        return FromEnvironment(name) if isinstance(name, str) else None
    if not isinstance(node, ast.Call) or not node.args:
        return None
    called = dotted(node.func)
    first, _, rest = called.partition(".")
    reads = (
        called in _READERS
        or called.endswith(("environ.get", "os.getenv"))
        or (first in {"env", "ENV"} and rest.isidentifier() and rest != "read_env")
        # A project's own reader, such as get_secret("X"): an upper-case name is what it asks for.
        or (re.match(r"get_env|env_|get_secret|\w+_from_env", called) and rest == "")
    )
    name = constant(node.args[0])
    if not reads or not isinstance(name, str) or not name.isidentifier() or name != name.upper():
        return None
    given = keyword(node, "default")
    if given is None and len(node.args) > 1 and not called.startswith("config"):
        given = node.args[1]
    return FromEnvironment(name, constant(given), has_default=given is not None)


class Reader:
    """Follows a module's statements in their order, as far as their text says what they do."""

    def __init__(self, code: Code, path: Path, names: dict[str, Named]) -> None:
        self._code = code
        self._path = path
        self._names = names

    def read(self, body: list[ast.stmt]) -> None:
        """Take in what statements assign."""
        for statement in body:
            match statement:
                case ast.Assign(targets=targets, value=value):
                    result = self.value(value)
                    for target in targets:
                        self._assign(target, result, statement.lineno)
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    self._assign(target, self.value(value), statement.lineno)
                case ast.AugAssign(target=ast.Name(name), op=ast.Add(), value=value):
                    self._set(name, _add(self._get(name), self.value(value)), statement.lineno)
                case ast.ImportFrom():
                    self._import(statement)
                case ast.ClassDef(name=name):
                    self._set(name, Class(self._path, statement), statement.lineno)
                case ast.If(test=test):
                    decided = self.value(test)
                    # Not known: what either branch sets may hold, and the first that a reader sees is the usual one.
                    if isinstance(decided, (Unknown, FromEnvironment)):
                        self.read(statement.orelse)
                        self.read(statement.body)
                    else:
                        self.read(statement.body if decided else statement.orelse)
                case ast.Try():
                    for handler in statement.handlers:
                        self.read(handler.body)
                    self.read([*statement.body, *statement.orelse, *statement.finalbody])
                case ast.With():
                    self.read(statement.body)
                case ast.Expr(value=ast.Call() as call):
                    self._call(call)

    def value(self, node: ast.expr | None) -> Any:
        """Return what an expression is, Unknown where it cannot be told."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self._get(name)
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                return self._items(items)
            case ast.Dict(keys=keys, values=values):
                result: dict[Any, Any] = {}
                for key, each in zip(keys, values, strict=True):
                    found = self.value(each)
                    if key is None:
                        result |= found if isinstance(found, dict) else {}
                    elif isinstance(name := self.value(key), (str, int)):
                        result[name] = found
                return result
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _add(self.value(left), self.value(right))
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                a, b = self.value(left), self.value(right)
                return a * b if isinstance(a, (int, float)) and isinstance(b, (int, float)) else Unknown()
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                base, name = self.value(left), self.value(right)
                return base / name if isinstance(base, Path) and isinstance(name, str) else Unknown()
            case ast.Attribute(value=inner, attr="parent"):
                path = self.value(inner)
                return path.parent if isinstance(path, Path) else Unknown()
            case ast.Attribute(value=inner, attr="parents"):
                path = self.value(inner)
                return list(path.parents) if isinstance(path, Path) else Unknown()
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.value(operand)
                return Unknown() if isinstance(inner, (Unknown, FromEnvironment)) else not inner
            case ast.JoinedStr(values=parts):
                texts = [self.value(part.value if isinstance(part, ast.FormattedValue) else part) for part in parts]
                return "".join(map(str, texts)) if all(isinstance(text, (str, int)) for text in texts) else Unknown()
            case ast.IfExp(body=body):
                return self.value(body)
            case ast.BoolOp(op=ast.Or(), values=values):
                return self.value(values[0])
            case (ast.Call() | ast.Subscript()) as node:
                read = environment_read(node)
                if read is not None:
                    return read
                return self._called(node) if isinstance(node, ast.Call) else self._item(node)
            case _:
                return Unknown()

    def _called(self, call: ast.Call) -> Any:
        """What a call returns: a queue's name, or one of the ways to write a path."""
        name = dotted(call.func).rpartition(".")[2] or getattr(call.func, "attr", "")
        if name == "Queue":
            named = call.args[0] if call.args else keyword(call, "name")
            return self.value(named) if named is not None else Unknown()
        if name in {"bool", "int"} and call.args:
            read = self.value(call.args[0])
            # bool(int(…)) is read as a number.
            return replace(read, made=read.made or name) if isinstance(read, FromEnvironment) else Unknown()
        if name == "split" and isinstance(call.func, ast.Attribute):
            read, at = self.value(call.func.value), constant(call.args[0]) if call.args else " "
            return replace(read, made=str(at)) if isinstance(read, FromEnvironment) else Unknown()
        if name in {"resolve", "absolute"} and isinstance(call.func, ast.Attribute) and not call.args:
            return self.value(call.func.value)
        if name in {"Path", "abspath", "realpath", "normpath", "dirname", "str", "join"} and call.args:
            first, *rest = [self._path if dotted(each) == "__file__" else self.value(each) for each in call.args]
            if not isinstance(first, (str, Path)) or not all(isinstance(part, str) for part in rest):
                return Unknown()
            path = Path(os.path.normpath(Path(first).joinpath(*rest)))
            return path.parent if name == "dirname" else path
        if name == "joinpath" and isinstance(call.func, ast.Attribute):
            base, parts = self.value(call.func.value), [self.value(each) for each in call.args]
            fits = isinstance(base, Path) and all(isinstance(part, str) for part in parts)
            return base.joinpath(*parts) if fits else Unknown()
        return Unknown()

    def _item(self, node: ast.Subscript) -> Any:
        held, key = self.value(node.value), self.value(node.slice)
        if isinstance(held, (dict, list)):
            with contextlib.suppress(LookupError, TypeError):
                return held[key]
        return Unknown()

    def _items(self, nodes: list[ast.expr]) -> list[Any]:
        items: list[Any] = []
        for node in nodes:
            found = self.value(node.value if isinstance(node, ast.Starred) else node)
            if not isinstance(node, ast.Starred):
                items.append(found)
            elif isinstance(found, list):
                items += found
        return items

    def _get(self, name: str) -> Any:
        if name not in self._names:
            return Unknown()
        self._names[name] = self._code.resolve(self._names[name])
        return self._names[name].value

    def _set(self, name: str, value: Any, line: int) -> None:
        self._names[name] = Named(value, self._path, line)

    def _assign(self, target: ast.expr, value: Any, line: int) -> None:
        if isinstance(target, ast.Name):
            self._set(target.id, value, line)
        elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            held, key = self._get(target.value.id), self.value(target.slice)
            if isinstance(held, dict) and isinstance(key, (str, int)):
                self._set(target.value.id, held | {key: value}, line)

    def _call(self, call: ast.Call) -> None:
        name = dotted(call.func)
        holder, _, verb = name.rpartition(".")
        held = self._get(holder) if holder else None
        if verb in {"append", "insert"} and isinstance(held, list) and call.args:
            self._set(holder, [*held, self.value(call.args[-1])], call.lineno)
        elif verb == "extend" and isinstance(held, list) and call.args:
            self._set(holder, _add(held, self.value(call.args[0])), call.lineno)
        elif verb == "update" and isinstance(held, dict) and call.args:
            given = self.value(call.args[0])
            self._set(holder, held | given if isinstance(given, dict) else held, call.lineno)
        elif name == "include":
            # django-split-settings names files beside this one.
            for argument in call.args:
                pattern = constant(argument)
                if isinstance(pattern, str) and not pattern.startswith("/"):
                    for path in sorted(self._path.parent.glob(pattern)):
                        self._names.update(self._code.names(path))

    def _import(self, statement: ast.ImportFrom) -> None:
        module = statement.module or ""
        if statement.level:
            package = self._path.parent
            for _ in range(statement.level - 1):
                package = package.parent
            path = _file_in(package, module)
        else:
            path = self._code.find(module)
        if path is None or path == self._path:
            return
        for alias in statement.names:
            if alias.name == "*":
                known = self._code.names(path)
                self._names.update({name: named for name, named in known.items() if not name.startswith("_")})
            else:
                self._set(alias.asname or alias.name, Imported(path, alias.name), statement.lineno)


def _file_in(package: Path, module: str) -> Path | None:
    base = package.joinpath(*module.split(".")) if module else package
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _add(left: Any, right: Any) -> Any:
    """What `+` makes of two values; a list with an unknown rest is at least itself."""
    match left, right:
        case list(), list():
            return [*left, *right]
        case list(), Unknown():
            return left
        case Unknown(), list():
            return right
        case (str(), str()) | (int(), int()):
            return left + right
        case dict(), dict():
            return left | right
        case _:
            return Unknown()

"""The exact files that a host installs, whatever format the project's dependencies are written in."""

from __future__ import annotations

import hashlib
import json
import sys
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.packing.locks import (
    LOCKS,
    PROJECTS,
    REQUIREMENTS,
    Written,
    find,
    is_local,
    pipfile,
    poetry,
    requirements,
)
from ansible.module_utils.packing.programs import PackingError, run
from packaging import tags
from packaging.pylock import (
    Package,
    PackageArchive,
    PackageDirectory,
    PackageSdist,
    PackageVcs,
    PackageWheel,
    Pylock,
    PylockSelectError,
    PylockValidationError,
)
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.markers import Environment
    from packaging.utils import NormalizedName

    from .workplace import Workplace

Artifact = PackageVcs | PackageDirectory | PackageArchive | PackageWheel | PackageSdist
Selection = list[tuple[Package, Artifact]]

# Debian 12 has glibc 2.36; a wheel for an older one works on it.
GLIBC_MINOR = 36
# Where the lock that is kept names Drumline's own checkout.
_DRUMLINE = "drumline:"
_LEAVE_OUT = "To choose a version, or an extra, name the package in app_dependencies_extra."


@dataclass(frozen=True)
class Target:
    """The Python and the processor of the hosts."""

    python: str
    machine: str

    @property
    def short(self) -> str:
        """The Python's version without its patch level."""
        return ".".join(self.python.split(".")[:2])

    @property
    def environment(self) -> Environment:
        """What markers are decided by, which the controller's own Python would decide wrongly."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.python,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.python,
            "python_version": self.short,
            "sys_platform": "linux",
        }

    @property
    def platforms(self) -> list[str]:
        """The platforms of wheels that the hosts can use, the newest first."""
        legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
        found = []
        for minor in range(GLIBC_MINOR, 4, -1):
            found.append(f"manylinux_2_{minor}_{self.machine}")
            found += [f"{legacy[minor]}_{self.machine}"] if minor in legacy else []
        return [*found, f"linux_{self.machine}"]

    @property
    def tags(self) -> list[tags.Tag]:
        """The tags of wheels that the hosts can use, the best first."""
        version = tuple(int(part) for part in self.short.split("."))
        return [
            *tags.cpython_tags(version, platforms=self.platforms),
            *tags.compatible_tags(version, f"cp{''.join(map(str, version))}", platforms=self.platforms),
        ]


@dataclass
class Asked:
    """What a build is asked for about dependencies."""

    # File within the checkout; empty looks for one, `none` takes none.
    dependencies: str = ""
    groups: list[str] = field(default_factory=list)
    only_groups: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    # What the hosts need: a requirement (`add`), and packages that serve in its place (`unless`).
    needs: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Question:
    """What uv is asked to lock."""

    # Its name for people.
    what: str
    lines: list[str]
    # Files to give to uv as they are.
    files: list[Path] = field(default_factory=list)
    # All files whose content decides about the answer.
    read: list[Path] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    # Whether it names every package, with its version.
    complete: bool = False
    # What to do where there is no answer.
    advice: str = ""


class Resolver:
    """Reads the dependencies of one tree, and locks what is not locked."""

    def __init__(self, tree: Path, root: str, asked: Asked, place: Workplace) -> None:
        """Look for the file of the dependencies."""
        self.tree, self.asked, self.place = tree, asked, place
        self.indexes, self.drumline, self.kept = place.indexes, place.drumline, place.dest / "locks"
        self.notes: list[str] = []
        self.file = None if asked.dependencies == "none" else find(tree, root, asked.dependencies)
        if self.file is None and not asked.extra:
            raise PackingError(
                f"{tree} has no file of dependencies ({', '.join((*LOCKS, *REQUIREMENTS[:1], *PROJECTS[:1]))}). "
                "Commit one, name it in app_dependencies, or list the packages in app_dependencies_extra."
            )
        self._extra = [self._as_requirement(line) for line in asked.extra]
        # What the user asks for by name is the user's to choose.
        chosen = {_name(line) for line in asked.extra if not is_local(line)}
        self._needs = [need for need in asked.needs if not chosen & {_name(need["add"]), *need.get("unless", [])}]

    def select(self, target: Target) -> Selection:
        """The files to install on a target, one for each package."""
        base, locked = self._base(target)
        selected = self._selected(base, target) if base else []
        if not locked:
            return sorted(selected, key=lambda each: each[0].name)
        names = {package.name for package, _ in selected}
        missing = self._missing(names)
        if self._extra or missing:
            pins = [
                f"{package.name}=={package.version}"
                for package, artifact in selected
                if package.version
                and isinstance(artifact, PackageWheel | PackageSdist)
                and package.name not in map(_name, missing)
            ]
            what = " and ".join([*(["app_dependencies_extra"] if self._extra else []), *missing])
            lines = [*self._extra, *map(self._as_requirement, missing)]
            advice = f"The hosts need {', '.join(missing)}. {_LEAVE_OUT}" if missing else ""
            lock = self._compile(_Question(what, lines, constraints=pins, advice=advice), target)
            selected += [each for each in self._selected(lock, target) if each[0].name not in names]
        return sorted(selected, key=lambda each: each[0].name)

    def _missing(self, names: set[NormalizedName]) -> list[str]:
        """What the hosts need and these packages do not bring."""
        return [
            need["add"]
            for need in self._needs
            # Of an extra it is not seen whether it is there.
            if not names & set(need.get("unless") or ([] if "[" in need["add"] else [_name(need["add"])]))
        ]

    def directory(self, artifact: PackageDirectory) -> Path:
        """The folder of a package that is taken from a checkout."""
        if artifact.path.startswith(_DRUMLINE):
            return self.drumline / artifact.path.removeprefix(_DRUMLINE)
        folder = (self.tree / artifact.path).resolve()
        if not folder.is_relative_to(self.tree.resolve()) and not folder.is_relative_to(self.drumline):
            raise PackingError(
                f"The dependencies name {artifact.path}, a folder outside of the checkout {self.tree}. "
                "Move it into the checkout, or take the package from an index or from git."
            )
        if not folder.is_dir():
            raise PackingError(f"The dependencies name the folder {artifact.path}, but {self.tree} has no such folder.")
        return folder

    # ---- the project's own file

    def _base(self, target: Target) -> tuple[dict[str, Any], bool]:
        """The project's dependencies as a lock, and whether the project locked them itself."""
        path = self.file
        if path is None:
            return self._whole(_Question("app_dependencies_extra", self._extra), target), False
        groups = self.asked.groups
        match path.name:
            case "uv.lock":
                return self._export(path), True
            case "pylock.toml":
                return self._read(path), True
            case "poetry.lock":
                written = poetry(path, groups, dict(target.environment))
            case "Pipfile.lock":
                written = pipfile(path, groups, dict(target.environment))
            case "pyproject.toml" | "setup.py":
                written = Written(files=[path], locked=False)
            case _:
                written = requirements(path, self.tree)
                if groups:
                    raise PackingError(
                        f"app_dependencies_groups needs a lock file or a pyproject.toml, not {path.name}."
                    )
        self.indexes.add(written.index, written.extra_indexes, written.links)
        question = _Question(
            str(path.relative_to(self.tree)),
            [*written.lines, *([] if written.locked else self._extra)],
            files=[] if written.lines else [path],
            read=written.files,
            groups=self._group_options(path) if path.name == "pyproject.toml" else [],
            complete=written.locked,
        )
        lock = self._compile(question, target) if written.locked else self._whole(question, target)
        return _only(lock, written.hashes, question.what), written.locked

    def _whole(self, question: _Question, target: Target) -> dict[str, Any]:
        """What is not locked, resolved together with what the hosts need besides."""
        always = [need["add"] for need in self._needs if not need.get("unless")]
        question = replace(question, lines=[*question.lines, *map(self._as_requirement, always)])
        noted = list(self.notes)
        lock = self._compile(question, target)
        missing = self._missing({canonicalize_name(package["name"]) for package in lock["packages"]})
        further = [line for line in missing if line not in always]
        if not further:
            return lock
        self.notes = noted
        return self._compile(replace(question, lines=[*question.lines, *map(self._as_requirement, further)]), target)

    def _export(self, path: Path) -> dict[str, Any]:
        chosen = [f"--only-group={group}" for group in self.asked.only_groups] or ["--no-default-groups"]
        text = run(
            [
                *[
                    self.place.uv,
                    "export",
                    "--quiet",
                    "--frozen",
                    "--no-header",
                    "--format=pylock.toml",
                    "--no-emit-project",
                ],
                *[*chosen, *self._group_options(path.with_name("pyproject.toml"))],
            ],
            cwd=path.parent,
            env={**self.indexes.env, "UV_PYTHON_DOWNLOADS": "never"},
            failed=f"uv cannot read {path}",
        )
        return _parsed(text, path)

    def _group_options(self, project: Path) -> list[str]:
        """Groups and extras as uv is told of them."""
        if not self.asked.groups:
            return []
        content = tomllib.loads(project.read_text()) if project.is_file() else {}
        known = list(content.get("dependency-groups", {}))
        extras = list(content.get("project", {}).get("optional-dependencies", {}))
        for group in self.asked.groups:
            if group not in known + extras:
                has = ", ".join(known + extras) or "none"
                raise PackingError(
                    f"app_dependencies_groups names {group}, but {project} has no such group. It has: {has}."
                )
        return [f"--group={group}" if group in known else f"--extra={group}" for group in self.asked.groups]

    def _read(self, path: Path) -> dict[str, Any]:
        lock = _parsed(path.read_text(), path)
        base = path.parent.relative_to(self.tree)
        for package in lock["packages"]:
            if "directory" in package:
                package["directory"]["path"] = str(base / package["directory"]["path"])
        return lock

    # ---- what is not locked

    def _as_requirement(self, line: str) -> str:
        """A line of app_dependencies_extra; Drumline's package comes from its own checkout."""
        if is_local(line):
            return line
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise PackingError(
                f"app_dependencies_extra has {line!r}, which is no requirement: {str(error).splitlines()[0]}. "
                "Write gunicorn, psycopg[binary]>=3.2, NAME @ git+https://…@COMMIT, or ./FOLDER."
            ) from None
        if canonicalize_name(requirement.name) == "drumline" and not requirement.url:
            extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
            return f"drumline{extras} @ {(self.drumline / 'drumline').as_uri()}"
        return line

    def _compile(self, question: _Question, target: Target) -> dict[str, Any]:
        """Have uv find the files of these packages, and lock what they need unless they are complete.

        The answer is kept by a digest of all that it depends on: the same question has the same answer until somebody
        removes it. It holds for the patch level of Python that it was found for and for later ones.
        """
        what = question.what
        answer = self.kept / f"{self._digest(question, target)}.pylock.toml"
        if not (answer.is_file() and _accepts(_parsed(answer.read_text(), answer), target)):
            text = self._ask_uv(question, target)
            text = text.replace(f'"{self.drumline}/', f'"{_DRUMLINE}').replace(f'"{self.drumline}"', f'"{_DRUMLINE}."')
            answer = answer if self.place.keep else self.place.work / answer.name
            answer.parent.mkdir(parents=True, exist_ok=True)
            answer.write_text(text)
        lock = _parsed(answer.read_text(), answer)
        if not question.complete:
            kept = f"kept in {answer}" if answer.parent == self.kept else "not kept, since this is a dry run"
            pin = " To pin them for everybody, commit that file to the project as pylock.toml." if question.read else ""
            self.notes.append(
                f"{what} is not locked. For Python {target.short} it was resolved to {len(lock['packages'])} packages with hashes, "
                f"{kept}. Builds on this controller use these versions until {what} changes or that file is removed.{pin}"
            )
        return lock

    def _digest(self, question: _Question, target: Target) -> str:
        folder = self.drumline / "drumline"
        asked = [
            *[target.short, target.machine, question.complete, question.what, question.groups],
            *[sorted(question.constraints), self.place.build_constraints, self.indexes.env.get("UV_DEFAULT_INDEX")],
            *[line.replace(self.drumline.as_uri(), _DRUMLINE) for line in question.lines],
            *[path.read_text(errors="replace") for path in question.read],
            *[(folder / "pyproject.toml").read_text() for line in question.lines if line.endswith(folder.as_uri())],
        ]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]

    def _ask_uv(self, question: _Question, target: Target) -> str:
        # A package that comes as source only says what it needs once it is built.
        self.place.require_packages()
        work = self.place.work
        options = ["--no-deps"] if question.complete else []
        files = question.files
        if question.lines:
            (work / "asked.in").write_text("\n".join(question.lines) + "\n")
            files = [*files, work / "asked.in"]
        for option, given in (
            ("constraints", question.constraints),
            ("build-constraints", self.place.build_constraints),
        ):
            if given:
                (work / f"{option}.in").write_text("\n".join(given) + "\n")
                options.append(f"--{option}={work / f'{option}.in'}")
        interpreter = self.place.interpreters.get(target.short, Path(sys.executable))
        lock: str = run(
            [
                *[self.place.uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--format=pylock.toml"],
                *[f"--python-version={target.python}", f"--python={interpreter}"],
                *[f"--python-platform={target.machine}-manylinux_2_{GLIBC_MINOR}", *options, *question.groups, *files],
            ],
            # Paths in a requirements file are relative to where pip would be run.
            cwd=self.tree,
            env={**self.indexes.env, "UV_PYTHON_DOWNLOADS": "never"},
            failed=f"The dependencies of {question.what} cannot be resolved for Python {target.short}",
            advice=question.advice,
        )
        return lock

    def _selected(self, lock: dict[str, Any], target: Target) -> Selection:
        try:
            return list(_selection(lock, target))
        except PylockSelectError as error:
            raise PackingError(_unselectable(str(error), lock, target)) from None


def _name(requirement: str) -> NormalizedName:
    """The name of the package that is required."""
    return canonicalize_name(Requirement(requirement).name)


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        lock = tomllib.loads(text)
        Pylock.from_dict(lock)
    except (tomllib.TOMLDecodeError, PylockValidationError) as error:
        raise PackingError(f"{path} is not a valid lock: {error}") from None
    return lock


def _accepts(lock: dict[str, Any], target: Target) -> bool:
    """Whether a lock is for the patch level of a target's Python."""
    return bool(SpecifierSet(lock.get("requires-python", "")).contains(target.python))


def _selection(lock: dict[str, Any], target: Target) -> Iterator[tuple[Package, Artifact]]:
    yield from Pylock.from_dict(lock).select(environment=target.environment, tags=target.tags)


def _only(lock: dict[str, Any], hashes: dict[str, set[str]], what: str) -> dict[str, Any]:
    """The lock with only those files whose hashes the project allows."""
    for package in lock["packages"]:
        allowed = hashes.get(package["name"])
        if allowed is None or not ("wheels" in package or "sdist" in package):
            continue

        def known(file: dict[str, Any], allowed: set[str] = allowed) -> bool:
            return any(f"{algorithm}:{value}" in allowed for algorithm, value in file["hashes"].items())

        package["wheels"] = [wheel for wheel in package.get("wheels", []) if known(wheel)]
        if "sdist" in package and not known(package["sdist"]):
            del package["sdist"]
        if not package["wheels"] and "sdist" not in package:
            raise PackingError(
                f"No file of {package['name']} {package.get('version', '')} on the index has a hash that {what} allows. "
                "Either it was replaced there, or the lock was edited by hand: lock it anew."
            )
    return lock


def _unselectable(error: str, lock: dict[str, Any], target: Target) -> str:
    """Why a lock has nothing to install on a target, and what to do."""
    if "requires-python" in error or "Python" in error:
        wanted = lock.get("requires-python", "")
        if wanted:
            return (
                f"The project needs Python {wanted}, and the hosts have {target.python}. "
                'Set app_python to a version that fits, such as "3.14"; it then ships with the release.'
            )
    return (
        f"{error}. The hosts have Python {target.short} on {target.machine}. "
        "Lock a version of it that has a wheel for that or a source distribution, or set app_python to a version that it has wheels for."
    )

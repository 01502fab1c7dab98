"""The formats in which projects write their dependencies down, each read into lines of a requirements file."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ansible.module_utils.packing.programs import PackingError
from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# In the order in which they are looked for; those after the lock files are not locked, or may not be.
LOCKS = ("uv.lock", "poetry.lock", "Pipfile.lock", "pylock.toml")
REQUIREMENTS = (
    "requirements.txt",
    "requirements/production.txt",
    "requirements/prod.txt",
    "requirements/base.txt",
    "requirements.in",
)
PROJECTS = ("pyproject.toml", "setup.py")

_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"\s--hash[= ]\s*(\S+)")
_INCLUDE = re.compile(r"(?:-r|--requirement|-c|--constraint)[ =]?\s*(\S+)")
_INDEX = re.compile(r"(?:-i|--index-url|--pypi-url)[ =]\s*(\S+)")
_EXTRA_INDEX = re.compile(r"--extra-index-url[ =]\s*(\S+)")
_LINKS = re.compile(r"(?:-f|--find-links)[ =]\s*(\S+)")
_LOCAL = re.compile(r"(?:(?:-e|--editable)[ =]?\s*)?((?:file:|\.{0,2}/|\.{1,2}(?=$|\[)).*)")


@dataclass
class Written:
    """Dependencies as the project writes them down."""

    # Lines of a requirements file; none where `files` are to be given to uv as they are.
    lines: list[str] = field(default_factory=list)
    # All files that were read, whose content decides about the dependencies.
    files: list[Path] = field(default_factory=list)
    # Allowed hashes by name.
    hashes: dict[str, set[str]] = field(default_factory=dict)
    # What the project names itself: the index in the place of PyPI, those beside it, and pages with links.
    index: str = ""
    extra_indexes: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    # Whether each version, and the hash of each file, is fixed.
    locked: bool = True

    def require(self, name: str, line: str, hashes: Iterable[str]) -> None:
        """Add a package with the hashes of its files."""
        self.lines.append(line)
        given = {value for value in hashes if value}
        if given:
            self.hashes.setdefault(canonicalize_name(name), set()).update(given)


def find(tree: Path, root: str, given: str) -> Path | None:
    """The file of the dependencies: the given one, or the nearest to the folder that ships."""
    if given:
        if not (tree / given).is_file():
            raise PackingError(
                f"app_dependencies is {given}, but {tree} has no such file. "
                f"Name one of the project's files ({', '.join((*LOCKS, *REQUIREMENTS[:1]))}), or remove app_dependencies to look for one."
            )
        return tree / given
    folders = [tree / root, *(folder for folder in (tree / root).parents if folder.is_relative_to(tree))]
    for names in ((*LOCKS, *REQUIREMENTS), PROJECTS):
        for folder in folders:
            for name in names:
                if (folder / name).is_file() and _lists_dependencies(folder / name):
                    return folder / name
    return None


def _lists_dependencies(path: Path) -> bool:
    if path.name != "pyproject.toml":
        return True
    content = _toml(path)
    return "dependencies" in content.get("project", {}) or "dynamic" in content.get("project", {})


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PackingError(f"{path} is not valid TOML: {error}") from None


# ---- requirements files


def requirements(path: Path, tree: Path) -> Written:
    """What a requirements file asks for, with the files that it includes."""
    written = Written(files=[])
    _read(path, tree, written)
    return written


def _read(path: Path, tree: Path, written: Written) -> None:
    written.files.append(path)
    for number, line in _statements(path):
        place = f"{path.relative_to(tree) if path.is_relative_to(tree) else path}, line {number}"
        if included := _INCLUDE.fullmatch(line):
            _include(included[1], path, tree, written, place)
        elif index := _INDEX.match(line):
            written.index = index[1]
        elif extra := _EXTRA_INDEX.match(line):
            written.extra_indexes.append(extra[1])
        elif links := _LINKS.match(line):
            written.links.append(links[1])
        elif local := _LOCAL.match(line):
            _refuse_folder(local[1], tree, place)
        elif not line.startswith("--"):
            _read_requirement(line, place, written)


def _include(included: str, path: Path, tree: Path, written: Written, place: str) -> None:
    if urlsplit(included).scheme in {"http", "https"}:
        written.locked = False
        return
    other = path.parent / included
    if not other.is_file():
        raise PackingError(f"{place} includes {included}, but {other} does not exist.")
    if other not in written.files:
        _read(other, tree, written)


def _refuse_folder(line: str, tree: Path, place: str) -> None:
    """Refuse a folder that does not exist, or is no part of the checkout."""
    path = re.split(r"\[|\s", line.removeprefix("file://").removeprefix("file:"), maxsplit=1)[0]
    folder = (tree / path).resolve()
    if not folder.is_relative_to(tree.resolve()):
        raise PackingError(
            f"{place} names {path}, which is outside of the checkout {tree}. "
            "Move it into the checkout, or take the package from an index or from git."
        )
    if not folder.exists():
        raise PackingError(
            f"{place} names {path}, but {folder} does not exist. Such a path is relative to the checkout."
        )


def _read_requirement(line: str, place: str, written: Written) -> None:
    hashes = _HASH.findall(line)
    statement = _HASH.sub("", f" {line}").strip()
    if not hashes:
        written.locked = False
    if statement.startswith(("-e", "git+", "hg+", "http:", "https:")):
        return
    # Options of one requirement, which pip knows and uv ignores.
    statement = re.sub(r"\s--(?:config-settings?|global-option|install-option)[= ].*$", "", statement)
    try:
        requirement = Requirement(statement)
    except InvalidRequirement as error:
        raise PackingError(
            f"{place} cannot be read: {line}\n  {str(error).splitlines()[0]}\nWrite NAME==VERSION, NAME @ URL, or ./FOLDER."
        ) from None
    if hashes:
        written.hashes.setdefault(canonicalize_name(requirement.name), set()).update(hashes)


def _statements(path: Path) -> Iterator[tuple[int, str]]:
    """The statements of a requirements file, without comments and with continued lines joined."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise PackingError(f"{path} is not UTF-8. Save it as UTF-8.") from None
    joined, start = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        start = start if joined else number
        # A comment ends a line that is continued, too.
        if line.rstrip().endswith("\\") and not line.lstrip().startswith("#"):
            joined += line.rstrip()[:-1] + " "
            continue
        statement = _COMMENT.sub("", joined + line).strip()
        joined = ""
        if statement:
            yield start, statement
    if statement := _COMMENT.sub("", joined).strip():
        yield start, statement


# ---- Pipfile.lock


def pipfile(path: Path, groups: list[str], environment: dict[str, str]) -> Written:
    """What a Pipfile.lock holds: its default packages, and those of further categories."""
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise PackingError(f"{path} is not valid JSON: {error}. Type: pipenv lock") from None
    index, *extra = [source["url"] for source in content.get("_meta", {}).get("sources", [])] or [""]
    written = Written(files=[path], index=index, extra_indexes=extra)
    for category in ("default", *groups):
        if category not in content:
            raise PackingError(
                _no_group(path, category, [name for name in content if name not in {"_meta", "default"}])
            )
        for name, entry in content[category].items():
            if entry.get("markers") and not Marker(entry["markers"]).evaluate(environment):
                continue
            extras = f"[{','.join(entry['extras'])}]" if entry.get("extras") else ""
            if "git" in entry:
                line = f"{name}{extras} @ git+{entry['git']}@{entry['ref']}" + _subdirectory(entry)
            elif "path" in entry:
                line = f"{entry['path']}{extras}"
            elif "file" in entry:
                line = f"{name}{extras} @ {entry['file']}"
            else:
                line = f"{name}{extras}{entry['version']}"
            written.require(name, line, entry.get("hashes", []))
    return written


# ---- poetry.lock


def poetry(path: Path, groups: list[str], environment: dict[str, str]) -> Written:
    """What a poetry.lock holds for the main group, further groups and extras."""
    content = _toml(path)
    project = _toml(path.with_name("pyproject.toml")) if path.with_name("pyproject.toml").is_file() else {}
    settings = project.get("tool", {}).get("poetry", {})
    known = {"main", *settings.get("group", {}), *project.get("dependency-groups", {})}
    extras = {*content.get("extras", {}), *project.get("project", {}).get("optional-dependencies", {})}
    for group in groups:
        if group not in known | extras:
            raise PackingError(_no_group(path, group, sorted(known | extras)))
    chosen = {"main", *(group for group in groups if group in known)}
    wanted = [extra for extra in groups if extra in extras]
    packages = content.get("package", [])
    if all("groups" in package for package in packages):
        kept = [package for package in packages if _poetry_keeps(package, chosen, wanted, environment)]
    else:
        kept = _poetry_walk(packages, _poetry_roots(project, settings, chosen, wanted, content), environment)
    written = Written(files=[path, *([path.with_name("pyproject.toml")] if project else [])])
    old_files = content.get("metadata", {}).get("files", {})
    for package in kept:
        name, source = package["name"], package.get("source", {})
        files = package.get("files") or old_files.get(name, [])
        match source.get("type"):
            case "git":
                line = f"{name} @ git+{source['url']}@{source['resolved_reference']}" + _subdirectory(source)
            case "directory" | "file":
                line = f"{name} @ {(path.parent / source['url']).resolve().as_uri()}"
            case "url":
                line = f"{name} @ {source['url']}"
            case _:
                line = f"{name}=={package['version']}"
                if source.get("url") and source["url"] not in written.extra_indexes:
                    written.extra_indexes.append(source["url"])
        written.require(name, line, [] if source.get("type") in {"git", "directory"} else [f["hash"] for f in files])
    return written


def _poetry_keeps(package: dict[str, Any], groups: set[str], extras: list[str], environment: dict[str, str]) -> bool:
    for group in groups & set(package["groups"]):
        markers = package.get("markers", "")
        marker = markers.get(group, "") if isinstance(markers, dict) else markers
        if _holds(marker, extras, environment):
            return True
    return False


def _holds(marker: str, extras: list[str], environment: dict[str, str]) -> bool:
    try:
        return not marker or any(Marker(marker).evaluate({**environment, "extra": extra}) for extra in ("", *extras))
    except InvalidMarker:
        return True


def _poetry_roots(
    project: dict[str, Any], settings: dict[str, Any], groups: set[str], extras: list[str], lock: dict[str, Any]
) -> dict[str, Any]:
    """The project's own dependencies, by name, as poetry writes them."""
    roots: dict[str, Any] = {}
    for line in project.get("project", {}).get("dependencies", []):
        requirement = Requirement(line)
        roots[requirement.name] = {"markers": str(requirement.marker or ""), "extras": sorted(requirement.extras)}
    roots |= {name: value for name, value in settings.get("dependencies", {}).items() if name.lower() != "python"}
    for group in groups - {"main"}:
        roots |= settings.get("group", {}).get(group, {}).get("dependencies", {})
    optional = {
        Requirement(line.split(" ")[0]).name for extra in extras for line in lock.get("extras", {}).get(extra, [])
    }
    return {
        name: value
        for name, value in roots.items()
        if not (isinstance(value, dict) and value.get("optional")) or canonicalize_name(name) in optional
    }


def _poetry_walk(
    packages: list[dict[str, Any]], roots: dict[str, Any], environment: dict[str, str]
) -> list[dict[str, Any]]:
    """The packages that the roots need, in a lock that does not say which group needs which."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for package in packages:
        if SpecifierSet(package.get("python-versions", "*").replace("*", "") or "").contains(
            environment["python_full_version"], prereleases=True
        ):
            by_name.setdefault(canonicalize_name(package["name"]), []).append(package)
    kept: dict[str, dict[str, Any]] = {}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    waiting = [(name, one) for name, value in roots.items() for one in (value if isinstance(value, list) else [value])]
    while waiting:
        name, wanted = waiting.pop()
        about = wanted if isinstance(wanted, dict) else {}
        extras = tuple(sorted(about.get("extras", [])))
        key = canonicalize_name(name)
        if (key, extras) in seen or not _holds(about.get("markers", ""), [], environment) or key not in by_name:
            continue
        seen.add((key, extras))
        package = kept[key] = by_name[key][-1]
        brought = {
            canonicalize_name(Requirement(line.split(" ")[0]).name)
            for extra in extras
            for line in package.get("extras", {}).get(extra, [])
        }
        for inner, value in package.get("dependencies", {}).items():
            for one in value if isinstance(value, list) else [value]:
                optional = isinstance(one, dict) and one.get("optional")
                if not optional or canonicalize_name(inner) in brought:
                    waiting.append((inner, {**one, "markers": _without_extra(one)} if isinstance(one, dict) else one))
    return [kept[name] for name in sorted(kept)]


def _without_extra(dependency: dict[str, Any]) -> str:
    """The marker of a dependency that an extra brings; that it was asked for is known."""
    marker = str(dependency.get("markers", ""))
    return re.sub(r"\s*(?:and\s+)?extra == [\"'][^\"']*[\"'](?:\s+and)?\s*", " ", marker).strip()


def _subdirectory(entry: dict[str, Any]) -> str:
    return f"#subdirectory={entry['subdirectory']}" if entry.get("subdirectory") else ""


def _no_group(path: Path, group: str, known: list[str]) -> str:
    has = f"It has {', '.join(known)}." if known else "It has none."
    return f"app_dependencies_groups names {group}, but {path.name} has no such group. {has}"


def is_local(line: str) -> bool:
    """Whether a requirement is a folder."""
    return bool(_LOCAL.match(line))

"""What a checkout ships: the files that git tracks, of the working tree or of a commit."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.packing.programs import PackingError, run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LFS_POINTER_BYTES = 1024
# Made by tools in a folder without git, where nothing says what belongs to the project.
_NEVER_SHIPPED = frozenset(
    {".git", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".venv", "__pycache__", "node_modules"}
)
_NAMED = 5


@dataclass
class Tree:
    """The files of a project: their folder, the name of their revision, and their paths relative to the folder."""

    path: Path
    revision: str
    files: list[Path]
    # Where git keeps the tree's objects; none without git.
    git: Path | None = None
    notes: list[str] = field(default_factory=list)

    def below(self, folder: Path) -> list[Path]:
        """The files of a folder of the tree, relative to it."""
        start = folder.resolve().relative_to(self.path.resolve())
        return [name.relative_to(start) for name in self.files if name.is_relative_to(start)]


@dataclass(frozen=True)
class _Commit:
    """A commit of a repository, and its name for people."""

    source: Path
    git: Path
    id: str
    name: str


def take(source: Path, ref: str, work: Path, without: Collection[Path] = ()) -> Tree:
    """The files of the working tree, or of a commit, which is laid out in a folder of work; some folders left out."""
    apart = [folder.resolve().relative_to(source) for folder in without if folder.resolve().is_relative_to(source)]
    taken = _take(source, ref, work, [f"{folder}/" for folder in apart])
    taken.files = [name for name in taken.files if not any(name.is_relative_to(folder) for folder in apart)]
    return taken


def _take(source: Path, ref: str, work: Path, apart: Collection[str]) -> Tree:
    if not source.is_dir():
        raise PackingError(
            f"app_source is {source}, but the controller has no such folder. Set it to the project's checkout."
        )
    if not (source / ".git").exists():
        return _without_git(source, ref)
    git = Path(_git(source, "rev-parse", "--absolute-git-dir", failed=f"{source} is not a usable checkout").strip())
    if ref:
        commit = _git(
            source,
            *["rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"],
            failed=f"app_ref is {ref}, but {source} has no such commit, tag or branch",
            advice=f"If it is new: git -C {source} fetch --tags",
        ).strip()
        tree = work / "ref"
        tree.mkdir()
        _check_out(_Commit(source, git, commit, ref), tree, work / "index")
        taken = Tree(tree, commit[:12], sorted(_walk(tree, ())), git)
    else:
        described = run(
            ["git", "-C", source, "describe", "--always", "--dirty", "--abbrev=12"],
            failed=f"{source} has no commit",
            advice=f"Commit the project first: git -C {source} add . && git -C {source} commit",
        )
        taken = Tree(source, described.strip(), _tracked(source), git)
        # A folder that ignores all of itself, such as a virtual environment of uv's, counts as empty.
        others = _names(source, "--others", "--exclude-standard", "--directory", "--no-empty-directory")
        untracked = [name for name in others if not name.startswith(tuple(apart))]
        if untracked:
            shown = ", ".join(untracked[:_NAMED]) + (" …" if len(untracked) > _NAMED else "")
            taken.notes.append(f"git does not track these, so they do not ship: {shown}. To ship them: git add")
    _refuse_pointers(taken, source)
    return taken


def walk(folder: Path) -> list[Path]:
    """The files of a folder that no checkout describes, relative to it."""
    return sorted(name for name in _walk(folder, _NEVER_SHIPPED) if not name.parts[0].endswith(".egg-info"))


def top(tree: Tree, root: str) -> Path:
    """The folder that ships."""
    folder = tree.path / root
    if not folder.is_dir() or not folder.resolve().is_relative_to(tree.path.resolve()):
        raise PackingError(
            f"app_root is {root}, but {tree.path} has no such folder. Set it to the folder that contains manage.py."
        )
    return folder


def entries(tree: Tree, folder: Path) -> dict[Path, Path | str]:
    """What a folder ships, by its path there: a file to copy, or the target of a link.

    A link whose target ships too stays a link. One that leaves the folder, but not the checkout, ships as what it
    points to.
    """
    found: dict[Path, Path | str] = {}
    for name in tree.below(folder):
        found |= _entry(tree, folder, name, folder / name, ())
    return found


def lay_out(found: dict[Path, Path | str], target: Path) -> None:
    """Lay entries out in a folder."""
    for name, origin in found.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(origin, str):
            (target / name).symlink_to(origin)
        else:
            shutil.copy2(origin, target / name)


def _entry(tree: Tree, folder: Path, name: Path, path: Path, seen: tuple[Path, ...]) -> dict[Path, Path | str]:
    if not path.is_symlink():
        return {name: path}
    target = str(path.readlink())
    inside = Path(os.path.normpath(folder / name.parent / target))
    if not os.path.isabs(target) and inside.is_relative_to(folder) and not seen:
        return {name: target}
    resolved = path.resolve()
    if not resolved.exists() or not resolved.is_relative_to(tree.path.resolve()) or resolved in seen:
        if resolved not in seen:
            tree.notes.append(f"{name} is a link out of the checkout, to {target}. It ships as that link.")
        return {name: target}
    if resolved.is_file():
        return {name: resolved}
    found: dict[Path, Path | str] = {}
    for inner in tree.below(resolved):
        found |= _entry(tree, folder, name / inner, resolved / inner, (*seen, resolved))
    return found


def _git(source: Path, *arguments: str, failed: str, advice: str = "") -> str:
    printed: str = run(["git", "-C", source, *arguments], failed=failed, advice=advice)
    return printed


def _names(source: Path, *options: str) -> list[str]:
    listed = _git(source, "ls-files", "-z", *options, failed=f"git cannot list the files of {source}")
    return [name for name in listed.split("\0") if name]


def _tracked(source: Path) -> list[Path]:
    files = []
    for name in _names(source, "--cached", "--recurse-submodules"):
        path = source / name
        if path.is_dir() and not path.is_symlink():
            raise PackingError(
                f"The submodule {name} of {source} is not checked out. "
                f"Type: git -C {source} submodule update --init --recursive"
            )
        if os.path.lexists(path):
            files.append(Path(name))
    return sorted(set(files))


def _walk(folder: Path, left_out: Collection[str]) -> Iterator[Path]:
    for base, folders, files in os.walk(folder):
        links = [name for name in folders if Path(base, name).is_symlink()]
        folders[:] = [name for name in folders if name not in left_out and name not in links]
        for name in [*files, *links]:
            yield Path(base, name).relative_to(folder)


def _without_git(source: Path, ref: str) -> Tree:
    above = next((folder for folder in source.parents if (folder / ".git").exists()), None)
    if above and _names(above, "--cached", "--", str(source)):
        raise PackingError(
            f"app_source is {source}, a folder of the checkout {above}. "
            f"Set app_source to {above}, and app_root to a folder relative to it."
        )
    if ref:
        raise PackingError(
            f"app_ref is {ref}, but {source} is not a git checkout. Set app_source to a checkout, or remove app_ref."
        )
    return Tree(source, "no git checkout", walk(source))


def _check_out(commit: _Commit, tree: Path, index: Path) -> None:
    """Check a commit out into an empty folder, with its submodules, without touching the checkout."""
    inside = ["git", f"--git-dir={commit.git}", f"--work-tree={tree}"]
    env = {"GIT_INDEX_FILE": str(index)}
    run(
        [*inside, "read-tree", "--reset", "-u", commit.id],
        failed=f"git cannot check out {commit.name}",
        cwd=tree,
        env=env,
        advice="If it names git-lfs: sudo apt-get install git-lfs, then git lfs install && git lfs fetch --all",
    )
    listed = run([*inside, "ls-files", "-z", "--stage"], failed="git cannot list the commit", cwd=tree, env=env)
    modules = [entry.split("\t") for entry in listed.split("\0") if entry.startswith("160000 ")]
    for number, (info, path) in enumerate(modules):
        _check_out_submodule(commit, info.split()[1], Path(path), tree, index.with_suffix(f".{number}"))


def _check_out_submodule(commit: _Commit, module: str, path: Path, tree: Path, index: Path) -> None:
    configured = run(
        ["git", "config", "--file", tree / ".gitmodules", "--get-regexp", r"^submodule\..*\.path$"],
        failed=f"{commit.name} has the submodule {path}, but no .gitmodules that says where it comes from",
    )
    names = {line.split(" ", 1)[1]: line.split(" ", 1)[0] for line in configured.splitlines()}
    name = names.get(str(path), f"submodule.{path}.path").removeprefix("submodule.").removesuffix(".path")
    for kept in (commit.git / "modules" / name, commit.source / path / ".git"):
        if kept.is_dir() and _has(kept, module):
            (tree / path).mkdir(parents=True, exist_ok=True)
            _check_out(_Commit(commit.source / path, kept, module, f"{path} at {module[:12]}"), tree / path, index)
            return
    raise PackingError(
        f"{commit.name} has the submodule {path} at {module[:12]}, which {commit.source} does not have. "
        f"Type: git -C {commit.source} checkout {commit.name} && git -C {commit.source} submodule update --init --recursive"
    )


def _has(git: Path, commit: str) -> bool:
    try:
        run(["git", f"--git-dir={git}", "cat-file", "-e", f"{commit}^{{commit}}"], failed="")
    except PackingError:
        return False
    return True


def _refuse_pointers(tree: Tree, source: Path) -> None:
    pointers = [name for name in tree.files if _is_pointer(tree.path / name)]
    for name in pointers:
        attribute = _git(source, "check-attr", "filter", "--", str(name), failed="git cannot read .gitattributes")
        if attribute.strip().endswith(": lfs"):
            raise PackingError(
                f"{name} is kept in Git LFS, and only its pointer is here. "
                f"Type: sudo apt-get install git-lfs, then git -C {source} lfs install && git -C {source} lfs pull"
            )


def _is_pointer(path: Path) -> bool:
    if path.is_symlink() or path.stat().st_size > _LFS_POINTER_BYTES:
        return False
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER

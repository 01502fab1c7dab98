"""A project's own build steps, run once on the controller in a copy of its source."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.packing.checkout import entries, lay_out
from ansible.module_utils.packing.programs import run

if TYPE_CHECKING:
    from .checkout import Tree
    from .workplace import Workplace

# What a person has set for a shell and a project of its own.
_OF_THE_SHELL = ("DJANGO_CONFIGURATION", "DJANGO_SETTINGS_MODULE", "PYTHONHOME", "PYTHONPATH")
_MADE_BY_TOOLS = {".git", ".venv", "__pycache__"}


@dataclass(frozen=True)
class Steps:
    """The commands, their environment variables, and names of what they make that does not ship."""

    commands: list[str]
    environment: dict[str, str]
    left_out: list[str]


def build(steps: Steps, tree: Tree, root: str, venv: Path, work: Path) -> dict[Path, Path | str]:
    """Run the commands in the folder that ships, and return what it holds afterwards."""
    copy = work / "built"
    lay_out(entries(tree, tree.path), copy)
    if tree.git:
        (copy / ".git").write_text(f"gitdir: {tree.git}\n")
    home = work / "home"
    home.mkdir()
    folder = copy / root
    env: dict[str, str | None] = {
        **dict.fromkeys(_OF_THE_SHELL),
        # Caches of package managers stay the controller's own.
        "HOME": os.environ.get("HOME", str(home)),
        "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
        "VIRTUAL_ENV": str(venv),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "NO_COLOR": "1",
        "CI": "1",
        **steps.environment,
    }
    for command in steps.commands:
        run(
            ["/bin/sh", "-euc", command],
            cwd=folder,
            env=env,
            failed=f"The build command failed: {command}",
            advice=f"It ran in a copy of {tree.path / root}, with the dependencies and app_build_environment. Fix it in app_build_commands.",
        )
    return _all(folder, _MADE_BY_TOOLS | set(steps.left_out))


def environment(lock: str, wheels: Path, python: Path, place: Workplace, advice: str) -> Path:
    """Make a virtual environment with the dependencies, for the commands."""
    folder = place.work / "venv"
    run(
        [place.uv, "venv", "--quiet", "--no-project", f"--python={python}", folder],
        failed="No virtual environment for app_build_commands",
    )
    requirements = folder / "requirements.txt"
    requirements.write_text(lock)
    run(
        [
            *[place.uv, "pip", "install", "--quiet", "--require-hashes", "--no-deps", f"--find-links={wheels}"],
            *[f"--python={folder / 'bin' / 'python'}", f"--requirement={requirements}"],
        ],
        env=place.indexes.env,
        failed="The dependencies cannot be installed on the controller for app_build_commands",
        advice=advice,
    )
    return folder


def _all(folder: Path, left_out: set[str]) -> dict[Path, Path | str]:
    found: dict[Path, Path | str] = {}
    for base, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in left_out]
        links = [name for name in folders if Path(base, name).is_symlink()]
        for name in [*files, *links]:
            path = Path(base, name)
            if name not in left_out:
                target = path.readlink() if path.is_symlink() else None
                # A link to what was left out would point nowhere.
                if target is None or path.exists():
                    found[path.relative_to(folder)] = str(target) if target else path
    return found

"""Pythons on the controller: one that a release ships, and one that builds for a host."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from ansible.module_utils.packing.programs import PackingError, run

_VERSION = re.compile(r"3\.\d+(\.\d+)?")
# Of no use to a release.
_NOT_SHIPPED = shutil.ignore_patterns(
    "__pycache__", "test", "idlelib", "turtledemo", "tkinter", "include", "share", "*.a"
)


class Shipped:
    """An interpreter that uv obtains and a release ships."""

    def __init__(self, wanted: str, machine: str, mirror: str, folder: Path, uv: Path) -> None:
        """Interpreters are kept in the folder."""
        if not _VERSION.fullmatch(wanted):
            raise PackingError(f'app_python is {wanted}. Write a version such as "3.12", in quotation marks.')
        self._uv, self._folder, self._machine = uv, folder, machine
        self._env = {"UV_PYTHON_INSTALL_DIR": str(folder), "UV_PYTHON_PREFERENCE": "only-managed"}
        self._env |= {"UV_PYTHON_INSTALL_MIRROR": mirror} if mirror else {}
        self._request = f"cpython-{wanted}-linux-{machine}-gnu"
        self._wanted = wanted
        self.version, self._key = self._newest()

    def obtain(self) -> Path:
        """The folder of the interpreter, downloaded unless it is there."""
        target = self._folder / self._key
        if not (target / "bin").is_dir():
            run(
                [self._uv, "python", "install", "--no-bin", f"--install-dir={self._folder}", self._key],
                env=self._env,
                failed=f"Python {self.version} (app_python) cannot be downloaded",
                advice="Behind a proxy or without a way out, set app_python_mirror to a mirror of python-build-standalone's releases.",
            )
        return target

    @property
    def program(self) -> Path:
        """The interpreter on the controller."""
        return self._folder / self._key / "bin" / f"python{'.'.join(self.version.split('.')[:2])}"

    def ship(self, target: Path) -> None:
        """Copy the interpreter into a folder."""
        shutil.copytree(self.obtain(), target, symlinks=True, ignore=_NOT_SHIPPED)

    def _newest(self) -> tuple[str, str]:
        listed = run(
            [
                self._uv,
                "python",
                "list",
                "--no-config",
                "--all-arches",
                "--only-downloads",
                "--output-format=json",
                self._request,
            ],
            env={**self._env, "UV_PYTHON_DOWNLOADS": "manual"},
            failed=f"uv cannot list the Pythons for app_python {self._wanted}",
        )
        for found in json.loads(listed):
            if found["variant"] == "default":
                return found["version"], found["key"]
        raise PackingError(
            f"app_python is {self._wanted}, and uv knows no such Python for {self._machine}. "
            "Type this for those that it knows: uv python list --only-downloads"
        )


def for_build(short: str, uv: Path) -> Path | None:
    """A Python of this version on the controller; none if it has none."""
    if ".".join(map(str, sys.version_info[:2])) == short:
        return Path(sys.executable)
    try:
        found = run(
            [uv, "python", "find", "--no-project", "--no-config", "--system", short],
            env={"UV_PYTHON_DOWNLOADS": "never"},
            failed="",
        )
    except PackingError:
        return None
    return Path(found.strip())

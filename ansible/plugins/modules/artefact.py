#!/usr/bin/python
"""Build what a host needs to install a project without reaching any index."""

from __future__ import annotations

DOCUMENTATION = """
module: artefact
short_description: Build what a host needs to install a project without reaching any index
description:
  - Runs on the controller. Packs the project's source, its locked dependencies as wheels for the hosts' Python,
    each checked against the hash in the lock, and the installer into one tar file. Packages that the lock takes from
    the checkout itself (a uv workspace, a path) are built into wheels.
  - The tar file holds a program, install, that lays it out in a folder of a host; .venv/installed is its last word there.
  - The id is a digest of the source and the lock, so the same content is the same artefact and is built once.
options:
  source: {description: Checkout of the project., type: path, required: true}
  ref: {description: Commit to take from the checkout; empty takes the working tree as it stands., type: str, default: ""}
  root: {description: Folder of the checkout that ships; empty ships only the dependencies., type: str, default: ""}
  lock: {description: uv.lock or a requirements file with hashes within the checkout., type: str, default: uv.lock}
  groups: {description: Take these dependency groups of the lock alone., type: list, elements: str, default: []}
  packages:
    description:
      - Folders of packages that are built and installed beside the project's dependencies; their own dependencies must be
        among those. One that the project locks itself is left out.
    type: list
    elements: path
    default: []
  installer: {description: Drumline's own project whose lock has the group installer., type: path, required: true}
  pythons: {description: Full Python versions of the hosts., type: list, elements: str, required: true}
  machine: {description: Processor architecture of the hosts., type: str, default: x86_64}
  dest: {description: Folder that keeps the artefacts., type: path, required: true}
author: Drumline
"""

EXAMPLES = """
- name: Build the artefact of a commit on the controller
  artefact:
    source: /srv/shop
    ref: v1.4.0
    root: app
    installer: "{{ playbook_dir | dirname }}"
    pythons: ["3.13.5"]
    dest: "{{ inventory_dir }}/artefacts"
  delegate_to: localhost
"""

RETURN = """
changed: {description: Whether it was built; false when it was there., type: bool, returned: always}
id: {description: Digest of the source and the lock., type: str, returned: always}
path: {description: The tar file on the controller., type: str, returned: always}
revision: {description: Commit of the source and whether the tree differs from it., type: str, returned: always}
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from packaging.requirements import Requirement

# Debian 12 has glibc 2.36; a wheel for an older one works on it.
_GLIBC_MINORS = range(36, 16, -1)
_INSTALL = """\
#!/bin/sh
# Installs this artefact into the folder that is given, in the place of what is there, and reaches no index.
# Whether it came to its end is seen by the file .venv/installed.
set -eu
here=$(dirname "$(readlink -f "$0")")
target=${1:?"usage: install FOLDER"}
python=/usr/bin/python3
release=$($python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
umask 022
rm -rf "$target"
mkdir -p "$target"
if [ -d "$here/source" ]; then cp -R "$here/source/." "$target/"; fi
"$here/uv" venv --quiet --offline --no-cache --python=$python "$target/.venv"
"$here/uv" pip install --quiet --offline --no-cache --no-index --require-hashes --link-mode=copy --compile-bytecode \\
    --find-links="$here/wheels" --python="$target/.venv/bin/python" --requirement="$here/requirements-$release.txt"
"$target/.venv/bin/python" -m compileall -q -x '\\.venv' "$target"
touch "$target/.venv/installed"
"""
# Where no git says what does not ship.
_UNSHIPPED = {".git", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".venv", "__pycache__"}
_UV = Path(sysconfig.get_path("scripts"), "uv")


class ArtefactError(Exception):
    """What is wrong with the project, and what to do about it."""


def _run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ArtefactError(f"{' '.join(command[:6])} failed:\n{(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def _checkout(source: Path, ref: str, work: Path) -> tuple[Path, str]:
    """The tree to pack and the name of its revision."""
    if not (source / ".git").exists():
        if ref:
            raise ArtefactError(
                f"app_ref is {ref}, but {source} is not a git checkout. Set app_source to a checkout, or remove app_ref."
            )
        return source, "no git checkout"
    if not ref:
        commit = subprocess.run(
            ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        return source, commit or "no commit"
    commit = _run(["git", "-C", str(source), "rev-parse", "--verify", f"{ref}^{{commit}}"]).strip()
    archive = work / "ref.tar"
    _run(["git", "-C", str(source), "archive", f"--output={archive}", commit])
    tree = work / "ref"
    with tarfile.open(archive) as tar:
        tar.extractall(tree, filter="data")
    return tree, commit[:12]


def _top(tree: Path, root: str) -> Path:
    """The folder that ships."""
    if not (tree / root).is_dir():
        raise ArtefactError(
            f"app_root is {root}, but {tree} has no such folder. Set it to the folder that contains manage.py."
        )
    return tree / root


def _files(tree: Path, top: Path) -> list[Path]:
    """The files of a folder, relative to it: in a checkout what git tracks or would track, else all."""
    if (tree / ".git").exists() and top.is_relative_to(tree):
        listed = _run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=top).split("\0")
        return sorted(Path(name) for name in listed if name and (top / name).is_file())
    return sorted(
        path.relative_to(top)
        for path in top.rglob("*")
        if path.is_file() and not _UNSHIPPED & set(path.relative_to(top).parts)
    )


def _requirements(tree: Path, lock: str, groups: list[str]) -> str:
    if not (tree / lock).is_file():
        raise ArtefactError(
            f"app_python_dependencies is {lock}, but {tree} has no such file. Commit uv.lock, or a requirements file with hashes."
        )
    if Path(lock).name != "uv.lock":
        return (tree / lock).read_text()
    chosen = [f"--only-group={group}" for group in groups] or ["--no-default-groups"]
    return _run(
        [str(_UV), "export", "--quiet", "--frozen", "--no-header", "--no-annotate", "--no-emit-project", *chosen],
        cwd=(tree / lock).parent,
    )


def _without_packages(requirements: str, base: Path) -> tuple[str, list[Path]]:
    """The requirements from an index, and the folders of the packages that the lock takes from the checkout."""
    kept, packages = [], []
    for line in requirements.splitlines():
        path = line.removeprefix("-e ").split(";")[0].strip()
        if line.startswith(("-e .", "./", "../")):
            packages.append((base / path).resolve())
        else:
            kept.append(line)
    return "\n".join(kept), packages


def _beside(packages: list[str], requirements: str, locked: list[Path]) -> list[Path]:
    """The folders of packages that the project does not lock itself."""
    named = {
        re.split(r"[ ;\[=<>!~@]", line.strip(), maxsplit=1)[0].lower().replace("_", "-")
        for line in requirements.splitlines()
    }
    own = {_name(folder) for folder in locked}
    return [Path(folder) for folder in packages if _name(Path(folder)) not in named | own]


def _name(package: Path) -> str:
    if not (package / "pyproject.toml").is_file():
        return package.name
    project: dict[str, Any] = tomllib.loads((package / "pyproject.toml").read_text()).get("project", {})
    return str(project.get("name", package.name)).lower().replace("_", "-")


def _build_package(package: Path, wheels: Path) -> str:
    """Build a package of the checkout into a wheel, and return its requirement with the wheel's hash."""
    with tempfile.TemporaryDirectory(prefix="drumline-wheel-") as folder:
        _run([str(_UV), "build", "--quiet", "--wheel", f"--out-dir={folder}", str(package)])
        [wheel] = Path(folder).glob("*.whl")
        name, version, *_ = wheel.name.split("-")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        shutil.copy2(wheel, wheels)
    return f"{name.replace('_', '-')}=={version} --hash=sha256:{digest}\n"


def _for_host(requirements: str, python: str, machine: str) -> str:
    """The requirements with their markers decided for a host, which the controller's own Python would decide wrongly."""
    environment = {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": "linux",
    }
    kept = []
    for line in requirements.replace("\\\n", " ").splitlines():
        statement, *hashes = line.strip().split(" --hash=")
        if not statement or statement.startswith("#"):
            continue
        requirement = Requirement(statement.strip())
        if not hashes:
            raise ArtefactError(
                f"{requirement.name} has no hash in the lock file. Lock with hashes: uv lock, or pip-compile --generate-hashes."
            )
        if requirement.marker is None or requirement.marker.evaluate(environment):
            requirement.marker = None
            kept.append(" ".join([str(requirement), *(f"--hash={value.strip()}" for value in hashes)]))
    return "\n".join(kept) + "\n"


def _download(requirements: Path, python: str, machine: str, wheels: Path) -> None:
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS]
    _run(
        [
            *[
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "--require-hashes",
            ],
            *["--disable-pip-version-check", "--implementation=cp", f"--python-version={python}"],
            *[*platforms, f"--platform=manylinux2014_{machine}", f"--platform=linux_{machine}"],
            *[f"--dest={wheels}", f"--requirement={requirements}"],
        ]
    )


def _extract_uv(wheels: Path, target: Path) -> None:
    with zipfile.ZipFile(next(wheels.glob("uv-*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".data/scripts/uv"))
        target.write_bytes(wheel.read(name))
    target.chmod(0o755)


def _digest(requirements: str, folders: dict[Path, list[Path]]) -> str:
    digest = hashlib.sha256(requirements.encode())
    for folder, files in folders.items():
        for name in files:
            path = folder / name
            digest.update(f"\0{name}\0{os.access(path, os.X_OK)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def build(options: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Build the artefact unless it is there, and tell its id and place."""
    dest = Path(options["dest"])
    pythons = sorted(set(options["pythons"]))
    with tempfile.TemporaryDirectory(prefix="drumline-artefact-") as folder:
        work = Path(folder)
        tree, revision = _checkout(Path(options["source"]).resolve(), options["ref"], work)
        source = _top(tree, options["root"]) if options["root"] else None
        requirements = _requirements(tree, options["lock"], options["groups"])
        indexed, packages = _without_packages(requirements, (tree / options["lock"]).parent)
        packages += _beside(options["packages"], indexed, packages)
        folders = {folder: _files(tree, folder) for folder in [*([source] if source else []), *packages]}
        identity = _digest(requirements, folders)
        path = dest / f"{identity}-{'-'.join(pythons)}-{options['machine']}.tar"
        result = {"id": identity, "path": str(path), "revision": revision, "changed": not path.exists()}
        if path.exists() or check_mode:
            return result

        stage = work / "artefact"
        wheels = stage / "wheels"
        wheels.mkdir(parents=True)
        if source:
            for name in folders[source]:
                (stage / "source" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, stage / "source" / name)
        built = "".join(_build_package(package, wheels) for package in packages)
        for python in pythons:
            short = ".".join(python.split(".")[:2])
            locked = stage / f"requirements-{short}.txt"
            locked.write_text(_for_host(indexed, python, options["machine"]))
            _download(locked, short, options["machine"], wheels)
            locked.write_text(locked.read_text() + built)
        installer = work / "installer.txt"
        installer.write_text(
            _for_host(
                _requirements(Path(options["installer"]), "uv.lock", ["installer"]), pythons[0], options["machine"]
            )
        )
        (work / "uv").mkdir()
        _download(installer, ".".join(pythons[0].split(".")[:2]), options["machine"], work / "uv")
        _extract_uv(work / "uv", stage / "uv")
        (stage / "install").write_text(_INSTALL)
        (stage / "install").chmod(0o755)

        dest.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with tarfile.open(partial, "w") as tar:
            for entry in sorted(stage.iterdir()):
                tar.add(entry, arcname=entry.name)
        partial.rename(path)
        return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "ref": {"type": "str", "default": ""},
            "root": {"type": "str", "default": ""},
            "lock": {"type": "str", "default": "uv.lock"},
            "groups": {"type": "list", "elements": "str", "default": []},
            "packages": {"type": "list", "elements": "path", "default": []},
            "installer": {"type": "path", "required": True},
            "pythons": {"type": "list", "elements": "str", "required": True},
            "machine": {"type": "str", "default": "x86_64"},
            "dest": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**build(module.params, check_mode=module.check_mode))
    except ArtefactError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()

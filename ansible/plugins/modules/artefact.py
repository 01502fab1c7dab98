#!/usr/bin/python
"""Build what a host needs to install a project without reaching any index."""

from __future__ import annotations

DOCUMENTATION = """
module: artefact
short_description: Build what a host needs to install a project without reaching any index
description:
  - Runs on the controller. Packs the project's source into one tar file, and its dependencies as wheels for the hosts' Python,
    each with its hash, with the installer into another, which changes seldom and is a hundred times as large. What has no
    wheel, comes from git or lies in the checkout is built into one.
  - Dependencies are read from uv.lock, poetry.lock, Pipfile.lock, pylock.toml, requirements files or pyproject.toml. What
    is not locked there is resolved and locked with hashes, and the lock is kept beside the artefact.
  - The first holds a program, install, that lays both out in a folder of a host; .venv/installed, which names the
    dependencies, is its last word there. Where a folder beside it has the same dependencies, it needs the first alone.
  - The id is a digest of all that goes into both, so the same content is the same artefact and is built once.
options:
  source: {description: Checkout of the project., type: path, required: true}
  ref: {description: Commit to take from the checkout; empty takes the working tree as it stands., type: str, default: ""}
  root: {description: Folder of the checkout that ships; empty ships only the dependencies., type: str, default: ""}
  without: {description: Folders of the checkout that do not ship., type: list, elements: path, default: []}
  dependencies:
    description: File of the dependencies within the checkout; empty looks for one, none takes none.
    type: str
    default: ""
  groups: {description: Take these dependency groups of uv.lock alone., type: list, elements: str, default: []}
  with_groups: {description: Dependency groups and extras to take as well., type: list, elements: str, default: []}
  extra: {description: Further requirements., type: list, elements: str, default: []}
  needs:
    description: What the hosts need, each unless the project or `extra` brings it by itself.
    type: list
    elements: dict
    default: []
    suboptions:
      add: {description: The requirement., type: str, required: true}
      unless: {description: Packages that serve in its place; empty stands for its own name., type: list, elements: str, default: []}
  index_url: {description: Index in the place of PyPI., type: str, default: ""}
  extra_index_urls: {description: Indexes beside it., type: list, elements: str, default: []}
  index_logins: {description: User and password by the name of an index's host., type: dict, default: {}}
  python: {description: Version of a Python to ship; empty takes the hosts' own., type: str, default: ""}
  python_mirror: {description: Mirror to take that Python from., type: str, default: ""}
  build_packages: {description: Debian packages that the build needs on the controller., type: list, elements: str, default: []}
  build_packages_install: {description: Install them if they are missing., type: bool, default: false}
  build_constraints: {description: Versions of build tools., type: list, elements: str, default: []}
  build_commands: {description: Commands to run in a copy of the source., type: list, elements: str, default: []}
  build_environment: {description: Environment variables of those commands., type: dict, default: {}}
  installs: {description: What the hosts do once with a release; other values make another one., type: list, elements: raw, default: []}
  build_leftovers: {description: Names of files and folders that they make and that do not ship., type: list, elements: str, default: [node_modules]}
  installer: {description: Drumline's own project whose lock has the group installer., type: path, required: true}
  pythons: {description: Full Python versions of the hosts., type: list, elements: str, required: true}
  machine: {description: Processor architecture of the hosts., type: str, default: x86_64}
  distribution: {description: Name and major version of the hosts' distribution., type: str, default: ""}
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
dependencies:
  description: The dependencies, by the digest C(id) of all that goes into them and the C(path) of their tar file on the controller.
  type: dict
  returned: always
id: {description: Digest of all that goes into it., type: str, returned: always}
notes: {description: What the operator should know about it., type: list, elements: str, returned: always}
path: {description: The tar file on the controller that holds all but the dependencies., type: str, returned: always}
revision: {description: Commit of the source and whether the tree differs from it., type: str, returned: always}
"""

import hashlib
import json
import os
import platform
import shutil
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.packing import checkout, commands, pythons, wheels
from ansible.module_utils.packing.dependencies import Asked, Resolver, Target
from ansible.module_utils.packing.indexes import Indexes
from ansible.module_utils.packing.programs import PackingError, without_logins
from ansible.module_utils.packing.workplace import Workplace
from packaging.pylock import PackageDirectory, PackageVcs
from packaging.version import Version

_INSTALL = """\
#!/bin/sh
# Installs this artefact into the folder that is given, in the place of what is there, and reaches no index.
# Whether it came to its end is seen by the file .venv/installed.
set -eu
here=$(dirname "$(readlink -f "$0")")
target=${1:?"usage: install FOLDER"}
dependencies=$(cat "$here/dependencies")
umask 022
rm -rf "$target"
mkdir -p "$target"
target=$(readlink -f "$target")
# What compiles keeps all processors busy for seconds, for which visitors of what runs here would wait.
yielding="nice -n 19"
if [ -d /run/systemd/system ] && [ "$(id -u)" -eq 0 ]; then
    yielding="systemd-run --scope --quiet --collect --property=CPUWeight=10"
fi
if [ -d "$here/source" ]; then cp -R "$here/source/." "$target/"; fi

beside=
for installed in "$(dirname "$target")"/*/.venv/installed; do
    if grep -qxF "$dependencies" "$installed" 2>/dev/null; then beside=${installed%/.venv/installed}; fi
done
if [ -n "$beside" ]; then
    # Hard links: nothing writes there, and each outlives the removal of the other.
    for folder in .python .venv; do
        if [ -d "$beside/$folder" ]; then cp -al "$beside/$folder" "$target/"; fi
    done
    rm "$target/.venv/installed"
    # A file that is edited or linked anew is no longer shared.
    for file in $(grep -rlIF "$beside/" "$target/.venv/bin" "$target/.venv/pyvenv.cfg"); do
        sed -i "s|$beside/|$target/|g" "$file"
    done
    find "$target/.venv/bin" -lname "$beside/*" | while read -r link; do
        to=$(readlink "$link")
        ln -sfn "$target${to#"$beside"}" "$link"
    done
else
    python=/usr/bin/python3
    if [ -d "$here/python" ]; then
        cp -R "$here/python" "$target/.python"
        python=$target/.python/bin/python3
    fi
    release=$($python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$here/uv" venv --quiet --offline --no-cache --python="$python" "$target/.venv"
    $yielding "$here/uv" pip install --quiet --offline --no-cache --no-index --require-hashes --no-deps --link-mode=copy \\
        --compile-bytecode --find-links="$here/wheels" --python="$target/.venv/bin/python" \\
        --requirement="$here/requirements-$release.txt"
fi
# Files that are templates of code do not compile. What is imported and does not is found by the checks.
$yielding "$target/.venv/bin/python" -m compileall -q -x '\\.venv|\\.python|node_modules' "$target" >/dev/null 2>&1 || :
echo "$dependencies" >"$target/.venv/installed"
"""
_UV = Path(sysconfig.get_path("scripts"), "uv")
_LOG_BYTES = 1_000_000


class Build:
    """One build, in a temporary folder."""

    def __init__(self, options: dict[str, Any], work: Path, *, keep: bool) -> None:
        """Read the checkout, and find out what the hosts run."""
        self.options = options
        dest, drumline = Path(options["dest"]), Path(options["installer"]).resolve()
        indexes = Indexes(options["index_url"], options["extra_index_urls"], options["index_logins"], work)
        self.place = Workplace(
            work=work,
            dest=dest,
            uv=_UV,
            indexes=indexes,
            drumline=drumline,
            distribution=options["distribution"],
            build_constraints=options["build_constraints"],
            build_packages=options["build_packages"],
            build_packages_install=options["build_packages_install"],
            keep=keep,
        )
        source = Path(options["source"]).resolve()
        # A folder that holds what ships cannot be left out.
        without = [
            folder
            for folder in map(Path, options["without"])
            if not (source / options["root"]).is_relative_to(folder.resolve())
        ]
        self.tree = checkout.take(source, options["ref"], work, without)
        self.top = checkout.top(self.tree, options["root"]) if options["root"] else None
        self.shipped = None
        # The oldest first: what is locked for it holds for later patch levels, too.
        versions = sorted(set(options["pythons"]), key=Version)
        if options["python"]:
            self.shipped = pythons.Shipped(
                options["python"], options["machine"], options["python_mirror"], dest / "pythons", _UV
            )
            versions = [self.shipped.version]
        self.targets = [Target(version, options["machine"]) for version in versions]
        self._find_interpreters()
        asked = Asked(
            options["dependencies"],
            options["with_groups"],
            options["groups"],
            options["extra"],
            options["needs"],
        )
        self.resolver = Resolver(self.tree.path, options["root"], asked, self.place)

    def _find_interpreters(self) -> None:
        for target in self.targets:
            found = self.shipped.program if self.shipped else pythons.for_build(target.short, _UV)
            if found and found.exists():
                self.place.interpreters[target.short] = found

    def plan(self) -> dict[str, Any]:
        """Decide about every file that goes in, and name the artefact by them."""
        self.source = checkout.entries(self.tree, self.top) if self.top else {}
        self.selections = {target: self.resolver.select(target) for target in self.targets}
        hosts = "-".join([*(target.python for target in self.targets), self.options["machine"]])
        self.dependencies = self._dependencies()
        identity = self._identity()
        self.path = self.place.dest / f"{identity}-{hosts}.tar"
        self.dependencies_path = self.place.dest / f"dependencies-{self.dependencies}-{hosts}.tar"
        return {
            "id": identity,
            "path": str(self.path),
            "dependencies": {"id": self.dependencies, "path": str(self.dependencies_path)},
            "revision": self.tree.revision,
            "notes": [*self.tree.notes, *self.resolver.notes],
            "changed": not (self.path.exists() and self.dependencies_path.exists()),
        }

    def _dependencies(self) -> str:
        digest = self._digest(["python", "build_constraints"])
        folders: dict[str, tuple[Path, list[Path]]] = {}
        for target, selection in self.selections.items():
            for package, artifact in selection:
                if isinstance(artifact, PackageDirectory):
                    folder = self.resolver.directory(artifact)
                    inside = folder.is_relative_to(self.tree.path.resolve())
                    what = artifact.path if inside else package.name
                    folders[what] = (folder, self.tree.below(folder) if inside else checkout.walk(folder))
                elif isinstance(artifact, PackageVcs):
                    what = f"{artifact.url}@{artifact.commit_id}"
                else:
                    what = str(sorted(artifact.hashes.items()))
                digest.update(f"{target.short} {package.name} {package.version} {what}\n".encode())
        for folder, names in folders.values():
            _add(digest, {name: folder / name for name in names})
        return str(digest.hexdigest()[:12])

    def _identity(self) -> str:
        options = self.options
        # With the ledger it is another release, also where the project has all that it needs: it has more migrations and tasks.
        digest = self._digest(["build_commands", "build_environment", "build_leftovers", "installs", "needs"])
        digest.update(self.dependencies.encode())
        _add(digest, self.source)
        if options["build_commands"] and self.top:
            # They may read what does not ship.
            _add(digest, checkout.entries(self.tree, self.tree.path))
        return str(digest.hexdigest()[:12])

    def _digest(self, names: list[str]) -> Any:
        return hashlib.sha256(json.dumps([self.options[name] for name in names], sort_keys=True).encode())

    def pack(self) -> None:
        """Build what is not there."""
        dependencies, release = self.place.work / "dependencies", self.place.work / "release"
        # The build commands run with them.
        if self.options["build_commands"] or not self.dependencies_path.exists():
            self.add_dependencies(dependencies)
        if not self.path.exists():
            release.mkdir()
            self.add_source(release, dependencies)
            (release / "dependencies").write_text(f"{self.dependencies}\n")
            (release / "install").write_text(_INSTALL)
            (release / "install").chmod(0o755)
            _pack(release, self.path)
        if not self.dependencies_path.exists():
            _pack(dependencies, self.dependencies_path)

    def add_dependencies(self, stage: Path) -> None:
        """Collect Python, the wheels and what installs them."""
        stage.mkdir()
        self._add_uv(stage / "uv")
        if self.shipped:
            self.shipped.ship(stage / "python")
            self._find_interpreters()
        collector = wheels.Wheels(self.tree, self.resolver, self.place)
        for target, selection in self.selections.items():
            lock = collector.collect(selection, target, stage / "wheels")
            (stage / f"requirements-{target.short}.txt").write_text(lock)

    def add_source(self, stage: Path, dependencies: Path) -> None:
        """Lay out the folder that ships, as the build commands leave it."""
        if self.top:
            found = self._run_commands(dependencies) if self.options["build_commands"] else self.source
            (stage / "source").mkdir(parents=True)
            checkout.lay_out(found, stage / "source")

    def _run_commands(self, dependencies: Path) -> dict[Path, Path | str]:
        self.place.require_packages()
        target = self.targets[-1]
        python = self.place.interpreters.get(target.short)
        lacks = ""
        if python is None:
            lacks = f"The controller has Python {sys.version.split()[0]} and not the hosts' {target.short}, which app_build_commands "
            lacks += f"need for the dependencies. To have it: uv python install {target.short}"
            self.resolver.notes.append(lacks)
        lock = (dependencies / f"requirements-{target.short}.txt").read_text()
        venv = commands.environment(lock, dependencies / "wheels", python or Path(sys.executable), self.place, lacks)
        steps = commands.Steps(
            self.options["build_commands"],
            {name: str(value) for name, value in self.options["build_environment"].items()},
            self.options["build_leftovers"],
        )
        made: dict[Path, Path | str] = commands.build(steps, self.tree, self.options["root"], venv, self.place.work)
        return made

    def _add_uv(self, program: Path) -> None:
        target = self.targets[0]
        if sys.platform == "linux" and platform.machine() == target.machine:
            # The controller's own is of the version in the lock.
            shutil.copy2(_UV, program)
            return
        resolver = Resolver(self.place.drumline, "", Asked("uv.lock", only_groups=["installer"]), self.place)
        folder = self.place.work / "uv"
        wheels.Wheels(self.tree, resolver, self.place).collect(resolver.select(target), target, folder)
        with zipfile.ZipFile(next(folder.glob("uv-*.whl"))) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(".data/scripts/uv"))
            program.write_bytes(wheel.read(name))
        program.chmod(0o755)


def _pack(stage: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another run may be building the same.
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for entry in sorted(stage.iterdir()):
            tar.add(entry, arcname=entry.name)
    Path(partial).chmod(0o644)
    Path(partial).rename(path)


def _add(digest: Any, found: dict[Path, Path | str]) -> None:
    for name, origin in sorted(found.items()):
        if isinstance(origin, str):
            digest.update(f"\0{name}\0{origin}\0".encode())
        else:
            digest.update(f"\0{name}\0{os.access(origin, os.X_OK)}\0".encode())
            digest.update(origin.read_bytes())


def build(options: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Build the artefact unless it is there, and tell its id and place."""
    with tempfile.TemporaryDirectory(prefix="drumline-artefact-") as folder:
        one = Build(options, Path(folder).resolve(), keep=not check_mode)
        result = one.plan()
        if result["changed"] and not check_mode:
            one.pack()
        return result | {"notes": [*one.tree.notes, *one.resolver.notes]}


ARGUMENTS: dict[str, dict[str, Any]] = {
    "source": {"type": "path", "required": True},
    "ref": {"type": "str", "default": ""},
    "root": {"type": "str", "default": ""},
    "without": {"type": "list", "elements": "path", "default": []},
    "dependencies": {"type": "str", "default": ""},
    "groups": {"type": "list", "elements": "str", "default": []},
    "with_groups": {"type": "list", "elements": "str", "default": []},
    "extra": {"type": "list", "elements": "str", "default": []},
    "needs": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "add": {"type": "str", "required": True},
            "unless": {"type": "list", "elements": "str", "default": []},
        },
    },
    "index_url": {"type": "str", "default": ""},
    "extra_index_urls": {"type": "list", "elements": "str", "default": []},
    "index_logins": {"type": "dict", "default": {}, "no_log": True},
    "python": {"type": "str", "default": ""},
    "python_mirror": {"type": "str", "default": ""},
    "build_packages": {"type": "list", "elements": "str", "default": []},
    "build_packages_install": {"type": "bool", "default": False},
    "build_constraints": {"type": "list", "elements": "str", "default": []},
    "build_commands": {"type": "list", "elements": "str", "default": []},
    "build_environment": {"type": "dict", "default": {}},
    "installs": {"type": "list", "elements": "raw", "default": []},
    "build_leftovers": {"type": "list", "elements": "str", "default": ["node_modules"]},
    "installer": {"type": "path", "required": True},
    "pythons": {"type": "list", "elements": "str", "required": True},
    "machine": {"type": "str", "default": "x86_64"},
    "distribution": {"type": "str", "default": ""},
    "dest": {"type": "path", "required": True},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        module.exit_json(**build(module.params, check_mode=module.check_mode))
    except PackingError as error:
        message = str(error)
        if error.output.count("\n") > message.count("\n"):
            log = Path(module.params["dest"]) / "failed.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.touch(mode=0o600)
            log.write_text(without_logins(error.output)[-_LOG_BYTES:])
            message += f"\nAll that was printed: {log}"
        module.fail_json(msg=message)


if __name__ == "__main__":
    main()

"""An artefact is named by its content, holds what the host needs, and a project that cannot be built is told why."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ANSIBLE, PROJECT

_spec = importlib.util.spec_from_file_location("artefact", ANSIBLE / "plugins" / "modules" / "artefact.py")
assert _spec
assert _spec.loader
artefact = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(artefact)

LOCK = """\
django==5.2.1 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
async-timeout==5.0.1 ; python_full_version < '3.11.3' \\
    --hash=sha256:cc
pywin32==300 ; sys_platform == 'win32' \\
    --hash=sha256:dd
"""


def git(*arguments: str, cwd: Path) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with one commit: app/manage.py and a requirements file with hashes."""
    checkout = tmp_path / "project"
    (checkout / "app").mkdir(parents=True)
    (checkout / "app" / "manage.py").write_text("print('one')\n")
    (checkout / "requirements.txt").write_text(LOCK)
    (checkout / ".gitignore").write_text("*.log\n")
    git("init", "--quiet", cwd=checkout)
    git("add", ".", cwd=checkout)
    git("commit", "--quiet", "--message=one", cwd=checkout)
    return checkout


def planned(project: Path, **options: Any) -> dict[str, Any]:
    """What would be built, without building it."""
    given = {
        "source": str(project),
        "ref": "",
        "root": "app",
        "lock": "requirements.txt",
        "groups": [],
        "packages": [],
        "installer": str(PROJECT),
        "pythons": ["3.11.2"],
        "machine": "x86_64",
        "dest": str(project.parent / "artefacts"),
    }
    result: dict[str, Any] = artefact.build(given | options, check_mode=True)
    return result


def test_the_same_content_is_the_same_artefact_whatever_its_commit(project: Path) -> None:
    before = planned(project)["id"]
    git("commit", "--quiet", "--allow-empty", "--message=two", cwd=project)

    assert planned(project)["id"] == before


def test_a_changed_file_a_new_file_and_a_changed_lock_are_each_another_artefact(project: Path) -> None:
    identities = [planned(project)["id"]]
    (project / "app" / "manage.py").write_text("print('two')\n")
    identities.append(planned(project)["id"])
    (project / "app" / "new.py").write_text("")
    identities.append(planned(project)["id"])
    (project / "requirements.txt").write_text(LOCK.replace("5.2.1", "5.2.2"))
    identities.append(planned(project)["id"])

    assert len(set(identities)) == 4


def test_what_git_ignores_does_not_ship(project: Path) -> None:
    before = planned(project)["id"]
    (project / "app" / "debug.log").write_text("noise")

    assert planned(project)["id"] == before


def test_a_ref_ships_the_commit_and_not_the_working_tree(project: Path) -> None:
    committed = planned(project)["id"]
    (project / "app" / "manage.py").write_text("print('half done')\n")

    assert planned(project, ref="HEAD")["id"] == committed


def test_a_package_of_the_checkout_is_part_of_the_artefact_and_not_asked_from_an_index(project: Path) -> None:
    (project / "lib").mkdir()
    (project / "lib" / "pyproject.toml").write_text("[project]\nname = 'lib'\nversion = '1.0'\n")
    for path in ("./lib", "-e ./lib"):
        (project / "requirements.txt").write_text(f"{LOCK}{path}\n")
        before = planned(project)["id"]
        (project / "lib" / f"{len(path)}.py").write_text("changed")
        assert planned(project)["id"] != before, f"a changed file of the package that {path} names"

    indexed, packages = artefact._without_packages(f"{LOCK}-e ./lib ; python_version > '3'\n", project)
    assert (indexed, packages) == (LOCK.rstrip(), [project / "lib"])


def test_a_package_of_the_checkout_becomes_a_wheel_that_is_installed_by_its_hash(tmp_path: Path) -> None:
    requirement = artefact._build_package(PROJECT / "drumline", tmp_path)

    [wheel] = tmp_path.glob("drumline-*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert requirement == f"drumline=={wheel.name.split('-')[1]} --hash=sha256:{digest}\n"


def test_a_package_beside_the_project_is_part_of_the_artefact_unless_the_project_locks_it(
    project: Path, tmp_path: Path
) -> None:
    beside = tmp_path / "elsewhere"
    beside.mkdir()
    (beside / "pyproject.toml").write_text('[project]\nname = "Ox_Cart"\n')
    without = planned(project)["id"]
    with_it = planned(project, packages=[str(beside)])["id"]
    (beside / "module.py").write_text("changed = True\n")
    changed = planned(project, packages=[str(beside)])["id"]
    (project / "requirements.txt").write_text(LOCK + "ox-cart==1.0 --hash=sha256:ee\n")

    assert len({without, with_it, changed}) == 3
    assert planned(project, packages=[str(beside)])["id"] == planned(project)["id"]


def test_markers_are_decided_for_the_python_of_the_host() -> None:
    names = [line.split("==")[0] for line in artefact._for_host(LOCK, "3.11.2", "x86_64").splitlines()]
    assert names == ["django", "async-timeout"]

    names = [line.split("==")[0] for line in artefact._for_host(LOCK, "3.13.5", "x86_64").splitlines()]
    assert names == ["django"]


def test_every_hash_of_the_lock_is_kept() -> None:
    assert artefact._for_host(LOCK, "3.13.5", "x86_64") == "django==5.2.1 --hash=sha256:aa --hash=sha256:bb\n"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ref": "no-such-branch"}, "no-such-branch"),
        ({"root": "src"}, "app_root is src, but .* has no such folder"),
        ({"lock": "uv.lock"}, "app_python_dependencies is uv.lock, but .* has no such file"),
    ],
)
def test_a_project_that_cannot_be_built_is_told_why(project: Path, options: dict[str, str], told: str) -> None:
    with pytest.raises(artefact.ArtefactError, match=told):
        planned(project, **options)


def test_a_dependency_without_a_hash_is_refused_by_name() -> None:
    with pytest.raises(artefact.ArtefactError, match="django has no hash in the lock"):
        artefact._for_host("django==5.2.1\n", "3.13.5", "x86_64")

"""An artefact is named by its content, holds what the host needs, and a project that cannot be built is told why."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ansible.module_utils
import pytest

from tests.support import packages
from tests.support.paths import ANSIBLE, PROJECT

ansible.module_utils.__path__.append(str(ANSIBLE / "plugins" / "module_utils"))
_spec = importlib.util.spec_from_file_location("artefact", ANSIBLE / "plugins" / "modules" / "artefact.py")
assert _spec
assert _spec.loader
artefact = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(artefact)
PackingError = artefact.PackingError
telling = importlib.import_module("ansible.module_utils.packing.programs").telling

HOST = "/usr/bin/python3"


def git(*arguments: str, cwd: Path) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "protocol.file.allow=always"]
    return subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


def commit(checkout: Path, message: str = "more") -> None:
    git("add", ".", cwd=checkout)
    git("commit", "--quiet", "--allow-empty", f"--message={message}", cwd=checkout)


@pytest.fixture(scope="module")
def index() -> Iterator[packages.Index]:
    """An index with a framework that needs a driver, in two versions, and what has no wheel."""
    with packages.index() as served:
        for version in ("1.0", "2.0"):
            served.add(packages.wheel("framework", version, "driver>=1", "clocks; python_version < '3.0'"))
            served.add(packages.wheel("driver", version))
        served.add(packages.wheel("server", "3.0", "driver<2"))
        served.add(packages.wheel("modern", "1.0", tag="cp39-cp39-manylinux_2_17_x86_64"))
        yield served


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with one commit: app/manage.py and a requirements file without hashes."""
    checkout = tmp_path / "project"
    (checkout / "app").mkdir(parents=True)
    (checkout / "app" / "manage.py").write_text("print('one')\n")
    (checkout / "requirements.txt").write_text("framework\n")
    (checkout / ".gitignore").write_text("*.log\n")
    git("init", "--quiet", cwd=checkout)
    commit(checkout, "one")
    return checkout


@pytest.fixture
def options(project: Path, index: packages.Index, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the module is asked for."""
    # An index that is away stays away.
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("PIP_RETRIES", "0")
    defaults = {name: argument.get("default") for name, argument in artefact.ARGUMENTS.items()}
    return defaults | {
        "source": str(project),
        "root": "app",
        "index_url": index.url,
        "installer": str(PROJECT),
        "pythons": ["3.11.2"],
        "distribution": "Debian 12",
        "dest": str(project.parent / "artefacts"),
    }


@pytest.fixture
def planned(options: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """What would be built, without building it."""
    return lambda **changes: artefact.build(options | changes, check_mode=True)


@pytest.fixture
def installed(options: dict[str, Any]) -> Callable[..., list[str]]:
    """The packages that a host would install, as name==version."""

    def names(**changes: Any) -> list[str]:
        with artefact.tempfile.TemporaryDirectory() as work:
            build = artefact.Build(options | changes, Path(work), keep=True)
            build.plan()
            [selection] = build.selections.values()
            return [f"{package.name}=={package.version}" for package, _ in selection]

    return names


# ---- the id


def test_the_same_content_is_the_same_artefact_whatever_its_commit(project: Path, planned: Callable) -> None:
    before = planned()["id"]
    git("commit", "--quiet", "--allow-empty", "--message=two", cwd=project)

    assert planned()["id"] == before


def test_whatever_goes_into_an_artefact_makes_another_one(project: Path, planned: Callable) -> None:
    identities = [planned()["id"]]
    (project / "app" / "manage.py").write_text("print('two')\n")
    identities.append(planned()["id"])
    (project / "app" / "new.py").write_text("")
    git("add", ".", cwd=project)
    identities.append(planned()["id"])
    (project / "requirements.txt").write_text("framework<2\n")
    identities.append(planned()["id"])
    identities += [planned(extra=["server"])["id"], planned(build_commands=["true"])["id"]]
    # The ledger brings what the project may have, and makes another release of it all the same.
    identities += [planned(needs=[{"add": "driver"}])["id"]]
    # What is done with it once, on the hosts, would not be done with one that is there already.
    identities += [planned(installs=[["libpq5"], "static"])["id"]]

    assert len(set(identities)) == 8


def test_what_git_does_not_track_does_not_ship_and_is_said_unless_git_ignores_it(
    project: Path, planned: Callable
) -> None:
    before = planned()["id"]
    (project / "app" / "debug.log").write_text("noise")
    (project / "app" / "secrets.env").write_text("KEY=1")
    (project / ".venv").mkdir()
    (project / ".venv" / ".gitignore").write_text("*\n")

    after = planned()

    assert after["id"] == before
    assert "app/secrets.env" in " ".join(after["notes"])
    assert ".venv" not in " ".join(after["notes"]), "it ignores itself, as uv makes it"
    assert "debug.log" not in " ".join(after["notes"])


def test_an_inventory_within_the_checkout_does_not_ship(project: Path, shipped: Callable, planned: Callable) -> None:
    before = planned(root=".")["id"]
    (project / "deploy").mkdir()
    (project / "deploy" / "vault.yml").write_text("$ANSIBLE_VAULT")
    assert planned(root=".", without=[str(project / "deploy")])["notes"] == planned(ref="HEAD")["notes"]
    commit(project)

    for ref in ("", "HEAD"):
        assert planned(root=".", without=[str(project / "deploy")], ref=ref)["id"] == before
        assert "deploy/vault.yml" not in shipped(root=".", without=[str(project / "deploy")], ref=ref)
    assert "manage.py" in shipped(without=[str(project)]), "an inventory at the top of the checkout leaves the rest"


def test_a_ref_ships_the_commit_and_not_the_working_tree(project: Path, planned: Callable) -> None:
    committed = planned()["id"]
    (project / "app" / "manage.py").write_text("print('half done')\n")

    assert planned(ref="HEAD")["id"] == committed


def test_drumlines_own_package_is_part_of_the_artefact(planned: Callable, tmp_path: Path) -> None:
    beside = packages.source(tmp_path / "installer" / "drumline", "drumline")
    without = planned()["id"]
    needed = {"needs": [{"add": "drumline"}], "installer": str(tmp_path / "installer")}
    with_it = planned(**needed)["id"]
    (beside / "module.py").write_text("changed = True\n")

    assert len({without, with_it, planned(**needed)["id"]}) == 3


# ---- dependencies


def hashed(index: packages.Index, name: str, version: str) -> str:
    content = index.files[name][f"{name}-{version}-py3-none-any.whl"]
    return f"sha256:{packages.hashlib.sha256(content).hexdigest()}"


def poetry_lock(index: packages.Index, *, groups: bool) -> str:
    entries = []
    for name, group, needs in (
        ("framework", "main", '[package.dependencies]\ndriver = ">=1"\nlinter = {version = "*", optional = true}\n'),
        ("driver", "main", ""),
        ("linter", "dev", ""),
    ):
        digest = hashed(index, name, "1.0") if name != "linter" else "sha256:00"
        entries.append(
            f'[[package]]\nname = "{name}"\nversion = "1.0"\npython-versions = ">=3.8"\n'
            f'files = [{{file = "{name}-1.0-py3-none-any.whl", hash = "{digest}"}}]\n'
            + (f'groups = ["{group}"]\n' if groups else "")
            + needs
        )
    return "\n".join([*entries, '[metadata]\nlock-version = "2.1"\n'])


POETRY = """\
[tool.poetry.dependencies]
python = "^3.11"
framework = "^1.0"
[tool.poetry.group.dev.dependencies]
linter = "*"
"""


def formats(index: packages.Index) -> dict[str, dict[str, str]]:
    """The same two packages in every format: the files of a checkout, by their names."""
    framework, driver = hashed(index, "framework", "1.0"), hashed(index, "driver", "1.0")
    locked = {"framework": framework, "driver": driver}
    pylock = "\n".join(
        f'[[packages]]\nname = "{name}"\nversion = "1.0"\nwheels = [{{url = "{index.url}{name}-1.0-py3-none-any.whl", '
        f'name = "{name}-1.0-py3-none-any.whl", hashes = {{sha256 = "{digest.partition(":")[2]}"}}}}]\n'
        for name, digest in locked.items()
    )
    pipfile = {
        "_meta": {"sources": [{"name": "pypi", "url": index.url, "verify_ssl": True}]},
        "default": {name: {"version": "==1.0", "hashes": [digest]} for name, digest in locked.items()},
        "develop": {"linter": {"version": "==1.0"}},
    }
    return {
        "requirements with hashes": {
            "requirements.txt": f"framework==1.0 \\\n    --hash={framework}  # why\ndriver==1.0 --hash={driver}\n"
        },
        "requirements without": {
            "requirements.txt": "# pins\nframework==1.0  # the old one\ndriver<2 ; python_version > '3'\n"
        },
        "requirements that include others": {
            "requirements/production.txt": f"--extra-index-url {index.url}\n-r base.txt  # both\n",
            "requirements/base.txt": "framework<2\n-c pins.txt\n",
            "requirements/pins.txt": "driver<2\n",
        },
        "poetry 2": {"poetry.lock": poetry_lock(index, groups=True), "pyproject.toml": POETRY},
        "poetry 1": {"poetry.lock": poetry_lock(index, groups=False), "pyproject.toml": POETRY},
        "pipenv": {"Pipfile.lock": json.dumps(pipfile)},
        "pylock": {"pylock.toml": f'lock-version = "1.0"\ncreated-by = "t"\n{pylock}'},
        "a project file": {
            "pyproject.toml": "[project]\nname = 'site'\nversion = '1'\ndependencies = ['framework<2', 'driver<2']\n"
        },
    }


@pytest.mark.parametrize(
    "name",
    [
        *[
            "requirements with hashes",
            "requirements without",
            "requirements that include others",
            "poetry 2",
            "poetry 1",
        ],
        *["pipenv", "pylock", "a project file"],
    ],
)
def test_dependencies_are_read_from_every_usual_format(
    name: str, project: Path, index: packages.Index, installed: Callable
) -> None:
    (project / "requirements.txt").unlink()
    for path, content in formats(index)[name].items():
        (project / path).parent.mkdir(exist_ok=True)
        (project / path).write_text(content)
    commit(project)

    assert installed() == ["driver==1.0", "framework==1.0"]


def test_uv_lock_is_read_with_the_groups_that_are_asked_for(
    project: Path, index: packages.Index, installed: Callable
) -> None:
    (project / "pyproject.toml").write_text(
        "[project]\nname = 'site'\nversion = '1'\nrequires-python = '>=3.11'\ndependencies = ['framework<2']\n"
        "[project.optional-dependencies]\nproduction = ['server']\n[dependency-groups]\nmore = ['driver']\n"
    )
    subprocess.run(
        [artefact._UV, "lock", "--quiet", f"--default-index={index.url}"], cwd=project, check=True, capture_output=True
    )
    commit(project)

    assert installed() == ["driver==1.0", "framework==1.0"]
    assert installed(with_groups=["production"]) == ["driver==1.0", "framework==1.0", "server==3.0"]


def test_what_is_not_locked_is_locked_once_and_said(
    index: packages.Index, options: dict[str, Any], installed: Callable, planned: Callable
) -> None:
    assert installed() == ["driver==2.0", "framework==2.0"]
    before = planned()["id"]

    index.add(packages.wheel("framework", "3.0"))
    try:
        again = planned()
        assert again["id"] == before, "a release on the index must not change what the same commit is"
        assert "requirements.txt is not locked" in again["notes"][0]
        [kept] = Path(options["dest"], "locks").glob("*.pylock.toml")
        assert str(kept) in again["notes"][0]
        kept.unlink()
        assert installed() == ["framework==3.0"]
    finally:
        del index.files["framework"]["framework-3.0-py3-none-any.whl"]


def test_a_lock_that_is_kept_is_made_anew_for_an_older_patch_level_of_python(
    options: dict[str, Any], installed: Callable, planned: Callable
) -> None:
    installed(pythons=["3.11.10"])
    [kept] = Path(options["dest"], "locks").glob("*.pylock.toml")
    assert 'requires-python = ">=3.11.10"' in kept.read_text()

    assert installed(pythons=["3.11.2"]) == ["driver==2.0", "framework==2.0"]
    assert 'requires-python = ">=3.11.2"' in kept.read_text()
    assert planned(pythons=["3.11.10", "3.11.2"])["path"].endswith("-3.11.2-3.11.10-x86_64.tar")
    assert 'requires-python = ">=3.11.2"' in kept.read_text()


def test_what_the_project_does_not_list_fits_the_versions_that_it_locks(
    project: Path, index: packages.Index, installed: Callable
) -> None:
    files = formats(index)["requirements with hashes"]
    (project / "requirements.txt").write_text(files["requirements.txt"])

    assert installed(extra=["server"]) == ["driver==1.0", "framework==1.0", "server==3.0"]


@pytest.mark.parametrize("form", ["requirements", "requirements with hashes"])
def test_what_the_hosts_need_is_added_where_the_project_has_nothing_in_its_place(
    project: Path, index: packages.Index, installed: Callable, form: str
) -> None:
    (project / "requirements.txt").write_text(
        formats(index)["requirements with hashes"]["requirements.txt"]
        if "hashes" in form
        else "framework==1.0\ndriver==1.0\n"
    )
    base = ["driver==1.0", "framework==1.0"]

    assert installed(needs=[{"add": "framework"}, {"add": "modern", "unless": ["other", "driver"]}]) == base
    assert installed(needs=[{"add": "server"}]) == [*base, "server==3.0"]
    assert installed(needs=[{"add": "server", "unless": ["modern"]}]) == [*base, "server==3.0"]
    assert installed(needs=[{"add": "server>3"}], extra=["server"]) == [*base, "server==3.0"], "the user's word counts"


def test_what_the_hosts_need_and_does_not_fit_is_said_with_what_to_type(
    project: Path, index: packages.Index, planned: Callable
) -> None:
    (project / "requirements.txt").write_text(formats(index)["requirements with hashes"]["requirements.txt"])

    with pytest.raises(
        PackingError, match=r"(?s)dependencies of server>3 cannot.*name the package in app_dependencies_extra"
    ) as said:
        planned(needs=[{"add": "server>3"}])
    assert "The hosts need server>3." in str(said.value)


def test_markers_are_decided_for_the_python_of_the_host(project: Path, installed: Callable) -> None:
    (project / "requirements.txt").write_text("driver ; python_version < '3.12'\nserver ; python_version >= '3.12'\n")

    assert installed(pythons=["3.11.2"]) == ["driver==2.0"]
    assert installed(pythons=["3.13.5"]) == ["driver==1.0", "server==3.0"]


def test_a_login_of_an_index_is_in_no_argument_and_no_message(
    project: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    run = subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda command, **how: started.append([str(word) for word in command]) or run(command, **how)
    )
    with packages.index(login="me:hidden") as private:
        private.add(packages.wheel("ours", "1.0"))
        host = private.url.split("/")[2].partition(":")[0]
        (project / "requirements.txt").write_text("ours\n")
        ways = [
            {"index_url": private.url, "index_logins": {host: {"user": "me", "password": "hidden"}}},
            {"index_url": private.url.replace("//", "//me:hidden@")},
        ]
        for way in ways:
            built = artefact.build(options | way, check_mode=True)
            assert "hidden" not in json.dumps(built)
        (project / "requirements.txt").write_text(
            f"--extra-index-url {private.url.replace('//', '//me:hidden@')}\nours\nabsent\n"
        )
        with pytest.raises(PackingError) as told:
            artefact.build(options | {"index_url": private.url.replace("//", "//me:hidden@")}, check_mode=True)

    assert "absent" in str(told.value)
    assert "hidden" not in str(told.value)
    assert len(started) > 5
    assert not [command for command in started if "hidden" in " ".join(command)]


# ---- the source


@pytest.fixture
def shipped(options: dict[str, Any]) -> Callable[..., dict[str, str]]:
    """The source that ships: the content of each file, and the target of each link after an arrow."""

    def files(**changes: Any) -> dict[str, str]:
        with artefact.tempfile.TemporaryDirectory() as work:
            build = artefact.Build(options | changes, Path(work), keep=True)
            build.plan()
            dependencies = Path(work, "dependencies")
            if "build_commands" in changes:
                build.add_dependencies(dependencies)
            build.add_source(Path(work, "release"), dependencies)
            source = Path(work, "release", "source")
            return {
                str(path.relative_to(source)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
                for path in source.rglob("*")
                if path.is_symlink() or path.is_file()
            }

    return files


def test_links_ship_as_links_within_the_folder_and_as_what_they_point_to_beyond_it(
    project: Path, shipped: Callable
) -> None:
    (project / "shared" / "deep").mkdir(parents=True)
    (project / "shared" / "deep" / "one.txt").write_text("1")
    (project / "app" / "templates").mkdir()
    (project / "app" / "templates" / "a.html").write_text("a")
    for link, target in (("alias", "templates"), ("common", "../shared"), ("media", "/srv/media")):
        (project / "app" / link).symlink_to(target)
    commit(project)

    for ref in ("", "HEAD"):
        assert shipped(ref=ref) == {
            "alias": "-> templates",
            "common/deep/one.txt": "1",
            "manage.py": "print('one')\n",
            "media": "-> /srv/media",
            "templates/a.html": "a",
        }


def test_submodules_ship_at_the_commit_that_the_project_names(
    project: Path, tmp_path: Path, shipped: Callable, planned: Callable
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    git("init", "--quiet", cwd=library)
    (library / "code.py").write_text("1")
    commit(library)
    git("submodule", "--quiet", "add", str(library), "app/library", cwd=project)
    commit(project, "with a submodule")
    first = git("rev-parse", "HEAD", cwd=project).strip()
    (library / "code.py").write_text("2")
    commit(library)
    git("-C", "app/library", "pull", "--quiet", cwd=project)
    commit(project, "newer")

    assert shipped()["library/code.py"] == "2"
    assert shipped(ref=first)["library/code.py"] == "1"

    git("submodule", "deinit", "--quiet", "--force", "--all", cwd=project)
    with pytest.raises(
        PackingError, match=r"submodule app/library .* is not checked out. Type: git -C .* submodule update"
    ):
        planned()
    assert shipped(ref="HEAD")["library/code.py"] == "2", "git still has the commit"


def test_build_commands_run_in_a_copy_with_the_dependencies_and_what_they_make_ships(
    project: Path, shipped: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever deploys has exported it for another project.
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "other.settings")
    (project / ".gitignore").write_text("dist/\nnode_modules/\n")
    commit(project)

    found = shipped(
        build_commands=[
            "mkdir -p dist node_modules && touch node_modules/big",
            'python -c "import framework; print(framework.VERSION)" > dist/version && echo $MODE > dist/mode',
            "! env | grep DJANGO_SETTINGS_MODULE",
        ],
        build_environment={"MODE": "production"},
    )

    assert found == {"manage.py": "print('one')\n", "dist/version": "2.0\n", "dist/mode": "production\n"}
    assert not (project / "app" / "dist").exists(), "the checkout stays as it was"


# ---- what is installed


def installed_on_a_host(
    built: dict[str, Any], release: Path, *, alone: bool = False, programs: str = "/usr/bin"
) -> Path:
    """Install an artefact without network; alone: without its dependencies; with programs that stand before the host's own."""
    unpacked = release.parent.parent / f"unpacked-{release.name}"
    for path in [built["path"]] if alone else [built["path"], built["dependencies"]["path"]]:
        with tarfile.open(path) as tar:
            tar.extractall(unpacked, filter="tar")
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }
    subprocess.run([unpacked / "install", release], check=True, env=environment)
    assert (release / ".venv" / "installed").read_text().strip() == built["dependencies"]["id"]
    return release


def test_an_install_gives_way_to_what_runs_on_the_host(tmp_path: Path, options: dict[str, Any]) -> None:
    """It keeps all processors busy for seconds, and a visitor would wait for tenths of one."""
    told = tmp_path / "told"
    for name in ("nice", "systemd-run"):
        program = tmp_path / "programs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            f'#!/bin/sh\necho "$0 $*" >>{told}\nwhile [ "${{1#/}}" = "$1" ]; do shift; done\nexec "$@"\n'
        )
        program.chmod(0o755)

    built = artefact.build(options | {"pythons": [python_of_the_host()]}, check_mode=False)
    installed_on_a_host(built, tmp_path / "releases" / "one", programs=str(tmp_path / "programs"))

    installing, compiling = told.read_text().splitlines()
    assert "pip install" in installing
    assert "compileall" in compiling
    assert all("-n 19" in line or "CPUWeight=10" in line for line in (installing, compiling))


def python_of_the_host() -> str:
    asked = "import platform; print(platform.python_version())"
    return subprocess.run([HOST, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()


def said_by(release: Path) -> str:
    """What the release's Python says of its packages."""
    program = (
        "import framework, driver, onlysource, fromgit, lib; print(framework.VERSION, fromgit.VERSION, lib.VERSION)"
    )
    python = release / ".venv" / "bin" / "python"
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout


def test_a_host_installs_offline_what_was_downloaded_and_what_had_to_be_built(
    project: Path, tmp_path: Path, index: packages.Index, options: dict[str, Any]
) -> None:
    index.add(packages.sdist(packages.source(tmp_path / "onlysource", "onlysource"), "onlysource", "1.0"))
    repository = packages.source(tmp_path / "fromgit", "fromgit", "4.0")
    git("init", "--quiet", cwd=repository)
    commit(repository)
    packages.source(project / "lib", "lib")
    (project / "requirements.txt").write_text(f"framework\nonlysource\nfromgit @ git+{repository.as_uri()}\n-e ./lib\n")
    # A template of code, as startproject has it.
    (project / "app" / "template.py").write_text("from {{ project_name }} import celery\n")
    commit(project)

    options |= {"pythons": [python_of_the_host()]}
    built = artefact.build(options, check_mode=False)
    assert said_by(installed_on_a_host(built, tmp_path / "releases" / "one")) == "2.0 4.0 1.0\n"
    assert artefact.build(options, check_mode=False)["changed"] is False

    (project / "app" / "manage.py").write_text("print('two')\n")
    commit(project)
    other = artefact.build(options, check_mode=False)
    assert other["id"] != built["id"]
    assert other["dependencies"] == built["dependencies"], "the source alone is another one"
    second = installed_on_a_host(other, tmp_path / "releases" / "two", alone=True)
    shutil.rmtree(tmp_path / "releases" / "one")
    assert said_by(second) == "2.0 4.0 1.0\n", "the dependencies of a release beside it serve, and outlive that one"
    assert (second / "manage.py").read_text() == "print('two')\n"
    left = subprocess.run(["grep", "-rlI", "releases/one", second], capture_output=True, text=True, check=False).stdout
    assert left == "", "nothing names the folder of the other release"


def test_a_release_ships_the_python_that_the_project_asks_for(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What uv downloads is here the host's own, packed as a mirror has it."""
    said = subprocess.run(
        [HOST, "-c", "import sys; print(*sys.version_info[:3])"], capture_output=True, text=True, check=True
    )
    major, minor, patch = map(int, said.stdout.split())
    with tarfile.open(tmp_path / "python.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.add(Path(HOST).resolve(), arcname=f"python/bin/python3.{minor}")
        link = tarfile.TarInfo("python/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, f"python3.{minor}"
        tar.addfile(link)
        # uv adjusts this file; the library itself stays the host's.
        told = b"# system configuration generated and used by the sysconfig module\nbuild_time_vars = {}\n"
        settings = tarfile.TarInfo(f"python/lib/python3.{minor}/_sysconfigdata__linux_x86_64-linux-gnu.py")
        settings.size = len(told)
        tar.addfile(settings, io.BytesIO(told))
    content = (tmp_path / "python.tar.gz").read_bytes()
    known = {
        f"cpython-{major}.{minor}.{patch}-linux-x86_64-gnu": {
            "name": "cpython",
            "arch": {"family": "x86_64", "variant": None},
            "os": "linux",
            "libc": "gnu",
            "major": major,
            "minor": minor,
            "patch": patch,
            "prerelease": "",
            "variant": None,
            "build": "20260101",
            "url": (tmp_path / "python.tar.gz").as_uri(),
            "sha256": packages.hashlib.sha256(content).hexdigest(),
        }
    }
    (tmp_path / "downloads.json").write_text(json.dumps(known))
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS_JSON_URL", str(tmp_path / "downloads.json"))

    built = artefact.build(options | {"pythons": ["3.9.1"], "python": f"3.{minor}"}, check_mode=False)
    first = installed_on_a_host(built, tmp_path / "releases" / "one")
    assert (first / ".venv" / "bin" / "python").readlink().is_relative_to(first / ".python")

    other = artefact.build(options | {"root": "", "pythons": ["3.9.1"], "python": f"3.{minor}"}, check_mode=False)
    second = installed_on_a_host(other, tmp_path / "releases" / "two", alone=True)
    assert (second / ".venv" / "bin" / "python").readlink().is_relative_to(second / ".python"), "it has its own Python"
    assert f"home = {second}/.python/bin" in (second / ".venv" / "pyvenv.cfg").read_text()
    assert artefact.build(options | {"python": f"3.{minor}"}, check_mode=True)["changed"] is False


# ---- wrong inputs

WRITTEN = {
    "a broken uv.lock": {"uv.lock": "version = "},
    "a broken pylock.toml": {"pylock.toml": "lock-version = "},
    "a broken Pipfile.lock": {"Pipfile.lock": "{"},
    "a line that is none": {"requirements.txt": "framework\n=> 1.0\n"},
    "a missing include": {"requirements.txt": "-r base.txt\n"},
    "a missing folder": {"requirements.txt": "-e ./absent\n"},
    "a folder elsewhere": {"requirements.txt": f"-e {PROJECT}/app\n"},
    "an unknown package": {"requirements.txt": "absent\n"},
    "versions that exclude each other": {"requirements.txt": "server\ndriver>=2\n"},
    "another file than was locked": {"requirements.txt": f"driver==1.0 --hash=sha256:{'0' * 64}\n"},
    "no wheel for the hosts": {"requirements.txt": "modern\n"},
    "a large file's pointer": {
        ".gitattributes": "*.bin filter=lfs\n",
        "app/model.bin": f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n",
    },
}
# What is wrong, the options that say so or the files that do, and what the operator is told.
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("no such source", {"source": "/nowhere"}, "app_source is /nowhere, but the controller has no such folder"),
    (
        "no such commit",
        {"ref": "nope"},
        "app_ref is nope, but .* has no such commit, tag or branch. If it is new: git -C",
    ),
    ("no such root", {"root": "src"}, "app_root is src, but .* has no such folder. Set it to the folder that contains"),
    ("a root elsewhere", {"root": "../.."}, r"app_root is ../.., but .* has no such folder"),
    ("no such file", {"dependencies": "uv.lock"}, "app_dependencies is uv.lock, but .* has no such file. Name one of"),
    (
        "no dependencies",
        {"dependencies": "none"},
        "has no file of dependencies .* list the packages in app_dependencies_extra",
    ),
    ("a group of nothing", {"with_groups": ["dev"]}, "app_dependencies_groups needs a lock file or a pyproject.toml"),
    ("no requirement", {"extra": ["gunicorn >"]}, "app_dependencies_extra has 'gunicorn >', which is no requirement"),
    ("an index that is none", {"index_url": "pypi"}, "app_index_url has pypi, which is no URL. Write https://"),
    (
        "an index that is away",
        {"index_url": "http://127.0.0.1:9/"},
        "requirements.txt cannot be resolved .*127.0.0.1:9",
    ),
    (
        "a login for a URL",
        {"index_logins": {"http://a": {}}},
        "vault_index_logins has http://a. Write the host's name alone",
    ),
    ("a Python that is none", {"python": "three"}, "app_python is three. Write a version"),
    ("a Python that nobody has", {"python": "3.99"}, "app_python is 3.99, and uv knows no such Python for x86_64"),
    ("a broken uv.lock", {}, "uv cannot read .*uv.lock: .*"),
    ("a broken pylock.toml", {}, "pylock.toml is not a valid lock"),
    ("a broken Pipfile.lock", {}, "Pipfile.lock is not valid JSON: .* Type: pipenv lock"),
    ("a line that is none", {}, "requirements.txt, line 2 cannot be read: => 1.0"),
    ("a missing include", {}, "requirements.txt, line 1 includes base.txt, but .*base.txt does not exist"),
    (
        "a missing folder",
        {},
        "requirements.txt, line 1 names ./absent, but .* does not exist. Such a path is relative to",
    ),
    ("a folder elsewhere", {}, "which is outside of the checkout .* Move it into the checkout"),
    ("an unknown package", {}, "requirements.txt cannot be resolved .*absent was not found"),
    ("versions that exclude each other", {}, "requirements.txt cannot be resolved .*server.*driver"),
    ("another file than was locked", {}, "No file of driver 1.0 .* has a hash that requirements.txt allows"),
    ("no wheel for the hosts", {}, "cannot be resolved for Python 3.11.*modern.*no wheels with a matching"),
    (
        "a large file's pointer",
        {},
        "app/model.bin is kept in Git LFS, and only its pointer is here. Type: sudo apt-get",
    ),
]


@pytest.mark.parametrize(("name", "changes", "told"), WRONG, ids=[case[0] for case in WRONG])
def test_what_cannot_be_built_is_said_before_anything_is_written(
    name: str, changes: dict[str, Any], told: str, project: Path, options: dict[str, Any]
) -> None:
    for path, content in WRITTEN.get(name, {}).items():
        (project / path).write_text(content)
    commit(project)

    with pytest.raises(PackingError) as error:
        artefact.build(options | changes, check_mode=False)

    said = " ".join(str(error.value).split())
    assert re.search(told, said), said
    assert not list(Path(options["dest"]).glob("*.tar*"))


# A package's build, what it prints or makes, and what the operator is told.
BUILDS = [
    (
        "raise SystemExit('Error: pg_config executable not found.')",
        "py3-none-any",
        "apt-get install libpq-dev .*app_build_packages: ",
    ),
    (
        "pass",
        "cp311-cp311-linux_x86_64",
        r"is compiled from source, but the controller .* is not like the hosts \(Debian 99",
    ),
]


@pytest.mark.parametrize("case", BUILDS, ids=["a library is missing", "another system"])
def test_a_package_that_cannot_be_built_for_the_hosts_is_named_with_the_reason_and_what_to_type(
    case: tuple[str, str, str], project: Path, tmp_path: Path, index: packages.Index, options: dict[str, Any]
) -> None:
    before, tag, told = case
    source = packages.source(tmp_path / "compiled", "compiled", before=before, tag=tag)
    index.add(packages.sdist(source, "compiled", "1.0"))
    (project / "requirements.txt").write_text("compiled\n")

    with pytest.raises(PackingError) as error:
        artefact.build(options | {"distribution": "Debian 99"}, check_mode=False)

    said = " ".join(str(error.value).split())
    assert "compiled" in said
    assert re.search(told, said), said
    del index.files["compiled"]


def test_a_build_command_that_fails_and_a_missing_debian_package_are_said(options: dict[str, Any]) -> None:
    with pytest.raises(PackingError, match=r"build command failed: npm-absent ci[\s\S]*not found"):
        artefact.build(options | {"build_commands": ["npm-absent ci"]}, check_mode=False)
    with pytest.raises(
        PackingError, match=r"lacks absent-dev \(app_build_packages\). Type: sudo apt-get install absent-dev"
    ):
        artefact.build(options | {"build_packages": ["absent-dev"], "extra": ["server"]}, check_mode=False)


def test_of_a_long_output_the_lines_that_name_the_cause_are_shown() -> None:
    noise = [f"copying file {number}" for number in range(50)]
    output = "\n".join(
        [*noise, "src/a.c:3:10: fatal error: libpq-fe.h: No such file or directory", *noise, "note: see above"]
    )

    assert telling(output) == "src/a.c:3:10: fatal error: libpq-fe.h: No such file or directory"

"""A user's mistake is answered by what is wrong, where, and what to type; never by a traceback, never after a change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from drumline_cli.errors import Exit
from tests.command.conftest import Drumline, commit, write


def remove(name: str) -> Callable[[Path], None]:
    return lambda checkout: (checkout / name).unlink()


def text(name: str, content: str) -> Callable[[Path], None]:
    return lambda checkout: write(checkout, {name: content})


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(checkout: Path) -> None:
        before = (checkout / name).read_text()
        assert old in before
        (checkout / name).write_text(before.replace(old, new))

    return change


def nothing(_: Path) -> None:
    pass


def two_projects(checkout: Path) -> None:
    for name in ("one", "two"):
        write(checkout, {f"{name}/manage.py": ""})
    (checkout / "manage.py").unlink()


def no_django(checkout: Path) -> None:
    for name in ("manage.py", "proj/settings.py"):
        (checkout / name).unlink()


def without_git(checkout: Path) -> None:
    (checkout / ".git").rename(checkout / "no-git")


def two_settings(checkout: Path) -> None:
    (checkout / "manage.py").unlink()
    for name in ("one", "two"):
        write(checkout, {f"{name}/site/__init__.py": "", f"{name}/site/settings.py": "ROOT_URLCONF = 'site.urls'\n"})
    (checkout / "proj/settings.py").unlink()


CONTRACT = "deploy/group_vars/project/contract.yml"
PASSWORD = "deploy/.vault-password"

# What is wrong, the call, and what the answer says: what, where, what to type.
OF_A_CHECKOUT = {
    "no Django": (no_django, ["init", "--yes"], 3, "No manage.py and no settings", "--project FOLDER"),
    "two projects": (two_projects, ["init", "--yes"], 3, "2 Django projects here: one/manage.py, two/manage.py", "--root one"),
    "two settings": (two_settings, ["init", "--yes"], 3, "2 Django projects here: one/site/settings.py", "--root one"),
    "wrong root": (nothing, ["init", "--yes", "--root", "proj"], 3, "proj holds no manage.py", "--root FOLDER"),
    "no Celery": (remove("proj/celery.py"), ["init", "--yes"], 3, "No Celery application", "--celery shop.celery:app"),
    "wrong Celery module": (nothing, ["init", "--yes", "--celery", "proj.cel:app"], 3, "no such module", "--celery proj.celery:app"),
    "wrong Celery variable": (nothing, ["init", "--yes", "--celery", "proj.celery:cel"], 3, "has no cel", "--celery proj.celery:app"),
    "Celery without colon": (nothing, ["init", "--yes", "--celery", "proj.celery"], 3, "module:variable", "--celery shop.celery:app"),
    "wrong settings": (nothing, ["init", "--yes", "--settings", "proj.prod"], 3, "proj.prod does not exist", "--settings proj.settings"),
    "no settings": (
        lambda checkout: [remove(name)(checkout) for name in ("proj/settings.py",)],
        ["init", "--yes"], 3, "No settings module", "--settings shop.settings",
    ),
    "settings that nobody has": (
        no_django, ["init", "--yes", "--settings", "tickets.settings"], 3, "tickets.settings is neither in this checkout nor",
        "uv pip install -r requirements.txt",
    ),
    "settings with a slip": (text("proj/settings.py", "DEBUG = (\n"), ["init", "--yes"], 3, "line 1: '(' was never closed", "run drumline init again"),
    "no lock": (remove("requirements.txt"), ["init", "--yes"], 3, "No file of dependencies", "uv lock"),
    "no git": (without_git, ["init", "--yes"], 3, "not a git checkout", "git init"),
    "a host with a slash": (nothing, ["init", "--yes", "--host", "https://app1/"], 2, "--host 'https://app1/'", "--host app1.example.com"),
    "an address without @": (nothing, ["init", "--yes", "--admin-email", "ada"], 2, "not an e-mail address", "--admin-email ada@example.com"),
    "questions without a terminal": (nothing, ["init"], 2, "not a terminal", "drumline init --yes"),
    "no deploy/": (nothing, ["deploy"], 3, "no deploy/ yet", "drumline init"),
    "no such folder": (nothing, ["setup", "-C", "missing"], 3, "no such folder", "--project FOLDER"),
    "a folder that is a file": (nothing, ["setup", "-C", "manage.py"], 3, "no such folder", "--project FOLDER"),
    "misspelt verb": (nothing, ["depoly"], 2, "no verb depoly", "drumline deploy"),
    "misspelt option": (nothing, ["deploy", "--chek"], 2, "No such option", "drumline deploy --help"),
    "misspelt second verb": (nothing, ["secrets", "rotat"], 2, "no verb rotat", "drumline secrets rotate"),
    "unknown shell": (nothing, ["completion", "csh"], 2, "'csh'", "drumline completion --help"),
}  # fmt: skip

OF_A_DEPLOYMENT = {
    "unknown commit": (nothing, ["deploy", "v1.0"], 3, "no commit, tag or branch v1.0", "fetch --tags"),
    "misspelt branch": (nothing, ["deploy", "mian"], 3, "no commit, tag or branch mian", "drumline deploy main"),
    "a commit that is an option": (nothing, ["deploy", "--", "--upload-pack=x"], 3, "no commit, tag or branch", "fetch --tags"),
    "unknown inventory": (nothing, ["setup", "-i", "prodution"], 3, "no inventory prodution", "--inventory production"),
    "no such file of hosts": (nothing, ["setup", "-i", "hosts.yml"], 3, "no such inventory", "--inventory FILE"),
    "open quotation": (nothing, ["setup", "--args", "--limit 'a"], 2, "--args cannot be read", "Close the quotation"),
    "unreadable password": (
        lambda checkout: (checkout / PASSWORD).chmod(0o644), ["setup"], 3, "Others may read", "chmod 600 deploy/.vault-password",
    ),
    "wrong password": (text(PASSWORD, "wrong\n"), ["config"], 3, "vault cannot be opened", ".vault-password"),
    "YAML with a slip": (text(CONTRACT, "app_name: {{ x }}\n"), ["config"], 3, "contract.yml:1:", "must be quoted"),
    "a list for variables": (text(CONTRACT, "- app_name\n"), ["config"], 3, "names with values", "Correct the file"),
    "no host": (text("deploy/production.yml", "project:\n"), ["status"], 3, "names no host", "web: {hosts:"),
    "unknown variable": (nothing, ["config", "app_quues"], 2, "no variable app_quues", "drumline config app_queues"),
    "unknown host": (nothing, ["config", "--host", "app9"], 2, "no host app9", "--host 127.0.0.1"),
    "unknown host to drain": (nothing, ["drain", "--host", "app9"], 2, "no host app9", "--host 127.0.0.1"),
    "unknown process": (nothing, ["logs", "wrker"], 2, "no process wrker", "drumline logs worker"),
    "unknown queue": (nothing, ["drain", "reprots"], 2, "no queue reprots", "drumline drain reports"),
    "a queue of a host": (nothing, ["drain", "late", "--host", "127.0.0.1"], 2, "--host takes the whole host", "drumline drain late "),
    "a commit that was never set": (nothing, ["deploy", ""], 2, "The value of REF is empty", "leave it out"),
    "a release that was never set": (nothing, ["rollback", ""], 2, "The value of RELEASE is empty", "leave it out"),
    "a host that was never set": (nothing, ["drain", "--host", ""], 2, "The value of --host is empty", "leave it out"),
    "a queue that was never set": (nothing, ["drain", ""], 2, "The value of QUEUE is empty", "leave it out"),
    "a reason that was never set": (nothing, ["lock", "--reason", ""], 2, "The value of --reason is empty", "leave it out"),
    "a reason to open": (nothing, ["lock", "--reason", "x", "--open"], 2, "--open opens", "Give one of them"),
    "a reason to release": (nothing, ["lock", "--reason", "x", "--release"], 2, "--release removes", "Give one of them"),
    "the administrator's password": (nothing, ["secrets", "rotate", "vault_admin_password"], 2, "never changes that of an account", "changepassword"),
    "somebody else's secret": (nothing, ["secrets", "rotate", "vault_email_password"], 2, "not a secret that Drumline generates", "drumline secrets"),
    "a secret without the vault's password": (remove(PASSWORD), ["secrets", "rotate", "--yes"], 3, "password is not on this machine", "chmod 600"),
    "no vault": (remove("deploy/group_vars/production/vault.yml"), ["secrets", "edit"], 3, "has no vault", "drumline init"),
    "a command that is missing": (nothing, ["manage"], 2, "Missing argument", "drumline manage --help"),
    "nothing listens": (
        edit("deploy/group_vars/production/main.yml", "ansible_user: admin", "ansible_user: admin\nansible_port: 1"),
        ["history"], 4, "nothing answers at its SSH port", "ansible_port",
    ),
    "a name that does not resolve": (
        edit("deploy/production.yml", "127.0.0.1", "app1.invalid"), ["history"], 4, "its name does not resolve", "ansible_host",
    ),
}  # fmt: skip


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts}


def judge(answer: object, before: dict[Path, bytes], checkout: Path, expected: tuple[int, str, str]) -> None:
    code, what, fix = expected
    err = answer.err  # type: ignore[attr-defined]
    assert err.startswith("error: "), err
    assert "Traceback" not in err
    assert what in err
    assert "fix: " in err
    assert fix in err.partition("fix: ")[2]
    assert answer.code == code  # type: ignore[attr-defined]
    assert contents(checkout) == before


@pytest.mark.parametrize("case", OF_A_CHECKOUT)
def test_a_mistake_about_a_checkout_is_explained(project: Path, drumline: Drumline, case: str):
    spoil, arguments, code, what, fix = OF_A_CHECKOUT[case]
    spoil(project)
    before = contents(project)
    judge(drumline(*arguments), before, project, (code, what, fix))


@pytest.mark.parametrize("case", OF_A_DEPLOYMENT)
def test_a_mistake_about_a_deployment_is_explained(deployable: Path, drumline: Drumline, case: str):
    spoil, arguments, code, what, fix = OF_A_DEPLOYMENT[case]
    spoil(deployable)
    before = contents(deployable)
    judge(drumline(*arguments), before, deployable, (code, what, fix))


@pytest.mark.usefixtures("project")
def test_colours_are_for_terminals_and_not_for_those_who_refuse_them(
    drumline: Drumline, monkeypatch: pytest.MonkeyPatch
):
    assert "\x1b" not in drumline("deploy").err
    monkeypatch.setenv("NO_COLOR", "1")
    answer = drumline("init", "--yes")
    assert "\x1b" not in answer.out + answer.err


def test_every_exit_code_is_documented(drumline: Drumline):
    text = drumline("--help").out
    for code in Exit:
        assert f"{code.value} " in text


def test_a_checkout_with_a_broken_file_is_still_described(project: Path, drumline: Drumline):
    write(project, {"demoapp/broken.py": "@task\ndef ("})
    commit(project)
    answer = drumline("init", "--yes")
    assert answer.code == 0
    assert "demoapp/broken.py" in answer.out

"""The first verbs: init and the local test host."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drumline_cli import bundle, playbook, project, scaffold
from drumline_cli.configuration import tracked_by_git
from drumline_cli.errors import Exit, Failure, color, shown
from drumline_cli.project import FOLDER, LOCAL, Project
from drumline_cli.survey import Choice, Note, Survey, Where, look
from drumline_cli.variables import Variables

if TYPE_CHECKING:
    from drumline_cli.project import Asked

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9a-fA-F:]+")
_USER = re.compile(r"[a-z_][a-z0-9_-]*")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_MOST_SHOWN = 6


def init(
    asked: Asked,
    *,
    yes: bool,
    applies: bool,
    root: str,
    settings: str,
    celery: str,
    hosts: tuple[str, ...],
    user: str,
    site_names: tuple[str, ...],
    admin_email: str,
    json_: bool,
) -> None:
    """Look at the project, ask, and write deploy/ or propose changes to it."""
    answers = scaffold.Answers(
        hosts=[_checked(host, _HOST, "--host", "a host's name or address") for host in hosts],
        user=_checked(user, _USER, "--user", "a user's name") if user else "",
        site_names=[_checked(name, _HOST, "--site-name", "a host's name or address") for name in site_names],
        admin_email=_checked(admin_email, _EMAIL, "--admin-email", "an e-mail address") if admin_email else "",
    )
    checkout = project.find_checkout(asked.folder)
    survey = look(checkout, root=root, settings=settings, celery=celery)
    if json_:
        click.echo(json.dumps(_as_data(survey), indent=2))
        return
    _report(survey)
    if project.inventories(checkout):
        _propose(asked, survey, yes=yes, applies=applies)
        return
    if not (checkout / ".git").exists():
        raise Failure(
            "This is not a git checkout. A deploy ships what git tracks, and git keeps the vault's password out of it.",
            where=checkout,
            fix="git init && git add . && git commit --message 'Begin.'",
        )
    _ask(survey, answers, yes=yes or asked.show)
    texts = scaffold.files(survey, answers)
    if asked.show:
        for name, text in texts.items():
            click.secho(f"\n==> {FOLDER}/{name}", bold=True, color=color())
            click.echo(text, nl=False)
        return
    written = scaffold.write_all(checkout, texts)
    password_file = checkout / FOLDER / project.PASSWORD_FILE
    if tracked_by_git(checkout, password_file):
        raise Failure(
            "git does not ignore the vault's password.",
            where=password_file,
            fix="Remove the line that includes it again from .gitignore, or move the file and set ANSIBLE_VAULT_PASSWORD_FILE.",
        )
    click.secho("\nWritten:", bold=True, color=color())
    for path in written:
        click.echo(f"  {path.relative_to(checkout)}")
    click.echo(
        f"\nKeep {FOLDER}/{project.PASSWORD_FILE} in a safe place: it opens the vault, and git does not keep it."
    )
    _next(answers)


def _checked(value: str, pattern: re.Pattern[str], option: str, what: str) -> str:
    if not pattern.fullmatch(value):
        raise Failure(f"{option} {value!r} is not {what}.", fix=f"{option} {_EXAMPLES[option]}", code=Exit.USAGE)
    return value


_EXAMPLES = {
    "--host": "app1.example.com",
    "--user": "admin",
    "--site-name": "www.example.com",
    "--admin-email": "ada@example.com",
}


def _ask(survey: Survey, answers: scaffold.Answers, *, yes: bool) -> None:
    """Fill in what was not given as an option. Without a terminal nobody can be asked."""
    if not yes and not sys.stdin.isatty():
        raise Failure(
            "init asks questions, and this is not a terminal.",
            fix="drumline init --yes --host app1.example.com --site-name www.example.com",
            code=Exit.USAGE,
        )
    if not yes:
        click.echo()
        survey.settings = _choose("Settings module on the hosts", survey.settings)
        survey.celery = _choose("Celery application", survey.celery)
        survey.dependencies = _choose("Locked dependencies", survey.dependencies)
    if not answers.hosts:
        text = (
            scaffold.PLACEHOLDER_HOST
            if yes
            else _prompt("Host to deploy to (several: with spaces)", scaffold.PLACEHOLDER_HOST)
        )
        answers.hosts = [_checked(host, _HOST, "--host", "a host's name or address") for host in text.split()]
    if not answers.user:
        answers.user = _checked(
            "admin" if yes else _prompt("User who may use sudo there", "admin"), _USER, "--user", "a user's name"
        )
    if not answers.site_names:
        text = answers.hosts[0] if yes else _prompt("Names of the site", answers.hosts[0])
        answers.site_names = [_checked(name, _HOST, "--site-name", "a host's name or address") for name in text.split()]


def _prompt(question: str, default: str) -> str:
    return str(click.prompt(question, default=default, err=True))


def _choose(question: str, choices: list[Choice]) -> list[Choice]:
    """Return the choices with the chosen one first; asked only if there are several."""
    values = list(dict.fromkeys(choice.value for choice in choices))
    if len(values) < 2:  # noqa: PLR2004 - one is no choice
        return choices
    chosen = click.prompt(question, type=click.Choice(values), default=values[0], err=True)
    return sorted(choices, key=lambda choice: choice.value != chosen)


def _propose(asked: Asked, survey: Survey, *, yes: bool, applies: bool) -> None:
    """Show what a new look would change in deploy/, and change it only if told to."""
    changed = scaffold.proposals(survey.checkout, scaffold.files(survey, scaffold.answers_of(survey.checkout)))
    if not changed:
        click.echo(f"\n{FOLDER}/ fits the checkout; nothing to change.")
        return
    click.echo()
    for path, after in changed.items():
        for line in scaffold.difference(path, after, survey.checkout).splitlines():
            tone = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
            click.echo(click.style(line, fg=tone) if tone else line, color=color())
    if asked.show:
        return
    if not applies and not yes and sys.stdin.isatty():
        applies = click.confirm("\nWrite these changes?", default=False, err=True)
    if not applies:
        click.echo("\nNothing was changed. To write it: drumline init --apply")
        return
    for path, after in changed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(after)
    click.echo(f"\nChanged {len(changed)} file{'s' if len(changed) > 1 else ''}.")


def _report(survey: Survey) -> None:
    """Print what was found, each with the line that says so."""
    rows: list[tuple[str, str, Where | None]] = [("project", f"{survey.name}, in {survey.root}", None)]
    rows += [("settings", choice.value, choice.where) for choice in survey.settings]
    rows += [("settings", f"class {choice.value}", choice.where) for choice in filter(None, [survey.configuration])]
    rows += [("Celery", choice.value, choice.where) for choice in survey.celery]
    rows += [("tasks", "django.tasks", survey.tasks)] if survey.tasks else []
    rows += [("WSGI", choice.value, choice.where) for choice in survey.wsgi[:1]]
    rows += [
        ("ASGI", choice.value + (" (channels)" if survey.websockets else ""), choice.where)
        for choice in survey.asgi[:1]
    ]
    for choice in survey.dependencies[:1]:
        rows.append(("dependencies", choice.value + ("" if survey.hashed else " (without hashes)"), choice.where))
    if survey.python:
        rows.append(("Python", survey.python.value, survey.python.where))
    rows += [("queue", queue.name, queue.where) for queue in survey.queues.values()]
    scheduler = survey.setting("CELERY_BEAT_SCHEDULER")
    if survey.schedule or scheduler or survey.has("django_celery_beat"):
        names = ", ".join(survey.schedule[:_MOST_SHOWN]) or "entries in the database"
        rows.append(
            (
                "beat",
                f"{names}{' …' if len(survey.schedule) > _MOST_SHOWN else ''}",
                _of(survey, "CELERY_BEAT_SCHEDULE"),
            )
        )
    for label, setting in (("user model", "AUTH_USER_MODEL"), ("static", "STATIC_ROOT"), ("media", "MEDIA_ROOT")):
        value = survey.setting(setting)
        if value is not None or setting in survey.values:
            text = survey.folder(setting) or ("set by code" if value is None else str(value))
            rows.append((label, text, _of(survey, setting)))
    rows += [("health", survey.health.value, survey.health.where)] if survey.health else []
    rows += [("build step", choice.value, choice.where) for choice in survey.builds]
    rows += [("timer", choice.value, choice.where) for choice in survey.crons]
    rows += [("process", choice.value, choice.where) for choice in survey.processes]
    if survey.commands:
        names = ", ".join(choice.value for choice in survey.commands[:_MOST_SHOWN])
        rows.append(("commands", f"{names}{' …' if len(survey.commands) > _MOST_SHOWN else ''}", None))
    if survey.environment:
        names = ", ".join(sorted(survey.environment)[:_MOST_SHOWN])
        rows.append(
            (
                "environment",
                f"{len(survey.environment)} variables: {names}{' …' if len(survey.environment) > _MOST_SHOWN else ''}",
                None,
            )
        )
    width = max(len(text) for _, text, where in rows if where is not None)
    for label, text, where in rows:
        place = click.style(str(where), dim=True) if where else ""
        click.echo(f"  {label:<13} {text:<{min(width, 60)}}  {place}".rstrip(), color=color())
    for note in [*survey.notes, *_findings(survey)]:
        place = f" ({note.where})" if note.where else ""
        click.echo(
            click.style("  note: ", fg="yellow") + note.what + place + (f"; {note.fix}" if note.fix else ""),
            color=color(),
        )


def _of(survey: Survey, setting: str) -> Where | None:
    named = survey.values.get(setting)
    return Where(named.path, named.line) if named else None


def _findings(survey: Survey) -> list[Note]:
    """What stands between this project and a first deploy."""
    notes = []
    if not survey.has("drumline") and survey.celery:
        what = "tasks are as durable as the broker, since drumline is not in INSTALLED_APPS"
        notes.append(Note(what, fix="app_ledger: true in the contract adds it at deploy"))
    if survey.values and "STATIC_ROOT" not in survey.values and survey.has("drumline"):
        notes.append(Note("STATIC_ROOT is not set, so collectstatic has nowhere to write", survey.settings[0].where))
    for path in survey.log_files():
        if not path.is_relative_to(survey.top):
            what = f"LOGGING writes {path}, where processes on the hosts may not write"
            notes.append(Note(what, _of(survey, "LOGGING"), "log to the console, or set LOGGING in app_settings"))
    if survey.has("django.contrib.gis"):
        notes.append(Note("GeoDjango needs PostGIS, which Drumline does not install", _of(survey, "INSTALLED_APPS")))
    if not survey.hashed:
        what = "the dependencies are locked at the first build, since the file has no hashes"
        notes.append(Note(what, survey.dependencies[0].where))
    return notes


def _as_data(survey: Survey) -> dict[str, Any]:
    """What was found, for a script."""

    def choices(found: list[Choice]) -> list[dict[str, str]]:
        return [{"value": choice.value, "where": str(choice.where)} for choice in found]

    return {
        "checkout": str(survey.checkout),
        "root": survey.root,
        "settings": choices(survey.settings),
        "celery": choices(survey.celery),
        "wsgi": choices(survey.wsgi),
        "asgi": choices(survey.asgi),
        "websockets": survey.websockets,
        "dependencies": choices(survey.dependencies),
        "hashed": survey.hashed,
        "python": survey.python.value if survey.python else None,
        "packages": sorted(survey.packages),
        "queues": [
            {
                "name": queue.name,
                "where": str(queue.where),
                "soft_time_limit": queue.soft_time_limit,
                "time_limit": queue.time_limit,
            }
            for queue in survey.queues.values()
        ],
        "schedule": survey.schedule,
        "user_model": survey.setting("AUTH_USER_MODEL"),
        "health": survey.health.value if survey.health else None,
        "environment": {name: str(where) for name, where in sorted(survey.environment.items())},
        "build_steps": choices(survey.builds),
        "timers": choices(survey.crons),
        "processes": choices(survey.processes),
        "commands": choices(survey.commands),
        "ledger": survey.has("drumline"),
        "notes": [note.what for note in [*survey.notes, *_findings(survey)]],
    }


def _next(answers: scaffold.Answers) -> None:
    click.secho("\nNext:", bold=True, color=color())
    if scaffold.PLACEHOLDER_HOST in answers.hosts:
        click.echo(
            f"  write your host's name in place of {scaffold.PLACEHOLDER_HOST}: {FOLDER}/{scaffold.ENVIRONMENT}.yml"
        )
    click.echo(f"  git add {FOLDER}")
    click.echo("  drumline doctor    check this machine, the hosts and DNS")
    click.echo("  drumline up        try it on a test host first (root, podman)")
    click.echo("  drumline setup     provision and deploy")


def _test_host(asked: Asked) -> tuple[Project, str, list[str], dict[str, str]]:
    """The local inventory, its host's name, the tool that boots it, and where that keeps its keys."""
    found = project.find(asked.folder, asked.inventory or LOCAL)
    host = Variables(found).hosts()[0]
    tool = [sys.executable, str(bundle.root() / "tests" / "images" / "testhost.py")]
    return found, host.name, tool, {"DRUMLINE_TEST_HOSTS": str(found.deploy / ".local")}


def up(asked: Asked, debian: str, further: list[str]) -> None:
    """Boot the test host, deploy to it and print its addresses."""
    found, name, tool, extra = _test_host(asked)
    values = Variables(found).values(name)
    ports = {values("ansible_port"): 22, values("nginx_public_https_port"): 443}
    boot = [
        *tool,
        "up",
        name,
        "--debian",
        debian,
        *(f"--publish=127.0.0.1:{port}:{inner}" for port, inner in ports.items() if port),
    ]
    line = playbook.line(found, ["site", "verify"], further=further)
    if asked.show:
        click.echo(playbook.as_text(boot, extra))
        playbook.run(line, show=True)
        return
    missing = [program for program in ("podman", "ssh", "ssh-keygen") if shutil.which(program) is None]
    if missing:
        raise Failure(
            f"A test host needs {', '.join(missing)}, which this machine does not have.",
            fix="apt-get install podman runc netavark aardvark-dns mmdebstrap openssh-client",
        )
    if os.geteuid() != 0:
        raise Failure("A test host needs root: systemd inside it mounts and sandboxes.", fix="sudo drumline up")
    if playbook.call(boot, {**os.environ, **extra}):
        raise Failure("The test host did not start; the reason stands above.", code=Exit.FAILED)
    playbook.run(line, show=False)
    secrets = shown(Path(str(values("fleet_secrets_directory"))))
    click.echo(f"site      https://127.0.0.1:{values('nginx_public_https_port')}/   CA: {secrets}/ca.crt")
    click.echo(f"sign in   {values('app_admin_email')}, password in {secrets}/admin_password")
    click.echo("remove    drumline down")


def down(asked: Asked) -> None:
    """Remove the test host, its keys and its secrets."""
    found, name, tool, extra = _test_host(asked)
    if asked.show:
        click.echo(playbook.as_text([*tool, "down", name], extra))
        return
    if playbook.call([*tool, "down", name], {**os.environ, **extra}):
        raise Failure("The test host was not removed; the reason stands above.", code=Exit.FAILED)
    shutil.rmtree(found.deploy / ".local", ignore_errors=True)

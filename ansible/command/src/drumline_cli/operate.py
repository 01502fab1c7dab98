"""The verbs of a running fleet: processes, journal, queues."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from typing import TYPE_CHECKING, Any

import click

from drumline_cli import playbook, remote
from drumline_cli.errors import Exit, Failure, color
from drumline_cli.variables import Host, Values, Variables

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

    from drumline_cli.project import Asked, Project

APPLICATION = ("web", "worker", "beat")
# What else a person may want to read the journal of, and its units.
_SERVERS = {
    "nginx": ("web", ["nginx.service"]),
    "redis": ("redis", ["redis-server@*"]),
    "postgresql": ("postgresql", ["postgresql*"]),
    "certificate": ("web", ["drumline-certificate*", "certbot.service"]),
}
_RELEASES = "/opt/drumline/shared/deploys.jsonl"
_LOCK = "/run/lock/drumline-deploy.json"
# A person's, or that of a drained host.
_CLOSED = "/opt/drumline/shared/locked.json"
_RELEASE = "readlink /opt/drumline/current"
_LOGS = "/var/log/drumline"
_UNITS = "systemctl list-units 'drumline-*' --all --no-pager --output=json"
_PROGRAMS = "sudo -n drumline-supervisorctl status"
# What the host checks daily, now: its unit holds which certificates, and from when one is a warning and an error.
_CERTIFICATES = 'sh -c "$(sed -n s/^ExecStart=//p /etc/systemd/system/drumline-certificate.service)"'
_LEVELS = {"3": "error", "4": "warning", "6": "ok"}
_NEVER_DEPLOYED = "no release"


def one_host(found: Project, name: str = "") -> Host:
    """Return the named host, or the first that runs the application."""
    variables = Variables(found)
    hosts = variables.hosts()
    if name:
        return _named(hosts, name, found)
    for group in APPLICATION:
        for host in hosts:
            if group in host.groups:
                return host
    return hosts[0]


def _named(hosts: Sequence[Host], name: str, found: Project) -> Host:
    for host in hosts:
        if host.name == name:
            return host
    near = difflib.get_close_matches(name, [host.name for host in hosts], n=1)
    raise Failure(
        f"The inventory has no host {name}. It has {', '.join(host.name for host in hosts)}.",
        where=found.hosts,
        fix=f"--host {near[0] if near else hosts[0].name}",
        code=Exit.USAGE,
    )


def _is_supervised(values: Values) -> bool:
    return bool(values("app_process_manager") == "supervisor")


def _show(hosts: Sequence[Host], command: str) -> None:
    for host in hosts:
        click.echo(playbook.as_text(remote.ssh(host, command)))


def status(asked: Asked, *, json_: bool) -> None:
    """Print every unit of every host, and when its certificates expire."""
    variables = Variables(asked.project())
    hosts = variables.hosts()
    supervised = _is_supervised(variables.values(hosts[0].name))
    command = "; ".join((_RELEASE, _PROGRAMS if supervised else _UNITS, _CERTIFICATES))
    if asked.show:
        _show(hosts, command)
        return
    answers = remote.ask_all(hosts, lambda host: remote.ask(host, command).stdout)
    report = {name: _status_of(answer, supervised=supervised) for name, answer in answers.items()}
    failed = [
        unit
        for each in report.values()
        for unit in each["processes"]
        if unit["state"] in {"failed", "FATAL", "BACKOFF"}
    ]
    ending = [
        f"{name}: {one['says']}"
        for name, each in report.items()
        for one in each["certificates"]
        if one["level"] == "error"
    ]
    if json_:
        click.echo(json.dumps(report, indent=2))
    else:
        for name, each in report.items():
            _print_status(name, each, failed)
    if failed:
        raise Failure(
            f"{len(failed)} process{'es have' if len(failed) > 1 else ' has'} failed: {', '.join(unit['name'] for unit in failed)}.",
            fix=f"drumline logs {failed[0]['name'].removeprefix('drumline-').removesuffix('.service')}",
            code=Exit.FAILED,
        )
    if ending:
        raise Failure(ending[0], fix="drumline logs certificate", code=Exit.FAILED)


def _print_status(name: str, report: dict[str, Any], failed: Sequence[dict[str, Any]]) -> None:
    click.secho(f"{name}  release {report['release']}", bold=True, color=color())
    for unit in report["processes"]:
        fine = unit["state"] in {"active", "RUNNING"}
        mark = click.style("●", fg="green" if fine else "red" if unit in failed else "yellow")
        click.echo(f"  {mark} {unit['name']:<36} {unit['state']:<10} {unit['detail']}", color=color())
    if not report["processes"]:
        click.echo("  nothing is deployed here: drumline setup")
    colors = {"ok": "green", "warning": "yellow", "error": "red"}
    for one in report["certificates"]:
        click.echo(f"  {click.style('●', fg=colors[one['level']])} {one['says']}", color=color())


def _status_of(answer: str, *, supervised: bool) -> dict[str, Any]:
    # The journal's priorities mark what says something of a certificate.
    told = re.findall(r"^<([346])>(.*)$", answer, re.MULTILINE)
    lines = [line for line in answer.splitlines() if not re.match("<[346]>", line)]
    release = lines[0].rpartition("/")[2] if lines and lines[0].startswith("/") else _NEVER_DEPLOYED
    rest = lines[1:] if release != _NEVER_DEPLOYED else lines
    if supervised:
        columns = [[*line.split(None, 2), "", ""][:3] for line in rest if line.strip()]
        processes = [{"name": name, "state": state, "detail": detail} for name, state, detail in columns]
    else:
        try:
            units = json.loads("\n".join(rest) or "[]")
        except ValueError:
            units = []
        processes = [
            {"name": unit["unit"], "state": unit["active"], "detail": unit["sub"]}
            for unit in units
            if unit["load"] == "loaded" and unit["unit"].endswith(".service")
        ]
    certificates = [{"level": _LEVELS[level], "says": says} for level, says in told]
    return {"release": release, "processes": processes, "certificates": certificates}


def process_names(found: Project) -> list[str]:
    """Return what `logs` takes: kinds of process, queues and servers."""
    variables = Variables(found)
    values = variables.values(variables.hosts()[0].name)
    return [*values("app_processes"), *values("app_queues"), *_SERVERS]


def units_of(name: str, kinds: dict[str, Any], queues: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the host group and the journal's units of a process's name."""
    if not name:
        return "", ["drumline-*"]
    if name in _SERVERS:
        return _SERVERS[name]
    bare = name.removeprefix("drumline-").removesuffix(".service")
    kind, at, instance = bare.partition("@")
    if kind in kinds:
        group = str(kinds[kind]["group"])
        return group, [f"drumline-{kind}@{instance}*" if at else f"drumline-{kind}*"]
    for key, entry in queues.items():
        if bare in {key, entry.get("queue", key)}:
            return "worker", [f"drumline-worker@{key}-*"]
    known = [*kinds, *queues, *_SERVERS]
    near = difflib.get_close_matches(bare, known, n=1)
    raise Failure(
        f"There is no process {name}. There are {', '.join(known)}.",
        fix=f"drumline logs {near[0] if near else known[0]}",
        code=Exit.USAGE,
    )


def logs(asked: Asked, *, process: str, follow: bool, lines: int, since: str, grep: str, host: str) -> None:
    """Print the journal of some units, of all hosts that run them."""
    found = asked.project()
    variables = Variables(found)
    hosts = variables.hosts()
    values = variables.values(hosts[0].name)
    group, units = units_of(process, values("app_processes"), values("app_queues"))
    if host:
        hosts = [_named(hosts, host, found)]
    elif group:
        hosts = [each for each in hosts if group in each.groups]
    if _is_supervised(values) and process not in _SERVERS:
        line = _tail(units, follow=follow, lines=lines, since=since, grep=grep)
    else:
        command = ["journalctl", "--no-pager", "--output=short-iso", f"--lines={lines}"]
        command += [
            *(f"--unit={unit}" for unit in units),
            *(["--follow"] if follow else []),
            *([f"--since={since}"] if since else []),
            *([f"--grep={grep}"] if grep else []),
        ]
        line = remote.as_root(*command)
    if asked.show:
        _show(hosts, line)
        return
    _follow(hosts, line)


def _tail(units: Sequence[str], *, follow: bool, lines: int, since: str, grep: str) -> str:
    """Return the line that shows the files to which supervisor writes what the journal would have of these units."""
    if since:
        raise Failure(
            "--since asks the journal; under supervisor the logs are files, each line with its time.",
            fix=f"drumline logs --lines 1000 --grep {since.split(maxsplit=1)[0]}",
            code=Exit.USAGE,
        )
    names = (unit.removeprefix("drumline-").replace("@", "-") for unit in units)
    files = ("*".join(shlex.quote(part) for part in f"{_LOGS}/{name}.log".split("*")) for name in names)
    tail = f"tail --quiet --lines={lines} {'--follow=name --retry ' if follow else ''}{' '.join(files)}"
    chosen = f" | grep --line-buffered --perl-regexp -e {shlex.quote(grep)}" if grep else ""
    return remote.as_root("sh", "-c", tail + chosen)


def _follow(hosts: Sequence[Host], command: str) -> None:
    width = max(len(host.name) for host in hosts)

    def write(name: str, text: str) -> None:
        prefix = click.style(f"{name:<{width}} ", fg="blue") if len(hosts) > 1 else ""
        click.echo(prefix + text, color=color())

    code = remote.follow(hosts, command, write)
    if code:
        raise SystemExit(code)


def execute(asked: Asked, name: str, command: str) -> None:
    """Run a command on every host, or on the named one."""
    found = asked.project()
    hosts = Variables(found).hosts()
    hosts = [_named(hosts, name, found)] if name else hosts
    if asked.show:
        _show(hosts, command)
        return
    if len(hosts) == 1:
        code = remote.become(hosts[0], command, terminal=False)
        if code:
            raise SystemExit(code)
        return
    _follow(hosts, command)


def drain(asked: Asked, queues: list[str], *, resume: bool) -> None:
    """Stop the workers of some queues, or start them again."""
    variables = Variables(asked.project())
    hosts = variables.hosts("worker")
    values = variables.values(hosts[0].name)
    known = values("app_queues")
    for name in queues:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise Failure(
                f"There is no queue {name}. There are {', '.join(known)}.",
                fix=f"drumline drain {near[0] if near else next(iter(known))}",
                code=Exit.USAGE,
            )
    wanted = queues or list(known)
    commands = {
        host.name: _drain(variables.values(host.name), wanted, resume=resume)
        for host in hosts
        if set(wanted) & set(variables.values(host.name)("app_queues_served"))
    }
    hosts = [host for host in hosts if host.name in commands]
    if not hosts:
        raise Failure(
            f"No host serves {' or '.join(wanted)} (app_queues_served).", fix="drumline status", code=Exit.USAGE
        )
    if asked.show:
        for host in hosts:
            _show([host], commands[host.name])
        return
    if not resume:
        longest = max(known[name]["drain_timeout"] for name in wanted)
        click.echo(
            f"Waiting for the running tasks of {', '.join(wanted)}, up to {playbook.elapsed(longest)}.", err=True
        )
    longest = max(known[name]["drain_timeout"] for name in wanted) + 120
    for name, done in remote.ask_all(
        hosts, lambda host: remote.ask(host, commands[host.name], timeout=longest)
    ).items():
        if done.returncode:
            raise Failure(f"{name}: {done.stderr.strip()}", fix="drumline status", code=Exit.FAILED)
    click.echo("started" if resume else "drained; tasks wait until drumline drain --resume, or a deploy")


def _drain(values: Values, queues: Sequence[str], *, resume: bool) -> str:
    """Return the line that stops the workers of those queues that a host serves, or starts them again."""
    verb, known = "start" if resume else "stop", values("app_queues")
    served = [name for name in queues if name in values("app_queues_served")]
    instances = [f"{name}-{number}" for name in served for number in range(1, known[name]["instances"] + 1)]
    if _is_supervised(values):
        return remote.as_root("drumline-supervisorctl", verb, *(f"worker-{instance}" for instance in instances))
    if resume:
        return remote.as_root("systemctl", verb, *(f"drumline-worker@{instance}" for instance in instances))
    # A stand-in, too, and what an earlier release still drains.
    return remote.as_root("systemctl", verb, *(f"drumline-worker@{name}-*" for name in served))


def history(asked: Asked, *, json_: bool) -> None:
    """Print the releases that each host was switched to."""
    hosts = [host for host in Variables(asked.project()).hosts() if set(host.groups) & set(APPLICATION)]
    command = remote.as_root("sh", "-c", f"test ! -e {_RELEASES} || cat {_RELEASES}")
    if asked.show:
        _show(hosts, command)
        return
    for name, done in _answers(hosts, command).items():
        for line in done.stdout.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if json_:
                click.echo(json.dumps({"host": name, **entry}))
            else:
                click.echo(f"{name}  " + "  ".join(str(value) for value in entry.values() if value not in ("", None)))
        if not done.stdout and not json_:
            click.echo(f"{name}  nothing yet")


def lock(asked: Asked, *, release: bool, json_: bool) -> None:
    """Print who holds the deploy lock of each host, and who has closed it, or remove a deploy's lock."""
    hosts = [host for host in Variables(asked.project()).hosts() if set(host.groups) & set(APPLICATION)]
    # One line for each, empty when there is none.
    look = "; ".join(f"test ! -e {path} || cat {path}; echo" for path in (_LOCK, _CLOSED))
    command = remote.as_root("sh", "-c", f"rm --force {_LOCK}; {look}" if release else look)
    if asked.show:
        _show(hosts, command)
        return
    held = {name: _holder(done.stdout) for name, done in _answers(hosts, command).items()}
    if json_:
        click.echo(json.dumps(held, indent=2))
        return
    for name, holder in held.items():
        if holder and "reason" in holder:
            click.echo(f"{name}  locked by {holder.get('who')} since {holder.get('since')}: {holder['reason']}")
        elif holder:
            click.echo(f"{name}  {holder.get('who')} since {holder.get('since')}, on {holder.get('machine')}")
        else:
            click.echo(f"{name}  {'unlocked' if release else 'nobody is deploying'}")


def _holder(answer: str) -> dict[str, Any] | None:
    """Return the first lock of an answer; what a deploy is just writing cannot be read."""
    for line in filter(None, answer.splitlines()):
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:
            return {"who": "somebody", "since": "a moment ago"}
        return found
    return None


def _answers(hosts: Sequence[Host], command: str) -> Mapping[str, subprocess.CompletedProcess[str]]:
    """Ask every host, and raise a Failure if one refuses."""
    answers = remote.ask_all(hosts, lambda host: remote.ask(host, command))
    for name, done in answers.items():
        if done.returncode:
            raise Failure(f"{name}: {done.stderr.strip()}", fix=f"drumline shell --host {name}", code=Exit.FAILED)
    return answers

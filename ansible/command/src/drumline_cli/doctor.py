"""What stands between this machine and a deploy, each finding with what to type."""

from __future__ import annotations

import datetime as dt
import difflib
import json
import os
import platform
import re
import shutil
import socket
import ssl
import stat
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drumline_cli import bundle, playbook, project, remote, vault
from drumline_cli.configuration import tracked_by_git
from drumline_cli.errors import Exit, Failure, color, shown
from drumline_cli.project import Project, is_encrypted
from drumline_cli.scaffold import PLACEHOLDER_HOST
from drumline_cli.source import Code
from drumline_cli.variables import Host, Values, Variables, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drumline_cli.project import Asked

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}
_LEAST_MEMORY_MB = 1900
_WARN_DAYS = 30
_ENDS = ("notBefore", "notAfter")
_PRIVATE_CA = "Drumline private CA"
# Who has signed the site's certificate, and what renews it.
_RENEW = {
    "acme": "drumline logs certificate   says why certbot has not renewed it",
    "own": "Replace tls_certificate and tls_key, then: drumline setup --args '--tags tls'",
    "private": "drumline setup --args '--tags tls'   renews it",
}
_LOOK = (
    "id -un; sudo -n true && echo sudo; . /etc/os-release; echo $ID $VERSION_ID; "
    "awk '/MemTotal/ {print int($2/1024)}' /proc/meminfo; command -v python3 || echo -; df --output=avail -m /opt | tail -1"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `level` is ok, warning or problem."""

    area: str
    level: str
    what: str
    fix: str = ""


def run(asked: Asked, *, json_: bool, offline: bool) -> None:
    """Look at everything and print it as it is found. Problems end in exit code 1."""
    found = asked.project()
    preflight = playbook.line(found, ["site"], further=["--tags", "preflight"])
    if asked.show:
        playbook.run(preflight, show=True)
        return
    findings = []
    area = ""
    for finding in _all(found, preflight, offline=offline):
        findings.append(finding)
        if json_:
            continue
        if finding.area != area:
            area = finding.area
            click.secho(area, bold=True, color=color())
        mark, tone = _MARKS[finding.level]
        click.echo(f"  {click.style(mark, fg=tone)} {finding.what}", color=color())
        if finding.fix:
            click.echo(
                click.style("      fix: ", fg="green") + finding.fix.replace("\n", "\n           "), color=color()
            )
    if json_:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    problems = [finding for finding in findings if finding.level == "problem"]
    if problems:
        raise Failure(
            f"{len(problems)} problem{'s' if len(problems) > 1 else ''} to solve before a deploy.",
            fix=problems[0].fix,
            code=Exit.FAILED,
        )


def _all(found: Project, preflight: list[str], *, offline: bool) -> Iterator[Finding]:
    yield from controller()
    yield from _folder(found)
    try:
        variables = Variables(found)
        hosts = variables.hosts()
    except Failure as failure:
        yield Finding("deploy/", "problem", failure.message, failure.fix)
        return
    yield from _settings(found, variables, hosts)
    if offline:
        return
    reached = []
    for finding, host in _hosts(hosts, variables):
        yield finding
        if host:
            reached.append(host)
    yield from _site(variables, hosts)
    if len(reached) == len(hosts):
        yield from _preflight(preflight)


def controller() -> Iterator[Finding]:
    """Look at the programs of the controller."""
    area = "this machine"
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        yield Finding(area, "ok", f"Python {platform.python_version()}")
    else:
        yield Finding(
            area,
            "problem",
            f"Python {platform.python_version()}; the playbooks need 3.11 to 3.13",
            "uv tool install --python 3.13 drumline-cli",
        )
    for name, package in (("git", "git"), ("ssh", "openssh-client"), ("ssh-keygen", "openssh-client")):
        if shutil.which(name):
            yield Finding(area, "ok", name)
        else:
            yield Finding(area, "problem", f"{name} is not installed", f"apt-get install {package}")
    for name in ("ansible-playbook", "ansible-vault", "uv"):
        if not bundle.program(name).exists():
            yield Finding(area, "problem", f"{name} is missing beside drumline", "uv tool install --force drumline-cli")


def _folder(found: Project) -> Iterator[Finding]:
    area = "deploy/"
    if not (found.checkout / ".git").exists():
        yield Finding(area, "problem", "the project is not a git checkout", "git init && git add . && git commit")
    password = found.password_file
    if password.exists():
        mode = stat.S_IMODE(password.stat().st_mode)
        if mode & 0o077:
            yield Finding(
                area, "problem", f"others may read {shown(password)} ({mode:04o})", f"chmod 600 {shown(password)}"
            )
        if (found.checkout / ".git").exists() and password.is_relative_to(found.checkout):
            known = project.git(found.checkout, "ls-files", "--error-unmatch", "--", str(password)).returncode == 0
            if known:
                yield Finding(
                    area,
                    "problem",
                    f"the vault's password is in git: {shown(password)}",
                    f"git rm --cached {shown(password)}, then give the vault another: ansible-vault rekey; drumline secrets rotate",
                )
            elif tracked_by_git(found.checkout, password):
                yield Finding(
                    area,
                    "problem",
                    "git does not ignore the vault's password",
                    f"echo /.vault-password >> {shown(found.deploy)}/.gitignore",
                )
    for path in sorted(found.deploy.glob("group_vars/*/vault.yml")):
        if not is_encrypted(path):
            yield Finding(area, "problem", f"{shown(path)} is not encrypted", f"ansible-vault encrypt {shown(path)}")


def _settings(found: Project, variables: Variables, hosts: list[Host]) -> Iterator[Finding]:
    """Look at what deploy/ says, without a host."""
    values = variables.values(hosts[0].name)
    findings = [*_names(found, variables), *_secrets(values), *_empty(found, values), *_paths(values)]
    findings += [
        Finding("deploy/", "problem", f"{host.name} is the example's host", f"Write your own into {shown(found.hosts)}")
        for host in hosts
        if host.name == PLACEHOLDER_HOST
    ]
    yield from findings
    if not findings:
        count = f"{len(hosts)} host{'s' if len(hosts) > 1 else ''}"
        yield Finding("deploy/", "ok", f"{found.inventory}: {count}, variables and secrets")


def _names(found: Project, variables: Variables) -> Iterator[Finding]:
    """Find variables that no playbook reads."""
    known = variables.known()
    for path in sorted(found.deploy.glob("group_vars/*/*.yml")):
        if is_encrypted(path) or path.parent.name not in {"project", found.inventory}:
            continue
        for name in read_yaml(path):
            if name not in known and not name.startswith(("ansible_", "vault_")):
                near = difflib.get_close_matches(name, known, n=1)
                yield Finding(
                    "deploy/",
                    "warning",
                    f"{shown(path)} sets {name}, which no playbook reads",
                    f"Did you mean {near[0]}?" if near else "Remove it, or use it in another variable.",
                )


def _secrets(values: Values) -> Iterator[Finding]:
    """Find secrets that a deploy needs and the vault lacks."""
    needed = [name for name in vault.GENERATED if name != "vault_admin_password" or values("app_admin_email")]
    if (values("app_email") or {}).get("user"):
        needed.append("vault_email_password")
    for name in needed:
        if not (name in values and values(name)):
            yield Finding("deploy/", "problem", f"the secret {name} is missing", "drumline secrets edit")


def _empty(found: Project, values: Values) -> Iterator[Finding]:
    """Find variables of the environment that init wrote for somebody to fill in, and that are still empty."""
    for path in sorted(found.deploy.glob("group_vars/*/*.yml")):
        if is_encrypted(path) or path.parent.name not in {"project", found.inventory}:
            continue
        for name in ("app_env", "app_secrets"):
            try:
                given = values(name) if name in read_yaml(path) else None
            except Failure as failure:
                yield Finding(
                    "deploy/", "problem", f"{name} in {shown(path)}: {failure.message}", "drumline secrets edit"
                )
                continue
            for variable, value in given.items() if isinstance(given, dict) else ():
                if value in ("", None):
                    fix = "drumline secrets edit" if name == "app_secrets" else f"Set it in {shown(path)}"
                    yield Finding("deploy/", "warning", f"{name}.{variable} is empty", fix)


def _paths(values: Values) -> Iterator[Finding]:
    """Find paths and modules of the contract that the checkout lacks."""
    source = Path(str(values("app_source")))
    top = source / str(values("app_root"))
    for name, folder in (("app_source", source), ("app_root", top)):
        if not folder.is_dir():
            where = f"drumline config {name}   says which file sets it"
            yield Finding("deploy/", "problem", f"{name} names {folder}, which is no folder", where)
    lock = str(values("app_dependencies") or "")
    if lock not in {"", "none"} and source.is_dir() and not (source / lock).is_file():
        where = "drumline init   proposes another"
        yield Finding("deploy/", "problem", f"app_dependencies names {source / lock}, which is no file", where)
    if top.is_dir():
        yield from _modules(values, source, top)


def _modules(values: Values, source: Path, top: Path) -> Iterator[Finding]:
    code = Code(top, source)
    for name in ("app_settings_module", "app_celery", "app_wsgi"):
        module = str(values(name) or "").partition(":")[0]
        if module and code.find(module) is None and "." in module:
            yield Finding(
                "deploy/",
                "problem",
                f"{name} names {module}, which {shown(top)} does not hold",
                "drumline init   proposes another",
            )


def _hosts(hosts: list[Host], variables: Variables) -> Iterator[tuple[Finding, Host | None]]:
    supported = variables.values(hosts[0].name)("fleet_distributions") or {}
    allowed = {f"{name.lower()} {release}" for name, releases in supported.items() for release in releases}

    def look(host: Host) -> list[tuple[Finding, Host | None]]:
        return list(_host(host, allowed))

    for found in remote.ask_all(hosts, look).values():
        yield from found


def _host(host: Host, allowed: set[str]) -> Iterator[tuple[Finding, Host | None]]:
    area = f"host {host.name}"
    try:
        socket.getaddrinfo(host.address, host.port or 22)
    except OSError:
        yield (
            Finding(
                area,
                "problem",
                f"{host.address} does not resolve",
                "Correct the name, or set ansible_host to its address.",
            ),
            None,
        )
        return
    try:
        done = remote.ask(host, _LOOK, timeout=30)
    except Failure as failure:
        yield Finding(area, "problem", failure.message, failure.fix), None
        return
    lines = done.stdout.splitlines()
    if "sudo" not in lines:
        user = lines[0] if lines else host.user
        yield (
            Finding(
                area,
                "problem",
                f"{user} may not use sudo without a password",
                f"on the host, as root: echo '{user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{user}",
            ),
            None,
        )
        return
    rest = lines[lines.index("sudo") + 1 :]
    release, memory, python, free = [*rest, "", "", "", ""][:4]
    if release not in allowed:
        yield (
            Finding(
                area,
                "problem",
                f"it runs {release}; supported are {', '.join(sorted(allowed))}",
                "Install one of them.",
            ),
            None,
        )
        return
    if python == "-":
        yield Finding(area, "problem", "python3 is not installed", "on the host: apt-get install python3"), None
        return
    if memory.isdigit() and int(memory) < _LEAST_MEMORY_MB:
        yield (
            Finding(area, "warning", f"it has {memory} MB of memory", "4 GB fit all processes of the default model."),
            None,
        )
    if free.strip().isdigit() and int(free) < 2048:  # noqa: PLR2004 - a few releases and their artefacts, in MB
        yield (
            Finding(
                area,
                "warning",
                f"{free.strip()} MB are free below /opt",
                "A release with its environment takes some hundred MB.",
            ),
            None,
        )
    yield Finding(area, "ok", f"{release}, {memory} MB, SSH and sudo work"), host


def _site(variables: Variables, hosts: list[Host]) -> Iterator[Finding]:
    web = next((host for host in hosts if "web" in host.groups), None)
    if web is None:
        return
    values = variables.values(web.name)
    names = [str(name) for name in values("app_site_names") or []]
    area = "site"
    for name in names:
        if re.fullmatch(r"[0-9.]+|[0-9a-fA-F:]+|localhost", name) or name == web.name:
            continue
        try:
            addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(name, 443)}
        except OSError:
            yield Finding(
                area, "problem", f"{name} does not resolve", f"Add a DNS record for it that leads to {web.address}."
            )
            continue
        try:
            hosts_own = {str(entry[4][0]) for entry in socket.getaddrinfo(web.address, 443)}
        except OSError:
            hosts_own = set()
        if addresses & hosts_own or not hosts_own:
            yield Finding(area, "ok", f"{name} resolves to {', '.join(sorted(addresses))}")
        else:
            yield Finding(
                area,
                "warning",
                f"{name} leads to {', '.join(sorted(addresses))}, not to {web.address}",
                "Right behind a load balancer; else correct the DNS record.",
            )
    if names:
        issuer = str(values("fleet_certificate"))
        yield from certificate(web.address, int(values("nginx_public_https_port") or 443), names[0], issuer)


def certificate(address: str, port: int, name: str, issuer: str = "private") -> Iterator[Finding]:
    """The certificate that the site shows now, if it answers. issuer is who should have signed it: acme, private or own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, port), timeout=5) as raw,
            context.wrap_socket(raw, server_hostname=name) as tls,
        ):
            encoded = tls.getpeercert(binary_form=True) or b""
    except OSError:
        yield Finding("site", "ok", f"nothing answers at {address}:{port} yet; drumline setup makes it")
        return
    done = (
        subprocess.run(
            ["openssl", "x509", "-inform", "der", "-noout", "-issuer", "-startdate", "-enddate"],
            input=encoded,
            capture_output=True,
            check=False,
        )
        if shutil.which("openssl")
        else None
    )
    said = done.stdout.decode() if done else ""
    begins, ends = (_moment(match[1]) if (match := re.search(rf"{end}=(.+)", said)) else None for end in _ENDS)
    if begins is None or ends is None:
        return
    days = (ends - dt.datetime.now(dt.UTC)).days
    if issuer == "acme" and _PRIVATE_CA in said:
        yield Finding(
            "site",
            "problem",
            "its certificate is a stand-in of the private CA, which browsers do not trust",
            "drumline setup --args '--tags acme'   asks the ACME server, and says why it refuses",
        )
    elif days < 0:
        yield Finding(
            "site",
            "problem",
            f"its certificate has expired on {ends:%Y-%m-%d}",
            _RENEW.get(issuer, _RENEW["private"]),
        )
    # certbot renews in the last third.
    elif days < (min(_WARN_DAYS, (ends - begins).days // 4) if issuer == "acme" else _WARN_DAYS):
        yield Finding(
            "site",
            "warning",
            f"its certificate expires in {days} days",
            _RENEW.get(issuer, _RENEW["private"]),
        )
    else:
        yield Finding("site", "ok", f"its certificate is valid until {ends:%Y-%m-%d}")


def _moment(said: str) -> dt.datetime:
    return dt.datetime.strptime(said.strip(), "%b %d %H:%M:%S %Y %Z").replace(tzinfo=dt.UTC)


def _preflight(line: list[str]) -> Iterator[Finding]:
    """The playbooks' own check of the inventory against the hosts' facts."""
    path = f"{bundle.program('')}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        line,
        env={**os.environ, **playbook.environment(), "PATH": path, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        plays = json.loads(done.stdout[done.stdout.index("{") :])["plays"]
    except (ValueError, KeyError):
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        yield Finding(
            "preflight",
            "problem",
            f"preflight did not run: {' '.join(last)}",
            playbook.as_text(line, playbook.environment()),
        )
        return
    clean = True
    for play in plays:
        for task in play["tasks"]:
            for result in task["hosts"].values():
                if result.get("failed") or result.get("unreachable"):
                    clean = False
                    for problem in _problems(str(result.get("msg", ""))):
                        yield Finding("preflight", "problem", problem)
    if clean and done.returncode == 0:
        yield Finding("preflight", "ok", "the inventory fits the hosts")


def _problems(message: str) -> list[str]:
    return [line.strip(" -") for line in message.splitlines() if line.strip().startswith("- ")] or [message]

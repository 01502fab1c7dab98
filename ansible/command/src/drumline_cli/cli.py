"""The verbs of `drumline`. Each says what it does in its help text, from which docs/command.md is made."""

from __future__ import annotations

import difflib
import json
import os
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem, get_completion_class

from drumline_cli import begin, configuration, operate, playbook, project, remote
from drumline_cli import doctor as examination
from drumline_cli.errors import EXIT_CODES, Exit, Failure, color
from drumline_cli.project import Asked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


NAME = "drumline"
SHELLS = ("bash", "zsh", "fish")


class Verb(click.Command):
    """A verb. It takes no empty value: that is a script's variable which was never set, and would count as not given."""

    def invoke(self, ctx: click.Context) -> Any:
        """Refuse an empty value of anything but what is passed on."""
        for parameter in self.params:
            name = str(parameter.name)
            given = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
            passed_on = name == "given" or parameter.type is click.UNPROCESSED
            if given and not passed_on and ctx.params.get(name) in ("", ("",)):
                raise Failure(
                    f"The value of {parameter.opts[0] if parameter.param_type_name == 'option' else name.upper()} is empty.",
                    fix="Give one, or leave it out.",
                    code=Exit.USAGE,
                )
        return super().invoke(ctx)


class Verbs(click.Group):
    """The verbs, grouped in the help; a misspelt one names its neighbour."""

    command_class = Verb

    # In the order in which a newcomer needs them.
    SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("Begin", ("init", "doctor", "up", "down")),
        ("Deploy", ("setup", "deploy", "rollback", "verify", "history", "lock")),
        (
            "Operate",
            ("status", "logs", "queues", "dead-letters", "restart", "drain", "reboot", "manage", "shell", "exec"),
        ),
        ("Configure", ("config", "secrets", "completion")),
    )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the help."""
        return [name for _, names in self.SECTIONS for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs, a section each."""
        for title, names in self.SECTIONS:
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(90)) for name in names])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one may have been meant."""
        name = args[0] if args else ""
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.commands, n=1)
            raise Failure(
                f"There is no verb {name}.",
                fix=f"{ctx.command_path} {near[0]}" if near else f"{ctx.command_path} --help   lists them",
                code=Exit.USAGE,
            )
        return super().resolve_command(ctx, args)


class Nested(Verbs):
    """Verbs of a verb."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return them in alphabetical order."""
        return sorted(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them as click does."""
        click.Group.format_commands(self, ctx, formatter)


def _inventories(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    known = project.inventories(project.find_checkout(Path(ctx.params.get("folder") or ".")))
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


def _refs(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    checkout = project.find_checkout(Path(ctx.params.get("folder") or "."))
    names = project.git(checkout, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags").stdout
    return [CompletionItem(name) for name in names.split() if name.startswith(incomplete)]


def common(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options that all have, as one argument `asked`."""

    def run(folder: Path, inventory: str, show: bool, **arguments: Any) -> None:  # noqa: FBT001 - click's way
        verb(asked=Asked(folder, inventory, show), **arguments)

    run.__name__, run.__doc__ = verb.__name__, verb.__doc__
    run.__click_params__ = getattr(verb, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
        click.option("--show", is_flag=True, help="Print the command line that would run, and run nothing."),
        click.option(
            *("--inventory", "-i"),
            default="",
            metavar="NAME",
            shell_complete=_inventories,
            help="Inventory of deploy/, or the path of a file of hosts. Needed only if there are several.",
        ),
        click.option(
            *("--project", "-C", "folder"),
            type=click.Path(path_type=Path),
            default=Path(),
            metavar="FOLDER",
            help="The project's checkout; without it, the one of this folder.",
        ),
    ):
        run = option(run)
    return run


def ansible_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb that runs a playbook the options for ansible-playbook."""
    verb = click.option("--check", is_flag=True, help="Say what would change on the hosts, and change nothing.")(verb)
    return click.option(
        "--args",
        "given",
        default="",
        metavar="ARGS",
        help='Further arguments of ansible-playbook: --args "--limit app1 -v".',
    )(verb)


def _further(given: str, *, check: bool) -> list[str]:
    try:
        return [*(["--check", "--diff"] if check else []), *shlex.split(given)]
    except ValueError as error:
        raise Failure(
            f"--args cannot be read: {error}.", fix='Close the quotation: --args "--limit app1"', code=Exit.USAGE
        ) from None


def as_json(value: object) -> None:
    """Print a value for a script."""
    click.echo(json.dumps(value, indent=2, default=str))


def say(text: str = "", **style: Any) -> None:
    """Print a line for a person."""
    click.echo(click.style(text, **style) if style else text, color=color())


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: " + " · ".join(f"{code.value} {meaning}" for code, meaning in EXIT_CODES.items()),
)
@click.version_option(version("drumline-cli"), prog_name=NAME)
def cli() -> None:
    """Deploy a Django + Celery project to your own Debian hosts.

    Every verb runs a playbook of Ansible or a command over SSH, and prints its line with --show.
    """


# ---- begin


@cli.command()
@common
@click.option("--yes", "-y", is_flag=True, help="Ask nothing; take the defaults.")
@click.option("--apply", "applies", is_flag=True, help="If deploy/ exists: write the proposed changes.")
@click.option("--root", default="", metavar="FOLDER", help="Folder with manage.py, if there are several.")
@click.option("--settings", default="", metavar="MODULE", help="Settings module on the hosts.")
@click.option("--celery", default="", metavar="MODULE:VARIABLE", help="Celery application.")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Host to deploy to; repeat it for several.")
@click.option("--user", default="", metavar="NAME", help="User who logs in to the hosts and may use sudo.")
@click.option("--site-name", "site_names", multiple=True, metavar="NAME", help="Name that the site answers to.")
@click.option("--admin-email", default="", metavar="ADDRESS", help="E-mail address of the first administrator.")
@click.option("--json", "json_", is_flag=True, help="Print what was found, as JSON, and write nothing.")
def init(asked: Asked, **given: Any) -> None:
    """Look at a project and write its deploy/ folder.

    Reads the source without running it: settings, Celery application, queues, dependencies, ASGI, schedules, commands. Asks
    what it cannot see. Writes inventory, contract, process model, a vault with generated secrets, and .gitignore. If deploy/
    exists, it shows what it would change, and changes it only with --apply or when told so.
    """
    begin.init(asked, **given)


@cli.command()
@common
@click.option("--json", "json_", is_flag=True, help="Print the findings as JSON.")
@click.option("--offline", is_flag=True, help="Look at this machine and deploy/ only, not at the hosts.")
def doctor(asked: Asked, *, json_: bool, offline: bool) -> None:
    """Check this machine, deploy/, the hosts, DNS and the certificate.

    Every finding says what to type. Exits with 1 if one of them stops a deploy. Changes nothing.
    """
    examination.run(asked, json_=json_, offline=offline)


@cli.command()
@common
@click.option(
    "--debian", type=click.Choice(["12", "13"]), default="13", show_default=True, help="Release of the test host."
)
@ansible_options
def up(asked: Asked, *, debian: str, given: str, check: bool) -> None:
    """Deploy the project to a test host on this machine.

    Boots a container with systemd that stands in for a server, runs the same playbooks on it as on your hosts, verifies it
    and prints the addresses. Needs root and podman.
    """
    begin.up(asked, debian, _further(given, check=check))


@cli.command()
@common
def down(asked: Asked) -> None:
    """Remove the test host and its generated secrets."""
    begin.down(asked)


# ---- deploy


@cli.command()
@common
@ansible_options
def setup(asked: Asked, *, given: str, check: bool) -> None:
    """Provision the hosts and deploy: site.yml.

    A second run changes nothing. Run it after a change in deploy/.
    """
    playbook.run(playbook.line(asked.project(), ["site"], further=_further(given, check=check)), show=asked.show)


@cli.command()
@common
@click.argument("ref", default="", shell_complete=_refs)
@ansible_options
def deploy(asked: Asked, *, ref: str, given: str, check: bool) -> None:
    """Deploy a commit, tag or branch: deploy.yml.

    Without REF, the files of the checkout as they are. The new release is checked beside the running one; if it does not
    become healthy, the running one is restored.
    """
    found = asked.project()
    if ref:
        project.commit_of(found.checkout, ref)
    command = playbook.line(found, ["deploy"], {"app_ref": ref} if ref else None, _further(given, check=check))
    playbook.run(command, show=asked.show)


@cli.command()
@common
@click.argument("release", default="")
@click.option(
    "--migrations",
    type=click.Choice(["refuse", "undo", "keep"]),
    default="refuse",
    show_default=True,
    help="What becomes of applied migrations that the older release does not have.",
)
@click.option("--any-task", is_flag=True, help="Go back although tasks wait that the older release cannot run.")
@ansible_options
def rollback(asked: Asked, *, release: str, migrations: str, any_task: bool, given: str, check: bool) -> None:
    """Go back to a release that is still on the hosts: rollback.yml.

    Without RELEASE, to the one that ran before. Refused before anything is touched if something stands in the way.
    """
    asked_for = {"rollback_to": release, "rollback_migrations": migrations, "rollback_any_task": any_task}
    playbook.run(playbook.line(asked.project(), ["rollback"], asked_for, _further(given, check=check)), show=asked.show)


@cli.command()
@common
@click.option("--args", "given", default="", metavar="ARGS", help="Further arguments of ansible-playbook.")
def verify(asked: Asked, *, given: str) -> None:
    """Check the fleet from end to end: verify.yml.

    Units, ports, certificates, a task through every queue and every worker, beat, the site and Flower. Changes nothing.
    """
    playbook.run(playbook.line(asked.project(), ["verify"], further=_further(given, check=False)), show=asked.show)


@cli.command()
@common
@click.option("--json", "json_", is_flag=True, help="Print one JSON object per release.")
def history(asked: Asked, *, json_: bool) -> None:
    """List the releases that were switched to, and by whom."""
    operate.history(asked, json_=json_)


@cli.command()
@common
@click.option("--reason", default="", metavar="TEXT", help="Keep everybody from deploying, for this reason: lock.yml.")
@click.option("--open", "open_", is_flag=True, help="Let everybody deploy again: lock.yml.")
@click.option("--release", is_flag=True, help="Remove the lock of a deploy that was killed.")
@click.option("--json", "json_", is_flag=True, help="Print it as JSON.")
def lock(asked: Asked, *, reason: str, open_: bool, release: bool, json_: bool) -> None:
    """Show who is deploying, lock the fleet for a reason, or remove a lock that a killed deploy left."""
    if bool(reason) + open_ + release > 1:
        raise Failure(
            "--reason locks, --open opens and --release removes a deploy's lock.",
            fix="Give one of them.",
            code=Exit.USAGE,
        )
    if reason or open_:
        wanted: dict[str, object] = {"lock_open": True} if open_ else {"lock_reason": reason}
        playbook.run(playbook.line(asked.project(), ["lock"], wanted), show=asked.show)
        return
    operate.lock(asked, release=release, json_=json_)


# ---- operate


@cli.command()
@common
@ansible_options
def restart(asked: Asked, *, given: str, check: bool) -> None:
    """Restart the fleet without a gap, host by host: restart.yml.

    --args "--limit app2" restarts one host.
    """
    playbook.run(playbook.line(asked.project(), ["restart"], None, _further(given, check=check)), show=asked.show)


@cli.command()
@common
@click.option("--upgrade", is_flag=True, help="Install the distribution's updates first.")
@click.option("--always", is_flag=True, help="Also hosts that do not wait for a reboot.")
@ansible_options
def reboot(asked: Asked, *, upgrade: bool, always: bool, given: str, check: bool) -> None:
    """Reboot hosts that wait for it, one after the other: reboot.yml."""
    wanted = {"reboot_upgrade": upgrade, "reboot_always": always}
    playbook.run(playbook.line(asked.project(), ["reboot"], wanted, _further(given, check=check)), show=asked.show)


def _processes(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    found = project.find(Path(ctx.params.get("folder") or "."), ctx.params.get("inventory") or "")
    return [CompletionItem(name) for name in operate.process_names(found) if name.startswith(incomplete)]


@cli.command()
@common
@click.option("--json", "json_", is_flag=True, help="Print it as JSON.")
def status(asked: Asked, *, json_: bool) -> None:
    """Show every process of every host, its release, and when its certificates expire.

    Exits with 1 if a process has failed, or a certificate has expired or is about to.
    """
    operate.status(asked, json_=json_)


@cli.command()
@common
@click.argument("process", default="", shell_complete=_processes)
@click.option("--follow", "-f", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--lines", "-n", type=click.IntRange(0), default=100, show_default=True, help="Lines of each host.")
@click.option("--since", default="", metavar="TIME", help='As journalctl takes it: "1 hour ago".')
@click.option("--grep", default="", metavar="PATTERN", help="Only lines that match, such as a task id.")
@click.option("--host", default="", metavar="NAME", help="Of one host only.")
def logs(asked: Asked, **given: Any) -> None:
    """Show the journal of all processes or of one.

    PROCESS is a kind (web, worker, beat, relay, flower), a queue, an instance (worker@high-1) or nginx, redis, postgresql.
    """
    operate.logs(asked, **given)


PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@cli.command(context_settings=PASSED_ON)
@common
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def queues(asked: Asked, *, arguments: Sequence[str]) -> None:
    """Show each queue: depth, oldest age, running, dead, workers.

    ARGUMENTS go to the management command queues: --json, --check, move.
    """
    _manage(asked, "queues", *arguments)


@cli.command("dead-letters", context_settings=PASSED_ON)
@common
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def dead_letters(asked: Asked, *, arguments: Sequence[str]) -> None:
    """List, show, requeue or discard tasks that failed for good.

    ARGUMENTS go to the management command dead_letters: list, show ID, requeue ID, discard ID --reason TEXT.
    """
    _manage(asked, "dead_letters", *(arguments or ["list"]))


@cli.command()
@common
@click.argument("queue", nargs=-1)
@click.option("--host", default="", metavar="NAME", help="Take this host out of service: drain.yml.")
@click.option("--resume", is_flag=True, help="Start them again.")
def drain(asked: Asked, *, queue: Sequence[str], host: str, resume: bool) -> None:
    """Stop the workers of a queue, or of all, or all processes of a host, once their work is done.

    Tasks wait meanwhile. --resume starts them again, and a deploy the workers of a queue. Nobody deploys to a drained host.
    """
    if host and queue:
        raise Failure(
            "--host takes the whole host out of service, and a queue stops its workers on every host.",
            fix=f"drumline drain {' '.join(queue)}   or   drumline drain --host {host}",
            code=Exit.USAGE,
        )
    if host:
        found = asked.project()
        limit = operate.one_host(found, host).name
        wanted = playbook.line(found, ["restart" if resume else "drain"], None, ["--limit", limit])
        playbook.run(wanted, show=asked.show)
        return
    operate.drain(asked, list(queue), resume=resume)


@cli.command(context_settings=PASSED_ON)
@common
@click.option("--host", default="", metavar="NAME", help="On this host.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, required=True)
def manage(asked: Asked, *, host: str, arguments: Sequence[str]) -> None:
    """Run a management command with the environment and sandbox of the services."""
    _manage(asked, *arguments, host=host)


@cli.command()
@common
@click.option("--host", default="", metavar="NAME", help="On this host.")
def shell(asked: Asked, *, host: str) -> None:
    """Open a shell on a host."""
    found = operate.one_host(asked.project(), host)
    _become(asked, found, "", terminal=True)


@cli.command("exec", context_settings=PASSED_ON)
@common
@click.option("--host", default="", metavar="NAME", help="On this host only.")
@click.option("--root", "as_root", is_flag=True, help="As root.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def exec_(asked: Asked, *, host: str, as_root: bool, command: Sequence[str]) -> None:
    """Run a command on every host."""
    operate.execute(asked, host, remote.as_root(*command) if as_root else shlex.join(command))


def _manage(asked: Asked, *arguments: str, host: str = "") -> None:
    found = operate.one_host(asked.project(), host)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    _become(asked, found, remote.as_root("drumline-manage", *arguments), terminal=terminal)


def _become(asked: Asked, host: Any, command: str, *, terminal: bool) -> None:
    if asked.show:
        say(playbook.as_text(remote.ssh(host, command, terminal=terminal, asks=True)))
        return
    code = remote.become(host, command, terminal=terminal)
    if code:
        raise SystemExit(code)


# ---- configure


def _variables(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in configuration.documented() if name.startswith(incomplete)]


@cli.command()
@common
@click.argument("variable", default="", shell_complete=_variables)
@click.option("--host", default="", metavar="NAME", help="For this host; without it, the first.")
@click.option("--json", "json_", is_flag=True, help="Print it as JSON.")
def config(asked: Asked, *, variable: str, host: str, json_: bool) -> None:
    """Show what a variable resolves to, and which file says so.

    Without VARIABLE, all that deploy/ sets. Secrets are shown as asterisks.
    """
    configuration.show(asked, variable, host, json_=json_)


@cli.group(cls=Nested)
def secrets() -> None:
    """Edit the vault, or replace generated secrets."""


@secrets.command("edit")
@common
def secrets_edit(asked: Asked) -> None:
    """Open the vault in $EDITOR."""
    configuration.edit(asked)


@secrets.command("rotate")
@common
@click.argument("names", nargs=-1)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def secrets_rotate(asked: Asked, *, names: Sequence[str], yes: bool) -> None:
    """Replace generated secrets, all or the named ones, in the vault.

    `drumline setup` then brings them to the hosts: the old ones are accepted until every process runs with the new ones.
    """
    configuration.rotate(asked, list(names), yes=yes)


@cli.command()
@click.argument("shell_name", metavar="SHELL", type=click.Choice(SHELLS))
def completion(shell_name: str) -> None:
    """Print the completion script of bash, zsh or fish.

    bash: drumline completion bash > ~/.local/share/bash-completion/completions/drumline
    """
    found = get_completion_class(shell_name)
    if found is not None:
        click.echo(found(cli, {}, NAME, "_DRUMLINE_COMPLETE").source())


def main() -> NoReturn:
    """Run the command line and exit."""
    if os.environ.get("NO_COLOR"):
        os.environ["ANSIBLE_NOCOLOR"] = "1"
    try:
        cli.main(prog_name=NAME, standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except Failure as failure:
        failure.show()
        sys.exit(failure.code)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else NAME
        Failure(error.format_message(), fix=f"{path} --help", code=Exit.USAGE).show()
        sys.exit(Exit.USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted; nothing was written.", err=True)
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        # Whoever reads has seen enough, as with | head.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.DONE)
    except OSError as error:
        Failure(
            f"{error.strerror or error}.", where=str(error.filename or ""), fix="Check the path and its permissions."
        ).show()
        sys.exit(Exit.PROJECT)
    sys.exit(Exit.DONE)

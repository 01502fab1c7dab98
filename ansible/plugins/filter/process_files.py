"""What runs the processes of a host, rendered from the process model: systemd's units or supervisor's programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

Process = dict[str, Any]
File = dict[str, str]

_UNITS = "/etc/systemd/system"
_ENVIRONMENTS = "/etc/drumline"
_ROOT = "/opt/drumline"
# Environments that are part of a release, beside its code.
_RELEASED = ("app", "secrets")
_LIBRARY = "/usr/local/libexec"
_SANDBOX = "drumline-.service.d/10-sandbox.conf"
# What the names of a project's own processes begin with; one that it no longer has is found by it.
_OWN = ("daemon", "timer")
# Units and files that any host may have, and those of earlier versions: one web instance, one environment of all releases.
_COMMON_UNITS = ("drumline.target", "drumline-web.service")
_COMMON_FILES = (
    f"{_UNITS}/drumline.target",
    f"{_UNITS}/drumline.slice",
    f"{_UNITS}/{_SANDBOX}",
    f"{_UNITS}/drumline-supervisor.service",
    f"{_UNITS}/drumline-supervisor.service.d/20-programs.conf",
    f"{_UNITS}/drumline-web.service",
    f"{_ENVIRONMENTS}/supervisor.conf",
    *(f"{_ENVIRONMENTS}/{name}.env" for name in _RELEASED),
)


def _templates(source: str) -> Environment:
    return Environment(
        loader=FileSystemLoader(source),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  configuration files are no HTML
    )


def _unit_name(name: str, kind: dict[str, Any]) -> str:
    """The unit file of a kind."""
    return f"drumline-{name}@.service" if kind.get("queues") or kind.get("instances") else f"drumline-{name}.service"


def _environment(process: Process, instance: str, release: str) -> list[str]:
    """The environment files of a process, for the instance's name or what stands for it.

    Those of its release are below `release`, as a prefix.
    """
    own = {"numbers": f"{process['kind']}/{instance}", "variables": process["kind"]}
    names = process["environment"] + [file for key, file in own.items() if process[key]]
    return [f"{release if name in _RELEASED else f'{_ENVIRONMENTS}/'}{name}.env" for name in names]


def _number_variables(process: Process) -> dict[str, Any]:
    """The numbers of a queue that its workers' unit reads, as variables."""
    named = [key for key in process["numbers"] if f"{{{key}}}" in process["command"]]
    return {key.upper(): process["numbers"][key] for key in [*named, "drain_timeout"]}


def _as_unit(process: Process, release: str) -> Process:
    """A process as its kind's unit file says it: systemd fills in the instance, and its numbers from their file."""
    numbers = {key: f"${{{key.upper()}}}" for key in process["numbers"]}
    command = process["command"].format(instance="%i", node="%l", **numbers)
    return process | {
        "release": release,
        "command": f"{release}/.venv/bin/{command}",
        "environment": "\nEnvironmentFile=".join(_environment(process, "%i", f"{release}/")),
        "type": {"notify": "notify", "start": "exec"}[process["ready"]],
    }


def _templates_of(process: Process, source: str) -> dict[str, str]:
    """The unit files of a kind, each with its template: one of its own, that of timers, or that of all."""
    name, more = process["unit_file"], {other: other for other in process["units"]}
    if process["calendar"]:
        return {name: "drumline-timer.service", process["unit"]: "drumline-timer.timer"} | more
    return {name: name if Path(source, "systemd", name).exists() else "drumline-process.service"} | more


def environment_files(processes: list[Process]) -> list[File]:
    """The environment files that belong to the processes alone."""
    contents = {}
    for process in processes:
        *_, path = _environment(process, process["instance"], "")
        if variables := _number_variables(process) if process["numbers"] else process["variables"]:
            contents[path] = "".join(f"{key}={value}\n" for key, value in variables.items())
    return [{"path": path, "content": content} for path, content in contents.items()]


def unit_files(
    processes: list[Process], source: str, releases: dict[str, str], variables: dict[str, Any]
) -> list[File]:
    """Everything that systemd reads to run the processes of a host.

    `source` is the checkout that holds the templates; a kind has one of its own, systemd/drumline-<kind>.service, or
    takes the one of all, systemd/drumline-process.service. `releases` gives the release that is current below each root:
    a unit names that folder, since a process never loads files of a release that it was not started from. `variables` are
    for the templates.
    """
    if not processes:
        return []
    templates = _templates(f"{source}/systemd")
    files: dict[str, str] = {}

    def unit(path: str, template: str, **more: Any) -> None:
        files[f"{_UNITS}/{path}"] = templates.get_template(template).render(**variables, **more)

    for path in ("drumline.target", "drumline.slice", _SANDBOX):
        unit(path, path)
    for process in {one["kind"]: one for one in processes}.values():
        name, as_unit = process["unit_file"], _as_unit(process, releases[process["root"]])
        for path, template in _templates_of(process, source).items():
            unit(path, template, process=as_unit, **({"i": " %i"} if "@" in name else {"i": ""}))
        for dropin in process["sandbox"]:
            unit(f"{name}.d/20-{dropin}.conf", f"drumline-{dropin}.conf", process=as_unit)
        # Written without any, too: what is newer than its process restarts it, and a file that is gone is not.
        exceptions = "\n".join(f"# {one['reason']}\n{one['set']}" for one in process["exceptions"])
        unit(f"{name}.d/30-exceptions.conf", "drumline-exceptions.conf", exceptions=exceptions)
    for process in processes:
        if process["numbers"]:
            kind, queue = process["kind"], process["numbers"]["key"]
            relieve = f"-+{_LIBRARY}/drumline-relieve drumline-{kind}@{queue} {process['numbers']['instances']}"
            unit(
                f"{process['unit']}.d/10-queue.conf",
                f"drumline-{kind}-instance.conf",
                process=process,
                relieve=relieve if process["stand_in"] else "",
                success="" if process["number"] else "SIGKILL",
            )
            members = sum(1 for other in processes if other["kind"] == kind and other["numbers"]["key"] == queue)
            slice_ = {"numbers": process["numbers"], "instances": members}
            unit(f"drumline-{kind}-{queue}.slice", f"drumline-{kind}-queue.slice", **slice_)
    found = [{"path": path, "content": content} for path, content in files.items()]
    needed = {
        "drumline-drain": any(process["drain"] for process in processes),
        "drumline-relieve": any(process["stand_in"] for process in processes),
    }
    for program in [name for name, is_needed in needed.items() if is_needed]:
        text = Path(source, "systemd", program).read_text(encoding="utf-8")
        found.append({"path": f"{_LIBRARY}/{program}", "content": text, "mode": "0755"})
    return found + environment_files(processes)


def _run(process: Process, program: Process) -> str:
    """The command line of a program: what drumline-run is to do for it, then its command."""
    options: dict[str, Any] = {
        "ready-within": process["ready_within"] if process["ready"] == "notify" else None,
        "watchdog": process["watchdog"],
        "drain": process["drain"],
        "memory-mb": process["memory_mb"],
        "listen": "%(process_num)d" if process["socket"] else None,
        "nice": process["nice"],
    }
    # drumline-run finds the relative ones in the release that it starts the command of.
    told = [f"--env={file}" for file in _environment(process, process["instance"], "")]
    told += [f"--{option}={value}" for option, value in options.items() if value is not None]
    command = process["command"].format(
        **process["numbers"] | {"instance": process["instance"]}, node="%(host_node_name)s"
    )
    return f"{_LIBRARY}/drumline-run {' '.join(told)} -- {program['directory']}/.venv/bin/{command}"


def _programs(processes: list[Process]) -> list[Process]:
    """The programs of a host: one for each process, and one for all instances of a socket."""
    programs: dict[str, Process] = {}
    for process in processes:
        name = process["program"].partition(":")[0]
        # drumline-run finds the release behind the link. Were it named here, every release would be another
        # configuration, for which supervisor replaces a program as a whole, and its socket with it.
        program = {
            "name": name,
            "directory": f"{process['root']}/current",
            "socket": process["socket"],
            # Of a socket's members the first only holds it.
            "members": 1 + len([one for one in processes if one["kind"] == process["kind"]]),
            "stop": (process["drain"] or 0) + process["stop"],
        }
        programs[name] = program | {"command": _run(process, program)}
    return list(programs.values())


def program_files(processes: list[Process], source: str, variables: dict[str, Any]) -> list[File]:
    """Everything that runs the processes of a host under supervisor, which has no stand-ins."""
    processes = [process for process in processes if process["number"]]
    templates, programs = _templates(f"{source}/supervisor"), _programs(processes)
    told = variables | {
        "programs": programs,
        "longest_stop": max((program["stop"] for program in programs), default=0),
    }
    configuration = templates.get_template("drumline.conf").render(told)
    boot = templates.get_template("drumline-supervisor.service").render(told)
    more = templates.get_template("drumline-supervisor-programs.conf").render(told)
    sandbox = _templates(f"{source}/systemd").get_template(_SANDBOX).render(told)
    return [
        {
            "path": f"{_ENVIRONMENTS}/supervisor.conf",
            "content": configuration,
            "mode": "0640",
            "group": "drumline",
        },
        {"path": f"{_UNITS}/{_SANDBOX}", "content": sandbox},
        {"path": f"{_UNITS}/drumline-supervisor.service.d/20-programs.conf", "content": more},
        {"path": f"{_UNITS}/drumline-supervisor.service", "content": boot},
        *environment_files(processes),
    ]


def development_programs(
    processes: list[Process], kinds: dict[str, dict[str, Any]], ports: dict[str, int]
) -> list[Process]:
    """The programs of `make dev`: the processes of a host, one instance of each, on the checkout."""
    programs: dict[str, Process] = {}
    for process in processes:
        other = kinds[process["kind"]].get("development", {})
        values = process["numbers"] | {"instance": process["instance"], "port": ports.get(process["kind"])}
        name = process["program"].partition(":")[0]
        programs[name] = {
            "name": name,
            "command": other.get("command", process["command"]).format(**values, node="%(host_node_name)s"),
            "environment": ",".join(f'{key}="{value}"' for key, value in other.get("environment", {}).items()),
            # What has a release of its own does not run the application's code.
            "reloads": "root" not in kinds[process["kind"]],
        }
    return list(programs.values())


def owned_units(kinds: dict[str, dict[str, Any]]) -> list[str]:
    """Patterns of every unit that a host may have, whatever it runs now."""
    units = [
        _unit_name(name, kind).replace("@.", "@*.")
        for name, kind in kinds.items()
        if name.partition("-")[0] not in _OWN
    ]
    beside = [unit for kind in kinds.values() for unit in kind.get("units", []) if not unit.endswith(".slice")]
    # What a timer has started ends by itself.
    return [*_COMMON_UNITS, *units, *beside, "drumline-daemon-*.service", "drumline-timer-*.timer"]


def owned_files(kinds: dict[str, dict[str, Any]], processes: list[str] | None = None) -> list[str]:
    """Globs of every file of the processes that a host may have; without those that its present kinds still read.

    The environments of the releases and of Flower are written elsewhere: they go with the last process that reads them.
    """
    found = [
        *_COMMON_FILES,
        f"{_UNITS}/drumline-*.service.d/30-exceptions.conf",
        *(f"{_UNITS}/drumline-{own}-*.{suffix}" for own in _OWN for suffix in ("service", "timer")),
    ]
    found += [f"{_ENVIRONMENTS}/{own}-*.env" for own in _OWN]
    for name, kind in kinds.items():
        unit = _unit_name(name, kind)
        found.append(f"{_UNITS}/{unit}")
        found += [f"{_UNITS}/{other}" for other in kind.get("units", [])]
        found += [f"{_UNITS}/drumline-*.service.d/20-{dropin}.conf" for dropin in kind.get("sandbox", [])]
        if kind.get("queues"):
            found += [f"{_UNITS}/{unit.replace('@.', '@*.')}.d/10-queue.conf", f"{_UNITS}/drumline-{name}-*.slice"]
            found.append(f"{_ENVIRONMENTS}/{name}/*.env")
        if kind.get("variables"):
            found.append(f"{_ENVIRONMENTS}/{name}.env")
    read = {file for name in processes or () for file in kinds[name].get("environment", ["app", "secrets"])}
    shared = {file: None for kind in kinds.values() for file in kind.get("environment", ["app", "secrets"])}
    found += [
        f"{f'{_ROOT}/releases/*' if file in _RELEASED else _ENVIRONMENTS}/{file}.env"
        for file in shared
        if file not in read
    ]
    return list(dict.fromkeys(found))


def ran(lines: list[str], kinds: dict[str, dict[str, Any]]) -> list[str]:
    """What ran, from what systemctl or supervisorctl printed: the first word of each line that is about a process."""
    words = [line.split()[0] for line in lines if line.split()]
    known = {*kinds, *_OWN}
    return [word for word in words if word.startswith("drumline") or word.replace(":", "-").split("-")[0] in known]


class FilterModule:
    """Names under which the playbooks use these functions."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {
            "owned_files": owned_files,
            "owned_units": owned_units,
            "program_files": program_files,
            "ran": ran,
            "unit_files": unit_files,
        }

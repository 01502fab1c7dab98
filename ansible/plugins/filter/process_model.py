"""What follows from the process model (group_vars/all/processes.yml), and what is wrong with it."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any

Kind = dict[str, Any]
Queue = dict[str, Any]
Host = dict[str, Any]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
# Of a daemon or a timer, whose unit's name begins with that word.
_KIND_NAME = re.compile(r"(daemon-|timer-)?[a-z][a-z0-9_]*")
# What neither a list of queues, a shell, a unit nor supervisor reads as anything else.
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@+-]*")
_NUMBERS = (
    "instances",
    "concurrency",
    "prefetch",
    "soft_time_limit",
    "time_limit",
    "drain_timeout",
    "memory_mb",
    "cpu_weight",
)
# What Ansible's filter `bool` understands; it takes any other word for false.
_SWITCH = ("true", "yes", "on", "1", "false", "no", "off", "0")
# Celery's pools in which the ledger's guarantees hold; the first is the default.
POOLS = ("prefork", "threads", "gevent", "solo")
# Of what a kind of process need not say.
_DEFAULTS: Kind = {
    "calendar": "",
    "exceptions": [],
    "environment": ["app", "secrets"],
    "needs": "",
    # After a boot all start at once, and on a slow host ending a start that is under way would only begin it again.
    "ready_within": 600,
    "root": "/opt/drumline",
    "sandbox": [],
    "socket": "",
    "steady": False,
    "units": [],
    "variables": {},
    "watchdog": None,
}
# What a project need not say of a process of its own, and of a command that runs at set times.
_DAEMON: Kind = {
    "group": "worker",
    "ready": "start",
    "stop": 30,
    "memory_mb": 256,
    "connections": 2,
    "sandbox": ["caller"],
}
_TIMER: Kind = {
    "group": "beat",
    "ready": "start",
    "stop": 30,
    "memory_mb": 256,
    "connections": 1,
    "sandbox": ["caller"],
    "timeout": 3600,
}
_KNOWN = {*_DEFAULTS, *("command", "connections", "connections_per_task", "development", "group", "instances")}
_KNOWN |= {"memory_mb", "queues", "ready", "stop"}
_HIGHEST_CPU_WEIGHT = 10000
_HIGHEST_NICE = 19
_CHAIN = ("soft_time_limit", "time_limit", "drain_timeout")


def worker_instances(
    queues: dict[str, Queue], served: list[str], stand_ins: list[str] | None = None
) -> list[dict[str, Any]]:
    """One entry for each worker unit of a host.

    It has its queue's numbers and `pool`, `key` (the queue's in app_queues), `queue` (its name at the broker), `number` and
    `name` (high-1). The instance 0 of a queue in `stand_ins` is its stand-in.
    """
    return [
        {
            **queues[key],
            "key": key,
            "queue": queue_name(key, queues),
            "pool": queues[key].get("pool", POOLS[0]),
            "number": number,
            "name": f"{key}-{number}",
        }
        for key in served
        for number in range(0 if key in (stand_ins or ()) else 1, queues[key]["instances"] + 1)
    ]


def queue_name(key: str, queues: dict[str, Queue]) -> str:
    """The name that a queue has at the broker and in the project's routes: its key, unless it says another."""
    return str(queues[key].get("queue", key))


def queue_names(keys: list[str], queues: dict[str, Queue]) -> list[str]:
    """The names of queues at the broker."""
    return [queue_name(key, queues) for key in keys]


def kinds_on(kinds: dict[str, Kind], groups: list[str], *, ledger: bool = True) -> list[str]:
    """Names of the kinds of process that a host with these groups runs, in a project with or without the ledger."""
    return [
        name for name, kind in kinds.items() if kind["group"] in groups and (ledger or kind.get("needs") != "ledger")
    ]


def processes(
    kinds: dict[str, Kind],
    wanted: list[str],
    queues: dict[str, Queue],
    served: list[str],
    stand_ins: list[str] | None = None,
) -> list[dict[str, Any]]:
    """Every process of a host that runs the wanted kinds, in the order of the model, with all that is said of it.

    Beside the keys of its kind: `kind`, `instance` ("" of a single one), `number` of the instance, `unit` and `program`
    (its names under systemd and supervisor), `drain` (seconds, or None), `numbers` (those of its queue, or nothing) and
    `stand_in` (the unit that consumes in its place while it drains, or "").
    """
    known = [queue for queue in served if queue in queues]
    return [
        _process(name, kind, number, numbers)
        | {
            "nice": cpu_nice(numbers, queues) if numbers else None,
            "stand_in": f"drumline-{name}@{numbers['key']}-0.service"
            if number and numbers and numbers["key"] in (stand_ins or ())
            else "",
        }
        for name, kind in kinds.items()
        if name in wanted
        for number, numbers in (
            [(instance["number"], instance) for instance in worker_instances(queues, known, stand_ins)]
            if kind.get("queues")
            else [(number, {}) for number, _ in enumerate(kind.get("instances", [""]), start=1)]
        )
    ]


def with_own(kinds: dict[str, Kind], daemons: dict[str, Kind], timers: dict[str, Kind]) -> dict[str, Kind]:
    """The kinds of process with the project's own: daemons, which always run, and timers, which run a command and end."""
    own = {f"daemon-{name}": {**_DAEMON, **given} for name, given in daemons.items()}
    for name, given in timers.items():
        kind = {**_TIMER, **given}
        own[f"timer-{name}"] = kind | {"ready_within": kind.pop("timeout")}
    return {**kinds, **own}


def with_exceptions(kinds: dict[str, Kind], exceptions: list[dict[str, str]]) -> dict[str, Kind]:
    """The kinds of process, each with the exceptions from the sandbox that are made for it."""
    return {
        name: kind | {"exceptions": [one for one in exceptions if one.get("process") == name]}
        for name, kind in kinds.items()
    }


def exception_problems(
    exceptions: list[dict[str, str]], kinds: dict[str, Kind], sandbox: str, manager: str
) -> list[str]:
    """What is wrong with the exceptions from the sandbox, whose text tells the directives that may be set."""
    if exceptions and manager != "systemd":
        return [
            "app_sandbox_exceptions needs app_process_manager: systemd. All programs of supervisor share one sandbox."
        ]
    directives = sorted(set(re.findall(r"^([A-Z]\w+)=", sandbox, flags=re.MULTILINE)))
    problems = []
    for number, one in enumerate(exceptions):
        at = f"app_sandbox_exceptions[{number}]"
        problems += _unknown_key(at, one, ["process", "set", "reason"])
        problems += [
            f"{at}.{key} is {one.get(key, 'missing')!r}. Write it as text in one line."
            for key in ("process", "set", "reason")
            if not isinstance(one.get(key), str) or not one[key].strip() or "\n" in one[key]
        ]
        if one.get("process") not in kinds:
            problems.append(f"{at}.process is {one.get('process')!r}. Kinds of process are {', '.join(kinds)}.")
        if str(one.get("set")).partition("=")[0] not in directives or "=" not in str(one.get("set")):
            problems.append(f"{at}.set is {one.get('set')!r}. It must be DIRECTIVE=VALUE, of {', '.join(directives)}.")
    return problems


def own_problems(daemons: dict[str, Kind], timers: dict[str, Kind], manager: str) -> list[str]:
    """What is wrong with the daemons and timers that a project adds."""
    problems = []
    if timers and manager != "systemd":
        problems.append(
            "app_timers needs app_process_manager: systemd. Run the commands by beat, or remove app_timers."
        )
    for variable, given, known in (
        ("app_daemons", daemons, {"command", *_DAEMON, "watchdog", "ready_within", "environment", "variables"}),
        ("app_timers", timers, {"command", "calendar", *_TIMER}),
    ):
        for name, kind in given.items():
            at = f"{variable}.{name}"
            if not _NAME.fullmatch(name):
                problems.append(
                    f"{variable} has {name!r}. Unit names contain it: use lower-case letters, digits and _."
                )
            problems += _unknown_key(at, kind, sorted(known))
            needed = ["command"] + (["calendar"] if variable == "app_timers" else [])
            problems += [f"{at}.{key} is missing. Set it." for key in needed if not kind.get(key)]
    return problems


def _process(name: str, kind: Kind, number: int, numbers: dict[str, Any]) -> dict[str, Any]:
    instance = numbers.get("name") or kind.get("instances", [""])[number - 1]
    at = "@" if instance else ""
    dash = f":{name}-" if kind.get("socket") else "-" if instance else ""
    return {
        **_DEFAULTS,
        **kind,
        "kind": name,
        "instance": instance,
        "number": number,
        "numbers": numbers,
        "unit_file": f"drumline-{name}{at}.service",
        "unit": f"drumline-{name}{at}{instance}.{'timer' if kind.get('calendar') else 'service'}",
        "program": f"{name}{dash}{instance}",
        "drain": numbers.get("drain_timeout"),
        "memory_mb": int(numbers.get("memory_mb") or kind["memory_mb"]),
        "connections": kind.get("connections", 0) + kind.get("connections_per_task", 0) * numbers.get("concurrency", 0),
    }


def restart_waves(processes: list[dict[str, Any]], manager: str = "systemd") -> list[list[str]]:
    """Units or programs in the order of their restart: the first instance of every queue, then the second, then the others.

    What sends tasks comes after the workers, since an older worker does not know every task of a newer release.
    """
    waves: dict[tuple[bool, int], list[str]] = {}
    for process in processes:
        number = process["number"]
        if number == 0:
            continue
        is_sender = not process["numbers"]
        wave = waves.setdefault((is_sender, number), [])
        if process["socket"] and number == 1:
            # What holds the socket comes first; supervisor's holder is a member of its own.
            if manager == "systemd":
                wave.append(f"drumline-{process['kind']}.socket")
            else:
                waves.setdefault((is_sender, 0), []).append(f"{process['kind']}:{process['kind']}-0")
        wave.append(process["unit" if manager == "systemd" else "program"])
    return [waves[key] for key in sorted(waves)]


def queues_with_stand_in(processes: list[dict[str, Any]], patience: int, memory_mb: int) -> list[str]:
    """Queues of a host whose instances may drain for longer than `patience` seconds, by the longest drain.

    Only as far as the host's memory suffices for one more instance of each beside all its processes.
    """
    left = memory_mb - sum(process["memory_mb"] for process in processes)
    found = []
    queues = {process["numbers"]["key"]: process for process in processes if process["numbers"]}
    for queue, process in sorted(queues.items(), key=lambda item: -item[1]["drain"]):
        if process["drain"] > patience and process["memory_mb"] <= left:
            left -= process["memory_mb"]
            found.append(queue)
    return found


def stand_ins(processes: list[dict[str, Any]]) -> dict[str, str]:
    """The stand-in's unit by the unit in whose place it consumes."""
    return {process["unit"]: process["stand_in"] for process in processes if process["stand_in"]}


def not_up(states: dict[str, str], stand_ins: dict[str, str]) -> list[str]:
    """What to say of each unit that is not active, by the state of each; one may drain while its stand-in is active."""
    return [
        f"{unit} is {state}"
        for unit, state in states.items()
        if state != "active"
        and unit not in stand_ins.values()
        and not (state == "deactivating" and states.get(stand_ins.get(unit, "")) == "active")
    ]


def cpu_nice(instance: dict[str, Any], queues: dict[str, Queue]) -> int:
    """The niceness that stands for an instance's CPU weight: 0 for the heaviest queue, and a step is a factor of 1.25."""
    heaviest = max(queue["cpu_weight"] for queue in queues.values())
    return min(_HIGHEST_NICE, round(math.log(heaviest / instance["cpu_weight"], 1.25)))


def queue_problems(queues: dict[str, Queue], visibility_timeout: int) -> list[str]:
    """What is wrong with the queues themselves: missing or impossible numbers, and a broken chain of limits."""
    if not queues:
        return ["app_queues is empty. Declare at least one queue in group_vars/all/processes.yml."]
    names = queue_names(list(queues), queues)
    problems = [
        f"app_queues has two entries for the queue {name}. Remove one, or give it another name with queue:."
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    for name, queue in queues.items():
        if not _NAME.fullmatch(name):
            problems.append(
                f"app_queues has the key {name!r}. Unit names contain it: use lower-case letters, digits and _, and give"
                f" the queue's own name beside it: {_key(name)}: {{queue: {name}, ...}}."
            )
        problems += _unknown_key(f"app_queues.{name}", queue, ["queue", "pool", *_NUMBERS])
        if _NAME.fullmatch(name) and not _QUEUE_NAME.fullmatch(queue_name(name, queues)):
            problems.append(
                f"app_queues.{name}.queue is {queue['queue']!r}. Workers are started with it: use letters, digits and _ . : / @ + -."
            )
        problems += _pool_problems(name, queue)
        wrong = [
            f"app_queues.{name}.{key} is {queue.get(key, 'missing')}. It must be a whole number of at least 1."
            for key in _NUMBERS
            if not isinstance(queue.get(key), int) or isinstance(queue.get(key), bool) or queue[key] < 1
        ]
        problems += wrong
        if wrong:
            continue
        if queue["cpu_weight"] > _HIGHEST_CPU_WEIGHT:
            problems.append(
                f"app_queues.{name}.cpu_weight is {queue['cpu_weight']}. systemd allows 1 to {_HIGHEST_CPU_WEIGHT}."
            )
        links = [(f"app_queues.{name}.{key}", queue[key]) for key in _CHAIN]
        links.append(("app_visibility_timeout", int(visibility_timeout)))
        for (lower, low), (higher, high) in pairwise(links):
            if low >= high:
                problems.append(
                    f"{lower} is {low} s and {higher} is {high} s. A queue needs soft_time_limit < time_limit"
                    f" < drain_timeout < app_visibility_timeout. Lower the first or raise the second."
                )
    return problems


def _pool_problems(name: str, queue: Queue) -> list[str]:
    pool = queue.get("pool", POOLS[0])
    if pool not in POOLS:
        return [f"app_queues.{name}.pool is {pool!r}. Known pools are {', '.join(POOLS)}."]
    if pool == "solo" and queue.get("concurrency") != 1:
        return [
            f"app_queues.{name} has the pool solo, which runs one task at once. Set concurrency: 1, or another pool."
        ]
    return []


def _key(name: str) -> str:
    """A key that unit names may contain, for a queue's name."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789") or "queue"


def number_problems(name: str, values: dict[str, Any], keys: list[str]) -> list[str]:
    """Which of the numbers of a variable are missing or none."""
    return [
        f"{name}.{key} is {values.get(key, 'missing')}. It must be a whole number of at least 1."
        for key in keys
        if not isinstance(values.get(key), int) or isinstance(values.get(key), bool) or values[key] < 1
    ]


def switch_problems(values: dict[str, Any], keys: list[str], at: str = "") -> list[str]:
    """Which of these variables, or of the keys of the variable `at`, are missing or neither true nor false."""
    return [
        f"{at}{key} is {values.get(key, 'missing')}. It must be true or false."
        for key in keys
        if str(values.get(key, "")).lower() not in _SWITCH
    ]


def _unknown_key(at: str, found: dict[str, Any], known: list[str]) -> list[str]:
    unknown = sorted(set(found) - set(known))
    if not unknown:
        return []
    return [f"{at} has the unknown key {unknown[0]}. Known keys are {', '.join(known)}. Correct or remove it."]


def kind_problems(kinds: dict[str, Kind]) -> list[str]:
    """What is wrong with the kinds of process themselves."""
    problems = []
    for name, kind in kinds.items():
        at = f"app_processes.{name}"
        if not _KIND_NAME.fullmatch(name):
            problems.append(
                f"app_processes has a kind named {name!r}. Unit names contain it: use lower-case letters, digits and _."
            )
        problems += _unknown_key(at, kind, sorted(_KNOWN))
        problems += [f"{at}.{key} is missing. Set it." for key in ("group", "command") if not kind.get(key)]
        if kind.get("ready") not in ("notify", "start"):
            problems.append(f"{at}.ready is {kind.get('ready', 'missing')}. It must be notify or start.")
        problems += number_problems(at, kind, ["stop"] if kind.get("queues") else ["stop", "memory_mb"])
    return problems


def fleet_host(variables: Any) -> Host:
    """What fleet_problems looks at, from the variables of a host."""
    return {
        "name": variables["inventory_hostname"],
        "groups": variables["group_names"],
        "served": variables["app_queues_served"],
        "memory_mb": variables["ansible_facts"].get("memtotal_mb", 0),
        "needed_mb": sum(process["memory_mb"] for process in variables["fleet_processes"]),
        "beat_hosts": variables["app_beat"]["hosts"],
    }


def fleet_problems(hosts: list[Host], queues: dict[str, Queue]) -> list[str]:
    """What is wrong between the process model and the hosts that are to run it.

    Each host is a dict with `name`, `groups`, `served` (queues of its workers), `memory_mb` (its RAM, 0 if unknown), `needed_mb` (what
    its processes may take) and `beat_hosts` (how many beat hosts the inventory asks for).
    """
    problems = []
    workers = [host for host in hosts if "worker" in host["groups"]]
    for host in workers:
        problems += [
            f"{host['name']} serves the queue {queue} (app_queues_served), which is not in app_queues."
            f" Declared queues are {', '.join(queues)}. Declare it, or remove it from app_queues_served."
            for queue in host["served"]
            if queue not in queues
        ]
    problems += [
        f"No host serves the queue {queue}, so its tasks would never run. Add {queue} to"
        f" app_queues_served of a host in group worker, or remove it from app_queues and from the routes."
        for queue in queues
        if not any(queue in host["served"] for host in workers)
    ]
    for host in hosts:
        # Of a host that was not reached nothing is known.
        if host["memory_mb"] and host["needed_mb"] > host["memory_mb"]:
            problems.append(
                f"{host['name']} has {host['memory_mb']} MB of memory, but its processes may use {host['needed_mb']} MB."
                f" Lower memory_mb or instances in app_queues, serve fewer queues there (app_queues_served), or use a larger host."
            )
    beat = [host["name"] for host in hosts if "beat" in host["groups"]]
    wanted = max((host["beat_hosts"] for host in hosts), default=1)
    if len(beat) != wanted:
        problems.append(
            f"Group beat has {len(beat)} hosts ({', '.join(beat) or 'none'}), but app_beat.hosts is {wanted}."
            f" Further hosts are standbys: leave one host in the group, or set app_beat.hosts to {len(beat)}."
        )
    return problems


def served_only_by(hosts: list[Host], name: str, gone: list[str]) -> list[str]:
    """What no other host runs if those that are gone do not count: queues, the site and beat."""
    mine = next(host for host in hosts if host["name"] == name)
    others = [host for host in hosts if host["name"] not in (name, *gone)]
    elsewhere = {queue for host in others if "worker" in host["groups"] for queue in host["served"]}
    queues = [f"the queue {queue}" for queue in mine["served"] if "worker" in mine["groups"] and queue not in elsewhere]
    groups = {group for host in others for group in host["groups"]}
    kinds = {"web": "the site", "beat": "beat"}
    return queues + [what for group, what in kinds.items() if group in mine["groups"] and group not in groups]


class FilterModule:
    """Names under which the playbooks use these functions."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {
            "fleet_host": fleet_host,
            "fleet_problems": fleet_problems,
            "exception_problems": exception_problems,
            "kind_problems": kind_problems,
            "kinds_on": lambda kinds, groups, ledger=True: kinds_on(kinds, groups, ledger=ledger),
            "number_problems": lambda values, name, keys: number_problems(name, values, keys),
            "not_up": not_up,
            "processes": processes,
            "queue_names": queue_names,
            "queue_problems": queue_problems,
            "own_problems": own_problems,
            "queues_with_stand_in": queues_with_stand_in,
            "restart_waves": restart_waves,
            "switch_problems": switch_problems,
            "served_only_by": served_only_by,
            "stand_ins": stand_ins,
            "with_exceptions": with_exceptions,
            "with_own": with_own,
        }

"""What follows from the process model (group_vars/all/processes.yml), and what is wrong with it."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any

Queue = dict[str, Any]
Host = dict[str, Any]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
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
_HIGHEST_CPU_WEIGHT = 10000
_HIGHEST_NICE = 19
_CHAIN = ("soft_time_limit", "time_limit", "drain_timeout")


def worker_instances(queues: dict[str, Queue], served: list[str]) -> list[dict[str, Any]]:
    """One entry for each worker unit of a host: its queue's numbers, `queue`, `number` and `name` (high-1)."""
    return [
        {**queues[queue], "queue": queue, "number": number, "name": f"{queue}-{number}"}
        for queue in served
        for number in range(1, queues[queue]["instances"] + 1)
    ]


def restart_waves(instances: list[dict[str, Any]], name: str = "drumline-worker@{}.service") -> list[list[str]]:
    """Workers in the order of their restart: the first of every queue, then the second of every queue."""
    numbers = sorted({instance["number"] for instance in instances})
    return [
        [name.format(instance["name"]) for instance in instances if instance["number"] == number] for number in numbers
    ]


def cpu_nice(instance: dict[str, Any], queues: dict[str, Queue]) -> int:
    """The niceness that stands for an instance's CPU weight: 0 for the heaviest queue, and a step is a factor of 1.25."""
    heaviest = max(queue["cpu_weight"] for queue in queues.values())
    return min(_HIGHEST_NICE, round(math.log(heaviest / instance["cpu_weight"], 1.25)))


def queue_problems(queues: dict[str, Queue], visibility_timeout: int) -> list[str]:
    """What is wrong with the queues themselves: missing or impossible numbers, and a broken chain of limits."""
    if not queues:
        return ["app_queues is empty. Declare at least one queue in group_vars/all/processes.yml."]
    problems = []
    for name, queue in queues.items():
        if not _NAME.fullmatch(name):
            problems.append(
                f"app_queues has a queue named {name!r}. Unit names contain it: use lower-case letters, digits and _."
            )
        unknown = sorted(set(queue) - set(_NUMBERS))
        if unknown:
            problems.append(
                f"app_queues.{name} has the unknown key {unknown[0]}. Known keys are {', '.join(_NUMBERS)}. Correct or remove it."
            )
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


def fleet_problems(hosts: list[Host], queues: dict[str, Queue]) -> list[str]:
    """What is wrong between the process model and the hosts that are to run it.

    Each host is a dict with `name`, `groups`, `served` (queues of its workers), `memory_mb` (its RAM), `reserved_mb`
    (what else of the model runs there) and `beat_hosts` (how many beat hosts the inventory asks for).
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
        needed = host["reserved_mb"] + sum(
            queues[queue]["instances"] * queues[queue]["memory_mb"]
            for queue in (host["served"] if "worker" in host["groups"] else [])
            if queue in queues
        )
        if needed > host["memory_mb"]:
            problems.append(
                f"{host['name']} has {host['memory_mb']} MB of memory, but its processes may use {needed} MB."
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


class FilterModule:
    """Names under which the playbooks use these functions."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {
            "cpu_nice": cpu_nice,
            "fleet_problems": fleet_problems,
            "queue_problems": queue_problems,
            "restart_waves": restart_waves,
            "worker_instances": worker_instances,
        }

"""The process model's filters name what is wrong, with the variable, the value and what to do."""

from __future__ import annotations

import importlib.util
from copy import deepcopy
from typing import Any

import pytest

from drumline.celery_hooks import pools
from tests.support.paths import ANSIBLE
from tests.support.rendering import load

_spec = importlib.util.spec_from_file_location("process_model", ANSIBLE / "plugins" / "filter" / "process_model.py")
assert _spec
assert _spec.loader
process_model = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(process_model)

QUEUES = load(ANSIBLE / "group_vars/all/processes.yml")["app_queues"]
KINDS = {"worker": {"group": "worker", "queues": True, "command": "celery", "ready": "notify", "stop": 30}}
HOST = {
    "name": "app1",
    "groups": ["worker", "beat"],
    "served": list(QUEUES),
    "memory_mb": 8000,
    "needed_mb": 3072,
    "beat_hosts": 1,
}


def queues(**changes: Any) -> dict[str, Any]:
    changed = deepcopy(QUEUES)
    changed["high"] |= changes
    return changed


def test_the_shipped_model_has_no_problem() -> None:
    assert process_model.queue_problems(QUEUES, 2160) == []
    assert process_model.fleet_problems([HOST], QUEUES) == []


@pytest.mark.parametrize(
    ("changes", "visibility", "named"),
    [
        (
            {"soft_time_limit": 90},
            2160,
            "app_queues.high.soft_time_limit is 90 s and app_queues.high.time_limit is 90 s",
        ),
        ({"time_limit": 120}, 2160, "app_queues.high.time_limit is 120 s and app_queues.high.drain_timeout is 120 s"),
        ({"drain_timeout": 2160}, 2160, "app_queues.high.drain_timeout is 2160 s and app_visibility_timeout is 2160 s"),
        ({"instances": 0}, 2160, "app_queues.high.instances is 0. It must be a whole number of at least 1"),
        ({"concurrency": "two"}, 2160, "app_queues.high.concurrency is two"),
        ({"memory_mb": True}, 2160, "app_queues.high.memory_mb is True"),
        ({"cpu_weight": 20000}, 2160, "app_queues.high.cpu_weight is 20000"),
        ({"memmory_mb": 3}, 2160, "app_queues.high has the unknown key memmory_mb"),
    ],
)
def test_a_queue_that_cannot_work_is_named_with_its_value(changes: dict[str, Any], visibility: int, named: str) -> None:
    assert any(named in problem for problem in process_model.queue_problems(queues(**changes), visibility))


def test_a_queue_whose_name_cannot_be_a_unit_is_refused() -> None:
    [problem] = process_model.queue_problems({"HIGH-prio.1": QUEUES["high"]}, 2160)
    assert "app_queues has the key 'HIGH-prio.1'" in problem
    assert "high_prio: {queue: HIGH-prio.1, ...}" in problem


@pytest.mark.parametrize("name", ["a,b", "a b", "$x", "%h", 'a"b', "-x", ""])
def test_a_queue_name_that_a_command_line_would_read_otherwise_is_refused(name: str) -> None:
    [problem] = process_model.queue_problems(queues(queue=name), 2160)
    assert f"app_queues.high.queue is {name!r}" in problem


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pool": "eventlet"}, "app_queues.high.pool is 'eventlet'. Known pools are prefork, threads, gevent, solo."),
        ({"pool": "solo"}, "app_queues.high has the pool solo, which runs one task at once. Set concurrency: 1"),
    ],
)
def test_a_pool_that_cannot_work_is_refused(changes: dict[str, Any], said: str) -> None:
    [problem] = process_model.queue_problems(queues(**changes), 2160)
    assert problem.startswith(said)


def test_a_queue_may_have_the_pools_that_the_package_supports() -> None:
    assert set(process_model.POOLS) == set(pools.SUPPORTED.values())


def test_each_queue_has_a_pool_of_its_own() -> None:
    threads = queues(pool="threads")
    workers = process_model.processes(KINDS, ["worker"], threads, ["high", "low"])

    assert process_model.queue_problems(threads, 2160) == []
    assert {worker["numbers"]["key"]: worker["numbers"]["pool"] for worker in workers} == {
        "high": "threads",
        "low": "prefork",
    }


def test_two_entries_for_one_queue_are_refused() -> None:
    [problem] = process_model.queue_problems(queues(queue="low"), 2160)
    assert "two entries for the queue low" in problem


def test_a_queue_keeps_its_own_name_and_its_units_are_named_by_the_key() -> None:
    named = queues(queue="HIGH-priority")
    [worker, *_] = process_model.processes(KINDS, ["worker"], named, ["high"])

    assert process_model.queue_problems(named, 2160) == []
    assert process_model.queue_names(list(named), named) == ["HIGH-priority", "default", "low"]
    assert (worker["unit"], worker["numbers"]["queue"]) == ("drumline-worker@high-1.service", "HIGH-priority")


def test_a_missing_number_is_named() -> None:
    model = queues()
    del model["low"]["time_limit"]
    assert process_model.queue_problems(model, 2160) == [
        "app_queues.low.time_limit is missing. It must be a whole number of at least 1."
    ]


def test_a_queue_that_no_host_serves_is_named() -> None:
    problems = process_model.fleet_problems([HOST | {"served": ["high", "default"]}], QUEUES)
    assert len(problems) == 1
    assert problems[0].startswith("No host serves the queue low")


def test_a_host_that_serves_an_undeclared_queue_is_named() -> None:
    problems = process_model.fleet_problems([HOST | {"served": [*QUEUES, "bulk"]}], QUEUES)
    assert problems[0].startswith("app1 serves the queue bulk")


def test_workers_that_need_more_memory_than_their_host_has_are_refused_with_both_figures() -> None:
    problems = process_model.fleet_problems([HOST | {"memory_mb": 1000}], QUEUES)
    assert problems[0].startswith("app1 has 1000 MB of memory, but its processes may use 3072 MB")


def test_a_host_whose_memory_is_not_known_is_not_refused_for_it() -> None:
    assert process_model.fleet_problems([HOST | {"memory_mb": 0}], QUEUES) == []


def test_two_beat_hosts_are_refused_unless_the_model_asks_for_two() -> None:
    two = [HOST, HOST | {"name": "app2"}]
    assert (
        "Group beat has 2 hosts (app1, app2), but app_beat.hosts is 1" in process_model.fleet_problems(two, QUEUES)[0]
    )
    assert process_model.fleet_problems([host | {"beat_hosts": 2} for host in two], QUEUES) == []


def test_workers_restart_one_instance_of_each_queue_at_a_time_and_before_what_sends_tasks() -> None:
    kinds = {
        "web": {"group": "worker", "command": "gunicorn", "socket": "web", "instances": ["1", "2"], "memory_mb": 1},
        "worker": {"group": "worker", "queues": True, "command": "celery", "ready": "notify", "stop": 30},
        "beat": {"group": "worker", "command": "celery beat", "memory_mb": 1},
    }
    model = process_model.processes(kinds, list(kinds), QUEUES, ["high", "low"])
    assert process_model.restart_waves(model) == [
        ["drumline-worker@high-1.service", "drumline-worker@low-1.service"],
        ["drumline-worker@high-2.service", "drumline-worker@low-2.service"],
        ["drumline-web.socket", "drumline-web@1.service", "drumline-beat.service"],
        ["drumline-web@2.service"],
    ]


def test_a_queue_has_a_stand_in_if_it_may_drain_for_long_and_the_host_has_the_memory_for_one_more_instance() -> None:
    kinds = {"worker": {"group": "worker", "queues": True, "command": "celery", "ready": "notify", "stop": 30}}
    workers = process_model.processes(kinds, ["worker"], QUEUES, list(QUEUES))
    needed = sum(worker["memory_mb"] for worker in workers)

    assert process_model.queues_with_stand_in(workers, 30, needed + 2000) == ["low", "default", "high"]
    assert process_model.queues_with_stand_in(workers, 400, needed + 2000) == ["low", "default"]
    assert process_model.queues_with_stand_in(workers, 30, needed + 600) == ["low"]
    assert process_model.queues_with_stand_in(workers, 30, needed) == []


def test_a_stand_in_is_an_instance_that_no_deploy_starts_by_itself() -> None:
    kinds = {"worker": {"group": "worker", "queues": True, "command": "celery", "ready": "notify", "stop": 30}}
    workers = process_model.processes(kinds, ["worker"], QUEUES, ["high", "low"], ["low"])

    assert [worker["unit"] for worker in workers if worker["number"] == 0] == ["drumline-worker@low-0.service"]
    assert all("drumline-worker@low-0.service" not in wave for wave in process_model.restart_waves(workers))
    assert process_model.stand_ins(workers) == {
        f"drumline-worker@low-{number}.service": "drumline-worker@low-0.service" for number in (1, 2)
    }


@pytest.mark.parametrize(
    ("states", "named"),
    [
        ({"low-1": "active", "low-0": "inactive"}, []),
        ({"low-1": "deactivating", "low-0": "active"}, []),
        ({"low-1": "deactivating", "low-0": "inactive"}, ["low-1 is deactivating"]),
        ({"low-1": "failed", "low-0": "active"}, ["low-1 is failed"]),
    ],
)
def test_a_unit_may_only_drain_while_its_stand_in_is_up(states: dict[str, str], named: list[str]) -> None:
    assert process_model.not_up(states, {"low-1": "low-0"}) == named


def test_a_host_may_be_drained_if_another_in_service_runs_what_it_runs() -> None:
    alone = HOST | {"groups": ["web", "worker"], "served": ["high", "low"]}
    other = HOST | {"name": "app2", "groups": ["worker"], "served": ["high"]}

    assert process_model.served_only_by([alone, other], "app1", []) == ["the queue low", "the site"]
    assert process_model.served_only_by([alone, other], "app2", []) == []
    assert process_model.served_only_by([alone, other], "app2", ["app1"]) == ["the queue high"]


def test_a_niceness_stands_for_a_cpu_weight() -> None:
    lightest = {**QUEUES["low"], "cpu_weight": 1}

    assert process_model.cpu_nice(QUEUES["high"], QUEUES) == 0
    assert process_model.cpu_nice(QUEUES["default"], QUEUES) == 6
    assert process_model.cpu_nice(lightest, QUEUES) == 19

"""Where tasks are sent, by every form in which Celery takes a route."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from celery.app.routes import MapRoute, expand_router_string
from celery.utils.functional import maybe_evaluate
from django.conf import settings
from kombu import Queue

from drumline.broker.routing import bound_queues, exchange_name

# The backend for `django.tasks`, by its name: this does not need the framework that it needs.
LEDGER_BACKEND = "drumline.tasks_backend.LedgerBackend"


@dataclass(slots=True)
class Routed:
    """What is sent where, as far as it can be read from the settings."""

    # By queue: what is sent there.
    queues: dict[str, list[str]] = field(default_factory=dict)
    # Routes on which sending fails.
    problems: list[str] = field(default_factory=list)
    # Routes of which only a part can be read.
    notes: list[str] = field(default_factory=list)

    def add(self, queue: Any, sender: str) -> None:
        """Record that something is sent to a queue, given by name or as an object."""
        self.queues.setdefault(queue.name if isinstance(queue, Queue) else str(queue), []).append(sender)


def declared_queues(app: Celery) -> set[str]:
    """Return the names under which a worker may be asked to consume, other than those that Celery makes up."""
    queues: Any = app.amqp.queues
    return {*queues, *queues.aliases}


def may_be_sent_to(app: Celery, queue: str) -> bool:
    """Return whether Celery sends to a queue of this name: it is declared, or created when it is missing."""
    return bool(app.conf.task_create_missing_queues) or queue in declared_queues(app)


def routed_queues(app: Celery) -> Routed:
    """Read `task_routes`, the schedule, the tasks' own options, and the queues of Django's tasks."""
    routed = Routed()
    routed.add(app.conf.task_default_queue, "the default queue")
    routes = app.conf.task_routes
    # Celery takes a list for a list of routers, and everything else for one.
    for route in routes if isinstance(routes, (list, tuple)) else [routes] if routes else []:
        if isinstance(route, (Mapping, list, tuple, MapRoute)):
            _read_map(app, route, routed)
        else:
            _ask(app, route, routed)
    for name, entry in (app.conf.beat_schedule or {}).items():
        options = entry.get("options") if isinstance(entry, Mapping) else getattr(entry, "options", None)
        if queue := (options or {}).get("queue"):
            routed.add(queue, f"schedule {name}")
    for task in app.tasks.values():
        if queue := getattr(task, "queue", None):
            routed.add(queue, f"task {task.name}")
    for alias, backend in (getattr(settings, "TASKS", None) or {}).items():
        if backend.get("BACKEND") == LEDGER_BACKEND:
            for queue in backend.get("QUEUES", ["default"]):
                routed.add(queue, f"TASKS[{alias!r}]")
    return routed


def _read_map(app: Celery, route: Any, routed: Routed) -> None:
    try:
        pairs = _pairs(route)
        # As Celery does at the first send.
        MapRoute(pairs)  # type: ignore[arg-type]  # incomplete stubs
    except (TypeError, ValueError) as error:
        routed.problems.append(
            f"task_routes has {_short(route)}, which Celery cannot read ({error}), so every send would fail; use a "
            'dictionary, {"app.tasks.*": {"queue": "low"}}, or a list that holds a list of pairs'
        )
        return
    for pattern, destination in pairs:
        _read_destination(app, f"route {getattr(pattern, 'pattern', pattern)}", destination, routed)


def _pairs(route: Any) -> list[tuple[Any, Any]]:
    if hasattr(route, "patterns"):
        return [*route.map.items(), *route.patterns.items()]
    return [(pattern, destination) for pattern, destination in (route.items() if isinstance(route, Mapping) else route)]


def _read_destination(app: Celery, sender: str, destination: Any, routed: Routed) -> None:
    if isinstance(destination, str):
        routed.add(destination, sender)
        return
    try:
        options = dict(destination)
    except (TypeError, ValueError):
        routed.problems.append(
            f"{sender} leads to {destination!r}, so sending would fail; set a queue: {{'queue': 'low'}}"
        )
        return
    exchange, key = options.get("exchange"), options.get("routing_key")
    if queue := options.get("queue"):
        routed.add(queue, sender)
    elif exchange or key:
        place = exchange_name(exchange) or app.conf.task_default_exchange
        bound = [queue.name for queue in bound_queues(app, place, key or "")]
        for name in bound:
            routed.add(name, sender)
        if not bound:
            routed.notes.append(f"{sender} has an exchange but no queue, so it is unknown whether a worker consumes it")


def _ask(app: Celery, route: Any, routed: Routed) -> None:
    """Ask a router that decides in code, for each known task, what Celery would ask it."""
    label = route if isinstance(route, str) else getattr(route, "__qualname__", type(route).__qualname__)
    try:
        router = expand_router_string(route) if isinstance(route, str) else maybe_evaluate(route)
    except Exception as error:  # noqa: BLE001  importing it runs code of the project
        routed.problems.append(
            f"task_routes names {label}, which cannot be imported ({type(error).__name__}: {error}), so every send "
            "would fail; correct the path"
        )
        return
    routed.notes.append(f"route {label} is code; it was called for each known task, without arguments")
    failed: Exception | None = None
    for name, task in sorted(app.tasks.items()):
        try:
            if hasattr(router, "route_for_task"):
                destination = router.route_for_task(name, (), {})
            else:
                destination = router(name, (), {}, {}, task=task)
        except Exception as error:  # noqa: BLE001  it may need the arguments
            failed = error
            continue
        if destination:
            _read_destination(app, f"route {label} for {name}", destination, routed)
    if failed is not None:
        routed.notes.append(f"route {label} cannot be called without arguments: {type(failed).__name__}: {failed}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004  what fits a line

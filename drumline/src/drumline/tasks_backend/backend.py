"""What Django asks of a tasks backend; no model is imported before one is needed."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from django.core.checks import CheckMessage

from drumline.tasks_backend.framework import BaseTaskBackend


class LedgerBackend(BaseTaskBackend):
    """Enqueues into the ledger and reads results from it."""

    supports_async_task = True
    supports_defer = True
    supports_get_result = True
    supports_priority = True

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Write the task's row in the caller's transaction, and return its result, which is READY.

        Raise InvalidTask for a task that no worker could run, and TypeError or ValueError for arguments that are not
        JSON, before anything is written.
        """
        self.validate_task(task)
        return _room("enqueue").enqueue(self, task, args, kwargs)

    def get_result(self, result_id: str) -> Any:
        """Return the task's result from its row; raise TaskResultDoesNotExist if there is no row, or no longer one."""
        return _room("results").result_by_id(result_id)

    def check(self, **_: Any) -> list[CheckMessage]:
        """Return what would keep this backend's tasks from being written or run."""
        return [*_room("checks").messages(self)]


@cache
def _room(name: str) -> Any:
    # A task may be defined, and this backend made, before Django has loaded the models.
    return import_module(f"drumline.tasks_backend.{name}")

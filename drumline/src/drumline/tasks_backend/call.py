"""What a message says of the Django task that it carries, beside the arguments."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils.module_loading import import_string

from drumline.tasks_backend.framework import InvalidTask, InvalidTaskBackend, Task

# The Celery task that runs a Django task, and the header in which it finds which one.
CARRIER = "drumline.run_task"
HEADER = "django_task"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a Django task, with what `using()` made of it."""

    path: str
    backend: str
    queue_name: str
    priority: int
    run_after: str | None
    enqueued_at: str

    @classmethod
    def of(cls, task: Any, backend: str) -> "Call":
        """Return the call that is enqueued now."""
        return cls(
            path=task.module_path,
            backend=backend,
            queue_name=task.queue_name,
            priority=task.priority,
            run_after=task.run_after and task.run_after.isoformat(),
            # As precise as the least precise database says when it started.
            enqueued_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )

    @classmethod
    def read(cls, headers: Mapping[str, Any] | None) -> "Call | None":
        """Return the call that a message carries; None for a message of Celery's own."""
        said = (headers or {}).get(HEADER)
        return cls(**said) if said else None

    def as_header(self) -> dict[str, Any]:
        """Return the headers that `read` takes."""
        return {HEADER: asdict(self)}

    @property
    def enqueued(self) -> datetime:
        """Return when it was enqueued, by the sender's clock."""
        return datetime.fromisoformat(self.enqueued_at)

    def task(self) -> Any:
        """Return the task as it was enqueued; raise ImportError when its path leads to none.

        Settings that have changed since do not hold what was enqueued before: then it is the task as it is defined.
        """
        task = named_task(self.path)
        try:
            return task.using(
                priority=self.priority,
                queue_name=self.queue_name,
                run_after=datetime.fromisoformat(self.run_after) if self.run_after else None,
                backend=self.backend,
            )
        except (InvalidTask, InvalidTaskBackend):
            return task


def named_task(path: str) -> Any:
    """Return the task at that path; raise ImportError if there is none. A message can run nothing else."""
    task = import_string(path)
    if not isinstance(task, Task):
        raise ImportError(f"{path} is no task of Django's tasks framework")  # noqa: TRY004  as for a missing one
    return task

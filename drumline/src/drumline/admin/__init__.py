"""Admin pages: view, requeue and discard tasks, and view workers and heartbeats."""

from drumline.admin.durable_tasks import DurableTaskAdmin
from drumline.admin.processes import HeartbeatAdmin, WorkerAdmin
from drumline.admin.read_only import BoundedPaginator, ReadOnlyAdmin

__all__ = [
    "BoundedPaginator",
    "DurableTaskAdmin",
    "HeartbeatAdmin",
    "ReadOnlyAdmin",
    "WorkerAdmin",
]

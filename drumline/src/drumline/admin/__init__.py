"""The ledger's pages: look at tasks, requeue and discard them; and what Drumline writes itself, to read."""

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

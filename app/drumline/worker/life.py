"""One life of a worker, from its start to its end: what it is called in the ledger."""

from uuid import UUID, uuid4

_id = uuid4()


def current_id() -> UUID:
    """Return the id of this life; a pool's processes inherit their worker's."""
    return _id

"""How long what has ended is kept."""

from datetime import UTC, datetime, timedelta

from drumline import conf
from drumline.ledger.store import store
from drumline.models import Worker


def finished_purge(*, limit: int = 1000) -> int:
    """Delete finished and discarded rows that were kept long enough; return how many."""
    return store().purge(before=_kept_since(), limit=limit)


def workers_purge() -> None:
    """Forget the workers that ended as long ago."""
    Worker.objects.filter(stopped_at__lte=_kept_since()).delete()


def _kept_since() -> datetime:
    return datetime.now(UTC) - timedelta(seconds=conf.keep_finished())

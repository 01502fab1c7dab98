"""Changing what the API remembers of its callers."""

from django.utils import timezone

from apps.api.models import RequestCount


def request_counts_delete_ended() -> int:
    """Delete the counts whose window has ended; return how many."""
    return RequestCount.objects.filter(ends_at__lt=timezone.now()).delete()[0]

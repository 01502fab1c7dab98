"""Rows that several processes look for at once."""

from typing import TypeVar

from django.db import connection, models

M = TypeVar("M", bound=models.Model)


def skipping_locked(rows: models.QuerySet[M]) -> models.QuerySet[M]:
    """Return the rows to be locked, without those that another process has locked, where the database can skip them."""
    return rows.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)

"""One PostgreSQL cluster for a session of tests, with a migrated database to copy."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.application import Application
from tests.support.servers import PostgreSQL


@pytest.fixture(scope="session")
def cluster() -> Iterator[PostgreSQL]:
    # Directly under /tmp: a socket's path is limited to about a hundred characters, and `postgres` must reach it.
    folder = Path(tempfile.mkdtemp(prefix="drumline-postgresql-"))
    cluster = PostgreSQL(folder)
    cluster.create()
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def migrated(cluster: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Migrate once; each test gets a copy."""
    cluster.execute("postgres", "CREATE DATABASE migrated")
    env = {"DATABASE_URL": cluster.url("migrated"), "CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}
    Application(tmp_path_factory.mktemp("migrated"), env).manage("migrate")
    return "migrated"

"""Real servers for the integration tests: a cluster for the session, everything else for one test."""

import itertools
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from tests.support.application import Application
from tests.support.cluster import cluster, migrated
from tests.support.ports import free_port
from tests.support.servers import PostgreSQL, Redis
from tests.support.waiting import wait_until

__all__ = ["cluster", "migrated"]

numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)


class Mailbox(Message):
    """An SMTP server's handler that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(EmailMessage)
        self.messages: list[EmailMessage] = []
        self.refused: set[str] = set()

    async def handle_RCPT(self, _server, _session, envelope, address, _options) -> str:  # noqa: N802  aiosmtpd's name
        if address in self.refused:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    def handle_message(self, message: EmailMessage) -> None:
        self.messages.append(message)

    def wait_for(self, recipient: str) -> EmailMessage:
        def arrived() -> EmailMessage | None:
            return next((message for message in self.messages if message["To"] == recipient), None)

        return wait_until(arrived, f"an e-mail to {recipient}")


@pytest.fixture
def database(cluster: PostgreSQL, migrated: str) -> str:
    name = f"test{next(numbers)}"
    cluster.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {migrated}")
    return name


@pytest.fixture
def sql(cluster: PostgreSQL, database: str) -> Callable[[str], list[tuple]]:
    return lambda statement: cluster.execute(database, statement)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Redis]:
    folder = tmp_path / "redis"
    folder.mkdir()
    broker = Redis(folder)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    mailbox.port = controller.port
    yield mailbox
    controller.stop()


@pytest.fixture
def application(
    tmp_path: Path, cluster: PostgreSQL, database: str, broker: Redis, mailbox: Mailbox
) -> Iterator[Application]:
    env = {
        "DATABASE_URL": cluster.url(database),
        "CELERY_BROKER_URL": broker.url,
        "EMAIL_PORT": str(mailbox.port),
    }
    application = Application(tmp_path, env)
    yield application
    application.stop()

"""The daily look at the certificates that a host shows, and the preflight's look at one of your own."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drumline_cli import doctor
from tests.support.certificates import certificate
from tests.support.paths import ANSIBLE
from tests.support.rendering import Playbooks

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = ANSIBLE / "roles" / "tls" / "files" / "drumline-certificate"


@contextlib.contextmanager
def shown(path: Path) -> Iterator[str]:
    """A server that shows a certificate; where it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    def answer(listener: socket.socket) -> None:
        # Ends when the listener does.
        with contextlib.suppress(OSError), context.wrap_socket(listener.accept()[0], server_side=True) as connection:
            connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def look(at: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(PROGRAM), "30", "7", "the site", at, *more], check=False, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("days", "status", "begins"),
    [
        (60, 0, "<6>The certificate of the site expires in 60 days"),
        (20, 0, "<4>The certificate of the site expires in 20 days"),
        (3, 1, "<3>The certificate of the site expires in 3 days"),
        (-2, 1, "<3>The certificate of the site expired"),
    ],
)
def test_the_journal_says_when_the_certificate_of_the_site_ends(
    tmp_path: Path, days: int, status: int, begins: str
) -> None:
    with shown(certificate(tmp_path, days=days)) as at:
        printed = look(at)

    assert printed.stdout.startswith(begins), printed
    assert printed.returncode == status


@pytest.mark.parametrize(
    ("life", "days", "status", "begins"),
    [
        (90, 40, 0, "<6>The certificate of the site expires in 40 days"),
        (90, 20, 0, "<4>The certificate of the site expires in 20 days"),
        (90, 6, 1, "<3>The certificate of the site expires in 6 days"),
        (45, 14, 0, "<6>The certificate of the site expires in 14 days"),
        (45, 10, 0, "<4>The certificate of the site expires in 10 days"),
        (45, 5, 1, "<3>The certificate of the site expires in 5 days"),
        (6, 2, 0, "<6>The certificate of the site expires in 2 days"),
        (6, 1, 0, "<4>The certificate of the site expires in 24 hours"),
        (6, 0.5, 1, "<3>The certificate of the site expires in 12 hours"),
    ],
)
def test_a_certificate_that_certbot_should_have_renewed_is_told_in_time_for_its_life(
    tmp_path: Path, life: float, days: float, status: int, begins: str
) -> None:
    with shown(certificate(tmp_path, days=days, age=life - days)) as at:
        printed = look(f"acme:{at}")

    assert printed.stdout.startswith(begins), printed
    assert printed.returncode == status
    assert ("journalctl --unit=certbot.service" in printed.stdout) is not begins.startswith("<6>")


def test_a_stand_in_of_the_private_authority_is_an_error_where_an_acme_server_should_have_issued_one(
    tmp_path: Path,
) -> None:
    with shown(certificate(tmp_path, days=300, issuer="Drumline private CA")) as at:
        printed = look(f"acme:{at}")

    assert printed.stdout.startswith("<3>The certificate of the site is a stand-in of the private authority"), printed
    assert printed.returncode == 1


def test_a_site_that_shows_no_certificate_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        at = f"127.0.0.1:{listener.getsockname()[1]}"

    printed = look(at)

    assert printed.returncode == 1
    assert printed.stdout.startswith(f"<3>No certificate of the site found at {at}")


def test_every_certificate_is_looked_at_whatever_became_of_those_before(tmp_path: Path) -> None:
    authority = certificate(tmp_path, days=40)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        at = f"127.0.0.1:{listener.getsockname()[1]}"

    printed = look(at, "the private authority", str(authority))

    assert printed.returncode == 1
    assert printed.stdout.splitlines()[1].startswith("<6>The certificate of the private authority expires in 40 days")


@pytest.mark.parametrize(
    ("issuer", "life", "days", "told"),
    [
        ("private", 365, 40, ("ok", "")),
        ("private", 365, 20, ("warning", "drumline setup --args '--tags tls'")),
        ("own", 365, -2, ("problem", "Replace tls_certificate and tls_key")),
        ("acme", 45, 14, ("ok", "")),
        ("acme", 45, 8, ("warning", "drumline logs certificate")),
    ],
)
def test_the_doctor_says_of_the_certificate_that_the_site_shows_what_renews_it(
    tmp_path: Path, issuer: str, life: float, days: float, told: tuple[str, str]
) -> None:
    with shown(certificate(tmp_path, days=days, age=life - days)) as at:
        (finding,) = doctor.certificate("127.0.0.1", int(at.rpartition(":")[2]), "www.example.com", issuer)

    level, fix = told
    assert finding.level == level
    assert finding.fix.startswith(fix)


def test_the_doctor_calls_a_stand_in_a_problem_where_an_acme_server_should_have_issued_one(tmp_path: Path) -> None:
    with shown(certificate(tmp_path, days=300, issuer="Drumline private CA")) as at:
        (finding,) = doctor.certificate("127.0.0.1", int(at.rpartition(":")[2]), "www.example.com", "acme")

    assert finding.level == "problem"
    assert "stand-in" in finding.what


def problems(path: Path) -> list[str]:
    playbooks = Playbooks("production", "app1.example.com", tls_certificate=str(path))
    found: list[str] = playbooks.value("preflight", "tls_certificate | certificate_problems")
    return found


def test_a_certificate_that_has_ended_is_a_problem(tmp_path: Path) -> None:
    (problem,) = problems(certificate(tmp_path, days=-1))

    assert "expired on" in problem


def test_a_certificate_that_ends_within_a_month_is_a_warning_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert problems(certificate(tmp_path, days=20)) == []
    assert "expires in 20 days" in " ".join(capsys.readouterr().err.split())


def test_a_certificate_with_more_time_is_neither(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert problems(certificate(tmp_path, days=40)) == []
    assert "expires in" not in capsys.readouterr().err


def test_what_is_no_certificate_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "site.pem").write_text("nothing")

    (problem,) = problems(tmp_path / "site.pem")

    assert str(tmp_path / "site.pem") in problem


@pytest.mark.parametrize(("days", "renewed"), [(80, True), (100, False)])
def test_a_run_renews_the_private_certificate_in_its_last_quarter(days: int, *, renewed: bool) -> None:
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    playbooks = Playbooks("production", "app1.example.com")

    soon = playbooks.value("tls", "__tls_soon")

    assert (f"{ends:%Y%m%d%H%M%SZ}" < soon) is renewed

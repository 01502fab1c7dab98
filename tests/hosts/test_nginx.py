"""The front: TLS, names and headers."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["nginx.service"]


def test_nginx_runs_and_starts_with_the_host(host: Host) -> None:
    assert host.service("nginx").is_running
    assert host.service("nginx").is_enabled


def test_plain_http_is_sent_to_https(site: Any) -> None:
    answer = site.get("/admin/?a=b", scheme="http")
    assert answer.status == 301
    assert answer.headers["Location"].startswith(f"https://{site.name}")
    assert answer.headers["Location"].endswith("/admin/?a=b")


def test_the_certificate_is_signed_by_the_private_authority(site: Any) -> None:
    assert site.get("/livez").headers


def test_nobody_else_vouches_for_the_certificate(site: Any) -> None:
    context = ssl.create_default_context()
    with (
        socket.create_connection((site.address, 443), timeout=10) as connection,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(connection, server_hostname=site.name)


def test_old_versions_of_tls_are_refused(site: Any) -> None:
    context = site.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((site.address, 443), timeout=10) as connection, pytest.raises(ssl.SSLError):
        context.wrap_socket(connection, server_hostname=site.name)


def test_a_request_for_another_name_gets_no_answer(site: Any) -> None:
    with pytest.raises((ConnectionError, OSError)):
        site.get("/", Host="elsewhere.example.com")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Content-Security-Policy", "default-src 'self'"),
        ("Content-Security-Policy", "frame-ancestors 'none'"),
        ("Strict-Transport-Security", "max-age=31536000"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "same-origin"),
    ],
)
def test_every_answer_protects_the_browser(site: Any, header: str, value: str) -> None:
    assert value in site.get("/admin/login/").headers.get(header, "")


@pytest.mark.parametrize("path", ["/admin/login/", "/static/admin/css/base.css", "/no-such-page"])
def test_no_answer_binds_the_hosts_below_the_sites_names(site: Any, path: str) -> None:
    assert site.get(path).headers["Strict-Transport-Security"] == "max-age=31536000"


def test_no_answer_lets_a_script_run_that_is_written_into_a_page(site: Any) -> None:
    for path in ("/", "/admin/login/", "/api/docs/", "/no-such-page"):
        policy = site.get(path).headers["Content-Security-Policy"]
        assert "unsafe-" not in policy, path


def test_the_version_of_nginx_is_nobodys_business(site: Any) -> None:
    assert site.get("/no-such-page").headers["Server"] == "nginx"


def test_strangers_on_the_host_read_no_log(host: Host) -> None:
    for path in host.check_output("ls /var/log/nginx/*.log").split():
        assert host.run(f"runuser -u nobody -- cat {path}").rc != 0, path


def test_a_client_that_says_nothing_is_dropped_before_a_browser_would_give_up(site: Any) -> None:
    """Without TLS, after its handshake, and with half a request; 60 seconds, nginx's default, are too long."""
    patience = 40
    with contextlib.ExitStack() as held:
        silent, plain, half = (
            held.enter_context(socket.create_connection((site.address, port), timeout=patience))
            for port in (443, 80, 443)
        )
        plain.sendall(b"GET / HTTP/1.1\r\nHost: ")
        half = held.enter_context(site.context().wrap_socket(half, server_hostname=site.name))
        half.sendall(b"GET / HTTP/1.1\r\n")
        for name, connection in (("silent", silent), ("plain", plain), ("half a request", half)):
            with contextlib.suppress(ConnectionResetError):
                # A timeout here is the failure.
                assert connection.recv(1000)[:12] in (b"", b"HTTP/1.1 408"), name


def test_a_worker_holds_thousands_of_connections(host: Host) -> None:
    configuration = host.check_output("nginx -T 2>/dev/null")
    connections = int(re.findall(r"^\s*worker_connections (\d+);", configuration, re.MULTILINE)[0])
    assert connections >= 4096
    worker = host.check_output("pgrep --full 'nginx: worker process'").split()[0]
    files = next(
        line
        for line in host.check_output(f"cat /proc/{worker}/limits").splitlines()
        if line.startswith("Max open files")
    )
    # One for the client, one for the site behind it.
    assert int(files.split()[3]) >= 2 * connections


def test_only_root_reads_the_key(host: Host) -> None:
    for user in ("nobody", "www-data"):
        assert host.run(f"runuser -u {user} -- cat /etc/drumline/tls/site.key").rc != 0


@pytest.mark.parametrize(
    "path",
    [
        "/flower/metrics",
        "/flower//metrics",
        "/flower/./metrics",
        "/flower/x/../metrics",
        "/flower/%6detrics",
        "/flower%2fmetrics",
        "//flower/metrics",
        "/flower/healthcheck",
        "/metrics",
        "/%6detrics",
        "/_drumline/staff",
        "/flower/%2e%2e/_drumline/staff",
    ],
)
def test_what_answers_without_a_login_is_not_there_for_strangers(site: Any, path: str) -> None:
    assert site.get(path).status == 404


@pytest.mark.parametrize("path", ["/flower/", "/flower/api/workers", "/flower/metrics%3f", "/flower/..;/metrics"])
def test_flower_stays_closed_whatever_the_state_of_the_site(site: Any, path: str) -> None:
    assert site.get(path).status in (302, 404, 503)


def test_a_body_that_is_too_large_is_refused_in_json(site: Any) -> None:
    answer = site.get("/api/users/", Content_Length="10000000")
    assert answer.status == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(answer.body)["status"] == 413


def test_the_host_looks_daily_when_the_certificate_ends_and_writes_it_to_its_journal(host: Host) -> None:
    assert host.service("drumline-certificate.timer").is_running
    assert host.service("drumline-certificate.timer").is_enabled

    host.check_output("systemctl start drumline-certificate.service")

    journal = host.check_output("journalctl --no-pager --output=cat --unit=drumline-certificate.service --since=-1min")
    assert "The certificate of the site expires in" in journal


SIGN_INS = """
import http.client, json, ssl, sys

name, network = sys.argv[1:]
context = ssl._create_unverified_context()
statuses = []
for number in range(1, 16):
    connection = http.client.HTTPSConnection(f"{network}::1", 443, timeout=20, context=context)
    connection.source_address = (f"{network}::{number:x}", 0)
    headers = {"Host": name, "Content-Type": "application/json"}
    connection.request("POST", "/api/session/", json.dumps({}), headers)
    statuses.append(connection.getresponse().status)
    connection.close()
print(json.dumps(statuses))
"""


def test_a_guesser_with_a_network_of_ipv6_addresses_is_limited_as_one_visitor(host: Host, site: Any) -> None:
    network = "2001:db8:64:64"
    addresses = [f"{network}::{number:x}" for number in range(1, 16)]
    try:
        host.check_output("; ".join(f"ip -6 addr add {address}/128 dev lo nodad" for address in addresses))
        statuses = json.loads(host.check_output(f"python3 -c '{SIGN_INS}' {site.name} {network}"))
    finally:
        host.run("; ".join(f"ip -6 addr del {address}/128 dev lo" for address in addresses))

    # Ten at once beyond the first; then one in three seconds.
    assert set(statuses[:11]) != {429}
    assert 429 in statuses[11:], statuses

"""A site's certificate from an ACME server: issued, renewed, and refused in every way without harm to the site.

tests/molecule/run converge certificates && tests/molecule/run verify certificates
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.on_host import inventory_of, ratings, run_site
from tests.support.paths import PROJECT

if TYPE_CHECKING:
    import subprocess

    from testinfra.host import Host

UNITS = ["certbot.service", "nginx.service", "pebble.service"]
NAMES = ["site.acme.test", "www.site.acme.test"]
CONVERGE = PROJECT / "tests/molecule/certificates/converge.yml"
LINEAGE = "/etc/letsencrypt/renewal/drumline.conf"
ROOT = "python3 -c 'import ssl, sys, urllib.request as u; sys.stdout.write(u.urlopen(\"https://localhost:15000/roots/0\", context=ssl._create_unverified_context()).read().decode())'"


class Shown(NamedTuple):
    """The certificate that nginx shows."""

    serial: str
    issuer: str
    names: set[str]


def shown(host: Host, name: str = NAMES[0]) -> Shown:
    command = f"openssl s_client -connect 127.0.0.1:443 -servername {name} </dev/null 2>/dev/null"
    printed = host.check_output(f"{command} | openssl x509 -noout -serial -issuer -ext subjectAltName")
    found = dict(re.findall(r"^(serial|issuer)\s*=\s*(.+)$", printed, re.MULTILINE))
    return Shown(found["serial"], found["issuer"], set(re.findall(r"DNS:([^,\s]+)", printed)))


def converge(request: pytest.FixtureRequest, **variables: Any) -> subprocess.CompletedProcess[str]:
    inventory = inventory_of(request.config)
    return run_site(inventory, f"--extra-vars={json.dumps(variables)}", playbook=str(CONVERGE))


def test_the_site_shows_the_servers_certificate_for_all_of_its_names(host: Host) -> None:
    root = host.check_output(f"{ROOT} >/tmp/root.pem; echo /tmp/root.pem")
    for name in NAMES:
        checked = f"openssl s_client -connect 127.0.0.1:443 -verify_return_error -verify_hostname {name} -CAfile {root}"
        assert "Verify return code: 0 (ok)" in host.run(f"{checked} </dev/null").stdout, name
    assert shown(host).names == set(NAMES)


def test_the_certificate_is_one_of_the_profile_or_as_short_as_the_server_makes_it(host: Host) -> None:
    printed = host.check_output("openssl x509 -in /etc/drumline/tls/acme.pem -noout -checkend 525000; echo $?")
    assert printed.splitlines()[-1] == "1", "it is valid for longer than six days"


def test_plain_http_answers_challenges_and_sends_everything_else_to_https(host: Host) -> None:
    challenges = "/var/lib/drumline-acme/.well-known/acme-challenge"
    host.check_output(f"mkdir -p {challenges} && echo answer >{challenges}/a")
    ask = 'import http.client; c = http.client.HTTPConnection("127.0.0.1"); c.request("GET", "{}", headers=dict(Host="site.acme.test"))'
    read = '; a = c.getresponse(); print(a.status, a.headers["Location"], a.read().decode().strip())'

    def answer(path: str) -> str:
        return str(host.check_output(f"python3 -c '{ask.format(path)}{read}'"))

    try:
        assert answer("/.well-known/acme-challenge/a") == "200 None answer"
        assert answer("/.well-known/acme-challenge/b").startswith("404")
        assert answer("/.well-known/acme-challenge/../../etc/passwd").startswith("301")
        assert answer("/login?a=b").startswith("301 https://site.acme.test:8443/login?a=b")
    finally:
        host.run(f"rm {challenges}/a")


def test_only_root_reads_the_key_and_the_accounts(host: Host) -> None:
    for path in (
        "/etc/drumline/tls/acme.pem",
        "/etc/letsencrypt/drumline.ini",
        "/etc/letsencrypt/live/drumline/privkey.pem",
    ):
        assert host.run(f"runuser -u www-data -- cat {path}").rc != 0, path


def test_certbot_is_sandboxed(host: Host) -> None:
    assert ratings(host, ["certbot.service"])["certbot.service"] <= 2.0


def test_the_timer_renews_a_certificate_that_is_due_and_nginx_shows_it(host: Host) -> None:
    assert host.service("certbot.timer").is_enabled
    assert host.service("certbot.timer").is_running
    before = shown(host)

    host.check_output("systemctl start certbot.service")
    assert shown(host) == before, "a new certificate is renewed at once"

    host.check_output(f"sed -i 's/^renew_before_expiry.*/renew_before_expiry = 7 days/' {LINEAGE}")
    host.check_output("systemctl start certbot.service")

    assert shown(host).serial != before.serial
    assert shown(host).names == set(NAMES)
    renewed = shown(host)
    host.check_output("systemctl start certbot.service")
    assert shown(host) == renewed, "a renewed certificate is renewed again at once"


def test_the_daily_check_is_content_with_a_certificate_of_six_days(host: Host) -> None:
    host.check_output("systemctl start drumline-certificate.service")
    journal = host.check_output(
        "journalctl --no-pager --output=cat --unit=drumline-certificate.service --since=-1min --priority=info"
    )
    assert "The certificate of the site expires in 5 days" in journal
    assert not host.run(
        "journalctl --no-pager --quiet --unit=drumline-certificate.service --since=-1min --priority=warning"
    ).stdout


REFUSALS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a challenge that is refused": (
        {"acme_names": [*NAMES, "elsewhere.acme.test"]},
        ("elsewhere.acme.test", "Type:", "The server must reach port 80 of this host by", "--tags acme"),
    ),
    "a name that the server does not certify": (
        {"acme_names": [*NAMES, "blocked.acme.test"]},
        ("forbidden by policy", "blocked.acme.test", "The server's rules forbid a name. Remove it from app_site_names"),
    ),
    "a server that is away": (
        {"acme_directory": "https://localhost:14999/dir"},
        ("Connection refused", "The host must reach the server: curl --head https://localhost:14999/dir"),
    ),
    "a server that nobody vouches for": (
        {"acme_authority": "", "acme_directory": "https://localhost:14001/dir"},
        ("certificate verify failed", "Set acme_authority to the CA certificate"),
    ),
    "a rate limit": (
        {"acme_directory": "https://localhost:14001/dir"},
        ("too many certificates (5) already issued", "retry after 2030-01-02", "Wait until the limit allows it again"),
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_is_told_in_the_servers_words_and_the_site_keeps_its_certificate(
    host: Host, request: pytest.FixtureRequest, kind: str
) -> None:
    variables, told = REFUSALS[kind]
    before = shown(host)

    ran = converge(request, **variables)

    output = " ".join((ran.stdout + ran.stderr).split())
    assert ran.returncode != 0, f"green without a certificate:\n{ran.stdout}"
    for words in (*told, "The site keeps the certificate that it has."):
        assert words in output, ran.stdout
    assert "Traceback" not in output
    assert shown(host) == before
    assert host.service("nginx").is_running


def test_a_new_site_whose_first_certificate_is_refused_shows_a_stand_in_until_the_next_run(
    host: Host, request: pytest.FixtureRequest
) -> None:
    host.check_output("certbot delete --cert-name drumline --non-interactive && rm /etc/drumline/tls/acme.pem")

    ran = converge(request, acme_directory="https://localhost:14001/dir")

    assert ran.returncode != 0, ran.stdout
    assert "a stand-in of the private CA, which browsers do not trust" in " ".join(ran.stdout.split())
    assert "Drumline private CA" in shown(host).issuer
    checked = host.run("systemctl start drumline-certificate.service")
    assert checked.rc != 0, "the daily check is content with a stand-in"

    ran = converge(request)

    assert ran.returncode == 0, ran.stdout
    assert "Pebble" in shown(host).issuer
    host.check_output("systemctl start drumline-certificate.service")


def test_other_names_get_another_certificate_and_the_same_names_keep_theirs(
    host: Host, request: pytest.FixtureRequest
) -> None:
    ran = converge(request, acme_names=NAMES[:1])
    assert ran.returncode == 0, ran.stdout
    assert shown(host).names == set(NAMES[:1])

    ran = converge(request)
    assert ran.returncode == 0, ran.stdout
    before = shown(host)
    assert before.names == set(NAMES)

    ran = converge(request)
    assert re.search(r"changed=0\b", ran.stdout), ran.stdout
    assert shown(host) == before


def test_a_site_that_goes_back_to_the_private_authority_leaves_nothing_that_renews(
    host: Host, request: pytest.FixtureRequest
) -> None:
    site = {"nginx_tls_certificate": "/etc/drumline/tls/site.crt", "nginx_tls_key": "/etc/drumline/tls/site.key"}

    ran = converge(request, acme_enabled=False, nginx_challenge_directory="", **site)

    assert ran.returncode == 0, ran.stdout
    assert "Drumline private CA" in shown(host).issuer
    assert "No certificates found" in host.check_output("certbot certificates")
    assert not host.file("/etc/drumline/tls/acme.pem").exists

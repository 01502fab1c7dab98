"""What the playbooks ask an ACME server for, what they make of its answer, and what the site shows meanwhile."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import certificate
from tests.support.paths import ANSIBLE
from tests.support.rendering import FACTS, Playbooks

_spec = importlib.util.spec_from_file_location("acme", ANSIBLE / "plugins" / "filter" / "acme.py")
assert _spec
assert _spec.loader
acme = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(acme)

ROLE = ANSIBLE / "roles" / "acme"
SITE = ANSIBLE / "roles" / "nginx" / "templates" / "site.conf"


def playbooks(**variables: Any) -> Playbooks:
    return Playbooks("production", "app1.example.com", **variables)


@pytest.mark.parametrize(
    ("names", "web_hosts", "dns", "issuer"),
    [
        (["shop.drumline.dev", "www.shop.drumline.dev"], 1, "", "acme"),
        (["shop.drumline.dev", "app1"], 1, "", "private"),
        (["shop.drumline.dev", "192.0.2.1"], 1, "", "private"),
        (["192.0.2.1"], 1, "", "private"),
        (["2001:db8::1"], 1, "", "private"),
        (["shop.internal"], 1, "", "private"),
        (["www.example.com"], 1, "", "private"),
        (["*.drumline.dev"], 1, "", "private"),
        (["*.drumline.dev"], 1, "rfc2136", "acme"),
        (["shop.drumline.dev"], 2, "", "private"),
        (["shop.drumline.dev"], 2, "rfc2136", "acme"),
        ([], 1, "", "private"),
    ],
)
def test_a_site_gets_the_certificate_that_its_names_allow(
    names: list[str], web_hosts: int, dns: str, issuer: str
) -> None:
    assert acme.certificate_of(names, web_hosts, dns) == issuer


def test_what_a_person_says_counts_more_than_the_names() -> None:
    own = playbooks(app_site_names=["shop.drumline.dev"], tls_certificate="/site.crt")
    private = playbooks(app_site_names=["shop.drumline.dev"], app_certificate="private")

    assert own.value("tls", "fleet_certificate") == "own"
    assert private.value("tls", "fleet_certificate") == "private"


def test_a_site_with_an_acme_certificate_answers_challenges_and_is_verified_by_public_cas() -> None:
    site = playbooks(app_site_names=["shop.drumline.dev"])
    rendered = site.text("nginx", SITE)

    assert "root /var/lib/drumline-acme;" in rendered
    assert rendered.count("ssl_certificate /etc/drumline/tls/acme.pem;") == 2
    assert site.value("verify", "verify_ca") == ""
    assert site.value("verify", "verify_certificates[0].at") == "acme:127.0.0.1:443"


def test_a_site_without_one_serves_nothing_over_plain_http() -> None:
    rendered = playbooks(app_certificate="private").text("nginx", SITE)

    assert "acme" not in rendered
    assert "ssl_certificate /etc/drumline/tls/site.crt;" in rendered


def test_names_that_are_proved_by_dns_need_no_challenge_over_http() -> None:
    site = playbooks(app_site_names=["shop.drumline.dev"], acme_dns="cloudflare")

    assert "acme-challenge" not in site.text("nginx", SITE)
    assert "authenticator = dns-cloudflare" in site.text("acme", ROLE / "templates/request.ini")


def test_the_certificates_of_staging_are_not_trusted_and_need_not_be() -> None:
    site = playbooks(app_site_names=["shop.drumline.dev"], acme_staging=True)

    assert site.value("verify", "verify_trusted") is False
    assert "acme-staging-v02" in site.text("acme", ROLE / "templates/request.ini")


@pytest.mark.parametrize(("release", "asked"), [("bookworm", False), ("noble", False), ("trixie", True)])
def test_a_profile_is_asked_for_where_certbot_knows_profiles(release: str, *, asked: bool) -> None:
    site = playbooks(
        app_site_names=["shop.drumline.dev"],
        acme_profile="shortlived",
        ansible_facts=FACTS | {"distribution_release": release},
    )

    assert ("preferred-profile = shortlived" in site.text("acme", ROLE / "templates/request.ini")) is asked


REQUEST = {"directory": "", "staging": False, "dns": "", "key_id": "", "hmac_key": ""}
PRIVATE_SERVER = {"directory": "https://ca.internal/acme/directory"}


@pytest.mark.parametrize(
    ("names", "request_", "told"),
    [
        ([], {}, "The certificate needs a name."),
        (["192.0.2.1"], {}, "cannot obtain a certificate for an address: 192.0.2.1"),
        (["shop.internal"], {}, "public DNS names alone, not shop.internal"),
        (["*.drumline.dev"], {}, "*.drumline.dev can be proved by DNS alone"),
        (["shop.drumline.dev"], {"directory": "ca.drumline.dev"}, "It must be the https:// URL"),
        (["shop.internal"], PRIVATE_SERVER | {"staging": True}, "Staging is Let's Encrypt's"),
        (["shop.drumline.dev"], {"key_id": "1"}, "acme_account_hmac_key is empty"),
        (["shop.drumline.dev"], {"hmac_key": "1"}, "acme_account_key_id is empty"),
        (["shop.drumline.dev"], {"dns": "cloudflare plugin"}, "apt-cache search"),
    ],
)
def test_what_no_server_would_issue_is_a_problem(names: list[str], request_: dict[str, Any], told: str) -> None:
    (problem,) = acme.acme_problems(names, REQUEST | request_)

    assert told in problem


def test_a_private_acme_server_certifies_names_of_its_own_network() -> None:
    assert acme.acme_problems(["shop.internal"], REQUEST | PRIVATE_SERVER) == []


@pytest.mark.parametrize(
    ("issuer", "own", "web_hosts", "told"),
    [
        ("letsencrypt", "", 1, "app_certificate is letsencrypt. It must be auto, acme, private or own."),
        ("own", "", 1, "Set tls_certificate and tls_key."),
        ("acme", "/site.crt", 1, "Set app_certificate to own, or remove tls_certificate."),
        ("acme", "", 2, "the site has 2 web hosts"),
    ],
)
def test_a_choice_that_does_not_fit_the_rest_is_a_problem(issuer: str, own: str, web_hosts: int, told: str) -> None:
    (problem,) = acme.issuer_problems(issuer, own, web_hosts)

    assert told in problem


def test_the_preflight_knows_these_problems() -> None:
    site = playbooks(app_certificate="acme", app_site_names=["shop.internal"])

    (problem,) = site.value("preflight", "__certificate_problems")

    assert "public DNS names alone, not shop.internal" in problem


HIDDEN = """\
An unexpected error occurred:
AttributeError: can't set attribute
Ask for help or search for solutions at https://community.letsencrypt.org. See the logfile /var/log/letsencrypt/letsencrypt.log
"type": "urn:ietf:params:acme:error:rateLimited"
"detail": "too many certificates already issued, retry after 2030-01-02 03:04:05 UTC"
failed: kept
"""
REFUSED = """\
Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Domain: shop.drumline.dev
  Type:   connection
  Detail: 192.0.2.1: Fetching http://shop.drumline.dev/.well-known/acme-challenge/a: Connection refused

Hint: The Certificate Authority failed to download the temporary challenge files created by Certbot.

Some challenges have failed.
failed: stand-in
"""
AWAY = """\
An unexpected error occurred:
ValueError: Requesting localhost/dir: Connection refused
failed: kept
"""


@pytest.mark.parametrize(
    ("printed", "dns", "told"),
    [
        (HIDDEN, "", ["retry after 2030-01-02 03:04:05 UTC", "Wait until the limit allows it again"]),
        (REFUSED, "", ["Type:   connection", "The server must reach port 80 of this host by shop.drumline.dev"]),
        (REFUSED, "rfc2136", ["Check vault_acme_dns_credentials, and that the plugin rfc2136 may write"]),
        (AWAY, "", ["Connection refused", "curl --head https://ca.drumline.dev/dir"]),
        ("", "", ["certbot printed no reason"]),
    ],
)
def test_a_refusal_is_told_in_the_servers_words_with_what_to_do(printed: str, dns: str, told: list[str]) -> None:
    said = acme.acme_failure({"stdout": printed}, ["shop.drumline.dev"], "https://ca.drumline.dev/dir", dns)

    for words in told:
        assert words in said
    for noise in ("AttributeError", "Hint:", "Ask for help", "failed: "):
        assert noise not in said


class Host:
    """The files of a host, in a folder, and the program that keeps its certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lineage = folder / "etc/letsencrypt/live/drumline"
        self.shown = folder / "etc/drumline/tls/acme.pem"
        self.shown.parent.mkdir(parents=True)
        self.renewal = folder / "etc/letsencrypt/renewal/drumline.conf"
        self.calls = folder / "calls"
        programs = folder / "bin"
        programs.mkdir()
        for name in ("systemctl", "certbot"):
            (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{self.calls}\n')
            (programs / name).chmod(0o755)
        rendered = playbooks().text("acme", ROLE / "templates/drumline-acme")
        self.program = folder / "drumline-acme"
        self.program.write_text(rendered.replace("/etc/", f"{folder}/etc/"))
        self.write(certificate(folder, days=300), self.shown.with_name("site.crt"), self.shown.with_name("site.key"))

    def write(self, pem: Path, chain: Path, key: Path) -> str:
        """A certificate and its key as two files; what the site would show of them."""
        text = pem.read_text()
        begin = text.index("-----BEGIN PRIVATE KEY")
        chain.parent.mkdir(parents=True, exist_ok=True)
        chain.write_text(text[:begin])
        key.write_text(text[begin:])
        return text[begin:] + text[:begin]

    def issue(self, *, days: float = 60, age: float = 30) -> str:
        issued = certificate(self.folder, days=days, age=age)
        shown = self.write(issued, self.lineage / "fullchain.pem", self.lineage / "privkey.pem")
        (self.lineage / "cert.pem").write_text((self.lineage / "fullchain.pem").read_text())
        self.renewal.parent.mkdir(parents=True, exist_ok=True)
        self.renewal.write_text("# renew_before_expiry = 30 days\nversion = 4.0.0\n")
        return shown

    def install(self) -> str:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        command = ["sh", str(self.program), "install"]
        ran = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"PATH": path})
        return str(ran.stdout.splitlines()[-1])


def test_a_site_shows_the_stand_in_until_its_certificate_is_issued_and_then_reloads_once(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.install() == "installed"
    assert "PRIVATE KEY" in host.shown.read_text()
    host.calls.unlink()

    issued = host.issue()

    assert host.install() == "installed"
    assert host.shown.read_text() == issued
    assert host.shown.stat().st_mode & 0o777 == 0o600
    assert host.install() == "unchanged"
    assert host.calls.read_text().count("systemctl reload nginx.service") == 1


def test_a_certificate_without_its_key_is_not_shown(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.install()
    before = host.shown.read_text()
    host.issue()
    (host.lineage / "privkey.pem").write_text((host.shown.with_name("site.key")).read_text())

    assert host.install() == "unchanged"
    assert host.shown.read_text() == before


@pytest.mark.parametrize(("life", "hours"), [(90, 720), (45, 360), (6, 72)])
def test_a_certificate_is_renewed_in_the_last_third_of_its_life_or_half_of_a_short_one(
    tmp_path: Path, life: float, hours: int
) -> None:
    host = Host(tmp_path)
    host.issue(days=life, age=0)

    for _run in range(3):
        host.install()

        lines = host.renewal.read_text().splitlines()
        assert [line for line in lines if line.startswith("renew_before_expiry")] == [
            f"renew_before_expiry = {hours} hours"
        ]
        assert lines[-1] == "version = 4.0.0"

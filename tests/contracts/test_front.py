"""What nginx says and limits, in what the role renders."""

from __future__ import annotations

import base64
import hashlib
import re

from tests.support.paths import ANSIBLE
from tests.support.rendering import Playbooks

NGINX = ANSIBLE / "roles" / "nginx"


def test_the_policy_allows_the_style_of_the_page_that_is_shown_while_the_site_is_away(playbooks: Playbooks) -> None:
    page = (NGINX / "files" / "unavailable.html").read_text()
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    assert f"'sha256-{digest}'" in playbooks.value("nginx", "__nginx_unavailable_style")


def test_a_site_that_wants_no_policy_gets_none(playbooks: Playbooks) -> None:
    without = Playbooks("production", "app1.example.com", app_content_security_policy="")

    assert "default-src 'self'; base-uri 'none'" in playbooks.text("nginx", NGINX / "templates" / "site.conf")
    assert '503 "";' in without.text("nginx", NGINX / "templates" / "site.conf")


def test_folders_of_uploads_that_are_private_are_only_reached_by_the_application() -> None:
    site = Playbooks("production", "app1.example.com", app_media_root="media", app_media_private_paths=["invoices/"])
    rendered = site.text("nginx", NGINX / "templates" / "site.conf")

    assert re.search(r"location /media/ \{\s+alias /var/lib/drumline-media/;\s+\}", rendered)
    assert re.search(
        r"location /media/invoices/ \{\s+internal;\s+alias /var/lib/drumline-media/invoices/;\s+\}", rendered
    )


def test_browsers_refuse_plain_http_below_the_sites_names_only_where_it_is_asked_for(playbooks: Playbooks) -> None:
    asked = Playbooks("production", "app1.example.com", app_hsts_include_subdomains=True)

    assert playbooks.value("nginx", "__nginx_hsts") == "max-age=31536000"
    assert asked.value("nginx", "__nginx_hsts") == "max-age=31536000; includeSubDomains"

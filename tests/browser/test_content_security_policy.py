"""The pages work under the Content-Security-Policy that nginx sends with them."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Response, expect

from tests.browser.conftest import ADMIN

# Every kind of page: Django's admin with its lists, its forms and its scripts, the API's documentation, Flower, the home.
FOR_STRANGERS = ["/", "/api/docs/", "/admin/login/", "/no-such-page"]
FOR_STAFF = [
    "/admin/",
    "/admin/users/user/",
    "/admin/users/user/add/",
    "/admin/django_celery_beat/periodictask/",
    "/admin/django_celery_beat/periodictask/add/",
    "/admin/orders/order/",
    "/flower/",
    "/flower/tasks",
    "/flower/broker",
]

# Chromium fires an event for each thing that it refused to load, run or apply.
WATCH = """
window.refusals = [];
document.addEventListener('securitypolicyviolation', event =>
    window.refusals.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber} ${event.sample}`));
"""


@pytest.fixture
def watched(page: Page) -> Page:
    page.add_init_script(WATCH)
    return page


@pytest.fixture
def staff(watched: Page, base_url: str, admin_password: str) -> Page:
    watched.goto(f"{base_url}/admin/")
    watched.fill("input[name=username]", ADMIN)
    watched.fill("input[name=password]", admin_password)
    watched.click("input[type=submit]")
    return watched


def assert_nothing_is_refused(page: Page, answer: Response | None) -> None:
    assert answer
    policy = answer.headers.get("content-security-policy", "")
    assert "default-src 'self'" in policy
    assert "unsafe-inline" not in policy
    assert "unsafe-eval" not in policy
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.refusals") == []


@pytest.mark.parametrize("path", FOR_STRANGERS)
def test_a_page_for_everyone_needs_nothing_that_its_policy_refuses(watched: Page, base_url: str, path: str) -> None:
    assert_nothing_is_refused(watched, watched.goto(base_url + path))


@pytest.mark.parametrize("path", FOR_STAFF)
def test_a_page_of_the_staff_needs_nothing_that_its_policy_refuses(staff: Page, base_url: str, path: str) -> None:
    assert_nothing_is_refused(staff, staff.goto(base_url + path))


def test_flowers_page_of_a_worker_needs_nothing_that_its_policy_refuses(staff: Page, base_url: str) -> None:
    staff.goto(f"{base_url}/flower/")
    link = staff.locator("a[href*='/flower/worker/']").first
    link.wait_for(timeout=15_000)
    address = link.get_attribute("href")
    assert address

    assert_nothing_is_refused(staff, staff.goto(base_url + address if address.startswith("/") else address))


def test_what_a_crontab_means_is_written_below_it(staff: Page, base_url: str) -> None:
    staff.goto(f"{base_url}/admin/django_celery_beat/periodictask/add/")

    staff.select_option("#id_crontab", index=1)

    expect(staff.locator(".field-crontab .help div").last).to_have_text(re.compile("^At "))


def test_a_script_written_into_a_page_does_not_run(watched: Page, base_url: str) -> None:
    watched.goto(base_url)

    watched.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.ran = true';
            document.body.append(script);
        }"""
    )

    assert watched.evaluate("window.ran") is None
    assert watched.evaluate("window.refusals.length") == 1

"""Flower in a browser: nothing for a stranger, all of it for staff, and its pages live behind the prefix."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ADMIN
from tests.support.paths import PROJECT

SCREENSHOTS = PROJECT / "build" / "screenshots"
PAGES = ["/flower/", "/flower/workers", "/flower/tasks", "/flower/broker", "/flower/api/workers", "/flower/static/x"]


@pytest.mark.parametrize("path", PAGES)
def test_a_stranger_is_sent_to_the_login(page: Page, base_url: str, path: str) -> None:
    page.goto(base_url + path)

    assert page.url.startswith(f"{base_url}/admin/login/?next=")
    expect(page.locator("input[name=password]")).to_be_visible()


@pytest.fixture
def staff(page: Page, base_url: str, admin_password: str) -> Page:
    page.goto(f"{base_url}/flower/")
    page.fill("input[name=username]", ADMIN)
    page.fill("input[name=password]", admin_password)
    page.click("input[type=submit]")
    return page


def test_staff_come_back_to_flower_after_the_login_and_see_every_worker(staff: Page, base_url: str) -> None:
    assert staff.url == f"{base_url}/flower/"
    for queue in ("high", "default", "low"):
        for number in (1, 2):
            expect(staff.get_by_text(f"{queue}-{number}@drumline-local")).to_be_visible(timeout=15_000)
    # Counted by the page's own polling, which goes to the prefix too.
    expect(staff.get_by_text("Connecting…")).to_be_hidden(timeout=15_000)
    staff.screenshot(path=SCREENSHOTS / "flower-workers.png")


def test_the_pages_behind_the_prefix_work(staff: Page, base_url: str) -> None:
    failed: list[str] = []
    staff.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
    errors: list[str] = []
    staff.on("pageerror", lambda error: errors.append(str(error)))

    staff.click("a:has-text('Tasks')")
    expect(staff.locator("#tasks-table tbody tr").first).to_be_visible(timeout=15_000)
    staff.screenshot(path=SCREENSHOTS / "flower-tasks.png")
    staff.click("a:has-text('Broker')")
    expect(staff.locator("body")).to_contain_text("Broker")
    staff.goto(f"{base_url}/flower/worker/high-1@drumline-local")
    expect(staff.locator("body")).to_contain_text("high-1@drumline-local")

    assert failed == []
    assert errors == []


def test_what_flower_leaves_open_is_closed_even_to_staff(staff: Page, base_url: str) -> None:
    for path in ("/flower/metrics", "/flower/healthcheck"):
        answer = staff.goto(base_url + path)
        assert answer
        assert answer.status == 404

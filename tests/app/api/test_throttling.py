"""A limit is counted in the database: for all web processes together, and for whom an address stands for."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apps.api import tasks
from apps.api.models import RequestCount
from apps.api.throttling import client_network

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _two_a_minute(monkeypatch):
    rates = {"session": "2/min", "reminders": "2/min"}
    monkeypatch.setattr("rest_framework.throttling.ScopedRateThrottle.THROTTLE_RATES", rates)


def asked(client, address="192.0.2.1"):
    return client.get("/api/session/", headers={"X-Forwarded-For": address}).status_code


def test_what_one_process_has_counted_another_knows(client):
    asked(client)
    # Nothing of it is in the memory of this process.
    RequestCount.objects.update(number=2)
    assert asked(client) == 429


def test_a_window_ends_and_the_next_begins_with_a_request(client):
    assert [asked(client) for _ in range(3)] == [404, 404, 429]
    RequestCount.objects.update(ends_at=timezone.now())
    assert [asked(client) for _ in range(3)] == [404, 404, 429]


def test_what_is_refused_does_not_make_the_wait_longer(client):
    for _ in range(5):
        asked(client)
    ends_at = RequestCount.objects.get().ends_at
    assert timezone.now() < ends_at <= timezone.now() + timedelta(minutes=1)


def test_callers_and_kinds_of_requests_are_counted_apart(ada, stranger):
    for _ in range(3):
        ada.get("/api/reminders/")
    assert ada.get("/api/reminders/").status_code == 429
    assert ada.get("/api/session/").status_code == 200
    assert stranger.get("/api/reminders/").status_code == 200
    visitor = Client()
    assert [asked(visitor), asked(visitor), asked(visitor, "192.0.2.2")] == [404, 404, 404]


def test_an_ipv6_network_of_64_bits_is_one_caller(client):
    addresses = ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:ffff::3", "2001:db8:1:3::1"]
    assert [asked(client, address) for address in addresses] == [404, 404, 429, 404]


@pytest.mark.parametrize("address", ["192.0.2.1", "", "unix:", "no:address"])
def test_what_is_no_ipv6_address_stands_for_itself(address):
    assert client_network(address) == address


def test_ended_counts_are_deleted(client):
    asked(client)
    assert tasks.cleanup_request_counts() == 0
    RequestCount.objects.update(ends_at=timezone.now() - timedelta(seconds=1))
    assert tasks.cleanup_request_counts() == 1

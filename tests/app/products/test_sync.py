"""Copying the supplier's stock, with a real HTTP server on the other side."""

import json
from datetime import timedelta
from importlib import import_module
from unittest import mock
from uuid import uuid4

import pytest
from celery import current_app
from django.apps import apps
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from apps.products import services, supplier, tasks
from apps.products.models import InventorySync, Product
from drumline.beat.models import MissedRuns
from tests.app.shop import a_product, retried, stock
from tests.counterparts.supplier import supplier_server
from tests.support.ports import free_port

pytestmark = pytest.mark.django_db


@pytest.fixture
def shelf(settings):
    with supplier_server(page_size=2) as server:
        settings.SUPPLIER_URL = server.url
        yield server


def body(**changes) -> bytes:
    return json.dumps({"items": [], "cursor": "1", "more": False, **changes}).encode()


def test_without_a_supplier_nothing_happens(settings):
    settings.SUPPLIER_URL = ""
    a_product(stock=3)
    assert tasks.sync_inventory(full=True) == 0
    assert stock() == (3, 0)
    assert not InventorySync.objects.exists()


def test_the_first_sync_reads_everything_page_by_page(shelf):
    for sku in ("A", "B", "C"):
        a_product(sku, stock=0)
    shelf.has(A=1, B=2, C=3, D=4)
    assert tasks.sync_inventory() == 3
    assert shelf.asked == ["", "2"]
    assert [stock(sku) for sku in ("A", "B", "C")] == [(1, 0), (2, 0), (3, 0)]
    row = InventorySync.objects.get()
    assert (row.cursor, row.holder, row.held_until) == ("4", None, None)
    assert row.finished_at is not None


def test_the_next_one_reads_what_changed_since(shelf):
    a_product("A")
    a_product("B")
    shelf.has(A=1, B=2)
    services.inventory_sync()
    shelf.has(B=7)
    assert services.inventory_sync() == 1
    assert services.inventory_sync() == 0
    assert shelf.asked == ["", "2", "3"]
    assert [stock("A"), stock("B")] == [(1, 0), (7, 0)]


def test_a_full_one_reads_everything_again_and_empties_what_is_not_listed(shelf):
    a_product("A")
    a_product("GONE", stock=5)
    shelf.has(A=1)
    services.inventory_sync()
    Product.objects.update(stock=9)
    assert services.inventory_sync() == 0
    assert [stock("A"), stock("GONE")] == [(9, 0), (9, 0)]
    assert services.inventory_sync(full=True) == 1
    assert [stock("A"), stock("GONE")] == [(1, 0), (0, 0)]
    assert shelf.asked[-1] == ""


def test_what_is_sold_and_not_shipped_is_not_for_sale_again(shelf):
    a_product("A", stock=0, reserved=3)
    a_product("B", stock=0, reserved=3)
    shelf.has(A=10, B=2)
    services.inventory_sync()
    assert [stock("A"), stock("B")] == [(7, 3), (0, 3)]


def test_a_supplier_that_lists_nothing_at_all_does_not_empty_the_shop(shelf):
    a_product(stock=5)
    with pytest.raises(supplier.SupplierError, match="nothing at all"):
        services.inventory_sync(full=True)
    assert stock() == (5, 0)
    assert shelf.asked == [""]


def test_a_supplier_that_lists_none_of_ours_is_believed(shelf):
    a_product(stock=5)
    shelf.has(OTHER=1)
    assert services.inventory_sync(full=True) == 0
    assert stock() == (0, 0)


@pytest.mark.parametrize(
    "answer",
    [
        (500, b""),
        (404, b"{}"),
        (302, b""),
        (204, b""),
        (200, b""),
        (200, b"\xff"),
        (200, b"[" * 100_000),
        (200, b"[]"),
        (200, b"{}"),
        (200, body(items=None)),
        (200, body(items=[1])),
        (200, body(items=[{"sku": "A"}])),
        (200, body(items=[{"sku": "A", "stock": -1}])),
        (200, body(items=[{"sku": "A", "stock": 1_000_000_001}])),
        (200, body(items=[{"sku": "A", "stock": "1"}])),
        (200, body(items=[{"sku": "A", "stock": 1.5}])),
        (200, body(items=[{"sku": "A", "stock": True}])),
        (200, body(items=[{"sku": 1, "stock": 1}])),
        (200, body(items=[{"sku": ["A"], "stock": 1}])),
        (200, body(items=[{"sku": "A\x00", "stock": 1}])),
        (200, body(cursor="")),
        (200, body(cursor=7)),
        (200, body(cursor="x" * 201)),
        (200, body(cursor="\x00")),
        (200, body(more=1)),
        None,
    ],
)
def test_an_answer_that_is_no_page_changes_nothing_and_gives_the_lease_back(shelf, answer):
    a_product("A", stock=5)
    shelf.answers = [answer]
    with pytest.raises(supplier.SupplierError):
        services.inventory_sync()
    assert stock("A") == (5, 0)
    row = InventorySync.objects.get()
    assert (row.cursor, row.holder, row.held_until) == ("", None, None)


@pytest.mark.parametrize(("count", "cursor"), [(0, "x"), (1_000_000_000, "x" * 200)])
def test_what_is_just_within_bounds_is_believed(shelf, count, cursor):
    a_product("A", stock=5)
    shelf.answers = [(200, body(items=[{"sku": "A", "stock": count}], cursor=cursor))]
    assert services.inventory_sync() == 1
    assert stock("A") == (count, 0)


def test_a_cursor_that_stands_still_is_not_followed_for_ever(shelf):
    shelf.answers = [(200, body(cursor="7", more=True)), (200, body(cursor="7", more=True))]
    with pytest.raises(supplier.SupplierError, match="stands still"):
        services.inventory_sync()
    assert shelf.asked == ["", "7"]


def test_a_supplier_that_cannot_be_reached_or_has_no_url_is_a_failure(settings):
    for url in (f"http://127.0.0.1:{free_port()}/", "supplier.example.com"):
        settings.SUPPLIER_URL = url
        with pytest.raises(supplier.SupplierError):
            services.inventory_sync()


def test_a_page_that_comes_byte_by_byte_or_never_ends_is_given_up(shelf, monkeypatch):
    shelf.has(A=1)
    monkeypatch.setattr(supplier, "PAGE_SIZE", 20)
    with pytest.raises(supplier.SupplierError, match="more than 20 bytes"):
        services.inventory_sync()
    monkeypatch.undo()
    monkeypatch.setattr(supplier, "PAGE_SECONDS", 0.1)
    shelf.drip = 0.05
    with pytest.raises(supplier.SupplierError, match=r"more than 0\.1 s"):
        services.inventory_sync()


def test_the_lease_outlives_the_slowest_page():
    slowest = supplier.TIMEOUT.connect + supplier.PAGE_SECONDS + supplier.TIMEOUT.read
    assert slowest < services.LEASE.total_seconds() < 60


@pytest.mark.usefixtures("shelf")
def test_a_sync_that_meets_another_one_is_skipped_until_that_ends_or_its_lease_does():
    a_product("A", stock=5)
    InventorySync.objects.create(pk=1, holder=uuid4(), held_until=timezone.now() + timedelta(seconds=5))
    with pytest.raises(services.InventoryBusyError, match="at work"):
        services.inventory_sync()
    assert tasks.sync_inventory() is None
    InventorySync.objects.update(held_until=timezone.now() - timedelta(seconds=1))
    with pytest.raises(supplier.SupplierError):
        services.inventory_sync()
    assert InventorySync.objects.get().holder is None


def test_the_lease_is_held_and_renewed_while_the_sync_works(shelf):
    shelf.has(A=1, B=2, C=3)
    seen = []

    def look(**page):
        held = InventorySync.objects.get()
        seen.append((held.holder, held.held_until - timezone.now()))
        # Much time passes until the answer.
        InventorySync.objects.update(held_until=timezone.now() + timedelta(seconds=1))
        return real(**page)

    real = supplier.stock_page
    with mock.patch.object(supplier, "stock_page", side_effect=look):
        services.inventory_sync()
    assert len({holder for holder, _ in seen} - {None}) == 1
    assert all(timedelta(seconds=20) < left <= services.LEASE for _, left in seen)


def test_one_that_lost_its_lease_writes_nothing_and_leaves_the_other_alone(shelf):
    a_product("A", stock=5)
    shelf.has(A=1)
    other = uuid4()

    def overtaken(**page):
        InventorySync.objects.update(holder=other)
        return real(**page)

    real = supplier.stock_page
    with (
        mock.patch.object(supplier, "stock_page", side_effect=overtaken),
        pytest.raises(services.InventoryBusyError, match="took over"),
    ):
        services.inventory_sync()
    assert stock("A") == (5, 0)
    row = InventorySync.objects.get()
    assert (row.holder, row.cursor) == (other, "")


@pytest.mark.usefixtures("shelf")
def test_a_run_of_every_minute_that_fails_is_skipped(caplog):
    assert tasks.sync_inventory() is None
    assert "inventory_sync_skipped" in caplog.text


@pytest.mark.usefixtures("shelf")
def test_a_full_run_that_fails_is_tried_again_later_and_later_and_then_a_failure():
    limits = []
    for retries in range(5):
        with mock.patch("celery.utils.time.random.randrange", side_effect=lambda limit: limits.append(limit) or 0):
            assert isinstance(retried(tasks.sync_inventory, retries=retries, full=True)["exc"], supplier.SupplierError)
    assert limits == [31, 61, 121, 241, 481]
    task = tasks.sync_inventory
    assert task.max_retries == 5
    task.push_request(called_directly=False, retries=5, args=(), kwargs={"full": True})
    try:
        with pytest.raises(supplier.SupplierError):
            task.run(full=True)
    finally:
        task.pop_request()


def test_a_full_run_that_meets_another_one_waits_for_it(shelf):
    InventorySync.objects.create(pk=1, holder=uuid4(), held_until=timezone.now() + timedelta(seconds=5))
    assert isinstance(retried(tasks.sync_inventory, full=True)["exc"], services.InventoryBusyError)
    assert shelf.asked == []


def test_every_minute_is_the_codes_and_every_six_hours_the_databases():
    call_command("sync_schedule", verbosity=0)
    minutely, full = PeriodicTask.objects.filter(task="products.sync_inventory").order_by("interval__period")[::-1]
    assert (minutely.interval.every, minutely.interval.period, minutely.expire_seconds) == (60, "seconds", 50)
    assert MissedRuns.objects.get(periodic_task=minutely).policy == "skip"
    assert (full.interval.every, full.interval.period, json.loads(full.kwargs)) == (6, "hours", {"full": True})
    assert full.enabled
    assert not hasattr(full, "code_entry")
    assert current_app.amqp.router.route({}, full.task)["queue"].name == "default"


def test_the_entry_of_the_database_can_be_taken_back_and_an_operators_is_left_alone():
    migration = import_module("apps.products.migrations.0002_full_sync_schedule")
    entry = PeriodicTask.objects.filter(name=migration.NAME)
    assert entry.update(enabled=False) == 1
    migration.create(apps, None)
    assert not entry.get().enabled
    migration.delete(apps, None)
    assert not entry.exists()
    migration.create(apps, None)
    assert entry.get().enabled


def test_no_more_is_sold_than_there_is():
    product = a_product(stock=3)
    assert services.stock_take(product_id=product.pk, quantity=2)
    assert stock() == (1, 2)
    assert not services.stock_take(product_id=product.pk, quantity=2)
    assert services.stock_take(product_id=product.pk, quantity=1)
    assert stock() == (0, 3)
    services.stock_return(product_id=product.pk, quantity=1)
    services.stock_ship(product_id=product.pk, quantity=2)
    assert stock() == (1, 0)


@pytest.mark.parametrize("fields", [{"stock": -1}, {"reserved": -1}, {"price": 0}, {"price": 100_000_000}])
def test_the_database_refuses_counts_and_prices_that_cannot_be(fields):
    with pytest.raises(IntegrityError), transaction.atomic():
        a_product(**fields)
    assert str(a_product(price=1, stock=0)) == "TEA-1 Tea"

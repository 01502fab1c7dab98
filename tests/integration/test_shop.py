"""Orders, payments and the stock: real workers, a database with locks, and a provider that charges what it is asked to."""

import json

import psycopg
import pytest

from tests.counterparts.stripe import error, stripe_server
from tests.counterparts.supplier import supplier_server
from tests.support.waiting import wait_until

SHOP = """
import json
from django.contrib.auth import get_user_model
from django.test import Client
from apps.orders.models import Order
from apps.products.models import Product

def sign_in(email, **fields):
    client = Client()
    client.force_login(get_user_model().objects.create_user(email, "p", **fields))
    return client.cookies["sessionid"].value

Product.objects.create(sku="TEA-1", name="Tea", price=1999, currency="EUR", stock=10)
print(json.dumps([sign_in("ada@example.com"), sign_in("eve@example.com", is_staff=True, is_superuser=True)]))
"""
ORDER = """
Order.objects.create(
    customer=get_user_model().objects.get(email="ada@example.com"),
    product=Product.objects.get(),
    quantity=2,
    total=3998,
    currency="EUR",
    status="paying",
    payment_method="pm_card_visa",
)
"""
SEND = """
from celery import signature
for _ in range({number}):
    signature({name!r}, args={args}, kwargs={kwargs}).apply_async()
"""
STATUS = "SELECT status FROM orders_order"
STOCK = "SELECT ARRAY[stock, reserved] FROM products_product"
ENDED = "SELECT count(*) FROM drumline_ledger WHERE state = 2"
RETRIED = "SELECT count(*) FROM drumline_ledger WHERE retries > 0"
HURRY = "UPDATE drumline_ledger SET due_at = now() WHERE state = 0"
CARD = "4242 4242 4242 4242"


class Shopper:
    """Somebody who is signed in."""

    def __init__(self, application, session: str) -> None:
        self.application = application
        self.headers = {
            "Cookie": f"sessionid={session}; csrftoken={'x' * 32}",
            "X-CSRFToken": "x" * 32,
            "Referer": "https://testserver/",
        }

    def get(self, path: str):
        return self.application.get(f"/api/orders/{path}", **self.headers)

    def post(self, path: str, body=None):
        return self.application.post(f"/api/orders/{path}", body, **self.headers)


@pytest.fixture
def stripe(application):
    with stripe_server() as server:
        application.env.update(STRIPE_URL=server.url, STRIPE_API_KEY="sk_test_secret")
        yield server


@pytest.fixture
def shoppers(application):
    """Ada, a customer, and Eve of the staff, in a shop with ten packets of tea."""
    printed = application.manage("shell", "-c", SHOP).stdout.splitlines()[-1]
    return [Shopper(application, session) for session in json.loads(printed)]


@pytest.fixture
def order(application, ask):
    """An order of two of them, to be charged."""
    application.manage("shell", "-c", SHOP + ORDER)
    return ask("SELECT id FROM orders_order")


@pytest.fixture
def ask(sql):
    """The first value of what the database answers."""

    def ask(statement):
        rows = sql(statement)
        return rows[0][0] if rows else None

    return ask


@pytest.fixture
def held_order(cluster, database, order, ask):
    """An order that somebody else has locked; yield its id, how many wait for it, and what lets it go."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%'"
    with psycopg.connect(f"host={cluster.folder} port={cluster.port} user=drumline dbname={database}") as holder:
        holder.execute("SELECT 1 FROM orders_order FOR UPDATE")
        yield order, lambda: ask(waiting), holder.rollback


def send(application, name, *args, number=1, **kwargs):
    """Send a task without waiting for it."""
    application.manage("shell", "-c", SEND.format(name=name, args=args, kwargs=kwargs, number=number))


def test_an_order_is_created_paid_and_shipped_and_a_declined_one_gives_its_stock_back(
    application, stripe, shoppers, ask
):
    worker = application.worker("high", concurrency=2)
    web = application.web()
    ada, eve = shoppers
    body = {"sku": "TEA-1", "quantity": 2, "total": "39.98", "currency": "EUR"}

    orders = [ada.post("", body) for _ in range(2)]
    assert [order.status for order in orders] == [201, 201]
    good, bad = (order.json()["id"] for order in orders)
    assert ada.post(f"{good}/pay/", {"payment_method": "pm_card_visa"}).status == 202
    assert ada.post(f"{bad}/pay/", {"payment_method": "pm_card_chargeDeclined"}).status == 202

    wait_until(lambda: ada.get(f"{good}/").json()["status"] == "paid", "it is paid")
    wait_until(lambda: ada.get(f"{bad}/").json()["status"] == "failed", "it is declined")
    assert ada.get(f"{bad}/").json()["failure"] == "declined"
    assert ask(STOCK) == [8, 2]
    assert ask("SELECT reason FROM payments_failedcharge") == "declined"
    assert [charge["metadata"]["order"] for charge in stripe.charges] == [str(good)]

    assert (eve.get(f"{good}/").status, ada.post(f"{good}/ship/").status) == (404, 403)
    assert eve.post(f"{good}/ship/").status == 202
    wait_until(lambda: ada.get(f"{good}/").json()["status"] == "shipped", "it is shipped")
    assert application.enqueue("orders.mark_shipped", f"[{good}]")["state"] == "SUCCESS"
    assert len(worker.said("order_shipped")) == 1
    assert ask(STOCK) == [8, 0]
    assert "sk_test_secret" not in web.text() + worker.text()


def test_deliveries_at_the_same_moment_charge_once(application, stripe, held_order, ask):
    application.relay()
    application.worker("high", concurrency=4)
    order, waiting, let_go = held_order
    stripe.open.clear()

    # All four wait for the row before one of them gets it.
    send(application, "orders.charge_and_fulfill", order, number=4)
    wait_until(lambda: waiting() == 4, "four deliveries wait for the order")
    let_go()
    wait_until(lambda: len(stripe.asked) == 1, "the provider is asked")
    assert ask(STOCK) == [8, 2]

    # While the provider thinks about it, the payment is delivered again.
    send(application, "payments.charge_card", ask("SELECT id FROM payments_payment"))
    wait_until(lambda: len(stripe.asked) > 1, "the provider is asked again")
    wait_until(lambda: ask(RETRIED) == 1, "the second one has to wait")
    stripe.open.set()
    wait_until(lambda: ask(STATUS) == "paid", "the order is paid")

    ask(HURRY)
    wait_until(lambda: ask(ENDED) == 6, "everything has ended")
    assert len(stripe.charges) == ask("SELECT count(*) FROM payments_payment") == 1
    assert ask(STOCK) == [8, 2]
    assert ask("SELECT count(*) FROM payments_failedcharge") == 0


def test_a_worker_that_is_killed_while_the_provider_charges_leaves_one_charge_and_a_paid_order(
    application, stripe, order, ask
):
    application.relay()
    worker = application.worker("high")
    stripe.open.clear()
    send(application, "orders.charge_and_fulfill", order)
    wait_until(lambda: len(stripe.asked) == 1, "the provider is asked")
    worker.stop()
    stripe.open.set()
    wait_until(lambda: stripe.charges, "the provider has charged")
    assert (ask(STATUS), ask("SELECT status FROM payments_payment")) == ("charging", "pending")

    application.worker("high")

    wait_until(lambda: ask(STATUS) == "paid", "the order is paid")
    assert len(stripe.charges) == 1
    assert stripe.asked[0].key == stripe.asked[1].key


def test_a_provider_that_stays_away_leaves_it_to_a_person_who_has_it_tried_again(application, stripe, order, ask):
    application.relay()
    worker = application.worker("high")
    stripe.answers = [error(500, "api_error", f"We could not charge {CARD}")] * 4
    send(application, "orders.charge_and_fulfill", order)

    def failed():
        ask(HURRY)
        return ask("SELECT ARRAY[id::text, reason, error] FROM payments_failedcharge")

    failure, reason, words = wait_until(failed, "it is left to a person")
    assert (reason, words) == ("unknown", "APIError: Request req_4: We could not charge (hidden)")
    assert len(stripe.asked) == 4
    ended = "SELECT ARRAY[state, attempt, retries] FROM drumline_ledger WHERE name = 'payments.charge_card'"
    wait_until(lambda: ask(ended) == [2, 4, 3], "it has ended, and is no dead letter")
    assert (ask(STATUS), ask(STOCK)) == ("charging", [8, 2])

    requeue = "from apps.payments.services import failed_charge_requeue as requeue"
    application.manage("shell", "-c", f"{requeue}; assert requeue(failed_charge_id={failure}, by='eve@example.com')")

    wait_until(lambda: ask(STATUS) == "paid", "the order is paid")
    assert len(stripe.charges) == 1
    assert {asked.key for asked in stripe.asked} == {str(ask("SELECT key FROM payments_payment"))}
    assert ask("SELECT requeued_by FROM payments_failedcharge") == "eve@example.com"
    assert "We could not charge (hidden)" in worker.text()
    kept = ask("SELECT string_agg(message || error || traceback || history::text, '') FROM drumline_ledger")
    for text in (worker.text(), kept):
        assert "4242" not in text
        assert "sk_test_secret" not in text


@pytest.fixture
def supplier(application, shoppers):  # noqa: ARG001  it fills the shop
    """A supplier that has seven packets of the tea."""
    with supplier_server() as server:
        server.has(**{"TEA-1": 7})
        application.env.update(SUPPLIER_URL=server.url)
        yield server


def test_the_stock_is_copied_by_one_run_at_a_time(application, supplier, ask):
    application.relay()
    first = application.worker("default", concurrency=2)
    # There is always one change more, and each answer takes a while: this run does not end.
    supplier.page_size, supplier.restless, supplier.drip = 1, True, 0.01
    send(application, "products.sync_inventory")
    wait_until(lambda: len(supplier.asked) > 2, "the first run is at work")

    assert application.enqueue("products.sync_inventory")["state"] == "SUCCESS"
    send(application, "products.sync_inventory", full=True)
    wait_until(lambda: ask(RETRIED) == 1, "the full run has to wait")
    assert len(first.said("inventory_sync_skipped")) == 1
    assert supplier.asked.count("") == 1

    # The worker dies, and as much time passes as its lease has.
    first.stop()
    assert ask("SELECT held_until > now() FROM products_inventorysync")
    ask("UPDATE products_inventorysync SET held_until = held_until - interval '30 seconds'")
    supplier.page_size, supplier.restless, supplier.drip = 1000, False, 0
    application.worker("default")
    ask(HURRY)

    wait_until(lambda: ask(ENDED) == 3, "all three have ended")
    assert ask(STOCK) == [dict(supplier.changes)["TEA-1"], 0]
    assert supplier.asked.count("") == 2
    assert ask("SELECT holder IS NULL FROM products_inventorysync")


def test_beat_sends_the_codes_run_and_the_databases(application, supplier, ask):
    worker = application.worker("default")
    application.manage("sync_schedule")
    # Both were due a moment ago.
    ask(
        "UPDATE django_celery_beat_periodictask SET last_run_at = now() - interval '1 second' "
        "- CASE kwargs WHEN '{}' THEN interval '60 seconds' ELSE interval '6 hours' END "
        "WHERE task = 'products.sync_inventory'"
    )
    application.beat()
    application.relay()

    wait_until(lambda: ask(f"{ENDED} AND name = 'products.sync_inventory'") >= 2, "both runs have ended")
    assert worker.said("inventory_synced", full=True)
    assert supplier.asked.count("") >= 1
    assert ask(STOCK) == [7, 0]

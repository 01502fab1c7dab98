"""Orders as a customer sees them."""

import io
from unittest import mock

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.test import Client

from apps.orders.models import Order
from tests.app.shop import a_product, an_order, sent, stock

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_broker")]

Status = Order.Status
ORDER = {"sku": "TEA-1", "quantity": 2, "total": "39.98", "currency": "EUR"}
PAY = {"payment_method": "pm_card_visa"}


@pytest.fixture
def bob(db):  # noqa: ARG001  it opens the database
    return get_user_model().objects.create_user("bob@example.com", "p")


@pytest.fixture
def staff(db):  # noqa: ARG001  it opens the database
    client = Client()
    eve = get_user_model().objects.create_user("eve@example.com", "p", is_staff=True)
    eve.user_permissions.add(Permission.objects.get(codename="ship_order"))
    client.force_login(eve)
    return client


def post(client, path, body=None):
    return client.post(f"/api/orders/{path}", body or {}, content_type="application/json")


def refused(answer, status, *fields):
    """Assert that it is a problem document, and return the codes of the fields."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    errors = problem.get("errors", [])
    assert {error["field"] for error in errors} == set(fields), problem
    return [error["code"] for error in errors]


def test_an_order_is_created_for_who_is_signed_in(ada, user):
    a_product()
    answer = post(ada, "", ORDER)
    assert answer.status_code == 201
    order = Order.objects.get()
    assert order.customer == user
    created_at = answer.json().pop("created_at")
    assert created_at is not None
    assert {name: value for name, value in answer.json().items() if name != "created_at"} == {
        **ORDER,
        "id": order.pk,
        "status": "pending",
        "failure": "",
        "paid_at": None,
        "shipped_at": None,
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("sku", value) for value in ("", "COFFEE", "\x00", None, ["TEA-1"], {"a": 1})],
        *[("quantity", value) for value in (0, -1, 1001, 10**30, 1.5, "two", True, None, "")],
        *[("total", value) for value in ("", "0", "-1", "39.985", "1e3", "1000000", "39,98", "٣", None, [], "9" * 21)],
        *[("currency", value) for value in ("", "eur", "XXX", "EURO", 7, None)],
    ],
)
def test_what_is_out_of_range_is_named(ada, field, value):
    a_product()
    refused(post(ada, "", {**ORDER, field: value}), 400, field)
    assert not Order.objects.exists()


@pytest.mark.parametrize("field", ORDER)
def test_what_is_missing_is_named(ada, field):
    a_product()
    refused(post(ada, "", {name: value for name, value in ORDER.items() if name != field}), 400, field)


@pytest.mark.parametrize(
    ("quantity", "price", "total"), [(1, 1, "0.01"), (1000, 1999, "19990.00"), (1, 99_999_999, "999999.99")]
)
def test_the_bounds_themselves_are_accepted(ada, quantity, price, total):
    a_product(price=price)
    assert post(ada, "", {**ORDER, "quantity": quantity, "total": total}).status_code == 201


@pytest.mark.parametrize("change", [{"total": "39.97"}, {"quantity": 3}, {"currency": "USD"}])
def test_another_price_than_the_customer_saw_is_a_conflict(ada, change):
    a_product()
    assert refused(post(ada, "", {**ORDER, **change}), 409, "total") == ["price_changed"]
    assert not Order.objects.exists()


def test_customers_list_and_look_at_their_own_orders_only(ada, user, bob):
    first, second, strange = an_order(customer=user), an_order(customer=user), an_order(customer=bob)
    answer = ada.get("/api/orders/").json()
    assert [order["id"] for order in answer["results"]] == [second.pk, first.pk]
    assert (answer["next"], answer["previous"]) == (None, None)
    assert ada.get(f"/api/orders/{first.pk}/").json()["sku"] == "TEA-1"
    refused(ada.get(f"/api/orders/{strange.pk}/"), 404)
    refused(ada.get("/api/orders/999999999999999999999999/"), 404)


def test_a_long_list_comes_in_pages_and_asks_for_no_product_by_itself(ada, user, django_assert_max_num_queries):
    orders = [an_order(customer=user) for _ in range(51)]
    with django_assert_max_num_queries(4):
        page = ada.get("/api/orders/").json()
    assert [order["id"] for order in page["results"]] == [order.pk for order in orders[:0:-1]]
    assert [order["id"] for order in ada.get(page["next"]).json()["results"]] == [orders[0].pk]


def test_paying_is_accepted_and_a_task(ada, user):
    order = an_order(customer=user)
    answer = post(ada, f"{order.pk}/pay/", PAY)
    assert (answer.status_code, answer.json()["status"]) == (202, "paying")
    assert sent() == [("orders.charge_and_fulfill", [order.pk])]
    assert refused(post(ada, f"{order.pk}/pay/", PAY), 409, "status") == ["not_payable"]
    assert len(sent()) == 1
    order.refresh_from_db()
    assert order.payment_method == "pm_card_visa"
    assert b"pm_card_visa" not in answer.content


@pytest.mark.parametrize(
    "value",
    ["", "4242424242424242", "pm_", "pm_4242 4242", "pm_x\ny", "pm_" + "x" * 98, "pm_é", "tok_visa", None, ["pm_x"]],
)
def test_what_is_no_id_of_a_payment_method_is_named_and_not_repeated(ada, user, value, caplog):
    order = an_order(customer=user)
    answer = post(ada, f"{order.pk}/pay/", {"payment_method": value})
    refused(answer, 400, "payment_method")
    assert b"4242" not in answer.content
    assert "4242" not in caplog.text
    order.refresh_from_db()
    assert order.status == "pending"


def test_somebody_elses_order_cannot_be_paid(ada, bob):
    order = an_order(customer=bob)
    refused(post(ada, f"{order.pk}/pay/", PAY), 404)
    # Whatever is in the body, nothing is told of it.
    refused(post(ada, f"{order.pk}/pay/", {}), 404)
    refused(post(ada, "999999999999999999999999/pay/", PAY), 404)
    order.refresh_from_db()
    assert (order.status, sent()) == ("pending", [])


def test_staff_ships_a_paid_order(staff, bob):
    order = an_order(Status.PAID, customer=bob)
    answer = post(staff, f"{order.pk}/ship/")
    assert (answer.status_code, answer.json()["id"]) == (202, order.pk)
    assert sent() == [("orders.mark_shipped", [order.pk])]
    Order.objects.update(status=Status.SHIPPED)
    assert refused(post(staff, f"{order.pk}/ship/"), 409, "status") == ["not_shippable"]
    refused(post(staff, f"{order.pk + 1}/ship/"), 404)
    assert len(sent()) == 1


@pytest.mark.parametrize(
    ("is_staff", "permission"), [(True, "change_order"), (False, "ship_order")], ids=["staff", "the permission"]
)
def test_shipping_needs_both_staff_and_the_permission_for_it(client, bob, is_staff, permission):
    eve = get_user_model().objects.create_user("eve@example.com", "p", is_staff=is_staff)
    eve.user_permissions.add(Permission.objects.get(codename=permission))
    client.force_login(eve)
    refused(post(client, f"{an_order('paid', customer=bob).pk}/ship/"), 403)
    assert sent() == []


def test_a_customer_ships_nothing(ada, user):
    order = an_order(Status.PAID, customer=user)
    refused(post(ada, f"{order.pk}/ship/"), 403)
    refused(post(ada, f"{order.pk + 1}/ship/"), 403)
    assert sent() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("get", ""), ("post", ""), ("get", "{}/"), ("post", "{}/pay/"), ("post", "{}/ship/")],
)
def test_who_is_not_signed_in_sees_and_does_nothing(client, method, path):
    order = an_order(Status.PAID)
    refused(getattr(client, method)(f"/api/orders/{path.format(order.pk)}"), 403)
    assert (Order.objects.count(), sent()) == (1, [])


def test_a_request_from_another_site_is_refused(user):
    order = an_order(customer=user)
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    for path, body in (("", ORDER), (f"{order.pk}/pay/", PAY)):
        refused(post(client, path, body), 403)
    assert (Order.objects.count(), sent()) == (1, [])


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_an_order_cannot_be_changed_or_deleted(ada, user, method):
    order = an_order(customer=user)
    for path in ("", f"{order.pk}/"):
        refused(getattr(ada, method)(f"/api/orders/{path}"), 405)
    for path in ("pay", "ship"):
        refused(ada.get(f"/api/orders/{order.pk}/{path}/"), 405 if path == "pay" else 403)
    assert Order.objects.exists()


@pytest.mark.parametrize(
    ("scope", "method", "path"),
    [
        ("orders.create", "post", ""),
        ("orders.read", "get", ""),
        ("orders.read", "get", "{}/"),
        ("orders.pay", "post", "{}/pay/"),
        ("orders.ship", "post", "{}/ship/"),
    ],
)
def test_too_many_requests_are_refused_one_kind_at_a_time(monkeypatch, user, scope, method, path):
    order = an_order(customer=user)
    user.is_staff = user.is_superuser = True
    user.save()
    client = Client()
    client.force_login(user)
    rates = {
        name: "2/min" if name == scope else "1000/min"
        for name in ("orders.create", "orders.read", "orders.pay", "orders.ship")
    }
    monkeypatch.setattr("rest_framework.throttling.ScopedRateThrottle.THROTTLE_RATES", rates)
    for _ in range(2):
        assert getattr(client, method)(f"/api/orders/{path.format(order.pk)}").status_code != 429
    answer = getattr(client, method)(f"/api/orders/{path.format(order.pk)}")
    refused(answer, 429)
    assert int(answer["Retry-After"]) > 0


def test_nothing_of_the_provider_is_asked_in_a_request(ada, user):
    order = an_order(customer=user)
    with mock.patch("apps.payments.provider._ask") as asked:
        post(ada, f"{order.pk}/pay/", PAY)
    asked.assert_not_called()
    assert stock() == (10, 0)


def test_the_schema_is_valid_and_describes_the_problems(client):
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=io.StringIO())
    paths = client.get("/api/schema/", headers={"Accept": "application/vnd.oai.openapi+json"}).json()["paths"]
    assert {"201", "400", "403", "409", "413", "415", "429"} <= set(paths["/api/orders/"]["post"]["responses"])
    assert {"202", "400", "403", "404", "409"} <= set(paths["/api/orders/{id}/pay/"]["post"]["responses"])
    assert {"202", "403", "404", "409"} <= set(paths["/api/orders/{id}/ship/"]["post"]["responses"])

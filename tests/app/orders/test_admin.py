import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.urls import reverse

from apps.orders.models import Order
from tests.app.shop import an_order, sent

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_broker")]

LIST = "admin:orders_order_changelist"


def ship(client, *orders):
    data = {"action": "ship", "_selected_action": [order.pk for order in orders]}
    return client.post(reverse(LIST), data, follow=True)


def test_orders_are_listed_and_looked_at_and_neither_changed_nor_deleted(root):
    order = an_order()
    assert b"39.98" in root.get(reverse(LIST), {"q": "ada@"}).content
    url = reverse("admin:orders_order_change", args=[order.pk])
    assert b"Pending" in root.get(url).content
    assert root.post(url, {"status": "paid"}).status_code == 403
    assert root.post(reverse("admin:orders_order_delete", args=[order.pk]), {"post": "yes"}).status_code == 403
    assert Order.objects.get().status == "pending"


def test_paid_orders_are_shipped_and_the_others_counted(root):
    paid, pending = an_order(Order.Status.PAID), an_order()
    assert "1 of 1 are being shipped." in ship(root, paid).content.decode()
    assert "1 of 2 are being shipped; 1 are not paid, or shipped already." in ship(root, paid, pending).content.decode()
    assert sent() == [("orders.mark_shipped", [paid.pk])] * 2


@pytest.mark.parametrize("other", ["view_order", "change_order"])
def test_who_may_only_look_or_change_ships_nothing(client, other):
    user = get_user_model().objects.create_user("eye@example.com", "p", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=["view_order", other]))
    client.force_login(user)
    order = an_order(Order.Status.PAID)
    assert b"Mark as shipped" not in client.get(reverse(LIST)).content
    ship(client, order)
    assert sent() == []

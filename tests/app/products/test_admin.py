import pytest
from django.db.models.signals import pre_save
from django.urls import reverse

from apps.products.models import InventorySync, Product
from tests.app.shop import a_product, stock

pytestmark = pytest.mark.django_db


FORM = {"sku": "TEA-1", "name": "Green tea", "price": "1999", "currency": "EUR", "stock": "10"}


def test_a_product_is_added_and_listed_with_its_price(root):
    assert root.post(reverse("admin:products_product_add"), FORM).status_code == 302
    assert stock() == (10, 0)
    page = root.get(reverse("admin:products_product_changelist"), {"q": "green"}).content.decode()
    assert "19.99 EUR" in page


def test_a_change_of_the_name_does_not_undo_a_sale(root):
    product = a_product()
    url = reverse("admin:products_product_change", args=[product.pk])

    def sell_before_it_is_saved(**_):
        Product.objects.update(stock=4, reserved=6)

    pre_save.connect(sell_before_it_is_saved, sender=Product)
    try:
        assert root.post(url, FORM).status_code == 302
    finally:
        pre_save.disconnect(sell_before_it_is_saved, sender=Product)
    assert Product.objects.get().name == "Green tea"
    assert stock() == (4, 6)


@pytest.mark.parametrize(
    ("field", "value"), [("price", "0"), ("price", "100000000"), ("stock", "-1"), ("currency", "XXX")]
)
def test_a_value_out_of_bounds_is_a_form_error(root, field, value):
    answer = root.post(reverse("admin:products_product_add"), {**FORM, field: value})
    assert answer.context["adminform"].form.errors.keys() == {field}
    assert not Product.objects.exists()


def test_the_sync_can_be_looked_at_and_not_changed(root):
    row = InventorySync.objects.create(cursor="17")
    assert b"17" in root.get(reverse("admin:products_inventorysync_changelist")).content
    assert root.post(reverse("admin:products_inventorysync_change", args=[row.pk]), {}).status_code == 403

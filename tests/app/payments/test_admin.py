import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.urls import reverse

from apps.payments.models import FailedCharge
from apps.payments.services import payment_fail
from tests.app.shop import a_payment, sent

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_broker")]

LIST = "admin:payments_failedcharge_changelist"


def failed() -> FailedCharge:
    payment = a_payment()
    payment_fail(payment_id=payment.pk, reason=FailedCharge.Reason.UNKNOWN, error="no answer")
    return payment.failures.get()


def requeue(client, *rows):
    data = {"action": "requeue", "_selected_action": [row.pk for row in rows]}
    return client.post(reverse(LIST), data, follow=True)


def test_failed_charges_are_requeued_under_the_name_of_who_did_it(root):
    first = failed()
    assert b"no answer" in root.get(reverse(LIST)).content
    assert "1 of 1 requeued." in requeue(root, first).content.decode()
    first.refresh_from_db()
    assert first.requeued_by == "root@example.com"
    second = failed()
    assert "1 of 2 requeued; 1 need it no more." in requeue(root, first, second).content.decode()
    assert sent() == [("payments.charge_card", [row.payment_id]) for row in (first, second)]


def test_what_waits_can_be_told_from_what_was_requeued(root):
    first, second = failed(), failed()
    requeue(root, first)
    shown = root.get(reverse(LIST), {"requeued_at__isempty": "1"}).context["cl"].result_list
    assert [row.pk for row in shown] == [second.pk]


def test_who_may_only_look_requeues_nothing(client):
    row = failed()
    user = get_user_model().objects.create_user("eye@example.com", "p", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_failedcharge"))
    client.force_login(user)
    assert b"try to charge again" not in client.get(reverse(LIST)).content
    requeue(client, row)
    assert sent() == []


@pytest.mark.parametrize("model", ["payment", "failedcharge"])
def test_the_books_are_neither_changed_nor_deleted(root, model):
    row = failed()
    pk = row.pk if model == "failedcharge" else row.payment_id
    assert b"39.98" in root.get(reverse(f"admin:payments_{model}_changelist")).content
    assert root.get(reverse(f"admin:payments_{model}_change", args=[pk])).status_code == 200
    for page in ("change", "delete"):
        assert root.post(reverse(f"admin:payments_{model}_{page}", args=[pk]), {"post": "yes"}).status_code == 403
    assert root.get(reverse(f"admin:payments_{model}_add")).status_code == 403

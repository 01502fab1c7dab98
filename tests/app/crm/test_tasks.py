"""Copying a user to the CRM, with a real HTTP server on the other side."""

from unittest import mock

import httpx
import pytest
from celery.exceptions import Retry
from django.core import mail

from apps.crm import services, tasks
from apps.crm.client import CrmBusyError, CrmRefusedError, CrmUnavailableError
from apps.crm.models import Contact
from apps.users.services import email_verify, user_create
from apps.users.verification import token_make
from drumline.models import DurableTask
from tests.counterparts.crm import crm_server
from tests.support.ports import free_port

pytestmark = pytest.mark.django_db


@pytest.fixture
def crm(settings):
    with crm_server() as server:
        settings.CRM_URL, settings.CRM_TOKEN = server.url, "secret"
        yield server


def failed(user_id, **request):
    """Run the task as a worker does, and return what it asks for: the exception and the delay."""
    task = tasks.sync_to_crm
    task.push_request(called_directly=False, **request)
    try:
        with mock.patch.object(task, "retry", side_effect=Retry) as retry, pytest.raises(Retry):
            task.run(user_id)
    finally:
        task.pop_request()
    return retry.call_args.kwargs


def test_a_user_is_copied_under_our_key_and_remembered_under_theirs(crm, user):
    assert tasks.sync_to_crm(user.pk)
    [asked] = crm.asked
    assert (asked.path, asked.authorization) == (f"/api/contacts/{user.pk}", "Bearer secret")
    assert asked.body == {"email": "ada@example.com", "name": "Ada"}
    contact = Contact.objects.get()
    assert (contact.user, contact.external_id, contact.refusal) == (user, "C-1", "")
    assert contact.synced_at is not None


def test_twice_is_as_good_as_once(crm, user):
    for _ in range(2):
        assert services.contact_sync(user_id=user.pk)
    assert len(crm.asked) == 2
    assert Contact.objects.count() == 1


def test_a_deleted_user_and_a_missing_crm_are_skipped_with_the_reason(crm, user, settings, caplog):
    assert not services.contact_sync(user_id=user.pk + 1)
    assert "the user is gone" in caplog.text
    caplog.clear()
    settings.CRM_URL = ""
    assert not services.contact_sync(user_id=user.pk)
    assert "there is no CRM" in caplog.text
    assert crm.asked == []


def test_what_the_crm_says_at_length_is_cut_to_what_is_kept(user, monkeypatch, settings):
    settings.CRM_URL = "http://crm.example/"
    ask = mock.Mock(side_effect=CrmRefusedError("x" * 501))
    monkeypatch.setattr(services.client, "contact_put", ask)
    with pytest.raises(CrmRefusedError):
        services.contact_sync(user_id=user.pk)
    assert Contact.objects.get().refusal == "x" * 500
    ask.side_effect = ["y" * 101]
    services.contact_sync(user_id=user.pk)
    assert Contact.objects.get().external_id == "y" * 100


@pytest.mark.parametrize("status", [500, 502, 504, 408, 409, 425])
def test_a_crm_that_fails_is_asked_again_later_and_later(crm, user, status):
    crm.answers = [(status, {})] * 3
    limits = []
    for retries in range(3):
        with mock.patch("celery.utils.time.random.randrange", side_effect=lambda limit: limits.append(limit) or 0):
            assert isinstance(failed(user.pk, retries=retries)["exc"], CrmUnavailableError)
    assert limits == [2, 3, 5]


def test_a_crm_that_cannot_be_reached_is_asked_again(user, settings):
    settings.CRM_URL = f"http://127.0.0.1:{free_port()}/"
    assert isinstance(failed(user.pk)["exc"], CrmUnavailableError)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_crm_says_itself_when(crm, user, status):
    crm.answers = [(status, {"Retry-After": "77"}), (status, {"Retry-After": "9" * 99})]
    assert failed(user.pk)["countdown"] == 77
    assert failed(user.pk)["countdown"] == 3600


def test_a_busy_crm_that_does_not_say_when_is_like_one_that_fails(crm, user):
    crm.answers = [(429, {"Retry-After": "soon"})]
    assert isinstance(failed(user.pk)["exc"], CrmUnavailableError)


def test_after_five_retries_it_fails(crm, user):
    crm.answers = [(429, {"Retry-After": "1"}), (500, {})]
    task = tasks.sync_to_crm
    assert (task.max_retries, task.retry_backoff_max) == (5, 600)
    for error in (CrmBusyError, CrmUnavailableError):
        task.push_request(called_directly=False, retries=5, args=(user.pk,), kwargs={})
        try:
            with pytest.raises(error):
                task.run(user.pk)
        finally:
            task.pop_request()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_recorded_and_never_tried_again(crm, user, status):
    crm.answers = [(status, {})]
    with pytest.raises(CrmRefusedError, match=f"the CRM answered {status}.*the reason"):
        tasks.sync_to_crm(user.pk)
    assert str(status) in Contact.objects.get().refusal
    assert services.contact_sync(user_id=user.pk)
    assert Contact.objects.get().refusal == ""


def test_an_answer_that_is_no_contact_is_a_failure(crm, user):
    crm.answers = [(201, {})]
    assert isinstance(failed(user.pk)["exc"], CrmUnavailableError)


def test_a_url_that_is_none_fails_at_once(user, settings):
    settings.CRM_URL = "crm.example.com"
    with pytest.raises(httpx.UnsupportedProtocol):
        tasks.sync_to_crm(user.pk)


@pytest.mark.usefixtures("crm")
@pytest.mark.django_db(transaction=True)
def test_a_new_account_is_copied_once_its_address_is_verified_if_there_is_a_crm(settings):
    copies = DurableTask.objects.filter(name="integrations.sync_to_crm", queue="default")
    with mock.patch("drumline.sending.enqueue.publish"):
        ada, bob = (
            user_create(email=f"{name}@example.com", password="difference engine no. 2") for name in ("ada", "bob")
        )
        assert copies.count() == 0
        email_verify(token=token_make(ada))
        assert copies.count() == 1
        settings.CRM_URL = ""
        email_verify(token=token_make(bob))
    assert copies.count() == 1
    assert mail.outbox == []

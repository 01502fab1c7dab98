"""Sending from async code, and from threads: it works, or says what to type."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from celery import chain, chord, current_app, group
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection
from django.http import HttpResponse
from django.test import AsyncClient, override_settings
from django.urls import path

from drumline.models import DurableTask

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_broker")]


def work():
    return current_app.tasks["testproject.work"]


SENDS = {
    "delay": lambda: work().delay(),
    "apply_async": lambda: work().apply_async(countdown=5),
    "send_task": lambda: current_app.send_task("testproject.work"),
    "group": lambda: group(work().si(), work().si()).delay(),
    "chain": lambda: chain(work().si(), work().si()).delay(),
    "chord": lambda: chord([work().si(), work().si()], work().si()).delay(),
}


async def forgetful(_request, how: str):
    SENDS[how]()
    return HttpResponse()


async def careful(_request, how: str):
    await sync_to_async(SENDS[how])()
    return HttpResponse(status=202)


@async_to_sync
async def get(url: str) -> HttpResponse:
    # Not the method itself: below Django 5 it is no async function, and gives what is to be awaited.
    return await AsyncClient().get(url)


urlpatterns = [path("forgetful/<how>", forgetful), path("careful/<how>", careful)]


@pytest.mark.parametrize("how", SENDS)
@override_settings(ROOT_URLCONF=__name__)
def test_an_async_view_that_sends_without_waiting_reads_what_to_type(how):
    with pytest.raises(SynchronousOnlyOperation, match="sync_to_async"):
        get(f"/forgetful/{how}")

    assert not DurableTask.objects.exists()


@pytest.mark.parametrize("how", SENDS)
@override_settings(ROOT_URLCONF=__name__)
def test_an_async_view_that_types_it_sends(how):
    answer = get(f"/careful/{how}")

    assert answer.status_code == 202
    assert DurableTask.objects.filter(name="testproject.work").exists()


def test_threads_send_as_any_other_code():
    def send() -> None:
        try:
            work().delay()
        finally:
            # Django closes connections with a request; a thread of one's own closes its own.
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        for _ in range(3):
            threads.submit(send).result()

    assert DurableTask.objects.count() == 3

"""Nobody copies a bad example from here: objects as arguments, slow requests, a card charged twice."""

from textwrap import dedent

import pytest
from kombu.exceptions import EncodeError

from drumline.models import DurableTask
from tests.contracts.antipatterns import Code, sources
from tests.support.paths import PROJECT

MODELS = """
from django.db import models

class Order(models.Model):
    pass
"""
CLIENT = """
import httpx
from django.core.mail import send_mail

def tell(order_id: int) -> None:
    httpx.post("https://example.com", json={"order": order_id})

def write(order_id: int) -> None:
    send_mail("subject", "text", None, ["ada@example.com"])
"""
TASKS = """
from celery import shared_task

@shared_task(name="shop.tell")
def tell(order_id: int) -> None: ...
"""


def problems(**modules: str) -> list[str]:
    code = {"models": MODELS, "client": CLIENT, "tasks": TASKS} | modules
    return Code({f"apps.shop.{name}": dedent(text) for name, text in code.items()}).problems()


def test_the_application_shows_none_of_them():
    code = Code(sources(PROJECT / "app" / "apps"))
    assert code.problems() == []
    # And it was looked at.
    assert {"apps.crm.tasks.sync_to_crm", "apps.notifications.tasks.send_reminder"} <= code.tasks
    assert {"User", "Reminder"} <= code.models


@pytest.mark.parametrize(
    ("parameters", "bad"),
    [
        ("order: Order", "order"),
        ('order: "Order"', "order"),
        ("order: Order | None = None", "order"),
        ("orders: list[Order]", "orders"),
        ("at: datetime", "at"),
        ("anything: Any", "anything"),
        ("nothing_said", "nothing_said"),
        ("order_id: int, *, amount: Decimal", "amount"),
        ("order_id: int, day: str | None = None, *, full: bool = False", None),
        ("results: list[Any], options: dict[str, Any]", None),
        ("_request: Any, error: BaseException, _traceback: Any, order_id: int", None),
    ],
)
@pytest.mark.parametrize(
    ("decorator", "first"),
    [
        ('@shared_task(name="shop.x")', ""),
        ('@shared_task(name="shop.x", bind=True, max_retries=3)', "self: Any, "),
        ("@shared_task", ""),
        ("@app.task(bind=True)", "self, "),
    ],
)
def test_a_task_that_takes_an_object_is_caught(decorator, first, parameters, bad):
    found = problems(tasks=f"from celery import shared_task\n{decorator}\ndef x({first}{parameters}) -> None: ...\n")
    assert [problem.split("parameter ")[1].split()[0] for problem in found] == ([bad] if bad else [])


@pytest.mark.parametrize(
    ("body", "bad"),
    [
        ("order = Order.objects.get(pk=1)\n    tell.delay(order)", "order"),
        ("order = Order.objects.filter(pk=1).first()\n    tell.apply_async(args=(order,))", "order"),
        ("order, _ = Order.objects.get_or_create(pk=1)\n    tell.apply_async([order], countdown=5)", "order"),
        ("order = Order()\n    signature('shop.tell', args=[order]).apply_async()", "order"),
        ("order = order_find(order_id=1)\n    tell.si(order)", "order"),
        ("for order in Order.objects.all():\n        tell.apply_async(kwargs={'order': order})", "order"),
        ("tell.delay_on_commit(given)", "given"),
        ("tell.delay(request.user)", "request.user"),
        ("order = Order.objects.get(pk=1)\n    tell.delay(order.pk)", None),
        ("for order in Order.objects.values_list('pk', flat=True):\n        tell.delay(order)", None),
        ("number = Order.objects.count()\n    tell.delay(number)", None),
    ],
)
def test_a_row_as_an_argument_is_caught(body, bad):
    found = problems(
        services=f"""
from celery import signature
from apps.shop.models import Order
from apps.shop.tasks import tell

def order_find(*, order_id: int) -> Order | None: ...

def send(*, given: "Order", request) -> None:
    {body}
"""
    )
    assert [problem.split("sends a task with ")[1].split(",")[0] for problem in found] == ([bad] if bad else [])


@pytest.mark.parametrize("module", ["api", "views", "admin"])
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("httpx.get('https://example.com')", "calls httpx.get"),
        ("sleep(1)", "calls time.sleep"),
        ("client.tell(1)", "calls httpx.post in apps.shop.client.tell"),
        ("services.order_tell(order_id=1)", "calls django.core.mail.send_mail in apps.shop.client.write"),
        ("self.helper()", "calls smtplib.SMTP"),
        ("tell(1)", "runs the task apps.shop.tasks.tell"),
        ("tell.delay(1).get(timeout=5)", "waits for a task's result"),
        ("result = tell.apply_async((1,))\n        result.wait()", "waits for a task's result"),
        ("AsyncResult('x').get()", "waits for a task's result"),
        ("tell.delay(1)", None),
        ("services.order_request(order_id=1)", None),
        ("cache = {}\n        cache.get('x')", None),
    ],
)
def test_a_request_that_does_the_work_itself_is_caught(module, body, problem):
    found = problems(
        services="""
        from apps.shop import client
        from apps.shop.tasks import tell

        def order_tell(*, order_id: int) -> None:
            client.write(order_id)

        def order_request(*, order_id: int) -> None:
            tell.apply_async((order_id,))
        """,
        **{
            module: f"""
import smtplib
from time import sleep
import httpx
from celery.result import AsyncResult
from apps.shop import client, services
from apps.shop.tasks import tell

class View:
    def post(self, request):
        {body}

    def helper(self):
        {"smtplib.SMTP('127.0.0.1')" if "helper" in body else "pass"}
"""
        },
    )
    of_post = [line for line in found if ".post:" in line]
    assert len(of_post) == (1 if problem else 0), found
    assert all(problem in line for line in of_post)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("client.v1.payment_intents.create({'amount': 1})", "has no idempotency key"),
        ("stripe.Charge.create(amount=1)", "has no idempotency key"),
        ("client.v1.payment_intents.confirm(pk)", "has no idempotency key"),
        ("client.v1.payment_intents.create({}, {'idempotency_key': str(uuid4())})", "is not the same"),
        ("stripe.Charge.create(amount=1, idempotency_key='charge')", "is not the same"),
        ("client.v1.payment_intents.create({}, {'idempotency_key': str(key)})", None),
        ("stripe.Charge.create(amount=1, idempotency_key=f'payment-{pk}')", None),
        ("client.v1.payment_intents.search({'query': 'x'})", None),
        ("Payment.objects.create(amount=1)", None),
    ],
)
def test_a_charge_that_may_happen_twice_is_caught(call, problem):
    found = problems(
        provider=f"""
        from uuid import uuid4
        import stripe

        def charge(client, key, pk) -> None:
            {call}
        """
    )
    assert len(found) == (1 if problem else 0), found
    assert all(problem in line for line in found)


@pytest.mark.django_db
def test_an_object_that_gets_past_them_stops_where_it_is_sent(django_user_model):
    from apps.notifications.tasks import send_welcome_email

    user = django_user_model.objects.create_user("ada@example.com")
    with pytest.raises(EncodeError, match="not JSON serializable"):
        send_welcome_email.delay(user)
    assert not DurableTask.objects.exists()

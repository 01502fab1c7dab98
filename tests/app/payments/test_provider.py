"""What is asked of the provider, what it may answer, and what of that is told."""

import logging
import traceback
import uuid
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.payments import provider
from apps.payments.provider import DeclinedError, UnknownError
from apps.payments.scrubbing import HIDDEN, scrubbed
from tests.counterparts.stripe import Answer, error, stripe_server
from tests.support.ports import free_port

CARD = "4242 4242 4242 4242"
KEY = uuid.UUID("6f1c2a8e-0000-4000-8000-000000000001")


@pytest.fixture
def stripe(settings):
    with stripe_server() as server:
        settings.STRIPE_URL, settings.STRIPE_API_KEY = server.url, "sk_test_secret"
        yield server


def charge(**changes):
    return provider.charge(
        **{
            "key": KEY,
            "amount": 3998,
            "currency": "EUR",
            "payment_method": "pm_card_visa",
            "order_id": 7,
            **changes,
        }
    )


def test_a_charge_is_asked_for_in_the_providers_own_format(stripe):
    assert charge() == "pi_1"
    [asked] = stripe.asked
    assert (asked.path, asked.authorization, asked.key) == ("/v1/payment_intents", "Bearer sk_test_secret", str(KEY))
    assert asked.params == {
        "amount": "3998",
        "currency": "eur",
        "payment_method": "pm_card_visa",
        "allowed_payment_method_types[0]": "card",
        "confirm": "true",
        "error_on_requires_action": "true",
        "metadata[payment]": str(KEY),
        "metadata[order]": "7",
    }


def test_the_same_key_charges_once_and_answers_the_same(stripe):
    stripe.answers = ["lost"]
    with pytest.raises(UnknownError):
        charge()
    assert charge() == charge() == "pi_1"
    assert len(stripe.charges) == 1
    assert charge(key=uuid.uuid4()) == "pi_2"


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("pm_card_chargeDeclined", "card_declined: Request req_1: Your card was declined."),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined: Request req_1: Your card has insufficient funds."),
        ("pm_card_authenticationRequired", "authentication_required: Request req_1: Your card was declined. This"),
        ("pm_nobody", "resource_missing: Request req_1: No such PaymentMethod: 'pm_nobody'"),
    ],
)
def test_what_is_declined_is_final_and_says_why(stripe, method, words):
    with pytest.raises(DeclinedError) as declined:
        charge(payment_method=method)
    assert str(declined.value).startswith(words)
    assert stripe.charges == []


@pytest.mark.parametrize(
    "answer",
    [
        error(500, "api_error", "Sorry!"),
        error(503, "api_error", "Sorry!"),
        error(429, "invalid_request_error", "Too many requests", code="rate_limit"),
        error(409, "idempotency_error", "in progress", code="idempotency_key_in_use"),
        error(400, "idempotency_error", "other parameters"),
        error(401, "invalid_request_error", "Invalid API Key provided: sk_test_secret"),
        error(403, "invalid_request_error", "not allowed"),
        Answer(500, {}),
        Answer(302, {}),
        Answer(200, {}),
        Answer(200, {"id": "pi_1", "object": "payment_intent", "status": "processing"}),
        Answer(200, {"id": "pi_1", "object": "payment_intent", "status": "requires_action"}),
        "lost",
    ],
)
def test_whatever_else_it_answers_is_not_known_and_was_asked_once(stripe, answer):
    stripe.answers = [answer]
    with pytest.raises(UnknownError):
        charge()
    assert len(stripe.asked) == 1


def test_a_provider_that_is_slow_away_or_without_a_key_is_not_known(stripe, settings, monkeypatch):
    monkeypatch.setattr(provider, "TIMEOUT", (0.2, 0.2))
    stripe.open.clear()
    with pytest.raises(UnknownError):
        charge()
    settings.STRIPE_URL = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UnknownError):
        charge()
    settings.STRIPE_API_KEY = ""
    with pytest.raises(UnknownError, match="STRIPE_API_KEY is empty"):
        charge()


def test_it_is_stripe_itself_unless_the_settings_say_another(settings):
    settings.STRIPE_URL, settings.STRIPE_API_KEY = "", "sk_test_secret"
    with mock.patch("requests.Session.request", side_effect=ConnectionError) as request, pytest.raises(UnknownError):
        charge()
    [call] = request.call_args_list
    assert call.args[:2] == ("post", "https://api.stripe.com/v1/payment_intents")
    assert call.kwargs["timeout"] == provider.TIMEOUT == (3.0, 20.0)
    settings.STRIPE_URL = "http://127.0.0.1:1/"
    with mock.patch("requests.Session.request", side_effect=ConnectionError) as request, pytest.raises(UnknownError):
        charge()
    assert request.call_args.args[1] == "http://127.0.0.1:1/v1/payment_intents"


def test_a_charge_is_found_by_its_key(stripe):
    assert provider.find(key=KEY) is None
    charge()
    charge(key=uuid.uuid4())
    assert provider.find(key=KEY) == "pi_1"
    stripe.answers = [error(500, "api_error", "Sorry!")]
    with pytest.raises(UnknownError):
        provider.find(key=KEY)


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_a_card_number_and_a_key_that_the_provider_repeats_are_nowhere(stripe, caplog, level):
    caplog.set_level(level)
    words = f"The card {CARD} of sk_live_abc123 was declined"
    stripe.answers = [
        error(402, "card_error", words, code="card_declined"),
        error(500, "api_error", words),
        Answer(500, {"message": words}),
    ]
    told = ""
    for _ in range(3):
        with pytest.raises((DeclinedError, UnknownError)) as failure:
            charge()
        logging.getLogger("apps").log(logging.getLevelName(level), "this level is logged")
        assert failure.value.__context__ is failure.value.__cause__ is None
        told += repr(failure.value) + "".join(
            repr(frame.f_locals)
            for frame, _ in traceback.walk_tb(failure.value.__traceback__)
            if frame.f_code.co_filename == provider.__file__
        )
    assert told.count(f"The card {HIDDEN} of {HIDDEN} was declined") >= 3
    assert "pm_card_visa" in told
    assert "this level is logged" in caplog.text
    for text in (told, caplog.text):
        assert "4242" not in text
        assert "abc123" not in text


def test_the_words_of_an_error_are_cut_after_the_numbers_are_hidden(stripe):
    # Cut first, a part of the number too short to be recognised would stay.
    start = "x" * (provider.WORDS - len("card_declined: Request req_1: ") - 8)
    stripe.answers = [error(402, "card_error", start + CARD + "y" * 1000, code="card_declined")]
    with pytest.raises(DeclinedError) as failure:
        charge()
    assert len(str(failure.value)) == provider.WORDS
    assert "4" not in str(failure.value)


@pytest.mark.parametrize(
    "text",
    [
        "4242424242424242",
        "4242-4242-4242-4242",
        "4242 4242 4242 4242",
        "4242.4242.4242.4242",
        "4242_4242_4242_4242",
        "3782 822463 10005",
        "42424242424242424242424242424242",
        "424242424242",
    ],
)
def test_a_card_number_is_hidden_however_it_is_grouped(text):
    assert scrubbed(f"card={text};") == f"card={HIDDEN};"


@pytest.mark.parametrize("text", ["order 12345678901", "39.98 EUR", "req_a1b2c3d4e5f6g7h8i9", "4242 (ends in)", ""])
def test_what_is_shorter_is_left_alone(text):
    assert scrubbed(text) == text


@pytest.mark.parametrize("text", ["sk_live_51Hx", "rk_test_9", "pk_live_x", "whsec_abc"])
def test_a_key_is_hidden(text):
    assert scrubbed(f"with {text}!") == f"with {HIDDEN}!"
    assert scrubbed(f"ask_{text[3:]} desk_top") == f"ask_{text[3:]} desk_top"


@given(
    st.text(), st.text("0123456789", min_size=12, max_size=19), st.sampled_from(["", " ", "-", ". ", "_"]), st.text()
)
def test_no_text_around_a_card_number_shows_it(before, digits, separator, after):
    number = separator.join(digits[start : start + 4] for start in range(0, len(digits), 4))
    assert number not in scrubbed(before + number + after)

"""Stripe on loopback: what of its wire format the shop uses, on the API version of the client that is locked.

`python3 tests/counterparts/stripe.py 8102` serves by itself. What a payment method does is in its name, as in Stripe's own
test mode: `pm_card_visa` is charged, `pm_card_chargeDeclined` is declined.
"""

import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, parse_qsl, urlsplit

CARDS = {"pm_card_visa", "pm_card_mastercard", "pm_card_amex"}
DECLINES = {
    "pm_card_chargeDeclined": ("card_declined", "generic_decline", "Your card was declined."),
    "pm_card_chargeDeclinedInsufficientFunds": (
        "card_declined",
        "insufficient_funds",
        "Your card has insufficient funds.",
    ),
    "pm_card_authenticationRequired": (
        "authentication_required",
        "authentication_required",
        "Your card was declined. This transaction requires authentication.",
    ),
}


class Asked(NamedTuple):
    path: str
    authorization: str
    key: str
    params: dict[str, str]


class Answer(NamedTuple):
    status: int
    body: dict[str, Any]


def error(status: int, kind: str, message: str, **more: str) -> Answer:
    return Answer(status, {"error": {"type": kind, "message": message, **more}})


class Stripe(ThreadingHTTPServer):
    """It charges what is good for it, once for each key.

    What is put into `answers` comes first: an answer instead of a charge, or "lost" for a charge whose answer does not
    arrive.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers: list[Answer | str] = []
        self.asked: list[Asked] = []
        self.charges: list[dict[str, Any]] = []
        # The parameters and the answer by the key; None while the first request is at work.
        self.keys: dict[str, tuple[dict[str, str], Answer | None]] = {}
        self.lock = threading.Lock()
        # While it is cleared, no charge is completed.
        self.open = threading.Event()
        self.open.set()

    def forget_keys(self) -> None:
        """Do what Stripe does after a day at the earliest."""
        self.keys.clear()

    def intent(self, key: str, params: dict[str, str]) -> Answer:
        with self.lock:
            if key in self.keys:
                earlier, answer = self.keys[key]
                if earlier != params:
                    return error(400, "idempotency_error", "Keys for idempotent requests can only be used once.")
                return answer or error(
                    409,
                    "idempotency_error",
                    "There is currently another in-progress request using this key.",
                    code="idempotency_key_in_use",
                )
            self.keys[key] = (params, None)
        self.open.wait(60)
        answer = self.charge(params)
        self.keys[key] = (params, answer)
        return answer

    def charge(self, params: dict[str, str]) -> Answer:
        method, amount = params.get("payment_method", ""), params.get("amount", "")
        invalid = "invalid_request_error"
        if "payment_method_types[0]" in params:
            return error(400, invalid, "Use another one.", code="payment_method_types_no_longer_supported")
        if not re.fullmatch("[1-9][0-9]{0,7}", amount):
            return error(400, invalid, f"Invalid integer: {amount}", param="amount")
        if method in DECLINES:
            code, decline_code, message = DECLINES[method]
            return error(402, "card_error", message, code=code, decline_code=decline_code)
        if method not in CARDS:
            message = f"No such PaymentMethod: '{method}'"
            return error(400, invalid, message, code="resource_missing", param="payment_method")
        intent = {
            "id": f"pi_{len(self.charges) + 1}",
            "object": "payment_intent",
            "amount": int(amount),
            "currency": params["currency"],
            "metadata": {name[9:-1]: value for name, value in params.items() if name.startswith("metadata[")},
            "status": "succeeded",
        }
        self.charges.append(intent)
        return Answer(200, intent)

    def search(self, query: str) -> Answer:
        wanted = re.fullmatch(r"metadata\['payment'\]:'([^']+)' AND status:'succeeded'", query)
        if wanted is None:
            return error(400, "invalid_request_error", f"Could not parse the query {query}")
        found = [intent for intent in self.charges if intent["metadata"].get("payment") == wanted[1]]
        page = {"object": "search_result", "url": "/v1/payment_intents/search", "has_more": False, "data": found[:1]}
        return Answer(200, page)

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that was killed."""


class Handler(BaseHTTPRequestHandler):
    server: Stripe

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        params = dict(parse_qsl(body, keep_blank_values=True, strict_parsing=True))
        self._serve(params, lambda: self.server.intent(self.headers["Idempotency-Key"], params))

    def do_GET(self) -> None:
        params = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self._serve(params, lambda: self.server.search(params.get("query", "")))

    def _serve(self, params: dict[str, str], serve: Any) -> None:
        path, authorization = urlsplit(self.path).path, self.headers.get("Authorization", "")
        self.server.asked.append(Asked(path, authorization, self.headers.get("Idempotency-Key", ""), params))
        if not authorization.startswith("Bearer sk_"):
            self._answer(error(401, "invalid_request_error", "Invalid API Key provided"))
        elif (self.command, path) not in {("POST", "/v1/payment_intents"), ("GET", "/v1/payment_intents/search")}:
            self._answer(error(404, "invalid_request_error", f"Unrecognized request URL ({self.command}: {path})"))
        else:
            scripted = self.server.answers.pop(0) if self.server.answers else None
            if scripted == "lost":
                serve()
            else:
                self._answer(scripted or serve())

    def _answer(self, answer: Answer) -> None:
        body = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Request-Id", f"req_{len(self.server.asked)}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def stripe_server() -> Iterator[Stripe]:
    with Stripe() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.open.set()
            server.shutdown()


if __name__ == "__main__":
    with Stripe(int(sys.argv[1])) as stripe:
        sys.stdout.write(f"STRIPE_URL={stripe.url}\n")
        sys.stdout.flush()
        stripe.serve_forever()

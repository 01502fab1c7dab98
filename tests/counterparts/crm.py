"""A CRM on loopback that answers as a test says, and remembers what it was asked.

`python3 tests/counterparts/crm.py 8101` serves by itself. What it makes of a contact is in its e-mail: `away@…` finds it
broken twice, `busy@…` is asked for patience, `refused@…` is refused, and everybody else is taken.
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Asked(NamedTuple):
    path: str
    authorization: str
    body: Any


class Crm(ThreadingHTTPServer):
    """It accepts every contact, but for the answers that are put into `answers`: (status, headers)."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/api/"
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.asked: list[Asked] = []

    def answer(self, body: Any) -> tuple[int, dict[str, str]]:
        return self.answers.pop(0) if self.answers else (200, {})


class MoodyCrm(Crm):
    """It answers each contact in its own way."""

    def answer(self, body: Any) -> tuple[int, dict[str, str]]:
        before = sum(asked.body == body for asked in self.asked) - 1
        match body["email"].split("@")[0]:
            case "away" if before < 2:
                return 500, {}
            case "busy" if before < 1:
                return 429, {"Retry-After": "20"}
            case "refused":
                return 422, {}
        return 200, {}


class Handler(BaseHTTPRequestHandler):
    server: Crm

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(Asked(self.path, self.headers.get("Authorization", ""), body))
        status, headers = self.server.answer(body)
        answer = json.dumps({"id": "C-1"} if status == 200 else {"error": "the reason"}).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(answer)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def crm_server() -> Iterator[Crm]:
    with Crm() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


if __name__ == "__main__":
    with MoodyCrm(int(sys.argv[1])) as crm:
        sys.stdout.write(f"CRM_URL={crm.url}\n")
        sys.stdout.flush()
        crm.serve_forever()

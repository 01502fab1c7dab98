"""A Sentry on loopback that takes envelopes and keeps their events, or refuses them, or says nothing.

`python3 tests/counterparts/sentry.py 8104` serves by itself; `curl http://127.0.0.1:8104/` shows what was reported.
"""

import gzip
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef0123456789abcdef"


class Sentry(ThreadingHTTPServer):
    """It accepts every envelope with its key, but for the statuses that are put into `statuses`."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.dsn = f"http://{KEY}@127.0.0.1:{self.server_port}/1"
        self.statuses: list[int] = []
        self.events: list[dict[str, Any]] = []
        # While it is cleared, no answer is given.
        self.answers = threading.Event()
        self.answers.set()

    def of_task(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if (event.get("tags") or {}).get("task") == name]


class Handler(BaseHTTPRequestHandler):
    server: Sentry

    def do_GET(self) -> None:
        self._answer(200, self.server.events)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.answers.wait()
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if self.path != "/api/1/envelope/" or f"sentry_key={KEY}" not in self.headers["X-Sentry-Auth"]:
            status = 403
        if status == 200:
            self.server.events += events_of(gzip.decompress(body) if self.headers["Content-Encoding"] else body)
        self._answer(status, {"id": "0" * 32})

    def _answer(self, status: int, body: Any) -> None:
        answer = json.dumps(body, indent=2).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def events_of(envelope: bytes) -> list[dict[str, Any]]:
    """Read the events of an envelope: a line for itself, then for each item a line and what that says follows."""
    _, _, rest = envelope.partition(b"\n")
    events = []
    while rest.strip():
        line, _, rest = rest.partition(b"\n")
        item = json.loads(line)
        length = item.get("length", rest.find(b"\n") if b"\n" in rest else len(rest))
        payload, rest = rest[:length], rest[length:].removeprefix(b"\n")
        if item["type"] == "event":
            events.append(json.loads(payload))
    return events


@contextmanager
def sentry_server() -> Iterator[Sentry]:
    with Sentry() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.answers.set()
            server.shutdown()


if __name__ == "__main__":
    with Sentry(int(sys.argv[1])) as sentry:
        sys.stdout.write(f"SENTRY_DSN={sentry.dsn}\n")
        sys.stdout.flush()
        sentry.serve_forever()

"""A CRM on loopback that answers as a test says, and remembers what it was asked."""

import json
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

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/api/"
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.asked: list[Asked] = []


class Handler(BaseHTTPRequestHandler):
    server: Crm

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(Asked(self.path, self.headers.get("Authorization", ""), body))
        status, headers = self.server.answers.pop(0) if self.server.answers else (200, {})
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
        yield server
        server.shutdown()

"""A supplier on loopback that says what it has of each product, in the order of the changes.

`python3 tests/counterparts/supplier.py 8101 SKU=12 SKU=7` serves these products by itself, of which one more or less is on
the shelf each time it is asked.
"""

import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Supplier(ThreadingHTTPServer):
    """It answers with its stock, but for what is put into `answers`: a status and a body, or nothing for hanging up."""

    daemon_threads = True

    def __init__(self, port: int = 0, *, page_size: int = 100, restless: bool = False) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/api/"
        self.page_size, self.restless = page_size, restless
        self.answers: list[tuple[int, bytes] | None] = []
        self.asked: list[str] = []
        # Every change in order; the cursor is how many of them were read.
        self.changes: list[tuple[str, int]] = []
        # While it is cleared, nobody is answered.
        self.open = threading.Event()
        self.open.set()
        # Seconds between two bytes of an answer.
        self.drip = 0.0

    def has(self, **stock: int) -> None:
        """Change what is on the shelf."""
        self.changes += stock.items()

    def page(self, cursor: str) -> dict:
        start = int(cursor or "0")
        changes = self.changes[start : start + self.page_size]
        end = start + len(changes)
        items = [{"sku": sku, "stock": count} for sku, count in dict(changes).items()]
        return {"items": items, "cursor": str(end), "more": end < len(self.changes)}

    def move(self) -> None:
        sku, count = random.choice(list(dict(self.changes).items()))
        self.changes.append((sku, max(0, count + random.choice((-1, 1)))))

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that was killed."""


class Handler(BaseHTTPRequestHandler):
    server: Supplier

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        cursor = parse_qs(url.query).get("cursor", [""])[0]
        self.server.asked.append(cursor)
        self.server.open.wait(60)
        if self.server.restless:
            self.server.move()
        if url.path != "/api/stock":
            self._answer(404, b"{}")
        elif not self.server.answers:
            self._answer(200, json.dumps(self.server.page(cursor)).encode())
        elif answer := self.server.answers.pop(0):
            self._answer(*answer)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not self.server.drip:
            self.wfile.write(body)
            return
        for byte in body:
            self.wfile.write(bytes([byte]))
            time.sleep(self.server.drip)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def supplier_server(**options: int) -> Iterator[Supplier]:
    with Supplier(**options) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.open.set()
            server.shutdown()


if __name__ == "__main__":
    with Supplier(int(sys.argv[1]), restless=True) as supplier:
        supplier.has(**{sku: int(count) for sku, count in (pair.rsplit("=", 1) for pair in sys.argv[2:])})
        sys.stdout.write(f"SUPPLIER_URL={supplier.url}\n")
        sys.stdout.flush()
        supplier.serve_forever()

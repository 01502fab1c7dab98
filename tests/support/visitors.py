"""Visitors of the site of a host under test, from before something happens to it until after."""

from __future__ import annotations

import concurrent.futures
import json
import uuid
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from testinfra.host import Host

# Each comes at its time whatever became of those before, until the file is there and so many have come.
# The certificate is checked elsewhere.
VISIT = """
import concurrent.futures, http.client, json, os, ssl, sys, time
end, address, rate, least, cookie, *paths = sys.argv[1:]
rate, least = int(rate), int(least)
def visit(path):
    at = time.time()
    connection = http.client.HTTPSConnection(address, context=ssl._create_unverified_context(), timeout=60)
    try:
        connection.request("GET", path, headers={"Host": "127.0.0.1"} | ({"Cookie": cookie} if cookie else {}))
        answer = connection.getresponse()
        status, text = answer.status, answer.read().decode(errors="replace")
    except OSError as error:
        status, text = type(error).__name__, str(error)
    return path, at, time.time() - at, str(status), "" if status in (200, 302) else text[:400]
began, visits = time.monotonic(), []
with concurrent.futures.ThreadPoolExecutor(400) as pool:
    while len(visits) < least or not os.path.exists(end) and len(visits) < rate * 1800:
        visits.append(pool.submit(visit, paths[len(visits) % len(paths)]))
        time.sleep(max(0, began + len(visits) / rate - time.monotonic()))
print(json.dumps([visit.result() for visit in visits]))
"""


class Visit(NamedTuple):
    """One request: when it came (seconds since the epoch), how long it took, and its status or the error's name.

    `text` is how the answer begins, if it was neither 200 nor 302.
    """

    path: str
    at: float
    seconds: float
    status: str
    text: str


class Visitors:
    """Visitors at a rate a second, while the `with` block runs and at least `least` of them; then `visits` is how they fared.

    They come from `host`, which may be another than the one at `address`.
    """

    def __init__(
        self, host: Host, *paths: str, rate: int, least: int = 0, cookie: str = "", address: str = "127.0.0.1"
    ) -> None:
        self.host = host
        self.end = f"/run/visits-end-{uuid.uuid4()}"
        self.command = f"python3 -c '{VISIT}' {self.end} {address} {rate} {least} '{cookie}' {' '.join(paths)}"
        self.visits: list[Visit] = []

    def __enter__(self) -> Self:
        self.pool = concurrent.futures.ThreadPoolExecutor()
        self.coming = self.pool.submit(self.host.check_output, self.command)
        return self

    def __exit__(self, *_: object) -> None:
        self.host.check_output(f"touch {self.end}")
        self.visits = [Visit(*visit) for visit in json.loads(self.coming.result())]
        self.host.check_output(f"rm {self.end}")
        self.pool.shutdown()

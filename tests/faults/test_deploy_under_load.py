"""A release is deployed while twenty visitors come each second: none fails, and none waits much longer than before.

    DEPLOY_LOAD=all pytest tests/faults/test_deploy_under_load.py --hosts=ssh://drumline-local \
        --ssh-config=build/ssh/config --sudo

It measures, so it wants a machine with nothing else to do, and runs with DEPLOY_LOAD=all only. The table is printed, and
written to build/deploy-under-load.json.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.on_host import inventory_of, run_site
from tests.support.paths import PROJECT
from tests.support.source import copy_source

if TYPE_CHECKING:
    from testinfra.host import Host

pytestmark = pytest.mark.skipif(os.environ.get("DEPLOY_LOAD") != "all", reason="it measures; DEPLOY_LOAD=all runs it")

RATE = 20
BEFORE_SECONDS = 60
AFTER_SECONDS = 20
SLOWER = 2.0
STOP = "/run/visits-end"

# Each visitor comes at its time whatever became of those before. The certificate is checked elsewhere.
VISIT = """
import concurrent.futures, http.client, json, os, ssl, sys, time
rate = int(sys.argv[2])
def visit(path):
    at = time.time()
    connection = http.client.HTTPSConnection("127.0.0.1", context=ssl._create_unverified_context(), timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return at, time.time() - at, str(answer.status)
    except OSError as error:
        return at, time.time() - at, type(error).__name__
began, visits = time.monotonic(), []
with concurrent.futures.ThreadPoolExecutor(400) as pool:
    while not os.path.exists(sys.argv[1]) and len(visits) < rate * 900:
        visits.append(pool.submit(visit, ("/", "/admin/login/")[len(visits) % 2]))
        time.sleep(max(0, began + len(visits) / rate - time.monotonic()))
print(json.dumps([visit.result() for visit in visits]))
"""


class Row(NamedTuple):
    """How visitors of one stretch of time fared; milliseconds."""

    when: str
    visitors: int
    p50: float
    p99: float
    longest: float
    failed: int
    limited: int


def row(when: str, visits: list[tuple[float, float, str]]) -> Row:
    waits = sorted(seconds * 1000 for _, seconds, _ in visits)
    cuts = statistics.quantiles(waits, n=100)
    limited = sum(status == "429" for _, _, status in visits)
    failed = sum(status not in ("200", "429") for _, _, status in visits)
    return Row(when, len(visits), round(cuts[49], 1), round(cuts[98], 1), round(waits[-1], 1), failed, limited)


def test_a_deploy_under_twenty_requests_a_second_fails_none_and_keeps_p99_within_twice_of_before(
    request: pytest.FixtureRequest, host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = copy_source(tmp_path)
    (source / "app" / "another").write_text("Another release.\n")
    host.check_output(f"rm -f {STOP}")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        coming = pool.submit(host.check_output, f"python3 -c '{VISIT}' {STOP} {RATE}")
        try:
            time.sleep(BEFORE_SECONDS)
            began = float(host.check_output("date +%s.%N"))
            ran = run_site(
                inventory_of(request.config), "--tags=app_release,app_services", f"--extra-vars=app_source={source}"
            )
            ended = float(host.check_output("date +%s.%N"))
            time.sleep(AFTER_SECONDS)
        finally:
            host.check_output(f"touch {STOP}")
        visits = json.loads(coming.result())

    assert ran.returncode == 0, ran.stdout[-4000:]
    before, during, after = (
        row("before", [visit for visit in visits if visit[0] < began]),
        row("during the deploy", [visit for visit in visits if began <= visit[0] < ended]),
        row("after", [visit for visit in visits if visit[0] >= ended]),
    )
    rows = [dict(one._asdict()) for one in (before, during, after)]
    (PROJECT / "build" / "deploy-under-load.json").write_text(json.dumps(rows, indent=2) + "\n")
    with capsys.disabled():
        for line in (["", *Row._fields[1:]], before, during, after):
            sys.stdout.write(f"\n{line[0]:20}" + "".join(f"{value:>10}" for value in line[1:]))

    assert (during.failed, during.limited) == (0, 0)
    assert during.p99 <= SLOWER * before.p99, f"p99 went from {before.p99} to {during.p99} ms"

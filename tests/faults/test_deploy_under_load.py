"""A release is deployed while twenty visitors come each second: none fails, and none waits much longer than before.

    pytest tests/faults/test_deploy_under_load.py --hosts=ssh://drumline-local \
        --ssh-config=build/ssh/config --sudo

It measures, so it wants a machine with nothing else to do. The table is printed, and written to
build/deploy-under-load.json.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.support.on_host import inventory_of, run_site
from tests.support.paths import PROJECT
from tests.support.source import copy_source
from tests.support.visitors import Visit, Visitors

if TYPE_CHECKING:
    import pytest
    from testinfra.host import Host

RATE = 20
BEFORE_SECONDS = 60
AFTER_SECONDS = 20
SLOWER = 2.0


class Row(NamedTuple):
    """How visitors of one stretch of time fared; milliseconds."""

    when: str
    visitors: int
    p50: float
    p99: float
    longest: float
    failed: int
    limited: int


def row(when: str, visits: list[Visit]) -> Row:
    waits = sorted(visit.seconds * 1000 for visit in visits)
    cuts = statistics.quantiles(waits, n=100)
    limited = sum(visit.status == "429" for visit in visits)
    failed = sum(visit.status not in ("200", "429") for visit in visits)
    return Row(when, len(visits), round(cuts[49], 1), round(cuts[98], 1), round(waits[-1], 1), failed, limited)


def test_a_deploy_under_twenty_requests_a_second_fails_none_and_keeps_p99_within_twice_of_before(
    request: pytest.FixtureRequest, host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = copy_source(tmp_path)
    (source / "app" / "another").write_text("Another release.\n")
    with Visitors(host, "/", "/admin/login/", rate=RATE) as visitors:
        time.sleep(BEFORE_SECONDS)
        began = float(host.check_output("date +%s.%N"))
        ran = run_site(
            inventory_of(request.config), "--tags=app_release,app_services", f"--extra-vars=app_source={source}"
        )
        ended = float(host.check_output("date +%s.%N"))
        time.sleep(AFTER_SECONDS)
    visits = visitors.visits

    assert ran.returncode == 0, ran.stdout[-4000:]
    before, during, after = (
        row("before", [visit for visit in visits if visit.at < began]),
        row("during the deploy", [visit for visit in visits if began <= visit.at < ended]),
        row("after", [visit for visit in visits if visit.at >= ended]),
    )
    rows = [dict(one._asdict()) for one in (before, during, after)]
    (PROJECT / "build" / "deploy-under-load.json").write_text(json.dumps(rows, indent=2) + "\n")
    with capsys.disabled():
        for line in (["", *Row._fields[1:]], before, during, after):
            sys.stdout.write(f"\n{line[0]:20}" + "".join(f"{value:>10}" for value in line[1:]))

    assert (during.failed, during.limited) == (0, 0)
    assert during.p99 <= SLOWER * before.p99, f"p99 went from {before.p99} to {during.p99} ms"

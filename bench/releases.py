"""How long a deploy of changed code, a rollback, and a run with nothing to change take on a fleet that is up.

    make up && make bench ONLY=releases
    BENCH_INVENTORY=build/molecule/hosts-13/inventory python -m bench releases

BENCH_INVENTORY is that of `make up` where nothing is said.
"""

import itertools
import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.rig import Table
from tests.support.on_host import run_site
from tests.support.paths import PROJECT
from tests.support.source import copy_source

INVENTORY = Path(os.environ.get("BENCH_INVENTORY", PROJECT / "ansible/inventories/local")).resolve()
BARS = {"deploy.yml": "<= 20 s, four hosts 40 s", "site.yml": "<= 12 s", "rollback.yml": "<= 15 s"}
# What takes less is left out, as in the run's own line.
_LEAST = 0.5
_STEP = re.compile(r"(\w+) ([0-9.]+)(?:,|$)", re.MULTILINE)


class Run(NamedTuple):
    """One run of a playbook: seconds, from its start to its end and by step."""

    seconds: float
    steps: dict[str, float]


def run(table: Table, runs: int) -> None:
    played: dict[str, list[Run]] = {playbook: [] for playbook in BARS}
    with tempfile.TemporaryDirectory() as folder:
        # A rollback needs a release before, and the first deploy may find other requirements than the host has.
        sources = changing(copy_source(Path(folder)))
        play("site.yml", next(sources))
        for source in itertools.islice(sources, runs):
            played["deploy.yml"].append(play("deploy.yml", source))
            played["site.yml"].append(play("site.yml", source, changes=False))
            played["rollback.yml"].append(play("rollback.yml"))
    for playbook, its in played.items():
        spread = f"{min(each.seconds for each in its):.0f} to {max(each.seconds for each in its):.0f}"
        where = ", ".join(f"{step} {seconds:.1f}" for step, seconds in by_step(its).items())
        table.add(
            playbook, BARS[playbook], f"{statistics.median(each.seconds for each in its):.1f} s", f"{spread}: {where}"
        )


def changing(source: Path) -> Iterator[Path]:
    """Yield the source again and again, each time with other code."""
    settings = source / "app/config/__init__.py"
    before = settings.read_text()
    for number in itertools.count():
        settings.write_text(f"{before}# {number} {time.time()}\n")
        yield source


def play(playbook: str, source: Path | None = None, *, changes: bool = True) -> Run:
    """Run a playbook; SystemExit with its last lines where it fails or changes what it should leave."""
    options = ["--extra-vars", f"app_source={source}"] if source else []
    began = time.monotonic()
    ran = run_site(INVENTORY, *options, playbook=playbook)
    seconds = time.monotonic() - began
    if ran.returncode or (not changes and re.search(r"changed=[1-9]", ran.stdout)):
        raise SystemExit(f"{playbook} over {INVENTORY}:\n{ran.stdout[-4000:]}{ran.stderr[-2000:]}")
    took = ran.stdout[ran.stdout.rindex("Took ") :].splitlines()[0]
    return Run(seconds, {step: float(spent) for step, spent in _STEP.findall(took.partition(":")[2])})


def by_step(its: list[Run]) -> dict[str, float]:
    """The median of each step."""
    steps = dict.fromkeys(step for each in its for step in each.steps)
    medians = {step: statistics.median(each.steps.get(step, 0.0) for each in its) for step in steps}
    return {step: seconds for step, seconds in medians.items() if seconds >= _LEAST}

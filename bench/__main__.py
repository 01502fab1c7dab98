"""python -m bench [NAME ...] [--runs N]: measure, print a table, and write it to build/bench.json."""

import argparse
import tempfile
from pathlib import Path

from bench import big_ledger, cost, enqueue, idle, latency, peers, purge, releases, throughput
from bench.rig import Rig, Table, revision

BENCHMARKS = {
    "enqueue": enqueue.run,
    "throughput": throughput.run,
    "latency": latency.run,
    "big_ledger": big_ledger.run,
    "cost": cost.run,
    "idle": idle.run,
    "purge": purge.run,
    "peers": peers.run,
}
# They want a fleet that is up, and run only by name.
OF_A_FLEET = {"releases": releases.run}
NAMES = [*BENCHMARKS, *OF_A_FLEET]


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--runs", type=int, default=5, help="of each variant, interleaved; the median counts")
    options = parser.parse_args()
    print(f"{revision()}: medians of {options.runs} runs, interleaved")
    table = Table()
    try:
        for name in options.names or BENCHMARKS:
            if name in OF_A_FLEET:
                OF_A_FLEET[name](table, options.runs)
                continue
            with tempfile.TemporaryDirectory() as folder, Rig(Path(folder)) as rig:
                BENCHMARKS[name](rig, table, options.runs)
    finally:
        table.write(Path("build/bench.json"))


if __name__ == "__main__":
    main()

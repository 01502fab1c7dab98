"""The benchmark of the peers: each has a complete adapter and a locked version, and its table says what was measured."""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path

from bench.peers.processes import FOLDER, PEERS, kill
from bench.peers.table import render
from bench.procfs import tree
from tests.support.application import Process
from tests.support.waiting import wait_until

DEFINED = {"NAME", "PACKAGES", "KEEPS", "BACK", "SAFE", "BESIDE", "workers", "enqueue", "enqueue_many"}
REQUIREMENTS = FOLDER.parent / "requirements.txt"


def defined(adapter: Path) -> set[str]:
    """Return what a module defines or imports; the environment of these tests does not have the peers."""
    names: set[str] = set()
    for node in ast.parse(adapter.read_text()).body:
        match node:
            case ast.FunctionDef(name=name):
                names.add(name)
            case ast.ImportFrom(names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


def test_each_peer_has_an_adapter_and_each_adapter_is_a_peer():
    adapters = {path.stem: path for path in (FOLDER / "adapters").glob("*.py") if path.stem != "__init__"}
    assert set(adapters) == set(PEERS)
    assert {key: DEFINED - defined(path) for key, path in adapters.items()} == {key: set() for key in PEERS}


def test_what_the_peers_need_is_locked_with_hashes():
    asked = re.findall(r"^([a-z][a-z-]*)", REQUIREMENTS.with_suffix(".in").read_text(), re.MULTILINE)
    locked = dict(re.findall(r"^([a-z][a-z-]*)(?:\[.*?\])?==(.*(?:\n    .*)+)", REQUIREMENTS.read_text(), re.MULTILINE))
    assert [name for name in asked if "--hash=sha256:" not in locked.get(name, "")] == []


def test_the_table_shows_each_peer_beside_drumline_and_what_it_loses():
    def about(name: str) -> dict:
        return {"name": name, "keeps": "Redis", "versions": {"huey": "3.5.4"}, "safe": "none", "back": "never"}

    figures = dict.fromkeys(("noop", "row", "one", "many", "idle50", "idle99", "urgent50", "urgent99", "memory"), 10.0)
    table = render(
        {"drumline": about("Drumline"), "huey": about("Huey")},
        {"drumline": figures, "huey": figures | {"noop": 40.0, "row": 5.0}},
        {
            "drumline": {"sent": 9000, "lost": 0, "twice": 2, "recovered": 17.4},
            "huey": {"sent": 9000, "lost": 31, "twice": 0, "recovered": 0.2},
        },
    ).splitlines()
    assert len({line.count("|") for line in table[:4]}) == 1
    # Where a peer is faster, it is shown to be.
    assert "| Huey | Redis | 40 (0.2 \N{MULTIPLICATION SIGN}) | 5 (2.0 \N{MULTIPLICATION SIGN}) |" in table[3]
    assert table[2].endswith("| 0 of 9,000, 2, 17 s |")
    assert table[3].endswith("| 31 of 9,000, 0, never |")
    assert "- Huey (huey 3.5.4): none. Takes back: never." in table


def test_the_probe_also_kills_a_child_with_a_session_of_its_own(tmp_path):
    child = "import os, time; os.setsid(); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = Process([sys.executable, "-c", parent], dict(os.environ), tmp_path, tmp_path / "log")
    try:
        wait_until(lambda: len(tree(process.popen.pid)) == 2, "the child is there")
        [_, child_pid] = tree(process.popen.pid)
    finally:
        kill([process])
    wait_until(lambda: not Path(f"/proc/{child_pid}").exists() or "Z" in state(child_pid), "the child is gone")


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"

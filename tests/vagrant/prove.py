"""Prove staging on real VMs: everything that a container cannot show. `make vagrant-test` runs it.

    make vagrant-test             Debian 13, one VM with everything
    make vagrant-test DEBIAN=12   Debian 12
    make vagrant-test FLEET=1     web, worker, broker and database on VMs of their own
    make vagrant-test ONLY=clock  that step once more, on the VM that is there

A step that is done is not run again: a run that was ended goes on where it was, one that failed tries what failed. The
VMs stay until everything holds; then they are destroyed, and the next run begins anew.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.vagrant import harm
from tests.vagrant.fleet import BUILD, CHOICES, PAUSE, FailedError, Fleet, Libvirt, kvm_serves, opened

BOX = "drumline/debian-{}"
BOXES = Path.home() / ".vagrant.d" / "boxes"
# Twenty seconds each: more than Vagrant and a stop take before the VM is down.
QUEUED, SECONDS = 40, 20


def box(vms: Fleet) -> str:
    """Find the box, or build it."""
    name = BOX.format(vms.debian)
    if found := name in vms.run("vagrant", "box", "list"):
        return f"found {name}"
    vms.run("tests/vagrant/build-box", vms.debian)
    return f"{'found' if found else 'built'} {name}"


def up(vms: Fleet) -> str:
    """Boot the VMs, and run site.yml on them."""
    log = vms.vagrant("up")
    # To Vagrant a VM is provisioned as soon as that begins, so what an ended run left half-done stays so.
    told = recap(log if "PLAY RECAP" in log else vms.vagrant("provision"))
    vms.forget_connections()
    return "; ".join(f"{host} {counts}" for host, counts in told.items())


def recap(log: str) -> dict[str, str]:
    """What Ansible says of each host at its end."""
    found = dict(re.findall(r"^(\w+)\s+: (ok=.*?failed=\d+)", log, flags=re.MULTILINE))
    if not found:
        raise FailedError("the playbook said nothing of any host")
    return {host: re.sub(r"\s+", " ", counts) for host, counts in found.items()}


def verify(vms: Fleet) -> str:
    """Run verify.yml."""
    return "; ".join(f"{host} {counts}" for host, counts in recap(vms.playbook("verify")).items())


def queues(vms: Fleet) -> str:
    """Send a task through each queue."""
    return ", ".join(f"{queue} {seconds:.2f} s" for queue, seconds in vms.pings().items())


def provision(vms: Fleet) -> str:
    """Run the playbook again through Vagrant."""
    told = recap(vms.vagrant("provision"))
    if changed := {host: counts for host, counts in told.items() if "changed=0 " not in counts + " "}:
        raise FailedError(f"the second run changed something: {changed}")
    return "; ".join(f"{host} {counts}" for host, counts in told.items())


def _boots_with_work(vms: Fleet, boot: Callable[[], Any]) -> str:
    tasks = vms.send(["low", "high"] * (QUEUED // 2), SECONDS)
    boot()
    begun = time.monotonic()
    vms.wait_for_units()
    active = time.monotonic() - begun
    vms.wait_for_end(tasks)
    done = time.monotonic() - begun
    booted = vms.ssh(vms.worker, "date --date=\"$(uptime -s)\" --utc '+%F %T'").strip()
    after = sum(end[:19] > booted for _, _, end in vms.states(tasks))
    if (failed := vms.failed_units()) or not after:
        raise FailedError(f"failed units {failed}; {after} of {QUEUED} tasks done after the boot")
    wait_until(lambda: vms.request("/readyz") == 200, "the site is ready", seconds=120, pause=PAUSE)
    return (
        f"Vagrant had its VMs again, then: all units active after {active:.0f} s, all {QUEUED} tasks done after "
        f"{done:.0f} s ({after} of them after the boot), no unit failed, the site ready"
    )


def reload(vms: Fleet) -> str:
    """Reboot in order while tasks wait."""
    return _boots_with_work(vms, lambda: vms.vagrant("reload"))


def power_cut(vms: Fleet) -> str:
    """End every VM from one moment to the next while tasks run and wait."""

    def cut() -> None:
        vms.vagrant("halt", "--force")
        vms.vagrant("up", "--no-provision")

    return _boots_with_work(vms, cut)


def destroy(vms: Fleet) -> str:
    """Leave nothing behind."""
    vms.vagrant("destroy", "--force")
    left = [name for name in vms.run("virsh", "list", "--all", "--name").split() if name.endswith("_web1")]
    if left or CHOICES.exists():
        raise FailedError(f"still there: {left or CHOICES}")
    return "nothing is left"


class Step(NamedTuple):
    """One line of the report."""

    name: str
    must: str
    run: Callable[[Fleet], str]
    # Nothing after it makes sense without it.
    needed: bool = False


STEPS = [
    Step("box", "a box is found or built", box, needed=True),
    Step("up", "vagrant up: boots and runs site.yml", up, needed=True),
    Step("verify", "verify.yml holds", verify),
    Step("queues", "a task comes back from each queue", queues),
    Step("provision", "vagrant provision changes nothing", provision),
    Step("reload", "vagrant reload: everything back by itself, waiting tasks done", reload),
    Step("power_cut", "the VM ends at once: everything back by itself, no task lost", power_cut),
]
ON_ONE_VM = [
    Step("security", "systemd-analyze security rates every unit 2.0 or better", harm.security),
    Step("memory", "MemoryMax kills the hog alone, which becomes a dead letter", harm.memory),
    Step("processor", "CPUWeight keeps high fast while low burns both processors", harm.processor),
    Step("disk", "a full disk loses nothing accepted and heals by itself", harm.disk),
    Step("clock", "a jump of the clock loses nothing and stops nothing", harm.clock),
    Step("boot_without_postgresql", "PostgreSQL absent, Redis late: nothing gives up", harm.boot_without_postgresql),
    Step("boot_without_redis", "Redis absent, PostgreSQL late: nothing gives up", harm.boot_without_redis),
]
END = Step("destroy", "vagrant destroy leaves nothing", destroy)


class Report:
    """The rows of one layout, kept on disk after each step."""

    def __init__(self, vms: Fleet) -> None:
        self.path = BUILD / f"{vms.title}.json"
        self.rows: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            self.rows = {row["step"]: row for row in json.loads(self.path.read_text())["steps"]}
        if self.done("destroy"):
            self.rows = {}

    def done(self, name: str) -> bool:
        return bool(self.rows.get(name, {}).get("holds"))

    def add(self, step: Step, got: str, *, holds: bool, seconds: float) -> None:
        self.rows.pop(step.name, None)
        row = {"step": step.name, "must": step.must, "got": got, "holds": holds, "seconds": round(seconds)}
        self.rows[step.name] = row
        total = sum(each["seconds"] for each in self.rows.values())
        self.path.write_text(json.dumps({"seconds": total, "steps": list(self.rows.values())}, indent=2) + "\n")

    def show(self) -> None:
        for row in self.rows.values():
            print(
                f"\n{row['step']}: {row['must']}\n  {'holds' if row['holds'] else 'DOES NOT HOLD'}, {row['seconds']} s"
            )
            print(textwrap.indent("\n".join(textwrap.wrap(row["got"], 110)), "  "))
        print(f"\n{sum(row['seconds'] for row in self.rows.values())} s in all; {self.path}")


def prove(vms: Fleet, report: Report, steps: list[Step]) -> bool:
    """Run what is not done yet; return whether all of it holds."""
    for number, step in enumerate(steps, 1):
        if report.done(step.name):
            continue
        print(f"{time.strftime('%H:%M:%S')} {vms.title} {number}/{len(steps)} {step.name}: {step.must}", flush=True)
        vms.step = step.name
        (vms.folder / f"{step.name}.log").unlink(missing_ok=True)
        begun = time.monotonic()
        try:
            got, holds = step.run(vms), True
        except (AssertionError, OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
            got, holds = f"{type(error).__name__}: {error}", False
        seconds = time.monotonic() - begun
        report.add(step, got, holds=holds, seconds=seconds)
        print(f"  {'holds' if holds else 'DOES NOT HOLD'}, {seconds:.0f} s: {got}", flush=True)
        if step.needed and not holds:
            break
    return all(report.done(step.name) for step in steps)


def main() -> int:
    """Prove one layout, and destroy it when everything held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--debian", choices=["12", "13"], default="13")
    parser.add_argument("--fleet", action="store_true", help="four VMs")
    parser.add_argument("--only", choices=[step.name for step in [*STEPS, *ON_ONE_VM, END]], help="this step again")
    options = parser.parse_args()
    # Whatever it runs ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    libvirt = Libvirt()
    with opened(options.debian, fleet=options.fleet) as vms:
        report = Report(vms)
        if CHOICES.exists() and "up" not in report.rows and "box" not in report.rows:
            print(
                "vagrant-test: VMs are there that it did not start. Remove them first: vagrant destroy", file=sys.stderr
            )
            return 2
        steps = STEPS if options.fleet else [*STEPS, *ON_ONE_VM]
        if options.only:
            steps = [step for step in [*steps, END] if step.name == options.only]
            report.rows.pop(options.only, None)
        try:
            libvirt.start()
            if not CHOICES.exists():
                vms.environment["DRUMLINE_PORT"] = str(free_port(8443))
            vms.environment["DRUMLINE_BOX"] = BOX.format(options.debian)
            vms.step = "start"
            if not report.done("box") and not options.only:
                prove(vms, report, STEPS[:1])
            disks = sorted(BOXES.glob(f"{BOX.format(options.debian).replace('/', '-VAGRANTSLASH-')}/*/libvirt/box.img"))
            vms.environment["DRUMLINE_DRIVER"] = "kvm" if disks and kvm_serves(disks[-1]) else "qemu"
            if CHOICES.exists() and report.done("up") and options.only != END.name:
                # The run before may have been ended while they were down.
                vms.vagrant("up", "--no-provision")
                vms.wait_for_units()
            holds = prove(vms, report, steps)
            if holds and not options.only:
                holds = prove(vms, report, [END])
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            print(f"vagrant-test: {error}\nTo go on where it ended: make vagrant-test again", file=sys.stderr)
            return 1
        finally:
            if not CHOICES.exists():
                libvirt.stop()
        report.show()
        if CHOICES.exists():
            print("The VMs are still there: vagrant ssh web1; make vagrant-test again; or vagrant destroy")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

"""The VMs of the Vagrantfile as `make vagrant-test` uses them: Vagrant, a shell on each, and what runs there."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.paths import PROJECT
from tests.support.waiting import wait_until

INVENTORY = PROJECT / "ansible" / "inventories" / "vagrant"
CHOICES = PROJECT / ".vagrant" / "drumline.yml"
PROBE = PROJECT / "tests" / "vagrant" / "probe"
BUILD = PROJECT / "build" / "vagrant-test"
# Emulated, a boot takes minutes and a command seconds.
VAGRANT_SECONDS = 7200
COMMAND_SECONDS = 600
# Looking takes from an emulated VM what it needs itself.
PAUSE = 2
# What a unit may take to start.
START_SECONDS = 600

PROCESSES = r"""
for unit in $(systemctl list-units --plain --no-legend 'drumline-*.service' | cut -d' ' -f1); do
  [ "$(systemctl show -P Type "$unit")" = oneshot ] && continue
  case $unit in drumline-manage*) continue ;; esac
  group=/sys/fs/cgroup$(systemctl show -P ControlGroup "$unit")
  echo "$unit" $(systemctl show -P MainPID "$unit") $(systemctl show -P NRestarts "$unit") $(cat "$group/cgroup.procs")
done
"""
STATES = """
import json
from drumline.models import DurableTask
rows = DurableTask.objects.filter(id__in={ids!r})
print(json.dumps([[row.get_state_display(), row.attempt, str(row.finished_at or "")] for row in rows]))
"""


class FailedError(AssertionError):
    """What did not hold, in one message."""


def kvm_serves(disk: Path) -> bool:
    """Boot the box for ten seconds: a /dev/kvm may be there and not serve a stock kernel."""
    if not os.access("/dev/kvm", os.W_OK):
        return False
    command = ["qemu-system-x86_64", "-enable-kvm", "-cpu", "host", "-m", "512", "-nographic", "-nic", "none"]
    drive = f"file={disk},if=virtio,snapshot=on"
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([*command, "-drive", drive], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            said.seek(0)
            return "KVM internal error" not in said.read()
    return False


class Libvirt:
    """The daemons, started by hand where no service manager does it, and ended again."""

    def __init__(self) -> None:
        self.started: list[Path] = []

    def start(self) -> None:
        if any(Path(f"/run/libvirt/{name}-sock").exists() for name in ("libvirt", "virtqemud")):
            return
        if Path("/run/systemd/system").exists():
            subprocess.run(["systemctl", "start", "libvirtd"], check=True)
            return
        for name in ("virtlogd", "libvirtd"):
            subprocess.run([name, "--daemon"], check=True)
            self.started.append(Path(f"/run/{name}.pid"))
        wait_until(Path("/run/libvirt/libvirt-sock").exists, "libvirtd answers")

    def stop(self) -> None:
        for pid in reversed(self.started):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(pid.read_text()), 15)


class Fleet:
    """One layout on one release of Debian."""

    def __init__(self, debian: str, *, fleet: bool) -> None:
        self.names = ["database1", "broker1", "worker1", "web1"] if fleet else ["web1"]
        self.worker = "worker1" if fleet else "web1"
        self.debian = debian
        self.title = f"{'fleet' if fleet else 'all-in-one'}-{debian}"
        self.folder = BUILD / self.title
        self.step = "start"
        self._sockets = Path(tempfile.mkdtemp(prefix="vm-"))
        self.environment = os.environ | {
            "DRUMLINE_FLEET": "1" if fleet else "0",
            "DRUMLINE_DEBIAN": debian,
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_BOX_UPDATE_CHECK_DISABLE": "1",
            # An emulated host is slow to greet.
            "ANSIBLE_TIMEOUT": "120",
        }

    def close(self) -> None:
        shutil.rmtree(self._sockets, ignore_errors=True)

    # ---- this machine

    def run(self, *command: str | Path, seconds: float = VAGRANT_SECONDS) -> str:
        """Run a command with its output in the step's log; return what it printed, fail when it fails."""
        log = self.folder / f"{self.step}.log"
        with log.open("ab") as out:
            out.write(f"$ {shlex.join(map(str, command))}\n".encode())
            out.flush()
            began = out.tell()
            done = subprocess.run(
                list(map(str, command)),
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            )
        text = log.read_bytes()[began:].decode(errors="replace")
        if done.returncode != 0:
            last = "\n".join(text.splitlines()[-12:])
            raise FailedError(f"`{shlex.join(map(str, command))}` exited {done.returncode}; {log} ends:\n{last}")
        return text

    def vagrant(self, *arguments: str) -> str:
        """Run Vagrant, and know afterwards how the VMs are reached."""
        self.forget_connections()
        return self.run("vagrant", *arguments, "--no-color", "--no-tty")

    def playbook(self, name: str) -> str:
        return self.run("make", "--no-print-directory", name, "INVENTORY=vagrant")

    def forget_connections(self) -> None:
        shutil.rmtree(self._sockets, ignore_errors=True)
        self._sockets.mkdir(mode=0o700)
        (self.folder / "ssh-config").unlink(missing_ok=True)

    # ---- a VM

    def ssh(self, name: str, script: str, *, check: bool = True, seconds: float = COMMAND_SECONDS) -> str:
        """Run a script as root on a VM, and return what it printed."""
        config = self.folder / "ssh-config"
        if not config.exists():
            config.write_text(self.run("vagrant", "ssh-config"))
        connection = [
            *("-F", str(config), "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=60", "-o", "ServerAliveInterval=30"),
            *("-o", "ControlMaster=auto", "-o", "ControlPersist=120", "-o", f"ControlPath={self._sockets}/%n"),
        ]
        done = subprocess.run(
            ["ssh", *connection, name, "sudo sh -s"],
            input=script,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode != 0:
            raise FailedError(f"{name}: exit {done.returncode} of\n{script}\n{(done.stdout + done.stderr)[-2000:]}")
        return done.stdout

    def python(self, code: str, *, probe: bool = False) -> Any:
        """Run Python in the application on the worker's host; return the JSON that its last line is."""
        command = "/usr/local/bin/probe-manage" if probe else "drumline-manage"
        told = self.ssh(self.worker, f"{command} shell --verbosity=0 --command={shlex.quote(code)}\n")
        return json.loads(told.strip().splitlines()[-1])

    def send(self, queues: list[str], seconds: float) -> list[str]:
        """Send a ping that takes so long to each of the queues; return the ids."""
        ids: list[str] = self.python(
            "import json\nfrom drumline.tasks import ping\n"
            f"print(json.dumps([ping.apply_async(args=[{seconds}], queue=queue).id for queue in {queues!r}]))"
        )
        return ids

    def states(self, ids: list[str]) -> list[tuple[str, int, str]]:
        """Return state, number of starts and end of each task."""
        return [tuple(row) for row in self.python(STATES.format(ids=ids))]

    def wait_for_end(self, ids: list[str], *, seconds: float = 600) -> float:
        """Wait until all are finished; return the seconds that took."""
        begun = time.monotonic()
        wait_until(
            lambda: [state for state, *_ in self.states(ids)] == ["Finished"] * len(ids),
            f"{len(ids)} tasks are finished",
            seconds=seconds,
            pause=PAUSE,
        )
        return time.monotonic() - begun

    def pings(self, *, wait: int = 120) -> dict[str, float]:
        """Send a ping through every queue and wait so many seconds for each; return the seconds that each took."""
        script = f"drumline-manage enqueue drumline.ping --queue=high,default,low --wait={wait}\n"
        told = self.ssh(self.worker, script, seconds=COMMAND_SECONDS + 3 * wait)
        rows = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
        if [row["state"] for row in rows] != ["SUCCESS"] * 3:
            raise FailedError(f"not every queue answers: {told}")
        return {row["queue"]: row["seconds"] for row in rows}

    def processes(self) -> dict[str, tuple[str, str, tuple[str, ...]]]:
        """Main process, number of restarts and all processes of each unit of the worker's host."""
        lines = [line.split() for line in self.ssh(self.worker, PROCESSES).splitlines()]
        return {unit: (main, restarts, tuple(sorted(all_))) for unit, main, restarts, *all_ in lines}

    def failed_units(self) -> list[str]:
        """Units that gave up, on any VM."""
        script = "systemctl list-units --failed --plain --no-legend | cut -d' ' -f1\n"
        return [f"{name}: {unit}" for name in self.names for unit in self.ssh(name, script).split()]

    def not_active(self) -> list[str]:
        """Units of the target that are not active, on the hosts that have one."""
        script = "systemctl list-units --all --plain --no-legend $(systemctl show -P Wants drumline.target)\n"
        hosts = [name for name in self.names if name not in ("database1", "broker1")]
        units = [line.split() for name in hosts for line in self.ssh(name, script).splitlines()]
        return (
            [f"{unit} {active}" for unit, _, active, *_ in units if active != "active"] if units else ["no unit at all"]
        )

    def wait_for_units(self) -> None:
        """Wait until every unit is active; look seldom, since looking takes from an emulated host what a start needs."""
        wait_until(lambda: not self.not_active(), "every unit is active", seconds=START_SECONDS, pause=10)

    def install_probe(self) -> None:
        """Let the workers know the probe's tasks until the next boot, as a release with them would."""
        if "yes" in self.ssh(self.worker, "test -d /run/systemd/system/drumline-worker@.service.d && echo yes || true"):
            return
        archive = subprocess.run(
            ["tar", "--create", "--gzip", "--exclude=__pycache__", f"--directory={PROBE}", "."],
            capture_output=True,
            check=True,
        ).stdout
        encoded = base64.b64encode(archive).decode()
        self.ssh(
            self.worker,
            f"""
set -e
mkdir -p /usr/local/lib/drumline-probe /run/systemd/system/drumline-worker@.service.d
echo {encoded} | base64 -d | tar --extract --gzip --no-same-owner --directory=/usr/local/lib/drumline-probe
printf 'PYTHONPATH=/usr/local/lib/drumline-probe\\nDJANGO_SETTINGS_MODULE=vm_settings\\n' >/etc/drumline/probe.env
printf '[Service]\\nEnvironmentFile=/etc/drumline/probe.env\\n' >/run/systemd/system/drumline-worker@.service.d/90-probe.conf
sed 's#--property=EnvironmentFile="$environment/secrets.env"#& --property=EnvironmentFile=/etc/drumline/probe.env#' \\
  "$(command -v drumline-manage)" >/usr/local/bin/probe-manage
chmod 0755 /usr/local/bin/probe-manage
systemctl daemon-reload
systemctl restart 'drumline-worker@*'
""",
        )
        self.wait_for_units()

    # ---- the site

    def port(self) -> int:
        found = re.search(r"nginx_public_https_port: (\d+)", (INVENTORY / "hosts.yml").read_text())
        return int(found[1]) if found else 8443

    def request(self, path: str, body: Any = None) -> int:
        """Ask the site from this machine; return the status, 0 when there was no answer."""
        context = ssl.create_default_context(cafile=INVENTORY / "secrets" / "ca.crt")
        request = urllib.request.Request(f"https://127.0.0.1:{self.port()}{path}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60, context=context) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


@contextlib.contextmanager
def opened(debian: str, *, fleet: bool) -> Iterator[Fleet]:
    """Yield the fleet with its folder."""
    vms = Fleet(debian, fleet=fleet)
    vms.folder.mkdir(parents=True, exist_ok=True)
    try:
        yield vms
    finally:
        vms.close()

"""`make dev`: run every process of a host on this machine, print what they log, and stop them all on Ctrl-C.

It listens on four ports of the loopback, PORT and the three after it. Everything it writes is under build/dev/.
"""

import argparse
import fcntl
import os
import re
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import time
from configparser import RawConfigParser
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from jinja2 import StrictUndefined, Template
from jinja2.nativetypes import NativeEnvironment

PROJECT = Path(__file__).resolve().parent.parent
APP = PROJECT / "app"
ANSIBLE = PROJECT / "ansible"
BIN = Path(sys.executable).parent
STATE = PROJECT / "build" / "dev"
CONFIGURATION = STATE / "supervisord.conf"
ENVIRONMENT = STATE / "env"
LOG = STATE / "log"
PIDFILE = STATE / "supervisord.pid"
SOCKET = STATE / "supervisor.sock"
# What every system takes for the path of a socket, less what supervisord appends while it makes one.
LONGEST_SOCKET = 103 - len(".1234567")

SUPERVISORD = "supervisord"
PORTS = ("web", "flower", "redis", "mail")
# Worthless: what it opens listens on the loopback alone.
EMAIL, PASSWORD = "admin@localhost", "drumline"
PREPARE = f"""
from django.contrib.auth import get_user_model
from django.core.management import call_command
call_command("migrate", verbosity=0)
users = get_user_model().objects
if not users.filter(is_superuser=True).exists():
    users.create_superuser({EMAIL!r}, {PASSWORD!r})
"""

# No red, which is for errors.
COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
# What a developer wants to know of supervisord's own log.
WORTH_SAYING = re.compile(r"exited: |gave up: |killing |can't ")
COLOUR_CODE = re.compile(r"\x1b\[[0-9;]*m")


def process_model(ports: dict[str, int]) -> dict[str, Any]:
    """Return what the configuration is made from: the model's processes, one instance of each."""
    variables: dict[str, Any] = {}
    for name in ("contract", "processes"):
        variables |= yaml.safe_load((ANSIBLE / f"group_vars/all/{name}.yml").read_text())
    model, files = (runpy.run_path(str(ANSIBLE / f"plugins/filter/process_{name}.py")) for name in ("model", "files"))
    queues = variables["app_queues"]
    timeout = int(filled_in(variables["app_visibility_timeout"], variables))
    if problems := model["queue_problems"](queues, timeout):
        sys.exit("\n".join(problems))
    kinds = filled_in(variables["app_processes"], variables)
    once = {name: {**numbers, "instances": 1} for name, numbers in queues.items()}
    processes = model["processes"](kinds, list(kinds), once, list(once))
    limits = {
        "CELERY_TASK_SOFT_TIME_LIMIT": str(max(queue["soft_time_limit"] for queue in queues.values())),
        "CELERY_TASK_TIME_LIMIT": str(max(queue["time_limit"] for queue in queues.values())),
        "CELERY_VISIBILITY_TIMEOUT": str(timeout),
    }
    return {"limits": limits, "programs": files["development_programs"](processes, kinds, ports)}


def configuration(model: dict[str, Any], ports: dict[str, int]) -> str:
    """Return supervisord's configuration."""
    text = (PROJECT / "supervisor/development.conf").read_text()
    return str(Template(text, undefined=StrictUndefined, trim_blocks=True).render(model, ports=ports))


def filled_in(value: Any, variables: dict[str, Any]) -> Any:
    """Return a value of the process model with the variables in it filled in, as Ansible does."""
    if isinstance(value, dict):
        return {key: filled_in(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled_in(inner, variables) for inner in value]
    if not isinstance(value, str) or "{{" not in value:
        return value
    return NativeEnvironment(undefined=StrictUndefined).from_string(value).render(variables)


def environment(ports: dict[str, int], limits: dict[str, str]) -> dict[str, str]:
    """Return what the processes, and a developer's second terminal, need beyond what they have."""
    return {
        "CELERY_BROKER_URL": f"redis://127.0.0.1:{ports['redis']}/0",
        **limits,
        "DATABASE_URL": f"sqlite:///{quote(str(STATE / 'db.sqlite3'))}",
        "DJANGO_SETTINGS_MODULE": "config.settings.development",
        "EMAIL_HOST": "127.0.0.1",
        "EMAIL_PORT": str(ports["mail"]),
        "SITE_URL": f"http://127.0.0.1:{ports['web']}",
        "FLOWER_URL": f"http://127.0.0.1:{ports['flower']}/flower/",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "SITE": f"http://127.0.0.1:{ports['web']}",
    }


def listens(family: socket.AddressFamily, address: Any) -> bool:
    """Return whether somebody answers there."""
    with socket.socket(family) as sock:
        return sock.connect_ex(address) == 0


def taken(port: int) -> bool:
    """Return whether somebody listens on this port of the loopback."""
    return listens(socket.AF_INET, ("127.0.0.1", port))


def refuse_a_second_one() -> None:
    """Hold build/dev/ for as long as this process lives, or say who has it."""
    held = os.open(STATE, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"make dev is already running in this checkout: {site()}\nTo stop it, press Ctrl-C in its terminal.")
    if listens(socket.AF_UNIX, str(SOCKET)):
        stop = f"kill {PIDFILE.read_text().strip()}"
        sys.exit(f"make dev is already running in this checkout, without a terminal: {site()}\nTo stop it: {stop}")


def site() -> str:
    """Return where the one that runs has its site."""
    [address] = re.findall("^export SITE=(.*)$", ENVIRONMENT.read_text(), flags=re.MULTILINE)
    return f"{address}/"


def refuse_taken_ports(ports: dict[str, int]) -> None:
    """Say which port somebody else listens on, and how to choose others."""
    for use, port in ports.items():
        if taken(port):
            sys.exit(
                f"Port {port}, which make dev needs for {use}, is in use."
                f" Stop the program that uses it, or choose other ports: make dev PORT=8100 uses 8100 to {8100 + len(PORTS) - 1}."
            )


class Log:
    """What one program logs."""

    def __init__(self, program: str) -> None:
        self.program = program
        path = LOG / f"{program}.log"
        path.write_bytes(b"")
        self._file = path.open("rb")
        self._begun = b""

    def lines(self) -> list[str]:
        """Return the lines that were finished since the last time."""
        *lines, self._begun = (self._begun + self._file.read()).split(b"\n")
        text = [line.decode(errors="replace") for line in lines]
        return [line for line in text if self.program != SUPERVISORD or WORTH_SAYING.search(line)]


class Console:
    """All logs as one, each line behind its program's name in its colour."""

    def __init__(self, programs: list[str]) -> None:
        self._logs = [Log(program) for program in programs]
        self._width = max(map(len, programs))
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def show(self) -> None:
        """Print the lines that came since the last time."""
        for number, log in enumerate(self._logs):
            name = f"{log.program:<{self._width}} |"
            for line in log.lines():
                if self._coloured:
                    print(f"\x1b[{COLOURS[number % len(COLOURS)]}m{name}\x1b[0m {line}", flush=True)
                else:
                    print(name, COLOUR_CODE.sub("", line), flush=True)


def welcome(env: dict[str, str], seconds: float) -> str:
    """Return where everything is."""
    return f"""
  Site            {env["SITE"]}/
  API             {env["SITE"]}/api/docs/
  Administration  {env["SITE"]}/admin/  {EMAIL}, password {PASSWORD}
  Flower          {env["FLOWER_URL"]}
  Logs            {LOG.relative_to(PROJECT)}/, one for each process, and here
  Other terminal  . {ENVIRONMENT.relative_to(PROJECT)}  then: app/manage.py enqueue drumline.ping --wait 10

  Ready after {seconds:.0f} s. Ctrl-C stops everything.
"""


def run(env: dict[str, str], web: int, console: Console, started: float) -> None:
    """Run supervisord until somebody interrupts, or until it ends by itself."""
    # A script that starts this in the background has the interrupt ignored.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    supervisord = subprocess.Popen(
        [SUPERVISORD, "--configuration", CONFIGURATION],
        cwd=APP,
        env=env,
        # The terminal's Ctrl-C is for this process, which then says when to stop.
        start_new_session=True,
    )
    ready = False
    try:
        while supervisord.poll() is None:
            console.show()
            if not ready and taken(web):
                ready = True
                print(welcome(env, time.monotonic() - started), flush=True)
            time.sleep(0.1)
        sys.exit(f"supervisord exited. See {LOG / 'supervisord.log'}")
    except KeyboardInterrupt:
        with suppress(OSError):
            print(
                "\nStopping. Running tasks have 15 seconds; unfinished ones run again after the next start.", flush=True
            )
    finally:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        supervisord.terminate()
        while supervisord.poll() is None:
            # The terminal may be gone.
            with suppress(OSError):
                console.show()
            time.sleep(0.1)


def main(first_port: int) -> None:
    """Check the requirements, write the configuration, prepare the database, run."""
    started = time.monotonic()
    ports = {use: first_port + number for number, use in enumerate(PORTS)}
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    if len(os.fsencode(SOCKET)) > LONGEST_SOCKET:
        sys.exit(f"The path {SOCKET} is too long for a socket. Use a checkout with a shorter path.")
    refuse_a_second_one()
    refuse_taken_ports(ports)
    LOG.mkdir(exist_ok=True)
    model = process_model(ports)
    own = environment(ports, model["limits"])
    ENVIRONMENT.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in own.items()))
    CONFIGURATION.write_text(configuration(model, ports))
    env = os.environ | own
    print("Migrating the database ...", flush=True)
    prepare = ["python", "manage.py", "shell", "--verbosity=0", "--command", PREPARE]
    if subprocess.run(prepare, cwd=APP, env=env, check=False).returncode:
        sys.exit("Preparing the database failed; see the error above.")
    print("Starting ...", flush=True)
    run(env, ports["web"], Console([SUPERVISORD, *programs()]), started)


def programs() -> list[str]:
    """Return the programs of the configuration by name."""
    parser = RawConfigParser()
    parser.read(CONFIGURATION)
    return [name.removeprefix("program:") for name in parser.sections() if name.startswith("program:")]


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("port", nargs="?", type=int, default=8000, metavar="PORT", help="8000 unless given")
    try:
        main(arguments.parse_args().port)
    except KeyboardInterrupt:
        sys.exit(130)

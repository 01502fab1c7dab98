#!/usr/bin/env python3
"""Start, reach and remove test hosts: throw-away Debian hosts that boot systemd, in containers.

Everything that needs a host goes through here (`make up`, Molecule, the fault suite), so this is
the one home of podman's flags. It touches nothing but the containers and networks it labelled.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import fcntl
import ipaddress
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import image

PROJECT = Path(__file__).resolve().parents[2]
# `drumline up` keeps those of a project beside its inventory.
SSH = Path(os.environ.get("DRUMLINE_TEST_HOSTS", PROJECT / "build")) / "ssh"
KEY = SSH / "id_ed25519"
KNOWN_HOSTS = SSH / "known_hosts"
SSH_CONFIG = SSH / "config"
LABEL = "org.drumline.testhost"
USER = "admin"
DEFAULT_NETWORK = "drumline"
BOOT_SECONDS = 90
CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuacct", "memory", "pids")

# What systemd needs to build its sandboxes inside: mounts and namespaces (SYS_ADMIN), the firewall
# and PrivateNetwork= (NET_ADMIN), dropping capabilities (SETPCAP), reading /proc of sandboxed
# processes (SYS_PTRACE), the audit lines of sudo and sshd (AUDIT_WRITE). systemd filters system
# calls itself. Less than --privileged: no devices, no module loading, no clock of the machine.
CONFINEMENT = (
    "--cap-add=SYS_ADMIN,NET_ADMIN,SETPCAP,SYS_PTRACE,AUDIT_WRITE",
    "--security-opt=seccomp=unconfined",
)
# A host's mounts are shared with the namespaces of its units, a container's are not: systemd would
# hand LoadCredential= over in a namespace of its own, and the unit would find an empty directory.
# And each boot of a host has an id of its own, by which Ansible and the journal tell it from the one before.
BOOT_ID = "cat /proc/sys/kernel/random/uuid >/run/boot-id && mount --bind /run/boot-id /proc/sys/kernel/random/boot_id"
INIT = ("/bin/sh", "-c", f"mount --make-rshared / && {BOOT_ID} && exec /sbin/init")
# A machine that may not raise its own limits cannot grant podman's larger defaults.
LIMITS = ("--ulimit=nofile=20000:20000", "--ulimit=nproc=4096:4096")


class TestHostError(Exception):
    """What went wrong and what to type next, in one message."""


def say(message: str) -> None:
    """Progress goes to stderr: stdout belongs to the result."""
    print(f"test host: {message}", file=sys.stderr, flush=True)


def podman(*arguments: str, check: bool = True, stdin: str | None = None) -> str:
    """Run podman and return what it prints."""
    try:
        result = subprocess.run(
            ["podman", *arguments],
            check=False,
            capture_output=True,
            text=True,
            input=stdin,
            env=image.podman_environment(),
        )
    except FileNotFoundError:
        msg = "podman is not installed. On Debian: ansible/bootstrap installs it (or `make up`)."
        raise TestHostError(msg) from None
    if check and result.returncode != 0:
        command = " ".join(arguments[:3])
        msg = f"`podman {command}` exited {result.returncode}: {result.stderr.strip()}"
        raise TestHostError(msg)
    return result.stdout


def inspect(name: str) -> dict[str, Any] | None:
    """Return what podman knows of a container, None when there is none of this name."""
    found = json.loads(podman("container", "inspect", name, check=False) or "[]")
    return found[0] if found else None


def own(name: str) -> dict[str, Any] | None:
    """Return the container, only if this tool made it."""
    found = inspect(name)
    if found is not None and LABEL not in (found["Config"]["Labels"] or {}):
        msg = f"the container {name} exists and is no test host: choose another name, or remove it."
        raise TestHostError(msg)
    return found


# --- networks ---------------------------------------------------------------------------------


def taken_subnets() -> list[ipaddress.IPv4Network]:
    """Every IPv4 range this machine has a route to, and every one podman has given away."""
    taken = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        _, destination, _, _, _, _, _, mask = line.split()[:8]
        if mask != "00000000":
            address = ipaddress.IPv4Address(bytes.fromhex(destination)[::-1])
            length = bytes.fromhex(mask)[::-1]
            taken.append(ipaddress.IPv4Network(f"{address}/{ipaddress.IPv4Address(length)}"))
    # A name server may be reached through the default route and still sit in a private range.
    servers = re.findall(r"^nameserver\s+(\d+\.\d+\.\d+\.\d+)", Path("/etc/resolv.conf").read_text(), re.MULTILINE)
    taken.extend(ipaddress.IPv4Network(server) for server in servers)
    names = podman("network", "ls", "--quiet").split()
    for network in json.loads(podman("network", "inspect", *names)) if names else []:
        for subnet in network.get("subnets") or []:
            parsed = ipaddress.ip_network(subnet["subnet"])
            if isinstance(parsed, ipaddress.IPv4Network):
                taken.append(parsed)
    return taken


def free_subnet() -> ipaddress.IPv4Network:
    """Find a private /24 that overlaps with nothing in use."""
    taken = taken_subnets()
    for pool in ("10.89.0.0/16", "172.28.0.0/14", "192.168.128.0/17", "10.200.0.0/16"):
        for candidate in ipaddress.IPv4Network(pool).subnets(new_prefix=24):
            if not any(candidate.overlaps(other) for other in taken):
                return candidate
    msg = "no free private subnet is left on this machine: `podman network prune` may help."
    raise TestHostError(msg)


def ensure_network(name: str) -> None:
    """Create the network if it is not there; it gives its hosts DNS by name and a way out."""
    names = podman("network", "ls", "--format", "{{.Name}}").split()
    if name in names:
        return
    subnet = str(free_subnet())
    podman("network", "create", "--label", f"{LABEL}=network", "--subnet", subnet, name)
    say(f"made network {name} ({subnet})")


def free_address(network: str) -> str:
    """Find an address of the network that no host has, whether it runs or not: a host keeps its own when it boots again."""
    (told,) = json.loads(podman("network", "inspect", network))
    subnet = ipaddress.IPv4Network(told["subnets"][0]["subnet"])
    own = f'{{{{index .Labels "{LABEL}.address"}}}}'
    taken = podman("ps", "--all", "--filter", f"label={LABEL}=host", "--format", own).split()
    # The first one is the machine's.
    for candidate in list(subnet.hosts())[1:]:
        if str(candidate) not in taken:
            return str(candidate)
    msg = f"no free address is left in the network {network}: `{sys.argv[0]} down --all` removes all test hosts."
    raise TestHostError(msg)


def remove_empty_networks() -> None:
    """Remove the networks of this tool that no host uses; podman refuses to remove one in use."""
    for name in podman("network", "ls", "--filter", f"label={LABEL}", "--format", "{{.Name}}").split():
        podman("network", "rm", name, check=False)


# --- reaching a host --------------------------------------------------------------------------


def ensure_key() -> str:
    """Return the public key of the test hosts, generated once for this checkout."""
    SSH.mkdir(mode=0o700, parents=True, exist_ok=True)
    public = KEY.with_suffix(".pub")
    if not public.exists() or not KEY.exists():
        KEY.unlink(missing_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test hosts", "-f", str(KEY)],
            check=True,
        )
    return public.read_text().strip()


def remember(name: str, told: dict[str, Any] | None, host_key: str = "") -> None:
    """Let `ssh -F build/ssh/config NAME` work, or forget the host when nothing is told of it."""
    parts = SSH / "config.d"
    parts.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = {name}
    if told:
        host, port = told["ssh_host"], told["ssh_port"]
        names |= {told["address"], host if port == 22 else f"[{host}]:{port}"}
    with (SSH / ".lock").open("w") as lock:
        # Two hosts may come up at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = KNOWN_HOSTS.read_text().splitlines() if KNOWN_HOSTS.exists() else []
        kept = [line for line in lines if not names & set(line.split(" ", 1)[0].split(","))]
        if told:
            kept.append(f"{','.join(sorted(names))} {host_key}")
        KNOWN_HOSTS.write_text("".join(f"{line}\n" for line in kept))
        SSH_CONFIG.write_text(f"Include {parts}/*\n")
        (parts / name).unlink(missing_ok=True)
        if told:
            (parts / name).write_text(
                f"Host {name}\n"
                f"  HostName {host}\n"
                f"  Port {port}\n"
                f"  User {USER}\n"
                f"  IdentityFile {KEY}\n"
                "  IdentitiesOnly yes\n"
                f"  UserKnownHostsFile {KNOWN_HOSTS}\n"
                "  StrictHostKeyChecking yes\n"
            )


def describe(name: str) -> dict[str, Any]:
    """How to reach a host, from what podman says now."""
    found = own(name)
    if found is None:
        msg = f"there is no test host {name}: `up {name}` makes one."
        raise TestHostError(msg)
    settings = found["NetworkSettings"]
    addresses = [network["IPAddress"] for network in (settings["Networks"] or {}).values() if network["IPAddress"]]
    published = {
        int(port.split("/")[0]): (
            bindings[0]["HostIp"] or "127.0.0.1",
            int(bindings[0]["HostPort"]),
        )
        for port, bindings in (settings["Ports"] or {}).items()
        if bindings
    }
    address = addresses[0] if addresses else ""
    ssh_host, ssh_port = published.get(22, (address, 22))
    return {
        "name": name,
        "state": found["State"]["Status"],
        "debian": found["Config"]["Labels"].get(f"{LABEL}.debian", ""),
        "image": found["ImageName"],
        "address": address,
        "networks": sorted(settings["Networks"] or {}),
        "ssh_host": ssh_host,
        "ssh_port": ssh_port,
        "user": USER,
        "key": str(KEY),
        "known_hosts": str(KNOWN_HOSTS),
        "ssh_config": str(SSH_CONFIG),
        "published": {str(port): f"{host}:{number}" for port, (host, number) in published.items()},
    }


def wait_for_boot(name: str, deadline: float) -> list[str]:
    """Return the units that failed, once systemd has started everything it will start."""
    state = "no answer"
    while time.monotonic() < deadline:
        found = inspect(name)
        if found is None or found["State"]["Status"] != "running":
            log = podman("logs", "--tail", "20", name, check=False)
            msg = f"{name} stopped while it booted. Its last words:\n{log}"
            raise TestHostError(msg)
        state = podman("exec", name, "systemctl", "is-system-running", check=False).strip() or state
        if state == "running":
            return []
        if state == "degraded":
            listed = podman("exec", name, "systemctl", "list-units", "--failed", "--plain", "--no-legend")
            return [line.split()[0] for line in listed.splitlines() if line.strip()]
        time.sleep(0.3)
    jobs = podman("exec", name, "systemctl", "list-jobs", "--no-legend", check=False).strip()
    msg = f"systemd of {name} is still '{state}' at the deadline ({BOOT_SECONDS} s).\n{jobs}"
    raise TestHostError(msg)


def admit(name: str, public_key: str) -> str:
    """Let admin in with this key; return the host's own key."""
    script = (
        "set -eu; umask 077; file=/home/admin/.ssh/authorized_keys; cat > $file.new; "
        "chown admin:admin $file.new; mv $file.new $file; cat /etc/ssh/ssh_host_ed25519_key.pub"
    )
    printed = podman("exec", "--interactive", name, "sh", "-c", script, stdin=public_key + "\n")
    kind, key = printed.split()[:2]
    return f"{kind} {key}"


def wait_for_ssh(host: str, port: int, deadline: float) -> None:
    """Return once OpenSSH greets; the forwarded port alone accepts before sshd is there."""
    while True:
        try:
            with socket.create_connection((host, port), timeout=2) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        if time.monotonic() > deadline:
            msg = f"no ssh server answers at {host}:{port}."
            raise TestHostError(msg)
        time.sleep(0.2)


# --- verbs ------------------------------------------------------------------------------------


def hybrid() -> bool:
    """Whether the controllers of this machine are those of cgroup v1."""
    return not (CGROUPS / "cgroup.controllers").exists()


def runtime() -> list[str]:
    """Choose runc on a hybrid cgroup layout, which crun refuses; elsewhere podman knows best."""
    return ["--runtime=runc"] if hybrid() else []


def controllers() -> list[str]:
    """Hand the host the controllers that its systemd writes limits to.

    On a hybrid layout podman leaves them read-only, and a host would accept CPUWeight= and MemoryMax= without effect.
    """
    paths = [(CGROUPS / name).resolve() for name in CONTROLLERS] if hybrid() else []
    return [f"--volume={path}:{path}" for path in dict.fromkeys(paths) if path.is_dir()]


def create(name: str, arguments: argparse.Namespace) -> None:
    """Boot a new host."""
    reference = image.ensure(arguments.debian)
    ensure_network(arguments.network)
    say(f"booting {name} (Debian {arguments.debian})")
    # Two that come up at once would find the same address.
    with image.LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        address = free_address(arguments.network)
        podman(
            *runtime(),
            "run",
            "--detach",
            "--name",
            name,
            "--hostname",
            name,
            "--label",
            f"{LABEL}=host",
            "--label",
            f"{LABEL}.debian={arguments.debian}",
            "--label",
            f"{LABEL}.address={address}",
            "--network",
            arguments.network,
            f"--ip={address}",
            *(f"--publish={publish}" for publish in arguments.publish),
            *([f"--memory={arguments.memory}"] if arguments.memory else []),
            *([f"--cpus={arguments.cpus}"] if arguments.cpus else []),
            "--systemd=always",
            *controllers(),
            *LIMITS,
            *(["--privileged"] if arguments.privileged else CONFINEMENT),
            reference,
            *INIT,
        )


def up(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the host run, whatever state it is in, and tell how to reach it."""
    name = arguments.name
    started = time.monotonic()
    deadline = started + arguments.timeout
    public_key = ensure_key()
    found = own(name)
    fresh = found is None or found["State"]["Status"] != "running"
    if found is None:
        try:
            create(name, arguments)
        except TestHostError as error:
            # A half-made container would be taken for a stopped host the next time.
            podman("rm", "--force", "--volumes", name, check=False)
            if "address already in use" in str(error):
                msg = f"{error}\nSomething else listens there: `ss -ltnp` says what. Stop it, and run this again."
                raise TestHostError(msg) from None
            raise
        deadline = time.monotonic() + arguments.timeout
    elif fresh:
        say(f"starting {name}, which was {found['State']['Status']}")
        podman(*runtime(), "start", name)
    elif found["Config"]["Labels"].get(f"{LABEL}.debian") != arguments.debian:
        has = found["Config"]["Labels"].get(f"{LABEL}.debian")
        msg = f"{name} runs Debian {has}, not {arguments.debian}: `down {name}` first."
        raise TestHostError(msg)
    failed = wait_for_boot(name, deadline)
    host_key = admit(name, public_key)
    told = describe(name)
    remember(name, told, host_key)
    wait_for_ssh(told["ssh_host"], told["ssh_port"], deadline)
    if failed:
        say(f"{name} is degraded, failed units: {', '.join(failed)}")
    if fresh:
        say(f"{name} is up after {time.monotonic() - started:.1f} s")
    return {**told, "changed": fresh, "failed_units": failed}


def crash(name: str) -> None:
    """End everything on a host at once, as a power failure does; its disk stays."""
    if own(name) is None:
        msg = f"there is no test host {name}: `up {name}` makes one."
        raise TestHostError(msg)
    podman("kill", "--signal=KILL", name)
    podman("wait", name)


def down(names: list[str]) -> None:
    """Remove hosts, and the networks nobody uses any more."""
    for name in names:
        if own(name) is None:
            say(f"{name} is not there")
            continue
        podman("rm", "--force", "--volumes", "--time=5", name)
        remember(name, None)
        say(f"removed {name}")
    remove_empty_networks()


def execute(name: str, command: list[str]) -> NoReturn:
    """Run a command as root on a host, in place of this process: signals and exit code pass unchanged."""
    if own(name) is None:
        msg = f"there is no test host {name}: `up {name}` makes one."
        raise TestHostError(msg)
    if command[:1] == ["--"]:
        command = command[1:]
    terminal = ["--tty"] if sys.stdin.isatty() else []
    os.execvp("podman", ["podman", "exec", "--interactive", *terminal, name, *(command or ["bash"])])


def names_of_all() -> list[str]:
    """Every host this tool made."""
    listed = podman("ps", "--all", "--filter", f"label={LABEL}=host", "--format", "{{.Names}}")
    return sorted(listed.split())


def show(told: dict[str, Any], *, as_json: bool) -> None:
    """Print how to reach a host."""
    if as_json:
        print(json.dumps(told))
        return
    published = "".join(f" {at}->{port}" for port, at in sorted(told["published"].items()))
    print(f"{told['name']}  {told['state']}  Debian {told['debian']}  {told['address']}{published}")
    print(f"  ssh -F {os.path.relpath(told['ssh_config'])} {told['name']}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="testhost.py", description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)

    verb = verbs.add_parser("up", help="make one run; a running one is left as it is")
    verb.add_argument("name")
    verb.add_argument("--debian", choices=sorted(image.SUITES), default="13")
    verb.add_argument(
        "--publish",
        action="append",
        default=[],
        metavar="ADDRESS:PORT:PORT",
        help="a port of this machine that leads to one of the host",
    )
    verb.add_argument("--network", default=DEFAULT_NETWORK, help="made if it is not there")
    verb.add_argument("--memory", help="limit, such as 2g")
    verb.add_argument("--cpus", help="limit, such as 1.5")
    verb.add_argument("--privileged", action="store_true", help="with every capability and device")
    verb.add_argument("--timeout", type=float, default=BOOT_SECONDS, metavar="SECONDS")
    verb.add_argument("--json", action="store_true")

    verb = verbs.add_parser("down", help="remove hosts")
    verb.add_argument("names", nargs="*", metavar="NAME")
    verb.add_argument("--all", action="store_true", help="every test host of this machine")

    verb = verbs.add_parser("crash", help="end everything on one at once; `up` boots it again")
    verb.add_argument("name")
    verb.add_argument("--json", action="store_true")

    verb = verbs.add_parser("list", help="all hosts and how to reach them")
    verb.add_argument("names", nargs="*", metavar="NAME")
    verb.add_argument("--json", action="store_true")

    verb = verbs.add_parser("exec", help="run a command as root on a host")
    verb.add_argument("name")
    verb.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args(argv)
    if arguments.verb == "down" and bool(arguments.names) == arguments.all:
        parser.error("down: name the hosts, or say --all")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Carry out one verb."""
    arguments = parse(argv)
    try:
        if arguments.verb == "up":
            show(up(arguments), as_json=arguments.json)
        elif arguments.verb == "down":
            down(names_of_all() if arguments.all else arguments.names)
        elif arguments.verb == "crash":
            crash(arguments.name)
            show(describe(arguments.name), as_json=arguments.json)
        elif arguments.verb == "list":
            hosts = [describe(name) for name in arguments.names or names_of_all()]
            if arguments.json:
                print(json.dumps(hosts))
            else:
                for host in hosts:
                    show(host, as_json=False)
        else:
            execute(arguments.name, arguments.command)
    except (TestHostError, image.ImageError) as error:
        print(f"test host: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

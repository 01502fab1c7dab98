"""Commands on hosts, over the ssh connection that Ansible uses, too."""

from __future__ import annotations

import os
import re
import selectors
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from drumline_cli import bundle
from drumline_cli.errors import Exit, Failure
from drumline_cli.playbook import call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from drumline_cli.variables import Host

Answer = TypeVar("Answer")

# ssh's own; a command on the host that ends with it cannot be told from it.
_SSH_FAILED = 255
# What ssh prints, what it means, and what to type.
_MEANINGS = (
    (r"Could not resolve hostname", "its name does not resolve", "Correct the name, or set ansible_host to its address."),
    (r"Permission denied", "the host does not accept your key", "ssh-copy-id {target}   (ansible_user names the user)"),
    (r"Host key verification failed|REMOTE HOST IDENTIFICATION", "its host key is unknown or has changed", "ssh {target}   and compare the fingerprint"),
    (r"Connection refused", "nothing answers at its SSH port", "Set ansible_port, or start sshd on the host."),
    (r"timed out|No route to host|Network is unreachable", "it does not answer", "Check the address, the route and the firewall: ping {name}"),
    (r"Identity file .* not accessible|no such identity", "the key does not exist", "Set ansible_private_key_file to your key."),
)  # fmt: skip


def ssh(host: Host, command: Sequence[str] | str = (), *, terminal: bool = False, asks: bool = False) -> list[str]:
    """Return the ssh line for a command on a host. `asks` lets ssh ask for a passphrase or a host key."""
    line = ["ssh", *shlex.split(bundle.ssh_arguments()), *shlex.split(host.arguments)]
    if not asks:
        line += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
    if terminal:
        line.append("-t")
    if host.port:
        line += ["-p", str(host.port)]
    if host.key:
        line += ["-i", os.path.expanduser(host.key)]
    text = command if isinstance(command, str) else shlex.join(command)
    return [*line, f"{host.user}@{host.address}" if host.user else host.address, *([text] if text else [])]


def as_root(*command: str) -> str:
    """Return a command line for root, whoever logs in."""
    return shlex.join(["sudo", "-n", "--", *command])


def unreachable(host: Host, stderr: str) -> Failure:
    """Return what ssh's failure means."""
    target = f"{host.user}@{host.address}" if host.user else host.address
    if host.port:
        target = f"-p {host.port} {target}"
    for pattern, meaning, fix in _MEANINGS:
        if re.search(pattern, stderr):
            return Failure(
                f"{host.name} was not reached: {meaning}.",
                where=f"ssh {target}",
                fix=fix.format(target=target, name=host.address),
                code=Exit.UNREACHABLE,
            )
    last = (stderr.strip().splitlines() or ["ssh ended with 255"])[-1]
    return Failure(
        f"{host.name} was not reached: {last}", where=f"ssh {target}", fix=f"ssh {target}", code=Exit.UNREACHABLE
    )


def ask(host: Host, command: str, *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command on a host and return its result. A host that is not reached is a Failure."""
    try:
        done = subprocess.run(
            ssh(host, command), capture_output=True, text=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise Failure("ssh is not installed on this machine.", fix="apt-get install openssh-client") from None
    except subprocess.TimeoutExpired:
        raise Failure(
            f"{host.name} did not answer within {timeout:.0f} s.",
            where=host.address,
            fix="drumline doctor",
            code=Exit.UNREACHABLE,
        ) from None
    if done.returncode == _SSH_FAILED:
        raise unreachable(host, done.stderr)
    return done


def ask_all(hosts: Sequence[Host], question: Callable[[Host], Answer]) -> Mapping[str, Answer]:
    """Ask every host at once, and return the answers in the hosts' order."""
    with ThreadPoolExecutor(max_workers=max(1, min(len(hosts), 20))) as pool:
        return dict(zip([host.name for host in hosts], pool.map(question, hosts), strict=True))


def become(host: Host, command: str, *, terminal: bool) -> int:
    """Run a command on a host in the foreground and return its exit code."""
    code = call(ssh(host, command, terminal=terminal, asks=True))
    if code == _SSH_FAILED:
        raise Failure(
            f"{host.name} was not reached; ssh says why, above.", fix="drumline doctor", code=Exit.UNREACHABLE
        )
    return code


def follow(hosts: Sequence[Host], command: str, write: Callable[[str, str], None]) -> int:
    """Run a command on several hosts and hand on every line with the host's name, until all end. Returns the worst code."""
    processes = {
        host.name: subprocess.Popen(ssh(host, command), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        for host in hosts
    }
    try:
        _copy(processes, write)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.terminate()
            process.wait()
    codes = [process.returncode for process in processes.values()]
    if _SSH_FAILED in codes:
        raise Failure("A host was not reached; the reason stands above.", fix="drumline doctor", code=Exit.UNREACHABLE)
    return max(codes)


def _copy(processes: Mapping[str, subprocess.Popen[bytes]], write: Callable[[str, str], None]) -> None:
    """Hand on the lines of several processes as they come, until all have closed their output."""
    selector = selectors.DefaultSelector()
    rest = dict.fromkeys(processes, b"")
    for name, process in processes.items():
        if process.stdout is not None:
            selector.register(process.stdout, selectors.EVENT_READ, name)
    while selector.get_map():
        for key, _ in selector.select():
            chunk = os.read(key.fd, 65536)
            if not chunk:
                selector.unregister(key.fileobj)
            *lines, rest[key.data] = (rest[key.data] + chunk).split(b"\n")
            for text in lines:
                write(key.data, text.decode(errors="replace"))

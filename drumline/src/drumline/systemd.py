"""sd_notify(3): tell systemd how this process is doing."""

import os
import socket


def sd_notify(*lines: str) -> bool:
    """Send the lines to the service manager; do nothing without one.

    A failure is ignored: being unable to report is no reason to stop working.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto("\n".join(lines).encode(), address)
    except OSError:
        return False
    return True

"""Ports for servers of a test."""

import contextlib
import socket


def free_port(preferred: int = 0) -> int:
    """Return the port that is asked for, or any other when something listens there."""
    for port in (preferred, 0):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return int(sock.getsockname()[1])
    raise AssertionError("no port is free")

"""Tells systemd how a daemon fares, where systemd asked for it."""

from __future__ import annotations

import os
import socket


def sd_notify(state: str) -> bool:
    """Send a state such as `READY=1`; gives whether anybody listens (NOTIFY_SOCKET)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
            notifier.connect(address)
            notifier.sendall(state.encode())
    except OSError:
        return False
    return True

"""Options that all daemons have, for `twistd -n ganeti-...` and for `bin/ganeti-...` alike."""

from __future__ import annotations

import ipaddress
import os
from typing import Any, ClassVar

from twisted.python import usage

from ganeti.model.paths import Paths

ROOT_VARIABLE = "GANETI_ROOTDIR"


def port_number(text: str) -> int:
    """A TCP or UDP port.

    Raises:
        ValueError: not from 0 to 65535.
    """
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(f"{port} is no port number (0 to 65535)")
    return port


port_number.coerceDoc = "Must be a port number from 0 to 65535."  # type: ignore[attr-defined]


class DaemonOptions(usage.Options):
    """`-d`, `-f`, `--syslog`; network daemons add `NetworkOptions`."""

    optFlags: ClassVar[list[list[Any]]] = [
        ["debug", "d", "Log more, down to debug messages."],
        ["foreground", "f", "Stay in the foreground (twistd: use -n)."],
    ]
    optParameters: ClassVar[list[list[Any]]] = [
        ["syslog", None, "no", "Log to syslog: no, yes (as well as to the file), or only."],
    ]

    def postOptions(self) -> None:
        """Refuse values that are none of those listed."""
        if self["syslog"] not in ("no", "yes", "only"):
            raise usage.UsageError(f"--syslog is no, yes or only, not {self['syslog']!r}")

    @property
    def paths(self) -> Paths:
        """Files of the node this daemon runs on."""
        return Paths(os.environ.get(ROOT_VARIABLE, ""))


class NetworkOptions(DaemonOptions):
    """Options of daemons that listen on the network."""

    optParameters: ClassVar[list[list[Any]]] = [
        [
            "bind",
            "b",
            None,
            "Address to listen on, or several: A,B; default: all, of the cluster's IP version.",
        ],
        ["port", "p", None, "Port to listen on", port_number],
    ]

    def postOptions(self) -> None:
        """Refuse what is no address."""
        super().postOptions()
        for address in self["bind"].split(",") if self["bind"] else ():
            try:
                ipaddress.ip_address(address)
            except ValueError:
                raise usage.UsageError(f"--bind takes IP addresses, and {address!r} is none") from None

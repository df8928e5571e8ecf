"""IP networks with a pool of addresses."""

from __future__ import annotations

import msgspec

from ganeti.model.ids import NetworkId


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network that instances get addresses from."""

    uuid: NetworkId
    name: str
    network: str
    """IPv4 network in CIDR notation, prefix length 16 to 30."""
    gateway: str | None = None
    network6: str | None = None
    gateway6: str | None = None
    mac_prefix: str | None = None
    reservations: str = ""
    """One character for each address, `1` where an instance uses it."""
    ext_reservations: str = ""
    """The same, for addresses that something else uses."""
    tags: tuple[str, ...] = ()
    serial_no: int = 1
    ctime: float = 0.0
    mtime: float = 0.0

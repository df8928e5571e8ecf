"""Parcels: what the master signs, so that one node may pass it on to others (docs/adr/0007)."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from ganeti.model.calls.base import Duration, NodeCall
from ganeti.model.calls.system import WriteSsconf
from ganeti.model.ids import NodeId

MAX_PARCEL_BYTES = 8 * 2**20
"""Longer ones are not taken from other nodes: what they send is kept in memory while it arrives."""


class Parcel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of a parcel. There is only this kind: nothing else may come from another node."""

    cluster_uuid: str
    write: WriteSsconf


class SignedParcel(msgspec.Struct, frozen=True, kw_only=True):
    """A parcel as it travels."""

    body: msgspec.Raw
    """JSON of a `Parcel`, byte for byte as it was signed."""
    certificate: str
    """Of the master that signed; PEM."""
    signature: bytes


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A node to which a parcel is to be brought."""

    uuid: NodeId
    name: str
    primary_ip: str


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a parcel at one node, as the node says that brought it."""

    node: NodeId
    receipts: tuple[str, ...] = ()
    """What the node gave for it: one for each connection that it has with a master."""
    problem: str | None = None
    """Why it does not have it."""


class SpreadParcel(NodeCall[tuple[Delivery, ...]], frozen=True, kw_only=True, tag="spread_parcel"):
    """Take a parcel, and bring it to others; nobody is waited for longer than `within_s`."""

    duration: ClassVar[Duration] = Duration.URGENT
    inline: ClassVar[bool] = True
    parcel: SignedParcel
    neighbours: tuple[Neighbour, ...]
    within_s: float

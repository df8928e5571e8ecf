"""Calls that copy the content of a disk from one node to another (operations.md section 5.4).

The receiving node listens, the sending one connects; no byte of a disk passes the master. A transfer
is about one disk, between two nodes that are named, with a token that is used once.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import msgspec

from ganeti.model.calls.base import Duration, NodeCall
from ganeti.model.disk import Disk
from ganeti.model.ids import NodeId

UNCOMPRESSED = "none"
COPY_LEVELS: Mapping[str, int] = MappingProxyType(
    {UNCOMPRESSED: 0, "gzip": 1, "gzip-fast": 1, "gzip-slow": 6}
)
"""Ways to compress a copy on its way, and how hard that tries."""


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """What one end says of a copy; both ends have to say the same."""

    size: int
    """Bytes of the content, those that are zero included."""
    digest: str
    """SHA-256 of every block that is not zero with its place: equal digests mean equal contents."""
    carried: int = 0
    """Bytes of the blocks that are not zero."""

    def matches(self, other: Copied) -> bool:
        """Whether both ends have the same content."""
        return (self.size, self.digest) == (other.size, other.digest)


class DiskReceive(NodeCall[Copied], frozen=True, kw_only=True, tag="disk_receive"):
    """Listen for one node, and write what it sends into a disk that was just created here."""

    duration: ClassVar[Duration] = Duration.DAY
    transfer: str
    """A UUID; `TransferEndpoint` asks with it."""
    token: str
    disk: Disk
    source: NodeId
    """The only node that may connect."""
    address: str
    """Where to listen, an address of this node."""


class TransferEndpoint(NodeCall[str], frozen=True, kw_only=True, tag="disk_transfer_endpoint"):
    """Where the receiving end of a transfer listens; waits a moment until it does."""

    duration: ClassVar[Duration] = Duration.URGENT
    transfer: str


class DiskSend(NodeCall[Copied], frozen=True, kw_only=True, tag="disk_send"):
    """Send the content of a disk that nobody writes to."""

    duration: ClassVar[Duration] = Duration.DAY
    token: str
    disk: Disk
    target: NodeId
    """The only node that gets it."""
    endpoint: str
    """What `TransferEndpoint` gave there."""
    compress: str = UNCOMPRESSED

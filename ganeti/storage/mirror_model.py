"""The rules of a mirrored disk as a pure model, for fakes: who may be primary, who lacks data, how long
a copy takes.

A mirror has an end on each node that has data of it; usually two, three while one is being replaced. Two
ends are connected when each is open and looks for the other. An end that is primary without being
connected leaves the others behind; they get what they lack once they are connected again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from ganeti.errors import BlockDeviceError
from ganeti.model.calls.disks import LocalData, SyncStatus


class End(msgspec.Struct, frozen=True, kw_only=True):
    """A mirrored disk on one node."""

    behind_mib: int
    """How much of the newest data it lacks."""
    is_attached: bool = True
    """Uses data of its own, not only that of the other end."""
    is_open: bool = False
    is_primary: bool = False
    peer: str | None = None
    """The end it looks for; None: it stands alone."""
    allows_two: bool = False
    """Both may be primary."""
    copying_since: float | None = None
    """When the copy of what it lacks began."""


class Mirror(msgspec.Struct, frozen=True, kw_only=True):
    """A mirrored disk on all nodes that have data of it."""

    size_mib: int
    ends: Mapping[str, End] = {}


class MirrorModel:
    """A mirror at one moment; methods change `mirror`, and refuse what the rules forbid.

    Args:
        mirror: as it was left.
        now: seconds.
        rate_mib_s: how fast it copies.
        is_alive: whether a node is up; what is open on one that is not, is not open any more.
    """

    def __init__(
        self, mirror: Mirror, *, now: float, rate_mib_s: float, is_alive: Callable[[str], bool]
    ) -> None:
        self.mirror = mirror
        self._now = now
        self._rate_mib_s = rate_mib_s
        for node, end in mirror.ends.items():
            if end.is_open and not is_alive(node):
                self._put(node, replace(end, is_open=False, is_primary=False, peer=None))
        self._settle()

    def create(self, node: str, *, has_newest: bool) -> None:
        """A new end; without the newest data it lacks everything."""
        if node in self.mirror.ends:
            raise BlockDeviceError("there is data of this mirrored disk already")
        self._put(node, End(behind_mib=0 if has_newest else self.mirror.size_mib))

    def remove(self, node: str) -> None:
        """Forget an end."""
        end = self.mirror.ends.get(node)
        if end is None:
            return
        if end.is_open:
            raise BlockDeviceError("the mirrored disk is in use")
        ends = {name: other for name, other in self.mirror.ends.items() if name != node}
        self.mirror = replace(self.mirror, ends=ends)

    def open(self, node: str, peer: str | None, *, as_primary: bool) -> None:
        """Open an end and let it look for the other one, unless it is open: then only the role changes."""
        end = self._end(node)
        if not end.is_open or end.peer is None:
            end = replace(end, is_open=True, peer=peer, allows_two=False)
        self._put(node, replace(end, is_primary=end.is_primary and as_primary))
        self._settle()
        if as_primary:
            self._promote(node)
        self._settle()

    def close(self, node: str) -> None:
        """Close an end; nothing happens where there is none."""
        end = self.mirror.ends.get(node)
        if end is not None:
            self._put(node, replace(end, is_open=False, is_primary=False, peer=None))
            self._settle()

    def connect(self, node: str, peer: str | None, *, two_primaries: bool) -> None:
        """Let an end look for the other one."""
        end = self._end(node)
        other = self.mirror.ends.get(peer or "")
        if end.is_primary and not two_primaries and other is not None and other.is_primary:
            raise BlockDeviceError("both ends are primary; one of them has to become secondary first")
        self._put(node, replace(end, is_open=True, peer=peer, allows_two=two_primaries))
        self._settle()

    def disconnect(self, node: str) -> None:
        """Let an end stand alone."""
        end = self.mirror.ends.get(node)
        if end is not None and end.is_open:
            self._put(node, replace(end, peer=None))
            self._settle()

    def detach(self, node: str) -> None:
        """Let an end go on without data of its own."""
        end = self._end(node)
        if end.is_attached and end.is_primary and self._source(node) is None:
            raise BlockDeviceError("the other end has no good data")
        self._put(node, replace(end, is_attached=False, behind_mib=self.mirror.size_mib, copying_since=None))
        self._settle()

    def attach(self, node: str) -> None:
        """Let an end use new, empty data of its own."""
        end = self._end(node)
        if not end.is_attached:
            self._put(node, replace(end, is_attached=True, behind_mib=self.mirror.size_mib))
            self._settle()

    def status(self, node: str) -> SyncStatus | None:
        """State of an end; None if it is not open."""
        end = self.mirror.ends.get(node)
        if end is None or not end.is_open:
            return None
        other = self._connected(node)
        copying = next((one for one in (end, other) if one and one.copying_since is not None), None)
        percent = None if copying is None else self._percent(copying)
        rest_mib = 0.0 if copying is None else copying.behind_mib * (1 - (percent or 0.0) / 100)
        ends = (end, other)
        return SyncStatus(
            is_degraded=any(one is None or not one.is_attached or one.behind_mib > 0 for one in ends),
            is_connected=other is not None,
            is_primary=end.is_primary,
            sync_percent=percent,
            estimated_time=None if copying is None else rest_mib / self._rate_mib_s,
            ldisk_status=_local(end),
        )

    # --- rules

    def _promote(self, node: str) -> None:
        end = self._end(node)
        if end.is_primary:
            return
        if (end.behind_mib or not end.is_attached) and self._source(node) is None:
            raise BlockDeviceError("this end does not have the newest data, and does not reach one that has")
        other = self._connected(node)
        allowed = end.allows_two and other is not None and other.allows_two
        if not allowed and any(one.is_primary for name, one in self.mirror.ends.items() if name != node):
            raise BlockDeviceError("the other end is primary")
        self._put(node, replace(end, is_primary=True))

    def _settle(self) -> None:
        """Let copies end and begin, and those fall behind that do not reach the primary."""
        for node, end in self.mirror.ends.items():
            if end.copying_since is not None and self._percent(end) >= 100.0 and self._source(node):
                self._put(node, replace(end, behind_mib=0, copying_since=None))
        for node, end in self.mirror.ends.items():
            can_copy = end.behind_mib > 0 and end.is_attached and self._source(node) is not None
            since = (end.copying_since if end.copying_since is not None else self._now) if can_copy else None
            self._put(node, replace(end, copying_since=since))
        for node, end in self.mirror.ends.items():
            if end.is_primary:
                self._leave_behind(node)

    def _leave_behind(self, primary: str) -> None:
        reached = self.mirror.ends[primary].peer if self._connected(primary) is not None else None
        for node, end in self.mirror.ends.items():
            if node not in (primary, reached) and not end.behind_mib:
                self._put(node, replace(end, behind_mib=1))

    def _connected(self, node: str) -> End | None:
        """The other end, if both are open and look for each other in the same mode."""
        end = self.mirror.ends[node]
        other = self.mirror.ends.get(end.peer or "")
        if other is None or not end.is_open or not other.is_open or other.peer != node:
            return None
        return other if other.allows_two is end.allows_two else None

    def _source(self, node: str) -> End | None:
        """The other end, if it is connected and has the newest data."""
        other = self._connected(node)
        return other if other is not None and other.is_attached and not other.behind_mib else None

    def _percent(self, end: End) -> float:
        if end.copying_since is None:
            return 0.0
        done = (self._now - end.copying_since) * self._rate_mib_s
        return min(100.0, 100.0 * done / max(end.behind_mib, 1))

    def _end(self, node: str) -> End:
        end = self.mirror.ends.get(node)
        if end is None:
            raise BlockDeviceError("this node has no data of the mirrored disk")
        return end

    def _put(self, node: str, end: End) -> None:
        self.mirror = replace(self.mirror, ends={**self.mirror.ends, node: end})


def _local(end: End) -> LocalData:
    if not end.is_attached:
        return LocalData.FAULTY
    return LocalData.SYNCING if end.behind_mib else LocalData.OKAY

"""What an operation asks to be locked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import ClassVar

import msgspec


class LockLevel(IntEnum):
    """Levels in the one order in which locks may be acquired (locking.md section 1)."""

    CLUSTER = 0
    INSTANCE = 1
    NODEGROUP = 2
    NODE = 3
    NODE_RES = 4
    NETWORK = 5

    @property
    def prefix(self) -> str:
        """Start of the names of this level's locks in lists: `node-res/`."""
        return self.name.lower().replace("_", "-")


class LockMode(IntEnum):
    """How a lock is held."""

    EXCLUSIVE = 0
    SHARED = 1


BGL = "BGL"
"""Name of the one lock of the cluster level; every operation takes it, nearly all shared."""

PRIORITY_HIGHEST = -20
PRIORITY_LOWEST = 19
PRIORITY_HIGH = -10
PRIORITY_NORMAL = 0
PRIORITY_LOW = 10
SUBMIT_PRIORITIES = (PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_LOW)
"""The one scale of priorities, for jobs, workers and locks alike (SX-002); lower runs first."""


class LockRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Locks of one level."""

    names: frozenset[str] | None
    """Names (instance names; UUIDs on the other levels), or None for the whole level."""
    mode: LockMode = LockMode.EXCLUSIVE
    opportunistic: bool = False
    """Take those that are free at once; none is waited for."""

    @property
    def is_all(self) -> bool:
        """Whether the whole level is asked for."""
        return self.names is None


class LockPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one operation wants locked.

    The BGL is always taken, shared unless `exclusive_cluster`. `add` names objects that are about
    to be created: their locks are made, held exclusively, and vanish again at the end unless the
    object then exists.
    """

    requests: Mapping[LockLevel, LockRequest] = {}
    add: Mapping[LockLevel, frozenset[str]] = {}
    exclusive_cluster: bool = False

    NOTHING: ClassVar[LockPlan]

    def covers(self, other: LockPlan) -> bool:
        """Whether whoever holds this plan holds all that another one asks for."""
        if other.exclusive_cluster and not self.exclusive_cluster:
            return False
        for level, names in other.add.items():
            if not names <= self.add.get(level, frozenset()):
                return False
        return all(self._covers_level(level, wanted) for level, wanted in other.requests.items())

    def merged(self, other: LockPlan) -> LockPlan:
        """The smallest plan that covers both."""
        requests = dict(self.requests)
        for level, wanted in other.requests.items():
            own = requests.get(level)
            requests[level] = wanted if own is None else _wider(own, wanted)
        add = {
            level: self.add.get(level, frozenset()) | other.add.get(level, frozenset())
            for level in {*self.add, *other.add}
        }
        return LockPlan(
            requests=requests,
            add=add,
            exclusive_cluster=self.exclusive_cluster or other.exclusive_cluster,
        )

    def _covers_level(self, level: LockLevel, wanted: LockRequest) -> bool:
        own = self.requests.get(level)
        if own is None:
            return wanted.names is not None and wanted.names <= self.add.get(level, frozenset())
        if own.opportunistic and not wanted.opportunistic:
            return False
        if wanted.mode is LockMode.EXCLUSIVE and own.mode is LockMode.SHARED:
            return False
        if own.names is None:
            return True
        return wanted.names is not None and wanted.names <= own.names | self.add.get(level, frozenset())


LockPlan.NOTHING = LockPlan()


def exclusive(names: Iterable[str]) -> LockRequest:
    """These locks, exclusively."""
    return LockRequest(names=frozenset(names))


def shared(names: Iterable[str]) -> LockRequest:
    """These locks, shared."""
    return LockRequest(names=frozenset(names), mode=LockMode.SHARED)


def all_of_level(mode: LockMode, *, opportunistic: bool = False) -> LockRequest:
    """A whole level."""
    return LockRequest(names=None, mode=mode, opportunistic=opportunistic)


def _wider(one: LockRequest, other: LockRequest) -> LockRequest:
    names = None if one.names is None or other.names is None else one.names | other.names
    return LockRequest(
        names=names,
        mode=min(one.mode, other.mode),
        opportunistic=one.opportunistic and other.opportunistic,
    )

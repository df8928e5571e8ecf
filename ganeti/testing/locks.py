"""Locks for tests: the real ones on a test clock, a recorder of what is done with them, and a driver.

There is no second implementation: `LockManager` on a `task.Clock` needs nothing of this machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic

import msgspec

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from zope.interface import implementer

from ganeti.interfaces import IHeld, ILocks
from ganeti.logic.lock_queue import Waiting
from ganeti.logic.lock_steps import R, Steps
from ganeti.master.lock_manager import LockManager
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockPlan


def locks_of(cluster: Cluster, reactor: IReactorTime | None = None) -> LockManager:
    """The locks of a cluster, all free; without a reactor nothing ever times out."""
    locks = LockManager(Clock() if reactor is None else reactor)
    locks.populate(cluster)
    return locks


def locks_with(
    members: Mapping[LockLevel, Iterable[str]], reactor: IReactorTime | None = None
) -> LockManager:
    """Locks with these members, all free; without a reactor nothing ever times out."""
    locks = LockManager(Clock() if reactor is None else reactor)
    for level, names in members.items():
        locks.add(level, names)
    return locks


class LockEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an owner did with what it holds."""

    what: str
    """`acquire`, `release`, `downgrade`, `keep_added`, `forget` or `close`."""
    owner: str
    level: LockLevel | None = None
    names: frozenset[str] | None = None
    """None: the whole level."""


@implementer(ILocks)
class RecordingLocks:
    """Passes everything on to other locks and remembers it.

    Args:
        locks: do the work.
    """

    def __init__(self, locks: ILocks) -> None:
        self._locks = locks
        self.plans: list[LockPlan] = []
        """Plans that were granted, in order."""
        self.events: list[LockEvent] = []

    def held(
        self, plan: LockPlan, *, owner: str, priority: int, timeout_s: float | None
    ) -> AbstractAsyncContextManager[IHeld]:
        """As the locks behind it."""
        inner = self._locks.held(plan, owner=owner, priority=priority, timeout_s=timeout_s)
        return _RecordedContext(self, inner, plan, owner)

    def pending(self) -> Sequence[Mapping[str, Any]]:
        """As the locks behind it."""
        return self._locks.pending()

    def nodes_held(self) -> frozenset[str]:
        """UUIDs of nodes that somebody has locked now."""
        rows = (row for row in self.pending() if row["owner"])
        kind = f"{LockLevel.NODE.prefix}/"
        return frozenset(row["name"].removeprefix(kind) for row in rows if row["name"].startswith(kind)) - {
            "[lockset]"
        }

    def change_priority(self, owner: str, priority: int) -> bool:
        """As the locks behind it."""
        return self._locks.change_priority(owner, priority)


class _RecordedContext(AbstractAsyncContextManager[IHeld]):
    def __init__(
        self, log: RecordingLocks, inner: AbstractAsyncContextManager[IHeld], plan: LockPlan, owner: str
    ) -> None:
        self._log = log
        self._inner = inner
        self._plan = plan
        self._owner = owner

    async def __aenter__(self) -> IHeld:
        held = await self._inner.__aenter__()
        self._log.plans.append(self._plan)
        self._log.events.append(LockEvent(what="acquire", owner=self._owner))
        return _RecordedHeld(self._log.events, held, self._owner)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._log.events.append(LockEvent(what="close", owner=self._owner))
        return await self._inner.__aexit__(exc_type, exc, traceback)


@implementer(IHeld)
class _RecordedHeld:
    def __init__(self, events: list[LockEvent], held: IHeld, owner: str) -> None:
        self._events = events
        self._held = held
        self._owner = owner

    def names(self, level: LockLevel) -> frozenset[str]:
        return self._held.names(level)

    def release(self, level: LockLevel, names: Iterable[str] | None = None) -> None:
        self._held.release(level, self._note("release", level, names))

    def downgrade(self, level: LockLevel, names: Iterable[str] | None = None) -> None:
        self._held.downgrade(level, self._note("downgrade", level, names))

    def keep_added(self, level: LockLevel, names: Iterable[str]) -> None:
        self._held.keep_added(level, self._note("keep_added", level, names) or ())

    def forget(self, level: LockLevel, names: Iterable[str]) -> None:
        self._held.forget(level, self._note("forget", level, names) or ())

    def _note(self, what: str, level: LockLevel, names: Iterable[str] | None) -> frozenset[str] | None:
        chosen = None if names is None else frozenset(names)
        self._events.append(LockEvent(what=what, owner=self._owner, level=level, names=chosen))
        return chosen


class Driven(Generic[R]):
    """Steps of an acquisition, begun at once and resumed by the grants they wait for."""

    def __init__(self, steps: Steps[R]) -> None:
        self._steps = steps
        self.is_over = False
        self.result: R | None = None
        """What they gave; None as long as they wait and if they failed."""
        self.error: Exception | None = None
        self._resume(None)

    def give_up(self) -> None:
        """Want it no more."""
        self._steps.close()
        self.is_over = True

    def _resume(self, _: Waiting | None) -> None:
        try:
            next(self._steps).when_decided(self._resume)
        except StopIteration as stop:
            self.is_over, self.result = True, stop.value
        except Exception as exc:
            self.is_over, self.error = True, exc

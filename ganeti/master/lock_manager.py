"""The locks of the master: `async with locks.held(plan, ...)` over the state machines of `logic`.

What this adds to them is time and coroutines: one Deferred and one timer for each acquisition that
has to wait, whatever the number of locks; none for those that need not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ganeti.errors import LocksNotGranted
from ganeti.interfaces import IHeld, ILocks
from ganeti.logic.lock_queue import Waiting
from ganeti.logic.lock_steps import Claimant, Steps, describe_wait
from ganeti.logic.lock_tree import MEMBER_LEVELS, Holding, LockTree, lock_names
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockPlan

SHORTEST_WAIT_S = 0.001
"""An acquisition with less time than this does not queue at all."""


@implementer(ILocks)
class LockManager:
    """Locks of the cluster; starts without any but the BGL (`populate`).

    Args:
        reactor: gives the time.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._tree = LockTree(self._report)

    def held(
        self, plan: LockPlan, *, owner: str, priority: int, timeout_s: float | None
    ) -> AbstractAsyncContextManager[IHeld]:
        """Acquire a plan level by level; see `ILocks.held`. An owner has one plan at a time."""
        is_patient = timeout_s is None or timeout_s >= SHORTEST_WAIT_S
        held = HeldLocks(self._tree, owner=owner, priority=priority, patient=is_patient)
        return _Acquisition(self._reactor, held, plan, timeout_s)

    def pending(self) -> Sequence[Mapping[str, Any]]:
        """A row `name`, `mode`, `owner`, `pending` for each lock, nice-sorted by name.

        `mode` is `exclusive`, `shared` or None, `owner` a list of job ids or None, `pending` a list
        of `[mode, [job ids]]` in the order of grants or None.
        """
        return self._tree.rows()

    def change_priority(self, owner: str, priority: int) -> bool:
        """Let an owner go on waiting with another priority; says whether it waits at all."""
        return self._tree.change_priority(owner, priority)

    def populate(self, cluster: Cluster) -> None:
        """Make the locks of all objects of a cluster; for start-up."""
        names = lock_names(cluster)
        for level in MEMBER_LEVELS:
            self._tree.add(level, names[level])

    def members(self, level: LockLevel) -> frozenset[str]:
        """Names of the locks of a level."""
        return self._tree.members(level)

    def add(self, level: LockLevel, names: Iterable[str]) -> None:
        """Make locks for objects that came into being without an operation.

        Raises:
            LocksNotGranted: somebody has the whole level.
        """
        self._tree.add(level, names)

    def remove(self, level: LockLevel, names: Iterable[str]) -> None:
        """Delete locks of objects that went without an operation.

        Raises:
            LocksNotGranted: somebody has one of them.
        """
        self._tree.remove(level, names)

    def _report(self, error: Exception) -> None:
        self._log.failure("a job broke when it was granted a lock", failure=Failure(error))


@implementer(IHeld)
class HeldLocks(Holding):
    """What one job holds."""


class _Acquisition(AbstractAsyncContextManager[IHeld]):
    """The context in which a plan is held."""

    def __init__(
        self, reactor: IReactorTime, held: HeldLocks, plan: LockPlan, timeout_s: float | None
    ) -> None:
        self._reactor = reactor
        self._held = held
        self._plan = plan
        self._timeout_s = timeout_s

    async def __aenter__(self) -> IHeld:
        steps = self._held.acquire(self._plan)
        waiting = next(steps, None)
        if waiting is not None:
            await _Wait(self._reactor, self._held.claimant, steps, waiting, self._timeout_s).over
        return self._held

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held.close()


class _Wait:
    """Drives the steps of an acquisition from grant to grant.

    `over` fires when everything is held. It fails with `LocksNotGranted` when the time is over and
    may be cancelled; in both cases and in that of any other error nothing is held or queued.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        claimant: Claimant,
        steps: Steps[None],
        waiting: Waiting,
        timeout_s: float | None,
    ) -> None:
        self.over: Deferred[None] = Deferred(lambda _: self._stop())
        self._claimant = claimant
        self._steps = steps
        self._timeout_s = timeout_s
        self._timer: IDelayedCall | None = None
        if timeout_s is not None:
            self._timer = reactor.callLater(timeout_s, self._expire)
        waiting.when_decided(self._resume)

    def _resume(self, _: Waiting) -> None:
        try:
            waiting = next(self._steps, None)
        except Exception as exc:
            self._stop()
            self.over.errback(exc)
            return
        if waiting is not None:
            waiting.when_decided(self._resume)
            return
        self._stop()
        self.over.callback(None)

    def _expire(self) -> None:
        self._timer = None
        waiting = self._claimant.waiting
        assert waiting is not None
        reason = describe_wait(waiting.lock, self._claimant, f"within {self._timeout_s:g} s")
        self._stop()
        self.over.errback(LocksNotGranted(reason))

    def _stop(self) -> None:
        """Give back what an acquisition that is not complete has; end the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._steps.close()

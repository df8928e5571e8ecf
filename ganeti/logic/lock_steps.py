"""Acquisitions of several locks as steps that whoever has a clock and callbacks drives.

Such an acquisition is a generator. It yields the handle of each request that has to wait and is
resumed when that has been granted or refused; where nothing is in the way it ends without yielding.
Closing it at any moment gives everything back: that is how time-outs and cancellation work.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable
from typing import TypeVar

from ganeti.errors import LockError, LocksNotGranted, ProgrammerError
from ganeti.logic.lock_queue import Waiting, WaitState
from ganeti.logic.shared_lock import SharedLock
from ganeti.model.locks import LockMode

R = TypeVar("R")
Steps = Generator[Waiting, None, R]

_SHOWN_OWNERS = 5


class Claimant:
    """Who acquires, how urgently, and whether they are ready to wait.

    Args:
        owner: whom the locks belong to then.
        priority: lower is served first; may change while waiting.
        patient: False: where a lock is not free, `LocksNotGranted` is raised and nothing is queued.
    """

    __slots__ = ("owner", "patient", "priority", "waiting")

    def __init__(self, owner: Hashable, *, priority: int = 0, patient: bool = True) -> None:
        self.owner = owner
        self.priority = priority
        self.patient = patient
        self.waiting: Waiting | None = None
        """What is waited for at this moment."""

    def change_priority(self, priority: int) -> bool:
        """Wait with another priority from now on; says whether something is waited for."""
        self.priority = priority
        return self.waiting is not None and self.waiting.lock.change_priority(self.waiting, priority)


def request(lock: SharedLock, claimant: Claimant, mode: LockMode) -> Waiting | None:
    """Ask for one lock: None if it was free, else what to wait for.

    Raises:
        LocksNotGranted: it is not free and the claimant is not patient.
    """
    if claimant.patient:
        return lock.acquire(claimant.owner, mode, priority=claimant.priority)
    if not lock.try_acquire(claimant.owner, mode):
        raise LocksNotGranted(describe_wait(lock, claimant, "at once"))
    return None


def wait_for(claimant: Claimant, waiting: Waiting) -> Steps[None]:
    """Wait until a request is decided.

    Raises:
        LockError: the lock was deleted meanwhile.
    """
    claimant.waiting = waiting
    try:
        yield waiting
    except BaseException:
        waiting.give_up()
        raise
    finally:
        claimant.waiting = None
    if waiting.state is not WaitState.GRANTED:
        raise LockError(
            f"lock {waiting.lock.name} is gone: its object was removed while this job waited for it"
        )


def obtain(lock: SharedLock, claimant: Claimant, mode: LockMode) -> Steps[None]:
    """Acquire one lock; raises as `request` and `wait_for`."""
    waiting = request(lock, claimant, mode)
    if waiting is not None:
        yield from wait_for(claimant, waiting)


def delete(lock: SharedLock, claimant: Claimant) -> Steps[None]:
    """Delete one lock, acquiring it exclusively first unless that is so; raises as `obtain`.

    Everybody else who waits for it, and who comes later, gets `LockError`.

    Raises:
        ProgrammerError: the owner shares it.
    """
    if not lock.is_owned(claimant.owner, LockMode.EXCLUSIVE):
        yield from obtain(lock, claimant, LockMode.EXCLUSIVE)
    lock.delete(claimant.owner)


def run_at_once(steps: Steps[R]) -> R:
    """Drive steps that cannot have to wait, and give their result.

    Raises:
        ProgrammerError: they have to wait; everything was given back.
    """
    try:
        waiting = next(steps)
    except StopIteration as stop:
        result: R = stop.value
        return result
    steps.close()
    raise ProgrammerError(f"lock {waiting.lock.name} had to be free")


def describe_wait(lock: SharedLock, claimant: Claimant, how_long: str) -> str:
    """Message for a lock that was not granted: which, and who is in the way."""
    info = lock.info()
    ahead = [*info.owners, *(owner for _, owners in info.pending for owner in owners)]
    others = [owner for owner in dict.fromkeys(ahead) if owner != str(claimant.owner)]
    shown = ", ".join(others[:_SHOWN_OWNERS])
    more = len(others) - _SHOWN_OWNERS
    tail = f" and {more} more" if more > 0 else ""
    return f"lock {lock.name} was not free {how_long}; before {claimant.owner} come {shown}{tail}"

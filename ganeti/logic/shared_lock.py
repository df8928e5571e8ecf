"""One lock that is held by one owner exclusively or by several together.

A state machine without clock, thread or Deferred. What cannot be granted at once is a `Waiting`,
told by callback later. A new request never overtakes those that wait, whatever its mode, so that
exclusive ones do not starve. Owners are any hashable values except None.

When something is granted to those who wait:

* the lock becomes free: the next entry of the queue;
* the exclusive holder downgrades: the shared entry of the most urgent priority, even if exclusive
  requests of that priority stand before it;
* the entry at the head of the queue is given up: the one after it, if it goes with the holders.

It is one entry each time. So shared requests of another priority wait until the present sharers
have all let go.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

import msgspec

from ganeti.errors import LockError, ProgrammerError
from ganeti.logic.lock_queue import LockQueue, QueueEntry, Waiting, WaitState
from ganeti.logic.trampoline import Trampoline
from ganeti.model.locks import LockMode

_DELETED: Final = object()
"""Exclusive holder of deleted locks: keeps the check for them off the path of free locks."""


class LockInfo(msgspec.Struct, frozen=True, kw_only=True):
    """State of a lock as `gnt-debug locks` shows it."""

    name: str
    mode: str | None
    """`exclusive`, `shared`, `deleted`, or None if nobody holds it."""
    owners: tuple[str, ...]
    pending: tuple[tuple[str, tuple[str, ...]], ...]
    """Mode and owners of each entry of the queue, in the order of grants."""


class SharedLock:
    """A shared/exclusive lock with priorities.

    Args:
        name: for lists and messages: `instance/web1.example.com`.
        trampoline: makes the callbacks; one for all locks that belong together.
    """

    __slots__ = ("_exclusive", "_queue", "_sharers", "_trampoline", "name")

    def __init__(self, name: str, trampoline: Trampoline) -> None:
        self.name = name
        self._trampoline = trampoline
        self._exclusive: Hashable = None
        self._sharers: dict[Hashable, None] | None = None
        # None exactly if nobody waits.
        self._queue: LockQueue | None = None

    def acquire(self, owner: Hashable, mode: LockMode, *, priority: int = 0) -> Waiting | None:
        """Get the lock at once (None), or get in the queue for it.

        Raises:
            LockError: the lock was deleted.
            ProgrammerError: the owner has it already.
        """
        if self.try_acquire(owner, mode):
            return None
        return self._enqueue(Waiting(self, owner, mode, priority))

    def try_acquire(self, owner: Hashable, mode: LockMode) -> bool:
        """Get the lock if it can be had at once; never queues. Raises as `acquire`."""
        if self._queue is None and self._exclusive is None:
            sharers = self._sharers
            if mode is LockMode.SHARED:
                if sharers is None:
                    self._sharers = {owner: None}
                    return True
                if owner not in sharers:
                    sharers[owner] = None
                    return True
            elif not sharers:
                self._exclusive = owner
                return True
        self._refuse_deleted()
        if self.is_owned(owner):
            raise ProgrammerError(f"{owner} acquires lock {self.name} a second time")
        return False

    def release(self, owner: Hashable) -> None:
        """Let go.

        Raises:
            ProgrammerError: the owner does not have it.
        """
        sharers = self._sharers
        if sharers and owner in sharers:
            del sharers[owner]
            if sharers:
                return
        elif self._exclusive is not None and self._exclusive == owner:
            self._exclusive = None
        else:
            raise self._not_owned(owner)
        if self._queue is not None:
            self._grant_next()

    def downgrade(self, owner: Hashable) -> None:
        """Go from exclusive to shared; nothing happens to who shares already. Raises as `release`."""
        if self.is_owned(owner, LockMode.SHARED):
            return
        if not self.is_owned(owner):
            raise self._not_owned(owner)
        self._exclusive = None
        self._sharers = {owner: None}
        entry = None if self._queue is None else self._queue.pop_shared()
        if entry is not None:
            self._grant(entry)

    def delete(self, owner: Hashable) -> None:
        """Delete the lock, which the owner has exclusively.

        Everybody who waits is refused, and so is everybody who comes later; nobody holds it.

        Raises:
            ProgrammerError: the owner shares it or does not have it.
        """
        if not self.is_owned(owner, LockMode.EXCLUSIVE):
            raise ProgrammerError(f"{owner} deletes lock {self.name} without holding it exclusively")
        refused = [] if self._queue is None else [w for e in self._queue.entries() for w in e.members]
        self._exclusive, self._sharers, self._queue = _DELETED, None, None
        for waiting in refused:
            waiting.state = WaitState.REFUSED
            waiting.entry = None
        self._trampoline.call_all(Waiting.tell, refused)

    def cancel(self, waiting: Waiting) -> bool:
        """Take a request out of the queue; False if it does not wait any more."""
        if waiting.state is not WaitState.WAITING:
            return False
        waiting.state = WaitState.CANCELLED
        self._dequeue(waiting)
        return True

    def change_priority(self, waiting: Waiting, priority: int) -> bool:
        """Queue a waiting request anew with another priority; False if it does not wait any more."""
        if waiting.state is not WaitState.WAITING:
            return False
        if waiting.priority != priority:
            self._dequeue(waiting, again_with=priority)
        return True

    @property
    def is_deleted(self) -> bool:
        """Whether the lock is gone for good."""
        return self._exclusive is _DELETED

    def is_owned(self, owner: Hashable, mode: LockMode | None = None) -> bool:
        """Whether the owner has the lock, in this mode or (None) in any."""
        exclusively = self._exclusive is not None and self._exclusive == owner
        shared = bool(self._sharers) and self._sharers is not None and owner in self._sharers
        if mode is None:
            return exclusively or shared
        return shared if mode is LockMode.SHARED else exclusively

    def info(self) -> LockInfo:
        """What lists show; owners appear as their text."""
        queue = () if self._queue is None else tuple(self._queue.entries())
        pending = tuple(
            (entry.mode.name.lower(), tuple(str(w.owner) for w in entry.members)) for entry in queue
        )
        mode, owners = self._mode_and_owners()
        return LockInfo(name=self.name, mode=mode, owners=owners, pending=pending)

    def _mode_and_owners(self) -> tuple[str | None, tuple[str, ...]]:
        if self.is_deleted:
            return "deleted", ()
        if self._exclusive is not None:
            return "exclusive", (str(self._exclusive),)
        if self._sharers:
            return "shared", tuple(map(str, self._sharers))
        return None, ()

    def _enqueue(self, waiting: Waiting) -> Waiting:
        queue = self._queue or LockQueue()
        queue.append(waiting)
        self._queue = queue
        return waiting

    def _dequeue(self, waiting: Waiting, *, again_with: int | None = None) -> None:
        queue = self._queue
        assert queue is not None
        head_left = queue.remove(waiting)
        if again_with is not None:
            waiting.priority = again_with
            queue.append(waiting)
        if not queue:
            self._queue = None
        elif head_left:
            self._grant_next()

    def _grant_next(self) -> None:
        assert self._queue is not None
        if self._exclusive is not None:
            return
        if self._sharers and self._queue.next_entry().mode is LockMode.EXCLUSIVE:
            return
        self._grant(self._queue.pop())

    def _grant(self, entry: QueueEntry) -> None:
        if not self._queue:
            self._queue = None
        for waiting in entry.members:
            waiting.state = WaitState.GRANTED
            waiting.entry = None
        granted = list(entry.members)
        if entry.mode is LockMode.EXCLUSIVE:
            self._exclusive = granted[0].owner
        else:
            self._sharers = self._sharers or {}
            self._sharers.update((waiting.owner, None) for waiting in granted)
        self._trampoline.call_all(Waiting.tell, granted)

    def _refuse_deleted(self) -> None:
        if self.is_deleted:
            raise LockError(
                f"lock {self.name} is gone: its object was removed or renamed; check what exists now"
            )

    def _not_owned(self, owner: Hashable) -> ProgrammerError:
        return ProgrammerError(f"{owner} does not hold lock {self.name}")

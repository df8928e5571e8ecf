"""Who waits for a lock, and in which order they get it.

The order is that of a heap of priorities with a list for each. An exclusive request is an entry of
its own; a shared one joins the shared entry of its priority that still waits, if there is one, and
is then granted together with it, before exclusive ones that were queued in between.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from enum import Enum
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from ganeti.model.locks import LockMode

if TYPE_CHECKING:
    from ganeti.logic.shared_lock import SharedLock


class WaitState(Enum):
    """What became of a request that had to wait."""

    WAITING = "waiting"
    GRANTED = "granted"
    REFUSED = "refused"
    """The lock was deleted."""
    CANCELLED = "cancelled"


class Waiting:
    """The handle of a request that could not be granted at once."""

    __slots__ = ("_callback", "entry", "lock", "mode", "owner", "priority", "state")

    def __init__(self, lock: SharedLock, owner: Hashable, mode: LockMode, priority: int) -> None:
        self.lock = lock
        self.owner = owner
        self.mode = mode
        self.priority = priority
        self.state = WaitState.WAITING
        self.entry: QueueEntry | None = None
        self._callback: Callable[[Waiting], object] | None = None

    def when_decided(self, callback: Callable[[Waiting], object]) -> None:
        """Call back once, when the request has been granted or refused; never when cancelled.

        To be asked for while the request still waits.
        """
        self._callback = callback

    def tell(self) -> None:
        """Call whoever wanted to know; for the lock's trampoline."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(self)

    def give_up(self) -> None:
        """Want the lock no more: out of the queue, or let go if it was granted but not yet told."""
        self._callback = None
        if not self.lock.cancel(self) and self.state is WaitState.GRANTED:
            self.state = WaitState.CANCELLED
            self.lock.release(self.owner)


class QueueEntry:
    """One exclusive request, or the shared ones that will be granted together."""

    __slots__ = ("members", "mode", "priority")

    def __init__(self, mode: LockMode, priority: int) -> None:
        self.mode = mode
        self.priority = priority
        self.members: dict[Waiting, None] = {}


class LockQueue:
    """Requests in the order in which they will be granted; every operation but `entries` is O(1).

    (That of the heap aside, which holds each priority in use once.) The list at the top of the heap
    is never empty.
    """

    __slots__ = ("_heap", "_lists", "_shared")

    def __init__(self) -> None:
        self._heap: list[int] = []
        # Ordered dictionaries, because entries also leave from the middle.
        self._lists: dict[int, OrderedDict[QueueEntry, None]] = {}
        self._shared: dict[int, QueueEntry] = {}

    def __bool__(self) -> bool:
        return bool(self._heap)

    def append(self, waiting: Waiting) -> None:
        """Queue a request at the place that its priority and mode give it."""
        priority = waiting.priority
        is_shared = waiting.mode is LockMode.SHARED
        entry = self._shared.get(priority) if is_shared else None
        if entry is None:
            entry = QueueEntry(waiting.mode, priority)
            if priority not in self._lists:
                self._lists[priority] = OrderedDict()
                heappush(self._heap, priority)
            self._lists[priority][entry] = None
            if is_shared:
                self._shared[priority] = entry
        entry.members[waiting] = None
        waiting.entry = entry

    def remove(self, waiting: Waiting) -> bool:
        """Take a request out; says whether the entry that was to be granted next is gone by that."""
        entry = waiting.entry
        assert entry is not None
        del entry.members[waiting]
        waiting.entry = None
        if entry.members:
            return False
        was_next = entry is self.next_entry()
        self._drop(entry)
        return was_next

    def next_entry(self) -> QueueEntry:
        """The entry to be granted next; there must be one."""
        return next(iter(self._lists[self._heap[0]]))

    def pop(self) -> QueueEntry:
        """Take out the entry to be granted next; there must be one."""
        entry = self.next_entry()
        self._drop(entry)
        return entry

    def pop_shared(self) -> QueueEntry | None:
        """Take out the shared entry of the most urgent priority, wherever in its list it stands."""
        entry = self._shared.get(self._heap[0]) if self._heap else None
        if entry is not None:
            self._drop(entry)
        return entry

    def entries(self) -> Iterator[QueueEntry]:
        """All entries in the order in which they would be granted."""
        for priority in sorted(self._lists):
            yield from self._lists[priority]

    def _drop(self, entry: QueueEntry) -> None:
        del self._lists[entry.priority][entry]
        if self._shared.get(entry.priority) is entry:
            del self._shared[entry.priority]
        heap = self._heap
        while heap and not self._lists[heap[0]]:
            del self._lists[heappop(heap)]

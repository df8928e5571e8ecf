"""The lock for one name against a model that is nothing but sorted lists, under any sequence of events."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import LockError
from ganeti.logic.lock_queue import Waiting, WaitState
from ganeti.logic.shared_lock import SharedLock
from ganeti.logic.trampoline import Trampoline
from ganeti.model.locks import LockMode

EXCLUSIVE, SHARED = LockMode.EXCLUSIVE, LockMode.SHARED
MODES = st.sampled_from([EXCLUSIVE, SHARED])
PRIORITIES = st.integers(-1, 1)
PICK = st.integers(0, 1000)

Entry = tuple[int, LockMode, list[int]]


class ModelLock:
    """The rules of locking.md section 3 written down with lists only."""

    def __init__(self) -> None:
        self.holders: dict[int, LockMode] = {}
        self.queue: list[Entry] = []

    def fits(self, mode: LockMode) -> bool:
        """Whether a mode goes with the present holders."""
        return not self.holders or (mode is SHARED and EXCLUSIVE not in self.holders.values())

    def acquire(self, owner: int, mode: LockMode, priority: int) -> bool:
        """Grant or queue."""
        if not self.queue and self.fits(mode):
            self.holders[owner] = mode
            return True
        self.enqueue(owner, mode, priority)
        return False

    def enqueue(self, owner: int, mode: LockMode, priority: int) -> None:
        """Join the group that waits, or become the last of the priority."""
        for entry in self.queue:
            if mode is SHARED and entry[:2] == (priority, SHARED):
                entry[2].append(owner)
                return
        self.queue.append((priority, mode, [owner]))
        self.queue.sort(key=lambda entry: entry[0])

    def grant(self, entry: Entry) -> list[int]:
        """Give the lock to an entry."""
        self.queue.remove(entry)
        self.holders.update((owner, entry[1]) for owner in entry[2])
        return entry[2]

    def grant_head(self) -> list[int]:
        """Give the lock to the head if it fits."""
        return self.grant(self.queue[0]) if self.queue and self.fits(self.queue[0][1]) else []

    def release(self, owner: int) -> list[int]:
        """The last holder that goes lets the head in."""
        del self.holders[owner]
        return [] if self.holders else self.grant_head()

    def downgrade(self, owner: int) -> list[int]:
        """The shared group of the top priority joins."""
        if self.holders[owner] is SHARED:
            return []
        self.holders[owner] = SHARED
        for entry in self.queue:
            if entry[:2] == (self.queue[0][0], SHARED):
                return self.grant(entry)
        return []

    def cancel(self, owner: int, again: tuple[LockMode, int] | None = None) -> list[int]:
        """A head that goes lets the next one in."""
        entry = next(entry for entry in self.queue if owner in entry[2])
        was_head = entry is self.queue[0]
        entry[2].remove(owner)
        if not entry[2]:
            self.queue.remove(entry)
        if again is not None:
            self.enqueue(owner, *again)
        return self.grant_head() if was_head and not entry[2] else []


class LockMachine(RuleBasedStateMachine):
    """Owners that acquire, let go, give up, downgrade, change priority and delete at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.next_owner = 0
        self.start()

    @initialize()
    def start(self) -> None:
        """A new lock."""
        self.failures: list[Exception] = []
        self.lock = SharedLock("x", Trampoline(self.failures.append))
        self.model = ModelLock()
        self.waiting: dict[int, Waiting] = {}
        self.told: list[int] = []
        self.expected: list[int] = []

    def tell(self, waiting: Waiting) -> None:
        """Remember a grant or refusal; who is granted exclusively has overtaken nobody of its priority."""
        owner = waiting.owner
        assert isinstance(owner, int)
        self.told.append(owner)
        if waiting.state is WaitState.GRANTED and waiting.mode is EXCLUSIVE:
            same = [other for other in self.waiting.values() if other.priority == waiting.priority]
            assert same[0] is waiting
        del self.waiting[owner]

    @rule(mode=MODES, priority=PRIORITIES, may_wait=st.sampled_from((True, True, True, False)))
    def acquire(self, mode: LockMode, priority: int, may_wait: bool) -> None:
        """A new owner comes."""
        self.next_owner += 1
        owner = self.next_owner
        if not may_wait:
            free = not self.model.queue and self.model.fits(mode)
            assert self.lock.try_acquire(owner, mode) is free
            if free:
                self.model.acquire(owner, mode, priority)
            return
        at_once = self.model.acquire(owner, mode, priority)
        waiting = self.lock.acquire(owner, mode, priority=priority)
        assert (waiting is None) is at_once
        if waiting is not None:
            self.waiting[owner] = waiting
            waiting.when_decided(self.tell)

    @precondition(lambda self: self.model.holders)
    @rule(pick=PICK)
    def release(self, pick: int) -> None:
        """A holder goes."""
        owner = self.pick(list(self.model.holders), pick)
        self.expected += self.model.release(owner)
        self.lock.release(owner)

    @precondition(lambda self: self.model.holders)
    @rule(pick=PICK)
    def downgrade(self, pick: int) -> None:
        """A holder downgrades, exclusive or not."""
        owner = self.pick(list(self.model.holders), pick)
        self.expected += self.model.downgrade(owner)
        self.lock.downgrade(owner)

    @precondition(lambda self: self.waiting)
    @rule(pick=PICK)
    def give_up(self, pick: int) -> None:
        """Somebody who waits is cancelled or out of time."""
        owner = self.pick(list(self.waiting), pick)
        self.expected += self.model.cancel(owner)
        self.waiting.pop(owner).give_up()

    @precondition(lambda self: self.waiting)
    @rule(pick=PICK, priority=PRIORITIES)
    def change_priority(self, pick: int, priority: int) -> None:
        """Somebody who waits gets another priority."""
        owner = self.pick(list(self.waiting), pick)
        waiting = self.waiting[owner]
        if priority != waiting.priority:
            # Those who wait are kept in the order in which they came to their priority.
            self.waiting[owner] = self.waiting.pop(owner)
            self.expected += self.model.cancel(owner, again=(waiting.mode, priority))
        assert self.lock.change_priority(waiting, priority)

    @precondition(lambda self: EXCLUSIVE in self.model.holders.values())
    @rule(really=st.integers(0, 4))
    def delete(self, really: int) -> None:
        """The exclusive holder deletes the lock, now and then; a new one takes its place."""
        if really:
            return
        refused = list(self.waiting.values())
        in_order = [owner for entry in self.model.queue for owner in entry[2]]
        self.lock.delete(next(iter(self.model.holders)))
        assert all(waiting.state is WaitState.REFUSED for waiting in refused)
        assert self.told[len(self.told) - len(in_order) :] == in_order
        try:
            self.lock.acquire(-1, SHARED)
        except LockError:
            self.start()
        else:
            raise AssertionError("a deleted lock was granted")

    @invariant()
    def grants_are_those_of_the_model(self) -> None:
        """The same owners are told in the same order; so nobody is overtaken inside a priority."""
        assert self.told == self.expected
        assert not self.failures

    @invariant()
    def holders_go_together(self) -> None:
        """Never two exclusive owners, nor an exclusive one beside sharers."""
        holders = self.model.holders
        assert all(self.lock.is_owned(owner, mode) for owner, mode in holders.items())
        info = self.lock.info()
        assert sorted(info.owners) == sorted(map(str, holders))
        assert info.mode != "exclusive" or len(info.owners) == 1

    @invariant()
    def no_wake_up_is_lost(self) -> None:
        """Nobody waits for a free lock, and everybody who waits is in the queue once."""
        info = self.lock.info()
        assert info.owners or not info.pending
        queued = [owner for _, owners in info.pending for owner in owners]
        assert sorted(queued) == sorted(map(str, self.waiting))

    def teardown(self) -> None:
        """When all have gone everybody who waited has had the lock."""
        while self.model.holders:
            self.release(0)
        assert not self.waiting
        assert self.lock.info().mode is None

    @staticmethod
    def pick(owners: list[int], at: int) -> int:
        """One of several."""
        return owners[at % len(owners)]


class LockMachineTests(SynchronousTestCase):
    """Runs the machine."""

    def test_any_sequence_of_events(self) -> None:
        """S2.3-118, S2.3-124, S2.3-125: the lock does what the model does, whatever happens when."""
        run_state_machine_as_test(
            LockMachine, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
        )

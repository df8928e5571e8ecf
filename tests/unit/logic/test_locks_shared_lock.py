"""The lock for one name: each row of locking.md section 3, and the worked example of the design."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import LockError, ProgrammerError
from ganeti.logic.lock_queue import LockQueue, Waiting, WaitState
from ganeti.logic.lock_steps import Claimant, delete, run_at_once
from ganeti.logic.shared_lock import LockInfo, SharedLock
from ganeti.logic.trampoline import Trampoline
from ganeti.model.locks import LockMode
from ganeti.testing.locks import Driven

EXCLUSIVE, SHARED = LockMode.EXCLUSIVE, LockMode.SHARED


class LockCase(SynchronousTestCase):
    """A lock, and the owners to whom it was granted after waiting, in order."""

    def setUp(self) -> None:
        self.failures: list[Exception] = []
        self.lock = SharedLock("instance/web1", Trampoline(self.failures.append))
        self.granted: list[str] = []
        self.waiting: dict[str, Waiting] = {}

    def tearDown(self) -> None:
        self.assertEqual(self.failures, [])

    def ask(self, owner: str, priority: int = 0) -> bool:
        """Acquire, shared if the owner's name starts with S; says whether it was granted at once."""
        mode = SHARED if owner.startswith("S") else EXCLUSIVE
        waiting = self.lock.acquire(owner, mode, priority=priority)
        if waiting is None:
            return True
        self.waiting[owner] = waiting
        waiting.when_decided(lambda decided: self.granted.append(str(decided.owner)))
        return False

    def ask_all(self, owners: str, priority: int = 0) -> None:
        """Queue several, one after the other."""
        for owner in owners.split():
            self.assertFalse(self.ask(owner, priority))

    def drain(self, *holders: str) -> list[list[str]]:
        """Release until nobody waits; the groups in which grants were made."""
        groups: list[list[str]] = []
        current = list(holders)
        while current:
            self.granted.clear()
            for owner in current:
                self.lock.release(owner)
            current = list(self.granted)
            if current:
                groups.append(current)
        return groups


class WorkedExampleTests(LockCase):
    """S2.3-127: the queue that the design spells out."""

    def setUp(self) -> None:
        super().setUp()
        self.ask("Eholder")
        self.ask_all("S6 E4 E5", 33)
        self.ask_all("E1 E2 S1 S2 S3", 0)
        self.ask_all("E3", 10)
        self.ask_all("S4 S5", 2)

    def test_order(self) -> None:
        """S2.3-127: grants come in exactly the order of the design."""
        expected = [["E1"], ["E2"], ["S1", "S2", "S3"], ["S4", "S5"], ["E3"], ["S6"], ["E4"], ["E5"]]
        self.assertEqual(self.drain("Eholder"), expected)

    def test_latecomers(self) -> None:
        """S2.3-127: S7 at 33 is granted with S6 before E4; E6 at -5 goes first of all."""
        self.ask_all("S7", 33)
        self.ask_all("E6", -5)
        expected = [
            ["E6"],
            ["E1"],
            ["E2"],
            ["S1", "S2", "S3"],
            ["S4", "S5"],
            ["E3"],
            ["S6", "S7"],
            ["E4"],
            ["E5"],
        ]
        self.assertEqual(self.drain("Eholder"), expected)

    def test_pending_list(self) -> None:
        """S2.3-123: the queue is listed as priorities with their lists in order."""
        exclusive, shared = "exclusive", "shared"
        self.assertEqual(
            self.lock.info().pending,
            (
                (exclusive, ("E1",)),
                (exclusive, ("E2",)),
                (shared, ("S1", "S2", "S3")),
                (shared, ("S4", "S5")),
                (exclusive, ("E3",)),
                (shared, ("S6",)),
                (exclusive, ("E4",)),
                (exclusive, ("E5",)),
            ),
        )

    def test_shared_of_other_priority_wait(self) -> None:
        """S2.3-124: S4 and S5 wait until the last of S1, S2 and S3 lets go."""
        for owner in ("Eholder", "E1", "E2", "S2", "S1"):
            self.lock.release(owner)
        self.assertEqual(self.granted[-3:], ["S1", "S2", "S3"])
        self.lock.release("S3")
        self.assertEqual(self.granted[-2:], ["S4", "S5"])


class AcquireTests(LockCase):
    """Who gets the lock at once, and where in the queue the others go."""

    def test_free_lock(self) -> None:
        """A free lock is given at once, in both modes."""
        self.assertTrue(self.ask("E1"))
        self.lock.release("E1")
        self.assertTrue(self.ask("S1"))
        self.assertTrue(self.ask("S2"))

    def test_compatibility(self) -> None:
        """Exclusive goes with nothing, shared with shared."""
        for holder, wanted, at_once in [
            ("E1", "E2", False),
            ("E1", "S1", False),
            ("S1", "E1", False),
            ("S1", "S2", True),
        ]:
            lock = SharedLock("x", Trampoline(self.failures.append))
            self.lock = lock
            self.ask(holder)
            self.assertEqual(self.ask(wanted), at_once, (holder, wanted))

    def test_no_barging(self) -> None:
        """A shared request does not join the sharers while an exclusive one waits."""
        self.ask("S1")
        self.ask_all("E1 S2")
        self.lock.release("S1")
        self.assertEqual(self.granted, ["E1"])

    def test_urgent_request_does_not_preempt(self) -> None:
        """S2.3-118: a high priority goes before those who wait, not before who holds."""
        self.ask("E1")
        self.ask_all("E2", 10)
        self.ask_all("E3", -20)
        self.assertEqual(self.granted, [])
        self.assertEqual(self.drain("E1"), [["E3"], ["E2"]])

    def test_fifo_within_priority(self) -> None:
        """S2.3-120: a thousand exclusive requests of one priority are served as they came."""
        self.ask("Eholder")
        owners = [f"E{number}" for number in range(1000)]
        self.ask_all(" ".join(owners))
        self.assertEqual(self.drain("Eholder"), [[owner] for owner in owners])

    def test_group_that_was_granted_is_closed(self) -> None:
        """S2.3-125: a shared request after the grant of the group queues behind the exclusive one."""
        self.ask("Eholder")
        self.ask_all("S1 E1 S2")
        self.lock.release("Eholder")
        self.assertEqual(self.granted, ["S1", "S2"])
        self.ask_all("S3")
        self.assertEqual(self.drain("S1", "S2"), [["E1"], ["S3"]])

    def test_zero_time(self) -> None:
        """Without time to wait nothing is queued."""
        self.ask("E1")
        self.assertFalse(self.lock.try_acquire("E2", EXCLUSIVE))
        self.assertEqual(self.lock.info().pending, ())

    def test_reentrance(self) -> None:
        """Acquiring twice is a mistake, in any combination of modes."""
        for first in (EXCLUSIVE, SHARED):
            for second in (EXCLUSIVE, SHARED):
                lock = SharedLock("x", Trampoline(self.failures.append))
                lock.acquire("job", first)
                self.assertRaises(ProgrammerError, lock.acquire, "job", second)

    def test_release_of_others(self) -> None:
        """Letting go of what one does not hold is a mistake, and changes nothing."""
        self.ask("E1")
        self.assertRaises(ProgrammerError, self.lock.release, "E2")
        self.assertTrue(self.lock.is_owned("E1"))

    def test_readers_together(self) -> None:
        """S2.2-017: two readers are inside at the same time, a writer after both."""
        self.ask("S1")
        self.ask("S2")
        self.ask_all("E1")
        self.lock.release("S1")
        self.assertEqual(self.granted, [])
        self.lock.release("S2")
        self.assertEqual(self.granted, ["E1"])


class CancelTests(LockCase):
    """Requests that are given up."""

    def test_cancelled_is_not_granted(self) -> None:
        """A request given up is skipped, and never told anything."""
        self.ask("E1")
        self.ask_all("E2 E3")
        self.assertTrue(self.lock.cancel(self.waiting["E2"]))
        self.lock.release("E1")
        self.assertEqual(self.granted, ["E3"])
        self.assertFalse(self.lock.cancel(self.waiting["E2"]))

    def test_exclusive_head_leaves(self) -> None:
        """The shared group behind an exclusive request given up joins the sharers."""
        self.ask("S1")
        self.ask_all("E1 S2 S3")
        self.lock.cancel(self.waiting["E1"])
        self.assertEqual(self.granted, ["S2", "S3"])

    def test_member_of_a_group_leaves(self) -> None:
        """The rest of a shared group keeps its place."""
        self.ask("Eholder")
        self.ask_all("S1 S2 E1")
        self.lock.cancel(self.waiting["S1"])
        self.ask_all("S3")
        self.assertEqual(self.drain("Eholder"), [["S2", "S3"], ["E1"]])

    def test_group_without_members_is_gone(self) -> None:
        """A later shared request does not get the place of a group that was given up."""
        self.ask("Eholder")
        self.ask_all("S1 E1")
        self.lock.cancel(self.waiting["S1"])
        self.ask_all("S2")
        self.assertEqual(self.drain("Eholder"), [["E1"], ["S2"]])

    def test_granted_but_not_told(self) -> None:
        """Who gives up between grant and callback holds nothing and hears nothing."""
        self.ask("Eholder")
        first = self.lock.acquire("S1", SHARED)
        assert first is not None
        self.ask_all("S2 E1")
        first.when_decided(lambda _: self.waiting["S2"].give_up())
        self.lock.release("Eholder")
        self.assertEqual(self.granted, [])
        self.lock.release("S1")
        self.assertEqual(self.granted, ["E1"])

    def test_queue_is_empty_afterwards(self) -> None:
        """S2.3-124: nothing stays behind of requests and priorities that are gone."""
        self.ask("S1")
        for priority in range(20):
            self.ask_all(f"E{priority}", priority)
        for waiting in list(self.waiting.values()):
            self.lock.cancel(waiting)
        self.assertEqual(self.lock.info().pending, ())
        self.assertTrue(self.ask("S2"))


class ChangePriorityTests(LockCase):
    """Waiting requests whose priority changes."""

    def test_goes_to_its_new_place(self) -> None:
        """A raised request passes, and is last within its new priority."""
        self.ask("Eholder")
        self.ask_all("E1 E2", 0)
        self.ask_all("E3", -1)
        self.assertTrue(self.lock.change_priority(self.waiting["E2"], -1))
        self.assertEqual(self.drain("Eholder"), [["E3"], ["E2"], ["E1"]])

    def test_makes_room(self) -> None:
        """An exclusive head that moves back lets compatible ones pass."""
        self.ask("S1")
        self.ask_all("E1", 0)
        self.ask_all("S2", 5)
        self.lock.change_priority(self.waiting["E1"], 10)
        self.assertEqual(self.granted, ["S2"])

    def test_after_the_grant(self) -> None:
        """Nothing happens to a request that was granted."""
        self.ask("E1")
        self.ask_all("E2")
        self.lock.release("E1")
        self.assertFalse(self.lock.change_priority(self.waiting["E2"], 5))


class DowngradeTests(LockCase):
    """From exclusive to shared."""

    def test_shared_group_of_top_priority_passes(self) -> None:
        """The pending shared group of the top priority is granted, even behind an exclusive request."""
        self.ask("E0")
        self.ask_all("E1 S1 S2", 0)
        self.ask_all("S3", 5)
        self.lock.downgrade("E0")
        self.assertEqual(self.granted, ["S1", "S2"])
        self.assertEqual(self.lock.info().owners, ("E0", "S1", "S2"))
        self.assertEqual(self.drain("E0", "S1", "S2"), [["E1"], ["S3"]])

    def test_nobody_of_top_priority_shares(self) -> None:
        """A shared group of a lower priority does not pass the exclusive one above it."""
        self.ask("E0")
        self.ask_all("E1", 0)
        self.ask_all("S1", 5)
        self.lock.downgrade("E0")
        self.assertEqual(self.granted, [])

    def test_who_shares_already(self) -> None:
        """Nothing happens to a sharer; who holds nothing has made a mistake."""
        self.ask("S1")
        self.lock.downgrade("S1")
        self.assertTrue(self.lock.is_owned("S1", SHARED))
        self.assertRaises(ProgrammerError, self.lock.downgrade, "S2")

    def test_newcomers(self) -> None:
        """With nobody waiting later shared requests are granted at once."""
        self.ask("E0")
        self.lock.downgrade("E0")
        self.assertTrue(self.ask("S1"))
        self.assertFalse(self.ask("E1"))


class DeleteTests(LockCase):
    """Locks that are deleted."""

    def test_waiting_and_later_requests(self) -> None:
        """Everybody who waits is refused, everybody later gets the error."""
        self.ask("E0")
        self.ask_all("E1 S1")
        self.lock.delete("E0")
        self.assertEqual([self.waiting[owner].state for owner in ("E1", "S1")], [WaitState.REFUSED] * 2)
        self.assertEqual(self.granted, ["E1", "S1"])
        self.assertRaises(LockError, self.lock.acquire, "E2", EXCLUSIVE)
        self.assertRaises(LockError, self.lock.try_acquire, "S2", SHARED)
        self.assertEqual(self.lock.info().mode, "deleted")

    def test_acquires_first(self) -> None:
        """Who does not hold the lock waits in its turn, and deletes when granted."""
        self.ask("S0")
        self.ask_all("E1")
        removal = Driven(delete(self.lock, Claimant("E2")))
        self.ask_all("E3", 5)
        self.lock.release("S0")
        self.assertEqual((self.granted, removal.is_over), (["E1"], False))
        self.lock.release("E1")
        self.assertTrue(removal.is_over and self.lock.is_deleted)
        self.assertIs(self.waiting["E3"].state, WaitState.REFUSED)

    def test_given_up(self) -> None:
        """A deletion that is given up in time leaves the lock as it was."""
        self.ask("S0")
        removal = Driven(delete(self.lock, Claimant("E1")))
        removal.give_up()
        self.assertEqual(self.drain("S0"), [])
        self.assertTrue(self.ask("E2"))

    def test_while_sharing(self) -> None:
        """A sharer may not delete."""
        self.ask("S1")
        self.assertRaises(ProgrammerError, self.lock.delete, "S1")

    def test_twice(self) -> None:
        """Deleting what is deleted is an error for the operator."""
        run_at_once(delete(self.lock, Claimant("E1")))
        self.assertIsInstance(Driven(delete(self.lock, Claimant("E2"))).error, LockError)


class InfoTests(LockCase):
    """What `gnt-debug locks` shows of one lock."""

    def test_modes(self) -> None:
        """Nobody, one exclusive owner, several sharers."""
        name = "instance/web1"
        self.assertEqual(self.lock.info(), LockInfo(name=name, mode=None, owners=(), pending=()))
        self.ask("E1")
        self.assertEqual(self.lock.info(), LockInfo(name=name, mode="exclusive", owners=("E1",), pending=()))
        self.lock.release("E1")
        self.ask("S2")
        self.ask("S1")
        self.assertEqual(
            self.lock.info(), LockInfo(name=name, mode="shared", owners=("S2", "S1"), pending=())
        )

    def test_is_owned(self) -> None:
        """Ownership can be asked for in any, exclusive or shared mode."""
        self.ask("S1")
        answers = [self.lock.is_owned("S1", mode) for mode in (None, EXCLUSIVE, SHARED)]
        self.assertEqual(answers, [True, False, True])
        self.lock.release("S1")
        self.ask("E1")
        answers = [self.lock.is_owned("E1", mode) for mode in (None, EXCLUSIVE, SHARED)]
        self.assertEqual(answers, [True, True, False])
        self.assertFalse(self.lock.is_owned("E2"))


class TrampolineTests(LockCase):
    """Callbacks that lead to callbacks."""

    def test_five_thousand_waiters(self) -> None:
        """S2.3-126: waiters that let go inside their callbacks do not nest, however many they are."""
        self.ask("Eholder")
        done: list[int] = []

        def let_go(waiting: Waiting) -> None:
            done.append(1)
            self.lock.release(waiting.owner)

        for number in range(5000):
            waiting = self.lock.acquire(number, EXCLUSIVE)
            assert waiting is not None
            waiting.when_decided(let_go)
        self.lock.release("Eholder")
        self.assertEqual(len(done), 5000)
        self.assertTrue(self.ask("E1"))

    def test_broken_callback(self) -> None:
        """An error in one callback is reported; the others are made and the releaser goes on."""
        self.ask("Eholder")
        broken = self.lock.acquire("S1", SHARED)
        assert broken is not None
        broken.when_decided(lambda _: 1 // 0)
        self.ask_all("S2")
        self.lock.release("Eholder")
        self.assertEqual(self.granted, ["S2"])
        self.assertIsInstance(self.failures.pop(), ZeroDivisionError)


class QueueTests(SynchronousTestCase):
    """The heap of lists itself."""

    def test_structure(self) -> None:
        """S2.3-123, S2.3-125: a list for each priority, one shared entry in each that can be joined."""
        lock = SharedLock("x", Trampoline(self.fail))
        queue = LockQueue()
        for owner, mode, priority in [
            ("a", SHARED, 1),
            ("b", EXCLUSIVE, 1),
            ("c", SHARED, 1),
            ("d", EXCLUSIVE, 0),
        ]:
            queue.append(Waiting(lock, owner, mode, priority))
        shape = [(entry.priority, [w.owner for w in entry.members]) for entry in queue.entries()]
        self.assertEqual(shape, [(0, ["d"]), (1, ["a", "c"]), (1, ["b"])])
        popped = [[w.owner for w in queue.pop().members] for _ in range(3)]
        self.assertEqual(popped, [["d"], ["a", "c"], ["b"]])
        self.assertFalse(queue)

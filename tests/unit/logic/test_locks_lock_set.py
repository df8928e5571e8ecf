"""The locks of one level: each row of locking.md section 4."""

from __future__ import annotations

from collections.abc import Collection

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import LockError, LocksNotGranted, ProgrammerError
from ganeti.logic.lock_set import LockSet
from ganeti.logic.lock_steps import Claimant, run_at_once
from ganeti.logic.trampoline import Trampoline
from ganeti.model.locks import LockMode
from ganeti.testing.locks import Driven

EXCLUSIVE, SHARED = LockMode.EXCLUSIVE, LockMode.SHARED


class SetCase(SynchronousTestCase):
    """A set of the instances a, b and c."""

    def setUp(self) -> None:
        self.set = LockSet("instance", Trampoline(self.fail), "abc")

    def acquire(
        self,
        owner: str,
        names: str | None,
        mode: LockMode = EXCLUSIVE,
        *,
        priority: int = 0,
        patient: bool = True,
        opportunistic: bool = False,
        add: Collection[str] = (),
    ) -> Driven[frozenset[str]]:
        """Begin to acquire; one letter is one name."""
        claimant = Claimant(owner, priority=priority, patient=patient)
        wanted = None if names is None else list(names)
        return Driven(self.set.acquire(claimant, wanted, mode, opportunistic=opportunistic, add=add))

    def state(self) -> dict[str, tuple[str, ...]]:
        """Owners of what is held, by name."""
        infos = [lock.info() for lock in self.set.locks()]
        return {info.name.removeprefix("instance/"): info.owners for info in infos if info.owners}

    def pending(self) -> list[str]:
        """Names of locks that somebody waits for."""
        infos = [lock.info() for lock in self.set.locks()]
        return sorted(info.name.removeprefix("instance/") for info in infos if info.pending)


class AcquireTests(SetCase):
    """Members by name, all of them, or those that are free."""

    def test_names(self) -> None:
        """Duplicates are removed, the result is the set of names."""
        self.assertEqual(self.acquire("1", "caa").result, frozenset("ac"))
        self.assertEqual(self.state(), {"a": ("1",), "c": ("1",)})

    def test_order(self) -> None:
        """Members are acquired by name: who waits for b holds a, but not c."""
        self.acquire("1", "b")
        waiting = self.acquire("2", "cba")
        self.assertEqual(self.state(), {"a": ("2",), "b": ("1",)})
        self.set.release("1")
        self.assertEqual((waiting.result, self.pending()), (frozenset("abc"), []))

    def test_given_up(self) -> None:
        """Who is out of time holds nothing and waits for nothing."""
        self.acquire("1", "b")
        self.acquire("2", "abc").give_up()
        self.assertEqual((self.state(), self.pending()), ({"b": ("1",)}, []))

    def test_unknown(self) -> None:
        """An unknown name is an error that tells it; nothing is taken."""
        error = self.acquire("1", "ax").error
        self.assertIsInstance(error, LockError)
        self.assertIn("instance/x", str(error))
        self.assertEqual(self.state(), {})

    def test_deleted_while_waiting(self) -> None:
        """A member deleted while it is waited for is an error; what was held is given back."""
        self.acquire("1", "b")
        waiting = self.acquire("2", "ab")
        self.set.release("1", doomed="b")
        self.assertIsInstance(waiting.error, LockError)
        self.assertEqual(self.state(), {})

    def test_deleted_before_its_turn(self) -> None:
        """A member deleted while another one is waited for is an error, too."""
        self.acquire("1", "a")
        waiting = self.acquire("2", "ab")
        run_at_once(self.set.remove(Claimant("3"), "b"))
        self.set.release("1")
        self.assertIn("instance/b", str(waiting.error))

    def test_priority_reaches_members(self) -> None:
        """S2.3-118: the priority counts at each member."""
        self.acquire("1", "b")
        low, high = self.acquire("2", "b", priority=5), self.acquire("3", "b", priority=-5)
        self.set.release("1")
        self.assertEqual((low.is_over, high.is_over), (False, True))

    def test_changed_priority(self) -> None:
        """A priority raised while waiting counts for this member and for the next ones."""
        self.acquire("1", "ab")
        claimant = Claimant("2", priority=5)
        late = Driven(self.set.acquire(claimant, "ab", EXCLUSIVE))
        early = self.acquire("3", "ab", priority=0)
        self.assertTrue(claimant.change_priority(-5))
        self.set.release("1")
        self.assertEqual((late.is_over, early.is_over), (True, False))
        self.assertFalse(claimant.change_priority(0))

    def test_impatient(self) -> None:
        """Without time the first lock that is not free ends it, and tells who has it."""
        self.acquire("17", "b")
        error = self.acquire("2", "ab", patient=False).error
        self.assertIsInstance(error, LocksNotGranted)
        self.assertIn("instance/b was not free at once; before 2 come 17", str(error))
        self.assertEqual((self.state(), self.pending()), ({"b": ("17",)}, []))

    def test_twice(self) -> None:
        """Acquiring again what one holds, or more of the same set, is a mistake."""
        self.acquire("1", "a")
        self.assertIsInstance(self.acquire("1", "b").error, ProgrammerError)
        self.assertEqual(self.set.list_owned("1"), frozenset("a"))


class WholeSetTests(SetCase):
    """Acquiring all members."""

    def test_all(self) -> None:
        """The set's own lock and all members are held, in the same mode."""
        for mode in (EXCLUSIVE, SHARED):
            self.assertEqual(self.acquire("1", None, mode).result, frozenset("abc"))
            self.assertEqual(set(self.state()), {"[lockset]", "a", "b", "c"})
            self.assertTrue(self.set.owning_all("1"))
            self.assertTrue(self.set.check_owned("1", "abc", mode))
            self.set.release("1")

    def test_deleted_meanwhile(self) -> None:
        """Members deleted while the others are waited for are skipped."""
        self.acquire("1", "ab")
        everything = self.acquire("2", None)
        self.set.release("1", doomed="a")
        self.assertEqual(everything.result, frozenset("bc"))

    def test_no_add_meanwhile(self) -> None:
        """S2.3-118: nobody adds members while somebody has, or waits for, all of them."""
        self.acquire("1", "a")
        self.acquire("2", None, SHARED)
        adding = Driven(self.set.add(Claimant("3"), ["d"]))
        self.set.release("1")
        self.assertFalse(adding.is_over)
        self.set.release("2")
        self.assertTrue(adding.is_over)
        self.assertEqual(self.set.list_owned("3"), frozenset("d"))

    def test_opportunistic(self) -> None:
        """Free members are taken, those in use or unknown are not waited for."""
        self.acquire("1", "b")
        self.assertEqual(self.acquire("2", "abx", opportunistic=True).result, frozenset("a"))
        self.assertEqual(self.acquire("3", None, opportunistic=True).result, frozenset("c"))
        self.assertTrue(self.set.owning_all("3"))
        self.set.release("3")
        self.acquire("4", "c")
        self.assertEqual(self.acquire("5", "abc", opportunistic=True).result, frozenset())
        self.assertNotIn("5", str(self.state()))

    def test_opportunistic_waits_for_the_set(self) -> None:
        """The lock of the whole set is waited for even then."""
        self.acquire("1", None)
        waiting = self.acquire("2", None, opportunistic=True)
        self.assertEqual(self.pending(), ["[lockset]"])
        self.set.release("1", ["a"])
        self.assertEqual(waiting.result, frozenset("a"))


class AddTests(SetCase):
    """New members."""

    def test_held_at_once(self) -> None:
        """New members belong to who adds them, in the mode asked for, or to nobody."""
        run_at_once(self.set.add(Claimant("1"), "de", hold=SHARED))
        self.assertTrue(self.set.check_owned("1", "de", SHARED))
        run_at_once(self.set.add(Claimant("2"), "f", hold=None))
        self.assertEqual(self.set.list_owned("2"), frozenset())
        self.assertEqual(self.set.names(), frozenset("abcdef"))

    def test_existing(self) -> None:
        """One name that exists, and none is added."""
        self.assertIsInstance(Driven(self.set.add(Claimant("1"), "da")).error, LockError)
        self.assertEqual(self.set.names(), frozenset("abc"))

    def test_made_by_another_meanwhile(self) -> None:
        """Of two who wait to add the same name the second one gets the error."""
        self.acquire("1", None)
        first, second = (Driven(self.set.add(Claimant(owner), "d")) for owner in "23")
        self.set.release("1")
        self.assertIsNone(first.error)
        self.assertIsInstance(second.error, LockError)
        self.assertEqual(self.state(), {"d": ("2",)})

    def test_owner_of_all(self) -> None:
        """Who has the whole set exclusively may add to it and then owns that as well."""
        self.acquire("1", None)
        run_at_once(self.set.add(Claimant("1"), "d"))
        self.assertEqual(self.set.list_owned("1"), frozenset("abcd"))

    def test_owner_of_some(self) -> None:
        """Who has some members, or shares all, may not."""
        self.acquire("1", "a")
        self.acquire("2", "b")
        self.set.release("2")
        self.acquire("3", None, SHARED).give_up()
        self.assertIsInstance(Driven(self.set.add(Claimant("1"), "d")).error, ProgrammerError)
        self.set.release("1")
        self.acquire("3", None, SHARED)
        self.assertIsInstance(Driven(self.set.add(Claimant("3"), "d")).error, ProgrammerError)

    def test_together_with_members(self) -> None:
        """A rename takes the old name and adds the new one; the set is open afterwards."""
        self.assertEqual(self.acquire("1", "a", add="x").result, frozenset("a"))
        self.assertEqual(self.state(), {"a": ("1",), "x": ("1",)})

    def test_together_with_all(self) -> None:
        """Who takes all members and adds some keeps the set closed, in the mode of the members."""
        self.acquire("1", None, SHARED, add="x")
        self.assertTrue(self.set.check_owned("1", "abc", SHARED))
        self.assertTrue(self.set.check_owned("1", "x", EXCLUSIVE))
        self.assertIn("[lockset]", self.state())

    def test_rename_and_all_do_not_deadlock(self) -> None:
        """Who adds closes the set first: so nobody who wants all waits for them crosswise."""
        self.acquire("0", "c")
        rename = self.acquire("1", "c", add=["b2"])
        everything = self.acquire("2", None)
        self.set.release("0")
        self.assertEqual((rename.is_over, everything.is_over), (True, False))
        self.set.release("1")
        self.assertEqual(everything.result, frozenset(("a", "b", "b2", "c")))


class RemoveTests(SetCase):
    """Members that go."""

    def test_owned(self) -> None:
        """The owner deletes at once; missing ones are skipped."""
        self.acquire("1", "ab")
        self.assertEqual(run_at_once(self.set.remove(Claimant("1"), "ab")), frozenset("ab"))
        self.assertEqual(run_at_once(self.set.remove(Claimant("2"), "ax")), frozenset())
        self.assertEqual(self.set.names(), frozenset("c"))

    def test_not_owned(self) -> None:
        """Others wait until each member is free."""
        self.acquire("1", "b")
        removal = Driven(self.set.remove(Claimant("2"), "ab"))
        self.assertFalse(removal.is_over)
        self.set.release("1")
        self.assertEqual((removal.result, self.set.names()), (frozenset("ab"), frozenset("c")))

    def test_deleted_meanwhile(self) -> None:
        """What another one deletes in the meantime is skipped."""
        self.acquire("1", "b")
        removal = Driven(self.set.remove(Claimant("2"), "b"))
        self.set.release("1", doomed="b")
        self.assertEqual(removal.result, frozenset())

    def test_given_up(self) -> None:
        """Giving up leaves what has not been deleted yet."""
        self.acquire("1", "b")
        Driven(self.set.remove(Claimant("2"), "ab")).give_up()
        self.set.release("1")
        self.assertEqual((self.set.names(), self.state()), (frozenset("bc"), {}))

    def test_owner_of_others(self) -> None:
        """Who holds other members, or shares these, may not."""
        self.acquire("1", "a")
        self.assertIsInstance(Driven(self.set.remove(Claimant("1"), "b")).error, ProgrammerError)
        self.acquire("2", "c", SHARED)
        self.assertIsInstance(Driven(self.set.remove(Claimant("2"), "c")).error, ProgrammerError)


class HoldingTests(SetCase):
    """Releasing, downgrading and asking."""

    def test_release_some(self) -> None:
        """Releasing some members opens the set; the others stay."""
        self.acquire("1", None)
        self.set.release("1", "ab")
        self.assertEqual(self.state(), {"c": ("1",)})
        self.set.release("1")
        self.assertEqual(self.state(), {})

    def test_release_of_others(self) -> None:
        """Releasing what one does not hold is a mistake that changes nothing."""
        self.acquire("1", "a")
        self.assertRaises(ProgrammerError, self.set.release, "1", "ab")
        self.assertEqual(self.state(), {"a": ("1",)})

    def test_downgrade(self) -> None:
        """The whole set is shared as soon as all its members are."""
        self.acquire("1", None)
        sharer = self.acquire("2", None, SHARED)
        self.set.downgrade("1", "ab")
        self.assertFalse(sharer.is_over)
        self.assertEqual(self.pending(), ["[lockset]"])
        self.set.downgrade("1", "c")
        self.assertTrue(sharer.is_over)
        self.set.downgrade("2")
        self.assertRaises(ProgrammerError, self.set.downgrade, "3", "a")

    def test_check_owned(self) -> None:
        """Ownership is asked for by names and mode."""
        self.acquire("1", "ab", SHARED)
        cases = [("ab", None, True), ("a", SHARED, True), ("a", EXCLUSIVE, False), ("ac", None, False)]
        for names, mode, expected in cases:
            self.assertEqual(self.set.check_owned("1", names, mode), expected, (names, mode))
        self.assertFalse(self.set.owning_all("1"))

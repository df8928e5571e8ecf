"""Locks for coroutines: time-outs, cancellation and priorities on a test clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ganeti.errors import LockError, LocksNotGranted, PrereqError
from ganeti.interfaces import IHeld, ILocks
from ganeti.master.lock_manager import LockManager
from ganeti.model.locks import LockLevel, LockMode, LockPlan, all_of_level, exclusive, shared
from ganeti.testing.clusters import cluster
from ganeti.testing.locks import LockEvent, RecordingLocks, locks_of, locks_with

INSTANCE, NODE = LockLevel.INSTANCE, LockLevel.NODE
WEB1 = LockPlan(requests={INSTANCE: exclusive(["web1"])})
WEB1_AND_NODE = LockPlan(requests={INSTANCE: exclusive(["web1"]), NODE: exclusive(["n1"])})


class Job:
    """A coroutine that holds a plan until it is told to end."""

    def __init__(
        self,
        locks: ILocks,
        owner: str,
        plan: LockPlan,
        *,
        priority: int = 0,
        timeout_s: float | None = None,
        ends_at_once: bool = False,
    ) -> None:
        self.held: IHeld | None = None
        self.is_inside = False
        self.end: Deferred[None] = Deferred()
        if ends_at_once:
            self.end.callback(None)
        self.done = Deferred.fromCoroutine(self._run(locks, owner, plan, priority, timeout_s))

    async def _run(
        self, locks: ILocks, owner: str, plan: LockPlan, priority: int, timeout_s: float | None
    ) -> None:
        async with locks.held(plan, owner=owner, priority=priority, timeout_s=timeout_s) as held:
            self.held = held
            self.is_inside = True
            try:
                await self.end
            finally:
                self.is_inside = False


class ManagerCase(SynchronousTestCase):
    """An instance and two nodes."""

    def setUp(self) -> None:
        self.clock = Clock()
        # A coroutine that nobody refers to may be collected, and lets go then.
        self.jobs: list[Job] = []
        self.locks = locks_with({INSTANCE: ["web1", "web2"], NODE: ["n1", "n2"]}, self.clock)

    def job(
        self, owner: str, plan: LockPlan = WEB1, *, priority: int = 0, timeout_s: float | None = None
    ) -> Job:
        """Start a job."""
        job = Job(self.locks, owner, plan, priority=priority, timeout_s=timeout_s)
        self.jobs.append(job)
        return job

    def in_use(self, locks: LockManager | None = None) -> dict[str, list[str]]:
        """Owners, those that hold before those that wait, by lock."""
        found: dict[str, list[str]] = {}
        for row in (locks or self.locks).pending():
            waiting = [owner for _, owners in row["pending"] or () for owner in owners]
            if row["owner"] or waiting:
                found[row["name"]] = [*(row["owner"] or ()), *waiting]
        return found


class HeldTests(ManagerCase):
    """Plans that are granted, at once or later."""

    def test_interfaces(self) -> None:
        """Manager, recorder and what they yield are what they say."""
        recorder = RecordingLocks(self.locks)
        verifyObject(ILocks, self.locks)
        verifyObject(ILocks, recorder)
        verifyObject(IHeld, self.job("1").held)
        verifyObject(IHeld, Job(recorder, "2", LockPlan.NOTHING).held)

    def test_free(self) -> None:
        """What is free is had at once, without a timer, and let go at the end."""
        job = self.job("1", WEB1_AND_NODE, timeout_s=5)
        self.assertEqual(self.in_use(), {"cluster/BGL": ["1"], "instance/web1": ["1"], "node/n1": ["1"]})
        self.assertEqual(self.clock.getDelayedCalls(), [])
        job.end.callback(None)
        self.assertEqual(self.in_use(), {})

    def test_waits(self) -> None:
        """Who comes later waits at the first lock that is not free, and goes on when it is."""
        first, second = self.job("1"), self.job("2", WEB1_AND_NODE, timeout_s=5)
        self.assertEqual(self.in_use(), {"cluster/BGL": ["1", "2"], "instance/web1": ["1", "2"]})
        first.end.callback(None)
        self.assertTrue(second.is_inside)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_error_inside(self) -> None:
        """An error of the operation lets go of everything and goes on."""
        job = self.job("1")
        job.end.errback(PrereqError("no"))
        self.failureResultOf(job.done, PrereqError)
        self.assertEqual(self.in_use(), {})

    def test_priorities(self) -> None:
        """S2.3-118: the most urgent of those who wait is next."""
        first = self.job("1")
        jobs = {priority: self.job(str(priority), priority=priority) for priority in (10, 0, -10)}
        first.end.callback(None)
        order = []
        for _ in range(3):
            ready = next(priority for priority, job in jobs.items() if job.is_inside)
            order.append(ready)
            jobs.pop(ready).end.callback(None)
        self.assertEqual(order, [-10, 0, 10])

    def test_change_priority(self) -> None:
        """A job that waits can be made more urgent; one that does not wait cannot."""
        first, second, third = (self.job(owner) for owner in "123")
        self.assertTrue(self.locks.change_priority("3", -10))
        first.end.callback(None)
        self.assertEqual((second.is_inside, third.is_inside), (False, True))
        self.assertFalse(self.locks.change_priority("3", 0))
        self.assertFalse(self.locks.change_priority("99", 0))

    def test_bgl(self) -> None:
        """The exclusive BGL waits for all, and all later ones wait for it."""
        first = self.job("1", LockPlan.NOTHING)
        alone = self.job("2", LockPlan(exclusive_cluster=True))
        later = self.job("3", LockPlan.NOTHING)
        self.assertFalse(alone.is_inside or later.is_inside)
        first.end.callback(None)
        self.assertEqual((alone.is_inside, later.is_inside), (True, False))
        alone.end.callback(None)
        self.assertTrue(later.is_inside)

    def test_early_release(self) -> None:
        """What is let go early is there for others while the job goes on."""
        first, second = self.job("1", WEB1_AND_NODE), self.job("2")
        assert first.held is not None
        first.held.release(INSTANCE)
        self.assertTrue(second.is_inside)
        self.assertEqual(first.held.names(NODE), {"n1"})

    def test_downgrade(self) -> None:
        """Those who want to share come in as soon as the owner shares, too."""
        first = self.job("1")
        reader = self.job("2", LockPlan(requests={INSTANCE: shared(["web1"])}))
        assert first.held is not None
        first.held.downgrade(INSTANCE)
        self.assertTrue(reader.is_inside)

    def test_unknown_object(self) -> None:
        """An object that is gone is an error that names it; nothing stays held."""
        job = self.job("1", LockPlan(requests={INSTANCE: exclusive(["web1", "web7"])}))
        self.assertIn("instance/web7", str(self.failureResultOf(job.done, LockError).value))
        self.assertEqual(self.in_use(), {})

    def test_removed_while_waiting(self) -> None:
        """Who waits for an object that is removed gets the error, and its timer is gone."""
        first, second = self.job("1"), self.job("2", timeout_s=5)
        assert first.held is not None
        first.held.forget(INSTANCE, ["web1"])
        first.end.callback(None)
        self.failureResultOf(second.done, LockError)
        self.assertEqual((self.in_use(), self.clock.getDelayedCalls()), ({}, []))

    def test_added(self) -> None:
        """Locks of new objects vanish with the job unless they were kept."""
        for keep, expected in [(False, {"web1", "web2"}), (True, {"web1", "web2", "new"})]:
            job = self.job("1", LockPlan(add={INSTANCE: frozenset({"new"})}))
            self.assertIn("new", self.locks.members(INSTANCE))
            assert job.held is not None
            if keep:
                job.held.keep_added(INSTANCE, ["new"])
            job.end.callback(None)
            self.assertEqual(self.locks.members(INSTANCE), expected)

    def test_whole_level_blocks_adding(self) -> None:
        """Nobody adds an instance while somebody has all of them."""
        everything = self.job("1", LockPlan(requests={INSTANCE: all_of_level(LockMode.SHARED)}))
        adding = self.job("2", LockPlan(add={INSTANCE: frozenset({"new"})}))
        self.assertRaises(LocksNotGranted, self.locks.add, INSTANCE, ["new"])
        self.assertFalse(adding.is_inside)
        everything.end.callback(None)
        self.assertTrue(adding.is_inside)

    def test_opportunistic(self) -> None:
        """Nodes that are in use are left out, without waiting."""
        self.job("1", LockPlan(requests={NODE: exclusive(["n1"])}))
        job = self.job("2", LockPlan(requests={NODE: all_of_level(LockMode.EXCLUSIVE, opportunistic=True)}))
        assert job.held is not None
        self.assertEqual(job.held.names(NODE), {"n2"})

    def test_thousands_that_end_at_once(self) -> None:
        """S2.3-120: thousands of jobs that end as soon as they are granted do not nest."""
        first = self.job("0")
        jobs = [Job(self.locks, str(number), WEB1, ends_at_once=True) for number in range(1, 3001)]
        first.end.callback(None)
        for job in jobs:
            self.successResultOf(job.done)
        self.assertEqual(self.in_use(), {})


class TimeoutTests(ManagerCase):
    """Acquisitions with limited time."""

    def test_expires(self) -> None:
        """At the end of the time nothing is held, and the error tells which lock and who has it."""
        self.job("1")
        job = self.job("2", timeout_s=5)
        self.clock.advance(4.9)
        self.assertNoResult(job.done)
        self.clock.advance(0.1)
        message = str(self.failureResultOf(job.done, LocksNotGranted).value)
        self.assertEqual(message, "lock instance/web1 was not free within 5 s; before 2 come 1")
        self.assertEqual(self.in_use(), {"cluster/BGL": ["1"], "instance/web1": ["1"]})

    def test_time_is_shared(self) -> None:
        """One time counts for all levels together; it does not start anew at each."""
        first, second = self.job("1"), self.job("2", LockPlan(requests={NODE: exclusive(["n1"])}))
        job = self.job("3", WEB1_AND_NODE, timeout_s=5)
        self.clock.advance(3)
        first.end.callback(None)
        self.assertEqual(self.in_use()["node/n1"], ["2", "3"])
        self.clock.advance(2)
        self.assertIn("node/n1", str(self.failureResultOf(job.done, LocksNotGranted).value))
        self.assertEqual(self.in_use(), {"cluster/BGL": ["2"], "node/n1": ["2"]})
        self.assertTrue(second.is_inside)

    def test_no_limit(self) -> None:
        """S2.3-116: without a time the wait goes on."""
        first, job = self.job("1"), self.job("2")
        self.clock.advance(1e6)
        first.end.callback(None)
        self.assertTrue(job.is_inside)

    def test_no_time(self) -> None:
        """Below a millisecond nothing is queued; free locks are had all the same."""
        self.job("1")
        job = self.job("2", timeout_s=0.0009)
        self.failureResultOf(job.done, LocksNotGranted)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(self.job("3", LockPlan(requests={NODE: exclusive(["n1"])}), timeout_s=0).is_inside)

    def test_expired_one_makes_room(self) -> None:
        """A shared request behind an exclusive one that is out of time joins the sharers."""
        reading = LockPlan(requests={INSTANCE: shared(["web1"])})
        self.job("1", reading)
        writer = self.job("2", timeout_s=5)
        reader = self.job("3", reading)
        self.clock.advance(5)
        self.failureResultOf(writer.done, LocksNotGranted)
        self.assertTrue(reader.is_inside)


class CancellationTests(ManagerCase):
    """Coroutines that are cancelled."""

    def test_while_waiting(self) -> None:
        """A wait that is cancelled leaves nothing held, queued or timed."""
        for at_level in (WEB1, LockPlan(requests={NODE: exclusive(["n1"])})):
            blocker = self.job("1", at_level)
            job = self.job("2", WEB1_AND_NODE, timeout_s=5)
            job.done.cancel()
            self.failureResultOf(job.done, CancelledError)
            blocker.end.callback(None)
            self.assertEqual((self.in_use(), self.clock.getDelayedCalls()), ({}, []))

    def test_while_inside(self) -> None:
        """A job that is cancelled in its work lets go."""
        job = self.job("1", WEB1_AND_NODE)
        job.done.cancel()
        self.failureResultOf(job.done, CancelledError)
        self.assertEqual(self.in_use(), {})

    def test_between_grant_and_resumption(self) -> None:
        """One of two who are granted together cancels the other before that one is told."""
        first = self.job("1")
        reading = LockPlan(requests={INSTANCE: shared(["web1"])})
        jobs: list[Deferred[None]] = []

        async def cancel_next() -> None:
            async with self.locks.held(reading, owner="2", priority=0, timeout_s=None):
                jobs[0].cancel()

        killer = Deferred.fromCoroutine(cancel_next())
        victim = self.job("3", reading, timeout_s=5)
        jobs.append(victim.done)
        first.end.callback(None)
        self.successResultOf(killer)
        self.failureResultOf(victim.done, CancelledError)
        self.assertEqual((self.in_use(), self.clock.getDelayedCalls()), ({}, []))

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["come", "end", "cancel", "advance"]),
                st.integers(0, 50),
                st.sampled_from([None, 0.0, 1.0, 3.0]),
            ),
            max_size=40,
        )
    )
    def test_any_moment(self, events: list[tuple[str, int, float | None]]) -> None:
        """S2.3-118: whatever comes, ends, is cancelled or times out when, in the end all is free."""
        clock = Clock()
        locks = locks_with({INSTANCE: ["web1", "web2"], NODE: ["n1", "n2"]}, clock)
        plans = (
            WEB1,
            WEB1_AND_NODE,
            LockPlan(requests={INSTANCE: all_of_level(LockMode.SHARED), NODE: shared(["n1"])}),
            LockPlan(requests={NODE: all_of_level(LockMode.EXCLUSIVE)}, add={INSTANCE: frozenset({"new"})}),
            LockPlan(exclusive_cluster=True),
        )
        jobs: list[Job] = []
        for number, (event, which, timeout_s) in enumerate(events):
            if event == "come":
                plan = plans[which % len(plans)]
                jobs.append(Job(locks, str(number), plan, priority=which % 3, timeout_s=timeout_s))
            elif event == "advance":
                clock.advance(which / 20)
            elif jobs:
                self._finish(jobs[which % len(jobs)], by_cancel=event == "cancel")
        for job in jobs:
            self._finish(job, by_cancel=True)
        self.assertEqual((self.in_use(locks), clock.getDelayedCalls()), ({}, []))
        self.assertEqual(locks.members(INSTANCE), {"web1", "web2"})

    def _finish(self, job: Job, *, by_cancel: bool) -> None:
        if by_cancel:
            job.done.cancel()
            job.done.addErrback(lambda failure: failure.trap(CancelledError, LocksNotGranted, LockError))
        elif job.is_inside:
            job.end.callback(None)


class MembersTests(SynchronousTestCase):
    """Locks that the manager knows."""

    def test_of_a_cluster(self) -> None:
        """Instances by name, all else by UUID; populating again changes nothing."""
        world = cluster(nodes=3, instances=2, groups=2)
        locks = locks_of(world)
        locks.populate(world)
        self.assertEqual(locks.members(INSTANCE), {instance.name for instance in world.instances.values()})
        self.assertEqual(locks.members(NODE), set(world.nodes))
        self.assertEqual(locks.members(LockLevel.NODE_RES), set(world.nodes))
        self.assertEqual(locks.members(LockLevel.NODEGROUP), set(world.groups))
        self.assertEqual(locks.members(LockLevel.NETWORK), set(world.networks))
        self.assertEqual(locks.members(LockLevel.CLUSTER), {"BGL"})

    def test_remove(self) -> None:
        """Objects that went without an operation lose their locks, unless somebody has them."""
        locks = locks_with({INSTANCE: ["web1", "web2"]})
        locks.remove(INSTANCE, ["web2", "web3"])
        job = Job(locks, "1", WEB1)
        self.assertRaises(LocksNotGranted, locks.remove, INSTANCE, ["web1"])
        job.end.callback(None)
        locks.remove(INSTANCE, ["web1"])
        self.assertEqual(locks.members(INSTANCE), frozenset())


class RecordingTests(ManagerCase):
    """The recorder for tests of operations."""

    def test_events(self) -> None:
        """Plans and early releases are remembered in order."""
        recorder = RecordingLocks(self.locks)
        job = Job(recorder, "1", WEB1)
        assert job.held is not None
        job.held.forget(INSTANCE, ["web1"])
        job.held.release(INSTANCE)
        job.end.callback(None)
        self.assertEqual(recorder.plans, [WEB1])
        self.assertEqual(
            recorder.events,
            [
                LockEvent(what="acquire", owner="1"),
                LockEvent(what="forget", owner="1", level=INSTANCE, names=frozenset({"web1"})),
                LockEvent(what="release", owner="1", level=INSTANCE),
                LockEvent(what="close", owner="1"),
            ],
        )
        self.assertEqual(self.locks.members(INSTANCE), {"web2"})

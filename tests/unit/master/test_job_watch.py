"""News of jobs: pushed as copies, at a bounded rate, with signs of life, without loss."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PrereqError
from ganeti.master.job_watch import JobChange, Subscription
from ganeti.model.ids import JobId
from ganeti.ops.base import Context
from ganeti.testing.jobs import JobWorld, Probe


class Talking(JobWorld):
    """A world with one running job that says what the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.contexts: list[Context] = []
        self.held: Deferred[None] = Deferred()

        async def run(ctx: Context) -> None:
            self.contexts.append(ctx)
            await self.held

        self.script().run = run
        self.id = self.submit(Probe())
        self.turn()

    def say(self, *texts: str) -> None:
        """Let the job say something."""
        for text in texts:
            self.contexts[0].feedback.info(text)

    def wait(self, previous: Any = None, serial: int | None = None, timeout: float = 60.0) -> Deferred[Any]:
        """A classic wait for news."""
        return Deferred.fromCoroutine(
            self.engine.watch.wait_for_change(self.id, ["status"], previous, serial, timeout)
        )


class Watcher:
    """Remembers what is delivered; may be slow."""

    def __init__(self, world: JobWorld, *, is_slow: bool = False) -> None:
        self.world = world
        self.changes: list[JobChange] = []
        self.signs = 0
        self.is_slow = is_slow
        self.blocked: list[Deferred[None]] = []

    async def deliver(self, change: JobChange) -> None:
        """Take news."""
        self.changes.append(change)
        if self.is_slow:
            self.blocked.append(Deferred())
            await self.blocked[-1]

    def sign(self) -> None:
        """Take a sign of life."""
        self.signs += 1

    def subscribe(self, job: JobId, **options: Any) -> Subscription:
        """Watch a job."""
        found = self.world.result(
            self.world.engine.watch.subscribe(job, ["status"], self.deliver, keep_alive=self.sign, **options)
        )
        assert found is not None
        return found

    @property
    def messages(self) -> list[Any]:
        """All that the job said."""
        return [entry.message for change in self.changes for entry in change.entries]


class SubscriptionTests(SynchronousTestCase):
    """Being told."""

    def test_first_state_then_news(self) -> None:
        """The state now, then each change with the log entries not sent before; the end is the last."""
        world = Talking()
        watcher = Watcher(world)
        world.say("early")
        subscription = watcher.subscribe(world.id)
        self.assertEqual((watcher.changes[0].values, watcher.messages), (["running"], ["early"]))
        world.advance(1)
        world.say("later")
        world.turn()
        self.assertEqual(watcher.messages, ["early", "later"])
        world.held.callback(None)
        world.advance(1)
        self.assertEqual((watcher.changes[-1].values, watcher.changes[-1].is_final), (["success"], True))
        self.assertTrue(subscription.is_over)
        self.assertEqual(len(world.engine.watch), 0)

    def test_not_in_the_call_of_the_producer(self) -> None:
        """Whoever changes a job never runs the code of a watcher (S2.2-009)."""
        world = Talking()
        watcher = Watcher(world)
        watcher.subscribe(world.id)
        world.advance(1)
        before = len(watcher.changes)
        world.say("x")
        self.assertEqual(len(watcher.changes), before)
        world.reactor.advance(0)
        self.assertEqual(len(watcher.changes), before + 1)

    def test_rate(self) -> None:
        """A thousand messages in a second are about ten deliveries, and none is lost (S2.2-013)."""
        world = Talking()
        watcher = Watcher(world)
        watcher.subscribe(world.id)
        for number in range(1000):
            world.say(str(number))
            world.reactor.advance(0.001)
        world.held.callback(None)
        world.advance(1)
        self.assertLessEqual(len(watcher.changes), 13)
        self.assertEqual(watcher.messages, [str(number) for number in range(1000)])
        self.assertTrue(watcher.changes[-1].is_final)

    def test_end_is_not_delayed(self) -> None:
        """The end of a job is told at once, also just after something else was."""
        world = Talking()
        watcher = Watcher(world)
        watcher.subscribe(world.id)
        world.say("more")
        world.held.callback(None)
        world.turn()
        self.assertEqual((len(watcher.changes), watcher.changes[-1].is_final), (2, True))

    def test_slow_watcher(self) -> None:
        """One that does not take its news delays nobody, and gets all in one when it does (S2.2-011)."""
        world = Talking()
        slow, quick = Watcher(world, is_slow=True), Watcher(world)
        slow.subscribe(world.id)
        quick.subscribe(world.id)
        for number in range(5):
            world.advance(1)
            world.say(str(number))
        world.held.callback(None)
        world.advance(1)
        self.assertEqual((len(slow.changes), len(quick.messages)), (1, 5))
        self.assertTrue(quick.changes[-1].is_final)
        slow.blocked[0].callback(None)
        world.advance(1)
        self.assertEqual((len(slow.changes), slow.messages), (2, [str(n) for n in range(5)]))

    def test_signs_of_life(self) -> None:
        """Nothing new for a while: the watcher is told to go on waiting (S2.2-012)."""
        world = Talking()
        watcher = Watcher(world)
        watcher.subscribe(world.id, keep_alive_s=10.0)
        world.advance(9)
        self.assertEqual(watcher.signs, 0)
        world.advance(2)
        world.advance(10)
        self.assertEqual(watcher.signs, 2)
        world.say("news")
        world.advance(9)
        self.assertEqual(watcher.signs, 2)

    def test_cancelled(self) -> None:
        """Nothing more is sent, no timer is left."""
        world = Talking()
        watcher = Watcher(world, is_slow=True)
        subscription = watcher.subscribe(world.id)
        subscription.cancel()
        subscription.cancel()
        world.say("x")
        world.advance(100)
        self.assertEqual((len(watcher.changes), watcher.signs, len(world.engine.watch)), (1, 0, 0))

    def test_broken_watcher(self) -> None:
        """One that cannot be reached any more is forgotten."""
        world = Talking()
        watcher = Watcher(world, is_slow=True)
        watcher.subscribe(world.id)
        watcher.blocked[0].errback(ConnectionError("gone"))
        self.assertEqual(len(world.engine.watch), 0)

    def test_unknown_and_archived(self) -> None:
        """Unknown jobs cannot be watched; of archived ones the end is told once."""
        world = Talking()
        watcher = Watcher(world)
        deliver = watcher.deliver
        self.assertIsNone(world.result(world.engine.watch.subscribe(JobId(99), ["status"], deliver)))
        world.held.callback(None)
        world.turn()
        world.result(world.queue.archive(world.id))
        watcher.subscribe(world.id)
        self.assertEqual([change.values for change in watcher.changes], [["success"]])

    def test_archived_meanwhile(self) -> None:
        """A job that goes to the archive before its end was delivered: it is delivered all the same."""
        world = Talking()
        watcher = Watcher(world, is_slow=True)
        watcher.subscribe(world.id)
        world.held.callback(None)
        world.turn()
        self.assertTrue(world.result(world.queue.archive(world.id)))
        watcher.blocked[0].callback(None)
        world.advance(1)
        self.assertEqual(watcher.changes[-1].values, ["success"])

    def test_unknown_field(self) -> None:
        """It is refused with the known ones."""
        world = Talking()
        waiting = world.engine.watch.wait_for_change(world.id, ["nonsense"], None, None, 1.0)
        error = self.assertRaises(PrereqError, world.result, waiting)
        self.assertIn("opstatus", str(error))


class WaitTests(SynchronousTestCase):
    """The classic call (jobqueue.md section 7)."""

    def test_at_once(self) -> None:
        """Something differs from what the client knows: it is told without waiting."""
        world = Talking()
        world.say("a", "b")
        for previous, serial in ((None, None), (["queued"], 2), (["running"], 1), (["running"], None)):
            with self.subTest(previous=previous, serial=serial):
                waiting = world.wait(previous, serial)
                world.turn()
                values, entries = self.successResultOf(waiting)
                self.assertEqual(values, ["running"])
                self.assertEqual([entry.serial for entry in entries], list(range((serial or 0) + 1, 3)))

    def test_later(self) -> None:
        """Nothing new: the answer comes with the next change."""
        world = Talking()
        waiting = world.wait(["running"], 0)
        world.advance(5)
        self.assertNoResult(waiting)
        world.say("news")
        world.advance(0.1)
        values, entries = self.successResultOf(waiting)
        self.assertEqual((values, entries[0].message), (["running"], "news"))

    def test_no_change(self) -> None:
        """After the time asked for, 89 s at most, the answer is `nochange` (S2.2-033)."""
        world = Talking()
        short, long = world.wait(["running"], 0, 10), world.wait(["running"], 0, 1000)
        world.advance(10)
        self.assertEqual(self.successResultOf(short), "nochange")
        world.advance(78)
        self.assertNoResult(long)
        world.advance(1)
        self.assertEqual(self.successResultOf(long), "nochange")
        self.assertEqual(len(world.engine.watch), 0)

    def test_final(self) -> None:
        """A job that ended is answered at once, whatever the client knows; also an archived one."""
        world = Talking()
        world.held.callback(None)
        world.turn()
        for _ in range(2):
            waiting = world.wait(["success"], 0)
            world.turn()
            self.assertEqual(self.successResultOf(waiting), [["success"], []])
            world.result(world.queue.archive(world.id))

    def test_unknown(self) -> None:
        """An unknown job is null."""
        world = Talking()
        waiting = world.engine.watch.wait_for_change(JobId(99), ["status"], None, None, 1.0)
        self.assertIsNone(world.result(waiting))

    def test_many_waiters(self) -> None:
        """500 wait for one job and cost nothing until it changes; all are told (S2.2-008)."""
        world = Talking()
        waiting = [world.wait(["running"], 0) for _ in range(500)]
        world.turn()
        world.say("all of you")
        world.advance(0.1)
        self.assertEqual({self.successResultOf(one)[1][0].message for one in waiting}, {"all of you"})

"""Rows of the seed checklist about jobs that need several parts of the master at once."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ErrorCode, JobQueueError, PrereqError
from ganeti.io.watcher_pause import WatcherPause
from ganeti.logic.lock_attempts import TIMEOUTS_S
from ganeti.master.queries import Queries
from ganeti.master.replication import Replicator, Standing
from ganeti.model.calls.system import QueueUpdate
from ganeti.model.cluster import Cluster
from ganeti.model.ids import JobId
from ganeti.model.job import JobStatus
from ganeti.model.locks import PRIORITY_HIGHEST, PRIORITY_LOWEST, SUBMIT_PRIORITIES
from ganeti.model.paths import Paths
from ganeti.ops.base import Context
from ganeti.testing.clusters import cluster, node_id, with_node
from ganeti.testing.jobs import JobWorld, MemoryJobStore, Probe, queued_job
from ganeti.testing.nodes import FakeNodes

INST = "inst1.example.com"


class Talking(JobWorld):
    """A world with one running job that says what the test wants."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.contexts: list[Context] = []
        self.held: Deferred[None] = Deferred()

        async def run(ctx: Context) -> None:
            self.contexts.append(ctx)
            await self.held

        self.script("talker").run = run
        self.id = self.submit(Probe(name="talker"))
        self.turn()

    def wait(self) -> Deferred[Any]:
        """A wait for news of the job."""
        watch = self.engine.watch
        return Deferred.fromCoroutine(watch.wait_for_change(self.id, ["status"], ["running"], 0, 60.0))


class Copies:
    """Master candidates that get copies of the job queue; time is simulated."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.nodes = FakeNodes(self.clock)
        self.cluster = cluster(nodes=3)

        def state() -> Deferred[Mapping[str, bytes]]:
            return succeed({"queue/serial": b"1\n"})

        self.replicator = Replicator(
            self.clock, self.nodes, lambda: self.cluster, state, generation=1, what="job queue"
        )
        self.replicator.start()

    def change(self, new: Cluster) -> None:
        """Another configuration."""
        old, self.cluster = self.cluster, new
        self.replicator.cluster_changed(old, new)

    def got(self, node: str) -> list[bytes]:
        """Batches that a node was sent."""
        return [called.call.records for called in self.nodes.calls_of(QueueUpdate) if node in called.node]


class NoLockTests(SynchronousTestCase):
    """What the seed wants of the locks of jobs and queue, where there are none."""

    def test_news_while_the_queue_is_being_written(self) -> None:
        """A change reaches those who wait for it while a save of the queue hangs (S2.2-011)."""
        world = Talking()
        waiting = world.wait()
        world.store.is_slow = True
        hanging = Deferred.fromCoroutine(world.queue.submit([Probe()]))
        world.contexts[0].feedback.info("news")
        world.advance(0.1)
        values, entries = self.successResultOf(waiting)
        self.assertEqual((values, entries[0].message), (["running"], "news"))
        self.assertNoResult(hanging)

    def test_nobody_waits_for_the_io_of_another_job(self) -> None:
        """While a save for one job hangs, all about others is done but their own receipts (S2.2-016).

        A job that is cancelled then never runs, whenever the save of that comes to an end.
        """
        world = Talking(max_running=1)
        queued, urgent = world.submit(Probe(name="b")), world.submit(Probe(name="c"))
        world.store.is_slow = True
        hanging = Deferred.fromCoroutine(world.queue.submit([Probe(name="a")]))
        world.contexts[0].feedback.info("still talking")
        canceled = Deferred.fromCoroutine(world.queue.cancel(queued))
        changed = Deferred.fromCoroutine(world.queue.change_priority(urgent, -10))
        world.turn()
        self.assertEqual(world.job(world.id).last_serial, 1)
        self.assertEqual(world.status(queued), JobStatus.CANCELED)
        self.assertEqual(world.job(urgent).ops[0].priority, -10)
        self.assertIsNotNone(self.successResultOf(Deferred.fromCoroutine(world.queue.find(urgent))))
        for receipt in (hanging, canceled, changed):
            self.assertNoResult(receipt)
        world.store.finish()
        world.turn()
        for receipt in (hanging, canceled, changed):
            self.assertTrue(receipt.called)
        self.assertEqual(world.script("b").calls, [])

    def test_two_readers_at_a_time(self) -> None:
        """Two lists of jobs are made at the same time; neither waits for the other (S2.2-017)."""
        world = JobWorld(is_started=False)
        world.result(world.queue.submit_many([[Probe()]] * 150))
        pauses: list[Deferred[None]] = []

        def later() -> Awaitable[None]:
            pauses.append(Deferred())
            return pauses[-1]

        nobody: Any = None
        pause = WatcherPause(Paths(self.mktemp()), world.clock)
        queries = Queries(world.config, nobody, nobody, list, pause, later)
        queries.attach(world.queue)
        lists = [Deferred.fromCoroutine(queries.query("job", ["id", "status"], None)) for _ in range(2)]
        self.assertEqual(len(pauses), 2, "both are in the middle of their work")
        while pauses:
            pauses.pop().callback(None)
        for rows in lists:
            self.assertEqual(len(self.successResultOf(rows)["data"]), 150)

    def test_readers_of_a_job_that_is_being_replicated(self) -> None:
        """While the save of a job hangs, queries and waits for this very job are answered (S2.2-018)."""
        world = Talking()
        waiting = world.wait()
        world.store.is_slow = True
        world.held.callback(None)
        world.turn()
        self.assertEqual(world.result(world.queue.status(world.id)), JobStatus.RUNNING)
        self.assertEqual([view.job.id for view in world.queue.jobs()], [world.id])
        first = world.engine.watch.wait_for_change(world.id, ["status"], None, None, 60.0)
        self.assertEqual(world.result(first), [["running"], []])
        self.assertNoResult(waiting)
        world.store.finish()
        world.advance(0.1)
        self.assertEqual(self.successResultOf(waiting)[0], ["success"])


class CopiesTests(SynchronousTestCase):
    """Copies of the queue on master candidates."""

    def test_hung_candidate(self) -> None:
        """One that hangs holds up one batch for some seconds; what follows waits for nobody (S2.2-019)."""
        copies = Copies()
        copies.nodes.hanging.add(node_id(2))
        first = copies.replicator.send(b"1")
        copies.clock.advance(11)
        self.successResultOf(first)
        self.successResultOf(copies.replicator.send(b"2"))
        self.assertEqual(copies.got("node3"), [b"1", b"2"])

    def test_order(self) -> None:
        """A candidate that answers late gets all batches, in their order (S2.2-020)."""
        copies = Copies()
        answers: list[Deferred[None]] = []

        def answer(node: object, call: object) -> Deferred[None]:
            answers.append(Deferred())
            return answers[-1]

        copies.nodes.answer(QueueUpdate, answer, node=node_id(2))
        for number in range(5):
            sent = copies.replicator.send(b"%d" % number)
            self.assertNoResult(sent)
            answers[-1].callback(None)
            self.successResultOf(sent)
        self.assertEqual(copies.got("node2"), [b"0", b"1", b"2", b"3", b"4"])

    def test_all_ten_operations(self) -> None:
        """AddNode, RemoveNode, SubmitJob, SubmitManyJobs, WaitForJobChanges, CancelJob, ArchiveJob,
        AutoArchiveJobs, QueryJobs and Shutdown are there, each with its effect (S2.2-014).
        """
        copies = Copies()
        copies.change(with_node(copies.cluster, "node3", offline=True))
        self.successResultOf(copies.replicator.send(b"1"))
        self.assertEqual(copies.got("node3"), [], "RemoveNode")
        copies.change(with_node(copies.cluster, "node3", offline=False))
        self.assertIs(copies.replicator.standings["node3.example.com"], Standing.IN_STEP, "AddNode")

        world = JobWorld()
        job = world.submit(Probe())
        many = world.result(world.queue.submit_many([[Probe()], [Probe()]]))
        self.assertEqual([ok for ok, _ in many], [True, True])
        news = world.engine.watch.wait_for_change(job, ["status"], ["queued"], 0, 10.0)
        self.assertEqual(world.result(news), [["success"], []])
        world.max_running = 0
        self.assertTrue(world.result(world.queue.cancel(world.submit(Probe()))).done)
        self.assertTrue(world.result(world.queue.archive(job)))
        self.assertEqual([view.job.id for view in world.queue.jobs()], [2, 3, 4])
        self.assertEqual(world.result(world.queue.auto_archive(-1, 10.0)), (3, 0))
        self.successResultOf(Deferred.fromCoroutine(world.engine.stop()))
        self.assertRaises(JobQueueError, world.result, world.queue.submit([Probe()]))


class PriorityTests(SynchronousTestCase):
    """One scale of priorities from the submission to the locks."""

    def test_three_opcodes_and_an_urgent_job(self) -> None:
        """With one worker, urgent jobs that come meanwhile run between the opcodes (S2.3-112)."""
        world = JobWorld(max_running=1)
        order: list[str] = []
        for name in ("1", "2", "3", "u", "v"):
            world.script(name).check = lambda cluster, name=name: order.append(name)  # type: ignore[misc]
        holds = [world.script(name).hold() for name in "12"]
        job = world.submit(*(Probe(name=name) for name in "123"))
        for hold, name in zip(holds, "uv"):
            world.turn()
            self.assertEqual(world.status(job), JobStatus.RUNNING)
            world.submit(Probe(name=name, priority=-10))
            hold.callback(None)
        world.turn()
        self.assertEqual("".join(order), "1u2v3")

    def test_opcodes_of_one_job_with_different_priorities(self) -> None:
        """Priorities 10 and -10: the job enters the pool with 10, and goes on with -10 (S2.3-113)."""
        world = JobWorld(max_running=1, is_started=False)
        order: list[str] = []
        for name in "abnu":
            world.script(name).check = lambda cluster, name=name: order.append(name)  # type: ignore[misc]
        world.submit(Probe(name="a", priority=10), Probe(name="b", priority=-10))
        world.submit(Probe(name="n"), Probe(name="n"))
        world.submit(Probe(name="u", priority=10))
        world.engine.runner.start()
        world.turn()
        self.assertEqual("".join(order), "nnabu")

    def test_reaching_the_highest(self) -> None:
        """The attempt after the one that made it -20 waits for ever, and is not one of a round (S2.3-116)."""
        store = MemoryJobStore()
        store.put(queued_job(1, priority=-19))
        world = JobWorld(store=store, is_started=False)
        world.script("a").hold()
        held = world.locks.held(
            world.registry.operation(Probe(instance=INST)).locks(world.config.current()),
            owner="x",
            priority=0,
            timeout_s=None,
        )
        world.result(held.__aenter__())
        world.script("job1").locks = world.registry.operation(Probe(instance=INST)).locks
        world.result(world.engine.start(store.jobs()))
        while world.job(JobId(1)).ops[0].priority == -19:
            world.advance(10.0)
        attempts = store.statuses(JobId(1)).count("waiting")
        self.assertEqual(attempts, len(TIMEOUTS_S) + 1)
        world.advance(1_000_000)
        self.assertEqual(store.statuses(JobId(1)).count("waiting"), attempts)
        self.assertEqual(world.job(JobId(1)).ops[0].priority, -20)
        world.result(held.__aexit__(None, None, None))
        self.assertEqual(world.status(JobId(1)), JobStatus.SUCCESS)

    def test_one_scale(self) -> None:
        """Pool, document and lock go by the priority of a job, in the same order (SX-002)."""
        self.assertEqual((PRIORITY_HIGHEST, PRIORITY_LOWEST, SUBMIT_PRIORITIES), (-20, 19, (-10, 0, 10)))
        world = JobWorld()
        held = world.script("a").hold()
        world.submit(Probe(name="a", instance=INST))
        world.turn()
        order: list[str] = []
        for name, priority in (("low", 10), ("normal", 0), ("high", -10)):
            world.script(name).check = lambda cluster, name=name: order.append(name)  # type: ignore[misc]
            job = world.submit(Probe(name=name, instance=INST, priority=priority))  # type: ignore[arg-type]
            world.turn()
            self.assertEqual(world.store.jobs()[-1].ops[0].priority, priority)
            self.assertEqual(world.status(job), JobStatus.WAITING)
        (row,) = (row for row in world.locks.pending() if row["name"] == f"instance/{INST}")
        self.assertEqual([owners for _, owners in row["pending"]], [["4"], ["3"], ["2"]])
        held.callback(None)
        world.turn()
        self.assertEqual(order, ["high", "normal", "low"])


class DeferralTests(SynchronousTestCase):
    """A task that puts itself back: the use cases of the seed."""

    def test_own_priority(self) -> None:
        """A turn knows its priority, and gives itself another when it puts itself back (S2.3-121)."""
        world = JobWorld()
        world.script("a").hold()
        world.submit(Probe(name="a", instance=INST))
        world.turn()
        job = world.submit(Probe(name="b", instance=INST))
        world.turn()
        priorities = [world.job(job).ops[0].priority]
        while len(priorities) < 4:
            world.advance(60.0)
            if world.job(job).ops[0].priority != priorities[-1]:
                priorities.append(world.job(job).ops[0].priority)
        self.assertEqual(priorities, [0, -1, -2, -3])

    def test_waiting_for_locks(self) -> None:
        """Who does not get its locks lets others have the worker meanwhile (S2.3-122)."""
        world = JobWorld(max_running=2)
        world.script("a").hold()
        world.submit(Probe(name="a", instance=INST))
        world.turn()
        waiting = world.submit(Probe(name="b", instance=INST))
        world.turn()
        others = [world.submit(Probe(name="c")) for _ in range(3)]
        world.advance(TIMEOUTS_S[0] * 1.06)
        self.assertEqual({world.status(job).value for job in others}, {"success"})
        self.assertEqual(world.status(waiting), JobStatus.WAITING)

    def test_waiting_for_something_long(self) -> None:
        """What waits for something else puts itself back, holds no worker, and is tried again (S2.3-122)."""
        world = JobWorld(max_running=1)
        is_there: list[bool] = []

        def check(value: Cluster) -> None:
            if not is_there:
                raise PrereqError("not yet", code=ErrorCode.NO_RESOURCES_NOW)

        world.script("a").check = check
        job = world.submit(Probe(name="a"))
        world.turn()
        other = world.submit(Probe(name="b"))
        world.turn()
        self.assertEqual((world.status(job), world.status(other)), (JobStatus.QUEUED, JobStatus.SUCCESS))
        is_there.append(True)
        world.advance(80)
        self.assertEqual(world.status(job), JobStatus.SUCCESS)

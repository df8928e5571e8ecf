"""What clients may do with jobs, on the real engine with a test clock."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import (
    JobLost,
    JobQueueDrained,
    JobQueueError,
    JobQueueFull,
    PrereqError,
)
from ganeti.master.job_queue import MAX_JOBS
from ganeti.model.ids import JobId
from ganeti.model.job import JobStatus
from ganeti.testing.jobs import EPOCH, JobWorld, MemoryJobStore, Probe, queued_job


class SubmitTests(SynchronousTestCase):
    """Taking jobs."""

    def test_ids_and_documents(self) -> None:
        """Ids count from 1; a job is durable when its id is known (S2.2-014)."""
        world = JobWorld(is_started=False)
        self.assertEqual([world.submit(Probe()), world.submit(Probe(), Probe())], [1, 2])
        self.assertEqual(sorted(world.store.documents), [1, 2])

    def test_not_acknowledged_before_durable(self) -> None:
        """The id is not told, and nothing runs, before the document is durable."""
        world = JobWorld(store=MemoryJobStore(is_slow=True))
        ids: list[JobId] = []
        Deferred.fromCoroutine(world.queue.submit([Probe()])).addCallback(ids.append)
        world.turn()
        self.assertEqual((ids, world.queue.jobs(), world.script().calls), ([], [], []))
        world.store.finish()
        self.assertEqual(ids, [1])

    def test_priority(self) -> None:
        """-10, 0 and 10 are taken, 0 is the default, everything else is refused (S2.3-111)."""
        world = JobWorld(is_started=False)
        for priority in (-10, 0, 10):
            job = world.result(world.queue.submit([{"OP_ID": "OP_TEST_PROBE", "priority": priority}]))
            self.assertEqual(world.job(job).ops[0].priority, priority)
        self.assertEqual(world.job(world.submit(Probe())).ops[0].priority, 0)
        for wrong in (5, -20, 11, "high"):
            with self.subTest(wrong=wrong):
                values = [{"OP_ID": "OP_TEST_PROBE", "priority": wrong}]
                error = self.assertRaises(PrereqError, world.result, world.queue.submit(values))
                self.assertIn("priority", str(error))

    def test_refused(self) -> None:
        """Rubbish is refused before anything is written."""
        world = JobWorld()
        wrong: list[Any] = [
            [],
            "x",
            None,
            [7],
            [{}],
            [{"OP_ID": "OP_NONE"}],
            [{"OP_ID": "OP_TEST_PROBE", "x": 1}],
        ]
        for values in wrong:
            with self.subTest(values=values):
                self.assertRaises(PrereqError, world.result, world.queue.submit(values))
        self.assertEqual((world.store.history, len(world.engine.table)), ([], 0))

    def test_reason_trail(self) -> None:
        """The queue adds its mark behind what the client wrote."""
        world = JobWorld(is_started=False)
        job = world.submit(Probe(), Probe(reason=(("gnt:user", "why", 1),)))
        trail = [op.input_value()["reason"] for op in world.job(job).ops]
        mark = ["gnt:opcode:test_probe", f"job={job};index=1", int(EPOCH * 1e9)]
        self.assertEqual(trail[1], [["gnt:user", "why", 1], mark])
        self.assertEqual(trail[0][0][1], f"job={job};index=0")

    def test_secrets_are_not_stored(self) -> None:
        """A secret reaches the operation, but no document and no query."""
        world = JobWorld()
        op = Probe(password="hunter2", secrets={"key": "hunter3", "empty": ""})
        job = world.submit(op)
        world.turn()
        self.assertEqual(world.script().seen[0].password, "hunter2")
        self.assertNotIn(b"hunter", b"".join(world.store.documents.values()))
        stored = world.job(job).ops[0].input_value()
        self.assertEqual((stored["password"], stored["secrets"]["key"]), ("<redacted>", "<redacted>"))

    def test_drained(self) -> None:
        """A drained queue refuses, unless it is told not to."""
        world = JobWorld()
        world.result(world.queue.set_drained(drained=True))
        self.assertRaises(JobQueueDrained, world.result, world.queue.submit([Probe()]))
        self.assertRaises(JobQueueDrained, world.result, world.queue.submit_many([[Probe()]]))
        self.assertEqual(world.result(world.queue.submit([Probe()], drained_ok=True)), 1)
        world.result(world.queue.set_drained(drained=False))
        world.submit(Probe())

    def test_full(self) -> None:
        """More than 5,000 jobs that are not archived are refused; archiving makes room."""
        world = JobWorld(is_started=False)
        batch = world.result(world.queue.submit_many([[Probe()]] * (MAX_JOBS + 1)))
        self.assertEqual([ok for ok, _ in batch], [True] * MAX_JOBS + [False])
        self.assertRaises(JobQueueFull, world.result, world.queue.submit([Probe()]))
        world.result(world.queue.cancel(JobId(1)))
        self.assertTrue(world.result(world.queue.archive(JobId(1))))
        world.submit(Probe())

    def test_disk_full(self) -> None:
        """A job that cannot be written is refused with the reason, and is not there."""
        world = JobWorld()
        world.store.failure = "No space left on device"
        error = self.assertRaises(JobQueueError, world.result, world.queue.submit([Probe()]))
        self.assertIn("No space left", str(error))
        self.assertEqual((world.queue.jobs(), len(world.engine.table)), ([], 0))
        world.store.failure = None
        world.submit(Probe())

    def test_stopping(self) -> None:
        """A daemon that stops takes nothing more."""
        world = JobWorld()
        world.queue.stop_accepting()
        self.assertRaises(JobQueueError, world.result, world.queue.submit([Probe()]))


class BatchTests(SynchronousTestCase):
    """Taking several jobs."""

    def test_relative_dependencies(self) -> None:
        """Negative ids mean jobs of the batch; stored are ids."""
        world = JobWorld(is_started=False)
        jobs = [[Probe()], [Probe(depends=((-1, ()),))], [Probe(depends=((-2, ("success",)), (-1, ())))]]
        self.assertEqual(world.result(world.queue.submit_many(jobs)), [(True, 1), (True, 2), (True, 3)])
        depends = [world.job(JobId(job)).ops[0].input_value()["depends"] for job in (1, 2, 3)]
        self.assertEqual(depends, [None, [[1, []]], [[1, ["success"]], [2, []]]])

    def test_some_refused(self) -> None:
        """A wrong job leaves a hole, and who depends on it is refused, too; the others are taken."""
        world = JobWorld(is_started=False)
        wrong = [{"OP_ID": "OP_TEST_PROBE", "x": 1}]
        jobs: list[Any] = [[Probe()], wrong, [Probe(depends=((-1, ()),))], [Probe(depends=((-3, ()),))], 5]
        results = world.result(world.queue.submit_many(jobs))
        self.assertEqual([ok for ok, _ in results], [True, False, False, True, False])
        self.assertEqual((results[0][1], results[3][1]), (1, 4))
        self.assertIn("opcodes TEST_PROBE", str(results[1][1]))
        self.assertEqual(world.submit(Probe()), 6)

    def test_alone(self) -> None:
        """A single job cannot have a relative dependency."""
        world = JobWorld()
        self.assertRaises(PrereqError, world.result, world.queue.submit([Probe(depends=((-1, ()),))]))

    def test_one_save(self) -> None:
        """A batch is made durable at once."""
        world = JobWorld(is_started=False)
        world.result(world.queue.submit_many([[Probe()]] * 50))
        self.assertEqual([len(saved) for saved in world.store.history], [50])

    def test_large_batch(self) -> None:
        """A large batch is made durable some hundred at a time; relative ids go across."""
        world = JobWorld(is_started=False)
        jobs = [[Probe()], *([[Probe(depends=((-1, ()),))]] * 500)]
        self.assertEqual(world.result(world.queue.submit_many(jobs))[-1], (True, 501))
        self.assertEqual([len(saved) for saved in world.store.history], [200, 200, 101])
        self.assertEqual(world.job(JobId(401)).ops[0].input_value()["depends"], [[400, []]])

    def test_disk_full_in_a_large_batch(self) -> None:
        """What is durable is taken; all after that is refused with the reason; none at all is an error."""
        world = JobWorld(is_started=False, store=MemoryJobStore(is_slow=True))
        results: list[Any] = []
        Deferred.fromCoroutine(world.queue.submit_many([[Probe()]] * 450)).addCallback(results.extend)
        world.store.finish()
        world.store.failure = "No space left on device"
        world.store.finish()
        self.assertEqual([ok for ok, _ in results], [True] * 200 + [False] * 250)
        self.assertIn("No space left", results[-1][1])
        self.assertEqual(len(world.engine.table), 200)
        world.store.is_slow = False
        self.assertRaises(JobQueueError, world.result, world.queue.submit_many([[Probe()]] * 450))


class RequestIdTests(SynchronousTestCase):
    """A submission that is repeated because its answer was lost."""

    def test_same_job(self) -> None:
        """The same request id gives the same job; another one, or none, gives another."""
        world = JobWorld()
        first = world.submit(Probe(), request_id="r1")
        self.assertEqual(world.submit(Probe(), request_id="r1"), first)
        self.assertNotEqual(world.submit(Probe(), request_id="r2"), first)
        self.assertNotEqual(world.submit(Probe()), first)
        world.turn()
        self.assertEqual(world.script().calls.count("run"), 3)

    def test_while_the_first_is_written(self) -> None:
        """A repetition that overtakes the answer waits for the same job."""
        world = JobWorld(store=MemoryJobStore(is_slow=True))
        ids: list[JobId] = []
        for _ in range(3):
            Deferred.fromCoroutine(world.queue.submit([Probe()], request_id="r")).addCallback(ids.append)
        world.store.finish()
        self.assertEqual(ids, [1, 1, 1])

    def test_after_a_failure(self) -> None:
        """A submission that failed may be repeated."""
        world = JobWorld()
        world.store.failure = "full"
        self.assertRaises(JobQueueError, world.result, world.queue.submit([Probe()], request_id="r"))
        world.store.failure = None
        world.submit(Probe(), request_id="r")
        self.assertEqual(len(world.queue.jobs()), 1)

    def test_after_a_restart(self) -> None:
        """It is remembered in the documents, for a quarter of an hour."""
        world = JobWorld(is_started=False)
        batch = world.result(world.queue.submit_many([[Probe()], [Probe()]], request_id="r"))
        again = JobWorld(store=world.store)
        self.assertEqual(again.result(again.queue.submit_many([[Probe()], [Probe()]], request_id="r")), batch)
        late = JobWorld(store=world.store, is_started=False)
        late.advance(901)
        late.result(late.engine.start(late.store.jobs()))
        self.assertNotEqual(late.submit(Probe(), request_id="r"), batch[0][1])

    def test_repeated_batch_with_refusals(self) -> None:
        """Only what was not taken is looked at again."""
        world = JobWorld()
        jobs: list[Any] = [[Probe()], 7, [Probe(depends=((-2, ()),))]]
        first = world.result(world.queue.submit_many(jobs, request_id="r"))
        self.assertEqual(world.result(world.queue.submit_many(jobs, request_id="r")), first)
        self.assertEqual(len(world.queue.jobs()), 2)


class CancelTests(SynchronousTestCase):
    """Cancelling, at every moment."""

    def test_queued(self) -> None:
        """A job that had no turn is cancelled at once and never runs."""
        world = JobWorld(max_running=0)
        job = world.submit(Probe(), Probe())
        answer = world.result(world.queue.cancel(job))
        self.assertEqual((answer.done, answer.text), (True, "Job 1 canceled"))
        world.max_running = 5
        world.submit(Probe(name="other"))
        world.turn()
        self.assertEqual((world.script().calls, world.status(job)), ([], JobStatus.CANCELED))

    def test_waiting_for_locks(self) -> None:
        """The wait ends at once, the place in the queue of the lock is given up."""
        world = JobWorld()
        held = world.script("a").hold()
        world.submit(Probe(name="a", instance="inst1.example.com"))
        world.turn()
        second = world.submit(Probe(name="b", instance="inst1.example.com"))
        world.turn()
        self.assertEqual(world.status(second), JobStatus.WAITING)
        answer = world.result(world.queue.cancel(second))
        self.assertEqual((answer.done, answer.text), (True, "Job 2 will be canceled"))
        self.assertEqual(world.status(second), JobStatus.CANCELED)
        self.assertEqual([row["pending"] for row in world.locks.pending() if row["pending"]], [])
        held.callback(None)
        world.turn()
        self.assertEqual(world.script("b").calls, ["locks"])

    def test_waiting_for_a_job(self) -> None:
        """A parked job is cancelled at once."""
        world = JobWorld()
        world.script("a").hold()
        first = world.submit(Probe(name="a"))
        second = world.submit(Probe(depends=((first, ()),)))
        world.turn()
        world.result(world.queue.cancel(second))
        self.assertEqual(world.status(second), JobStatus.CANCELED)
        self.assertEqual(world.engine.runner.waited_for(), [])

    def test_running(self) -> None:
        """A running job goes on."""
        world = JobWorld()
        held = world.script().hold()
        job = world.submit(Probe())
        world.turn()
        answer = world.result(world.queue.cancel(job))
        self.assertEqual((answer.done, answer.text), (False, "Job 1 is no longer waiting in the queue"))
        held.callback(None)
        world.turn()
        self.assertEqual(world.status(job), JobStatus.SUCCESS)

    def test_between_opcodes(self) -> None:
        """What is done stays done, the rest is cancelled."""
        world = JobWorld()
        held = world.script("a").hold()
        job = world.submit(Probe(name="a"), Probe(name="b"))
        world.turn()
        world.max_running = 0
        held.callback(None)
        world.turn()
        self.assertEqual(world.status(job), JobStatus.QUEUED)
        world.result(world.queue.cancel(job))
        self.assertEqual([op.status.value for op in world.job(job).ops], ["success", "canceled"])

    def test_unknown(self) -> None:
        """Unknown jobs are lost, archived ones are not cancelled."""
        world = JobWorld()
        self.assertRaises(JobLost, world.result, world.queue.cancel(JobId(9)))
        job = world.submit(Probe())
        world.turn()
        world.result(world.queue.archive(job))
        self.assertFalse(world.result(world.queue.cancel(job)).done)

    @given(st.integers(0, 12))
    @settings(max_examples=30, deadline=None)
    def test_any_moment(self, turns: int) -> None:
        """Whenever it comes, the job ends, and with success only if it was refused."""
        world = JobWorld(store=MemoryJobStore(is_slow=True))
        ids: list[JobId] = []
        Deferred.fromCoroutine(world.queue.submit([Probe(instance="inst1.example.com")])).addCallback(
            ids.append
        )
        world.store.finish()
        for turn in range(turns):
            world.reactor.advance(0)
            if turn % 2:
                world.store.finish()
        answers: list[Any] = []
        Deferred.fromCoroutine(world.queue.cancel(ids[0])).addCallback(answers.append)
        for _ in range(10):
            world.turn()
            world.store.finish()
        status = world.status(ids[0])
        self.assertTrue(status.is_final)
        self.assertEqual(status is JobStatus.SUCCESS, not answers[0].done)


class PriorityTests(SynchronousTestCase):
    """Changing the priority."""

    def test_queued_job_overtakes(self) -> None:
        """The order of turns follows, and the document has it (S2.3-117)."""
        world = JobWorld(max_running=0)
        jobs = [world.submit(Probe(name=name)) for name in "abc"]
        self.assertTrue(world.result(world.queue.change_priority(jobs[2], -10)).done)
        self.assertEqual(world.store.jobs()[2].ops[0].priority, -10)
        order: list[str] = []
        for name in "abc":
            script = world.script(name)
            script.check = lambda cluster, name=name: order.append(name)  # type: ignore[misc]
        world.max_running = 1
        world.submit(Probe(name="d"))
        world.turn()
        self.assertEqual(order, ["c", "a", "b"])

    def test_waiting_job_overtakes_in_the_lock(self) -> None:
        """Who waits for a lock is served by the new priority."""
        world = JobWorld()
        held = world.script("a").hold()
        world.submit(Probe(name="a", instance="inst1.example.com"))
        world.turn()
        jobs = [world.submit(Probe(name=name, instance="inst1.example.com")) for name in "bc"]
        world.turn()
        world.script("c").hold()
        world.result(world.queue.change_priority(jobs[1], -10))
        held.callback(None)
        world.turn()
        self.assertEqual([world.status(job).value for job in jobs], ["waiting", "running"])


class ArchiveTests(SynchronousTestCase):
    """The archive."""

    def test_one(self) -> None:
        """Only jobs that ended are archived; they can still be looked at."""
        world = JobWorld()
        world.script("a").hold()
        running, done = world.submit(Probe(name="a")), world.submit(Probe(name="b"))
        world.turn()
        self.assertFalse(world.result(world.queue.archive(running)))
        self.assertTrue(world.result(world.queue.archive(done)))
        self.assertFalse(world.result(world.queue.archive(done)))
        self.assertFalse(world.result(world.queue.archive(JobId(99))))
        view = world.result(world.queue.find(done))
        assert view is not None
        self.assertEqual((view.archived, view.summary), (True, ("TEST_PROBE(b)",)))
        self.assertEqual([live.job.id for live in world.queue.jobs()], [running])
        self.assertEqual(world.result(world.queue.archived_ids()), [done])

    def test_not_before_durable(self) -> None:
        """A job whose end is not durable is not archived."""
        world = JobWorld()
        job = world.submit(Probe())
        world.store.is_slow = True
        world.turn()
        self.assertFalse(world.result(world.queue.archive(job)))

    def test_old_ones(self) -> None:
        """Age counts from the end; -1 archives all that ended (S2.2-033)."""
        world = JobWorld()
        world.script("held").hold()
        old, held = world.submit(Probe()), world.submit(Probe(name="held"))
        world.turn()
        world.advance(100)
        young = world.submit(Probe())
        world.turn()
        self.assertEqual(world.result(world.queue.auto_archive(50, 10)), (1, 0))
        self.assertEqual(sorted(world.store.archived), [old])
        self.assertEqual(world.result(world.queue.auto_archive(-1, 10)), (1, 0))
        self.assertEqual(sorted(world.store.documents), [held])
        self.assertIn(young, world.store.archived)

    def test_ten_thousand(self) -> None:
        """It stops when its time is up, says how many are left, and goes on when called again (S2.2-033)."""
        store = MemoryJobStore()
        for number in range(1, 10_001):
            store.put(queued_job(number, "success"))
        world = JobWorld(store=store)
        archive = store.archive
        sizes: list[int] = []

        async def slow(jobs: Any) -> None:
            await archive(jobs)
            sizes.append(len(jobs))
            world.reactor.advance(0.01)

        store.archive = slow  # type: ignore[method-assign]
        archived, left = world.result(world.queue.auto_archive(-1, 2.0))
        self.assertEqual((archived, left), (2000, 8000))
        self.assertEqual(set(sizes), {10})
        self.assertEqual(world.result(world.queue.auto_archive(-1, 3600)), (8000, 0))
        self.assertEqual(len(store.archived), 10_000)

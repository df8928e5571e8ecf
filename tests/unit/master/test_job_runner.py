"""Turns of jobs: order, locks, dependencies, deferral, restart, disk full and the end of the daemon."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ErrorCode, HypervisorError, PrereqError
from ganeti.logic.lock_attempts import TIMEOUTS_S
from ganeti.model.ids import JobId
from ganeti.model.job import JobStatus
from ganeti.ops.base import Context, Jobs
from ganeti.ops.debug.test_delay import TestDelay
from ganeti.testing.jobs import JobWorld, MemoryJobStore, Probe, queued_job
from ganeti.wire.trace import current_trace

INST = "inst1.example.com"


def recording(world: JobWorld, *names: str) -> list[str]:
    """A list to which probes of these names add theirs when they are executed."""
    order: list[str] = []
    for name in names:
        world.script(name).check = lambda cluster, name=name: order.append(name)  # type: ignore[misc]
    return order


class TurnTests(SynchronousTestCase):
    """Who has its turn."""

    def test_success(self) -> None:
        """A job goes through its states; those it does not stay in are not written one by one."""
        world = JobWorld()
        world.script().gives({"answer": [1, None]})
        job = world.submit(Probe())
        world.turn()
        self.assertEqual(world.status(job), JobStatus.SUCCESS)
        self.assertEqual(world.job(job).ops[0].result_value(), {"answer": [1, None]})
        self.assertEqual(world.store.statuses(job), ["queued", "running", "success"])

    def test_running_is_durable_before_anything_is_done(self) -> None:
        """What is executed is recorded first, so that no job runs twice."""
        world = JobWorld()
        job = world.submit(Probe())
        world.store.is_slow = True
        world.turn()
        self.assertEqual((world.status(job), world.script().calls), (JobStatus.RUNNING, ["locks", "locks"]))
        world.store.finish()
        world.turn()
        self.assertIn("run", world.script().calls)

    def test_end_is_durable_before_it_is_seen(self) -> None:
        """Nobody sees an end that a crash could undo."""
        world = JobWorld()
        held = world.script().hold()
        job = world.submit(Probe())
        world.turn()
        world.store.is_slow = True
        held.callback(None)
        world.turn()
        self.assertEqual(world.result(world.queue.status(job)), JobStatus.RUNNING)
        world.store.finish()
        self.assertEqual(world.result(world.queue.status(job)), JobStatus.SUCCESS)

    def test_priorities(self) -> None:
        """More urgent jobs first, equal ones as they came (S2.3-110, S2.3-119, S2.3-120)."""
        world = JobWorld(max_running=1, is_started=False)
        order = recording(world, *"abcde")
        for name, priority in zip("abcde", (10, 0, -10, 0, -10)):
            world.submit(Probe(name=name, priority=priority))  # type: ignore[arg-type]
        world.engine.runner.start()
        world.turn()
        self.assertEqual("".join(order), "cebda")

    def test_turn_is_one_opcode(self) -> None:
        """After each opcode others have their turn: here a more urgent job (S2.3-112)."""
        world = JobWorld(max_running=1)
        order = recording(world, *"123u")
        held = world.script("1").hold()
        job = world.submit(*(Probe(name=name) for name in "123"))
        world.turn()
        world.submit(Probe(name="u", priority=-10))
        held.callback(None)
        world.turn()
        self.assertEqual(("".join(order), world.status(job)), ("1u23", JobStatus.SUCCESS))

    def test_first_unfinished_opcode_decides(self) -> None:
        """An urgent later opcode does not make the first one urgent (S2.3-113)."""
        world = JobWorld(max_running=1, is_started=False)
        order = recording(world, *"abn")
        world.submit(Probe(name="a", priority=10), Probe(name="b", priority=-10))
        world.submit(Probe(name="n"))
        world.engine.runner.start()
        world.turn()
        self.assertEqual("".join(order), "nab")

    def test_so_many_at_a_time(self) -> None:
        """No more turns than allowed; a changed limit counts at once."""
        world = JobWorld(max_running=2)
        held = [world.script(name).hold() for name in "abcd"]
        for name in "abcd":
            world.submit(Probe(name=name))
        world.turn()
        self.assertEqual(world.engine.runner.running, 2)
        world.max_running = 3
        held[0].callback(None)
        world.turn()
        self.assertEqual(world.engine.runner.running, 3)

    def test_failure(self) -> None:
        """An error ends the job; later opcodes are not executed."""
        world = JobWorld()
        world.script("a").fails(HypervisorError("no such machine"))
        job = world.submit(Probe(name="a"), Probe(name="b"))
        world.turn()
        self.assertEqual(world.error(job), ["HypervisorError", ["no such machine"]])
        self.assertEqual(world.error(job, 1), ["OpExecError", ["Preceding opcode failed"]])
        self.assertEqual(world.script("b").calls, [])

    def test_mistake_in_the_code(self) -> None:
        """An unexpected exception is logged and becomes an error with a reference id."""
        world = JobWorld()
        world.script().fails(ZeroDivisionError("oops"))
        job = world.submit(Probe())
        world.turn()
        name, args = world.error(job)
        self.assertEqual(name, "ProgrammerError")
        self.assertIn("0badcafe", args[0])
        self.assertNotIn("oops", args[0])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_many_jobs(self) -> None:
        """A thousand trivial jobs run without deep recursion."""
        world = JobWorld(is_started=False)
        for _ in range(1000):
            world.submit(Probe())
        world.engine.runner.start()
        world.turn(500)
        self.assertEqual({view.job.ops[0].status for view in world.queue.jobs()}, {JobStatus.SUCCESS})

    def test_feedback(self) -> None:
        """Messages become log entries with serial numbers; the file is noted, nothing is saved."""
        world = JobWorld()
        held: Deferred[None] = Deferred()

        async def run(ctx: Context) -> None:
            ctx.feedback.info("hello")
            ctx.feedback.step(1, 2, "first")
            ctx.feedback.warning("careful", hint="look")
            ctx.feedback.event("delay-test", {"a": 1})
            await held
            ctx.feedback.info("end")

        world.script().run = run
        job = world.submit(Probe())
        world.turn()
        saves = len(world.store.history)
        entries = world.job(job).log_after(0)
        self.assertEqual(
            [entry.message for entry in entries],
            ["hello", "STEP 1/2 first", " - WARNING: careful", "      Hint: look", {"a": 1}],
        )
        self.assertEqual([entry.serial for entry in entries], [1, 2, 3, 4, 5])
        self.assertEqual((len(world.store.notes), saves), (4, 2))
        held.callback(None)
        world.turn()
        self.assertEqual(world.store.jobs()[0].last_serial, 6)

    def test_job_id_in_context(self) -> None:
        """Whatever a job does knows which job it is for; turns do not mix."""
        world = JobWorld()
        seen: list[str | None] = []

        async def run(ctx: Context) -> None:
            await ctx.sleep(1)
            seen.append(current_trace.get())

        for name in "ab":
            world.script(name).run = run
            world.submit(Probe(name=name))
        world.turn()
        world.advance(1)
        self.assertEqual((seen, current_trace.get()), (["1", "2"], None))

    def test_child_jobs(self) -> None:
        """Jobs that an operation asks for inherit from it (jobqueue.md section 10)."""
        world = JobWorld()
        child, second = Probe(name="c"), Probe(name="d", depends=((-1, ()),), comment="own")
        world.script("p").gives(Jobs(jobs=((child,), (second,)), extra={"more": 1}))
        job = world.submit(Probe(name="p", priority=-10, debug_level=3, reason=(("gnt:user", "x", 5),)))
        world.turn()
        self.assertEqual(world.job(job).ops[0].result_value(), {"jobs": [[True, 2], [True, 3]], "more": 1})
        op = world.job(JobId(2)).ops[0].input_value()
        self.assertEqual(
            (op["priority"], op["debug_level"], op["comment"]), (-10, 3, "Submitted by OP_TEST_PROBE")
        )
        self.assertEqual(op["reason"][0], ["gnt:user", "x", 5])
        self.assertEqual(world.job(JobId(3)).ops[0].input_value()["comment"], "own")
        self.assertEqual(world.status(JobId(3)), JobStatus.SUCCESS)


class LockTests(SynchronousTestCase):
    """Waiting for locks."""

    def blocked(self, **options: Any) -> tuple[JobWorld, Deferred[Any], JobId]:
        """A world in which a second job waits for the lock of the first one."""
        world = JobWorld(**options)
        held = world.script("a").hold()
        world.submit(Probe(name="a", instance=INST))
        world.turn()
        job = world.submit(Probe(name="b", instance=INST))
        world.turn()
        return world, held, job

    def test_attempts(self) -> None:
        """Waiting during an attempt, queued after it, in memory and on disk (S2.3-114)."""
        world, held, job = self.blocked(max_running=2)
        self.assertEqual(world.status(job), JobStatus.WAITING)
        self.assertEqual(world.store.statuses(job)[-1], "waiting")
        world.max_running = 1
        world.advance(TIMEOUTS_S[0] * 1.06)
        self.assertEqual(world.status(job), JobStatus.QUEUED)
        self.assertEqual(world.store.statuses(job)[-1], "queued")
        held.callback(None)
        world.turn()
        self.assertEqual(world.status(job), JobStatus.SUCCESS)

    def test_others_have_their_turn(self) -> None:
        """While a job waits between its attempts another one of its priority runs (S2.3-122)."""
        world, _, job = self.blocked(max_running=2)
        third = world.submit(Probe(name="c"))
        world.turn()
        self.assertEqual(world.status(third), JobStatus.QUEUED)
        world.advance(TIMEOUTS_S[0] * 1.06)
        self.assertEqual((world.status(third), world.status(job)), (JobStatus.SUCCESS, JobStatus.WAITING))

    def test_schedule(self) -> None:
        """The worked schedule: a round of 28 attempts, then more urgent; saved each time (S2.3-115)."""
        world, _, job = self.blocked()
        begin = world.reactor.seconds()
        while world.job(job).ops[0].priority == 0:
            world.advance(1.0)
        self.assertTrue(abs((world.reactor.seconds() - begin) / 1853.7 - 1) < 0.05)
        self.assertEqual(
            world.store.statuses(job).count("waiting"), 28 + 1, "and the first of the next round"
        )
        while world.job(job).ops[0].priority == -1:
            world.advance(10.0)
        self.assertEqual(world.store.jobs()[1].ops[0].priority, -2)

    def test_blocking_at_the_highest_priority(self) -> None:
        """At -20 the first attempt already waits for ever (S2.3-116)."""
        store = MemoryJobStore()
        store.put(queued_job(1, priority=-20))
        world = JobWorld(store=store, is_started=False)
        world.script("a").hold()
        document = store.jobs()[0]
        held = world.locks.held(
            world.registry.operation(Probe(instance=INST)).locks(world.config.current()),
            owner="x",
            priority=0,
            timeout_s=None,
        )
        world.result(held.__aenter__())
        world.script(f"job{document.id}").locks = lambda cluster: world.registry.operation(
            Probe(instance=INST)
        ).locks(cluster)
        world.result(world.engine.start(store.jobs()))
        world.advance(100_000)
        self.assertEqual(world.store.statuses(JobId(1)), ["waiting"])
        world.result(held.__aexit__(None, None, None))
        self.assertEqual(world.status(JobId(1)), JobStatus.SUCCESS)

    def test_lock_priority(self) -> None:
        """The lock serves the more urgent job first (S2.3-118, SX-002)."""
        world, held, job = self.blocked()
        urgent = world.submit(Probe(name="u", instance=INST, priority=-10))
        world.script("u").hold()
        world.turn()
        held.callback(None)
        world.turn()
        self.assertEqual((world.status(urgent), world.status(job)), (JobStatus.RUNNING, JobStatus.WAITING))

    def test_no_resources_now(self) -> None:
        """What lacks for a moment only is tried again later, without a slot (jobqueue.md section 10)."""
        world = JobWorld(max_running=1)
        lacking = PrereqError("no memory now", code=ErrorCode.NO_RESOURCES_NOW)
        missing = [True]

        def check(cluster: Any) -> None:
            if missing:
                raise lacking

        world.script().check = check
        job = world.submit(Probe())
        world.turn()
        self.assertEqual((world.status(job), world.engine.runner.running), (JobStatus.QUEUED, 0))
        missing.clear()
        world.advance(6)
        self.assertEqual(world.status(job), JobStatus.SUCCESS)


class DependencyTests(SynchronousTestCase):
    """Jobs that wait for others."""

    def test_waits_without_a_turn(self) -> None:
        """It is parked, shown in the list of locks, and goes on when the other one ended."""
        world = JobWorld(max_running=2)
        held = world.script("a").hold()
        first = world.submit(Probe(name="a"))
        second = world.submit(Probe(name="b", depends=((first, ("success",)),)))
        world.turn()
        self.assertEqual((world.status(second), world.engine.runner.running), (JobStatus.WAITING, 1))
        row = {"name": "job/1", "mode": None, "owner": None, "pending": [["job", ["2"]]]}
        self.assertEqual(world.engine.runner.waited_for(), [row])
        held.callback(None)
        world.turn()
        self.assertEqual(world.status(second), JobStatus.SUCCESS)

    def test_belongs_to_an_opcode(self) -> None:
        """Earlier opcodes of the job run before it waits."""
        world = JobWorld()
        world.script("a").hold()
        first = world.submit(Probe(name="a"))
        second = world.submit(Probe(name="b"), Probe(name="c", depends=((first, ()),)))
        world.turn()
        self.assertEqual([op.status.value for op in world.job(second).ops], ["success", "waiting"])

    def test_other_end(self) -> None:
        """A wrong end fails the job, a cancelled job cancels it."""
        world = JobWorld()
        world.script("a").fails(HypervisorError("x"))
        failed = world.submit(Probe(name="a"))
        canceled = world.submit(Probe(name="never"), Probe(depends=((failed, ()),)))
        world.turn()
        wants_success = world.submit(Probe(depends=((failed, ("success",)),)))
        wants_nothing = world.submit(Probe(depends=((failed, ()),)))
        world.turn()
        self.assertIn("finished with status error", world.error(wants_success)[1][0])
        self.assertEqual(world.status(wants_nothing), JobStatus.SUCCESS)
        self.assertEqual(world.status(canceled), JobStatus.SUCCESS)

    def test_canceled_dependency(self) -> None:
        """All opcodes that are not finished are cancelled, unless `canceled` was wanted."""
        world = JobWorld(max_running=0)
        first = world.submit(Probe())
        second = world.submit(Probe(depends=((first, ()),)), Probe())
        third = world.submit(Probe(depends=((first, ("canceled",)),)))
        world.result(world.queue.cancel(first))
        world.max_running = 5
        world.engine.runner.resume()
        world.turn()
        self.assertEqual([op.status.value for op in world.job(second).ops], ["canceled", "canceled"])
        self.assertEqual(world.status(third), JobStatus.SUCCESS)

    def test_archived_unknown_and_itself(self) -> None:
        """Archived jobs count, unknown ones and the job itself are errors."""
        world = JobWorld()
        first = world.submit(Probe())
        world.turn()
        world.result(world.queue.archive(first))
        good = world.submit(Probe(depends=((first, ("success",)),)))
        unknown = world.submit(Probe(depends=((999, ()),)))
        itself = world.submit(Probe(depends=((unknown + 1, ()),)))
        world.turn()
        self.assertEqual(world.status(good), JobStatus.SUCCESS)
        self.assertIn("does not exist", world.error(unknown)[1][0])
        self.assertIn("depends on itself", world.error(itself)[1][0])

    def test_chain(self) -> None:
        """A long chain runs through by itself."""
        world = JobWorld()
        jobs = [[Probe()]] + [[Probe(depends=((-1, ("success",)),))] for _ in range(99)]
        world.result(world.queue.submit_many(jobs))
        world.turn(1000)
        self.assertEqual(world.status(JobId(100)), JobStatus.SUCCESS)


class RestartTests(SynchronousTestCase):
    """Jobs of an earlier daemon."""

    def test_goes_on(self) -> None:
        """Queued and waiting jobs run, with their priorities; running ones are errors (S2.3-117)."""
        store = MemoryJobStore()
        for job in (
            queued_job(1, "running", "queued"),
            queued_job(2, "success", "waiting", priority=-3),
            queued_job(3, "queued", priority=-4),
            queued_job(4, "success"),
        ):
            store.put(job)
        world = JobWorld(store=store, max_running=1, is_started=False)
        order = recording(world, "job2", "job3")
        world.result(world.engine.start(store.jobs()))
        self.assertEqual(
            [world.status(JobId(job)).value for job in (1, 2, 3, 4)], ["error"] + ["success"] * 3
        )
        self.assertEqual(order, ["job3", "job2"])
        self.assertEqual(world.script("job2").calls.count("run"), 1)
        self.assertEqual(world.script("job1").calls, [])

    def test_recovery_is_durable_first(self) -> None:
        """What became of them is written before anything runs."""
        store = MemoryJobStore(is_slow=True)
        store.put(queued_job(1, "waiting"))
        world = JobWorld(store=store, is_started=False)
        Deferred.fromCoroutine(world.engine.start(store.jobs()))
        world.turn()
        self.assertEqual(world.script("job1").calls, [])
        store.finish()
        world.turn()
        self.assertEqual(store.statuses(JobId(1)), ["queued"])

    def test_unknown_opcode(self) -> None:
        """An opcode of another release fails with a clear text; its summary is its name."""
        store = MemoryJobStore()
        store.put(queued_job(1, op_id="OP_OF_ANOTHER_AGE"))
        world = JobWorld(store=store)
        world.turn()
        self.assertIn("OP_OF_ANOTHER_AGE", world.error(JobId(1))[1][0])
        self.assertEqual(world.queue.jobs()[0].summary, ("OF_ANOTHER_AGE",))

    def test_forgotten_secret(self) -> None:
        """A job whose secret is lost is an error, not executed with the wrong one."""
        world = JobWorld(max_running=0)
        job = world.submit(Probe(password="hunter2"))
        again = JobWorld(store=world.store)
        again.turn()
        self.assertIn("'password' was forgotten", again.error(job)[1][0])
        self.assertEqual(again.script().calls, [])


class DiskFullTests(SynchronousTestCase):
    """Nothing can be written."""

    def test_running_job(self) -> None:
        """A job whose end cannot be written is an error, visible at once, and written later."""
        world = JobWorld()
        held = world.script().hold()
        job = world.submit(Probe())
        world.turn()
        world.store.failure = "No space left on device"
        held.callback(None)
        world.turn()
        self.assertEqual(world.result(world.queue.status(job)), JobStatus.ERROR)
        self.assertIn("No space left", world.error(job)[1][0])
        world.store.failure = None
        world.advance(2)
        self.assertEqual(world.store.statuses(job)[-1], "error")

    def test_queued_jobs_wait(self) -> None:
        """Nothing is started, and everything goes on when there is space again."""
        world = JobWorld(max_running=1)
        held = world.script("a").hold()
        world.submit(Probe(name="a"))
        jobs = [world.submit(Probe(name="b")) for _ in range(5)]
        world.turn()
        world.store.failure = "No space left on device"
        held.callback(None)
        world.advance(30)
        self.assertEqual({world.status(job).value for job in jobs}, {"queued"})
        self.assertEqual(world.script("b").calls, [])
        world.store.failure = None
        world.advance(2)
        self.assertEqual({world.status(job).value for job in jobs}, {"success"})

    def test_start_cannot_be_recorded(self) -> None:
        """A job that was about to start goes back to the queue."""
        world = JobWorld()
        job = world.submit(Probe())
        world.store.failure = "No space left on device"
        world.turn()
        self.assertEqual((world.status(job), world.script().calls.count("run")), (JobStatus.QUEUED, 0))
        world.store.failure = None
        world.advance(2)
        self.assertEqual(world.status(job), JobStatus.SUCCESS)


class StopTests(SynchronousTestCase):
    """The clean end of the daemon."""

    def test_waiting_goes_back(self) -> None:
        """Waiting and parked jobs are queued on disk, running ones finish, nothing starts."""
        world = JobWorld()
        held = world.script("a").hold()
        running = world.submit(Probe(name="a", instance=INST), Probe(name="a2"))
        world.turn()
        waiting = world.submit(Probe(name="b", instance=INST))
        parked = world.submit(Probe(name="c", depends=((running, ()),)))
        world.turn()
        stopped = Deferred.fromCoroutine(world.engine.stop(30))
        world.turn()
        self.assertNoResult(stopped)
        held.callback(None)
        world.turn()
        self.successResultOf(stopped)
        found = {job.id: [op.status.value for op in job.ops] for job in world.store.jobs()}
        self.assertEqual(found, {running: ["success", "queued"], waiting: ["queued"], parked: ["queued"]})

    def test_grace_is_over(self) -> None:
        """What does not end in time is cancelled and recorded as an error."""
        world = JobWorld()
        job = world.submit(TestDelay(duration=1000.0))
        world.turn()
        stopped = Deferred.fromCoroutine(world.engine.stop(30))
        world.turn()
        world.advance(31)
        self.successResultOf(stopped)
        self.assertIn("stopped while this opcode was running", world.error(job)[1][0])
        self.assertEqual(world.store.statuses(job)[-1], "error")

    def test_nothing_to_do(self) -> None:
        """An idle daemon ends at once and leaves no timer."""
        world = JobWorld()
        world.submit(Probe())
        world.turn()
        self.successResultOf(Deferred.fromCoroutine(world.engine.stop(30)))
        self.assertEqual(world.reactor.getDelayedCalls(), [])


class IndependenceTests(SynchronousTestCase):
    """No job waits for another one's disk or nodes (S2.2-015 to S2.2-019)."""

    def test_slow_replication_blocks_no_reader(self) -> None:
        """While a save hangs, feedback, queries and cancelling of other jobs answer."""
        world = JobWorld(max_running=1)
        entered: list[Context] = []

        async def run(ctx: Context) -> None:
            entered.append(ctx)
            await Deferred()

        world.script("a").run = run
        running = world.submit(Probe(name="a"))
        queued = world.submit(Probe(name="b"))
        world.turn()
        world.store.is_slow = True
        canceled = Deferred.fromCoroutine(world.queue.cancel(queued))
        world.turn()
        entered[0].feedback.info("still talking")
        self.assertEqual(world.job(running).last_serial, 1)
        self.assertEqual(len(world.queue.jobs()), 2)
        submitted = Deferred.fromCoroutine(world.queue.submit([Probe()]))
        self.assertNoResult(submitted)
        world.store.finish()
        self.assertTrue(self.successResultOf(canceled).done)
        self.assertEqual(self.successResultOf(submitted), 3)

    def test_order_per_job_is_kept(self) -> None:
        """States of a job are saved in the order in which they came (S2.2-020)."""
        world = JobWorld()
        jobs = [world.submit(Probe(), Probe()) for _ in range(20)]
        world.turn()
        for job in jobs:
            self.assertEqual(world.store.statuses(job)[-1], "success")
            self.assertEqual(world.store.statuses(job)[0], "queued")

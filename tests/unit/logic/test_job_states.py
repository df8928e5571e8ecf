"""The life of a job, state by state."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ErrorCode, PrereqError
from ganeti.logic import job_states as states
from ganeti.model.job import FINAL, NULL, Job, JobStatus
from ganeti.testing.jobs import queued_job

NOW = 1_700_000_100.5
TIME = (1_700_000_100, 500_000)
ANY = st.sampled_from(JobStatus)


def statuses(job: Job) -> list[str]:
    """States of the opcodes."""
    return [op.status.value for op in job.ops]


class StatusTests(SynchronousTestCase):
    """The status of a job follows from those of its opcodes."""

    def test_table(self) -> None:
        """The established rule (jobqueue.md section 2)."""
        for ops, expected in (
            ("queued", "queued"),
            ("success success", "success"),
            ("success queued", "queued"),
            ("success waiting queued", "waiting"),
            ("waiting running", "running"),
            ("running waiting", "waiting"),
            ("success canceling canceling", "canceling"),
            ("success error error", "error"),
            ("running error", "error"),
            ("error canceled", "error"),
            ("canceled error", "canceled"),
            ("success canceled", "canceled"),
        ):
            with self.subTest(ops=ops):
                self.assertEqual(states.status_of(JobStatus(op) for op in ops.split()), expected)

    @given(st.lists(ANY, min_size=1, max_size=6))
    def test_success_needs_all(self, ops: list[JobStatus]) -> None:
        """A job succeeded exactly if all its opcodes did."""
        succeeded = states.status_of(ops) is JobStatus.SUCCESS
        self.assertEqual(succeeded, set(ops) == {JobStatus.SUCCESS})

    def test_priorities(self) -> None:
        """The next opcode decides in the queue (S2.3-113), the most urgent one is shown."""
        ops = (
            *queued_job(1, "success", priority=-20).ops,
            *queued_job(1, priority=10).ops,
            *queued_job(1, priority=-10).ops,
        )
        job = Job(id=queued_job(1).id, ops=ops)
        self.assertEqual((states.pool_priority(job), states.shown_priority(job)), (10, -10))
        done = states.canceled(job, NOW)
        self.assertEqual((states.pool_priority(done), states.shown_priority(done)), (0, 0))


class LifeTests(SynchronousTestCase):
    """From state to state."""

    def test_two_opcodes(self) -> None:
        """Queued, waiting, running, queued again, and success after the last one."""
        job = queued_job(1, "queued", "queued")
        seen = []
        for _ in range(2):
            job = states.picked_up(job, NOW)
            seen.append(states.job_status(job).value)
            job = states.started(job, NOW + 1)
            seen.append(states.job_status(job).value)
            job = states.succeeded(job, NULL, NOW + 2)
            seen.append(states.job_status(job).value)
        self.assertEqual(seen, ["waiting", "running", "queued", "waiting", "running", "success"])
        self.assertEqual((job.start_timestamp, job.end_timestamp), (TIME, (TIME[0] + 2, TIME[1])))
        self.assertEqual(job.ops[1].exec_timestamp, (TIME[0] + 1, TIME[1]))

    def test_deferred(self) -> None:
        """A deferred job is queued again, with its first start and perhaps a new priority (S2.3-114)."""
        job = states.deferred(states.picked_up(queued_job(1), NOW), -1)
        self.assertEqual((statuses(job), job.ops[0].priority), (["queued"], -1))
        self.assertEqual(states.picked_up(job, NOW + 9).ops[0].start_timestamp, TIME)

    def test_failure_ends_all(self) -> None:
        """The opcode has the error, later ones say so, earlier ones stay."""
        job = states.started(queued_job(1, "success", "waiting", "queued"), NOW)
        job = states.failed(job, PrereqError("no such thing", code=ErrorCode.UNKNOWN), NOW)
        self.assertEqual(statuses(job), ["success", "error", "error"])
        self.assertEqual(job.ops[1].result_value(), ["OpPrereqError", ["no such thing", "unknown_entity"]])
        self.assertEqual(job.ops[2].result_value(), ["OpExecError", ["Preceding opcode failed"]])
        self.assertEqual(job.end_timestamp, TIME)

    def test_not_recorded(self) -> None:
        """A success that could not be written becomes an error."""
        job = states.not_recorded(queued_job(1, "success", "success"), PrereqError("disk full"), NOW)
        self.assertEqual(statuses(job), ["success", "error"])

    def test_logs(self) -> None:
        """Serial numbers run over the whole job."""
        job = states.logged(queued_job(1, "success", "running"), 0, "message", ["a", "b"], NOW)
        job = states.logged(job, 1, "delay-test", [{"x": 1}], NOW)
        self.assertEqual([entry.serial for entry in job.log_after(0)], [1, 2, 3])
        self.assertEqual(states.with_newer_logs(queued_job(1, "success", "success"), job).last_serial, 3)


class RequestTests(SynchronousTestCase):
    """Cancelling and changing the priority."""

    def test_cancel_in_every_state(self) -> None:
        """Queued is cancelled, waiting will be, everything else goes on (jobqueue.md section 6)."""
        for ops, after, text in (
            ("queued queued", "canceled canceled", "Job 3 canceled"),
            ("success queued", "success canceled", "Job 3 canceled"),
            ("waiting queued", "canceling canceling", "Job 3 will be canceled"),
            ("success waiting", "success canceling", "Job 3 will be canceled"),
            ("running queued", None, "Job 3 is no longer waiting in the queue"),
            ("canceling", None, "Job 3 is no longer waiting in the queue"),
            ("success", None, "Job 3 is no longer waiting in the queue"),
            ("error error", None, "Job 3 is no longer waiting in the queue"),
            ("canceled", None, "Job 3 is no longer waiting in the queue"),
        ):
            with self.subTest(ops=ops):
                job = queued_job(3, *ops.split())
                answer = states.cancel_requested(job, NOW)
                self.assertEqual(answer.text, text)
                self.assertEqual(answer.accepted, after is not None)
                self.assertEqual(" ".join(statuses(answer.job)), after or ops)

    def test_canceled_result(self) -> None:
        """A cancelled opcode says so, and the job has an end."""
        job = states.cancel_requested(queued_job(3), NOW).job
        self.assertEqual(job.ops[0].result_value(), "Job canceled by request")
        self.assertEqual(job.end_timestamp, TIME)

    def test_change_priority(self) -> None:
        """Only opcodes that have not begun change; their input stays."""
        job = queued_job(3, "success", "running", "queued", "waiting")
        answer = states.priority_changed(job, -10)
        self.assertTrue(answer.accepted)
        self.assertEqual([op.priority for op in answer.job.ops], [0, 0, -10, -10])
        self.assertEqual(answer.text, "Priorities of pending opcodes for job 3 have been changed to -10")
        self.assertEqual(answer.job.ops[2].input, job.ops[2].input)

    def test_change_priority_refused(self) -> None:
        """Ended, cancelled and running jobs, and odd numbers, are refused (S2.3-111)."""
        for ops, priority in (
            ("success", 0),
            ("canceling", 0),
            ("running", 0),
            ("queued", 5),
            ("queued", -20),
        ):
            with self.subTest(ops=ops, priority=priority):
                job = queued_job(3, ops)
                answer = states.priority_changed(job, priority)
                self.assertEqual((answer.accepted, answer.job), (False, job))


class RecoveryTests(SynchronousTestCase):
    """After the master daemon was started again (jobqueue.md section 9)."""

    def test_table(self) -> None:
        """Waiting is queued again, running and canceling failed, the rest stays."""
        for ops, after in (
            ("queued", "queued"),
            ("success queued", "success queued"),
            ("waiting queued", "queued queued"),
            ("success waiting", "success queued"),
            ("running queued", "error error"),
            ("success running", "success error"),
            ("canceling canceling", "error error"),
            ("success", "success"),
            ("error error", "error error"),
            ("canceled", "canceled"),
        ):
            with self.subTest(ops=ops):
                job = states.recovered(queued_job(1, *ops.split()), NOW)
                self.assertEqual(" ".join(statuses(job)), after)

    def test_text(self) -> None:
        """The error says what happened."""
        job = states.recovered(queued_job(1, "running"), NOW)
        self.assertEqual(job.ops[0].result_value(), ["OpExecError", ["Unclean master daemon shutdown"]])
        self.assertEqual(job.end_timestamp, TIME)

    @given(st.lists(ANY, min_size=1, max_size=5), st.integers(-20, 19))
    def test_nothing_is_lost(self, ops: list[JobStatus], priority: int) -> None:
        """Finished opcodes and priorities stay, no job runs afterwards (S2.3-117)."""
        before = queued_job(1, *ops, priority=priority)
        after = states.recovered(before, NOW)
        self.assertNotIn(
            states.job_status(after), (JobStatus.RUNNING, JobStatus.WAITING, JobStatus.CANCELING)
        )
        self.assertEqual({op.priority for op in after.ops}, {priority})
        for old, new in zip(before.ops, after.ops):
            if old.status in FINAL:
                self.assertIs(new, old)


class AgeTests(SynchronousTestCase):
    """Which jobs are old."""

    def test_age(self) -> None:
        """The end counts, else the start, else the arrival; -1 means any."""
        received = queued_job(1)
        ended = states.canceled(received, NOW)
        self.assertFalse(states.is_older_than(ended, 10, NOW + 10))
        self.assertTrue(states.is_older_than(ended, 10, NOW + 10.1))
        self.assertTrue(states.is_older_than(ended, -1, NOW))
        self.assertTrue(states.is_older_than(received, 10, NOW))

"""The order in which jobs have their turn, and dependencies between them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PrereqError
from ganeti.logic.job_schedule import (
    CancelThis,
    Fail,
    Go,
    ReadyJobs,
    Wait,
    WaitingJobs,
    check_dependency,
    resolve_depends,
)
from ganeti.model.ids import JobId
from ganeti.model.job import JobStatus


def drain(ready: ReadyJobs) -> list[int]:
    """All jobs in their order."""
    found: list[int] = []
    while (job := ready.pop()) is not None:
        found.append(job)
    return found


class ReadyTests(SynchronousTestCase):
    """Most urgent first, oldest first inside a priority."""

    @given(st.lists(st.integers(-20, 19), max_size=1000))
    def test_order(self, priorities: list[int]) -> None:
        """Lower numbers come first, equal ones as they came (S2.3-110, S2.3-119, S2.3-120)."""
        ready = ReadyJobs()
        for job, priority in enumerate(priorities, 1):
            ready.add(JobId(job), priority)
        self.assertEqual(len(ready), len(priorities))
        expected = sorted(range(1, len(priorities) + 1), key=lambda job: priorities[job - 1])
        self.assertEqual(drain(ready), expected)

    def test_defer_goes_behind_equals(self) -> None:
        """A job that comes back waits behind those of its priority (S2.3-121)."""
        ready = ReadyJobs()
        for job in (1, 2):
            ready.add(JobId(job), 0)
        first = ready.pop()
        assert first is not None
        ready.add(first, 0)
        self.assertEqual(drain(ready), [2, 1])

    def test_change_priority(self) -> None:
        """A more urgent job overtakes, but keeps its age among its new equals."""
        ready = ReadyJobs()
        for job in (1, 2, 3):
            ready.add(JobId(job), 10)
        ready.add(JobId(4), 0)
        ready.change_priority(JobId(2), 0)
        ready.change_priority(JobId(9), -20)
        self.assertEqual(drain(ready), [2, 4, 1, 3])

    @given(st.lists(st.tuples(st.sampled_from("arcp"), st.integers(1, 8), st.integers(-20, 19))))
    def test_no_job_twice(self, steps: list[tuple[str, int, int]]) -> None:
        """Whatever is done, a job that is in there comes out once, the others never."""
        ready, inside = ReadyJobs(), set[int]()
        for what, number, priority in steps:
            job = JobId(number)
            match what:
                case "a":
                    ready.add(job, priority)
                    inside.add(job)
                case "r":
                    ready.remove(job)
                    inside.discard(job)
                case "c":
                    ready.change_priority(job, priority)
                case _:
                    popped = ready.pop()
                    self.assertEqual(popped is None, not inside)
                    inside.discard(popped or 0)
            self.assertEqual(len(ready), len(inside))
        self.assertEqual(sorted(drain(ready)), sorted(inside))


class WaitingTests(SynchronousTestCase):
    """Jobs parked until another one ends."""

    def test_park_and_wake(self) -> None:
        """All that wait for a job are told once, in their order."""
        waiting = WaitingJobs()
        for job, awaited in ((2, 1), (3, 1), (4, 3)):
            waiting.park(JobId(job), JobId(awaited))
        self.assertEqual(list(waiting), [(1, (2, 3)), (3, (4,))])
        self.assertTrue(waiting.remove(JobId(2)))
        self.assertFalse(waiting.remove(JobId(2)))
        self.assertEqual(waiting.ended(JobId(1)), (3,))
        self.assertEqual(waiting.ended(JobId(1)), ())
        self.assertEqual(list(waiting), [(3, (4,))])


class DependencyTests(SynchronousTestCase):
    """What a dependency means in each state of the other job (jobqueue.md section 5)."""

    def test_table(self) -> None:
        """The established order of tests."""
        for status, wanted, expected in (
            ("queued", (), Wait(JobId(1))),
            ("running", ("success",), Wait(JobId(1))),
            ("canceling", ("canceled",), Wait(JobId(1))),
            ("success", (), Go()),
            ("error", (), Go()),
            ("success", ("success",), Go()),
            ("error", ("success", "error"), Go()),
            ("canceled", ("canceled",), Go()),
            ("canceled", (), CancelThis()),
            ("canceled", ("success",), CancelThis()),
        ):
            with self.subTest(status=status, wanted=wanted):
                self.assertEqual(check_dependency(JobId(2), JobId(1), wanted, JobStatus(status)), expected)

    def test_failures(self) -> None:
        """Another end, an unknown job and the job itself make it fail, with the reason."""
        for job, status, text in (
            (1, JobStatus.ERROR, "job 1 finished with status error, not one of success"),
            (1, None, "job 2 depends on job 1, which does not exist"),
            (2, JobStatus.RUNNING, "job 2 depends on itself"),
        ):
            with self.subTest(text=text):
                self.assertEqual(check_dependency(JobId(2), JobId(job), ("success",), status), Fail(text))


class RelativeTests(SynchronousTestCase):
    """Distances inside a batch."""

    BATCH = {0: JobId(10), 2: JobId(12)}

    def test_resolved(self) -> None:
        """-1 is the job before; ids stay (jobqueue.md section 3)."""
        self.assertEqual(
            resolve_depends(((-1, ("success",)), (5, ())), 3, self.BATCH), ((12, ("success",)), (5, ()))
        )
        self.assertEqual(resolve_depends(((-3, ()),), 3, self.BATCH), ((10, ()),))
        self.assertIsNone(resolve_depends(None, 3, self.BATCH))

    def test_refused(self) -> None:
        """Jobs before the batch, refused ones, lonely jobs, zero, and states that are not final."""
        cases: list[tuple[Any, Any]] = [
            (((-4, ()),), self.BATCH),
            (((-2, ()),), self.BATCH),
            (((-1, ()),), None),
            (((0, ()),), self.BATCH),
            (((5, ("running",)),), self.BATCH),
        ]
        for depends, batch in cases:
            with self.subTest(depends=depends):
                self.assertRaises(PrereqError, resolve_depends, depends, 3, batch)

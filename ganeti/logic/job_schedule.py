"""Which job has its turn: the queue by priority, and what dependencies between jobs mean. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ganeti.errors import PrereqError
from ganeti.model.ids import JobId
from ganeti.model.job import FINAL, JobStatus

Depends = tuple[tuple[int, tuple[str, ...]], ...]


class ReadyJobs:
    """Jobs that may run, most urgent first; first come, first served inside a priority (S2.3-120)."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, JobId]] = []
        self._valid: dict[JobId, tuple[int, int]] = {}
        self._added = 0

    def __len__(self) -> int:
        return len(self._valid)

    def __contains__(self, job: JobId) -> bool:
        return job in self._valid

    def add(self, job: JobId, priority: int) -> None:
        """Put a job behind those of its priority; one that is there already moves."""
        self._added += 1
        self._valid[job] = (priority, self._added)
        heapq.heappush(self._heap, (priority, self._added, job))

    def change_priority(self, job: JobId, priority: int) -> None:
        """Move a job that is there; it keeps its place by age. Others are left alone."""
        entry = self._valid.get(job)
        if entry is not None and entry[0] != priority:
            self._valid[job] = (priority, entry[1])
            heapq.heappush(self._heap, (priority, entry[1], job))

    def remove(self, job: JobId) -> None:
        """Take a job out, wherever it is."""
        self._valid.pop(job, None)

    def pop(self) -> JobId | None:
        """Take the job that has its turn."""
        while self._heap:
            priority, number, job = heapq.heappop(self._heap)
            if self._valid.get(job) == (priority, number):
                del self._valid[job]
                return job
        return None


class WaitingJobs:
    """Jobs that are parked until another one ends."""

    def __init__(self) -> None:
        self._by_awaited: dict[JobId, dict[JobId, None]] = {}
        self._awaited: dict[JobId, JobId] = {}

    def park(self, job: JobId, awaited: JobId) -> None:
        """A job waits for another one."""
        self.remove(job)
        self._by_awaited.setdefault(awaited, {})[job] = None
        self._awaited[job] = awaited

    def ended(self, awaited: JobId) -> tuple[JobId, ...]:
        """Jobs that waited for this one, in the order in which they came; they wait no longer."""
        jobs = tuple(self._by_awaited.pop(awaited, ()))
        for job in jobs:
            del self._awaited[job]
        return jobs

    def remove(self, job: JobId) -> bool:
        """A job waits no longer; gives whether it did."""
        awaited = self._awaited.pop(job, None)
        if awaited is None:
            return False
        jobs = self._by_awaited[awaited]
        del jobs[job]
        if not jobs:
            del self._by_awaited[awaited]
        return True

    def __iter__(self) -> Iterator[tuple[JobId, tuple[JobId, ...]]]:
        """Jobs that are waited for, and by whom."""
        return iter([(awaited, tuple(jobs)) for awaited, jobs in sorted(self._by_awaited.items())])


class Go(msgspec.Struct, frozen=True):
    """The dependency is fulfilled."""


class Wait(msgspec.Struct, frozen=True):
    """It depends on a job that has not ended."""

    awaited: JobId


class CancelThis(msgspec.Struct, frozen=True):
    """The other job was cancelled, so this one is, too."""


class Fail(msgspec.Struct, frozen=True):
    """It can never be fulfilled."""

    text: str


def check_dependency(
    own: JobId, awaited: JobId, wanted: Sequence[str], status: JobStatus | None
) -> Go | Wait | CancelThis | Fail:
    """What a dependency means now (jobqueue.md section 5).

    Args:
        own: the job that depends.
        awaited: on which one.
        wanted: final states that are right; none: any but cancelled.
        status: state of that job, archived or not; None: there is none.
    """
    if awaited == own:
        return Fail(f"job {own} depends on itself")
    if status is None:
        return Fail(f"job {own} depends on job {awaited}, which does not exist")
    if not status.is_final:
        return Wait(awaited)
    if status is JobStatus.CANCELED and status not in wanted:
        return CancelThis()
    if not wanted or status in wanted:
        return Go()
    return Fail(f"job {awaited} finished with status {status}, not one of {', '.join(wanted)}")


def resolve_depends(depends: Depends | None, index: int, batch: Mapping[int, JobId] | None) -> Depends | None:
    """Dependencies with the ids of jobs instead of distances.

    Args:
        depends: as submitted; -1 means the job before in the same batch.
        index: place of the job in the batch.
        batch: ids of the jobs of the batch that were accepted so far, by place; None: a job that
            was submitted alone.

    Raises:
        PrereqError: wrong_input: a distance without a job there, or a state that is not final.
    """
    if not depends:
        return depends
    return tuple((_resolved(wanted, index, batch), _checked(states)) for wanted, states in depends)


def _resolved(wanted: int, index: int, batch: Mapping[int, JobId] | None) -> int:
    if wanted > 0:
        return wanted
    if batch is None:
        raise PrereqError(
            f"the dependency {wanted} is relative, which only jobs submitted together can have; "
            "give the id of the job"
        )
    found = batch.get(index + wanted) if wanted < 0 else None
    if found is None:
        raise PrereqError(f"the dependency {wanted} means no job that was accepted before in this batch")
    return found


def _checked(states: tuple[str, ...]) -> tuple[str, ...]:
    wrong = [state for state in states if state not in FINAL]
    if wrong:
        known = ", ".join(sorted(FINAL))
        raise PrereqError(f"a job cannot end with status {wrong[0]!r}; a dependency may list {known}")
    return states

"""What clients and operations may do with jobs: submit, look, cancel, archive.

No request about one job waits for the disk, or the nodes, on behalf of another one: the only thing
jobs share is the batch in which they are made durable (S2.2-015 to S2.2-019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from twisted.logger import Logger
from zope.interface import implementer

from ganeti.errors import (
    GanetiError,
    JobLost,
    JobQueueDrained,
    JobQueueError,
    JobQueueFull,
    PrereqError,
)
from ganeti.interfaces import IClock, IJobs, IJobStore
from ganeti.logic.job_info import JobView
from ganeti.logic.job_states import (
    Answer,
    cancel_requested,
    is_final,
    is_older_than,
    job_status,
    new_job,
    priority_changed,
)
from ganeti.master.job_opcodes import prepare, read_opcodes, stored, summaries
from ganeti.master.job_table import JobTable, LiveJob
from ganeti.master.requests_seen import RequestsSeen
from ganeti.model.ids import JobId
from ganeti.model.job import JobStatus, Request, decode_job
from ganeti.ops.base import OpCode
from ganeti.ops.registry import Registry

MAX_JOBS = 5000
"""Most jobs that are not archived."""
ARCHIVE_BATCH = 10
JOBS_AT_A_TIME = 200
"""Of a large batch so many are read, and made durable, before others have their turn."""

SubmitResult = tuple[bool, JobId | str]


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request about a job, for the client: done or not, and what to tell."""

    done: bool
    text: str


@implementer(IJobs)
class JobQueue:
    """The jobs.

    Args:
        store: keeps them; started already.
        table: has them.
        registry: knows all opcodes.
        clock: the time of day.
        enqueue: makes a job wait for its turn.
        wake: a waiting job was cancelled, or has another priority.
    """

    log = Logger()

    def __init__(
        self,
        store: IJobStore,
        table: JobTable,
        registry: Registry,
        clock: IClock,
        *,
        enqueue: Callable[[LiveJob], None],
        wake: Callable[[LiveJob], None],
    ) -> None:
        self._store = store
        self._table = table
        self._registry = registry
        self._clock = clock
        self._enqueue = enqueue
        self._wake = wake
        self._requests = RequestsSeen(clock)
        self._is_stopping = False

    # --- submission

    async def submit(self, ops: object, *, request_id: str | None = None, drained_ok: bool = False) -> JobId:
        """Take a job; it is durable once its id is known.

        Args:
            ops: opcodes, as JSON objects or as values.
            request_id: chosen by the client; the same one again, within some minutes and also after
                a restart, gives the same job instead of a second one.
            drained_ok: also while the queue is drained.

        Raises:
            PrereqError: wrong_input: an opcode is wrong.
            JobQueueError: the queue is full, drained, stopping, or cannot be written.
        """
        results = await self._requests.once(
            request_id, 1, lambda missing: self._submit_alone(ops, request_id, drained_ok=drained_ok)
        )
        return results[0]

    async def submit_many(
        self, jobs: Sequence[Any], *, request_id: str | None = None
    ) -> Sequence[SubmitResult]:
        """Take several jobs that may depend on each other by relative ids.

        One that is wrong is refused and does not keep the others from being taken. Those of a large
        batch are durable, and begin, some hundred at a time.

        Raises:
            PrereqError: wrong_input: no list.
            JobQueueError: none was taken.
        """
        if not isinstance(jobs, Sequence) or isinstance(jobs, str):
            raise PrereqError("jobs are submitted as a list of lists of opcodes")
        refused: dict[int, str] = {}
        taken = await self._requests.once(
            request_id, len(jobs), lambda missing: self._submit_batch(jobs, missing, refused, request_id)
        )
        return [
            (True, taken[index]) if index in taken else (False, refused.get(index, "refused"))
            for index in range(len(jobs))
        ]

    async def _submit_alone(
        self, values: object, request_id: str | None, *, drained_ok: bool
    ) -> Mapping[int, JobId]:
        self._check_open(drained_ok=drained_ok)
        ops = read_opcodes(self._registry, values)
        self._check_room(0)
        job_id = self._store.reserve(1)
        await self._take([self._new(ops, job_id, 0, None, request_id)])
        return {0: job_id}

    async def _submit_batch(
        self,
        jobs: Sequence[Any],
        missing: Sequence[int],
        refused: dict[int, str],
        request_id: str | None,
    ) -> Mapping[int, JobId]:
        self._check_open(drained_ok=False)
        first = self._store.reserve(len(missing))
        batch: dict[int, JobId] = self._requests.known(request_id)
        taken: dict[int, JobId] = {}
        for start in range(0, len(missing), JOBS_AT_A_TIME):
            lives: dict[int, LiveJob] = {}
            for place, index in enumerate(missing[start : start + JOBS_AT_A_TIME], start):
                try:
                    self._check_room(len(lives))
                    ops = read_opcodes(self._registry, jobs[index])
                    lives[index] = self._new(ops, JobId(first + place), index, batch, request_id)
                except GanetiError as error:
                    refused[index] = _refusal(error, jobs[index])
                    continue
                batch[index] = lives[index].id
            try:
                await self._take(tuple(lives.values()))
            except JobQueueError as error:
                if not taken:
                    raise
                refused.update((index, _refusal(error, jobs[index])) for index in missing[start:])
                break
            taken.update((index, live.id) for index, live in lives.items())
        return taken

    def _new(
        self,
        ops: Sequence[OpCode],
        job_id: JobId,
        index: int,
        batch: Mapping[int, JobId] | None,
        request_id: str | None,
    ) -> LiveJob:
        now = self._clock.seconds()
        prepared = prepare(ops, job_id, index, batch, now)
        job = new_job(job_id, [stored(op) for op in prepared], now)
        if request_id is not None:
            job = replace(job, request=Request(id=request_id, index=index))
        return LiveJob(job, prepared)

    async def _take(self, lives: Sequence[LiveJob]) -> None:
        if not lives:
            return
        await self._table.add(lives)
        for live in lives:
            self._enqueue(live)

    def _check_open(self, *, drained_ok: bool) -> None:
        if self._is_stopping:
            raise JobQueueError("the master daemon is stopping; submit the job again in a moment")
        if self._store.drained and not drained_ok:
            raise JobQueueDrained("the job queue is drained and takes no new jobs; undrain it to submit")

    def _check_room(self, more: int) -> None:
        if len(self._table) + more >= MAX_JOBS:
            raise JobQueueFull(
                f"the job queue has {len(self._table) + more} jobs, which is the limit; archive old ones"
            )

    # --- looking

    def jobs(self) -> list[JobView]:
        """All jobs that are not archived, by id."""
        return [live.view() for live in self._table]

    async def find(self, job: JobId) -> JobView | None:
        """A job, archived or not; None: there is none."""
        live = self._table.find(job)
        if live is not None and live.durable is not None:
            return live.view()
        return await self._archived(job)

    async def archived_ids(self) -> Sequence[JobId]:
        """Ids of all archived jobs, ascending."""
        return await self._store.archived_ids()

    async def status(self, job: JobId) -> JobStatus | None:
        """Status of a job, archived or not; None: there is none."""
        view = await self.find(job)
        return None if view is None else job_status(view.job)

    async def _archived(self, job: JobId) -> JobView | None:
        document = await self._store.load_archived(job)
        if document is None:
            return None
        try:
            value = decode_job(document, job)
        except JobQueueError as error:
            self.log.warn("archived job {job}: {error}", job=job, error=error)
            return None
        return JobView(job=value, summary=summaries(self._registry, value), archived=True)

    # --- changing

    async def cancel(self, job: JobId) -> Changed:
        """Cancel a job that does not run yet.

        Raises:
            JobLost: there is no such job.
            JobQueueError: it could not be written.
        """
        return await self._change(job, lambda live: cancel_requested(live.job, self._clock.seconds()))

    async def change_priority(self, job: JobId, priority: int) -> Changed:
        """Give the opcodes that have not begun another priority; raises as `cancel`."""
        return await self._change(job, lambda live: priority_changed(live.job, priority))

    async def archive(self, job: JobId) -> bool:
        """Move a job that has ended to the archive; gives whether that was done.

        Raises:
            JobQueueError: it could not be written.
        """
        live = self._table.find(job)
        if live is None or not _is_archivable(live):
            return False
        await self._archive([live])
        return True

    async def auto_archive(self, age_s: float, timeout_s: float) -> tuple[int, int]:
        """Archive jobs that ended longer ago than this, until the time is up.

        Args:
            age_s: -1 means all that have ended.
            timeout_s: no new batch is begun after this time.

        Returns:
            How many were archived, and how many were not looked at.
        """
        now = self._clock.seconds()
        candidates = list(self._table)
        archived = looked_at = 0
        while looked_at < len(candidates):
            batch: list[LiveJob] = []
            while looked_at < len(candidates) and len(batch) < ARCHIVE_BATCH:
                live = candidates[looked_at]
                looked_at += 1
                if _is_archivable(live) and is_older_than(live.job, age_s, now):
                    batch.append(live)
            if batch:
                await self._archive(batch)
                archived += len(batch)
            if self._clock.seconds() - now >= timeout_s:
                break
        return archived, len(candidates) - looked_at

    async def set_drained(self, *, drained: bool) -> None:
        """Take no new jobs, or take them again."""
        await self._store.set_drained(drained=drained)

    @property
    def is_drained(self) -> bool:
        """Whether new jobs are refused."""
        return self._store.drained

    def restore(self, live: LiveJob) -> None:
        """Remember which submission a job of an earlier daemon came from."""
        if isinstance(live.job.request, Request) and live.job.received_timestamp:
            self._requests.remember(live.job.request, live.id, live.job.received_timestamp[0])

    def stop_accepting(self) -> None:
        """Refuse submissions from now on: the daemon stops."""
        self._is_stopping = True

    async def _change(self, job: JobId, change: Callable[[LiveJob], Answer]) -> Changed:
        live = self._table.find(job)
        if live is None or live.durable is None:
            return await self._change_archived(job)
        answer = change(live)
        if answer.accepted:
            durable = self._table.put_durably(live, answer.job)
            self._wake(live)
            await durable
        return Changed(done=answer.accepted, text=answer.text)

    async def _change_archived(self, job: JobId) -> Changed:
        view = await self._archived(job)
        if view is None:
            raise JobLost(f"Job {job} not found; it does not exist")
        return Changed(done=False, text=f"Job {job} is archived")

    async def _archive(self, lives: Sequence[LiveJob]) -> None:
        await self._store.archive([live.id for live in lives])
        for live in lives:
            self._table.remove(live.id)


def _is_archivable(live: LiveJob) -> bool:
    return live.durable is live.job and is_final(live.job)


def _refusal(error: GanetiError, values: object) -> str:
    return f"{error}; opcodes {_summary(values)}"


def _summary(values: object) -> str:
    if not isinstance(values, Sequence) or isinstance(values, str):
        return "none"
    texts = []
    for value in values:
        if isinstance(value, OpCode):
            texts.append(value.summary())
        else:
            op_id = value.get("OP_ID") if isinstance(value, Mapping) else None
            texts.append(str(op_id).removeprefix("OP_") if op_id else "INVALID_OP")
    return ", ".join(texts) or "none"

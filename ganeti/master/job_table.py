"""The jobs that are not archived, as they are now; whoever changes one does it here.

A change is in memory at once and durable soon after: all that changed in one turn of the reactor is
saved together, and a job that went through several states in that turn is saved once. Nobody
outside learns of the end of a job before it is durable. If it cannot be made durable the job ends
in error, which is what a crash would have made of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from ganeti.errors import GanetiError, JobLost, JobQueueError
from ganeti.interfaces import IClock, IJobStore
from ganeti.logic.job_info import JobView
from ganeti.logic.job_states import is_final, job_status, not_recorded
from ganeti.logic.lock_attempts import LockAttempts
from ganeti.master.job_opcodes import summary_of
from ganeti.model.ids import JobId
from ganeti.model.job import Job, JobStatus, encode_job
from ganeti.ops.base import OpCode

T = TypeVar("T")

RETRY_S = 1.0
"""How often it is tried to save what could not be saved."""


class LiveJob:
    """A job and what belongs to it only while this daemon runs.

    Args:
        job: the newest state.
        opcodes: what is executed, secrets included; an error where the opcode cannot be.
    """

    __slots__ = (
        "_summary",
        "attempts",
        "dependencies_met",
        "durable",
        "ended",
        "interrupt",
        "job",
        "opcodes",
    )

    def __init__(self, job: Job, opcodes: Sequence[OpCode | GanetiError]) -> None:
        self.job = job
        self.opcodes = tuple(opcodes)
        self.durable: Job | None = None
        """The newest state that a crash does not undo."""
        self.attempts = LockAttempts()
        """Of the opcode whose turn it is."""
        self.dependencies_met = 0
        """How many of its dependencies need not be tested again."""
        self.interrupt: Callable[[], None] | None = None
        """Ends its wait for locks; set only while it waits."""
        self.ended = False
        """Whether everybody was told that it ended."""
        self._summary: tuple[str, ...] | None = None

    @property
    def id(self) -> JobId:
        """Id of the job."""
        return self.job.id

    @property
    def visible(self) -> Job:
        """What others may see: no end of the job before it is durable."""
        if self.durable is None or self.durable is self.job or not is_final(self.job):
            return self.job
        return self.durable

    def view(self) -> JobView:
        """The job as queries see it."""
        return JobView(job=self.visible, summary=self.summary())

    def summary(self) -> tuple[str, ...]:
        """Short text of each opcode."""
        if self._summary is None:
            self._summary = tuple(map(summary_of, self.opcodes, self.job.ops))
        return self._summary

    def forget_opcodes(self) -> None:
        """Nothing will be executed any more: keep no secrets."""
        self.summary()
        self.opcodes = ()


class JobTable:
    """All live jobs.

    Args:
        reactor: gives turns and time.
        store: makes them durable.
        clock: the time of day.
    """

    log = Logger()

    def __init__(self, reactor: IReactorTime, store: IJobStore, clock: IClock) -> None:
        self._reactor = reactor
        self._store = store
        self._clock = clock
        self._jobs: dict[JobId, LiveJob] = {}
        self._dirty: dict[JobId, LiveJob] = {}
        self._waiters: list[Deferred[None]] = []
        self._flush_call: IDelayedCall | None = None
        self._retry_call: IDelayedCall | None = None
        self._unsaved: dict[JobId, LiveJob] = {}
        self._saving: set[Deferred[None]] = set()
        self.is_broken = False
        """Whether the last attempt to save something failed; nothing new is started then."""
        self.on_change: Callable[[JobId], None] = lambda job: None
        """Called for every change that others may see."""
        self.on_end: Callable[[JobId], None] = lambda job: None
        """Called once for a job that ended."""
        self.on_archive: Callable[[JobView], None] = lambda view: None
        """Called with the last state of a job that went to the archive."""
        self.on_repair: Callable[[], None] = lambda: None
        """Called when saving works again."""

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[LiveJob]:
        """Those that were acknowledged, by id."""
        return iter([live for live in self._jobs.values() if live.durable is not None])

    def find(self, job: JobId) -> LiveJob | None:
        """A live job, or None."""
        return self._jobs.get(job)

    def get(self, job: JobId) -> LiveJob:
        """A live job.

        Raises:
            JobLost: there is none, or it is archived.
        """
        found = self._jobs.get(job)
        if found is None:
            raise JobLost(f"Job {job} not found; it does not exist or is archived")
        return found

    def restore(self, live: LiveJob) -> None:
        """Take a job that the store knows already."""
        live.durable = live.job
        live.ended = is_final(live.job)
        self._jobs[live.id] = live

    async def add(self, lives: Sequence[LiveJob]) -> None:
        """Take new jobs; they are durable once this returns.

        Raises:
            JobQueueError: they could not be saved and are not there.
        """
        documents = {live.id: encode_job(live.job) for live in lives}
        # Seen by those who count jobs, so that many submissions at a time do not pass the limit.
        for live in lives:
            self._jobs[live.id] = live
        try:
            await self._store.save(documents)
        except BaseException:
            for live in lives:
                del self._jobs[live.id]
            raise
        for live in lives:
            live.durable = live.job

    def remove(self, job: JobId) -> None:
        """Forget a job that is archived."""
        live = self._jobs.pop(job, None)
        if live is not None:
            self.on_archive(live.view())

    def put(self, live: LiveJob, job: Job) -> None:
        """Change a job; it is saved at the end of this turn."""
        live.job = job
        self._dirty[live.id] = live
        self._flush_soon()
        if live.visible is job:
            self.on_change(live.id)

    def put_logs(self, live: LiveJob, job: Job) -> None:
        """Change the log of a job; candidates are told with its next change of state."""
        live.job = job
        self._store.note(job)
        self.on_change(live.id)

    def put_durably(self, live: LiveJob, job: Job) -> Deferred[None]:
        """Change a job; fires when the change is durable.

        Raises:
            JobQueueError: (through the Deferred) it is not; it is there in memory, and tried again.
        """
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        self.put(live, job)
        return waiter

    async def settle(self) -> None:
        """Wait until what is being saved is saved, or failed; for a clean end."""
        while self._dirty or self._saving:
            if self._dirty and self._flush_call is not None:
                self._flush_call.cancel()
                self._flush()
            for done in tuple(self._saving):
                await done
        if self._retry_call is not None:
            self._retry_call.cancel()
            self._retry_call = None

    def _flush(self) -> None:
        self._flush_call = None
        batch, self._dirty = self._dirty, {}
        waiters, self._waiters = self._waiters, []
        versions = [(live, live.job) for live in batch.values() if live.id in self._jobs]
        documents = {job.id: encode_job(job) for _, job in versions}
        done = Deferred.fromCoroutine(_awaited(self._store.save(documents)))
        self._saving.add(done)
        done.addBoth(self._flushed, versions, waiters)
        done.addErrback(lambda failure: self.log.failure("a job broke when it was saved", failure))
        done.addCallback(lambda _: self._saving.discard(done))

    def _flushed(
        self, result: Any, versions: Sequence[tuple[LiveJob, Job]], waiters: Sequence[Deferred[None]]
    ) -> None:
        if isinstance(result, Failure):
            result.trap(JobQueueError)
            assert isinstance(result.value, JobQueueError)
            self._not_saved(result.value, versions)
        else:
            self._is_saved(versions)
        for waiter in waiters:
            waiter.callback(result) if not isinstance(result, Failure) else waiter.errback(result)

    def _is_saved(self, versions: Sequence[tuple[LiveJob, Job]]) -> None:
        for live, job in versions:
            live.durable = job
            self._unsaved.pop(live.id, None)
            if live.job is job and is_final(job):
                self._tell_end(live)
        if self.is_broken and not self._unsaved:
            self.is_broken = False
            self.log.info("the job queue can be written again")
            self.on_repair()

    def _not_saved(self, error: JobQueueError, versions: Sequence[tuple[LiveJob, Job]]) -> None:
        if not self.is_broken:
            self.log.error("no job is started until it helps to try again: {error}", error=error)
        self.is_broken = True
        for live, job in versions:
            self._unsaved[live.id] = live
            if live.job is not job:
                continue
            status = job_status(job)
            if status is JobStatus.SUCCESS:
                live.job = not_recorded(job, error, self._clock.seconds())
            if status in (JobStatus.SUCCESS, JobStatus.ERROR):
                # Telling this early misleads nobody: an error is what a crash would leave as well.
                live.durable = live.job
                self._tell_end(live)
        if self._retry_call is None:
            self._retry_call = self._reactor.callLater(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retry_call = None
        for live in self._unsaved.values():
            self._dirty.setdefault(live.id, live)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flush_call is None:
            self._flush_call = self._reactor.callLater(0, self._flush)

    def _tell_end(self, live: LiveJob) -> None:
        if not live.ended:
            live.ended = True
            live.forget_opcodes()
            self.on_change(live.id)
            self.on_end(live.id)


async def _awaited(work: Awaitable[T]) -> T:
    return await work

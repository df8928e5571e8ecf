"""Keeps the jobs: durable here, and with the master candidates, before it answers.

    store = JobStore(reactor, paths, replicate=candidates.send)
    for job in (await store.start()).jobs: ...      # the lock is ours, the journal is replayed
    first = store.reserve(2)                        # ids, never given out again
    await store.save({first: encode_job(job)})      # durable now
    store.note(job)                                 # new log entries only: the file soon, no copies

A state is durable once its batch is in the journal; the established documents `queue/job-N` follow
a moment later, written by a thread. Every 30 s, or 16 MB, the files are synced and the journal
begins anew. If the disk is full nothing is acknowledged; once there is space everything goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorThreads, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ganeti.errors import GanetiError, JobQueueError
from ganeti.interfaces import IJobStore
from ganeti.io.files import Ownership
from ganeti.io.journal import Journal, JournalError
from ganeti.logic.job_states import with_newer_logs
from ganeti.logic.queue_records import archive_record, drain_record, job_record, replay, serial_record
from ganeti.master.queue_files import Change, Move, QueueFiles
from ganeti.model.ids import JobId
from ganeti.model.job import Job, decode_job, encode_job
from ganeti.model.paths import Paths
from ganeti.model.records import Record

T = TypeVar("T")

CHECKPOINT_S = 30.0
CHECKPOINT_BYTES = 16 * 2**20
FILES_SOON_S = 0.05
"""Documents whose jobs changed are written at once for all that changed in this time."""
LOGS_SOON_S = 1.0
RETRY_S = 5.0


class IStoreReactor(IReactorTime, IReactorThreads):
    """Parts of the reactor that the store uses."""


class LoadedQueue(msgspec.Struct, frozen=True, kw_only=True):
    """What a start found."""

    jobs: tuple[Job, ...]
    """Not archived; in the order of their ids, as the last master daemon left them."""
    drained: bool
    problems: tuple[str, ...]
    """Documents that could not be read, what is wrong and where they are now."""


@implementer(IJobStore)
class JobStore:
    """Journal and files of the job queue.

    Args:
        reactor: time and threads.
        paths: of this node.
        replicate: sends the records of a batch to the master candidates; everyone who saves waits
            for it. Its failures are logged only.
        journal: given by tests.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IStoreReactor,
        paths: Paths,
        *,
        replicate: Callable[[bytes], Deferred[Any]] | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.drained = False
        """Whether the drain flag is set."""
        self._reactor = reactor
        self._files = QueueFiles(paths)
        path = os.path.join(paths.queue_dir, "journal")
        self._journal = journal or Journal(reactor, path, also=replicate, ownership=Ownership(mode=0o640))
        self._serial = 0
        self._recorded_serial = 0
        self._seq = 0
        self._pending: dict[JobId, Change] = {}
        self._timer: IDelayedCall | None = None
        self._file_lock = DeferredLock()
        self._is_checkpointing = False
        self._appended = 0
        self._work: set[Deferred[Any]] = set()
        self._checkpoints = LoopingCall(self._checkpoint)
        self._checkpoints.clock = reactor

    async def start(self) -> LoadedQueue:
        """Take the lock, read the documents, replay the journal over them.

        Raises:
            GanetiError: another master daemon is running, the queue is of another version, or the
                journal is damaged; with the remedy.
        """
        loaded = await self._in_thread(self._load)
        for problem in loaded.problems:
            self.log.error("{problem}", problem=problem)
        await self._checkpoint()
        self._checkpoints.start(CHECKPOINT_S, now=False)
        return loaded

    async def stop(self) -> None:
        """Write what is left, and let go of the lock."""
        if self._checkpoints.running:
            self._checkpoints.stop()
        while self._work:
            await next(iter(self._work))
        await self._checkpoint()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._journal.close()
        self._files.close()

    def reserve(self, count: int) -> JobId:
        """The first of so many new ids in a row; they are never given out again."""
        first = self._serial + 1
        self._serial += count
        return JobId(first)

    def save(self, documents: Mapping[JobId, bytes]) -> Deferred[None]:
        """Make these versions of job documents durable here and on the candidates.

        Raises:
            JobQueueError: (through the Deferred) disk full or broken; nothing is acknowledged.
        """
        records = [job_record(job, document, self._next_seq()) for job, document in documents.items()]
        if self._serial > self._recorded_serial:
            self._recorded_serial = self._serial
            if JobId(self._serial) not in documents:
                records.append(serial_record(self._serial, self._next_seq()))
        return self._append(records).addCallback(lambda _: self._write_soon(documents, FILES_SOON_S))

    def note(self, job: Job) -> None:
        """A job has new log entries: bring its file up to date, in a second or so.

        They survive the end of the daemon; the candidates, and the journal, get them with the next
        change of state.
        """
        self._write_soon({job.id: job}, LOGS_SOON_S)

    async def archive(self, jobs: Collection[JobId]) -> None:
        """Move documents to the archive.

        Raises:
            JobQueueError: the journal cannot be written; nothing was moved.
        """
        await self._append([archive_record(job, self._next_seq()) for job in jobs])
        self._write_soon(dict.fromkeys(jobs, Move(None)), FILES_SOON_S)

    async def load_archived(self, job: JobId) -> bytes | None:
        """An archived document, or None."""
        await self._write_files()
        return await self._in_thread(lambda: self._files.read_archived(job))

    async def archived_ids(self) -> tuple[JobId, ...]:
        """Ids of all archived jobs, ascending."""
        await self._write_files()
        return await self._in_thread(self._files.archived_ids)

    async def set_drained(self, *, drained: bool) -> None:
        """Set or remove the drain flag, here and on the candidates.

        Raises:
            JobQueueError: it could not be written.
        """
        await self._append([drain_record(drained=drained, seq=self._next_seq())])
        self.drained = drained
        try:
            await self._in_files(lambda: self._files.set_drained(drained=drained))
        except OSError as error:
            # It is in the journal, and the next start writes the file.
            self.log.error("drain flag: {error}", error=str(error))

    async def write_files(self) -> None:
        """Bring all documents on disk up to date now."""
        await self._write_files()

    async def state(self) -> Mapping[str, bytes]:
        """The files of a copy of the queue, with all that was acknowledged until now."""
        await self._write_files()
        contents: dict[str, bytes] = await self._in_files(self._files.contents)
        return contents

    # --- start

    def _load(self) -> LoadedQueue:
        """Everything that is there; blocking."""
        found = self._files.open()
        try:
            records = self._journal.open()
            self._appended = len(records)
            changes = replay(records)
            self.drained = found.drained if changes.drained is None else changes.drained
            self._files.set_drained(drained=self.drained)
            documents = {**found.documents, **changes.documents}
            for job, last in changes.archived.items():
                if job in documents and job not in changes.documents:
                    self._pending[job] = Move(last)
                    del documents[job]
                elif last is not None:
                    self._pending[job] = Move(last)
            jobs, problems = self._decode(documents, found.documents)
            problems += [self._unreadable(job, why, b"") for job, why in found.unreadable.items()]
        except BaseException:
            self._files.close()
            raise
        archived = 0 if found.serial else max(self._files.archived_ids(), default=0)
        self._serial = max(found.serial, changes.serial, archived, *documents, 0)
        self._recorded_serial = self._serial
        return LoadedQueue(jobs=tuple(jobs), drained=self.drained, problems=tuple(problems))

    def _decode(
        self, documents: Mapping[JobId, bytes], in_files: Mapping[JobId, bytes]
    ) -> tuple[list[Job], list[str]]:
        jobs: list[Job] = []
        problems: list[str] = []
        for number, (job_id, document) in enumerate(sorted(documents.items()), 1):
            if not number % 1000:
                self.log.info("read {number} of {total} jobs", number=number, total=len(documents))
            try:
                job = decode_job(document, job_id)
            except JobQueueError as error:
                problems.append(self._unreadable(job_id, str(error), document))
                continue
            own = in_files.get(job_id)
            if own != document:
                job = _with_logs_of(job, own)
                self._pending[job_id] = job
            jobs.append(job)
        return jobs, problems

    def _unreadable(self, job: JobId, why: str, document: bytes) -> str:
        target = self._files.set_aside(job, document)
        return f"the document of job {job} cannot be read ({why}); it is now {target}"

    # --- journal

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _append(self, records: Sequence[Record]) -> Deferred[None]:
        done = self._journal.append(records)
        self._appended += 1
        done.addErrback(_refused)
        if self._journal.size_bytes > CHECKPOINT_BYTES and not self._is_checkpointing:
            self._checkpoint()
        return done

    def _checkpoint(self) -> Deferred[None]:
        """Bring the files up to date and make them durable, then drop the journal."""
        if self._is_checkpointing or not (self._appended or self._pending):
            return succeed(None)
        self._is_checkpointing = True
        work = Deferred.fromCoroutine(self._begin_anew())
        self._work.add(work)
        return work.addBoth(self._checkpointed, work)

    def _checkpointed(self, result: Any, work: Deferred[None]) -> None:
        self._is_checkpointing = False
        self._work.discard(work)
        if isinstance(result, Failure):
            result.trap(GanetiError, OSError, CancelledError)
            self.log.error(
                "the journal of the job queue cannot begin anew: {error}", error=result.getErrorMessage()
            )

    async def _begin_anew(self) -> None:
        self._appended = 0
        # Whatever was appended until now is, once this is done, also among the pending documents.
        mark = await self._journal.rotate()
        if await self._write_files():
            await self._in_files(self._files.sync)
            await self._journal.discard(mark)

    # --- files

    def _write_soon(self, changes: Mapping[JobId, Change], delay_s: float) -> None:
        for job, change in changes.items():
            self._pending[job] = _after(self._pending.get(job), change)
        if self._timer is not None:
            if self._timer.getTime() <= self._reactor.seconds() + delay_s:
                return
            self._timer.cancel()
        self._timer = self._reactor.callLater(delay_s, self._time_to_write)

    def _time_to_write(self) -> None:
        self._timer = None
        work = Deferred.fromCoroutine(self._write_files())
        self._work.add(work)
        work.addErrback(lambda failure: self.log.failure("cannot write documents of jobs", failure))
        work.addCallback(lambda _: self._work.discard(work))

    async def _write_files(self) -> bool:
        """Write what is pending; gives whether all of it is written. The rest is tried again."""
        await self._file_lock.acquire()
        try:
            if not self._pending:
                return True
            changes, self._pending, serial = self._pending, {}, self._serial
            failed, reason = await self._in_thread(lambda: self._files.write(changes, serial))
        finally:
            self._file_lock.release()
        if not failed:
            return True
        self.log.error(
            "{count} documents of jobs cannot be written: {reason}", count=len(failed), reason=reason
        )
        newer, self._pending = self._pending, dict(failed)
        self._write_soon(newer, RETRY_S)
        return False

    def _in_files(self, work: Callable[[], T]) -> Deferred[T]:
        return self._file_lock.run(self._in_thread, work)

    def _in_thread(self, work: Callable[[], T]) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)


def _refused(failure: Failure) -> None:
    failure.trap(JournalError)
    error = failure.value
    raise JobQueueError(
        f"the job queue cannot be written: {error}; see that there is space and that the disk works, "
        "then try again"
    ) from error


def _after(old: Change | None, new: Change) -> Change:
    """What is left to be done if one change follows another that was not done yet."""
    if isinstance(new, Move) and new.document is None and old is not None and not isinstance(old, Move):
        return Move(encode_job(old) if isinstance(old, Job) else old)
    return new


def _with_logs_of(job: Job, document: bytes | None) -> Job:
    """A job of the journal with what its file knows of its log beyond that."""
    if document is None:
        return job
    try:
        return with_newer_logs(job, decode_job(document, job.id))
    except JobQueueError:
        return job

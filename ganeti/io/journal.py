"""A durable journal: many writers, one thread, one `fdatasync` for all that is waiting.

    journal = Journal(reactor, path, also=replicator.send)
    for record in journal.open():            # blocking, once, before anything is appended
        ...replay...
    await journal.append([Record(kind="job", id="12", seq=3, payload=b"...")])   # durable now
    mark = await journal.rotate()            # all that was appended so far is in older files
    ...write a snapshot that contains it...
    await journal.discard(mark)              # those older files are not needed any more
    await journal.close()

An append that fails (disk full, I/O error) fails for exactly those who wait for that batch, leaves
no trace in the file, and the next one is tried afresh. The reactor thread never waits for the disk.
After a crash `open` drops what had not been written to its end, a whole batch at a time; it refuses
a file in which something durable was damaged.
"""

from __future__ import annotations

import contextlib
import glob
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from ganeti.errors import GanetiError
from ganeti.io.files import Ownership, set_ownership, sync_directory
from ganeti.model.records import Record, frame, header, read_journal

QUEUE_FILE = Ownership(mode=0o600)


class JournalError(GanetiError):
    """Something could not be made durable; nothing of it remains."""


class JournalDamaged(GanetiError):
    """Records that had been durable cannot be read any more."""


class _Append:
    """Records of one writer, waiting for their batch."""

    def __init__(self, records: tuple[Record, ...]) -> None:
        self.records = records
        self.done: Deferred[None] = Deferred()


class _Task:
    """Something else for the writer thread, in order with the appends."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.done: Deferred[Any] = Deferred()


class Journal:
    """Append-only file of records with group commit; see the module's text for its use.

    Methods that return Deferreds are for the reactor thread. Cancelling such a Deferred ends the
    wait, not the work.

    Args:
        reactor: to which the writer thread reports.
        path: the file; older parts lie beside it as `path.N`.
        also: gets the bytes of each batch while it is written here; writers wait for both. Its
            failures are logged and harm nobody.
        ownership: of the files.
        sync: makes a file durable; given by tests that need it to fail.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorFromThreads,
        path: str,
        *,
        also: Callable[[bytes], Deferred[Any]] | None = None,
        ownership: Ownership = QUEUE_FILE,
        sync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        self.path = path
        self._reactor = reactor
        self._also = also
        self._file = _File(path, ownership, sync)
        self._waiting: deque[_Append | _Task] = deque()
        self._busy = False
        self._opened = False
        self._closed = False
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._next_batch = 1

    @property
    def size_bytes(self) -> int:
        """Length of the newest file."""
        return self._file.end

    @property
    def next_batch(self) -> int:
        """Number that the next batch gets."""
        return self._next_batch

    def open(self) -> tuple[Record, ...]:
        """Read what is there, cut off what a crash left unfinished, and get ready. Blocking.

        Raises:
            JournalDamaged: with file and place; nothing was changed.
            OSError: the file cannot be read or created.
        """
        records, self._next_batch, torn = self._file.open()
        if torn:
            self.log.warn(
                "journal {path}: {torn} bytes of a write that did not end were dropped",
                path=self.path,
                torn=torn,
            )
        self._opened = True
        threading.Thread(target=self._work, name=f"journal {self.path}", daemon=True).start()
        return records

    def append(self, records: Sequence[Record]) -> Deferred[None]:
        """Make records durable, in this order and together.

        Raises:
            JournalError: (through the Deferred) they are not in the journal.
        """
        item = _Append(tuple(records))
        self._put(item)
        return item.done

    def rotate(self) -> Deferred[int]:
        """Begin a new file; gives a mark that stands for all that was appended before."""
        return self._in_order(lambda: self._file.rotate(self._next_batch))

    def discard(self, mark: int) -> Deferred[None]:
        """Remove the files up to a mark; what they held must be durable elsewhere."""
        return self._in_order(lambda: self._file.discard(mark))

    def close(self) -> Deferred[None]:
        """Finish what is waiting and close the file; later appends are refused."""
        if self._closed or not self._opened:
            self._closed = True
            return succeed(None)
        done = self._in_order(self._file.close)
        self._closed = True
        done.addBoth(self._end_thread)
        return done

    def _end_thread(self, result: Any) -> Any:
        self._jobs.put(None)
        return result

    def _in_order(self, work: Callable[[], Any]) -> Deferred[Any]:
        task = _Task(work)
        self._put(task)
        return task.done

    def _put(self, item: _Append | _Task) -> None:
        if self._closed or not self._opened:
            item.done.errback(JournalError(f"journal {self.path} is not open"))
            return
        self._waiting.append(item)
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        """Hand the next batch, or the next task, to the writer thread."""
        if not self._waiting:
            self._busy = False
            return
        self._busy = True
        first = self._waiting[0]
        if isinstance(first, _Task):
            self._waiting.popleft()
            self._run(first.work).addBoth(self._finished, [first])
            return
        batch: list[_Append | _Task] = []
        while self._waiting and isinstance(self._waiting[0], _Append):
            batch.append(self._waiting.popleft())
        self._write(batch)

    def _write(self, batch: list[_Append | _Task]) -> None:
        records = [record for item in batch if isinstance(item, _Append) for record in item.records]
        try:
            data = frame(self._next_batch, records)
        except ValueError:
            self._finished(Failure(), batch)
            return
        local = self._run(lambda: self._file.append(data))
        remote = None if self._also is None else maybeDeferred(self._also, data)
        if remote is not None:
            remote.addErrback(lambda failure: self.log.failure("journal: no copy of a batch", failure))

        def written(result: Any) -> None:
            if not isinstance(result, Failure):
                self._next_batch += 1
            if remote is None or isinstance(result, Failure):
                self._finished(result, batch)
            else:
                remote.addCallback(lambda _: self._finished(result, batch))

        local.addBoth(written)

    def _finished(self, result: Any, items: Sequence[_Append | _Task]) -> None:
        if isinstance(result, Failure) and isinstance(result.value, OSError):
            error = JournalError(
                f"cannot write to {self.path}: {result.value.strerror}; nothing of this change remains"
            )
            result = Failure(error)
        for item in items:
            if isinstance(result, Failure):
                item.done.errback(result)
            else:
                item.done.callback(result)
        self._begin()

    def _run(self, work: Callable[[], Any]) -> Deferred[Any]:
        """Do something in the writer thread."""
        done: Deferred[Any] = Deferred()

        def job() -> None:
            try:
                result = work()
            except BaseException:
                self._reactor.callFromThread(done.errback, Failure())
            else:
                self._reactor.callFromThread(done.callback, result)

        self._jobs.put(job)
        return done

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class _File:
    """The files of a journal; used by one thread at a time."""

    def __init__(self, path: str, ownership: Ownership, sync: Callable[[int], None]) -> None:
        self._path = path
        self._ownership = ownership
        self._sync = sync
        self._fd = -1
        self._dirty = False
        """Something beyond `end` could not be cut off yet."""
        self.end = 0

    def open(self) -> tuple[tuple[Record, ...], int, int]:
        """Records, number of the next batch, and bytes cut off."""
        records: list[Record] = []
        next_batch = 1
        for mark in self._marks():
            older, next_batch = self._read_older(f"{self._path}.{mark}", next_batch)
            records += older
        data = _read(self._path)
        contents = read_journal(data)
        if contents.damage is not None:
            raise _damaged(self._path, contents.damage)
        if contents.good_bytes:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            self.end = contents.good_bytes
            if contents.torn_bytes:
                os.ftruncate(self._fd, self.end)
                os.fsync(self._fd)
            return (*records, *contents.records), contents.next_batch, contents.torn_bytes
        self._fd, self.end = self._create(self._path, next_batch)
        sync_directory(os.path.dirname(self._path))
        return tuple(records), next_batch, len(data)

    def append(self, data: bytes) -> None:
        """Write and make durable, or leave the file as it was."""
        if self._dirty:
            self._cut()
        try:
            _write_all(self._fd, data, self.end)
            self._sync(self._fd)
        except OSError:
            self._dirty = True
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self.end += len(data)

    def rotate(self, next_batch: int) -> int:
        """Give the file the next number and begin a new one."""
        if self._dirty:
            self._cut()
        mark = max(self._marks(), default=0) + 1
        new = f"{self._path}.new"
        fd, end = self._create(new, next_batch)
        # In this order a crash in between leaves all records under a name that is read.
        os.rename(self._path, f"{self._path}.{mark}")
        os.rename(new, self._path)
        os.close(self._fd)
        self._fd, self.end = fd, end
        sync_directory(os.path.dirname(self._path))
        return mark

    def discard(self, mark: int) -> None:
        """Remove the older files up to this number."""
        for old in self._marks():
            if old <= mark:
                os.unlink(f"{self._path}.{old}")

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _cut(self) -> None:
        os.ftruncate(self._fd, self.end)
        os.fsync(self._fd)
        self._dirty = False

    def _create(self, path: str, first_batch: int) -> tuple[int, int]:
        line = header(first_batch)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            set_ownership(fd, self._ownership)
            _write_all(fd, line, 0)
            os.fsync(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd, len(line)

    def _marks(self) -> list[int]:
        names = glob.glob(glob.escape(self._path) + ".*")
        numbers = (name[len(self._path) + 1 :] for name in names)
        return sorted(int(number) for number in numbers if number.isdecimal())

    @staticmethod
    def _read_older(path: str, next_batch: int) -> tuple[tuple[Record, ...], int]:
        contents = read_journal(_read(path))
        if contents.damage is not None or contents.torn_bytes:
            raise _damaged(path, contents.damage or f"it is not readable from byte {contents.good_bytes} on")
        return contents.records, max(next_batch, contents.next_batch)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        offset += written
        view = view[written:]


def _damaged(path: str, what: str) -> JournalDamaged:
    return JournalDamaged(
        f"journal {path} is damaged: {what}. Copy it, and the files beside it, from another master "
        "candidate; or move it away and lose the changes since the last snapshot"
    )

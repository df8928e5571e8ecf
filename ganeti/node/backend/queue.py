"""What a master candidate keeps for the day on which it becomes master: configuration and job queue.

The master sends every batch of its two journals (`apply_batch`); they are appended to journals of the
same name, so that a master daemon that starts here finds what it would find there. A copy begins with
`replace_state`. A long journal is worked into the files it belongs to. All is plain blocking code,
and safe to be called from several threads.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping

import msgspec

from ganeti.errors import JobQueueError, OperationFailed, StorageError
from ganeti.io.files import Ownership, set_ownership, sync_directory, write_file
from ganeti.logic.queue_records import replay
from ganeti.model.calls.system import QueuePurge, QueueUpdate, UploadState
from ganeti.model.codec import decode_cluster, encode_pieces, replayed
from ganeti.model.records import Record, frame, header, read_journal, split_batches
from ganeti.node.backend.registry import NodeWorld, node_function

CONFIG_KIND = "config"
"""Kind of the records that belong to the configuration; all others belong to the queue."""
COMPACT_BYTES = 16 * 2**20
_ANY_BATCH = 0
"""First batch in the header of a journal that may begin with any number."""
_UPLOADABLE = re.compile(r"config\.data|queue/(serial|version|drain|job-[1-9]\d*|archive/\d+/job-[1-9]\d*)")
_JOB_FILE = re.compile(r"job-[1-9]\d*")
_JOBS_PER_DIRECTORY = 10_000
_FILE = Ownership(mode=0o640)

_lock = threading.Lock()
"""One thread at a time changes what this process knows of journals, and the journals."""
_tails: dict[str, _Tail] = {}


class _Tail(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a journal, as this process left it."""

    inode: int
    end: int
    next_batch: int
    last_batch_offset: int


@node_function(QueueUpdate)
def jobqueue_append(call: QueueUpdate, node: NodeWorld) -> None:
    """Append a batch of the master's journal."""
    apply_batch(node.host.paths.data_dir, call.generation, call.records)


@node_function(UploadState)
def state_upload(call: UploadState, node: NodeWorld) -> None:
    """Begin a copy of the master's state."""
    replace_state(node.host.paths.data_dir, call.generation, call.files)


@node_function(QueuePurge)
def jobqueue_purge(call: QueuePurge, node: NodeWorld) -> None:
    """Remove the job queue, as this node is no candidate any more."""
    paths = node.host.paths
    if os.path.exists(paths.pid_file("ganeti-masterd")) and _is_locked(f"{paths.queue_dir}/lock"):
        raise OperationFailed(f"the master daemon of node {node.host.name} uses its job queue; stop it first")
    with _lock:
        _tails.pop(_journal_path(paths.data_dir, "queue"), None)
        shutil.rmtree(paths.queue_dir, ignore_errors=True)


def apply_batch(data_dir: str, generation: int, records: bytes) -> None:
    """Make records of the master's journal durable here.

    Batches must follow each other. A number that was seen just before replaces that batch: the
    master could not write it and uses the number again.

    Args:
        data_dir: of this node.
        generation: of the master.
        records: one or more batches, framed.

    Raises:
        JobQueueError: the master is not the newest one, or the copy here does not fit and must be
            replaced; nothing was changed.
        StorageError: the disk refuses.
    """
    batches = split_batches(records)
    if not batches:
        raise JobQueueError("the records that the master sent arrived damaged")
    with _lock, _disk_errors(data_dir):
        _check_generation(data_dir, generation)
        part = "config" if batches[0].records[0].kind == CONFIG_KIND else "queue"
        path = _journal_path(data_dir, part)
        tail = _tail_of(path)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            for batch in batches:
                tail = _placed(path, fd, tail, batch.number, frame(batch.number, batch.records))
            os.fdatasync(fd)
        except BaseException:
            _tails.pop(path, None)
            raise
        finally:
            os.close(fd)
        _tails[path] = tail
        if tail.end > COMPACT_BYTES:
            _compact(data_dir, part)


def replace_state(data_dir: str, generation: int, files: Mapping[str, bytes]) -> None:
    """Replace configuration, queue or both by the master's; batches are expected from now on.

    Raises:
        JobQueueError: a file that may not be sent, or not the newest master; nothing was changed.
        StorageError: the disk refuses; the copy is not complete.
    """
    for name in files:
        if not _UPLOADABLE.fullmatch(name):
            raise JobQueueError(f"file {name!r} does not belong to the state of a master")
    with _lock, _disk_errors(data_dir):
        _check_generation(data_dir, generation)
        os.makedirs(f"{data_dir}/queue/archive", mode=0o750, exist_ok=True)
        parts = [
            part for part, mark in (("config", "config.data"), ("queue", "queue/serial")) if mark in files
        ]
        for part in parts:
            _remove_journal(_journal_path(data_dir, part))
        if "queue" in parts:
            _remove_queue_files(f"{data_dir}/queue", files)
        for name, content in files.items():
            path = f"{data_dir}/{name}"
            os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
            write_file(path, content, _FILE, durable=False)
        os.sync()
        # Last: without a journal no batch is taken, and this copy counts as not complete.
        for part in parts:
            _begin_journal(_journal_path(data_dir, part), _ANY_BATCH)


@contextlib.contextmanager
def _disk_errors(data_dir: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the copy of the master's state below {data_dir} cannot be written: {error.strerror}; free "
            "space or repair the disk, the master tries again by itself"
        ) from error


def stored_generation(data_dir: str) -> int:
    """The newest generation of a master that was seen here."""
    try:
        with open(_generation_path(data_dir), encoding="ascii") as file:
            return int(file.read())
    except (FileNotFoundError, ValueError):
        return 0


def store_generation(data_dir: str, generation: int) -> None:
    """Remember the generation of the master."""
    write_file(_generation_path(data_dir), b"%d\n" % generation, _FILE)


def _check_generation(data_dir: str, generation: int) -> None:
    stored = stored_generation(data_dir)
    if generation < stored:
        raise JobQueueError(
            f"there is a newer master (generation {stored}) than the one that sent this ({generation}); "
            "the old master daemon must be stopped"
        )
    if generation > stored:
        store_generation(data_dir, generation)


def _generation_path(data_dir: str) -> str:
    return f"{data_dir}/master-generation"


def _journal_path(data_dir: str, part: str) -> str:
    return f"{data_dir}/config.journal" if part == "config" else f"{data_dir}/queue/journal"


def _tail_of(path: str) -> _Tail:
    """The end of a journal; from memory if nobody else touched the file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise JobQueueError(f"there is no copy of the master's state to append to ({path})") from None
    known = _tails.get(path)
    if known is not None and (known.inode, known.end) == (found.st_ino, found.st_size):
        return known
    with open(path, "rb") as file:
        contents = read_journal(file.read())
    if contents.damage is not None or not contents.good_bytes:
        raise JobQueueError(f"the copy of the master's journal ({path}) is damaged: {contents.damage}")
    return _Tail(
        inode=found.st_ino,
        end=contents.good_bytes,
        next_batch=contents.next_batch,
        last_batch_offset=contents.last_batch_offset,
    )


def _placed(path: str, fd: int, tail: _Tail, number: int, data: bytes) -> _Tail:
    """Write a batch where it belongs."""
    if tail.next_batch == _ANY_BATCH:
        start = header(number)
        data, offset, at = start + data, 0, len(start)
    elif number == tail.next_batch:
        offset = at = tail.end
    elif number == tail.next_batch - 1 and tail.last_batch_offset:
        offset = at = tail.last_batch_offset
    else:
        raise JobQueueError(
            f"batch {number} does not follow batch {tail.next_batch - 1} in {path}; the copy must be renewed"
        )
    os.ftruncate(fd, offset)
    view = memoryview(data)
    end = offset
    while view:
        written = os.pwrite(fd, view, end)
        end, view = end + written, view[written:]
    return _Tail(inode=tail.inode, end=end, next_batch=number + 1, last_batch_offset=at)


def _compact(data_dir: str, part: str) -> None:
    """Work a journal into the files it belongs to and begin it anew."""
    path = _journal_path(data_dir, part)
    with open(path, "rb") as file:
        contents = read_journal(file.read())
    if part == "config":
        _compact_config(f"{data_dir}/config.data", contents.records)
    else:
        _compact_queue(f"{data_dir}/queue", contents.records)
    _begin_journal(path, contents.next_batch)
    _tails.pop(path, None)


def _compact_config(path: str, records: tuple[Record, ...]) -> None:
    with open(path, "rb") as file:
        cluster = decode_cluster(file.read(), source=path)
    write_file(path, encode_pieces(replayed(cluster, records, source=path)), _FILE)


def _compact_queue(queue_dir: str, records: tuple[Record, ...]) -> None:
    changes = replay(records)
    for job, document in changes.documents.items():
        write_file(f"{queue_dir}/job-{job}", document, _FILE, durable=False)
    for job, last in changes.archived.items():
        target = f"{queue_dir}/archive/{job // _JOBS_PER_DIRECTORY}/job-{job}"
        os.makedirs(os.path.dirname(target), mode=0o750, exist_ok=True)
        if last is not None:
            write_file(f"{queue_dir}/job-{job}", last, _FILE, durable=False)
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{queue_dir}/job-{job}", target)
    if changes.drained is not None:
        _set_drained(f"{queue_dir}/drain", drained=changes.drained)
    serial = max(changes.serial, _read_number(f"{queue_dir}/serial"))
    write_file(f"{queue_dir}/serial", b"%d\n" % serial, _FILE, durable=False)
    os.sync()


def _set_drained(path: str, *, drained: bool) -> None:
    if drained:
        write_file(path, b"", Ownership(mode=0o644), durable=False)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _read_number(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (FileNotFoundError, ValueError):
        return 0


def _remove_journal(path: str) -> None:
    """Remove a journal and its older parts."""
    _tails.pop(path, None)
    directory, name = os.path.split(path)
    for entry in os.listdir(directory):
        if entry == name or re.fullmatch(re.escape(name) + r"\.(\d+|new)", entry):
            os.unlink(f"{directory}/{entry}")


def _remove_queue_files(queue_dir: str, files: Mapping[str, bytes]) -> None:
    for entry in os.listdir(queue_dir):
        if (_JOB_FILE.fullmatch(entry) or entry == "drain") and f"queue/{entry}" not in files:
            os.unlink(f"{queue_dir}/{entry}")


def _begin_journal(path: str, first_batch: int) -> None:
    new = f"{path}.new"
    with open(new, "wb") as file:
        set_ownership(file.fileno(), _FILE)
        file.write(header(first_batch))
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, path)
    sync_directory(os.path.dirname(path))


def _is_locked(path: str) -> bool:
    import fcntl

    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False

"""Jobs as values, and the established JSON of `queue/job-N`.

The opcode of an entry (`input`) and its result are kept as the JSON they are stored as: neither
changes once it is there, so a document is written again and again without encoding them afresh.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ganeti.errors import JobQueueError
from ganeti.model.ids import JobId

Timestamp = tuple[int, int]
"""Seconds and microseconds since the epoch."""

NULL = msgspec.Raw(b"null")


class JobStatus(StrEnum):
    """State of an opcode, and of the job that is made of them (jobqueue.md section 2)."""

    QUEUED = "queued"
    """Not started, or put back."""
    WAITING = "waiting"
    """Picked up; waits for other jobs or for locks."""
    CANCELING = "canceling"
    """Was to be cancelled while it waited."""
    RUNNING = "running"
    CANCELED = "canceled"
    SUCCESS = "success"
    ERROR = "error"

    @classmethod
    def _missing_(cls, value: object) -> JobStatus | None:
        return cls.WAITING if value == "waitlock" else None

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self in FINAL


FINAL = frozenset({JobStatus.CANCELED, JobStatus.SUCCESS, JobStatus.ERROR})


class LogKind(StrEnum):
    """Known types of log entries; others are kept as they are."""

    MESSAGE = "message"
    REMOTE_IMPORT = "remote-import"
    JQUEUE_TEST = "jqueue-test"
    DELAY_TEST = "delay-test"


class LogEntry(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One thing that a job told; the serial numbers run over the whole job from 1."""

    serial: int
    timestamp: Timestamp
    kind: str
    message: Any


class QueuedOp(msgspec.Struct, frozen=True, kw_only=True):
    """An opcode in a job."""

    input: msgspec.Raw
    status: JobStatus = JobStatus.QUEUED
    result: msgspec.Raw = NULL
    """On success what the operation gave, on error the encoded error."""
    log: tuple[LogEntry, ...] = ()
    priority: int = 0
    """Now; rises while locks are not had."""
    start_timestamp: Timestamp | None = None
    """First picked up."""
    exec_timestamp: Timestamp | None = None
    """Had its locks."""
    end_timestamp: Timestamp | None = None

    def input_value(self) -> Any:
        """The opcode as a JSON object; secrets are not in it."""
        return msgspec.json.decode(self.input)

    def result_value(self) -> Any:
        """The result as a JSON value."""
        return msgspec.json.decode(self.result)


class Request(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Which submission a job came from: the client's id of it, and the place in the batch."""

    id: str
    index: int = 0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job: opcodes that are executed one after the other."""

    id: JobId
    ops: tuple[QueuedOp, ...]
    received_timestamp: Timestamp | None = None
    start_timestamp: Timestamp | None = None
    end_timestamp: Timestamp | None = None
    livelock: str | UnsetType | None = UNSET
    """Only in documents of the established implementation, as `process_id`."""
    process_id: int | UnsetType | None = UNSET
    request: Request | UnsetType = UNSET

    def log_after(self, serial: int) -> tuple[LogEntry, ...]:
        """Log entries with greater serial numbers, in order."""
        found: list[LogEntry] = []
        for op in self.ops:
            if op.log and op.log[-1].serial > serial:
                found.extend(_tail(op.log, serial))
        return tuple(found)

    @property
    def last_serial(self) -> int:
        """Serial number of the newest log entry; 0 without any."""
        return max((op.log[-1].serial for op in self.ops if op.log), default=0)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Job)


def encode_job(job: Job) -> bytes:
    """The document of a job."""
    return _encoder.encode(job)


def decode_job(document: bytes, expected: JobId | None = None) -> Job:
    """The job in a document.

    Raises:
        JobQueueError: it cannot be read, or is that of another job; with the reason.
    """
    try:
        job = _decoder.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise JobQueueError(f"this is no job document: {error}") from error
    if not job.ops:
        raise JobQueueError("the job has no opcodes")
    if expected is not None and job.id != expected:
        raise JobQueueError(f"this is the document of job {job.id}, not of job {expected}")
    return job


def timestamp(seconds: float) -> Timestamp:
    """A time as job documents have it."""
    microseconds = round(seconds * 1_000_000)
    return microseconds // 1_000_000, microseconds % 1_000_000


def seconds_of(time: Timestamp) -> float:
    """A time of a job document as seconds since the epoch."""
    return time[0] + time[1] / 1_000_000


def _tail(log: tuple[LogEntry, ...], serial: int) -> Iterator[LogEntry]:
    start = len(log)
    while start and log[start - 1].serial > serial:
        start -= 1
    return iter(log[start:])

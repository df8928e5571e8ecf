"""What the journal of the job queue says, and what follows from it for the files of the queue.

The same records go to the master candidates, so both they and a starting master read them here.
Kinds of records: `job` (id of the job, whole document), `archive` (id, empty), `serial` (the last
id that was given out), `drain` (payload `1` or empty). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from ganeti.model.ids import JobId
from ganeti.model.records import Record


class QueueRecord(StrEnum):
    """Kinds of records."""

    JOB = "job"
    ARCHIVE = "archive"
    SERIAL = "serial"
    DRAIN = "drain"


class QueueChanges(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a row of records."""

    documents: Mapping[JobId, bytes]
    """Newest document of each job that is not archived."""
    archived: Mapping[JobId, bytes | None]
    """Jobs that went to the archive; None: with the document that their file has."""
    serial: int
    """At least so many ids were given out."""
    drained: bool | None
    """None: says nothing."""


def job_record(job: JobId, document: bytes, seq: int) -> Record:
    """A new state of a job."""
    return Record(kind=QueueRecord.JOB.value, id=str(job), seq=seq, payload=document)


def archive_record(job: JobId, seq: int) -> Record:
    """A job goes to the archive."""
    return Record(kind=QueueRecord.ARCHIVE.value, id=str(job), seq=seq, payload=b"")


def serial_record(serial: int, seq: int) -> Record:
    """Ids up to this one were given out."""
    return Record(kind=QueueRecord.SERIAL.value, id=str(serial), seq=seq, payload=b"")


def drain_record(*, drained: bool, seq: int) -> Record:
    """The queue takes no new jobs, or takes them again."""
    return Record(kind=QueueRecord.DRAIN.value, id="queue", seq=seq, payload=b"1" if drained else b"")


def replay(records: Iterable[Record]) -> QueueChanges:
    """What records amount to, oldest first; records of other kinds are passed over."""
    documents: dict[JobId, bytes] = {}
    archived: dict[JobId, bytes | None] = {}
    serial, drained = 0, None
    for record in records:
        match record.kind:
            case QueueRecord.JOB:
                job = JobId(int(record.id))
                documents[job] = record.payload
                serial = max(serial, job)
            case QueueRecord.ARCHIVE:
                job = JobId(int(record.id))
                archived[job] = documents.pop(job, None)
            case QueueRecord.SERIAL:
                serial = max(serial, int(record.id))
            case QueueRecord.DRAIN:
                drained = record.payload == b"1"
    return QueueChanges(documents=documents, archived=archived, serial=serial, drained=drained)

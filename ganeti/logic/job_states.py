"""The life of a job: which state follows which, as functions from one value to the next.

queued - waiting - running - (next opcode: queued ...) - success, error or canceled. Every function
that changes the state acts on the first opcode that is not finished.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from ganeti.errors import OperationFailed, to_wire
from ganeti.model.ids import JobId
from ganeti.model.job import (
    NULL,
    Job,
    JobStatus,
    LogEntry,
    QueuedOp,
    Timestamp,
    seconds_of,
    timestamp,
)
from ganeti.model.locks import SUBMIT_PRIORITIES

CANCELED_RESULT = msgspec.Raw(b'"Job canceled by request"')
_PENDING = frozenset({JobStatus.QUEUED, JobStatus.WAITING})


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request about a job."""

    job: Job
    accepted: bool
    text: str


def status_of(statuses: Iterable[JobStatus]) -> JobStatus:
    """Status of a job whose opcodes have these."""
    result, all_done = JobStatus.QUEUED, True
    for status in statuses:
        if status is JobStatus.SUCCESS:
            continue
        all_done = False
        if status is JobStatus.WAITING or status is JobStatus.RUNNING:
            result = status
        elif status is not JobStatus.QUEUED:
            return status
    return JobStatus.SUCCESS if all_done else result


def job_status(job: Job) -> JobStatus:
    """Status of a job."""
    return status_of(op.status for op in job.ops)


def is_final(job: Job) -> bool:
    """Whether a job has ended."""
    return job_status(job).is_final


def next_index(job: Job) -> int | None:
    """The first opcode that is not finished."""
    return next((index for index, op in enumerate(job.ops) if not op.status.is_final), None)


def pool_priority(job: Job) -> int:
    """What decides when a job gets its turn: the priority of its next opcode (S2.3-113)."""
    return next((op.priority for op in job.ops if not op.status.is_final), 0)


def shown_priority(job: Job) -> int:
    """The most urgent priority among the opcodes that are not finished, as lists show it."""
    return min((op.priority for op in job.ops if not op.status.is_final), default=0)


def encode_error(error: BaseException) -> msgspec.Raw:
    """An error as the result of an opcode: `[class, [arguments]]`."""
    return msgspec.Raw(msgspec.json.encode(to_wire(error)))


def picked_up(job: Job, now: float) -> Job:
    """The next opcode waits for other jobs and for locks."""
    time = timestamp(now)
    index = _next(job)
    op = job.ops[index]
    op = replace(op, status=JobStatus.WAITING, start_timestamp=op.start_timestamp or time)
    return replace(_with_op(job, index, op), start_timestamp=job.start_timestamp or time)


def deferred(job: Job, priority: int | None = None) -> Job:
    """Back in the queue, perhaps more urgent (S2.3-114)."""
    index = _next(job)
    op = job.ops[index]
    op = replace(op, status=JobStatus.QUEUED, priority=op.priority if priority is None else priority)
    return _with_op(job, index, op)


def started(job: Job, now: float) -> Job:
    """The next opcode has its locks and runs."""
    index = _next(job)
    op = replace(job.ops[index], status=JobStatus.RUNNING, exec_timestamp=timestamp(now))
    return _with_op(job, index, op)


def succeeded(job: Job, result: msgspec.Raw, now: float) -> Job:
    """The next opcode is done; so is the job if it was the last."""
    index, time = _next(job), timestamp(now)
    op = replace(job.ops[index], status=JobStatus.SUCCESS, result=result, end_timestamp=time)
    job = _with_op(job, index, op)
    return replace(job, end_timestamp=time) if index == len(job.ops) - 1 else job


def failed(job: Job, error: BaseException, now: float) -> Job:
    """The next opcode failed, and all after it with it; the job has ended."""
    index, time = _next(job), timestamp(now)
    later = encode_error(OperationFailed("Preceding opcode failed"))
    ops = [
        replace(
            op,
            status=JobStatus.ERROR,
            result=encode_error(error) if position == index else later,
            end_timestamp=time,
        )
        if position >= index
        else op
        for position, op in enumerate(job.ops)
    ]
    return replace(job, ops=tuple(ops), end_timestamp=time)


def canceled(job: Job, now: float) -> Job:
    """All opcodes that are not finished are cancelled; the job has ended."""
    return _end_rest(job, JobStatus.CANCELED, CANCELED_RESULT, timestamp(now))


def not_recorded(job: Job, error: BaseException, now: float) -> Job:
    """A job whose newest state could not be written ends as a crash would have ended it: in error.

    An opcode that had just ended counts as failed, too: nobody was told otherwise.
    """
    if next_index(job) is not None:
        return failed(job, error, now)
    last = replace(job.ops[-1], status=JobStatus.ERROR, result=encode_error(error))
    return replace(_with_op(job, len(job.ops) - 1, last), end_timestamp=timestamp(now))


def cancel_requested(job: Job, now: float) -> Answer:
    """Cancel what has not begun; whoever waits for locks is to look and stop."""
    match job_status(job):
        case JobStatus.QUEUED:
            return Answer(job=canceled(job, now), accepted=True, text=f"Job {job.id} canceled")
        case JobStatus.WAITING:
            ops = tuple(
                op if op.status.is_final else replace(op, status=JobStatus.CANCELING) for op in job.ops
            )
            return Answer(job=replace(job, ops=ops), accepted=True, text=f"Job {job.id} will be canceled")
    return Answer(job=job, accepted=False, text=f"Job {job.id} is no longer waiting in the queue")


def priority_changed(job: Job, priority: int) -> Answer:
    """Give all opcodes that have not begun another priority; their input stays as it is."""
    status = job_status(job)
    if priority not in SUBMIT_PRIORITIES:
        allowed = ", ".join(map(str, SUBMIT_PRIORITIES))
        return Answer(job=job, accepted=False, text=f"{priority} is no priority; use one of {allowed}")
    if status.is_final:
        return Answer(job=job, accepted=False, text=f"Job {job.id} has ended already")
    if status is JobStatus.CANCELING:
        return Answer(job=job, accepted=False, text=f"Job {job.id} is being canceled")
    if not any(op.status in _PENDING for op in job.ops):
        return Answer(job=job, accepted=False, text=f"Job {job.id} has no pending opcodes")
    ops = tuple(replace(op, priority=priority) if op.status in _PENDING else op for op in job.ops)
    text = f"Priorities of pending opcodes for job {job.id} have been changed to {priority}"
    return Answer(job=replace(job, ops=ops), accepted=True, text=text)


def recovered(job: Job, now: float) -> Job:
    """A job as it goes on after the master daemon was started again (jobqueue.md section 9)."""
    status = job_status(job)
    if status is JobStatus.WAITING:
        ops = tuple(op if op.status.is_final else replace(op, status=JobStatus.QUEUED) for op in job.ops)
        return replace(job, ops=ops)
    if status in (JobStatus.RUNNING, JobStatus.CANCELING):
        error = encode_error(OperationFailed("Unclean master daemon shutdown"))
        return _end_rest(job, JobStatus.ERROR, error, timestamp(now))
    return job


def logged(job: Job, index: int, kind: str, messages: Sequence[object], now: float) -> Job:
    """The job with further log entries of one opcode."""
    serial, time = job.last_serial, timestamp(now)
    entries = tuple(
        LogEntry(serial=serial + number, timestamp=time, kind=kind, message=message)
        for number, message in enumerate(messages, 1)
    )
    op = job.ops[index]
    return _with_op(job, index, replace(op, log=op.log + entries))


def with_newer_logs(job: Job, other: Job) -> Job:
    """The job with the longer of both logs of each opcode; logs only ever grow."""
    if len(job.ops) != len(other.ops):
        return job
    ops = tuple(
        replace(own, log=seen.log) if len(seen.log) > len(own.log) else own
        for own, seen in zip(job.ops, other.ops)
    )
    return replace(job, ops=ops)


def is_older_than(job: Job, age_s: float, now: float) -> bool:
    """Whether a job ended (or else began, or came) longer ago than this; -1 means any."""
    if age_s < 0:
        return True
    time = job.end_timestamp or job.start_timestamp or job.received_timestamp
    return time is None or now - seconds_of(time) > age_s


def new_job(job_id: JobId, ops: Sequence[QueuedOp], now: float) -> Job:
    """A job that was just received."""
    return Job(id=job_id, ops=tuple(ops), received_timestamp=timestamp(now))


def _end_rest(job: Job, status: JobStatus, result: msgspec.Raw, time: Timestamp) -> Job:
    ops = tuple(
        op if op.status.is_final else replace(op, status=status, result=result or NULL, end_timestamp=time)
        for op in job.ops
    )
    return replace(job, ops=ops, end_timestamp=time)


def _next(job: Job) -> int:
    index = next_index(job)
    if index is None:
        raise ValueError(f"job {job.id} has ended")
    return index


def _with_op(job: Job, index: int, op: QueuedOp) -> Job:
    return replace(job, ops=(*job.ops[:index], op, *job.ops[index + 1 :]))

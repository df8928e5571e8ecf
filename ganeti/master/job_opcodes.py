"""Opcodes of jobs: as they are executed, and as they are stored, without secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec.structs import replace

from ganeti.errors import GanetiError, PrereqError
from ganeti.logic.job_info import fallback_summary
from ganeti.logic.job_schedule import Depends, resolve_depends
from ganeti.model.ids import JobId
from ganeti.model.job import Job, QueuedOp
from ganeti.ops.base import OpCode, parameters
from ganeti.ops.registry import Registry

REDACTED = "<redacted>"
"""Stands for a secret value."""

_encoder = msgspec.json.Encoder()


def read_opcodes(registry: Registry, values: object) -> tuple[OpCode, ...]:
    """The opcodes of a submitted job.

    Raises:
        PrereqError: wrong_input: no list, an empty one, or an opcode that is none.
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise PrereqError("a job is a list of at least one opcode")
    return tuple(value if isinstance(value, OpCode) else registry.decode(value) for value in values)


def prepare(
    ops: Sequence[OpCode], job: JobId, index: int, batch: Mapping[int, JobId] | None, now: float
) -> tuple[OpCode, ...]:
    """Opcodes with the ids of the jobs they depend on, and with the queue's mark in their reasons.

    Args:
        ops: as submitted.
        job: id of their job.
        index: its place in the batch.
        batch: accepted jobs of the batch so far, by place; None for a job submitted alone.
        now: seconds since the epoch.

    Raises:
        PrereqError: wrong_input: a dependency that means nothing.
    """
    nanoseconds = round(now * 1_000_000_000)
    return tuple(
        replace(
            op,
            depends=_depends(op.depends, index, batch),
            reason=(
                *op.reason,
                (
                    f"gnt:opcode:{op.op_id().removeprefix('OP_').lower()}",
                    f"job={job};index={number}",
                    nanoseconds,
                ),
            ),
        )
        for number, op in enumerate(ops)
    )


def stored(op: OpCode) -> QueuedOp:
    """A new entry of a job; its document never has the opcode's secrets."""
    return QueuedOp(input=msgspec.Raw(_encoder.encode(without_secrets(op))), priority=op.priority)


def without_secrets(op: OpCode) -> OpCode:
    """The opcode as it may be written down; also without the secrets of opcodes among its parameters."""
    changes = {name: _redacted(getattr(op, name)) for name in _secret_names(type(op))}
    for name, inner in _inner_opcodes(op):
        changes[name] = tuple(without_secrets(one) for one in inner)
    return replace(op, **changes) if changes else op


def restored(registry: Registry, job: Job) -> tuple[OpCode | GanetiError, ...]:
    """Opcodes of a job that was read from its document; an error where one cannot be executed."""
    return tuple(_restored_one(registry, queued) for queued in job.ops)


def summaries(registry: Registry, job: Job) -> tuple[str, ...]:
    """Short texts of the opcodes of a job that was read from its document."""
    return tuple(summary_of(_decoded(registry, queued), queued) for queued in job.ops)


def summary_of(op: OpCode | GanetiError, queued: QueuedOp) -> str:
    """Short text of an opcode, whatever is in it: one odd job must not hide all others from lists."""
    if isinstance(op, OpCode):
        try:
            return op.summary()
        except (ArithmeticError, TypeError, ValueError):
            pass
    return fallback_summary(queued.input_value())


def _restored_one(registry: Registry, queued: QueuedOp) -> OpCode | GanetiError:
    op = _decoded(registry, queued)
    if isinstance(op, OpCode):
        lost = list(_lost_secrets(op))
        if lost:
            return PrereqError(
                f"the secret {lost[0]!r} was forgotten when the master daemon was restarted before this "
                "job began; submit the job again"
            )
    return op


def _lost_secrets(op: OpCode) -> Iterator[str]:
    """Names of the secrets that an opcode had, with those of opcodes among its parameters."""
    yield from (name for name in _secret_names(type(op)) if _has_redacted(getattr(op, name)))
    for _, inner in _inner_opcodes(op):
        for one in inner:
            yield from _lost_secrets(one)


def _inner_opcodes(op: OpCode) -> list[tuple[str, tuple[OpCode, ...]]]:
    """Parameters that are lists of opcodes, with these."""
    found = ((name, getattr(op, name)) for name in _list_names(type(op)))
    return [(name, value) for name, value in found if value and all(isinstance(one, OpCode) for one in value)]


def _decoded(registry: Registry, queued: QueuedOp) -> OpCode | GanetiError:
    try:
        return registry.decode(queued.input_value())
    except PrereqError as error:
        return error


def _depends(depends: Depends | None, index: int, batch: Mapping[int, JobId] | None) -> Depends | None:
    return resolve_depends(depends, index, batch) if depends else depends


@cache
def _secret_names(cls: type[OpCode]) -> tuple[str, ...]:
    return tuple(field.name for field, param in parameters(cls) if param is not None and param.secret)


@cache
def _list_names(cls: type[OpCode]) -> tuple[str, ...]:
    """Parameters that may be lists of opcodes."""
    hints = get_type_hints(cls)
    return tuple(name for name, hint in hints.items() if any(_is_opcode(one) for one in get_args(hint)))


def _is_opcode(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, OpCode)


def _redacted(value: Any) -> Any:
    match value:
        case None:
            return None
        case Mapping():
            return {key: _redacted(part) for key, part in value.items()}
        case list() | tuple():
            return type(value)(_redacted(part) for part in value)
    return REDACTED


def _has_redacted(value: Any) -> bool:
    match value:
        case Mapping():
            return any(map(_has_redacted, value.values()))
        case list() | tuple():
            return any(map(_has_redacted, value))
    return bool(value == REDACTED)

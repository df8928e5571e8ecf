"""Values of the established query fields of a job (query.md, resource `job`). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ganeti.errors import PrereqError
from ganeti.logic.job_states import job_status, shown_priority
from ganeti.model.job import Job


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job with what its document does not say."""

    job: Job
    summary: tuple[str, ...]
    """Short text of each opcode."""
    archived: bool = False


GETTERS: Mapping[str, Callable[[JobView], Any]] = {
    "id": lambda view: view.job.id,
    "status": lambda view: job_status(view.job).value,
    "priority": lambda view: shown_priority(view.job),
    "ops": lambda view: [op.input_value() for op in view.job.ops],
    "opresult": lambda view: [op.result_value() for op in view.job.ops],
    "opstatus": lambda view: [op.status.value for op in view.job.ops],
    "oplog": lambda view: [
        [[entry.serial, list(entry.timestamp), entry.kind, entry.message] for entry in op.log]
        for op in view.job.ops
    ],
    "opstart": lambda view: [op.start_timestamp for op in view.job.ops],
    "opexec": lambda view: [op.exec_timestamp for op in view.job.ops],
    "opend": lambda view: [op.end_timestamp for op in view.job.ops],
    "oppriority": lambda view: [op.priority for op in view.job.ops],
    "summary": lambda view: list(view.summary),
    "received_ts": lambda view: view.job.received_timestamp,
    "start_ts": lambda view: view.job.start_timestamp,
    "end_ts": lambda view: view.job.end_timestamp,
    "archived": lambda view: view.archived,
}


def check_fields(fields: Sequence[str]) -> None:
    """Refuse names of fields that jobs do not have.

    Raises:
        PrereqError: wrong_input, with the known names.
    """
    unknown = [name for name in fields if name not in GETTERS]
    if unknown:
        raise PrereqError(f"jobs have no field {unknown[0]!r}; known: {', '.join(sorted(GETTERS))}")


def job_values(view: JobView, fields: Sequence[str]) -> list[Any]:
    """The values of some fields, in their order; JSON values."""
    return [GETTERS[name](view) for name in fields]


def fallback_summary(value: object) -> str:
    """Summary of an opcode that is not known here."""
    op_id = value.get("OP_ID") if isinstance(value, Mapping) else None
    return op_id.removeprefix("OP_") if isinstance(op_id, str) else "INVALID_OP"

"""Arguments of the requests of clients, as they come in order; what is left out has its default.

Further arguments of newer clients are passed over (SX-001).
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from ganeti.errors import PrereqError
from ganeti.logic.tags import TagKind
from ganeti.model.ids import JobId

T = TypeVar("T")


class SubmitArgs(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One job."""

    opcodes: list[Any]
    drained_ok: bool = False


class SubmitManyArgs(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Several jobs."""

    jobs: list[Any]


class QueryArgs(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Rows of a resource."""

    what: str
    fields: list[str]
    qfilter: list[Any] | None = None
    cached: bool = True
    """What the nodes told lately is good enough."""


class QueryFieldsArgs(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Fields of a resource."""

    what: str
    fields: list[str] | None = None


class NamesArgs(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Names of values."""

    names: list[str]


class TagsArgs(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Whose tags."""

    kind: TagKind
    name: str | None = None


class WaitArgs(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What is new about a job."""

    job: JobId
    fields: list[str]
    previous_values: Any = None
    previous_serial: int | None = None
    timeout_s: float = 60.0


class WatchArgs(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """News of a job as long as it lives."""

    job: JobId
    fields: list[str]
    previous_serial: int | None = None
    timeout_s: float = 60.0
    """How long the client waits without any sign of life."""


class JobArgs(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One job, or subscription."""

    id: JobId


class AutoArchiveArgs(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Old jobs; -1: all that have ended."""

    age_s: float
    timeout_s: float = 60.0


class PriorityArgs(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A job and its priority."""

    id: JobId
    priority: int


class FlagArgs(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Yes or no."""

    flag: bool


class PauseArgs(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Until when; None: not at all."""

    until: float | None = None


def read(command: str, args: object, wanted: type[T]) -> T:
    """The arguments of a request.

    Raises:
        PrereqError: wrong_input: too few, or of a wrong type.
    """
    try:
        return msgspec.convert(args, wanted)
    except msgspec.ValidationError as error:
        raise PrereqError(f"{command}: wrong arguments: {error}") from error

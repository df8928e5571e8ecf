"""Commands between masterd and noded: function calls and the sign of life.

A function's arguments and result are JSON that the daemons pass on unread. A result is the pair
`[true, value]` or `[false, [error class, [arguments]]]`; it is absent while the function runs.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from twisted.protocols import amp

from ganeti.model.calls.parcels import MAX_PARCEL_BYTES
from ganeti.wire.arguments import Chunked, Flag, RawJson, Text, Trace, Typed
from ganeti.wire.errors import GanetiCommand

Seconds = Annotated[float, msgspec.Meta(ge=0)]

_PROGRESS: list[tuple[bytes, amp.Argument]] = [
    (b"call_id", Text(optional=True)),
    (b"finished", Flag()),
    (b"result", Chunked(RawJson(), optional=True)),
]


class FunctionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One call that a node daemon knows."""

    call_id: str
    name: str
    state: str
    """queued, running, ending, finished"""
    seconds: float
    """Since it was asked for."""
    trace: str | None = None


class StartFunction(GanetiCommand):
    """Call a function and wait for it a while.

    `timeout` 0 is fire and forget: the answer comes at once and the result is dropped. After
    `abort_after` seconds the function is ended. A `request_id` that is known already joins that call
    instead of starting another: so a request whose answer was lost may be repeated.
    """

    arguments = [
        (b"name", Text()),
        (b"args", Chunked(RawJson())),
        (b"timeout", Typed(Seconds)),
        (b"abort_after", Typed(Seconds, optional=True)),
        (b"request_id", Text(optional=True)),
        (b"trace", Trace()),
    ]
    response = _PROGRESS


class WaitForFunction(GanetiCommand):
    """Wait for a running call again, by its id or the id of its request; unknown ones are `UnknownCall`."""

    arguments = [(b"call_id", Text()), (b"timeout", Typed(Seconds))]
    response = _PROGRESS


class AbortFunction(GanetiCommand):
    """End a running call, by its id or the id of its request; no error if it has ended."""

    arguments = [(b"call_id", Text())]


class ListFunctions(GanetiCommand):
    """Calls that the node daemon knows."""

    response = [(b"functions", Chunked(Typed(tuple[FunctionRow, ...])))]


class TakeParcel(GanetiCommand):
    """Bring another node a parcel of the master, a `SignedParcel`.

    The only command that node daemons take from each other. The answer is a receipt for each
    connection that the node has with a master.
    """

    arguments = [(b"parcel", Chunked(RawJson(), at_most=MAX_PARCEL_BYTES + 2**16))]
    response = [(b"receipts", Typed(tuple[str, ...]))]


class Ping(GanetiCommand):
    """Sign of life, sent by both ends; wants no answer, but gives one to who asks."""

    requiresAnswer = False

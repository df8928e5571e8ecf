"""Values in AMP boxes: JSON, typed JSON, long values over several keys, the job a call belongs to.

An AMP value has at most 65,535 bytes. `Chunked` spreads a longer one over the keys `name`, `name.1`,
`name.2` ... of the same box (docs/architecture/wire.md) and bounds what it puts together again.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import msgspec

from twisted.protocols import amp

from ganeti.errors import GanetiError, PrereqError

CHUNK = 65_535
"""Most bytes of one AMP value."""

MAX_VALUE_BYTES = 64 * 2**20
"""Most bytes of one chunked value, unless the argument says otherwise."""

Strings = MutableMapping[bytes, bytes]
Objects = MutableMapping[str, Any]


class Json(amp.Argument):
    """Any JSON value."""

    def __init__(self, optional: bool = False) -> None:
        super().__init__(optional)  # type: ignore[no-untyped-call]

    def toString(self, inObject: object) -> bytes:
        """JSON; a `msgspec.Raw` goes through as it is, for those who encoded in slices."""
        return msgspec.json.encode(inObject)

    def fromString(self, inString: bytes) -> Any:
        """The value.

        Raises:
            PrereqError: not JSON.
        """
        return _decoded(inString, Any)


class RawJson(amp.Argument):
    """JSON that is passed on without being looked at; `bytes` on both ends."""

    def __init__(self, optional: bool = False) -> None:
        super().__init__(optional)  # type: ignore[no-untyped-call]

    def toString(self, inObject: bytes) -> bytes:
        """The bytes."""
        return inObject

    def fromString(self, inString: bytes) -> bytes:
        """The bytes."""
        return inString


class Typed(amp.Argument):
    """A value of one type, as JSON, checked when it is read.

    Args:
        wanted: a type that msgspec knows.
        optional: may be left out and is None then.
    """

    def __init__(self, wanted: Any, optional: bool = False) -> None:
        super().__init__(optional)  # type: ignore[no-untyped-call]
        self._wanted = wanted

    def toString(self, inObject: object) -> bytes:
        """JSON."""
        return msgspec.json.encode(inObject)

    def fromString(self, inString: bytes) -> Any:
        """The value.

        Raises:
            PrereqError: not JSON, or not of this type; the message has the path of what is wrong.
        """
        return _decoded(inString, self._wanted)


class Trace(amp.Unicode):
    """Id of the job on whose behalf something is done, for logs; may be left out."""

    def __init__(self) -> None:
        super().__init__(optional=True)  # type: ignore[no-untyped-call]


class Chunked(amp.Argument):
    """Another argument whose value may be long.

    Args:
        inner: what is carried.
        at_most: bytes that are sent or put together; more is refused on both ends.
        optional: may be left out and is None then.
    """

    def __init__(
        self, inner: amp.Argument, *, at_most: int = MAX_VALUE_BYTES, optional: bool = False
    ) -> None:
        super().__init__(optional)  # type: ignore[no-untyped-call]
        self._inner = inner
        self._at_most = at_most

    def toBox(self, name: bytes, strings: Strings, objects: Objects, proto: object) -> None:
        """Encode and spread over keys.

        Raises:
            GanetiError: too long.
        """
        key = name.decode("ascii")
        value = objects.get(key) if self.optional else objects[key]
        if value is None and self.optional:
            return
        data = self._inner.toStringProto(value, proto)
        self._check(name, len(data))
        strings[name] = data[:CHUNK]
        for number, start in enumerate(range(CHUNK, len(data), CHUNK), 1):
            strings[b"%s.%d" % (name, number)] = data[start : start + CHUNK]

    def fromBox(self, name: bytes, strings: Strings, objects: Objects, proto: object) -> None:
        """Put together and decode.

        Raises:
            PrereqError: missing, or not what the inner argument reads.
            GanetiError: too long.
        """
        key = name.decode("ascii")
        part = strings.pop(name, None)
        if part is None:
            if not self.optional:
                raise PrereqError(f"argument {key!r} is missing")
            objects[key] = None
            return
        parts: list[bytes] = []
        size = 0
        while part is not None:
            parts.append(part)
            size += len(part)
            self._check(name, size)
            part = strings.pop(b"%s.%d" % (name, len(parts)), None)
        objects[key] = self._inner.fromStringProto(parts[0] if len(parts) == 1 else b"".join(parts), proto)

    def _check(self, name: bytes, size: int) -> None:
        if size > self._at_most:
            raise GanetiError(
                f"{name.decode('ascii')!r} has {size} bytes or more, and one message carries at most"
                f" {self._at_most}; ask for less at a time"
            )


def _decoded(data: bytes, wanted: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=wanted)
    except msgspec.DecodeError as error:
        raise PrereqError(f"message cannot be read: {error}") from error

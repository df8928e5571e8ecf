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
from ganeti.model.reading import UNREADABLE

CHUNK = 65_535
"""Most bytes of one AMP value."""

MAX_VALUE_BYTES = 64 * 2**20
"""Most bytes of one chunked value, unless the argument says otherwise."""

Strings = MutableMapping[bytes, bytes]
Objects = MutableMapping[str, Any]


class Value(amp.Argument):
    """One value under one key. Does what `amp.Argument` does, at a fraction of the cost.

    AMP turns each name into an identifier in a general way, twice for each message; ours are
    identifiers already.
    """

    def __init__(self, optional: bool = False) -> None:
        self.optional = optional

    def toBox(self, name: bytes, strings: Strings, objects: Objects, proto: object) -> None:
        """Encode; a value of None is left out if it may be."""
        value = (
            objects.pop(name.decode("ascii"), None) if self.optional else objects.pop(name.decode("ascii"))
        )
        if value is not None or not self.optional:
            strings[name] = self.toString(value)

    def fromBox(self, name: bytes, strings: Strings, objects: Objects, proto: object) -> None:
        """Decode.

        Raises:
            PrereqError: missing or unreadable.
        """
        key = name.decode("ascii")
        data = strings.pop(name, None)
        if data is not None:
            objects[key] = self.fromString(data)
        elif self.optional:
            objects[key] = None
        else:
            raise PrereqError(f"argument {key!r} is missing")

    def toStringProto(self, inObject: object, proto: object) -> bytes:
        """Encode; for what wraps this."""
        return self.toString(inObject)

    def fromStringProto(self, inString: bytes, proto: object) -> Any:
        """Decode; for what wraps this."""
        return self.fromString(inString)

    def toString(self, inObject: Any) -> bytes:
        """Encode."""
        raise NotImplementedError

    def fromString(self, inString: bytes) -> Any:
        """Decode."""
        raise NotImplementedError


class Text(Value):
    """A text, UTF-8."""

    def toString(self, inObject: str) -> bytes:
        """Bytes."""
        return inObject.encode()

    def fromString(self, inString: bytes) -> str:
        """Text."""
        return inString.decode()


class Flag(Value):
    """True or False, spelled as in Python."""

    def toString(self, inObject: bool) -> bytes:
        """Bytes."""
        return b"True" if inObject else b"False"

    def fromString(self, inString: bytes) -> bool:
        """The flag.

        Raises:
            PrereqError: neither.
        """
        if inString not in (b"True", b"False"):
            raise PrereqError(f"{inString!r} is neither True nor False")
        return inString == b"True"


class Json(Value):
    """Any JSON value."""

    def toString(self, inObject: object) -> bytes:
        """JSON; a `msgspec.Raw` goes through as it is, for those who encoded in slices."""
        return msgspec.json.encode(inObject)

    def fromString(self, inString: bytes) -> Any:
        """The value.

        Raises:
            PrereqError: not JSON.
        """
        return _decoded(inString, _ANYTHING)


class RawJson(Value):
    """JSON that is passed on without being looked at; `bytes` on both ends."""

    def toString(self, inObject: bytes) -> bytes:
        """The bytes."""
        return inObject

    def fromString(self, inString: bytes) -> bytes:
        """The bytes."""
        return inString


class Typed(Value):
    """A value of one type, as JSON, checked when it is read.

    Args:
        wanted: a type that msgspec knows.
        optional: may be left out and is None then.
    """

    def __init__(self, wanted: Any, optional: bool = False) -> None:
        super().__init__(optional)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(wanted)

    def toString(self, inObject: object) -> bytes:
        """JSON."""
        return msgspec.json.encode(inObject)

    def fromString(self, inString: bytes) -> Any:
        """The value.

        Raises:
            PrereqError: not JSON, or not of this type; the message has the path of what is wrong.
        """
        return _decoded(inString, self._decoder)


class Trace(Text):
    """Id of the job on whose behalf something is done, for logs; may be left out."""

    def __init__(self) -> None:
        super().__init__(optional=True)


class Chunked(Value):
    """Another argument whose value may be long.

    Args:
        inner: what is carried.
        at_most: bytes that are sent or put together; more is refused on both ends.
        optional: may be left out and is None then.
    """

    def __init__(self, inner: Value, *, at_most: int = MAX_VALUE_BYTES, optional: bool = False) -> None:
        super().__init__(optional)
        self._inner = inner
        self._at_most = at_most

    def toBox(self, name: bytes, strings: Strings, objects: Objects, proto: object) -> None:
        """Encode and spread over keys.

        Raises:
            GanetiError: too long.
        """
        key = name.decode("ascii")
        value = objects.pop(key, None) if self.optional else objects.pop(key)
        if value is None and self.optional:
            return
        data = self._inner.toString(value)
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
        objects[key] = self._inner.fromString(parts[0] if len(parts) == 1 else b"".join(parts))

    def _check(self, name: bytes, size: int) -> None:
        if size > self._at_most:
            raise GanetiError(
                f"{name.decode('ascii')!r} has {size} bytes or more, and one message carries at most"
                f" {self._at_most}; ask for less at a time"
            )


_ANYTHING: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def _decoded(data: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(data)
    except UNREADABLE as error:
        raise PrereqError(f"message cannot be read: {error}") from error

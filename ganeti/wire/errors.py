"""Errors on the wire: one declared AMP error that carries every error of ours.

An exception that a command does not declare makes AMP close the connection, and every other call on
it fails. So all commands of the project derive from `GanetiCommand`, which declares `WireError`, and
all responders live in a `ganeti.wire.locator.GuardedLocator`, which turns everything else into one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from twisted.protocols import amp

from ganeti.errors import GanetiError, PrereqError, from_wire, to_wire
from ganeti.model.reading import UNREADABLE
from ganeti.wire.arguments import CHUNK

ERROR_CODE = b"GANETI"
"""`_error_code` of boxes whose `_error_description` is JSON `[class, [arguments]]`."""

_MAX_BYTES = 60_000
_SHORT_TEXT = 8_000


class WireError(Exception):
    """An error of ours on its way; its text is JSON `[class, [arguments]]`."""

    @classmethod
    def pack(cls, error: GanetiError) -> WireError:
        """What is sent for an error; texts too long for an AMP value are cut."""
        name, args = to_wire(error)
        text = msgspec.json.encode([name, args])
        if len(text) > _MAX_BYTES:
            if not isinstance(args[0], str):
                name = GanetiError.wire_name
            text = msgspec.json.encode([name, [str(error)[:_SHORT_TEXT] + " [...]", *args[1:]]])
        return cls(text.decode())

    def unpack(self) -> GanetiError:
        """The error that was sent; rubbish becomes a plain error with the text."""
        text = str(self)
        try:
            name, args = msgspec.json.decode(text, type=tuple[str, list[Any]])
        except UNREADABLE:
            return GanetiError(text or "the other side failed and did not say why")
        return from_wire(name, args)


class Box(amp.AmpBox):
    """A message; the same bytes as those of AMP's class but for the order, and in half the time."""

    __slots__ = ()

    def __init__(self, values: Mapping[bytes, bytes] | None = None) -> None:
        dict.__init__(self, values or {})

    def serialize(self) -> bytes:
        """The bytes.

        Raises:
            amp.TooLong: of a key or value.
        """
        parts: list[bytes] = []
        for key, value in self.items():
            size = len(value)
            if size > CHUNK:
                raise amp.TooLong(False, True, value, key)
            parts += (_encoded(key), size.to_bytes(2, "big"), value)
        parts.append(b"\0\0")
        return b"".join(parts)


@lru_cache(maxsize=1024)
def _encoded(key: bytes) -> bytes:
    """A key as it stands in a message; there are few different ones."""
    if len(key) > 255:
        raise amp.TooLong(True, True, key, key)
    return len(key).to_bytes(2, "big") + key


class GanetiCommand(amp.Command):
    """Base of all commands: errors of ours cross, unreadable arguments are the caller's mistake."""

    errors = {WireError: ERROR_CODE}
    responseType = Box

    def __init__(self, **arguments: Any) -> None:
        # What is missing or too much is found when the box is made, once.
        self.structured = arguments

    @classmethod
    def makeArguments(cls, objects: dict[str, Any], proto: object) -> amp.AmpBox:
        """The box for some arguments, which are used up.

        Raises:
            TypeError: one is missing, or one too many.
        """
        box = Box()
        try:
            for name, argument in cls.arguments:
                argument.toBox(name, box, objects, proto)
        except KeyError as error:
            raise TypeError(f"{cls.__name__} needs the argument {error.args[0]!r}") from error
        if objects:
            raise TypeError(f"{cls.__name__} has no argument {next(iter(objects))!r}")
        return box

    @classmethod
    def parseResponse(cls, box: amp.AmpBox, protocol: object) -> dict[str, Any]:
        """Values of an answer, which is used up.

        Raises:
            PrereqError: one is missing or cannot be read.
        """
        values: dict[str, Any] = {}
        for name, argument in cls.response:
            argument.fromBox(name, box, values, protocol)
        return values

    @classmethod
    def parseArguments(cls, box: amp.AmpBox, protocol: object) -> dict[str, Any]:
        """Arguments of a box.

        Raises:
            PrereqError: one is missing or cannot be read.
        """
        try:
            arguments: dict[str, Any] = super().parseArguments(box, protocol)  # type: ignore[no-untyped-call]
        except GanetiError:
            raise
        except KeyError as error:
            missing = error.args[0].decode("ascii", "replace") if error.args else "?"
            raise PrereqError(f"{cls.__name__}: argument {missing!r} is missing") from error
        except (ValueError, TypeError) as error:
            raise PrereqError(f"{cls.__name__}: an argument cannot be read: {error}") from error
        return arguments

"""Errors on the wire: one declared AMP error that carries every error of ours.

An exception that a command does not declare makes AMP close the connection, and every other call on
it fails. So all commands of the project derive from `GanetiCommand`, which declares `WireError`, and
all responders live in a `ganeti.wire.locator.GuardedLocator`, which turns everything else into one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from twisted.protocols import amp

from ganeti.errors import GanetiError, PrereqError, from_wire, to_wire

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
        except msgspec.DecodeError:
            return GanetiError(text or "the other side failed and did not say why")
        return from_wire(name, args)


class GanetiCommand(amp.Command):
    """Base of all commands: errors of ours cross, unreadable arguments are the caller's mistake."""

    errors = {WireError: ERROR_CODE}

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

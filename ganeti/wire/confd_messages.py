"""Datagrams of confd: four magic bytes, then JSON with a message, a salt and a signature over both.

The format is the established one. Pure: key and time are arguments.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import IntEnum
from typing import Any, TypeVar

import msgspec

MAGIC = b"plj0"
PROTOCOL = 1
MAX_CLOCK_SKEW_S = 300
MAX_REQUEST_BYTES = 4096
MAX_DATAGRAM_BYTES = 61440


T = TypeVar("T")


class Unacceptable(Exception):
    """A datagram to which there must be no answer; the text says why, for the log."""


class RequestType(IntEnum):
    """What is asked."""

    PING = 0


class ReplyStatus(IntEnum):
    """How a question ended."""

    OK = 0
    ERROR = 1
    NOT_IMPLEMENTED = 2


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A question."""

    protocol: int
    type: int
    rsalt: str
    """Chosen by the client, comes back as the salt of the answer."""
    query: Any = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer."""

    status: int
    answer: Any
    serial: int = 0
    """Of the object the answer is about."""
    protocol: int = PROTOCOL


class _Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is signed, and the signature."""

    msg: str
    salt: str
    hmac: str
    key_selector: str | None = None


def signature(key: bytes, salt: str, message: str, key_selector: str = "") -> str:
    """HMAC-SHA1 over salt and message, hexadecimal."""
    return hmac.new(key, f"{salt}{key_selector}{message}".encode(), hashlib.sha1).hexdigest()


def sealed(value: msgspec.Struct, salt: str, key: bytes) -> bytes:
    """The datagram of a request or reply."""
    message = msgspec.json.encode(value).decode()
    envelope = _Envelope(msg=message, salt=salt, hmac=signature(key, salt, message))
    return MAGIC + msgspec.json.encode(envelope)


def opened(datagram: bytes, key: bytes) -> tuple[str, str]:
    """Message and salt of a datagram.

    Raises:
        Unacceptable: no such datagram, or not signed with this key.
    """
    if not datagram.startswith(MAGIC):
        raise Unacceptable("it does not begin with the magic bytes")
    envelope = _decoded(datagram[len(MAGIC) :], _Envelope)
    wanted = signature(key, envelope.salt, envelope.msg, envelope.key_selector or "")
    if not hmac.compare_digest(wanted.encode(), envelope.hmac.lower().encode()):
        raise Unacceptable("its signature is wrong")
    return envelope.msg, envelope.salt


def write_request(request: Request, key: bytes, *, now: float) -> bytes:
    """A signed question."""
    return sealed(request, str(int(now)), key)


def read_request(datagram: bytes, key: bytes, *, now: float) -> Request:
    """A signed question that is not too old.

    Raises:
        Unacceptable: anything is wrong with it.
    """
    message, salt = opened(datagram, key)
    if not (salt.isascii() and salt.isdigit()):
        raise Unacceptable("its salt is not a time")
    if abs(now - int(salt)) > MAX_CLOCK_SKEW_S:
        raise Unacceptable(f"it was sent at {salt}, and here it is {int(now)}; compare the clocks")
    return _decoded(message, Request)


def write_reply(reply: Reply, rsalt: str, key: bytes) -> bytes:
    """A signed answer to the question with this salt."""
    return sealed(reply, rsalt, key)


def read_reply(datagram: bytes, key: bytes) -> tuple[str, Reply]:
    """The salt of the question, and the answer.

    Raises:
        Unacceptable: anything is wrong with it.
    """
    message, salt = opened(datagram, key)
    return salt, _decoded(message, Reply)


def _decoded(text: bytes | str, kind: type[T]) -> T:
    # Wrong UTF-8 and deep nesting are no DecodeError.
    try:
        return msgspec.json.decode(text, type=kind)
    except (ValueError, RecursionError) as error:
        raise Unacceptable(f"it cannot be read: {error}") from error

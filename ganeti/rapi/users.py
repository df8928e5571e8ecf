"""Users of the remote interface: the users file, and whether a password is right. Pure.

A line is `name password [option,...]`. Passwords are clear text, `{cleartext}text`, `{HA1}` with the
established MD5, or `{BCRYPT}` with a bcrypt hash, which is what new ones should be.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from enum import StrEnum

import bcrypt
import msgspec

from ganeti.rapi.errors import REALM

_SCHEME = re.compile(r"\{([A-Za-z0-9_-]+)\}(.*)", re.DOTALL)


class Access(StrEnum):
    """What a resource asks of those who use it."""

    OPEN = "-"
    READ = "R"
    WRITE = "W"


class User(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the users file."""

    name: str
    password: str
    options: frozenset[str] = frozenset()

    def may(self, access: Access) -> bool:
        """Whether the user's options are enough."""
        match access:
            case Access.OPEN:
                return True
            case Access.READ:
                return bool(self.options & {"read", "write"})
            case Access.WRITE:
                return "write" in self.options


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Name and password as a client sent them."""

    name: str
    password: str


def parse_users(text: str) -> Mapping[str, User]:
    """Users by name; comments, empty lines and lines without a password are skipped."""
    users = {}
    for line in text.splitlines():
        words = line.split(None, 2)
        if len(words) < 2 or line.lstrip().startswith("#"):
            continue
        options = words[2].split(",") if len(words) > 2 else []
        users[words[0]] = User(
            name=words[0],
            password=words[1],
            options=frozenset(option.strip() for option in options if option.strip()),
        )
    return users


def basic_login(header: str) -> Login | None:
    """Name and password of an Authorization header; None if it cannot be read."""
    scheme, _, encoded = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    name, colon, password = text.partition(":")
    return Login(name=name, password=password) if colon else None


def is_right(login: Login, stored: str) -> bool:
    """Whether a password is the stored one. Slow on purpose for hashed ones: not for the reactor."""
    match = _SCHEME.fullmatch(stored)
    if match is None:
        return not stored.startswith("{") and _same(login.password, stored)
    scheme, value = match[1].lower(), match[2]
    match scheme:
        case "cleartext":
            return _same(login.password, value)
        case "ha1":
            return _same(_ha1(login), value.lower())
        case "bcrypt":
            return _is_bcrypt(login.password, value)
        case _:
            return False


def _ha1(login: Login) -> str:
    text = f"{login.name}:{REALM}:{login.password}".encode()
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def _is_bcrypt(password: str, hashed: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode(), hashed.encode())
    except ValueError:
        return False


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())

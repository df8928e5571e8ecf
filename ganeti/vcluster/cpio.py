"""Writes cpio archives in the format that the kernel unpacks as its first file system. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A file or directory; `mode` has its type, as in `stat`."""

    name: str
    mode: int
    data: bytes = b""


def archive(members: Iterable[Member]) -> bytes:
    """The archive (`newc`), everything owned by root and without times, so that it is reproducible."""
    parts = [_entry(number, member) for number, member in enumerate(members, start=1)]
    parts.append(_entry(0, Member(name="TRAILER!!!", mode=0)))
    return b"".join(parts)


def _entry(inode: int, member: Member) -> bytes:
    name = member.name.encode() + b"\0"
    links = 2 if member.mode & 0o040000 else 1
    fields = (inode, member.mode, 0, 0, links, 0, len(member.data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return _padded(header + name) + _padded(member.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)

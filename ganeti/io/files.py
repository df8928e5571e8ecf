"""Files that are written wholly or not at all, with an explicit owner and mode. Imports no Twisted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

import msgspec


class Ownership(msgspec.Struct, frozen=True, kw_only=True):
    """Who may use a file; None leaves what the writing process gives it (S2.3-152)."""

    mode: int = 0o600
    uid: int | None = None
    gid: int | None = None


PRIVATE = Ownership()


def write_file(
    path: str, data: bytes | Iterable[bytes], ownership: Ownership = PRIVATE, *, durable: bool = True
) -> None:
    """Replace a file's content in one step; readers see the old one or the new one.

    Args:
        path: its directory must exist.
        data: the content, whole or in pieces.
        ownership: set before the file gets its name, so it is never there with another.
        durable: survives a power failure once this returns.

    Raises:
        OSError: the old file is as it was, and nothing is left beside it.
    """
    temporary = f"{path}.new-{os.getpid()}"
    try:
        _write_new(temporary, [data] if isinstance(data, bytes) else data, ownership, durable=durable)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        sync_directory(os.path.dirname(path))


def _write_new(path: str, pieces: Iterable[bytes], ownership: Ownership, *, durable: bool) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        set_ownership(file.fileno(), ownership)
        if durable:
            os.fsync(file.fileno())


def set_ownership(fd: int, ownership: Ownership) -> None:
    """Give an open file its owner, group and mode."""
    if ownership.uid is not None or ownership.gid is not None:
        unchanged = -1
        os.fchown(
            fd,
            unchanged if ownership.uid is None else ownership.uid,
            unchanged if ownership.gid is None else ownership.gid,
        )
    os.fchmod(fd, ownership.mode)


def sync_directory(path: str) -> None:
    """Make names in a directory (created, renamed, removed) durable."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

"""Files that are written wholly or not at all, with an explicit owner and mode. Imports no Twisted.

Also: reading with a limit, and a lock against a second daemon.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable
from types import TracebackType

import msgspec

from ganeti.errors import GanetiError


class Ownership(msgspec.Struct, frozen=True, kw_only=True):
    """Who may use a file; None leaves what the writing process gives it (S2.3-152)."""

    mode: int = 0o600
    uid: int | None = None
    gid: int | None = None


PRIVATE = Ownership()

_LOCK_RETRY_S = 0.05


class InUse(GanetiError):
    """Another process holds a lock."""


def write_file(
    path: str,
    data: bytes | Iterable[bytes],
    ownership: Ownership = PRIVATE,
    *,
    durable: bool = True,
    before_rename: Callable[[str], None] = lambda _: None,
) -> None:
    """Replace a file's content in one step; readers see the old one or the new one.

    Args:
        path: its directory must exist.
        data: the content, whole or in pieces.
        ownership: set before the file gets its name, so it is never there with another.
        durable: survives a power failure once this returns.
        before_rename: gets the name that the new file has until then, to open or lock it.

    Raises:
        OSError: the old file is as it was, and nothing is left beside it.
    """
    temporary = f"{path}.new-{os.getpid()}"
    try:
        _write_new(temporary, [data] if isinstance(data, bytes) else data, ownership, durable=durable)
        before_rename(temporary)
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


def read_limited(path: str, *, at_most: int) -> bytes:
    """Content of a file that has a sensible size.

    Raises:
        GanetiError: it is longer.
        OSError: it cannot be read.
    """
    with open(path, "rb") as stream:
        data = stream.read(at_most + 1)
    if len(data) > at_most:
        raise GanetiError(f"{path} has more than {at_most} bytes; it is not what belongs there")
    return data


class FileLock:
    """A lock on a file, held until released or until the process ends.

    Args:
        path: created if missing, never removed.
        purpose: what it protects, for the message.
        shared: others may hold it shared, too, but nobody alone.
    """

    def __init__(self, path: str, purpose: str, *, shared: bool = False) -> None:
        self._path = path
        self._purpose = purpose
        self._mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds it."""
        return self._descriptor is not None

    def acquire(self, *, timeout_s: float = 0.0) -> None:
        """Take it, at once or (blocking) within some time.

        Raises:
            InUse: another process has it.
            OSError: the file cannot be opened.
        """
        if self._descriptor is not None:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end = time.monotonic() + timeout_s
        while True:
            try:
                if lock_file(descriptor, self._mode):
                    break
            except BaseException:
                os.close(descriptor)
                raise
            if time.monotonic() >= end:
                os.close(descriptor)
                raise InUse(
                    f"{self._purpose} is in use by another process (lock file {self._path}); stop it first"
                )
            time.sleep(_LOCK_RETRY_S)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go; does nothing if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def lock_file(descriptor: int, mode: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file without waiting; gives whether that was possible.

    Raises:
        OSError: the file cannot be locked at all.
    """
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True

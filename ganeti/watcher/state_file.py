"""The file in which the watcher of a node group remembers, which is also its lock (S2.3-065, S2.3-069)."""

from __future__ import annotations

import contextlib
import os

from twisted.logger import Logger

from ganeti.errors import GanetiError
from ganeti.io.files import InUse, Ownership, lock_file, read_limited, write_file
from ganeti.logic.watcher import WatcherState, decode_state, encode_state

MAX_BYTES = 64 * 2**20

_PRIVATE = Ownership(mode=0o600)


class StateFile:
    """A file that belongs to one process at a time.

    A new content is a new file under the old name, locked before it gets the name. The kernel frees the
    lock when the process ends, however it ends.

    Args:
        path: of the file; its directory must exist.
    """

    log = Logger()

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._written: bytes | None = None

    def acquire(self) -> None:
        """Take it, at once.

        Raises:
            InUse: another process has it.
            OSError: it cannot be opened.
        """
        while self._descriptor is None:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if not lock_file(descriptor):
                    raise InUse(f"{self.path} is in use by another process")
                # Its owner may have put another file in its place between our opening and locking it.
                if _is_at(descriptor, self.path):
                    self._descriptor = descriptor
            finally:
                if self._descriptor is None:
                    os.close(descriptor)

    def release(self) -> None:
        """Let go; does nothing if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def read(self) -> WatcherState:
        """What it holds. A damaged file is put aside, and an empty state is what is known then.

        Raises:
            OSError: it cannot be read.
        """
        try:
            data = read_limited(self.path, at_most=MAX_BYTES)
            state = decode_state(data)
        except GanetiError as error:
            self._put_aside(error)
            return WatcherState()
        self._written = data
        return state

    def _put_aside(self, why: GanetiError) -> None:
        aside = f"{self.path}.damaged"
        self.log.error(
            "{path} is damaged and now called {aside}; attempts are counted anew: {why}",
            path=self.path,
            aside=aside,
            why=why,
        )
        # The name stays ours all the time: the file that comes in its place is locked, too.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        os.link(self.path, aside)
        self.save(WatcherState())

    def save(self, state: WatcherState) -> None:
        """Write a state; if it is the one that is there, only the time of the file changes (S2.3-072).

        Raises:
            OSError: it cannot be written; the file is as it was.
        """
        data = encode_state(state)
        if data == self._written:
            os.utime(self.path)
            return
        taken: list[int] = []
        try:
            write_file(self.path, data, _PRIVATE, before_rename=lambda path: taken.append(_locked(path)))
        except BaseException:
            for descriptor in taken:
                os.close(descriptor)
            raise
        # Until the rename the old file kept others away; from then on the new one does.
        self.release()
        (self._descriptor,) = taken
        self._written = data

    def remove(self) -> None:
        """Remove the file and let go.

        Raises:
            OSError: it cannot be removed.
        """
        os.unlink(self.path)
        self.release()


def _locked(path: str) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    lock_file(descriptor)
    return descriptor


def _is_at(descriptor: int, path: str) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

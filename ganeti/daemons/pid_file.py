"""The pid file of a daemon, which is also what keeps a second one of its kind away."""

from __future__ import annotations

import contextlib
import fcntl
import os

from ganeti.errors import GanetiError

MODE = 0o640
"""Whoever may read a file may lock it against those who write it: nobody else shall keep a daemon away."""


class PidFile:
    """A file with our process id, locked as long as we live.

    The lock is one of the process (`lockf`): children do not inherit it, and the kernel frees it when
    the daemon dies, so a file that a killed daemon left behind is in nobody's way.

    Args:
        path: of the file; its directory must exist.
        daemon: whose it is, for the message.
    """

    def __init__(self, path: str, daemon: str) -> None:
        self._path = path
        self._daemon = daemon
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Write it.

        Raises:
            GanetiError: another process has it.
            OSError: it cannot be written.
        """
        while self._descriptor is None:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
            try:
                self._lock(descriptor)
                if not self._is_current(descriptor):
                    # Its owner removed it between our opening and locking it.
                    continue
                os.fchmod(descriptor, MODE)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
                self._descriptor = descriptor
            finally:
                if self._descriptor is None:
                    os.close(descriptor)

    def release(self) -> None:
        """Remove it; does nothing if it is not ours."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        os.close(self._descriptor)
        self._descriptor = None

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise GanetiError(
                f"{self._daemon} is running already (process {owner}, pid file {self._path}); stop it first"
            ) from None

    def _is_current(self, descriptor: int) -> bool:
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        ours = os.fstat(descriptor)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

"""Child processes: one for each node group, forked, waited for, ended with us (S2.3-064)."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

POLL_S = 0.1


class Children:
    """Forks of this process by name.

    Args:
        monotonic: seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._running: dict[int, str] = {}
        self._codes: dict[str, int] = {}

    def start(self, name: str, work: Callable[[], int]) -> None:
        """Begin some work in a process of its own, which ends with the code that the work gives.

        Raises:
            OSError: there can be no more processes.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            self._running[pid] = name
            return
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            # What belongs to our parent is not to be taken apart here.
            os._exit(code)

    def wait(self, *, at_most_s: float) -> dict[str, int]:
        """Wait for all of them; gives their exit codes, those of signals negative. Who is late is killed."""
        end = self._monotonic() + at_most_s
        while self._running:
            self._collect()
            if self._running and self._monotonic() >= end:
                self.signal(signal.SIGKILL)
                end = float("inf")
            if self._running:
                self._sleep(POLL_S)
        return dict(self._codes)

    def signal(self, number: int) -> None:
        """Send a signal to those that run."""
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _collect(self) -> None:
        for pid in list(self._running):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._codes[self._running.pop(pid)] = os.waitstatus_to_exitcode(status)

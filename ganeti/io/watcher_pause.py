"""Until when the watcher is to do nothing."""

from __future__ import annotations

import contextlib
import os

from ganeti.errors import GanetiError
from ganeti.interfaces import IClock
from ganeti.io.files import Ownership, write_file
from ganeti.model.paths import Paths

_READABLE = Ownership(mode=0o644)


class WatcherPause:
    """The file `watcher.pause`: seconds since the epoch.

    Args:
        paths: of this node.
        clock: the time of day.
    """

    def __init__(self, paths: Paths, clock: IClock) -> None:
        self._path = paths.watcher_pause_file
        self._clock = clock

    def until(self) -> float | None:
        """End of the pause; None: there is none, or it is over."""
        try:
            with open(self._path, encoding="ascii", errors="replace") as file:
                end = float(file.read().strip())
        except (FileNotFoundError, ValueError):
            return None
        return end if end > self._clock.seconds() else None

    def set(self, until: float | None) -> float | None:
        """Pause until then, or (None) not at all; gives what is set now.

        Raises:
            GanetiError: the file cannot be written.
        """
        try:
            self._write(until)
        except OSError as error:
            raise GanetiError(f"the pause cannot be recorded in {self._path}: {error.strerror}") from error
        return self.until()

    def _write(self, until: float | None) -> None:
        if until is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        else:
            write_file(self._path, f"{until:.0f}\n".encode(), _READABLE, durable=False)

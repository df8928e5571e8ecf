"""Unix sockets with paths of any length: their addresses have room for 107 bytes only."""

from __future__ import annotations

import os

MAX_BYTES = 107


class UnixAddress:
    """An address that stands for a path; a long one leads through a descriptor of the directory.

    Args:
        path: of the socket; its directory exists.

    Raises:
        OSError: it does not.
    """

    def __init__(self, path: str) -> None:
        self.text = path
        """What to listen on or to connect to."""
        self._directory: int | None = None
        if len(os.fsencode(path)) > MAX_BYTES:
            self._directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self.text = f"/proc/self/fd/{self._directory}/{os.path.basename(path)}"

    def close(self) -> None:
        """The address is not used any more."""
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None

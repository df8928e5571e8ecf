"""The daemons of this node as somebody starts them who keeps them running: by systemd, or with their options.

The options are in `/etc/default/ganeti`, in lines such as `NODED_ARGS="--bind 10.0.0.1"`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

from ganeti.daemons import control
from ganeti.errors import GanetiError
from ganeti.interfaces import IProcessRunner
from ganeti.io.files import read_limited
from ganeti.model.paths import Paths

SYSTEMD = "/run/systemd/system"
UNIT_DIRECTORIES = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
SYSTEMCTL_S = 180.0

_LINE = re.compile(r"^\s*([A-Z]+)_ARGS=(.*)$")
_MAX_BYTES = 64 * 1024


class LocalDaemons:
    """Daemons of this node.

    Args:
        paths: of this node.
        processes: runs `systemctl`.
        systemd: directory that is there where systemd runs the machine.
        unit_directories: where it has its units.
    """

    def __init__(
        self,
        paths: Paths,
        processes: IProcessRunner,
        *,
        systemd: str = SYSTEMD,
        unit_directories: Sequence[str] = UNIT_DIRECTORIES,
    ) -> None:
        self._paths = paths
        self._processes = processes
        self._systemd = systemd
        self._unit_directories = tuple(unit_directories)

    def is_running(self, daemon: str) -> bool:
        """Whether it runs."""
        return control.running_pid(self._paths, daemon) is not None

    def start(self, daemon: str) -> None:
        """Start it the way it is started on this node; returns when it serves.

        Raises:
            GanetiError: it does not.
        """
        if self._has_unit(daemon):
            # Started by ourselves it would be a part of our own unit, and end with it.
            self._processes.run(["systemctl", "start", f"{daemon}.service"], timeout_s=SYSTEMCTL_S)
        else:
            control.start(self._paths, daemon, self.options(daemon))

    def stop(self, daemon: str) -> None:
        """End it.

        Raises:
            GanetiError: it survives.
        """
        if self._has_unit(daemon):
            self._processes.run(["systemctl", "stop", f"{daemon}.service"], timeout_s=SYSTEMCTL_S)
        else:
            control.stop(self._paths, daemon)

    def options(self, daemon: str) -> tuple[str, ...]:
        """Options with which it is started.

        Raises:
            GanetiError: the file with them cannot be read.
        """
        try:
            text = read_limited(self._paths.daemon_options, at_most=_MAX_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise GanetiError(f"cannot read {self._paths.daemon_options}: {error.strerror}") from error
        return options_in(text, daemon)

    def _has_unit(self, daemon: str) -> bool:
        if self._paths.root or not os.path.isdir(self._systemd):
            return False
        return any(os.path.exists(f"{place}/{daemon}.service") for place in self._unit_directories)


def options_in(text: str, daemon: str) -> tuple[str, ...]:
    """Options of a daemon in a file of lines `NODED_ARGS="..."`; the last line counts.

    Raises:
        GanetiError: quotes do not match.
    """
    wanted = daemon.removeprefix("ganeti-").upper()
    found: tuple[str, ...] = ()
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or match[1] != wanted:
            continue
        try:
            words = shlex.split(match[2], comments=True)
            found = tuple(shlex.split(" ".join(words)))
        except ValueError as error:
            raise GanetiError(f"cannot read the options in {line.strip()!r}: {error}") from error
    return found

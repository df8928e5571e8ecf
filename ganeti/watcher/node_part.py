"""What the watcher does on every node: daemons that should run, scripts of the administrator."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

from ganeti.errors import CommandFailed, GanetiError
from ganeti.interfaces import IProcessRunner
from ganeti.model.ids import PLUGIN_NAME
from ganeti.model.paths import Paths

ON_EVERY_NODE = ("ganeti-noded", "ganeti-confd")
HOOKS_S = 300.0
"""All scripts together."""
MAX_OUTPUT = 4000


class Daemons(Protocol):
    """The daemons of this node."""

    def is_running(self, daemon: str) -> bool:
        """Whether it runs."""

    def start(self, daemon: str) -> None:
        """Start it the way it is started on this node; returns when it serves.

        Raises:
            GanetiError: it does not.
        """

    def stop(self, daemon: str) -> None:
        """End it.

        Raises:
            GanetiError: it survives.
        """

    def options(self, daemon: str) -> tuple[str, ...]:
        """Options with which it is started."""


class NodePart:
    """Daemons, hooks, and the health of the node.

    Args:
        paths: of this node.
        daemons: of this node.
        processes: runs scripts.
        monotonic: seconds.
    """

    log = Logger()

    def __init__(
        self,
        paths: Paths,
        daemons: Daemons,
        processes: IProcessRunner,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = paths
        self._daemons = daemons
        self._processes = processes
        self._monotonic = monotonic

    def run(self) -> bool:
        """Do everything; gives whether all of it went well."""
        missing = [daemon for daemon in ON_EVERY_NODE if not self._ensure(daemon)]
        self._run_hooks()
        self._look_after_health()
        return not missing

    def _ensure(self, daemon: str) -> bool:
        if self._daemons.is_running(daemon):
            return True
        self.log.warn("{daemon} does not run and is started", daemon=daemon)
        try:
            self._daemons.start(daemon)
        except GanetiError as error:
            # Another run that overlaps with this one may have been quicker.
            if not self._daemons.is_running(daemon):
                self.log.error("{error}", error=error)
                return False
        return True

    def _run_hooks(self) -> None:
        """Scripts of `hooks/watcher`, by name; what they say and how they end is logged, nothing more."""
        directory = f"{self._paths.hooks_dir}/watcher"
        try:
            names = sorted(os.listdir(directory))
        except FileNotFoundError:
            return
        except OSError as error:
            self.log.error("hooks of the watcher cannot be read: {error}", error=error)
            return
        end = self._monotonic() + HOOKS_S
        for name in names:
            path = f"{directory}/{name}"
            if not PLUGIN_NAME.match(name) or not _is_program(path):
                self.log.debug("{path} is skipped: not a program", path=path)
                continue
            left = end - self._monotonic()
            if left <= 0:
                self.log.error("{path} is not run: those before it took too long", path=path)
                continue
            self._run_hook(path, left)

    def _run_hook(self, path: str, timeout_s: float) -> None:
        try:
            done = self._processes.run([path], timeout_s=timeout_s, cwd="/", check=False)
        except (CommandFailed, OSError) as error:
            self.log.error("hook {path}: {error}", path=path, error=error)
            return
        said = "\n".join(part.strip() for part in (done.stdout, done.stderr) if part.strip())[:MAX_OUTPUT]
        if done.code != 0:
            self.log.error("hook {path} failed ({code}): {said}", path=path, code=done.code, said=said)
        else:
            self.log.info("hook {path}: {said}", path=path, said=said or "done")

    def _look_after_health(self) -> None:
        try:
            with open(self._paths.ssconf("maintain_node_health"), encoding="ascii", errors="replace") as file:
                is_wanted = file.read().strip().lower() == "true"
        except OSError:
            return
        if is_wanted:
            # It would take answers of confd about the role of this node, which it does not give yet.
            self.log.warn(
                "maintain_node_health is set, but nothing is done for it: confd does not tell the roles "
                "of nodes yet"
            )


def _is_program(path: str) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and os.access(path, os.X_OK)

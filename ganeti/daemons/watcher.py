"""The watcher as a service: starts a run every five minutes, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from ganeti.daemons.common import Upkeep, end, ready
from ganeti.daemons.options import DaemonOptions
from ganeti.daemons.ordered import OrderedService
from ganeti.daemons.watcher_run import MODULE, NAME
from ganeti.watcher.codes import EXIT_NOT_CLUSTER, EXIT_NOT_MASTER, EXIT_OK

EVERY_S = 300.0
MAX_RUNS = 12
"""Runs may overlap, but whoever needs an hour is not helped by more of them."""
MERCY_S = 10.0


class Options(DaemonOptions):
    """Options of the service: those of a run (`ganeti-watcher --help`) and when to do it."""

    optFlags: ClassVar[list[list[Any]]] = [
        ["ignore-pause", None, "Also while the watcher is paused."],
        ["wait-children", None, "A run ends when all groups are done (default)."],
        ["no-wait-children", None, "A run ends when all groups are begun."],
        ["no-verify-disks", None, "Do not look for disks that are not active."],
        ["no-strict", None, "Verification of disks leaves out what is locked."],
    ]
    optParameters: ClassVar[list[list[Any]]] = [
        ["job-age", "A", None, "Archive jobs that ended so long ago (6h)."],
        ["rapi-ip", None, None, "Where the remote interface listens (127.0.0.1)."],
        ["interval", None, EVERY_S, "Seconds from the begin of a run to that of the next.", float],
    ]

    def postOptions(self) -> None:
        """Refuse what is no interval."""
        super().postOptions()
        if not 1.0 <= self["interval"] <= 86400.0:
            raise usage.UsageError("--interval is from 1 second to a day (86400)")

    def run_words(self) -> list[str]:
        """Command line of a run."""
        words = ["--once"]
        for flag in ("debug", "ignore-pause", "no-wait-children", "no-verify-disks", "no-strict"):
            if self[flag]:
                words.append(f"--{flag}")
        for name in ("job-age", "rapi-ip"):
            if self[name] is not None:
                words.append(f"--{name}={self[name]}")
        return words


def makeService(options: Options) -> IService:
    """The daemon, for twistd."""
    from twisted.internet import reactor

    return build(
        reactor,
        [sys.executable, "-m", MODULE, *options.run_words()],
        dict(os.environ),
        Upkeep.of(NAME, options),
        every_s=options["interval"],
        on_failure=end(reactor),
    )


def build(
    reactor: Any,
    command: Sequence[str],
    environment: Mapping[str, str],
    upkeep: IService,
    *,
    every_s: float,
    on_failure: Callable[[Failure], None],
) -> IService:
    """The parts of the daemon, in the order in which they need each other."""
    rounds = Rounds(reactor, command, environment, every_s=every_s)
    return OrderedService([upkeep, rounds], on_failure=on_failure, on_started=ready)


class Rounds(Service):
    """Starts a process again and again, whether or not the one before has ended.

    Args:
        reactor: time and processes.
        command: the process.
        environment: its whole environment.
        every_s: from one start to the next.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, command: Sequence[str], environment: Mapping[str, str], *, every_s: float
    ) -> None:
        self._processes: IReactorProcess = reactor
        self._clock: IReactorTime = reactor
        self._command = tuple(command)
        self._environment = dict(environment)
        self._every_s = every_s
        self._loop = LoopingCall(self._start_one)
        self._loop.clock = reactor
        self._running: set[_Round] = set()

    def startService(self) -> None:
        """Begin with the first run."""
        super().startService()  # type: ignore[no-untyped-call]
        self._loop.start(self._every_s, now=True)

    def stopService(self) -> Deferred[None]:
        """End the runs; jobs that they have submitted go on."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()
        for one in self._running:
            one.end()
        timer = self._clock.callLater(MERCY_S, self._kill)

        def done(_: object) -> None:
            if timer.active():
                timer.cancel()

        return DeferredList([one.ended for one in self._running]).addCallback(done)

    def _start_one(self) -> None:
        if len(self._running) >= MAX_RUNS:
            self.log.error("{count} runs have not ended; no other is started", count=len(self._running))
            return
        one = _Round()
        self._running.add(one)
        one.ended.addCallback(self._over, one)
        nothing = {0: "w", 1: "r", 2: "r"}
        try:
            self._processes.spawnProcess(
                one, self._command[0], self._command, env=self._environment, childFDs=nothing
            )
        except OSError as error:
            self._running.discard(one)
            self.log.error("a run cannot be started: {error}", error=error)

    def _over(self, code: int | None, one: _Round) -> None:
        self._running.discard(one)
        match code:
            case int(known) if known in (EXIT_OK, EXIT_NOT_MASTER):
                self.log.debug("a run ended with {code}", code=code)
            case int(known) if known == EXIT_NOT_CLUSTER:
                self.log.info("this node is not part of a cluster")
            case None:
                self.log.warn("a run was killed")
            case _:
                # It has said in the same log what was wrong.
                self.log.warn("a run ended with {code}", code=code)

    def _kill(self) -> None:
        for one in self._running:
            one.end("KILL")


class _Round(ProcessProtocol):
    """A run; what it prints is in the log already."""

    def __init__(self) -> None:
        self.ended: Deferred[int | None] = Deferred()

    def connectionMade(self) -> None:
        """Nothing is written to it."""
        self.transport.closeStdin()  # type: ignore[union-attr]

    def processEnded(self, reason: Failure) -> None:
        """Tell how it ended."""
        code = 0 if reason.check(ProcessDone) else getattr(reason.value, "exitCode", None)
        self.ended.callback(code)

    def end(self, name: str = "TERM") -> None:
        """Send a signal."""
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)  # type: ignore[union-attr]

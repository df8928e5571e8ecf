"""What every daemon does besides its own work: logs, signals, telling systemd, ending with a code."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IReactorCore
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python.failure import Failure

from ganeti.daemons import background
from ganeti.daemons.logs import FileLog, SyslogLog, level_filter
from ganeti.daemons.notify import sd_notify
from ganeti.daemons.options import DaemonOptions
from ganeti.daemons.pid_file import PidFile
from ganeti.model.paths import Paths

GC_THRESHOLDS = (50_000, 20, 100)
"""Rarer than usual: most of what a daemon makes goes by counting references."""

EXIT_FAILURE = 1
EXIT_NOT_MASTER = 11
EXIT_NOT_CLUSTER = 12

log = Logger()


class Upkeep(Service):
    """First and last part of a daemon: pid file, logs, SIGHUP, systemd.

    Args:
        name: of the daemon: `ganeti-noded`.
        paths: of the node.
        reload: called at SIGHUP after the log was opened again.
        debug: log debug events.
        to_file: log to the daemon's log file.
        to_syslog: log to syslog.
    """

    def __init__(
        self,
        name: str,
        paths: Paths,
        *,
        debug: bool = False,
        to_file: bool = False,
        to_syslog: bool = False,
        reload: Callable[[], None] = lambda: None,
    ) -> None:
        self.setName("upkeep")  # type: ignore[no-untyped-call]
        self._paths = paths
        self._reload = reload
        self._pid_file = PidFile(paths.pid_file(name), name)
        self._former_hangup: Any = None
        self._file: FileLog | None = None
        self._syslog = SyslogLog(name) if to_syslog else None
        self._observers: list[ILogObserver] = []
        if to_file:
            os.makedirs(paths.log_dir, mode=0o755, exist_ok=True)
            self._file = FileLog(paths.log_file(name))
            self._observers.append(level_filter(self._file, debug=debug))
        if self._syslog is not None:
            self._observers.append(level_filter(self._syslog, debug=debug))

    @classmethod
    def of(cls, name: str, options: DaemonOptions, reload: Callable[[], None] = lambda: None) -> Upkeep:
        """As the options of a daemon say."""
        return cls(
            name,
            options.paths,
            debug=bool(options["debug"]),
            to_file=options["syslog"] != "only",
            to_syslog=options["syslog"] != "no",
            reload=reload,
        )

    def startService(self) -> None:
        """Write the pid file, begin to log, listen to SIGHUP.

        Raises:
            GanetiError: a daemon of this kind runs on this node already.
        """
        super().startService()  # type: ignore[no-untyped-call]
        os.makedirs(self._paths.run_dir, mode=0o755, exist_ok=True)
        self._pid_file.acquire()
        for observer in self._observers:
            globalLogPublisher.addObserver(observer)
        self._former_hangup = signal.signal(signal.SIGHUP, self._hangup)

    def stopService(self) -> None:
        """Remove the pid file, log no more."""
        super().stopService()  # type: ignore[no-untyped-call]
        sd_notify("STOPPING=1")
        log.info("stopped")
        signal.signal(signal.SIGHUP, self._former_hangup)
        for observer in self._observers:
            globalLogPublisher.removeObserver(observer)
        for written in (self._file, self._syslog):
            if written is not None:
                written.close()
        self._pid_file.release()

    def _hangup(self, _number: int, _frame: object) -> None:
        from twisted.internet import reactor

        reactor.callFromThread(self.reload)  # type: ignore[attr-defined]

    def reload(self) -> None:
        """What SIGHUP asks for: open the log anew, then whatever the daemon reads again."""
        sd_notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        if self._file is not None:
            try:
                self._file.reopen()
            except OSError as error:
                log.error("the log cannot be opened anew, the old file is kept: {error}", error=error)
        log.info("reloading")
        try:
            self._reload()
        except Exception:
            log.failure("reloading failed; what was read before stays in force")
        sd_notify("READY=1")


def ready() -> None:
    """Everything of the daemon is up."""
    # What is there now stays; looking through it again and again would hold the reactor up for long.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    log.info("ready")
    sd_notify("READY=1")
    background.report_ready()


def end(
    reactor: IReactorCore,
    code: int = EXIT_FAILURE,
    *,
    at_exit: Callable[[Callable[[], None]], object] = atexit.register,
) -> Callable[[Failure], None]:
    """What to do when a part of a daemon cannot start: say why, stop, and end with a code."""

    def stop(failure: Failure) -> None:
        (sys.__stderr__ or sys.stderr).write(f"cannot start: {explained(failure)}\n")
        background.report_failure(code)
        # twistd ends with 0 whenever the reactor was stopped.
        at_exit(lambda: _exit(code))
        reactor.callWhenRunning(_stop, reactor)

    return stop


def explained(failure: Failure) -> str:
    """Why a part could not start, for the operator."""
    error = failure.value
    if isinstance(error, CannotListenError):
        where = f"{error.interface or 'all addresses'} port {error.port}" if error.port else error.interface
        why = getattr(error.socketError, "strerror", None) or error.socketError
        return f"cannot listen on {where}: {why}; stop what listens there, or use --bind or --port"
    return failure.getErrorMessage() or type(error).__name__


def refuse(message: str, code: int = EXIT_FAILURE) -> SystemExit:
    """The exception with which `makeService` ends a daemon that must not run here."""
    sys.stderr.write(message + "\n")
    return SystemExit(code)


def refuse_elsewhere(paths: Paths, own_name: str) -> None:
    """End a daemon that runs on the master only, if this is not the master.

    Raises:
        SystemExit: 11 on another node; 12 where nobody knows who is master.
    """
    try:
        with open(paths.ssconf("master_node"), encoding="utf-8") as stream:
            master = stream.read().strip()
    except OSError as error:
        raise refuse(f"cannot find out who is master: {error}", EXIT_NOT_CLUSTER) from error
    if master != own_name:
        raise refuse(f"this node, {own_name}, is not the master; the master is {master}", EXIT_NOT_MASTER)


def _stop(reactor: Any) -> None:
    with contextlib.suppress(ReactorNotRunning):
        reactor.stop()


def _exit(code: int) -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(code)

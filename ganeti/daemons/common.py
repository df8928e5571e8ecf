"""What every daemon does besides its own work: logs, signals, telling systemd, ending with a code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorCore
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    formatEventAsClassicLogText,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from ganeti.daemons.notify import sd_notify
from ganeti.model.paths import Paths

EXIT_FAILURE = 1
EXIT_NOT_MASTER = 11
EXIT_NOT_CLUSTER = 12

exit_code = 0
"""What the process ends with once the reactor has stopped; set by `end`."""

log = Logger()


@implementer(ILogObserver)
class FileLog:
    """Writes events to a file that can be opened anew (SIGHUP), so that logs can be rotated.

    Args:
        path: the file; its directory must exist.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = self._opened()

    def __call__(self, event: LogEvent) -> None:
        text = formatEventAsClassicLogText(event)
        if text:
            self._file.write(text)

    def reopen(self) -> None:
        """Close the file and open the path again."""
        self._file.close()
        self._file = self._opened()

    def _opened(self) -> Any:
        return open(self._path, "a", buffering=1, encoding="utf-8", errors="replace")


def level_filter(observer: ILogObserver, *, debug: bool) -> ILogObserver:
    """An observer that sees debug events only if wanted."""
    wanted = LogLevelFilterPredicate(LogLevel.debug if debug else LogLevel.info)
    return FilteringLogObserver(observer, [wanted])


class Upkeep(Service):
    """First and last part of a daemon: pid file, logs, SIGHUP, systemd.

    Args:
        name: of the daemon: `ganeti-noded`.
        paths: of the node.
        reload: called at SIGHUP after the log was opened again.
        debug: log debug events.
        to_file: also log to the daemon's log file.
    """

    def __init__(
        self,
        name: str,
        paths: Paths,
        *,
        debug: bool = False,
        to_file: bool = False,
        reload: Callable[[], None] = lambda: None,
    ) -> None:
        self.setName("upkeep")  # type: ignore[no-untyped-call]
        self._daemon = name
        self._paths = paths
        self._debug = debug
        self._reload = reload
        self._file: FileLog | None = None
        self._observer: ILogObserver | None = None
        if to_file:
            os.makedirs(paths.log_dir, mode=0o755, exist_ok=True)
            self._file = FileLog(paths.log_file(name))
            self._observer = level_filter(self._file, debug=debug)

    def startService(self) -> None:
        """Write the pid file, begin to log, listen to SIGHUP."""
        super().startService()  # type: ignore[no-untyped-call]
        if self._observer is not None:
            globalLogPublisher.addObserver(self._observer)
        self._write_pid()
        signal.signal(signal.SIGHUP, self._hangup)

    def stopService(self) -> None:
        """Remove the pid file if it is ours."""
        super().stopService()  # type: ignore[no-untyped-call]
        sd_notify("STOPPING=1")
        try:
            with open(self._paths.pid_file(self._daemon), encoding="ascii") as stream:
                is_ours = stream.read().strip() == str(os.getpid())
            if is_ours:
                os.unlink(self._paths.pid_file(self._daemon))
        except OSError:
            pass
        if self._observer is not None:
            globalLogPublisher.removeObserver(self._observer)

    def _write_pid(self) -> None:
        os.makedirs(self._paths.run_dir, mode=0o755, exist_ok=True)
        path = self._paths.pid_file(self._daemon)
        with open(path + ".new", "w", encoding="ascii") as stream:
            stream.write(f"{os.getpid()}\n")
        os.rename(path + ".new", path)

    def _hangup(self, _number: int, _frame: object) -> None:
        from twisted.internet import reactor

        reactor.callFromThread(self._reopen)  # type: ignore[attr-defined]

    def _reopen(self) -> None:
        if self._file is not None:
            self._file.reopen()
        log.info("reloading")
        self._reload()


def ready() -> None:
    """Everything of the daemon is up."""
    sd_notify("READY=1")
    log.info("ready")


def end(reactor: IReactorCore, code: int = EXIT_FAILURE) -> Callable[[Failure], None]:
    """What to do when a part of a daemon cannot start: stop, and end with a code."""

    def stop(failure: Failure) -> None:
        global exit_code
        exit_code = code
        sys.stderr.write(f"cannot start: {failure.getErrorMessage()}\n")
        reactor.callWhenRunning(reactor.stop)

    return stop


def refuse(message: str, code: int = EXIT_FAILURE) -> SystemExit:
    """The exception with which `makeService` ends a daemon that must not run here."""
    sys.stderr.write(message + "\n")
    return SystemExit(code)

"""Where the log lines of a daemon go: a file that can be rotated, syslog, the terminal."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from typing import Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    formatEventAsClassicLogText,
)
from zope.interface import implementer

from ganeti.wire.trace import current_trace

SYSLOG_SOCKET = "/dev/log"
FACILITY_DAEMON = 3
MAX_SYSLOG_BYTES = 8000
LOG_MODE = 0o640

_SEVERITIES = {
    LogLevel.debug: 7,
    LogLevel.info: 6,
    LogLevel.warn: 4,
    LogLevel.error: 3,
    LogLevel.critical: 2,
}


_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), 127) if chr(code) not in "\t\n"}
"""What users write into names is shown to administrators, whose terminals are not to obey it."""


def classic_text(event: LogEvent) -> str | None:
    """An event as a line with its time, and the job on whose behalf it happened; None: nothing to say."""
    text = formatEventAsClassicLogText(event)
    job = current_trace.get()
    if text is None:
        return None
    text = text.translate(_VISIBLE)
    if job is None:
        return text
    stamp, bracket, rest = text.partition("] ")
    return f"{stamp}{bracket}job {job}: {rest}" if bracket else text


def level_filter(observer: ILogObserver, *, debug: bool) -> ILogObserver:
    """An observer that sees debug events only if wanted."""
    wanted = LogLevelFilterPredicate(LogLevel.debug if debug else LogLevel.info)
    return FilteringLogObserver(observer, [wanted])


@implementer(ILogObserver)
class FileLog:
    """Writes events to a file that can be opened anew (SIGHUP), so that logs can be rotated.

    Args:
        path: the file; its directory must exist.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = self._opened()

    def __call__(self, event: LogEvent) -> None:
        text = classic_text(event)
        if text:
            self._file.write(text)

    def reopen(self) -> None:
        """Close the file and open the path again; goes on with the old file if that fails."""
        new = self._opened()
        self._file.close()
        self._file = new

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def _opened(self) -> Any:
        return open(
            self._path,
            "a",
            buffering=1,
            encoding="utf-8",
            errors="replace",
            opener=lambda path, flags: os.open(path, flags, LOG_MODE),
        )


@implementer(ILogObserver)
class SyslogLog:
    """Sends events to the local syslog, a line each; never waits for it.

    What syslog cannot take at once is lost: a daemon must not stand still because its log does.

    Args:
        name: of the daemon.
        address: syslog's socket.
    """

    def __init__(self, name: str, address: str = SYSLOG_SOCKET) -> None:
        self._name = name
        self._address = address
        self._socket: socket.socket | None = None

    def __call__(self, event: LogEvent) -> None:
        severity = _SEVERITIES.get(event.get("log_level", LogLevel.info), 6)
        job = current_trace.get()
        prefix = f"job {job}: " if job is not None else ""
        for line in _text(event).splitlines():
            self._send(self._framed(severity, prefix + line, event.get("log_time", 0.0)))

    def _framed(self, severity: int, text: str, when_s: float) -> bytes:
        stamp = time.strftime("%b %e %H:%M:%S", time.localtime(when_s))
        head = f"<{FACILITY_DAEMON * 8 + severity}>{stamp} {self._name}[{os.getpid()}]: "
        return (head + text).encode("utf-8", "replace")[:MAX_SYSLOG_BYTES]

    def _send(self, datagram: bytes) -> None:
        # Syslog may have been started again since, with a new socket: then a second attempt helps.
        for _attempt in range(2):
            try:
                self._connected().send(datagram)
                return
            except BlockingIOError:
                return
            except OSError:
                self.close()

    def _connected(self) -> socket.socket:
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            made.setblocking(False)
            try:
                made.connect(self._address)
            except OSError:
                made.close()
                raise
            self._socket = made
        return self._socket

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


def _text(event: LogEvent) -> str:
    text = formatEvent(event)
    failure = event.get("log_failure")
    return f"{text}\n{failure.getTraceback()}" if failure is not None else text


def console() -> ILogObserver:
    """For `twistd --logger`: the terminal, without debug events."""
    return level_filter(FileLogObserver(_terminal(), classic_text), debug=False)


def debug_console() -> ILogObserver:
    """For `twistd --logger`: the terminal, with everything."""
    return level_filter(FileLogObserver(_terminal(), classic_text), debug=True)


def _terminal() -> Any:
    # sys.stdout itself is turned into log events by twistd.
    return sys.__stdout__ or sys.stdout


def nowhere() -> ILogObserver:
    """For `twistd --logger` in the background: the daemon has its own log and needs no second one."""

    @implementer(ILogObserver)
    class Nowhere:
        """Drops events."""

        def __call__(self, event: LogEvent) -> None:
            pass

    return Nowhere()

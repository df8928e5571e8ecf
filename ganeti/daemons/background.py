"""Puts a daemon into the background; whoever started it learns whether it serves.

twistd's own way returns before the parts of a daemon have started, so a port that is taken would be
told to nobody. Here the starting process waits for one word through a pipe.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import tempfile
import time

PATIENCE_S = 120.0
"""How long the starting process waits for a daemon to serve."""

_READY = b"ready\n"

_status: int | None = None
"""In the daemon: the end of the pipe into which it says how it fares."""


def detach(daemon: str, *, patience_s: float = PATIENCE_S) -> int | None:
    """Fork; gives the exit code in the process that called, once it is known, and None in the daemon.

    What the daemon prints before it serves is printed by the calling process. Nothing of the caller's
    terminal or pipes stays open in the daemon.
    """
    global _status
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as output:
        middle = os.fork()
        if middle:
            os.close(writer)
            os.waitpid(middle, 0)
            code = _verdict(daemon, reader, patience_s)
            os.close(reader)
            _show(os.pread(output.fileno(), 1 << 20, 0))
            return code
        os.close(reader)
        os.setsid()
        if os.fork():
            os._exit(0)
        _redirect(output.fileno())
    _close_others(writer)
    _status = writer
    return None


def report_ready() -> None:
    """The daemon serves: from now on its outputs go nowhere. Does nothing in the foreground."""
    global _status
    if _status is None:
        return
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    os.write(_status, _READY)
    os.close(_status)
    _status = None


def report_failure(code: int) -> None:
    """The daemon cannot serve and is about to end. Does nothing in the foreground."""
    if _status is not None:
        os.write(_status, b"%d\n" % code)


def _redirect(output: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _close_others(kept: int) -> None:
    """Lets go of what the caller left open, so that nobody waits for the end of a daemon's pipe."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _verdict(daemon: str, reader: int, patience_s: float) -> int:
    """Reads until the daemon says that it serves, or is gone."""
    said = b""
    deadline = time.monotonic() + patience_s
    while not said.endswith(_READY):
        readable, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            sys.stderr.write(f"{daemon} still does not serve after {patience_s:g} s; see its log\n")
            return 1
        data = os.read(reader, 64)
        if not data:
            codes = said.split()
            return int(codes[0]) if codes else 1
        said += data
    return 0


def _show(output: bytes) -> None:
    sys.stderr.write(output.decode("utf-8", "replace"))
    sys.stderr.flush()

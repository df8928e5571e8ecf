"""Starts and stops daemons of this node, and waits until they are what they should be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from ganeti.daemons.options import ROOT_VARIABLE
from ganeti.errors import GanetiError
from ganeti.model.paths import Paths

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0


def running_pid(paths: Paths, daemon: str) -> int | None:
    """Process id of a daemon of this node, if it runs."""
    try:
        with open(paths.pid_file(daemon), encoding="ascii") as stream:
            pid = int(stream.read())
    except (OSError, ValueError):
        return None
    return pid if _is_alive(pid, daemon) else None


def _is_alive(pid: int, daemon: str) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            return daemon.encode() in stream.read()
    except OSError:
        return False


def start(
    paths: Paths,
    daemon: str,
    options: Sequence[str] = (),
    *,
    environment: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> int:
    """Start a daemon unless it runs; gives its process id once it serves.

    Args:
        paths: of its node.
        daemon: its name.
        options: its options.
        environment: whole environment; None: ours with the node's root directory.
        prefix: words before the command, which run it somewhere else.

    Raises:
        GanetiError: it ended again or does not come up; the message has the end of its log.
    """
    pid = running_pid(paths, daemon)
    if pid is not None:
        return pid
    if environment is None:
        environment = {**os.environ, ROOT_VARIABLE: paths.root}
    try:
        started = subprocess.run(
            [*prefix, sys.executable, "-m", "ganeti.daemons.launcher", daemon, *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=START_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise GanetiError(
            f"{daemon} does not serve after {START_TIMEOUT_S:g} s: {tail(paths.log_file(daemon))}"
        ) from None
    if started.returncode != 0:
        raise GanetiError(f"{daemon} does not start: {started.stdout.strip() or 'no message'}")
    wait_until(
        lambda: running_pid(paths, daemon) is not None,
        f"{daemon} does not come up: {tail(paths.log_file(daemon))}",
        timeout_s=START_TIMEOUT_S,
    )
    found = running_pid(paths, daemon)
    assert found is not None
    return found


def stop(paths: Paths, daemon: str, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End a daemon if it runs: asks first, kills after the timeout.

    Raises:
        GanetiError: it survives even that.
    """
    pid = running_pid(paths, daemon)
    if pid is None:
        return
    for number, patience_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 5.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            # Its pid file goes a moment before the process itself.
            if not _is_alive(pid, daemon):
                return
            time.sleep(0.05)
    raise GanetiError(f"{daemon} (process {pid}) cannot be ended")


def reload(paths: Paths, daemon: str) -> None:
    """Send SIGHUP to a daemon, if it runs."""
    pid = running_pid(paths, daemon)
    if pid is not None:
        os.kill(pid, signal.SIGHUP)


def wait_until(is_so: Callable[[], bool], complaint: str, *, timeout_s: float) -> None:
    """Look again and again.

    Raises:
        GanetiError: the complaint, after the timeout.
    """
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            raise GanetiError(complaint)
        time.sleep(0.05)


def tail(path: str, lines: int = 5) -> str:
    """Last lines of a file, or where it should be."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return "".join(stream.readlines()[-lines:]).strip() or f"see {path}"
    except OSError:
        return f"see {path}"

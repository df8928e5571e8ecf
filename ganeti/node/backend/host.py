"""The node as blocking code sees it: its files, its addresses, programs, time."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from zope.interface import implementer

from ganeti.errors import CommandFailed
from ganeti.interfaces import Completed, IHost, IProcessRunner
from ganeti.model.paths import Paths

CLEAN_ENV: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "HOME": "/",
}
"""Environment of programs that are not given one."""

_LAST_LINES = 20
_MERCY_S = 3.0
"""Between asking a program to end and ending it."""


@implementer(IProcessRunner)
class ProcessRunner:
    """Runs programs, each in a process group of its own, inside the session of the function process.

    The group is what a timeout ends; the session is what is ended when the call is aborted. A
    program that is to outlive the call (`start`) gets a session of its own.
    """

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bytes | None = None,
        check: bool = True,
        log_path: str | None = None,
    ) -> Completed:
        """Run a program to its end; see `IProcessRunner`."""
        with _log_file(log_path) as log:
            output = subprocess.PIPE if log is None else log
            process = _started(
                argv,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=env,
                cwd=cwd,
                process_group=0,
            )
            try:
                stdout, stderr = process.communicate(stdin, timeout=timeout_s)
            except subprocess.TimeoutExpired as error:
                _end(process)
                raise CommandFailed(
                    f"{_shown(argv)} did not end within {timeout_s:g} s and was killed"
                    + _tail(error.stdout, error.stderr, log_path)
                ) from None
            except BaseException:
                # The call is being aborted: nothing of it may stay behind.
                _end(process)
                raise
        if check and process.returncode != 0:
            raise CommandFailed(
                f"{_shown(argv)} failed ({_how(process.returncode)})" + _tail(stdout, stderr, log_path)
            )
        return Completed(code=process.returncode, stdout=_text(stdout), stderr=_text(stderr))

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log_path: str,
        cwd: str | None = None,
    ) -> int:
        """Start a program that goes on after the function process; gives its process id."""
        with _opened_log(log_path) as log:
            process = _started(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        return process.pid


@implementer(IHost)
class Host:
    """A real node.

    Args:
        paths: where its files lie.
        name: its name, or empty before it joined a cluster.
    """

    def __init__(self, paths: Paths, name: str = "") -> None:
        self.paths = paths
        self.name = name
        self.processes: IProcessRunner = ProcessRunner()

    @property
    def primary_ip(self) -> str:
        """Address for cluster traffic, from ssconf; empty before the node joined."""
        return self._address("node_primary_ips")

    @property
    def secondary_ip(self) -> str:
        """Address for disk and migration traffic; the primary one where there is no other."""
        return self._address("node_secondary_ips") or self.primary_ip

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def _address(self, ssconf: str) -> str:
        try:
            with open(self.paths.ssconf(ssconf), encoding="utf-8") as lines:
                rows = [line.split() for line in lines]
        except FileNotFoundError:
            return ""
        return next((row[1] for row in rows if len(row) == 2 and row[0] == self.name), "")


@contextlib.contextmanager
def _log_file(path: str | None) -> Iterator[IO[bytes] | None]:
    if path is None:
        yield None
        return
    with _opened_log(path) as log:
        yield log


def _opened_log(path: str) -> IO[bytes]:
    """A log of a program, which may say what is not for everybody."""
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o640))


def _started(
    argv: Sequence[str],
    *,
    stdin: int,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    env: Mapping[str, str] | None,
    cwd: str | None,
    process_group: int | None = None,
    start_new_session: bool = False,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=dict(CLEAN_ENV if env is None else env),
            cwd=cwd or "/",
            process_group=process_group,
            start_new_session=start_new_session,
        )
    except FileNotFoundError as error:
        if cwd is not None and not os.path.isdir(cwd):
            raise CommandFailed(f"cannot run {argv[0]}: there is no directory {cwd}") from error
        raise CommandFailed(f"cannot run {argv[0]}: not found on this node; install it") from error
    except OSError as error:
        raise CommandFailed(f"cannot run {argv[0]}: {error.strerror or error}") from error
    except ValueError as error:
        raise CommandFailed(f"cannot run {argv[0]}: an argument or variable has a NUL byte in it") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program with its whole process group: politely, then by force."""
    for number, wait_s in ((signal.SIGTERM, _MERCY_S), (signal.SIGKILL, _MERCY_S)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            continue
        if number == signal.SIGTERM:
            # The program is gone, what it started may not be.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        break
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _shown(argv: Sequence[str]) -> str:
    text = shlex.join(argv)
    return text if len(text) <= 300 else text[:300] + " ..."


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"ended by signal {signal.Signals(-code).name}"
    return f"ended by signal {-code}"


def _tail(stdout: bytes | None, stderr: bytes | None, log_path: str | None) -> str:
    if log_path is not None:
        with contextlib.suppress(OSError), open(log_path, "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 8192))
            stdout = log.read()
    lines = (_text(stdout) + "\n" + _text(stderr)).split("\n")
    shown = [line for line in lines if line.strip()][-_LAST_LINES:]
    where = f" (all of it in {log_path})" if log_path is not None else ""
    return f"; last lines{where}:\n" + "\n".join(shown) if shown else where


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")

"""Processes of QEMU on this node: which of them run, what they were told, how they end."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

import msgspec

from ganeti.errors import HypervisorError
from ganeti.hypervisors.kvm.files import InstanceFiles
from ganeti.hypervisors.kvm.qmp import QmpClient
from ganeti.interfaces import IHost
from ganeti.model.calls.instances import RunState

_QUIT_S = 5.0
_KILL_S = 10.0
_POLL_S = 0.1

_STATES = {
    "running": RunState.RUNNING,
    "inmigrate": RunState.MIGRATING_IN,
    "postmigrate": RunState.MIGRATED_AWAY,
    "shutdown": RunState.SHUTDOWN,
    "guest-panicked": RunState.SHUTDOWN,
}


class QemuProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A QEMU that runs an instance."""

    pid: int
    argv: tuple[str, ...]

    @property
    def memory(self) -> int:
        """MiB it was started with."""
        return int(_option(self.argv, "-m").partition("=")[2] or 0)

    @property
    def vcpus(self) -> int:
        """Processors it was started with."""
        return int(_option(self.argv, "-smp").partition(",")[0].partition("=")[2] or 0)

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as stream:
                # The name in parentheses may contain anything, also spaces.
                fields = stream.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError, ValueError):
            return 0.0


def find(files: InstanceFiles) -> QemuProcess | None:
    """The process of an instance, or None when it does not run.

    A process id may have been given to another program since: only a process that has our pid file
    among its arguments counts, which also tells apart the nodes of a virtual cluster.
    """
    try:
        with open(files.pid, encoding="ascii") as stream:
            pid = int(stream.read())
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            arguments = stream.read().decode(errors="surrogateescape").split("\0")
    except (OSError, ValueError):
        return None
    return QemuProcess(pid=pid, argv=tuple(arguments)) if files.pid in arguments else None


def state(files: InstanceFiles, *, timeout_s: float = 3.0) -> RunState:
    """What QEMU says of its guest; a QEMU that hangs still runs it."""
    try:
        with QmpClient(files.qmp, timeout_s=timeout_s) as qmp:
            status = qmp.execute("query-status")["status"]
    except HypervisorError:
        return RunState.RUNNING
    return _STATES.get(status, RunState.PAUSED)


def end(host: IHost, files: InstanceFiles) -> None:
    """End the process of an instance: by QMP, and if that hangs by signal.

    Raises:
        HypervisorError: it cannot be ended.
    """
    process = find(files)
    if process is None:
        return
    # QEMU may close the connection before it answers, or hang.
    with suppress(HypervisorError), QmpClient(files.qmp, timeout_s=2.0) as qmp:
        qmp.execute("quit")
    if await_end(host, files, _QUIT_S):
        return
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    if not await_end(host, files, _KILL_S):
        raise HypervisorError(
            f"process {process.pid} of instance {files.name} does not end; it may wait for its storage"
        )


def await_end(host: IHost, files: InstanceFiles, timeout_s: float) -> bool:
    """Wait until the process of an instance is gone; tells whether it is."""
    give_up = host.now() + timeout_s
    while find(files) is not None:
        if host.now() >= give_up:
            return False
        host.sleep(_POLL_S)
    return True


def _option(argv: Sequence[str], name: str) -> str:
    found = [value for option, value in pairwise(argv) if option == name]
    return found[0] if found else ""

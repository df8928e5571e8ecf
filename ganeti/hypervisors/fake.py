"""The hypervisor `fake`: instances are files below the run directory of their node.

It behaves like a real one towards the cluster, live migration included, and runs nothing. Memory and
processors are accounted as on a node of a fixed size, so that a cluster of fake nodes can be filled.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from zope.interface import implementer

from ganeti.errors import HypervisorError
from ganeti.interfaces import IConsole, IHost, IHypervisor, IMigratable, IResizable
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.calls.instances import ConsoleInfo, MigrationProgress, RunningInstance, RunState
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.filled import FilledInstance
from ganeti.model.node import Node
from ganeti.model.param_tables.hv import HYPERVISORS
from ganeti.model.params import ParamValues
from ganeti.model.paths import Paths
from ganeti.model.reading import UNREADABLE

_MIB = 1024 * 1024


class FakeSize(msgspec.Struct, frozen=True, kw_only=True):
    """Size of a fake node; `RUN/fake-hypervisor/.size` may hold another as JSON."""

    memory_total: int = 65536
    memory_dom0: int = 1024
    cpu_total: int = 16


class _Instance(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    memory: int
    vcpus: int
    state: RunState
    started_at: float


@implementer(IHypervisor, IConsole, IMigratable, IResizable)
class FakeHypervisor:
    """Pretends to run instances."""

    name = "fake"
    params = HYPERVISORS["fake"]

    def check_params(self, hvparams: ParamValues) -> None:
        """Nothing can contradict."""

    def validate_on_node(self, host: IHost, hvparams: ParamValues) -> None:
        """Nothing is needed of a node."""

    def start(
        self, host: IHost, instance: FilledInstance, disks: Sequence[OpenDisk], *, paused: bool = False
    ) -> None:
        """Write the file of the instance unless it runs."""
        entry = _read(host, instance.name)
        if entry is None or entry.state not in (RunState.RUNNING, RunState.PAUSED):
            _write(host, _new(host, instance, RunState.PAUSED if paused else RunState.RUNNING))

    def stop(self, host: IHost, name: str, *, force: bool, timeout_s: float) -> None:
        """Remove the file: fake guests always obey at once."""
        self.cleanup(host, name)

    def reboot(self, host: IHost, instance: FilledInstance, disks: Sequence[OpenDisk]) -> None:
        """Start afresh with what the instance has now."""
        _known(host, instance.name)
        _write(host, _new(host, instance, RunState.RUNNING))

    def cleanup(self, host: IHost, name: str) -> None:
        """Remove the file."""
        with suppress(FileNotFoundError):
            os.unlink(_path(host.paths, name))

    def list_running(self, host: IHost) -> Sequence[RunningInstance]:
        """What files there are."""
        found = (_read(host, name) for name in sorted(_names(host)))
        return [
            RunningInstance(
                name=entry.name,
                memory=entry.memory,
                vcpus=entry.vcpus,
                state=entry.state,
                time=max(0.0, host.now() - entry.started_at),
            )
            for entry in found
            if entry is not None
        ]

    def capacity(self, host: IHost) -> NodeCapacity:
        """The fixed size less what the instances have."""
        size = _size(host)
        used = sum(entry.memory for entry in self.list_running(host))
        return NodeCapacity(
            memory_total=size.memory_total,
            memory_free=max(0, size.memory_total - size.memory_dom0 - used),
            memory_dom0=size.memory_dom0,
            cpu_total=size.cpu_total,
            hv_version="fake",
        )

    def self_test(self, host: IHost) -> Sequence[str]:
        """Whether the directory can be written."""
        directory = host.paths.hypervisor_dir("fake")
        try:
            os.makedirs(directory, exist_ok=True)
        except OSError as error:
            return [f"cannot create {directory}: {error.strerror}"]
        return []

    def console(self, instance: FilledInstance, node: Node, paths: Paths) -> ConsoleInfo:
        """There is none, says a message."""
        return ConsoleInfo(
            instance=instance.name,
            kind="msg",
            message=f"Console not available for fake instance {instance.name}",
        )

    def check_migratable(self, host: IHost, instance: FilledInstance) -> None:
        """It has to run."""
        _known(host, instance.name)

    def migration_info(self, host: IHost, instance: FilledInstance) -> str:
        """The state it has here."""
        return _known(host, instance.name).state.value

    def accept(
        self, host: IHost, instance: FilledInstance, disks: Sequence[OpenDisk], info: str, target_ip: str
    ) -> str:
        """Write a file that waits."""
        _write(host, _new(host, instance, RunState.MIGRATING_IN))
        return ""

    def migrate(
        self, host: IHost, instance: FilledInstance, target_ip: str, *, live: bool, endpoint: str = ""
    ) -> None:
        """Mark it as gone; fake memory needs no time to travel."""
        entry = _known(host, instance.name)
        _write(host, msgspec.structs.replace(entry, state=RunState.MIGRATED_AWAY))

    def progress(self, host: IHost, instance: FilledInstance) -> MigrationProgress:
        """Always at the end, once begun."""
        entry = _known(host, instance.name)
        moved = entry.state is RunState.MIGRATED_AWAY
        return MigrationProgress(
            status="completed" if moved else "cancelled",
            transferred_ram=entry.memory * _MIB if moved else 0,
            total_ram=entry.memory * _MIB,
        )

    def cancel(self, host: IHost, instance: FilledInstance) -> None:
        """Nothing: it is always too late, as fake memory needs no time to travel."""

    def finish_source(self, host: IHost, instance: FilledInstance, *, success: bool, live: bool) -> None:
        """Forget it, or let it go on here."""
        entry = _read(host, instance.name)
        if success:
            self.cleanup(host, instance.name)
        elif entry is not None and entry.state is RunState.MIGRATED_AWAY:
            _write(host, msgspec.structs.replace(entry, state=RunState.RUNNING))

    def finish_target(self, host: IHost, instance: FilledInstance, info: str, *, success: bool) -> None:
        """Let it run in the state it had, or forget it."""
        entry = _read(host, instance.name)
        if entry is None:
            if success:
                raise HypervisorError(f"instance {instance.name} did not arrive on {host.name}")
        elif not success:
            self.cleanup(host, instance.name)
        elif entry.state is RunState.MIGRATING_IN:
            state = RunState.PAUSED if info == RunState.PAUSED else RunState.RUNNING
            _write(host, msgspec.structs.replace(entry, state=state))

    def set_memory(self, host: IHost, instance: FilledInstance, memory: int) -> None:
        """Account for another size."""
        _write(host, msgspec.structs.replace(_known(host, instance.name), memory=memory))

    def disk_grown(self, host: IHost, instance: FilledInstance, index: int, size: int) -> None:
        """No guest is there to be told."""


def _new(host: IHost, instance: FilledInstance, state: RunState) -> _Instance:
    return _Instance(
        name=instance.name,
        memory=instance.beparams.maxmem,
        vcpus=instance.beparams.vcpus,
        state=state,
        started_at=host.now(),
    )


def _path(paths: Paths, name: str) -> str:
    return f"{paths.hypervisor_dir('fake')}/{name}"


def _names(host: IHost) -> list[str]:
    try:
        entries = os.listdir(host.paths.hypervisor_dir("fake"))
    except FileNotFoundError:
        return []
    # Names of instances never start with a dot; files being written and the size do.
    return [entry for entry in entries if not entry.startswith(".")]


def _read(host: IHost, name: str) -> _Instance | None:
    try:
        with open(_path(host.paths, name), "rb") as stream:
            return msgspec.json.decode(stream.read(), type=_Instance)
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        raise HypervisorError(f"{_path(host.paths, name)} is damaged: {error}; remove it") from error


def _known(host: IHost, name: str) -> _Instance:
    entry = _read(host, name)
    if entry is None:
        raise HypervisorError(f"instance {name} does not run on {host.name}")
    return entry


def _write(host: IHost, entry: _Instance) -> None:
    directory = host.paths.hypervisor_dir("fake")
    os.makedirs(directory, exist_ok=True)
    temporary = f"{directory}/.{entry.name}.{os.getpid()}"
    with open(temporary, "wb") as stream:
        stream.write(msgspec.json.encode(entry))
    os.rename(temporary, _path(host.paths, entry.name))


def _size(host: IHost) -> FakeSize:
    try:
        with open(f"{host.paths.hypervisor_dir('fake')}/.size", "rb") as stream:
            return msgspec.json.decode(stream.read(), type=FakeSize)
    except FileNotFoundError:
        return FakeSize()

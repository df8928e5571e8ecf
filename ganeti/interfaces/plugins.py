"""Interfaces of plugins: hypervisors, storage, allocators; and of what they are given.

Plugins are **plain blocking code** that runs in a function process on a node; their methods take a
`IHost`, the node they act on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from zope.interface import Attribute, Interface

from ganeti.model.allocation import AllocationRequest, ClusterView, Solution
from ganeti.model.calls.disks import OpenDisk, StorageSpace, SyncStatus
from ganeti.model.calls.instances import ConsoleInfo, MigrationProgress, RunningInstance
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.disk import Disk, TemplateTraits
from ganeti.model.filled import FilledInstance
from ganeti.model.ids import NodeId
from ganeti.model.node import Node
from ganeti.model.params import ParamTable, ParamValues
from ganeti.model.paths import Paths
from ganeti.model.spec import DiskSpec, Reservations


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """A program that ended; a negative code is the number of the signal that ended it."""

    code: int
    stdout: str
    stderr: str


class IProcessRunner(Interface):
    """Runs programs on this machine; blocking, for function processes only."""

    def run(
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bytes | None = None,
        check: bool = True,
        log_path: str | None = None,
    ) -> Completed:
        """Run a program to its end.

        Args:
            argv: program and arguments; no shell.
            timeout_s: after this the program's process group is killed.
            env: its whole environment; None: a clean one with a standard PATH.
            cwd: where it runs.
            stdin: what it reads; None: nothing.
            check: an exit code other than 0 is an error.
            log_path: file to which both outputs go (`stdout` and `stderr` are then empty).

        Raises:
            CommandFailed: not found, not in time, or (with check) a bad exit code; the message
                has the last lines of output.
        """

    def start(
        argv: Sequence[str], *, env: Mapping[str, str] | None = None, log_path: str, cwd: str | None = None
    ) -> int:
        """Start a program that goes on after the function process; gives its process id."""


class IHost(Interface):
    """The node that blocking code acts on."""

    paths: Paths = Attribute("where this node's files lie")
    processes: IProcessRunner = Attribute("runs programs")
    name: str = Attribute("name of this node; empty before it joined a cluster")
    primary_ip: str = Attribute("address for cluster traffic; empty before it joined")
    secondary_ip: str = Attribute("address for disk and migration traffic")

    def now() -> float:
        """Seconds since the epoch."""

    def sleep(seconds: float) -> None:
        """Wait."""


# --- hypervisors -------------------------------------------------------------------------------


class IHypervisor(Interface):
    """Runs instances on a node."""

    name: str = Attribute("established name: kvm, fake, xen-pvm ...")
    params: ParamTable = Attribute("its parameters")

    def check_params(hvparams: ParamValues) -> None:
        """Pure check of filled parameters against each other.

        Raises:
            HypervisorError: with the first contradiction found.
        """

    def validate_on_node(host: IHost, hvparams: ParamValues) -> None:
        """Check what only a node knows: does the kernel file exist, is the machine type known.

        Raises:
            HypervisorError: with what is missing.
        """

    def start(
        host: IHost, instance: FilledInstance, disks: Sequence[OpenDisk], *, paused: bool = False
    ) -> None:
        """Start an instance; does nothing if it runs already.

        Raises:
            HypervisorError: it does not run, and nothing of it is left behind.
        """

    def stop(host: IHost, name: str, *, force: bool, timeout_s: float) -> None:
        """Ask an instance to shut down and wait for it, or end it at once (`force`).

        Returns normally when it does not run, raises nothing if it still runs after the timeout:
        whoever calls looks at `list_running`.

        Raises:
            HypervisorError: it cannot be asked or ended.
        """

    def reboot(host: IHost, instance: FilledInstance, disks: Sequence[OpenDisk]) -> None:
        """Reset an instance without leaving the node.

        Raises:
            HypervisorError: it does not run, or did not come back.
        """

    def cleanup(host: IHost, name: str) -> None:
        """Remove what a stopped instance leaves: state files, taps. Never raises for 'gone'."""

    def list_running(host: IHost) -> Sequence[RunningInstance]:
        """Instances that run on this node, also those that an earlier daemon started."""

    def capacity(host: IHost) -> NodeCapacity:
        """Memory and processors of the node."""

    def self_test(host: IHost) -> Sequence[str]:
        """What is wrong with the hypervisor on this node; empty: nothing."""


class IConsole(Interface):
    """A hypervisor whose instances have a console."""

    def console(instance: FilledInstance, node: Node, paths: Paths) -> ConsoleInfo:
        """How to reach it. Pure."""


class IMigratable(Interface):
    """A hypervisor that can move running instances."""

    def check_migratable(host: IHost, instance: FilledInstance) -> None:
        """Raises HypervisorError with the reason if the instance cannot be migrated now."""

    def migration_info(host: IHost, instance: FilledInstance) -> str:
        """What the target has to know."""

    def accept(
        host: IHost, instance: FilledInstance, disks: Sequence[OpenDisk], info: str, target_ip: str
    ) -> str:
        """Prepare to receive; on the target. Repeating it starts afresh.

        Returns:
            where this node listens, for `migrate`; opaque to the master, empty where there is no choice.
        """

    def migrate(
        host: IHost, instance: FilledInstance, target_ip: str, *, live: bool, endpoint: str = ""
    ) -> None:
        """Begin to send; on the source. Returns at once.

        Args:
            endpoint: what `accept` gave; empty: the port of the cluster's `migration_port`.
        """

    def progress(host: IHost, instance: FilledInstance) -> MigrationProgress:
        """How far it is; on the source."""

    def cancel(host: IHost, instance: FilledInstance) -> None:
        """Stop sending; the instance goes on at the source. No error if none is under way."""

    def finish_source(host: IHost, instance: FilledInstance, *, success: bool, live: bool) -> None:
        """Clean up (success) or make sure that the instance goes on here. May be repeated."""

    def finish_target(host: IHost, instance: FilledInstance, info: str, *, success: bool) -> None:
        """Make the received instance ours (success) or remove it. May be repeated."""


class IHotPluggable(Interface):
    """A hypervisor whose running instances can get and lose devices."""

    def plug(host: IHost, instance: FilledInstance, device: object, index: int) -> None:
        """Add a disk (`OpenDisk`) or a network interface (`FilledNic`)."""

    def unplug(host: IHost, instance: FilledInstance, device: object, index: int) -> None:
        """Take one away."""

    def modify(host: IHost, instance: FilledInstance, device: object, index: int) -> None:
        """Change one."""


class IResizable(Interface):
    """A hypervisor whose running instances can change their size."""

    def set_memory(host: IHost, instance: FilledInstance, memory: int) -> None:
        """Balloon to this many MiB."""

    def disk_grown(host: IHost, instance: FilledInstance, index: int, size: int) -> None:
        """Tell the guest that a disk has this many MiB now."""


# --- storage -----------------------------------------------------------------------------------


class IStorageBackend(Interface):
    """One disk template."""

    name: str = Attribute("name of the template")
    params: ParamTable = Attribute("its disk parameters")
    traits: TemplateTraits = Attribute("what can be done with such disks")

    def layout(spec: DiskSpec, nodes: Sequence[Node], reservations: Reservations) -> Disk:
        """The disk to be created, with its identity. Pure: all names come from `reservations`.

        Args:
            spec: what was asked for, checked.
            nodes: primary first, then the secondary where the template needs one.
            reservations: new uuids, ports, minors, and the cluster's settings.

        Raises:
            PrereqError: the template cannot do what is asked.
        """

    def create(host: IHost, disk: Disk, *, on_primary: bool) -> None:
        """Create the data. Raises BlockDeviceError if it exists or cannot be created."""

    def remove(host: IHost, disk: Disk) -> None:
        """Remove the data; no error if it is gone."""

    def open(host: IHost, disk: Disk, *, on_primary: bool) -> OpenDisk:
        """Make it usable here; may be repeated. Raises BlockDeviceError."""

    def close(host: IHost, disk: Disk) -> None:
        """End the use here; may be repeated."""

    def grow(host: IHost, disk: Disk, *, by_mib: int, dry_run: bool) -> None:
        """Enlarge. Raises BlockDeviceError."""

    def size_bytes(host: IHost, disk: Disk) -> int | None:
        """Real size, or None if the data cannot be found."""

    def space(host: IHost, unit: str) -> StorageSpace:
        """Space of a storage unit of this kind; `unit` is a directory, volume group, pool."""

    def self_test(host: IHost, unit: str) -> Sequence[str]:
        """What is wrong with a storage unit on this node; empty: nothing."""


class IOpenState(Interface):
    """Storage that knows whether a disk is open on a node; mirrored storage tells by its state."""

    def is_open(host: IHost, disk: Disk) -> bool:
        """Whether it can be used here without opening it."""


class ICopyable(Interface):
    """Storage on one node whose disks can be copied to another one, block by block."""

    holds_content: bool = Attribute("False: its disks are pretended, and only have to be created")

    def elsewhere(disk: Disk, node: NodeId, uuid: str) -> Disk:
        """The same disk on another node, where its data has an identity made from `uuid`. Pure."""


class ISyncing(Interface):
    """Storage that copies data between two nodes by itself.

    Every method but `moved` acts on one end. Which one it is, and how the other is reached, says
    `disk.params`, filled for the node (`ganeti.model.filled.MirrorEnds`).
    """

    def moved(disk: Disk, leaving: NodeId, to: NodeId, reservations: Reservations) -> Disk:
        """The same disk with one of its nodes replaced by another. Pure."""

    def sync_status(host: IHost, disk: Disk) -> SyncStatus | None:
        """State of this end; None if it is not open."""

    def connect(host: IHost, disk: Disk, *, two_primaries: bool) -> None:
        """Open this end as secondary if it is closed, and let it look for the other one.

        May be repeated, also to change `two_primaries` after `disconnect`. Raises BlockDeviceError.
        """

    def disconnect(host: IHost, disk: Disk) -> None:
        """Stand alone; the role stays. May be repeated; nothing happens where it is closed."""

    def detach(host: IHost, disk: Disk) -> None:
        """Go on with the data of the other end only; what it stood on may be replaced then.

        May be repeated. Raises BlockDeviceError: it is the only end with good data.
        """

    def attach(host: IHost, disk: Disk) -> None:
        """Use data of its own again, new and empty: all of it is copied from the other end.

        May be repeated. Raises BlockDeviceError.
        """


class ISnapshotting(Interface):
    """Storage that can freeze a copy."""

    def snapshot(host: IHost, disk: Disk, name: str) -> Disk:
        """Make a snapshot; a disk of its own."""


class IRenamable(Interface):
    """Storage whose data carries the name of the disk."""

    def beside(disk: Disk, suffix: str) -> Disk:
        """The disk with another identity that is derived from its own, for data beside it. Pure."""

    def rename(host: IHost, disk: Disk, new: Disk) -> None:
        """Give the data of `disk` the identity of `new`.

        Does nothing if only `new` is there. Raises BlockDeviceError: both are there, or neither.
        """


class IStoragePool(Interface):
    """Storage with units that can be listed, changed or repaired."""

    def units(host: IHost) -> Sequence[Mapping[str, Any]]:
        """Rows of the fields of objects.md section 15."""

    def repair(host: IHost, unit: str) -> None:
        """Make a unit consistent."""


# --- allocation --------------------------------------------------------------------------------


class IAllocator(Interface):
    """Decides where instances go."""

    name: str = Attribute("name for `default_iallocator`")

    def solve(request: AllocationRequest, view: ClusterView) -> Solution:
        """Answer a request. Pure.

        Raises:
            AllocatorError: the request is of a kind it cannot answer.
        """


class IExternalAllocators(Interface):
    """An allocator that stands for programs found on the master by name."""

    def encode(request: AllocationRequest, view: ClusterView) -> str:
        """The request as the established JSON. Pure."""

    def decode(request: AllocationRequest, view: ClusterView, answer: str) -> Solution:
        """The answer of a program. Pure; raises AllocatorError for rubbish."""


class Plugins(msgspec.Struct, frozen=True, kw_only=True):
    """The plugins found at start, by name."""

    hypervisors: Mapping[str, Any]
    """`IHypervisor`"""
    storage: Mapping[str, Any]
    """`IStorageBackend`"""
    iallocators: Mapping[str, Any]
    """`IAllocator`"""
    problems: tuple[str, ...] = ()
    """What was found but cannot be used, and why."""

"""Every interface of the project. Each has a fake in `ganeti.testing` and a behaviour suite.

Two worlds meet here. Plugins (hypervisors, storage, allocators) are **plain blocking code** that runs
in a function process on a node; their methods take a `IHost`, the node they act on. Services of the
master are **coroutines**. Sizes are MiB, times seconds, errors those of `ganeti.errors`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import msgspec

from zope.interface import Attribute, Interface

from ganeti.model.allocation import AllocationRequest, ClusterView, Solution
from ganeti.model.calls.base import NodeCall
from ganeti.model.calls.disks import OpenDisk, StorageSpace
from ganeti.model.calls.instances import ConsoleInfo, MigrationProgress, RunningInstance
from ganeti.model.calls.outcome import Outcome
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk, TemplateTraits
from ganeti.model.filled import FilledInstance
from ganeti.model.ids import JobId, NodeId
from ganeti.model.job import Job
from ganeti.model.locks import LockLevel, LockPlan
from ganeti.model.node import Node
from ganeti.model.params import ParamTable, ParamValues
from ganeti.model.paths import Paths
from ganeti.model.spec import DiskSpec, Reservations

R = TypeVar("R")


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


class ISyncing(Interface):
    """Storage that copies data between nodes by itself."""

    def sync_status(host: IHost, disk: Disk) -> Mapping[str, Any]:
        """State as in rpc.md section 2.2."""


class ISnapshotting(Interface):
    """Storage that can freeze a copy."""

    def snapshot(host: IHost, disk: Disk, name: str) -> Disk:
        """Make a snapshot; a disk of its own."""


class IRenamable(Interface):
    """Storage whose data carries the name of the disk."""

    def rename(host: IHost, disk: Disk, new: Disk) -> None:
        """Give the data of `disk` the identity of `new`."""


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


# --- services of the master --------------------------------------------------------------------


class IClock(Interface):
    """Time, given to whatever needs it."""

    def seconds() -> float:
        """Seconds since the epoch."""


class IConfig(Interface):
    """Holds the cluster."""

    def current() -> Cluster:
        """The newest value."""

    def update(change: Callable[[Cluster], Cluster], *, reason: str) -> Awaitable[Cluster]:
        """Replace the value; returns when the change is durable here and on the candidates.

        Changes are serialised: `change` gets the newest value and must be quick and pure.
        Serial numbers and times of changed objects are set here.

        Raises:
            whatever `change` raises; the value is then as before.
            ConfigurationError: it could not be made durable; the value is then as before.
        """

    def subscribe(callback: Callable[[Cluster, Cluster], None]) -> Callable[[], None]:
        """Call with the old and the new value after each change; gives what ends that.

        The callback runs at once after the change became durable; it must be quick and not raise.
        """


class IHeld(Interface):
    """Locks that one owner holds."""

    def names(level: LockLevel) -> frozenset[str]:
        """Names held at a level; of a whole level all its members."""

    def release(level: LockLevel, names: Iterable[str] | None = None) -> None:
        """Let go early; None: the whole level."""

    def downgrade(level: LockLevel, names: Iterable[str] | None = None) -> None:
        """From exclusive to shared."""

    def keep_added(level: LockLevel, names: Iterable[str]) -> None:
        """These objects exist now: their locks stay when the owner lets go."""

    def forget(level: LockLevel, names: Iterable[str]) -> None:
        """These objects are gone: their locks are deleted when the owner lets go."""


class ILocks(Interface):
    """Locks of the cluster."""

    def held(
        plan: LockPlan,
        *,
        owner: str,
        priority: int,
        timeout_s: float | None,
    ) -> AbstractAsyncContextManager[IHeld]:
        """Acquire a plan level by level, inside a level by name; let go at the end.

        Args:
            plan: what to lock.
            owner: text shown in lists, the job's id.
            priority: -20 to 19; lower is served first.
            timeout_s: for all levels together; None waits for ever.

        Raises:
            LocksNotGranted: not in time.
            LockError: an object of the plan is gone or, for `add`, exists.
        """

    def pending() -> Sequence[Mapping[str, Any]]:
        """Rows name, mode, owner, pending (locking.md section 5)."""

    def change_priority(owner: str, priority: int) -> bool:
        """Let an owner go on waiting with another priority; says whether it waits at all."""


class INodes(Interface):
    """Calls functions on nodes."""

    def call(node: Node, call: NodeCall[R], *, timeout_s: float | None = None) -> Awaitable[R]:
        """Call a function and wait for its result.

        Args:
            node: where.
            call: what.
            timeout_s: instead of the call's own duration.

        Raises:
            NodeError: no result; its subclasses say why.
            GanetiError: what the function raised.
        """

    def each(
        nodes: Collection[Node], call: NodeCall[R], *, timeout_s: float | None = None, patient: bool = True
    ) -> Awaitable[Mapping[NodeId, Outcome[R]]]:
        """Call the same on many nodes at once; one that hangs delays only its own entry.

        Args:
            nodes: where.
            call: what.
            timeout_s: instead of the call's own duration.
            patient: False: somebody looks at a screen; do not wait for nodes known not to answer.
        """


class IFeedback(Interface):
    """Tells whoever watches a job what is going on."""

    def info(text: str) -> None:
        """A line for the operator."""

    def step(number: int, total: int, text: str) -> None:
        """`STEP n/m text`."""

    def warning(text: str, *, hint: str | None = None) -> None:
        """` - WARNING: text`, and what to do."""

    def event(kind: str, value: object) -> None:
        """A log entry of another type (jobqueue.md section 1.1)."""


class IHooks(Interface):
    """Runs the hook scripts of an operation."""

    def run(
        hpath: str, phase: str, nodes: Collection[Node], env: Mapping[str, str]
    ) -> Awaitable[Mapping[NodeId, Outcome[Any]]]:
        """Run the scripts of one directory and phase on these nodes."""


class IJobs(Interface):
    """Submits further jobs on behalf of a running one."""

    def submit_many(jobs: Sequence[Sequence[Any]]) -> Awaitable[Sequence[tuple[bool, JobId | str]]]:
        """Submit lists of opcodes; relative dependencies count inside the batch."""


class IReachability(Interface):
    """What the master finds out about names and addresses."""

    def resolve(name: str, *, family: int) -> Awaitable[str]:
        """First address of a host name.

        Args:
            family: 4 or 6.

        Raises:
            ResolverError: it has none in that family.
        """

    def full_name(name: str, *, family: int) -> Awaitable[str]:
        """The full name of a host; raises as `resolve`."""

    def answers(address: str, port: int, *, timeout_s: float, source: str | None = None) -> Awaitable[bool]:
        """Whether something accepts TCP connections there."""


class IDistribution(Interface):
    """Sends what nodes keep of the cluster: copies of configuration and queue, ssconf, common files."""

    def redistribute() -> Awaitable[Mapping[str, str]]:
        """Send everything to every online node now, whatever it has.

        Returns:
            names of nodes that did not get all of it, and why.

        Raises:
            ConfigurationError: there is something that no node would take.
        """


class IAllocation(Interface):
    """Asks allocators, built-in or external, with live facts of the nodes."""

    def solve(
        name: str,
        request: AllocationRequest,
        *,
        cluster: Cluster,
        candidates: Collection[NodeId] | None = None,
    ) -> Awaitable[Solution]:
        """Gather facts, ask the allocator, check its answer.

        Args:
            name: of a plugin, or of an external program.
            request: what to place.
            cluster: configuration to decide on.
            candidates: only these nodes may be used; None: all.

        Raises:
            AllocatorError: no such allocator, it crashed, hung or answered nonsense.
            PrereqError: insufficient_resources: nothing fits; says why.
        """

    def document(request: AllocationRequest, *, cluster: Cluster) -> Awaitable[str]:
        """The established JSON that an external allocator would get for a request now."""

    def exists(name: str) -> Awaitable[bool]:
        """Whether this is a plugin or an external program on the master."""


class IQueries(Interface):
    """Answers queries about everything."""

    def query(what: str, fields: Sequence[str], qfilter: list[Any] | None) -> Awaitable[Mapping[str, Any]]:
        """`{"fields": [...], "data": [[[status, value], ...], ...]}` (query.md section 2)."""

    def query_fields(what: str, fields: Sequence[str] | None) -> Mapping[str, Any]:
        """`{"fields": [...]}`"""


class IJobStore(Interface):
    """Keeps jobs: durable before it answers."""

    def save(documents: Mapping[JobId, bytes]) -> Awaitable[None]:
        """Make these versions of job documents durable here and on the candidates.

        Raises:
            JobQueueError: disk full or broken; nothing is acknowledged.
        """

    def archive(jobs: Collection[JobId]) -> Awaitable[None]:
        """Move documents to the archive."""

    def load_archived(job: JobId) -> Awaitable[bytes | None]:
        """An archived document, or None."""

    drained: bool = Attribute("whether the drain flag is set")

    def reserve(count: int) -> JobId:
        """The first of so many new ids in a row; they are never given out again."""

    def note(job: Job) -> None:
        """A job has new log entries: bring its file up to date soon, without telling candidates."""

    def archived_ids() -> Awaitable[Sequence[JobId]]:
        """Ids of all archived jobs, ascending."""

    def set_drained(*, drained: bool) -> Awaitable[None]:
        """Set or remove the drain flag, here and on the candidates.

        Raises:
            JobQueueError: it could not be written.
        """

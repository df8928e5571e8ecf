"""Interfaces of the services of the master, which operations get through their context: **coroutines**."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from zope.interface import Attribute, Interface

from ganeti.model.allocation import AllocationRequest, ClusterView, Solution
from ganeti.model.calls.base import NodeCall
from ganeti.model.calls.outcome import Outcome
from ganeti.model.calls.report import KnownReport
from ganeti.model.capacity import CapacityParams, GroupCapacity
from ganeti.model.cluster import Cluster
from ganeti.model.delta import Delta
from ganeti.model.ids import GroupId, JobId, NodeId
from ganeti.model.job import Job
from ganeti.model.locks import LockLevel, LockPlan
from ganeti.model.node import Node

R = TypeVar("R")


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

    def subscribe(callback: Callable[[Cluster, Cluster, Sequence[Delta]], None]) -> Callable[[], None]:
        """Call with the old and the new value, and what changed, after each change; gives what ends that.

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

    def each_own(
        calls: Collection[tuple[Node, NodeCall[R]]], *, timeout_s: float | None = None
    ) -> Awaitable[Mapping[NodeId, Outcome[R]]]:
        """Call one function on many nodes at once, with arguments of their own; see `each`."""

    def meanwhile(
        node: Node, call: NodeCall[R], *, timeout_s: float | None = None
    ) -> AbstractAsyncContextManager[Awaitable[R]]:
        """Call a function and go on: what the block gets can be awaited once, as that of `call`.

        At the end of the block the call is ended if it is not over.
        """


class IClusterState(Interface):
    """What the nodes say: as they said it lately, or asked now."""

    def reports(
        nodes: Collection[Node], *, cached: bool = True, timeout_s: float | None = None, patient: bool = True
    ) -> Awaitable[Mapping[NodeId, Outcome[KnownReport]]]:
        """What each node tells about itself and its instances.

        Args:
            nodes: of which.
            cached: only ask those of which nothing is known that still counts; False: ask all.
            timeout_s: instead of the call's own duration.
            patient: False: somebody looks at a screen; do not wait for nodes known not to answer.
        """

    def refresh(group: GroupId, nodes: Collection[Node]) -> Awaitable[Mapping[NodeId, Outcome[KnownReport]]]:
        """Forget everything known of a group, then ask these nodes, which are all of it (S2.3-061)."""

    def ticket() -> int:
        """To be had before the view is taken from which a capacity is computed."""

    def capacity(group: GroupId, params: CapacityParams) -> GroupCapacity | None:
        """The capacity of a group if it was computed with these parameters and still counts (S2.3-043).

        One that was computed with others is forgotten (S2.3-083).
        """

    def computed(group: GroupId, capacity: GroupCapacity, ticket: int) -> None:
        """Keep a capacity, unless it was made worthless since the ticket."""

    def forget(nodes: Iterable[NodeId] | None) -> None:
        """What is known of these nodes does not count any more; None: of all."""


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


class IDoorbell(Interface):
    """A way for clients to end a wait of a job, open inside `async with`."""

    path: str = Attribute("of a socket; whoever connects to it rings")

    def rung(*, within_s: float) -> Awaitable[bool]:
        """Wait until somebody rings; says whether that was in time. May be asked once."""


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
        cached: bool = True,
    ) -> Awaitable[Solution]:
        """Gather facts, ask the allocator, check its answer.

        Args:
            name: of a plugin, or of an external program.
            request: what to place.
            cluster: configuration to decide on.
            candidates: only these nodes may be used; None: all.
            cached: decide on what the nodes told lately (S2.3-055); False: ask them.

        Raises:
            AllocatorError: no such allocator, it crashed, hung or answered nonsense.
            PrereqError: insufficient_resources: nothing fits; says why.
        """

    def view(
        cluster: Cluster,
        *,
        groups: Collection[GroupId] | None = None,
        candidates: Collection[NodeId] | None = None,
        cached: bool = True,
    ) -> Awaitable[ClusterView]:
        """What an allocator would know; a node that gives no answer, or half of one, is left out.

        Args:
            cluster: configuration to decide on.
            groups: only ask nodes of these; None: of all.
            candidates: only these nodes may be used; None: all.
            cached: what the nodes told lately is good enough.
        """

    def document(request: AllocationRequest, *, cluster: Cluster) -> Awaitable[str]:
        """The established JSON that an external allocator would get for a request now."""

    def exists(name: str) -> Awaitable[bool]:
        """Whether this is a plugin or an external program on the master."""


class IQueries(Interface):
    """Answers queries about everything."""

    def query(
        what: str, fields: Sequence[str], qfilter: list[Any] | None, *, cached: bool = True
    ) -> Awaitable[Mapping[str, Any]]:
        """`{"fields": [...], "data": [[[status, value], ...], ...]}` (query.md section 2).

        Args:
            what: resource.
            fields: columns.
            qfilter: which rows; None: all.
            cached: live values may be those that the nodes told lately (S2.3-053); False: ask them.
        """

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

"""Operations executed for real in memory: executor, locks and hooks are those of masterd.

    world = OperationWorld(cluster(nodes=3, instances=2))
    world.run(StartInstance(instance_name="inst1"))       # the result as JSON, or raises
    world.cluster.instance("inst1").admin_state
    world.model.where("inst1.example.com")                # {'node1.example.com': RunState.RUNNING}
    world.plan(StartInstance(instance_name="inst1"))      # its locks
    world.feedback.lines

Time only moves by `advance`, or inside `run` as far as the operation sleeps.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock, deferLater
from zope.interface import implementer

from ganeti.errors import AllocatorError, ResolverError
from ganeti.interfaces import (
    IAllocation,
    IDistribution,
    IDoorbell,
    IFeedback,
    IJobs,
    IQueries,
    IReachability,
    Plugins,
)
from ganeti.logic import allocate
from ganeti.master.cluster_state import ClusterState, ObservedNodes
from ganeti.master.hooks import OperationHooks
from ganeti.master.op_executor import Execution, OpExecutor, Services
from ganeti.model.allocation import AllocationRequest, Capacity, ClusterView, Placement, Solution
from ganeti.model.calls.outcome import Answer
from ganeti.model.cluster import Cluster
from ganeti.model.disk import TRAITS, DiskTemplate
from ganeti.model.ids import GroupId, JobId, NodeId, names_match
from ganeti.model.locks import LockPlan
from ganeti.ops.base import Context, OpCode, Operation
from ganeti.ops.registry import Registry, load
from ganeti.plugin_registry import discover
from ganeti.storage.fake import FakeStorage
from ganeti.storage.fake_mirror import FakeMirror
from ganeti.testing.clusters import cluster as make_cluster
from ganeti.testing.config import MemoryConfig
from ganeti.testing.jobs import MemoryHooks, TestClock
from ganeti.testing.locks import RecordingLocks, locks_of
from ganeti.testing.nodes import FakeNodes
from ganeti.testing.simulated_nodes import SimulatedNodes

LONGEST_S = 3600
"""`run` gives up after so much time of the clock."""


@implementer(IFeedback)
class RecordingFeedback:
    """Keeps what an operation tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        """Lines for the operator."""
        self.warnings: list[str] = []
        """Warnings with their hints."""
        self.events: list[tuple[str, object]] = []

    def info(self, text: str) -> None:
        """A line for the operator."""
        self.lines.append(text)

    def step(self, number: int, total: int, text: str) -> None:
        """A numbered step."""
        self.lines.append(f"STEP {number}/{total} {text}")

    def warning(self, text: str, *, hint: str | None = None) -> None:
        """A warning."""
        self.warnings.append(text if hint is None else f"{text} ({hint})")

    def event(self, kind: str, value: object) -> None:
        """A log entry of another type."""
        self.events.append((kind, value))


@implementer(IJobs)
class RecordingJobs:
    """Takes jobs and gives them numbers from 101 on."""

    def __init__(self) -> None:
        self.submitted: list[tuple[OpCode, ...]] = []

    async def submit_many(self, jobs: Sequence[Sequence[Any]]) -> Sequence[tuple[bool, JobId | str]]:
        """Accept all."""
        first = 101 + len(self.submitted)
        self.submitted += [tuple(job) for job in jobs]
        return [(True, JobId(first + index)) for index in range(len(jobs))]


@implementer(IReachability)
class FakeReachability:
    """Names and addresses from tables."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        """Address by name."""
        self.answering: set[str] = set()
        """Addresses that accept connections."""

    async def resolve(self, name: str, *, family: int) -> str:
        """The address of a name."""
        for known, address in self.names.items():
            if names_match(name, known):
                return address
        raise ResolverError(f"{name} has no address of IP version {family}")

    async def full_name(self, name: str, *, family: int) -> str:
        """The name in the table that begins with it."""
        await self.resolve(name, family=family)
        return next(known for known in self.names if names_match(name, known))

    async def answers(self, address: str, port: int, *, timeout_s: float, source: str | None = None) -> bool:
        """Whether it is in the table."""
        return address in self.answering


@implementer(IAllocation)
class FakeAllocation:
    """Places everything where the test says."""

    def __init__(self) -> None:
        self.nodes: tuple[NodeId, ...] = ()
        """The answer; empty: the allocator fails."""
        self.nodes_then: tuple[NodeId, ...] = ()
        """The answer to the next question and those after it, if it is another one."""
        self.requests: list[tuple[str, AllocationRequest, frozenset[NodeId] | None]] = []
        self.solution: Solution | None = None
        """The answer as a whole, in place of nodes."""
        self.external: set[str] = {"hail"}
        self.state: ClusterState | None = None
        self.known: ClusterView | None = None
        """What the nodes tell, in place of those of the world."""

    async def solve(
        self,
        name: str,
        request: AllocationRequest,
        *,
        cluster: Cluster,
        candidates: Collection[NodeId] | None = None,
        cached: bool = True,
    ) -> Solution:
        """The answer for every request."""
        self.requests.append((name, request, None if candidates is None else frozenset(candidates)))
        if self.solution is not None:
            return self.solution
        if isinstance(request, Capacity):
            return allocate.solve(request, await self.view(cluster, cached=cached))
        nodes = self.nodes
        self.nodes = self.nodes_then or self.nodes
        if not nodes:
            raise AllocatorError(f"allocator {name} crashed")
        return Solution(placements=(Placement(instance="any", nodes=nodes),))

    async def view(
        self,
        cluster: Cluster,
        *,
        groups: Collection[GroupId] | None = None,
        candidates: Collection[NodeId] | None = None,
        cached: bool = True,
    ) -> ClusterView:
        """What the simulated nodes of a world tell."""
        if self.known is not None:
            return self.known
        if self.state is None:
            raise AssertionError("this fake knows no nodes")
        reports = await self.state.reports(cluster.nodes.values(), cached=cached)
        found = {uuid: one.value for uuid, one in reports.items() if isinstance(one, Answer)}
        return ClusterView(
            cluster=cluster,
            facts={uuid: one.info for uuid, one in found.items()},
            running={uuid: one.running for uuid, one in found.items()},
        )

    async def document(self, request: AllocationRequest, *, cluster: Cluster) -> str:
        """The kind of request, as this fake asks nobody."""
        return type(request).__name__

    async def exists(self, name: str) -> bool:
        """Whether it is a known external one."""
        return name == "builtin" or name in self.external


@implementer(IQueries)
class FakeQueries:
    """Answers of queries by resource."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {}
        """Plain values of all fields of each row."""
        self.asked: list[tuple[str, tuple[str, ...], Any]] = []

    async def query(
        self, what: str, fields: Sequence[str], qfilter: list[Any] | None, *, cached: bool = True
    ) -> Mapping[str, Any]:
        """All rows."""
        self.asked.append((what, tuple(fields), qfilter))
        data = [[[0, row[name]] for name in fields] for row in self.rows[what]]
        return {"fields": self.query_fields(what, fields)["fields"], "data": data}

    def query_fields(self, what: str, fields: Sequence[str] | None) -> Mapping[str, Any]:
        """Names of the first row."""
        known = list(self.rows[what][0]) if fields is None else list(fields)
        return {"fields": [{"name": name} for name in known]}


@implementer(IDistribution)
class FakeDistribution:
    """Distributes nothing."""

    def __init__(self) -> None:
        self.rounds = 0
        self.failures: dict[str, str] = {}

    async def redistribute(self) -> Mapping[str, str]:
        """Count, and answer."""
        self.rounds += 1
        return self.failures


def all_plugins() -> Plugins:
    """The plugins of the project, and fakes of the disk templates that have none."""
    found = discover()
    fakes: dict[str, Any] = {name: FakeStorage(name, traits) for name, traits in TRAITS.items()}
    fakes[DiskTemplate.DRBD] = FakeMirror("/nonexistent")
    return Plugins(
        hypervisors=found.hypervisors,
        storage={**fakes, **found.storage},
        iallocators=found.iallocators,
    )


@implementer(IDoorbell)
class FakeDoorbell:
    """Rung by a test.

    Args:
        reactor: time.
        path: what it tells.
    """

    def __init__(self, reactor: Clock, path: str) -> None:
        self.path = path
        self.is_open = False
        self._reactor = reactor
        self._ring: Deferred[bool] = Deferred()

    async def __aenter__(self) -> FakeDoorbell:
        self.is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_open = False

    def ring(self) -> None:
        """Somebody connects."""
        self._ring.callback(True)

    async def rung(self, *, within_s: float) -> bool:
        """Whether somebody does in time."""
        self._ring.addTimeout(within_s, self._reactor, lambda result, seconds: False)
        return await self._ring


class OperationWorld:
    """A master in memory, with nodes that follow the rules.

    Args:
        cluster: configuration; None: three nodes, two instances.
        registry: operations; None: all.
        memory_mib: of each node.
    """

    def __init__(
        self,
        cluster: Cluster | None = None,
        *,
        registry: Registry | None = None,
        memory_mib: int = 65536,
    ) -> None:
        value = cluster if cluster is not None else make_cluster(instances=2)
        self.reactor = Clock()
        self.clock = TestClock(self.reactor)
        self.config = MemoryConfig(value, self.clock)
        self.nodes = FakeNodes(self.reactor)
        self.model = SimulatedNodes(self.nodes, value, memory_mib=memory_mib)
        self.model.clock_s = self.clock.seconds()
        self.locks = RecordingLocks(locks_of(value, self.reactor))
        self.feedback = RecordingFeedback()
        self.jobs = RecordingJobs()
        self.hooks = MemoryHooks()
        self.reachability = FakeReachability()
        self.state = ClusterState(self.config, self.nodes, self.clock)
        self.config.subscribe(self.state.config_changed)
        self.allocation = FakeAllocation()
        self.allocation.state = self.state
        self.queries = FakeQueries()
        self.distribution = FakeDistribution()
        self.plugins = all_plugins()
        self.registry = registry if registry is not None else load()
        self._uuids = 0
        self.doorbells: list[FakeDoorbell] = []
        """Those that operations have hung up."""
        self.executor = OpExecutor(
            self.registry,
            self.locks,
            OperationHooks(self.hooks, self.config, "/data"),
            self._services(),
            self.reactor.seconds,
        )

    @property
    def cluster(self) -> Cluster:
        """The newest configuration."""
        return self.config.current()

    def operation(self, op: OpCode) -> Operation[Any, Any, Any]:
        """The operation of an opcode."""
        return self.registry.operation(op)

    def plan(self, op: OpCode) -> LockPlan:
        """The locks that an opcode asks for now."""
        return self.operation(op).locks(self.cluster)

    def start(self, op: OpCode, *, job: int = 1) -> Deferred[Any]:
        """Begin to execute; time has to be advanced as far as it sleeps. Jobs at once have own numbers."""
        return Deferred.fromCoroutine(self._execute(op, job))

    def run(self, op: OpCode) -> Any:
        """Execute to the end; gives the result as a JSON value, raises what the operation raises."""
        found: list[Any] = []
        self.start(op).addBoth(found.append)
        waited = 0
        while not found and waited < LONGEST_S:
            self.reactor.advance(1)
            waited += 1
        if not found:
            raise AssertionError(f"{op.op_id()} is not done after {LONGEST_S} s")
        if hasattr(found[0], "raiseException"):
            found[0].raiseException()
        return found[0]

    def with_context(self, operation: Operation[Any, Any, Any], **changes: Any) -> Deferred[Any]:
        """Let an operation find out and run with another context, without locks, checks and hooks."""
        return Deferred.fromCoroutine(self._with_context(operation, changes))

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        self.reactor.advance(seconds)

    def called(self) -> list[tuple[str, str]]:
        """Function and short name of the node of every call so far, in order."""
        return [(type(one.call).function(), one.node.partition(".")[0]) for one in self.nodes.calls]

    async def _execute(self, op: OpCode, job: int) -> Any:
        execution = Execution(
            job_id=JobId(job),
            priority=0,
            timeout_s=60.0,
            feedback=self.feedback,
            jobs=self.jobs,
            started=_started,
        )
        return msgspec.json.decode(await self.executor.execute(op, execution))

    async def _with_context(self, operation: Operation[Any, Any, Any], changes: Mapping[str, Any]) -> Any:
        services = {name: getattr(self._services(), name) for name in Services.__struct_fields__}
        async with self.locks.held(
            operation.locks(self.cluster), owner="1", priority=0, timeout_s=None
        ) as held:
            own = {"held": held, "feedback": self.feedback, "jobs": self.jobs, "job_id": JobId(1)}
            ctx = Context(**{**services, **own, **changes})
            return await operation.run(ctx, await operation.gather(ctx))

    def _services(self) -> Services:
        return Services(
            config=self.config,
            nodes=ObservedNodes(self.nodes, self.state),
            state=self.state,
            allocation=self.allocation,
            reachability=self.reachability,
            queries=self.queries,
            plugins=self.plugins,
            clock=self.clock,
            sleep=self._sleep,
            doorbell=self._doorbell,
            in_thread=maybeDeferred,
            new_uuid=self._new_uuid,
            rng=random.Random(1),
            distribution=self.distribution,
        )

    def _doorbell(self) -> FakeDoorbell:
        bell = FakeDoorbell(self.reactor, f"/doorbell/{len(self.doorbells)}")
        self.doorbells.append(bell)
        return bell

    def _sleep(self, seconds: float) -> Awaitable[None]:
        return deferLater(self.reactor, seconds)

    def _new_uuid(self) -> str:
        self._uuids += 1
        return f"0badcafe-0000-4000-8000-{self._uuids:012x}"


async def _started() -> None:
    return None

"""A job queue in memory: the real engine on a test clock, with operations that do what a test says.

    world = JobWorld()
    first = world.submit(Probe(name="a"))
    world.turn()                              # until nothing happens any more
    world.status(first)                       # 'success'

    world = JobWorld(max_running=1)
    held = world.script("a").hold()           # the operation waits
    ...
    held.callback(None)

Everything but the files is what masterd uses: table, queue, runner, executor, locks.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, deferLater
from zope.interface import implementer

from ganeti.errors import JobQueueError
from ganeti.interfaces import IClock, IFeedback, IHooks, IJobStore, ILocks, Plugins
from ganeti.logic.job_states import job_status
from ganeti.master.cluster_state import ClusterState
from ganeti.master.hooks import OperationHooks
from ganeti.master.job_engine import JobEngine
from ganeti.master.op_executor import OpExecutor, Services
from ganeti.model.calls.outcome import Answer, Outcome
from ganeti.model.cluster import Cluster
from ganeti.model.ids import JobId, NodeId
from ganeti.model.job import Job, JobStatus, decode_job, encode_job
from ganeti.model.locks import LockLevel, LockPlan, exclusive
from ganeti.model.node import Node
from ganeti.ops.base import Context, Hooks, HookTarget, OpCode, Operation, Param
from ganeti.ops.debug.test_delay import TestDelayOperation
from ganeti.ops.registry import Registry
from ganeti.testing.clusters import cluster as make_cluster
from ganeti.testing.config import MemoryConfig
from ganeti.testing.locks import locks_of
from ganeti.testing.nodes import FakeNodes

T = TypeVar("T")

EPOCH = 1_700_000_000.0
"""When test clocks begin."""


@implementer(IJobStore)
class MemoryJobStore:
    """`IJobStore` without files: durable at once, or when the test says so.

    Args:
        is_slow: saves wait until `finish`.
    """

    def __init__(self, *, is_slow: bool = False) -> None:
        self.drained = False
        self.documents: dict[JobId, bytes] = {}
        self.archived: dict[JobId, bytes] = {}
        self.history: list[dict[JobId, Job]] = []
        """What each save held, in order."""
        self.notes: list[Job] = []
        self.failure: str | None = None
        """If set, nothing can be saved, and this is why."""
        self.is_slow = is_slow
        self._serial = 0
        self._waiting: list[tuple[Deferred[None], Mapping[JobId, bytes]]] = []

    def reserve(self, count: int) -> JobId:
        """The first of so many new ids in a row."""
        self._serial += count
        return JobId(self._serial - count + 1)

    def save(self, documents: Mapping[JobId, bytes]) -> Deferred[None]:
        """Make documents durable."""
        done: Deferred[None] = Deferred()
        self._waiting.append((done, dict(documents)))
        if not self.is_slow:
            self.finish()
        return done

    def finish(self) -> None:
        """Finish all saves that wait."""
        waiting, self._waiting = self._waiting, []
        for done, documents in waiting:
            if self.failure is not None:
                done.errback(JobQueueError(self.failure))
                continue
            self.history.append({job: decode_job(text, job) for job, text in documents.items()})
            self.documents.update(documents)
            done.callback(None)

    def note(self, job: Job) -> None:
        """Remember that a job has new log entries."""
        self.notes.append(job)

    async def archive(self, jobs: Collection[JobId]) -> None:
        """Move documents."""
        if self.failure is not None:
            raise JobQueueError(self.failure)
        for job in jobs:
            self.archived[job] = self.documents.pop(job)

    async def load_archived(self, job: JobId) -> bytes | None:
        """An archived document, or None."""
        return self.archived.get(job)

    async def archived_ids(self) -> Sequence[JobId]:
        """Ids of all archived jobs, ascending."""
        return sorted(self.archived)

    async def set_drained(self, *, drained: bool) -> None:
        """Set or remove the drain flag."""
        self.drained = drained

    def put(self, job: Job) -> None:
        """Let a job be there as an earlier daemon left it."""
        self.documents[job.id] = encode_job(job)
        self._serial = max(self._serial, job.id)

    def jobs(self) -> list[Job]:
        """What a start finds."""
        return [decode_job(text, job) for job, text in sorted(self.documents.items())]

    def statuses(self, job: JobId) -> list[str]:
        """The states in which a job was saved, one after the other."""
        return [job_status(saved[job]).value for saved in self.history if job in saved]


class Probe(OpCode, frozen=True, kw_only=True, tag="OP_TEST_PROBE"):
    """An opcode whose operation follows a script of the test."""

    summary_field: ClassVar[str | None] = "name"

    name: Annotated[str, Param("which script")] = "probe"
    instance: Annotated[str | None, Param("lock this instance exclusively")] = None
    password: Annotated[str | None, Param("a secret", secret=True)] = None
    secrets: Annotated[dict[str, str], Param("more secrets", secret=True)] = {}


class Script:
    """What the operation of a probe does; by default nothing, successfully."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        """Names of the phases that were entered."""
        self.run: Callable[[Context], Awaitable[Any]] = _nothing
        self.gather: Callable[[Context], Awaitable[Any]] = _nothing
        self.check: Callable[[Cluster], None] = lambda cluster: None
        self.locks: Callable[[Cluster], LockPlan] | None = None
        self.dry_run_result: Any = None
        self.judge: Callable[[Any, Mapping[NodeId, Outcome[Any]]], Any] = lambda result, outcomes: result
        self.seen: list[Probe] = []

    def hold(self) -> Deferred[Any]:
        """Let the operation wait; it goes on, or fails, with the Deferred that this gives."""
        held: Deferred[Any] = Deferred()

        async def run(ctx: Context) -> Any:
            return await held

        self.run = run
        return held

    def gives(self, result: Any) -> None:
        """Let the operation have a result."""

        async def run(ctx: Context) -> Any:
            return result

        self.run = run

    def fails(self, error: BaseException) -> None:
        """Let the operation fail."""

        async def run(ctx: Context) -> Any:
            raise error

        self.run = run


async def _nothing(ctx: Context) -> Any:
    return None


def probe_operation(
    scripts: Callable[[str], Script], hooks: Hooks | None = None
) -> type[Operation[Probe, Any, Any]]:
    """An operation class whose objects follow scripts."""
    declared = hooks

    class ProbeOperation(Operation[Probe, Any, Any]):
        """Follows a script."""

        hooks = declared

        def __init__(self, op: Probe) -> None:
            super().__init__(op)
            self.script = scripts(op.name)
            self.script.seen.append(op)

        def locks(self, cluster: Cluster) -> LockPlan:
            """As the script says, or the instance."""
            self.script.calls.append("locks")
            if self.script.locks is not None:
                return self.script.locks(cluster)
            if self.op.instance is None:
                return LockPlan.NOTHING
            return LockPlan(requests={LockLevel.INSTANCE: exclusive([self.op.instance])})

        async def gather(self, ctx: Context) -> Any:
            """As the script says."""
            self.script.calls.append("gather")
            return await self.script.gather(ctx)

        def check(self, cluster: Cluster, facts: Any) -> None:
            """As the script says."""
            self.script.calls.append("check")
            self.script.check(cluster)

        async def run(self, ctx: Context, facts: Any) -> Any:
            """As the script says."""
            self.script.calls.append("run")
            return await self.script.run(ctx)

        def dry_run_result(self, cluster: Cluster, facts: Any) -> Any:
            """As the script says."""
            return self.script.dry_run_result

        def judge_hooks(
            self,
            result: Any,
            outcomes: Mapping[NodeId, Outcome[Any]],
            *,
            cluster: Cluster,
            feedback: IFeedback,
        ) -> Any:
            """As the script says."""
            return self.script.judge(result, outcomes)

        def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
            """Number of instances, to tell before from after."""
            return {"OP_TARGET": self.op.name, "COUNT": str(len(cluster.instances))}

    return ProbeOperation


PROBE_HOOKS = Hooks("probe", HookTarget.CLUSTER)


@implementer(IHooks)
class MemoryHooks:
    """`IHooks` that answers as a test says, and remembers what was run."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, str, tuple[str, ...], Mapping[str, str]]] = []
        """Directory, phase, names of nodes, environment."""
        self.answers: dict[tuple[str, str], Mapping[NodeId, Outcome[Any]]] = {}
        """What comes of a directory and phase."""

    async def run(
        self, hpath: str, phase: str, nodes: Collection[Node], env: Mapping[str, str]
    ) -> Mapping[NodeId, Outcome[Any]]:
        """Remember, and answer."""
        self.runs.append((hpath, phase, tuple(node.name for node in nodes), dict(env)))
        return self.answers.get((hpath, phase), {node.uuid: Answer(()) for node in nodes})


@implementer(IClock)
class TestClock:
    """The time of day, from a test clock.

    Args:
        reactor: gives the seconds since `EPOCH`.
    """

    __test__: ClassVar[bool] = False

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor

    def seconds(self) -> float:
        """Seconds since the epoch."""
        return EPOCH + self._reactor.seconds()


class JobWorld:
    """A job engine on a test clock.

    Args:
        max_running: turns at a time.
        store: with jobs of an earlier daemon; None: an empty one.
        cluster: configuration; None: three nodes, four instances.
        hooks: let probes have hooks.
        is_started: begin at once.
    """

    def __init__(
        self,
        *,
        max_running: int = 20,
        store: MemoryJobStore | None = None,
        cluster: Cluster | None = None,
        hooks: bool = False,
        is_started: bool = True,
    ) -> None:
        self.reactor = Clock()
        self.clock = TestClock(self.reactor)
        self.store = store or MemoryJobStore()
        self.config = MemoryConfig(cluster or make_cluster(instances=4), self.clock)
        self.nodes = FakeNodes()
        self.hooks = MemoryHooks()
        self.locks: ILocks = locks_of(self.config.current(), self.reactor)
        self.scripts: dict[str, Script] = {}
        self.max_running = max_running
        self.registry = Registry(
            [probe_operation(self.script, PROBE_HOOKS if hooks else None), TestDelayOperation]
        )
        executor = OpExecutor(
            self.registry,
            self.locks,
            OperationHooks(self.hooks, self.config, "/data"),
            self._services(),
            self.reactor.seconds,
        )
        self.engine = JobEngine(
            self.reactor,
            self.store,
            self.registry,
            self.locks,
            executor,
            self.clock,
            rng=random.Random(1),
            max_running=lambda: self.max_running,
        )
        self.queue = self.engine.queue
        if is_started:
            self.result(self.engine.start(self.store.jobs()))

    def script(self, name: str = "probe") -> Script:
        """What the probe of this name does."""
        return self.scripts.setdefault(name, Script())

    def turn(self, rounds: int = 30) -> None:
        """Let everything happen that needs no time."""
        for _ in range(rounds):
            self.reactor.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        self.reactor.advance(seconds)
        self.turn()

    def result(self, work: Awaitable[T]) -> T:
        """What comes of something that needs no time."""
        found: list[Any] = []
        done = Deferred.fromCoroutine(_awaited(work))
        done.addBoth(found.append)
        self.turn()
        if not found:
            raise AssertionError("it is not done yet")
        if hasattr(found[0], "raiseException"):
            found[0].raiseException()
        return found[0]  # type: ignore[no-any-return]

    def submit(self, *ops: OpCode, request_id: str | None = None) -> JobId:
        """Submit a job; it had no turn yet."""
        job: list[JobId] = []
        done = Deferred.fromCoroutine(self.queue.submit(list(ops), request_id=request_id))
        done.addCallback(job.append)
        if not job:
            return self.result(done)
        return job[0]

    def job(self, job: JobId) -> Job:
        """The newest state of a live job, durable or not."""
        return self.engine.table.get(job).job

    def status(self, job: JobId) -> JobStatus:
        """Status of a live job, durable or not."""
        return job_status(self.job(job))

    def error(self, job: JobId, index: int = 0) -> Any:
        """Encoded error of an opcode."""
        return self.job(job).ops[index].result_value()

    def _services(self) -> Services:
        # Operations of these tests do not ask allocators, addresses or queries.
        nobody: Any = None
        return Services(
            config=self.config,
            nodes=self.nodes,
            state=ClusterState(self.config, self.nodes, self.clock),
            allocation=nobody,
            reachability=nobody,
            queries=nobody,
            plugins=Plugins(hypervisors={}, storage={}, iallocators={}),
            clock=self.clock,
            sleep=lambda seconds: deferLater(self.reactor, seconds),
            doorbell=nobody,
            in_thread=maybeDeferred,
            new_uuid=lambda: "0badcafe-0000-4000-8000-000000000000",
            rng=random.Random(1),
            distribution=nobody,
        )


def queued_job(job: int, *statuses: str, priority: int = 0, op_id: str = "OP_TEST_PROBE") -> Job:
    """A job as it may lie in the queue directory, with opcodes in these states."""
    document = {
        "id": job,
        "ops": [
            {"input": {"OP_ID": op_id, "name": f"job{job}"}, "status": status, "priority": priority}
            for status in statuses or ("queued",)
        ],
        "received_timestamp": [int(EPOCH) - 1000 + job, 0],
    }
    return decode_job(msgspec.json.encode(document), JobId(job))


async def _awaited(work: Awaitable[T]) -> T:
    return await work

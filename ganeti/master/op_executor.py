"""Executes one opcode: locks, facts, checks, hooks, the work itself, and what follows from it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from zope.interface import implementer

from ganeti.errors import (
    ErrorCode,
    GanetiError,
    LockError,
    LocksNotGranted,
    OperationResultError,
    PrereqError,
    ProgrammerError,
)
from ganeti.interfaces import (
    IAllocation,
    IClock,
    IClusterState,
    IConfig,
    IDistribution,
    IDoorbell,
    IFeedback,
    IHeld,
    IJobs,
    ILocks,
    INodes,
    IQueries,
    IReachability,
    Plugins,
)
from ganeti.logic.lock_attempts import LONGEST_S
from ganeti.master.hooks import OperationHooks
from ganeti.model.cluster import Cluster
from ganeti.model.delta import Delta
from ganeti.model.ids import JobId, NodeId
from ganeti.model.locks import LockLevel, LockPlan
from ganeti.ops.base import Context, InThread, Jobs, OpCode, Operation
from ganeti.ops.registry import Registry

T = TypeVar("T")
AnyOperation = Operation[Any, Any, Any]

MOST_PLANS = 5
"""How often a plan is made anew because the configuration changed while its locks were waited for."""


class TryLater(Exception):
    """The opcode cannot be executed now: locks were not had in time, or something lacks for a moment.

    Args:
        reason: for the log.
        delay_s: how long it is pointless to try again.
    """

    def __init__(self, reason: str, *, delay_s: float = 0.0) -> None:
        super().__init__(reason)
        self.delay_s = delay_s


class NotStarted(Exception):
    """Raised by `Execution.started`: the opcode must not run, whose locks it holds; no failure of its own."""


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """What all operations may use; the rest of their context belongs to one execution."""

    config: IConfig
    nodes: INodes
    state: IClusterState
    allocation: IAllocation
    reachability: IReachability
    queries: IQueries
    plugins: Plugins
    clock: IClock
    sleep: Callable[[float], Awaitable[None]]
    doorbell: Callable[[], AbstractAsyncContextManager[IDoorbell]]
    in_thread: InThread
    new_uuid: Callable[[], str]
    rng: random.Random
    distribution: IDistribution


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to execute an opcode."""

    job_id: JobId
    priority: int
    timeout_s: float | None
    """For all locks together; None: wait for ever."""
    feedback: IFeedback
    jobs: IJobs
    """Takes further jobs, which inherit from this opcode."""
    started: Callable[[], Awaitable[None]]
    """Called once the locks are held; the opcode counts as running when it returns."""


class OpExecutor:
    """Executes opcodes.

    Args:
        registry: knows the operations.
        locks: of the cluster.
        hooks: scripts of the administrator.
        services: for the operations.
        now: a clock that never jumps, for what is left of a timeout.
    """

    log = Logger()

    def __init__(
        self,
        registry: Registry,
        locks: ILocks,
        hooks: OperationHooks,
        services: Services,
        now: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._locks = locks
        self._hooks = hooks
        self._services = services
        self._now = now

    async def execute(self, op: OpCode, execution: Execution) -> msgspec.Raw:
        """Do what an opcode says; gives the result as JSON.

        May be cancelled until `execution.started` was called, which leaves nothing behind.

        Raises:
            TryLater: nothing was done; another attempt may succeed.
            GanetiError: it failed; for mistakes in the code a `ProgrammerError` with a reference id.
        """
        try:
            operation = self._registry.operation(op)
            async with AsyncExitStack() as stack:
                held, plan = await self._acquire(operation, execution, stack)
                await execution.started()
                touched = _Touched(self._services, operation, held, is_everything=plan.exclusive_cluster)
                return await self._with_locks(operation, held, execution, touched)
        except (CancelledError, TryLater, NotStarted):
            raise
        except GanetiError as error:
            if error.detail:
                self.log.info(
                    "{op} failed: {error}: {detail}", op=op.op_id(), error=error, detail=error.detail
                )
            raise
        except Exception as error:
            raise self._mistake(op) from error

    async def _acquire(
        self, operation: AnyOperation, execution: Execution, stack: AsyncExitStack
    ) -> tuple[IHeld, LockPlan]:
        """Hold the locks that the operation asks for in view of the newest configuration."""
        config = self._services.config
        deadline = None if execution.timeout_s is None else self._now() + execution.timeout_s
        plan = operation.locks(config.current())
        for _ in range(MOST_PLANS):
            try:
                context = self._locks.held(
                    plan,
                    owner=str(execution.job_id),
                    priority=execution.priority,
                    timeout_s=None if deadline is None else max(0.0, deadline - self._now()),
                )
                async with AsyncExitStack() as attempt:
                    held = await attempt.enter_async_context(context)
                    wanted = operation.locks(config.current())
                    if plan.covers(wanted):
                        stack.push_async_exit(attempt.pop_all())
                        return held, plan
                plan = plan.merged(wanted)
            except LocksNotGranted as error:
                raise TryLater(str(error)) from error
            except LockError as error:
                plan = self._plan_after(operation, plan, error)
        raise PrereqError(
            "what is to be locked changed again and again while its locks were waited for; try again",
            code=ErrorCode.STATE,
        )

    def _plan_after(self, operation: AnyOperation, plan: LockPlan, error: LockError) -> LockPlan:
        """A plan without what is gone.

        Raises:
            PrereqError: the operation cannot be done any more, or not beside another one.
        """
        wanted = operation.locks(self._services.config.current())
        if wanted == plan:
            code = ErrorCode.EXISTS if plan.add else ErrorCode.STATE
            raise PrereqError(f"{error}; another job is changing it", code=code) from error
        return wanted

    async def _with_locks(
        self, operation: AnyOperation, held: IHeld, execution: Execution, touched: _Touched
    ) -> msgspec.Raw:
        config = _CountingConfig(self._services.config)
        ctx = self._context(config, held, execution)
        try:
            facts = await operation.gather(ctx)
            operation.check(config.current(), facts)
        except PrereqError as error:
            if error.code is not ErrorCode.NO_RESOURCES_NOW:
                raise
            raise TryLater(str(error), delay_s=execution.timeout_s or LONGEST_S) from error
        prepared = await self._hooks.before(operation, execution.feedback)
        if operation.op.dry_run:
            planned = operation.dry_run_result(config.current(), facts)
            return _as_json(operation.op, _unsubmitted(planned) if isinstance(planned, Jobs) else planned)
        touched.begins()
        try:
            result = await operation.run(ctx, facts)
            if isinstance(result, Jobs):
                result = await _submit(result, execution.jobs)
            outcomes = await self._hooks.after(operation, prepared, execution.feedback)
            if operation.hooks is not None:
                result = operation.judge_hooks(
                    result, outcomes, cluster=config.current(), feedback=execution.feedback
                )
            encoded = _as_json(operation.op, result)
        finally:
            touched.ends()
            if config.changes:
                await self._hooks.config_changed(prepared, execution.feedback)
        return encoded

    def _context(self, config: IConfig, held: IHeld, execution: Execution) -> Context:
        services = self._services
        return Context(
            config=config,
            nodes=services.nodes,
            state=services.state,
            held=held,
            feedback=execution.feedback,
            allocation=services.allocation,
            reachability=services.reachability,
            queries=services.queries,
            distribution=services.distribution,
            jobs=execution.jobs,
            plugins=services.plugins,
            clock=services.clock,
            sleep=services.sleep,
            doorbell=services.doorbell,
            in_thread=services.in_thread,
            new_uuid=services.new_uuid,
            rng=services.rng,
            job_id=execution.job_id,
        )

    def _mistake(self, op: OpCode) -> ProgrammerError:
        reference = self._services.new_uuid()[:8]
        self.log.failure(
            "{op} failed unexpectedly, reference {reference}", op=op.op_id(), reference=reference
        )
        return ProgrammerError(
            f"internal error in {op.op_id()}; the log of the master daemon has the details under "
            f"reference {reference}"
        )


class _Touched:
    """What an operation may change: whatever the nodes told of it does not count (S2.3-049, S2.3-050).

    That is what it still has locked when it begins to act, as placing an instance looks at all nodes and
    then keeps those that were chosen; and again when it ends, for what was told meanwhile.
    """

    def __init__(
        self, services: Services, operation: AnyOperation, held: IHeld, *, is_everything: bool
    ) -> None:
        self._services = services
        self._keeps = operation.keeps_state
        self._is_everything = is_everything
        self._held = held
        self._nodes: set[NodeId] = set()

    def begins(self) -> None:
        """Before anything is done."""
        self._forget()

    def ends(self) -> None:
        """After everything was done, or some of it."""
        self._forget()

    def _forget(self) -> None:
        if self._keeps:
            return
        if self._is_everything:
            self._services.state.forget(None)
            return
        cluster = self._services.config.current()
        self._nodes.update(NodeId(name) for name in self._held.names(LockLevel.NODE))
        for name in self._held.names(LockLevel.INSTANCE):
            instance = cluster.instances.by_key(name)
            if instance is not None:
                self._nodes.add(instance.primary_node)
        if self._nodes:
            self._services.state.forget(self._nodes)


@implementer(IConfig)
class _CountingConfig:
    """The configuration, and how often one operation changed it."""

    def __init__(self, config: IConfig) -> None:
        self.changes = 0
        self._config = config

    def current(self) -> Cluster:
        """The newest value."""
        return self._config.current()

    async def update(self, change: Callable[[Cluster], Cluster], *, reason: str) -> Cluster:
        """Replace the value."""
        cluster = await self._config.update(change, reason=reason)
        self.changes += 1
        return cluster

    def subscribe(self, callback: Callable[[Cluster, Cluster, Sequence[Delta]], None]) -> Callable[[], None]:
        """Call after each change; see `IConfig`."""
        return self._config.subscribe(callback)


def inherited(op: OpCode, parent: OpCode) -> OpCode:
    """An opcode that another one asked for: as urgent, and with its history (jobqueue.md 10)."""
    return replace(
        op,
        priority=op.priority or parent.priority,
        debug_level=parent.debug_level if op.debug_level is None else op.debug_level,
        comment=op.comment or f"Submitted by {parent.op_id()}",
        reason=(*op.reason, *parent.reason),
    )


async def _submit(result: Jobs, jobs: IJobs) -> dict[str, Any]:
    submitted = await jobs.submit_many(result.jobs)
    return {**result.extra, "jobs": [list(one) for one in submitted]}


def _unsubmitted(planned: Jobs) -> dict[str, Any]:
    """What a dry run gives where jobs would be submitted."""
    return {**planned.extra, "jobs": []}


def _as_json(op: OpCode, result: object) -> msgspec.Raw:
    if result is None:
        return _NULL
    try:
        return msgspec.Raw(msgspec.json.encode(result))
    except (TypeError, ValueError) as error:
        raise OperationResultError(f"{op.op_id()} gave a result that cannot be stored: {error}") from error


_NULL = msgspec.Raw(b"null")

"""OP_TEST_DELAY: sleep, on the master or on nodes."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from ganeti.errors import OperationFailed, PrereqError
from ganeti.model.calls.outcome import NodeFailed
from ganeti.model.calls.system import NodeTestDelay
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockPlan, exclusive
from ganeti.model.node import Node
from ganeti.ops.base import Arguments, Command, Context, OpCode, Operation, Param
from ganeti.ops.kinds import NODES

LONGEST_S = 10 * 365 * 86400.0


class TestDelay(OpCode, frozen=True, kw_only=True, tag="OP_TEST_DELAY"):
    """Sleep."""

    __test__: ClassVar[bool] = False
    duration: Annotated[float, Param("how long, in seconds"), msgspec.Meta(le=LONGEST_S)]
    on_master: Annotated[bool, Param("do not sleep on the master", flag="no-master")] = True
    on_nodes: Annotated[
        tuple[str, ...], Param("sleep on these nodes", kind=NODES, flag="node", short="n")
    ] = ()
    on_node_uuids: Annotated[tuple[str, ...] | None, Param("the same by UUID")] = None
    repeat: Annotated[int, Param("repeat this often", flag="repeat", short="r")] = 0
    interruptible: Annotated[
        bool,
        Param(
            "ends early when somebody connects to the socket that the job tells",
            flag="interruptible",
            short="i",
        ),
    ] = False
    no_locks: Annotated[bool, Param("take no locks of the nodes", flag="no-locks", short="l")] = True

    def summary(self) -> str:
        """Duration in nanoseconds, as established."""
        return f"TEST_DELAY({int(self.duration * 1e9)} ns)"


class TestDelayOperation(Operation[TestDelay, None, None]):
    """Waits on the clock of the master, and calls a function on nodes that sleeps."""

    __test__: ClassVar[bool] = False
    commands = (
        Command(
            tool="gnt-debug",
            name="delay",
            positional="duration",
            arguments=Arguments.ONE,
            defaults={"no_locks": False},
        ),
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """The nodes slept on, unless without locks."""
        if self.op.no_locks:
            return LockPlan.NOTHING
        return LockPlan(requests={LockLevel.NODE: exclusive(node.uuid for node in self._nodes(cluster))})

    def check(self, cluster: Cluster, facts: None) -> None:
        """Known nodes and sensible numbers only."""
        if self.op.duration < 0:
            raise PrereqError("the duration must not be negative")
        if self.op.repeat < 0:
            raise PrereqError("the number of repetitions must not be negative")
        if self._nodes(cluster) and self.op.interruptible:
            raise PrereqError("only a delay on the master can be interrupted; leave the nodes away")
        if self.op.interruptible and not self.op.on_master:
            raise PrereqError("only a delay on the master can be interrupted; let it sleep there")

    async def run(self, ctx: Context, facts: None) -> None:
        """Sleep once, or as often as asked for."""
        rounds = self.op.repeat or 1
        for number in range(1, rounds + 1):
            if self.op.repeat:
                ctx.feedback.info(f"Test delay iteration {number}/{rounds}")
            await self._sleep_once(ctx)

    async def _sleep_once(self, ctx: Context) -> None:
        if self.op.interruptible:
            await self._until_interrupted(ctx)
        elif self.op.on_master:
            await ctx.sleep(self.op.duration)
        nodes = self._nodes(ctx.cluster)
        if not nodes:
            return
        call = NodeTestDelay(seconds=self.op.duration)
        outcomes = await ctx.nodes.each(nodes, call, timeout_s=self.op.duration + 5)
        for node in nodes:
            match outcomes[node.uuid]:
                case NodeFailed() as failed:
                    raise OperationFailed(f"delay on node {node.name} failed: {failed.reason}")

    async def _until_interrupted(self, ctx: Context) -> None:
        async with ctx.doorbell() as bell:
            ctx.feedback.event("delay-test", bell.path)
            if await bell.rung(within_s=self.op.duration):
                ctx.feedback.info("interrupted")

    def _nodes(self, cluster: Cluster) -> tuple[Node, ...]:
        return tuple(cluster.node(name) for name in self.op.on_node_uuids or self.op.on_nodes)

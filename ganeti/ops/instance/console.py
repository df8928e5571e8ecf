"""OP_INSTANCE_CONSOLE: how to reach the console of a running instance."""

from __future__ import annotations

from typing import Any

import msgspec

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.calls.instances import ConsoleInfo, InstanceConsoleInfo, RunningInstance, RunState
from ganeti.model.cluster import Cluster
from ganeti.model.filled import fill_instance
from ganeti.model.locks import LockLevel, LockPlan, shared
from ganeti.ops.base import Arguments, Command, Context
from ganeti.ops.instance.base import InstanceOpCode, InstanceOperation
from ganeti.ops.instance.common import require_online
from ganeti.ops.steps import running_on


class InstanceConsole(InstanceOpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_CONSOLE"):
    """Console access of an instance."""


class ConsoleFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out."""

    running: RunningInstance | None


class InstanceConsoleOperation(InstanceOperation[InstanceConsole, ConsoleFacts, dict[str, Any]]):
    """Asks the node; the client then runs the command itself."""

    keeps_state = True
    commands = (
        Command(tool="gnt-instance", name="console", positional="instance_name", arguments=Arguments.CUSTOM),
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """The instance, shared."""
        return LockPlan(requests={LockLevel.INSTANCE: shared([self.instance(cluster).name])})

    async def gather(self, ctx: Context) -> ConsoleFacts:
        """Whether it runs."""
        cluster = ctx.cluster
        instance = self.instance(cluster)
        primary = cluster.nodes[instance.primary_node]
        require_online(primary, f"the console of {instance.name}")
        return ConsoleFacts(running=await running_on(ctx.nodes, cluster, instance))

    def check(self, cluster: Cluster, facts: ConsoleFacts) -> None:
        """Only what runs has a console."""
        if facts.running is None or facts.running.state is RunState.SHUTDOWN:
            name = self.instance(cluster).name
            raise PrereqError(
                f"instance {name} does not run; 'gnt-instance startup {name}' starts it",
                code=ErrorCode.STATE,
            )

    async def run(self, ctx: Context, facts: ConsoleFacts) -> dict[str, Any]:
        """The established dictionary of a console."""
        cluster = ctx.cluster
        instance = self.instance(cluster)
        call = InstanceConsoleInfo(instances=(fill_instance(cluster, instance),))
        consoles = await ctx.nodes.call(cluster.nodes[instance.primary_node], call)
        console: ConsoleInfo = consoles[instance.name]
        return dict(msgspec.to_builtins(console))

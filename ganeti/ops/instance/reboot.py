"""OP_INSTANCE_REBOOT: restart an instance, from inside or by stopping and starting it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

import msgspec

from ganeti.errors import ErrorCode, PrereqError
from ganeti.logic.instance_changes import set_admin_state
from ganeti.model.calls.instances import InstanceReboot, RunningInstance, RunState
from ganeti.model.cluster import Cluster
from ganeti.model.filled import fill_instance
from ganeti.model.instance import AdminState, Instance
from ganeti.ops.base import (
    Arguments,
    Command,
    Context,
    Hooks,
    HookTarget,
    Param,
    Route,
)
from ganeti.ops.instance.base import InstanceOpCode, InstanceOperation
from ganeti.ops.instance.common import require_not_offline, require_online
from ganeti.ops.instance.shutdown import stop_on_primary
from ganeti.ops.instance.startup import start_on_primary
from ganeti.ops.kinds import SECONDS
from ganeti.ops.steps import attempt, close_disks, missing_bridges, running_on


class RebootInstance(InstanceOpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_REBOOT"):
    """Restart an instance."""

    reboot_type: Annotated[
        Literal["soft", "hard", "full"],
        Param(
            "soft: reset by the hypervisor; hard: stop and start on the node; full: with closing the disks",
            flag="type",
            short="t",
        ),
    ]
    ignore_secondaries: Annotated[
        bool, Param("go on although a secondary's disks fail", flag="ignore-secondaries")
    ] = False
    shutdown_timeout: Annotated[
        Annotated[int, msgspec.Meta(ge=0)],
        Param("seconds to let it shut down before it is ended by force", SECONDS, "shutdown-timeout"),
    ] = 120


class RebootFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out before a reboot."""

    running: RunningInstance | None
    bridge_problem: str | None


class RebootInstanceOperation(InstanceOperation[RebootInstance, RebootFacts, None]):
    """Restarts what runs, and starts what does not run."""

    hooks = Hooks("instance-reboot", HookTarget.INSTANCE)
    routes = (
        Route(
            method="POST",
            path="/2/instances/{instance_name}/reboot",
            query=("reboot_type", "ignore_secondaries", "dry_run"),
        ),
    )
    commands = (
        Command(
            tool="gnt-instance",
            name="reboot",
            positional="instance_name",
            arguments=Arguments.MANY,
            defaults={"reboot_type": "hard"},
        ),
    )

    async def gather(self, ctx: Context) -> RebootFacts:
        """Whether it runs."""
        cluster = ctx.cluster
        instance = self.instance(cluster)
        primary = cluster.nodes[instance.primary_node]
        require_online(primary, f"restarting {instance.name}")
        running = await running_on(ctx.nodes, cluster, instance)
        problem = await missing_bridges(ctx.nodes, cluster, instance, primary)
        return RebootFacts(running=running, bridge_problem=problem)

    def check(self, cluster: Cluster, facts: RebootFacts) -> None:
        """Not marked offline, and with its bridges there."""
        instance = self.instance(cluster)
        require_not_offline(instance, "restarted")
        if facts.bridge_problem is not None:
            raise PrereqError(facts.bridge_problem, code=ErrorCode.ENVIRONMENT)

    async def run(self, ctx: Context, facts: RebootFacts) -> None:
        """Restart, then record that it is to run."""
        instance = self.instance(ctx.cluster)
        is_alive = facts.running is not None and facts.running.state is not RunState.SHUTDOWN
        if is_alive and self.op.reboot_type in ("soft", "hard"):
            await self._on_the_node(ctx, instance)
        else:
            if facts.running is not None:
                await stop_on_primary(ctx, instance.uuid, timeout_s=self.op.shutdown_timeout)
                await close_disks(ctx.config, ctx.nodes, ctx.feedback, instance.uuid)
            else:
                ctx.feedback.info(f"{instance.name} does not run: starting it")
            await start_on_primary(
                ctx,
                fill_instance(ctx.cluster, instance),
                ignore_secondaries=self.op.ignore_secondaries,
            )
        await ctx.config.update(
            partial(set_admin_state, uuid=instance.uuid, state=AdminState.UP),
            reason=f"{instance.name} was restarted",
        )

    async def _on_the_node(self, ctx: Context, instance: Instance) -> None:
        primary = ctx.cluster.nodes[instance.primary_node]
        call = InstanceReboot(
            instance=fill_instance(ctx.cluster, instance),
            reboot_type=self.op.reboot_type,
            shutdown_timeout_s=self.op.shutdown_timeout,
            reason=self.op.reason,
        )
        await attempt(ctx.nodes.call(primary, call), f"could not restart {instance.name} on {primary.name}")

    def hook_values(self) -> Mapping[str, object]:
        """How it is restarted."""
        return {
            "IGNORE_SECONDARIES": self.op.ignore_secondaries,
            "REBOOT_TYPE": self.op.reboot_type,
            "SHUTDOWN_TIMEOUT": self.op.shutdown_timeout,
        }

"""Brings an instance whose move between groups broke off into one group again (S2.3-018).

The rule: it ends in the group in which it runs. A move goes mirror, migration, mirror; if it broke off
before the migration this takes it back, if after it this ends it. Either way no guest is moved by it.
"""

from __future__ import annotations

from ganeti.errors import ErrorCode, OperationFailed, PrereqError
from ganeti.logic.group_moves import homes_of
from ganeti.logic.move_plan import group_of
from ganeti.model.calls.instances import RunState
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.instance import Instance
from ganeti.ops.base import Context, Jobs, OpCode
from ganeti.ops.instance.activate_disks import ActivateDisks
from ganeti.ops.instance.common import require_allocator
from ganeti.ops.instance.migrate import MigrateInstance
from ganeti.ops.instance.replace_disks import ReplaceDisks
from ganeti.ops.steps import where_running


async def cleanup_jobs(
    ctx: Context,
    instance: Instance,
    *,
    iallocator: str | None,
    secondary: NodeId | None,
    early_release: bool,
) -> Jobs:
    """The job that brings an instance into the group in which it runs; none if it is in one already.

    Args:
        ctx: of the operation.
        instance: whose move broke off.
        iallocator: chooses the new mirror; None: the cluster's.
        secondary: the new mirror, in place of an allocator.
        early_release: the mirror in the other group is given up before the new one is in step.

    Raises:
        PrereqError: the node that was named is in the wrong group, or there is no allocator.
        OperationFailed: it cannot be found out where the instance runs.
    """
    cluster = ctx.cluster
    if len(homes_of(cluster, instance)) == 1:
        ctx.feedback.info(f"all nodes of {instance.name} are in one group; there is nothing to clean up")
        return Jobs(jobs=(), extra={"moves": []})
    runs_on = await _runs_on(ctx, instance)
    home = cluster.nodes[runs_on].group
    ops: list[OpCode] = []
    if runs_on != instance.primary_node:
        # Masterd died between the end of a migration and its record.
        ops.append(MigrateInstance(instance_name=instance.name, cleanup=True))
    if instance.disks_active:
        ops.append(ActivateDisks(instance_name=instance.name))
    chosen = None if secondary is None else cluster.nodes[secondary]
    if chosen is not None and chosen.group != home:
        raise PrereqError(
            f"instance {instance.name} runs in group {cluster.groups[home].name}; node {chosen.name} is in "
            f"{cluster.groups[chosen.group].name} and cannot be its mirror",
            code=ErrorCode.STATE,
        )
    ops.append(
        ReplaceDisks(
            instance_name=instance.name,
            mode="replace_new_secondary",
            remote_node=None if chosen is None else chosen.name,
            iallocator=None if chosen is not None else require_allocator(cluster, iallocator),
            early_release=early_release,
        )
    )
    ctx.feedback.info(
        f"{instance.name} has nodes in {group_of(cluster, tuple(cluster.nodes_of(instance)))} and runs in "
        f"{cluster.groups[home].name}: its mirror comes there"
    )
    return Jobs(jobs=(tuple(ops),), extra={"moves": [_row(cluster, instance, runs_on, secondary, ops)]})


async def _runs_on(ctx: Context, instance: Instance) -> NodeId:
    """Where it runs; if nowhere, where it would be started."""
    cluster = ctx.cluster
    found, silent = await where_running(ctx.nodes, cluster, instance)
    for node in cluster.nodes_of(instance):
        if node in silent:
            raise OperationFailed(
                f"node {cluster.nodes[node].name} does not tell whether {instance.name} runs there: "
                f"{silent[node]}; repeat when it answers, or mark it offline if it is dead"
            )
    leftovers = (RunState.MIGRATING_IN, RunState.MIGRATED_AWAY)
    owners = [node for node, seen in found.items() if seen.state not in leftovers]
    if len(owners) > 1:
        names = ", ".join(cluster.nodes[node].name for node in owners)
        raise OperationFailed(f"instance {instance.name} runs on several nodes: {names}; stop all but one")
    return owners[0] if owners else instance.primary_node


def _row(
    cluster: Cluster, instance: Instance, runs_on: NodeId, secondary: NodeId | None, ops: list[OpCode]
) -> dict[str, object]:
    words = [op.op_id().removeprefix("OP_INSTANCE_").lower().replace("_", "-") for op in ops]
    nodes = (runs_on,) if secondary is None else (runs_on, secondary)
    before = tuple(cluster.nodes_of(instance))
    return {
        "instance": instance.name,
        "from": [cluster.nodes[node].name for node in before],
        "from_group": group_of(cluster, before),
        "to": [cluster.nodes[node].name for node in nodes],
        "to_group": group_of(cluster, nodes),
        "how": ", ".join(words),
    }

"""OP_UPDATE_NODE_GROUP_CACHE: ask all nodes of a group anew (S2.3-060, S2.3-061).

What another job has locked exclusively is left out and named busy, so that instances of some nodes are
looked after while other nodes of the group are worked on (S2.3-068).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ganeti.logic.fields.instance import InstanceWorld, status
from ganeti.model.calls.outcome import Answer, NodeFailed, Outcome
from ganeti.model.calls.report import KnownReport
from ganeti.model.cluster import Cluster
from ganeti.model.findings import Findings, InstanceFinding, NodeFinding
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.instance import Instance
from ganeti.model.locks import LockLevel, LockMode, LockPlan, LockRequest, shared
from ganeti.model.node import Node
from ganeti.ops.base import Context
from ganeti.ops.group.base import GroupOpCode, GroupOperation


class UpdateNodeGroupCache(GroupOpCode, frozen=True, kw_only=True, tag="OP_UPDATE_NODE_GROUP_CACHE"):
    """Ask all nodes of a group for their state and that of their instances."""


class UpdateNodeGroupCacheOperation(GroupOperation[UpdateNodeGroupCache, None, Findings]):
    """Holds group, nodes and instances, all shared, while it asks."""

    keeps_state = True

    def locks(self, cluster: Cluster) -> LockPlan:
        """The group; of its nodes and their primary instances those that nobody changes now."""
        group = self.group(cluster).uuid
        members = [node.uuid for node in cluster.members(group)]
        instances = [instance.name for instance in _instances(cluster, group)]
        return LockPlan(
            requests={
                LockLevel.INSTANCE: _opportunistic(instances),
                LockLevel.NODEGROUP: shared([group]),
                LockLevel.NODE: _opportunistic(members),
            }
        )

    async def run(self, ctx: Context, facts: None) -> Findings:
        """Forget, ask, compare."""
        cluster = ctx.cluster
        group = self.group(cluster).uuid
        members = sorted(cluster.members(group), key=lambda node: node.name)
        free = ctx.held.names(LockLevel.NODE)
        asked = [node for node in members if node.uuid in free and not node.offline]
        outcomes = await ctx.state.refresh(group, asked)
        cluster = ctx.cluster
        return Findings(
            group=group,
            nodes={node.name: _node_finding(node, node.uuid in free, outcomes) for node in members},
            instances=_instance_findings(cluster, group, free, ctx.held.names(LockLevel.INSTANCE), outcomes),
        )


def _opportunistic(names: Collection[str]) -> LockRequest:
    return LockRequest(names=frozenset(names), mode=LockMode.SHARED, opportunistic=True)


def _instances(cluster: Cluster, group: GroupId) -> list[Instance]:
    members = {node.uuid for node in cluster.members(group)}
    return [one for one in cluster.instances.values() if one.primary_node in members and not one.forthcoming]


def _node_finding(node: Node, is_free: bool, outcomes: Mapping[NodeId, Outcome[KnownReport]]) -> NodeFinding:
    if node.offline:
        return NodeFinding(state="offline")
    if not is_free:
        return NodeFinding(state="busy")
    match outcomes.get(node.uuid):
        case Answer(KnownReport() as report):
            problem = "; ".join(f"{name}: {why}" for name, why in sorted(report.problems.items()))
            return NodeFinding(state="answered", boot_id=report.info.boot_id, problem=problem)
        case NodeFailed() as failed:
            return NodeFinding(state="silent", problem=failed.reason)
    return NodeFinding(state="busy")


def _instance_findings(
    cluster: Cluster,
    group: GroupId,
    free_nodes: Collection[str],
    free_instances: Collection[str],
    outcomes: Mapping[NodeId, Outcome[KnownReport]],
) -> dict[str, InstanceFinding]:
    running = {
        uuid: outcome.value.running
        for uuid, outcome in outcomes.items()
        if isinstance(outcome, Answer) and not outcome.value.problems
    }
    world = InstanceWorld.of(cluster, running, {})
    found: dict[str, InstanceFinding] = {}
    for instance in sorted(_instances(cluster, group), key=lambda one: one.name):
        nodes = cluster.nodes_of(instance)
        is_known = instance.name in free_instances and (
            instance.primary_node in free_nodes or cluster.nodes[instance.primary_node].offline
        )
        found[instance.name] = InstanceFinding(
            status=status(instance, world) if is_known else None,
            admin_state=instance.admin_state.value,
            disks_active=instance.disks_active,
            disk_template=cluster.disk_template(instance),
            primary=cluster.nodes[instance.primary_node].name,
            secondaries=tuple(cluster.nodes[node].name for node in cluster.secondary_nodes(instance)),
            is_split=len({cluster.nodes[node].group for node in nodes}) > 1,
        )
    return found

"""OP_GROUP_ASSIGN_NODES: put nodes into a group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec.structs import replace

from ganeti.errors import ErrorCode, PrereqError
from ganeti.logic.group_moves import splits_of
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockPlan, exclusive
from ganeti.model.node import Node
from ganeti.ops.base import Arguments, Command, Context, Param, Route
from ganeti.ops.group.base import GroupOpCode, GroupOperation
from ganeti.ops.kinds import NODES

_SHOWN = 10


class AssignNodes(GroupOpCode, frozen=True, kw_only=True, tag="OP_GROUP_ASSIGN_NODES"):
    """Put nodes into a group."""

    nodes: Annotated[tuple[str, ...], Param("nodes to put into it", kind=NODES)]
    node_uuids: Annotated[tuple[str, ...] | None, Param("the same by UUID")] = None
    force: Annotated[
        bool, Param("also nodes with instances, as long as none is split", flag="force", short="f")
    ] = False


class AssignNodesOperation(GroupOperation[AssignNodes, None, None]):
    """Changes the group of nodes; the instances on them go with them, and so none may be split."""

    keeps_state = True
    routes = (Route(method="PUT", path="/2/groups/{group_name}/assign-nodes", query=("dry_run", "force")),)
    commands = (
        Command(tool="gnt-group", name="assign-nodes", positional="group_name", arguments=Arguments.CUSTOM),
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """The group, those in which the nodes are now, and the nodes."""
        nodes = self._nodes(cluster)
        groups = [self.group(cluster).uuid, *(node.group for node in nodes)]
        return LockPlan(
            requests={
                LockLevel.NODEGROUP: exclusive(groups),
                LockLevel.NODE: exclusive(node.uuid for node in nodes),
            }
        )

    def check(self, cluster: Cluster, facts: None) -> None:
        """Nodes without instances, or with force such whose instances stay whole."""
        group = self.group(cluster)
        if not self._nodes(cluster):
            raise PrereqError(f"name the nodes that are to be in group {group.name}")
        moving = {node.uuid: group.uuid for node in self._moving(cluster)}
        occupied = sorted(
            {
                cluster.nodes[node].name
                for instance in cluster.instances.values()
                for node in cluster.nodes_of(instance)
                if node in moving
            }
        )
        if occupied and not self.op.force:
            raise PrereqError(
                f"nodes with instances stay in their group: {_some(occupied)}; move the instances away, or "
                "give --force to take them along",
                code=ErrorCode.STATE,
            )
        split = splits_of(cluster, moving).new
        if split:
            raise PrereqError(
                f"instances would have nodes in different groups: {_some(split)}; "
                "assign all nodes of an instance together",
                code=ErrorCode.STATE,
            )

    async def run(self, ctx: Context, facts: None) -> None:
        """Record it."""
        uuid = self.group(ctx.cluster).uuid
        moving = self._moving(ctx.cluster)

        def moved(cluster: Cluster) -> Cluster:
            nodes = {node.uuid: replace(cluster.nodes[node.uuid], group=uuid) for node in moving}
            return replace(cluster, nodes=cluster.nodes.with_items(nodes))

        if moving:
            names = _some([node.name for node in moving])
            await ctx.config.update(moved, reason=f"{names} to node group {self.op.group_name}")
        still = splits_of(ctx.cluster, {}).old
        if still:
            ctx.feedback.warning(
                f"instances had nodes in different groups before, and still have: {_some(still)}",
                hint="'gnt-instance change-group' brings an instance into one group",
            )

    def _nodes(self, cluster: Cluster) -> tuple[Node, ...]:
        return tuple(cluster.node(name) for name in self.op.node_uuids or self.op.nodes)

    def _moving(self, cluster: Cluster) -> tuple[Node, ...]:
        """Those that are not in the group yet."""
        group = self.group(cluster).uuid
        return tuple(node for node in self._nodes(cluster) if node.group != group)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

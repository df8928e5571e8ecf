"""OP_GROUP_REMOVE: remove a node group without nodes."""

from __future__ import annotations

from msgspec.structs import replace

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel
from ganeti.ops.base import Command, Context, Hooks, HookTarget, Route
from ganeti.ops.group.base import GroupOpCode, GroupOperation


class RemoveGroup(GroupOpCode, frozen=True, kw_only=True, tag="OP_GROUP_REMOVE"):
    """Remove a node group; it must have no nodes."""


class RemoveGroupOperation(GroupOperation[RemoveGroup, None, None]):
    """Forgets the group, and what networks are connected to it."""

    keeps_state = True
    hooks = Hooks("group-remove", HookTarget.GROUP)
    routes = (Route(method="DELETE", path="/2/groups/{group_name}", query=("dry_run",)),)
    commands = (Command(tool="gnt-group", name="remove", positional="group_name"),)

    def check(self, cluster: Cluster, facts: None) -> None:
        """Without nodes, and not the last one."""
        group = self.group(cluster)
        members = sorted(node.name for node in cluster.members(group.uuid))
        if members:
            shown = ", ".join(members[:5]) + (", ..." if len(members) > 5 else "")
            raise PrereqError(
                f"node group {group.name} has {len(members)} nodes ({shown}); "
                "'gnt-group assign-nodes' moves them to another one",
                code=ErrorCode.STATE,
            )
        if len(cluster.groups) == 1:
            raise PrereqError(
                f"{group.name} is the only node group; a cluster always has one", code=ErrorCode.STATE
            )

    async def run(self, ctx: Context, facts: None) -> None:
        """Forget it."""
        group = self.group(ctx.cluster)

        def without(cluster: Cluster) -> Cluster:
            return replace(cluster, groups=cluster.groups.without(group.uuid))

        await ctx.config.update(without, reason=f"node group {group.name} is removed")
        ctx.held.forget(LockLevel.NODEGROUP, [group.uuid])

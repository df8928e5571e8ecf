"""OP_GROUP_RENAME: give a node group another name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from msgspec.structs import replace

from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.ops.base import Arguments, Command, Context, HookNodes, Hooks, HookTarget, Param, Route
from ganeti.ops.group.base import GroupOpCode, GroupOperation, check_new_name


class RenameGroup(GroupOpCode, frozen=True, kw_only=True, tag="OP_GROUP_RENAME"):
    """Give a node group another name; everything refers to it by its UUID."""

    summary_field: ClassVar[str | None] = None

    new_name: Annotated[str, Param("its new name")]


class RenameGroupOperation(GroupOperation[RenameGroup, None, str]):
    """Changes the name only."""

    keeps_state = True
    hooks = Hooks("group-rename", HookTarget.GROUP)
    routes = (Route(method="PUT", path="/2/groups/{group_name}/rename", query=("dry_run",)),)
    commands = (
        Command(tool="gnt-group", name="rename", positional="group_name", arguments=Arguments.CUSTOM),
    )

    def __init__(self, op: RenameGroup) -> None:
        super().__init__(op)
        self._nodes: tuple[NodeId, ...] = ()
        """Where hooks run; afterwards the old name means nothing."""

    def check(self, cluster: Cluster, facts: None) -> None:
        """A name that is free."""
        self.group(cluster)
        check_new_name(cluster, self.op.new_name)

    async def run(self, ctx: Context, facts: None) -> str:
        """Record it."""
        uuid = self.group(ctx.cluster).uuid
        name = self.op.new_name

        def renamed(cluster: Cluster) -> Cluster:
            check_new_name(cluster, name)
            group = replace(cluster.groups[uuid], name=name)
            return replace(cluster, groups=cluster.groups.with_item(uuid, group))

        await ctx.config.update(renamed, reason=f"node group {self.op.group_name} is called {name} now")
        return name

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """Both names."""
        return {"OP_TARGET": self.op.group_name, "OLD_NAME": self.op.group_name, "NEW_NAME": self.op.new_name}

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Master and the nodes of the group."""
        if not self._nodes:
            members = (node.uuid for node in cluster.members(self.group(cluster).uuid))
            self._nodes = tuple(dict.fromkeys((cluster.settings.master_node, *members)))
        return HookNodes(pre=self._nodes, post=self._nodes)

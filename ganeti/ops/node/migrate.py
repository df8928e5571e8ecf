"""OP_NODE_MIGRATE: live-migrate every primary instance of a node away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockPlan, shared
from ganeti.model.node import Node
from ganeti.ops.base import (
    Arguments,
    Command,
    Context,
    Hooks,
    HookTarget,
    Jobs,
    OpCode,
    Operation,
    Param,
    Route,
)
from ganeti.ops.instance.migrate import MigrateInstance
from ganeti.ops.kinds import NODE


class MigrateNode(OpCode, frozen=True, kw_only=True, tag="OP_NODE_MIGRATE"):
    """Migrate all primary instances of a node; a job for each."""

    summary_field: ClassVar[str | None] = "node_name"

    node_name: Annotated[str, Param("node to empty of running instances", kind=NODE)]
    node_uuid: Annotated[str | None, Param("the same by UUID")] = None
    mode: Annotated[
        Literal["live", "non-live"] | None,
        Param("live keeps them running meanwhile", flag="migration-mode"),
    ] = None
    live: Annotated[bool | None, Param("older form of mode", flag="non-live")] = None
    target_node: Annotated[
        str | None, Param("where to; only for shared storage", NODE, "target-node", "n")
    ] = None
    target_node_uuid: Annotated[str | None, Param("the same by UUID")] = None
    allow_runtime_changes: Annotated[
        bool, Param("do not take memory from instances to make them fit", flag="no-runtime-changes")
    ] = True
    ignore_ipolicy: Annotated[
        bool, Param("go on although one violates the policy there", flag="ignore-ipolicy")
    ] = False
    iallocator: Annotated[
        str | None, Param("allocator that chooses each target", flag="iallocator", short="I")
    ] = None


class MigrateNodeOperation(Operation[MigrateNode, None, Jobs]):
    """Asks for one migration job for each primary instance; what each may do is decided in its job."""

    keeps_state = True
    hooks = Hooks("node-migrate", HookTarget.NODE)
    routes = (Route(method="POST", path="/2/nodes/{node_name}/migrate"),)
    commands = (Command(tool="gnt-node", name="migrate", positional="node_name", arguments=Arguments.CUSTOM),)

    def locks(self, cluster: Cluster) -> LockPlan:
        """The node, shared: its instances are locked by their jobs."""
        return LockPlan(requests={LockLevel.NODE: shared([self._node(cluster).uuid])})

    def check(self, cluster: Cluster, facts: None) -> None:
        """Sensible wishes for the target."""
        node = self._node(cluster)
        if node.offline:
            raise PrereqError(
                f"node {node.name} is marked offline and nothing can be migrated from it; "
                "'gnt-node failover' starts its instances elsewhere",
                code=ErrorCode.STATE,
            )
        if self.op.mode is not None and self.op.live is not None:
            raise PrereqError("give either 'mode' or 'live', not both")
        wanted = self.op.target_node_uuid or self.op.target_node
        if wanted is None:
            return
        if self.op.iallocator is not None:
            raise PrereqError("give either a target node or an allocator, not both")
        if cluster.node(wanted).uuid == node.uuid:
            raise PrereqError(f"the instances are on {node.name} already; choose another target")

    async def run(self, ctx: Context, facts: None) -> Jobs:
        """The jobs, by the names of the instances."""
        node = self._node(ctx.cluster)
        names = sorted(
            instance.name for instance in ctx.cluster.instances.values() if instance.primary_node == node.uuid
        )
        return Jobs(jobs=tuple((self._of(name),) for name in names))

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The node, and whether memory may be taken from instances."""
        name = self._node(cluster).name
        return {
            "OP_TARGET": name,
            "NODE_NAME": name,
            "ALLOW_RUNTIME_CHANGES": str(self.op.allow_runtime_changes),
        }

    def _of(self, instance_name: str) -> MigrateInstance:
        op = self.op
        return MigrateInstance(
            instance_name=instance_name,
            mode=op.mode,
            live=op.live,
            target_node=op.target_node,
            target_node_uuid=op.target_node_uuid,
            allow_runtime_changes=op.allow_runtime_changes,
            ignore_ipolicy=op.ignore_ipolicy,
            iallocator=op.iallocator,
        )

    def _node(self, cluster: Cluster) -> Node:
        return cluster.node(self.op.node_uuid or self.op.node_name)

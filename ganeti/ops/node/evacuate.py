"""OP_NODE_EVACUATE: take instances off a node, to others of its group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from ganeti.errors import PrereqError
from ganeti.model.allocation import Evacuate, EvacuationMode, Solution
from ganeti.model.cluster import Cluster
from ganeti.model.instance import Instance
from ganeti.model.locks import LockLevel, LockPlan, shared
from ganeti.model.node import Node
from ganeti.ops.allocator_jobs import allocator_jobs
from ganeti.ops.base import Arguments, Command, Context, Jobs, OpCode, Operation, Param, Route
from ganeti.ops.kinds import NODE


class EvacuateNode(OpCode, frozen=True, kw_only=True, tag="OP_NODE_EVACUATE"):
    """Take instances off a node; a job for each."""

    summary_field: ClassVar[str | None] = "node_name"

    node_name: Annotated[str, Param("node to empty", kind=NODE)]
    node_uuid: Annotated[str | None, Param("the same by UUID")] = None
    mode: Annotated[EvacuationMode, Param("which instances leave")]
    iallocator: Annotated[
        str | None, Param("allocator that chooses the nodes", flag="iallocator", short="I")
    ] = None
    early_release: Annotated[
        bool, Param("give the old disks up before the new ones are in step", flag="early-release")
    ] = False
    remote_node: Annotated[
        str | None,
        Param("new secondary of all of them, in place of an allocator", NODE, "new-secondary", "n"),
    ] = None
    remote_node_uuid: Annotated[str | None, Param("the same by UUID")] = None
    ignore_soft_errors: Annotated[
        bool | None, Param("let the allocator break soft rules", flag="ignore-soft-errors")
    ] = None


class EvacuateNodeOperation(Operation[EvacuateNode, Solution, Jobs]):
    """Asks the allocator how the instances leave; if one cannot, none does."""

    keeps_state = True
    routes = (Route(method="POST", path="/2/nodes/{node_name}/evacuate", query=("dry_run",)),)
    commands = (
        Command(
            tool="gnt-node",
            name="evacuate",
            positional="node_name",
            arguments=Arguments.CUSTOM,
            defaults={"mode": EvacuationMode.ALL.value},
        ),
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """The node's group with its nodes, and the instances, all shared: jobs do the rest."""
        node = self._node(cluster)
        members = [member.uuid for member in cluster.members(node.group)]
        return LockPlan(
            requests={
                LockLevel.INSTANCE: shared(instance.name for instance in self._leaving(cluster)),
                LockLevel.NODEGROUP: shared([node.group]),
                LockLevel.NODE: shared(members),
            }
        )

    async def gather(self, ctx: Context) -> Solution:
        """Where they go."""
        cluster = ctx.cluster
        wanted = self.op.remote_node_uuid or self.op.remote_node
        if (wanted is None) is (self._allocator(cluster) is None) or (wanted and self.op.iallocator):
            raise PrereqError("give either an allocator or a new secondary node")
        instances = tuple(instance.name for instance in self._leaving(cluster))
        if not instances:
            return Solution()
        if wanted is not None:
            return self._to_node(cluster, cluster.node(wanted))
        allocator = self._allocator(cluster)
        assert allocator is not None
        request = Evacuate(
            instances=instances,
            mode=self.op.mode,
            ignore_soft_errors=self.op.ignore_soft_errors is True,
        )
        return await ctx.allocation.solve(allocator, request, cluster=cluster)

    async def run(self, ctx: Context, facts: Solution) -> Jobs:
        """The jobs, unless something stays."""
        return allocator_jobs(facts, ctx.feedback, early_release=self.op.early_release)

    def _to_node(self, cluster: Cluster, target: Node) -> Solution:
        """New mirrors on a given node."""
        if self.op.mode is not EvacuationMode.SECONDARY_ONLY:
            raise PrereqError("a new secondary can be given only where secondaries are evacuated (-s)")
        jobs: list[tuple[Mapping[str, object], ...]] = []
        for instance in self._leaving(cluster):
            if target.uuid in cluster.nodes_of(instance):
                raise PrereqError(f"instance {instance.name} is on node {target.name} already")
            jobs.append(
                (
                    {
                        "OP_ID": "OP_INSTANCE_REPLACE_DISKS",
                        "instance_name": instance.name,
                        "mode": "replace_new_secondary",
                        "remote_node": target.name,
                        "disks": [],
                    },
                )
            )
        return Solution(jobs=tuple(jobs))

    def _allocator(self, cluster: Cluster) -> str | None:
        if self.op.remote_node is not None or self.op.remote_node_uuid is not None:
            return self.op.iallocator
        return self.op.iallocator or cluster.settings.default_iallocator or None

    def _leaving(self, cluster: Cluster) -> list[Instance]:
        """Instances that the mode is about, by name."""
        node, mode = self._node(cluster).uuid, self.op.mode
        found = [
            instance
            for instance in cluster.instances.values()
            if (mode is not EvacuationMode.SECONDARY_ONLY and instance.primary_node == node)
            or (mode is not EvacuationMode.PRIMARY_ONLY and node in cluster.secondary_nodes(instance))
        ]
        return sorted(found, key=lambda instance: instance.name)

    def _node(self, cluster: Cluster) -> Node:
        return cluster.node(self.op.node_uuid or self.op.node_name)

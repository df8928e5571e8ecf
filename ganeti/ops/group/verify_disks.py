"""OP_GROUP_VERIFY_DISKS: find disks of a node group that are missing or have to be opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

from ganeti.logic.verify_disks import (
    DiskFacts,
    DiskPlace,
    disks_to_ask_for,
    instances_of_group,
    judge_disks,
)
from ganeti.model.calls.disks import DiskState, FindDisks
from ganeti.model.calls.outcome import Answer, NodeFailed
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.instance import Instance
from ganeti.model.locks import LockLevel, LockMode, LockPlan, LockRequest, shared
from ganeti.ops.base import Arguments, Command, Context, Param
from ganeti.ops.group.base import GroupOpCode, GroupOperation

Result = tuple[Mapping[str, str], Sequence[str], Mapping[str, Sequence[Sequence[str]]]]


class VerifyGroupDisks(GroupOpCode, frozen=True, kw_only=True, tag="OP_GROUP_VERIFY_DISKS"):
    """Find disks of a node group that are missing or have to be opened."""

    is_strict: Annotated[
        bool, Param("leave out what others work on, in place of waiting for it", flag="no-strict")
    ] = True


class VerifyGroupDisksOperation(GroupOperation[VerifyGroupDisks, DiskFacts, Result]):
    """Asks every node of the group's instances once for all their disks; changes nothing.

    A node that hangs delays nobody but itself, and is told as an error.
    """

    keeps_state = True

    commands = (
        Command(
            tool="gnt-group",
            name="verify-disks",
            positional="group_name",
            arguments=Arguments.CUSTOM,
        ),
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """The group's instances, their nodes and its members, shared."""
        group = self.group(cluster)
        instances = instances_of_group(cluster, group.uuid)
        nodes = {node for instance in instances for node in cluster.nodes_of(instance)}
        nodes.update(member.uuid for member in cluster.members(group.uuid))
        groups = {group.uuid, *(cluster.nodes[node].group for node in nodes)}
        return LockPlan(
            requests={
                LockLevel.INSTANCE: self._wish(instance.name for instance in instances),
                LockLevel.NODEGROUP: shared(groups),
                LockLevel.NODE: self._wish(nodes),
            }
        )

    async def gather(self, ctx: Context) -> DiskFacts:
        """What the nodes say."""
        cluster = ctx.cluster
        held = {NodeId(node) for node in ctx.held.names(LockLevel.NODE)}
        asked = await ctx.in_thread(partial(disks_to_ask_for, cluster, self._instances(ctx), held))
        states: dict[NodeId, Mapping[DiskPlace, DiskState]] = {}
        silent: dict[NodeId, str] = {}
        calls = [
            (cluster.nodes[node], FindDisks(disks=tuple(disks.values()))) for node, disks in asked.items()
        ]
        for node, outcome in (await ctx.nodes.each_own(calls)).items():
            match outcome:
                case Answer(found):
                    states[node] = dict(zip(asked[node], found))
                case NodeFailed() as failed:
                    silent[node] = failed.reason
        return DiskFacts(states=states, silent=silent)

    async def run(self, ctx: Context, facts: DiskFacts) -> Result:
        """What has to be done."""
        judge = partial(judge_disks, ctx.cluster, self._instances(ctx), facts)
        return (await ctx.in_thread(judge)).as_result()

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """No hooks."""
        return {}

    def _instances(self, ctx: Context) -> Sequence[Instance]:
        held = ctx.held.names(LockLevel.INSTANCE)
        group = self.group(ctx.cluster).uuid
        return [one for one in instances_of_group(ctx.cluster, group) if one.name in held]

    def _wish(self, names: object) -> LockRequest:
        return LockRequest(
            names=frozenset(names),  # type: ignore[call-overload]
            mode=LockMode.SHARED,
            opportunistic=not self.op.is_strict,
        )

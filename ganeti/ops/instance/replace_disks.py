"""OP_INSTANCE_REPLACE_DISKS: new data on one end of the mirrored disks of an instance, or on a new node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from ganeti.errors import ErrorCode, GanetiError, OperationFailed, PrereqError
from ganeti.logic.disk_replacement import (
    Replacement,
    check_new_secondary,
    check_space,
    chosen_disks,
    faulty_disks,
)
from ganeti.logic.node_figures import free_space, storage_units
from ganeti.model.allocation import Relocate
from ganeti.model.calls.system import NodeInfo
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.instance import Instance
from ganeti.model.locks import LockLevel, LockPlan, LockRequest, exclusive, shared
from ganeti.ops.base import Arguments, Command, Context, HookNodes, Hooks, HookTarget, Param, Route
from ganeti.ops.instance.base import InstanceOpCode, InstanceOperation
from ganeti.ops.instance.common import hook_nodes, require_allocator, require_online, require_target
from ganeti.ops.instance.replace_steps import NewSecondary, SameNode
from ganeti.ops.instance.target import USE_DEFAULT, policy_problems
from ganeti.ops.kinds import NODE
from ganeti.ops.mirrors import mirror_states, require_mirrored
from ganeti.ops.steps import close_disks, open_disks

Mode = Literal["replace_auto", "replace_new_secondary", "replace_on_primary", "replace_on_secondary"]
DiskIndex = Annotated[int, msgspec.Meta(ge=0, le=15)]


class ReplaceDisks(InstanceOpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_REPLACE_DISKS"):
    """Make new data for one end of mirrored disks."""

    mode: Annotated[Mode, Param("what is replaced")]
    early_release: Annotated[
        bool, Param("give the old data up before the new one is in step", flag="early-release")
    ] = False
    ignore_ipolicy: Annotated[
        bool, Param("go on although it violates the policy there", flag="ignore-ipolicy")
    ] = False
    disks: Annotated[tuple[DiskIndex, ...], Param("indices of the disks; all if empty")] = ()
    remote_node: Annotated[str | None, Param("new secondary node", NODE, "new-secondary", "n")] = None
    remote_node_uuid: Annotated[str | None, Param("the same by UUID")] = None
    iallocator: Annotated[
        str | None, Param("allocator that chooses the new secondary node", flag="iallocator", short="I")
    ] = None
    between_groups: Annotated[
        bool, Param("a step of a move to another group: the new secondary node may be there")
    ] = False


class ReplaceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out before."""

    plan: Replacement | None
    """None: nothing has to be replaced."""
    free_mib: int | None = None
    """Where new data is made."""


class ReplaceDisksOperation(InstanceOperation[ReplaceDisks, ReplaceFacts, None]):
    """Creates the new data, lets it be filled from the other end, and removes the old one.

    After a failure or a crash in the middle the instance goes on with the end that was not touched; the
    same command, or `gnt-instance activate-disks`, goes on from there.
    """

    hooks = Hooks("mirrors-replace", HookTarget.INSTANCE)
    routes = (
        Route(
            method="POST",
            path="/2/instances/{instance_name}/replace-disks",
            query=("mode", "disks", "remote_node", "iallocator", "early_release"),
        ),
    )
    commands = (
        Command(
            tool="gnt-instance",
            name="replace-disks",
            positional="instance_name",
            arguments=Arguments.CUSTOM,
        ),
    )

    def __init__(self, op: ReplaceDisks) -> None:
        super().__init__(op)
        self._leaving: NodeId | None = None
        """The secondary before; hooks are told it afterwards, too."""
        self._new: NodeId | None = None

    def locks(self, cluster: Cluster) -> LockPlan:
        """The instance and its nodes; the new node, or those among which an allocator chooses."""
        instance = self.instance(cluster)
        nodes = set(cluster.nodes_of(instance))
        requests: dict[LockLevel, LockRequest] = {LockLevel.INSTANCE: exclusive([instance.name])}
        if self._given(cluster) is not None:
            nodes.add(self._given(cluster) or instance.primary_node)
        elif self._is_move:
            groups = {cluster.nodes[node].group for node in nodes}
            nodes.update(member.uuid for group in groups for member in cluster.members(group))
            requests[LockLevel.NODEGROUP] = shared(groups)
        return LockPlan(
            requests={**requests, LockLevel.NODE: exclusive(nodes), LockLevel.NODE_RES: exclusive(nodes)}
        )

    async def gather(self, ctx: Context) -> ReplaceFacts:
        """Which end gets new data, and the space there."""
        cluster = ctx.cluster
        instance = self.instance(cluster)
        self._check_arguments()
        secondary = require_mirrored(cluster, instance)
        self._leaving = secondary
        plan = await self._plan(ctx, instance, secondary)
        if plan is None:
            return ReplaceFacts(plan=None)
        self._new = plan.node if plan.is_new_node else None
        self._check_nodes(cluster, instance, plan)
        return ReplaceFacts(plan=plan, free_mib=await self._free(ctx, instance, plan.node))

    def check(self, cluster: Cluster, facts: ReplaceFacts) -> None:
        """Space, and the policy where it goes."""
        instance, plan = self.instance(cluster), facts.plan
        if plan is None:
            return
        check_space(cluster, instance, plan, facts.free_mib)
        problems = policy_problems(cluster, instance, plan.node) if plan.is_new_node else ()
        if problems and not self.op.ignore_ipolicy:
            raise PrereqError(
                f"{instance.name} violates the policy of the group of {cluster.nodes[plan.node].name}: "
                f"{'; '.join(problems)} (--ignore-ipolicy goes on all the same)",
                code=ErrorCode.STATE,
            )

    async def run(self, ctx: Context, facts: ReplaceFacts) -> None:
        """Replace; the disks of a stopped instance are open meanwhile."""
        instance, plan = self.instance(ctx.cluster), facts.plan
        if plan is None:
            ctx.feedback.info(f"No disks need replacement for instance {instance.name}")
            return
        self._release_others(ctx, instance, plan)
        if not instance.disks_active:
            await open_disks(ctx.config, ctx.nodes, ctx.feedback, instance.uuid, ignore_secondaries=True)
        steps = (NewSecondary if plan.is_new_node else SameNode)(
            ctx, instance.uuid, plan, early_release=self._releases_early(ctx.cluster, plan)
        )
        try:
            await steps.run()
        finally:
            if not instance.disks_active:
                await close_disks(ctx.config, ctx.nodes, ctx.feedback, instance.uuid)

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The instance, the mode, and both secondaries."""
        names = {
            "NEW_SECONDARY": "" if self._new is None else cluster.nodes[self._new].name,
            "OLD_SECONDARY": "" if self._leaving is None else cluster.nodes[self._leaving].name,
        }
        return {**names, "MODE": self.op.mode, **super().hook_env(cluster)}

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Master, primary, and a new secondary."""
        instance = self.instance(cluster)
        new = () if self._new is None else (self._new,)
        old = set(cluster.secondary_nodes(instance)) - set(new)
        found = hook_nodes(cluster, instance, *new)
        pre = tuple(node for node in found.pre if node not in old or node == cluster.settings.master_node)
        return HookNodes(pre=pre, post=pre)

    # --- what is asked for

    @property
    def _is_move(self) -> bool:
        return self.op.mode == "replace_new_secondary"

    def _given(self, cluster: Cluster) -> NodeId | None:
        wanted = self.op.remote_node_uuid or self.op.remote_node
        return None if wanted is None else cluster.node(wanted).uuid

    def _check_arguments(self) -> None:
        op = self.op
        has_node = (op.remote_node or op.remote_node_uuid) is not None
        if not self._is_move:
            if has_node or op.iallocator is not None:
                raise PrereqError("a new secondary node can only be given where the secondary is to be moved")
            if op.mode == "replace_auto" and op.disks:
                raise PrereqError("which disks are faulty is found out; do not name any")
            return
        if has_node is (op.iallocator is not None) and has_node:
            raise PrereqError("give either a new secondary node (-n) or an allocator (-I), not both")
        if op.disks:
            raise PrereqError("a new secondary node gets all disks; leave the list of disks away")

    async def _plan(self, ctx: Context, instance: Instance, secondary: NodeId) -> Replacement | None:
        cluster = ctx.cluster
        disks = chosen_disks(instance, self.op.disks)
        match self.op.mode:
            case "replace_on_primary":
                return Replacement(node=instance.primary_node, disks=disks)
            case "replace_on_secondary":
                return Replacement(node=secondary, disks=disks)
            case "replace_auto":
                return await self._find_faulty(ctx, instance, secondary)
        node = self._given(cluster)
        if node is None:
            node = await self._ask_allocator(ctx, instance, secondary)
        return Replacement(node=node, leaving=secondary, disks=disks)

    async def _find_faulty(self, ctx: Context, instance: Instance, secondary: NodeId) -> Replacement | None:
        if not instance.disks_active:
            raise PrereqError(
                f"the disks of {instance.name} are closed, so that faulty ones cannot be found; "
                f"'gnt-instance activate-disks {instance.name}' opens them",
                code=ErrorCode.STATE,
            )
        found = []
        for node in (instance.primary_node, secondary):
            require_online(ctx.cluster.nodes[node], f"looking for faulty disks of {instance.name}")
            try:
                found.append(await mirror_states(ctx, instance.uuid, node))
            except GanetiError as error:
                raise PrereqError(
                    f"node {ctx.cluster.nodes[node].name} does not tell the state of the disks of "
                    f"{instance.name}: {error}",
                    code=ErrorCode.ENVIRONMENT,
                ) from error
        return faulty_disks(instance, instance.primary_node, secondary, (found[0], found[1]))

    async def _ask_allocator(self, ctx: Context, instance: Instance, secondary: NodeId) -> NodeId:
        cluster = ctx.cluster
        wanted = None if self.op.iallocator == USE_DEFAULT else self.op.iallocator
        allocator = require_allocator(cluster, wanted)
        solution = await ctx.allocation.solve(
            allocator,
            Relocate(instance=instance.name, relocate_from=(secondary,)),
            cluster=cluster,
            candidates=[NodeId(node) for node in ctx.held.names(LockLevel.NODE)],
        )
        if not solution.placements or not solution.placements[0].nodes:
            raise OperationFailed(f"allocator {allocator} found no node for {instance.name}: {solution.info}")
        found = solution.placements[0].nodes
        node = next((one for one in found if one != instance.primary_node), found[0])
        ctx.feedback.info(
            f"Selected new secondary for instance '{instance.name}': {cluster.nodes[node].name}"
        )
        return node

    def _check_nodes(self, cluster: Cluster, instance: Instance, plan: Replacement) -> None:
        what = f"replacing the disks of {instance.name}"
        require_online(cluster.nodes[instance.primary_node], what)
        if not plan.is_new_node:
            for node in cluster.nodes_of(instance):
                require_online(cluster.nodes[node], what)
            return
        check_new_secondary(cluster, instance, plan.node, between_groups=self.op.between_groups)
        require_target(cluster, cluster.nodes[plan.node], f"mirror {instance.name}")

    async def _free(self, ctx: Context, instance: Instance, node: NodeId) -> int | None:
        cluster = ctx.cluster
        template = cluster.disk_template(instance)
        call = NodeInfo(storage_units=storage_units(cluster, (template,)), hypervisors=())
        try:
            return free_space(await ctx.nodes.call(cluster.nodes[node], call), template)
        except GanetiError as error:
            raise PrereqError(
                f"node {cluster.nodes[node].name} does not tell what it has free: {error}",
                code=ErrorCode.ENVIRONMENT,
            ) from error

    def _releases_early(self, cluster: Cluster, plan: Replacement) -> bool:
        is_gone = plan.leaving is not None and cluster.nodes[plan.leaving].offline
        return self.op.early_release or is_gone

    def _release_others(self, ctx: Context, instance: Instance, plan: Replacement) -> None:
        used = {*ctx.cluster.nodes_of(instance), plan.node}
        for level in (LockLevel.NODE, LockLevel.NODE_RES):
            ctx.held.release(level, ctx.held.names(level) - used)

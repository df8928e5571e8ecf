"""Where a new instance goes if no nodes are given: what is locked for the choice, and the choice itself."""

from __future__ import annotations

from collections.abc import Mapping

from ganeti.errors import ErrorCode, PrereqError
from ganeti.logic.node_figures import storage_units
from ganeti.logic.plausible import info_nonsense
from ganeti.model.allocation import Allocate
from ganeti.model.calls.outcome import Answer, NodeFailed
from ganeti.model.calls.system import NodeInfo, NodeInfoResult
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.locks import LockLevel, LockMode, LockRequest, all_of_level, shared
from ganeti.ops.base import Context
from ganeti.ops.instance.create_checks import CreateWish
from ganeti.ops.instance.target import USE_DEFAULT


def choice_locks(
    cluster: Cluster, groups: tuple[GroupId, ...], *, is_opportunistic: bool, mode: LockMode
) -> tuple[LockRequest, LockRequest]:
    """Locks of the nodes among which an allocator chooses, and of groups.

    Args:
        cluster: the configuration.
        groups: the choice is limited to these, so that all others stay free; none: it is not.
        is_opportunistic: nodes that others hold are left out of the choice.
        mode: of the nodes; groups are shared.
    """
    if not groups:
        return all_of_level(mode, opportunistic=is_opportunistic), all_of_level(LockMode.SHARED)
    members = frozenset(node.uuid for node in cluster.nodes.values() if node.group in groups)
    return LockRequest(names=members, mode=mode, opportunistic=is_opportunistic), shared(groups)


async def choose_nodes(
    ctx: Context,
    wish: CreateWish,
    groups: tuple[GroupId, ...],
    *,
    allocator: str | None,
    is_opportunistic: bool,
) -> tuple[NodeId, ...]:
    """The nodes of a new instance, of those whose locks are held; primary first.

    Raises:
        PrereqError: insufficient_resources: nothing fits; temp_insufficient_resources: nothing fits
            while others hold some of the nodes.
    """
    cluster = ctx.cluster
    name = cluster.settings.default_iallocator if allocator in (None, USE_DEFAULT) else allocator
    if not name:
        raise PrereqError("give a node (-n) or an allocator (-I): the cluster has no default allocator")
    held = [NodeId(node) for node in ctx.held.names(LockLevel.NODE)]
    try:
        solution = await ctx.allocation.solve(
            name, Allocate(instance=wish.request(groups)), cluster=cluster, candidates=held
        )
    except PrereqError as error:
        everywhere = {node.uuid for node in cluster.nodes.values() if not groups or node.group in groups}
        if not is_opportunistic or error.code is not ErrorCode.NO_RESOURCES or everywhere <= set(held):
            raise
        raise PrereqError(str(error), code=ErrorCode.NO_RESOURCES_NOW) from error
    nodes = solution.placements[0].nodes
    names = ", ".join(cluster.nodes[node].name for node in nodes)
    ctx.feedback.info(f"Selected nodes for instance {wish.name} via iallocator {name}: {names}")
    return nodes


async def room_of(
    ctx: Context, wish: CreateWish, nodes: tuple[NodeId, ...]
) -> Mapping[NodeId, NodeInfoResult]:
    """What each node has free, as it says now.

    Raises:
        PrereqError: a node does not tell, or what cannot be true.
    """
    cluster = ctx.cluster
    call = NodeInfo(storage_units=storage_units(cluster, (wish.template,)), hypervisors=(wish.hypervisor,))
    found: dict[NodeId, NodeInfoResult] = {}
    for uuid, outcome in (await ctx.nodes.each([cluster.nodes[node] for node in nodes], call)).items():
        match outcome:
            case Answer(value):
                nonsense = ", ".join(info_nonsense(value))
                if nonsense:
                    raise PrereqError(
                        f"what node {cluster.nodes[uuid].name} reports cannot be true: {nonsense};"
                        " choose another node until it is mended (gnt-cluster verify)",
                        code=ErrorCode.ENVIRONMENT,
                    )
                found[uuid] = value
            case NodeFailed() as failed:
                raise PrereqError(
                    f"node {cluster.nodes[uuid].name} does not tell what it has free: {failed.reason}",
                    code=ErrorCode.ENVIRONMENT,
                )
    return found

"""Steps with disks that are mirrored between two nodes: their state, waiting for copies, who may write."""

from __future__ import annotations

from collections.abc import Sequence

from ganeti.errors import ErrorCode, GanetiError, OperationFailed, PrereqError
from ganeti.model.calls.disks import (
    DiskAssemble,
    LocalData,
    MirrorConnect,
    MirrorDisconnect,
    MirrorStatus,
    SyncStatus,
)
from ganeti.model.cluster import Cluster
from ganeti.model.disk import TRAITS, Disk, Mirroring
from ganeti.model.filled import fill_disk
from ganeti.model.ids import InstanceId, NodeId
from ganeti.model.instance import Instance
from ganeti.ops.base import Context
from ganeti.ops.steps import attempt

LONGEST_POLL_S = 60.0
RETRY_S = 1.0
DEGRADED_AT_MOST = 10
"""So often a disk may be degraded without being copied, before that counts as a failure."""
SILENT_AT_MOST = 10
SILENT_RETRY_S = 6.0


def is_mirrored(cluster: Cluster, instance: Instance) -> bool:
    """Whether the disks of an instance are copied between two nodes."""
    return any(copies_itself(disk) for disk in cluster.disks_of(instance))


def copies_itself(disk: Disk) -> bool:
    """Whether a disk is copied between two nodes."""
    traits = TRAITS.get(disk.dev_type)
    return traits is not None and traits.mirroring is Mirroring.INTERNAL


async def mirror_states(
    ctx: Context, uuid: InstanceId, node: NodeId, *, only: Sequence[int] | None = None
) -> tuple[SyncStatus | None, ...]:
    """State of one end of the disks of an instance, of all or some of them; None for what is closed.

    Raises:
        GanetiError: the node does not tell.
    """
    cluster = ctx.cluster
    disks = [
        fill_disk(cluster, disk, node)
        for index, disk in enumerate(cluster.disks_of(cluster.instances[uuid]))
        if only is None or index in only
    ]
    return await ctx.nodes.call(cluster.nodes[node], MirrorStatus(disks=tuple(disks)))


async def require_in_step(ctx: Context, uuid: InstanceId, node: NodeId) -> None:
    """Refuse to rely on an end whose data is not the newest.

    Raises:
        OperationFailed: names the disk, and what to do.
    """
    cluster = ctx.cluster
    instance, name = cluster.instances[uuid], cluster.nodes[node].name
    states = await attempt(
        mirror_states(ctx, uuid, node), f"cannot find out the state of the disks of {instance.name} on {name}"
    )
    for index, state in enumerate(states):
        if state is None or state.ldisk_status is not LocalData.OKAY or state.is_degraded:
            raise OperationFailed(
                f"disk {index} of {instance.name} is {_described(state)} on {name}; "
                f"'gnt-instance activate-disks --wait-for-sync {instance.name}' waits until it is in step"
            )


async def wait_for_sync(ctx: Context, uuid: InstanceId, *, only_look: bool = False) -> None:
    """Wait until both ends of all disks have the newest data; asked is the primary node.

    Args:
        ctx: of the operation.
        uuid: an instance whose disks are open.
        only_look: it is enough that nothing is wrong: what lacks data is being copied.

    Raises:
        OperationFailed: a disk is degraded and not copied, or the node does not answer any more.
    """
    instance = ctx.cluster.instances[uuid]
    if not is_mirrored(ctx.cluster, instance):
        return
    primary = ctx.cluster.nodes[instance.primary_node]
    degraded = silent = 0
    while True:
        try:
            states = await mirror_states(ctx, uuid, primary.uuid)
            silent = 0
        except GanetiError as error:
            silent += 1
            if silent >= SILENT_AT_MOST:
                raise OperationFailed(
                    f"{primary.name} does not tell how far the disks of {instance.name} are: {error}"
                ) from error
            await ctx.sleep(SILENT_RETRY_S)
            continue
        copying = [state for state in states if state is not None and state.sync_percent is not None]
        if not any(state is None or state.is_degraded for state in states) or (only_look and copying):
            return
        if copying:
            degraded = 0
            await _report(ctx, states)
            continue
        degraded += 1
        if degraded >= DEGRADED_AT_MOST:
            index = next(index for index, state in enumerate(states) if state is None or state.is_degraded)
            raise OperationFailed(
                f"disk {index} of {instance.name} is {_described(states[index])} and is not being copied; "
                f"'gnt-instance activate-disks {instance.name}' connects it, "
                f"'gnt-instance replace-disks {instance.name}' makes a new copy"
            )
        await ctx.sleep(RETRY_S)


async def _report(ctx: Context, states: Sequence[SyncStatus | None]) -> None:
    longest = RETRY_S
    for index, state in enumerate(states):
        if state is None or state.sync_percent is None:
            continue
        rest = state.estimated_time
        longest = max(longest, rest or 0.0)
        time = "" if rest is None else f", {rest:.0f} s remaining"
        ctx.feedback.info(f"- device disk/{index}: {state.sync_percent:5.2f} % done{time}")
    await ctx.sleep(min(LONGEST_POLL_S, longest))


async def connect_mirrors(ctx: Context, uuid: InstanceId, *, two_primaries: bool) -> None:
    """Connect both ends of all disks anew, so that one or (in a migration) both may be primary.

    Raises:
        OperationFailed: an end cannot be connected.
    """
    cluster = ctx.cluster
    instance = cluster.instances[uuid]
    ends = (*cluster.secondary_nodes(instance), instance.primary_node)
    for node in ends:
        await attempt(
            ctx.nodes.call(cluster.nodes[node], MirrorDisconnect(disks=_filled(cluster, instance, node))),
            f"cannot disconnect the disks of {instance.name} on {cluster.nodes[node].name}",
        )
    for node in ends:
        await attempt(
            ctx.nodes.call(
                cluster.nodes[node],
                MirrorConnect(disks=_filled(cluster, instance, node), multimaster=two_primaries),
            ),
            f"cannot connect the disks of {instance.name} on {cluster.nodes[node].name}",
        )
    await wait_for_sync(ctx, uuid)


async def step_back(ctx: Context, uuid: InstanceId) -> None:
    """Let only the primary node write again, after a migration or an attempt at one.

    Raises:
        OperationFailed: an end does not step back.
    """
    cluster = ctx.cluster
    instance = cluster.instances[uuid]
    for index, disk in enumerate(cluster.disks_of(instance)):
        for node in cluster.secondary_nodes(instance):
            call = DiskAssemble(
                disk=fill_disk(cluster, disk, node), instance=instance.name, on_primary=False, index=index
            )
            await attempt(
                ctx.nodes.call(cluster.nodes[node], call),
                f"disk {index} of {instance.name} does not become secondary on {cluster.nodes[node].name}",
            )
    await connect_mirrors(ctx, uuid, two_primaries=False)


def require_mirrored(cluster: Cluster, instance: Instance) -> NodeId:
    """The one secondary node of a mirrored instance.

    Raises:
        PrereqError: its disks are not mirrored, or not between exactly two nodes.
    """
    template = cluster.disk_template(instance)
    if not cluster.disks_of(instance) or not all(map(copies_itself, cluster.disks_of(instance))):
        raise PrereqError(
            f"instance {instance.name} has disks of template {template}; only mirrored ones (drbd) can be "
            "replaced",
            code=ErrorCode.STATE,
        )
    secondaries = tuple(cluster.secondary_nodes(instance))
    if len(secondaries) != 1:
        raise PrereqError(
            f"instance {instance.name} has {len(secondaries)} secondary nodes instead of one",
            code=ErrorCode.STATE,
        )
    return secondaries[0]


def _filled(cluster: Cluster, instance: Instance, node: NodeId) -> tuple[Disk, ...]:
    return tuple(fill_disk(cluster, disk, node) for disk in cluster.disks_of(instance))


def _described(state: SyncStatus | None) -> str:
    if state is None:
        return "not open"
    if not state.is_connected:
        return "not connected to its other end"
    if state.ldisk_status is LocalData.FAULTY:
        return "without data of its own"
    return "degraded"

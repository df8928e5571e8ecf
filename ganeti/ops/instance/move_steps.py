"""The steps of a move: until the configuration changes the instance stays, whole, where it was.

The data gets an identity of its own on the target, made from disk and node: whoever repeats a move that
was broken off finds what was left behind there, and never takes the source's data for that, even where
two nodes keep their files in the same directory.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from ganeti.errors import GanetiError, OperationFailed
from ganeti.interfaces import ICopyable
from ganeti.logic.instance_changes import set_place
from ganeti.model.calls.disks import DiskCreate, DiskRemove, DiskShutdown
from ganeti.model.calls.transfers import Copied, DiskReceive, DiskSend, TransferEndpoint
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk
from ganeti.model.filled import fill_disk, fill_instance
from ganeti.model.ids import InstanceId, NodeId
from ganeti.model.instance import AdminState, Instance
from ganeti.model.node import Node
from ganeti.ops.base import Context
from ganeti.ops.instance.shutdown import stop_on_primary
from ganeti.ops.instance.startup import start_on_primary
from ganeti.ops.steps import attempt, close_disks, open_disks

_MIB = 1024 * 1024


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """What is to move, and how."""

    instance: InstanceId
    target: NodeId
    shutdown_timeout_s: int
    compress: str
    ignore_consistency: bool = False


async def move_instance(ctx: Context, move: Move) -> None:
    """Bring an instance with its disks to another node.

    Raises:
        OperationFailed: it stays at the source, and runs there again if it is to run; or it is at the
            target, but does not start.
    """
    cluster = ctx.cluster
    instance = cluster.instances[move.instance]
    source, target = cluster.nodes[instance.primary_node], cluster.nodes[move.target]
    old = cluster.disks_of(instance)
    new = tuple(_at(ctx, disk, target) for disk in old)
    try:
        await _stop(ctx, instance, move)
        await _fill_target(ctx, instance, source, target, old, new, move.compress)
        await ctx.config.update(
            partial(set_place, uuid=instance.uuid, node=target.uuid, disks=new),
            reason=f"{instance.name} was copied to {target.name}",
        )
    except GanetiError as error:
        await _take_back(ctx, instance, target, new)
        raise OperationFailed(
            f"{instance.name} was not moved and stays on {source.name}: {error}", detail=error.detail
        ) from error
    try:
        await _start(ctx, instance, target)
    finally:
        await _remove_old(ctx, instance, source, old)


def _at(ctx: Context, disk: Disk, target: Node) -> Disk:
    plugin: Any = ctx.plugins.storage[disk.dev_type]
    copyable: ICopyable = plugin
    name = uuids.uuid5(uuids.NAMESPACE_OID, f"{disk.uuid} on {target.uuid}")
    moved: Disk = copyable.elsewhere(disk, target.uuid, str(name))
    return moved


async def _stop(ctx: Context, instance: Instance, move: Move) -> None:
    ctx.feedback.info(f"* shutting down {instance.name}")
    try:
        await stop_on_primary(ctx, instance.uuid, timeout_s=move.shutdown_timeout_s)
    except OperationFailed as error:
        if not move.ignore_consistency:
            raise
        ctx.feedback.warning(f"{error}; going on, please make sure that nothing writes to its disks")
    await close_disks(ctx.config, ctx.nodes, ctx.feedback, instance.uuid)


async def _fill_target(
    ctx: Context,
    instance: Instance,
    source: Node,
    target: Node,
    old: Sequence[Disk],
    new: Sequence[Disk],
    compress: str,
) -> None:
    """Create all disks on the target, in place of what a move that broke off left there, and copy them."""
    cluster = ctx.cluster
    ctx.feedback.info(f"* creating its disks on {target.name}")
    for disk in new:
        filled = fill_disk(cluster, disk, target.uuid)
        what = f"cannot create {disk.iv_name} on {target.name}"
        await attempt(ctx.nodes.call(target, DiskRemove(disk=filled)), what)
        await attempt(ctx.nodes.call(target, DiskCreate(disk=filled, owner=instance.name)), what)
    for before, after in zip(old, new, strict=True):
        ctx.feedback.info(f"* copying {before.iv_name} ({before.size} MiB) to {target.name}")
        began = ctx.clock.seconds()
        what = f"cannot copy {before.iv_name} of {instance.name} from {source.name} to {target.name}"
        copied = await attempt(_copy(ctx, source, target, before, after, compress), what)
        ctx.feedback.info(
            f"  {copied.carried // _MIB} MiB of data in {ctx.clock.seconds() - began:.0f} s, "
            "compared at both ends"
        )


async def _copy(ctx: Context, source: Node, target: Node, before: Disk, after: Disk, compress: str) -> Copied:
    """Copy a disk; no byte of it passes the master.

    Raises:
        GanetiError: the copy is not complete, or not the same.
    """
    cluster, transfer = ctx.cluster, ctx.new_uuid()
    token = f"{ctx.rng.getrandbits(256):064x}"
    receiving = DiskReceive(
        transfer=transfer,
        token=token,
        disk=fill_disk(cluster, after, target.uuid),
        source=source.uuid,
        address=target.secondary_ip or target.primary_ip,
    )
    async with ctx.nodes.meanwhile(target, receiving) as received:
        endpoint = await ctx.nodes.call(target, TransferEndpoint(transfer=transfer))
        sending = DiskSend(
            token=token,
            disk=fill_disk(cluster, before, source.uuid),
            target=target.uuid,
            endpoint=endpoint,
            compress=compress,
        )
        sent = await ctx.nodes.call(source, sending)
        arrived = await received
    if not arrived.matches(sent):
        raise OperationFailed(
            f"{source.name} sent {sent.size} bytes ({sent.digest}), {target.name} got {arrived.size} bytes "
            f"({arrived.digest})"
        )
    return arrived


async def _take_back(ctx: Context, instance: Instance, target: Node, new: Sequence[Disk]) -> None:
    """Remove what is on the target, and let the instance go on where it is; failures are reported."""
    cluster = ctx.cluster
    for disk in new:
        try:
            await ctx.nodes.call(target, DiskRemove(disk=fill_disk(cluster, disk, target.uuid)))
        except GanetiError as error:
            ctx.feedback.warning(
                f"cannot remove the incomplete {disk.iv_name} of {instance.name} on {target.name}: {error}",
                hint="repeat the move, which removes it first, or remove it by hand: " + _identity(disk),
            )
    try:
        if instance.admin_state is AdminState.UP:
            await start_on_primary(ctx, _filled(cluster, instance.uuid))
        elif instance.disks_active:
            await open_disks(ctx.config, ctx.nodes, ctx.feedback, instance.uuid)
    except GanetiError as error:
        ctx.feedback.warning(
            f"{instance.name} does not go on at once: {error}",
            hint=f"'gnt-instance startup {instance.name}', unless the watcher is faster",
        )


async def _start(ctx: Context, instance: Instance, target: Node) -> None:
    if instance.admin_state is not AdminState.UP:
        ctx.feedback.info(f"* {instance.name} is not to run: it stays stopped on {target.name}")
        return
    ctx.feedback.info(f"* starting {instance.name} on {target.name}")
    try:
        await start_on_primary(ctx, _filled(ctx.cluster, instance.uuid))
    except GanetiError as error:
        raise OperationFailed(
            f"{instance.name} is on {target.name} now, but does not start: {error}", detail=error.detail
        ) from error


async def _remove_old(ctx: Context, instance: Instance, source: Node, old: Sequence[Disk]) -> None:
    """Remove the data at the source, which nothing knows any more; failures are reported."""
    ctx.feedback.info(f"* removing its disks on {source.name}")
    cluster = ctx.cluster
    for index, disk in enumerate(old):
        filled = fill_disk(cluster, disk, source.uuid)
        try:
            await ctx.nodes.call(source, DiskShutdown(disk=filled, instance=instance.name, index=index))
            await ctx.nodes.call(source, DiskRemove(disk=filled))
        except GanetiError as error:
            ctx.feedback.warning(
                f"cannot remove the old {disk.iv_name} of {instance.name} on {source.name}: {error}",
                hint="it is not used any more; remove it by hand: " + _identity(disk),
            )


def _filled(cluster: Cluster, uuid: InstanceId) -> Any:
    return fill_instance(cluster, cluster.instances[uuid])


def _identity(disk: Disk) -> str:
    return " ".join(map(str, disk.logical_id))

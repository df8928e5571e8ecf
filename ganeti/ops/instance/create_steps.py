"""The steps that bring a new instance into being; each can be undone."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from ganeti.errors import ErrorCode, GanetiError, OperationFailed, PrereqError
from ganeti.logic.instance_changes import drop_instance, put_instance
from ganeti.logic.reservations import free_minor, free_port, is_mac_used, new_mac
from ganeti.model.calls.disks import DiskCreate, DiskWipe
from ganeti.model.calls.os import InstanceOsAdd
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk
from ganeti.model.filled import fill_disk, fill_instance
from ganeti.model.ids import InstanceId, NodeId
from ganeti.model.instance import Instance, Nic
from ganeti.model.params import ParamValue
from ganeti.model.spec import Reservations
from ganeti.ops.base import Context
from ganeti.ops.instance.create_checks import CreateWish
from ganeti.ops.instance.device_specs import built_nic
from ganeti.ops.instance.remove import remove_disks
from ganeti.ops.mirrors import is_mirrored, wait_for_sync
from ganeti.ops.steps import attempt, close_disks, open_disks

VNC_USERS = ("kvm", "xen-hvm")
"""Hypervisors whose instances get a port for their screen."""


class Birth(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of an instance before its entry is made."""

    uuid: InstanceId
    wish: CreateWish
    nodes: tuple[NodeId, ...]
    """Primary first."""
    osparams: dict[str, ParamValue]
    osparams_private: dict[str, ParamValue]


async def reserve(ctx: Context, birth: Birth) -> Instance:
    """Make the entry in the configuration: identities, addresses and ports become its own.

    The entry is marked as forthcoming, so that after a crash everybody sees that its disks may be
    missing; `gnt-instance remove` clears it away.

    Raises:
        PrereqError: somebody was faster: name, MAC or IP address is taken.
    """
    cluster = await ctx.config.update(
        partial(_with_entry, ctx=ctx, birth=birth), reason=f"{birth.wish.name} is created"
    )
    return cluster.instances[birth.uuid]


def _with_entry(cluster: Cluster, *, ctx: Context, birth: Birth) -> Cluster:
    wish = birth.wish
    if cluster.instances.by_key(wish.name) is not None:
        raise PrereqError(f"instance {wish.name} exists already", code=ErrorCode.EXISTS)
    state = _Reserving(cluster, ctx)
    port = state.new_port() if wish.hypervisor in VNC_USERS else None
    disks = _laid_out(ctx, state, birth)
    instance = Instance(
        uuid=birth.uuid,
        name=wish.name,
        primary_node=birth.nodes[0],
        os=wish.os,
        hypervisor=wish.hypervisor,
        hvparams=wish.own_hvparams,
        beparams=wish.own_beparams,
        osparams=birth.osparams,
        osparams_private=birth.osparams_private,
        nics=tuple(state.nic(ctx, spec_index, birth) for spec_index in range(len(wish.nics))),
        disks=tuple(disk.uuid for disk in disks),
        network_port=port,
        forthcoming=True,
        tags=wish.tags,
    )
    return put_instance(state.cluster, instance, disks)


class _Reserving:
    """The cluster while names are taken from it one after the other."""

    def __init__(self, cluster: Cluster, ctx: Context) -> None:
        self.cluster = cluster
        self._rng = ctx.rng
        self._macs: set[str] = set()
        self._minors: set[tuple[NodeId, int]] = set()

    def new_port(self) -> int:
        self.cluster, port = free_port(self.cluster)
        return port

    def new_minor(self, node: str) -> int:
        taken = {minor for owner, minor in self._minors if owner == node}
        minor = free_minor(self.cluster, NodeId(node), taken=taken)
        self._minors.add((NodeId(node), minor))
        return minor

    def nic(self, ctx: Context, index: int, birth: Birth) -> Nic:
        spec = birth.wish.nics[index]
        if spec.mac in (None, "auto", "generate"):
            mac = new_mac(self.cluster, self._rng, taken=self._macs)
        else:
            mac = str(spec.mac).lower()
            if mac in self._macs or is_mac_used(self.cluster, mac):
                raise PrereqError(f"MAC address {mac} is used by another instance", code=ErrorCode.NOT_UNIQUE)
        self._macs.add(mac)
        ip = None if spec.ip in (None, "none") else spec.ip
        return built_nic(self.cluster, spec, uuid=ctx.new_uuid(), mac=mac, ip=ip)


def _laid_out(ctx: Context, state: _Reserving, birth: Birth) -> tuple[Disk, ...]:
    settings = state.cluster.settings
    backend: Any = ctx.plugins.storage[birth.wish.template]
    reservations = Reservations(
        instance_uuid=birth.uuid,
        instance_name=birth.wish.name,
        new_uuid=ctx.new_uuid,
        new_port=state.new_port,
        new_secret=lambda: f"{ctx.rng.getrandbits(160):040x}",
        new_minor=state.new_minor,
        storage_dirs={
            "file": settings.file_storage_dir,
            "sharedfile": settings.shared_file_storage_dir,
            "gluster": settings.gluster_storage_dir,
        },
        vg_name=settings.volume_group_name,
    )
    nodes = [state.cluster.nodes[node] for node in birth.nodes]
    return tuple(
        replace(backend.layout(spec, nodes, reservations), iv_name=f"disk/{spec.index}")
        for spec in birth.wish.disks
    )


async def create_disks(ctx: Context, uuid: InstanceId) -> None:
    """Create the data of all disks on all their nodes, secondaries first.

    Raises:
        OperationFailed: what had been created is removed again.
    """
    cluster = ctx.cluster
    instance = cluster.instances[uuid]
    ctx.feedback.info("* creating instance disks...")
    try:
        for disk in cluster.disks_of(instance):
            await _create_disk(ctx, cluster, instance, disk)
        if cluster.settings.prealloc_wipe_disks:
            await _wipe(ctx, uuid)
    except GanetiError as error:
        await remove_disks(ctx, uuid)
        raise OperationFailed(f"cannot create the disks of {instance.name}: {error}") from error


async def sync_disks(ctx: Context, uuid: InstanceId, *, wait: bool) -> None:
    """Wait until mirrored disks are in step, or only make sure that they are on the way to it.

    Raises:
        OperationFailed: they are not; all disks are removed again.
    """
    if not is_mirrored(ctx.cluster, ctx.cluster.instances[uuid]):
        return
    ctx.feedback.info("* checking mirrors status")
    try:
        await open_disks(ctx.config, ctx.nodes, ctx.feedback, uuid)
        await wait_for_sync(ctx, uuid, only_look=not wait)
    except GanetiError as error:
        await remove_disks(ctx, uuid)
        name = ctx.cluster.instances[uuid].name
        raise OperationFailed(f"there are degraded disks for instance {name}: {error}") from error
    await close_disks(ctx.config, ctx.nodes, ctx.feedback, uuid)


async def _create_disk(ctx: Context, cluster: Cluster, instance: Instance, disk: Disk) -> None:
    nodes = [node for node in disk.nodes if node != instance.primary_node]
    for node in (*nodes, instance.primary_node):
        call = DiskCreate(
            disk=fill_disk(cluster, disk, node),
            owner=instance.name,
            on_primary=node == instance.primary_node,
        )
        await attempt(
            ctx.nodes.call(cluster.nodes[node], call),
            f"{disk.iv_name} on node {cluster.nodes[node].name}",
        )


async def _wipe(ctx: Context, uuid: InstanceId) -> None:
    ctx.feedback.info("* wiping instance disks...")
    await open_disks(ctx.config, ctx.nodes, ctx.feedback, uuid)
    cluster = ctx.cluster
    instance = cluster.instances[uuid]
    for disk in cluster.disks_of(instance):
        call = DiskWipe(disk=fill_disk(cluster, disk, instance.primary_node), offset=0, size=disk.size)
        await attempt(
            ctx.nodes.call(cluster.nodes[instance.primary_node], call), f"cannot wipe {disk.iv_name}"
        )
    await close_disks(ctx.config, ctx.nodes, ctx.feedback, uuid)


async def make_real(ctx: Context, uuid: InstanceId) -> Instance:
    """Record that the disks exist: the instance is no mere reservation any more."""

    def real(cluster: Cluster) -> Cluster:
        return put_instance(cluster, replace(cluster.instances[uuid], forthcoming=False))

    return (await ctx.config.update(real, reason="the disks exist")).instances[uuid]


async def install_os(
    ctx: Context, uuid: InstanceId, *, secret: dict[str, ParamValue], debug_level: int
) -> None:
    """Run the OS's create script on the open disks, and close them again.

    Raises:
        OperationFailed: with the last lines that the script printed.
    """
    cluster = ctx.cluster
    instance = cluster.instances[uuid]
    primary = cluster.nodes[instance.primary_node]
    ctx.feedback.info("* running the instance OS create scripts...")
    await open_disks(ctx.config, ctx.nodes, ctx.feedback, uuid)
    filled = fill_instance(ctx.cluster, ctx.cluster.instances[uuid])
    filled = replace(filled, osparams_private={**filled.osparams_private, **secret})
    try:
        await attempt(
            ctx.nodes.call(primary, InstanceOsAdd(instance=filled, debug_level=debug_level)),
            f"could not add OS {instance.os} for instance {instance.name} on node {primary.name}",
        )
    finally:
        await close_disks(ctx.config, ctx.nodes, ctx.feedback, uuid)


async def forget(ctx: Context, uuid: InstanceId) -> None:
    """Take a reservation back."""
    if uuid in ctx.cluster.instances:
        await ctx.config.update(partial(drop_instance, uuid=uuid), reason="the creation failed")

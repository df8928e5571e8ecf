"""Node functions that find disks, and act on one end of mirrored ones (rpc.md 2.2)."""

from __future__ import annotations

from typing import Any

from ganeti.errors import BlockDeviceError, GanetiError
from ganeti.interfaces import IOpenState, IRenamable, ISyncing
from ganeti.model.calls.disks import (
    DiskRename,
    DiskState,
    FindDisks,
    MirrorAttach,
    MirrorConnect,
    MirrorDetach,
    MirrorDisconnect,
    MirrorStatus,
    SyncStatus,
)
from ganeti.model.disk import Disk
from ganeti.node.backend.plugin_choice import storage_named
from ganeti.node.backend.registry import NodeWorld, node_function
from ganeti.storage.tree import closing_order, opening_order


@node_function(FindDisks)
def blockdev_find(call: FindDisks, node: NodeWorld) -> tuple[DiskState, ...]:
    """What of each disk is missing, and whether it is open; one that cannot be looked at is missing."""
    return tuple(_found(node, disk) for disk in call.disks)


@node_function(MirrorStatus)
def blockdev_getmirrorstatus(call: MirrorStatus, node: NodeWorld) -> tuple[SyncStatus | None, ...]:
    """State of this end of each disk."""
    return tuple(_syncing(node, disk).sync_status(node.host, disk) for disk in call.disks)


@node_function(MirrorConnect)
def drbd_attach_net(call: MirrorConnect, node: NodeWorld) -> None:
    """Open what each disk stands on, then this end, and let it look for the other one."""
    for disk in call.disks:
        for part in opening_order(disk):
            if part is not disk:
                storage_named(node, part.dev_type).open(node.host, part, on_primary=False)
        _syncing(node, disk).connect(node.host, disk, two_primaries=call.multimaster)


@node_function(MirrorDisconnect)
def drbd_disconnect_net(call: MirrorDisconnect, node: NodeWorld) -> None:
    """Let this end of each disk stand alone."""
    for disk in call.disks:
        _syncing(node, disk).disconnect(node.host, disk)


@node_function(MirrorDetach)
def blockdev_removechildren(call: MirrorDetach, node: NodeWorld) -> None:
    """Let a disk go on with the data of its other end, and close what it stood on."""
    _syncing(node, call.disk).detach(node.host, call.disk)
    for part in closing_order(call.disk):
        if part is not call.disk:
            storage_named(node, part.dev_type).close(node.host, part)


@node_function(MirrorAttach)
def blockdev_addchildren(call: MirrorAttach, node: NodeWorld) -> None:
    """Let a disk stand on what is there under the names of its parts."""
    for part in opening_order(call.disk):
        if part is not call.disk:
            storage_named(node, part.dev_type).open(node.host, part, on_primary=False)
    _syncing(node, call.disk).attach(node.host, call.disk)


@node_function(DiskRename)
def blockdev_rename(call: DiskRename, node: NodeWorld) -> None:
    """Give data another identity."""
    plugin: Any = storage_named(node, call.disk.dev_type)
    if not IRenamable.providedBy(plugin):
        raise BlockDeviceError(f"disks of template {call.disk.dev_type} cannot be renamed")
    plugin.rename(node.host, call.disk, call.new)


def _found(node: NodeWorld, disk: Disk) -> DiskState:
    try:
        plugin: Any = storage_named(node, disk.dev_type)
        missing = tuple(
            disk_name(part)
            for part in disk.walk()
            if storage_named(node, part.dev_type).size_bytes(node.host, part) is None
        )
        if ISyncing.providedBy(plugin):
            status: SyncStatus | None = plugin.sync_status(node.host, disk)
            is_connected = status is not None and status.is_connected
            return DiskState(missing=missing, is_open=status is not None, is_connected=is_connected)
        is_open = not IOpenState.providedBy(plugin) or plugin.is_open(node.host, disk)
    except GanetiError:
        return DiskState(missing=(disk_name(disk),))
    return DiskState(missing=missing, is_open=is_open and not missing)


def disk_name(disk: Disk) -> str:
    """What an operator calls a part of a disk: `xenvg/web1.disk0_data`, a path, or its own name."""
    match disk.logical_id:
        case (str(first), str(second)):
            return second if second.startswith("/") else f"{first}/{second}"
    return disk.iv_name or str(disk.uuid)


def _syncing(node: NodeWorld, disk: Disk) -> Any:
    plugin = storage_named(node, disk.dev_type)
    if not ISyncing.providedBy(plugin):
        raise BlockDeviceError(f"disks of template {disk.dev_type} are not mirrored")
    return plugin

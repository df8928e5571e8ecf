"""Node functions that create, open, change and remove disks, and tell of storage (rpc.md 2.2, 2.3)."""

from __future__ import annotations

import contextlib

from ganeti.errors import BlockDeviceError, GanetiError
from ganeti.model.calls.disks import (
    DiskAssemble,
    DiskCreate,
    DiskGrow,
    DiskRemove,
    DiskShutdown,
    DiskSizes,
    DiskWipe,
    OpenDisk,
    StorageDirCreate,
    StorageDirRemove,
    StorageReport,
    StorageSpace,
)
from ganeti.model.disk import Disk
from ganeti.node.backend.instance_disks import drop_link, open_disk
from ganeti.node.backend.plugin_choice import storage_named, storage_of_type
from ganeti.node.backend.registry import NodeWorld, node_function
from ganeti.storage import directories
from ganeti.storage.tree import closing_order, creation_order, removal_order
from ganeti.storage.wipe import overwrite_with_zeros


@node_function(DiskCreate)
def blockdev_create(call: DiskCreate, node: NodeWorld) -> None:
    """Create a disk and what it stands on; after a failure nothing of it is left."""
    with contextlib.ExitStack() as undo:
        for part in creation_order(call.disk):
            storage_named(node, part.dev_type).create(node.host, part, on_primary=call.on_primary)
            undo.callback(_remove_quietly, node, part)
        undo.pop_all()


@node_function(DiskRemove)
def blockdev_remove(call: DiskRemove, node: NodeWorld) -> None:
    """Remove a disk and what it stands on; one part that fails does not keep the others."""
    problems = []
    for part in removal_order(call.disk):
        try:
            storage_named(node, part.dev_type).remove(node.host, part)
        except GanetiError as error:
            problems.append(str(error))
    if problems:
        raise BlockDeviceError("; ".join(problems))


@node_function(DiskAssemble)
def blockdev_assemble(call: DiskAssemble, node: NodeWorld) -> OpenDisk:
    """Open a disk; on the primary under its stable name."""
    return open_disk(node, call.disk, call.instance, call.index, on_primary=call.on_primary)


@node_function(DiskShutdown)
def blockdev_shutdown(call: DiskShutdown, node: NodeWorld) -> None:
    """Close a disk and what it stands on, and drop its stable name."""
    if call.instance:
        drop_link(node.host, call.instance, call.index)
    for part in closing_order(call.disk):
        storage_named(node, part.dev_type).close(node.host, part)


@node_function(DiskSizes)
def blockdev_getdimensions(call: DiskSizes, node: NodeWorld) -> tuple[int | None, ...]:
    """Sizes in bytes; None also where looking fails, so that one disk does not hide the others."""
    return tuple(_size_bytes(node, disk) for disk in call.disks)


@node_function(DiskGrow)
def blockdev_grow(call: DiskGrow, node: NodeWorld) -> None:
    """Enlarge what a disk stands on, then the disk; nothing is touched before all agreed."""
    for dry_run in (True,) if call.dryrun else (True, False):
        for part in creation_order(call.disk):
            plugin = storage_named(node, part.dev_type)
            if not plugin.traits.is_growable:
                raise BlockDeviceError(f"disks of template {part.dev_type} cannot grow")
            plugin.grow(node.host, part, by_mib=call.amount, dry_run=dry_run)


@node_function(DiskWipe)
def blockdev_wipe(call: DiskWipe, node: NodeWorld) -> None:
    """Overwrite a part of a disk with zeros."""
    plugin = storage_named(node, call.disk.dev_type)
    opened = plugin.open(node.host, call.disk, on_primary=True)
    size_bytes = plugin.size_bytes(node.host, call.disk)
    limit_s = call.duration.value - 60
    overwrite_with_zeros(
        node.host,
        opened,
        offset_mib=call.offset,
        size_mib=call.size,
        disk_bytes=size_bytes or 0,
        timeout_s=limit_s,
    )


@node_function(StorageDirCreate)
def file_storage_dir_create(call: StorageDirCreate, node: NodeWorld) -> None:
    """Make a directory for disk files; no error if it is there."""
    directories.make(node.host, call.path)


@node_function(StorageDirRemove)
def file_storage_dir_remove(call: StorageDirRemove, node: NodeWorld) -> None:
    """Remove an empty directory of disk files; no error if it is gone."""
    directories.remove(node.host, call.path)


@node_function(StorageReport)
def storage_space(call: StorageReport, node: NodeWorld) -> tuple[StorageSpace, ...]:
    """Space of each storage unit; without figures where they cannot be found out."""
    return tuple(space_of(node, storage_type, unit) for storage_type, unit in call.units.items())


def space_of(node: NodeWorld, storage_type: str, unit: str) -> StorageSpace:
    """Space of one storage unit; without figures where they cannot be found out."""
    try:
        return storage_of_type(node, storage_type).space(node.host, unit)
    except GanetiError:
        return StorageSpace(type=storage_type, name=unit, storage_free=None, storage_size=None)


def _size_bytes(node: NodeWorld, disk: Disk) -> int | None:
    try:
        return storage_named(node, disk.dev_type).size_bytes(node.host, disk)
    except GanetiError:
        return None


def _remove_quietly(node: NodeWorld, part: Disk) -> None:
    # The failure that led here is the one to be reported.
    with contextlib.suppress(GanetiError):
        storage_named(node, part.dev_type).remove(node.host, part)

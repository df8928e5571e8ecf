"""Calls that act on disks and storage (rpc.md sections 2.2 and 2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar

import msgspec

from ganeti.model.calls.base import Duration, NodeCall
from ganeti.model.disk import Disk


class OpenDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that can be read and written on this node."""

    path: str | None
    """Device or file; None where only the hypervisor can reach it."""
    uri: str | None = None
    """For access from user space, such as `rbd:pool/image`."""
    format: str = "raw"
    """raw or qcow2"""
    mode: str = "rw"
    size: int = 0
    """MiB"""
    link: str | None = None
    """Stable name of the open disk on this node, in the instance's disk directory."""


class StorageSpace(msgspec.Struct, frozen=True, kw_only=True):
    """Space of one storage unit, MiB; None where it has no such figure."""

    type: str
    name: str
    storage_free: int | None
    storage_size: int | None


class LocalData(IntEnum):
    """What the own data of one end of a mirrored disk is worth."""

    OKAY = 1
    SYNCING = 2
    UNKNOWN = 3
    FAULTY = 4


class SyncStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One end of a mirrored disk that is open on a node."""

    path: str | None = None
    is_degraded: bool
    """Not both ends have the newest data, or they do not reach each other."""
    is_connected: bool
    is_primary: bool = False
    sync_percent: float | None = None
    """None: nothing is being copied."""
    estimated_time: float | None = None
    """Seconds until all is copied."""
    ldisk_status: LocalData


class DiskState(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of a disk on a node."""

    missing: tuple[str, ...] = ()
    """Names of its parts that are not there: `xenvg/web1.disk0_data`."""
    is_open: bool = False
    is_connected: bool | None = None
    """Whether this end of a mirrored disk reaches the other one; None: the disk is not mirrored."""


class DiskCreate(NodeCall[None], frozen=True, kw_only=True, tag="blockdev_create"):
    """Create the data of a disk; what is there already is an error."""

    disk: Disk
    owner: str
    on_primary: bool = True
    exclusive_storage: bool = False


class DiskRemove(NodeCall[None], frozen=True, kw_only=True, tag="blockdev_remove"):
    """Remove the data of a disk; what is gone already is no error."""

    disk: Disk


class DiskAssemble(NodeCall[OpenDisk], frozen=True, kw_only=True, tag="blockdev_assemble"):
    """Open a disk; does nothing new if it is open."""

    disk: Disk
    instance: str
    on_primary: bool
    index: int


class DiskShutdown(NodeCall[None], frozen=True, kw_only=True, tag="blockdev_shutdown"):
    """Close a disk; does nothing if it is closed."""

    disk: Disk
    instance: str = ""
    index: int = 0


class DiskSizes(NodeCall[tuple[int | None, ...]], frozen=True, kw_only=True, tag="blockdev_getdimensions"):
    """Size of each disk in bytes, None where it cannot be found."""

    disks: tuple[Disk, ...]


class DiskGrow(NodeCall[None], frozen=True, kw_only=True, tag="blockdev_grow"):
    """Enlarge a disk by an amount in MiB."""

    disk: Disk
    amount: int
    dryrun: bool = False


class DiskWipe(NodeCall[None], frozen=True, kw_only=True, tag="blockdev_wipe"):
    """Overwrite a part of an open disk with zeros; MiB."""

    duration: ClassVar[Duration] = Duration.SLOW
    disk: Disk
    offset: int
    size: int


class StorageDirCreate(NodeCall[None], frozen=True, kw_only=True, tag="file_storage_dir_create"):
    """Create a directory for disk files, below an allowed path."""

    duration: ClassVar[Duration] = Duration.FAST
    path: str


class StorageDirRemove(NodeCall[None], frozen=True, kw_only=True, tag="file_storage_dir_remove"):
    """Remove an empty directory of disk files."""

    duration: ClassVar[Duration] = Duration.FAST
    path: str


class StorageReport(NodeCall[tuple[StorageSpace, ...]], frozen=True, kw_only=True, tag="storage_space"):
    """Space of storage units, given as type to name of the unit."""

    duration: ClassVar[Duration] = Duration.URGENT
    units: Mapping[str, str]


class FindDisks(NodeCall[tuple[DiskState, ...]], frozen=True, kw_only=True, tag="blockdev_find"):
    """What is there of each disk, and whether it is open."""

    duration: ClassVar[Duration] = Duration.URGENT
    disks: tuple[Disk, ...]


class MirrorStatus(
    NodeCall[tuple[SyncStatus | None, ...]], frozen=True, kw_only=True, tag="blockdev_getmirrorstatus"
):
    """State of this end of each mirrored disk; None where it is not open."""

    disks: tuple[Disk, ...]


class MirrorConnect(NodeCall[None], frozen=True, kw_only=True, tag="drbd_attach_net"):
    """Open this end where it is closed, and let it reach the other one; what lacks data gets it."""

    disks: tuple[Disk, ...]
    multimaster: bool = False
    """Both ends may be primary, as in a migration."""


class MirrorDisconnect(NodeCall[None], frozen=True, kw_only=True, tag="drbd_disconnect_net"):
    """Let this end stand alone."""

    disks: tuple[Disk, ...]


class MirrorDetach(NodeCall[None], frozen=True, kw_only=True, tag="blockdev_removechildren"):
    """Let this end of a mirrored disk go on with the data of the other one only."""

    disk: Disk


class MirrorAttach(NodeCall[None], frozen=True, kw_only=True, tag="blockdev_addchildren"):
    """Let this end use data of its own again, which gets a full copy."""

    disk: Disk


class DiskRename(NodeCall[None], frozen=True, kw_only=True, tag="blockdev_rename"):
    """Give data another identity; does nothing if it has it already."""

    disk: Disk
    new: Disk

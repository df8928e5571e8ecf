"""Calls that act on disks and storage (rpc.md sections 2.2 and 2.3)."""

from __future__ import annotations

from collections.abc import Mapping
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

"""Disks: what the configuration says of a block device, a file or an image."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec

from ganeti.model.ids import DiskId, NodeId
from ganeti.model.params import ParamValues


class DiskTemplate(StrEnum):
    """Kinds of disks; each is a storage plugin."""

    DISKLESS = "diskless"
    PLAIN = "plain"
    DRBD = "drbd"
    FILE = "file"
    SHAREDFILE = "sharedfile"
    BLOCKDEV = "blockdev"
    RBD = "rbd"
    EXT = "ext"
    GLUSTER = "gluster"


class Mirroring(StrEnum):
    """How the data of a template can be reached from a second node."""

    NONE = "none"
    INTERNAL = "internal"
    EXTERNAL = "external"


class TemplateTraits(msgspec.Struct, frozen=True, kw_only=True):
    """What can be done with disks of a template (objects.md section 11)."""

    storage_type: str
    mirroring: Mirroring = Mirroring.NONE
    is_lvm: bool = False
    is_file_based: bool = False
    is_growable: bool = False
    may_adopt: bool = False
    must_adopt: bool = False
    has_snapshots: bool = False
    has_userspace_access: bool = False
    is_copyable: bool = False
    allows_exclusive_storage: bool = False
    needs_free_space_check: bool = True

    @property
    def is_mirrored(self) -> bool:
        """Whether an instance on such disks can be migrated or failed over."""
        return self.mirroring is not Mirroring.NONE


TRAITS: dict[str, TemplateTraits] = {
    DiskTemplate.DISKLESS: TemplateTraits(
        storage_type="diskless", mirroring=Mirroring.EXTERNAL, needs_free_space_check=False
    ),
    DiskTemplate.PLAIN: TemplateTraits(
        storage_type="lvm-vg",
        is_lvm=True,
        is_growable=True,
        may_adopt=True,
        has_snapshots=True,
        is_copyable=True,
        allows_exclusive_storage=True,
    ),
    DiskTemplate.DRBD: TemplateTraits(
        storage_type="lvm-vg",
        mirroring=Mirroring.INTERNAL,
        is_lvm=True,
        is_growable=True,
        has_snapshots=True,
    ),
    DiskTemplate.FILE: TemplateTraits(
        storage_type="file",
        is_file_based=True,
        is_growable=True,
        is_copyable=True,
        needs_free_space_check=False,
    ),
    DiskTemplate.SHAREDFILE: TemplateTraits(
        storage_type="sharedfile",
        mirroring=Mirroring.EXTERNAL,
        is_file_based=True,
        is_growable=True,
        needs_free_space_check=False,
    ),
    DiskTemplate.BLOCKDEV: TemplateTraits(
        storage_type="blockdev", mirroring=Mirroring.EXTERNAL, may_adopt=True, must_adopt=True
    ),
    DiskTemplate.RBD: TemplateTraits(
        storage_type="rados",
        mirroring=Mirroring.EXTERNAL,
        is_growable=True,
        has_userspace_access=True,
        needs_free_space_check=False,
    ),
    DiskTemplate.EXT: TemplateTraits(
        storage_type="ext",
        mirroring=Mirroring.EXTERNAL,
        is_growable=True,
        has_snapshots=True,
        has_userspace_access=True,
        needs_free_space_check=False,
    ),
    DiskTemplate.GLUSTER: TemplateTraits(
        storage_type="gluster",
        mirroring=Mirroring.EXTERNAL,
        is_file_based=True,
        is_growable=True,
        has_userspace_access=True,
        needs_free_space_check=False,
    ),
}


class Disk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A disk of an instance, or a part of one (`children`).

    `logical_id` identifies the data on the nodes; its shape depends on `dev_type` (objects.md
    section 6), and only the storage plugin of that template reads it.
    """

    uuid: DiskId
    dev_type: str
    """Name of the storage plugin, usually a `DiskTemplate`."""
    logical_id: tuple[Any, ...]
    size: int
    """MiB"""
    mode: str = "rw"
    iv_name: str = ""
    name: str | None = None
    nodes: tuple[NodeId, ...] = ()
    """Nodes with data of this disk, primary first; for external storage the primary only."""
    children: tuple[Disk, ...] = ()
    spindles: int | None = None
    params: ParamValues | None = None
    forthcoming: bool = False
    serial_no: int = 1
    ctime: float = 0.0
    mtime: float = 0.0

    def walk(self) -> Iterator[Disk]:
        """This disk and all parts of it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

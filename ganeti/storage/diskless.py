"""The storage plugin for instances without disks: there is nothing to lay out, create or open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from zope.interface import implementer

from ganeti.errors import BlockDeviceError, PrereqError
from ganeti.interfaces import IHost, IStorageBackend
from ganeti.model.calls.disks import OpenDisk, StorageSpace
from ganeti.model.disk import TRAITS, Disk, DiskTemplate, TemplateTraits
from ganeti.model.node import Node
from ganeti.model.param_tables.disk import DISK
from ganeti.model.params import ParamTable
from ganeti.model.spec import DiskSpec, Reservations


@implementer(IStorageBackend)
class Diskless:
    """No disks at all."""

    name: str = DiskTemplate.DISKLESS.value
    params: ParamTable = DISK[DiskTemplate.DISKLESS]
    traits: TemplateTraits = TRAITS[DiskTemplate.DISKLESS]

    def layout(self, spec: DiskSpec, nodes: Sequence[Node], reservations: Reservations) -> Disk:
        """Always refused."""
        raise PrereqError(
            f"instance {reservations.instance_name} is diskless and cannot have disk {spec.index};"
            " choose another disk template"
        )

    def create(self, host: IHost, disk: Disk, *, on_primary: bool) -> None:
        """Always an error."""
        self._refuse(disk)

    def remove(self, host: IHost, disk: Disk) -> None:
        """Nothing: there is no data."""

    def open(self, host: IHost, disk: Disk, *, on_primary: bool) -> OpenDisk:
        """Always an error."""
        self._refuse(disk)

    def close(self, host: IHost, disk: Disk) -> None:
        """Nothing: there is no data."""

    def grow(self, host: IHost, disk: Disk, *, by_mib: int, dry_run: bool) -> None:
        """Always an error."""
        self._refuse(disk)

    def size_bytes(self, host: IHost, disk: Disk) -> int | None:
        """None: there is no data."""
        return None

    def space(self, host: IHost, unit: str) -> StorageSpace:
        """No figures: such disks take no space."""
        return StorageSpace(type=self.traits.storage_type, name=unit, storage_free=None, storage_size=None)

    def self_test(self, host: IHost, unit: str) -> Sequence[str]:
        """Nothing can be wrong."""
        return ()

    def _refuse(self, disk: Disk) -> NoReturn:
        raise BlockDeviceError(f"disk {disk.uuid} is of template diskless, which has no data")

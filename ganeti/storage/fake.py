"""Storage without storage: a disk is a small text file that says how large it would be.

It keeps the rules of a real one (nothing is created twice, a node that is full refuses, what is not
there cannot be opened) and can stand for any template, so that simulated nodes use it in place of
the real plugins.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from msgspec.structs import replace

from zope.interface import implementer

from ganeti.errors import BlockDeviceError, PrereqError
from ganeti.interfaces import ICopyable, IHost, IOpenState, IRenamable, IStorageBackend
from ganeti.model.calls.disks import OpenDisk, StorageSpace
from ganeti.model.disk import Disk, DiskTemplate, TemplateTraits
from ganeti.model.ids import DiskId, NodeId
from ganeti.model.node import Node
from ganeti.model.param_tables.disk import DISK
from ganeti.model.params import ParamTable
from ganeti.model.spec import DiskSpec, Reservations
from ganeti.storage.mirror_layout import volume_layout

FAKE_TRAITS = TemplateTraits(storage_type="fake", is_growable=True, is_copyable=True)
"""Traits of the template `fake` itself: local to a node, like plain files."""


@implementer(IStorageBackend, IOpenState, IRenamable, ICopyable)
class FakeStorage:
    """Pretends to store disks.

    It counts what takes space by the files in its directory, so that all volumes of a node share it.

    Args:
        template: name to answer to.
        traits: rules to play by, such as `TRAITS["plain"]`; mirrored disks are those of `FakeMirror`.
        shared_dir: where all nodes keep their disks, for templates that every node can reach;
            None: each node in its own directory.
        capacity_mib: how much a node (or the shared directory) pretends to hold.
    """

    holds_content = False

    def __init__(
        self,
        template: str = "fake",
        traits: TemplateTraits = FAKE_TRAITS,
        *,
        shared_dir: str | None = None,
        capacity_mib: int = 64 * 1024 * 1024,
    ) -> None:
        self.name: str = template
        self.is_stand_in = template != "fake"
        self.params: ParamTable = DISK.get(template, ParamTable(f"disk template {template}", ()))
        self.traits: TemplateTraits = traits
        self._shared_dir = shared_dir
        self._capacity_mib = capacity_mib

    def layout(self, spec: DiskSpec, nodes: Sequence[Node], reservations: Reservations) -> Disk:
        """A disk on the first node; of the template `plain` as the real one is."""
        if spec.size < 1:
            raise PrereqError(f"disk {spec.index}: a size of {spec.size} MiB is not possible; at least 1 MiB")
        if self.name == DiskTemplate.PLAIN:
            return volume_layout(spec, nodes, reservations, self.params)
        uuid = DiskId(reservations.new_uuid())
        return Disk(
            uuid=uuid,
            dev_type=self.name,
            logical_id=("fake", f"{uuid}.{self.name}.disk{spec.index}"),
            size=spec.size,
            mode=spec.mode,
            iv_name=f"disk/{spec.index}",
            name=spec.name,
            nodes=(nodes[0].uuid,),
            spindles=spec.spindles,
            params=self.params.check(spec.params) or None,
        )

    def create(self, host: IHost, disk: Disk, *, on_primary: bool) -> None:
        """Write the file with the size."""
        path = self._path(host, disk)
        self._refuse_without_space(host, disk.size)
        os.makedirs(os.path.dirname(path), 0o750, exist_ok=True)
        try:
            with open(path, "x", encoding="ascii") as file:
                file.write(f"{disk.size}\n")
        except FileExistsError:
            raise BlockDeviceError(f"{path} exists already and will not be overwritten") from None

    def remove(self, host: IHost, disk: Disk) -> None:
        """Remove the file."""
        for path in (self._mark(host, disk), self._path(host, disk)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def open(self, host: IHost, disk: Disk, *, on_primary: bool) -> OpenDisk:
        """Find the file, and remember until the next boot that it is open."""
        self._size_mib(host, disk)
        mark = self._mark(host, disk)
        os.makedirs(os.path.dirname(mark), 0o750, exist_ok=True)
        with open(mark, "w", encoding="ascii"):
            pass
        return OpenDisk(path=self._path(host, disk), mode=disk.mode, size=disk.size)

    def close(self, host: IHost, disk: Disk) -> None:
        """Forget that it is open."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._mark(host, disk))

    def is_open(self, host: IHost, disk: Disk) -> bool:
        """Whether it is."""
        return os.path.exists(self._mark(host, disk))

    def elsewhere(self, disk: Disk, node: NodeId, uuid: str) -> Disk:
        """A disk with another name on another node; what is found by its own name keeps it."""
        place = disk.logical_id[0]
        if place != "fake" and not self.traits.is_lvm:
            return replace(disk, nodes=(node,))
        index = disk.iv_name.rpartition("/")[2] or "0"
        return replace(disk, logical_id=(place, f"{uuid}.disk{index}"), nodes=(node,))

    def beside(self, disk: Disk, suffix: str) -> Disk:
        """A disk whose name has a suffix."""
        place, name = disk.logical_id
        return replace(disk, logical_id=(place, f"{name}{suffix}"))

    def rename(self, host: IHost, disk: Disk, new: Disk) -> None:
        """Give the file the other name."""
        source, target = self._path(host, disk), self._path(host, new)
        if os.path.exists(target):
            if os.path.exists(source):
                raise BlockDeviceError(f"{target} exists already and will not be overwritten")
            return
        try:
            os.rename(source, target)
        except FileNotFoundError:
            raise BlockDeviceError(f"{source} is missing and cannot be renamed") from None

    def grow(self, host: IHost, disk: Disk, *, by_mib: int, dry_run: bool) -> None:
        """Write a larger size."""
        size = self._size_mib(host, disk)
        if by_mib < 0 or not self.traits.is_growable:
            raise BlockDeviceError(f"disk {disk.uuid} of template {self.name} cannot grow by {by_mib} MiB")
        self._refuse_without_space(host, by_mib)
        if not dry_run:
            path = self._path(host, disk)
            with open(f"{path}.new", "w", encoding="ascii") as file:
                file.write(f"{size + by_mib}\n")
            os.replace(f"{path}.new", path)

    def size_bytes(self, host: IHost, disk: Disk) -> int | None:
        """The size in the file."""
        try:
            return self._size_mib(host, disk) * 1024 * 1024
        except BlockDeviceError:
            return None

    def space(self, host: IHost, unit: str) -> StorageSpace:
        """What is left of the pretended capacity, whatever the unit."""
        return StorageSpace(
            type=self.traits.storage_type,
            name=unit,
            storage_free=max(0, self._capacity_mib - self._used_mib(host)),
            storage_size=self._capacity_mib,
        )

    def self_test(self, host: IHost, unit: str) -> Sequence[str]:
        """Nothing can be wrong."""
        return ()

    def _directory(self, host: IHost) -> str:
        return self._shared_dir or f"{host.paths.data_dir}/fake-storage"

    def _path(self, host: IHost, disk: Disk) -> str:
        return f"{self._directory(host)}/{self._file_name(disk)}"

    def _mark(self, host: IHost, disk: Disk) -> str:
        return f"{host.paths.run_dir}/fake-storage/{self._file_name(disk)}"

    def _file_name(self, disk: Disk) -> str:
        match disk.logical_id:
            case ("fake", str() as name) if _is_file_name(name):
                return name
            case (str() as group, str() as name) if self.traits.is_lvm and _is_file_name(f"{group}.{name}"):
                return f"{group}.{name}"
        # A real layout of the template it stands for is found by the disk's own name.
        return str(disk.uuid)

    def _size_mib(self, host: IHost, disk: Disk) -> int:
        try:
            with open(self._path(host, disk), encoding="ascii") as file:
                return int(file.read())
        except (FileNotFoundError, ValueError):
            raise BlockDeviceError(
                f"disk {disk.iv_name or disk.uuid} is missing on node {host.name or 'here'}"
            ) from None

    def _used_mib(self, host: IHost) -> int:
        used = 0
        try:
            with os.scandir(self._directory(host)) as entries:
                for entry in entries:
                    with open(entry.path, encoding="ascii") as file:
                        used += int(file.read() or 0)
        except FileNotFoundError:
            return used
        return used

    def _refuse_without_space(self, host: IHost, wanted_mib: int) -> None:
        free = self._capacity_mib - self._used_mib(host)
        if wanted_mib > free:
            raise BlockDeviceError(
                f"no space for {wanted_mib} MiB on node {host.name or 'here'}: {free} MiB are free"
            )


def _is_file_name(name: str) -> bool:
    return os.path.basename(name) == name and name not in ("", ".", "..")

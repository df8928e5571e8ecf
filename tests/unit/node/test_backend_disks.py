"""Tests of the node functions for disks and storage."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import BlockDeviceError, FileStoragePathError, StorageError
from ganeti.interfaces import IHost, Plugins
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
from ganeti.model.disk import TRAITS, Disk
from ganeti.model.ids import DiskId
from ganeti.node.backend.disks import (
    blockdev_assemble,
    blockdev_create,
    blockdev_getdimensions,
    blockdev_grow,
    blockdev_remove,
    blockdev_shutdown,
    blockdev_wipe,
    file_storage_dir_create,
    file_storage_dir_remove,
    storage_space,
)
from ganeti.node.backend.registry import NodeWorld
from ganeti.storage.fake import FakeStorage
from ganeti.testing.node_world import WithNode

MIB = 1024 * 1024


class DiskTests(WithNode, SynchronousTestCase):
    """Disks that stand on nothing else."""

    def link(self, index: int = 0) -> str:
        """Stable name of a disk of inst1."""
        return f"{self.host.paths.instance_disks_dir}/inst1.example.com:{index}"

    def assemble(self, disk: Disk, *, on_primary: bool = True, index: int = 0) -> OpenDisk:
        """Call the function."""
        call = DiskAssemble(disk=disk, instance="inst1.example.com", on_primary=on_primary, index=index)
        return blockdev_assemble(call, self.node)

    def test_life(self) -> None:
        """A disk is created, opened under a stable name, closed and removed."""
        disk = self.created_disk()
        path = disk.logical_id[1]
        opened = self.assemble(disk)
        self.assertEqual((opened.path, opened.link), (path, self.link()))
        self.assertEqual(os.readlink(self.link()), path)
        blockdev_shutdown(DiskShutdown(disk=disk, instance="inst1.example.com"), self.node)
        self.assertFalse(os.path.lexists(self.link()))
        blockdev_remove(DiskRemove(disk=disk), self.node)
        self.assertFalse(os.path.exists(path))

    def test_repeated(self) -> None:
        """Opening, closing and removing may be repeated."""
        disk = self.created_disk()
        self.assertEqual(self.assemble(disk), self.assemble(disk))
        for _ in range(2):
            blockdev_shutdown(DiskShutdown(disk=disk, instance="inst1.example.com"), self.node)
        for _ in range(2):
            blockdev_remove(DiskRemove(disk=disk), self.node)

    def test_link_moves(self) -> None:
        """A link that leads to an old disk is led to the new one."""
        self.assemble(self.created_disk())
        disk = self.created_disk()
        self.assemble(disk)
        self.assertEqual(os.readlink(self.link()), disk.logical_id[1])
        self.assertEqual(os.listdir(self.host.paths.instance_disks_dir), ["inst1.example.com:0"])

    def test_secondary(self) -> None:
        """On a secondary there is no link."""
        self.assertIsNone(self.assemble(self.created_disk(), on_primary=False).link)
        self.assertFalse(os.path.lexists(self.link()))

    def test_strange_instance(self) -> None:
        """The name of an instance cannot lead out of the directory with the links."""
        call = DiskAssemble(disk=self.created_disk(), instance="../x", on_primary=True, index=0)
        self.assertRaises(BlockDeviceError, blockdev_assemble, call, self.node)

    def test_unknown_template(self) -> None:
        """A template that this node has no plugin for is named, with those it has."""
        disk = msgspec.structs.replace(self.make_disk(), dev_type="tape")
        call = DiskCreate(disk=disk, owner="inst1.example.com")
        error = self.assertRaises(BlockDeviceError, blockdev_create, call, self.node)
        self.assertIn("tape", str(error))
        self.assertIn("sharedfile", str(error))

    def test_sizes(self) -> None:
        """Sizes come in order; a disk that is missing or alien does not hide the others."""
        alien = msgspec.structs.replace(self.make_disk(), logical_id=("x",))
        disks = (self.created_disk(size=4), self.make_disk(), alien, self.created_disk(size=8))
        found = blockdev_getdimensions(DiskSizes(disks=disks), self.node)
        self.assertEqual(found, (4 * MIB, None, None, 8 * MIB))

    def test_grow(self) -> None:
        """A disk grows, but not in a dry run."""
        disk = self.created_disk(size=4)
        blockdev_grow(DiskGrow(disk=disk, amount=4, dryrun=True), self.node)
        self.assertEqual(os.path.getsize(disk.logical_id[1]), 4 * MIB)
        blockdev_grow(DiskGrow(disk=disk, amount=4), self.node)
        self.assertEqual(os.path.getsize(disk.logical_id[1]), 8 * MIB)

    def test_grow_diskless(self) -> None:
        """A template whose disks cannot grow says so."""
        disk = Disk(uuid=DiskId("d"), dev_type="diskless", logical_id=(), size=1)
        self.assertRaises(BlockDeviceError, blockdev_grow, DiskGrow(disk=disk, amount=4), self.node)

    def test_wipe(self) -> None:
        """The part asked for is zero afterwards."""
        disk = self.created_disk(size=2)
        with open(disk.logical_id[1], "wb") as stream:
            stream.write(b"\xff" * 2 * MIB)
        blockdev_wipe(DiskWipe(disk=disk, offset=1, size=1), self.node)
        with open(disk.logical_id[1], "rb") as stream:
            self.assertEqual(stream.read(), b"\xff" * MIB + bytes(MIB))


class TreeTests(WithNode, SynchronousTestCase):
    """Disks that stand on others."""

    def setUp(self) -> None:
        """A node with a storage whose data may refuse to be created."""
        super().setUp()
        self.log: list[str] = []
        mirror = RecordingStorage("drbd", self.log)
        volumes = RecordingStorage("plain", self.log)
        plugins = Plugins(
            hypervisors={}, storage={"drbd": mirror, "plain": volumes, "tape": mirror}, iallocators={}
        )
        self.node = NodeWorld(host=self.host, plugins=plugins)
        parts = tuple(
            Disk(uuid=DiskId(name), dev_type="plain", logical_id=("xenvg", name), size=4)
            for name in ("data", "meta")
        )
        self.disk = Disk(uuid=DiskId("mirror"), dev_type="drbd", logical_id=(), size=4, children=parts)

    def create(self, disk: Disk) -> None:
        """Call the function."""
        blockdev_create(DiskCreate(disk=disk, owner="inst1.example.com"), self.node)

    def test_orders(self) -> None:
        """What stands below is there first and goes last."""
        self.create(self.disk)
        blockdev_assemble(DiskAssemble(disk=self.disk, instance="inst1", on_primary=True, index=0), self.node)
        blockdev_shutdown(DiskShutdown(disk=self.disk), self.node)
        blockdev_remove(DiskRemove(disk=self.disk), self.node)
        upwards, downwards = ("data", "meta", "mirror"), ("mirror", "meta", "data")
        steps = (("create", upwards), ("open", upwards), ("close", downwards), ("remove", downwards))
        self.assertEqual(self.log, [f"{what} {disk}" for what, order in steps for disk in order])

    def test_failed_creation(self) -> None:
        """What was created before the failure is removed in reverse; the failure is reported."""
        broken = msgspec.structs.replace(self.disk, uuid=DiskId("broken"))
        error = self.assertRaises(BlockDeviceError, self.create, broken)
        self.assertEqual(str(error), "on purpose")
        self.assertEqual(
            self.log, ["create data", "create meta", "create broken", "remove meta", "remove data"]
        )

    def test_failed_removal(self) -> None:
        """A part that cannot be removed does not keep the others; the error names it."""
        broken = msgspec.structs.replace(self.disk, uuid=DiskId("broken"))
        error = self.assertRaises(BlockDeviceError, blockdev_remove, DiskRemove(disk=broken), self.node)
        self.assertEqual(str(error), "on purpose")
        self.assertEqual(self.log, ["remove broken", "remove meta", "remove data"])


class RecordingStorage(FakeStorage):
    """Fake storage that writes down what it does, and fails for the disk `broken`."""

    def __init__(self, template: str, log: list[str]) -> None:
        super().__init__(template, TRAITS[template])
        self._log = log

    def _note(self, what: str, disk: Disk) -> None:
        self._log.append(f"{what} {disk.uuid}")
        if disk.uuid == "broken":
            raise BlockDeviceError("on purpose")

    def create(self, host: IHost, disk: Disk, *, on_primary: bool) -> None:
        """Note it and do it."""
        self._note("create", disk)
        super().create(host, disk, on_primary=on_primary)

    def open(self, host: IHost, disk: Disk, *, on_primary: bool) -> OpenDisk:
        """Note it and do it."""
        self._note("open", disk)
        return super().open(host, disk, on_primary=on_primary)

    def close(self, host: IHost, disk: Disk) -> None:
        """Note it."""
        self._note("close", disk)

    def remove(self, host: IHost, disk: Disk) -> None:
        """Note it and do it."""
        self._note("remove", disk)
        super().remove(host, disk)


class StorageTests(WithNode, SynchronousTestCase):
    """Directories and space."""

    def report(self, **units: Any) -> tuple[StorageSpace, ...]:
        """Call the function."""
        return storage_space(StorageReport(units=units), self.node)

    def test_directories(self) -> None:
        """A directory below an allowed one is made and removed; both may be repeated."""
        path = f"{self.images}/inst9"
        for _ in range(2):
            file_storage_dir_create(StorageDirCreate(path=path), self.node)
        self.assertTrue(os.path.isdir(path))
        for _ in range(2):
            file_storage_dir_remove(StorageDirRemove(path=path), self.node)
        self.assertFalse(os.path.exists(path))

    def test_not_allowed(self) -> None:
        """Nothing is made or removed elsewhere."""
        path = f"{self.directory}/elsewhere"
        self.assertRaises(
            FileStoragePathError, file_storage_dir_create, StorageDirCreate(path=path), self.node
        )
        self.assertRaises(
            FileStoragePathError, file_storage_dir_remove, StorageDirRemove(path=self.images), self.node
        )

    def test_not_empty(self) -> None:
        """A directory with disks is not removed."""
        disk = self.created_disk()
        call = StorageDirRemove(path=os.path.dirname(disk.logical_id[1]))
        self.assertRaises(StorageError, file_storage_dir_remove, call, self.node)

    def test_space(self) -> None:
        """Figures of the units that can be measured, none for the others."""
        found = self.report(sharedfile=self.images, file="/nonexistent", tape="x", diskless="")
        self.assertTrue(found[0].storage_size)
        self.assertEqual([space.storage_size for space in found[1:]], [None, None, None])
        self.assertEqual([space.type for space in found], ["sharedfile", "file", "tape", "diskless"])

"""What every storage plugin does: suites that each plugin's tests mix in.

    class AcmeTests(StorageDataBehaviours, SynchronousTestCase):
        def make_storage(self): return AcmeStorage()
        def make_host(self, number=1): return FakeHost(self.mktemp())

`StorageBehaviours` holds for all of them, `StorageDataBehaviours` for those whose disks hold data. A
third party's plugin that passes works with the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec

from zope.interface.verify import verifyObject

from ganeti.errors import BlockDeviceError, ParameterError, PrereqError
from ganeti.interfaces import IHost, IStorageBackend
from ganeti.model.disk import Disk, Mirroring
from ganeti.model.ids import DiskId, GroupId, NodeId
from ganeti.model.node import Node
from ganeti.model.spec import DiskSpec, Reservations

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _TestCase
else:
    _TestCase = object

MIB = 1024 * 1024


def make_nodes(number: int) -> list[Node]:
    """Nodes to lay disks out on."""
    return [
        Node(
            uuid=NodeId(f"node-{index}-uuid"),
            name=f"node{index}.example.com",
            primary_ip=f"192.0.2.{index}",
            secondary_ip=f"192.0.2.{index}",
            group=GroupId("group-uuid"),
        )
        for index in range(1, number + 1)
    ]


def make_reservations(
    storage_dirs: Mapping[str, str] | None = None, instance_name: str = "inst1.example.com"
) -> Reservations:
    """Identities that are counted instead of drawn."""
    counter = count(1)
    return Reservations(
        instance_uuid="00000000-0000-4000-8000-00000000ffff",
        instance_name=instance_name,
        new_uuid=lambda: f"00000000-0000-4000-8000-{next(counter):012}",
        new_port=lambda: 11000 + next(counter),
        new_secret=lambda: f"{next(counter):040x}",
        new_minor=lambda node: next(counter),
        storage_dirs=storage_dirs or {},
        vg_name="xenvg",
    )


class StorageWorld(_TestCase):
    """What the suites need; subclasses of the suites fill it in."""

    file_driver = "loop"

    def make_storage(self) -> Any:
        """A new plugin object; two of them stand for two daemons."""
        raise NotImplementedError

    def make_host(self, number: int = 1) -> IHost:
        """A node of its own for each number, prepared for this storage."""
        raise NotImplementedError

    def storage_dirs(self) -> Mapping[str, str]:
        """Template to the cluster's directory for it."""
        return {}

    def unit(self) -> str:
        """A storage unit that the first node has."""
        return "unit"

    def setUp(self) -> None:
        """One node and the plugin."""
        super().setUp()
        self.storage = self.make_storage()
        self.host = self.make_host(1)
        self.reservations = make_reservations(self.storage_dirs())

    def missing_disk(self) -> Disk:
        """A disk whose data nobody created."""
        raise NotImplementedError


class StorageBehaviours(StorageWorld):
    """True of every storage plugin."""

    def test_interface(self) -> None:
        """It provides what the interface promises."""
        self.assertTrue(verifyObject(IStorageBackend, self.storage))

    def test_unknown_parameter(self) -> None:
        """A disk parameter that it does not have is refused by name."""
        error = self.assertRaises(ParameterError, self.storage.params.check, {"no-such-parameter": 1})
        self.assertIn("no-such-parameter", str(error))

    def test_remove_what_is_gone(self) -> None:
        """Removing data that is not there is no error."""
        self.storage.remove(self.host, self.missing_disk())

    def test_close_what_is_closed(self) -> None:
        """Closing may be repeated."""
        self.storage.close(self.host, self.missing_disk())
        self.storage.close(self.host, self.missing_disk())

    def test_open_what_is_missing(self) -> None:
        """Data that is not there cannot be opened."""
        self.assertRaises(
            BlockDeviceError, self.storage.open, self.host, self.missing_disk(), on_primary=True
        )

    def test_size_of_what_is_missing(self) -> None:
        """Data that is not there has no size."""
        self.assertIsNone(self.storage.size_bytes(self.host, self.missing_disk()))

    def test_space(self) -> None:
        """Space is told with type and unit, and never more is free than there is."""
        space = self.storage.space(self.host, self.unit())
        self.assertEqual((space.type, space.name), (self.storage.traits.storage_type, self.unit()))
        if space.storage_free is not None and space.storage_size is not None:
            self.assertTrue(0 <= space.storage_free <= space.storage_size)

    def test_healthy_unit(self) -> None:
        """A unit that is well has no problems."""
        self.assertEqual(list(self.storage.self_test(self.host, self.unit())), [])


class StorageDataBehaviours(StorageBehaviours):
    """True of every storage plugin whose disks hold data."""

    def make_disk(self, *, index: int = 0, size: int = 8, **changes: Any) -> Disk:
        """A disk laid out on the nodes."""
        spec = DiskSpec(index=index, size=size, file_driver=self.file_driver, **changes)
        disk: Disk = self.storage.layout(spec, make_nodes(2), self.reservations)
        return disk

    def missing_disk(self) -> Disk:
        """A disk that is laid out and no more."""
        return self.make_disk()

    def created(self, **wanted: Any) -> Disk:
        """A disk with its data."""
        disk = self.make_disk(**wanted)
        self.storage.create(self.host, disk, on_primary=True)
        return disk

    def test_layout(self) -> None:
        """The layout has what was asked for, and the primary node first."""
        disk = self.make_disk(index=1, size=16, mode="ro", name="scratch")
        self.assertEqual(
            (disk.dev_type, disk.size, disk.mode, disk.name, disk.iv_name, disk.nodes[0]),
            (self.storage.name, 16, "ro", "scratch", "disk/1", "node-1-uuid"),
        )

    def test_layout_nodes(self) -> None:
        """Only storage that copies by itself names a second node."""
        copies = 2 if self.storage.traits.mirroring is Mirroring.INTERNAL else 1
        self.assertEqual(len(self.make_disk().nodes), copies)

    def test_layouts_differ(self) -> None:
        """Two disks never share data."""
        first, second = self.make_disk(), self.make_disk()
        self.assertNotEqual(first.logical_id, second.logical_id)
        self.assertNotEqual(first.uuid, second.uuid)

    def test_layout_is_json(self) -> None:
        """A layout comes back from the configuration as it was."""
        disk = self.make_disk()
        self.assertEqual(msgspec.json.decode(msgspec.json.encode(disk), type=Disk), disk)

    def test_no_size(self) -> None:
        """A disk of no size is refused before anything is done."""
        self.assertRaises(PrereqError, self.make_disk, size=0)

    def test_size(self) -> None:
        """What was created has the size that was asked for."""
        self.assertEqual(self.storage.size_bytes(self.host, self.created(size=8)), 8 * MIB)

    def test_another_daemon_sees_it(self) -> None:
        """Data is found by a plugin object that did not create it."""
        disk = self.created(size=8)
        self.assertEqual(self.make_storage().size_bytes(self.host, disk), 8 * MIB)

    def test_create_twice(self) -> None:
        """What exists is never overwritten."""
        disk = self.created(size=8)
        larger = msgspec.structs.replace(disk, size=16)
        self.assertRaises(BlockDeviceError, self.storage.create, self.host, larger, on_primary=True)
        self.assertEqual(self.storage.size_bytes(self.host, disk), 8 * MIB)

    def test_too_large(self) -> None:
        """A disk for which there is no space is refused, and nothing of it is left."""
        disk = self.make_disk(size=1 << 42)
        error = self.assertRaises(BlockDeviceError, self.storage.create, self.host, disk, on_primary=True)
        self.assertIn("free", str(error))
        self.assertIsNone(self.storage.size_bytes(self.host, disk))

    def test_create_after_failure(self) -> None:
        """What could not be created for lack of space can be when it is smaller."""
        disk = self.make_disk(size=1 << 42)
        self.assertRaises(BlockDeviceError, self.storage.create, self.host, disk, on_primary=True)
        self.storage.create(self.host, msgspec.structs.replace(disk, size=8), on_primary=True)

    def test_open(self) -> None:
        """What is open can be reached, with mode and size of the disk."""
        opened = self.storage.open(self.host, self.created(size=8, mode="ro"), on_primary=True)
        self.assertTrue(opened.path or opened.uri)
        self.assertEqual((opened.mode, opened.size), ("ro", 8))

    def test_open_twice(self) -> None:
        """Opening may be repeated and gives the same."""
        disk = self.created()
        first = self.storage.open(self.host, disk, on_primary=True)
        self.assertEqual(self.storage.open(self.host, disk, on_primary=True), first)

    def test_remove(self) -> None:
        """What was removed is gone, and can be created anew."""
        disk = self.created()
        self.storage.remove(self.host, disk)
        self.assertIsNone(self.storage.size_bytes(self.host, disk))
        self.storage.create(self.host, disk, on_primary=True)

    def test_grow(self) -> None:
        """A disk grows by as much as was asked for."""
        if not self.storage.traits.is_growable:
            return
        disk = self.created(size=8)
        self.storage.grow(self.host, disk, by_mib=4, dry_run=False)
        self.assertEqual(self.storage.size_bytes(self.host, disk), 12 * MIB)

    def test_grow_for_show(self) -> None:
        """A dry run changes nothing."""
        if not self.storage.traits.is_growable:
            return
        disk = self.created(size=8)
        self.storage.grow(self.host, disk, by_mib=4, dry_run=True)
        self.assertEqual(self.storage.size_bytes(self.host, disk), 8 * MIB)

    def test_grow_too_much(self) -> None:
        """Growth for which there is no space is refused, also in a dry run."""
        disk = self.created(size=8)
        for dry_run in (True, False):
            self.assertRaises(
                BlockDeviceError, self.storage.grow, self.host, disk, by_mib=1 << 42, dry_run=dry_run
            )
        self.assertEqual(self.storage.size_bytes(self.host, disk), 8 * MIB)

    def test_no_shrinking(self) -> None:
        """A disk never gets smaller."""
        disk = self.created(size=8)
        self.assertRaises(BlockDeviceError, self.storage.grow, self.host, disk, by_mib=-4, dry_run=False)

    def test_grow_what_is_missing(self) -> None:
        """What is not there cannot grow."""
        self.assertRaises(
            BlockDeviceError, self.storage.grow, self.host, self.make_disk(), by_mib=4, dry_run=False
        )

    def test_reached_from_another_node(self) -> None:
        """Storage that every node reaches is the same on the second node."""
        if self.storage.traits.mirroring is not Mirroring.EXTERNAL:
            return
        disk = self.created(size=8)
        other = self.make_host(2)
        self.assertEqual(self.storage.size_bytes(other, disk), 8 * MIB)
        self.storage.open(other, disk, on_primary=True)


def plain_disk(template: str, *, number: int = 1) -> Disk:
    """A disk of a template that no plugin laid out."""
    uuid = DiskId(f"00000000-0000-4000-8000-{number:012}")
    return Disk(uuid=uuid, dev_type=template, logical_id=("none", str(uuid)), size=8)

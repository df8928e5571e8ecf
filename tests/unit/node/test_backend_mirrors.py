"""Node functions on mirrored disks: the parts below come first, and each end acts for itself."""

from __future__ import annotations

import os

from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import BlockDeviceError
from ganeti.interfaces import Plugins
from ganeti.model.calls.disks import (
    DiskAssemble,
    DiskCreate,
    DiskRemove,
    DiskRename,
    DiskState,
    FindDisks,
    MirrorAttach,
    MirrorConnect,
    MirrorDetach,
    MirrorDisconnect,
    MirrorStatus,
)
from ganeti.model.disk import TRAITS, Disk
from ganeti.model.spec import DiskSpec
from ganeti.node.backend.disks import blockdev_assemble, blockdev_create, blockdev_remove
from ganeti.node.backend.mirrors import (
    blockdev_addchildren,
    blockdev_find,
    blockdev_getmirrorstatus,
    blockdev_removechildren,
    blockdev_rename,
    drbd_attach_net,
    drbd_disconnect_net,
)
from ganeti.node.backend.registry import NodeWorld
from ganeti.storage.fake import FakeStorage
from ganeti.storage.fake_mirror import FakeMirror
from ganeti.testing.host import FakeHost
from ganeti.testing.node_world import WithNode
from ganeti.testing.storage_behaviours import make_nodes, on_node


class MirrorFunctionTests(WithNode, SynchronousTestCase):
    """Two nodes with a mirrored disk."""

    def setUp(self) -> None:
        super().setUp()
        plain = FakeStorage("plain", TRAITS["plain"])
        mirror = FakeMirror(f"{self.directory}/mirrors", plain)
        storage = {"plain": plain, "drbd": mirror, "fake": FakeStorage()}
        plugins = Plugins(hypervisors={}, storage=storage, iallocators={})
        other = FakeHost(f"{self.directory}/node2", name="node2.example.com")
        self.worlds = [NodeWorld(host=host, plugins=plugins) for host in (self.host, other)]
        nodes = make_nodes(2)
        disk = mirror.layout(DiskSpec(index=0, size=8), nodes, self.reservations)
        self.ends = [on_node(disk, *nodes), on_node(disk, *nodes[::-1])]
        for index in (1, 0):
            call = DiskCreate(disk=self.ends[index], owner="web", on_primary=index == 0)
            blockdev_create(call, self.worlds[index])

    def state(self, index: int, disk: Disk | None = None) -> DiskState:
        """What is found of the disk."""
        (found,) = blockdev_find(FindDisks(disks=(disk or self.ends[index],)), self.worlds[index])
        return found

    def connect(self, *, two: bool = False) -> None:
        """Connect both ends, and let the copy end."""
        for end, world in zip(self.ends, self.worlds):
            drbd_attach_net(MirrorConnect(disks=(end,), multimaster=two), world)
        for world in self.worlds:
            world.host.sleep(60)

    def is_degraded(self) -> bool:
        """Whether the first end says so."""
        (state,) = blockdev_getmirrorstatus(MirrorStatus(disks=(self.ends[0],)), self.worlds[0])
        assert state is not None
        return state.is_degraded

    def test_life(self) -> None:
        """Closed, connected, disconnected: what is found tells it."""
        self.assertEqual(self.state(0), DiskState(is_open=False, is_connected=False))
        self.connect()
        self.assertEqual(self.state(0), DiskState(is_open=True, is_connected=True))
        self.assertFalse(self.is_degraded())
        drbd_disconnect_net(MirrorDisconnect(disks=(self.ends[1],)), self.worlds[1])
        self.assertEqual(self.state(0), DiskState(is_open=True, is_connected=False))
        self.assertTrue(self.is_degraded())

    def test_new_data(self) -> None:
        """The volumes below an end are exchanged by their names, while the disk stays open."""
        self.connect()
        call = DiskAssemble(disk=self.ends[0], instance="web", on_primary=True, index=0)
        blockdev_assemble(call, self.worlds[0])
        end, world = self.ends[1], self.worlds[1]
        plain = world.plugins.storage["plain"]
        blockdev_removechildren(MirrorDetach(disk=end), world)
        for part in end.children:
            new, old = plain.beside(part, "_new"), plain.beside(part, "_replaced")
            blockdev_create(DiskCreate(disk=new, owner="web"), world)
            blockdev_rename(DiskRename(disk=part, new=old), world)
            self.assertEqual(self.state(1, part).missing, (f"xenvg/{part.logical_id[1]}",))
            blockdev_rename(DiskRename(disk=new, new=part), world)
            blockdev_remove(DiskRemove(disk=old), world)
        blockdev_addchildren(MirrorAttach(disk=end), world)
        self.assertTrue(self.is_degraded())
        for one in self.worlds:
            one.host.sleep(60)
        self.assertFalse(self.is_degraded())

    def test_missing(self) -> None:
        """All parts that are missing are named; a template without plugin is missing as a whole."""
        blockdev_remove(DiskRemove(disk=self.ends[0]), self.worlds[0])
        names = tuple("/".join(part.logical_id) for part in self.ends[0].children)
        self.assertEqual(self.state(0).missing, ("disk/0", *names))
        unknown = replace(self.ends[0], dev_type="rbd", logical_id=("pool", "image"), children=())
        self.assertEqual(self.state(0, unknown).missing, ("pool/image",))

    def test_other_templates(self) -> None:
        """Only mirrored disks have ends; only what can be renamed is."""
        disk = replace(self.ends[0], dev_type="fake", logical_id=("fake", "x"), children=())
        with self.assertRaisesRegex(BlockDeviceError, "template fake are not mirrored"):
            drbd_attach_net(MirrorConnect(disks=(disk,)), self.worlds[0])
        with self.assertRaisesRegex(BlockDeviceError, "template drbd cannot be renamed"):
            blockdev_rename(DiskRename(disk=self.ends[0], new=self.ends[0]), self.worlds[0])

    def test_boot(self) -> None:
        """After a boot nothing is open."""
        self.connect()
        for entry in os.scandir(f"{self.host.paths.run_dir}/fake-storage"):
            os.unlink(entry.path)
        self.assertEqual(self.state(0), DiskState(is_open=False, is_connected=False))
        self.assertEqual(self.state(1), DiskState(is_open=True, is_connected=False))

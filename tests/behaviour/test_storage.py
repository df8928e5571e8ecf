"""The behaviour suites on the storage plugins that need nothing but files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any
from unittest import skipUnless

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import BlockDeviceError, PrereqError
from ganeti.interfaces import IHost
from ganeti.model.disk import TRAITS, Disk
from ganeti.model.spec import DiskSpec
from ganeti.node.backend.host import ProcessRunner
from ganeti.storage.diskless import Diskless
from ganeti.storage.fake import FakeStorage
from ganeti.storage.fake_mirror import FakeMirror
from ganeti.storage.file_template import FileTemplate
from ganeti.testing.host import FakeHost
from ganeti.testing.storage_behaviours import (
    MirrorBehaviours,
    StorageBehaviours,
    StorageDataBehaviours,
    make_nodes,
    plain_disk,
)


class InDirectory(StorageDataBehaviours):
    """Nodes that share a directory beside their root directories."""

    def setUp(self) -> None:
        """A directory for everything."""
        self.directory = os.path.realpath(tempfile.mkdtemp(prefix="storage-"))
        self.addCleanup(shutil.rmtree, self.directory)
        os.mkdir(f"{self.directory}/images")
        super().setUp()

    def make_host(self, number: int = 1) -> IHost:
        """A node that allows the directory."""
        host = FakeHost(
            f"{self.directory}/node{number}", name=f"node{number}.example.com", processes=ProcessRunner()
        )
        os.makedirs(host.paths.conf_dir)
        with open(host.paths.file_storage_paths, "w", encoding="ascii") as stream:
            stream.write(f"# disks\n\n{self.directory}/images\n")
        return host

    def storage_dirs(self) -> Mapping[str, str]:
        """The directory, whatever the template."""
        return dict.fromkeys(("file", "sharedfile"), f"{self.directory}/images")

    def unit(self) -> str:
        """The directory."""
        return f"{self.directory}/images"


class FileTests(InDirectory, SynchronousTestCase):
    """The template `file`."""

    def make_storage(self) -> FileTemplate:
        """The plugin."""
        return FileTemplate("file")


@skipUnless(shutil.which("qemu-img"), "qemu-img is not installed")
class Qcow2FileTests(FileTests):
    """The template `file` with images of format qcow2."""

    file_driver = "qcow2"

    def test_format(self) -> None:
        """Whoever opens it is told the format."""
        opened = self.storage.open(self.host, self.created(), on_primary=True)
        self.assertEqual(opened.format, "qcow2")


class SharedFileTests(InDirectory, SynchronousTestCase):
    """The template `sharedfile`."""

    def make_storage(self) -> FileTemplate:
        """The plugin."""
        return FileTemplate("sharedfile")


class DisklessTests(StorageBehaviours, SynchronousTestCase):
    """The template `diskless`."""

    def make_storage(self) -> Diskless:
        """The plugin."""
        return Diskless()

    def make_host(self, number: int = 1) -> IHost:
        """A node that needs no files."""
        return FakeHost("/nonexistent", name=f"node{number}.example.com")

    def missing_disk(self) -> Disk:
        """Any disk at all."""
        return plain_disk("diskless")

    def test_no_disks(self) -> None:
        """No disk can be laid out or created."""
        spec = DiskSpec(index=0, size=8)
        error = self.assertRaises(PrereqError, self.storage.layout, spec, make_nodes(1), self.reservations)
        self.assertIn("inst1.example.com", str(error))
        self.assertRaises(
            BlockDeviceError, self.storage.create, self.host, self.missing_disk(), on_primary=True
        )


class FakeStorageTests(InDirectory, SynchronousTestCase):
    """The template `fake`."""

    def make_storage(self) -> FakeStorage:
        """The plugin."""
        return FakeStorage()

    def test_full_node(self) -> None:
        """Disks use up the pretended capacity."""
        self.storage = FakeStorage(capacity_mib=20)
        self.created(size=16)
        self.assertEqual(self.storage.space(self.host, "any").storage_free, 4)
        self.assertRaises(BlockDeviceError, self.created, size=8)


class FakePlainTests(FakeStorageTests):
    """The fake that stands for `plain`."""

    def make_storage(self) -> FakeStorage:
        """The plugin."""
        return FakeStorage("plain", TRAITS["plain"])

    def test_is_open(self) -> None:
        """It knows what is open; after a boot nothing is."""
        disk = self.created()
        self.assertFalse(self.storage.is_open(self.host, disk))
        self.storage.open(self.host, disk, on_primary=True)
        self.assertTrue(self.storage.is_open(self.host, disk))
        shutil.rmtree(self.host.paths.run_dir)
        self.assertFalse(self.storage.is_open(self.host, disk))

    def test_rename(self) -> None:
        """Data gets another name once; nothing is overwritten, and nothing that is missing is renamed."""
        disk = self.created()
        other = self.storage.beside(disk, "_old")
        for _ in range(2):
            self.storage.rename(self.host, disk, other)
            self.assertIsNone(self.storage.size_bytes(self.host, disk))
            self.assertIsNotNone(self.storage.size_bytes(self.host, other))
        self.storage.create(self.host, disk, on_primary=True)
        self.assertRaises(BlockDeviceError, self.storage.rename, self.host, disk, other)
        missing = self.make_disk()
        self.assertRaises(BlockDeviceError, self.storage.rename, self.host, missing, self.make_disk())


class FakeDrbdTests(MirrorBehaviours, InDirectory, SynchronousTestCase):
    """The fake that stands for `drbd`."""

    def make_storage(self) -> FakeMirror:
        """The plugin."""
        return FakeMirror(f"{self.directory}/mirrors", self.volumes(), rate_mib_s=1024)

    def volumes(self) -> FakeStorage:
        """What the data lies on."""
        return FakeStorage("plain", TRAITS["plain"], capacity_mib=1 << 20)

    def storage_of(self, part: Disk) -> Any:
        """Volumes below, the mirror above."""
        return self.volumes() if part.dev_type == "plain" else self.storage

    def pass_time(self, seconds: float) -> None:
        """Move the clocks of all nodes."""
        for host in self.hosts:
            host.sleep(seconds)

    def test_dead_node(self) -> None:
        """The end on a node that lost power is not open any more; the other one can take over."""
        first, second = self.synced_pair()
        shutil.rmtree(self.hosts[0].paths.run_dir)
        self.assertIsNone(self.storage.sync_status(self.hosts[0], first))
        self.open(second, 1, on_primary=True)
        self.assertTrue(self.status(second, 1).is_degraded)
        self.open(first, 0, on_primary=False)
        self.pass_time(3600)
        self.assertFalse(self.status(second, 1).is_degraded)

    def test_no_end_here(self) -> None:
        """A disk that was not filled for a node says so."""
        disk = msgspec.structs.replace(self.created(), params={})
        with self.assertRaisesRegex(BlockDeviceError, "no end on this node"):
            self.storage.open(self.host, disk, on_primary=True)

    def test_missing_volume(self) -> None:
        """Without its volumes an end is not opened; the message names the volume."""
        disk = self.created()
        self.volumes().remove(self.host, disk.children[1])
        with self.assertRaisesRegex(BlockDeviceError, "xenvg/.*disk0_meta .* missing on node node1"):
            self.storage.open(self.host, disk, on_primary=True)

    def test_space(self) -> None:
        """Data and metadata take space of the volumes."""
        self.created(size=8)
        self.assertEqual(self.storage.space(self.host, "xenvg").storage_free, (1 << 20) - 8 - 128)


class FakeSharedFileTests(FakeStorageTests):
    """The fake that stands for `sharedfile`."""

    def make_storage(self) -> FakeStorage:
        """The plugin."""
        return FakeStorage("sharedfile", TRAITS["sharedfile"], shared_dir=f"{self.directory}/shared")

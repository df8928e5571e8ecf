"""The behaviour suites on the storage plugins that need nothing but files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import BlockDeviceError, PrereqError
from ganeti.interfaces import IHost
from ganeti.model.disk import TRAITS, Disk
from ganeti.model.spec import DiskSpec
from ganeti.node.backend.host import ProcessRunner
from ganeti.storage.diskless import Diskless
from ganeti.storage.fake import FakeStorage
from ganeti.storage.file_template import FileTemplate
from ganeti.testing.host import FakeHost
from ganeti.testing.storage_behaviours import (
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


class FakeDrbdTests(FakeStorageTests):
    """The fake that stands for `drbd`."""

    def make_storage(self) -> FakeStorage:
        """The plugin."""
        return FakeStorage("drbd", TRAITS["drbd"])

    def test_needs_secondary(self) -> None:
        """A mirrored disk is not laid out on a single node."""
        spec = DiskSpec(index=0, size=8)
        self.assertRaises(PrereqError, self.storage.layout, spec, make_nodes(1), self.reservations)


class FakeSharedFileTests(FakeStorageTests):
    """The fake that stands for `sharedfile`."""

    def make_storage(self) -> FakeStorage:
        """The plugin."""
        return FakeStorage("sharedfile", TRAITS["sharedfile"], shared_dir=f"{self.directory}/shared")

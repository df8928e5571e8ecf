"""A node in a directory for tests of node functions: mix `WithNode` into a TestCase and call them.

The hypervisor and one disk template are fakes, the file templates are the real ones, programs are
really run, and the clock only moves by `sleep`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

import msgspec

from ganeti.hypervisors.fake import FakeHypervisor
from ganeti.interfaces import IProcessRunner, Plugins
from ganeti.model.calls.disks import DiskCreate
from ganeti.model.disk import Disk
from ganeti.model.filled import FilledInstance
from ganeti.model.spec import DiskSpec
from ganeti.node.backend.disks import blockdev_create
from ganeti.node.backend.host import ProcessRunner
from ganeti.node.backend.registry import NodeWorld
from ganeti.storage.diskless import Diskless
from ganeti.storage.fake import FakeStorage
from ganeti.storage.file_template import FileTemplate
from ganeti.testing.host import FakeHost
from ganeti.testing.hypervisor_behaviours import filled_instance
from ganeti.testing.storage_behaviours import make_nodes, make_reservations

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _TestCase
else:
    _TestCase = object


class WithNode(_TestCase):
    """Has `host`, `node` (the world of node functions) and `images`, a directory for disks."""

    def setUp(self) -> None:
        """A node of a virtual cluster."""
        super().setUp()
        self.directory = os.path.realpath(tempfile.mkdtemp(prefix="node-world-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.host = FakeHost(f"{self.directory}/node1", processes=self.make_processes())
        for directory in (self.host.paths.conf_dir, self.host.paths.data_dir, self.host.paths.run_dir):
            os.makedirs(directory)
        self.images = f"{self.directory}/images"
        os.mkdir(self.images)
        self.write(self.host.paths.file_storage_paths, f"{self.images}\n")
        self.reservations = make_reservations({"file": self.images, "sharedfile": self.images})
        self.node = self.world_with(FakeHypervisor())

    def make_processes(self) -> IProcessRunner:
        """What runs its programs."""
        return ProcessRunner()

    def world_with(self, hypervisor: Any) -> NodeWorld:
        """The same node with this hypervisor only."""
        storage = (FileTemplate("file"), FileTemplate("sharedfile"), Diskless(), FakeStorage())
        plugins = Plugins(
            hypervisors={hypervisor.name: hypervisor},
            storage={plugin.name: plugin for plugin in storage},
            iallocators={},
        )
        return NodeWorld(host=self.host, plugins=plugins)

    def write(self, path: str, text: str, *, mode: int = 0o644) -> str:
        """Write a file, its directory included; gives its name."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(path, mode)
        return path

    def make_disk(
        self, *, template: str = "file", index: int = 0, size: int = 4, driver: str = "loop"
    ) -> Disk:
        """A disk that is laid out."""
        spec = DiskSpec(index=index, size=size, file_driver=driver)
        disk: Disk = self.node.plugins.storage[template].layout(spec, make_nodes(1), self.reservations)
        return disk

    def created_disk(self, **wanted: Any) -> Disk:
        """A disk with its data."""
        disk = self.make_disk(**wanted)
        blockdev_create(DiskCreate(disk=disk, owner="inst1.example.com"), self.node)
        return disk

    def instance(self, *disks: Disk, **changes: Any) -> FilledInstance:
        """An instance with these disks."""
        base = filled_instance("inst1.example.com", "fake", {})
        return msgspec.structs.replace(base, disks=disks, **changes)

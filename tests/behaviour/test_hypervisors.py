"""The behaviour suites on the hypervisors that need nothing but files; kvm is in tests/system."""

from __future__ import annotations

import os
import shutil
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from ganeti.hypervisors.fake import FakeHypervisor
from ganeti.interfaces import IHost
from ganeti.testing.host import FakeHost
from ganeti.testing.hypervisor_behaviours import HypervisorBehaviours, MigratableBehaviours


class FakeHypervisorTests(HypervisorBehaviours, MigratableBehaviours, SynchronousTestCase):
    """The hypervisor `fake`."""

    def make_hypervisor(self) -> FakeHypervisor:
        """The plugin."""
        return FakeHypervisor()

    def make_host(self, number: int = 1) -> IHost:
        """A directory for each node."""
        root = tempfile.mkdtemp(prefix=f"node{number}-")
        self.addCleanup(shutil.rmtree, root)
        return FakeHost(root, name=f"node{number}.example.com")

    def test_memory_is_accounted(self) -> None:
        """What instances have is no longer free."""
        before = self.hypervisor.capacity(self.host).memory_free
        instance = self.started()
        after = self.hypervisor.capacity(self.host).memory_free
        self.assertEqual(before - after, instance.beparams.maxmem)

    def test_size_of_the_node(self) -> None:
        """A file gives a fake node another size."""
        directory = self.host.paths.hypervisor_dir("fake")
        os.makedirs(directory, exist_ok=True)
        with open(f"{directory}/.size", "w", encoding="ascii") as stream:
            stream.write('{"memory_total": 4096, "memory_dom0": 96}')
        self.assertEqual(self.hypervisor.capacity(self.host).memory_free, 4000)

    def test_ballooning(self) -> None:
        """Another memory size is listed."""
        instance = self.started()
        self.hypervisor.set_memory(self.host, instance, 96)
        self.assertEqual(self.found()[instance.name].memory, 96)

"""KVM with real guests: the behaviour suites, adoption, and heartbeats over a live migration.

Everything runs under emulation, with the tiny guest, on nodes that are directories of this machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import unittest
from typing import ClassVar

import msgspec
import pytest

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import CommandFailed, HypervisorError
from ganeti.hypervisors.kvm import process
from ganeti.hypervisors.kvm.files import files_of
from ganeti.hypervisors.kvm.hypervisor import KvmHypervisor
from ganeti.interfaces import IHost
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.calls.instances import RunState
from ganeti.model.filled import FilledInstance
from ganeti.model.paths import Paths
from ganeti.node.backend.host import Host
from ganeti.testing.hypervisor_behaviours import (
    HypervisorBehaviours,
    HypervisorWorld,
    MigratableBehaviours,
    filled_instance,
)
from ganeti.vcluster.tiny_guest import KERNEL_ARGS, TinyGuest, build
from ganeti.vcluster.tiny_heartbeats import DiskHeartbeats, console_heartbeats, disk_heartbeats

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

_MEMORY = 96
_BOOT_S = 90.0


class TinyGuestWorld(HypervisorWorld):
    """Nodes on directories of this machine, and a guest with one shared disk."""

    guest: ClassVar[TinyGuest]

    @classmethod
    def setUpClass(cls) -> None:
        """Build the guest, or say why that is not possible here."""
        super().setUpClass()
        if shutil.which("qemu-system-x86_64") is None:
            raise unittest.SkipTest("QEMU is not installed: apt-get install qemu-system-x86")
        try:
            cls.guest = build()
        except CommandFailed as error:
            raise unittest.SkipTest(str(error)) from error

    def setUp(self) -> None:
        """A directory for all nodes, and a disk that each of them reaches."""
        self.directory = tempfile.mkdtemp(prefix="kvm-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.disk = f"{self.directory}/disk.raw"
        with open(self.disk, "wb") as disk:
            disk.truncate(4 << 20)
        super().setUp()

    def make_hypervisor(self) -> KvmHypervisor:
        """The plugin."""
        return KvmHypervisor()

    def make_host(self, number: int = 1) -> IHost:
        """A real host on a directory, with a loopback address of its own."""
        name, root = f"node{number}.example.com", f"{self.directory}/node{number}"
        paths = Paths(root)
        os.makedirs(paths.data_dir, exist_ok=True)
        for list_name in ("node_primary_ips", "node_secondary_ips"):
            with open(paths.ssconf(list_name), "w", encoding="ascii") as stream:
                stream.write(f"{name} 127.0.0.{number}\n")
        return Host(paths, name)

    def make_instance(self, name: str = "inst1.example.com", number: int = 1) -> FilledInstance:
        """The tiny guest."""
        hvparams = {
            "kernel_path": self.guest.kernel,
            "initrd_path": self.guest.initrd,
            "kernel_args": KERNEL_ARGS,
            "root_path": None,
            "kvm_flag": "disabled",
        }
        return msgspec.structs.replace(
            filled_instance(name, "kvm", hvparams, memory=_MEMORY, number=number), disk_template="sharedfile"
        )

    def make_disks(self, instance: FilledInstance) -> list[OpenDisk]:
        """The shared disk."""
        return [OpenDisk(path=self.disk, size=4)]

    def await_guest(self, host: IHost, instance: FilledInstance) -> None:
        """Wait for the first heartbeat on the console."""
        self.await_console(host, instance, 1)

    def await_console(self, host: IHost, instance: FilledInstance, count: int) -> tuple[int, ...]:
        """Wait for some heartbeats on the console of a node; gives them."""
        path = files_of(host.paths, instance.name).console_log
        give_up = time.monotonic() + _BOOT_S
        while True:
            log = b""
            if os.path.exists(path):
                with open(path, "rb") as stream:
                    log = stream.read()
            beats = console_heartbeats(log)
            if len(beats) >= count:
                return beats
            if time.monotonic() > give_up:
                self.fail(f"the guest did not come up; console: {log[-500:]!r}")
            time.sleep(0.1)

    def await_more_heartbeats(self) -> DiskHeartbeats:
        """Wait until the guest has counted on; gives all heartbeats."""
        before = self.heartbeats().newest.number
        give_up = time.monotonic() + _BOOT_S
        while (found := self.heartbeats()).newest.number <= before:
            assert time.monotonic() < give_up, f"the guest does not go on after heartbeat {before}"
            time.sleep(0.1)
        return found

    def heartbeats(self) -> DiskHeartbeats:
        """What the guest left on its disk."""
        found = disk_heartbeats(self.disk)
        assert found is not None
        return found


class KvmBehaviourTests(TinyGuestWorld, HypervisorBehaviours, MigratableBehaviours, SynchronousTestCase):
    """The suites that every hypervisor passes."""


class KvmGuestTests(TinyGuestWorld, SynchronousTestCase):
    """What only a real guest can show."""

    def test_heartbeats_survive_a_restart(self) -> None:
        """A guest that shut down on request lost nothing and continues its numbers."""
        instance = self.started()
        self.await_console(self.host, instance, 3)
        self.hypervisor.stop(self.host, instance.name, force=False, timeout_s=self.patience_s)
        before = self.heartbeats()
        self.hypervisor.start(self.host, instance, self.make_disks(instance))
        beats = self.await_console(self.host, instance, 2)
        after = self.heartbeats()
        self.assertEqual(beats[0], before.newest.number + 1)
        self.assertEqual((len(after.boots), after.missing), (2, ()))

    def test_heartbeats_survive_a_live_migration(self) -> None:
        """The numbers go on at the target without a reset, a gap or a second boot."""
        target = self.make_host(2)
        instance = self.started()
        self.ended_later(target, instance)
        seen = self.await_console(self.host, instance, 2)
        disks = self.make_disks(instance)
        info = self.hypervisor.migration_info(self.host, instance)
        endpoint = self.hypervisor.accept(target, instance, disks, info, target.secondary_ip)
        self.assertTrue(endpoint.startswith("127.0.0.2:"), endpoint)
        self.hypervisor.migrate(self.host, instance, target.secondary_ip, live=True, endpoint=endpoint)
        while not (progress := self.hypervisor.progress(self.host, instance)).is_over:
            time.sleep(0.05)
        self.assertEqual(progress.status, "completed", progress.error)
        self.assertGreater(progress.transferred_ram or 0, 1 << 20)
        self.hypervisor.finish_source(self.host, instance, success=True, live=True)
        self.hypervisor.finish_target(target, instance, info, success=True)
        beats = self.await_console(target, instance, 3)
        found = self.heartbeats()
        self.assertGreaterEqual(beats[0], seen[-1])
        self.assertEqual((len(found.boots), found.missing), (1, ()))
        self.assertGreaterEqual(found.newest.number, beats[-1])

    def test_adoption(self) -> None:
        """A guest outlives the daemon: a new plugin object finds it, and can stop it."""
        instance = self.started()
        pid = process.find(files_of(self.host.paths, instance.name))
        assert pid is not None
        other = self.make_hypervisor()
        host = self.make_host(1)
        entry = other.list_running(host)[0]
        self.assertEqual((entry.name, entry.memory, entry.vcpus), (instance.name, _MEMORY, 1))
        other.stop(host, instance.name, force=True, timeout_s=self.patience_s)
        self.assertFalse(os.path.exists(f"/proc/{pid.pid}/exe"))

    def test_killed_process(self) -> None:
        """A QEMU that was killed is not listed, and its instance can be started again."""
        instance = self.started()
        found = process.find(files_of(self.host.paths, instance.name))
        assert found is not None
        os.kill(found.pid, signal.SIGKILL)
        self.assertTrue(process.await_end(self.host, files_of(self.host.paths, instance.name), 10))
        self.assertEqual(self.found(), {})
        self.hypervisor.start(self.host, instance, self.make_disks(instance))
        self.assertEqual(set(self.found()), {instance.name})

    def test_hanging_process(self) -> None:
        """A QEMU that does not answer is listed all the same, and ended by force."""
        instance = self.started()
        found = process.find(files_of(self.host.paths, instance.name))
        assert found is not None
        os.kill(found.pid, signal.SIGSTOP)
        self.assertEqual(set(self.found()), {instance.name})
        self.hypervisor.stop(self.host, instance.name, force=True, timeout_s=self.patience_s)
        self.assertEqual(self.found(), {})

    def test_interrupted_start(self) -> None:
        """A QEMU whose start was cut off before it was set up does not pass for a running instance."""
        instance = self.make_instance()
        self.ended_later(self.host, instance)
        self.hypervisor._launch(self.host, instance, self.make_disks(instance))
        self.assertEqual(self.found()[instance.name].state, RunState.PAUSED)
        self.hypervisor.start(self.host, instance, self.make_disks(instance))
        self.assertEqual(self.found()[instance.name].state, RunState.RUNNING)

    def test_failed_start_leaves_nothing(self) -> None:
        """QEMU's own words are in the error, and no file of the instance stays."""
        instance = self.make_instance()
        missing = [OpenDisk(path=f"{self.directory}/nowhere", size=4)]
        error = self.assertRaises(HypervisorError, self.hypervisor.start, self.host, instance, missing)
        self.assertIn("nowhere", str(error))
        where = files_of(self.host.paths, instance.name)
        self.assertEqual((self.found(), os.path.exists(where.runtime)), ({}, False))

    def test_migration_to_nobody(self) -> None:
        """When nobody listens the migration fails, and the guest goes on where it is."""
        instance = self.started()
        self.await_guest(self.host, instance)
        self.hypervisor.migrate(self.host, instance, "127.0.0.9", live=False, endpoint="127.0.0.9:9")
        while not (progress := self.hypervisor.progress(self.host, instance)).is_over:
            time.sleep(0.05)
        self.assertEqual(progress.status, "failed")
        self.hypervisor.finish_source(self.host, instance, success=False, live=False)
        self.await_more_heartbeats()

    def test_two_migrations_to_one_node(self) -> None:
        """A second instance is received on another port."""
        target = self.make_host(2)
        first, second = self.started(), self.make_instance("inst2.example.com", number=2)
        self.ended_later(self.host, second)
        self.hypervisor.start(self.host, second, ())
        endpoints = []
        for instance, disks in ((first, self.make_disks(first)), (second, [])):
            self.ended_later(target, instance)
            info = self.hypervisor.migration_info(self.host, instance)
            endpoints.append(self.hypervisor.accept(target, instance, disks, info, "127.0.0.2"))
        self.assertEqual(len(set(endpoints)), 2)

    def test_cancelled_migration(self) -> None:
        """A migration cancelled on its way leaves the guest running at the source."""
        target = self.make_host(2)
        slow = {"migration_bandwidth": 1}
        instance = msgspec.structs.replace(self.make_instance(), hvglobals=slow)
        for host in (self.host, target):
            self.ended_later(host, instance)
        disks = self.make_disks(instance)
        self.hypervisor.start(self.host, instance, disks)
        self.await_guest(self.host, instance)
        info = self.hypervisor.migration_info(self.host, instance)
        endpoint = self.hypervisor.accept(target, instance, disks, info, "127.0.0.2")
        self.hypervisor.migrate(self.host, instance, "127.0.0.2", live=True, endpoint=endpoint)
        time.sleep(0.5)
        self.assertEqual(self.hypervisor.progress(self.host, instance).status, "active")
        self.hypervisor.cancel(self.host, instance)
        self.hypervisor.finish_target(target, instance, info, success=False)
        self.hypervisor.finish_source(self.host, instance, success=False, live=True)
        # QEMU shuts the connection down a moment before it notes that it was told to cancel; what it calls
        # the end depends on which of both its migration thread notices first.
        self.assertIn(self.hypervisor.progress(self.host, instance).status, ("cancelled", "failed"))
        self.assertEqual(self.found()[instance.name].state, RunState.RUNNING)
        self.assertEqual(self.found(target), {})
        after = self.await_more_heartbeats()
        self.assertEqual((len(after.boots), after.missing), (1, ()))

    def test_user_shutdown(self) -> None:
        """With user_shutdown a guest that switched itself off is told apart from one that is gone."""
        base = self.make_instance()
        instance = msgspec.structs.replace(base, hvparams={**base.hvparams, "user_shutdown": True})
        self.ended_later(self.host, instance)
        self.hypervisor.start(self.host, instance, self.make_disks(instance))
        self.await_guest(self.host, instance)
        with self.hypervisor._qmp(self.host, instance.name) as qmp:
            qmp.execute("system_powerdown")
        give_up = time.monotonic() + self.patience_s
        while self.found()[instance.name].state is RunState.RUNNING and time.monotonic() < give_up:
            time.sleep(0.1)
        self.assertEqual(self.found()[instance.name].state, RunState.SHUTDOWN)

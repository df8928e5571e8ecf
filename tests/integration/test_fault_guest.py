"""A real guest under KVM does not notice that the daemons around it die."""

from __future__ import annotations

import shutil
import threading
import time
import unittest
from pathlib import Path

import psutil
import pytest

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import CommandFailed
from ganeti.vcluster.tiny_guest import build
from ganeti.vcluster.tiny_heartbeats import DiskHeartbeats, console_heartbeats, disk_heartbeats
from tests.integration.cluster import RunningCluster, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

NAME = "guest.virtual"
BOOT_S = 120.0


def setUpModule() -> None:
    """Two nodes and a guest with a disk that both reach."""
    if shutil.which("qemu-system-x86_64") is None:
        raise unittest.SkipTest("QEMU is not installed: apt-get install qemu-system-x86")
    try:
        build()
    except CommandFailed as error:
        raise unittest.SkipTest(str(error)) from error
    GuestTests.cluster = RunningCluster(nodes=2, hypervisor="kvm")


def tearDownModule() -> None:
    """End all of it."""
    GuestTests.cluster.destroy()


class GuestTests(SynchronousTestCase):
    """Daemons die while a guest runs, and while it moves."""

    cluster: RunningCluster

    def setUp(self) -> None:
        """It runs on the second node and counts."""
        options = "-o tiny -t sharedfile --disk 0:size=32m --no-nics -B memory=96 -n node2.virtual"
        self.cluster.gnt(f"gnt-instance add {options} {NAME}")
        self.addCleanup(self.cluster.gnt, f"gnt-instance remove -f {NAME}", check=False)
        self.addCleanup(self.cluster.start)
        self.wait_for_beats(2)

    def beats(self) -> DiskHeartbeats | None:
        """What the guest left on its disk."""
        (disk,) = Path(self.cluster.layout.shared_dir, NAME).iterdir()
        return disk_heartbeats(str(disk))

    def newest(self) -> int:
        """Number of its last heartbeat."""
        found = self.beats()
        return 0 if found is None or not found.boots else found.newest.number

    def wait_for_beats(self, number: int) -> None:
        """Wait until it has counted so far."""
        until(lambda: self.newest() >= number, f"no heartbeat {number}", timeout_s=BOOT_S)

    def guests(self) -> dict[int, int]:
        """Process ids of QEMU with the number of their node."""
        return {pid: number for number in (1, 2) for pid in self.cluster.programs("qemu", number)}

    def listed(self) -> list[str]:
        """Status and node, as the list has them."""
        return self.cluster.gnt(f"gnt-instance list --no-headers -o status,pnode {NAME}").stdout.split()

    def assert_never_restarted(self) -> None:
        """One boot, and no heartbeat is missing."""
        found = self.beats()
        assert found is not None
        self.assertEqual((len(found.boots), found.missing), (1, ()), f"{found}\n{self.consoles()}")

    def consoles(self) -> str:
        """What the guest said on either node, for a failure."""
        logs = [Path(self.cluster.paths(number).log_dir, "kvm", f"{NAME}.console") for number in (1, 2)]
        return "\n".join(f"{log}: {log.read_bytes()[-3000:]!r}" for log in logs if log.exists())

    def test_lives_on_and_is_adopted(self) -> None:
        """With both daemons killed it goes on; new ones know it, move it live and stop it."""
        (guest,) = self.guests()
        for daemon, node in (("ganeti-noded", 2), ("ganeti-noded", 1), ("ganeti-masterd", 1)):
            self.cluster.kill(daemon, node)
        self.wait_for_beats(self.newest() + 2)
        self.cluster.start()
        self.assertEqual(list(self.guests()), [guest])
        until(lambda: self.listed() == ["running", "node2.virtual"], "it is not adopted", timeout_s=10)
        self.cluster.gnt(f"gnt-instance migrate -f {NAME}")
        self.assertEqual(self.listed(), ["running", "node1.virtual"])
        self.wait_for_beats(self.newest() + 2)
        self.assert_never_restarted()
        console = Path(self.cluster.paths(1).log_dir, "kvm", f"{NAME}.console")
        self.assertTrue(console_heartbeats(console.read_bytes()))
        self.cluster.gnt(f"gnt-instance shutdown {NAME}")
        self.assertEqual(self.guests(), {})

    def test_killed_in_the_middle_of_a_migration(self) -> None:
        """Whatever is left when the source's noded dies, `migrate --cleanup` settles it: one guest runs."""
        outcome: list[int] = []

        def migrate() -> None:
            outcome.append(self.cluster.gnt(f"gnt-instance migrate -f {NAME}", check=False).returncode)

        migration = threading.Thread(target=migrate, daemon=True)
        migration.start()
        until(lambda: len(self.guests()) == 2, "no guest waits on the target", timeout_s=30)
        time.sleep(0.1)
        self.cluster.kill("ganeti-noded", 2)
        self.cluster.start_daemon("ganeti-noded", 2)
        migration.join(120)
        self.assertEqual(len(outcome), 1, "the migration does not end")
        if outcome != [0]:
            self.cluster.gnt(f"gnt-instance migrate --cleanup -f {NAME}")
        until(lambda: len(self.guests()) == 1, "more than one is left", timeout_s=15)
        ((guest, node),) = self.guests().items()
        self.assertEqual(self.listed(), ["running", f"node{node}.virtual"])
        self.assertTrue(psutil.pid_exists(guest))
        self.wait_for_beats(self.newest() + 2)
        self.assert_never_restarted()

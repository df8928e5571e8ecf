"""Node daemons that die, hang or run plugins with mistakes: one call suffers, nobody else."""

from __future__ import annotations

import shutil
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import RunningCluster, matches, seconds_of, until

BROKEN = '''
    """A hypervisor with mistakes: what runs on it is up to the fake one."""

    import os
    import signal

    from ganeti.hypervisors.fake import FakeHypervisor
    from ganeti.model.param_tables.hv import HYPERVISORS


    class BrokenHypervisor(FakeHypervisor):
        """Cannot start anything, and kills its process instead of a reboot."""

        name = "broken"
        params = HYPERVISORS["fake"]

        def start(self, host, instance, disks, *, paused=False):
            if not os.path.exists(host.paths.root + "/all-well"):
                raise ValueError("a mistake of the plugin")
            super().start(host, instance, disks, paused=paused)

        def reboot(self, host, instance, disks):
            os.kill(os.getpid(), signal.SIGKILL)


    broken = BrokenHypervisor()
'''


def setUpModule() -> None:
    """Three nodes, and a plugin of an administrator who made mistakes."""
    NodesCase.plugins = Path(tempfile.mkdtemp(prefix="fault-plugins-"))
    (NodesCase.plugins / "hypervisors").mkdir()
    (NodesCase.plugins / "hypervisors" / "broken_one.py").write_text(textwrap.dedent(BROKEN))
    NodesCase.cluster = RunningCluster(nodes=3, environment={"GANETI_PLUGIN_PATH": str(NodesCase.plugins)})


def tearDownModule() -> None:
    """End all of it."""
    NodesCase.cluster.destroy()
    shutil.rmtree(NodesCase.plugins)


class NodesCase(SynchronousTestCase):
    """What happens to node daemons, and what is left."""

    cluster: RunningCluster
    plugins: Path

    def add_instance(self, name: str, node: int, *more: str) -> None:
        """An instance that has no disk and is not started."""
        options = f"-t diskless -o noop --no-nics --no-install -n node{node}.virtual"
        self.cluster.gnt(f"gnt-instance add {options}", *more, name)
        self.addCleanup(self.remove_instance, name)

    def remove_instance(self, name: str) -> None:
        """The opposite."""
        self.cluster.gnt(f"gnt-instance remove -f --ignore-failures {name}", check=False)

    def status(self, name: str) -> str:
        """What the list says of an instance."""
        return self.cluster.gnt(f"gnt-instance list --no-headers -o status {name}").stdout.strip()

    def submit_delay(self, node: int, seconds: float) -> int:
        """A job that sleeps on a node."""
        opcode = {
            "OP_ID": "OP_TEST_DELAY",
            "duration": seconds,
            "on_master": False,
            "on_nodes": [f"node{node}.virtual"],
        }
        return self.cluster.client().submit([opcode])

    def sleepers(self, node: int) -> list[psutil.Process]:
        """Function processes of a node."""
        daemons = {self.cluster.pid("ganeti-noded", node)}
        zygotes = {child.pid for pid in daemons for child in psutil.Process(pid).children()}
        return [child for pid in zygotes for child in psutil.Process(pid).children()]

    def error_of(self, job: int, *, timeout_s: float = 40.0) -> str:
        """Why a job failed."""
        ended = self.cluster.wait_for_jobs(job, timeout_s=timeout_s)
        self.assertEqual(ended, {job: "error"})
        result: Any = self.cluster.job(job)[1]
        return str(result[1][0])


class DeadNodedTests(NodesCase):
    """`kill -9` of noded."""

    def test_killed_during_a_call(self) -> None:
        """The job fails and names the node, whether noded comes back or not; no function goes on alone."""
        back, away = self.submit_delay(2, 300), self.submit_delay(3, 300)
        until(lambda: self.sleepers(2) and self.sleepers(3), "nobody sleeps")
        functions = [*self.sleepers(2), *self.sleepers(3)]
        self.cluster.kill("ganeti-noded", 2)
        self.cluster.kill("ganeti-noded", 3)
        killed_at = time.monotonic()
        until(
            lambda: not any(alive(process) for process in functions), "functions outlive noded", timeout_s=5
        )
        self.cluster.start_daemon("ganeti-noded", 2)
        self.assertRegex(self.error_of(back, timeout_s=10), "delay on node node2.virtual failed: .* is lost")
        after = self.submit_delay(2, 0)
        self.assertEqual(self.cluster.wait_for_jobs(after), {after: "success"})

        listed = seconds_of(lambda: self.cluster.gnt("gnt-instance list"))
        self.assertLess(listed, 3)
        self.assertRegex(self.error_of(away), "node3.virtual cannot be reached: .*refused")
        self.assertLess(time.monotonic() - killed_at, 30)
        self.assertLess(seconds_of(lambda: self.cluster.gnt("gnt-node list")), 2)
        self.cluster.start()
        self.assert_all_seen()

    def assert_all_seen(self) -> None:
        """No node is unknown to the list."""
        until(lambda: "?" not in self.cluster.gnt("gnt-node list").stdout, "a node is not seen", timeout_s=5)

    def test_guests_live_on(self) -> None:
        """Guests do not notice that noded died, and a new one knows them."""
        self.add_instance("live.virtual", 2)
        self.cluster.gnt("gnt-instance start live.virtual")
        self.cluster.kill("ganeti-noded", 2)
        self.assertEqual(self.status("live.virtual"), "ERROR_nodedown")
        self.cluster.start()
        self.assertEqual(self.status("live.virtual"), "running")
        self.cluster.gnt("gnt-instance reboot live.virtual")
        self.cluster.gnt("gnt-instance shutdown live.virtual")
        self.assertEqual(self.status("live.virtual"), "ADMIN_down")


class LostConnectionTests(NodesCase):
    """The connection breaks, both daemons live."""

    def test_call_goes_on(self) -> None:
        """A call under way is not lost with its connection: its result comes over the next one (S2.2-025)."""
        logged_before = len(self.cluster.log("ganeti-masterd"))
        job = self.submit_delay(2, 2)
        until(lambda: self.sleepers(2), "nobody sleeps")
        functions = self.sleepers(2)
        # The kernel ends the connection at both ends, as some firewalls do.
        self.cluster.run(["ss", "--kill", "dst", self.cluster.node(2).address, "dport", "=", ":1811"])
        lost = "connection to node node2.virtual lost"
        until(
            lambda: lost in self.cluster.log("ganeti-masterd")[logged_before:], "ss --kill does nothing here"
        )
        self.assertEqual(self.sleepers(2), functions)
        self.assertEqual(self.cluster.wait_for_jobs(job, timeout_s=15), {job: "success"})
        self.assertNotIn("?", self.cluster.gnt("gnt-node list").stdout)


class HangingNodedTests(NodesCase):
    """SIGSTOP of noded."""

    def test_stopped(self) -> None:
        """Calls time out, lists answer without the node, others are not delayed; SIGCONT heals.

        S2.2-007, S2.2-022.
        """
        self.add_instance("stopped.virtual", 2)
        self.cluster.gnt("gnt-instance start stopped.virtual")
        with self.cluster.stopped("ganeti-noded", 2):
            hanging, others = self.submit_delay(2, 0), [self.submit_delay(3, 0) for _ in range(5)]
            began = time.monotonic()
            self.assertEqual(set(self.cluster.wait_for_jobs(*others).values()), {"success"})
            self.assertLess(time.monotonic() - began, 1)
            self.assertLess(seconds_of(lambda: self.cluster.gnt("gnt-node list")), 8)
            self.assertLess(seconds_of(lambda: self.cluster.gnt("gnt-node list")), 2)
            free = self.cluster.gnt("gnt-node list --no-headers --separator=: -o name,mfree").stdout
            self.assertRegex(free, r"node1.virtual:\d+\S*\nnode2.virtual:\?\nnode3.virtual:\d+\S*\n")
            self.assertLess(seconds_of(lambda: self.cluster.gnt("gnt-instance list")), 2)
            self.assertEqual(self.status("stopped.virtual"), "ERROR_nodedown")
            self.assertRegex(self.error_of(hanging), "node2.virtual")
            self.assertLess(time.monotonic() - began, 35)
        until(lambda: self.status("stopped.virtual") == "running", "node2 does not come back", timeout_s=5)
        healed = self.submit_delay(2, 0)
        self.assertEqual(self.cluster.wait_for_jobs(healed), {healed: "success"})


class MistakeTests(NodesCase):
    """A plugin that raises what it must not raise, or kills its process."""

    def test_one_call_fails(self) -> None:
        """An undeclared exception fails one call, with a reference to the log; the link lives (S2.2-026)."""
        self.cluster.gnt("gnt-cluster modify --enabled-hypervisors broken")
        self.addCleanup(self.cluster.gnt, "gnt-cluster modify --enabled-hypervisors fake")
        self.add_instance("broken.virtual", 2, "-H", "broken")
        logged_before = len(self.cluster.log("ganeti-masterd"))
        lives = self.submit_delay(2, 3)
        until(lambda: self.sleepers(2), "nobody sleeps")
        failed = self.cluster.gnt("gnt-instance start broken.virtual", check=False)
        self.assertEqual(failed.returncode, 1)
        told = " ".join(failed.stderr.split())
        self.assertTrue(matches(r"ValueError.* reference|ValueError.*under [0-9a-f]{8}", told), told)
        reference = told.rpartition("under ")[2][:8]
        log = self.cluster.log("ganeti-noded", 2)
        self.assertIn(reference, log)
        self.assertIn("a mistake of the plugin", log)
        self.assertEqual(self.status("broken.virtual"), "ERROR_down")

        Path(self.cluster.paths(2).root, "all-well").touch()
        self.cluster.gnt("gnt-instance start broken.virtual")
        died = self.cluster.gnt("gnt-instance reboot -t soft broken.virtual", check=False)
        self.assertEqual(died.returncode, 1)
        self.assertTrue(matches("SIGKILL", died.stderr), died.stderr)
        self.assertEqual(self.status("broken.virtual"), "running")
        self.assertEqual(self.cluster.wait_for_jobs(lives), {lives: "success"})
        log = self.cluster.log("ganeti-masterd")[logged_before:]
        self.assertNotIn("connection to node node2.virtual lost", log)


def alive(process: psutil.Process) -> bool:
    """Whether it runs; one that nobody collected does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False

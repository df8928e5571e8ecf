"""The demonstration: a cluster, a guest, a migration, a dead node, a failover, and nothing left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import psutil
import pytest

from twisted.trial.unittest import SynchronousTestCase

CHECKOUT = Path(__file__).resolve().parents[2]


class DemoTests(SynchronousTestCase):
    """`python -m ganeti.vcluster.demo`, which `bin/demo` calls once everything is set up."""

    def setUp(self) -> None:
        base = tempfile.mkdtemp(prefix="demo-")
        self.addCleanup(shutil.rmtree, base, ignore_errors=True)
        self.directory = os.path.join(base, "cluster")

    def run_module(self, module: str, *words: str) -> str:
        """What a program of virtual clusters prints; it must succeed."""
        # Daemons that it starts must not hold a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [sys.executable, "-m", f"ganeti.vcluster.{module}", *words],
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=280,
                check=False,
            )
            output.seek(0)
            printed = output.read()
        self.assertEqual(done.returncode, 0, printed)
        return printed

    def assert_nothing_left(self) -> None:
        """No process and no file."""
        self.assertFalse(os.path.exists(self.directory))
        self.assertEqual(_processes_with(self.directory), [])

    def test_fake(self) -> None:
        """With the hypervisor fake, which needs nothing of the machine; kept until it is destroyed."""
        printed = self.run_module("demo", "--hypervisor", "fake", "--dir", self.directory, "--keep")
        self.assertIn("demo passed", printed)
        self.assertIn(f"ganeti-vcluster destroy {self.directory}", printed)
        listed = self.run_module("main", "exec", self.directory, "gnt-instance", "list")
        self.assertIn("running", listed)
        self.run_module("main", "destroy", self.directory)
        self.assert_nothing_left()

    @pytest.mark.system
    @unittest.skipIf(shutil.which("qemu-system-x86_64") is None, "needs qemu-system-x86")
    def test_kvm(self) -> None:
        """With a real guest: its heartbeat goes on over the migration, and again after the failover."""
        printed = self.run_module("demo", "--hypervisor", "kvm", "--dir", self.directory)
        self.assertIn("demo passed", printed)
        self.assertIn("ok: the guest was not started again", printed)
        self.assertIn("ok: and went on counting where the last one stopped", printed)
        self.assert_nothing_left()

    def test_refused(self) -> None:
        """Two nodes are too few to lose one."""
        done = subprocess.run(
            [sys.executable, "-m", "ganeti.vcluster.demo", "--nodes", "2"],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((done.returncode, "3 nodes" in done.stderr), (2, True))


def _processes_with(directory: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if process.pid != os.getpid() and any(directory in word for word in words):
            found.append(process)
    return found

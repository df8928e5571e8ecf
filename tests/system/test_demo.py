"""The demonstration as a whole: a cluster, a guest, a migration, a dead node, a failover, and nothing left."""

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

    def demo(self, *words: str) -> str:
        """What a demonstration prints; it must pass and leave no process and no file."""
        base = tempfile.mkdtemp(prefix="demo-")
        self.addCleanup(shutil.rmtree, base, ignore_errors=True)
        directory = os.path.join(base, "cluster")
        output = Path(base, "output")
        with open(output, "wb") as stream:
            done = subprocess.run(
                [sys.executable, "-m", "ganeti.vcluster.demo", "--dir", directory, *words],
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                timeout=280,
                check=False,
            )
        printed = output.read_text()
        self.assertEqual(done.returncode, 0, printed)
        self.assertIn("demo passed", printed)
        self.assertFalse(os.path.exists(directory))
        self.assertEqual(_processes_with(directory), [])
        return printed

    def test_fake(self) -> None:
        """With the hypervisor fake, which needs nothing of the machine."""
        self.assertIn("ok: the failover is among them", self.demo("--hypervisor", "fake"))

    @pytest.mark.system
    @unittest.skipIf(shutil.which("qemu-system-x86_64") is None, "needs qemu-system-x86")
    def test_kvm(self) -> None:
        """With a real guest: its heartbeat goes on over the migration, and again after the failover."""
        printed = self.demo("--hypervisor", "kvm")
        self.assertIn("ok: the guest was not started again", printed)
        self.assertIn("ok: and went on counting where the last one stopped", printed)

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

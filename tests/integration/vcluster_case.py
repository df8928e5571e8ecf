"""Virtual clusters made, used and removed by their own command, as a user does it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from twisted.trial.unittest import SynchronousTestCase

from ganeti.vcluster.layout import Layout, load

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAM = str(CHECKOUT / "bin" / "ganeti-vcluster")

Done = subprocess.CompletedProcess[str]


class VclusterCase(SynchronousTestCase):
    """Every test has directories of its own, and leaves nothing behind."""

    def setUp(self) -> None:
        self.base = os.path.realpath(tempfile.mkdtemp(prefix="vc-"))
        self.directory = f"{self.base}/cluster"
        self.addCleanup(self._clean)

    def _clean(self) -> None:
        for file in list(Path(self.base).glob("**/vcluster.json")):
            self.run_program("destroy", str(file.parent))
        shutil.rmtree(self.base, ignore_errors=True)

    def run_program(self, *words: str, timeout_s: float = 120.0) -> Done:
        """`ganeti-vcluster WORDS`, however it ends."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("GANETI_")}
        # Daemons that it starts must not hold our pipes open.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(
                [sys.executable, PROGRAM, *words],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=timeout_s,
                check=False,
            )
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(list(words), done.returncode, out.read(), err.read())

    def vcluster(self, command: str, *words: str) -> str:
        """`ganeti-vcluster COMMAND DIR WORDS` for our directory; it must succeed."""
        done = self.run_program(command, self.directory, *words)
        self.assertEqual(done.returncode, 0, f"{command} {words}: {done.stdout}{done.stderr}")
        return done.stdout

    def gnt(self, *words: str) -> str:
        """A tool on the master; it must succeed."""
        return self.vcluster("exec", *words)

    @property
    def layout(self) -> Layout:
        """Of the cluster in our directory."""
        return load(self.directory)

    def assert_nothing_left(self) -> None:
        """No process, mount, namespace or file of our directory is there any more."""
        self.assertEqual([process for process in psutil.process_iter() if self._is_of_us(process)], [])
        self.assertNotIn(self.directory, Path("/proc/self/mounts").read_text())
        self.assertFalse(os.path.exists(self.directory))

    def _is_of_us(self, process: psutil.Process) -> bool:
        if process.pid == os.getpid():
            return False
        try:
            words = [*process.cmdline(), *process.environ().values(), process.cwd()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            return False
        return any(self.directory in word for word in words)

"""The command line tools on a cluster of one node with real daemons."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ganeti.model.paths import Paths

CHECKOUT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60


class Cluster:
    """A node with a root directory and a loopback address of its own.

    Args:
        root: directory.
        address: 127.x.y.z that nobody else uses.
    """

    def __init__(self, root: Path, address: str) -> None:
        self.paths = Paths(str(root))
        (root / "etc").mkdir(parents=True)
        (root / "etc/hostname").write_text("node1.test\n")
        (root / "etc/hosts").write_text(f"{address} node1.test\n{_sibling(address)} cluster.test\n")
        self.environ = {**os.environ, "GANETI_ROOTDIR": str(root)}

    def argv(self, command_line: str, *more: str) -> list[str]:
        """How a tool is started."""
        tool, *words = command_line.split()
        return [sys.executable, str(CHECKOUT / "bin" / tool), *words, *more]

    def run(self, command_line: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run a tool without a terminal."""
        return subprocess.run(
            self.argv(command_line, *more),
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            check=False,
        )

    def pid(self, daemon: str) -> int | None:
        """Process id of a daemon; None: it does not run."""
        try:
            return int(Path(self.paths.pid_file(daemon)).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def kill_master(self) -> None:
        """End masterd without warning."""
        pid = self.pid("ganeti-masterd")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def start_master(self) -> None:
        """Start masterd again."""
        subprocess.run(
            [sys.executable, "-m", "ganeti.daemons.launcher", "ganeti-masterd"],
            env=self.environ,
            cwd=CHECKOUT,
            check=True,
            timeout=TIMEOUT_S,
        )

    def stop(self) -> None:
        """End every daemon that was started."""
        for daemon in ("ganeti-rapi", "ganeti-confd", "ganeti-masterd", "ganeti-noded"):
            pid = self.pid(daemon)
            if pid is not None:
                try:
                    os.kill(pid, signal.SIGTERM)
                except ProcessLookupError:
                    continue
                _wait_for_end(pid)


def _sibling(address: str) -> str:
    """Another loopback address, for the cluster itself."""
    first, second, *rest = address.split(".")
    return ".".join([first, str(int(second) - 1), *rest])


def _wait_for_end(pid: int) -> None:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]:
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)


class ToolTests(SynchronousTestCase):
    """One story, as setting a cluster up takes seconds."""

    def setUp(self) -> None:
        """An initialised cluster."""
        root = Path(tempfile.mkdtemp(prefix="cli-"))
        self.addCleanup(shutil.rmtree, root)
        number = os.getpid()
        self.cluster = Cluster(root, f"127.99.{number // 250 % 250}.{number % 250 + 1}")
        self.addCleanup(self.cluster.stop)
        self.ok(
            "gnt-cluster init --enabled-hypervisors fake --enabled-disk-templates diskless,file cluster.test"
        )

    def ok(self, command_line: str, *more: str) -> str:
        """Output of a command that must succeed."""
        done = self.cluster.run(command_line, *more)
        self.assertEqual(done.returncode, 0, f"{command_line}: {done.stdout}{done.stderr}")
        return done.stdout

    def refused(self, command_line: str, code: int = 1) -> str:
        """What a command says that must fail."""
        done = self.cluster.run(command_line)
        self.assertEqual(done.returncode, code, f"{command_line}: {done.stdout}{done.stderr}")
        return done.stderr

    def test_story(self) -> None:
        """Nodes, instances, jobs, tags, filters, mistakes, and the end of the cluster."""
        self.assertEqual(self.ok("gnt-cluster getmaster"), "node1.test\n")
        self.assertEqual(self.ok("gnt-node list --no-headers --separator=: -o name,role"), "node1.test:M\n")
        self.instances()
        self.jobs()
        self.interrupted()
        self.mistakes()
        self.restart()
        self.assertIn("remove them first", self.refused("gnt-cluster destroy --yes-do-it"))
        self.ok("gnt-instance remove -f one.test")
        self.ok("gnt-instance remove -f two.test")
        self.ok("gnt-cluster destroy --yes-do-it")
        self.assertIn("Cluster not initialized", self.refused("gnt-node list"))

    def instances(self) -> None:
        """Creation, states, lists, changes."""
        for name in ("one.test", "two.test"):
            self.ok(f"gnt-instance add -t diskless --no-install --no-nics --ignore-ipolicy {name}")
        text = self.ok("gnt-instance start --force-multiple one two")
        self.assertIn("Submitted jobs ", text)
        listed = "gnt-instance list --no-headers --separator=: -o name,status"
        self.assertEqual(self.ok(listed), "one.test:running\ntwo.test:running\n")
        self.ok("gnt-instance add-tags one.test prod")
        self.ok("gnt-instance shutdown --tags --force-multiple prod")
        self.assertEqual(self.ok(listed, 'status == "ADMIN_down"'), "one.test:ADMIN_down\n")
        self.assertEqual(self.ok(listed, '"prod" in tags'), "one.test:ADMIN_down\n")
        self.assertIn(" - admin_state -> offline\n", self.ok("gnt-instance modify --offline one"))
        self.assertIn("  State: configured to be offline", self.ok("gnt-instance info one.test"))
        self.ok("gnt-instance modify --online one")
        self.ok("gnt-cluster modify -B maxmem=256")
        (row,) = json.loads(self.ok("gnt-instance list --output json -o name,be/maxmem,oper_ram one"))
        self.assertEqual(row, {"name": "one.test", "be/maxmem": 256, "oper_ram": None})
        self.assertIn("no terminal to ask on", self.refused("gnt-instance remove two.test"))

    def jobs(self) -> None:
        """Submission without waiting, waiting, cancelling, draining."""
        done = self.cluster.run("gnt-debug delay --submit --print-jobid 0.2")
        job = done.stdout.strip()
        self.assertEqual(done.stderr, f"JobID: {job}\n")
        self.assertEqual(self.ok(f"gnt-job wait {job}"), "")
        self.assertIn("- Job ID: ", self.ok(f"gnt-job info {job}"))
        self.assertIn("no longer waiting", self.cluster.run(f"gnt-job cancel {job}").stdout)
        self.ok("gnt-cluster queue drain")
        self.assertIn("gnt-cluster queue undrain", self.refused("gnt-debug delay 0"))
        self.ok("gnt-cluster queue undrain")
        self.assertIn("Archived ", self.ok("gnt-job autoarchive all"))

    def interrupted(self) -> None:
        """A delay that may be interrupted ends when somebody connects to the socket that it tells."""
        waiting = subprocess.Popen(
            self.cluster.argv("gnt-debug delay -i 600"),
            env=self.cluster.environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert waiting.stdout is not None
        told = re.search("connect to (.*) to end", waiting.stdout.readline())
        assert told is not None
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(told[1])
        rest, _ = waiting.communicate(timeout=TIMEOUT_S)
        self.assertIn("interrupted", rest)
        self.assertEqual(waiting.returncode, 0)

    def mistakes(self) -> None:
        """What is wrong is refused with the reason, and nothing changes."""
        self.assertIn("error type: unknown_entity", self.refused("gnt-instance start nosuch"))
        self.assertIn("did you mean", self.refused("gnt-cluster modify -B maxmm=1"))
        self.assertIn("unknown fields nam", self.refused("gnt-instance list -o nam", 14))
        self.assertIn("already", self.refused("gnt-cluster init cluster.test"))

    def restart(self) -> None:
        """masterd dies under a command that waits; the command goes on when it is back."""
        waiting = subprocess.Popen(
            self.cluster.argv("gnt-debug delay 30"),
            env=self.cluster.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        listed = "gnt-job list --no-headers --running"
        for _ in range(100):
            if self.ok(listed):
                break
            time.sleep(0.1)
        self.cluster.kill_master()
        self.assertIn("Cannot communicate with the master daemon", self.refused("gnt-job list"))
        self.cluster.start_master()
        _, said = waiting.communicate(timeout=TIMEOUT_S)
        self.assertEqual(waiting.returncode, 1, said)
        self.assertIn("The master daemon went away", said)
        self.assertIn("Unclean master daemon shutdown", said)

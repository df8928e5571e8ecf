"""Virtual clusters on loopback addresses: made, stopped, started, broken, removed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.integration.cluster import until
from tests.integration.vcluster_case import PROGRAM, VclusterCase

INSTANCE = ("-o", "noop", "-t", "sharedfile", "--disk", "0:size=4m", "--no-nics", "-B", "memory=64")


class LifeTests(VclusterCase):
    """One cluster."""

    def test_life(self) -> None:
        """What runs goes on over stop and start; start may be repeated; in the end nothing is left."""
        self.vcluster("create", "--nodes", "2")
        self.assertEqual(self.run_program("status", self.directory).returncode, 0)
        self.gnt("gnt-instance", "add", *INSTANCE, "-n", "node2", "one.virtual")
        self.vcluster("stop")
        stopped = self.run_program("status", self.directory)
        self.assertEqual((stopped.returncode, stopped.stdout.count("stopped; 0 processes")), (3, 2))
        for _ in range(2):
            self.vcluster("start")
            self.assertEqual(self.run_program("status", self.directory).returncode, 0)
        row = self.gnt("gnt-instance", "list", "--no-headers", "-o", "name,pnode,status")
        self.assertEqual(row.split(), ["one.virtual", "node2.virtual", "running"])
        self.vcluster("destroy")
        self.assert_nothing_left()

    def test_broken(self) -> None:
        """After a power cut of any node, start brings back what is missing, and only that."""
        self.vcluster("create", "--nodes", "2")
        self.gnt("gnt-instance", "add", *INSTANCE, "-n", "node2", "one.virtual")
        first = Path(self.layout.paths(self.layout.nodes[0]).pid_file("ganeti-masterd")).read_text()
        self.vcluster("kill", "node2")
        found = self.run_program("status", self.directory)
        self.assertEqual(found.returncode, 3)
        self.assertIn("node2.virtual: ", found.stdout)
        self.vcluster("start")
        again = Path(self.layout.paths(self.layout.nodes[0]).pid_file("ganeti-masterd")).read_text()
        self.assertEqual(again, first)
        # The machine was without power: the guest is gone.
        until(lambda: "ERROR_down" in self._status(), "the instance is not down")
        self.vcluster("kill", "1")
        self.vcluster("start")
        self.gnt("gnt-instance", "startup", "one")
        self.assertIn("running", self._status())

    def _status(self) -> str:
        return self.gnt("gnt-instance", "list", "--no-headers", "-o", "status", "one")

    def test_exec(self) -> None:
        """Commands run on the master or a chosen node, with their own options and exit codes."""
        self.vcluster("create", "--nodes", "2")
        self.assertEqual(self.vcluster("exec", "gnt-cluster", "getmaster"), "node1.virtual\n")
        root = self.vcluster("exec", "-n", "node2", "sh", "-c", "echo $GANETI_ROOTDIR").strip()
        self.assertEqual(root, f"{self.directory}/node2")
        for argv, code in ((("sh", "-c", "exit 7"), 7), (("absent-program",), 127), (("-n", "9", "true"), 1)):
            self.assertEqual(self.run_program("exec", self.directory, *argv).returncode, code)

    def test_environment(self) -> None:
        """After `eval` in sh and bash the tools run on the master; what is started so survives destroy."""
        self.vcluster("create", "--nodes", "1")
        for shell in ("sh", "bash"):
            script = (
                f'eval "$({sys.executable} {PROGRAM} env {self.directory})" && gnt-node list --no-headers'
            )
            done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stdout[:13]), (0, "node1.virtual"), done.stderr)
        bystander = subprocess.Popen(
            ["sh", "-c", f'eval "$({sys.executable} {PROGRAM} env {self.directory})"; exec sleep 60']
        )
        self.addCleanup(bystander.wait)
        self.addCleanup(bystander.kill)
        until(lambda: b"sleep" in Path(f"/proc/{bystander.pid}/cmdline").read_bytes(), "no sleep")
        self.vcluster("destroy")
        self.assertIsNone(bystander.poll())

    def test_rapi(self) -> None:
        """`rapi.json` has all that a client needs, the certificate to check the server by included."""
        self.vcluster("create", "--nodes", "1")
        access = json.loads(Path(self.directory, "rapi.json").read_text())
        context = ssl.create_default_context(cafile=access["ca"])
        self.assertEqual(self._get(access, context, "/2/info")["name"], "cluster.virtual")
        with self.assertRaises(urllib.error.HTTPError) as raised:
            self._get({**access, "password": "wrong"}, context, "/2/info")
        self.assertEqual(raised.exception.code, 401)

    def _get(self, access: dict[str, str], context: ssl.SSLContext, path: str) -> Any:
        token = base64.b64encode(f"{access['user']}:{access['password']}".encode()).decode()
        request = urllib.request.Request(access["url"] + path, headers={"Authorization": f"Basic {token}"})
        with urllib.request.urlopen(request, context=context, timeout=20) as answer:
            return json.load(answer)

    def test_groups(self) -> None:
        """Nodes are dealt out to groups."""
        self.vcluster("create", "--nodes", "3", "--groups", "2")
        rows = self.gnt("gnt-group", "list", "--no-headers", "--separator=|", "-o", "name,node_cnt").split()
        self.assertEqual(rows, ["default|2", "group2|1"])
        self.gnt("gnt-cluster", "verify")

    def test_no_init(self) -> None:
        """Nodes can be prepared for an init by hand; the first command is told."""
        printed = self.vcluster("create", "--nodes", "2", "--no-init")
        command = printed.strip().splitlines()[-1].split()
        self.assertEqual(command[:2], ["ganeti-vcluster", "exec"])
        done = self.run_program(*command[1:])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.gnt("gnt-node", "add", "--no-ssh-key-check", "node2")
        self.assertEqual(len(self.gnt("gnt-node", "list", "--no-headers").splitlines()), 2)


class DirectoryTests(VclusterCase):
    """Where clusters can be, and what is in the way."""

    def test_two(self) -> None:
        """Several clusters at once; the end of one is nothing to the other."""
        other = f"{self.base}/other"
        both = [
            subprocess.Popen(
                [sys.executable, PROGRAM, "create", directory, "--nodes", "2"],
                stdout=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
            )
            for directory in (self.directory, other)
        ]
        self.assertEqual([process.wait(60) for process in both], [0, 0])
        self.assertEqual(self.run_program("destroy", other).returncode, 0)
        self.assertEqual(len(self.gnt("gnt-node", "list", "--no-headers").splitlines()), 2)
        self.assertEqual(self.run_program("status", self.directory).returncode, 0)

    def test_long_path(self) -> None:
        """A directory whose sockets have longer paths than addresses have room."""
        self.directory = f"{self.base}/{'long' * 40}/cluster"
        self.vcluster("create", "--nodes", "1")
        self.gnt("gnt-instance", "add", *INSTANCE, "one.virtual")
        self.vcluster("destroy")
        self.assert_nothing_left()

    def test_odd_path(self) -> None:
        """A directory with blanks and quotes in its name."""
        self.directory = f"{self.base}/it's a cluster"
        self.vcluster("create", "--nodes", "2")
        self.assertEqual(len(self.gnt("gnt-node", "list", "--no-headers").splitlines()), 2)

    def test_refused(self) -> None:
        """Directories with something in them, numbers that make no sense, clusters that are not there."""
        os.makedirs(self.directory)
        Path(self.directory, "mine").write_text("mine")
        for words, text in (
            (("create", self.directory), "not empty"),
            (("create", f"{self.base}/a", "--nodes", "0"), "1 to 1000"),
            (("create", f"{self.base}/a", "--groups", "9"), "group"),
            (("start", self.directory), "no virtual cluster"),
            (("destroy", self.directory), "no virtual cluster"),
        ):
            done = self.run_program(*words)
            self.assertEqual((done.returncode, text in done.stderr), (1, True), done.stderr)
        self.assertEqual(Path(self.directory, "mine").read_text(), "mine")

    def test_failed_create(self) -> None:
        """When the init fails, the message says why and how to remove what is there."""
        done = self.run_program("create", self.directory, "--disk-templates", "nonsense")
        self.assertEqual(done.returncode, 1)
        self.assertIn("nonsense", done.stderr)
        self.assertIn(f"ganeti-vcluster destroy {self.directory}", done.stderr)
        self.vcluster("destroy")
        self.assert_nothing_left()

    def test_directory_gone(self) -> None:
        """Processes of a cluster whose directory was simply removed do not hinder the next one there."""
        self.vcluster("create", "--nodes", "1")
        shutil.rmtree(self.directory)
        self.vcluster("create", "--nodes", "1")
        self.gnt("gnt-node", "list")
        self.vcluster("destroy")
        self.assert_nothing_left()

"""A group of mirrored instances is drained end to end, on simulated nodes with the real master and tools."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from ganeti.vcluster.nodes import environment
from tests.integration.cluster import CHECKOUT, FINAL, TIMEOUT_S, until
from tests.integration.vcluster_case import Done, VclusterCase

pytestmark = pytest.mark.timeout(300)

SMALL = ("-o", "noop", "-t", "drbd", "--disk", "0:size=16m", "--no-nics", "-B", "memory=64")


class DrainTests(VclusterCase):
    """Eight simulated nodes in two groups."""

    def setUp(self) -> None:
        super().setUp()
        self.vcluster(
            *("create", "--nodes", "9", "--simulated", "--at-once", "--groups", "2"),
            *("--disk-templates", "drbd,plain,sharedfile,diskless"),
        )
        self.gnt("gnt-cluster", "modify", "--default-iallocator", "builtin")
        until(lambda: len(self.rows("node", "mfree")) == 9 and self.all_live(), "not all nodes are there")

    def all_live(self) -> bool:
        """Whether all nodes tell their memory."""
        return all(row[0].isdigit() for row in self.rows("node", "mfree"))

    def rows(self, kind: str, fields: str, *more: str) -> list[list[str]]:
        """The columns of a list."""
        printed = self.gnt(f"gnt-{kind}", "list", "--no-headers", "--separator=|", "-o", fields, *more)
        return [line.split("|") for line in printed.splitlines()]

    def tool(self, *words: str) -> Done:
        """A tool on the master, however it ends."""
        return self.run_program("exec", self.directory, *words)

    def add(self, *names: str, group: str = "group2") -> None:
        """Mirrored instances that run in a group."""
        for name in names:
            self.gnt("gnt-instance", "add", *SMALL, "-g", group, f"{name}.virtual")

    def groups(self) -> dict[str, list[str]]:
        """By instance the groups of its nodes, and its state."""
        found = self.rows("instance", "name,pnode.group,snodes.group,status")
        return {name: row for name, *row in found}

    def test_life_of_mirrored_instances(self) -> None:
        """Created, moved both ways, mirrors replaced, nodes emptied: nothing is left behind (S2.3-013)."""
        self.add("one")
        ((_, primary, secondary),) = self.rows("instance", "name,pnode,snodes")
        self.gnt("gnt-instance", "migrate", "-f", "one")
        self.gnt("gnt-instance", "failover", "-f", "one")
        self.gnt("gnt-instance", "replace-disks", "-p", "one")
        self.gnt("gnt-instance", "replace-disks", "-s", "--early-release", "one")
        self.gnt("gnt-instance", "replace-disks", "-I", "builtin", "one")
        ((_, now, other),) = self.rows("instance", "name,pnode,snodes")
        self.assertEqual(now, primary)
        self.assertNotIn(other, (primary, secondary))
        refused = self.tool("gnt-instance", "replace-disks", "-n", "node3", "one")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("both have to be in one group", refused.stderr)
        self.gnt("gnt-node", "evacuate", "-f", "-s", other)
        self.gnt("gnt-node", "evacuate", "-f", "-p", primary)
        ((_, now, mirror, status),) = self.rows("instance", "name,pnode,snodes,status")
        self.assertNotIn(now, (primary, other))
        self.assertEqual((mirror, status), (primary, "running"))
        self.assertEqual(self.volumes(), {now: 2, mirror: 2})
        self.cut_power(now)
        self.assertIn("Activating disks for instance 'one.virtual'", self.gnt("gnt-cluster", "verify-disks"))
        self.assertIn("No disks need to be activated", self.gnt("gnt-group", "verify-disks", "group2"))
        self.gnt("gnt-cluster", "verify")

    def volumes(self) -> dict[str, int]:
        """How many pretended volumes each node has."""
        found = {}
        for node in self.layout.nodes:
            directory = f"{self.layout.paths(node).data_dir}/fake-storage"
            files = os.listdir(directory) if os.path.isdir(directory) else []
            if files:
                found[node.name] = len(files)
        return found

    def cut_power(self, name: str) -> None:
        """Let a simulated node forget which disks are open."""
        directory = f"{self.layout.paths(self.layout.node(name)).run_dir}/fake-storage"
        for file in os.listdir(directory):
            os.unlink(f"{directory}/{file}")

    def test_drain(self) -> None:
        """The plan is what happens; all leave, running; the group is empty (S2.3-012, S2.3-017)."""
        self.add("one", "two", "three")
        planned = self.gnt("gnt-group", "drain", "--dry-run", "group2")
        self.assertTrue(planned.endswith("3 instance(s) would move.\n"), planned)
        self.assertEqual({tuple(row[:2]) for row in self.groups().values()}, {("group2", "group2")})
        printed = self.gnt("gnt-group", "drain", "group2")
        for line in planned.splitlines()[:-1]:
            self.assertIn(f"{line}: done", printed)
        self.assertTrue(printed.endswith("All instances evacuated successfully.\n"), printed)
        self.assertEqual({tuple(row) for row in self.groups().values()}, {("default", "default", "running")})
        self.assertEqual(self.rows("group", "pinst_cnt", "group2"), [["0"]])
        self.assertTrue(all(self.layout.group_of(self.layout.node(name)) == 0 for name in self.volumes()))
        self.gnt("gnt-cluster", "verify")
        again = self.gnt("gnt-group", "drain", "group2")
        self.assertEqual(again, "All instances evacuated successfully.\n")

    def one_job_at_a_time(self) -> None:
        """Jobs run in the order in which they were submitted from now on."""
        self.gnt("gnt-cluster", "modify", "--max-running-jobs", "1")

    def hold(self) -> Delay:
        """A job that runs until its bell is rung."""
        return Delay(self.popen("gnt-debug", "delay", "-i", "600"))

    def test_target_goes_offline(self) -> None:
        """A target that goes offline meanwhile: what was to go there stays and is told, the others leave."""
        self.gnt("gnt-instance", "add", *SMALL, "-n", "node2:node4", "one.virtual")
        self.gnt("gnt-instance", "add", *SMALL, "-n", "node6:node8", "two.virtual")
        plan = self.gnt("gnt-group", "drain", "--dry-run", "group2").splitlines()
        first, second = (self.targets(line) for line in plan[:2])
        chosen = min(second - first - {"node1.virtual"})
        self.one_job_at_a_time()
        holding = self.hold()
        bell = holding.bell()
        self.tool("gnt-group", "drain", "--submit", "group2")
        self.tool("gnt-node", "modify", "--submit", "--offline=yes", "--auto-promote", chosen)
        ring(bell)
        done = self.tool("gnt-group", "drain", "--watch", "group2")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("1 instance(s) left group group2, 1 stay:\n  two.virtual: ", done.stdout)
        self.assertIn("marked offline", done.stdout)
        groups = self.groups()
        self.assertEqual(groups["one.virtual"], ["default", "default", "running"])
        self.assertIn("group2", groups["two.virtual"])
        self.assertEqual(groups["two.virtual"][2], "running")

    def targets(self, line: str) -> set[str]:
        """Nodes to which a line of a plan leads."""
        return set(line.partition(" -> ")[2].partition(" ")[0].split(","))

    def test_cancel_and_come_back(self) -> None:
        """Whoever watches may leave; what has not begun can be canceled; then the rest can go."""
        self.add("one", "two")
        self.one_job_at_a_time()
        first = self.hold()
        bell = first.bell()
        watching = self.popen("gnt-group", "drain", "group2")
        until(lambda: self.has_job("GROUP_EVACUATE"), "the drain is not submitted")
        second = self.hold()
        until(lambda: self.unfinished() == 3, "it is not submitted")
        ring(bell)
        until(lambda: "Submitted jobs" in watching.said(), "it does not watch")
        watching.process.send_signal(signal.SIGINT)
        self.assertEqual(watching.process.wait(TIMEOUT_S), 1)
        self.assertIn("gnt-group drain --watch group2", watching.said())
        printed = self.gnt("gnt-group", "drain", "--cancel", "group2")
        self.assertEqual(printed, "2 move(s) of group group2 canceled, 0 under way.\n")
        ring(second.bell())
        done = self.tool("gnt-group", "drain", "--watch", "group2")
        self.assertEqual(done.returncode, 1)
        self.assertIn("0 instance(s) left group group2, 2 stay:\n  one.virtual: canceled\n", done.stdout)
        self.assertEqual({row[0] for row in self.groups().values()}, {"group2"})
        self.gnt("gnt-group", "drain", "group2")
        self.assertEqual({tuple(row) for row in self.groups().values()}, {("default", "default", "running")})

    def has_job(self, summary: str) -> bool:
        """Whether there is such a job that has not ended."""
        return any(summary in row[0] for row in self.rows("job", "summary", "--pending"))

    def popen(self, *words: str) -> Running:
        """A tool that goes on running."""
        running = Running(self, words)
        self.addCleanup(running.end)
        return running

    def test_broken_off(self) -> None:
        """A move whose masterd dies in the middle is cleaned up into one group (S2.3-018)."""
        self.add("one")
        self.slow_mirrors()
        nodes = [name for name, group in self.rows("node", "name,group") if group == "default"][1:3]
        done = self.tool("gnt-instance", "change-group", "--submit", "-n", ":".join(nodes), "one")
        self.assertEqual(done.returncode, 0, done.stderr)
        until(lambda: len(set(self.groups()["one.virtual"][:2])) == 2, "it does not begin to move")
        pid = int(open(self.layout.paths(self.layout.nodes[0]).pid_file("ganeti-masterd")).read())  # noqa: SIM115
        os.kill(pid, signal.SIGKILL)
        self.vcluster("start")
        until(self.all_live, "not all nodes are back")
        until(lambda: not self.unfinished(), "jobs go on")
        printed = self.gnt("gnt-instance", "change-group", "--cleanup", "one")
        self.assertTrue(printed.endswith("Instance 'one' is in one group.\n"), printed)
        primary, secondary, status = self.groups()["one.virtual"]
        self.assertEqual((secondary, status), (primary, "running"))
        self.gnt("gnt-cluster", "verify")

    def slow_mirrors(self) -> None:
        """Let a copy take many seconds from now on."""
        self.vcluster("stop")
        path = Path(self.layout.plugin_dir, "storage", "pretended.py")
        path.write_text(path.read_text().replace("', plain)", "', plain, rate_mib_s=1)"))
        self.assertIn("rate_mib_s=1", path.read_text())
        self.vcluster("start")
        until(self.all_live, "not all nodes are back")

    def unfinished(self) -> int:
        """How many jobs have not ended."""
        return sum(row[0] not in FINAL for row in self.rows("job", "status"))


class Running:
    """A tool that runs on the master.

    Args:
        case: the test.
        words: its command.
    """

    def __init__(self, case: DrainTests, words: Sequence[str]) -> None:
        descriptor, self._path = tempfile.mkstemp(dir=case.base)
        self.process = subprocess.Popen(
            [sys.executable, str(CHECKOUT / "bin" / words[0]), *words[1:]],
            env=environment(case.layout, case.layout.nodes[0]),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            # Whoever runs the tests in the background of a script has switched it off for all below.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(descriptor)

    def said(self) -> str:
        """What it printed so far."""
        with open(self._path, encoding="utf-8") as stream:
            return stream.read()

    def end(self) -> None:
        """End it if it runs."""
        self.process.kill()
        self.process.wait(TIMEOUT_S)


class Delay:
    """A job that waits for its bell."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def bell(self) -> str:
        """Where to ring; waits until the job runs."""
        found = until(lambda: re.search("connect to (.*) to end", self._running.said()), "it does not run")
        assert found is not None
        return found[1]


def ring(bell: str) -> None:
    """Let a delay end."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(bell)

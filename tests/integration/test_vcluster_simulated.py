"""Many simulated nodes in one process."""

from __future__ import annotations

import time

from tests.integration.cluster import until
from tests.integration.vcluster_case import VclusterCase

COUNT = 100


class SimulatedTests(VclusterCase):
    """A hundred nodes."""

    def test_life(self) -> None:
        """They join by jobs, are listed live, take instances, verify, and survive stop and start."""
        began = time.monotonic()
        self.vcluster("create", "--nodes", str(COUNT), "--simulated", "--groups", "2")
        self.assertLess(time.monotonic() - began, 60)
        jobs = self.gnt("gnt-job", "list", "--no-headers", "--separator=|", "-o", "status,summary")
        joined = [line for line in jobs.splitlines() if line.startswith("success|NODE_ADD(")]
        self.assertEqual(len(joined), COUNT - 1)
        until(lambda: len(self._living()) == COUNT, "not all nodes are there")
        candidates = self.gnt("gnt-node", "list", "--no-headers", "-o", "name", "-F", "master_candidate")
        self.assertEqual(len(candidates.split()), 10)
        options = ["-o", "noop", "-t", "sharedfile", "--disk", "0:size=4m", "--no-nics", "-B", "memory=64"]
        self.gnt("gnt-instance", "add", *options, "-n", "node50", "one.virtual")
        self.gnt("gnt-instance", "migrate", "-f", "-n", "node52", "one")
        # The nodes do not hold their ssconf files from the first moment on.
        until(self._is_well, "verify finds errors")
        self.vcluster("stop")
        self.vcluster("start")
        until(lambda: len(self._living()) == COUNT, "not all nodes are back")
        row = self.gnt("gnt-instance", "list", "--no-headers", "-o", "pnode,status").split()
        self.assertEqual(row, ["node52.virtual", "running"])
        self.vcluster("destroy")
        self.assert_nothing_left()

    def _is_well(self) -> bool:
        return self.run_program("exec", self.directory, "gnt-cluster", "verify").returncode == 0

    def _living(self) -> list[str]:
        listed = self.gnt("gnt-node", "list", "--no-headers", "--separator=|", "-o", "name,mfree")
        return [line for line in listed.split() if line.partition("|")[2].isdigit()]

    def test_at_once(self) -> None:
        """Recorded together they are the same, in their groups; only simulated nodes can be."""
        self.assertIn("--simulated", self.run_program("create", self.directory, "--at-once").stderr)
        self.vcluster("create", "--nodes", "30", "--simulated", "--at-once", "--groups", "2")
        until(lambda: len(self._living()) == 30, "not all nodes are there")
        groups = self.gnt("gnt-group", "list", "--no-headers", "-o", "node_cnt").split()
        self.assertEqual(groups, ["15", "15"])
        until(self._is_well, "verify finds errors")
        self.vcluster("destroy")

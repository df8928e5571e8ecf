"""What lists show is what nodes told lately: seen through the tools on real daemons."""

from __future__ import annotations

import os

from tests.integration.cluster import until
from tests.integration.operations_case import OperationsCase, begin, end

setUpModule, tearDownModule = begin, end


class CacheTests(OperationsCase):
    """Three nodes, an instance on the second."""

    def setUp(self) -> None:
        """The instance runs, and everybody knows."""
        self.name = self.add("kept", "-n", "node2")
        self.assertEqual(self.status(), "running")

    def status(self, *options: str) -> str:
        """Of the instance."""
        return self.gnt("gnt-instance list --no-headers -o status", *options, self.name).strip()

    def die(self) -> None:
        """The guest ends without anybody being told."""
        directory = self.cluster.paths("node2").hypervisor_dir("fake")
        (entry,) = (name for name in os.listdir(directory) if self.name in name)
        os.unlink(os.path.join(directory, entry))

    def known(self) -> dict[str, float]:
        """Nodes of which something is known, and its age in seconds."""
        rows = self.rows("gnt-debug cache", "-o kind,name,age")
        return {name: float(age.removesuffix(" s")) for kind, name, age in rows if kind == "node"}

    def test_off(self) -> None:
        """A list shows what was told lately; with `--cache=off` nodes are asked (S2.3-053, S2.3-054)."""
        self.die()
        self.assertEqual(self.status(), "running")
        self.assertEqual(self.status("--cache=off"), "ERROR_down")
        self.assertEqual(self.status(), "ERROR_down", "and what they said is known then")

    def test_job(self) -> None:
        """What a job changed is seen by the next list; nodes that it did not touch stay known (S2.3-049)."""
        before = self.known()
        self.assertEqual(set(before), {"node1.virtual", "node2.virtual", "node3.virtual"})
        self.gnt("gnt-instance shutdown", self.name)
        self.assertEqual(set(self.known()), {"node1.virtual", "node3.virtual"})
        self.assertEqual(self.status(), "ADMIN_down")
        self.assertGreaterEqual(self.known()["node3.virtual"], before["node3.virtual"])

    def test_contradiction(self) -> None:
        """A job that finds another memory than was told takes away what was known (S2.3-048)."""
        self.die()
        self.assertEqual(self.status(), "running")
        self.add("second", "-n", "node2")
        self.assertEqual(self.status(), "ERROR_down")

    def test_tags(self) -> None:
        """Tagging an instance leaves everything known (S2.3-050)."""
        self.gnt("gnt-instance add-tags", self.name, "web")
        self.assertEqual(len(self.known()), 3)

    def test_lost_node(self) -> None:
        """A node daemon that is gone is noticed without asking."""
        self.cluster.stop("ganeti-noded", "node2")
        self.addCleanup(self.cluster.start)
        until(lambda: "node2.virtual" not in self.known(), "the lost node stays known")
        self.assertEqual(self.status(), "ERROR_nodedown")
        self.assertEqual(self.gnt("gnt-node list --no-headers -o mfree node2").strip(), "?")

    def test_new_master_daemon(self) -> None:
        """Nothing of it is in a file: a new daemon knows nothing (S2.3-041)."""
        self.cluster.stop("ganeti-masterd")
        self.cluster.start()
        self.assertEqual(self.known(), {})
        self.assertEqual(self.status(), "running")

    def test_wrong_switch(self) -> None:
        """It is on or off."""
        self.refused("gnt-node list --cache=maybe", "--cache", "on", "off", code=2)

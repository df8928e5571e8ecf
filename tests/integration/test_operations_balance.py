"""gnt-cluster balance with the real tools and daemons: instances go where the plan says, and keep running."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tests.integration.cluster import RunningCluster
from tests.integration.operations_case import OperationsCase, end


def setUpModule() -> None:
    """Three nodes, with mirrored disks."""
    OperationsCase.cluster = RunningCluster(nodes=3, templates="sharedfile,drbd")


tearDownModule = end

MIRRORED = ("-o", "noop", "-t", "drbd", "--disk", "0:size=4m", "--no-nics", "-B", "memory=64")


class BalanceTests(OperationsCase):
    """Everything begins on node1."""

    def places(self) -> dict[str, list[str]]:
        """Nodes of each instance, primary first."""
        rows = json.loads(self.gnt("gnt-instance list --output json,name,pnode,snodes"))
        return {row["name"]: [row["pnode"], *row["snodes"]] for row in rows}

    def primaries(self) -> Counter[str]:
        """How many instances run on each node."""
        return Counter(nodes[0] for nodes in self.places().values())

    def statuses(self) -> set[str]:
        """What the instances do."""
        return {row[0] for row in self.rows("gnt-instance list", "-o status")}

    def planned(self, *options: str) -> list[dict[str, Any]]:
        """The moves that a dry run shows."""
        lines = self.gnt("gnt-cluster balance --dry-run", *options).splitlines()
        titles = lines[1].lower().split() if len(lines) > 1 else []
        return [dict(zip(titles, line.split())) for line in lines[2:]]

    def test_shared(self) -> None:
        """Running instances spread over the nodes; the plan is what happens; then nothing is left to do."""
        for number in range(3):
            self.add(f"shared{number}", "-n", "node1")
        plan = self.planned()
        self.assertEqual(self.primaries(), {"node1.virtual": 3})
        printed = self.gnt("gnt-cluster balance")
        self.assertIn("All 2 moves are made.", printed)
        self.assertEqual(self.primaries(), {f"node{number}.virtual": 1 for number in (1, 2, 3)})
        places = self.places()
        for move in plan:
            self.assertEqual(places[move["instance"]], [move["to"]])
        self.assertEqual(self.statuses(), {"running"})
        self.assertIn("nothing is to be gained", self.gnt("gnt-cluster balance"))

    def test_limits(self) -> None:
        """Only as many moves as wanted; of excluded instances none."""
        for number in range(3):
            self.add(f"few{number}", "-n", "node1")
        self.assertEqual(len(self.planned("--max-moves", "1")), 1)
        self.gnt("gnt-cluster balance --max-moves 1 --exclude-instances few0.virtual,few1.virtual")
        moved = [name for name, (node,) in self.places().items() if node != "node1.virtual"]
        self.assertEqual(moved, ["few2.virtual"])

    def test_mirrored(self) -> None:
        """Mirrored instances get other secondaries where the plan says so, and go on running."""
        for number in range(3):
            self.add(f"mirrored{number}", "-n", "node1:node2", size=MIRRORED)
        plan = self.planned()
        last = {move["instance"]: move["to"].split(",") for move in plan}
        self.assertIn("node3.virtual", {node for move in plan for node in move["to"].split(",")})
        self.assertIn("moves are made", self.gnt("gnt-cluster balance"))
        self.assertEqual(self.primaries(), {f"node{number}.virtual": 1 for number in (1, 2, 3)})
        self.assertEqual(self.statuses(), {"running"})
        self.assertEqual({name: self.places()[name] for name in last}, last)

    def test_drained(self) -> None:
        """With --evac-mode a drained node is emptied, and nothing else is touched."""
        self.add("leaves", "-n", "node3:node2", size=MIRRORED)
        self.add("leaves-too", "-n", "node3")
        for number in range(3):
            self.add(f"stays{number}", "-n", "node2")
        self.gnt("gnt-node modify --drained=yes --auto-promote node3")
        self.addCleanup(self.gnt, "gnt-node modify --drained=no node3")
        self.gnt("gnt-cluster balance --evac-mode")
        places = self.places()
        self.assertNotIn("node3.virtual", {node for nodes in places.values() for node in nodes})
        stayed = [nodes for name, nodes in places.items() if name.startswith("stays")]
        self.assertEqual(stayed, [["node2.virtual"]] * 3)
        self.assertEqual(self.statuses(), {"running"})

    def test_refusals(self) -> None:
        """Unknown groups and instances are named, with what lists the known ones."""
        self.refused("gnt-cluster balance --node-group nosuch", "nosuch", "gnt-group list")
        self.refused("gnt-cluster balance --select-instances nosuch", "nosuch", "gnt-instance list")
        self.refused("gnt-cluster balance --max-moves=-1", "max_moves")

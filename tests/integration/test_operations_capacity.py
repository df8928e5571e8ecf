"""How many more instances fit, through the real tools and daemons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.integration.operations_case import OperationsCase, begin, end

setUpModule, tearDownModule = begin, end

SIZE = "--max-inst-spec 256m,1g,1 --default-template sharedfile"


class CapacityTests(OperationsCase):
    """`gnt-cluster capacity` on three nodes."""

    def capacity(self, options: str = "") -> dict[str, Any]:
        """The answer as JSON."""
        found: dict[str, Any] = json.loads(self.gnt(f"gnt-cluster capacity -o json {SIZE} {options}"))
        return found

    def test_cached(self) -> None:
        """The second answer is the first one; one without cache is new (S2.3-080, S2.3-092)."""
        first = self.capacity()
        self.assertGreater(first["cluster"][0][3], 0)
        self.assertEqual(self.capacity(), first)
        self.assertGreater(self.capacity("--no-cache")["ctime"], first["ctime"])

    def test_table(self) -> None:
        """People see a table for each group and its age."""
        printed = self.gnt(f"gnt-cluster capacity {SIZE}")
        self.assertIn("Node group default: sharedfile disks, up to 256M of memory, 1.0G of disk", printed)
        self.assertIn("Memory Disk VCPUs Count Available", " ".join(printed.split()))
        self.assertIn(" s ago (", printed)

    def test_instance_takes_room(self) -> None:
        """A new instance makes the cached numbers worthless (S2.3-051)."""
        before = self.capacity()
        self.add("taker", "-I", "builtin")
        self.assertGreater(self.capacity()["ctime"], before["ctime"])

    def test_parameters(self) -> None:
        """Set for the cluster and for a group, shown, and taken away again (S2.3-082)."""
        self.addCleanup(self.gnt, "gnt-cluster modify --max-cpu-ratio default")
        self.addCleanup(self.gnt, "gnt-group modify --max-cpu-ratio default --max-disk-usage default default")
        self.gnt("gnt-cluster modify --max-cpu-ratio 3")
        self.assertIn("max_cpu_ratio: 3", self.gnt("gnt-cluster info"))
        (group,) = self.capacity()["node_groups"].values()
        self.assertEqual(group["max_cpu_ratio"], 3.0)
        self.gnt("gnt-group modify --max-cpu-ratio 2 --max-disk-usage 0.5 default")
        self.assertIn("max_disk_usage: 0.5", self.gnt("gnt-group info default"))
        (group,) = self.capacity()["node_groups"].values()
        self.assertEqual((group["max_cpu_ratio"], group["max_disk_usage"]), (2.0, 0.5))
        self.refused("gnt-cluster modify --max-disk-usage 2", "max_disk_usage", "at most 1")
        self.refused("gnt-group modify --default-template stone default", "not enabled")

    def test_what_if(self) -> None:
        """Other nodes and single sizes; the configuration stays as it is."""
        before = self.cluster.serial()

        def count(options: str) -> int:
            return sum(tier[3] for tier in self.capacity(f"--spec 256m,1g,1 {options}")["cluster"])

        plain = count("")
        self.assertGreater(count("--add-node node1"), plain)
        self.assertGreater(count("--add-node 64g,1t,16"), plain)
        self.assertLess(count("--lose-node node3"), plain)
        self.assertEqual(self.cluster.serial(), before)
        self.refused(f"gnt-cluster capacity {SIZE} --lose-node nobody", "nobody")

    def program(self, name: str, result: object, *, success: bool = True) -> None:
        """An external allocator that always answers the same."""
        directory = Path(self.cluster.paths(1).conf_dir) / "iallocators"
        directory.mkdir(exist_ok=True)
        path = directory / name
        reply = json.dumps({"success": success, "info": "said so", "result": result})
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{reply}\nEND\n")
        path.chmod(0o755)
        self.addCleanup(path.unlink)

    def test_external(self) -> None:
        """Other allocators are asked, and what they may not say is refused (S2.3-081)."""
        (group,) = self.capacity()["node_groups"]
        self.program("counts", {"cluster": [], "node_groups": {group: {"tspecs": [[256, 1024, 1, 42]]}}})
        self.assertEqual(self.capacity("-I counts")["cluster"], [[256, 1024, 1, 42]])
        self.assertNotEqual(self.capacity()["cluster"], [[256, 1024, 1, 42]])
        self.program("lies", {"cluster": [], "node_groups": {"x": {"tspecs": []}}})
        self.refused(f"gnt-cluster capacity {SIZE} -I lies", "allocator lies", "group x", "not asked for")
        self.program("refuses", None, success=False)
        self.refused(f"gnt-cluster capacity {SIZE} -I refuses", "cannot tell the capacity: said so")

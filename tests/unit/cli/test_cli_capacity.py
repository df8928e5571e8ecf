"""gnt-cluster capacity: tables, options, and what they ask for."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.capacity import available
from tests.unit.cli.cli_fakes import FakeMaster, FakeWorld

PARAMS = {
    "max_inst_spec": [4096, 40960, 4],
    "default_template": "drbd",
    "max_cpu_ratio": 4.0,
    "max_disk_usage": 0.9,
}
TIERS = [[4096, 40960, 4, 7], [2048, 40960, 4, 3]]
ANSWER = {
    "cluster": TIERS,
    "node_groups": {
        "u1": {**PARAMS, "tspecs": TIERS, "failure_reason": "FailMem", "ctime": 10.0},
        "u2": {**PARAMS, "tspecs": [], "failure_reason": "the group is unallocable", "ctime": 12.0},
    },
    "ctime": 10.0,
}
HEAD = "40.0G of disk and 4 processors; 4 virtual processors for each physical one, 90% of the disk space\n"
TABLE = (
    "  Memory  Disk VCPUs Count Available\n"
    "    4.0G 40.0G     4     7         7\n"
    "    2.0G 40.0G     4     3        10\n"
)


class CapacityTests(SynchronousTestCase):
    """Output and options."""

    def world(self) -> FakeWorld:
        """A masterd with an answer and two groups."""
        groups = {"data": [[[0, "u1"], [0, "default"]], [[0, "u2"], [0, "rack2"]]]}
        self.master = FakeMaster({}, {"OP_COMPUTE_CAPACITY": ANSWER})
        jobs = self.master._Query
        self.master.answers["Query"] = lambda what, *more: groups if what == "group" else jobs(what, *more)
        return FakeWorld(self.master)

    def test_tables(self) -> None:
        """A table for each group, in total, and the age."""
        world = self.world()
        self.assertEqual((world.run("gnt-cluster capacity"), world.err_text), (0, ""))
        begin, _, age = world.out_text.rpartition("Counted ")
        self.assertEqual(
            begin,
            "Node group default: drbd disks, up to 4.0G of memory, "
            + HEAD
            + TABLE
            + "  no more because of: FailMem\n"
            + "Node group rack2: drbd disks, up to 4.0G of memory, "
            + HEAD
            + "  no instance fits\n  no more because of: the group is unallocable\n"
            + "All 2 node groups:\n"
            + TABLE,
        )
        self.assertIn("s ago (1970-01-01", age)

    def test_json(self) -> None:
        """The answer itself."""
        world = self.world()
        self.assertEqual(world.run("gnt-cluster capacity -o json"), 0)
        self.assertEqual(json.loads(world.out_text), ANSWER)
        self.assertEqual(self.master.opcodes, [{"OP_ID": "OP_COMPUTE_CAPACITY"}])

    def test_options(self) -> None:
        """Options become parameters (S2.3-089)."""
        world = self.world()
        options = (
            "--no-cache -I hail -g rack2 --max-inst-spec 8g,100g,4 --default-template plain"
            " --max-cpu-ratio 2.5 --max-disk-usage 0.5 --add-node node1 --add-node 64g,1t,16"
            " --lose-node node2 --spec 1g,10g,1"
        )
        self.assertEqual((world.run(f"gnt-cluster capacity {options}"), world.err_text), (0, ""))
        wanted: dict[str, Any] = {
            "cached": False,
            "iallocator": "hail",
            "node_group": "rack2",
            "max_inst_spec": [8192, 102400, 4],
            "default_template": "plain",
            "max_cpu_ratio": 2.5,
            "max_disk_usage": 0.5,
            "add_nodes": ["node1", "64g,1t,16"],
            "lose_nodes": ["node2"],
            "spec": [1024, 10240, 1],
        }
        (opcode,) = self.master.opcodes
        self.assertEqual({name: opcode[name] for name in wanted}, wanted)

    def test_bad_size(self) -> None:
        """A size that is none is refused before anything is sent."""
        world = self.world()
        self.assertNotEqual(world.run("gnt-cluster capacity --spec 8g,100g"), 0)
        self.assertIn("write MEMORY,DISK,CPUS", world.err_text)

    def test_modify(self) -> None:
        """The parameters are set for the cluster and for groups, and taken away."""
        for command, op_id in (
            ("gnt-cluster modify {}", "OP_CLUSTER_SET_PARAMS"),
            ("gnt-group modify {} default", "OP_GROUP_SET_PARAMS"),
            ("gnt-group add {} rack9", "OP_GROUP_ADD"),
        ):
            master = FakeMaster({}, {op_id: []})
            world = FakeWorld(master)
            code = world.run(command.format("--max-inst-spec 8g,100g,4 --max-cpu-ratio default"))
            self.assertEqual((code, world.err_text), (0, ""))
            (opcode,) = master.opcodes
            self.assertEqual(opcode["max_inst_spec"], [8192, 102400, 4])
            self.assertEqual(opcode["max_cpu_ratio"], "default")


class AvailableTests(SynchronousTestCase):
    """How many of one size."""

    def test_available(self) -> None:
        """In place of a larger instance a smaller one fits (S2.3-093)."""
        tiers = [(4096, 200, 2, 2), (4096, 100, 2, 3), (1024, 100, 2, 6)]
        self.assertEqual(available(tiers, (1024, 100, 2)), 11)
        self.assertEqual(available(tiers, (4096, 150, 1)), 2)
        self.assertEqual(available(tiers, (8192, 1, 1)), 0)

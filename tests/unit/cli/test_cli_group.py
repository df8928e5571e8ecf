"""gnt-group."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.cli.cli_fakes import FakeMaster, FakeWorld, table

BOUNDS = {"memory-size": 128}
GROUP: dict[str, Any] = {
    "name": "rack1",
    "ndparams": {"cpu_speed": 1.0, "ssh_port": 2222},
    "custom_ndparams": {"ssh_port": 2222},
    "diskparams": {"plain": {"stripes": 2}, "file": {}},
    "custom_diskparams": {"plain": {"stripes": 2}},
    "capacity_params": {"max_cpu_ratio": 4.0, "max_disk_usage": 0.9},
    "custom_capacity_params": {"max_disk_usage": 0.9},
    "ipolicy": {
        "minmax": [{"min": BOUNDS, "max": BOUNDS}],
        "std": BOUNDS,
        "disk-templates": ["file"],
        "vcpu-ratio": 4.0,
    },
}


class GroupTests(SynchronousTestCase):
    """gnt-group add, list and info."""

    def test_add(self) -> None:
        """Policy, parameters and allocation policy go into the opcode."""
        master = FakeMaster()
        world = FakeWorld(master)
        code = world.run(
            "gnt-group add --alloc-policy last_resort --node-parameters ssh_port=2222 -D plain:stripes=2 "
            "--ipolicy-vcpu-ratio 2 rack1"
        )
        self.assertEqual((code, world.err_text), (0, ""))
        (opcode,) = master.opcodes
        self.assertEqual(
            opcode,
            {
                "OP_ID": "OP_GROUP_ADD",
                "group_name": "rack1",
                "alloc_policy": "last_resort",
                "ndparams": {"ssh_port": "2222"},
                "diskparams": {"plain": {"stripes": "2"}},
                "ipolicy": {"vcpu-ratio": 2},
            },
        )

    def test_list(self) -> None:
        """The established columns."""
        kinds = {"name": ("Group", "text"), "ndparams": ("NDParams", "other")}
        rows = (["rack1", {"ssh_port": 22, "cpu_speed": 1.0}], ["rack2", {}])
        master = FakeMaster({"Query": table(kinds, *rows)})
        world = FakeWorld(master)
        self.assertEqual(world.run("gnt-group list"), 0)
        self.assertEqual(
            master.calls,
            [("Query", ["group", ["name", "node_cnt", "pinst_cnt", "alloc_policy", "ndparams"], None])],
        )
        self.assertEqual(world.out_text, "Group NDParams\nrack1 cpu_speed=1.0, ssh_port=22\nrack2 (empty)\n")

    def test_info(self) -> None:
        """The established keys; inherited parameters are shown as default."""
        answer = {"fields": [], "data": [[[0, GROUP[name]] for name in self._asked()]]}
        world = FakeWorld(FakeMaster({"Query": answer}))
        self.assertEqual(world.run("gnt-group info rack1"), 0)
        self.assertEqual(
            world.out_text,
            "- Node group: rack1\n  Node parameters: \n    cpu_speed: default (1.0)\n    ssh_port: 2222\n"
            "  Disk parameters: \n    file: \n    plain: \n      stripes: 2\n"
            "  Instance policy: \n    bounds specs: \n      - min/0: \n          memory-size: 128\n"
            "        max/0: \n          memory-size: 128\n    std: \n      memory-size: 128\n"
            "    allowed disk templates: file\n    vcpu-ratio: 4.0\n"
            "  Capacity parameters: \n    max_cpu_ratio: default (4.0)\n    max_disk_usage: 0.9\n",
        )

    def _asked(self) -> list[str]:
        master = FakeMaster({"Query": {"fields": [], "data": []}})
        FakeWorld(master).run("gnt-group info")
        return list(master.calls[0][1][1])

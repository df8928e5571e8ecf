"""Node groups, through the real tools and daemons."""

from __future__ import annotations

import os
from pathlib import Path

from tests.integration.operations_case import OperationsCase, begin, end

setUpModule, tearDownModule = begin, end


class GroupCase(OperationsCase):
    """Three nodes in one group."""

    def rack(self, name: str, *options: str) -> None:
        """A group that goes with the test, when its nodes have left it."""
        self.gnt(f"gnt-group add {' '.join(options)} {name}")
        self.addCleanup(self.gnt, f"gnt-group remove {name}")
        self.addCleanup(self.gnt, "gnt-group assign-nodes -f default node1 node2 node3")


class GroupTests(GroupCase):
    """gnt-group."""

    def nodes_of(self, group: str) -> list[str]:
        """Names of its nodes."""
        (found,) = self.of("group", group, "node_list")
        return sorted(found)

    def test_the_first(self) -> None:
        """A new cluster has one group, in which all its nodes are (S2.3-001)."""
        self.assertEqual(self.rows("gnt-group list", "-o name,node_cnt"), [["default", "3"]])
        groups = {row[1] for row in self.rows("gnt-node list", "-o name,group")}
        self.assertEqual(groups, {"default"})

    def test_add(self) -> None:
        """A new group is listed, and nodes can be added to it (S2.3-002, S2.3-004, S2.3-006)."""
        self.rack("rack1", "--alloc-policy unallocable --node-parameters ssh_port=22")
        self.assertEqual(
            self.of("group", "rack1", "name", "node_cnt", "alloc_policy"), ["rack1", 0, "unallocable"]
        )
        self.gnt("gnt-node remove node3")
        self.gnt("gnt-node add --no-ssh-key-check -g rack1 node3")
        self.assertEqual(self.nodes_of("rack1"), ["node3.virtual"])
        self.assertEqual(self.of("node", "node3", "group"), ["rack1"])
        listed = [row[0] for row in self.rows("gnt-node list", "-g rack1 -o name")]
        self.assertEqual(listed, ["node3.virtual"])
        # Allocators leave this group alone.
        self.assertNotEqual(self.of("instance", self.add("placed"), "pnode"), ["node3.virtual"])
        self.refused("gnt-group add rack1", "rack1")
        self.assertIn("Node group: rack1", self.gnt("gnt-group info rack1"))

    def test_nodes_move(self) -> None:
        """Empty nodes go where they are put; others stay, unless forced (S2.3-007, S2.3-020)."""
        self.rack("rack2")
        self.gnt("gnt-group assign-nodes rack2 node2 node3")
        self.assertEqual(self.nodes_of("rack2"), ["node2.virtual", "node3.virtual"])
        self.assertEqual(
            self.gnt("gnt-node modify -g default node2"), "Modified node node2\n - group -> default\n"
        )
        self.assertEqual(self.nodes_of("rack2"), ["node3.virtual"])
        self.add("stays", "-n", "node1")
        self.refused("gnt-group assign-nodes rack2 node1", "node1.virtual", "--force")
        self.refused("gnt-node modify -g rack2 node1", "node1.virtual", "--force")
        self.gnt("gnt-group assign-nodes --force rack2 node1")
        self.assertEqual(self.nodes_of("rack2"), ["node1.virtual", "node3.virtual"])
        self.refused("gnt-group assign-nodes rack2 nosuch", "nosuch")
        self.refused("gnt-group assign-nodes nosuch node1", "nosuch")
        self.refused("gnt-group assign-nodes rack2", code=1)

    def test_node_and_group(self) -> None:
        """A node gets a group and other values with one command."""
        self.rack("rack3")
        self.gnt("gnt-node modify -g rack3 --node-parameters ssh_port=2222 node3")
        self.addCleanup(self.gnt, "gnt-node modify --node-parameters ssh_port=default node3")
        self.assertEqual(self.of("node", "node3", "group", "ndp/ssh_port"), ["rack3", 2222])

    def test_modify(self) -> None:
        """Policies and parameters of a group count for its nodes and instances (S2.3-008)."""
        self.rack("rack4")
        self.gnt("gnt-group assign-nodes rack4 node3")
        printed = self.gnt(
            "gnt-group modify --alloc-policy last_resort --node-parameters ssh_port=2022 rack4"
        )
        self.assertTrue(printed.startswith("Modified group rack4\n - alloc_policy -> last_resort\n"), printed)
        self.assertEqual(self.of("group", "rack4", "alloc_policy"), ["last_resort"])
        self.assertEqual(self.of("node", "node3", "ndp/ssh_port"), [2022])
        self.gnt("gnt-group modify --node-parameters ssh_port=default rack4")
        self.assertEqual(self.of("node", "node3", "ndp/ssh_port"), [22])
        self.gnt("gnt-group modify --ipolicy-vcpu-ratio 2 rack4")
        self.assertIn("vcpu-ratio: 2", self.gnt("gnt-group info rack4"))
        self.refused("gnt-group modify rack4", "at least one parameter")
        self.refused("gnt-group modify --node-parameters nosuch=1 rack4", "nosuch")

    def test_rename_and_tags(self) -> None:
        """A name and tags can change while nodes and instances are there (S2.3-005, S2.3-024, S2.3-031)."""
        name = self.add("inside", "-n", "node2")
        self.gnt("gnt-group rename default main")
        self.addCleanup(self.cluster.gnt, "gnt-group rename main default", check=False)
        self.assertEqual(self.of("instance", name, "pnode.group"), ["main"])
        self.gnt("gnt-group add-tags main first second")
        self.assertEqual(self.gnt("gnt-group list-tags main"), "first\nsecond\n")
        self.gnt("gnt-group remove-tags main first second")
        self.gnt("gnt-group add other")
        self.refused("gnt-group rename main other", "other")
        self.gnt("gnt-group remove other")
        self.gnt("gnt-group rename main default")

    def test_remove(self) -> None:
        """Neither a group with nodes nor the last one can be removed (S2.3-003)."""
        self.refused("gnt-group remove default", "3 nodes", "assign-nodes")
        self.rack("rack5")
        self.gnt("gnt-group assign-nodes rack5 node1 node2 node3")
        self.gnt("gnt-group remove default")
        self.addCleanup(self.gnt, "gnt-group add default")
        self.refused("gnt-group remove rack5", "3 nodes")

    def test_instances_leave(self) -> None:
        """Instances go to other groups: one of them, or all of a group (S2.3-012, S2.3-021)."""
        self.rack("rack6")
        self.gnt("gnt-group assign-nodes rack6 node2 node3")
        names = [self.add(f"leaves{number}", "-n", "node1") for number in (1, 2)]
        printed = self.gnt(f"gnt-instance change-group --to rack6 {names[0]}")
        self.assertTrue(printed.endswith(f"Instance '{names[0]}' changed group successfully.\n"), printed)
        self.assertEqual(self.of("instance", names[0], "pnode.group", "status"), ["rack6", "running"])
        self.refused(f"gnt-instance change-group --to rack6 {names[0]}", "rack6")
        printed = self.gnt("gnt-group drain default")
        self.assertTrue(printed.endswith("All instances evacuated successfully.\n"), printed)
        self.assertEqual(self.of("instance", names[1], "pnode.group", "status"), ["rack6", "running"])
        self.assertEqual(self.of("group", "default", "pinst_cnt"), [0])
        self.gnt("gnt-group evacuate --sequential --force-failover --to default rack6")
        for name in names:
            self.assertEqual(self.of("instance", name, "pnode", "status"), ["node1.virtual", "running"])
        self.refused("gnt-group evacuate --to default default", "default")


class OneGroupTests(GroupCase):
    """Commands that act on the nodes or instances of one group."""

    def setUp(self) -> None:
        """node3 is in a group of its own."""
        self.rack("rack9")
        self.gnt("gnt-group assign-nodes rack9 node3")

    def test_command(self) -> None:
        """A command runs on all nodes, the master last, or on those of a group (S2.3-029)."""
        printed = self.gnt("gnt-cluster command -M -- cat $GANETI_ROOTDIR/etc/hostname")
        names = [line.partition(":")[0] for line in printed.splitlines() if ": " in line]
        self.assertEqual(names, ["node2.virtual", "node3.virtual", "node1.virtual"])
        printed = self.gnt("gnt-cluster command -g rack9 exit 3")
        self.assertEqual(
            printed.splitlines(), ["-" * 48, "node: node3.virtual", "", "return code = 3"], printed
        )
        self.assertEqual(self.gnt("gnt-cluster command -g default --failure-only true"), "")
        self.refused("gnt-cluster command -g nosuch true", "nosuch")
        self.refused("gnt-cluster command -n node9 true", "node9")
        self.gnt("gnt-node modify -O yes --auto-promote node3")
        self.addCleanup(self.gnt, "gnt-node modify -f -O no node3")
        done = self.cluster.gnt("gnt-cluster command -g rack9 true")
        self.assertEqual((done.stdout, done.stderr), ("", "Note: skipping offline node(s): node3.virtual\n"))

    def test_copyfile(self) -> None:
        """A file gets to the same place on all other nodes, or on those of a group (S2.3-029)."""
        for options, numbers in (("-g rack9", {3}), ("-n node2", {2}), ("", {2, 3})):
            path = Path(self.cluster.paths(1).conf_dir) / "copied"
            path.write_bytes(os.urandom(300_000))
            path.chmod(0o600)
            self.gnt(f"gnt-cluster copyfile {options} {path}")
            for number in (2, 3):
                copy = Path(self.cluster.paths(number).conf_dir) / "copied"
                self.assertEqual(copy.exists(), number in numbers)
                if number in numbers:
                    self.assertEqual(copy.read_bytes(), path.read_bytes())
                    self.assertEqual(copy.stat().st_mode & 0o777, 0o600)
                    copy.unlink()
        self.refused("gnt-cluster copyfile /etc/hostname", "root directory of this node")

    def test_diagnose(self) -> None:
        """OS definitions of one group, or of all, a job for each (S2.3-023)."""
        first = self.newest_job()["id"]
        printed = self.gnt("gnt-os diagnose -g rack9")
        self.assertIn("OS: noop [global status: valid]", printed)
        self.assertIn("Node: node3.virtual, status: valid", printed)
        self.assertNotIn("node2.virtual", printed)
        printed = self.gnt("gnt-os diagnose")
        self.assertIn("Node group: default\n", printed)
        self.assertIn("Node group: rack9\n", printed)
        self.assertEqual(self.newest_job()["id"], first + 3)
        self.refused("gnt-os diagnose -g nosuch", "nosuch")

    def test_verify(self) -> None:
        """Verification of one group is one job; of all it is one more than there are groups (S2.3-023)."""
        printed = self.gnt("gnt-cluster verify -g rack9")
        self.assertIn("* Verifying group 'rack9'", printed)
        self.assertNotIn("group 'default'", printed)
        first = self.newest_job()["id"]
        self.gnt("gnt-cluster verify")
        self.assertEqual(self.newest_job()["id"], first + 4)

    def test_selection(self) -> None:
        """Instances are started, stopped and rebooted by their group or nodes (S2.3-030)."""
        here, there = self.add("here", "-n", "node1"), self.add("there", "-n", "node3")
        self.gnt("gnt-instance shutdown --force-multiple --node-group rack9")
        self.assertEqual(self.of("instance", there, "status"), ["ADMIN_down"])
        self.assertEqual(self.of("instance", here, "status"), ["running"])
        self.gnt("gnt-instance startup --force-multiple --node-group rack9 default")
        self.assertEqual(self.of("instance", there, "status"), ["running"])
        self.gnt("gnt-instance reboot --force-multiple --node-group rack9")
        self.gnt("gnt-node add-tags node3 rack:9")
        self.addCleanup(self.gnt, "gnt-node remove-tags node3 rack:9")
        for option in ("--node node3", "--primary node3", "--node-tags rack:9", "--pri-node-tags rack:9"):
            self.gnt(f"gnt-instance shutdown --force-multiple {option}")
            self.assertEqual(self.of("instance", there, "status"), ["ADMIN_down"], option)
            self.gnt(f"gnt-instance startup {there}")
        self.refused("gnt-instance shutdown --force-multiple --secondary node3", "No instance matches")
        self.refused("gnt-instance shutdown --force-multiple --sec-node-tags rack:9", "No instance matches")
        self.assertEqual(self.of("instance", here, "status"), ["running"])

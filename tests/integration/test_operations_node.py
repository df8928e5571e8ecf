"""Nodes come, change, go and come back, through the real tools and daemons."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.cluster import until
from tests.integration.operations_case import OperationsCase, begin, end

setUpModule, tearDownModule = begin, end

FLAGS = ("master_candidate", "drained", "offline")


class NodeCase(OperationsCase):
    """Leaves all nodes as they were: online candidates."""

    def setUp(self) -> None:
        self.addCleanup(self._restore)

    def _restore(self) -> None:
        for node in self.cluster.layout.nodes:
            candidate, drained, offline = self.of("node", node.name, *FLAGS)
            if offline:
                self.gnt(f"gnt-node modify -f --offline=no {node.name}")
            if drained:
                self.gnt(f"gnt-node modify --drained=no {node.name}")
            if not candidate and not (offline or drained):
                self.gnt(f"gnt-node modify --master-candidate=yes {node.name}")

    def flags(self, name: str) -> tuple[bool, ...]:
        """Candidate, drained, offline."""
        return tuple(self.of("node", name, *FLAGS))


class ModifyTests(NodeCase):
    """gnt-node modify."""

    def test_offline(self) -> None:
        """An offline node is not asked, gets nothing, and cannot be what something needs."""
        self.gnt("gnt-node modify --offline=yes --auto-promote node3")
        self.assertEqual(self.flags("node3"), (False, False, True))
        row = self.gnt("gnt-node list --no-headers -o name,mfree,role node3").split()
        self.assertEqual(row, ["node3.virtual", "*", "O"])
        self.refused(
            "gnt-instance add -o noop -t diskless --no-nics -B memory=64 -n node3 x.virtual",
            "node3.virtual",
            "offline",
        )
        self.gnt("gnt-node modify -f --offline=no node3")
        self.assertEqual(self.flags("node3"), (True, False, False))

    def test_drained(self) -> None:
        """A drained node keeps what it has and gets nothing new."""
        name = self.add("stays", "-n", "node2")
        self.gnt("gnt-node modify --drained=yes --auto-promote node2")
        self.assertEqual(self.flags("node2"), (False, True, False))
        self.assertEqual(self.of("instance", name, "status"), ["running"])
        other = self.add("elsewhere", "-n", "node1")
        self.refused(f"gnt-instance migrate -f -n node2 {other}", "node2.virtual", "drained")
        for number in range(2):
            placed = self.add(f"placed{number}")
            self.assertNotEqual(self.of("instance", placed, "pnode"), ["node2.virtual"])
        self.gnt("gnt-node modify --drained=no node2")
        self.assertEqual(self.flags("node2"), (True, False, False))

    def test_pool(self) -> None:
        """The last candidates cannot be demoted unless others may take their place (auto-promote)."""
        self.gnt("gnt-cluster modify --candidate-pool-size 2")
        self.addCleanup(self.gnt, "gnt-cluster modify --candidate-pool-size 10")
        self.gnt("gnt-node modify --master-candidate=no node2")
        self.assertEqual(self.flags("node2"), (False, False, False))
        # It must not keep what only candidates may have.
        until(lambda: not Path(self.cluster.paths(2).config_file).exists(), "node2 keeps config.data")
        self.refused("gnt-node modify --master-candidate=no node3", "node3.virtual", "auto-promote")
        self.gnt("gnt-node modify --master-candidate=no --auto-promote node3")
        self.assertEqual((self.flags("node3")[0], self.flags("node2")[0]), (False, True))
        until(lambda: Path(self.cluster.paths(2).config_file).exists(), "node2 gets no config.data")

    def test_pool_grows(self) -> None:
        """A larger pool is filled at once."""
        self.gnt("gnt-cluster modify --candidate-pool-size 1")
        self.gnt("gnt-node modify --master-candidate=no node2")
        self.gnt("gnt-cluster modify --candidate-pool-size 10")
        self.assertEqual(self.flags("node2"), (True, False, False))

    def test_capabilities(self) -> None:
        """A node that cannot be master is no candidate; one without instances can be closed to them."""
        self.gnt("gnt-node modify --master-capable=no --auto-promote node3")
        self.assertEqual(self.of("node", "node3", "master_capable", "master_candidate"), [False, False])
        self.refused("gnt-node modify --master-candidate=yes node3", "node3.virtual")
        self.gnt("gnt-node modify --master-capable=yes node3")
        self.assertEqual(self.of("node", "node3", "master_capable", "master_candidate"), [True, True])
        self.add("blocks", "-n", "node3")
        self.refused("gnt-node modify --vm-capable=no node3", "node3.virtual", "blocks.virtual")
        self.gnt("gnt-instance remove -f blocks")
        self.gnt("gnt-node modify --vm-capable=no node3")
        self.refused(
            "gnt-instance add -o noop -t diskless --no-nics -B memory=64 -n node3 x.virtual", "node3.virtual"
        )
        self.gnt("gnt-node modify --vm-capable=yes node3")

    def test_parameters(self) -> None:
        """Node parameters are the node's own until they are reset."""
        self.gnt("gnt-node modify --node-parameters ssh_port=2222 node2")
        self.assertIn("ssh_port: 2222", self.gnt("gnt-node info node2"))
        self.gnt("gnt-node modify --node-parameters ssh_port=default node2")
        self.assertIn("ssh_port: default (22)", self.gnt("gnt-node info node2"))
        self.refused("gnt-node modify --node-parameters ssh_prot=1 node2", "ssh_prot", "ssh_port")
        self.refused("gnt-node modify --node-parameters exclusive_storage=yes node2", "exclusive_storage")

    def test_refused(self) -> None:
        """The master stays what it is; one flag at a time; unknown names."""
        for flag in ("offline", "drained"):
            self.refused(f"gnt-node modify --{flag}=yes node1", "node1.virtual")
        self.refused("gnt-node modify --master-candidate=no node1", "node1.virtual")
        self.refused("gnt-node modify --offline=yes --drained=yes node2")
        self.refused("gnt-node modify node2", "at least one")
        self.refused("gnt-node modify --offline=maybe node2", "maybe")
        self.refused("gnt-node modify --offline=yes node9", "node9")

    def test_dry_run(self) -> None:
        """Nothing changes."""
        before = self.cluster.serial()
        self.gnt("gnt-node modify --dry-run --drained=yes --auto-promote node2")
        self.assertEqual(self.cluster.serial(), before)


class MembershipTests(NodeCase):
    """Add, remove, re-add."""

    def test_remove_and_add(self) -> None:
        """A removed node forgets the cluster and can be added again."""
        name = self.add("hinders", "-n", "node3")
        self.refused("gnt-node remove node3", "node3.virtual", name)
        self.refused("gnt-node remove node1", "node1.virtual")
        self.gnt(f"gnt-instance remove -f {name}")
        self.gnt("gnt-node remove node3")
        self.assertNotIn("node3", self.gnt("gnt-node list"))
        until(lambda: not Path(self.cluster.paths(3).node_cert_file).exists(), "node3 keeps its certificate")
        self.assertFalse(Path(self.cluster.paths(3).config_file).exists())
        self.refused("gnt-node list node3", "node3")
        self.gnt("gnt-node add --no-ssh-key-check node3")
        self.assertEqual(self.flags("node3.virtual"), (True, False, False))
        self.gnt("gnt-cluster verify")

    def test_known(self) -> None:
        """What is there already is not added again, and what is not cannot come back."""
        self.refused("gnt-node add --no-ssh-key-check node2", "node2.virtual")
        self.refused("gnt-node add --no-ssh-key-check --readd node9", "node9")
        self.refused("gnt-node add --no-ssh-key-check node9.virtual", "node9")
        self.refused("gnt-node add --no-ssh-key-check --readd node1", "master")

    def test_power_cut(self) -> None:
        """A node that lost power is shown as down, can be marked, and is taken back by a re-add."""
        name = self.add("victim", "-n", "node3")
        self.cluster.vcluster("kill", "node3")
        self.assertEqual(self.of("instance", name, "status"), ["ERROR_nodedown"])
        self.gnt("gnt-node modify --offline=yes --auto-promote node3")
        self.assertEqual(self.of("instance", name, "status"), ["ERROR_nodeoffline"])
        self.gnt(f"gnt-instance failover -f -n node2 {name}")
        self.assertEqual(self.of("instance", name, "pnode", "status"), ["node2.virtual", "running"])
        self.gnt("gnt-node add --no-ssh-key-check --readd node3")
        self.assertEqual(self.flags("node3"), (True, False, False))
        self.gnt(f"gnt-instance migrate -f -n node3 {name}")
        self.gnt("gnt-cluster verify")

    def test_lists(self) -> None:
        """List, info and their JSON tell the same."""
        found = json.loads(self.gnt("gnt-node list --output json"))
        self.assertEqual([row["name"] for row in found], [f"node{number}.virtual" for number in (1, 2, 3)])
        self.assertTrue(all(row["mfree"] > 0 for row in found))
        (info,) = json.loads(self.gnt("gnt-node info --output json node2"))
        self.assertEqual(info["pip"], self.cluster.node(2).address)
        roles = [row[0] for row in self.rows("gnt-node list", "-o role")]
        self.assertEqual(roles, ["M", "C", "C"])

    def test_powercycle(self) -> None:
        """The master is not rebooted without force; without an answer nothing happens at all (code 2)."""
        self.refused("gnt-node powercycle --yes node1", "node1.virtual", "force")
        self.refused("gnt-node powercycle node2", code=2)

"""Flags of nodes against other operations: races with creations, and candidates in several groups."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PrereqError
from ganeti.model.calls.instances import HypervisorValidateParams
from ganeti.model.node import Node
from ganeti.ops.group.assign_nodes import AssignNodes
from ganeti.ops.instance.create import CreateInstance
from ganeti.ops.node.set_params import SetNodeParams
from ganeti.testing.clusters import cluster, group_id, with_node
from ganeti.testing.operations import OperationWorld
from tests.unit.ops.new_instances import NAME, create


def create_on_node2(**changes: Any) -> CreateInstance:
    """An instance on node2."""
    return create(**{"pnode": "node2", **changes})


def modify(name: str = "node2", **changes: Any) -> SetNodeParams:
    """A change of a node."""
    return SetNodeParams(node_name=name, **changes)


class RaceTests(SynchronousTestCase):
    """S2.3-106: a node loses vm_capable while an instance is being put on it, and the other way round."""

    def setUp(self) -> None:
        """Creations go on, with the locks of their nodes, when the test says so."""
        self.world = OperationWorld(cluster())
        self.asked: Deferred[None] = Deferred()
        self.world.nodes.answer(HypervisorValidateParams, lambda node, call: self.asked)

    def flags(self) -> tuple[bool, int]:
        """vm_capable of node2, and how many instances it has."""
        node = self.world.cluster.node("node2")
        return node.vm_capable, len(tuple(self.world.cluster.instances_on(node.uuid)))

    def test_creation_first(self) -> None:
        """The change waits for the new instance, and is refused then."""
        creation = self.world.start(create_on_node2())
        change = self.world.start(modify(vm_capable=False), job=2)
        self.assertNoResult(creation)
        self.assertNoResult(change)
        self.assertEqual(self.flags(), (True, 0))
        self.asked.callback(None)
        self.world.advance(1)
        self.successResultOf(creation)
        failure = self.failureResultOf(change, PrereqError)
        self.assertIn(NAME, str(failure.value))
        self.assertEqual(self.flags(), (True, 1))

    def test_creation_fails(self) -> None:
        """If nothing comes of the instance, the change is made."""
        creation = self.world.start(create_on_node2())
        change = self.world.start(modify(vm_capable=False), job=2)
        self.asked.errback(PrereqError("not here"))
        self.world.advance(1)
        self.failureResultOf(creation)
        self.successResultOf(change)
        self.assertEqual(self.flags(), (False, 0))

    def test_change_first(self) -> None:
        """A creation that waited while the flag changed is refused: it looks again under the lock."""
        first = self.world.start(create_on_node2(instance_name="first.example.com"))
        change = self.world.start(modify("node2", drained=True), job=2)
        second = self.world.start(create_on_node2(), job=3)
        self.asked.callback(None)
        self.world.advance(1)
        self.successResultOf(first)
        self.successResultOf(change)
        failure = self.failureResultOf(second, PrereqError)
        self.assertIn("node2.example.com: it is drained", str(failure.value))

    def test_flag_before_allocator(self) -> None:
        """An allocator that had chosen a node is not believed if the node cannot be used any more."""
        self.world.run(modify(vm_capable=False))
        self.world.allocation.nodes = (self.world.cluster.node("node2").uuid,)
        with self.assertRaisesRegex(PrereqError, "vm_capable is off"):
            self.world.run(create_on_node2(pnode=None, iallocator="hail"))


class GroupsTests(SynchronousTestCase):
    """S2.3-027: candidates are spread over groups without restriction."""

    def candidates(self, world: OperationWorld) -> set[str]:
        """Numbers of the candidates."""
        return {node.name[4] for node in self.nodes(world) if node.master_candidate}

    def nodes(self, world: OperationWorld) -> list[Node]:
        """All nodes."""
        return list(world.cluster.nodes.values())

    def test_promotion_in_another_group(self) -> None:
        """The place of a candidate is taken by a node of any group."""
        value = cluster(nodes=4, groups=2, candidate_pool_size=2)
        value = with_node(value, "node3", drained=True)
        world = OperationWorld(value)
        self.assertEqual(self.candidates(world), {"1", "2"})
        world.run(modify("node2", drained=True, auto_promote=True))
        self.assertEqual(self.candidates(world), {"1", "4"})

    def test_all_in_one_group(self) -> None:
        """Nothing forces a candidate into each group."""
        world = OperationWorld(cluster(nodes=4, groups=2, candidate_pool_size=2))
        world.run(modify("node3", master_candidate=True))
        world.run(modify("node2", master_candidate=False))
        self.assertEqual(self.candidates(world), {"1", "3"})
        self.assertEqual(world.cluster.settings.candidate_pool_size, 2)
        groups = {node.group for node in self.nodes(world) if node.master_candidate}
        self.assertEqual(groups, {group_id(1)})

    def test_change_of_group(self) -> None:
        """A candidate that goes to another group stays one."""
        world = OperationWorld(cluster(nodes=4, groups=2, candidate_pool_size=2))
        world.run(AssignNodes(group_name="group2", nodes=("node1",)))
        self.assertEqual(self.candidates(world), {"1", "2"})

    def test_only_capable_nodes(self) -> None:
        """A group of nodes that only host instances gets none; one of candidates gets no instances."""
        value = cluster(nodes=4, groups=2, candidate_pool_size=2)
        for name in ("node2", "node4"):
            value = with_node(value, name, master_capable=False, master_candidate=False)
        for name in ("node1", "node3"):
            value = with_node(value, name, vm_capable=False, master_candidate=True)
        world = OperationWorld(value)
        with self.assertRaisesRegex(PrereqError, "not master capable"):
            world.run(modify("node2", master_candidate=True))
        world.run(modify("node3", drained=True))
        self.assertEqual(self.candidates(world), {"1"})
        with self.assertRaisesRegex(PrereqError, "vm_capable is off"):
            world.run(create_on_node2(pnode="node3"))

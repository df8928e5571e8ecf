"""Tests of creating instances in node groups: which may be used, what is locked, what is refused."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.allocation import Allocate, InstanceRequest, Solution
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockMode
from ganeti.ops.group.update_cache import UpdateNodeGroupCache
from ganeti.ops.instance.create import CreateInstance
from ganeti.testing.clusters import cluster, group_id, node_id
from ganeti.testing.operations import OperationWorld
from tests.unit.ops.new_instances import create


def op(**changes: Any) -> CreateInstance:
    """An instance for which hail looks for a place."""
    return create(**{"iallocator": "hail", **changes})


def three_groups() -> Cluster:
    """Nodes 1 and 4 in default, 2 and 5 in group2, 3 and 6 in group3."""
    return cluster(nodes=6, groups=3)


class GroupChoiceTests(SynchronousTestCase):
    """An allocator chooses in some groups."""

    def setUp(self) -> None:
        """Six nodes in three groups."""
        self.world = OperationWorld(three_groups())
        self.world.allocation.nodes = (node_id(5),)

    def asked(self, **changes: Any) -> InstanceRequest:
        """What the allocator is asked."""
        self.world.run(op(**changes))
        request = self.world.allocation.requests[-1][1]
        assert isinstance(request, Allocate)
        return request.instance

    def test_list(self) -> None:
        """S2.3-015: a list of groups, by name or UUID, reaches the allocator."""
        asked = self.asked(target_groups=("group2", group_id(3)))
        self.assertEqual(asked.target_groups, (group_id(2), group_id(3)))
        self.assertEqual(asked.group, None)

    def test_one(self) -> None:
        """A list of one group is the established single form."""
        for changes in ({"target_groups": ("group2", "group2")}, {"group_name": "group2"}):
            self.setUp()
            asked = self.asked(**changes)
            self.assertEqual((asked.group, asked.target_groups), (group_id(2), ()))

    def test_locks(self) -> None:
        """S2.3-055: only nodes of these groups are locked, so that jobs in others go on."""
        plan = self.world.plan(op(target_groups=("group2", "group3")))
        self.assertEqual(plan.requests[LockLevel.NODEGROUP].names, {group_id(2), group_id(3)})
        self.assertEqual(plan.requests[LockLevel.NODEGROUP].mode, LockMode.SHARED)
        for level in (LockLevel.NODE, LockLevel.NODE_RES):
            expected = {node_id(number) for number in (2, 3, 5, 6)}
            self.assertEqual(plan.requests[level].names, expected)
            self.assertEqual(plan.requests[level].mode, LockMode.EXCLUSIVE)

    def test_wrong_knowledge(self) -> None:
        """An allocator that chose by old knowledge, which the chosen node contradicts, is asked once more."""
        self.world.model.run("node5.example.com", "fat.example.com", memory=64512)
        self.world.allocation.nodes_then = (node_id(2),)
        self.assertEqual(self.world.run(op()), ["node2.example.com"])
        self.assertEqual(len(self.world.allocation.requests), 2)

    def test_too_little_everywhere(self) -> None:
        """If the second choice is no better, the job says what lacks."""
        for number in (2, 5):
            self.world.model.run(f"node{number}.example.com", "fat.example.com", memory=64512)
        self.world.allocation.nodes_then = (node_id(2),)
        error = self.assertRaises(PrereqError, self.world.run, op())
        self.assertIn("node2.example.com has 0 MiB of free memory", str(error))
        self.assertEqual(error.code, ErrorCode.NO_RESOURCES)
        self.assertEqual(len(self.world.allocation.requests), 2)

    def test_what_is_forgotten(self) -> None:
        """Of all nodes that could have been chosen only the one that was is not known any more (S2.3-049)."""
        for name in ("default", "group2", "group3"):
            self.world.run(UpdateNodeGroupCache(group_name=name))
        self.world.run(op())
        left = {row["name"].partition(".")[0] for row in self.world.state.rows()}
        self.assertEqual(left, {"node1", "node2", "node3", "node4", "node6"})

    def test_locks_of_all(self) -> None:
        """Without groups all nodes may be chosen."""
        plan = self.world.plan(op())
        self.assertTrue(plan.requests[LockLevel.NODE].is_all)

    def test_candidates(self) -> None:
        """The allocator may use the nodes that are locked."""
        self.asked(target_groups=("group2", "group3"))
        self.assertEqual(self.world.allocation.requests[0][2], {node_id(number) for number in (2, 3, 5, 6)})


class OpportunisticTests(SynchronousTestCase):
    """Nodes that others hold are left out."""

    def setUp(self) -> None:
        """Nothing fits anywhere."""
        self.world = OperationWorld(three_groups())

    def refused(self, *held_by_another: int) -> PrereqError:
        """Why it is refused while another job holds these nodes."""
        operation = self.world.operation(op(target_groups=("group2",), opportunistic_locking=True))
        held = RecordingHeld({node_id(number) for number in (2, 5)} - set(map(node_id, held_by_another)))

        async def solve(*_: Any, **__: Any) -> Solution:
            raise PrereqError("nothing fits", code=ErrorCode.NO_RESOURCES)

        self.world.allocation.solve = solve  # type: ignore[method-assign]
        failure = self.failureResultOf(self.world.with_context(operation, held=held))
        failure.trap(PrereqError)
        error = failure.value
        assert isinstance(error, PrereqError)
        return error

    def test_not_now(self) -> None:
        """While another job holds a node that might do, it is tried again later."""
        self.assertEqual(self.refused(2).code, ErrorCode.NO_RESOURCES_NOW)

    def test_never(self) -> None:
        """If all nodes were looked at, waiting does not help."""
        self.assertEqual(self.refused().code, ErrorCode.NO_RESOURCES)


class RecordingHeld:
    """Locks of some nodes."""

    def __init__(self, nodes: set[Any]) -> None:
        self.nodes = frozenset(nodes)

    def names(self, level: LockLevel) -> frozenset[str]:
        """The nodes, on each level."""
        return self.nodes


class GroupRefusalTests(SynchronousTestCase):
    """Wishes that contradict the groups."""

    def refused(self, **changes: Any) -> str:
        """Why; nothing was changed."""
        world = OperationWorld(three_groups())
        world.allocation.nodes = (node_id(2),)
        with self.assertRaises(PrereqError) as caught:
            world.run(op(**{"iallocator": None, **changes}))
        self.assertEqual(world.config.changes, [])
        return str(caught.exception)

    def test_pair_in_two_groups(self) -> None:
        """S2.3-013, S2.3-016: primary and secondary in different groups are refused, with both names."""
        text = self.refused(disk_template="drbd", pnode="node1", snode="node2")
        for part in ("node1.example.com is in group default", "node2.example.com is in group group2"):
            self.assertIn(part, text)
        self.assertIn("choose both from one of them", text)

    def test_node_outside(self) -> None:
        """A node that is given must be in one of the groups."""
        text = self.refused(pnode="node1", target_groups=("group2", "group3"))
        self.assertIn("group group2 or group3, but node node1.example.com is in group default", text)

    def test_unknown_group(self) -> None:
        """An unknown group is named."""
        self.assertIn("nosuch", self.refused(iallocator="hail", target_groups=("nosuch",)))

    def test_both_ways(self) -> None:
        """Groups are given in one way."""
        text = self.refused(iallocator="hail", target_groups=("group2",), group_name="group3")
        self.assertIn("either group_name or target_groups", text)

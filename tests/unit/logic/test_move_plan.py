"""What jobs of an allocator do, and which of them wait for which."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.evacuate import journey
from ganeti.logic.move_plan import after_overlapping, planned_moves
from ganeti.model.ids import NodeId
from ganeti.testing.clusters import cluster, node_id, with_instance, with_node

VALUE = with_instance(cluster(nodes=6, groups=2), "pair", primary="node1", secondary="node3")
VALUE = with_instance(VALUE, "shared", primary="node1", template="sharedfile")


def opcode(kind: str, instance: str = "pair", **more: Any) -> dict[str, Any]:
    """As an allocator writes it."""
    return {"OP_ID": f"OP_INSTANCE_{kind}", "instance_name": f"{instance}.example.com", **more}


def nodes(*numbers: int) -> tuple[NodeId, ...]:
    """Nodes by number."""
    return tuple(node_id(number) for number in numbers)


class PlannedTests(SynchronousTestCase):
    """`planned_moves`."""

    def test_table(self) -> None:
        """The opcodes are followed one by one, whoever wrote them."""
        replace = opcode("REPLACE_DISKS", mode="replace_new_secondary", remote_node="node2.example.com")
        cases: tuple[tuple[tuple[dict[str, Any], ...], tuple[NodeId, ...], str], ...] = (
            ((opcode("MIGRATE"),), nodes(3, 1), "migrate"),
            ((opcode("FAILOVER"),), nodes(3, 1), "failover"),
            ((replace,), nodes(1, 2), "replace-disks"),
            ((opcode("FAILOVER"), replace), nodes(3, 2), "failover, replace-disks"),
            ((opcode("REPLACE_DISKS", mode="replace_on_primary"),), nodes(1, 3), "replace-disks"),
            ((opcode("MIGRATE", "shared", target_node="node2"),), nodes(2), "migrate"),
            ((opcode("MIGRATE", "shared"),), nodes(1), "migrate"),
        )
        for job, target, how in cases:
            (move,) = planned_moves(VALUE, [job])
            self.assertEqual((move.target, ", ".join(move.steps)), (target, how))

    def test_journey(self) -> None:
        """Ours ends at the nodes for which it was made, and touches those between, also from a dead node."""
        for is_down in (False, True):
            value = with_node(VALUE, "node1", offline=is_down)
            job = journey(value, value.instance("pair"), nodes(2, 4))
            (move,) = planned_moves(value, [job])
            self.assertEqual((move.source, move.target), (nodes(1, 3), nodes(2, 4)))
            self.assertEqual(move.touched, frozenset(nodes(1, 2, 3, 4)))
            row = move.as_row(value)
            self.assertEqual((row["from_group"], row["to_group"]), ("default", "group2"))

    def test_split(self) -> None:
        """Of a pair in two groups both are named."""
        job = journey(VALUE, VALUE.instance("pair"), nodes(2, 4))[:1]
        (move,) = planned_moves(VALUE, [job])
        self.assertEqual(move.as_row(VALUE)["to_group"], "default+group2")


class OrderTests(SynchronousTestCase):
    """`after_overlapping`."""

    def test_table(self) -> None:
        """Each waits for the last one that has a node in common with it."""
        touched = [nodes(1, 2), nodes(3, 4), nodes(2, 3), nodes(1), nodes(5)]
        self.assertEqual(list(after_overlapping(touched)), [(), (), (-2, -1), (-3,), ()])

    @given(st.lists(st.frozensets(st.integers(1, 6).map(node_id), max_size=4), max_size=12))
    def test_no_two_at_once(self, touched: list[frozenset[NodeId]]) -> None:
        """Two jobs with a node in common never run together; whoever waits, waits for an earlier one."""
        before: list[set[int]] = []
        for index, distances in enumerate(after_overlapping(touched)):
            awaited = {index + distance for distance in distances}
            self.assertTrue(all(0 <= one < index for one in awaited))
            before.append(awaited.union(*(before[one] for one in awaited)))
            for other in range(index):
                if touched[other] & touched[index]:
                    self.assertIn(other, before[index])

"""Tests of what moving nodes between groups does to instances."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.group_moves import Splits, splits_of
from ganeti.model.ids import GroupId, NodeId
from ganeti.testing.clusters import cluster, group_id, node_id, with_node

MIRRORED = cluster(nodes=6, groups=2, instances=6)
PLAIN = cluster(nodes=6, groups=2, instances=6, template="plain")


class SplitTests(SynchronousTestCase):
    """Which instances have nodes in different groups."""

    def test_new(self) -> None:
        """One end of a mirror moves."""
        found = splits_of(MIRRORED, {node_id(1): group_id(2)})
        of_node1 = [one for one in MIRRORED.instances.values() if node_id(1) in MIRRORED.nodes_of(one)]
        self.assertEqual(found, Splits(new=tuple(sorted(one.name for one in of_node1)), old=()))
        self.assertTrue(found.new)

    def test_old(self) -> None:
        """What was split before and stays so is no fault of the move; what becomes whole is well."""
        broken = with_node(MIRRORED, "node1", group=group_id(2))
        split = splits_of(broken, {})
        self.assertEqual(split.new, ())
        self.assertTrue(split.old)
        self.assertEqual(splits_of(broken, {node_id(1): group_id(1)}), Splits(new=(), old=()))

    def test_unmirrored(self) -> None:
        """Instances on one node cannot be split."""
        self.assertEqual(splits_of(PLAIN, {node_id(1): group_id(2)}), Splits(new=(), old=()))

    @given(st.dictionaries(st.integers(1, 6), st.integers(1, 2)))
    def test_definition(self, moves: dict[int, int]) -> None:
        """Those are split that have nodes in more than one group afterwards."""
        moved: dict[NodeId, GroupId] = {node_id(node): group_id(group) for node, group in moves.items()}
        after = MIRRORED
        for node, group in moves.items():
            after = with_node(after, f"node{node}", group=group_id(group))
        expected = sorted(
            one.name
            for one in after.instances.values()
            if len({after.nodes[node].group for node in after.nodes_of(one)}) > 1
        )
        self.assertEqual(splits_of(MIRRORED, moved), Splits(new=tuple(expected), old=()))
        self.assertEqual(splits_of(after, {}), Splits(new=(), old=tuple(expected)))

"""Ways of files to nodes: direct, or through one node of a large group (S2.3-032)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.diffusion import MIN_BYTES, Plan, ways
from ganeti.model.ids import NodeId
from ganeti.model.node import Node
from ganeti.testing.clusters import group_id, node, node_id


def grouped(*sizes: int) -> list[Node]:
    """Groups of so many nodes, numbered through."""
    found: list[Node] = []
    for number, size in enumerate(sizes, 1):
        found += [node(len(found) + count, group=group_id(number)) for count in range(1, size + 1)]
    return found


def plan(
    nodes: list[Node],
    *,
    min_nodes: int = 3,
    size: int = MIN_BYTES,
    turn: int = 0,
    away: set[NodeId] | None = None,
    unfit: set[NodeId] | None = None,
) -> Plan:
    """Ways to nodes of which some have no connection, or may not spread."""
    return ways(
        nodes,
        min_nodes=min_nodes,
        size=size,
        turn=turn,
        is_connected=lambda node: node.uuid not in (away or ()),
        may_relay=lambda node: node.uuid not in (unfit or ()),
    )


class WaysTests(SynchronousTestCase):
    """Which way is taken."""

    def test_table(self) -> None:
        """Large messages to large groups take the way through one of them, all else is direct."""
        everybody = {node_id(number) for number in range(1, 9)}
        for what, found, routes, direct in (
            ("two large groups", plan(grouped(4, 4)), 2, 0),
            ("a large and a small one", plan(grouped(6, 2)), 1, 2),
            ("the only group", plan(grouped(8)), 0, 8),
            ("two small groups", plan(grouped(2, 2)), 0, 4),
            ("switched off", plan(grouped(4, 4), min_nodes=0), 0, 8),
            ("a short message", plan(grouped(4, 4), size=MIN_BYTES - 1), 0, 8),
            ("groups of one", plan(grouped(1, 1), min_nodes=1), 0, 2),
            ("nobody may spread", plan(grouped(4, 4), unfit=everybody), 0, 8),
            ("too few connected", plan(grouped(4, 4), away={node_id(1), node_id(2)}), 1, 4),
            ("one away in each", plan(grouped(4, 4), away={node_id(1), node_id(5)}), 2, 2),
        ):
            self.assertEqual((len(found.routes), len(found.direct)), (routes, direct), what)

    def test_turns(self) -> None:
        """Each message has another node that spreads it, until all had their turn."""
        found = [plan(grouped(4, 4), turn=turn, unfit={node_id(2)}).routes[0].relay.uuid for turn in range(3)]
        self.assertEqual(set(found), {node_id(1), node_id(3), node_id(4)})

    @given(
        st.lists(st.integers(1, 6), max_size=5),
        st.integers(0, 5),
        st.integers(0, 2 * MIN_BYTES),
        st.integers(0, 50),
        st.sets(st.integers(1, 30).map(node_id)),
        st.sets(st.integers(1, 30).map(node_id)),
    )
    def test_everybody_once(
        self, sizes: list[int], least: int, size: int, turn: int, away: set[NodeId], unfit: set[NodeId]
    ) -> None:
        """Every node is reached in exactly one way, through a node of its own group that may and can."""
        nodes = grouped(*sizes)
        found = plan(nodes, min_nodes=least, size=size, turn=turn, away=away, unfit=unfit)
        reached = [one.uuid for one in found.direct]
        for route in found.routes:
            members = (route.relay, *route.others)
            reached += [one.uuid for one in members]
            self.assertEqual({one.group for one in members}, {route.relay.group})
            self.assertFalse({one.uuid for one in members} & away)
            self.assertNotIn(route.relay.uuid, unfit)
            self.assertGreaterEqual(len(members), least)
        self.assertEqual(sorted(reached), sorted(one.uuid for one in nodes))

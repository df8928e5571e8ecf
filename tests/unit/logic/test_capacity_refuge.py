"""Whether nodes could be emptied: the quick answers are those of trying it out."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.capacity_refuge import Refuge, Resident, _settled, _surely_suffices
from ganeti.logic.node_state import Demand, NodeState
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.ipolicy import DEFAULT_POLICY


def node(number: int, free: int, disk: int = 10**6, **figures: Any) -> NodeState:
    """A node of 100,000 MiB with so much free."""
    return NodeState(
        node=NodeId(f"n{number}"),
        name=f"n{number}",
        group=GroupId("g"),
        total_memory=100000,
        instance_memory=100000 - free,
        planned_unallocated=free,
        total_disk=10**6,
        free_disk=disk,
        planned_free_disk=disk,
        total_cpus=64,
        **figures,
    )


def demand(memory: int, disk: int = 1024, **changes: Any) -> Demand:
    """A plain instance."""
    values = {"name": "i", "memory": memory, "vcpus": 1, "disk": disk, "disk_sizes": (disk,)}
    return Demand(**{**values, **changes})


class RefugeTests(SynchronousTestCase):
    """Yes or no."""

    def refuge(self, states: list[NodeState], *memories: list[int], **changes: Any) -> Refuge:
        """Plain instances of these sizes on each node."""
        residents = [[Resident(demand(memory, **changes), None) for memory in known] for known in memories]
        return Refuge(states, residents, DEFAULT_POLICY)

    def test_room(self) -> None:
        """Room elsewhere for the instances of each node, or not."""
        states = [node(1, 5000), node(2, 5000)]
        self.assertTrue(self.refuge(states, [4000], [4000]).holds())
        self.assertFalse(self.refuge(states, [4000, 4000], []).holds())
        self.assertFalse(self.refuge(states, [5000], []).holds())

    def test_disk(self) -> None:
        """Disks need room, too, but not those that all nodes can reach."""
        states = [node(1, 50000, disk=2000), node(2, 50000, disk=2000)]
        self.assertFalse(self.refuge(states, [128], [], disk=3000).holds())
        shared = {"template": "sharedfile", "is_local": False, "is_movable": True}
        self.assertTrue(self.refuge(states, [128], [], disk=3000, **shared).holds())

    def test_policy(self) -> None:
        """What the policy forbids is not made anew; what can be moved is not asked."""
        states = [node(1, 50000), node(2, 50000)]
        self.assertFalse(self.refuge(states, [64], []).holds())
        shared = {"template": "sharedfile", "is_local": False, "is_movable": True}
        self.assertTrue(self.refuge(states, [64], [], **shared).holds())

    def test_certain(self) -> None:
        """Only mirrored instances for which room is kept need not be looked at."""
        states = [node(1, 5000), node(2, 5000), node(3, 0, is_online=False)]
        mirrored = demand(1000, template="drbd", nodes_needed=2)
        for resident, is_certain in (
            (Resident(mirrored, 1), True),
            (Resident(mirrored, 2), False),
            (Resident(demand(1000, is_balanced=False), 1), False),
            (Resident(demand(1000), None), False),
        ):
            refuge = Refuge(states, [[resident], [], []], DEFAULT_POLICY)
            self.assertEqual(refuge.is_certain, is_certain)

    def test_mirror_is_gone(self) -> None:
        """A mirrored instance whose other node is down cannot fail over."""
        states = [node(1, 5000), node(2, 5000), node(3, 0, is_online=False)]
        mirrored = Resident(demand(1000, template="drbd", nodes_needed=2), 2)
        self.assertFalse(Refuge(states, [[mirrored], [], []], DEFAULT_POLICY).holds())

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.tuples(st.integers(100, 9000), st.lists(st.sampled_from((128, 1000, 2500)), max_size=4)),
            min_size=2,
            max_size=5,
        )
    )
    def test_quick_answers(self, nodes: list[tuple[int, list[int]]]) -> None:
        """A quick answer is never another than that of putting the instances somewhere."""
        states = [node(number, free) for number, (free, _) in enumerate(nodes)]
        refuge = self.refuge(states, *(memories for _, memories in nodes))
        slowly = all(
            _settled(
                list(states),
                leaver,
                [index for index in range(len(states)) if index != leaver],
                [],
                [demand(memory) for memory in sorted(memories, reverse=True)],
            )
            for leaver, (_, memories) in enumerate(nodes)
        )
        self.assertEqual(refuge.holds(), slowly)
        if refuge.holds_anywhere(demand(1000), 1):
            self.assertTrue(slowly)

    def test_sure(self) -> None:
        """There are enough places of the largest size."""
        states = [node(1, 5000), node(2, 5000)]
        self.assertTrue(_surely_suffices(states, [0, 1], [demand(2000), demand(2000), demand(100)]))
        self.assertFalse(_surely_suffices(states, [0, 1], [demand(3000)] * 3))

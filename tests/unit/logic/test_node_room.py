"""Limits of nodes say the same as the rules that explain."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.constraints import Constraint, Shortfall, primary_problem, secondary_problem
from ganeti.logic.node_room import FailMode, Size, primary_room, secondary_room
from ganeti.logic.node_state import Demand, NodeState
from ganeti.model.ids import GroupId, NodeId

amounts = st.integers(0, 3000)


@st.composite
def states(draw: st.DrawFn) -> NodeState:
    """Redundant nodes of all kinds, full ones, too."""
    memory = draw(st.integers(1, 4000))
    used = draw(st.integers(0, 4000))
    figures: dict[str, Any] = {
        "total_memory": memory,
        "instance_memory": used,
        "planned_unallocated": memory - used - draw(st.integers(-50, 500)),
        "reserved": max(0, min(memory - used - 1, draw(amounts))),
        "total_disk": 4000,
        "free_disk": draw(amounts),
        "planned_free_disk": draw(amounts),
        "kept_disk": draw(st.sampled_from((0, 1, 300))),
        "has_disk_report": draw(st.booleans()),
        "total_cpus": draw(st.integers(1, 9)),
        "used_cpus": draw(st.integers(0, 20)),
        "planned_cpus": draw(st.integers(0, 20)),
        "vcpu_ratio": draw(st.sampled_from((0.3, 1.0, 1.1, 1.5, 2.9, 4.0))),
        "spindle_limit": draw(st.sampled_from((4.0, 12.5))),
        "spindles": draw(st.integers(0, 14)),
        "planned_spindles": draw(st.integers(0, 14)),
        "has_exclusive_storage": draw(st.booleans()),
        "free_spindles": draw(st.integers(0, 5)),
    }
    return NodeState(node=NodeId("n"), name="n", group=GroupId("g"), **figures)


def mode_of(problem: Shortfall | None, state: NodeState) -> FailMode | None:
    """By which name the established allocator knows a problem."""
    if problem is None:
        return None
    if problem.constraint is Constraint.SPINDLES:
        return FailMode.SPINDLES if state.has_exclusive_storage else FailMode.DISK
    known = {
        Constraint.MEMORY: FailMode.MEMORY,
        Constraint.DISK: FailMode.DISK,
        Constraint.CPU: FailMode.CPU,
    }
    return known[problem.constraint]


def demand_of(size: Size, template: str, *, is_local: bool) -> Demand:
    """An instance of a size."""
    return Demand(
        name="new",
        memory=size.memory,
        vcpus=size.cpus,
        disk=size.disk,
        spindle_use=size.spindles,
        template=template,
        is_local=is_local,
    )


sizes = st.builds(Size, st.integers(1, 3000), amounts, st.integers(1, 12), st.integers(1, 4))


class NodeRoomTests(SynchronousTestCase):
    """The first rule that is broken is the same, whoever looks."""

    @given(states(), sizes, st.booleans())
    def test_primary(self, state: NodeState, size: Size, is_local: bool) -> None:
        """On the node that runs an instance."""
        if state.fails_n1:
            return
        demand = demand_of(size, "plain", is_local=is_local)
        problem = primary_problem(state, demand)
        wanted = mode_of(problem, state)
        if problem is not None and not is_local and problem.constraint is Constraint.SPINDLES:
            wanted = FailMode.DISK
        self.assertEqual(primary_room(state, is_local=is_local).failure(size), wanted)

    @given(states(), sizes)
    def test_secondary(self, state: NodeState, size: Size) -> None:
        """On the node with its mirror, which keeps nothing yet for the primary."""
        if state.fails_n1:
            return
        problem = secondary_problem(state, demand_of(size, "drbd", is_local=True))
        self.assertEqual(secondary_room(state).failure(size), mode_of(problem, state))

    @given(states(), sizes, st.integers(1, 2000))
    def test_linked(self, state: NodeState, size: Size, kept: int) -> None:
        """Where it keeps some memory for the primary already."""
        if kept > state.reserved or state.fails_n1 or state.planned_unallocated != state.unallocated:
            return
        linked = msgspec.structs.replace(state, peers={NodeId("p"): kept})
        room = secondary_room(linked)
        if room.failure(size) is None:
            problem = secondary_problem(linked, demand_of(size, "drbd", is_local=True), NodeId("p"))
            self.assertEqual(kept + size.memory <= room.linked_memory, problem is None)

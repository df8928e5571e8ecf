"""Whether every node of a group could fail and its instances be started again on the others.

For mirrored disks this is what each node keeps reserved (`NodeState.fails_n1`). Instances on shared
storage may go to any node of their group, so here it is tried out: largest instance first, to the node
with the most room, and if that does not work out to the node where the least room is left over.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from ganeti.logic.node_state import NodeState


def stranded_node(states: Sequence[NodeState]) -> NodeState | None:
    """The first node whose movable instances would not all fit elsewhere, or None.

    Args:
        states: online nodes of one group. A single node is nobody's refuge, so nothing is asked of it.
    """
    if len(states) < 2 or not any(state.movable_memory for state in states):
        return None
    rooms = sorted((state.unallocated, index) for index, state in enumerate(states))
    for index, state in enumerate(states):
        if state.movable_memory and not _can_leave(states, index, rooms):
            return state
    return None


def _can_leave(states: Sequence[NodeState], index: int, rooms: Sequence[tuple[int, int]]) -> bool:
    leaver = states[index]
    memory = sorted(leaver.movable_memory, reverse=True)
    targets = [entry for entry in rooms[-len(memory) - len(leaver.partners) - 1 :] if entry[1] != index]
    # Mirrored instances fail over at the same time and take their memory first.
    free = sorted(room - states[target].peers.get(leaver.node, 0) for room, target in targets)
    if free and free[-1] > sum(memory):
        return True
    return _largest_first(memory, free) or _tightest_fit(memory, sorted(_all_rooms(states, index)))


def _all_rooms(states: Sequence[NodeState], index: int) -> list[int]:
    gone = states[index].node
    return [
        state.unallocated - state.peers.get(gone, 0) for other, state in enumerate(states) if other != index
    ]


def _largest_first(memory: Sequence[int], free: Sequence[int]) -> bool:
    rooms = list(free)
    for wanted in memory:
        if not rooms or rooms[-1] <= wanted:
            return False
        insort(rooms, rooms.pop() - wanted)
    return True


def _tightest_fit(memory: Sequence[int], free: Sequence[int]) -> bool:
    rooms = list(free)
    for wanted in memory:
        place = bisect_left(rooms, wanted + 1)
        if place == len(rooms):
            return False
        insort(rooms, rooms.pop(place) - wanted)
    return True

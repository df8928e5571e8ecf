"""Whether every node of a group could be emptied: the capacity check of the established allocator.

Mirrored instances fail over to their secondaries; then those that any node can start (shared storage) move,
each to the node after which the score of the group is lowest; then those whose disks would be lost (plain,
file) are made anew elsewhere, the largest first. Only what a node has counts, soft rules are set aside.

`redundancy` asks less and is what placement keeps to: there a place counts if any arrangement works out, and
nobody makes a lost disk anew. Here the established, greedier procedure is followed, because the counts
have to be the same. Mostly it need not be: as long as there are more places for the largest instance than
a node has instances, any order works out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ganeti.logic.constraints import policy_problem, primary_problem
from ganeti.logic.node_state import Demand, NodeState
from ganeti.logic.score import ClusterScore
from ganeti.model.ipolicy import InstancePolicy

_PLENTY = 10**6
"""More than will ever be asked for."""


class Resident(NamedTuple):
    """An instance on its primary node."""

    demand: Demand
    secondary: int | None


class Refuge:
    """The nodes of a group and what would have to leave each.

    Args:
        states: of all nodes; the caller changes this list.
        residents: of each node its instances, the newest first.
        policy: of the group; what it forbids is not made anew.
    """

    def __init__(
        self, states: list[NodeState], residents: Sequence[Sequence[Resident]], policy: InstancePolicy
    ) -> None:
        self._states = states
        self._residents = [list(known) for known in residents]
        self._policy = policy
        self._forbidden: dict[tuple[object, ...], bool] = {}

    @property
    def is_certain(self) -> bool:
        """Whether there is nothing to look at: each node keeps room for all that would fail over to it."""
        return all(self._is_kept(one) for known in self._residents for one in known)

    def _is_kept(self, one: Resident) -> bool:
        """Whether room is kept for an instance on its secondary node."""
        return one.secondary is not None and one.demand.is_balanced and self._states[one.secondary].is_online

    def add(self, index: int, demand: Demand, secondary: int | None = None) -> None:
        """An instance was put on a node."""
        self._residents[index].insert(0, Resident(demand, secondary))

    def holds(
        self,
        changed: Mapping[int, NodeState] | None = None,
        newcomer: tuple[int, Resident] | None = None,
    ) -> bool:
        """Whether every node could be emptied.

        Args:
            changed: nodes that are in another state than known.
            newcomer: an instance, which the changed states know already, and its primary node.
        """
        states = self._states
        if changed:
            states = [changed.get(index, state) for index, state in enumerate(self._states)]
        if self._has_plenty(states, newcomer):
            return True
        seen: set[tuple[object, ...]] = set()
        for index, known in enumerate(self._residents):
            extra = [newcomer[1]] if newcomer is not None and newcomer[0] == index else []
            residents = [*extra, *known]
            key = _alike(states[index], residents)
            if key not in seen and not self._can_empty(states, index, residents):
                return False
            seen.add(key)
        return True

    def holds_anywhere(self, demand: Demand, nodes_needed: int) -> bool:
        """A quick way to say that all nodes could be emptied wherever an instance is put; no: perhaps."""
        newcomer = Resident(demand, None if nodes_needed < 2 else 0)
        return self._has_plenty(self._states, (0, newcomer), losing=(demand, nodes_needed))

    def _has_plenty(
        self,
        states: Sequence[NodeState],
        newcomer: tuple[int, Resident] | None,
        losing: tuple[Demand, int] | None = None,
    ) -> bool:
        """A quick way to say yes: enough places of the largest size for the instances of any one node.

        Args:
            states: the nodes.
            newcomer: counts as an instance of a node.
            losing: an instance that takes room on so many nodes, whichever.
        """
        largest = _Each(0, 0, 0)
        counts = [0] * len(states)
        everyone = [(index, one) for index, known in enumerate(self._residents) for one in known]
        for index, one in [*everyone, newcomer] if newcomer is not None else everyone:
            if one.secondary is not None:
                if not self._is_kept(one):
                    return False
                continue
            if not one.demand.is_movable and self._is_forbidden(one.demand):
                return False
            counts[index] += 1
            largest = _larger(largest, one.demand)
        slots = [_slots(_room(state, state.reserved), largest) for state in states]
        lost = 0.0
        if losing is not None:
            demand, nodes_needed = losing
            gone = _larger(_Each(0, 0, 0), demand)
            less = [_slots(_less(_room(state, state.reserved), gone), largest) for state in states]
            losses = sorted(before - after for before, after in zip(slots, less))
            lost = sum(losses[-nodes_needed:]) + 1
        return sum(slots) - lost >= max(slot + count for slot, count in zip(slots, counts))

    def _is_forbidden(self, demand: Demand) -> bool:
        """Whether the policy would not let an instance be made anew."""
        sizes = (demand.memory, demand.vcpus, demand.disk_sizes, demand.spindle_use, demand.own_spindles)
        key = (*sizes, demand.template)
        if key not in self._forbidden:
            is_exclusive = any(state.has_exclusive_storage for state in self._states)
            problem = policy_problem(demand, self._policy, is_exclusive=is_exclusive)
            self._forbidden[key] = problem is not None
        return self._forbidden[key]

    def _can_empty(self, states: Sequence[NodeState], leaver: int, residents: Sequence[Resident]) -> bool:
        if not residents:
            return True
        after = _failed_over(list(states), leaver, residents)
        if after is None:
            return False
        movable = [one.demand for one in residents if one.secondary is None and one.demand.is_movable]
        lost = [one.demand for one in residents if one.secondary is None and not one.demand.is_movable]
        if any(self._is_forbidden(demand) for demand in lost):
            return False
        lost.sort(key=lambda demand: -demand.memory)
        if not movable and not lost:
            return True
        escapes = [index for index in range(len(after)) if index != leaver]
        if not _may_suffice(after, escapes, [*movable, *lost]):
            return False
        if _surely_suffices(after, escapes, [*movable, *lost]):
            return True
        return _settled(after, leaver, escapes, movable, lost)


def _alike(state: NodeState, residents: Sequence[Resident]) -> tuple[object, ...]:
    """Nodes without mirrored instances for which this is equal can be emptied or not alike."""
    sizes = [
        (
            one.demand.up_memory,
            one.demand.memory,
            one.demand.disk,
            one.demand.own_spindles,
            one.demand.vcpus,
            one.demand.is_movable,
        )
        for one in residents
    ]
    if any(one.secondary is not None for one in residents):
        return (state.node,)
    return (
        state.is_online,
        state.unallocated,
        state.free_disk,
        state.free_spindles,
        state.total_memory,
        state.total_disk,
        state.used_cpus,
        state.total_cpus,
        tuple(sizes),
    )


class _Each(NamedTuple):
    """Room of a node, or what each instance takes of one."""

    memory: int
    disk: int
    spindles: int


def _larger(known: _Each, demand: Demand) -> _Each:
    """The larger of both in every respect."""
    local = (demand.disk, demand.own_spindles) if demand.is_local else (0, 0)
    return _Each(
        max(known.memory, demand.up_memory), max(known.disk, local[0]), max(known.spindles, local[1])
    )


def _room(state: NodeState, kept_memory: int = 0) -> _Each:
    """What a node has; where disks do not have spindles for themselves, there are always enough."""
    spindles = state.free_spindles if state.has_exclusive_storage else _PLENTY
    return _Each(state.unallocated - kept_memory, state.free_disk, spindles)


def _less(room: _Each, gone: _Each) -> _Each:
    return _Each(room.memory - gone.memory, room.disk - gone.disk, room.spindles - gone.spindles)


def _slots(room: _Each, each: _Each) -> int:
    """How many instances of a size have room for sure."""
    by_memory = max(0, room.memory - 1) // each.memory if each.memory else (_PLENTY if room.memory > 0 else 0)
    by_disk = max(0, room.disk - 1) // each.disk if each.disk else _PLENTY
    by_spindles = max(0, room.spindles) // each.spindles if each.spindles else _PLENTY
    return min(by_memory, by_disk, by_spindles, _PLENTY)


def _failed_over(
    states: list[NodeState], leaver: int, residents: Sequence[Resident]
) -> list[NodeState] | None:
    """The nodes after the mirrored instances of one failed over; None: one cannot."""
    for demand, second in residents:
        if second is None:
            continue
        home, mirror = states[leaver], states[second]
        mirror = mirror.without_secondary(demand, home.node)
        if mirror.unallocated - demand.up_memory <= 0 or mirror.free_disk - demand.disk <= 0:
            return None
        home = home.without_primary(demand)
        if home.is_online and home.free_disk - demand.disk <= 0:
            return None
        states[second] = mirror.with_primary(demand, home.node)
        states[leaver] = home.with_secondary(demand, mirror.node)
    return states


def _may_suffice(states: Sequence[NodeState], escapes: Sequence[int], demands: Sequence[Demand]) -> bool:
    """No: for some size there are fewer places than instances that are at least as large."""
    rooms = [_room(states[index]) for index in escapes]
    nothing = _Each(0, 0, 0)
    sizes = [_larger(nothing, demand) for demand in demands]
    for name in _Each._fields:
        values = [getattr(size, name) for size in sizes]
        for value in set(values) - {0}:
            each = nothing._replace(**{name: value})
            # Of what is not asked for there is enough.
            places = sum(
                _slots(room._replace(memory=room.memory if name == "memory" else 1), each) for room in rooms
            )
            if places < sum(other >= value for other in values):
                return False
    return True


def _surely_suffices(states: Sequence[NodeState], escapes: Sequence[int], demands: Sequence[Demand]) -> bool:
    if any(demand.migration_tags or demand.lacks_spindles for demand in demands):
        return False
    largest = _Each(0, 0, 0)
    for demand in demands:
        largest = _larger(largest, demand)
    return sum(_slots(_room(states[index]), largest) for index in escapes) >= len(demands)


def _settled(
    states: list[NodeState],
    leaver: int,
    escapes: Sequence[int],
    movable: Sequence[Demand],
    lost: Sequence[Demand],
) -> bool:
    """Put every instance where the score is lowest, one after the other; no: one finds no place."""
    for demand in movable:
        base = ClusterScore(states)
        gone = states[leaver].without_primary(demand)
        left = base.after(states[leaver], gone)
        target = _best(states, escapes, demand, left)
        if target is None:
            return False
        states[leaver] = gone
        states[target] = states[target].with_primary(demand)
    for demand in lost:
        target = _best(states, escapes, demand, ClusterScore(states))
        if target is None:
            return False
        states[target] = states[target].with_primary(demand)
    return True


def _best(
    states: Sequence[NodeState], escapes: Sequence[int], demand: Demand, score: ClusterScore
) -> int | None:
    """The last of the nodes with the lowest score that have room."""

    def candidates() -> Iterator[tuple[float, int]]:
        for index in escapes:
            state = states[index]
            if primary_problem(state, demand, is_strict=False) is None:
                yield score.after(state, state.with_primary(demand)).value, -index

    found = min(candidates(), default=None)
    return None if found is None else -found[1]

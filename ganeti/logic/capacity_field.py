"""The nodes of a group while thousands of instances are put on them: nodes in equal states are one spot.

Every choice is the one that `placement` makes, and so the established allocator: the same rules
(`node_room`), the same score, ties decided by the exact score and then in favour of the last nodes. A
choice costs as much as there are different states, and the change of a state as much as the node has
partners. The formulas are those of `pair_search`; here they are kept up to date instead of worked out anew.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence

import msgspec

from ganeti.logic.node_room import FailMode, PrimaryRoom, SecondaryRoom, Size, primary_room, secondary_room
from ganeti.logic.node_state import NodeState
from ganeti.logic.score import WEIGHT, disk_share, node_values

_REFRESH_EVERY = 1024
"""Sums are added up anew after so many changes, so that rounding does not pile up."""

Floats = list[float]
Pair = tuple[int, int]
"""Primary and secondary, by their place among the states."""
Counts = list[int]
"""Number of refused places by `FailMode`."""


class _Term(msgspec.Struct, frozen=True, kw_only=True):
    """A spread of the score; `index` is its place in what `values_of` gives."""

    index: int
    weight: float


_MEMORY, _CPU, _PRIMARIES, _ON_IT, _DISK, _SPINDLES, RESERVED = 0, 2, 4, 5, 6, 8, 10
_TWIN_NAMES = {
    _MEMORY: "free_mem_cv",
    _CPU: "vcpu_ratio_cv",
    _DISK: "free_disk_cv",
    _SPINDLES: "spindles_cv",
}
"""Spreads that have a twin, one further on, which counts instances that are only planned, too."""


def values_of(state: NodeState) -> tuple[float, ...]:
    """What the spreads of the score are about."""
    memory, cpus, limit = state.total_memory, state.total_cpus, state.spindle_limit
    return (
        state.unallocated / memory,
        state.planned_unallocated / memory,
        state.used_cpus / cpus,
        state.planned_cpus / cpus,
        state.primaries,
        state.primaries + state.secondaries,
        disk_share(state, state.free_disk),
        disk_share(state, state.planned_free_disk),
        state.spindles / limit,
        state.planned_spindles / limit,
        state.reserved / memory,
    )


class Spot:
    """All nodes in one state, as far as new instances see it."""

    __slots__ = ("links", "members", "primary", "secondary", "state", "values")

    def __init__(self, state: NodeState, *, is_local: bool) -> None:
        self.state = state
        self.members: list[int] = []
        """In the order of names."""
        self.primary: PrimaryRoom = primary_room(state, is_local=is_local)
        self.secondary: SecondaryRoom = secondary_room(state)
        self.values = values_of(state)
        self.links: dict[Spot, dict[int, set[Pair]]] = {}
        """Pairs of a member and a node with mirrors of it, by the spot of that and the memory it keeps."""


def _key(state: NodeState) -> tuple[object, ...]:
    """What new instances see of a node."""
    return (
        state.unallocated,
        state.free_disk,
        state.used_cpus,
        state.reserved,
        state.primaries,
        state.secondaries,
        state.planned_unallocated,
        state.planned_free_disk,
        state.planned_cpus,
        state.spindles,
        state.planned_spindles,
        state.free_spindles,
        state.total_memory,
        state.total_disk,
        state.total_cpus,
        state.total_spindles,
        state.spindle_limit,
        state.vcpu_ratio,
        state.kept_disk,
        state.has_disk_report,
        state.has_exclusive_storage,
        state.location_tags,
    )


class Field:
    """The nodes of a group, mutable.

    Args:
        states: all nodes in the order of names; those that are not online only count for the score. Online
            ones are redundant.
        is_local: disks of the new instances take space of their nodes.
    """

    def __init__(self, states: Sequence[NodeState], *, is_local: bool = True) -> None:
        self.states = list(states)
        self._rows: list[tuple[float, ...] | None] = [None] * len(states)
        self.is_partly_idle = any(
            state.is_online and state.planned_unallocated != state.unallocated for state in states
        )
        """Whether there are instances that do not run, or are only planned."""
        self.is_local = is_local
        self.online = [index for index, state in enumerate(states) if state.is_online]
        self.count = len(self.online)
        self.index_of = {states[index].node: index for index in self.online}
        self.spots: dict[tuple[object, ...], Spot] = {}
        self._spot_of: dict[int, Spot] = {}
        for index in self.online:
            spot = self._spot(states[index])
            spot.members.append(index)
            self._spot_of[index] = spot
        for index in self.online:
            for first, kept in self._mirrored(index):
                self._link(first, index, kept)
        self.terms = self._terms()
        self.refresh()

    def spot_of(self, index: int) -> Spot:
        """The spot of an online node."""
        return self._spot_of[index]

    def alike(self, index: int) -> int:
        """Number of nodes in the same state as an online node."""
        return len(self._spot_of[index].members)

    def score_values(self) -> list[tuple[float, ...]]:
        """What each node contributes to the score."""
        for index, row in enumerate(self._rows):
            if row is None:
                self._rows[index] = node_values(self.states[index])
        return [row for row in self._rows if row is not None]

    def _spot(self, state: NodeState) -> Spot:
        key = _key(state)
        found = self.spots.get(key)
        if found is None:
            found = self.spots[key] = Spot(state, is_local=self.is_local)
        return found

    def _mirrored(self, index: int) -> Iterator[Pair]:
        """Nodes whose instances have mirrors on a node, and the memory that it keeps for each."""
        for node, kept in self.states[index].peers.items():
            first = self.index_of.get(node)
            if first is not None and kept > 0:
                yield first, kept

    def _terms(self) -> dict[str, list[_Term]]:
        """Spreads by the nodes whose change counts; twins that always agree are one."""
        found: dict[int, float] = {_PRIMARIES: 3 * WEIGHT["cpu_load_cv"], _ON_IT: WEIGHT["disk_load_cv"]}
        for index, name in _TWIN_NAMES.items():
            found[index] = WEIGHT[name]
            twin = WEIGHT[f"{name}_forth"]
            if all(spot.values[index] == spot.values[index + 1] for spot in self.spots.values()):
                found[index] += twin
            else:
                found[index + 1] = twin
        found[RESERVED] = WEIGHT["reserved_mem_cv"]
        shared = [_ON_IT]
        if self.is_local:
            shared += [index for index in range(_DISK, RESERVED) if index in found]
        roles = {
            "primary": [index for index in range(_ON_IT) if index in found],
            "shared": shared,
            "secondary": [RESERVED],
        }
        return {
            role: [_Term(index=index, weight=found[index]) for index in indices]
            for role, indices in roles.items()
        }

    def refresh(self) -> None:
        """Add up everything anew."""
        self._changes = 0
        columns = list(zip(*[self._spot_of[index].values for index in self.online]))
        n = max(1, self.count)
        self.offsets: Floats = [sum(column) / n for column in columns]
        self.sums: Floats = [sum([x - c for x in column]) for column, c in zip(columns, self.offsets)]
        self.squares: Floats = [
            sum([(x - c) * (x - c) for x in column]) for column, c in zip(columns, self.offsets)
        ]

    def change(self, index: int, new: NodeState) -> tuple[Spot | None, Spot]:
        """A node goes over into another state; gives the spot that is gone, if one is, and the new one."""
        old_spot, new_spot = self._spot_of[index], self._spot(new)
        old_links = list(self._mirrored(index))
        partners = [self.index_of[node] for node in self.states[index].partners if node in self.index_of]
        for first, kept in old_links:
            self._unlink(first, index, kept)
        for second in partners:
            kept = self.states[second].peers.get(new.node, 0)
            if kept > 0:
                self._unlink(index, second, kept)
        self.states[index] = new
        self._rows[index] = None
        self._spot_of[index] = new_spot
        del old_spot.members[bisect_left(old_spot.members, index)]
        insort(new_spot.members, index)
        for first, kept in self._mirrored(index):
            self._link(first, index, kept)
        for node in new.partners:
            mirror = self.index_of.get(node)
            kept = 0 if mirror is None else self.states[mirror].peers.get(new.node, 0)
            if mirror is not None and kept > 0:
                self._link(index, mirror, kept)
        self._count_change(old_spot.values, new_spot.values)
        if old_spot.members:
            return None, new_spot
        del self.spots[_key(old_spot.state)]
        return old_spot, new_spot

    def _link(self, first: int, second: int, kept: int) -> None:
        by_kept = self._spot_of[first].links.setdefault(self._spot_of[second], {})
        by_kept.setdefault(kept, set()).add((first, second))

    def _unlink(self, first: int, second: int, kept: int) -> None:
        links, spot = self._spot_of[first].links, self._spot_of[second]
        by_kept = links[spot]
        pairs = by_kept[kept]
        pairs.discard((first, second))
        if not pairs:
            del by_kept[kept]
            if not by_kept:
                del links[spot]

    def _count_change(self, old: tuple[float, ...], new: tuple[float, ...]) -> None:
        self._changes += 1
        if self._changes >= _REFRESH_EVERY:
            self.refresh()
            return
        for position, (x, y) in enumerate(zip(old, new)):
            if x != y:
                c = self.offsets[position]
                self.sums[position] += y - x
                self.squares[position] += (y - c) * (y - c) - (x - c) * (x - c)

    # --- refusals ----------------------------------------------------------------------------

    def failures(self, size: Size, *, nodes_needed: int) -> Counts:
        """How many places (nodes or ordered pairs) each rule refuses."""
        counts = [0] * len(FailMode)
        each = self.count - 1 if nodes_needed > 1 else 1
        able: dict[Spot, int] = {}
        for spot in self.spots.values():
            mode = spot.primary.failure(size)
            if mode is None:
                able[spot] = len(spot.members)
            else:
                counts[mode] += len(spot.members) * each
        if nodes_needed < 2 or not able:
            return counts
        hosts = sum(able.values())
        mirrors: set[Spot] = set()
        for spot in self.spots.values():
            mode = spot.secondary.failure(size)
            if mode is None:
                mirrors.add(spot)
            else:
                own = len(spot.members)
                counts[mode] += own * hosts - (own if spot in able else 0)
        counts[FailMode.MEMORY] += self._refused_links(able, mirrors, size.memory)
        return counts

    def _refused_links(self, able: dict[Spot, int], mirrors: set[Spot], memory: int) -> int:
        """Pairs that are refused only because of mirrors that are there already."""
        return sum(
            len(pairs)
            for spot in able
            for second, by_kept in spot.links.items()
            if second in mirrors
            for kept, pairs in by_kept.items()
            if kept + memory > second.secondary.linked_memory
        )

    def places(self, nodes_needed: int) -> int:
        """Number of places if no rule refused one."""
        return self.count * (self.count - 1) if nodes_needed > 1 else self.count

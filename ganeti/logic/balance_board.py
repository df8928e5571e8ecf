"""The instances and nodes of one group while a plan of moves is made: who is where, and what a move does.

A move changes one of the nodes of a mirrored instance, or the order of both, or the one node of an
instance on shared storage. It is taken only if every node keeps the rules of `constraints`, and if the
group stays as able to lose a node as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from ganeti.logic.constraints import primary_problem, secondary_problem
from ganeti.logic.node_figures import backend_reader, traits_of
from ganeti.logic.node_state import Demand, NodeState, demand_of_instance
from ganeti.logic.placement_tags import tag_rules
from ganeti.logic.redundancy import stranded_node
from ganeti.logic.score import ClusterScore, node_values
from ganeti.model.allocation import ClusterView
from ganeti.model.disk import Mirroring
from ganeti.model.ids import GroupId, InstanceId
from ganeti.model.instance import Instance


class MoveKind(StrEnum):
    """Ways to move an instance with primary p and secondary s; x is another node."""

    FAILOVER = "f"
    """It runs on s, with p as secondary."""
    REPLACE = "r"
    """It runs on p, with x as secondary."""
    REPLACE_AND_FAILOVER = "rf"
    """It runs on x, with p as secondary."""
    FAILOVER_AND_REPLACE = "fr"
    """It runs on s, with x as secondary."""
    REPLACE_PRIMARY = "frf"
    """It runs on x, with s as secondary."""
    RELOCATE = "fa"
    """It runs on x; on shared storage only."""


CHANGES_DISKS = frozenset(
    {
        MoveKind.REPLACE,
        MoveKind.REPLACE_AND_FAILOVER,
        MoveKind.FAILOVER_AND_REPLACE,
        MoveKind.REPLACE_PRIMARY,
    }
)
"""Kinds that copy disks."""


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """An instance that may be moved; nodes are indices into the states of the board."""

    instance: InstanceId
    demand: Demand
    """As it leaves its primary node."""
    onward: Demand
    """As it would leave its secondary node, having been failed over to it."""
    primary: int
    secondary: int | None
    leaves_home: bool
    """Its primary may not be used: soft rules do not hold up a new one."""
    leaves_mirror: bool
    """Likewise its secondary."""
    kinds: tuple[MoveKind, ...]
    """How it may be moved where it is now, as far as its nodes and what was asked for go."""

    @property
    def nodes(self) -> tuple[int, ...]:
        """Where it is, primary first."""
        return (self.primary,) if self.secondary is None else (self.primary, self.secondary)

    @property
    def is_leaving(self) -> bool:
        """Whether one of its nodes may not be used."""
        return self.leaves_home or self.leaves_mirror


class Restrictions(msgspec.Struct, frozen=True, kw_only=True):
    """What may be moved, and how."""

    disk_moves: bool = True
    """Disks may be copied to other nodes."""
    instance_moves: bool = True
    """Instances may change their primary node."""
    evacuate_only: bool = False
    """Only instances with a node that may not be used."""
    only: frozenset[InstanceId] | None = None
    """Only these instances; None: all."""
    without: frozenset[InstanceId] = frozenset()
    """Not these instances."""

    def allow(self, instance: Instance) -> bool:
        """Whether an instance may be moved as far as its name goes."""
        return (self.only is None or instance.uuid in self.only) and instance.uuid not in self.without

    def kinds(self, *, is_mirrored: bool, can_fail_over: bool, can_copy: bool) -> tuple[MoveKind, ...]:
        """Kinds of moves of an instance.

        Args:
            is_mirrored: it has a secondary.
            can_fail_over: the secondary may be used.
            can_copy: its disks can be copied from its primary, which is not down.
        """
        if not is_mirrored:
            return (MoveKind.RELOCATE,) if self.instance_moves else ()
        found: list[MoveKind] = []
        if self.instance_moves and can_fail_over:
            found.append(MoveKind.FAILOVER)
        if self.disk_moves and can_copy:
            found.append(MoveKind.REPLACE)
        if self.disk_moves and self.instance_moves:
            if can_copy:
                found.append(MoveKind.REPLACE_AND_FAILOVER)
            if can_fail_over:
                found += [MoveKind.FAILOVER_AND_REPLACE, MoveKind.REPLACE_PRIMARY]
        return tuple(found)


class Board:
    """One group in the middle of a plan; `move` is the only thing that changes it.

    Args:
        view: the cluster.
        states: its nodes.
        group: which of them count.
        restrictions: what may be moved.
    """

    def __init__(
        self, view: ClusterView, states: Sequence[NodeState], group: GroupId, restrictions: Restrictions
    ) -> None:
        self._view = view
        self._rules = tag_rules(view.cluster)
        self._restrictions = restrictions
        self.states = [state for state in states if state.group == group]
        self._index = {state.node: index for index, state in enumerate(self.states)}
        self._is_down = [view.cluster.nodes[state.node].offline for state in self.states]
        self.pieces = self._movable()
        self._values = [node_values(state) for state in self.states]
        self.score = ClusterScore(self.states, self._values)
        self._is_redundant = self._redundant(self.states)

    def _movable(self) -> list[Piece]:
        cluster = self._view.cluster
        backend = backend_reader(cluster.settings)
        found = []
        for instance in sorted(cluster.instances.values(), key=lambda instance: instance.name):
            nodes = cluster.nodes_of(instance)
            mirroring = traits_of(cluster.disk_template(instance)).mirroring
            demand = demand_of_instance(instance, cluster, backend(instance), self._rules)
            if (
                mirroring is Mirroring.NONE
                or len(nodes) != demand.nodes_needed
                or not all(node in self._index for node in nodes)
                or not demand.is_balanced
                or demand.is_forthcoming
                or not self._restrictions.allow(instance)
            ):
                continue
            places = tuple(self._index[node] for node in nodes)
            if not any(self._is_silent(place) for place in places):
                found.append(self._piece(instance.uuid, demand, places))
        return found

    def _piece(self, instance: InstanceId, demand: Demand, places: tuple[int, ...]) -> Piece:
        primary, *others = places
        secondary = others[0] if others else None
        usable = [self.states[place].is_online for place in places]
        kinds = self._restrictions.kinds(
            is_mirrored=secondary is not None,
            can_fail_over=usable[-1],
            can_copy=not self._is_down[primary],
        )
        if self._restrictions.evacuate_only and all(usable):
            kinds = ()
        first, last = (self._leaving(demand, places[end]) for end in (0, -1))
        return Piece(
            instance=instance,
            demand=first,
            onward=last,
            primary=primary,
            secondary=secondary,
            leaves_home=not usable[0],
            leaves_mirror=secondary is not None and not usable[-1],
            kinds=kinds,
        )

    def _leaving(self, demand: Demand, place: int) -> Demand:
        """What an instance asks of its next node when it leaves this one."""
        if not self._rules.migration:
            return demand
        node = self._view.cluster.nodes[self.states[place].node]
        return msgspec.structs.replace(demand, migration_tags=self._rules.migration_tags(node.tags))

    def _is_silent(self, place: int) -> bool:
        """Whether a node ought to answer, but does not: nothing is brought away from there."""
        node = self._view.cluster.nodes[self.states[place].node]
        return node.vm_capable and not node.offline and node.uuid not in self._view.facts

    def outcome(self, piece: Piece, kind: MoveKind, target: int | None) -> Mapping[int, NodeState] | None:
        """The nodes that a move changes as they are after it; None: a rule forbids it.

        Args:
            piece: the instance.
            kind: how it is moved.
            target: index of the other node; None for a failover.
        """
        changed = self._changed(piece, kind, target)
        if changed is None or piece.is_leaving or not self._is_redundant:
            return changed
        after = [changed.get(index, state) for index, state in enumerate(self.states)]
        return changed if self._redundant(after) else None

    def _redundant(self, states: Sequence[NodeState]) -> bool:
        return stranded_node([state for state in states if state.is_online]) is None

    def _changed(self, piece: Piece, kind: MoveKind, target: int | None) -> dict[int, NodeState] | None:
        demand, states = piece.demand, self.states
        home, strict = states[piece.primary], not piece.leaves_home
        if piece.secondary is None:
            assert target is not None
            other = states[target]
            if primary_problem(other, demand, is_strict=strict) is not None:
                return None
            return {piece.primary: home.without_primary(demand), target: other.with_primary(demand)}
        mirror = states[piece.secondary]
        left = {
            piece.primary: home.without_primary(demand),
            piece.secondary: mirror.without_secondary(demand, home.node),
        }
        # It has to run on the secondary while its disks are copied.
        waits = kind is MoveKind.REPLACE_PRIMARY
        if waits and primary_problem(left[piece.secondary], demand, is_strict=strict) is not None:
            return None
        first, second = places_after(piece, kind, target)
        primary, secondary = (left.get(index, states[index]) for index in (first, second))
        arriving = piece.onward if kind is MoveKind.REPLACE_PRIMARY else demand
        # What is mirrored first and then failed over could have been failed over at once.
        # Where it stays it has to have what it takes, but soft rules are not asked about again.
        strict = (strict or kind is MoveKind.REPLACE_AND_FAILOVER) and kind is not MoveKind.REPLACE
        if primary_problem(primary, arriving, is_strict=strict) is not None:
            return None
        # What is failed over from a node that may not be used leaves its mirror there, however it fits.
        # With a replaced primary the secondary stays what it is, whatever soft rules it breaks by that.
        strict = not (piece.leaves_home if waits else piece.leaves_mirror)
        problem = secondary_problem(secondary, demand, primary.node, is_strict=strict, is_move=True)
        fits = problem is None or (kind is MoveKind.FAILOVER and not secondary.is_online)
        if not fits:
            return None
        left[first] = primary.with_primary(demand, secondary.node)
        left[second] = secondary.with_secondary(demand, primary.node)
        return left

    def score_after(self, changed: Mapping[int, NodeState]) -> float:
        """The score with some nodes in another state, summed up anew: to the last bit what it will be."""
        states, values = list(self.states), list(self._values)
        for index, state in changed.items():
            states[index], values[index] = state, node_values(state)
        return ClusterScore(states, values).value

    def move(self, number: int, kind: MoveKind, target: int | None) -> None:
        """Make a move.

        Args:
            number: which piece.
            kind: how.
            target: index of the other node; None for a failover.
        """
        piece = self.pieces[number]
        changed = self.outcome(piece, kind, target)
        assert changed is not None, "a move was chosen that a rule forbids"
        for index, state in changed.items():
            self.states[index] = state
        self.pieces[number] = self._piece(piece.instance, piece.demand, places_after(piece, kind, target))
        self._values = [node_values(state) for state in self.states]
        self.score = ClusterScore(self.states, self._values)
        self._is_redundant = self._redundant(self.states)


def places_after(piece: Piece, kind: MoveKind, target: int | None) -> tuple[int, ...]:
    """Where an instance is after a move, primary first."""
    first, second = piece.primary, piece.secondary
    places = {
        MoveKind.FAILOVER: (second, first),
        MoveKind.REPLACE: (first, target),
        MoveKind.REPLACE_AND_FAILOVER: (target, first),
        MoveKind.FAILOVER_AND_REPLACE: (second, target),
        MoveKind.REPLACE_PRIMARY: (target, second),
        MoveKind.RELOCATE: (target,),
    }[kind]
    return tuple(place for place in places if place is not None)

"""A plan of moves that makes a group more even (iallocator.md section 6.7).

Greedy: each step is the move after which the cluster score of the group is lowest. So the plan may be cut
anywhere, and made again from there with the same result.
"""

from __future__ import annotations

import msgspec

from ganeti.logic.balance_board import Board, MoveKind, Restrictions, places_after
from ganeti.logic.balance_search import MoveSearch
from ganeti.logic.node_figures import Question, nodes_needed
from ganeti.logic.node_state import NodeState, node_states
from ganeti.logic.score import WEIGHT
from ganeti.model.allocation import ClusterView
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId, InstanceId, NodeId

NEGLIGIBLE = 1e-9
"""A gain that is none; but a move that gains nothing may make way for one that does."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When a plan is long or good enough."""

    max_moves: int | None = None
    """Not more moves than this; None: as many as help."""
    min_gain: float = 0.01
    """A move has to lower the score by this much ..."""
    min_gain_limit: float = 0.1
    """... but only once the score is not above this."""
    min_score: float = 1e-9
    """A score this close to the best one that is conceivable is good enough."""


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a plan."""

    instance: InstanceId
    kind: MoveKind
    before: tuple[NodeId, ...]
    """Where it is, primary first."""
    after: tuple[NodeId, ...]
    score: float
    """Of the group, after this step."""
    gain: float
    """What the step takes off the score."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Moves in their order, for one group."""

    group: GroupId
    score_before: float
    score_after: float
    moves: tuple[Move, ...] = ()


class Balancing:
    """Makes a plan step by step, so that whoever makes it can do other things in between.

    Args:
        view: the cluster.
        group: whose nodes.
        limits: where to stop.
        restrictions: what may be moved.
    """

    def __init__(self, view: ClusterView, group: GroupId, limits: Limits, restrictions: Restrictions) -> None:
        self._board = Board(view, node_states(view, question_for(view.cluster)), group, restrictions)
        self._group, self._limits = group, limits
        self._before = self._board.score.value
        self._enough = least_score(self._board.states) + limits.min_score
        self._moves: list[Move] = []

    def next_move(self) -> Move | None:
        """Make the best move and give it; None: the plan is complete."""
        limits, board = self._limits, self._board
        if limits.max_moves is not None and len(self._moves) >= limits.max_moves:
            return None
        score = board.score.value
        if score <= self._enough:
            return None
        found = MoveSearch(board).best(below=self._needed(score))
        if found is None:
            return None
        piece = board.pieces[found.number]
        places = places_after(piece, found.kind, found.target)
        board.move(found.number, found.kind, found.target)
        after = board.score.value
        move = Move(
            instance=piece.instance,
            kind=found.kind,
            before=tuple(board.states[place].node for place in piece.nodes),
            after=tuple(board.states[place].node for place in places),
            score=after,
            gain=score - after,
        )
        self._moves.append(move)
        return move

    def _needed(self, score: float) -> float:
        """What the score has to be below for a move to be worth its while."""
        if score > self._limits.min_gain_limit:
            return score
        # A gain that is as much as is wanted, but for the last bits, will do.
        return min(score, score - self._limits.min_gain + NEGLIGIBLE)

    @property
    def plan(self) -> Plan:
        """The plan so far, without moves at its end that gain nothing."""
        moves = list(self._moves)
        while moves and moves[-1].gain < NEGLIGIBLE:
            moves.pop()
        return Plan(
            group=self._group,
            score_before=self._before,
            score_after=moves[-1].score if moves else self._before,
            moves=tuple(moves),
        )


def balance(view: ClusterView, group: GroupId, limits: Limits, restrictions: Restrictions) -> Plan:
    """The whole plan; see `Balancing`."""
    balancing = Balancing(view, group, limits, restrictions)
    while balancing.next_move() is not None:
        pass
    return balancing.plan


def question_for(cluster: Cluster) -> Question:
    """Which figures of the nodes count: those of the storage of mirrored disks, if there are such."""
    settings = cluster.settings
    templates = settings.enabled_disk_templates
    mirrored = [template for template in templates if nodes_needed(template) > 1]
    hypervisors = settings.enabled_hypervisors
    return Question(
        hypervisor=hypervisors[0] if hypervisors else "", template=(*mirrored, *templates, "diskless")[0]
    )


def least_score(states: list[NodeState]) -> float:
    """What the score of these nodes cannot be below: they keep memory for the failure of the largest."""
    sizes = [state.total_memory for state in states if state.is_online]
    rest = sum(sizes) - max(sizes, default=0)
    if rest <= 0:
        return 0.0
    mirrored = sum(sum(state.peers.values()) for state in states)
    return WEIGHT["reserved_mem_rtotal"] * (mirrored / rest - mirrored / sum(sizes))

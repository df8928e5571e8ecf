"""The best next move of a board, found without trying all of them.

A move brings the *load* of an instance (memory, processors) from one node to another, the *space* it
takes (disks, spindles) from one to another, or both, and changes what nodes reserve for failover; what
that does to the score is worked out in `balance_flows`. Each instance has a lower bound for all of its
moves, each (instance, kind of move) a better one out of the minima of its parts. A heap gives the lowest
bound: an instance is taken apart into its kinds, a kind is looked at exactly, until no bound is below the
best score found. Sums that are no spreads (nodes that are not redundant, exclusive tags,
unusable nodes) enter with the most that a move can gain; the board decides with the exact score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush

import msgspec

from ganeti.logic.balance_board import Board, MoveKind, Piece
from ganeti.logic.balance_flows import Flow, Reserve, Row, columns_of, disk_step, flow_of
from ganeti.logic.constraints import primary_problem, secondary_problem
from ganeti.logic.node_state import Demand
from ganeti.logic.score import METRICS, WEIGHT

NOISE = 1e-7
"""How much a bound may be too high: where all nodes are alike, a spread is the root of what rounding left."""

MOST_CLOSE = 64
"""How many moves with about the same score are compared exactly."""

BRINGS_MIRROR = frozenset({MoveKind.REPLACE, MoveKind.FAILOVER_AND_REPLACE})
"""Kinds after which the target is the secondary."""

KINDS = (
    MoveKind.REPLACE,
    MoveKind.REPLACE_AND_FAILOVER,
    MoveKind.REPLACE_PRIMARY,
    MoveKind.FAILOVER_AND_REPLACE,
    MoveKind.RELOCATE,
    MoveKind.FAILOVER,
)
"""In the order in which those with equal scores win; a failover comes before all others."""

UNSEEN = -1
"""In place of a kind: the kinds of that instance have no bounds yet."""

Size = tuple[object, ...]
"""Everything of a demand but its name: to instances of one size the same rules apply."""


class NextMove(msgspec.Struct, frozen=True, kw_only=True):
    """A move that the rules allow, and the score after it."""

    number: int
    """Which piece."""
    kind: MoveKind
    target: int | None
    score: float


class _Race:
    """Keeps the best of the moves that enter; equal scores are decided for the lowest rank.

    Rank is the number of the instance, then the node, then the order of kinds, as with the established
    balancer. Like it, scores are compared to the last bit, so that both go the same way; but where very many
    moves are as good as each other (all nodes and instances alike) only some of them are.

    Args:
        below: no other score counts.
    """

    def __init__(self, below: float) -> None:
        self.best: NextMove | None = None
        self.limit = below
        """Bounds above this have lost."""
        self._least = below
        self._rank: tuple[int, ...] = ()
        self._close = 0

    def may_win(self, score: float, rank: tuple[int, ...]) -> bool:
        """Whether a move whose score is about this, or higher, could become the best."""
        if score < self._least - NOISE:
            return True
        return score <= self.limit and (self._close < MOST_CLOSE or rank < self._rank)

    def enter(self, move: NextMove, rank: tuple[int, ...]) -> None:
        """Let a move take part."""
        if self.best is None:
            if move.score >= self._least:
                return
        elif move.score < self._least - NOISE:
            self._close = 0
        else:
            self._close += 1
            if (move.score, rank) >= (self._least, self._rank):
                return
        self.best, self._rank, self._least = move, rank, move.score
        self.limit = move.score + NOISE


class MoveSearch:
    """Looks for the best move on a board as it is; to be made anew after each move.

    Args:
        board: the group.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._states = [state for state in board.states if state.is_online]
        self._indices = [index for index, state in enumerate(board.states) if state.is_online]
        self._positions: dict[int, int] = {index: place for place, index in enumerate(self._indices)}
        self._loads: dict[tuple[int, int, int], Flow] = {}
        self._spaces: dict[tuple[int, int, int], Flow] = {}
        self._sizes: dict[int, Size] = {}
        self._rooms: dict[tuple[bool, Size], list[int]] = {}
        if self._states:
            self._one_each = [1.0] * len(self._states)
            self._columns = columns_of(self._states)
            self._reserve = Reserve(self._states, self._columns["reserved_mem_cv"])
        self._has_locations = any(state.location_tags for state in self._states)
        self._failing = [
            WEIGHT["n1_cnt"] * (state.primaries + state.secondaries) if state.fails_n1 else 0.0
            for state in board.states
        ]
        self._sums = sum(
            metric.weight * amount
            for metric, amount in zip(METRICS, board.score.sums)
            if not metric.is_spread
        )

    def best(self, *, below: float) -> NextMove | None:
        """The move with the lowest score, or None if none is below a limit.

        Args:
            below: the limit.
        """
        if not self._states:
            return None
        race, pieces = _Race(below), self._board.pieces
        floors = [(self._floor(piece), number, UNSEEN) for number, piece in enumerate(pieces) if piece.kinds]
        heap: list[tuple[float, int, int]] = [floor for floor in floors if floor[0] <= race.limit]
        heapify(heap)
        while heap:
            bound, number, kind = heappop(heap)
            if bound > race.limit:
                break
            if kind != UNSEEN:
                if race.may_win(bound, (number,)):
                    self._enter(number, KINDS[kind], race)
                continue
            piece = pieces[number]
            for one, above in self._bounds(piece):
                if above <= race.limit and self._usable(piece, one):
                    heappush(heap, (above, number, KINDS.index(one)))
        return race.best

    # --- bounds ------------------------------------------------------------------------------

    def _floor(self, piece: Piece) -> float:
        """No move of an instance leads to a score below this; quicker than the bounds of its kinds."""
        p, s = self._positions.get(piece.primary), None
        load, space = self._load(piece.demand), self._space(piece.demand)
        loads, spaces = min(load.unmoved, load.low(p)), min(space.unmoved, space.low(p))
        sums = self._left_primary(piece, p)
        if piece.secondary is None:
            return loads + spaces + self._reserve.unmoved + sums
        s, home = self._positions.get(piece.secondary), self._board.states[piece.primary]
        freed, _ = self._reserve.without(s, home, piece.demand.failover_memory)
        reserved = self._reserve.lowest(s, freed, None)
        if s is not None:
            reserved = min(reserved, self._reserve.lowest(s, freed, s))
        return loads + min(spaces, space.low(s)) + reserved + sums + self._left_secondary(piece, s)

    def _bounds(self, piece: Piece) -> Iterator[tuple[MoveKind, float]]:
        """No move of a kind leads to a score below its bound."""
        if not piece.kinds:
            return
        demand, p = piece.demand, self._positions.get(piece.primary)
        load, space, reserve = self._load(demand), self._space(demand), self._reserve
        left = self._left_primary(piece, p)
        if piece.secondary is None:
            yield MoveKind.RELOCATE, load.low(p) + space.low(p) + reserve.unmoved + left
            return
        s, memory = self._positions.get(piece.secondary), demand.failover_memory
        home = self._board.states[piece.primary]
        freed, _ = reserve.without(s, home, memory)
        mirror_left = self._left_secondary(piece, s)
        for kind in piece.kinds:
            match kind:
                case MoveKind.FAILOVER:
                    yield kind, self._failover(piece)
                case MoveKind.REPLACE:
                    terms = load.unmoved + space.low(s) + reserve.lowest(s, freed, None)
                    yield kind, terms + self._sums + mirror_left
                case MoveKind.REPLACE_AND_FAILOVER:
                    terms = load.low(p) + space.low(s) + reserve.lowest(s, freed, p)
                    yield kind, terms + left + mirror_left + self._staying(p)
                case MoveKind.FAILOVER_AND_REPLACE:
                    assert s is not None
                    terms = load.between(p, s) + space.low(p) + reserve.lowest(s, freed, None)
                    yield kind, terms + left + mirror_left
                case MoveKind.REPLACE_PRIMARY:
                    terms = load.low(p) + space.low(p) + reserve.lowest(s, freed, s)
                    yield kind, terms + left + mirror_left

    def _left_primary(self, piece: Piece, p: int | None) -> float:
        """The sums after an instance left its primary node, at their lowest."""
        if p is None:
            return self._sums - WEIGHT["offline_all_cnt"] - WEIGHT["offline_pri_cnt"]
        home = self._board.states[piece.primary]
        tags, exclusive = home.exclusion_tags, piece.demand.exclusion_tags
        shared = sum(1 for tag in exclusive if tags.get(tag, 0) > 1)
        crowded = len(exclusive) * len(home.location_tags)
        return (
            self._sums
            - self._failing[piece.primary]
            - WEIGHT["pri_tags_score"] * shared
            - WEIGHT["location_score"] * home.missing_locations(piece.demand)
            - WEIGHT["location_exclusion_score"] * crowded
        )

    def _left_secondary(self, piece: Piece, s: int | None) -> float:
        """What the sums change by when its mirror leaves, at the lowest."""
        assert piece.secondary is not None
        home, mirror = (self._board.states[node] for node in piece.nodes)
        common = WEIGHT["location_score"] * mirror.causes_shared_with(home.node)
        return -common - (WEIGHT["offline_all_cnt"] if s is None else self._failing[piece.secondary])

    def _staying(self, p: int | None) -> float:
        """What the sums change by if the former primary, having been left, becomes the secondary."""
        return WEIGHT["offline_all_cnt"] if p is None else 0.0

    def _failover(self, piece: Piece) -> float:
        """The score after primary and secondary changed places, at its lowest."""
        demand, board = piece.demand, self._board
        assert piece.secondary is not None
        p, s = self._positions.get(piece.primary), self._positions[piece.secondary]
        home, mirror = (board.states[node] for node in piece.nodes)
        memory = demand.failover_memory
        freed, _ = self._reserve.without(s, home, memory)
        grown = 0.0 if p is None else self._reserve.grown(p, mirror, memory)
        terms = self._load(demand).between(p, s) + self._space(demand).unmoved
        terms += self._reserve.changed((s, freed), (p, grown)) + self._staying(p)
        return terms + self._left_primary(piece, p) + self._left_secondary(piece, s)

    def _usable(self, piece: Piece, kind: MoveKind) -> Sequence[int]:
        """Positions of the nodes that could be the target, as far as their own rules go."""
        states = self._states
        is_free = piece.leaves_mirror if kind in BRINGS_MIRROR else piece.leaves_home
        is_free = is_free and kind is not MoveKind.REPLACE_AND_FAILOVER
        if kind is MoveKind.FAILOVER or is_free:
            return range(len(states))
        demand = piece.onward if kind is MoveKind.REPLACE_PRIMARY else piece.demand
        key = (kind in BRINGS_MIRROR, self._size(demand))
        known = self._rooms.get(key)
        if known is None:
            known = self._rooms[key] = list(self._with_room(demand, is_mirror=kind in BRINGS_MIRROR))
        return known

    def _with_room(self, demand: Demand, *, is_mirror: bool) -> Iterator[int]:
        for place, state in enumerate(self._states):
            if is_mirror:
                problem = secondary_problem(state, demand, is_move=True)
            else:
                problem = primary_problem(state, demand)
            if problem is None:
                yield place

    def _size(self, demand: Demand) -> Size:
        known = self._sizes.get(id(demand))
        if known is None:
            known = self._sizes[id(demand)] = msgspec.structs.astuple(demand)[1:]
        return known

    # --- exact -------------------------------------------------------------------------------

    def _enter(self, number: int, kind: MoveKind, race: _Race) -> None:
        """Enter every promising move of one kind of one instance, the most promising first."""
        piece = self._board.pieces[number]
        if kind is MoveKind.FAILOVER:
            self._try(number, kind, None, (number, -1), race)
            return
        row, order = self._row(piece, kind), KINDS.index(kind)
        if self._has_locations:
            row = [score + cost for score, cost in zip(row, self._location_costs(piece, kind))]
        promising = [(row[place], place) for place in self._usable(piece, kind) if row[place] <= race.limit]
        for score, place in sorted(promising):
            if score > race.limit:
                break
            target, rank = self._indices[place], (number, place, order)
            if race.may_win(score, rank) and target not in piece.nodes:
                self._try(number, kind, target, rank, race)

    def _try(
        self, number: int, kind: MoveKind, target: int | None, rank: tuple[int, ...], race: _Race
    ) -> None:
        """Enter a move with its exact score, if the rules allow it."""
        board = self._board
        changed = board.outcome(board.pieces[number], kind, target)
        if changed is not None:
            score = board.score_after(changed)
            race.enter(NextMove(number=number, kind=kind, target=target, score=score), rank)

    def _location_costs(self, piece: Piece, kind: MoveKind) -> Iterator[float]:
        """What the location of the target costs: not the one wished for, or that of the other node."""
        other: int | None = None
        if piece.secondary is not None:
            is_home = kind in (MoveKind.REPLACE, MoveKind.REPLACE_AND_FAILOVER)
            other = piece.primary if is_home else piece.secondary
        partner = None if other is None else self._board.states[other]
        for state in self._states:
            count = 0 if partner is None else state.causes_shared_with(partner.node)
            if kind not in BRINGS_MIRROR:
                count += state.missing_locations(piece.demand)
            yield WEIGHT["location_score"] * count

    def _row(self, piece: Piece, kind: MoveKind) -> Row:
        """Scores after a move to each online node, at their lowest."""
        demand, states = piece.demand, self._states
        load, space, reserve = self._load(demand), self._space(demand), self._reserve
        p, memory = self._positions.get(piece.primary), demand.failover_memory
        left = self._left_primary(piece, p)
        if piece.secondary is None:
            fixed = reserve.unmoved + left
            return [x + y + fixed for x, y in zip(load.row(p), space.row(p))]
        home, mirror = self._board.states[piece.primary], self._board.states[piece.secondary]
        s = self._positions.get(piece.secondary)
        freed, kept = reserve.without(s, home, memory)
        sums = left + self._left_secondary(piece, s)
        everywhere = range(len(states))
        match kind:
            case MoveKind.REPLACE:
                sums = self._sums + self._left_secondary(piece, s) + load.unmoved
                return [
                    y + sums + reserve.changed((s, freed), (x, reserve.grown(x, home, memory)))
                    for x, y in enumerate(space.row(s))
                ]
            case MoveKind.FAILOVER_AND_REPLACE:
                assert s is not None
                sums += load.between(p, s)
                return [
                    y + sums + reserve.changed((s, freed), (x, reserve.grown(x, mirror, memory)))
                    for x, y in enumerate(space.row(p))
                ]
            case MoveKind.REPLACE_AND_FAILOVER:
                sums += self._staying(p)
                usual = reserve.changed((s, freed), (p, self._usual(p, memory, None)))
                exceptions = {
                    x: reserve.changed((s, freed), (p, reserve.grown(p, states[x], memory)))
                    for x in everywhere
                    if p is not None and states[x].node in states[p].peers
                }
                rows = zip(load.row(p), space.row(s))
            case _:
                assert s is not None
                usual = reserve.changed((s, self._usual(s, memory, kept)))
                exceptions = {
                    x: reserve.changed((s, reserve.grown(s, states[x], memory, kept)))
                    for x in everywhere
                    if states[x].node in states[s].peers
                }
                rows = zip(load.row(p), space.row(p))
        usual += sums
        row = [x + y + usual for x, y in rows]
        for x, value in exceptions.items():
            row[x] += value + sums - usual
        return row

    def _usual(self, node: int | None, memory: int, kept: int | None) -> float:
        """Change of a node's share when it mirrors an instance of a node of which it has no other."""
        if node is None:
            return 0.0
        state = self._states[node]
        kept = state.reserved if kept is None else kept
        return (max(kept, memory) - state.reserved) / state.total_memory

    # --- flows -------------------------------------------------------------------------------

    def _load(self, demand: Demand) -> Flow:
        key = (demand.up_memory, demand.memory, demand.cpus)
        known = self._loads.get(key)
        if known is None:
            memory = [-demand.up_memory / state.total_memory for state in self._states]
            planned = [-demand.memory / state.total_memory for state in self._states]
            cpus = [demand.cpus / state.total_cpus for state in self._states]
            known = self._loads[key] = flow_of(
                self._columns,
                free_mem_cv=memory,
                free_mem_cv_forth=planned,
                vcpu_ratio_cv=cpus,
                vcpu_ratio_cv_forth=cpus,
                cpu_load_cv=self._one_each,
                mem_load_cv=self._one_each,
                net_load_cv=self._one_each,
            )
        return known

    def _space(self, demand: Demand) -> Flow:
        key = (demand.disk, demand.spindle_use, demand.own_spindles) if demand.is_local else (0, 0, 0)
        known = self._spaces.get(key)
        if known is None:
            disk, spindles, own_spindles = key
            shares = [disk_step(state, disk, own_spindles) for state in self._states]
            uses = [
                0.0 if state.has_exclusive_storage else spindles / state.spindle_limit
                for state in self._states
            ]
            known = self._spaces[key] = flow_of(
                self._columns,
                free_disk_cv=shares,
                free_disk_cv_forth=shares,
                disk_load_cv=self._one_each,
                spindles_cv=uses,
                spindles_cv_forth=uses,
            )
        return known

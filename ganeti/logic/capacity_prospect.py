"""Where on a field of nodes the next instance goes.

    prospect = Prospect(field, demand)
    while (place := prospect.best_pair()) is not None:
        prospect.put(*place)

The score after a placement follows from the sums of the field and from what the instance changes on a spot,
which is worked out once for each spot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf, sqrt

from ganeti.logic.capacity_field import RESERVED, Field, Floats, Pair, Spot, values_of
from ganeti.logic.capacity_pairs import TOLERANCE, PairSearch, Reserves
from ganeti.logic.node_room import Size
from ganeti.logic.node_state import Demand, NodeState
from ganeti.logic.score import WEIGHT, ClusterScore, node_values


class Prospect:
    """Where the next instance of one size goes.

    Args:
        field: the nodes; changed by `put` only as long as this lives.
        demand: the instance: it runs, is balanced and has no tags.
    """

    def __init__(self, field: Field, demand: Demand) -> None:
        self.field = field
        self.demand = demand
        self._size = size_of(demand)
        self._spots: list[Spot] = []
        self._index: dict[Spot, int] = {}
        self._terms = [*field.terms["primary"], *field.terms["shared"], *field.terms["secondary"]]
        self._raw: list[list[tuple[float, float]]] = []
        """For each spot: every term's value before and after."""
        self._costs: Floats = []
        """Constant part of the secondary's terms."""
        self._is_host: list[bool] = []
        self._is_mirror: list[bool] = []
        self._base: list[Floats] = [[] for _ in self._terms]
        self._slope: list[Floats] = [[] for _ in self._terms]
        self._factor: list[Floats] = [[] for _ in field.terms["shared"]]
        self._offsets: Floats = []
        self._rebuild()

    def _rebuild(self) -> None:
        self._offsets = self.field.offsets
        self._spots, self._index, self._costs = [], {}, []
        self._is_host, self._is_mirror = [], []
        self._base = [[] for _ in self._terms]
        self._slope = [[] for _ in self._terms]
        self._factor = [[] for _ in self._factor]
        for spot in self.field.spots.values():
            self._add(spot)

    def _add(self, spot: Spot) -> None:
        """Work out what an instance changes on a spot, unless it is full."""
        size, needs_mirror = self._size, self.demand.nodes_needed > 1
        is_host = spot.primary.failure(size) is None
        is_mirror = needs_mirror and spot.secondary.failure(size) is None
        if spot in self._index or not (is_host or is_mirror):
            return
        state, n = spot.state, float(self.field.count)
        after = list(values_of(state.with_primary(self.demand)))
        after[RESERVED] = max(state.reserved, self.demand.failover_memory) / state.total_memory
        self._index[spot] = len(self._spots)
        self._spots.append(spot)
        self._is_host.append(is_host)
        self._is_mirror.append(is_mirror)
        self._costs.append(WEIGHT["reserved_mem_rtotal"] * (after[RESERVED] - spot.values[RESERVED]))
        hosts = len(self.field.terms["primary"])
        shared = hosts + len(self._factor)
        for place, term in enumerate(self._terms):
            offset = self._offsets[term.index]
            x, y = spot.values[term.index] - offset, after[term.index] - offset
            base = (y * y - x * x) / n - ((y - x) / n) ** 2
            if (place == 0 and not is_host) or (place >= shared and not is_mirror):
                base = inf
            self._base[place].append(base)
            self._slope[place].append(2 * (y - x) / n)
            if hosts <= place < shared:
                self._factor[place - hosts].append((y - x) * sqrt(2) / n)

    def _drop(self, spot: Spot) -> None:
        """The last one takes the place of a spot that is gone."""
        place = self._index.pop(spot, None)
        if place is None:
            return
        columns = [self._costs, *self._base, *self._slope, *self._factor]
        last = self._spots.pop()
        self._is_host[place], self._is_mirror[place] = self._is_host[-1], self._is_mirror[-1]
        self._is_host.pop()
        self._is_mirror.pop()
        if last is not spot:
            self._spots[place] = last
            self._index[last] = place
        for column in columns:
            column[place] = column[-1]
            column.pop()

    def put(self, first: int, second: int | None = None) -> None:
        """Put an instance on a node, or a pair of nodes."""
        field, demand = self.field, self.demand
        old = field.states[first]
        mirror = None if second is None else field.states[second].node
        changes = [(first, old.with_primary(demand, mirror))]
        if second is not None:
            changes.append((second, field.states[second].with_secondary(demand, old.node)))
        for index, state in changes:
            gone, spot = field.change(index, state)
            if self._offsets is not field.offsets:
                self._rebuild()
                continue
            if gone is not None:
                self._drop(gone)
            self._add(spot)

    # --- single nodes ------------------------------------------------------------------------

    def best_singles(self) -> Iterator[tuple[int, ...]]:
        """Nodes in the order of the score, the best first; of each spot the last node only."""
        spreads, _, _ = self._spreads()
        total = self._own_terms(spreads, "primary")
        for (weight, variance), change in zip(self._weights(spreads), self._changes(spreads)):
            total = [sum_ + weight * sqrt(abs(variance + c)) for sum_, c in zip(total, change)]
        order = sorted((score, place) for place, score in enumerate(total) if self._is_host[place])
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and order[end][0] <= order[start][0] + TOLERANCE:
                end += 1
            close = [(self._spots[place].members[-1],) for _, place in order[start:end]]
            yield from self._exactly_ordered(close)
            start = end

    # --- pairs -------------------------------------------------------------------------------

    def best_pair(self) -> Pair | None:
        """The pair (primary, secondary) with the best score; None: there is none."""
        found = self._close_pairs()
        if not found:
            return None
        if len(found) == 1:
            return found[0]
        return next(iter(self._exactly_ordered(found)))  # type: ignore[return-value]

    def pairs_of(self, first: int) -> list[Pair]:
        """All pairs with this primary, in the order of their exact scores, the best first."""
        size = self._size
        pairs = []
        for spot in self.field.spots.values():
            if spot.secondary.failure(size) is not None:
                continue
            for second in spot.members:
                kept = self.field.states[second].peers.get(self.field.states[first].node, 0)
                fits = kept == 0 or kept + size.memory <= spot.secondary.linked_memory
                if second != first and fits:
                    pairs.append((first, second))
        return list(self._exactly_ordered(pairs))  # type: ignore[arg-type]

    def _close_pairs(self) -> list[Pair]:
        """Pairs within the tolerance of the best, of two spots the last pair each."""
        if not any(self._is_host) or not any(self._is_mirror):
            return []
        spreads, reserve_mean, reserve_variance = self._spreads()
        own = self._own_terms(spreads, "primary")
        more = self._own_terms(spreads, "secondary")
        more = [score + cost for score, cost in zip(more, self._costs)]
        weights, changes = self._weights(spreads), self._changes(spreads)
        search = PairSearch(
            spots=self._spots,
            states=self.field.states,
            memory=self.demand.failover_memory,
            own=own,
            more=more,
            weights=weights,
            changes=changes,
            factors=self._factor,
            reserves=Reserves(count=float(self.field.count), mean=reserve_mean, variance=reserve_variance),
        )
        return search.run()

    def _spreads(self) -> tuple[list[tuple[float, float]], float, float]:
        """Mean and variance of every term, measured from the offsets; then of the reserves as they are."""
        field = self.field
        n = field.count
        found = []
        for term in self._terms:
            mean = field.sums[term.index] / n
            found.append((mean, max(0.0, field.squares[term.index] / n - mean * mean)))
        mean, variance = found[-1]
        return found, mean + self._offsets[RESERVED], variance

    def _range(self, role: str) -> range:
        start = 0
        for name, terms in self.field.terms.items():
            if name == role:
                return range(start, start + len(terms))
            start += len(terms)
        raise KeyError(role)

    def _own_terms(self, spreads: list[tuple[float, float]], role: str) -> Floats:
        """Sum of the spreads that only this role's node changes."""
        total = [0.0] * len(self._spots)
        for place in self._range(role):
            (mean, variance), weight = spreads[place], self._terms[place].weight
            after = _sloped(self._base[place], self._slope[place], mean, variance)
            try:
                total = [known + weight * sqrt(v) for known, v in zip(total, after)]
            except ValueError:  # a variance of nothing, rounded
                total = [known + weight * sqrt(max(0.0, v)) for known, v in zip(total, after)]
        return total

    def _weights(self, spreads: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(self._terms[place].weight, spreads[place][1]) for place in self._range("shared")]

    def _changes(self, spreads: list[tuple[float, float]]) -> list[Floats]:
        """What each spot adds to the variances that both nodes change."""
        found = []
        for place in self._range("shared"):
            found.append(_sloped(self._base[place], self._slope[place], spreads[place][0], 0.0))
        return found

    def _exactly_ordered(self, places: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
        """Places in the order of their exact scores, equal ones from the last to the first."""
        ordered = sorted(places, reverse=True)
        if len(ordered) < 2:
            yield from ordered
            return
        states, demand = self.field.states, self.demand
        if len(ordered[0]) > 1:
            now = ClusterScore(states, self.field.score_values())
            scored = [(_pair_score(now, states, demand, place), place) for place in ordered]
        else:
            values = self.field.score_values()
            scored = [(_single_score(states, values, demand, place[0]), place) for place in ordered]
        for _, place in sorted(scored, key=lambda entry: entry[0]):
            yield place


def _sloped(base: Floats, slope: Floats, mean: float, variance: float) -> Floats:
    """The variance (or its change) after a placement; on equal hardware all slopes are equal."""
    if not slope:
        return []
    steepest = max(slope)
    if steepest == min(slope):
        common = variance - mean * steepest
        return [common + b for b in base]
    return [variance + b - mean * s for b, s in zip(base, slope)]


def _pair_score(now: ClusterScore, states: list[NodeState], demand: Demand, place: tuple[int, ...]) -> float:
    """Score with an instance on two nodes, as the established allocator sums it."""
    first, second = states[place[0]], states[place[1]]
    after = now.after(first, first.with_primary(demand, second.node))
    return after.after(second, second.with_secondary(demand, first.node)).value


def _single_score(
    states: list[NodeState], values: list[tuple[float, ...]], demand: Demand, index: int
) -> float:
    """Score with an instance on one node; the established allocator works it out from scratch here."""
    changed, rows = list(states), list(values)
    changed[index] = states[index].with_primary(demand)
    rows[index] = node_values(changed[index])
    return ClusterScore(changed, rows).value


def size_of(demand: Demand) -> Size:
    """What an instance asks of each node."""
    return Size(demand.memory, demand.disk, demand.vcpus, demand.spindle_use)

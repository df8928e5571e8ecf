"""The best pair of spots, by branch and bound; see `capacity_field` for what a spot is.

The score of a pair, but for what is the same for all, is

    own of the first + more of the second + Σ weight × √(variance + both changes - product of factors)

A root lies above its chord, and on the chord the changes of the two nodes simply add up. So the bound of a
pair is a sum of one number for each spot, and as a single instance changes a variance but little, it is a
close one, the closer the fewer spots are left; those that cannot be of a best pair are left out in rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt
from typing import TYPE_CHECKING

import msgspec

from ganeti.logic.score import WEIGHT

if TYPE_CHECKING:
    from ganeti.logic.capacity_field import Spot
    from ganeti.logic.node_state import NodeState

TOLERANCE = 1e-9
"""Candidates this close to the best are compared by their exact scores."""

_SLACK = 1e-12
"""Rounding in bounds."""

_ROUNDS = 6
_WORTH_WHILE = 0.8
"""The bounds are worked out again if so much or less of the spots is left."""
_FEW = 64
"""So many pairs may as well be looked at."""

Floats = list[float]
Pair = tuple[int, int]

_LOCATION = WEIGHT["location_score"]
_RESERVE = WEIGHT["reserved_mem_cv"]
_RESERVE_TOTAL = WEIGHT["reserved_mem_rtotal"]


class Reserves(msgspec.Struct, frozen=True, kw_only=True):
    """The shares of their memory that nodes keep for failover."""

    count: float
    mean: float
    variance: float

    def cost(self, spot: Spot, kept: int) -> float:
        """What it adds to the score that a node of a spot keeps this much for one other."""
        x = spot.values[-1] - self.mean
        y = kept / spot.state.total_memory - self.mean
        variance = self.variance + (y * y - x * x) / self.count - ((y - x) / self.count) ** 2
        return _RESERVE * sqrt(max(0.0, variance)) + _RESERVE_TOTAL * (y - x)

    def least(self, widest: float) -> float:
        """The least that the spread can come to.

        Args:
            widest: the largest distance of a share from the mean.
        """
        return sqrt(max(0.0, self.variance - widest * widest / max(1.0, self.count - 1)))

    def grows(self, widest: float) -> bool:
        """Whether it always costs more to keep more."""
        least = self.least(widest)
        steepest = _RESERVE * (max(widest, self.mean) + 1 / self.count) / self.count
        return least > 0 and steepest < _RESERVE_TOTAL * least


class _Near(msgspec.Struct, frozen=True, kw_only=True):
    """Spots with their parts of the bound of a pair."""

    constant: float
    firsts: list[tuple[float, int]]
    seconds: list[tuple[float, int]]


class PairSearch(msgspec.Struct, kw_only=True):
    """One search; all lists have an element for each spot."""

    spots: Sequence[Spot]
    states: Sequence[NodeState]
    memory: int
    """Of the instance."""
    own: Floats
    more: Floats
    weights: list[tuple[float, float]]
    """Weight and variance of each shared spread."""
    changes: list[Floats]
    factors: list[Floats]
    reserves: Reserves
    best: float = inf
    found: list[tuple[float, int, int]] = []

    def run(self) -> list[Pair]:
        """The best pairs, all within the tolerance; of two spots the last pair each."""
        self.found, self.best = [], inf
        firsts = [place for place, cost in enumerate(self.own) if cost < inf]
        seconds = [place for place, cost in enumerate(self.more) if cost < inf]
        for _ in range(_ROUNDS):
            before = len(firsts) + len(seconds)
            near = self._near(firsts, seconds)
            firsts, seconds = [place for _, place in near.firsts], [place for _, place in near.seconds]
            if len(firsts) + len(seconds) > before * _WORTH_WHILE or len(firsts) * len(seconds) < _FEW:
                break
        self._visit(near)
        widest = max([abs(spot.values[-1] - self.reserves.mean) for spot in self.spots])
        if not self.reserves.grows(widest):
            self._visit_all_links(widest)
        if not self.found:
            return []
        limit = min(self.found)[0] + TOLERANCE
        return list(dict.fromkeys((first, second) for score, first, second in self.found if score <= limit))

    def _near(self, firsts: list[int], seconds: list[int]) -> _Near:
        """Those spots that a best pair can be of, with their parts of its bound.

        The fewer there are to begin with, the closer is the bound.
        """
        constant = -_SLACK
        first_bounds = [self.own[place] for place in firsts]
        second_bounds = [self.more[place] for place in seconds]
        for (weight, variance), change, factor in zip(self.weights, self.changes, self.factors):
            first_changes, second_changes = _chosen(change, firsts), _chosen(change, seconds)
            first_factors, second_factors = _chosen(factor, firsts), _chosen(factor, seconds)
            products = [
                x * y
                for x in (min(first_factors), max(first_factors))
                for y in (min(second_factors), max(second_factors))
            ]
            largest = max(products)
            start = max(-variance, min(first_changes) + min(second_changes) - largest)
            end = max(first_changes) + max(second_changes) - min(products)
            bottom = weight * sqrt(max(0.0, variance + start))
            top = weight * sqrt(max(0.0, variance + end))
            slope = (top - bottom) / (end - start) if end > start else 0.0
            constant += bottom - slope * (start + largest)
            first_bounds = [bound + slope * c for bound, c in zip(first_bounds, first_changes)]
            second_bounds = [bound + slope * c for bound, c in zip(second_bounds, second_changes)]
        least_first, least_second = min(first_bounds), min(second_bounds)
        one, two = first_bounds.index(least_first), second_bounds.index(least_second)
        self._guess(firsts[one], seconds[two])
        limit = self.best + TOLERANCE - constant
        return _Near(
            constant=constant,
            firsts=[(b, i) for b, i in zip(first_bounds, firsts) if b + least_second <= limit],
            seconds=[(b, i) for b, i in zip(second_bounds, seconds) if b + least_first <= limit],
        )

    def _guess(self, one: int, two: int) -> None:
        """Some good pair, so that most spots need not be looked at."""
        if self._last_pair(self.spots[one], self.spots[two]) is not None:
            self.best = min(self.best, self._score(one, two, self.own[one] + self.more[two]))

    def _score(self, one: int, two: int, total: float) -> float:
        for (weight, variance), change, factor in zip(self.weights, self.changes, self.factors):
            after = variance + change[one] + change[two] - factor[one] * factor[two]
            total += weight * sqrt(abs(after))
        places = self.spots[one].state.location_tags
        return total + (_LOCATION * len(places & self.spots[two].state.location_tags) if places else 0.0)

    def _visit(self, near: _Near) -> None:
        if not near.firsts or not near.seconds:
            return
        firsts, seconds, constant = sorted(near.firsts), sorted(near.seconds), near.constant
        least_second = seconds[0][0] + constant
        for first_bound, one in firsts:
            if first_bound + least_second > self.best + TOLERANCE:
                break
            mine, spot = self.own[one], self.spots[one]
            for bound, two in seconds:
                if first_bound + bound + constant > self.best + TOLERANCE:
                    break
                self._try_links(one, two)
                score = self._score(one, two, mine + self.more[two])
                if score <= self.best + TOLERANCE:
                    pair = self._last_pair(spot, self.spots[two])
                    if pair is not None:
                        self.found.append((score, *pair))
                        self.best = min(self.best, score)

    def _last_pair(self, one: Spot, two: Spot) -> Pair | None:
        """The last pair of two spots of which the second keeps nothing special for the first."""
        for first in reversed(one.members):
            for second in reversed(two.members):
                if first != second and not self._is_linked(first, second):
                    return first, second
        return None

    def _is_linked(self, first: int, second: int) -> bool:
        """Whether the second would have to keep more for a failure of the first than for any other."""
        state = self.states[second]
        kept = state.peers.get(self.states[first].node, 0)
        return kept > 0 and kept + self.memory > max(state.reserved, self.memory)

    def _try_links(self, one: int, two: int) -> None:
        """The pairs of two spots that share mirrors already."""
        links = self.spots[one].links.get(self.spots[two])
        if not links:
            return
        spot = self.spots[two]
        usual = max(spot.state.reserved, self.memory)
        for kept, pairs in links.items():
            needed = kept + self.memory
            if usual < needed <= spot.secondary.linked_memory:
                score = self._score(one, two, self.own[one] + self.reserves.cost(spot, needed))
                if score <= self.best + TOLERANCE:
                    self.found.append((score, *max(pairs)))
                    self.best = min(self.best, score)

    def _visit_all_links(self, widest: float) -> None:
        """Pairs that share mirrors, where it may cost less to keep more."""
        index = {spot: place for place, spot in enumerate(self.spots)}
        for one, spot in enumerate(self.spots):
            if self.own[one] < inf and self.own[one] + _RESERVE * self.reserves.least(widest) <= self.best:
                for other in spot.links:
                    two = index.get(other)
                    if two is not None and self.more[two] < inf:
                        self._try_links(one, two)


def _chosen(values: Floats, places: list[int]) -> Floats:
    return values if len(places) == len(values) else [values[place] for place in places]

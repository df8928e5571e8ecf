"""The best node, or the best pair of nodes, for an instance among all that could take it. Exact.

A placement changes the values of one or two nodes, so each spread (standard deviation) of the score
after it is a closed formula: with values measured from their mean, a change from x to y on one of n
nodes adds (y² - x²)/n - (y - x)²/n² to the variance, and two changes interact only in a product of one
factor of either node. The search puts nodes with equal values into one class, gives every class a lower
bound for the score of any pair it takes part in, visits pairs in the order of these bounds and
stops when no bound is below what was found.

Pairs that share mirrors already are exceptions: there more memory is kept for one failure. They
are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import inf, sqrt

import msgspec

from ganeti.logic.constraints import secondary_problem
from ganeti.logic.node_state import Demand, NodeState
from ganeti.logic.placement_tags import Tags
from ganeti.logic.score import WEIGHT, crowded_places, disk_share

TOLERANCE = 1e-9
"""Candidates this close to the best are all returned; the caller compares their exact scores."""

Floats = list[float]

_LOCATION_WEIGHT = WEIGHT["location_score"]


class _Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Effect of a placement on one spread, for each node."""

    weight: float
    variance: float
    change: Floats
    """Added to the variance."""
    factor: Floats
    """The product of two nodes' factors is taken off the variance."""

    def alone(self) -> Floats:
        """Weighted spread when only that node changes."""
        weight, variance = self.weight, self.variance
        return [weight * sqrt(max(0.0, variance + change)) for change in self.change]


class _Class(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes that are equal in one role."""

    bound: float
    own: float
    """Terms of the score that depend on this node only."""
    changes: tuple[float, ...]
    """Of the spreads that both nodes change, of which there are at least three."""
    factors: tuple[float, ...]
    places: Tags
    """Location tags; each that both nodes have adds to the score."""
    members: list[int]


class Search:
    """Effects of placing one instance, worked out for every node.

    Args:
        states: the online nodes that the score is about.
        demand: the instance.
        is_strict: soft rules count.
    """

    def __init__(self, states: Sequence[NodeState], demand: Demand, *, is_strict: bool = True) -> None:
        self.states = states
        self._is_strict = is_strict
        self.demand = demand
        self._shared = self._shared_spreads() if states else []

    def best_single(self, nodes: Sequence[int]) -> list[int]:
        """Indices of the nodes with the best score, all that are equal within the tolerance.

        Args:
            nodes: indices of the nodes that may be used.
        """
        if not nodes:
            return []
        total = self._primary_terms
        for spread in self._shared:
            total = [known + more for known, more in zip(total, spread.alone())]
        best = min(total[index] for index in nodes)
        return [index for index in nodes if total[index] <= best + TOLERANCE]

    def best_pairs(self, primaries: Sequence[int], secondaries: Sequence[int]) -> list[tuple[int, int]]:
        """Index pairs (primary, secondary) with the best score, of equal classes the last pair each.

        Args:
            primaries: nodes that may run the instance.
            secondaries: nodes that may mirror it, unless they share mirrors with the primary.
        """
        if not primaries or not secondaries:
            return []
        firsts = self._classes(primaries, self._primary_terms)
        seconds = self._classes(secondaries, self._secondary_terms)
        found: list[tuple[float, int, int]] = []
        best = self._visit(firsts, seconds, found)
        self._visit_partners(firsts, frozenset(secondaries), best, found)
        if not found:
            return []
        limit = min(found)[0] + TOLERANCE
        return [(first, second) for score, first, second in found if score <= limit]

    def _visit(
        self, firsts: list[_Class], seconds: list[_Class], found: list[tuple[float, int, int]]
    ) -> float:
        """Try pairs of classes in the order of their bounds; gives the best score."""
        (w1, v1), (w2, v2), (w3, v3), *rest = [(term.weight, term.variance) for term in self._shared]
        least_first = min(one.own for one in firsts)
        least_second = min(one.own for one in seconds)
        flat = [(two.bound, two.own, two.changes[:3], two.factors[:3], two) for two in seconds]
        limit = best = inf
        for one in firsts:
            if one.bound + least_second > limit:
                break
            own = one.own
            x1, x2, x3 = v1 + one.changes[0], v2 + one.changes[1], v3 + one.changes[2]
            p1, p2, p3 = one.factors[:3]
            for bound, more, (y1, y2, y3), (q1, q2, q3), two in flat:
                if bound + least_first > limit:
                    break
                score = (
                    own
                    + more
                    + w1 * sqrt(abs(x1 + y1 - p1 * q1))
                    + w2 * sqrt(abs(x2 + y2 - p2 * q2))
                    + w3 * sqrt(abs(x3 + y3 - p3 * q3))
                )
                if score > limit:
                    continue
                for index, (weight, variance) in enumerate(rest, 3):
                    after = variance + one.changes[index] + two.changes[index]
                    score += weight * sqrt(abs(after - one.factors[index] * two.factors[index]))
                if one.places and two.places:
                    score += _LOCATION_WEIGHT * len(one.places & two.places)
                pair = self._last_pair(one, two) if score <= limit else None
                if pair is not None:
                    found.append((score, *pair))
                    best = min(best, score)
                    limit = best + TOLERANCE
        return best

    def _last_pair(self, one: _Class, two: _Class) -> tuple[int, int] | None:
        """The last pair of two classes that is no exception."""
        for first in reversed(one.members):
            for second in reversed(two.members):
                if first != second and not self._shares_mirrors(first, second):
                    return first, second
        return None

    def _shares_mirrors(self, first: int, second: int) -> bool:
        """Whether mirrors that the second has of the first already change what it must reserve."""
        state = self.states[second]
        kept = state.peers.get(self.states[first].node, 0)
        memory = self.demand.failover_memory
        return kept > 0 and kept + memory > max(state.reserved, memory)

    def _visit_partners(
        self,
        firsts: list[_Class],
        seconds: frozenset[int],
        best: float,
        found: list[tuple[float, int, int]],
    ) -> None:
        """Try the exceptions: secondaries that mirror instances of the primary already."""
        least = self._least_partner_terms()
        by_node = {state.node: index for index, state in enumerate(self.states)}
        for one in firsts:
            if one.bound + least > best + TOLERANCE:
                break
            for first in one.members:
                for partner in self.states[first].partners:
                    second = by_node.get(partner, first)
                    if second != first and second in seconds and self._shares_mirrors(first, second):
                        score = self._partner_score(one, first, second)
                        if score < inf and score <= best + TOLERANCE:
                            found.append((score, first, second))
                            best = min(best, score)

    def _partner_score(self, one: _Class, first: int, second: int) -> float:
        """Score of an exceptional pair; infinite where the secondary has no room for it."""
        state = self.states[second]
        if (
            secondary_problem(state, self.demand, self.states[first].node, is_strict=self._is_strict)
            is not None
        ):
            return inf
        kept = state.peers[self.states[first].node] + self.demand.failover_memory
        score = one.own + self._reserve_term(second, kept)
        score += _LOCATION_WEIGHT * len(one.places & state.location_tags)
        for index, term in enumerate(self._shared):
            after = term.variance + one.changes[index] + term.change[second]
            score += term.weight * sqrt(abs(after - one.factors[index] * term.factor[second]))
        return score

    def _classes(self, nodes: Sequence[int], own: Floats) -> list[_Class]:
        """Nodes put into classes, in the order of their bounds."""
        bounds = list(own)
        for term in self._shared:
            weight, least = term.weight, term.variance + min(term.change)
            low, high = min(term.factor), max(term.factor)
            bounds = [
                bound + weight * sqrt(max(0.0, least + change - max(factor * low, factor * high)))
                for bound, change, factor in zip(bounds, term.change, term.factor)
            ]
        changes = list(zip(*[term.change for term in self._shared]))
        factors = list(zip(*[term.factor for term in self._shared]))
        classes: dict[tuple[object, ...], _Class] = {}
        for index in nodes:
            places = self.states[index].location_tags
            key = (own[index], changes[index], factors[index], places)
            known = classes.get(key)
            if known is not None:
                known.members.append(index)
                continue
            classes[key] = _Class(
                bound=bounds[index],
                own=own[index],
                changes=changes[index],
                factors=factors[index],
                places=places,
                members=[index],
            )
        return sorted(classes.values(), key=lambda one: one.bound)

    @cached_property
    def _primary_terms(self) -> Floats:
        """Score terms that depend on the primary node only."""
        states, memory, cpus = self.states, self.demand.up_memory, self.demand.cpus
        free = [state.unallocated for state in states]
        planned = [state.planned_unallocated for state in states]
        used = [state.used_cpus for state in states]
        planned_cpus = [state.planned_cpus for state in states]
        sizes = [state.total_memory for state in states]
        cores = [state.total_cpus for state in states]
        counts: Floats = [float(state.primaries) for state in states]
        spreads = [
            *_twice(
                "free_mem_cv", _ratios(free, sizes, -memory), _ratios(planned, sizes, -self.demand.memory)
            ),
            *_twice("vcpu_ratio_cv", _ratios(used, cores, cpus), _ratios(planned_cpus, cores, cpus)),
            _spread(3 * WEIGHT["cpu_load_cv"], counts, [count + 1 for count in counts]),
        ]
        terms = self._summed(spreads)
        return [term + more for term, more in zip(terms, self._location_terms())]

    def _location_terms(self) -> Floats:
        """What the locations of a primary node cost: not those wished for, or crowded."""
        demand = self.demand
        missing = [_LOCATION_WEIGHT * state.missing_locations(demand) for state in self.states]
        if not demand.exclusion_tags:
            return missing
        taken = {place for state in self.states for place in crowded_places(state)}
        crowded = [
            sum((place, tag) in taken for place in state.location_tags for tag in demand.exclusion_tags)
            for state in self.states
        ]
        weight = WEIGHT["location_exclusion_score"]
        return [term + weight * count for term, count in zip(missing, crowded)]

    @cached_property
    def _secondary_terms(self) -> Floats:
        """Score terms that depend on the secondary node only, exceptions aside."""
        memory = self.demand.failover_memory
        before = self._reserve_shares
        after = [max(state.reserved, memory) / state.total_memory for state in self.states]
        terms = self._summed([_spread(WEIGHT["reserved_mem_cv"], before, after)])
        weight = WEIGHT["reserved_mem_rtotal"]
        return [term + weight * (y - x) for term, x, y in zip(terms, before, after)]

    @cached_property
    def _reserve_shares(self) -> Floats:
        return [state.reserved / state.total_memory for state in self.states]

    @cached_property
    def _reserve_variance(self) -> tuple[float, float]:
        """Mean and variance of the shares of memory that nodes keep for failover."""
        shares = self._reserve_shares
        mean = sum(shares) / len(shares)
        return mean, sum([(share - mean) ** 2 for share in shares]) / len(shares)

    def _reserve_term(self, second: int, kept: int) -> float:
        """The secondary's terms where it keeps this much memory for one other node."""
        mean, variance = self._reserve_variance
        state, n = self.states[second], len(self.states)
        x, y = self._reserve_shares[second] - mean, kept / state.total_memory - mean
        variance += (y * y - x * x) / n - ((y - x) / n) ** 2
        spread = WEIGHT["reserved_mem_cv"] * sqrt(max(0.0, variance))
        failing = WEIGHT["n1_cnt"] if state.fails_n1 else 0.0
        return spread + WEIGHT["reserved_mem_rtotal"] * (y - x) + failing

    def _least_partner_terms(self) -> float:
        """What the secondary's terms of an exceptional pair are at least."""
        mean, variance = self._reserve_variance
        n = len(self.states)
        widest = max([(share - mean) ** 2 for share in self._reserve_shares])
        return WEIGHT["reserved_mem_cv"] * sqrt(max(0.0, variance - widest / max(1, n - 1)))

    def _summed(self, spreads: list[_Spread]) -> Floats:
        """Spreads added up, and what a node that is not redundant costs."""
        failing = WEIGHT["n1_cnt"]
        total = [failing if state.unallocated <= state.reserved else 0.0 for state in self.states]
        for spread in spreads:
            total = [known + more for known, more in zip(total, spread.alone())]
        return total

    def _shared_spreads(self) -> list[_Spread]:
        """Spreads that change on both nodes of a pair: at least three."""
        demand, states = self.demand, self.states
        on_it: Floats = [float(state.primaries + state.secondaries) for state in states]
        plain = [0.0] * len(states)
        if not demand.is_local:
            load = _spread(WEIGHT["disk_load_cv"], on_it, [count + 1 for count in on_it])
            return [load, _spread(0.0, plain, plain), _spread(0.0, plain, plain)]
        disks = _twice(
            "free_disk_cv",
            self._disk_shares([state.free_disk for state in states]),
            self._disk_shares([state.planned_free_disk for state in states]),
        )
        use = [0 if state.has_exclusive_storage else demand.spindle_use for state in states]
        spindles = _twice(
            "spindles_cv",
            self._spindle_shares([state.spindles for state in states], use),
            self._spindle_shares([state.planned_spindles for state in states], use),
        )
        return [_spread(WEIGHT["disk_load_cv"], on_it, [count + 1 for count in on_it]), *disks, *spindles]

    def _disk_shares(self, free: list[int]) -> tuple[Floats, Floats]:
        before: Floats = []
        after: Floats = []
        for state, amount in zip(self.states, free):
            before.append(disk_share(state, amount))
            if state.has_exclusive_storage:
                left = state.free_spindles - self.demand.own_spindles
                after.append(left / state.total_spindles if state.total_spindles else 1.0)
            else:
                after.append(disk_share(state, amount - self.demand.disk))
        return before, after

    def _spindle_shares(self, used: list[int], more: list[int]) -> tuple[Floats, Floats]:
        limits = [state.spindle_limit for state in self.states]
        before = [count / limit for count, limit in zip(used, limits)]
        return before, [(count + new) / limit for count, new, limit in zip(used, more, limits)]


def _spread(weight: float, before: Floats, after: Floats) -> _Spread:
    n = len(before)
    mean = sum(before) / n
    old = [value - mean for value in before]
    new = [value - mean for value in after]
    root = sqrt(2) / n
    square = float(n * n)
    return _Spread(
        weight=weight,
        variance=sum([value * value for value in old]) / n,
        change=[(y * y - x * x) / n - (y - x) * (y - x) / square for x, y in zip(old, new)],
        factor=[(y - x) * root for x, y in zip(old, new)],
    )


def _twice(name: str, real: tuple[Floats, Floats], planned: tuple[Floats, Floats]) -> list[_Spread]:
    """The spreads of a metric with and without forthcoming instances, merged where they agree."""
    weight, planned_weight = WEIGHT[name], WEIGHT[f"{name}_forth"]
    if real == planned:
        return [_spread(weight + planned_weight, *real)]
    return [_spread(weight, *real), _spread(planned_weight, *planned)]


def _ratios(amounts: list[int], wholes: list[int], change: int) -> tuple[Floats, Floats]:
    before = [amount / whole for amount, whole in zip(amounts, wholes)]
    return before, [(amount + change) / whole for amount, whole in zip(amounts, wholes)]

"""How evenly and safely a cluster is loaded, as one number: the established cluster score.

Lower is better. The score is the weighted sum of the metrics below; a *spread* is the population
standard deviation over the online nodes, everything else is a sum. Nodes are taken in the order of
their names, metrics in the order of `METRICS`, and every sum is accumulated from left to right, so
that equal clusters give bit-equal scores whatever the Python version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce
from math import sqrt
from operator import add

import msgspec

from ganeti.logic.node_state import NodeState


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One term of the score."""

    name: str
    weight: float
    is_spread: bool = True


METRICS = (
    Metric(name="free_mem_cv", weight=0.5),
    Metric(name="free_disk_cv", weight=0.5),
    Metric(name="n1_cnt", weight=1, is_spread=False),
    Metric(name="reserved_mem_cv", weight=1),
    Metric(name="offline_all_cnt", weight=4, is_spread=False),
    Metric(name="offline_pri_cnt", weight=16, is_spread=False),
    Metric(name="vcpu_ratio_cv", weight=0.5),
    Metric(name="cpu_load_cv", weight=1),
    Metric(name="mem_load_cv", weight=1),
    Metric(name="disk_load_cv", weight=1),
    Metric(name="net_load_cv", weight=1),
    Metric(name="pri_tags_score", weight=2, is_spread=False),
    Metric(name="spindles_cv", weight=0.5),
    Metric(name="free_mem_cv_forth", weight=0.5),
    Metric(name="free_disk_cv_forth", weight=0.5),
    Metric(name="vcpu_ratio_cv_forth", weight=0.5),
    Metric(name="spindles_cv_forth", weight=0.5),
    Metric(name="location_score", weight=1, is_spread=False),
    Metric(name="location_exclusion_score", weight=1, is_spread=False),
    Metric(name="reserved_mem_rtotal", weight=0.25, is_spread=False),
)
"""Terms of the score in their order of summation."""

WEIGHT = {metric.name: metric.weight for metric in METRICS}
"""Weight of each metric."""

Place = tuple[str, str]
"""A location tag of nodes and an exclusive tag of instances."""

_CROWDING = next(index for index, metric in enumerate(METRICS) if metric.name == "location_exclusion_score")


def disk_share(state: NodeState, free: int) -> float:
    """Part of a node's disk space (or spindles) that is free; nodes without any count as empty."""
    if state.has_exclusive_storage:
        return state.free_spindles / state.total_spindles if state.total_spindles else 1.0
    return free / state.total_disk if state.total_disk else 1.0


def node_values(state: NodeState) -> tuple[float, ...]:
    """What a node contributes to each metric, in the order of `METRICS`."""
    on_it = state.primaries + state.secondaries
    if not state.is_online:
        return (0.0, 0.0, 0.0, 0.0, on_it, state.primaries, *[0.0] * 11, state.common_causes, 0.0, 0.0)
    memory, cpus, limit = state.total_memory, state.total_cpus, state.spindle_limit
    reserved = state.reserved / memory
    return (
        state.unallocated / memory,
        disk_share(state, state.free_disk),
        on_it if state.fails_n1 else 0.0,
        reserved,
        0.0,
        0.0,
        state.used_cpus / cpus,
        state.primaries,
        state.primaries,
        on_it,
        state.primaries,
        state.tag_conflicts,
        state.spindles / limit,
        state.planned_unallocated / memory,
        disk_share(state, state.planned_free_disk),
        state.planned_cpus / cpus,
        state.planned_spindles / limit,
        state.misplaced + state.common_causes,
        0.0,
        reserved,
    )


def crowded_places(state: NodeState) -> Mapping[Place, int]:
    """How many primaries with an exclusive tag a node adds to each of its locations."""
    if not (state.is_online and state.location_tags and state.exclusion_tags):
        return {}
    counts = {tag: count for tag, count in state.exclusion_tags.items() if count > 0}
    return {(place, tag): count for place in state.location_tags for tag, count in counts.items()}


class ClusterScore:
    """The score of one state of a cluster, from which the score after a change follows at once.

    All metrics are sums over nodes but one: `location_exclusion_score` is about pairs of instances in
    the same location, wherever there, so `places` counts them.

    Args:
        states: all nodes that count, also offline ones.
        values: what `node_values` gives for each, where that is known.
    """

    __slots__ = ("count", "places", "sums", "variances")

    def __init__(
        self, states: Sequence[NodeState], values: Sequence[tuple[float, ...]] | None = None
    ) -> None:
        known = [node_values(state) for state in states] if values is None else values
        online = [row for row, state in zip(known, states) if state.is_online]
        offline = [row for row, state in zip(known, states) if not state.is_online]
        spreads: dict[tuple[float, ...], tuple[float, float]] = {}
        self.count = len(online)
        self.sums = [0.0] * len(METRICS)
        self.variances = [0.0] * len(METRICS)
        for index, metric in enumerate(METRICS):
            column = tuple([row[index] for row in (online if metric.is_spread else online + offline)])
            if metric.is_spread and column:
                if column not in spreads:
                    spreads[column] = _spread(column)
                self.sums[index], self.variances[index] = spreads[column]
            else:
                self.sums[index] = reduce(add, column, 0.0)
        self.places: Counter[Place] = Counter()
        for state in states:
            crowded = crowded_places(state)
            if crowded:
                self.places.update(crowded)
        self.sums[_CROWDING] = float(sum(count - 1 for count in self.places.values()))

    def after(self, before: NodeState, changed: NodeState) -> ClusterScore:
        """The score when one node goes over into another state; costs the same for any cluster."""
        new = object.__new__(ClusterScore)
        new.count, n = self.count, float(self.count)
        new.sums, new.variances = list(self.sums), list(self.variances)
        for index, (x, y) in enumerate(zip(node_values(before), node_values(changed))):
            if x == y:
                continue
            change = y - x
            new.sums[index] = self.sums[index] + change
            if METRICS[index].is_spread:
                delta = n * (y * y - x * x) - 2 * self.sums[index] * change - change * change
                new.variances[index] = max(0.0, self.variances[index] + delta / (n * n))
        left, entered = crowded_places(before), crowded_places(changed)
        new.places = self.places
        if left != entered:
            new.places = self.places.copy()
            new.places.subtract(left)
            new.places.update(entered)
            new.sums[_CROWDING] = float(sum(count - 1 for count in new.places.values() if count > 0))
        return new

    @property
    def metrics(self) -> dict[str, float]:
        """Each metric by name, without its weight."""
        return {
            metric.name: sqrt(variance) if metric.is_spread else total
            for metric, total, variance in zip(METRICS, self.sums, self.variances)
        }

    @property
    def value(self) -> float:
        """The score."""
        total = 0.0
        for metric, amount, variance in zip(METRICS, self.sums, self.variances):
            total += metric.weight * (sqrt(variance) if metric.is_spread else amount)
        return total


def _spread(column: tuple[float, ...]) -> tuple[float, float]:
    """Sum and variance."""
    total = reduce(add, column, 0.0)
    mean = total / len(column)
    return total, reduce(add, [(x - mean) ** 2 for x in column], 0.0) / len(column)


def cluster_score(states: Sequence[NodeState]) -> float:
    """The score of these nodes."""
    return ClusterScore(states).value

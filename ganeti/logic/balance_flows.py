"""What moves do to the spreads of a group: values of the nodes, and closed formulas for changes.

On n nodes with values u around any fixed origin, Q = Σ u² and S = Σ u, a value that goes down by `a` on one
node and up by `e` on another leaves the variance

    (Q + t_a + t_e) / n - ((S - a + e) / n)²        with t = 2 u (change) + (change)²

so a row with the effect of one load or space on every target costs little, and is the same for all
instances of the same size on the same node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt

import msgspec

from ganeti.logic.node_state import NodeState
from ganeti.logic.score import METRICS, WEIGHT, node_values

Row = list[float]


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One value of every online node."""

    values: Row
    """Measured from an origin near their mean."""
    total: float
    squares: float

    def spread(self) -> float:
        """Standard deviation."""
        n = len(self.values)
        return sqrt(max(0.0, self.squares / n - (self.total / n) ** 2))


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """How one size changes one column."""

    column: Column
    weight: float
    steps: Row
    """What the value of each node changes by where it arrives; the opposite where it leaves."""
    effect: Row
    """Added to the variance where it arrives, the product of the changes on both nodes aside."""
    least: float
    lowest_step: float
    highest_step: float


class Flow:
    """What a load or a space of one size does to the spreads on its way between two nodes.

    Nodes are positions among the online ones; None is a node that is not.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self.unmoved = 0.0
        for part in parts:
            self.unmoved += part.weight * part.column.spread()
        self._rows: dict[int | None, Row] = {}
        self._lows: dict[int | None, float] = {}

    def row(self, source: int | None) -> Row:
        """Weighted spreads after it went from a node to each other."""
        known = self._rows.get(source)
        if known is not None:
            return known
        row: Row = [0.0] * len(self._parts[0].steps)
        for part, base, factor in self._left(source):
            weight = part.weight
            row = [
                so_far + weight * sqrt(abs(base + effect - factor * step))
                for so_far, effect, step in zip(row, part.effect, part.steps)
            ]
        self._rows[source] = row
        return row

    def low(self, source: int | None) -> float:
        """No value of the row is below this."""
        known = self._lows.get(source)
        if known is not None:
            return known
        low = 0.0
        for part, base, factor in self._left(source):
            crossed = max(factor * part.lowest_step, factor * part.highest_step)
            low += part.weight * sqrt(max(0.0, base + part.least - crossed))
        self._lows[source] = low
        return low

    def between(self, source: int | None, target: int) -> float:
        """One value of the row."""
        known = self._rows.get(source)
        if known is not None:
            return known[target]
        value = 0.0
        for part, base, factor in self._left(source):
            left = base + part.effect[target] - factor * part.steps[target]
            value += part.weight * sqrt(abs(left))
        return value

    def _left(self, source: int | None) -> Iterator[tuple[Part, float, float]]:
        """For each part the variance after it left a node, and the factor of the product."""
        for part in self._parts:
            column, n = part.column, len(part.steps)
            if source is None:
                yield part, column.squares / n - (column.total / n) ** 2, 0.0
                continue
            change = -part.steps[source]
            squares = column.squares + change * (2 * column.values[source] + change)
            yield part, squares / n - ((column.total + change) / n) ** 2, 2 * change / (n * n)


class Reserve:
    """What moves do to the memory that nodes keep for failover."""

    def __init__(self, states: Sequence[NodeState], column: Column) -> None:
        self._states = states
        self._column = column
        self._mean = column.total / len(states)
        self._highest, self._lowest = max(column.values), min(column.values)
        self._weight = WEIGHT["reserved_mem_cv"]
        self.unmoved = self._weight * column.spread()

    def without(self, node: int | None, peer: NodeState, memory: int) -> tuple[float, int]:
        """Change of a node's share when it mirrors an instance of a peer no more, and what it keeps then."""
        if node is None:
            return 0.0, 0
        state = self._states[node]
        kept = state.reserved
        if memory and state.peers.get(peer.node, 0) == kept:
            kept = max((much for one, much in state.peers.items() if one != peer.node), default=0)
            kept = max(kept, state.peers[peer.node] - memory)
        return (kept - state.reserved) / state.total_memory, kept

    def changed(self, *changes: tuple[int | None, float]) -> float:
        """Weighted terms after some nodes' shares have changed; each node is named once."""
        column, n = self._column, len(self._states)
        squares, total, sum_of_changes = column.squares, column.total, 0.0
        for node, change in changes:
            if node is not None and change:
                squares += change * (2 * column.values[node] + change)
                total += change
                sum_of_changes += change
        spread = self._weight * sqrt(abs(squares / n - (total / n) ** 2))
        return spread + WEIGHT["reserved_mem_rtotal"] * sum_of_changes

    def lowest(self, node: int | None, change: float, free: int | None) -> float:
        """No value is below this if one node changes thus, and the share of one more goes up.

        Args:
            node: the first; None: none.
            change: of its share.
            free: the other one; None: any.
        """
        column, n = self._column, len(self._states)
        squares, total = column.squares, column.total
        if node is not None:
            squares += change * (2 * column.values[node] + change)
            total += change
        else:
            change = 0.0
        mean = total / n
        if free is None:
            away = max(self._highest - mean, mean - self._lowest)
        else:
            away = column.values[free] + (change if free == node else 0.0) - mean
        variance = squares / n - mean * mean - away * away / max(1, n - 1)
        return self._weight * sqrt(max(0.0, variance)) + WEIGHT["reserved_mem_rtotal"] * change

    def grown(self, node: int, peer: NodeState, memory: int, kept: int | None = None) -> float:
        """Change of a node's share when it mirrors one more instance of a peer.

        Args:
            node: which.
            peer: where the instance runs.
            memory: what it needs for a failover.
            kept: what the node keeps otherwise; None: what it keeps now.
        """
        state = self._states[node]
        if kept is None:
            kept = state.reserved
        return (max(kept, state.peers.get(peer.node, 0) + memory) - state.reserved) / state.total_memory


def flow_of(columns: Mapping[str, Column], **steps: Row) -> Flow:
    """The flow that changes these columns by these steps; equal ones are reckoned once."""
    parts: list[tuple[Column, float, Row]] = []
    for name, row in steps.items():
        column, weight = columns[name], WEIGHT[name]
        for place, (known, so_far, same) in enumerate(parts):
            if known.values == column.values and same == row:
                parts[place] = (known, so_far + weight, row)
                break
        else:
            parts.append((column, weight, row))
    return Flow([_part(column, weight, row) for column, weight, row in parts])


def columns_of(states: Sequence[NodeState]) -> dict[str, Column]:
    """Values of the nodes for each spread."""
    rows = zip(*[node_values(state) for state in states])
    found = {}
    for metric, row in zip(METRICS, rows):
        if metric.is_spread:
            origin = round(sum(row) / len(row), 3)
            values = [value - origin for value in row]
            found[metric.name] = Column(
                values=values, total=sum(values), squares=sum([value * value for value in values])
            )
    return found


def _part(column: Column, weight: float, steps: Row) -> Part:
    n, total = len(steps), column.total
    effect = [
        step * (2 * value + step) / n - step * (2 * total + step) / (n * n)
        for value, step in zip(column.values, steps)
    ]
    return Part(
        column=column,
        weight=weight,
        steps=steps,
        effect=effect,
        least=min(effect),
        lowest_step=min(steps),
        highest_step=max(steps),
    )


def disk_step(state: NodeState, disk: int, spindles: int) -> float:
    """What the free share of a node's disk space changes by where an instance arrives.

    Args:
        state: the node.
        disk: MiB that the instance takes.
        spindles: that it has for itself, where storage is exclusive.
    """
    if state.has_exclusive_storage:
        return -spindles / state.total_spindles if state.total_spindles else 0.0
    return -disk / state.total_disk if state.total_disk else 0.0

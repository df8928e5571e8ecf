"""Whether the nodes of another group can take instances: networks, bridges, storage (S2.3-022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from ganeti.errors import GanetiError, NodeError
from ganeti.logic.group_needs import InstanceNeeds, needs_of, unconnected_networks
from ganeti.logic.move_plan import PlannedMove
from ganeti.model.calls.disks import FindDisks
from ganeti.model.calls.outcome import Answer, NodeFailed
from ganeti.model.calls.system import BridgesExist, NodeInfo
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk
from ganeti.model.filled import fill_disk
from ganeti.model.ids import NodeId
from ganeti.ops.base import Context


async def what_targets_lack(ctx: Context, moves: Sequence[PlannedMove]) -> Mapping[str, str]:
    """For each instance whose new nodes lack something, what and where.

    Each node is asked once about bridges and once about each storage unit, whatever the number of moves.
    """
    cluster = ctx.cluster
    needs = await ctx.in_thread(partial(_needs, cluster, moves))
    asked = _Asked(ctx)
    await asked.about(
        {node for move in moves for node in _new_nodes(move)},
        frozenset().union(*(need.bridges for need in needs.values())),
        frozenset().union(*(need.storage for need in needs.values())),
    )
    found: dict[str, str] = {}
    for move in moves:
        instance = cluster.instance(move.instance)
        lacking = [
            f"group {cluster.groups[group].name} is not connected to network {network}"
            for group in dict.fromkeys(cluster.nodes[node].group for node in move.target)
            for network in unconnected_networks(cluster, instance, group)
        ]
        for node in _new_nodes(move):
            lacking += asked.lacking(node, needs[move.instance])
        if lacking:
            found[move.instance] = "; ".join(lacking)
    reaching = [move for move in moves if needs[move.instance].reaches_disks and _new_nodes(move)]
    return {**await _unreachable_disks(ctx, reaching), **found}


class _Asked:
    """What nodes said."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._missing_bridges: dict[NodeId, set[str]] = {}
        self._missing_units: dict[NodeId, set[tuple[str, str]]] = {}
        self._silent: dict[NodeId, str] = {}

    async def about(
        self, nodes: set[NodeId], bridges: frozenset[str], units: frozenset[tuple[str, str]]
    ) -> None:
        """Ask all nodes about all of this."""
        chosen = [self._ctx.cluster.nodes[node] for node in sorted(nodes)]
        if bridges:
            call = BridgesExist(bridges=tuple(sorted(bridges)))
            for node, outcome in (await self._ctx.nodes.each(chosen, call)).items():
                match outcome:
                    case NodeFailed(error=NodeError()) as failed:
                        self._silent[node] = failed.reason
                    case NodeFailed():
                        await self._which_bridge(node, bridges)
        for kind, name in sorted(units):
            question = NodeInfo(storage_units={kind: name})
            for node, answer in (await self._ctx.nodes.each(chosen, question)).items():
                match answer:
                    case Answer(value):
                        if all(unit.storage_free is None for unit in value.storage):
                            self._missing_units.setdefault(node, set()).add((kind, name))
                    case NodeFailed() as failed:
                        self._silent[node] = failed.reason

    async def _which_bridge(self, node: NodeId, bridges: frozenset[str]) -> None:
        """A node said that not all are there: ask for each."""
        for bridge in sorted(bridges):
            try:
                await self._ctx.nodes.call(self._ctx.cluster.nodes[node], BridgesExist(bridges=(bridge,)))
            except GanetiError:
                self._missing_bridges.setdefault(node, set()).add(bridge)

    def lacking(self, node: NodeId, needs: InstanceNeeds) -> list[str]:
        """What a node lacks."""
        name = self._ctx.cluster.nodes[node].name
        if node in self._silent:
            return [f"node {name} does not tell what it has: {self._silent[node]}"]
        bridges = sorted(needs.bridges & self._missing_bridges.get(node, set()))
        units = sorted(needs.storage & self._missing_units.get(node, set()))
        return [
            *(f"node {name} has no bridge {bridge}" for bridge in bridges),
            *(f"node {name} has no {_kind(kind)} {unit}" for kind, unit in units),
        ]


async def _unreachable_disks(ctx: Context, moves: Sequence[PlannedMove]) -> Mapping[str, str]:
    """For each instance whose disks are not copied, those that its new node does not reach."""
    cluster = ctx.cluster
    asked = await ctx.in_thread(partial(_disks_by_node, cluster, moves))
    calls = [(cluster.nodes[node], FindDisks(disks=tuple(disks.values()))) for node, disks in asked.items()]
    found: dict[str, str] = {}
    for node, outcome in (await ctx.nodes.each_own(calls)).items():
        name = cluster.nodes[node].name
        match outcome:
            case Answer(states):
                for (instance, index), state in zip(asked[node], states):
                    if state.missing:
                        found.setdefault(
                            instance,
                            f"node {name} does not reach disk {index} "
                            "(its group does not share that storage)",
                        )
            case NodeFailed() as failed:
                reason = f"node {name} does not tell whether it reaches the disks: {failed.reason}"
                found.update((instance, reason) for instance, _ in asked[node])
    return found


def _disks_by_node(
    cluster: Cluster, moves: Sequence[PlannedMove]
) -> Mapping[NodeId, Mapping[tuple[str, int], Disk]]:
    """Disks by the new node of their instance, with its name and their index."""
    found: dict[NodeId, dict[tuple[str, int], Disk]] = {}
    for move in moves:
        node = move.target[0]
        for index, disk in enumerate(cluster.disks_of(cluster.instance(move.instance))):
            found.setdefault(node, {})[move.instance, index] = fill_disk(cluster, disk, node)
    return found


def _needs(cluster: Cluster, moves: Sequence[PlannedMove]) -> Mapping[str, InstanceNeeds]:
    return {move.instance: needs_of(cluster, cluster.instance(move.instance)) for move in moves}


def _new_nodes(move: PlannedMove) -> list[NodeId]:
    return [node for node in move.target if node not in move.source]


def _kind(storage_type: str) -> str:
    return "volume group" if storage_type == "lvm-vg" else f"storage directory ({storage_type})"

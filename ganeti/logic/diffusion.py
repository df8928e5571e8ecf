"""Which nodes get files from the master, and which through another node of their group. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import msgspec

from ganeti.model.ids import GroupId, NodeId
from ganeti.model.node import Node

MIN_BYTES = 16 * 1024
"""Shorter messages go to each node directly: that is quicker than the connections that nodes would have to
make to each other, and the master has little to send (`bin/bench diffusion`, docs/adr/0007)."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One node that brings something to others of its group."""

    relay: Node
    others: tuple[Node, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Ways to all nodes."""

    direct: tuple[Node, ...]
    routes: tuple[Route, ...] = ()


def ways(
    nodes: Iterable[Node],
    *,
    min_nodes: int,
    size: int,
    turn: int,
    is_connected: Callable[[Node], bool],
    may_relay: Callable[[Node], bool],
) -> Plan:
    """How a message of some size reaches nodes.

    Nodes without a connection get it directly, as they could not prove that they have it; so do
    groups with too few of the others, and the only group. The one that spreads is another with every
    turn, so that no node is in the way of its neighbours for long.

    Args:
        nodes: all that are to have it.
        min_nodes: from how many on a group spreads it itself; 0: none does.
        size: of the message, bytes.
        turn: number of the message.
        is_connected: whether there is a connection to a node.
        may_relay: whether such a node can be asked to spread.
    """
    found = tuple(nodes)
    if min_nodes < 1 or size < MIN_BYTES:
        return Plan(direct=found)
    groups: dict[GroupId, list[Node]] = defaultdict(list)
    for node in found:
        if is_connected(node):
            groups[node.group].append(node)
    if len(groups) < 2:
        return Plan(direct=found)
    routes = []
    for members in groups.values():
        fit = sorted((node for node in members if may_relay(node)), key=lambda node: node.uuid)
        if len(members) < max(2, min_nodes) or not fit:
            continue
        relay = fit[turn % len(fit)]
        routes.append(Route(relay=relay, others=tuple(node for node in members if node is not relay)))
    on_a_route: set[NodeId] = {node.uuid for route in routes for node in (route.relay, *route.others)}
    return Plan(direct=tuple(node for node in found if node.uuid not in on_a_route), routes=tuple(routes))

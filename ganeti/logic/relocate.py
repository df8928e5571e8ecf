"""Another secondary for a mirrored instance, another primary for one on shared storage."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ganeti.errors import AllocatorError
from ganeti.logic.constraints import Shortfall, primary_problem, secondary_problem
from ganeti.logic.node_figures import backend_reader, disk_space, traits_of
from ganeti.logic.node_state import Demand, NodeState, demand_of_instance
from ganeti.logic.pair_search import Search
from ganeti.logic.placement import Scene
from ganeti.logic.placement_tags import tag_rules
from ganeti.logic.score import ClusterScore
from ganeti.logic.shortage import no_target
from ganeti.model.allocation import AllocateSecondary, Placement, Relocate, Solution
from ganeti.model.cluster import Cluster
from ganeti.model.disk import DiskTemplate, Mirroring
from ganeti.model.instance import Instance


def relocate(request: Relocate, scene: Scene, *, is_strict: bool = True) -> Solution:
    """The node of the instance's group after which the group's score is lowest.

    Args:
        request: which instance leaves which node.
        scene: the cluster.
        is_strict: soft rules count; never when the instance has to leave a node that is down.

    Raises:
        AllocatorError: the instance cannot be relocated, or not from there.
    """
    cluster = scene.cluster
    instance = cluster.instance(request.instance)
    backend = backend_reader(cluster.settings)(instance)
    demand = demand_of_instance(instance, cluster, backend, tag_rules(cluster))
    is_mirrored = _check(cluster, instance, demand, request)
    home = instance.primary_node
    old = next(state for state in scene.states if state.node == request.relocate_from[0])
    emptied = old.without_secondary(demand, home) if is_mirrored else old.without_primary(demand)
    # Of an instance that is split between two groups the mirror comes to where it runs (S2.3-013).
    home_group = cluster.nodes[home].group if is_mirrored else old.group
    group = [state for state in scene.changed(emptied).states if state.group == home_group]
    online = [state for state in group if state.is_online]
    allowed: list[int] = []
    rejections: list[tuple[NodeState, Shortfall]] = []
    for index, state in enumerate(online):
        if not scene.may_use(state) or state.node in (old.node, home):
            continue
        problem = (
            secondary_problem(state, demand, home, is_strict=is_strict and old.is_online)
            if is_mirrored
            else primary_problem(state, demand, is_strict=is_strict and old.is_online)
        )
        if problem is None:
            allowed.append(index)
        else:
            rejections.append((state, problem))
    if not allowed:
        return no_target(scene, instance.name, rejections)
    best = _best(demand, group, online, allowed, instance if is_mirrored else None)
    placement = Placement(instance=instance.name, nodes=(best.node,))
    return Solution(placements=(placement,), info=f"{instance.name} moves from {old.name} to {best.name}")


def allocate_secondary(request: AllocateSecondary, scene: Scene) -> Solution:
    """The node of the instance's group for a mirror after which the group's score is lowest.

    The instance is looked at as if it were mirrored already, so that its metadata count, too.

    Raises:
        AllocatorError: it has a mirror, or disks of a kind that cannot get one.
    """
    cluster = scene.cluster
    instance = cluster.instance(request.instance)
    template = cluster.disk_template(instance)
    if cluster.secondary_nodes(instance):
        raise AllocatorError(f"instance {instance.name} has a secondary node already")
    if template != DiskTemplate.PLAIN:
        raise AllocatorError(
            f"instance {instance.name} has {template} disks; only plain ones can get a mirror later"
        )
    backend = backend_reader(cluster.settings)(instance)
    demand = demand_of_instance(instance, cluster, backend, tag_rules(cluster))
    mirrored = msgspec.structs.replace(
        demand,
        template=DiskTemplate.DRBD.value,
        nodes_needed=2,
        disk=disk_space(DiskTemplate.DRBD, demand.disk_sizes),
    )
    home = next(state for state in scene.states if state.node == instance.primary_node)
    group = [state for state in scene.states if state.group == home.group]
    allowed: list[int] = []
    rejections: list[tuple[NodeState, Shortfall]] = []
    online = [state for state in group if state.is_online]
    for index, state in enumerate(online):
        if not scene.may_use(state) or state.node == home.node:
            continue
        problem = secondary_problem(state, mirrored, home.node)
        if problem is None:
            allowed.append(index)
        else:
            rejections.append((state, problem))
    if not allowed:
        return no_target(scene, instance.name, rejections)
    best = _best(mirrored, group, online, allowed, instance)
    placement = Placement(instance=instance.name, nodes=(best.node,))
    return Solution(placements=(placement,), info=f"the mirror of {instance.name} goes to {best.name}")


def _best(
    demand: Demand,
    group: Sequence[NodeState],
    online: Sequence[NodeState],
    allowed: Sequence[int],
    mirrored: Instance | None,
) -> NodeState:
    """The node with the best score; of equal ones the last.

    All allowed nodes are compared exactly: there the mirrors that a node has of the same primary
    already change what it must keep free.
    """
    score = ClusterScore(group)
    if mirrored is None:
        allowed = Search(online, demand).best_single(allowed)
    best: tuple[float, NodeState] | None = None
    for index in sorted(allowed, reverse=True):
        state = online[index]
        if mirrored is not None:
            changed = state.with_secondary(demand, mirrored.primary_node)
        else:
            changed = state.with_primary(demand)
        value = score.after(state, changed).value
        if best is None or value < best[0]:
            best = (value, state)
    assert best is not None
    return best[1]


def _check(cluster: Cluster, instance: Instance, demand: Demand, request: Relocate) -> bool:
    """Whether it is about the secondary node."""
    mirroring = traits_of(demand.template).mirroring
    if mirroring is Mirroring.NONE:
        raise AllocatorError(
            f"instance {instance.name} cannot be relocated: its {demand.template} disks are on one node only"
        )
    is_mirrored = mirroring is Mirroring.INTERNAL
    expected = cluster.secondary_nodes(instance) if is_mirrored else (instance.primary_node,)
    if len(expected) != 1 or request.relocate_from != expected:
        role = "secondary" if is_mirrored else "primary"
        raise AllocatorError(f"instance {instance.name} can only be relocated from its {role} node")
    return is_mirrored

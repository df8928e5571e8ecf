"""Takes instances off nodes, inside their group (iallocator.md sections 3.1 and 6.5).

Instances are handled in the order of the request; each sees the moves of those before it, and one that
cannot go does not stop the others. Who does what comes out as opcodes.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ganeti.logic.constraints import primary_problem
from ganeti.logic.node_figures import backend_reader, traits_of
from ganeti.logic.node_state import Demand, NodeState, demand_of_instance, exclusion_prefixes
from ganeti.logic.placement import Scene, best_pair
from ganeti.logic.relocate import relocate
from ganeti.model.allocation import Evacuate, EvacuationMode, Placement, Relocate, Solution
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Mirroring
from ganeti.model.ids import NodeId
from ganeti.model.instance import Instance

Opcode = Mapping[str, object]


class _Move(msgspec.Struct, frozen=True, kw_only=True):
    """How one instance leaves."""

    nodes: tuple[NodeId, ...]
    """Where it is afterwards, primary first."""
    opcodes: tuple[Opcode, ...]


class _Stuck(Exception):
    """An instance cannot leave; the text says why."""


def evacuate(request: Evacuate, scene: Scene) -> Solution:
    """A job for each instance that can leave, and reasons for the others."""
    solution = Solution()
    for name in request.instances:
        instance = scene.cluster.instance(name)
        try:
            move = _move(request, scene, instance)
        except _Stuck as stuck:
            solution = msgspec.structs.replace(
                solution, failed=(*solution.failed, (instance.name, str(stuck)))
            )
            continue
        scene = moved_to(scene, instance, move.nodes)
        solution = msgspec.structs.replace(
            solution,
            placements=(*solution.placements, Placement(instance=instance.name, nodes=move.nodes)),
            jobs=(*solution.jobs, move.opcodes),
        )
    info = f"{len(solution.placements)} instances move, {len(solution.failed)} cannot"
    return msgspec.structs.replace(solution, info=info)


def _move(request: Evacuate, scene: Scene, instance: Instance) -> _Move:
    cluster, mode, is_strict = scene.cluster, request.mode, not request.ignore_soft_errors
    template = cluster.disk_template(instance)
    mirroring = traits_of(template).mirroring
    is_down = cluster.nodes[instance.primary_node].offline
    if mirroring is Mirroring.NONE:
        raise _Stuck(f"its {template} disks are on one node only: it can be moved, but not evacuated")
    if mirroring is Mirroring.EXTERNAL:
        if mode is EvacuationMode.SECONDARY_ONLY:
            raise _Stuck(f"with disks of template {template} it has no secondary node")
        target = _relocated(scene, instance, instance.primary_node, is_strict=is_strict)
        return _Move(nodes=(target,), opcodes=(_leave(cluster, instance, target, is_down=is_down),))
    (secondary,) = cluster.secondary_nodes(instance)
    match mode:
        case EvacuationMode.SECONDARY_ONLY:
            target = _relocated(scene, instance, secondary, is_strict=is_strict)
            return _Move(
                nodes=(instance.primary_node, target), opcodes=(_replace(cluster, instance, target),)
            )
        case EvacuationMode.PRIMARY_ONLY:
            _check_swap(scene, instance, secondary, is_strict=is_strict)
            nodes = (secondary, instance.primary_node)
            return _Move(nodes=nodes, opcodes=(_leave(cluster, instance, None, is_down=is_down),))
    return _both(scene, instance, is_strict=is_strict)


def _relocated(scene: Scene, instance: Instance, leaving: NodeId, *, is_strict: bool) -> NodeId:
    """The best other node for one end of an instance."""
    found = relocate(Relocate(instance=instance.name, relocate_from=(leaving,)), scene, is_strict=is_strict)
    if found.failed:
        raise _Stuck(found.failed[0][1])
    return found.placements[0].nodes[0]


def _check_swap(scene: Scene, instance: Instance, secondary: NodeId, *, is_strict: bool) -> None:
    """Whether the secondary can run the instance."""
    demand = _demand(scene.cluster, instance)
    state = _state(scene, secondary)
    is_strict = is_strict and _state(scene, instance.primary_node).is_online
    problem = primary_problem(
        state.without_secondary(demand, instance.primary_node), demand, is_strict=is_strict
    )
    if not state.is_online:
        raise _Stuck(f"its secondary node {state.name} cannot be used")
    if problem is not None:
        raise _Stuck(f"its secondary node {state.name} cannot run it: {problem.text}")


def _both(scene: Scene, instance: Instance, *, is_strict: bool) -> _Move:
    """Two new nodes: the mirror goes to the new primary, the instance follows, then its mirror."""
    cluster = scene.cluster
    demand = _demand(cluster, instance)
    (secondary,) = cluster.secondary_nodes(instance)
    primary = _state(scene, instance.primary_node)
    left = scene.changed(
        primary.without_primary(demand), _state(scene, secondary).without_secondary(demand, primary.node)
    )
    # Away from a node that is down an instance goes where it breaks a soft rule.
    is_strict = is_strict and primary.is_online and _state(scene, secondary).is_online
    old = frozenset((primary.node, secondary))
    pair = best_pair(left, demand, primary.group, without=old, is_strict=is_strict)
    if pair is None:
        raise _Stuck(f"no two other nodes of group {cluster.groups[primary.group].name} can take it")
    first, second = pair
    steps: tuple[Opcode, ...] = (
        _replace(cluster, instance, first),
        _leave(cluster, instance, None, is_down=False),
        _replace(cluster, instance, second),
    )
    if cluster.nodes[primary.node].offline:
        # It has to be brought away before its mirror can be made anew.
        steps = (_leave(cluster, instance, None, is_down=True), *steps)
    return _Move(nodes=pair, opcodes=steps)


def moved_to(scene: Scene, instance: Instance, nodes: tuple[NodeId, ...]) -> Scene:
    """The scene with an instance on other nodes."""
    demand = _demand(scene.cluster, instance)
    old = (instance.primary_node, *scene.cluster.secondary_nodes(instance))
    scene = scene.changed(_state(scene, old[0]).without_primary(demand))
    for node in old[1:]:
        scene = scene.changed(_state(scene, node).without_secondary(demand, old[0]))
    partner = nodes[1] if len(nodes) > 1 else None
    scene = scene.changed(_state(scene, nodes[0]).with_primary(demand, partner))
    if partner is not None:
        scene = scene.changed(_state(scene, partner).with_secondary(demand, nodes[0]))
    return scene


def _state(scene: Scene, node: NodeId) -> NodeState:
    return next(state for state in scene.states if state.node == node)


def _demand(cluster: Cluster, instance: Instance) -> Demand:
    backend = backend_reader(cluster.settings)(instance)
    return demand_of_instance(instance, cluster, backend, exclusion_prefixes(cluster))


def _leave(cluster: Cluster, instance: Instance, target: NodeId | None, *, is_down: bool) -> Opcode:
    """Bring an instance to its other node, or to a target: live, unless its node is down."""
    where = {} if target is None else {"target_node": cluster.nodes[target].name}
    if is_down:
        return {"OP_ID": "OP_INSTANCE_FAILOVER", "instance_name": instance.name, **where}
    return {
        "OP_ID": "OP_INSTANCE_MIGRATE",
        "instance_name": instance.name,
        "allow_failover": True,
        **where,
    }


def _replace(cluster: Cluster, instance: Instance, secondary: NodeId) -> Opcode:
    return {
        "OP_ID": "OP_INSTANCE_REPLACE_DISKS",
        "instance_name": instance.name,
        "mode": "replace_new_secondary",
        "remote_node": cluster.nodes[secondary].name,
        "disks": [],
        "early_release": False,
    }

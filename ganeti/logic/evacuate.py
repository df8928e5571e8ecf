"""Takes instances off nodes inside their group, or into other groups (iallocator.md sections 3.1 and 6.5).

Instances are handled in the order of the request; each sees the moves of those before it, and one that
cannot go does not stop the others. Who does what comes out as opcodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ganeti.logic.constraints import primary_problem
from ganeti.logic.group_moves import is_local, why_not_copied
from ganeti.logic.move_opcodes import Opcode, copy_to, leave, replace_secondary
from ganeti.logic.node_figures import backend_reader, traits_of
from ganeti.logic.node_state import Demand, NodeState, demand_of_instance
from ganeti.logic.pair_search import Search
from ganeti.logic.placement import Scene, best_group, best_nodes, occupied
from ganeti.logic.placement_tags import tag_rules
from ganeti.logic.relocate import relocate
from ganeti.logic.score import ClusterScore
from ganeti.model.allocation import (
    ChangeGroup,
    Evacuate,
    EvacuationMode,
    InstanceRequest,
    Placement,
    Relocate,
    Solution,
)
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Mirroring
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.instance import Instance
from ganeti.model.spec import NicSpec


class _Move(msgspec.Struct, frozen=True, kw_only=True):
    """How one instance leaves."""

    nodes: tuple[NodeId, ...]
    """Where it is afterwards, primary first."""
    opcodes: tuple[Opcode, ...]


class _Stuck(Exception):
    """An instance cannot leave; the text says why."""


def evacuate(request: Evacuate, scene: Scene) -> Solution:
    """A job for each instance that can leave its node, and reasons for the others."""
    return _each(request.instances, scene, lambda scene, instance: _move(request, scene, instance))


def change_group(request: ChangeGroup, scene: Scene) -> Solution:
    """A job for each instance that can go into one of the groups, and reasons for the others.

    No groups mean all others; those in which one of the instances is are none of them.
    """
    cluster = scene.cluster
    homes = {
        cluster.nodes[node].group
        for name in request.instances
        for node in cluster.nodes_of(cluster.instance(name))
    }
    targets = [group for group in request.target_groups or tuple(cluster.groups) if group not in homes]
    return _each(
        request.instances,
        scene,
        lambda scene, instance: _into_group(
            scene, instance, frozenset(targets), allow_downtime=request.allow_downtime
        ),
    )


def _each(names: Sequence[str], scene: Scene, move_of: Callable[[Scene, Instance], _Move]) -> Solution:
    solution = Solution()
    for name in names:
        instance = scene.cluster.instance(name)
        try:
            move = move_of(scene, instance)
        except _Stuck as stuck:
            failed = (*solution.failed, (instance.name, str(stuck)))
            solution = msgspec.structs.replace(solution, failed=failed)
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
        raise _Stuck(
            f"its {template} disks are on one node only: it cannot be evacuated, but 'gnt-instance move' "
            "stops it and copies them"
        )
    if mirroring is Mirroring.EXTERNAL:
        if mode is EvacuationMode.SECONDARY_ONLY:
            raise _Stuck(f"with disks of template {template} it has no secondary node")
        target = _relocated(scene, instance, instance.primary_node, is_strict=is_strict)
        return _Move(nodes=(target,), opcodes=(leave(cluster, instance, target, is_down=is_down),))
    (secondary,) = cluster.secondary_nodes(instance)
    match mode:
        case EvacuationMode.SECONDARY_ONLY:
            target = _relocated(scene, instance, secondary, is_strict=is_strict)
            return _Move(
                nodes=(instance.primary_node, target), opcodes=(replace_secondary(cluster, instance, target),)
            )
        case EvacuationMode.PRIMARY_ONLY:
            _check_swap(scene, instance, secondary, is_strict=is_strict)
            nodes = (secondary, instance.primary_node)
            return _Move(nodes=nodes, opcodes=(leave(cluster, instance, None, is_down=is_down),))
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


def _check_way_out(scene: Scene, instance: Instance) -> None:
    """Whether a mirrored instance whose node is down can be started on its secondary first."""
    secondaries = scene.cluster.secondary_nodes(instance)
    if secondaries and scene.cluster.nodes[instance.primary_node].offline:
        _check_swap(scene, instance, secondaries[0], is_strict=False)


def _both(scene: Scene, instance: Instance, *, is_strict: bool) -> _Move:
    """Two new nodes in the same group."""
    cluster = scene.cluster
    demand = _demand(cluster, instance)
    old = [_state(scene, node) for node in cluster.nodes_of(instance)]
    # Away from a node that is down an instance goes where it breaks a soft rule.
    is_strict = is_strict and all(state.is_online for state in old)
    nodes = best_nodes(
        _without(scene, instance),
        _arriving(cluster, instance, demand),
        old[0].group,
        without=frozenset(state.node for state in old),
        is_strict=is_strict,
    )
    _check_way_out(scene, instance)
    if nodes is None:
        raise _Stuck(f"no two other nodes of group {cluster.groups[old[0].group].name} can take it")
    return _Move(nodes=nodes, opcodes=journey(cluster, instance, nodes))


def _into_group(
    scene: Scene, instance: Instance, targets: frozenset[GroupId], *, allow_downtime: bool
) -> _Move:
    """The best place in one of the groups; in `last_resort` ones only if there is no other."""
    cluster = scene.cluster
    if is_local(cluster, instance):
        problem = why_not_copied(cluster, instance, allow_downtime=allow_downtime)
        if problem is not None:
            raise _Stuck(problem)
    demand, wanted = _demand(cluster, instance), _request(cluster, instance)
    left = _without(scene, instance)
    online = [state for state in left.states if state.is_online]
    search = Search(online, _arriving(cluster, instance, demand))
    choice = best_group(left, search, ClusterScore(left.states), wanted, targets)
    if choice is not None:
        _check_way_out(scene, instance)
        nodes = tuple(state.node for state in choice.nodes)
        return _Move(nodes=nodes, opcodes=journey(cluster, instance, nodes))
    names = ", ".join(sorted(cluster.groups[group].name for group in targets)) or "none"
    raise _Stuck(f"no node of the groups it may go to ({names}) can take it")


def journey(cluster: Cluster, instance: Instance, nodes: tuple[NodeId, ...]) -> tuple[Opcode, ...]:
    """Opcodes that bring an instance to new nodes.

    Of a mirrored instance the mirror goes first, then it follows, then its new mirror (S2.3-017). One whose
    disks are on one node only is stopped and copied (S2.3-033).
    """
    if is_local(cluster, instance):
        return (copy_to(cluster, instance, nodes[0]),)
    is_down = cluster.nodes[instance.primary_node].offline
    if len(nodes) == 1:
        return (leave(cluster, instance, nodes[0], is_down=is_down),)
    first, second = nodes
    steps = (
        replace_secondary(cluster, instance, first),
        leave(cluster, instance, None, is_down=False),
        replace_secondary(cluster, instance, second),
    )
    # From a node that is down it has to be brought away before its mirror can be made anew.
    return (leave(cluster, instance, None, is_down=True), *steps) if is_down else steps


def _without(scene: Scene, instance: Instance) -> Scene:
    """The scene without an instance."""
    demand = _demand(scene.cluster, instance)
    primary = instance.primary_node
    scene = scene.changed(_state(scene, primary).without_primary(demand))
    for node in scene.cluster.secondary_nodes(instance):
        scene = scene.changed(_state(scene, node).without_secondary(demand, primary))
    return scene


def moved_to(scene: Scene, instance: Instance, nodes: tuple[NodeId, ...]) -> Scene:
    """The scene with an instance on other nodes."""
    demand = _demand(scene.cluster, instance)
    scene = _without(scene, instance)
    return scene.changed(*occupied([_state(scene, node) for node in nodes], demand))


def _state(scene: Scene, node: NodeId) -> NodeState:
    return next(state for state in scene.states if state.node == node)


def _demand(cluster: Cluster, instance: Instance) -> Demand:
    backend = backend_reader(cluster.settings)(instance)
    return demand_of_instance(instance, cluster, backend, tag_rules(cluster))


def _arriving(cluster: Cluster, instance: Instance, demand: Demand) -> Demand:
    """What an instance asks of new nodes; one whose node is down comes from its mirror."""
    secondaries = cluster.secondary_nodes(instance)
    if not secondaries or not cluster.nodes[instance.primary_node].offline:
        return demand
    tags = tag_rules(cluster).migration_tags(cluster.nodes[secondaries[0]].tags)
    return msgspec.structs.replace(demand, migration_tags=tags)


def _request(cluster: Cluster, instance: Instance) -> InstanceRequest:
    """What a group would be asked for if the instance were new."""
    backend = backend_reader(cluster.settings)(instance)
    return InstanceRequest(
        name=instance.name,
        memory=backend.maxmem,
        vcpus=backend.vcpus,
        disks=tuple(disk.size for disk in cluster.disks_of(instance)),
        disk_template=cluster.disk_template(instance),
        hypervisor=instance.hypervisor,
        nics=tuple(NicSpec(network=nic.network) for nic in instance.nics),
        spindle_use=backend.spindle_use,
    )

"""Answers of the built-in allocator: new instances, and another node for an existing one.

The deciding is done in `placement` (new instances) and `relocate`; here requests become scenes and
choices become solutions.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ganeti.errors import AllocatorError
from ganeti.logic.capacity import capacities
from ganeti.logic.evacuate import change_group, evacuate
from ganeti.logic.node_figures import Question, question_of, traits_of
from ganeti.logic.node_state import Demand, demand_of_request, node_states
from ganeti.logic.placement import Choice, Scene, occupied, place
from ganeti.logic.relocate import allocate_secondary, relocate
from ganeti.logic.shortage import explain
from ganeti.model.allocation import (
    Allocate,
    AllocateSecondary,
    AllocationRequest,
    Capacity,
    ChangeGroup,
    ClusterView,
    Evacuate,
    InstanceRequest,
    MultiAllocate,
    Placement,
    Relocate,
    Solution,
)
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId


def solve(request: AllocationRequest, view: ClusterView) -> Solution:
    """Answer a request.

    Raises:
        AllocatorError: it is of a kind that is not answered here.
        PrereqError: unknown instance or network.
    """
    match request:
        case Allocate():
            return _allocate(view, (request.instance,))
        case MultiAllocate():
            return _allocate(view, request.instances)
        case Relocate():
            return relocate(request, scene_of(view, question_of(request, view.cluster)))
        case AllocateSecondary():
            return allocate_secondary(request, scene_of(view, question_of(request, view.cluster)))
        case ChangeGroup():
            return change_group(request, scene_of(view, question_of(request, view.cluster)))
        case Evacuate():
            return evacuate(request, scene_of(view, question_of(request, view.cluster)))
        case Capacity():
            return Solution(capacity=capacities(request, view))
    kind = request.__struct_config__.tag
    raise AllocatorError(f"the built-in allocator does not answer requests of the kind {kind}")


Placed = tuple[Demand, tuple[NodeId, ...]]
"""An instance and where it was put."""


def scene_of(view: ClusterView, question: Question, placed: Sequence[Placed] = ()) -> Scene:
    """The cluster as placement sees it, with instances that were placed meanwhile."""
    scene = Scene(cluster=view.cluster, states=node_states(view, question), candidates=view.candidates)
    storage = traits_of(question.template).storage_type
    for demand, nodes in placed:
        if traits_of(demand.template).storage_type != storage:
            demand = msgspec.structs.replace(demand, disk=0)
        by_node = {state.node: state for state in scene.states}
        scene = scene.changed(*occupied([by_node[node] for node in nodes], demand))
    return scene


def _allocate(view: ClusterView, requests: Sequence[InstanceRequest]) -> Solution:
    """Place instances, each as if the ones before were there already."""
    solution = Solution()
    placed: list[Placed] = []
    scene: Scene | None = None
    asked: Question | None = None
    for request in requests:
        question = question_of(Allocate(instance=request), view.cluster)
        if scene is None or question != asked:
            scene, asked = scene_of(view, question, placed), question
        choice = place(scene, request)
        if choice is None:
            solution = _failed(solution, scene, request)
            continue
        nodes = tuple(state.node for state in choice.nodes)
        placed.append((demand_of_request(request, view.cluster), nodes))
        scene = scene.changed(*choice.nodes)
        solution = msgspec.structs.replace(
            solution,
            placements=(*solution.placements, Placement(instance=request.name, nodes=nodes)),
            info=_described(view.cluster, choice),
        )
    return solution


def _failed(solution: Solution, scene: Scene, request: InstanceRequest) -> Solution:
    shortage = explain(scene, request)
    return msgspec.structs.replace(
        solution,
        failed=(*solution.failed, (request.name, shortage.text)),
        rejections=shortage.rejections,
        info=shortage.text,
    )


def _described(cluster: Cluster, choice: Choice) -> str:
    names = " and ".join(state.name for state in choice.nodes)
    group = cluster.groups[choice.group].name
    return f"{names} in group {group}; cluster score {choice.score:.8f}, before {choice.score_before:.8f}"

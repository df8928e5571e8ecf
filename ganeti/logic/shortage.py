"""Why an instance fits nowhere: the reason on each node, and the smallest change that would help."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import msgspec

from ganeti.logic.constraints import Shortfall, primary_problem, secondary_problem
from ganeti.logic.node_state import Demand, NodeState, demand_of_request
from ganeti.logic.placement import (
    TIERS,
    Scene,
    allowed_groups,
    group_problem,
    keeps_redundancy,
    occupied,
    usable_primaries,
    usable_secondaries,
)
from ganeti.model.allocation import InstanceRequest, Rejection, Solution

SHOWN = 10
"""Nodes named one by one in a message; the rest is counted."""

SECONDARIES_TRIED = 3
"""Secondaries looked at for each primary when a change of the instance is tried."""


class Shortage(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing fits."""

    text: str
    rejections: tuple[Rejection, ...]


def explain(scene: Scene, request: InstanceRequest) -> Shortage:
    """Why an instance that has no place fits on none of the nodes it might use."""
    demand = demand_of_request(request, scene.cluster)
    rejections = tuple(_rejections(scene, request, demand))
    lines = [f"no place for instance {request.name}, which needs {_size(demand)}"]
    lines += _listed(scene, rejections)
    changes = _helpful_changes(scene, request)
    if changes:
        lines.append(f"it would fit with {', or with '.join(changes)}")
    lines += _drained_that_would_do(scene, request, demand)
    return Shortage(text="\n".join(lines), rejections=rejections)


def no_target(scene: Scene, name: str, problems: Sequence[tuple[NodeState, Shortfall]]) -> Solution:
    """The answer when no node of its group can take over an existing instance."""
    rejections = tuple(Rejection(node=state.node, reason=problem.text) for state, problem in problems)
    lines = [f"no other node of its group can take instance {name}", *_listed(scene, rejections)]
    text = "\n".join(lines)
    return Solution(failed=((name, text),), rejections=rejections, info=text)


def _size(demand: Demand) -> str:
    parts = [f"{demand.memory} MiB of memory", f"{demand.vcpus} virtual processors"]
    if demand.is_local:
        parts.append(f"{demand.disk} MiB of {demand.template} disk")
    where = " (the disk on two nodes of one group)" if demand.nodes_needed > 1 else ""
    return ", ".join(parts) + where


def _listed(scene: Scene, rejections: Sequence[Rejection]) -> list[str]:
    if not rejections:
        return ["there is no node that it could use"]
    lines = [f"{scene.cluster.nodes[one.node].name}: {one.reason}" for one in rejections[:SHOWN]]
    if len(rejections) > SHOWN:
        lines.append(f"and {len(rejections) - SHOWN} other nodes")
    return lines


def _rejections(scene: Scene, request: InstanceRequest, demand: Demand) -> Iterator[Rejection]:
    for state in scene.states:
        if scene.candidates is not None and state.node not in scene.candidates:
            continue
        if not request.may_enter(state.group):
            continue
        yield Rejection(node=state.node, reason=_reason(scene, state, request, demand))


def _reason(scene: Scene, state: NodeState, request: InstanceRequest, demand: Demand) -> str:
    if not state.is_online:
        return _condition(scene, state)
    problem = group_problem(scene.cluster, state.group, request, demand)
    if problem is not None:
        return problem.text
    problem = primary_problem(state, demand)
    if demand.nodes_needed == 1:
        return problem.text if problem is not None else _not_redundant(scene, state, demand)
    mirror = secondary_problem(state, demand)
    if problem is None and mirror is None:
        return "could take it, but no second node of its group could"
    if problem is None and mirror is not None:
        return f"could run it, but not mirror it for another node: {mirror.text}"
    assert problem is not None
    return problem.text if mirror is not None else f"could mirror it, but not run it: {problem.text}"


def _condition(scene: Scene, state: NodeState) -> str:
    node = scene.cluster.nodes[state.node]
    if node.offline:
        return "is marked offline"
    if not node.vm_capable:
        return "is not for instances (vm_capable is no)"
    return "is drained" if node.drained else "gave no usable answer about its resources"


def _not_redundant(scene: Scene, state: NodeState, demand: Demand) -> str:
    stranded = keeps_redundancy(_online_members(scene, state), state.with_primary(demand))
    if stranded is None:
        return "could take it, but the rules of its group forbid it"
    return f"the instances of {stranded.name} could not all be restarted elsewhere any more if it failed"


def _online_members(scene: Scene, of: NodeState) -> list[NodeState]:
    return [state for state in scene.states if state.is_online and state.group == of.group]


def _is_placeable(scene: Scene, request: InstanceRequest) -> bool:
    """Whether an instance fits anywhere; quicker than looking for the best place."""
    demand = demand_of_request(request, scene.cluster)
    for tier in TIERS:
        for group in allowed_groups(scene.cluster, request, demand, tier):
            states = [state for state in scene.states if state.group == group]
            members = [index for index, state in enumerate(states) if scene.may_use(state)]
            if _fits_group(states, members, demand):
                return True
    return False


def _fits_group(states: Sequence[NodeState], members: Sequence[int], demand: Demand) -> bool:
    online = [state for state in states if state.is_online]
    seconds = usable_secondaries(states, members, demand) if demand.nodes_needed > 1 else []
    for first in usable_primaries(states, members, demand):
        if any(
            keeps_redundancy(online, *occupied(places, demand)) is None
            for places in _places(states, first, seconds, demand)
        ):
            return True
    return False


def _places(
    states: Sequence[NodeState], first: int, seconds: Sequence[int], demand: Demand
) -> Iterator[list[NodeState]]:
    """Places with this primary; of many secondaries some, as redundancy hardly depends on them."""
    home = states[first]
    if demand.nodes_needed == 1:
        yield [home]
        return
    allowed = (
        states[second]
        for second in seconds
        if second != first and secondary_problem(states[second], demand, home.node) is None
    )
    for mirror in islice(allowed, SECONDARIES_TRIED):
        yield [home, mirror]


def _helpful_changes(scene: Scene, request: InstanceRequest) -> list[str]:
    """Single changes of the instance after which it would fit, each as small as possible."""
    changes = []
    for one in _reductions(scene, request):
        largest = _largest(one.current, one.least, one.is_enough)
        if largest is not None:
            changes.append(one.words.format(one.current - largest))
    untagged = msgspec.structs.replace(request, tags=())
    if request.tags and not changes and _is_placeable(scene, untagged):
        changes.append("other exclusive tags")
    return changes


class _Reduction(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of the instance that can be made smaller."""

    words: str
    current: int
    least: int
    is_enough: Callable[[int], bool]
    """Whether the instance would fit with this value."""


def _reductions(scene: Scene, request: InstanceRequest) -> Iterator[_Reduction]:
    groups = scene.cluster.groups
    least = [allowed.min for group in groups for allowed in scene.cluster.policy_of(group).minmax]

    def fits(changed: InstanceRequest) -> bool:
        return _is_placeable(scene, changed)

    yield _Reduction(
        words="{} MiB less memory",
        current=request.memory,
        least=min((spec.memory_size for spec in least), default=1),
        is_enough=lambda value: fits(msgspec.structs.replace(request, memory=value)),
    )
    if request.disks:
        place = request.disks.index(max(request.disks))
        before, after = request.disks[:place], request.disks[place + 1 :]
        yield _Reduction(
            words=f"{{}} MiB less on disk {place}",
            current=request.disks[place],
            least=min((spec.disk_size for spec in least), default=1),
            is_enough=lambda value: fits(msgspec.structs.replace(request, disks=(*before, value, *after))),
        )
    yield _Reduction(
        words="{} fewer virtual processors",
        current=request.vcpus,
        least=min((spec.cpu_count for spec in least), default=1),
        is_enough=lambda value: fits(msgspec.structs.replace(request, vcpus=value)),
    )


def _largest(current: int, least: int, is_enough: Callable[[int], bool]) -> int | None:
    """The largest value below the current one that works; None: none does."""
    low, high = least, current - 1
    if low > high or not is_enough(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        if is_enough(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _drained_that_would_do(scene: Scene, request: InstanceRequest, demand: Demand) -> list[str]:
    """Drained nodes that could take the instance by themselves."""
    if demand.nodes_needed > 1:
        return []
    for state in scene.states:
        if state.is_online or not scene.cluster.nodes[state.node].drained or state.total_memory == 0:
            continue
        awake = msgspec.structs.replace(state, is_online=True)
        if scene.may_use(awake) and _is_placeable(scene.changed(awake), request):
            return [f"it would fit on {state.name} if that node were not drained"]
    return []

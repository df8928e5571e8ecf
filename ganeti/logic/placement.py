"""The best place for a new instance by the cluster score.

Among all nodes (or pairs of nodes of one group) that keep every rule of `constraints`, the one after
which the cluster score is lowest. Groups with policy `preferred` come first, `last_resort` ones count
only if nothing else fits, `unallocable` ones never. Equal scores, bit by bit, are decided in favour of
what comes last in the order of names (first the group, then the primary, then the secondary), as the
established allocator does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ganeti.logic.constraints import Constraint, Shortfall, policy_problem, primary_problem, secondary_problem
from ganeti.logic.dedicated import Rank, has_exclusive_storage, is_dedicated, rank
from ganeti.logic.node_state import Demand, NodeState, demand_of_request
from ganeti.logic.pair_search import Search
from ganeti.logic.redundancy import stranded_node
from ganeti.logic.score import ClusterScore
from ganeti.model.allocation import InstanceRequest
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId, NetworkId, NodeId
from ganeti.model.node import AllocPolicy
from ganeti.model.spec import NicSpec

TIERS = (AllocPolicy.PREFERRED, AllocPolicy.LAST_RESORT)
"""Policies under which a group gets instances, the better first."""


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster as placement sees it, and which nodes it may use."""

    cluster: Cluster
    states: tuple[NodeState, ...]
    """In the order of names."""
    candidates: frozenset[NodeId] | None = None

    def may_use(self, state: NodeState) -> bool:
        """Whether an instance may be put on a node as far as its condition goes."""
        return state.is_online and (self.candidates is None or state.node in self.candidates)

    def changed(self, *changed: NodeState) -> Scene:
        """The scene with some nodes in another state."""
        new = {state.node: state for state in changed}
        states = tuple(new.get(state.node, state) for state in self.states)
        return msgspec.structs.replace(self, states=states)


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A place for one instance."""

    nodes: tuple[NodeState, ...]
    """As they are with the instance on them; primary first."""
    group: GroupId
    score: float
    """Of the cluster with the instance placed."""
    score_before: float


def place(scene: Scene, request: InstanceRequest) -> Choice | None:
    """The best place for a new instance, or None if nothing fits."""
    demand = demand_of_request(request, scene.cluster)
    online = [state for state in scene.states if state.is_online]
    if request.group is not None:
        # The established allocator scores a named group as if it were alone.
        online = [state for state in online if state.group == request.group]
    if not online:
        return None
    score = ClusterScore([state for state in scene.states if _in_scope(state, request.group)])
    if is_dedicated(scene.cluster, demand, request.group):
        return _least_loss(scene, online, score, demand, request)
    return best_group(scene, Search(online, demand), score, request)


def _least_loss(
    scene: Scene,
    online: Sequence[NodeState],
    score: ClusterScore,
    demand: Demand,
    request: InstanceRequest,
) -> Choice | None:
    """The place after which the most other instances still fit, the better tier first."""
    for tier in TIERS:
        ranked: list[tuple[Rank, Choice]] = []
        for group in allowed_groups(scene.cluster, request, demand, tier):
            specs = [bounds.min for bounds in scene.cluster.policy_of(group).minmax]
            for state in online:
                if state.group != group or not scene.may_use(state):
                    continue
                if primary_problem(state, demand) is None:
                    choice = _choice(score, demand, [state])
                    ranked.append((rank(state, choice.nodes[0], specs), choice))
        if ranked:
            return min(reversed(ranked), key=lambda pair: pair[0])[1]
    return None


def best_group(
    scene: Scene,
    search: Search,
    score: ClusterScore,
    request: InstanceRequest,
    targets: frozenset[GroupId] | None = None,
) -> Choice | None:
    """The best place in one of the groups that allow an instance, the better tier first.

    Args:
        scene: the cluster, without the instance.
        search: over the nodes that are online.
        score: of all nodes that count.
        request: the instance.
        targets: only these groups; None: all.
    """
    for tier in TIERS:
        choices = []
        for group in allowed_groups(scene.cluster, request, search.demand, tier):
            if targets is not None and group not in targets:
                continue
            members = [i for i, s in enumerate(search.states) if s.group == group and scene.may_use(s)]
            choice = _best_in_group(search, score, members)
            if choice is not None:
                choices.append(choice)
        if choices:
            return min(reversed(choices), key=lambda choice: choice.score)
    return None


def best_nodes(
    scene: Scene, demand: Demand, group: GroupId, *, without: frozenset[NodeId], is_strict: bool
) -> tuple[NodeId, ...] | None:
    """The nodes of a group (primary first) after which its score is lowest; None: none can.

    Args:
        scene: the cluster, without the instance.
        demand: the instance.
        group: where it is to go.
        without: nodes that it is not to get.
        is_strict: soft rules count.
    """
    states = [state for state in scene.states if state.group == group]
    online = [state for state in states if state.is_online]
    members = [i for i, s in enumerate(online) if scene.may_use(s) and s.node not in without]
    primaries = usable_primaries(online, members, demand, is_strict=is_strict)
    secondaries: list[int] = []
    if demand.nodes_needed > 1:
        secondaries = usable_secondaries(online, members, demand, is_strict=is_strict)
    search = Search(online, demand, is_strict=is_strict)
    choice = _best_of(search, ClusterScore(states), primaries, secondaries)
    return None if choice is None else tuple(state.node for state in choice.nodes)


def allowed_groups(
    cluster: Cluster, request: InstanceRequest, demand: Demand, tier: AllocPolicy
) -> list[GroupId]:
    """Groups of a tier whose rules allow an instance, in the order of names."""
    groups = sorted(cluster.groups.values(), key=lambda group: group.name)
    return [
        group.uuid
        for group in groups
        if group.alloc_policy is tier and group_problem(cluster, group.uuid, request, demand) is None
    ]


def group_problem(
    cluster: Cluster, group: GroupId, request: InstanceRequest, demand: Demand
) -> Shortfall | None:
    """Why no node of a group may take an instance; None: the group allows it."""
    found = cluster.groups[group]
    if not request.may_enter(group):
        return Shortfall(constraint=Constraint.GROUP, text="another group was asked for")
    if found.alloc_policy is AllocPolicy.UNALLOCABLE:
        text = f"its group {found.name} is unallocable"
        return Shortfall(constraint=Constraint.GROUP, text=text)
    for network in _networks(cluster, request.nics):
        if network not in found.networks:
            name = cluster.networks[network].name
            text = f"its group {found.name} is not connected to network {name}"
            return Shortfall(constraint=Constraint.GROUP, text=text)
    is_exclusive = has_exclusive_storage(cluster, group)
    return policy_problem(demand, cluster.policy_of(group), is_exclusive=is_exclusive)


def usable_primaries(
    states: Sequence[NodeState], members: Iterable[int], demand: Demand, *, is_strict: bool = True
) -> list[int]:
    """Indices of the members that could run an instance."""
    return [i for i in members if primary_problem(states[i], demand, is_strict=is_strict) is None]


def usable_secondaries(
    states: Sequence[NodeState], members: Iterable[int], demand: Demand, *, is_strict: bool = True
) -> list[int]:
    """Indices of the members that could mirror an instance of a node they do not mirror yet."""
    return [i for i in members if secondary_problem(states[i], demand, is_strict=is_strict) is None]


def keeps_redundancy(members: Sequence[NodeState], *changed: NodeState) -> NodeState | None:
    """The node of a group that could not be evacuated any more after a change; None: all could.

    Nothing is asked of a group that was not redundant before.
    """
    new = {state.node: state for state in changed}
    stranded = stranded_node([new.get(state.node, state) for state in members])
    return stranded if stranded is not None and stranded_node(members) is None else None


def _best_in_group(search: Search, score: ClusterScore, members: Sequence[int]) -> Choice | None:
    """The best place in a group that leaves it redundant.

    Redundancy is looked at last, because it concerns the whole group. A primary whose best place is
    refused is compared with its other secondaries apart, and then left out.
    """
    states, demand = search.states, search.demand
    primaries = usable_primaries(states, members, demand)
    secondaries = usable_secondaries(states, members, demand) if demand.nodes_needed > 1 else []
    group = [state for state in states if members and state.group == states[members[0]].group]
    found: list[Choice] = []
    while primaries:
        choice = _best_of(search, score, primaries, secondaries)
        if choice is None:
            break
        if keeps_redundancy(group, *choice.nodes) is None:
            found.append(choice)
            break
        refused = next(index for index in primaries if states[index].node == choice.nodes[0].node)
        primaries = [index for index in primaries if index != refused]
        found += _other_secondaries(search, score, refused, secondaries, group)
    return min(found, key=lambda choice: choice.score, default=None)


def _other_secondaries(
    search: Search, score: ClusterScore, first: int, secondaries: Sequence[int], group: Sequence[NodeState]
) -> list[Choice]:
    """The best place with this primary that leaves the group redundant; empty if there is none."""
    states, demand = search.states, search.demand
    home = states[first].node
    choices = [
        _choice(score, demand, [states[first], states[index]])
        for index in reversed(secondaries)
        if index != first and secondary_problem(states[index], demand, home) is None
    ]
    for choice in sorted(choices, key=lambda choice: choice.score):
        if keeps_redundancy(group, *choice.nodes) is None:
            return [choice]
    return []


def _best_of(
    search: Search, score: ClusterScore, primaries: Sequence[int], secondaries: Sequence[int]
) -> Choice | None:
    """The best of some nodes, compared in exact scores where they are close."""
    demand, states = search.demand, search.states
    close: list[tuple[int, ...]]
    if demand.nodes_needed > 1:
        close = list(search.best_pairs(primaries, secondaries))
    else:
        close = [(index,) for index in search.best_single(primaries)]
    choices = [_choice(score, demand, [states[i] for i in nodes]) for nodes in sorted(close, reverse=True)]
    return min(choices, key=lambda choice: choice.score, default=None)


def _choice(score: ClusterScore, demand: Demand, nodes: Sequence[NodeState]) -> Choice:
    """A place with its exact score."""
    after, changed = score, occupied(nodes, demand)
    for before, new in zip(nodes, changed):
        after = after.after(before, new)
    return Choice(nodes=changed, group=nodes[0].group, score=after.value, score_before=score.value)


def occupied(nodes: Sequence[NodeState], demand: Demand) -> tuple[NodeState, ...]:
    """Nodes (primary first) after an instance was put on them."""
    if len(nodes) == 1:
        return (nodes[0].with_primary(demand),)
    primary, secondary = nodes
    return (
        primary.with_primary(demand, secondary.node),
        secondary.with_secondary(demand, primary.node),
    )


def _in_scope(state: NodeState, group: GroupId | None) -> bool:
    return group is None or state.group == group


def _networks(cluster: Cluster, nics: Iterable[NicSpec]) -> list[NetworkId]:
    """UUIDs of the networks that interfaces are connected to."""
    return [
        cluster.network(nic.network).uuid for nic in nics if nic.network is not None and nic.network != "none"
    ]

"""How many more instances fit into a node group: the tiers of the established `hspace`.

Every group is counted for itself, with its own parameters, as if it were the whole cluster. Instances have
one disk and no tags; they run and are balanced. Nodes that may not get instances take no part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import floor

import msgspec

from ganeti.logic.capacity_field import Field
from ganeti.logic.capacity_prospect import Prospect, size_of
from ganeti.logic.capacity_refuge import Refuge, Resident
from ganeti.logic.capacity_tiers import Attempt, Spec, tiered
from ganeti.logic.constraints import Constraint, policy_problem
from ganeti.logic.node_figures import Question, backend_reader, nodes_needed, traits_of, uses_local_disk
from ganeti.logic.node_room import FailMode
from ganeti.logic.node_state import Demand, NodeState, demand_of_instance, node_states
from ganeti.logic.placement_tags import tag_rules
from ganeti.model.allocation import Capacity, ClusterView
from ganeti.model.capacity import CapacityParams, GroupCapacity, InstanceSpec, Tier
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Mirroring
from ganeti.model.ids import GroupId
from ganeti.model.ipolicy import InstancePolicy
from ganeti.model.node import AllocPolicy

_POLICY_MODES = {
    Constraint.MEMORY: FailMode.MEMORY,
    Constraint.DISK: FailMode.DISK,
    Constraint.CPU: FailMode.CPU,
    Constraint.SPINDLES: FailMode.SPINDLES,
    None: FailMode.DISK_COUNT,
}


def capacities(request: Capacity, view: ClusterView) -> dict[GroupId, GroupCapacity]:
    """The capacity of each group that was asked for.

    Where groups are not independent, one that could not lose a node leaves room for nothing anywhere.
    """
    worlds = _Worlds(view)
    found = {}
    spoiled = ""
    if not request.independent_groups:
        problems = (worlds.ground(group, params).problem for group, params in request.params.items())
        spoiled = next((problem for problem in problems if problem.startswith(_N1)), "")
    for group, params in request.params.items():
        if spoiled and view.cluster.groups[group].alloc_policy is not AllocPolicy.UNALLOCABLE:
            found[group] = GroupCapacity(params=params, tspecs=(), failure_reason=spoiled)
        else:
            found[group] = worlds.ground(group, params).capacity()
    return found


def number_fitting(view: ClusterView, group: GroupId, params: CapacityParams, spec: InstanceSpec) -> int:
    """How many instances of exactly one size fit into a group."""
    return _Worlds(view).ground(group, params).number_of(Spec(*spec))


def merged(tiers: Iterable[Iterable[Tier]]) -> tuple[Tier, ...]:
    """The tiers of several groups as one list, in decreasing order of memory, disk and processors."""
    total: Counter[InstanceSpec] = Counter()
    for one in tiers:
        for memory, disk, vcpus, count in one:
            total[memory, disk, vcpus] += count
    return tuple((*spec, total[spec]) for spec in sorted(total, reverse=True))


class _Worlds:
    """States of all nodes, read once for each kind of storage that is asked for."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._states: dict[str, tuple[NodeState, ...]] = {}
        self._residents: dict[GroupId, dict[str, list[tuple[Demand, str | None]]]] | None = None

    def ground(self, group: GroupId, params: CapacityParams) -> _Ground:
        cluster = self._view.cluster
        storage = traits_of(params.default_template).storage_type
        if storage not in self._states:
            hypervisors = cluster.settings.enabled_hypervisors
            question = Question(
                hypervisor=hypervisors[0] if hypervisors else "", template=params.default_template
            )
            self._states[storage] = node_states(self._view, question)
        states = [
            msgspec.structs.replace(
                state,
                vcpu_ratio=params.max_cpu_ratio,
                kept_disk=floor((1 - params.max_disk_usage) * state.total_disk),
            )
            for state in self._states[storage]
            if state.group == group
        ]
        known = self._known_residents().get(group, {})
        index = {state.name: place for place, state in enumerate(states)}
        residents = [
            [
                Resident(demand, None if mirror is None else index.get(mirror))
                for demand, mirror in known.get(state.name, ())
            ]
            for state in states
        ]
        return _Ground(cluster, group, params, states, residents)

    def _known_residents(self) -> dict[GroupId, dict[str, list[tuple[Demand, str | None]]]]:
        """Instances of each node by group and name, the last by name first, with the node of the mirror."""
        if self._residents is None:
            cluster = self._view.cluster
            self._residents = {}
            rules, backend = tag_rules(cluster), backend_reader(cluster.settings)
            for instance in sorted(cluster.instances.values(), key=lambda one: one.name, reverse=True):
                if instance.forthcoming or instance.primary_node not in cluster.nodes:
                    continue
                home = cluster.nodes[instance.primary_node]
                demand = demand_of_instance(instance, cluster, backend(instance), rules)
                mirror = None
                if demand.nodes_needed > 1:
                    mirror = next(
                        (cluster.nodes[node].name for node in cluster.secondary_nodes(instance)), None
                    )
                group = self._residents.setdefault(home.group, {})
                group.setdefault(home.name, []).append((demand, mirror))
        return self._residents


_N1 = "FailN1"


class _Ground:
    """One group, into which instances are put."""

    def __init__(
        self,
        cluster: Cluster,
        group: GroupId,
        params: CapacityParams,
        states: list[NodeState],
        residents: list[list[Resident]],
    ) -> None:
        self._group = cluster.groups[group]
        self._params = params
        self._policy: InstancePolicy = cluster.policy_of(group)
        template = params.default_template
        self._is_exclusive = any(state.has_exclusive_storage for state in states)
        self._model = Demand(
            name="new",
            memory=0,
            vcpus=0,
            template=template,
            spindle_use=1 if self._is_exclusive else cluster.settings.ipolicy.std.spindle_use,
            nodes_needed=nodes_needed(template),
            is_local=uses_local_disk(template),
            is_movable=traits_of(template).mirroring is Mirroring.EXTERNAL,
        )
        self._known: dict[Spec, Attempt] = {}
        self._holds: bool | None = None
        """Whether every node could be emptied as things are; None: not looked at."""
        self._states, self._residents = states, residents
        self.problem = self._problem()

    def _problem(self) -> str:
        """Why nothing fits, whatever its size; empty: perhaps something does."""
        if self._group.alloc_policy is AllocPolicy.UNALLOCABLE:
            return "the group is unallocable"
        online = [state for state in self._states if state.is_online]
        if len(online) < self._model.nodes_needed:
            return f"{len(online)} nodes can be used, {self._model.nodes_needed} are needed"
        failing = next((state for state in online if state.fails_n1), None)
        if failing is not None:
            return f"{_N1}: {failing.name} does not keep enough memory for the failure of another node"
        self._field = Field(self._states, is_local=self._model.is_local)
        self._refuge = Refuge(self._field.states, self._residents, self._policy)
        self._is_certain = self._model.nodes_needed > 1 and self._refuge.is_certain
        return ""

    def capacity(self) -> GroupCapacity:
        """The tiers of the group."""
        if self.problem:
            return GroupCapacity(params=self._params, tspecs=(), failure_reason=self.problem)
        result = tiered(self, Spec(*self._params.max_inst_spec))
        return GroupCapacity(
            params=self._params,
            tspecs=tuple((*spec, count) for spec, count in result.tiers),
            failure_reason=_reason(result.failures),
        )

    def number_of(self, spec: Spec) -> int:
        """How many of one size fit; may be asked once."""
        return 0 if self.problem else self.fill(spec)[0]

    # --- what the tiers want -----------------------------------------------------------------

    def fill(self, spec: Spec) -> tuple[int, Sequence[int]]:
        """Put as many instances of a size as fit; gives their number and the refusals of the next."""
        before = self.by_room(spec)
        if not before.fits:
            return 0, before.failures
        demand, count = self._demand(spec), 0
        prospect = Prospect(self._field, demand)
        while (place := self._next_place(prospect)) is not None:
            prospect.put(*place)
            if not self._is_certain:
                self._refuge.add(place[0], demand, place[1] if len(place) > 1 else None)
            count += 1
        if count:
            self._known, self._holds = {}, None
        after = self.by_room(spec)
        failures = list(after.failures)
        failures[FailMode.N1] += self._field.places(demand.nodes_needed) - sum(failures)
        return count, failures

    def attempt(self, spec: Spec) -> Attempt:
        """Look for a place."""
        attempt = self.by_room(spec)
        if not attempt.fits or self._is_certain:
            return attempt
        demand = self._demand(spec)
        failures = list(attempt.failures)
        fits, refused = self._unsafe_places(demand, self._field.places(demand.nodes_needed) - sum(failures))
        failures[FailMode.N1] += refused
        return Attempt(fits, failures)

    def by_room(self, spec: Spec) -> Attempt:
        """Look for a node, or two, with room, whatever becomes of the others."""
        known = self._known.get(spec)
        if known is None:
            known = self._known[spec] = self._by_room(spec)
        return known

    def is_allowed(self, spec: Spec) -> bool:
        """Whether the policy allows a size."""
        return self._forbidden(spec) is None

    def _by_room(self, spec: Spec) -> Attempt:
        demand, field = self._demand(spec), self._field
        places = field.places(demand.nodes_needed)
        forbidden = self._forbidden(spec)
        if forbidden is not None:
            failures = [0] * len(FailMode)
            failures[forbidden] = places
        else:
            failures = field.failures(size_of(demand), nodes_needed=demand.nodes_needed)
        return Attempt(sum(failures) < places, failures)

    # --- helpers -----------------------------------------------------------------------------

    def _demand(self, spec: Spec) -> Demand:
        return msgspec.structs.replace(
            self._model, memory=spec.memory, vcpus=spec.vcpus, disk=spec.disk, disk_sizes=(spec.disk,)
        )

    def _forbidden(self, spec: Spec) -> FailMode | None:
        problem = policy_problem(self._demand(spec), self._policy, is_exclusive=self._is_exclusive)
        return None if problem is None else _POLICY_MODES[problem.resource]

    def _next_place(self, prospect: Prospect) -> tuple[int, ...] | None:
        """The best place; for a single node the best that leaves every node a refuge."""
        if self._model.nodes_needed > 1:
            return prospect.best_pair()
        return next(
            (place for place in prospect.best_singles() if self._is_safe(prospect.demand, place)), None
        )

    def _is_safe(self, demand: Demand, place: tuple[int, ...]) -> bool:
        """Whether every node could still be emptied with an instance put there."""
        states = self._field.states
        first = states[place[0]]
        if len(place) < 2:
            return self._refuge.holds(
                {place[0]: first.with_primary(demand)}, (place[0], Resident(demand, None))
            )
        second = states[place[1]]
        changed = {
            place[0]: first.with_primary(demand, second.node),
            place[1]: second.with_secondary(demand, first.node),
        }
        return self._refuge.holds(changed, (place[0], Resident(demand, place[1])))

    def _unsafe_places(self, demand: Demand, open_places: int) -> tuple[bool, int]:
        """Whether an instance can be put somewhere, and how many better places had to be left out."""
        if self._refuge.holds_anywhere(demand, demand.nodes_needed):
            return True, 0
        if self._holds is None:
            self._holds = self._refuge.holds()
        if not self._holds:
            return False, open_places
        prospect, field = Prospect(self._field, demand), self._field
        if demand.nodes_needed < 2:
            refused = 0
            for (index,) in prospect.best_singles():
                if self._is_safe(demand, (index,)):
                    return True, refused
                refused += field.alike(index)
            return False, open_places
        fits, refused = False, 0
        for first in field.online:
            if field.spot_of(first).primary.failure(size_of(demand)) is not None:
                continue
            for pair in prospect.pairs_of(first):
                if self._is_safe(demand, pair):
                    fits = True
                    break
                refused += 1
        return fits, refused


def _reason(failures: Sequence[int]) -> str:
    """The failure that most places have, in the words of the established tools."""
    mode = max(FailMode, key=lambda mode: (failures[mode], -mode)) if failures else FailMode.MEMORY
    return mode.established_name

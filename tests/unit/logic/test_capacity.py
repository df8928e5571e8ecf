"""How many more instances fit: by a search that tries every place, and by rules for special groups."""

from __future__ import annotations

from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.capacity import capacities, merged, number_fitting
from ganeti.logic.constraints import primary_problem, secondary_problem
from ganeti.logic.node_figures import Question, disk_space
from ganeti.logic.node_state import Demand, NodeState, node_states
from ganeti.logic.placement import occupied
from ganeti.logic.score import ClusterScore
from ganeti.model.allocation import Capacity, ClusterView
from ganeti.model.capacity import CapacityParams, GroupCapacity
from ganeti.model.ids import GroupId
from ganeti.model.node import AllocPolicy
from ganeti.testing.clusters import cluster, group_id, with_instance, with_node
from ganeti.testing.placement_worlds import Machine, placement_view

HOME = GroupId(group_id(1))


def params(**changes: object) -> CapacityParams:
    """Parameters: up to 4 GiB, 20 GiB and 2 processors, mirrored."""
    base = CapacityParams(
        max_inst_spec=(4096, 20480, 2), default_template="drbd", max_cpu_ratio=4.0, max_disk_usage=1.0
    )
    return msgspec.structs.replace(base, **changes)


def capacity(view: ClusterView, group: GroupId = HOME, **changes: object) -> GroupCapacity:
    """Capacity of a group."""
    return capacities(Capacity(params={group: params(**changes)}), view)[group]


def random_view(seed: int, template: str) -> ClusterView:
    """A few nodes of different sizes with some instances."""
    rng = Random(seed)
    value = cluster(nodes=rng.randint(2, 6), enabled_hypervisors=("kvm",))
    names = [node.name for node in value.nodes.values()]
    for number in range(rng.randint(0, 6)):
        home, other = rng.sample(names, 2)
        value = with_instance(
            value,
            f"old{number}",
            primary=home,
            secondary=other if template == "drbd" else None,
            template=template,
            memory=rng.choice((512, 2048)),
            vcpus=rng.choice((1, 3)),
            hypervisor="kvm",
        )
    machines = {
        node: Machine(
            memory=rng.choice((16384, 24000)), disk=rng.choice((131072, 200000)), cpus=rng.choice((4, 8))
        )
        for node in value.nodes
    }
    return placement_view(value, machines)


def tried_out(view: ClusterView, demand: Demand) -> int:
    """How many instances fit if each goes to the best of all pairs, all of which are looked at."""
    states: list[NodeState] = list(node_states(view, Question(hypervisor="kvm", template=demand.template)))
    count = 0
    while True:
        score, best = ClusterScore(states), None
        for first, one in enumerate(states):
            for second, two in enumerate(states):
                if first == second or primary_problem(one, demand) is not None:
                    continue
                if secondary_problem(two, demand, one.node) is not None:
                    continue
                after = score.after(one, one.with_primary(demand, two.node))
                value = after.after(two, two.with_secondary(demand, one.node)).value
                if best is None or value <= best[0]:
                    best = (value, first, second)
        if best is None:
            return count
        _, first, second = best
        states[first], states[second] = occupied((states[first], states[second]), demand)
        count += 1


class CountTests(SynchronousTestCase):
    """Numbers."""

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10**6), st.sampled_from((1500, 3000)), st.sampled_from((4000, 40000)))
    def test_pairs(self, seed: int, memory: int, disk: int) -> None:
        """Of one size as many fit as if every pair were tried each time (S2.3-093: for one specification)."""
        view = random_view(seed, "drbd")
        demand = Demand(
            name="new",
            memory=memory,
            vcpus=2,
            disk=disk,
            disk_sizes=(disk,),
            template="drbd",
            nodes_needed=2,
        )
        self.assertEqual(number_fitting(view, HOME, params(), (memory, disk, 2)), tried_out(view, demand))

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 10**6), st.sampled_from(("drbd", "plain", "sharedfile")))
    def test_tiers_fall(self, seed: int, template: str) -> None:
        """Tiers come in decreasing order, S2.3-081."""
        tiers = capacity(random_view(seed, template), default_template=template).tspecs
        self.assertEqual(list(tiers), sorted(tiers, key=lambda tier: tier[:3], reverse=True))

    def test_one_node_is_kept_free(self) -> None:
        """Plain instances of a node that fails can be made anew on the others."""
        view = placement_view(cluster(nodes=3, enabled_hypervisors=("kvm",)))
        found = capacity(view, default_template="plain", max_inst_spec=(8192, 10240, 1))
        self.assertEqual(found.tspecs[0], (8192, 10240, 1, 14))
        self.assertEqual(found.failure_reason, "FailN1")

    def test_shared(self) -> None:
        """The same of instances that any node can start; disks do not count."""
        view = placement_view(cluster(nodes=3, enabled_hypervisors=("kvm",)))
        found = capacity(view, default_template="sharedfile", max_inst_spec=(8192, 1024000, 1))
        self.assertEqual(found.tspecs[0], (8192, 1024000, 1, 14))

    def test_disk_usage(self) -> None:
        """Part of the disk space is left free (S2.3-087)."""
        view = placement_view(cluster(nodes=2, enabled_hypervisors=("kvm",)))
        spec = (128, 100 * 1024, 1)
        self.assertEqual(number_fitting(view, HOME, params(), spec), 10)
        self.assertEqual(number_fitting(view, HOME, params(max_disk_usage=0.5), spec), 5)

    def test_cpu_ratio(self) -> None:
        """Processors count by the ratio (S2.3-086); a node has 16, the system uses one."""
        view = placement_view(cluster(nodes=2, enabled_hypervisors=("kvm",)))
        spec = (128, 1024, 1)
        self.assertEqual(number_fitting(view, HOME, params(max_cpu_ratio=1.0), spec), 30)
        self.assertEqual(number_fitting(view, HOME, params(max_cpu_ratio=0.5), spec), 14)


class GroupTests(SynchronousTestCase):
    """Groups and nodes that do not count."""

    def test_unallocable(self) -> None:
        """A group that gets no instances has room for none."""
        value = cluster(nodes=2, enabled_hypervisors=("kvm",))
        group = msgspec.structs.replace(value.groups[HOME], alloc_policy=AllocPolicy.UNALLOCABLE)
        value = msgspec.structs.replace(value, groups=value.groups.with_item(HOME, group))
        found = capacity(placement_view(value))
        self.assertEqual((found.tspecs, found.failure_reason), ((), "the group is unallocable"))

    def test_nodes_that_do_not_count(self) -> None:
        """Nodes that are offline, drained or not vm_capable take no part (S2.3-104)."""
        for change in ({"offline": True}, {"drained": True}, {"vm_capable": False}):
            value = cluster(nodes=3, enabled_hypervisors=("kvm",))
            two = capacity(placement_view(cluster(nodes=2, enabled_hypervisors=("kvm",))))
            value = with_node(value, "node3.example.com", master_candidate=False, **change)
            self.assertEqual(capacity(placement_view(value)).tspecs, two.tspecs)

    def test_too_few(self) -> None:
        """A mirror needs a second node."""
        found = capacity(placement_view(cluster(nodes=1, enabled_hypervisors=("kvm",))))
        self.assertEqual(found.failure_reason, "1 nodes can be used, 2 are needed")

    def test_not_redundant(self) -> None:
        """A group in which a node could not take over has room for nothing; it spoils others if wanted."""
        value = cluster(nodes=4, groups=2, enabled_hypervisors=("kvm",))
        value = with_instance(value, "big", primary="node1", secondary="node3", memory=8192, hypervisor="kvm")
        machines = {value.node("node3").uuid: Machine(memory=4096)}
        view = placement_view(value, machines)
        other = GroupId(group_id(2))
        for is_independent in (True, False):
            request = Capacity(params={HOME: params(), other: params()}, independent_groups=is_independent)
            found = capacities(request, view)
            self.assertEqual(found[HOME].tspecs, ())
            self.assertIn("node3.example.com does not keep enough memory", found[HOME].failure_reason)
            self.assertEqual(bool(found[other].tspecs), is_independent)

    def test_policy(self) -> None:
        """A size that the policy of the group forbids does not fit."""
        view = placement_view(cluster(nodes=2, enabled_hypervisors=("kvm",)))
        self.assertEqual(number_fitting(view, HOME, params(), (65536, 1024, 1)), 0)
        found = capacity(view, max_inst_spec=(128, 512, 1))
        self.assertEqual((found.tspecs, found.failure_reason), ((), "FailDisk"))


class TableTests(SynchronousTestCase):
    """Tiers of several groups."""

    def test_merged(self) -> None:
        """Counts of equal sizes add up, the largest size first (S2.3-090)."""
        one, two = [(4096, 100, 2, 3), (1024, 100, 2, 1)], [(4096, 200, 1, 2), (1024, 100, 2, 5)]
        self.assertEqual(merged([one, two]), ((4096, 200, 1, 2), (4096, 100, 2, 3), (1024, 100, 2, 6)))

    def test_disk_of_a_mirror(self) -> None:
        """The count is about the size of the disk, without what the mirror needs beside it."""
        self.assertEqual(disk_space("drbd", (1024,)), 1152)
        view = placement_view(cluster(nodes=2, enabled_hypervisors=("kvm",)), None)
        self.assertEqual(number_fitting(view, HOME, params(), (128, 1048575, 1)), 1)

"""Placement: that the best place is found, and that the reasons are told when there is none."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import AllocatorError
from ganeti.logic.allocate import scene_of, solve
from ganeti.logic.constraints import primary_problem, secondary_problem
from ganeti.logic.node_figures import question_of
from ganeti.logic.node_state import NodeState, demand_of_request
from ganeti.logic.placement import Scene, allowed_groups, occupied, place
from ganeti.logic.redundancy import stranded_node
from ganeti.logic.score import ClusterScore, cluster_score
from ganeti.model.allocation import Allocate, ClusterView, InstanceRequest, MultiAllocate, Relocate, Solution
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.ipolicy import DEFAULT_MAX, DEFAULT_MIN, SpecRange
from ganeti.model.network import Network
from ganeti.model.node import AllocPolicy, GroupNetwork
from ganeti.model.spec import NicSpec
from ganeti.testing.allocator_behaviours import with_policy
from ganeti.testing.clusters import cluster, group_id, node_id, with_instance, with_node, with_settings
from ganeti.testing.placement_worlds import Machine, placement_view, random_case, request_for


def answer(view: ClusterView, **wanted: Any) -> Solution:
    """The answer to a request for one instance."""
    return solve(Allocate(instance=request_for(**wanted)), view)


def nodes_of(view: ClusterView, solution: Solution) -> list[str]:
    """Short names of the nodes of the first placement."""
    return [view.cluster.nodes[node].name.partition(".")[0] for node in solution.placements[0].nodes]


def best_by_trying(scene: Scene, request: InstanceRequest) -> float | None:
    """The best score among all places, each tried; without the rule for movable instances."""
    demand = demand_of_request(request, scene.cluster)
    scope = [state for state in scene.states if request.group in (None, state.group)]
    for tier in (AllocPolicy.PREFERRED, AllocPolicy.LAST_RESORT):
        groups = allowed_groups(scene.cluster, request, demand, tier)
        usable = [state for state in scope if scene.may_use(state) and state.group in groups]
        scores = []
        for places in permutations(usable, demand.nodes_needed):
            if fits(places, demand):
                new = {state.node: state for state in occupied(places, demand)}
                scores.append(cluster_score([new.get(state.node, state) for state in scope]))
        if scores:
            return min(scores)
    return None


def fits(places: tuple[NodeState, ...], demand: Any) -> bool:
    """Whether an instance may be put there."""
    if primary_problem(places[0], demand) is not None:
        return False
    if len(places) == 1:
        return True
    first, second = places
    return first.group == second.group and secondary_problem(second, demand, first.node) is None


def without_movable(view: ClusterView) -> ClusterView:
    """The view with shared files made volumes: movable instances make a rule of their own."""
    shared = [disk for disk in view.cluster.disks.values() if disk.dev_type == "sharedfile"]
    disks = {disk.uuid: msgspec.structs.replace(disk, dev_type="plain") for disk in shared}
    value = msgspec.structs.replace(view.cluster, disks=view.cluster.disks.with_items(disks))
    return msgspec.structs.replace(view, cluster=value)


class BestPlaceTests(SynchronousTestCase):
    """The search finds what trying everything finds."""

    @settings(max_examples=150, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_best_pair(self, seed: int) -> None:
        """No pair of nodes is better than the one that is found, and there is one if any fits."""
        self._compare(seed, "drbd")

    @settings(max_examples=100, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_best_node(self, seed: int) -> None:
        """The same for instances on one node."""
        self._compare(seed, "plain")

    @settings(max_examples=100, deadline=None)
    @given(seed=st.integers(0, 10**6), template=st.sampled_from(("drbd", "plain")))
    def test_tags(self, seed: int, template: str) -> None:
        """The same where tags say what belongs together or apart."""
        self._compare(seed, template, is_tagged=True)

    def _compare(self, seed: int, template: str, *, is_tagged: bool = False) -> None:
        view, request = random_case(seed, template, most_nodes=8, is_tagged=is_tagged)
        view = without_movable(view)
        scene = scene_of(view, question_of(Allocate(instance=request), view.cluster))
        choice, expected = place(scene, request), best_by_trying(scene, request)
        if expected is None or choice is None:
            self.assertEqual((choice, expected), (None, None))
        else:
            self.assertAlmostEqual(choice.score, expected, places=6)
            self.assertTrue(all(scene.may_use(state) for state in choice.nodes))

    def test_shared_mirrors(self) -> None:
        """A pair that mirrors already is judged by what the secondary then has to keep free."""
        value = cluster(nodes=3, enabled_hypervisors=("kvm",))
        for number in range(3):
            value = with_instance(value, f"i{number}", primary="node1", secondary="node2", memory=14000)
        machines = {node_id(2): Machine(memory=52000), node_id(3): Machine(cpus=1)}
        view = placement_view(value, machines)
        solution = answer(view, disk_template="drbd", memory=9000, vcpus=8)
        self.assertEqual(nodes_of(view, solution), ["node1", "node3"])

    def test_ties(self) -> None:
        """Of equal places the last one by name is taken, group first, then primary, then secondary."""
        view = placement_view(cluster(nodes=6, groups=2))
        self.assertEqual(nodes_of(view, answer(view)), ["node6"])
        self.assertEqual(nodes_of(view, answer(view, disk_template="drbd")), ["node6", "node4"])

    def test_spreads_load(self) -> None:
        """An instance goes to the emptier node."""
        value = with_instance(cluster(nodes=2), "busy", primary="node2", template="plain", memory=8192)
        view = placement_view(value)
        self.assertEqual(nodes_of(view, answer(view)), ["node1"])

    def test_info(self) -> None:
        """The answer tells the place and the score."""
        info = answer(placement_view(cluster(nodes=1))).info
        self.assertRegex(
            info, r"^node1.example.com in group default; cluster score \d+\.\d{8}, before 0\.0+$"
        )

    def test_several_storage_types(self) -> None:
        """Of several instances each is placed by the space of its own kind of storage."""
        wanted = (
            request_for("a.example.com", disk_template="plain"),
            request_for("b.example.com", disk_template="file"),
            request_for("c.example.com", disk_template="plain"),
        )
        solution = solve(MultiAllocate(instances=wanted), placement_view(cluster(nodes=3)))
        places = {placement.nodes for placement in solution.placements}
        self.assertEqual(len(places), 3)


class RulesTests(SynchronousTestCase):
    """Which places are refused, and why."""

    def reasons(self, view: ClusterView, **wanted: Any) -> dict[str, str]:
        """Reason by short name of each node, for a request that nothing fits."""
        solution = answer(view, **wanted)
        self.assertEqual(solution.placements, ())
        names = {node: value.name.partition(".")[0] for node, value in view.cluster.nodes.items()}
        return {names[one.node]: one.reason for one in solution.rejections}

    def one_node(self, value: Cluster | None = None, **machine: Any) -> ClusterView:
        """A cluster of one node."""
        return placement_view(value or cluster(nodes=1), {node_id(1): Machine(**machine)})

    def test_memory(self) -> None:
        """The message says how much memory is missing."""
        (reason,) = self.reasons(self.one_node(memory=3072), memory=2560).values()
        self.assertEqual(reason, "513 MiB of memory missing (2560 MiB needed, 2047 usable)")

    def test_memory_of_stopped_instances(self) -> None:
        """Stopped instances must be able to start again."""
        value = with_instance(
            cluster(nodes=1), "old", primary="node1", template="plain", memory=4096, admin_state="down"
        )
        (reason,) = self.reasons(self.one_node(value, memory=8192), memory=4096).values()
        self.assertIn("if all its instances ran", reason)

    def test_n_plus_one(self) -> None:
        """Memory that is kept for the failure of another node is not given away."""
        value = with_instance(cluster(nodes=2), "old", primary="node2", secondary="node1", memory=4096)
        machines = {node_id(1): Machine(memory=8192), node_id(2): Machine(memory=5200)}
        reasons = self.reasons(placement_view(value, machines), memory=4096)
        self.assertIn("besides 4096 MiB kept for failover", reasons["node1"])

    def test_disk(self) -> None:
        """The message says how much space is missing."""
        (reason,) = self.reasons(self.one_node(disk=8192)).values()
        self.assertEqual(reason, "2049 MiB of disk space missing (10240 MiB needed, 8191 usable)")

    def test_no_disk_report(self) -> None:
        """A node that reports no volume group takes no volumes; files are taken on trust."""
        view = self.one_node()
        facts = {node: msgspec.structs.replace(found, storage=()) for node, found in view.facts.items()}
        view = msgspec.structs.replace(view, facts=facts)
        self.assertIn("reports no space", self.reasons(view)["node1"])
        self.assertEqual(len(answer(view, disk_template="file").placements), 1)
        self.assertEqual(len(answer(view, disk_template="rbd").placements), 1)

    def test_cpus(self) -> None:
        """The ratio of virtual to real processors is kept."""
        (reason,) = self.reasons(self.one_node(cpus=1), vcpus=4).values()
        self.assertIn("1 virtual processors too many (4 needed, 3 usable", reason)

    def test_spindles(self) -> None:
        """The spindle ratio is kept for disks of the node itself."""
        value = cluster(nodes=1, ipolicy={"spindle-ratio": 2.0})
        (reason,) = self.reasons(self.one_node(value), spindle_use=3).values()
        self.assertEqual(reason, "1 spindles missing (3 needed, 2 usable)")
        self.assertTrue(answer(self.one_node(value), spindle_use=3, disk_template="rbd").placements)

    def test_exclusive_tag(self) -> None:
        """Two instances with the same exclusive tag do not share a node."""
        value = with_settings(cluster(nodes=1), tags=("htools:iextags:svc",))
        value = with_instance(value, "old", primary="node1", template="plain", tags=("svc:web",))
        (reason,) = self.reasons(self.one_node(value), tags=("svc:web",)).values()
        self.assertIn("'svc:web'", reason)

    def test_policy(self) -> None:
        """An instance has to lie in one of the ranges of its group's policy."""
        view = self.one_node()
        cases: dict[str, dict[str, Any]] = {
            "memory 64 MiB (allowed: 128 to 32768)": {"memory": 64},
            "a disk of 512 MiB (allowed: 1024 to 1048576)": {"disks": (512,)},
            "a number of virtual processors of 9": {"vcpus": 9},
            "a number of disks of 0": {"disks": ()},
            "a spindle use of 13": {"spindle_use": 13},
        }
        for text, wanted in cases.items():
            (reason,) = self.reasons(view, **wanted).values()
            self.assertIn(text, reason)
        self.assertTrue(answer(view, disks=(), disk_template="diskless").placements)

    def test_policy_ranges(self) -> None:
        """It is enough to lie in one of several ranges."""
        large = SpecRange(
            min=msgspec.structs.replace(DEFAULT_MIN, memory_size=40000),
            max=msgspec.structs.replace(DEFAULT_MAX, memory_size=50000),
        )
        ranges = (SpecRange(min=DEFAULT_MIN, max=DEFAULT_MAX), large)
        value = cluster(nodes=1)
        policy = msgspec.structs.replace(value.settings.ipolicy, minmax=ranges)
        view = self.one_node(with_settings(value, ipolicy=policy))
        self.assertTrue(answer(view, memory=40000).placements)
        self.assertFalse(answer(view, memory=39000).placements)

    def test_policy_templates(self) -> None:
        """A template that the policy leaves out is refused."""
        view = self.one_node(cluster(nodes=1, ipolicy={"disk-templates": ["drbd"]}))
        self.assertIn("does not allow plain disks", self.reasons(view)["node1"])

    def test_network(self) -> None:
        """Only groups that are connected to every network of the interfaces are used."""
        value = cluster(nodes=2, groups=2)
        network = Network(uuid="net-uuid", name="lan", network="192.0.2.0/24")  # type: ignore[arg-type]
        group = msgspec.structs.replace(
            value.groups[group_id(1)], networks={network.uuid: GroupNetwork(mode="bridged", link="br0")}
        )
        value = msgspec.structs.replace(
            value,
            networks=value.networks.with_item(network.uuid, network),
            groups=value.groups.with_item(group.uuid, group),
        )
        view = placement_view(value)
        nics = (NicSpec(network="lan"),)
        self.assertEqual(nodes_of(view, answer(view, nics=nics)), ["node1"])
        reasons = self.reasons(view, nics=nics, memory=999999)
        self.assertIn("not connected to network lan", reasons["node2"])

    def test_conditions(self) -> None:
        """Nodes that are not usable say so."""
        value = with_node(cluster(nodes=5), "node1", offline=True, master_candidate=False)
        value = with_node(value, "node2", drained=True, master_candidate=False)
        value = with_node(value, "node3", vm_capable=False)
        view = placement_view(value, without_facts=frozenset({node_id(4)}))
        reasons = self.reasons(view, disk_template="drbd")
        self.assertEqual(reasons["node1"], "is marked offline")
        self.assertEqual(reasons["node2"], "is drained")
        self.assertEqual(reasons["node3"], "is not for instances (vm_capable is no)")
        self.assertEqual(reasons["node4"], "gave no usable answer about its resources")
        self.assertEqual(reasons["node5"], "could take it, but no second node of its group could")

    def test_unallocable(self) -> None:
        """S2.3-009: the reason is told for nodes of an unallocable group, also when it was asked for."""
        view = placement_view(with_policy(cluster(nodes=1), 1, AllocPolicy.UNALLOCABLE))
        self.assertIn("unallocable", self.reasons(view, group=group_id(1))["node1"])

    def test_lying_node(self) -> None:
        """A node that reports impossible memory is not used."""
        view = self.one_node()
        capacity = msgspec.structs.replace(view.facts[node_id(1)].hypervisors["kvm"], memory_free=-5)
        facts = msgspec.structs.replace(view.facts[node_id(1)], hypervisors={"kvm": capacity})
        view = msgspec.structs.replace(view, facts={node_id(1): facts})
        self.assertIn("no usable answer", self.reasons(view)["node1"])


class SmallestChangeTests(SynchronousTestCase):
    """What would make an instance fit."""

    def text(self, view: ClusterView, **wanted: Any) -> str:
        """The explanation."""
        return answer(view, **wanted).failed[0][1]

    def test_less_memory(self) -> None:
        """The least reduction of memory is told, and it is right."""
        view = placement_view(cluster(nodes=2), {node_id(n): Machine(memory=3072) for n in (1, 2)})
        self.assertIn("it would fit with 513 MiB less memory", self.text(view, memory=2560))
        self.assertTrue(answer(view, memory=2560 - 513).placements)
        self.assertFalse(answer(view, memory=2560 - 512).placements)

    def test_less_disk(self) -> None:
        """Disks count with what mirroring takes besides."""
        view = placement_view(cluster(nodes=2), {node_id(n): Machine(disk=8192) for n in (1, 2)})
        text = self.text(view, disk_template="drbd", disks=(2048, 10240))
        self.assertIn("it would fit with 4353 MiB less on disk 1", text)
        self.assertTrue(answer(view, disk_template="drbd", disks=(2048, 10240 - 4353)).placements)

    def test_fewer_cpus(self) -> None:
        """Virtual processors, too."""
        view = placement_view(cluster(nodes=1), {node_id(1): Machine(cpus=1)})
        self.assertIn("it would fit with 3 fewer virtual processors", self.text(view, vcpus=6))

    def test_several_ways(self) -> None:
        """Alternatives are told together."""
        machines = {node_id(1): Machine(memory=2048), node_id(2): Machine(disk=4096)}
        text = self.text(placement_view(cluster(nodes=2), machines))
        self.assertIn("MiB less memory, or with 6145 MiB less on disk 0", text)

    def test_no_way(self) -> None:
        """Nothing is promised where no single change helps."""
        view = placement_view(cluster(nodes=1), {node_id(1): Machine(memory=1100, disk=1024)})
        self.assertNotIn("would fit", self.text(view))

    def test_other_tags(self) -> None:
        """If only an exclusive tag is in the way this is told."""
        value = with_settings(cluster(nodes=1), tags=("htools:iextags:svc",))
        value = with_instance(value, "old", primary="node1", template="plain", tags=("svc:web",))
        self.assertIn(
            "it would fit with other exclusive tags", self.text(placement_view(value), tags=("svc:web",))
        )

    def test_drained_node(self) -> None:
        """A drained node with enough room is named."""
        value = with_node(cluster(nodes=2), "node2", drained=True, master_candidate=False)
        view = placement_view(value, {node_id(1): Machine(memory=1100)})
        self.assertIn("on node2.example.com if that node were not drained", self.text(view))

    def test_many_nodes(self) -> None:
        """The text stays short on a large cluster; the answer has every node."""
        view = placement_view(cluster(nodes=40), {node_id(n): Machine(memory=1100) for n in range(1, 41)})
        solution = answer(view)
        self.assertIn("and 30 other nodes", solution.info)
        self.assertEqual(len(solution.rejections), 40)

    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_promises_hold(self, seed: int) -> None:
        """Where less memory is said to be enough, it is, and one MiB more is not."""
        view, request = random_case(seed, "drbd", most_nodes=6)
        view, request = without_movable(view), msgspec.structs.replace(request, memory=30000)
        text = solve(Allocate(instance=request), view).info
        words = text.rpartition(" MiB less memory")[0].rpartition(" ")[2]
        if words:
            enough = request.memory - int(words)
            for memory, expected in ((enough, 1), (enough + 1, 0)):
                smaller = msgspec.structs.replace(request, memory=memory)
                self.assertEqual(len(solve(Allocate(instance=smaller), view).placements), expected)


class RedundancyTests(SynchronousTestCase):
    """Instances on shared storage must find a place when a node fails."""

    def states(self, *nodes: tuple[int, tuple[int, ...]]) -> list[NodeState]:
        """Nodes with this much memory, and their movable instances."""
        return [
            NodeState(
                node=NodeId(f"n{index}"),
                name=f"node{index}",
                group=GroupId("g"),
                total_memory=memory,
                instance_memory=sum(movable),
                movable_memory=movable,
            )
            for index, (memory, movable) in enumerate(nodes)
        ]

    def test_enough_room(self) -> None:
        """Instances may be spread over several nodes."""
        self.assertIsNone(stranded_node(self.states((1000, (400, 400)), (500, ()), (500, ()))))

    def test_too_little_room(self) -> None:
        """The node that could not be emptied is named."""
        stranded = stranded_node(self.states((1000, (600,)), (500, ()), (500, ())))
        self.assertEqual(stranded and stranded.name, "node0")

    def test_tight_fit(self) -> None:
        """If the largest room is needed for the largest instance, smaller ones go elsewhere."""
        self.assertIsNone(stranded_node(self.states((5000, (600, 300, 300)), (1201, ()), (10, ()))))
        self.assertIsNone(stranded_node(self.states((5000, (500, 400, 300)), (701, ()), (501, ()))))

    def test_single_node(self) -> None:
        """Of a single node nothing is asked."""
        self.assertIsNone(stranded_node(self.states((1000, (600,)))))

    def test_failover_comes_first(self) -> None:
        """What mirrored instances of the same node take on their secondary is not room."""
        first, second = self.states((1000, (400,)), (700, ()))
        first = msgspec.structs.replace(first, partners=frozenset({second.node}))
        second = msgspec.structs.replace(second, peers={first.node: 300}, reserved=300)
        self.assertEqual(stranded_node([first, second]), first)

    def test_placement_keeps_it(self) -> None:
        """A place that would strand instances is refused, with that reason."""
        machines = {node_id(n): Machine(memory=9216) for n in (1, 2)}
        value = with_instance(cluster(nodes=2), "old", primary="node1", template="sharedfile", memory=5000)
        solution = answer(placement_view(value, machines), disk_template="sharedfile", memory=4000)
        self.assertEqual(solution.placements, ())
        self.assertIn("could not all be restarted elsewhere", solution.rejections[1].reason)

    def test_already_lost(self) -> None:
        """Where a group is not redundant anyway, nothing is refused for that."""
        machines = {node_id(1): Machine(memory=65536), node_id(2): Machine(memory=4096)}
        value = with_instance(cluster(nodes=2), "old", primary="node1", template="sharedfile", memory=9000)
        self.assertTrue(answer(placement_view(value, machines), disk_template="sharedfile").placements)


class RelocateTests(SynchronousTestCase):
    """Another node for an existing instance."""

    def test_best_secondary(self) -> None:
        """The node is taken after which the group's score is lowest."""
        value = with_instance(cluster(nodes=4), "web", primary="node1", secondary="node2")
        value = with_instance(value, "busy", primary="node4", template="plain", memory=8192)
        view = placement_view(value)
        solution = solve(Relocate(instance="web.example.com", relocate_from=(node_id(2),)), view)
        self.assertEqual(nodes_of(view, solution), ["node3"])

    def test_wrong_node(self) -> None:
        """It can only leave the node it may leave."""
        value = with_instance(cluster(nodes=4), "web", primary="node1", secondary="node2")
        with self.assertRaisesRegex(AllocatorError, "only be relocated from its secondary"):
            solve(Relocate(instance="web.example.com", relocate_from=(node_id(1),)), placement_view(value))

    def test_no_room(self) -> None:
        """If no node can take it the reasons are told."""
        value = with_instance(cluster(nodes=3), "web", primary="node1", template="rbd", memory=4096)
        machines = {node_id(n): Machine(memory=2048) for n in (2, 3)}
        solution = solve(
            Relocate(instance="web.example.com", relocate_from=(node_id(1),)), placement_view(value, machines)
        )
        self.assertEqual(solution.placements, ())
        self.assertIn("node2.example.com: 3073 MiB of memory missing", solution.info)

    def test_soft_rules_after_a_failure(self) -> None:
        """From a node that is down an instance may go where it breaks a soft rule."""
        value = with_instance(cluster(nodes=2), "web", primary="node1", template="rbd", vcpus=8)
        request = Relocate(instance="web.example.com", relocate_from=(node_id(1),))
        machines = {node_id(2): Machine(cpus=2)}
        self.assertFalse(solve(request, placement_view(value, machines)).placements)
        value = with_node(value, "node1", offline=True, master_candidate=False)
        self.assertTrue(solve(request, placement_view(value, machines)).placements)


class DeterminismTests(SynchronousTestCase):
    """Nothing depends on the order in which things were configured."""

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 10**6), rng=st.randoms(use_true_random=False))
    def test_order_of_nodes(self, seed: int, rng: Any) -> None:
        """The same cluster in another order has the same answer."""
        view, request = random_case(seed, "drbd", most_nodes=6)
        order = list(view.cluster.nodes)
        rng.shuffle(order)
        nodes = view.cluster.nodes
        shuffled = nodes.without(*order).with_items({uuid: nodes[uuid] for uuid in order})
        other = msgspec.structs.replace(view, cluster=msgspec.structs.replace(view.cluster, nodes=shuffled))
        wanted = Allocate(instance=request)
        self.assertEqual(solve(wanted, view).placements, solve(wanted, other).placements)

    def test_score_is_of_the_result(self) -> None:
        """The score of a choice is that of the cluster with the instance in it."""
        view, request = random_case(11, "drbd")
        scene = scene_of(view, question_of(Allocate(instance=request), view.cluster))
        choice = place(scene, request)
        assert choice is not None
        states = [s for s in scene.changed(*choice.nodes).states if request.group in (None, s.group)]
        self.assertAlmostEqual(ClusterScore(states).value, choice.score, places=9)

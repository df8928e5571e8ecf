"""Debian's `hail` understands our documents, and the built-in allocator is as good as it."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection, Iterable, Mapping
from random import Random
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic import allocate
from ganeti.logic.allocate import scene_of
from ganeti.logic.allocator_answers import check_solution, decode
from ganeti.logic.allocator_protocol import encode
from ganeti.logic.evacuate import moved_to
from ganeti.logic.node_figures import question_of
from ganeti.logic.node_state import demand_of_request
from ganeti.logic.placement import Scene, occupied
from ganeti.logic.redundancy import stranded_node
from ganeti.logic.score import cluster_score
from ganeti.model.allocation import (
    Allocate,
    AllocateSecondary,
    AllocationRequest,
    ChangeGroup,
    ClusterView,
    Evacuate,
    EvacuationMode,
    InstanceRequest,
    MultiAllocate,
    Relocate,
    Solution,
)
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.node import AllocPolicy, Node
from ganeti.testing.clusters import cluster, group_id, node_id, with_instance
from ganeti.testing.htools import NODE_MEMORY, htools_root, run_htools
from ganeti.testing.placement_worlds import exclusive_case, placement_view, random_case, request_for

SAME_RULES = ("--no-capacity-checks",)
"""Without this hail refuses what is not restartable elsewhere as a whole, plain disks included."""


def hail(text: str, *options: str) -> str:
    """What hail writes about a document."""
    with tempfile.NamedTemporaryFile("w", prefix="ganeti-iallocator.") as file:
        file.write(text)
        file.flush()
        return run_htools("hail", NODE_MEMORY, *options, file.name).stdout


class HailTestCase(SynchronousTestCase):
    """Asks hail and the built-in allocator."""

    def setUp(self) -> None:
        """Have hail at hand."""
        htools_root()

    def by_hail(self, request: AllocationRequest, view: ClusterView, *options: str) -> Solution:
        """hail's answer, decoded and checked."""
        return decode(request, view, hail(encode(request, view), *options))


class ProtocolTests(HailTestCase):
    """hail accepts what we write, and we accept what it answers."""

    def test_allocate(self) -> None:
        """hail places an instance."""
        view = placement_view(cluster(nodes=3, instances=4, enabled_hypervisors=("kvm",)))
        solution = self.by_hail(Allocate(instance=request_for(disk_template="drbd")), view)
        self.assertEqual(len(set(solution.placements[0].nodes)), 2)
        self.assertIn("Request successful", solution.info)

    def test_refusal(self) -> None:
        """hail's refusal is passed on in its words."""
        view = placement_view(cluster(nodes=2, enabled_hypervisors=("kvm",)))
        solution = self.by_hail(Allocate(instance=request_for(memory=32768, disks=(1048576,))), view)
        self.assertIn("FailDisk", solution.failed[0][1])

    def test_multi_allocate(self) -> None:
        """hail places several instances at once."""
        view = placement_view(cluster(nodes=4, enabled_hypervisors=("kvm",)))
        wanted = tuple(request_for(f"i{number}.example.com") for number in range(3))
        solution = self.by_hail(MultiAllocate(instances=wanted), view)
        self.assertEqual(len(solution.placements), 3)

    def test_relocate(self) -> None:
        """hail and the built-in allocator agree on another secondary."""
        value = cluster(nodes=5, instances=9, enabled_hypervisors=("kvm",))
        value = with_instance(value, "web", primary="node1", secondary="node2", memory=4096, hypervisor="kvm")
        view = placement_view(value)
        request = Relocate(instance="web.example.com", relocate_from=(node_id(2),))
        theirs, ours = self.by_hail(request, view), allocate.solve(request, view)
        self.assertEqual(ours.placements, theirs.placements)


class DepartureTests(HailTestCase):
    """The same instances leave nodes or groups: as hail says, or better."""

    @settings(max_examples=80, deadline=None)
    @given(seed=st.integers(0, 10**6), mode=st.sampled_from(list(EvacuationMode)), rng=st.randoms())
    def test_evacuation(self, seed: int, mode: EvacuationMode, rng: Random) -> None:
        """Off nodes, inside the group; of one group, as scores are those of a group."""
        view, names = self.case(seed, rng)
        cluster = view.cluster
        home = {cluster.nodes[cluster.instance(name).primary_node].group for name in names[:1]}
        names = [name for name in names if cluster.nodes[cluster.instance(name).primary_node].group in home]
        if names:
            self.compare(view, Evacuate(instances=tuple(names), mode=mode), home)

    @settings(max_examples=80, deadline=None)
    @given(seed=st.integers(0, 10**6), rng=st.randoms())
    def test_change_of_group(self, seed: int, rng: Random) -> None:
        """Into other groups."""
        view, names = self.case(seed, rng)
        if names and len(view.cluster.groups) > 1:
            request = ChangeGroup(instances=tuple(names), target_groups=())
            self.compare(view, request, set(view.cluster.groups), *SAME_RULES)

    @settings(max_examples=80, deadline=None)
    @given(seed=st.integers(0, 10**6), mode=st.sampled_from(list(EvacuationMode)), rng=st.randoms())
    def test_tags(self, seed: int, mode: EvacuationMode, rng: Random) -> None:
        """One at a time, between nodes of which not all take instances of all others."""
        view, names = self.case(seed, rng, is_tagged=True)
        for name in names:
            home = view.cluster.nodes[view.cluster.instance(name).primary_node].group
            self.compare(view, Evacuate(instances=(name,), mode=mode), {home})

    def case(self, seed: int, rng: Random, *, is_tagged: bool = False) -> tuple[ClusterView, list[str]]:
        """A cluster, and up to three instances on nodes that are up."""
        view, _ = random_case(seed, "drbd", is_tagged=is_tagged)
        view = msgspec.structs.replace(view, candidates=None)
        # What hail makes of instances on nodes that may have none is its own affair.
        names = sorted(
            instance.name
            for instance in view.cluster.instances.values()
            if all(_is_fine(view.cluster.nodes[node]) for node in view.cluster.nodes_of(instance))
        )
        return view, rng.sample(names, min(len(names), 3))

    def compare(
        self, view: ClusterView, request: Evacuate | ChangeGroup, scope: Collection[GroupId], *options: str
    ) -> None:
        """The same places and jobs; or no worse for the groups that count, where they part first."""
        cluster = view.cluster
        ours = allocate.solve(request, view)
        theirs = json.loads(hail(encode(request, view), *options))
        self.assertTrue(theirs["success"], theirs["info"])
        moved, _, jobs = theirs["result"]
        places = {place.instance: place.nodes for place in ours.placements}
        by_hail = {name: tuple(cluster.node(node).uuid for node in nodes) for name, _, nodes in moved}
        if places == by_hail:
            self.assertEqual(_op_ids(ours.jobs), _op_ids(jobs))
            return
        scene = scene_of(view, question_of(request, view.cluster))
        for name in request.instances:
            instance = cluster.instance(name)
            if places.get(name) != by_hail.get(name):
                break
            if name in places:
                scene = moved_to(scene, instance, places[name])
        self.assertIn(name, places)
        if name in by_hail:
            own, other = (moved_to(scene, instance, found[name]) for found in (places, by_hail))
            if _score(own, scope) > _score(other, scope) + 1e-8:
                # Then it is for what must find room elsewhere if a node fails, at which hail did not look.
                home = cluster.nodes[by_hail[name][0]].group
                before = [state for state in scene.states if state.group == home]
                after = [state for state in other.states if state.group == home]
                self.assertIsNone(stranded_node(before))
                self.assertIsNotNone(stranded_node(after))


class SecondaryTests(HailTestCase):
    """A mirror for an instance that has none."""

    @settings(max_examples=80, deadline=None)
    @given(seed=st.integers(0, 10**6), is_tagged=st.booleans(), rng=st.randoms())
    def test_best(self, seed: int, is_tagged: bool, rng: Random) -> None:
        """Never worse than hail, which refuses some because it counts the instance twice."""
        view, _ = random_case(seed, "plain", is_tagged=is_tagged)
        view = msgspec.structs.replace(view, candidates=None)
        cluster = view.cluster
        names = sorted(
            one.name for one in cluster.instances.values() if cluster.disk_template(one) == "plain"
        )
        if not names:
            return
        request = AllocateSecondary(instance=rng.choice(names))
        ours = allocate.solve(request, view)
        check_solution(request, view, ours)
        theirs = json.loads(hail(encode(request, view), *SAME_RULES))
        if not theirs["success"] or not _is_fine(cluster.node(theirs["result"])):
            # It puts mirrors on drained nodes, too.
            return
        self.assertEqual(decode(request, view, json.dumps(theirs)).placements[0].instance, request.instance)
        self.assertEqual(ours.failed, ())
        best = self.score(view, request, cluster.node(theirs["result"]).uuid)
        self.assertLessEqual(self.score(view, request, ours.placements[0].nodes[0]), best + 1e-8)

    def score(self, view: ClusterView, request: AllocateSecondary, node: NodeId) -> float:
        """Score of the group with the mirror on a node."""
        cluster = view.cluster
        instance = cluster.instance(request.instance)
        sizes = tuple(disk.size for disk in cluster.disks_of(instance))
        wanted = request_for(
            disk_template="drbd",
            disks=sizes,
            memory=int(str(instance.beparams["maxmem"])),
            vcpus=int(str(instance.beparams["vcpus"])),
        )
        demand = demand_of_request(wanted, cluster)
        scene = scene_of(view, question_of(request, cluster))
        home = cluster.nodes[instance.primary_node].group
        states = [
            state.with_secondary(demand, instance.primary_node) if state.node == node else state
            for state in scene.states
            if state.group == home
        ]
        return cluster_score(states)


def _score(scene: Scene, scope: Collection[GroupId]) -> float:
    """Score of some groups."""
    return cluster_score([state for state in scene.states if state.group in scope])


def _op_ids(jobs: Iterable[Iterable[Mapping[str, object]]]) -> list[list[object]]:
    return [[opcode["OP_ID"] for opcode in job] for job in jobs]


def _is_fine(node: Node) -> bool:
    return node.vm_capable and not node.offline and not node.drained


class ComparisonTests(HailTestCase):
    """The same cluster, the same instance: never worse than hail."""

    @settings(max_examples=80, deadline=None)
    @given(seed=st.integers(0, 10**6))
    @example(seed=106340).via("stopped instances of the secondary count as if they ran")
    def test_mirrored(self, seed: int) -> None:
        """On pairs of nodes both have the same score, to the last digit that hail prints."""
        self.compare(*random_case(seed, "drbd"))

    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_plain(self, seed: int) -> None:
        """The same on single nodes."""
        self.compare(*random_case(seed, "plain"))

    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_shared(self, seed: int) -> None:
        """The same for disks that all nodes of a group can reach."""
        self.compare(*random_case(seed, "sharedfile"))

    @settings(max_examples=80, deadline=None)
    @given(seed=st.integers(0, 10**6), template=st.sampled_from(("drbd", "plain", "sharedfile")))
    @example(seed=71571, template="sharedfile").via("hail's refuge is a drained node")
    def test_tags(self, seed: int, template: str) -> None:
        """The same where tags say what belongs together, apart, or into the same place."""
        self.compare(*random_case(seed, template, is_tagged=True))

    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_spindles(self, seed: int) -> None:
        """The same where one of several groups has exclusive storage."""
        view, instance = exclusive_case(seed, is_everywhere=False)
        others = [
            group
            for group in view.cluster.groups.values()
            if group.uuid != group_id(1)
            and group.alloc_policy is not AllocPolicy.UNALLOCABLE
            and any(node.group == group.uuid for node in view.cluster.nodes.values())
        ]
        if others and instance.group is None:
            self.compare(view, instance)

    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_spindles_everywhere(self, seed: int) -> None:
        """Where all have, what counts is how many other instances still fit: the same node."""
        view, instance = exclusive_case(seed, is_everywhere=True)
        request = Allocate(instance=instance)
        ours = allocate.solve(request, view)
        theirs = json.loads(hail(encode(request, view), *SAME_RULES))
        self.assertEqual(bool(ours.placements), theirs["success"], theirs["info"])
        names = [view.cluster.nodes[node].name for place in ours.placements for node in place.nodes]
        self.assertEqual(names, theirs["result"], theirs["info"])

    def compare(self, view: ClusterView, instance: InstanceRequest) -> None:
        """Fail unless our answer is as good as hail's by the same rules, or hail's breaks ours."""
        request = Allocate(instance=instance)
        ours = allocate.solve(request, view)
        theirs = json.loads(hail(encode(request, view), *SAME_RULES))
        names = [view.cluster.nodes[node].name for place in ours.placements for node in place.nodes]
        if theirs["result"] == names:
            if names:
                self.assertAlmostEqual(printed_score(theirs), self.score(view, request, names), delta=2e-8)
            return
        if theirs["result"] and names:
            best = self.score(view, request, theirs["result"])
            if self.score(view, request, names) <= best + 1e-8:
                return
        if theirs["result"] and self.strands(view, request, theirs["result"]):
            # To hail, what runs on a node that fails could also go to one that is drained.
            return
        # Whatever else they differ in must be the rule about restarting what is on shared storage,
        # in which hail is at least as strict as we are.
        strict = json.loads(hail(encode(request, view)))
        self.assertNotEqual(strict["result"], theirs["result"])

    def strands(self, view: ClusterView, request: Allocate, names: list[str]) -> bool:
        """Whether an instance on these nodes could not be restarted on another usable one."""
        scene = scene_of(view, question_of(request, view.cluster))
        chosen = [state for state in scene.states if state.name in names]
        demand = demand_of_request(request.instance, view.cluster)
        after = scene.changed(*occupied(chosen, demand))
        before_and_after = (
            stranded_node([s for s in one.states if s.is_online and s.group == chosen[0].group])
            for one in (scene, after)
        )
        return [stranded is None for stranded in before_and_after] == [True, False]

    def score(self, view: ClusterView, request: Allocate, names: list[str]) -> float:
        """Score of the part of the cluster that counts, with the instance on these nodes."""
        scene = scene_of(view, question_of(request, view.cluster))
        by_name = {state.name: state for state in scene.states}
        demand = demand_of_request(request.instance, view.cluster)
        scene = scene.changed(*occupied([by_name[name] for name in names], demand))
        group = request.instance.group
        return cluster_score([state for state in scene.states if group in (None, state.group)])


def printed_score(reply: dict[str, Any]) -> float:
    """The score that hail names for the nodes it chose."""
    place = "/".join(reply["result"])
    found = re.findall(r"score: ([\d.]+), successes[^/]*?for node\(s\) ([^ ,]+)", reply["info"])
    return next(float(score) for score, nodes in found if nodes == place)

"""Tags that say what comes together: exclusive ones, locations, and between which nodes instances go."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.allocate import scene_of, solve
from ganeti.logic.node_figures import question_of
from ganeti.logic.node_state import NodeState, demand_of_request
from ganeti.logic.placement import occupied
from ganeti.logic.placement_tags import TagRules, tag_rules
from ganeti.logic.score import ClusterScore, cluster_score
from ganeti.model.allocation import Allocate, ChangeGroup, Evacuate, EvacuationMode, Relocate
from ganeti.model.cluster import Cluster
from ganeti.testing.clusters import cluster, node_id, with_instance, with_node, with_settings
from ganeti.testing.placement_worlds import placement_view, random_case, request_for


def tagged(*cluster_tags: str, **node_tags: tuple[str, ...]) -> Cluster:
    """A cluster with a node for each keyword."""
    value = with_settings(cluster(nodes=len(node_tags), enabled_hypervisors=("kvm",)), tags=cluster_tags)
    for name, tags in node_tags.items():
        value = with_node(value, f"{name}.example.com", tags=tags)
    return value


class RulesTests(SynchronousTestCase):
    """What the tags of the cluster say."""

    def test_kinds(self) -> None:
        """Each kind gives a meaning to the tags with its prefix, and to no others."""
        rules = tag_rules(
            tagged("htools:iextags:svc", "htools:nlocation:power", "htools:migration:cpu", "other")
        )
        self.assertEqual(rules.exclusive(("svc:web", "svcs:web", "svc", "power:a")), ("svc:web",))
        self.assertEqual(rules.locations(("power:a", "rack:1", "powerful")), {"power:a"})
        self.assertEqual(rules.migration_tags(("cpu:old", "power:a")), {"cpu:old"})

    def test_desired_locations(self) -> None:
        """A location can be wished for by the prefix, or a single one can be named."""
        for wish in ("power", "power:b"):
            rules = tag_rules(tagged(f"htools:desiredlocation:{wish}"))
            self.assertEqual(rules.desired_locations(("power:b", "svc:web")), {"power:b"}, wish)

    def test_without_sense(self) -> None:
        """Rules without a prefix, or with half a pair, are none."""
        half = ("htools:iextags:", "htools:allowmigration:a", "htools:allowmigration:::b")
        self.assertEqual(tag_rules(tagged(*half)), TagRules())

    def test_allowed_migrations(self) -> None:
        """A node takes instances of nodes with its own tags, and of those that are allowed expressly."""
        rules = tag_rules(tagged("htools:migration:cpu", "htools:allowmigration:cpu:old::cpu:new"))
        self.assertEqual(rules.accepted_migrations(("cpu:new",)), {"cpu:new", "cpu:old"})
        self.assertEqual(rules.accepted_migrations(("cpu:old",)), {"cpu:old"})


class LocationTests(SynchronousTestCase):
    """Nodes that fail together, and nodes where an instance ought to be."""

    two_circuits = tagged(
        "htools:nlocation:power",
        "htools:desiredlocation:power",
        "htools:iextags:svc",
        node1=("power:a",),
        node2=("power:a",),
        node3=("power:b",),
        node4=("power:b",),
    )

    def place(self, value: Cluster, **changes: Any) -> list[str]:
        """Numbers of the nodes that are chosen."""
        solution = solve(Allocate(instance=request_for(**changes)), placement_view(value))
        return [value.nodes[node].name[4] for one in solution.placements for node in one.nodes]

    def test_mirror_elsewhere(self) -> None:
        """A mirror lies where not the same cause takes both; the established allocator says the same."""
        self.assertEqual(self.place(self.two_circuits, disk_template="drbd"), ["4", "2"])

    def test_desired(self) -> None:
        """An instance goes to the location that its tag names."""
        self.assertEqual(self.place(self.two_circuits, tags=("power:a",)), ["2"])

    def test_exclusive_instances(self) -> None:
        """Two instances with the same exclusive tag get different locations."""
        value = with_instance(
            self.two_circuits, "old", primary="node4", template="plain", tags=("svc:web",), memory=2048
        )
        self.assertEqual(self.place(value, tags=("svc:web",)), ["2"])

    def test_new_mirror(self) -> None:
        """A mirror that is moved goes where other causes count."""
        value = with_instance(self.two_circuits, "old", primary="node4", secondary="node3", hypervisor="kvm")
        solution = solve(
            Relocate(instance="old.example.com", relocate_from=(node_id(3),)), placement_view(value)
        )
        self.assertEqual(solution.placements[0].nodes, (node_id(2),))

    def states(self, value: Cluster) -> dict[str, NodeState]:
        """Each node by its number."""
        request = Allocate(instance=request_for())
        states = scene_of(placement_view(value), question_of(request, value)).states
        return {state.name[4]: state for state in states}

    def test_offline_primary(self) -> None:
        """What fails together counts if the primary node is in use, whatever the state of the mirror's."""
        value = with_instance(self.two_circuits, "old", primary="node1", secondary="node2")
        for name, expected in (("node2", 1), ("node1", 0)):
            states = self.states(with_node(value, name, drained=True, master_candidate=False))
            found = ClusterScore(list(states.values())).metrics["location_score"]
            self.assertEqual(found, expected, name)

    def test_crowded(self) -> None:
        """Every further instance with the same exclusive tag in the same location counts."""
        value = self.two_circuits
        for number in (1, 2, 3):
            value = with_instance(
                value, f"i{number}", primary=f"node{number}", template="plain", tags=("svc:web",)
            )
        score = ClusterScore(list(self.states(value).values()))
        self.assertEqual(score.metrics["location_exclusion_score"], 1)

    @settings(max_examples=80, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_change_is_exact(self, seed: int) -> None:
        """The score after a change is that of the changed cluster, and taking it back gives the first one."""
        view, request = random_case(seed, "drbd", most_nodes=6, is_tagged=True)
        demand = demand_of_request(request, view.cluster)
        scene = scene_of(view, question_of(Allocate(instance=request), view.cluster))
        before = ClusterScore(scene.states)
        for pair in permutations([state for state in scene.states if state.is_online], 2):
            changed = occupied(pair, demand)
            score = before
            for old, new in zip(pair, changed):
                score = score.after(old, new)
            self.assertAlmostEqual(score.value, cluster_score(scene.changed(*changed).states), places=6)
            back = (
                changed[0].without_primary(demand),
                changed[1].without_secondary(demand, pair[0].node),
            )
            for old, new in zip(changed, back):
                score = score.after(old, new)
            self.assertAlmostEqual(score.value, before.value, places=6)


class MigrationTests(SynchronousTestCase):
    """Instances go only between nodes that suit each other."""

    value = tagged(
        "htools:migration:cpu",
        "htools:allowmigration:cpu:old::cpu:new",
        node1=("cpu:old",),
        node2=("cpu:old",),
        node3=("cpu:new",),
        node4=(),
    )

    def evacuate(self, home: str, mirror: str | None, mode: EvacuationMode) -> str:
        """Nodes after the evacuation of an instance, or why it stays."""
        template = "sharedfile" if mirror is None else "drbd"
        value = with_instance(
            self.value, "web", primary=home, secondary=mirror, template=template, hypervisor="kvm"
        )
        solution = solve(Evacuate(instances=("web.example.com",), mode=mode), placement_view(value))
        if solution.failed:
            return solution.failed[0][1]
        return " ".join(value.nodes[node].name[4] for node in solution.placements[0].nodes)

    def test_to_the_mirror(self) -> None:
        """A mirrored instance fails over only to a node that takes it."""
        mode = EvacuationMode.PRIMARY_ONLY
        self.assertEqual(self.evacuate("node1", "node3", mode), "3 1")
        self.assertIn("cannot be migrated to it", self.evacuate("node3", "node1", mode))
        self.assertIn("'cpu:old'", self.evacuate("node1", "node4", mode))

    def test_new_mirror(self) -> None:
        """The mirror itself may be anywhere: nothing is migrated."""
        self.assertEqual(self.evacuate("node3", "node1", EvacuationMode.SECONDARY_ONLY), "3 4")

    def test_shared_storage(self) -> None:
        """An instance on shared storage goes to a node that takes it."""
        self.assertIn(self.evacuate("node1", None, EvacuationMode.ALL), ("2", "3"))
        self.assertIn("no other node", self.evacuate("node3", None, EvacuationMode.ALL))

    def test_both_nodes(self) -> None:
        """The new primary takes what runs on the old one."""
        self.assertIn(self.evacuate("node1", "node3", EvacuationMode.ALL), ("2 4",))
        self.assertIn("no two other nodes", self.evacuate("node3", "node1", EvacuationMode.ALL))

    def test_new_instance(self) -> None:
        """A new instance comes from nowhere and may be put on any node."""
        solution = solve(Allocate(instance=request_for()), placement_view(self.value))
        self.assertEqual(solution.placements[0].nodes, (node_id(4),))

    def test_from_a_dead_node(self) -> None:
        """Where the primary is down the instance comes from its mirror, whose tags count then."""
        value = cluster(nodes=4, groups=2, enabled_hypervisors=("kvm",), tags=("htools:migration:cpu",))
        for name, tags in (("node1", ("cpu:old",)), ("node3", ("cpu:old", "cpu:x"))):
            value = with_node(value, f"{name}.example.com", tags=tags)
        for name in ("node2", "node4"):
            value = with_node(value, f"{name}.example.com", tags=("cpu:old",))
        value = with_instance(value, "web", primary="node1", secondary="node3", hypervisor="kvm")
        request = ChangeGroup(instances=("web.example.com",), target_groups=())
        self.assertEqual(len(solve(request, placement_view(value)).placements), 1)
        dead = with_node(value, "node1.example.com", offline=True, master_candidate=False)
        self.assertIn("can take it", solve(request, placement_view(dead)).failed[0][1])

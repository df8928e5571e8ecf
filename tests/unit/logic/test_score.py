"""The cluster score: known values, and that small changes are worked out rightly."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.node_figures import Question
from ganeti.logic.node_state import Demand, NodeState, demand_of_request, node_states
from ganeti.logic.score import METRICS, ClusterScore, cluster_score, node_values
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.instance import AdminState
from ganeti.testing.clusters import cluster, node_id, with_instance, with_node, with_settings
from ganeti.testing.placement_worlds import Machine, placement_view, random_case, request_for

PLAIN = Question(hypervisor="kvm", template="plain")


def state(number: int, **changes: Any) -> NodeState:
    """A node with round figures."""
    values: dict[str, Any] = {
        "node": NodeId(f"n{number}"),
        "name": f"node{number}",
        "group": GroupId("g"),
        "total_memory": 1000,
        "planned_unallocated": 1000,
        "total_disk": 1000,
        "free_disk": 1000,
        "planned_free_disk": 1000,
        "total_cpus": 10,
    }
    return NodeState(**{**values, **changes})


class ScoreTests(SynchronousTestCase):
    """What the score is made of."""

    def test_equal_nodes(self) -> None:
        """A cluster of equal empty nodes has the score 0."""
        self.assertEqual(cluster_score([state(n) for n in range(4)]), 0.0)

    def test_no_nodes(self) -> None:
        """Where nothing is online there is nothing to balance."""
        self.assertEqual(cluster_score([state(1, is_online=False)]), 0.0)

    def test_order_and_weights(self) -> None:
        """The terms are the established ones in their order."""
        table = [(metric.name, metric.weight) for metric in METRICS]
        self.assertEqual(table[0], ("free_mem_cv", 0.5))
        self.assertEqual(table[2:6], [
            ("n1_cnt", 1), ("reserved_mem_cv", 1), ("offline_all_cnt", 4), ("offline_pri_cnt", 16),
        ])  # fmt: skip
        self.assertEqual(table[-1], ("reserved_mem_rtotal", 0.25))

    def test_spread(self) -> None:
        """A spread is the standard deviation over the online nodes."""
        metrics = ClusterScore([state(1), state(2, instance_memory=500), state(3, is_online=False)]).metrics
        self.assertEqual(metrics["free_mem_cv"], 0.25)

    def test_offline_nodes(self) -> None:
        """Instances on nodes that are offline weigh heavily, primaries more."""
        score = cluster_score([state(1), state(2, is_online=False, primaries=2, secondaries=1)])
        self.assertEqual(score, 4 * 3 + 16 * 2)

    def test_not_redundant(self) -> None:
        """A node with less free memory than it has to keep counts with all its instances."""
        metrics = ClusterScore([state(1, reserved=1000, primaries=2, secondaries=3)]).metrics
        self.assertEqual(metrics["n1_cnt"], 5)

    def test_exclusive_tags(self) -> None:
        """Every further primary with an exclusive tag counts."""
        self.assertEqual(
            ClusterScore([state(1, exclusion_tags={"a": 3, "b": 1})]).metrics["pri_tags_score"], 2
        )

    def test_established_value(self) -> None:
        """Five nodes and one instance score what Debian's hail (3.0.2) prints for them."""
        nodes = {node_id(n): Machine(memory=65536, own_memory=4096, lost_memory=1440) for n in range(1, 6)}
        value = cluster(nodes=5, enabled_hypervisors=("kvm",))
        view = placement_view(value, nodes)
        states = list(node_states(view, Question(hypervisor="kvm", template="sharedfile")))
        demand = demand_of_request(request_for(disk_template="sharedfile"), value)
        states[-1] = states[-1].with_primary(demand)
        self.assertEqual(f"{cluster_score(states):.8f}", "1.66250000")

    @given(seed=st.integers(0, 10**6), template=st.sampled_from(("plain", "drbd", "sharedfile")))
    def test_change_is_exact(self, seed: int, template: str) -> None:
        """The score after a change is that of the changed cluster."""
        view, request = random_case(seed, template, most_nodes=6)
        states = list(node_states(view, Question(hypervisor="kvm", template=template)))
        demand = demand_of_request(request, view.cluster)
        score = ClusterScore(states)
        for index, before in enumerate(states):
            if before.is_online:
                after = before.with_primary(demand)
                changed = [*states[:index], after, *states[index + 1 :]]
                self.assertAlmostEqual(score.after(before, after).value, cluster_score(changed), places=6)


class NodeStateTests(SynchronousTestCase):
    """What is counted on a node."""

    def states(self, *options: dict[str, Any], **settings: Any) -> dict[str, NodeState]:
        """States by short name of three nodes with some instances."""
        value = with_settings(cluster(nodes=3, enabled_hypervisors=("kvm",)), **settings)
        for number, one in enumerate(options):
            value = with_instance(value, f"i{number}", **{"memory": 4096, "primary": "node1", **one})
        states = node_states(placement_view(value), PLAIN)
        return {state.name.partition(".")[0]: state for state in states}

    def test_running(self) -> None:
        """A running instance uses memory and processors."""
        node = self.states({"template": "plain", "vcpus": 3})["node1"]
        self.assertEqual((node.unallocated, node.used_cpus, node.primaries), (60416, 4, 1))

    def test_stopped(self) -> None:
        """A stopped one uses none now, but is planned for."""
        node = self.states({"template": "plain", "admin_state": AdminState.DOWN})["node1"]
        self.assertEqual((node.unallocated, node.planned_unallocated), (64512, 60416))

    def test_mirrors_reserve(self) -> None:
        """A secondary keeps free what the failure of one primary would bring, also stopped ones."""
        states = self.states(
            {"secondary": "node3"},
            {"secondary": "node3", "admin_state": AdminState.DOWN},
            {"primary": "node2", "secondary": "node3"},
        )
        self.assertEqual(states["node3"].reserved, 8192)
        self.assertEqual(states["node1"].partners, frozenset({node_id(3)}))

    def test_unbalanced(self) -> None:
        """Nothing is kept for an instance without auto_balance."""
        beparams = {"maxmem": 4096, "auto_balance": False}
        self.assertEqual(self.states({"secondary": "node3", "beparams": beparams})["node3"].reserved, 0)

    def test_forthcoming(self) -> None:
        """A reserved instance counts in planned figures only."""
        node = self.states({"secondary": "node2", "forthcoming": True, "vcpus": 3})["node1"]
        self.assertEqual((node.primaries, node.used_cpus, node.planned_cpus), (0, 1, 4))

    def test_exclusive_tags(self) -> None:
        """Tags below an exclusion prefix of the cluster are counted, others are not."""
        tags = ("svc:web", "other")
        node = self.states({"template": "plain", "tags": tags}, tags=("htools:iextags:svc",))["node1"]
        self.assertEqual(node.exclusion_tags, {"svc:web": 1})

    def test_drained(self) -> None:
        """A drained node has figures but is not online."""
        value = with_node(cluster(nodes=2), "node1", drained=True, master_candidate=False)
        node = node_states(placement_view(value), PLAIN)[0]
        self.assertEqual((node.is_online, node.total_memory), (False, 65536))

    @given(
        memory=st.integers(1, 500),
        is_up=st.booleans(),
        is_forthcoming=st.booleans(),
        is_local=st.booleans(),
        tags=st.sampled_from(((), ("svc:a",))),
    )
    def test_leaving_undoes_coming(
        self, memory: int, is_up: bool, is_forthcoming: bool, is_local: bool, tags: tuple[str, ...]
    ) -> None:
        """What leaves a node takes with it what it brought."""
        demand = Demand(
            name="i",
            memory=memory,
            vcpus=2,
            disk=70,
            is_up=is_up,
            is_local=is_local,
            is_movable=not is_local,
            is_forthcoming=is_forthcoming,
            exclusion_tags=tags,
        )
        before = state(1, instance_memory=100, primaries=1, exclusion_tags={"svc:a": 1})
        self.assertEqual(before.with_primary(demand).without_primary(demand), before)
        other = NodeId("n2")
        mirrored = before.with_secondary(demand, other).without_secondary(demand, other)
        self.assertEqual(node_values(mirrored), node_values(before))

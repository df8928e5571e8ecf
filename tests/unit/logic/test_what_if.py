"""What would be if there were other nodes."""

from __future__ import annotations

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PrereqError
from ganeti.logic.capacity import number_fitting
from ganeti.logic.capacity_params import filled_params
from ganeti.logic.what_if import NewNode, with_nodes, without_nodes
from ganeti.model.allocation import ClusterView
from ganeti.model.ids import GroupId
from ganeti.testing.clusters import cluster, group_id, node_id, with_instance
from ganeti.testing.placement_worlds import placement_view

HOME = GroupId(group_id(1))
SPEC = (8192, 10240, 1)


def count(view: ClusterView, template: str = "drbd") -> int:
    """How many instances of 8 GiB fit."""
    params = filled_params(view.cluster, view.cluster.groups[HOME])
    return number_fitting(view, HOME, msgspec.structs.replace(params, default_template=template), SPEC)


class AddTests(SynchronousTestCase):
    """More nodes."""

    def test_like(self) -> None:
        """A node like one that is there, but empty, counts as much as if it were there."""
        value = with_instance(
            cluster(nodes=2, enabled_hypervisors=("kvm",)),
            "old",
            primary="node1",
            secondary="node2",
            memory=16384,
            hypervisor="kvm",
        )
        three = with_instance(
            cluster(nodes=3, enabled_hypervisors=("kvm",)),
            "old",
            primary="node1",
            secondary="node2",
            memory=16384,
            hypervisor="kvm",
        )
        view = placement_view(value)
        more = with_nodes(view, [NewNode(group=HOME, like=node_id(1))])
        self.assertEqual(count(more), count(placement_view(three)))
        self.assertEqual(len(view.cluster.nodes), 2)

    def test_size(self) -> None:
        """A node of a size has that, all of it free."""
        view = placement_view(cluster(nodes=1, enabled_hypervisors=("kvm",)))
        more = with_nodes(view, [NewNode(group=HOME, size=(65536, 1048576, 16))] * 2)
        self.assertEqual(len(list(more.cluster.members(HOME))), 3)
        self.assertEqual(count(view), 0)
        self.assertGreater(count(more), 10)

    def test_unknown(self) -> None:
        """A node of which nothing is known is no model."""
        view = placement_view(cluster(nodes=2), without_facts=frozenset([node_id(2)]))
        with self.assertRaisesRegex(PrereqError, "nothing is known of node node2.example.com; give the size"):
            with_nodes(view, [NewNode(group=HOME, like=node_id(2))])


class LoseTests(SynchronousTestCase):
    """Fewer nodes."""

    def test_mirrored(self) -> None:
        """A mirrored instance of a lost node runs on its other one and takes memory there."""
        value = cluster(nodes=4, enabled_hypervisors=("kvm",))
        value = with_instance(value, "a", primary="node1", secondary="node2", memory=16384, hypervisor="kvm")
        view = placement_view(value)
        less = without_nodes(view, [node_id(1)])
        self.assertEqual(less.cluster.instance("a").primary_node, node_id(2))
        self.assertEqual(less.cluster.secondary_nodes(less.cluster.instance("a")), (node_id(1),))
        empty = placement_view(cluster(nodes=3, enabled_hypervisors=("kvm",)))
        self.assertEqual(count(less), count(empty) - 2)
        self.assertEqual(view.cluster.instance("a").primary_node, node_id(1))

    def test_plain(self) -> None:
        """Instances that cannot run elsewhere are down with their node."""
        value = cluster(nodes=3, enabled_hypervisors=("kvm",))
        value = with_instance(value, "a", primary="node1", template="plain", memory=16384, hypervisor="kvm")
        less = without_nodes(placement_view(value), [node_id(1)])
        self.assertEqual(count(less), count(placement_view(cluster(nodes=2, enabled_hypervisors=("kvm",)))))

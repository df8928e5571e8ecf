"""A mirror for an instance that has none: the request, the answers, and the choice of the node."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import AllocatorError
from ganeti.logic.allocate import solve
from ganeti.logic.allocator_answers import check_solution, decode
from ganeti.logic.allocator_protocol import document
from ganeti.model.allocation import AllocateSecondary, Solution
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.testing.clusters import cluster, node_id, with_instance, with_node
from ganeti.testing.placement_worlds import Machine, placement_view

REQUEST = AllocateSecondary(instance="web.example.com")


def world(*, nodes: int = 4, groups: int = 1, **options: Any) -> Cluster:
    """A cluster with a plain instance on node1."""
    value = cluster(nodes=nodes, groups=groups, enabled_hypervisors=("kvm",))
    values = {"template": "plain", "memory": 4096, "disk_sizes": (10240,), "hypervisor": "kvm", **options}
    return with_instance(value, "web", primary="node1", **values)


def answer(value: Cluster, machines: dict[NodeId, Machine] | None = None) -> Solution:
    """The built-in allocator's answer, checked."""
    view = placement_view(value, machines)
    solution = solve(REQUEST, view)
    check_solution(REQUEST, view, solution)
    return solution


def chosen(value: Cluster, machines: dict[NodeId, Machine] | None = None) -> str:
    """Number of the node that is chosen."""
    ((node,),) = (place.nodes for place in answer(value, machines).placements)
    return value.nodes[node].name[4]


class ChoiceTests(SynchronousTestCase):
    """The built-in allocator."""

    def test_emptiest(self) -> None:
        """The mirror goes where the cluster is most even afterwards; of equal nodes to the last."""
        self.assertEqual(chosen(world()), "4")
        value = with_instance(world(), "busy", primary="node4", secondary="node3", memory=8192)
        self.assertEqual(chosen(value), "2")

    def test_own_group(self) -> None:
        """It stays in the group of the instance."""
        self.assertEqual(chosen(world(nodes=6, groups=3)), "4")

    def test_unusable(self) -> None:
        """Drained, offline and other unusable nodes get none."""
        value = world()
        for name, change in (("node4", "drained"), ("node3", "offline")):
            value = with_node(value, name, master_candidate=False, **{change: True})
        self.assertEqual(chosen(value), "2")
        value = with_node(value, "node2", vm_capable=False)
        self.assertIn("no other node of its group", answer(value).failed[0][1])

    def test_room(self) -> None:
        """Memory for a failover and disk space with metadata have to be there; what lacks is told."""
        small = {node_id(4): Machine(memory=4096), node_id(3): Machine(disk=10368)}
        self.assertEqual(chosen(world(), small), "2")
        lines = answer(world(nodes=3), {node_id(n): Machine(disk=10368) for n in (2, 3)}).failed[0][1]
        self.assertIn("1 MiB of disk space missing (10368 MiB needed, 10367 usable)", lines)

    def test_stopped(self) -> None:
        """A stopped instance can get one, too."""
        self.assertEqual(chosen(world(admin_state="down")), "4")

    def test_refusals(self) -> None:
        """An instance with a mirror, or with disks that cannot get one."""
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({"template": "drbd", "secondary": "node2"}, "has a secondary node already"),
            ({"template": "sharedfile"}, "has sharedfile disks; only plain ones"),
        )
        for options, text in cases:
            with self.assertRaisesRegex(AllocatorError, text):
                answer(world(**options))


class ProtocolTests(SynchronousTestCase):
    """External allocators."""

    def setUp(self) -> None:
        """Two groups of two nodes."""
        self.view = placement_view(world(groups=2))

    def test_document(self) -> None:
        """The request has the name; the instance is among the instances."""
        found = document(REQUEST, self.view)
        self.assertEqual(found["request"], {"type": "allocate-secondary", "name": "web.example.com"})
        self.assertEqual(found["instances"]["web.example.com"]["nodes"], ["node1.example.com"])

    def decoded(self, result: Any) -> Solution:
        """An answer of a program."""
        return decode(REQUEST, self.view, json.dumps({"success": True, "info": "", "result": result}))

    def test_answer(self) -> None:
        """The result is one name."""
        self.assertEqual(self.decoded("node3.example.com").placements[0].nodes, (node_id(3),))

    def test_mistakes(self) -> None:
        """Everything else is refused."""
        for result, text in (
            (["node3.example.com"], "wrong form"),
            ("node9.example.com", "no node of this cluster"),
            ("node1.example.com", "which is its primary node"),
            ("node2.example.com", "which is not in its group default"),
        ):
            with self.assertRaisesRegex(AllocatorError, text):
                self.decoded(result)

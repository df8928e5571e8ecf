"""What every allocator does: suites that each plugin's tests mix in.

    class AcmeTests(AllocatorBehaviours, SynchronousTestCase):
        def make_allocator(self): return AcmeAllocator()

An allocator that passes may be named in `default_iallocator`: operations rely on nothing more.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from zope.interface.verify import verifyObject

from ganeti.errors import AllocatorError
from ganeti.interfaces import IAllocator, IExternalAllocators
from ganeti.logic.allocator_answers import check_solution
from ganeti.model.allocation import Allocate, ClusterView, MultiAllocate, Relocate, Solution
from ganeti.model.cluster import Cluster
from ganeti.model.node import AllocPolicy
from ganeti.testing.clusters import cluster, group_id, node_id, with_instance, with_node
from ganeti.testing.placement_worlds import Machine, placement_view, request_for

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _TestCase
else:
    _TestCase = object


def with_policy(value: Cluster, number: int, policy: AllocPolicy) -> Cluster:
    """The cluster with another `alloc_policy` of one group."""
    group = msgspec.structs.replace(value.groups[group_id(number)], alloc_policy=policy)
    return msgspec.structs.replace(value, groups=value.groups.with_item(group.uuid, group))


class AllocatorBehaviours(_TestCase):
    """Suite for `IAllocator`."""

    def make_allocator(self) -> Any:
        """The allocator under test."""
        raise NotImplementedError

    def names_for(self, view: ClusterView, **wanted: Any) -> list[str]:
        """Short names of the nodes that a new instance is put on; checks the whole answer."""
        request = Allocate(instance=request_for(**wanted))
        solution: Solution = self.make_allocator().solve(request, view)
        check_solution(request, view, solution)
        nodes = [node for placement in solution.placements for node in placement.nodes]
        return [view.cluster.nodes[node].name.partition(".")[0] for node in nodes]

    def test_provides_interface(self) -> None:
        """It provides what it has to, under a name."""
        allocator = self.make_allocator()
        self.assertTrue(verifyObject(IAllocator, allocator))
        self.assertTrue(allocator.name)

    def test_one_node(self) -> None:
        """An instance with disks on one node gets one node."""
        self.assertEqual(len(self.names_for(placement_view(cluster(nodes=3)))), 1)

    def test_two_nodes_of_one_group(self) -> None:
        """A mirrored instance gets two different nodes of one group."""
        view = placement_view(cluster(nodes=6, groups=2))
        first, second = self.names_for(view, disk_template="drbd")
        self.assertNotEqual(first, second)
        groups = {view.cluster.node(name).group for name in (first, second)}
        self.assertEqual(len(groups), 1)

    def test_avoids_unusable_nodes(self) -> None:
        """Nodes that are offline, drained, not for instances or silent get nothing."""
        value = with_node(cluster(nodes=5), "node1", offline=True, master_candidate=False)
        value = with_node(value, "node2", drained=True, master_candidate=False)
        value = with_node(value, "node3", vm_capable=False)
        view = placement_view(value, without_facts=frozenset({node_id(4)}))
        self.assertEqual(self.names_for(view), ["node5"])

    def test_candidates(self) -> None:
        """Only the nodes that may be used are used."""
        view = placement_view(cluster(nodes=5), candidates=frozenset({node_id(2), node_id(3)}))
        self.assertEqual(set(self.names_for(view, disk_template="drbd")), {"node2", "node3"})

    def test_requested_group(self) -> None:
        """An instance that is to be in a group is put there."""
        view = placement_view(cluster(nodes=4, groups=2))
        (name,) = self.names_for(view, group=group_id(2))
        self.assertEqual(view.cluster.node(name).group, group_id(2))

    def test_unallocable_group(self) -> None:
        """S2.3-009, SX-005: a group with that policy gets nothing, even if nothing else fits."""
        value = with_policy(cluster(nodes=1), 1, AllocPolicy.UNALLOCABLE)
        self.assertEqual(self.names_for(placement_view(value)), [])

    def test_last_resort_group(self) -> None:
        """S2.3-010, SX-005: such a group gets an instance only when no preferred one has room."""
        value = with_policy(cluster(nodes=2, groups=2), 1, AllocPolicy.LAST_RESORT)
        small = {node_id(1): Machine(memory=65536), node_id(2): Machine(memory=8192)}
        view = placement_view(value, small)
        self.assertEqual(self.names_for(view, memory=1024), ["node2"])
        self.assertEqual(self.names_for(view, memory=16384), ["node1"])

    def test_memory_is_respected(self) -> None:
        """An instance goes where it has room."""
        machines = {node_id(1): Machine(memory=4096), node_id(2): Machine(memory=65536)}
        view = placement_view(cluster(nodes=2), machines)
        self.assertEqual(self.names_for(view, memory=8192), ["node2"])

    def test_nothing_fits(self) -> None:
        """If nothing fits the answer has no placement but a reason."""
        view = placement_view(cluster(nodes=2), {node_id(n): Machine(memory=2048) for n in (1, 2)})
        request = Allocate(instance=request_for(memory=8192))
        solution = self.make_allocator().solve(request, view)
        self.assertEqual(solution.placements, ())
        ((name, reason),) = solution.failed
        self.assertEqual(name, "new.example.com")
        self.assertTrue(reason)

    def test_same_answer_again(self) -> None:
        """The same question has the same answer."""
        view = placement_view(cluster(nodes=5, instances=7))
        answers = {tuple(self.names_for(view, disk_template="drbd")) for _ in range(3)}
        self.assertEqual(len(answers), 1)

    def test_several_see_each_other(self) -> None:
        """Of several instances each finds the ones before it in their places."""
        view = placement_view(cluster(nodes=2), {node_id(n): Machine(memory=8192) for n in (1, 2)})
        wanted = tuple(request_for(f"new{n}.example.com", memory=5000) for n in (1, 2, 3))
        request = MultiAllocate(instances=wanted)
        solution = self.make_allocator().solve(request, view)
        check_solution(request, view, solution)
        self.assertEqual({p.nodes for p in solution.placements}, {(node_id(1),), (node_id(2),)})
        self.assertEqual([name for name, _ in solution.failed], ["new3.example.com"])

    def test_relocate_secondary(self) -> None:
        """A mirrored instance gets another secondary in its group."""
        value = with_instance(cluster(nodes=3), "web", primary="node1", secondary="node2")
        request = Relocate(instance="web.example.com", relocate_from=(node_id(2),))
        view = placement_view(value)
        solution = self.make_allocator().solve(request, view)
        check_solution(request, view, solution)
        self.assertEqual(solution.placements[0].nodes, (node_id(3),))

    def test_relocate_primary(self) -> None:
        """An instance on shared storage gets another primary in its group."""
        value = with_instance(cluster(nodes=4, groups=2), "web", primary="node1", template="sharedfile")
        request = Relocate(instance="web.example.com", relocate_from=(node_id(1),))
        view = placement_view(value)
        solution = self.make_allocator().solve(request, view)
        self.assertEqual(solution.placements[0].nodes, (node_id(3),))

    def test_unmovable(self) -> None:
        """What lies on one node only cannot be relocated."""
        value = with_instance(cluster(nodes=2), "web", primary="node1", template="plain")
        request = Relocate(instance="web.example.com", relocate_from=(node_id(1),))
        with self.assertRaises(AllocatorError):
            self.make_allocator().solve(request, placement_view(value))


class ExternalAllocatorBehaviours(_TestCase):
    """Suite for `IExternalAllocators`."""

    def make_allocator(self) -> Any:
        """The plugin under test."""
        raise NotImplementedError

    def decoded(self, answer: str) -> Solution:
        """An answer to a request for one new instance on three nodes."""
        request = Allocate(instance=request_for())
        solution: Solution = self.make_allocator().decode(request, placement_view(cluster(nodes=3)), answer)
        return solution

    def test_provides_interface(self) -> None:
        """It provides what it has to."""
        self.assertTrue(verifyObject(IExternalAllocators, self.make_allocator()))

    def test_document(self) -> None:
        """A request is a JSON object of the established version."""
        text = self.make_allocator().encode(
            Allocate(instance=request_for()), placement_view(cluster(nodes=3))
        )
        written = json.loads(text)
        self.assertEqual(written["version"], 2)
        self.assertEqual(written["request"]["type"], "allocate")

    def test_answer(self) -> None:
        """A good answer becomes a placement."""
        solution = self.decoded('{"success": true, "info": "ok", "result": ["node2.example.com"]}')
        self.assertEqual(solution.placements[0].nodes, (node_id(2),))

    def test_refusal(self) -> None:
        """A refusal becomes a failure with the program's reason."""
        solution = self.decoded('{"success": false, "info": "all is full", "result": []}')
        self.assertEqual(solution.failed, (("new.example.com", "all is full"),))

    def test_rubbish(self) -> None:
        """Anything else is an error that names what was wrong."""
        for answer in ("", "Segmentation fault", "[]", "{}", '{"success": true, "info": "", "result": 7}'):
            with self.assertRaises(AllocatorError):
                self.decoded(answer)

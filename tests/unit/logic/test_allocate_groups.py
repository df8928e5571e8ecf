"""Which node groups a new instance may enter: policies of groups, and lists of groups."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import AllocatorError
from ganeti.logic.allocate import solve
from ganeti.logic.allocator_answers import check_solution, decode
from ganeti.logic.allocator_protocol import document
from ganeti.model.allocation import Allocate, ClusterView, MultiAllocate, Solution
from ganeti.model.cluster import Cluster
from ganeti.model.node import AllocPolicy
from ganeti.testing.allocator_behaviours import with_policy
from ganeti.testing.clusters import cluster, group_id, node_id, with_node
from ganeti.testing.placement_worlds import Machine, placement_view, request_for

PREFERRED, LAST_RESORT, UNALLOCABLE = AllocPolicy.PREFERRED, AllocPolicy.LAST_RESORT, AllocPolicy.UNALLOCABLE
TOO_SMALL = Machine(memory=1500)


def policies(*given: AllocPolicy) -> Cluster:
    """Two nodes in each group, one group for each policy."""
    value = cluster(nodes=2 * len(given), groups=len(given), enabled_hypervisors=("kvm",))
    for number, policy in enumerate(given, start=1):
        value = with_policy(value, number, policy)
    return value


def group_of(view: ClusterView, **wanted: Any) -> str:
    """Name of the group of the nodes that are chosen, or why none is."""
    request = Allocate(instance=request_for(**wanted))
    solution = solve(request, view)
    check_solution(request, view, solution)
    if solution.failed:
        return solution.failed[0][1]
    (group,) = {view.cluster.nodes[node].group for node in solution.placements[0].nodes}
    return view.cluster.groups[group].name


class PolicyTests(SynchronousTestCase):
    """`alloc_policy`."""

    def test_table(self) -> None:
        """S2.3-009 to S2.3-011: policies of two groups, whether the first is full, and what comes of it."""
        nothing = "no place"
        for first, second, first_is_full, expected in (
            (PREFERRED, PREFERRED, True, "group2"),
            (PREFERRED, LAST_RESORT, False, "default"),
            (LAST_RESORT, PREFERRED, False, "group2"),
            (PREFERRED, LAST_RESORT, True, "group2"),
            (LAST_RESORT, LAST_RESORT, True, "group2"),
            (LAST_RESORT, UNALLOCABLE, False, "default"),
            (LAST_RESORT, UNALLOCABLE, True, nothing),
            (PREFERRED, UNALLOCABLE, True, nothing),
            (UNALLOCABLE, UNALLOCABLE, False, nothing),
        ):
            machines = {node_id(number): TOO_SMALL for number in (1, 3)} if first_is_full else {}
            view = placement_view(policies(first, second), machines)
            for template in ("plain", "drbd"):
                found = group_of(view, disk_template=template)
                self.assertTrue(found.startswith(expected), f"{first} {second} {first_is_full}: {found}")

    def test_unallocable_is_told(self) -> None:
        """S2.3-009: that a group gets nothing is the reason given for its nodes."""
        view = placement_view(policies(PREFERRED, UNALLOCABLE), {node_id(n): TOO_SMALL for n in (1, 3)})
        self.assertIn("node2.example.com: its group group2 is unallocable", group_of(view))

    def test_emptier_group_of_lower_rank(self) -> None:
        """S2.3-010: a last resort is not taken because it would be the better place."""
        view = placement_view(
            policies(PREFERRED, LAST_RESORT), {node_id(n): Machine(memory=4096) for n in (1, 3)}
        )
        self.assertEqual(group_of(view), "default")


class ListTests(SynchronousTestCase):
    """S2.3-015: only groups of a list are used; policies count in it, too."""

    def test_limits(self) -> None:
        """Groups outside of the list are not used, be they never so empty."""
        machines = {node_id(number): Machine(memory=8192) for number in (2, 3, 5, 6)}
        view = placement_view(policies(PREFERRED, PREFERRED, PREFERRED), machines)
        self.assertEqual(group_of(view), "default")
        self.assertIn(group_of(view, target_groups=(group_id(2), group_id(3))), ("group2", "group3"))

    def test_policies(self) -> None:
        """Of the list the preferred groups first, unallocable ones never."""
        view = placement_view(policies(UNALLOCABLE, LAST_RESORT, PREFERRED))
        groups = tuple(group_id(number) for number in (1, 2, 3))
        self.assertEqual(group_of(view, target_groups=groups), "group3")
        self.assertEqual(group_of(view, target_groups=groups[:2]), "group2")
        self.assertIn("unallocable", group_of(view, target_groups=groups[:1]))

    def test_reasons(self) -> None:
        """When nothing fits, only nodes of the list are spoken of."""
        view = placement_view(policies(PREFERRED, PREFERRED, PREFERRED))
        text = group_of(view, target_groups=(group_id(2), group_id(3)), memory=1000000)
        self.assertIn("node2.example.com", text)
        self.assertNotIn("node1.example.com", text)

    def test_several_instances(self) -> None:
        """Each of several instances has a list of its own."""
        view = placement_view(policies(PREFERRED, PREFERRED))
        wanted = tuple(request_for(f"i{number}", group=group_id(number)) for number in (2, 1))
        solution = solve(MultiAllocate(instances=wanted), view)
        groups = [view.cluster.nodes[place.nodes[0]].group for place in solution.placements]
        self.assertEqual(groups, [group_id(2), group_id(1)])


class ProtocolTests(SynchronousTestCase):
    """External allocators and lists of groups."""

    def setUp(self) -> None:
        """Three groups of two nodes."""
        self.view = placement_view(policies(PREFERRED, PREFERRED, PREFERRED))
        self.request = Allocate(instance=request_for(target_groups=(group_id(2), group_id(3))))

    def test_document(self) -> None:
        """The list is there, and the nodes for allocators that know nothing of lists."""
        found = document(self.request, self.view)["request"]
        self.assertEqual(found["target_groups"], [group_id(2), group_id(3)])
        names = [f"node{number}.example.com" for number in (2, 3, 5, 6)]
        self.assertEqual((found["restrict-to-nodes"], found["group_name"]), (names, None))

    def test_without_a_list(self) -> None:
        """Otherwise neither is there."""
        found = document(Allocate(instance=request_for()), self.view)["request"]
        self.assertEqual({"target_groups", "restrict-to-nodes"} & set(found), set())

    def answer(self, *nodes: str) -> Solution:
        """The answer of a program."""
        text = json.dumps({"success": True, "info": "", "result": list(nodes)})
        return decode(self.request, self.view, text)

    def test_answer(self) -> None:
        """A node of the list is taken; one of another group is a mistake of the allocator."""
        self.assertEqual(self.answer("node3.example.com").placements[0].nodes, (node_id(3),))
        with self.assertRaisesRegex(AllocatorError, "group default, but group group2 or group3 was asked"):
            self.answer("node1.example.com")

    def test_unallocable(self) -> None:
        """Nor does a program put anything into an unallocable group."""
        view = placement_view(with_policy(self.view.cluster, 2, UNALLOCABLE))
        text = json.dumps({"success": True, "info": "", "result": ["node2.example.com"]})
        with self.assertRaisesRegex(AllocatorError, "group group2 is unallocable"):
            decode(self.request, view, text)

    def test_pair_in_two_groups(self) -> None:
        """S2.3-013: nor does it put a pair into two groups."""
        request = Allocate(instance=request_for(disk_template="drbd"))
        names = ["node1.example.com", "node2.example.com"]
        text = json.dumps({"success": True, "info": "", "result": names})
        with self.assertRaisesRegex(AllocatorError, "different groups"):
            decode(request, self.view, text)


class StateTests(SynchronousTestCase):
    """What groups do not change."""

    def test_unusable_nodes(self) -> None:
        """In a group of a list unusable nodes stay unusable."""
        value = policies(PREFERRED, PREFERRED)
        for change in ({"offline": True}, {"drained": True}, {"vm_capable": False}):
            changed = with_node(value, "node2.example.com", master_candidate=False, **change)
            request = Allocate(instance=request_for(target_groups=(group_id(2),)))
            solution = solve(request, placement_view(changed))
            self.assertEqual(solution.placements[0].nodes, (node_id(4),), change)

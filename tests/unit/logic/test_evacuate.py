"""Tests of taking instances off nodes by the built-in allocator."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.allocate import solve
from ganeti.logic.allocator_answers import check_solution
from ganeti.model.allocation import Evacuate, EvacuationMode, Solution
from ganeti.model.cluster import Cluster
from ganeti.testing.clusters import cluster, node_id, with_instance, with_node
from ganeti.testing.placement_worlds import Machine, placement_view

PRIMARY, SECONDARY, ALL = EvacuationMode.PRIMARY_ONLY, EvacuationMode.SECONDARY_ONLY, EvacuationMode.ALL


def evacuate(value: Cluster, mode: EvacuationMode, *names: str, **options: Any) -> Solution:
    """The answer for some instances, checked as every answer of an allocator is."""
    machines = options.pop("machines", None)
    request = Evacuate(instances=tuple(f"{name}.example.com" for name in names), mode=mode, **options)
    view = placement_view(value, machines)
    solution = solve(request, view)
    check_solution(request, view, solution)
    return solution


def nodes_of(solution: Solution) -> list[list[str]]:
    """Numbers of the nodes of each placement."""
    return [[str(node).rpartition("-")[2].lstrip("0") for node in one.nodes] for one in solution.placements]


def steps(solution: Solution) -> list[list[tuple[str, str | None]]]:
    """OP_ID without its beginning, and target, of each job's opcodes."""
    return [
        [
            (
                str(opcode["OP_ID"]).removeprefix("OP_INSTANCE_"),
                str(opcode.get("target_node", opcode.get("remote_node", ""))).partition(".")[0] or None,
            )
            for opcode in job
        ]
        for job in solution.jobs
    ]


class SharedStorageTests(SynchronousTestCase):
    """Instances whose data every node of the group can reach."""

    def test_primary(self) -> None:
        """Each goes to the node that suits the group best, as if those before it were there already."""
        value = cluster(nodes=3)
        for name in ("a", "b"):
            value = with_instance(value, name, primary="node1", template="rbd", memory=8192)
        solution = evacuate(value, PRIMARY, "a", "b")
        self.assertEqual(steps(solution), [[("MIGRATE", "node3")], [("MIGRATE", "node2")]])
        self.assertEqual([job[0]["allow_failover"] for job in solution.jobs], [True, True])
        self.assertEqual(solution.failed, ())

    def test_all_is_the_same(self) -> None:
        """There is only a primary node to leave."""
        value = with_instance(cluster(nodes=3), "a", primary="node1", template="rbd")
        self.assertEqual(evacuate(value, ALL, "a").jobs, evacuate(value, PRIMARY, "a").jobs)

    def test_secondary(self) -> None:
        """There is no secondary node to leave."""
        value = with_instance(cluster(nodes=3), "a", primary="node1", template="rbd")
        ((name, reason),) = evacuate(value, SECONDARY, "a").failed
        self.assertEqual(name, "a.example.com")
        self.assertIn("no secondary node", reason)

    def test_dead_node(self) -> None:
        """From a node that is offline instances fail over."""
        value = with_instance(cluster(nodes=3), "a", primary="node1", template="rbd")
        value = with_node(value, "node1", offline=True, master_candidate=False)
        self.assertEqual(steps(evacuate(value, PRIMARY, "a")), [[("FAILOVER", "node3")]])

    def test_one_cannot(self) -> None:
        """One that does not fit anywhere does not stop the others, and says what is missing."""
        value = with_instance(cluster(nodes=2), "big", primary="node1", template="rbd", memory=4096)
        value = with_instance(value, "small", primary="node1", template="rbd", memory=128)
        solution = evacuate(value, ALL, "big", "small", machines={node_id(2): Machine(memory=2048)})
        self.assertEqual(steps(solution), [[("MIGRATE", "node2")]])
        ((name, reason),) = solution.failed
        self.assertEqual(name, "big.example.com")
        self.assertIn("MiB of memory missing", reason)

    def test_soft_errors(self) -> None:
        """Soft rules can be left aside."""
        value = with_instance(cluster(nodes=2), "a", primary="node1", template="rbd", vcpus=8)
        machines = {node_id(2): Machine(cpus=2)}
        self.assertEqual(len(evacuate(value, PRIMARY, "a", machines=machines).failed), 1)
        found = evacuate(value, PRIMARY, "a", machines=machines, ignore_soft_errors=True)
        self.assertEqual(steps(found), [[("MIGRATE", "node2")]])

    def test_unmirrored(self) -> None:
        """What lies on one node only stays."""
        value = with_instance(cluster(nodes=3), "a", primary="node1", template="plain")
        ((_, reason),) = evacuate(value, ALL, "a").failed
        self.assertIn("plain disks are on one node only", reason)


class MirroredTests(SynchronousTestCase):
    """Instances with a mirror, between nodes 1 and 2."""

    def setUp(self) -> None:
        """Four nodes."""
        self.value = with_instance(cluster(nodes=4), "a", primary="node1", secondary="node2", memory=4096)

    def test_secondary(self) -> None:
        """The mirror is made anew elsewhere."""
        solution = evacuate(self.value, SECONDARY, "a")
        self.assertEqual(steps(solution), [[("REPLACE_DISKS", "node4")]])
        self.assertEqual(solution.jobs[0][0]["mode"], "replace_new_secondary")
        self.assertEqual(nodes_of(solution), [["1", "4"]])

    def test_primary(self) -> None:
        """The instance goes to its secondary."""
        solution = evacuate(self.value, PRIMARY, "a")
        self.assertEqual(steps(solution), [[("MIGRATE", None)]])
        self.assertEqual(nodes_of(solution), [["2", "1"]])
        dead = with_node(self.value, "node1", offline=True, master_candidate=False)
        self.assertEqual(steps(evacuate(dead, PRIMARY, "a")), [[("FAILOVER", None)]])

    def test_secondary_cannot_run_it(self) -> None:
        """A secondary that is too small or down keeps it where it is."""
        small = evacuate(self.value, PRIMARY, "a", machines={node_id(2): Machine(memory=2048)})
        self.assertIn("cannot run it", small.failed[0][1])
        drained = with_node(self.value, "node2", drained=True)
        self.assertIn("cannot be used", evacuate(drained, PRIMARY, "a").failed[0][1])

    def test_both(self) -> None:
        """It leaves both nodes: mirror to the new primary, over there, and a new mirror."""
        solution = evacuate(self.value, ALL, "a")
        first, second = nodes_of(solution)[0]
        self.assertEqual({first, second}, {"3", "4"})
        expected = [("REPLACE_DISKS", f"node{first}"), ("MIGRATE", None), ("REPLACE_DISKS", f"node{second}")]
        self.assertEqual(steps(solution), [expected])
        dead = with_node(self.value, "node1", offline=True, master_candidate=False)
        self.assertEqual(steps(evacuate(dead, ALL, "a"))[0][0], ("FAILOVER", None))

    def test_no_pair(self) -> None:
        """Without two other nodes it stays."""
        value = with_instance(cluster(nodes=3), "a", primary="node1", secondary="node2")
        ((_, reason),) = evacuate(value, ALL, "a").failed
        self.assertIn("no two other nodes", reason)

    def test_stays_in_its_group(self) -> None:
        """Nodes of other groups are no targets."""
        value = with_instance(cluster(nodes=6, groups=2), "a", primary="node1", secondary="node3")
        self.assertEqual(nodes_of(evacuate(value, SECONDARY, "a")), [["1", "5"]])

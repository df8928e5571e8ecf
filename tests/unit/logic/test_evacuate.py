"""Tests of taking instances off nodes by the built-in allocator."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.allocate import scene_of, solve
from ganeti.logic.allocator_answers import check_solution
from ganeti.logic.constraints import primary_problem, secondary_problem
from ganeti.logic.move_plan import planned_moves
from ganeti.logic.node_figures import question_of
from ganeti.logic.node_state import demand_of_request
from ganeti.logic.pair_search import Search
from ganeti.logic.placement import occupied
from ganeti.logic.score import cluster_score
from ganeti.model.allocation import Allocate, ChangeGroup, Evacuate, EvacuationMode, Solution
from ganeti.model.cluster import Cluster
from ganeti.model.node import AllocPolicy
from ganeti.testing.clusters import cluster, group_id, node_id, with_instance, with_node
from ganeti.testing.placement_worlds import Machine, placement_view, random_case

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


class ChangeGroupTests(SynchronousTestCase):
    """Instances that go to other groups; odd nodes are in group 1, even ones in group 2."""

    def setUp(self) -> None:
        """A mirrored instance on 1 and 3, one on shared storage on 1."""
        value = cluster(nodes=4, groups=2)
        value = with_instance(value, "m", primary="node1", secondary="node3")
        self.value = with_instance(value, "s", primary="node1", template="rbd")

    def change(
        self,
        *names: str,
        targets: tuple[int, ...] = (),
        value: Cluster | None = None,
        allow_downtime: bool = False,
    ) -> Solution:
        """The answer, checked."""
        request = ChangeGroup(
            instances=tuple(f"{name}.example.com" for name in names),
            target_groups=tuple(group_id(number) for number in targets),
            allow_downtime=allow_downtime,
        )
        view = placement_view(value or self.value)
        solution = solve(request, view)
        check_solution(request, view, solution)
        return solution

    def test_mirrored(self) -> None:
        """The mirror goes ahead, the instance follows, and gets a new mirror there (S2.3-017)."""
        solution = self.change("m")
        first, second = nodes_of(solution)[0]
        self.assertEqual({first, second}, {"2", "4"})
        expected = [("REPLACE_DISKS", f"node{first}"), ("MIGRATE", None), ("REPLACE_DISKS", f"node{second}")]
        self.assertEqual(steps(solution), [expected])

    def test_shared_storage(self) -> None:
        """It goes there at once, each where the ones before leave most room."""
        value = with_instance(self.value, "t", primary="node3", template="rbd", memory=8192)
        solution = self.change("s", "t", value=value)
        self.assertEqual(sorted(nodes_of(solution)), [["2"], ["4"]])
        self.assertEqual({job[0][0] for job in steps(solution)}, {"MIGRATE"})

    def test_targets(self) -> None:
        """Only the groups that were named; never one where an instance of the request is."""
        value = cluster(nodes=6, groups=3)
        value = with_instance(value, "s", primary="node1", template="rbd")
        self.assertEqual(nodes_of(self.change("s", targets=(3,), value=value))[0][0] in "36", True)
        ((_, reason),) = self.change("s", targets=(1,), value=value).failed
        self.assertIn("(none)", reason)

    def test_policies_of_groups(self) -> None:
        """Preferred groups first, last resorts if need be, the others never (SX-005, S2.3-009, S2.3-010)."""
        value = with_instance(cluster(nodes=6, groups=3), "s", primary="node1", template="rbd")

        def with_policy(group: int, policy: AllocPolicy) -> None:
            nonlocal value
            changed = msgspec.structs.replace(value.groups[group_id(group)], alloc_policy=policy)
            value = msgspec.structs.replace(value, groups=value.groups.with_item(changed.uuid, changed))

        with_policy(2, AllocPolicy.LAST_RESORT)
        self.assertIn(nodes_of(self.change("s", value=value))[0][0], "36")
        with_policy(3, AllocPolicy.UNALLOCABLE)
        self.assertIn(nodes_of(self.change("s", value=value))[0][0], "25")
        with_policy(2, AllocPolicy.UNALLOCABLE)
        self.assertEqual(len(self.change("s", value=value).failed), 1)

    def test_dead_nodes(self) -> None:
        """From a node that is down it starts on its mirror first; without a living mirror it stays."""
        dead = with_node(self.value, "node1", offline=True, master_candidate=False)
        self.assertEqual(steps(self.change("m", value=dead))[0][0], ("FAILOVER", None))
        both = with_node(dead, "node3", offline=True, master_candidate=False)
        self.assertIn("cannot be used", self.change("m", value=both).failed[0][1])

    def test_unmirrored(self) -> None:
        """What lies on one node only stays, unless it may be stopped and copied (S2.3-033)."""
        value = with_instance(self.value, "p", primary="node1", template="plain")
        ((_, reason),) = self.change("p", value=value).failed
        self.assertRegex(reason, "plain disks are on one node only.*--allow-downtime")
        solution = self.change("p", value=value, allow_downtime=True)
        ((opcode,),) = solution.jobs
        (placement,) = solution.placements
        target = value.node(str(opcode["target_node"]))
        self.assertEqual((opcode["OP_ID"], placement.nodes), ("OP_INSTANCE_MOVE", (target.uuid,)))
        self.assertNotEqual(target.group, value.node("node1").group)
        (move,) = planned_moves(value, solution.jobs)
        self.assertEqual((move.steps, move.target), (("stop and copy",), (target.uuid,)))
        self.assertEqual(move.touched, {value.node("node1").uuid, target.uuid})

    def test_unmirrored_that_cannot_be_copied(self) -> None:
        """From a node that is down nothing is copied, nor what no plugin of ours can copy."""
        value = with_instance(self.value, "p", primary="node1", template="plain")
        dead = with_node(value, "node1", offline=True, master_candidate=False)
        ((_, reason),) = self.change("p", value=dead, allow_downtime=True).failed
        self.assertIn("which is marked offline", reason)
        strange = with_instance(self.value, "p", primary="node1", template="tape")
        ((_, reason),) = self.change("p", value=strange, allow_downtime=True).failed
        self.assertIn("tape disks are on one node only and cannot be copied", reason)


class StoppedInstancesTests(SynchronousTestCase):
    """What does not run uses no memory now, but will when it is started."""

    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_best_pair(self, seed: int) -> None:
        """The search gives a pair that no other one beats, also for an instance that is stopped."""
        view, request = random_case(seed, "drbd")
        scene = scene_of(view, question_of(Allocate(instance=request), view.cluster))
        states = [state for state in scene.states if state.is_online]
        demand = msgspec.structs.replace(demand_of_request(request, view.cluster), is_up=False)
        firsts = [i for i, state in enumerate(states) if primary_problem(state, demand) is None]
        seconds = [i for i, state in enumerate(states) if secondary_problem(state, demand) is None]

        def score(first: int, second: int) -> float:
            new = {node.node: node for node in occupied([states[first], states[second]], demand)}
            return cluster_score([new.get(state.node, state) for state in states])

        every = [
            score(first, second)
            for first in firsts
            for second in seconds
            if first != second and secondary_problem(states[second], demand, states[first].node) is None
        ]
        found = Search(states, demand).best_pairs(firsts, seconds)
        self.assertEqual(bool(found), bool(every))
        if every:
            self.assertLess(min(score(*pair) for pair in found) - min(every), 1e-8)

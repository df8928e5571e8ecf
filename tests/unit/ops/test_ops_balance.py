"""Tests of balancing as an operation: what it locks, gives, submits and refuses."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.cluster import Cluster
from ganeti.model.instance import AdminState
from ganeti.model.locks import LockLevel, LockMode
from ganeti.ops.base import OpCode
from ganeti.ops.cluster.balance import BalanceCluster
from ganeti.ops.instance.failover import FailoverInstance
from ganeti.ops.instance.migrate import MigrateInstance
from ganeti.ops.instance.replace_disks import ReplaceDisks
from ganeti.testing.clusters import cluster, group_id, node_id, with_instance
from ganeti.testing.operations import OperationWorld
from ganeti.testing.placement_worlds import placement_view


def crowded(count: int = 4, *, nodes: int = 4, groups: int = 1, **options: Any) -> Cluster:
    """Everything on the first node, on shared storage."""
    value = cluster(nodes=nodes, groups=groups)
    for number in range(1, count + 1):
        values = {"template": "sharedfile", "memory": 512, "primary": "node1", **options}
        value = with_instance(value, f"i{number}", **values)
    return value


class BalanceCase(SynchronousTestCase):
    """Runs it."""

    def balanced(self, value: Cluster, **options: Any) -> Any:
        """The result, in a new world."""
        self.world = OperationWorld(value)
        return self.world.run(BalanceCluster(**options))

    @property
    def submitted(self) -> list[tuple[OpCode, ...]]:
        """The jobs."""
        return self.world.jobs.submitted


class JobTests(BalanceCase):
    """The jobs it asks for."""

    def test_moves(self) -> None:
        """Running instances are migrated, one job for each move, each to the node of the plan."""
        result = self.balanced(crowded())
        (plan,) = result["plans"]
        self.assertEqual(plan["group"], "default")
        self.assertLess(plan["score_after"], plan["score_before"])
        self.assertEqual([ok for ok, _ in result["jobs"]], [True] * 3)
        for move, (op,) in zip(plan["moves"], self.submitted):
            assert isinstance(op, MigrateInstance)
            self.assertEqual((op.instance_name, op.target_node), (move["instance"], move["after"][0]))
            self.assertTrue(op.allow_failover)
            self.assertEqual(move["before"], ["node1.example.com"])

    def test_stopped(self) -> None:
        """Stopped ones are failed over."""
        self.balanced(crowded(admin_state=AdminState.DOWN))
        self.assertEqual({type(op) for (op,) in self.submitted}, {FailoverInstance})

    def test_mirrored(self) -> None:
        """A mirrored one gets its new secondary between two migrations, all in one job."""
        value = cluster(nodes=3)
        for name in ("a", "b", "c"):
            value = with_instance(value, name, primary="node1", secondary="node2", memory=512)
        self.world = OperationWorld(value)
        self.world.allocation.known = placement_view(value)
        result = self.world.run(BalanceCluster(max_moves=1))
        (move,) = result["plans"][0]["moves"]
        (ops,) = self.submitted
        kinds = {"r": ReplaceDisks, "f": MigrateInstance}
        self.assertEqual([type(op) for op in ops], [kinds[letter] for letter in move["kind"]])
        replaced = [op.remote_node for op in ops if isinstance(op, ReplaceDisks)]
        self.assertEqual(replaced, ["node3.example.com"])

    def test_dependencies(self) -> None:
        """Moves with a common node come after each other, if the one before succeeds."""
        result = self.balanced(crowded())
        self.assertEqual([ops[0].depends for ops in self.submitted], [None, *[((-1, ("success",)),)] * 2])
        self.assertEqual([move["turn"] for move in result["plans"][0]["moves"]], [1, 2, 3])

    def test_groups(self) -> None:
        """Each group has its plan; their jobs do not wait for each other."""
        value = crowded(2, groups=2)
        for name in ("a", "b"):
            value = with_instance(value, name, template="sharedfile", memory=512, primary="node2")
        result = self.balanced(value)
        self.assertEqual([plan["group"] for plan in result["plans"]], ["default", "group2"])
        self.assertEqual([len(plan["moves"]) for plan in result["plans"]], [1, 1])
        self.assertEqual([ops[0].depends for ops in self.submitted], [None, None])

    def test_one_group(self) -> None:
        """Only the group that was asked for."""
        result = self.balanced(crowded(2, groups=2), node_group="group2")
        self.assertEqual([(plan["group"], plan["moves"]) for plan in result["plans"]], [("group2", [])])
        self.assertEqual(self.submitted, [])

    def test_dry_run(self) -> None:
        """The same plan, without jobs."""
        result = self.balanced(crowded(), dry_run=True)
        self.assertEqual((len(result["plans"][0]["moves"]), result["jobs"]), (3, []))
        self.assertEqual(self.submitted, [])
        self.assertEqual(result["plans"], self.balanced(crowded())["plans"])

    def test_nothing(self) -> None:
        """Where nothing is to be gained that is said, and is no error."""
        result = self.balanced(cluster(nodes=3))
        self.assertEqual((result["plans"][0]["moves"], result["jobs"]), ([], []))
        self.assertIn("nothing is to be gained by moving instances", self.world.feedback.lines)


class WarningTests(BalanceCase):
    """What no plan can be about is said."""

    def test_silent(self) -> None:
        """A node that does not answer is named, with what to do; the others are balanced."""
        value = crowded()
        self.world = OperationWorld(value)
        self.world.allocation.known = placement_view(value, without_facts=frozenset({node_id(4)}))
        moves = self.world.run(BalanceCluster())["plans"][0]["moves"]
        self.assertEqual({move["after"][0] for move in moves}, {"node2.example.com", "node3.example.com"})
        (warning,) = self.world.feedback.warnings
        self.assertIn("node4.example.com does not answer", warning)
        self.assertIn("gnt-node modify --offline=yes", warning)

    def test_immovable(self) -> None:
        """A selected instance that has its disks on one node only is named."""
        value = with_instance(crowded(1), "plain", template="plain", primary="node1")
        self.balanced(value, select_instances=("plain",))
        (warning,) = self.world.feedback.warnings
        self.assertIn("plain.example.com cannot be moved", warning)


class LimitTests(BalanceCase):
    """What bounds a plan."""

    def test_moves(self) -> None:
        """Not more than so many moves, all groups together."""
        value = crowded(3, nodes=6, groups=2)
        for name in ("a", "b", "c"):
            value = with_instance(value, name, template="sharedfile", memory=512, primary="node2")
        result = self.balanced(value, max_moves=3)
        self.assertEqual([len(plan["moves"]) for plan in result["plans"]], [2, 1])

    def test_gain(self) -> None:
        """No moves that gain less."""
        everything = self.balanced(crowded())["plans"][0]["moves"]
        least = min(move["gain"] for move in everything)
        found = self.balanced(crowded(), min_gain=least * 1.5, min_gain_limit=1e9)["plans"][0]["moves"]
        self.assertGreater(len(everything), len(found))
        self.assertTrue(all(move["gain"] >= least * 1.5 for move in found))

    def test_score(self) -> None:
        """Enough is enough."""
        self.assertEqual(self.balanced(crowded(), min_score=1e9)["plans"][0]["moves"], [])

    def test_instances(self) -> None:
        """Only selected ones, and not excluded ones; names may be short."""
        moves = self.balanced(crowded(), select_instances=("i1", "i2"), exclude_instances=("i2",))
        self.assertEqual([move["instance"] for move in moves["plans"][0]["moves"]], ["i1.example.com"])

    def test_no_instance_moves(self) -> None:
        """On shared storage nothing is left then."""
        self.assertEqual(self.balanced(crowded(), instance_moves=False)["plans"][0]["moves"], [])

    def test_negative(self) -> None:
        """Negative limits are refused before anything is done."""
        registry = OperationWorld().registry
        for key in ("max_moves", "min_gain", "min_gain_limit", "min_score"):
            with self.assertRaisesRegex(PrereqError, key):
                registry.decode({"OP_ID": "OP_CLUSTER_BALANCE", key: -1})


class RefusalTests(BalanceCase):
    """What it does not know."""

    def refused(self, **options: Any) -> PrereqError:
        """The error; there are no jobs."""
        error: PrereqError = self.assertRaises(PrereqError, self.balanced, crowded(), **options)
        self.assertEqual(self.submitted, [])
        return error

    def test_group(self) -> None:
        """An unknown group is named."""
        error = self.refused(node_group="nosuch")
        self.assertEqual(error.code, ErrorCode.UNKNOWN)
        self.assertIn("nosuch", str(error))

    def test_instances(self) -> None:
        """Unknown instances are not passed over."""
        for option in ("select_instances", "exclude_instances"):
            self.assertIn("nosuch", str(self.refused(**{option: ("i1", "nosuch")})))


class LockTests(SynchronousTestCase):
    """What it locks."""

    def test_shared(self) -> None:
        """Group, nodes and instances, all shared; of one group only its own."""
        world = OperationWorld(crowded(1, groups=2))
        requests = world.plan(BalanceCluster(node_group="group2")).requests
        self.assertEqual({one.mode for one in requests.values()}, {LockMode.SHARED})
        self.assertEqual(requests[LockLevel.NODEGROUP].names, {group_id(2)})
        self.assertEqual(requests[LockLevel.NODE].names, {node_id(2), node_id(4)})
        self.assertEqual(requests[LockLevel.INSTANCE].names, set())

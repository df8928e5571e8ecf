"""Tests of OP_COMPUTE_CAPACITY, and of setting its parameters."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PrereqError
from ganeti.model.allocation import Capacity, Solution
from ganeti.model.capacity import CapacitySettings, GroupCapacity
from ganeti.model.locks import LockPlan
from ganeti.ops.cluster.compute_capacity import ComputeCapacity
from ganeti.ops.cluster.set_params import SetClusterParams
from ganeti.ops.group.add import AddGroup
from ganeti.ops.group.set_params import SetGroupParams
from ganeti.testing.clusters import cluster, group_id, node_id
from ganeti.testing.operations import OperationWorld

ONE, TWO = group_id(1), group_id(2)
SPEC = (8192, 10240, 1)


class CapacityCase(SynchronousTestCase):
    """Four nodes in two groups by turns, nothing on them."""

    def setUp(self) -> None:
        """The world."""
        self.world = OperationWorld(cluster(nodes=4, groups=2))

    def compute(self, **parameters: Any) -> Any:
        """The answer to a question."""
        return self.world.run(
            ComputeCapacity(**{"max_inst_spec": SPEC, "default_template": "sharedfile", **parameters})
        )

    @property
    def questions(self) -> list[Capacity]:
        """What the allocator was asked."""
        return [request for _, request, _ in self.world.allocation.requests if isinstance(request, Capacity)]


class AnswerTests(CapacityCase):
    """What the answer is made of."""

    def test_form(self) -> None:
        """Tiers by group and in total, with the parameters (S2.3-090, S2.3-091)."""
        answer = self.compute(max_cpu_ratio=8.0, max_disk_usage=0.75)
        self.assertEqual(set(answer), {"cluster", "node_groups", "ctime"})
        self.assertEqual(set(answer["node_groups"]), {ONE, TWO})
        group = answer["node_groups"][ONE]
        self.assertEqual(group["max_inst_spec"], list(SPEC))
        self.assertEqual(
            (group["default_template"], group["max_cpu_ratio"], group["max_disk_usage"]),
            ("sharedfile", 8.0, 0.75),
        )
        counts = [sum(tier[3] for tier in one["tspecs"]) for one in answer["node_groups"].values()]
        self.assertGreater(min(counts), 0)
        self.assertEqual(sum(tier[3] for tier in answer["cluster"]), sum(counts))
        self.assertEqual(answer["cluster"], sorted(answer["cluster"], reverse=True))

    def test_one_group(self) -> None:
        """Only a group that was named."""
        self.assertEqual(list(self.compute(node_group="group2")["node_groups"]), [TWO])

    def test_no_locks(self) -> None:
        """It waits for nobody (S2.3-055)."""
        self.assertEqual(self.world.plan(ComputeCapacity()), LockPlan())

    def test_bad(self) -> None:
        """Parameters that cannot be, and names of nothing, are refused (S2.3-089)."""
        for parameters, text in (
            ({"max_inst_spec": (0, 1, 1)}, "max_inst_spec"),
            ({"max_cpu_ratio": -1.0}, "max_cpu_ratio"),
            ({"max_disk_usage": 2.0}, "max_disk_usage"),
            ({"default_template": "stone"}, "not enabled"),
            ({"node_group": "nowhere"}, "nowhere"),
            ({"lose_nodes": ("nobody",)}, "nobody"),
            ({"add_nodes": ("nobody",)}, "nobody"),
            ({"add_nodes": ("64g,1t,16",)}, "--node-group"),
            ({"add_nodes": ("64x,1t,16",), "node_group": "default"}, "not a size"),
            ({"spec": SPEC, "iallocator": "hail"}, "built-in"),
        ):
            error = self.assertRaises(PrereqError, self.compute, **parameters)
            self.assertIn(text, str(error))


class CacheTests(CapacityCase):
    """What is known is not counted again."""

    def test_second_time(self) -> None:
        """The second answer comes from the cache, with its age (S2.3-043, S2.3-080)."""
        first = self.compute()
        self.world.reactor.advance(100)
        self.assertEqual(self.compute(), first)
        self.assertEqual(len(self.questions), 1)

    def test_no_call(self) -> None:
        """With a warm cache no node is asked, although the capacity is counted (S2.3-056)."""
        self.compute(max_cpu_ratio=1.0)
        calls = len(self.world.nodes.calls)
        self.compute(max_cpu_ratio=2.0)
        self.assertEqual((len(self.questions), len(self.world.nodes.calls)), (2, calls))

    def test_fresh(self) -> None:
        """On request all nodes are asked and everything is counted anew (S2.3-089)."""
        self.compute()
        calls = len(self.world.nodes.calls)
        self.world.reactor.advance(100)
        self.assertEqual(self.compute(cached=False)["ctime"], self.world.clock.seconds())
        self.assertEqual(len(self.questions), 2)
        self.assertGreater(len(self.world.nodes.calls), calls)

    def test_other_parameters(self) -> None:
        """Other parameters are another question, and make the cached answer worthless (S2.3-083)."""
        self.compute()
        self.compute(max_cpu_ratio=1.0)
        self.compute()
        self.assertEqual(len(self.questions), 3)

    def test_oldest(self) -> None:
        """`ctime` is that of the oldest part (S2.3-092), and only missing groups are counted."""
        self.compute(node_group="default")
        before = self.world.clock.seconds()
        self.world.reactor.advance(50)
        answer = self.compute()
        self.assertEqual(answer["ctime"], before)
        self.assertEqual([list(question.params) for question in self.questions], [[ONE], [TWO]])
        self.assertEqual(answer["node_groups"][TWO]["ctime"], self.world.clock.seconds())

    def test_change_of_group(self) -> None:
        """Setting parameters of a group makes its part worthless, that of others stays."""
        self.world.run(ComputeCapacity())
        self.world.run(SetGroupParams(group_name="group2", max_cpu_ratio=2.0))
        self.world.run(ComputeCapacity())
        self.assertEqual([list(question.params) for question in self.questions], [[ONE, TWO], [TWO]])

    def test_other_allocator(self) -> None:
        """What one allocator counted is no answer of another; the named or the default one is asked."""
        self.world.run(SetClusterParams(default_iallocator="hail"))
        for name in (None, ".", "builtin"):
            self.compute(iallocator=name)
        names = [name for name, _, _ in self.world.allocation.requests]
        self.assertEqual(names, ["hail", "builtin"])

    def test_changed_meanwhile(self) -> None:
        """What became worthless while it was counted is not kept."""
        self.compute()
        params = self.questions[0].params[ONE]
        ticket = self.world.state.ticket()
        self.world.state.forget([node_id(1)])
        self.world.state.computed(ONE, GroupCapacity(params=params, tspecs=()), ticket)
        self.assertIsNone(self.world.state.capacity(ONE, params))

    def test_external(self) -> None:
        """The answer of an external allocator is kept in its name."""
        self.compute()
        known = self.questions[0].params
        tiers = ((8192, 10240, 1, 3),)
        self.world.allocation.solution = Solution(
            capacity={group: GroupCapacity(params=one, tspecs=tiers) for group, one in known.items()}
        )
        answer = self.compute(iallocator="hail")
        self.assertEqual(answer["cluster"], [[8192, 10240, 1, 6]])


class WhatIfTests(CapacityCase):
    """Questions about other nodes and single sizes."""

    def total(self, **parameters: Any) -> int:
        """How many fit, all groups together."""
        return sum(tier[3] for tier in self.compute(spec=SPEC, **parameters)["cluster"])

    def test_nodes(self) -> None:
        """More nodes take more, fewer take less; nothing is changed or kept."""
        before = self.world.cluster
        plain = self.total()
        self.assertGreater(self.total(add_nodes=("node1",)), plain)
        more = self.total(add_nodes=("64g,1t,16",), node_group="default")
        self.assertGreater(more, self.total(node_group="default"))
        self.assertLess(self.total(lose_nodes=("node1",)), plain)
        self.assertIs(self.world.cluster, before)
        self.assertEqual(self.questions, [])

    def test_tiers(self) -> None:
        """Without a size the answer is tiers, which are not kept either."""
        known = self.compute()
        less = self.compute(lose_nodes=("node1", "node3"))
        self.assertEqual(less["node_groups"][ONE]["failure_reason"], "0 nodes can be used, 1 are needed")
        self.assertEqual(self.compute(), known)

    def test_too_large(self) -> None:
        """A size that does not fit has no tier."""
        answer = self.compute(spec=(1048576, 1024, 1))
        self.assertEqual(answer["cluster"], [])
        self.assertEqual(answer["node_groups"][ONE]["tspecs"], [])


class ParameterTests(CapacityCase):
    """Where the parameters are set (S2.3-082)."""

    def ratio(self, group: str = ONE) -> float:
        """What counts in a group."""
        answer = self.world.run(ComputeCapacity())
        found: float = answer["node_groups"][group]["max_cpu_ratio"]
        return found

    def test_layers(self) -> None:
        """Cluster, then group, then the question; `default` takes them away again."""
        self.assertEqual(self.ratio(), 4.0)
        self.world.run(SetClusterParams(max_cpu_ratio=3.0))
        self.assertEqual(self.ratio(), 3.0)
        self.world.run(SetGroupParams(group_name="default", max_cpu_ratio=2.0))
        self.assertEqual((self.ratio(), self.ratio(TWO)), (2.0, 3.0))
        answer = self.world.run(ComputeCapacity(max_cpu_ratio=1.0))
        self.assertEqual({one["max_cpu_ratio"] for one in answer["node_groups"].values()}, {1.0})
        self.world.run(SetGroupParams(group_name="default", max_cpu_ratio="default"))
        self.world.run(SetClusterParams(max_cpu_ratio="default"))
        self.assertEqual(self.ratio(), 4.0)

    def test_new_group(self) -> None:
        """A new group may have its own."""
        self.world.run(AddGroup(group_name="rack9", max_disk_usage=0.5, max_inst_spec=(1024, 2048, 1)))
        own = self.world.cluster.group("rack9").capacity_params
        self.assertEqual(own, CapacitySettings(max_disk_usage=0.5, max_inst_spec=(1024, 2048, 1)))

    def test_refused(self) -> None:
        """Values that cannot be change nothing."""
        before = self.world.cluster
        for op in (
            SetClusterParams(max_disk_usage=1.5),
            SetClusterParams(default_template="stone"),
            SetGroupParams(group_name="default", max_cpu_ratio=0),
            SetGroupParams(group_name="default", default_template="stone"),
            AddGroup(group_name="rack9", max_inst_spec=(1, 2, -3)),
        ):
            self.assertRaises(PrereqError, self.world.run, op)
        self.assertIs(self.world.cluster, before)

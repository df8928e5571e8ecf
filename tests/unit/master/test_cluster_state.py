"""Tests of how the state cache is fed and emptied: reports, other answers, lost nodes, the configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import msgspec

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ganeti.errors import GanetiError, NodeUnreachable
from ganeti.interfaces import IClusterState, INodes
from ganeti.master.cluster_state import ClusterState, ObservedNodes, full_report
from ganeti.model.calls.instances import AllInstancesInfo, InstanceInfo
from ganeti.model.calls.outcome import Answer, NodeFailed, Outcome
from ganeti.model.calls.report import KnownReport, NodeReport, Report
from ganeti.model.calls.system import NodeCapacity, NodeInfo, NodeInfoResult, Version
from ganeti.model.capacity import CapacityParams, GroupCapacity
from ganeti.model.ids import NodeId
from ganeti.testing.clusters import changed_instance, cluster, group_id, node_id, with_node, with_settings
from ganeti.testing.config import MemoryConfig
from ganeti.testing.jobs import TestClock
from ganeti.testing.nodes import FakeNodes
from ganeti.testing.simulated_nodes import SimulatedNodes

T = TypeVar("T")

PARAMS = CapacityParams(
    max_inst_spec=(1024, 1024, 1), default_template="plain", max_cpu_ratio=4.0, max_disk_usage=1.0
)


class StateCase(SynchronousTestCase):
    """Four simulated nodes in two groups by turns, with an instance on each of the first two."""

    def setUp(self) -> None:
        """Nothing is known."""
        self.reactor = Clock()
        self.config = MemoryConfig(cluster(nodes=4, groups=2, instances=2))
        self.nodes = FakeNodes(self.reactor)
        self.model = SimulatedNodes(self.nodes, self.config.current())
        self.clock = TestClock(self.reactor)
        self.state = ClusterState(self.config, self.nodes, self.clock)
        self.config.subscribe(self.state.config_changed)
        self.observed = ObservedNodes(self.nodes, self.state)

    def now(self, waiting: Awaitable[T]) -> T:
        """The result, which must be there."""

        async def wait() -> T:
            return await waiting

        result: T = self.successResultOf(Deferred.fromCoroutine(wait()))
        return result

    def lie(self, number: int, **figures: Any) -> None:
        """A node reports such figures from now on."""
        values: dict[str, Any] = {
            "memory_total": 4096,
            "memory_free": 4096,
            "memory_dom0": 0,
            "cpu_total": 4,
            **figures,
        }
        info = NodeInfoResult(boot_id="b", storage=(), hypervisors={"fake": NodeCapacity(**values)})
        self.nodes.answer(NodeReport, Report(info=info, running={}), node=node_id(number))

    def reports(self, *numbers: int, cached: bool = True) -> Mapping[NodeId, Outcome[KnownReport]]:
        """Of these nodes; none: of all."""
        known = self.config.current().nodes
        nodes = [known[node_id(number)] for number in numbers or (1, 2, 3, 4)]
        return self.now(self.state.reports(nodes, cached=cached))

    def asked(self) -> list[str]:
        """Short names of the nodes that were asked for reports since the last time."""
        found = [called.node.partition(".")[0] for called in self.nodes.calls_of(NodeReport)]
        self.nodes.calls.clear()
        return found

    def known(self) -> set[str]:
        """Short names of the nodes of which something is known."""
        return {row["name"].partition(".")[0] for row in self.state.rows() if row["kind"] == "node"}

    def node(self, number: int) -> Any:
        """A node."""
        return self.config.current().nodes[node_id(number)]


class ReportTests(StateCase):
    """Full answers."""

    def test_interfaces(self) -> None:
        """Both are what they say."""
        self.assertTrue(verifyObject(IClusterState, self.state))
        self.assertTrue(verifyObject(INodes, self.observed))

    def test_second_time(self) -> None:
        """What a node told is good enough the next time; only others are asked (S2.3-044, S2.3-053)."""
        self.reports(1, 2)
        self.assertEqual(self.asked(), ["node1", "node2"])
        found = self.reports()
        self.assertEqual(self.asked(), ["node3", "node4"])
        self.assertEqual(len(found), 4)
        first = found[node_id(1)]
        assert isinstance(first, Answer)
        self.assertEqual(set(first.value.running), {"inst1.example.com"})

    def test_forced(self) -> None:
        """Whoever wants it asks all of them, and what they tell is kept (S2.3-054)."""
        self.reports()
        self.asked()
        self.reports(cached=False)
        self.assertEqual(len(self.asked()), 4)

    def test_age(self) -> None:
        """After an hour what a node told is not used any more (S2.3-052)."""
        self.reports()
        self.nodes.hanging.add(node_id(1))
        self.reactor.advance(3599)
        self.assertEqual(self.running(1), {"inst1.example.com"})
        self.reactor.advance(2)
        self.assertNoResult(Deferred.fromCoroutine(self._ask(1)))

    def test_stale(self) -> None:
        """What is half a minute old is used, and found out anew for whoever looks next."""
        self.reports()
        self.asked()
        self.model.stop("node1.example.com", "inst1.example.com")
        self.reactor.advance(31)
        self.assertEqual(self.running(1), {"inst1.example.com"})
        self.assertEqual(self.asked(), ["node1"])
        self.assertEqual(self.running(1), set())
        self.assertEqual(self.asked(), [])

    def test_stale_and_slow(self) -> None:
        """A node that takes its time is not asked by everybody who looks."""
        self.reports()
        self.reactor.advance(31)
        self.asked()
        self.nodes.hanging.add(node_id(1))
        for _ in range(3):
            self.assertEqual(self.running(1), {"inst1.example.com"})
        self.assertEqual(self.asked(), ["node1"])

    def running(self, number: int) -> set[str]:
        """Names of the instances of a node, as far as they are known."""
        found = self.reports(number)[node_id(number)]
        assert isinstance(found, Answer)
        return set(found.value.running)

    def test_whole(self) -> None:
        """One call has everything that anybody asks (S2.3-062)."""
        value = with_settings(
            self.config.current(),
            enabled_hypervisors=("kvm", "fake"),
            enabled_disk_templates=("file", "drbd"),
        )
        value = with_settings(value, volume_group_name="vg")
        call = full_report(value)
        self.assertEqual(call.hypervisors, ("kvm", "fake"))
        self.assertEqual(set(call.storage_units), {"file", "lvm-vg"})

    def test_impossible_figures(self) -> None:
        """A report that cannot be true is none, and takes away what was known before."""
        self.reports()
        self.lie(2, memory_free=-1)
        found = self.reports(2, cached=False)[node_id(2)]
        assert isinstance(found, NodeFailed)
        self.assertIn("cannot be true: hypervisor fake: -1 MiB of memory free of 4096", found.reason)
        self.asked()
        self.lie(2)
        self.assertIsInstance(self.reports(2)[node_id(2)], Answer)
        self.assertEqual(self.asked(), ["node2"])

    def test_silent_node(self) -> None:
        """A node that gives no answer is not known any more; others do not suffer (SX-003)."""
        self.reports()
        self.nodes.unreachable.add(node_id(2))
        found = self.reports(cached=False)
        self.assertIsInstance(found[node_id(2)], NodeFailed)
        self.assertEqual(self.known(), {"node1", "node3", "node4"})

    def test_half_an_answer(self) -> None:
        """A node with a hypervisor that does not answer is told of as it is, and not kept (S2.3-045)."""
        self.reports()
        report = Report(
            info=NodeInfoResult(boot_id="b", storage=(), hypervisors={}),
            running={},
            problems={"fake": "hangs"},
        )
        self.nodes.answer(NodeReport, report, node=node_id(1))
        found = self.reports(1, cached=False)[node_id(1)]
        assert isinstance(found, Answer)
        self.assertEqual(found.value.problems, {"fake": "hangs"})
        self.assertEqual(self.known(), {"node2", "node3", "node4"})

    def test_late_answer(self) -> None:
        """An answer that was on its way while a job changed the node is given, but not kept."""
        waiting: Deferred[Report] = Deferred()
        self.nodes.answer(NodeReport, lambda node, call: waiting, node=node_id(1))
        result = Deferred.fromCoroutine(self._ask(1))
        self.state.forget([node_id(1)])
        capacity = NodeCapacity(memory_total=1, memory_free=1, memory_dom0=0, cpu_total=1)
        info = NodeInfoResult(boot_id="b", storage=(), hypervisors={"fake": capacity})
        waiting.callback(Report(info=info, running={}))
        self.assertIsInstance(self.successResultOf(result)[node_id(1)], Answer)
        self.assertEqual(self.known(), set())

    async def _ask(self, number: int) -> Mapping[NodeId, Outcome[KnownReport]]:
        return await self.state.reports([self.node(number)])

    def test_refresh(self) -> None:
        """A group is forgotten and asked anew; what is not asked stays forgotten (S2.3-061)."""
        self.reports()
        self.now(self.state.refresh(group_id(1), [self.node(1)]))
        self.assertEqual(self.known(), {"node1", "node2", "node4"})


class OtherAnswerTests(StateCase):
    """Calls for other purposes."""

    def setUp(self) -> None:
        """Everything is known."""
        super().setUp()
        self.reports()

    def check(self, call: Any, number: int, *, stays: bool) -> None:
        """Make a call and see what is known of its node."""
        self.now(self.observed.call(self.node(number), call))
        self.assertEqual(f"node{number}" in self.known(), stays, call)

    def test_same(self) -> None:
        """What agrees changes nothing."""
        self.check(NodeInfo(hypervisors=("fake",)), 1, stays=True)
        self.check(AllInstancesInfo(hypervisors=("fake",)), 1, stays=True)
        self.check(InstanceInfo(name="inst1.example.com", hypervisor="fake"), 1, stays=True)
        self.check(InstanceInfo(name="inst1.example.com", hypervisor="fake"), 2, stays=True)
        self.check(Version(), 1, stays=True)

    def test_different(self) -> None:
        """What differs takes away all that is known of the node (S2.3-048)."""
        self.model.memory_mib = 4096
        self.check(NodeInfo(hypervisors=("fake",)), 1, stays=False)
        self.assertEqual(self.known(), {"node2", "node3", "node4"})
        self.model.stop("node2.example.com", "inst2.example.com")
        self.check(InstanceInfo(name="inst2.example.com", hypervisor="fake"), 2, stays=False)
        self.model.run("node3.example.com", "alien.example.com")
        self.check(AllInstancesInfo(hypervisors=("fake",)), 3, stays=False)

    def test_one_that_is_gone(self) -> None:
        """Whoever asks for all instances and does not get one that was there sees the difference."""
        self.model.stop("node1.example.com", "inst1.example.com")
        everything = AllInstancesInfo(hypervisors=self.config.current().settings.enabled_hypervisors)
        self.check(everything, 1, stays=False)

    def test_other_hypervisor(self) -> None:
        """Instances of one of several hypervisors are not all instances."""
        self.assertEqual(set(self.config.current().settings.enabled_hypervisors), {"fake", "kvm"})
        self.nodes.answer(AllInstancesInfo, {}, node=node_id(1))
        self.check(AllInstancesInfo(hypervisors=("kvm",)), 1, stays=True)

    def test_many(self) -> None:
        """The same where many nodes are asked at once."""
        self.model.memory_mib = 4096
        nodes = [self.node(1), self.node(2)]
        self.now(self.observed.each(nodes, NodeInfo(hypervisors=("fake",))))
        self.assertEqual(self.known(), {"node3", "node4"})

    def test_unreachable(self) -> None:
        """Nothing counts of a node that could not be reached, whatever was wanted of it."""
        self.nodes.unreachable.add(node_id(1))
        failed = Deferred.fromCoroutine(self.observed.call(self.node(1), Version()))
        self.failureResultOf(failed, NodeUnreachable)
        self.assertNotIn("node1", self.known())
        self.nodes.unreachable.add(node_id(2))
        self.now(self.observed.each([self.node(2), self.node(3)], Version()))
        self.assertEqual(self.known(), {"node3", "node4"})

    def test_refusal(self) -> None:
        """A node that refuses something is there."""
        self.model.break_call(Version, "no")
        failed = Deferred.fromCoroutine(self.observed.call(self.node(1), Version()))
        self.failureResultOf(failed, GanetiError)
        self.assertIn("node1", self.known())


class ChangeTests(StateCase):
    """The configuration, capacities, rows."""

    def setUp(self) -> None:
        """Everything is known, and the capacity of both groups."""
        super().setUp()
        self.reports()
        for number in (1, 2):
            capacity = GroupCapacity(params=PARAMS, tspecs=(), ctime=self.clock.seconds())
            self.state.computed(group_id(number), capacity, self.state.ticket())

    def capacities(self) -> set[int]:
        """Numbers of groups whose capacity is known."""
        return {number for number in (1, 2) if self.state.capacity(group_id(number), PARAMS) is not None}

    def test_offline(self) -> None:
        """A node whose role changes is not known any more, nor the capacity of its group (S2.3-051)."""
        value = with_node(self.config.current(), "node2", offline=True, master_candidate=False)
        self.now(self.config.update(lambda _: value, reason="test"))
        self.assertEqual((self.known(), self.capacities()), ({"node1", "node3", "node4"}, {1}))

    def test_instance(self) -> None:
        """A changed instance makes the capacity of its group worthless, not what nodes told."""
        value = changed_instance(self.config.current(), "inst1", beparams={"maxmem": 512})
        self.now(self.config.update(lambda _: value, reason="test"))
        self.assertEqual((len(self.known()), self.capacities()), (4, {2}))

    def test_what_is_asked(self) -> None:
        """When nodes are to be asked for something else, nothing that they told is whole (S2.3-045)."""
        value = with_settings(self.config.current(), enabled_disk_templates=("file",))
        self.now(self.config.update(lambda _: value, reason="test"))
        self.assertEqual((self.known(), self.capacities()), (set(), set()))

    def test_removed_group(self) -> None:
        """A capacity that was computed for a group that is gone is not kept."""
        gone = msgspec.structs.replace
        value = self.config.current()
        value = gone(value, groups=value.groups.without(group_id(2)))
        value = with_node(with_node(value, "node2", group=group_id(1)), "node4", group=group_id(1))
        ticket = self.state.ticket()
        self.now(self.config.update(lambda _: value, reason="test"))
        self.state.computed(group_id(2), GroupCapacity(params=PARAMS, tspecs=()), ticket)
        self.assertEqual(self.capacities(), set())
        self.assertEqual({row["group"] for row in self.state.rows()}, {"default"})

    def test_rows(self) -> None:
        """Nodes are there, and capacities of groups (S2.3-043), with their ages."""
        self.reactor.advance(5)
        rows = list(self.state.rows())
        self.assertEqual(
            {(row["group"], row["kind"]) for row in rows},
            {("default", "node"), ("group2", "node"), ("default", "capacity"), ("group2", "capacity")},
        )
        self.assertEqual({row["age"] for row in rows}, {5.0})

    def test_everything(self) -> None:
        """An operation that held the whole cluster leaves nothing (S2.3-049)."""
        self.state.forget(None)
        self.assertEqual(list(self.state.rows()), [])

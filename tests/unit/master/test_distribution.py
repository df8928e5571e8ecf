"""ssconf files: to every online node, in order, only what differs."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ConfigurationError, CopyBehind
from ganeti.logic.ssconf import ssconf_files
from ganeti.master.distribution import CONNECT_S, SsconfDistributor
from ganeti.model.calls.outcome import Answer, Outcome
from ganeti.model.calls.system import Stamp, WriteSsconf
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.node import Node
from ganeti.testing.clusters import (
    changed_instance,
    cluster,
    node,
    node_id,
    with_instance,
    with_node,
    with_settings,
)
from ganeti.testing.config import MemoryConfig
from ganeti.testing.nodes import FakeNodes


class DistributorTests(SynchronousTestCase):
    """Rounds, in simulated time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.problem: Exception | None = None
        self.nodes = FakeNodes(self.clock)
        self.config = MemoryConfig(with_node(cluster(nodes=4, instances=2), "node4", offline=True))
        self.distributor = SsconfDistributor(
            self.clock,  # type: ignore[arg-type]
            self.config,
            self.nodes,
            generation=7,
            compute=self.compute,
        )
        self.distributor.start()
        self.clock.advance(0)

    def compute(self, cluster: Cluster) -> Deferred[dict[str, str]]:
        """The texts, unless there is a problem."""
        return succeed(ssconf_files(cluster)) if self.problem is None else fail(self.problem)

    def sent(self, node: str) -> list[dict[str, str]]:
        """What a node was sent since this was asked last."""
        found = [dict(called.call.values) for called in self.nodes.calls if called.node.startswith(node)]
        self.nodes.calls = [called for called in self.nodes.calls if not called.node.startswith(node)]
        return found

    def update(self, new: Cluster) -> None:
        """Change the cluster."""
        self.successResultOf(Deferred.fromCoroutine(self.config.update(lambda value: new, reason="test")))

    def test_start(self) -> None:
        """At the start every online node gets everything."""
        for name in ("node1", "node3"):
            self.assertEqual(self.sent(name), [ssconf_files(self.config.current())])
        self.assertEqual(self.sent("node4"), [])

    def test_only_what_differs(self) -> None:
        """After a change nodes get the files that it changed, once for several changes."""
        self.sent("node2")
        self.update(with_instance(self.config.current(), "new"))
        self.update(with_instance(self.config.current(), "newer"))
        self.clock.advance(2)
        (only,) = self.sent("node2")
        self.assertEqual(list(only), ["instance_list"])
        self.assertIn("newer.example.com\n", only["instance_list"])

    def test_newcomer(self) -> None:
        """A node that is new gets everything at once."""
        current, newcomer = self.config.current(), node(5)
        self.update(replace(current, nodes=current.nodes.with_item(newcomer.uuid, newcomer)))
        self.clock.advance(0)
        self.assertEqual(self.sent("node5"), [ssconf_files(self.config.current())])

    def test_irrelevant_change(self) -> None:
        """A change that no file shows sends nothing."""
        self.sent("node2")
        self.update(changed_instance(self.config.current(), "inst1", disks_active=False))
        self.clock.advance(2)
        self.assertEqual(self.sent("node2"), [])

    def test_failed_node(self) -> None:
        """A node that failed gets everything with a later round."""
        self.nodes.unreachable.add(node_id(2))
        self.update(with_instance(self.config.current(), "new"))
        self.clock.advance(2)
        self.sent("node2")
        self.nodes.unreachable.clear()
        self.clock.advance(61)
        self.assertEqual(self.sent("node2"), [ssconf_files(self.config.current())])

    def test_failed_round(self) -> None:
        """A round that fails as a whole is told and repeated, as the next change may be far away."""
        for error in (ConfigurationError("a text is too long"), RuntimeError("a mistake")):
            with self.subTest(error=error):
                self.problem = error
                self.update(with_instance(self.config.current(), f"new{type(error).__name__.lower()}"))
                self.clock.advance(2)
                self.assertEqual(self.sent("node2")[1:], [])
                self.problem = None
                self.clock.advance(61)
                (files,) = self.sent("node2")
                self.assertIn(type(error).__name__.lower(), files["instance_list"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_node_comes_online(self) -> None:
        """A node that was offline gets everything when it is back."""
        self.update(with_node(self.config.current(), "node4", offline=False))
        self.clock.advance(2)
        self.assertEqual(self.sent("node4"), [ssconf_files(self.config.current())])

    def test_ordered(self) -> None:
        """While a round is under way the next one waits, so that nothing old arrives after something new."""
        answer: Deferred[None] = Deferred()
        self.nodes.answer(WriteSsconf, lambda node, call: answer, node=node_id(2))
        self.sent("node3")
        self.update(with_instance(self.config.current(), "new"))
        self.clock.advance(2)
        self.update(with_instance(self.config.current(), "newer"))
        self.clock.advance(2)
        self.assertEqual(len(self.sent("node3")), 1)
        answer.callback(None)
        self.clock.advance(2)
        self.assertEqual(len(self.sent("node3")), 1)

    def test_redistribute(self) -> None:
        """Everything is sent to everybody on request; failures are told by name."""
        self.sent("node2")
        self.nodes.unreachable.add(node_id(3))
        failures = self.successResultOf(Deferred.fromCoroutine(self.distributor.redistribute()))
        self.assertEqual(list(failures), ["node3.example.com"])
        self.assertEqual(self.sent("node2"), [ssconf_files(self.config.current())])

    def stamps(self, node: str) -> list[tuple[int, Stamp | None]]:
        """Number and base of everything that a node was sent."""
        calls = [called.call for called in self.nodes.calls if called.node.startswith(node)]
        return [(call.stamp.number, call.base) for call in calls]

    def test_stamps(self) -> None:
        """Each round has a stamp, and what is sent says what it continues (S2.3-032)."""
        self.nodes.unreachable.add(node_id(3))
        self.update(with_instance(self.config.current(), "new"))
        self.clock.advance(2)
        self.nodes.unreachable.clear()
        self.update(with_instance(self.config.current(), "newer"))
        self.clock.advance(2)
        first, second = (Stamp(generation=7, number=number) for number in (1, 2))
        self.assertEqual(self.stamps("node2"), [(1, None), (2, first), (3, second)])
        self.assertEqual(self.stamps("node3"), [(1, None), (3, None)])

    def test_node_is_behind(self) -> None:
        """A node that lacks what changes continue gets everything in the same round (S2.3-032)."""

        def lacking(node: Node, call: WriteSsconf) -> None:
            if call.base is not None:
                raise CopyBehind("something else is here")

        self.sent("node2")
        self.nodes.answer(WriteSsconf, lacking, node=node_id(2))
        self.update(with_instance(self.config.current(), "new"))
        self.clock.advance(2)
        changes, everything = self.sent("node2")
        self.assertEqual(list(changes), ["instance_list"])
        self.assertEqual(everything, ssconf_files(self.config.current()))

    def test_diffusion(self) -> None:
        """Rounds go the ways of the diffusion; the first one waits for connections (S2.3-032)."""
        value = with_settings(self.config.current(), diffusion_min_nodes=2)
        asked: list[tuple[int, list[str]]] = []

        class Ways:
            async def write(
                self, cluster: Cluster, nodes: list[Node], call: WriteSsconf, *, timeout_s: float
            ) -> Mapping[NodeId, Outcome[None]]:
                asked.append((len(call.values), [node.name.partition(".")[0] for node in nodes]))
                return {node.uuid: Answer(None) for node in nodes[1:]}

        self.distributor = SsconfDistributor(
            self.clock,  # type: ignore[arg-type]
            MemoryConfig(value),
            self.nodes,
            diffusion=Ways(),  # type: ignore[arg-type]
            compute=self.compute,
        )
        self.distributor.start()
        self.clock.advance(0)
        self.assertEqual(asked, [])
        self.clock.advance(CONNECT_S)
        self.assertEqual(asked, [(len(ssconf_files(value)), ["node1", "node2", "node3"])])
        failures = self.successResultOf(Deferred.fromCoroutine(self.distributor.redistribute()))
        self.assertEqual(failures, {"node1.example.com": "no answer"})
        self.successResultOf(Deferred.fromCoroutine(self.distributor.stop()))

    def test_stop(self) -> None:
        """After the stop no change leads to anything."""
        self.sent("node2")
        self.successResultOf(Deferred.fromCoroutine(self.distributor.stop()))
        self.update(with_instance(self.config.current(), "new"))
        self.clock.advance(100)
        self.assertEqual(self.sent("node2"), [])

    def test_stop_during_a_round(self) -> None:
        """A stop ends the round under way, also when changes already ask for the next one."""
        self.nodes.hanging.add(node_id(2))
        for name in ("new", "newer", "newest"):
            self.update(with_instance(self.config.current(), name))
            self.clock.advance(2)
        self.successResultOf(Deferred.fromCoroutine(self.distributor.stop()))
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])

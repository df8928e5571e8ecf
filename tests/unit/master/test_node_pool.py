"""Calls of masterd to nodes: rounds, deadlines, lost connections, nodes that come and go."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import (
    FunctionDied,
    FunctionFailed,
    HypervisorError,
    NodeOffline,
    NodeTimeout,
    NodeUnreachable,
)
from ganeti.master.node_connector import NodeConnector
from ganeti.master.node_pool import AT_ONCE, NodePool
from ganeti.model.calls.base import NodeCall
from ganeti.model.calls.outcome import Answer, NodeFailed
from ganeti.model.calls.system import HooksRunner, NodeTestDelay, Version
from ganeti.model.cluster import Cluster, ClusterSettings, empty_cluster
from ganeti.model.node import Node
from ganeti.node.functions import Functions
from ganeti.node.locator import NodeLocator
from ganeti.testing.links import FakeProcess, LinkPair, MemoryCluster, MemoryNode
from ganeti.testing.nodes import make_node
from ganeti.wire.trace import current_trace

DELAY = NodeTestDelay(seconds=1)


def cluster_of(*nodes: Node) -> Cluster:
    """A cluster with these nodes."""
    settings = ClusterSettings(
        uuid="c1", cluster_name="c", master_node=make_node("n0").uuid, master_ip="192.0.2.1"
    )
    empty = empty_cluster(settings, now=0.0)
    return msgspec.structs.replace(
        empty, nodes=empty.nodes.with_items({node.uuid: node for node in nodes}).settled()
    )


class PoolCase(SynchronousTestCase):
    """A pool, and nodes n0, n1 ... in memory whose functions do what the test says."""

    nodes = 2

    def setUp(self) -> None:
        """Nothing is connected."""
        self.clock = Clock()
        self.cluster = MemoryCluster(
            self.clock, {f"n{number}": MemoryNode(self.clock) for number in range(self.nodes)}
        )
        self.pool = NodePool(self.clock, self.cluster, jitter=lambda: 0.0)
        self.addCleanup(self.pool.stopService)

    def call(self, call: NodeCall[Any] = DELAY, name: str = "n0", **options: Any) -> Deferred[Any]:
        """Call a function of a node."""
        asked = Deferred.fromCoroutine(self.pool.call(make_node(name), call, **options))
        self.cluster.settle()
        return asked

    def process(self, name: str = "n0") -> FakeProcess:
        """The newest function process of a node."""
        return self.cluster.nodes[name].launcher.launched[-1]

    def settle(self, seconds: float = 0.0) -> None:
        """Time and messages."""
        self.cluster.settle(seconds)

    def links(self, name: str = "n0") -> list[LinkPair]:
        """Open connections to a node."""
        return self.cluster.links_to(name)


class RoundTests(PoolCase):
    """Long calls."""

    def test_long_call_in_rounds(self) -> None:
        """35 s of work are waited for in rounds of 10 s, with one function process (S2.2-025)."""
        asked = self.call()
        self.settle(35)
        self.assertNoResult(asked)
        self.process().succeed()
        self.settle()
        self.assertIsNone(self.successResultOf(asked))
        self.assertEqual(len(self.cluster.nodes["n0"].launcher.launched), 1)

    def test_one_connection_for_all_calls(self) -> None:
        """Calls share the node's connection, and one that takes long holds up nobody."""
        first = self.call()
        second = self.call()
        self.process().succeed()
        self.settle()
        self.successResultOf(second)
        self.assertNoResult(first)
        self.assertEqual(len(self.cluster.pairs), 1)

    def test_errors_of_functions(self) -> None:
        """What a function raises is raised here; what kills its process is FunctionDied (S2.2-026)."""
        asked = self.call()
        self.process().fail(HypervisorError("no"))
        self.settle()
        self.failureResultOf(asked, HypervisorError)
        asked = self.call()
        self.process().end("it was ended by signal SIGKILL")
        self.settle()
        self.failureResultOf(asked, FunctionDied)

    def test_unexpected_result(self) -> None:
        """A result of another type is an error that blames the versions."""
        asked = self.call()
        self.process().succeed("not nothing")
        self.settle()
        self.assertIn("another version", str(self.failureResultOf(asked, FunctionFailed).value))

    def test_trace_and_list(self) -> None:
        """Calls under way are listed with the job that makes them, which the node knows, too."""
        token = current_trace.set("152")
        self.addCleanup(current_trace.reset, token)
        self.call()
        self.assertEqual(
            self.pool.in_flight(),
            ({"name": "rpc/n0/test_delay", "mode": None, "owner": ["152"], "pending": None},),
        )
        self.assertEqual(self.process().request.trace, "152")
        self.process().succeed()
        self.settle()
        self.assertEqual(self.pool.in_flight(), ())


class DeadlineTests(PoolCase):
    """Calls that take too long."""

    def test_deadline_of_the_call(self) -> None:
        """After its time a call is NodeTimeout, and the function is ended on the node."""
        asked = self.call(timeout_s=25.0)
        self.settle(24)
        self.assertNoResult(asked)
        self.settle(2)
        self.failureResultOf(asked, NodeTimeout)
        self.assertEqual(self.process().signals, ["SIGTERM"])

    def test_deadline_of_the_class(self) -> None:
        """Without a time of its own a call has that of its class: 60 s for Version."""
        node = self.cluster.nodes["n0"]
        node.functions = Functions(self.clock, node.launcher, inline={Version: lambda call: Deferred()})
        node.locator = NodeLocator(node.functions)
        asked = self.call(Version())
        self.settle(70)
        self.failureResultOf(asked, NodeTimeout)

    def test_hanging_node(self) -> None:
        """A node that stops answering is noticed within a round and 5 s (S2.2-022)."""
        asked = self.call()
        self.links()[0].is_cut = True
        self.settle(15.5)
        error = self.failureResultOf(asked, NodeTimeout).value
        self.assertRegex(str(error), "n0.*hangs")

    def test_hanging_node_delays_nobody(self) -> None:
        """Of many nodes the one that hangs fails alone; the others' results are there at once (S2.2-007)."""
        for name in ("n0", "n1"):
            self.cluster.nodes[name].launcher.on_launch = lambda process: process.succeed()
        self.pool.sync(cluster_of(make_node("n0"), make_node("n1")))
        self.settle()
        self.links("n1")[0].is_cut = True
        quick = self.call(DELAY, "n0")
        self.successResultOf(quick)
        each = Deferred.fromCoroutine(self.pool.each([make_node("n0"), make_node("n1")], DELAY))
        self.settle(16)
        outcomes = self.successResultOf(each)
        self.assertEqual(outcomes[make_node("n0").uuid], Answer(None))
        failed = outcomes[make_node("n1").uuid]
        assert isinstance(failed, NodeFailed)
        self.assertIsInstance(failed.error, NodeTimeout)

    def test_cancelled_call_is_ended_on_the_node(self) -> None:
        """Who cancels a call ends its function, too."""
        asked = self.call()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.settle()
        self.assertEqual(self.process().signals, ["SIGTERM"])

    def test_abort_reaches_a_node_that_comes_back(self) -> None:
        """A function that could not be ended because the node hung is ended when it is back."""
        asked = self.call()
        self.links()[0].is_cut = True
        self.cluster.refusing.add("n0")
        self.settle(16)
        self.failureResultOf(asked, NodeTimeout)
        self.assertEqual(self.process().signals, [])
        self.cluster.refusing.clear()
        self.settle(2)
        self.assertEqual(self.process().signals, ["SIGTERM"])


class LossTests(PoolCase):
    """Connections that break."""

    def test_call_survives(self) -> None:
        """A connection that breaks does not lose a call: the next round uses a new one."""
        asked = self.call()
        for _ in range(2):
            self.links()[0].lose()
            self.settle(8)
            self.assertNoResult(asked)
        self.process().succeed()
        self.settle(1)
        self.assertIsNone(self.successResultOf(asked))
        self.assertEqual(len(self.cluster.nodes["n0"].launcher.launched), 1)

    def test_restarted_node_does_not_run_it_twice(self) -> None:
        """A node daemon that was started again does not know the call: it is lost, not repeated."""
        asked = self.call()
        self.cluster.nodes["n0"] = MemoryNode(self.clock)
        self.links()[0].lose()
        self.settle(2)
        self.assertIn("lost", str(self.failureResultOf(asked, NodeUnreachable).value))
        self.assertEqual(self.cluster.nodes["n0"].launcher.launched, [])

    def test_node_that_stays_away(self) -> None:
        """When no new connection can be made, the call is NodeUnreachable after a while."""
        asked = self.call()
        self.cluster.refusing.add("n0")
        self.links()[0].lose()
        self.settle(19)
        self.assertNoResult(asked)
        self.settle(2)
        self.failureResultOf(asked, NodeUnreachable)


class ConnectionTests(PoolCase):
    """Making connections."""

    def test_waits_a_little_for_a_connection(self) -> None:
        """A call to a node that is just starting waits for it."""
        self.cluster.refusing.add("n0")
        asked = self.call()
        self.settle(2)
        self.cluster.refusing.clear()
        self.settle(2)
        self.process().succeed()
        self.settle()
        self.successResultOf(asked)

    def test_says_why(self) -> None:
        """A node that cannot be reached is an error with the newest reason."""
        self.cluster.refusing.add("n0")
        asked = self.call()
        self.settle(6)
        error = self.failureResultOf(asked, NodeUnreachable).value
        self.assertEqual(str(error), "node n0 cannot be reached: connection refused")

    def test_pauses_grow(self) -> None:
        """A node that is away is tried again less and less often, but at once when it is called."""
        self.cluster.refusing.add("n0")
        self.pool.sync(cluster_of(make_node("n0")))
        self.settle(300)
        tries = len(self.cluster.attempts)
        self.assertLess(tries, 25)
        self.assertGreater(tries, 10)
        asked = self.call()
        self.assertEqual(len(self.cluster.attempts), tries + 1)
        self.failureResultOf(asked, NodeUnreachable)

    def test_reconnects_by_itself(self) -> None:
        """A connection that breaks is made again though nobody calls."""
        self.pool.sync(cluster_of(make_node("n0")))
        self.settle()
        self.assertTrue(self.pool.is_connected(make_node("n0").uuid))
        self.links()[0].lose()
        self.assertFalse(self.pool.is_connected(make_node("n0").uuid))
        self.settle(2)
        self.assertTrue(self.pool.is_connected(make_node("n0").uuid))

    def test_unconfirmed_connection_does_not_count(self) -> None:
        """A connection whose other end never answers is given up and tried again."""
        node = self.cluster.nodes["n0"]
        connected = self.cluster.__call__

        async def mute(wanted: Node) -> Any:
            link = await connected(wanted)
            self.cluster.pairs[-1][1].is_cut = True
            return link

        pool = NodePool(self.clock, cast(NodeConnector, mute), jitter=lambda: 0.0)
        self.addCleanup(pool.stopService)
        asked = Deferred.fromCoroutine(pool.call(make_node("n0"), DELAY))
        self.settle(5.5)
        self.assertIn("no answer", str(self.failureResultOf(asked, NodeUnreachable).value))
        self.assertEqual(node.launcher.launched, [])


class HurryTests(PoolCase):
    """Calls for lists, at which somebody looks."""

    def look(self) -> Deferred[Any]:
        """Ask both nodes."""
        nodes = [make_node("n0"), make_node("n1")]
        asked = Deferred.fromCoroutine(self.pool.each(nodes, DELAY, patient=False))
        self.cluster.settle()
        return asked

    def setUp(self) -> None:
        """Both nodes are connected and quick."""
        super().setUp()
        for node in self.cluster.nodes.values():
            node.launcher.on_launch = lambda process: process.succeed()
        self.pool.sync(cluster_of(make_node("n0"), make_node("n1")))
        self.settle()

    def failed(self, asked: Deferred[Any]) -> str:
        """Why n1 gave nothing, though n0 answered."""
        outcomes = self.successResultOf(asked)
        self.assertEqual(outcomes[make_node("n0").uuid], Answer(None))
        failure = outcomes[make_node("n1").uuid]
        assert isinstance(failure, NodeFailed)
        return str(failure.error)

    def test_dead_node(self) -> None:
        """A node that refuses connections delays the first list by a second, later ones not at all."""
        self.cluster.refusing.add("n1")
        self.links("n1")[0].lose()
        first = self.look()
        self.assertNoResult(first)
        self.settle(1.5)
        self.assertIn("connection refused", self.failed(first))
        self.settle(3)
        self.assertIn("connection refused", self.failed(self.look()))

    def test_node_just_started_again(self) -> None:
        """A node daemon that is back within a second is in the list."""
        self.cluster.refusing.add("n1")
        self.links("n1")[0].lose()
        asked = self.look()
        self.settle(0.25)
        self.cluster.refusing.clear()
        self.settle(0.75)
        self.assertEqual(set(self.successResultOf(asked).values()), {Answer(None)})

    def test_hanging_node(self) -> None:
        """A node that hangs is found out in 5 s; after that it delays lists by a second at most."""
        connected = self.cluster.__call__

        async def mute(wanted: Node) -> Any:
            link = await connected(wanted)
            self.cluster.pairs[-1][1].is_cut = True
            return link

        self.pool._member(make_node("n1")).connection._connect = lambda: mute(make_node("n1"))
        self.links("n1")[0].is_cut = True
        first = self.look()
        self.settle(5.25)
        self.assertIn("hangs", self.failed(first))
        self.settle(6)
        later = self.look()
        self.settle(1)
        self.assertIn("cannot be reached", self.failed(later))

    def test_slow_function(self) -> None:
        """A function that takes its time on a node that lives is waited for."""
        self.cluster.nodes["n1"].launcher.on_launch = lambda process: process.start()
        asked = self.look()
        self.settle(20)
        self.assertNoResult(asked)
        self.process("n1").succeed()
        self.settle()
        self.assertEqual(set(self.successResultOf(asked).values()), {Answer(None)})


class ManyConnectionsTests(PoolCase):
    """A thousand nodes that come back together."""

    nodes = 0

    def test_few_at_once(self) -> None:
        """At most 64 connections are made at the same time, and all in the end."""
        making: list[Deferred[None]] = []
        most = 0

        async def slow(node: Node) -> Any:
            nonlocal most
            waiting: Deferred[None] = Deferred()
            making.append(waiting)
            most = max(most, len(making))
            await waiting
            making.remove(waiting)
            raise NodeUnreachable("refused")

        nodes = [make_node(f"n{number}") for number in range(200)]
        pool = NodePool(self.clock, cast(NodeConnector, slow), jitter=lambda: 0.0)
        self.addCleanup(pool.stopService)
        pool.sync(cluster_of(*nodes))
        tries = 0
        while making:
            making[0].callback(None)
            tries += 1
        self.assertEqual(most, AT_ONCE)
        self.assertEqual(tries, 200)


class LongArgumentsTests(PoolCase):
    """The same megabytes for many nodes."""

    nodes = 12

    def begin(self) -> Deferred[Any]:
        """Send each node 4 MiB, once all are connected."""
        nodes = [make_node(name) for name in self.cluster.nodes]
        self.pool.sync(cluster_of(*nodes))
        self.settle()
        call = HooksRunner(hpath="x", phase="pre", env={"TEXT": "x" * 2**22})
        asked = Deferred.fromCoroutine(self.pool.each(nodes, call))
        self.settle()
        return asked

    def launched(self) -> list[FakeProcess]:
        """Functions that were started and have not ended."""
        found = [one for node in self.cluster.nodes.values() for one in node.launcher.launched]
        return [process for process in found if not process.is_over]

    def answer(self, process: FakeProcess) -> None:
        """A node answers, and the next one has its turn."""
        process.succeed(())
        self.settle()
        self.clock.advance(0)
        self.settle()

    def test_window(self) -> None:
        """So many get them at the same time that no memory is lost; all in the end."""
        asked = self.begin()
        most = 0
        while running := self.launched():
            most = max(most, len(running))
            self.answer(running[0])
        self.assertEqual(most, 3)
        self.assertEqual([type(one) for one in self.successResultOf(asked).values()], [Answer] * 12)

    def test_hanging_nodes_give_way(self) -> None:
        """Nodes that do not answer keep the others waiting for a moment only."""
        asked = self.begin()
        hanging = self.launched()
        self.settle(2.5)
        while running := [process for process in self.launched() if process not in hanging]:
            self.answer(running[0])
        self.assertNoResult(asked)
        self.assertEqual(sum(len(node.launcher.launched) for node in self.cluster.nodes.values()), 12)
        for process in hanging:
            process.succeed(())
        self.settle()
        self.assertEqual(len(self.successResultOf(asked)), 12)

    def test_cancelled(self) -> None:
        """Those that have not had their turn never get it."""
        asked = self.begin()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.settle(5)
        self.assertEqual(sum(len(node.launcher.launched) for node in self.cluster.nodes.values()), 3)


class SyncTests(PoolCase):
    """Following the cluster."""

    def test_connects_to_online_nodes_only(self) -> None:
        """Nodes that are online are connected to without being called; offline ones are not."""
        self.pool.sync(cluster_of(make_node("n0"), make_node("n1", offline=True)))
        self.settle()
        self.assertEqual((len(self.links("n0")), len(self.links("n1"))), (1, 0))

    def test_lets_go(self) -> None:
        """Nodes that went offline or away are let go of; time and again the same is cheap."""
        self.pool.sync(cluster_of(make_node("n0"), make_node("n1")))
        self.settle()
        for _ in range(10):
            self.pool.sync(cluster_of(make_node("n0", offline=True)))
            self.settle(4)
        self.assertEqual((self.links("n0"), self.links("n1")), ([], []))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_comes_back(self) -> None:
        """A node that is online again before it was let go of keeps its connection."""
        for offline in (False, True, False):
            self.pool.sync(cluster_of(make_node("n0", offline=offline)))
            self.settle(1)
        self.settle(60)
        self.assertEqual(len(self.cluster.pairs), 1)
        self.assertEqual(len(self.links()), 1)

    def test_new_address(self) -> None:
        """A node with another address gets another connection."""
        self.pool.sync(cluster_of(make_node("n0")))
        self.settle()
        self.pool.sync(cluster_of(msgspec.structs.replace(make_node("n0"), primary_ip="192.0.2.9")))
        self.settle()
        self.assertEqual(len(self.cluster.pairs), 2)
        self.assertEqual(len(self.links()), 1)

    def test_call_outlives_going_offline(self) -> None:
        """A call under way when its node is marked offline is not disturbed."""
        asked = self.call()
        self.pool.sync(cluster_of(make_node("n0", offline=True)))
        self.settle(100)
        self.process().succeed()
        self.settle()
        self.successResultOf(asked)
        self.failureResultOf(
            Deferred.fromCoroutine(self.pool.call(make_node("n0", offline=True), DELAY)), NodeOffline
        )

    def test_node_outside_the_cluster(self) -> None:
        """A node that is not in the cluster yet can be called; its connection is let go of later."""
        asked = self.call(Version())
        self.successResultOf(asked)
        self.pool.sync(cluster_of())
        self.settle(31)
        self.assertEqual(self.links(), [])

    def test_stop(self) -> None:
        """When the pool stops, connections are closed and calls under way fail."""
        asked = self.call()
        self.pool.stopService()
        self.settle()
        self.failureResultOf(asked, NodeUnreachable)
        self.assertEqual(self.links(), [])
        self.settle(100)
        self.assertEqual(len(self.cluster.pairs), 1)

    def test_stop_while_connecting(self) -> None:
        """An attempt that is given up in the words of Twisted's endpoints is no mistake."""
        begun: list[Deferred[Any]] = []

        async def connect(wanted: Node) -> Any:
            begun.append(Deferred(lambda waiting: waiting.errback(ConnectingCancelledError(None))))
            return await begun[-1]

        pool = NodePool(self.clock, cast(NodeConnector, connect), jitter=lambda: 0.0)
        pool.startService()  # type: ignore[no-untyped-call]
        pool.sync(cluster_of(make_node("n0")))
        self.assertEqual(len(begun), 1)
        pool.stopService()
        self.assertTrue(begun[0].called)
        self.assertEqual(self.flushLoggedErrors(), [])

"""Function calls over AMP, carried by nothing but memory (S2.2-034)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import NodeError, PrereqError, UnknownCall
from ganeti.node.service import LinkFactory
from ganeti.testing.links import LinkPair, MemoryNode
from ganeti.wire.errors import GanetiCommand
from ganeti.wire.node_commands import AbortFunction, ListFunctions, StartFunction, WaitForFunction


class NodeLocatorTests(SynchronousTestCase):
    """A node daemon's answers."""

    def setUp(self) -> None:
        """A node and a link to it."""
        self.clock = Clock()
        self.node = MemoryNode(self.clock)
        self.pair = LinkPair(self.clock, self.node.locator)

    def ask(self, command: type[GanetiCommand], **arguments: Any) -> Deferred[dict[str, Any]]:
        """Send a command."""
        asked = Deferred.fromCoroutine(self.pair.near.ask(command, **arguments))
        self.pair.flush()
        return asked

    def start(self, timeout: float, **more: Any) -> Deferred[dict[str, Any]]:
        """Start the function that sleeps."""
        return self.ask(
            StartFunction, name="test_delay", args=b'{"fn":"test_delay","seconds":1}', timeout=timeout, **more
        )

    def advance(self, seconds: float) -> None:
        """Time and messages."""
        self.clock.advance(seconds)
        self.pair.flush()

    def test_both_outcomes(self) -> None:
        """StartFunction gives three values: unfinished with an id, or finished with a result (S2.2-028)."""
        asked = self.start(2.5)
        self.advance(2.5)
        unfinished = self.successResultOf(asked)
        self.assertEqual((unfinished["finished"], unfinished["result"]), (False, None))
        asked = self.ask(WaitForFunction, call_id=unfinished["call_id"], timeout=10.0)
        self.node.launcher.launched[0].succeed({"a": 1})
        self.pair.flush()
        self.assertEqual(
            self.successResultOf(asked), {"call_id": None, "finished": True, "result": b'[true,{"a":1}]'}
        )

    def test_lost_connection_does_not_lose_the_call(self) -> None:
        """A call that was started over one connection is waited for over another."""
        asked = self.start(60, request_id="r1")
        self.pair.lose()
        self.flushLoggedErrors()
        self.failureResultOf(asked)
        self.pair = LinkPair(self.clock, self.node.locator)
        asked = self.ask(WaitForFunction, call_id="r1", timeout=10.0)
        self.node.launcher.launched[0].succeed(1)
        self.pair.flush()
        self.assertEqual(self.successResultOf(asked)["result"], b"[true,1]")

    def test_unknown_id(self) -> None:
        """An unknown id is an error of its own class (S2.2-030)."""
        self.failureResultOf(self.ask(WaitForFunction, call_id="1:2:3.0:ab", timeout=1.0), UnknownCall)

    def test_wrong_timeout(self) -> None:
        """A timeout below zero is refused."""
        self.failureResultOf(self.start(-1.0), PrereqError)

    def test_large_arguments_and_results(self) -> None:
        """Arguments and results of a megabyte pass."""
        asked = self.ask(StartFunction, name="x", args=b'"%s"' % (b"y" * 2**20), timeout=5.0)
        process = self.node.launcher.launched[0]
        self.assertEqual(len(process.request.args), 2**20 + 2)
        process.succeed("z" * 2**20)
        self.pair.flush()
        self.assertEqual(len(self.successResultOf(asked)["result"]), 2**20 + len(b'[true,""]'))

    def test_list_and_abort(self) -> None:
        """Calls are listed without their arguments, and ended by id."""
        self.start(60, request_id="r1", trace="42")
        listed = self.successResultOf(self.ask(ListFunctions))["functions"]
        self.assertEqual(
            [(row.name, row.state, row.trace) for row in listed], [("test_delay", "running", "42")]
        )
        self.assertEqual(self.successResultOf(self.ask(AbortFunction, call_id=listed[0].call_id)), {})
        self.assertEqual(self.node.launcher.launched[0].signals, ["SIGTERM"])

    def test_stopping_node(self) -> None:
        """A node daemon that stops refuses calls with a reason."""
        self.node.functions.stopService()
        self.failureResultOf(self.start(1.0), NodeError)


class LinkFactoryTests(SynchronousTestCase):
    """Connections to a node daemon."""

    def test_limit(self) -> None:
        """More connections than the limit are refused; one that ends makes room."""
        clock = Clock()
        factory = LinkFactory(clock, MemoryNode(clock).locator, max_connections=2)
        links = [factory.buildProtocol(None) for _ in range(2)]
        self.assertIsNone(factory.buildProtocol(None))
        assert links[0] is not None
        links[0].connectionLost()
        self.assertIsNotNone(factory.buildProtocol(None))

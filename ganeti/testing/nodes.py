"""`FakeNodes`: nodes in memory for tests of whoever calls functions on nodes, and their behaviours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer
from zope.interface.verify import verifyObject

from ganeti.errors import (
    GanetiError,
    HypervisorError,
    NodeOffline,
    NodeTimeout,
    NodeUnreachable,
    ProgrammerError,
)
from ganeti.interfaces import INodes
from ganeti.master.meanwhile import beside
from ganeti.model.calls.base import NodeCall
from ganeti.model.calls.outcome import Answer, NodeFailed, Outcome
from ganeti.model.calls.system import MasterNodeName, NodeTestDelay, Version, VersionResult
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.node import Node

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _TestCase
else:
    _TestCase = object

R = TypeVar("R")

Handler = Callable[[Node, Any], Any]
"""Answers a call: gives the result or an awaitable of it, or raises."""


class Called(msgspec.Struct, frozen=True, kw_only=True):
    """A call as it arrived at a node."""

    node: str
    """Name"""
    call: Any


@implementer(INodes)
class FakeNodes:
    """Nodes that exist only as answers.

    Results go through JSON as over the wire, so that a handler that gives the wrong type is found.
    A call without a handler is a mistake of the test, unless its result is nothing.

    Args:
        clock: for timeouts of hanging nodes; None: they hang until cancelled.
    """

    def __init__(self, clock: IReactorTime | None = None) -> None:
        self._clock = clock
        self._handlers: dict[tuple[type[Any], NodeId | None], Handler] = {}
        self.unreachable: set[NodeId] = set()
        """Nodes that cannot be connected to."""
        self.hanging: set[NodeId] = set()
        """Nodes that never answer."""
        self.calls: list[Called] = []
        """Everything that reached a node, hanging ones included."""

    def seconds(self) -> float:
        """Time of all nodes; it stands still without a clock."""
        return 0.0 if self._clock is None else self._clock.seconds()

    def answer(self, call: type[NodeCall[R]], value: R | Handler, *, node: NodeId | None = None) -> None:
        """Set what a function gives, on one node or (None) on all that have no answer of their own.

        Args:
            call: which function.
            value: the result, an exception to raise, or a function of node and call.
            node: where.
        """
        self._handlers[call, node] = value if callable(value) else lambda _node, _call: value

    def calls_of(self, call: type[NodeCall[Any]]) -> list[Called]:
        """The calls of one function so far."""
        return [called for called in self.calls if type(called.call) is call]

    async def call(self, node: Node, call: NodeCall[R], *, timeout_s: float | None = None) -> R:
        """Call a function; see `INodes`."""
        if node.offline and not call.contacts_offline:
            raise NodeOffline(f"node {node.name} is marked offline")
        if node.uuid in self.unreachable:
            raise NodeUnreachable(f"node {node.name} cannot be reached: connection refused")
        self.calls.append(Called(node=node.name, call=call))
        if node.uuid in self.hanging:
            await self._hang(node, call, call.duration.value if timeout_s is None else timeout_s)
        value = self._handler(node, call)(node, call)
        if isinstance(value, BaseException):
            raise value
        if isawaitable(value):
            value = await value
        result: R = msgspec.json.decode(msgspec.json.encode(value), type=type(call).result_type())
        return result

    async def each(
        self,
        nodes: Collection[Node],
        call: NodeCall[R],
        *,
        timeout_s: float | None = None,
        patient: bool = True,
    ) -> Mapping[NodeId, Outcome[R]]:
        """Call the same on many nodes; see `INodes`."""
        return await self.each_own([(node, call) for node in nodes], timeout_s=timeout_s)

    async def each_own(
        self, calls: Collection[tuple[Node, NodeCall[R]]], *, timeout_s: float | None = None
    ) -> Mapping[NodeId, Outcome[R]]:
        """Call one function on many nodes, with arguments of their own; see `INodes`."""
        pending = {
            node.uuid: Deferred.fromCoroutine(self._outcome(node, call, timeout_s)) for node, call in calls
        }
        try:
            return {uuid: await outcome for uuid, outcome in pending.items()}
        except CancelledError:
            for outcome in pending.values():
                outcome.addErrback(lambda failure: None).cancel()
            raise

    def meanwhile(
        self, node: Node, call: NodeCall[R], *, timeout_s: float | None = None
    ) -> AbstractAsyncContextManager[Awaitable[R]]:
        """Call a function and go on; see `INodes`."""
        return beside(self.call(node, call, timeout_s=timeout_s))

    async def _outcome(self, node: Node, call: NodeCall[R], timeout_s: float | None) -> Outcome[R]:
        try:
            return Answer(await self.call(node, call, timeout_s=timeout_s))
        except CancelledError:
            raise
        except GanetiError as error:
            return NodeFailed(error)

    async def _hang(self, node: Node, call: NodeCall[Any], timeout_s: float) -> None:
        forever: Deferred[None] = Deferred()
        if self._clock is not None:
            forever.addTimeout(timeout_s, self._clock)
        try:
            await forever
        except TimeoutError:
            raise NodeTimeout(f"node {node.name} did not finish {call.function()}") from None

    def _handler(self, node: Node, call: NodeCall[Any]) -> Handler:
        for key in ((type(call), node.uuid), (type(call), None)):
            if key in self._handlers:
                return self._handlers[key]
        if type(call).result_type() is type(None):
            return lambda _node, _call: None
        raise ProgrammerError(f"the test has no answer for {call.function()} on {node.name}")


def make_node(name: str, *, offline: bool = False) -> Node:
    """A node for tests: its UUID is made from its name."""
    return Node(
        uuid=NodeId(f"uuid-{name}"),
        name=name,
        primary_ip="192.0.2.1",
        secondary_ip="192.0.2.1",
        group=GroupId("uuid-group"),
        offline=offline,
    )


class NodesBehaviours(_TestCase):
    """What every `INodes` does; mix it into a TestCase that makes one and can let time pass."""

    def make_nodes(self) -> INodes:
        """An `INodes` whose nodes answer Version with 1/`one`, raise HypervisorError for MasterNodeName.

        Node `gone` cannot be reached, `stuck` never answers.
        """
        raise NotImplementedError

    def settle(self, seconds: float = 0.0) -> None:
        """Let time pass until nothing more happens."""
        raise NotImplementedError

    def test_is_what_it_says(self) -> None:
        """It provides `INodes`."""
        self.assertTrue(verifyObject(INodes, self.make_nodes()))

    def test_result_is_typed(self) -> None:
        """A call gives the value of the declared type."""
        asked = Deferred.fromCoroutine(_await(self.make_nodes().call(make_node("one"), Version())))
        self.settle()
        self.assertEqual(self.successResultOf(asked), VersionResult(protocol=1, release="one"))

    def test_function_error_keeps_its_class(self) -> None:
        """What the function raises arrives as the same class with the same text."""
        asked = Deferred.fromCoroutine(_await(self.make_nodes().call(make_node("one"), MasterNodeName())))
        self.settle()
        error = self.failureResultOf(asked, HypervisorError).value
        self.assertEqual(str(error), "no such thing on one")

    def test_offline_node_is_not_contacted(self) -> None:
        """A node marked offline fails at once."""
        nodes = self.make_nodes()
        asked = Deferred.fromCoroutine(_await(nodes.call(make_node("one", offline=True), MasterNodeName())))
        self.failureResultOf(asked, NodeOffline)

    def test_some_calls_contact_offline_nodes(self) -> None:
        """`contacts_offline` calls go to nodes marked offline, too."""
        asked = Deferred.fromCoroutine(
            _await(self.make_nodes().call(make_node("one", offline=True), Version()))
        )
        self.settle()
        self.assertEqual(self.successResultOf(asked).release, "one")

    def test_unreachable_node(self) -> None:
        """A node that cannot be reached is `NodeUnreachable`, with its name in the message."""
        asked = Deferred.fromCoroutine(_await(self.make_nodes().call(make_node("gone"), Version())))
        self.settle(10)
        error = self.failureResultOf(asked, NodeUnreachable).value
        self.assertIn("gone", str(error))

    def test_hanging_node_times_out(self) -> None:
        """A node that does not answer is `NodeTimeout` (S2.2-022)."""
        asked = Deferred.fromCoroutine(
            _await(self.make_nodes().call(make_node("stuck"), NodeTestDelay(seconds=1), timeout_s=2.0))
        )
        self.settle(10)
        self.failureResultOf(asked, NodeTimeout)

    def test_each_isolates_nodes(self) -> None:
        """With many nodes each has its own outcome, in spite of the others (S2.2-007)."""
        nodes = [make_node("one"), make_node("gone"), make_node("stuck"), make_node("off", offline=True)]
        asked = Deferred.fromCoroutine(
            _await(self.make_nodes().each(nodes, NodeTestDelay(seconds=0), timeout_s=2.0))
        )
        self.settle(20)
        outcomes = self.successResultOf(asked)
        kinds = [
            outcome.error.__class__.__name__ if isinstance(outcome, NodeFailed) else outcome.value
            for outcome in (outcomes[node.uuid] for node in nodes)
        ]
        self.assertEqual(kinds, [None, "NodeUnreachable", "NodeTimeout", "NodeOffline"])

    def test_each_with_its_own_arguments(self) -> None:
        """Arguments may differ from node to node; one that hangs delays only its own entry."""
        calls = [(make_node(name), NodeTestDelay(seconds=0)) for name in ("one", "stuck")]
        asked = Deferred.fromCoroutine(_await(self.make_nodes().each_own(calls, timeout_s=2.0)))
        self.settle(20)
        outcomes = self.successResultOf(asked)
        self.assertEqual(outcomes[calls[0][0].uuid], Answer(None))
        self.assertIsInstance(outcomes[calls[1][0].uuid].error, NodeTimeout)
        nothing = Deferred.fromCoroutine(_await(self.make_nodes().each_own([])))
        self.settle()
        self.assertEqual(self.successResultOf(nothing), {})

    def test_meanwhile(self) -> None:
        """A call that goes on beside others gives its result when it is asked for."""
        asked = Deferred.fromCoroutine(
            _meanwhile(self.make_nodes(), make_node("one"), Version(), MasterNodeName())
        )
        self.settle()
        result, error = self.successResultOf(asked)
        self.assertEqual(result, VersionResult(protocol=1, release="one"))
        self.assertEqual(str(error), "no such thing on one")

    def test_meanwhile_ends_with_its_block(self) -> None:
        """A call that is not done when the block ends does not hold it up."""
        nodes, call = self.make_nodes(), NodeTestDelay(seconds=1)
        asked = Deferred.fromCoroutine(_meanwhile(nodes, make_node("stuck"), call, None))
        self.settle()
        self.assertEqual(self.successResultOf(asked), (None, None))

    def test_cancelling_is_let_through(self) -> None:
        """Who cancels a call gets CancelledError, nothing else."""
        nodes = self.make_nodes()
        asked = Deferred.fromCoroutine(_await(nodes.call(make_node("stuck"), NodeTestDelay(seconds=1))))
        both = Deferred.fromCoroutine(
            _await(nodes.each([make_node("one"), make_node("stuck")], NodeTestDelay(seconds=1)))
        )
        self.settle()
        for waiting in (asked, both):
            waiting.cancel()
            self.settle()
            self.failureResultOf(waiting, CancelledError)


async def _await(waiting: Any) -> Any:
    return await waiting


async def _meanwhile(nodes: INodes, node: Node, call: NodeCall[Any], other: NodeCall[Any] | None) -> Any:
    """The result of a call, and the error of another one that is called meanwhile; None: wait for neither."""
    async with nodes.meanwhile(node, call) as waiting:
        if other is None:
            return None, None
        try:
            await nodes.call(node, other)
        except GanetiError as error:
            return await waiting, error
    raise AssertionError(f"{other.function()} has to fail on {node.name}")

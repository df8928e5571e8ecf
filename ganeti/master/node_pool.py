"""Calls functions on nodes: one connection per node, long calls in rounds, each node for itself.

A call is asked for once and then waited for in rounds of ten seconds. A round that is not answered
means that the node hangs; a lost connection means only that the next round uses another one, because
the call is known on the node by the id of the request.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import Any, TypeVar

import msgspec

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore, FirstError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ganeti.errors import (
    FunctionFailed,
    GanetiError,
    NodeError,
    NodeOffline,
    NodeTimeout,
    NodeUnreachable,
    UnknownCall,
    from_wire,
)
from ganeti.interfaces import INodes
from ganeti.master.meanwhile import beside
from ganeti.master.node_connection import NodeConnection
from ganeti.master.node_connector import NodeConnector
from ganeti.model.calls.base import NodeCall
from ganeti.model.calls.outcome import Answer, NodeFailed, Outcome
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.node import Node
from ganeti.model.reading import UNREADABLE
from ganeti.wire.link import Link, LinkLost, LinkSilent
from ganeti.wire.node_commands import StartFunction, WaitForFunction
from ganeti.wire.trace import current_trace

R = TypeVar("R")

AT_ONCE = 64
"""Connections that are being made at the same time."""

_IN_FLIGHT_BYTES = 16 * 2**20
"""Of the arguments of one call to many nodes, as long as they are on their way; each node's are a copy."""

_GIVE_WAY_S = 2.0
"""After this a node that has not answered lets the next one get its long arguments."""

_MAX_LOSSES = 3
"""A call whose connection breaks this often is given up."""


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """How long the pool waits, seconds."""

    round_s: float = 10.0
    """A node answers after this at the latest, finished or not."""
    grace_s: float = 5.0
    """An answer that is later than this means that the node hangs."""
    connect_s: float = 5.0
    """A call waits this long for a connection."""
    reconnect_s: float = 20.0
    """A call that is under way waits this long for a new one."""
    hasty_round_s: float = 2.0
    """`round_s` of a call in a hurry."""
    hasty_grace_s: float = 3.0
    """`grace_s` of a call in a hurry: together the time in which a node that hangs is found out."""
    linger_s: float = 30.0
    """A connection to a node outside the cluster, or offline, is kept this long after use."""


class _Member:
    """A node as the pool knows it."""

    def __init__(self, node: Node, connection: NodeConnection) -> None:
        self.node = node
        self.connection = connection
        self.is_wanted = False
        """Belongs to the cluster and is not offline."""
        self.calls = 0
        self.linger: IDelayedCall | None = None


@implementer(INodes)
class NodePool(Service):
    """The nodes of the cluster as callable things.

    Args:
        reactor: time.
        connect: makes a connection to a node.
        times: how long to wait.
        jitter: 0 to 1.
        new_id: ids of requests, never used twice; None: a random word and a number.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        connect: NodeConnector,
        *,
        times: Times | None = None,
        jitter: Callable[[], float] = random.random,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        self._clock = reactor
        self._connect = connect
        self._times = times or Times()
        self._jitter = jitter
        self._new_id = _numbered_ids() if new_id is None else new_id
        self._gate = DeferredSemaphore(AT_ONCE)
        self._members: dict[NodeId, _Member] = {}
        self._in_flight: dict[str, tuple[Node, type[NodeCall[Any]], str | None]] = {}
        self._decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}
        self.on_lost: Callable[[NodeId], None] = lambda node: None
        """Called with a node whose connection is gone; must not raise."""

    def stopService(self) -> None:
        """Close all connections; calls under way fail."""
        Service.stopService(self)
        for member in list(self._members.values()):
            self._drop(member)

    def sync(self, cluster: Cluster) -> None:
        """Follow the cluster: connect to its nodes that are online, let go of the others.

        Cheap when nothing changed; called for every new value of the configuration.
        """
        for node in cluster.nodes.values():
            member = self._members.get(node.uuid)
            if node.offline and member is None:
                continue
            member = self._member(node)
            member.is_wanted = not node.offline
            if member.is_wanted:
                member.connection.start()
        for uuid, member in list(self._members.items()):
            known = cluster.nodes.get(uuid)
            member.is_wanted = known is not None and not known.offline
            if not member.is_wanted:
                self._let_go(member)

    def is_connected(self, node: NodeId) -> bool:
        """Whether there is a connection to a node now."""
        member = self._members.get(node)
        return member is not None and member.connection.link is not None

    def secret_with(self, node: NodeId) -> bytes | None:
        """What only we and a node know, new with each connection; None while there is none."""
        member = self._members.get(node)
        link = None if member is None else member.connection.ready
        return None if link is None else link.secret()

    def in_flight(self) -> Sequence[Mapping[str, Any]]:
        """Calls under way as rows name, mode, owner, pending for the list of locks."""
        found = sorted(
            ((f"rpc/{node.name}/{kind.function()}", owner) for node, kind, owner in self._in_flight.values()),
            key=lambda row: row[0],
        )
        return tuple(
            {"name": name, "mode": None, "owner": None if owner is None else [owner], "pending": None}
            for name, owner in found
        )

    async def call(self, node: Node, call: NodeCall[R], *, timeout_s: float | None = None) -> R:
        """Call a function; see `INodes`."""
        result = await self._run(node, type(call), msgspec.json.encode(call), timeout_s)
        value: R = result
        return value

    async def each(
        self,
        nodes: Collection[Node],
        call: NodeCall[R],
        *,
        timeout_s: float | None = None,
        patient: bool = True,
    ) -> Mapping[NodeId, Outcome[R]]:
        """Call the same on many nodes; see `INodes`. The arguments are encoded once for all."""
        args = msgspec.json.encode(call)
        return await self._each([(node, args) for node in nodes], type(call), timeout_s, patient=patient)

    async def each_own(
        self, calls: Collection[tuple[Node, NodeCall[R]]], *, timeout_s: float | None = None
    ) -> Mapping[NodeId, Outcome[R]]:
        """Call one function on many nodes, with arguments of their own; see `INodes`."""
        encoded = [(node, msgspec.json.encode(call)) for node, call in calls]
        kind = next((type(call) for _, call in calls), NodeCall[R])
        return await self._each(encoded, kind, timeout_s, patient=True)

    def meanwhile(
        self, node: Node, call: NodeCall[R], *, timeout_s: float | None = None
    ) -> AbstractAsyncContextManager[Awaitable[R]]:
        """Call a function and go on; see `INodes`."""
        return beside(self.call(node, call, timeout_s=timeout_s))

    async def _each(
        self,
        calls: Sequence[tuple[Node, bytes]],
        kind: type[NodeCall[R]],
        timeout_s: float | None,
        *,
        patient: bool,
    ) -> Mapping[NodeId, Outcome[R]]:
        at_once = max(1, _IN_FLIGHT_BYTES // max((len(args) for _, args in calls), default=1))
        gate = None if len(calls) <= at_once else DeferredSemaphore(at_once)
        pending: list[Deferred[Any]] = []
        for node, args in calls:
            running = self._run(node, kind, args, timeout_s, patient=patient)
            asked = Deferred.fromCoroutine(running if gate is None else self._in_turn(gate, running))
            asked.addCallbacks(Answer, self._failed, errbackArgs=(node, kind))
            pending.append(asked)
        try:
            results = await DeferredList(pending, fireOnOneErrback=True, consumeErrors=True)
        except FirstError as error:
            # Only cancellation gets here; outcomes carry everything else.
            error.subFailure.raiseException()
            raise
        found: list[tuple[bool, Outcome[R]]] = results
        return {node.uuid: outcome for (node, _), (_, outcome) in zip(calls, found, strict=True)}

    # --- one call ----------------------------------------------------------------------------

    async def _in_turn(self, gate: DeferredSemaphore, running: Coroutine[Any, Any, R]) -> R:
        """A call with long arguments, of which only so many go out together; one that hangs gives way."""
        try:
            await gate.acquire()
        except BaseException:
            running.close()
            raise
        give_way = self._clock.callLater(_GIVE_WAY_S, gate.release)
        try:
            return await running
        finally:
            if give_way.active():
                # Not now: if all of them are cancelled, the next one has to be cancelled first.
                give_way.reset(0)

    def _failed(self, failure: Failure, node: Node, kind: type[NodeCall[Any]]) -> NodeFailed | Failure:
        """What stands for the result of a call that failed; only cancellation is passed on."""
        if isinstance(failure.value, CancelledError):
            return failure
        if isinstance(failure.value, GanetiError):
            return NodeFailed(failure.value)
        reference = secrets.token_hex(4)
        self.log.failure(
            "call of {function} on node {node}, reference {reference}",
            failure,
            function=kind.function(),
            node=node.name,
            reference=reference,
        )
        return NodeFailed(NodeError(f"internal error in a node call, reference {reference}"))

    async def _run(
        self,
        node: Node,
        kind: type[NodeCall[Any]],
        args: bytes,
        timeout_s: float | None,
        *,
        patient: bool = True,
    ) -> Any:
        if node.offline and not kind.contacts_offline:
            raise NodeOffline(f"node {node.name} is marked offline")
        member = self._member(node)
        request_id = self._new_id()
        trace = current_trace.get()
        self._in_flight[request_id] = (node, kind, trace)
        member.calls += 1
        try:
            deadline = self._clock.seconds() + (kind.duration.value if timeout_s is None else timeout_s)
            rounds = _Rounds(
                self._clock, member.connection, self._times, kind, request_id, deadline, patient=patient
            )
            return self._opened(node, kind, await rounds.run(args, trace))
        finally:
            del self._in_flight[request_id]
            member.calls -= 1
            if not member.is_wanted:
                self._let_go(member)

    def _opened(self, node: Node, kind: type[NodeCall[Any]], result: bytes) -> Any:
        """The value of a result, or the error that it carries."""
        try:
            succeeded, payload = _PAIR.decode(result)
            if succeeded:
                return self._decoder(kind).decode(payload)
            name, args = _REFUSAL.decode(payload)
        except UNREADABLE as error:
            raise FunctionFailed(
                f"node {node.name} answered {kind.function()} with something unexpected ({error});"
                " it runs another version than the master"
            ) from error
        raise from_wire(name, args)

    def _decoder(self, kind: type[NodeCall[Any]]) -> msgspec.json.Decoder[Any]:
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = msgspec.json.Decoder(kind.result_type())
        return decoder

    # --- members -----------------------------------------------------------------------------

    def _member(self, node: Node) -> _Member:
        member = self._members.get(node.uuid)
        if member is not None and _reached_alike(member.node, node):
            return member
        if member is not None:
            self._drop(member)
        connection = NodeConnection(
            self._clock,
            node.name,
            lambda: self._connect(node),
            self._gate,
            jitter=self._jitter,
            on_lost=lambda: self.on_lost(node.uuid),
        )
        new = _Member(node, connection)
        new.is_wanted = member.is_wanted if member is not None else False
        self._members[node.uuid] = new
        return new

    def _let_go(self, member: _Member) -> None:
        """Drop a node that is not wanted, some time after it was last used."""
        is_lingering = member.linger is not None and member.linger.active()
        if not member.calls and not is_lingering and self._members.get(member.node.uuid) is member:
            member.linger = self._clock.callLater(self._times.linger_s, self._drop_unwanted, member)

    def _drop_unwanted(self, member: _Member) -> None:
        if not member.is_wanted and not member.calls:
            self._drop(member)

    def _drop(self, member: _Member) -> None:
        if member.linger is not None and member.linger.active():
            member.linger.cancel()
        if self._members.get(member.node.uuid) is member:
            del self._members[member.node.uuid]
        member.connection.stop()


class _Rounds:
    """One call, from the first round to its result."""

    def __init__(
        self,
        clock: IReactorTime,
        connection: NodeConnection,
        times: Times,
        kind: type[NodeCall[Any]],
        request_id: str,
        deadline: float,
        *,
        patient: bool,
    ) -> None:
        self._clock = clock
        self._connection = connection
        self._times = times
        self._kind = kind
        self._request_id = request_id
        self._deadline = deadline
        self._patient = patient
        self._round_s = times.round_s if patient else times.hasty_round_s
        self._grace_s = times.grace_s if patient else times.hasty_grace_s
        self._was_asked = False

    async def run(self, args: bytes, trace: str | None) -> bytes:
        """The result, JSON; see `INodes.call` for what is raised."""
        losses = 0
        try:
            while True:
                link = self._connection.ready or await self._connected()
                try:
                    answer = await self._ask(link, args, trace)
                except LinkSilent as silent:
                    # Whatever else goes over this link is not going to be answered either.
                    link.abort()
                    raise self._late(f"no sign of life ({silent}); its node daemon hangs") from None
                except LinkLost as error:
                    losses += 1
                    if self._kind.inline or losses >= _MAX_LOSSES:
                        raise self._lost(str(error)) from None
                    continue
                except UnknownCall as error:
                    raise self._lost(str(error)) from None
                if answer["finished"]:
                    result: bytes = answer["result"]
                    return result
                if self._left_s() <= 0:
                    raise self._late("it takes too long and is being ended")
        except (CancelledError, NodeTimeout, NodeUnreachable):
            if self._was_asked and not self._kind.inline:
                self._connection.abort_function(self._request_id)
            raise

    def _connected(self) -> Awaitable[Link]:
        patience_s = self._times.reconnect_s if self._was_asked else self._times.connect_s
        within_s = max(0.1, min(self._left_s(), patience_s))
        return self._connection.get(within_s=within_s, patient=self._patient)

    def _ask(self, link: Link, args: bytes, trace: str | None) -> Awaitable[dict[str, Any]]:
        """Ask for a round of waiting; the first one starts the call."""
        round_s = max(0.001, min(self._left_s(), self._round_s))
        answer_s = round_s + self._grace_s
        if self._was_asked:
            # Never a second StartFunction: a node daemon that was started again in between does
            # not know the call, and must not carry it out twice.
            return link.ask(WaitForFunction, timeout_s=answer_s, call_id=self._request_id, timeout=round_s)
        self._was_asked = True
        return link.ask(
            StartFunction,
            timeout_s=answer_s,
            name=self._kind.function(),
            args=args,
            timeout=round_s,
            request_id=None if self._kind.inline else self._request_id,
            trace=trace,
        )

    def _left_s(self) -> float:
        return self._deadline - self._clock.seconds()

    def _late(self, why: str) -> NodeTimeout:
        return NodeTimeout(f"node {self._connection.name} did not finish {self._kind.function()}: {why}")

    def _lost(self, why: str) -> NodeUnreachable:
        return NodeUnreachable(
            f"the call of {self._kind.function()} on node {self._connection.name} is lost: {why}"
        )


_PAIR = msgspec.json.Decoder(tuple[bool, msgspec.Raw])
_REFUSAL = msgspec.json.Decoder(tuple[str, list[Any]])


def _numbered_ids() -> Callable[[], str]:
    """Ids that no other masterd gives, nor this one once more: a random word and a number."""
    word, numbers = secrets.token_hex(8), count(1)
    return lambda: f"{word}-{next(numbers)}"


def _reached_alike(old: Node, new: Node) -> bool:
    return old is new or (old.primary_ip == new.primary_ip and old.name == new.name)

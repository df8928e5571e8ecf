"""Links in memory: two ends of a real AMP conversation without sockets, and nodes behind them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, cast

import msgspec

from twisted.internet.error import ConnectionAborted
from twisted.internet.task import Clock
from twisted.protocols.amp import CommandLocator
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump, connect

from ganeti.errors import GanetiError, NodeUnreachable, to_wire
from ganeti.model.node import Node
from ganeti.node.backend.execution import FunctionRequest
from ganeti.node.functions import Functions, Limits
from ganeti.node.launcher import Watcher
from ganeti.node.locator import NodeLocator
from ganeti.wire.link import Link
from ganeti.wire.locator import GuardedLocator


class LinkPair:
    """Two links joined in memory.

    Args:
        clock: time of both.
        server: answers at the far end.
        client: answers at the near end.
        options: of both links.
    """

    def __init__(
        self,
        clock: Clock,
        server: CommandLocator,
        client: CommandLocator | None = None,
        **options: Any,
    ) -> None:
        self.near = Link(clock, client or GuardedLocator(), **options)
        self.far = Link(clock, server, **options)
        near_transport = FakeTransport(self.near, isServer=False)
        far_transport = FakeTransport(self.far, isServer=True)
        self.pump: IOPump = connect(self.far, far_transport, self.near, near_transport)
        self.is_cut = False
        """Nothing gets through, and neither end knows."""

    def flush(self) -> bool:
        """Carry everything that is on its way; tells whether there was anything."""
        if self.is_cut:
            return self._flush_cut()
        moved = False
        while self.pump.pump():
            moved = True
        return moved

    def _flush_cut(self) -> bool:
        """An end that closes a cut connection is rid of it; the other end does not notice."""
        closed = False
        for link in (self.near, self.far):
            transport = cast(FakeTransport, link.transport)
            if transport is not None and transport.disconnecting and not transport.disconnected:
                transport.disconnected = 1
                link.connectionLost(Failure(ConnectionAborted()))
                closed = True
        return closed

    def lose(self) -> None:
        """Break the connection at both ends."""
        for link in (self.near, self.far):
            if link.transport is not None:
                cast(FakeTransport, link.transport).loseConnection()
        self.flush()


class FakeLauncher:
    """Function processes that are only rows: a test says when they answer and end."""

    def __init__(self) -> None:
        self.launched: list[FakeProcess] = []
        self.on_launch: Callable[[FakeProcess], object] = lambda process: process.start()
        """What happens when a process is started; by default it exists at once and does nothing."""

    def launch(self, request: bytes, watcher: Watcher) -> None:
        """Remember it."""
        pid = 10_000 + len(self.launched)
        process = FakeProcess(msgspec.json.decode(request, type=FunctionRequest), watcher, pid)
        self.launched.append(process)
        self.on_launch(process)

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to one of them; only KILL, or one that is obedient, has an effect."""
        process = self.launched[pid - 10_000]
        process.signals.append(signal.Signals(number).name)
        if number == signal.SIGKILL or process.is_obedient:
            process.end(f"it was ended by signal {signal.Signals(number).name}")


class FakeProcess:
    """One function process of a `FakeLauncher`."""

    def __init__(self, request: FunctionRequest, watcher: Watcher, pid: int) -> None:
        self.request = request
        self.pid = pid
        self.signals: list[str] = []
        self.is_obedient = True
        self.is_over = False
        self._watcher = watcher

    def start(self) -> None:
        """It exists."""
        self._watcher.started(self.pid)

    def succeed(self, value: object = None) -> None:
        """It answers and ends."""
        self.say(msgspec.json.encode((True, value)))
        self.end("it ended with exit code 0")

    def fail(self, error: GanetiError) -> None:
        """It answers with an error and ends."""
        self.say(msgspec.json.encode((False, to_wire(error))))
        self.end("it ended with exit code 1")

    def say(self, answer: bytes) -> None:
        """It answers with these bytes."""
        self._watcher.answered(answer)

    def end(self, how: str) -> None:
        """It is gone."""
        if not self.is_over:
            self.is_over = True
            self._watcher.ended(how)


class MemoryNode:
    """A node daemon in memory: real function calls over real AMP, processes of a `FakeLauncher`."""

    def __init__(self, clock: Clock, *, limits: Limits | None = None) -> None:
        self.launcher = FakeLauncher()
        self.functions = Functions(clock, self.launcher, limits=limits)
        self.locator = NodeLocator(self.functions)


class MemoryCluster:
    """Nodes in memory, and connections to them: what a `NodePool` takes as `connect`.

    Args:
        clock: time of all.
        nodes: by name.
    """

    def __init__(self, clock: Clock, nodes: dict[str, MemoryNode]) -> None:
        self.clock = clock
        self.nodes = nodes
        self.pairs: list[tuple[str, LinkPair]] = []
        """Every connection so far, with the name of its node."""
        self.refusing: set[str] = set()
        """Names of nodes that refuse connections."""
        self.attempts: list[str] = []
        """Names of nodes to which connections were tried."""

    async def __call__(self, node: Node) -> Link:
        """A connection to a node.

        Raises:
            NodeUnreachable: there is no such node, or it refuses.
        """
        self.attempts.append(node.name)
        if node.name in self.refusing or node.name not in self.nodes:
            raise NodeUnreachable("connection refused")
        pair = LinkPair(self.clock, self.nodes[node.name].locator)
        self.pairs.append((node.name, pair))
        return pair.near

    def links_to(self, name: str) -> list[LinkPair]:
        """Connections to a node that are not broken."""
        return [pair for known, pair in self.pairs if known == name and pair.near.lost_because is None]

    def flush(self) -> None:
        """Carry everything that is on its way between all."""
        moved = True
        while moved:
            # Every pair gets its turn: what one carries may make another speak.
            moved = sum(pair.flush() for _, pair in self.pairs) > 0

    def settle(self, seconds: float = 0.0, *, step_s: float = 0.25) -> None:
        """Let time pass in small steps, carrying messages in between."""
        self.flush()
        passed = 0.0
        while passed < seconds:
            self.clock.advance(step_s)
            passed += step_s
            self.flush()

"""One node's connection: kept up, made again with growing pauses, handed to whoever calls.

Twisted's `ClientService` is not used: a connection counts as made only when the node has answered a
first ping (with TLS 1.3 a node refuses our certificate after our end thinks the handshake is done),
and a connection lost while it is being tried is a transition that `ClientService` does not know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from ganeti.errors import GanetiError, NodeUnreachable
from ganeti.wire.link import Link, LinkLost, LinkSilent
from ganeti.wire.node_commands import AbortFunction, Ping
from ganeti.wire.trace import no_trace

Connect = Callable[[], Awaitable[Link]]
"""Makes a connection; raises with a text for the operator."""

_CONFIRM_S = 4.0
_HOPELESS_S = 30.0
"""A node that was away this long makes callers wait for one attempt only."""
_HASTY_HOPELESS_S = 3.0
"""The same for callers in a hurry; long enough for a node daemon to be started again."""
_HASTY_S = 1.0
"""Callers in a hurry wait no longer for a node that could not be reached just now."""

_WAITED_FOR_S = 0.3
"""Pause between attempts while somebody waits for the connection."""

_MAX_ABORTS = 100


class ConfirmedPing(Ping):
    """A ping that wants an answer: proof that the other end let us in."""

    commandName = Ping.commandName
    requiresAnswer = True


class NodeConnection:
    """The connection to one node.

    Args:
        clock: time.
        name: of the node, for messages.
        connect: makes a connection.
        gate: how many connections of all nodes are made at once.
        jitter: 0 to 1, so that a thousand nodes do not come back in the same moment.
        on_lost: called whenever a connection that was there is gone.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        connect: Connect,
        gate: DeferredSemaphore,
        *,
        jitter: Callable[[], float],
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.link: Link | None = None
        """The connection, while there is one."""
        self.problem = "no connection could be made yet"
        """Why there is none."""
        self._clock = clock
        self._connect = connect
        self._gate = gate
        self._on_lost = on_lost
        self._pause_s = backoffPolicy(initialDelay=0.5, maxDelay=30.0, jitter=jitter)
        self._task: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None
        self._waiting: list[Deferred[Link]] = []
        self._hasty: set[Deferred[Link]] = set()
        """Those among the waiting that are in a hurry."""
        self._failures = 0
        """Attempts that failed since the last connection."""
        self._down_since = clock.seconds()
        self._to_abort: list[str] = []
        self._is_stopped = False

    def start(self) -> None:
        """Begin to connect; does nothing if it has begun."""
        if self._task is None and not self._is_stopped:
            with no_trace():
                self._task = Deferred.fromCoroutine(self._keep())
            self._task.addErrback(self._ended)

    def stop(self) -> None:
        """Disconnect and connect no more; whoever waits is told."""
        self._is_stopped = True
        task, self._task = self._task, None
        link = self.link
        if task is not None:
            task.cancel()
        if link is not None:
            link.abort()
        self.problem = "the connection is no longer wanted"
        self._fail_waiting()

    @property
    def ready(self) -> Link | None:
        """The connection if there is one now."""
        # A call learns that its link broke before the link is taken from here.
        link = self.link
        return link if link is not None and link.lost_because is None else None

    async def get(self, *, within_s: float, patient: bool = True) -> Link:
        """The connection, made now if there is none.

        Args:
            within_s: longest wait.
            patient: False: wait a moment only, if at all, for a node that could not be reached just now.

        Raises:
            NodeUnreachable: not in time; says why.
        """
        if self.ready is not None:
            return self.ready
        if self._is_stopped:
            raise self._unreachable()
        waiter: Deferred[Link] = Deferred(self._gave_up)
        self._waiting.append(waiter)
        if not patient:
            self._hasty.add(waiter)
            within_s = min(within_s, _HASTY_S) if self._failures else within_s
        waiter.addTimeout(within_s, self._clock)
        self.start()
        self._hurry()
        try:
            return await waiter
        except TimeoutError:
            raise self._unreachable() from None

    def abort_function(self, request_id: str) -> None:
        """End a function on the node, now or, if it cannot be reached, when it is back."""
        self._to_abort.append(request_id)
        del self._to_abort[:-_MAX_ABORTS]
        if self.link is not None:
            self._send_aborts(self.link)

    # --- connecting --------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            try:
                link = await self._attempt()
            except CancelledError:
                raise
            except (GanetiError, LinkLost, LinkSilent, OSError, TimeoutError) as error:
                self._failures += 1
                self._failed(str(error) or type(error).__name__)
                pause_s = self._pause_s(self._failures)
                await self._sleep(min(pause_s, _WAITED_FOR_S) if self._waiting else pause_s)
                continue
            self._failures = 0
            await self._use(link)

    async def _attempt(self) -> Link:
        async with self._gate:
            link = await self._connect()
            try:
                await link.ask(ConfirmedPing, timeout_s=_CONFIRM_S)
            except BaseException:
                link.abort()
                raise
            return link

    async def _use(self, link: Link) -> None:
        self.log.info("connected to node {node}", node=self.name)
        self.link = link
        waiting, self._waiting = self._waiting, []
        self._hasty.clear()
        for waiter in waiting:
            waiter.callback(link)
        self._send_aborts(link)
        try:
            await link.when_lost()
        finally:
            self.link = None
            self._down_since = self._clock.seconds()
            self.problem = link.loss() or "the connection was closed"
            self._on_lost()
        self.log.info("connection to node {node} lost: {problem}", node=self.name, problem=self.problem)

    def _failed(self, problem: str) -> None:
        if problem != self.problem:
            self.log.warn("no connection to node {node}: {problem}", node=self.name, problem=problem)
        self.problem = problem
        down_s = self._clock.seconds() - self._down_since
        if down_s > _HOPELESS_S:
            self._fail_waiting()
        elif down_s > _HASTY_HOPELESS_S:
            self._fail(tuple(self._hasty))

    async def _sleep(self, seconds: float) -> None:
        pause: Deferred[None] = Deferred()
        self._pause = pause
        timer = self._clock.callLater(seconds, pause.callback, None)
        try:
            await pause
        finally:
            self._pause = None
            if timer.active():
                timer.cancel()

    def _hurry(self) -> None:
        if self._pause is not None and not self._pause.called:
            self._pause.callback(None)

    # --- waiting -----------------------------------------------------------------------------

    def _gave_up(self, waiter: Deferred[Link]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        self._hasty.discard(waiter)

    def _fail_waiting(self) -> None:
        self._fail(tuple(self._waiting))

    def _fail(self, waiters: Sequence[Deferred[Link]]) -> None:
        for waiter in waiters:
            self._gave_up(waiter)
            waiter.errback(self._unreachable())

    def _unreachable(self) -> NodeUnreachable:
        return NodeUnreachable(f"node {self.name} cannot be reached: {self.problem}")

    def _ended(self, failure: Failure) -> None:
        # An attempt that is cancelled may say so in its own words.
        if not self._is_stopped and not failure.check(CancelledError):
            self.log.failure("connection to node {node} given up", failure, node=self.name)
            # A mistake of ours: the next call begins anew.
            self._task = None
            self.problem = "internal error, see the log of masterd"
            self._fail_waiting()

    def _send_aborts(self, link: Link) -> None:
        requests, self._to_abort = self._to_abort, []
        for request_id in requests:
            asked = Deferred.fromCoroutine(link.ask(AbortFunction, timeout_s=_CONFIRM_S, call_id=request_id))
            asked.addErrback(self._abort_failed, request_id)

    def _abort_failed(self, failure: Failure, request_id: str) -> None:
        self.log.debug("function {request} on node {node} not aborted", request=request_id, node=self.name)
        if failure.check(LinkLost):
            self._to_abort.append(request_id)

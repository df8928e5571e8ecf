"""Function calls of a node: started, waited for in rounds, aborted, remembered until collected.

A call outlives the connection that asked for it. Whoever asked waits for a while, gets the call's id
if it is not finished, and may wait again with the id, from any connection. Nothing here knows what
carries the requests.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Any, Protocol

import msgspec

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ganeti.errors import (
    FunctionAborted,
    FunctionDied,
    FunctionFailed,
    GanetiError,
    NodeError,
    UnknownCall,
    to_wire,
)
from ganeti.model.calls.base import NodeCall
from ganeti.model.calls.system import Version
from ganeti.model.reading import UNREADABLE
from ganeti.node.backend.basics import own_version
from ganeti.node.backend.execution import FunctionRequest
from ganeti.node.launcher import Watcher
from ganeti.wire.node_commands import FunctionRow

InlineFunction = Callable[[Any], Any | Awaitable[Any]]
"""Answers a call inside the daemon: at once, or as a coroutine."""

KILL_AFTER_S = 5.0
"""Between asking a function process to end and ending it."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers and times, seconds."""

    running: int = 200
    """Processes at once; further calls wait."""
    longest_wait_s: float = 60.0
    """A wait is answered after this, whatever was asked for."""
    grace_s: float = 60.0
    """A collected result is kept this long, in case the answer was lost."""
    unfetched_s: float = 3600.0
    """A result that nobody asks for is kept this long."""
    shutdown_s: float = 30.0
    """Processes have this long to end when the daemon stops."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a call: its result, or the id to wait with."""

    call_id: str | None
    finished: bool
    result: bytes | None
    """JSON `[true, value]` or `[false, [error class, [arguments]]]`."""


class ILaunch(Protocol):
    """What starts processes: a `Launcher`, or a table in a test."""

    def launch(self, request: bytes, watcher: Watcher) -> None:
        """Start a process for a request."""

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a process and what belongs to it."""


def make_call_id(ppid: int, cpid: int, now: float, random_hex: str) -> str:
    """`<ppid>:<cpid>:<time>:<random>`; a child that is not started yet has the number 0."""
    return f"{ppid}:{cpid}:{now:.6f}:{random_hex}"


def refusal(error: GanetiError) -> bytes:
    """The result of a call that failed."""
    return msgspec.json.encode((False, to_wire(error)))


def basic_inline() -> dict[type[NodeCall[Any]], InlineFunction]:
    """Functions that every node daemon answers by itself."""
    return {Version: lambda call: own_version()}


class _Call:
    """One call, from the request until its result is forgotten."""

    def __init__(self, name: str, request: bytes, asked_at: float, *, trace: str | None) -> None:
        self.name = name
        self.request = request
        self.asked_at = asked_at
        self.trace = trace
        self.request_id: str | None = None
        self.call_id: str | None = None
        self.abort_after_s: float | None = None
        self.pid: int | None = None
        self.is_queued = True
        self.is_gone = False
        self.is_forgotten_at_end = False
        self.ending: str | None = None
        """Why it is being ended."""
        self.result: bytes | None = None
        self.expires_at = 0.0
        self.waiting: list[Deferred[None]] = []
        self.waiting_for_start: list[Deferred[None]] = []
        self.timers: list[IDelayedCall] = []

    @property
    def state(self) -> str:
        """As lists show it."""
        if self.result is not None:
            return "finished"
        if self.ending is not None:
            return "ending"
        return "queued" if self.is_queued else "running"


class Functions(Service):
    """The calls of one node daemon.

    Args:
        reactor: time.
        launcher: starts function processes.
        inline: calls that are answered inside the daemon. They must not block.
        limits: numbers and times.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        launcher: ILaunch,
        *,
        inline: Mapping[type[Any], InlineFunction] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._clock = reactor
        self._launcher = launcher
        table = basic_inline() if inline is None else inline
        self._inline = {call.function(): (call, function) for call, function in table.items()}
        self._limits = limits or Limits()
        self._calls: dict[str, _Call] = {}
        """By call id and by request id."""
        self._all: dict[_Call, None] = {}
        self._processes: set[_Call] = set()
        self._queue: deque[_Call] = deque()
        self._is_stopping = False
        self._when_empty: list[Deferred[None]] = []
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = reactor

    def startService(self) -> None:
        """Begin to forget results in time."""
        Service.startService(self)
        self._is_stopping = False
        self._sweeper.start(10.0, now=False)

    def stopService(self) -> Deferred[None]:
        """Refuse new calls, end all processes, wait for them."""
        Service.stopService(self)
        self._is_stopping = True
        if self._sweeper.running:
            self._sweeper.stop()
        return Deferred.fromCoroutine(self._end_all())

    async def start(
        self,
        name: str,
        args: bytes,
        *,
        timeout_s: float,
        abort_after_s: float | None = None,
        request_id: str | None = None,
        trace: str | None = None,
    ) -> Progress:
        """Call a function and wait for it.

        Args:
            name: of the function.
            args: JSON of the call.
            timeout_s: longest wait; 0: do not wait and forget the result.
            abort_after_s: longest run.
            request_id: joins the call that was started with the same id, if there is one.
            trace: job on whose behalf it is done.

        Raises:
            NodeError: the daemon is about to stop.
        """
        known = self._calls.get(request_id) if request_id is not None else None
        if known is not None:
            return await self._progress(known, timeout_s)
        if self._is_stopping:
            raise NodeError("the node daemon is stopping; try again in a moment")
        if name in self._inline:
            return Progress(call_id=None, finished=True, result=await self._answer_inline(name, args))
        call = self._new_call(name, args, abort_after_s, request_id, trace)
        call.is_forgotten_at_end = timeout_s == 0
        return await self._progress(call, timeout_s)

    async def wait(self, call_id: str, *, timeout_s: float) -> Progress:
        """Wait for a call again, by its id or that of its request.

        Raises:
            UnknownCall: there is none, or its result is forgotten.
        """
        call = self._calls.get(call_id)
        if call is None:
            raise UnknownCall(f"this node knows no function call {call_id}; its result is lost")
        call.is_forgotten_at_end = False
        return await self._progress(call, timeout_s)

    def abort(self, call_id: str, *, reason: str = "aborted on request") -> None:
        """Begin to end a call; does nothing if it is over or unknown."""
        call = self._calls.get(call_id)
        if call is not None and call.result is None:
            self._end(call, reason)

    def rows(self) -> tuple[FunctionRow, ...]:
        """Calls that are known, oldest first."""
        now = self._clock.seconds()
        return tuple(
            FunctionRow(
                call_id=self._id(call),
                name=call.name,
                state=call.state,
                seconds=round(now - call.asked_at, 3),
                trace=call.trace,
            )
            for call in self._all
        )

    # --- waiting -----------------------------------------------------------------------------

    async def _progress(self, call: _Call, timeout_s: float) -> Progress:
        if call.result is None and timeout_s > 0:
            await self._until(call.waiting, min(timeout_s, self._limits.longest_wait_s))
        elif call.result is None and not call.is_queued and call.pid is None:
            await self._until(call.waiting_for_start, 1.0)
        if call.result is None:
            return Progress(call_id=self._id(call), finished=False, result=None)
        call.expires_at = min(call.expires_at, self._clock.seconds() + self._limits.grace_s)
        if call.request_id is None and call.call_id is None:
            # Nobody has an id with which to ask again.
            self._forget(call)
        return Progress(call_id=None, finished=True, result=call.result)

    async def _until(self, waiting: list[Deferred[None]], timeout_s: float) -> None:
        def gone(waiter: Deferred[Any]) -> None:
            if waiter in waiting:
                waiting.remove(waiter)

        waiter: Deferred[None] = Deferred(gone)
        waiting.append(waiter)
        waiter.addTimeout(timeout_s, self._clock)
        with contextlib.suppress(TimeoutError):
            await waiter

    def _id(self, call: _Call) -> str:
        if call.call_id is None:
            call.call_id = make_call_id(
                os.getpid(), call.pid or 0, self._clock.seconds(), secrets.token_hex(8)
            )
            self._calls[call.call_id] = call
        return call.call_id

    # --- running -----------------------------------------------------------------------------

    def _new_call(
        self,
        name: str,
        args: bytes,
        abort_after_s: float | None,
        request_id: str | None,
        trace: str | None,
    ) -> _Call:
        request = msgspec.json.encode(FunctionRequest(name=name, args=msgspec.Raw(args), trace=trace))
        call = _Call(name, request, self._clock.seconds(), trace=trace)
        call.abort_after_s = abort_after_s
        call.request_id = request_id
        self._all[call] = None
        if request_id is not None:
            self._calls[request_id] = call
        self._queue.append(call)
        self._launch_next()
        return call

    def _launch_next(self) -> None:
        while self._queue and len(self._processes) < self._limits.running:
            call = self._queue.popleft()
            call.is_queued = False
            self._processes.add(call)
            request, call.request = call.request, b""
            self._launcher.launch(request, _CallWatcher(self, call))

    def started(self, call: _Call, pid: int) -> None:
        """The process of a call exists."""
        call.pid = pid
        if call.ending is not None:
            self._signal_end(call)
        elif call.abort_after_s is not None:
            limit_s = call.abort_after_s
            call.timers.append(
                self._clock.callLater(
                    limit_s, self._end, call, f"aborted: it was not done within {limit_s:g} s"
                )
            )
        _fire(call.waiting_for_start)

    def answered(self, call: _Call, answer: bytes) -> None:
        """The process of a call gave its answer."""
        if call.ending is not None and not answer.startswith(b"[true"):
            answer = self._aborted(call)
        elif not _is_result(answer):
            answer = refusal(FunctionDied(f"function {call.name} answered with something unreadable"))
        self._finish(call, answer)

    def ended(self, call: _Call, how: str) -> None:
        """The process of a call is gone."""
        call.is_gone = True
        self._processes.discard(call)
        if call.result is None:
            if call.ending is not None:
                self._finish(call, self._aborted(call))
            else:
                self.log.warn("process of function {name} died: {how}", name=call.name, how=how)
                problem = f"process of function {call.name} died without a result: {how}"
                self._finish(call, refusal(FunctionDied(problem)))
        for timer in call.timers:
            if timer.active():
                timer.cancel()
        call.timers.clear()
        self._launch_next()
        if not self._processes:
            _fire(self._when_empty)

    def _finish(self, call: _Call, result: bytes) -> None:
        if call.result is not None:
            return
        call.result = result
        call.expires_at = self._clock.seconds() + self._limits.unfetched_s
        if call.is_forgotten_at_end and not call.waiting:
            self._forget(call)
        _fire(call.waiting_for_start)
        _fire(call.waiting)

    def _aborted(self, call: _Call) -> bytes:
        return refusal(FunctionAborted(f"function {call.name} {call.ending}"))

    # --- ending ------------------------------------------------------------------------------

    def _end(self, call: _Call, reason: str) -> None:
        if call.ending is not None:
            return
        call.ending = reason
        if call.is_queued:
            self._queue.remove(call)
            call.is_queued = False
            call.is_gone = True
            self._finish(call, self._aborted(call))
        elif call.pid is not None and not call.is_gone:
            self._signal_end(call)

    def _signal_end(self, call: _Call) -> None:
        assert call.pid is not None
        self._launcher.signal(call.pid, signal.SIGTERM)
        # At shutdown they have longer; who stops waits for that.
        if not self._is_stopping:
            call.timers.append(self._clock.callLater(KILL_AFTER_S, self._kill, call))

    def _kill(self, call: _Call) -> None:
        if call.pid is not None and not call.is_gone:
            self._launcher.signal(call.pid, signal.SIGKILL)

    async def _end_all(self) -> None:
        for call in [*self._queue, *self._processes]:
            self._end(call, "aborted: the node daemon is stopping")
        await self._until_empty(self._limits.shutdown_s)
        for call in list(self._processes):
            self.log.warn("function {name} does not end, killing it", name=call.name)
            self._kill(call)
        await self._until_empty(KILL_AFTER_S)

    async def _until_empty(self, timeout_s: float) -> None:
        if self._processes:
            await self._until(self._when_empty, timeout_s)

    # --- forgetting --------------------------------------------------------------------------

    def _sweep(self) -> None:
        now = self._clock.seconds()
        for call in [call for call in self._all if call.result is not None and call.expires_at <= now]:
            self._forget(call)

    def _forget(self, call: _Call) -> None:
        self._all.pop(call, None)
        for key in (call.call_id, call.request_id):
            if key is not None:
                self._calls.pop(key, None)

    # --- inline ------------------------------------------------------------------------------

    async def _answer_inline(self, name: str, args: bytes) -> bytes:
        call_class, function = self._inline[name]
        try:
            value = function(msgspec.json.decode(args, type=call_class))
            if isawaitable(value):
                value = await value
            return msgspec.json.encode((True, value))
        except CancelledError:
            raise
        except GanetiError as error:
            return refusal(error)
        except UNREADABLE as error:
            return refusal(NodeError(f"arguments of function {name} are not understood: {error}"))
        except Exception:
            reference = secrets.token_hex(4)
            self.log.failure("function {name} failed, reference {reference}", name=name, reference=reference)
            return refusal(
                FunctionFailed(
                    f"internal error in function {name}; the log of the node daemon has the details"
                    f" under {reference}"
                )
            )


class _CallWatcher:
    """Passes on what the launcher says about one call."""

    def __init__(self, functions: Functions, call: _Call) -> None:
        self._functions = functions
        self._call = call

    def started(self, pid: int) -> None:
        """The process exists."""
        self._functions.started(self._call, pid)

    def answered(self, answer: bytes) -> None:
        """Its answer is there."""
        self._functions.answered(self._call, answer)

    def ended(self, how: str) -> None:
        """It is gone."""
        self._functions.ended(self._call, how)


def _fire(waiting: list[Deferred[None]]) -> None:
    fired = list(waiting)
    waiting.clear()
    for waiter in fired:
        if not waiter.called:
            waiter.callback(None)


def _is_result(answer: bytes) -> bool:
    try:
        msgspec.json.decode(answer, type=tuple[bool, msgspec.Raw])
    except UNREADABLE:
        return False
    return True

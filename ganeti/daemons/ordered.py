"""A service whose parts start one after the other and stop in reverse, each awaited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ganeti.errors import GanetiError


@implementer(IService)
class OrderedService(Service):
    """Children in the order in which they need each other.

    Twisted's `MultiService` awaits neither starts nor stops. Here the start of a child may take its
    time (a Deferred or a coroutine from `startService`); if it fails, those already started are stopped
    again and `on_failure` is told.

    Args:
        children: services, first needed first.
        on_failure: gets why the start failed, after what had started was stopped again.
        on_started: called when all of them serve.
    """

    log = Logger()

    def __init__(
        self,
        children: Sequence[Any],
        *,
        on_failure: Callable[[Failure], None],
        on_started: Callable[[], None] = lambda: None,
    ) -> None:
        self.children = tuple(children)
        self.started: list[Any] = []
        self._on_failure = on_failure
        self._on_started = on_started
        self._starting: Deferred[None] | None = None

    def privilegedStartService(self) -> None:
        """Let the children bind what needs it."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        for child in self.children:
            child.privilegedStartService()

    def startService(self) -> None:
        """Begin to start the children."""
        super().startService()  # type: ignore[no-untyped-call]
        self._starting = Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        for child in self.children:
            try:
                await maybeDeferred(_started, child)
            except CancelledError:
                return
            except Exception:
                failure = Failure()
                self._log_failure(child, failure)
                await self._stop_started()
                self._on_failure(failure)
                return
            self.started.append(child)
        self._on_started()

    def _log_failure(self, child: Any, failure: Failure) -> None:
        name = type(child).__name__
        if failure.check(GanetiError, CannotListenError, OSError):
            # An explanation for the operator; the place in the code is of no use to anybody.
            self.log.error("could not start {child}: {why}", child=name, why=failure.getErrorMessage())
        else:
            self.log.failure("could not start {child}", failure=failure, child=name)

    def stopService(self) -> Deferred[None]:
        """Stop what was started, last first; the result comes when all have stopped."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._starting is not None and not self._starting.called:
            self._starting.cancel()
        return Deferred.fromCoroutine(self._stop_started())

    async def _stop_started(self) -> None:
        while self.started:
            child = self.started.pop()
            try:
                await maybeDeferred(child.stopService)
            except CancelledError:
                raise
            except Exception:
                self.log.failure("{child} did not stop cleanly", child=type(child).__name__)


def _started(child: Any) -> Any:
    result = child.startService()
    if hasattr(result, "__await__") and not isinstance(result, Deferred):
        return Deferred.fromCoroutine(result)
    return result

"""Services that start one after the other and stop in reverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ganeti.daemons.ordered import OrderedService
from ganeti.errors import GanetiError


class Part(Service):
    """A child that writes down what happens to it, and starts or stops when told."""

    def __init__(self, name: str, events: list[str], *, is_slow: bool = False) -> None:
        self.label = name
        self.events = events
        self.is_slow = is_slow
        self.starting: Deferred[None] = Deferred()
        self.stopping: Deferred[None] = Deferred()

    def privilegedStartService(self) -> None:
        """Binding a low port, say."""
        self.events.append(f"bind {self.label}")

    def startService(self) -> Deferred[None] | None:
        """Begin."""
        super().startService()  # type: ignore[no-untyped-call]
        self.events.append(f"start {self.label}")
        return self.starting if self.is_slow else None

    def stopService(self) -> Deferred[None] | None:
        """End."""
        super().stopService()  # type: ignore[no-untyped-call]
        self.events.append(f"stop {self.label}")
        return self.stopping if self.is_slow else None


class Coroutine(Part):
    """A child whose start and stop are coroutines."""

    async def startService(self) -> None:  # type: ignore[override]
        """Begin."""
        self.events.append(f"start {self.label}")

    async def stopService(self) -> None:  # type: ignore[override]
        """End."""
        self.events.append(f"stop {self.label}")


class Failing(Part):
    """A child that cannot start."""

    def startService(self) -> Deferred[None]:
        """Fail."""
        failed: Deferred[None] = Deferred()
        failed.errback(GanetiError("the port is taken"))
        return failed


class OrderedServiceTests(SynchronousTestCase):
    """Starting and stopping."""

    def setUp(self) -> None:
        self.events: list[str] = []
        self.failures: list[Failure] = []

    def service(self, *parts: Any, on_started: Callable[[], None] = lambda: None) -> OrderedService:
        """A service of these parts."""
        return OrderedService(parts, on_failure=self.failures.append, on_started=on_started)

    def part(self, name: str, cls: type[Part] = Part, *, is_slow: bool = False) -> Part:
        """One part."""
        return cls(name, self.events, is_slow=is_slow)

    def test_interface(self) -> None:
        """It is a service like any other."""
        verifyObject(IService, self.service())

    @given(st.lists(st.booleans(), max_size=6))
    def test_order(self, kinds: list[bool]) -> None:
        """Whatever the kind of start, first in is last out."""
        self.events = []
        parts = [self.part(str(at), Coroutine if kind else Part) for at, kind in enumerate(kinds)]
        service = self.service(*parts)
        service.startService()
        self.successResultOf(service.stopService())
        names = [str(at) for at in range(len(kinds))]
        self.assertEqual(
            self.events, [f"start {name}" for name in names] + [f"stop {name}" for name in reversed(names)]
        )

    def test_each_start_is_awaited(self) -> None:
        """The second part does not start before the first one has; then everything is up."""
        slow, quick = self.part("slow", is_slow=True), self.part("quick")
        up: list[str] = []
        self.service(slow, quick, on_started=lambda: up.append("up")).startService()
        self.assertEqual((self.events, up), (["start slow"], []))
        slow.starting.callback(None)
        self.assertEqual((self.events, up), (["start slow", "start quick"], ["up"]))

    def test_each_stop_is_awaited(self) -> None:
        """The first part goes on until the second one has stopped."""
        first, slow = self.part("first"), self.part("slow")
        service = self.service(first, slow)
        service.startService()
        slow.is_slow = True
        stopping = service.stopService()
        self.assertNoResult(stopping)
        self.assertNotIn("stop first", self.events)
        slow.stopping.callback(None)
        self.successResultOf(stopping)
        self.assertEqual(self.events[-1], "stop first")

    def test_failure(self) -> None:
        """If a part cannot start, those before it are stopped, those after it never start, and it is told."""
        service = self.service(self.part("a"), self.part("b", Failing), self.part("c"))
        service.startService()
        self.assertEqual(self.events, ["start a", "stop a"])
        self.assertEqual([failure.getErrorMessage() for failure in self.failures], ["the port is taken"])
        self.successResultOf(service.stopService())
        self.assertEqual(self.events, ["start a", "stop a"])

    def test_unexpected_failure(self) -> None:
        """A mistake in the code is logged with its place."""
        broken = self.part("broken", is_slow=True)
        self.service(broken).startService()
        broken.starting.errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.failures), 1)

    def test_stop_while_starting(self) -> None:
        """A stop in the middle of the start ends it: what has started is stopped, nothing else starts."""
        service = self.service(self.part("a"), self.part("slow", is_slow=True), self.part("c"))
        service.startService()
        self.successResultOf(service.stopService())
        self.assertEqual(self.events, ["start a", "start slow", "stop a"])
        self.assertEqual(self.failures, [])

    def test_stop_goes_on_after_failure(self) -> None:
        """A part that does not stop cleanly does not keep the others from stopping."""
        first, bad = self.part("first"), self.part("bad")
        service = self.service(first, bad)
        service.startService()
        bad.is_slow = True
        bad.stopping.errback(ValueError("no"))
        self.successResultOf(service.stopService())
        self.assertEqual(self.events[-1], "stop first")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_privileged(self) -> None:
        """All parts may bind before rights are given up."""
        self.service(self.part("a"), self.part("b")).privilegedStartService()
        self.assertEqual(self.events, ["bind a", "bind b"])

"""Errors across the wire, and responders that cannot close the connection."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ganeti import errors
from ganeti.errors import GanetiError, HooksAbort, HypervisorError, NodeError, PrereqError, ProgrammerError
from ganeti.testing.links import LinkPair
from ganeti.wire.arguments import Chunked, Json
from ganeti.wire.errors import GanetiCommand, WireError
from ganeti.wire.locator import GuardedLocator

NODE_ERRORS = [
    errors.NodeError,
    errors.NodeOffline,
    errors.NodeUnreachable,
    errors.NodeTimeout,
    errors.UnknownCall,
    errors.FunctionDied,
    errors.FunctionAborted,
    errors.FunctionFailed,
]


class PackTests(SynchronousTestCase):
    """One error there and back."""

    @given(st.text(max_size=200))
    def test_text_survives(self, text: str) -> None:
        """The message arrives as it was."""
        self.assertEqual(str(WireError.pack(GanetiError(text)).unpack()), text)

    def test_class_survives(self) -> None:
        """The class and the code of an error arrive."""
        found = WireError.pack(PrereqError("no", code="already_exists")).unpack()
        assert isinstance(found, PrereqError)
        self.assertEqual(found.code, "already_exists")

    def test_node_errors_stay_apart(self) -> None:
        """Subclasses of NodeError share a wire name and arrive as what they were (S2.2-030)."""
        for cls in NODE_ERRORS:
            with self.subTest(cls.__name__):
                self.assertIs(type(WireError.pack(cls("why")).unpack()), cls)

    def test_long_text_is_cut(self) -> None:
        """An error is never too long for the wire, whatever its text or arguments."""
        for error in (
            HypervisorError("x" * 200_000),
            PrereqError("ä" * 200_000, code="wrong_state"),
            HooksAbort([("node", "script", "y" * 200_000)]),
        ):
            text = str(WireError.pack(error))
            self.assertLess(len(text.encode()), 65_535)
            self.assertIsInstance(WireError(text).unpack(), GanetiError)
        self.assertIsInstance(WireError.pack(HypervisorError("x" * 200_000)).unpack(), HypervisorError)

    def test_rubbish_is_an_error_too(self) -> None:
        """A text that is not ours becomes a plain error."""
        self.assertEqual(str(WireError("what?").unpack()), "what?")


class Do(GanetiCommand):
    """Does what it is told."""

    arguments = [(b"what", Chunked(Json())), (b"count", amp.Integer(optional=True))]
    response = [(b"result", Chunked(Json(), at_most=1000))]


class Tell(GanetiCommand):
    """The same, without an answer."""

    arguments = [(b"what", Chunked(Json()))]
    requiresAnswer = False


class Locator(GuardedLocator):
    """Fails in every way."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Any]] = []

    @Do.responder
    async def do(self, what: str, count: int | None) -> dict[str, Any]:
        """Fail as asked."""
        match what:
            case "wait":
                waiter: Deferred[Any] = Deferred()
                self.waiting.append(waiter)
                return {"result": await waiter}
            case "ours":
                raise HypervisorError("instance web1 does not run")
            case "alien":
                raise ZeroDivisionError("a mistake")
            case "cancelled":
                raise CancelledError
            case "unserializable":
                return {"result": object()}
            case "too long":
                return {"result": "x" * 2000}
            case "no result":
                return {}
        return {"result": what}

    @Tell.responder
    def tell(self, what: str) -> dict[str, Any]:
        """Fail at once."""
        raise ZeroDivisionError(what)


class GuardedLocatorTests(SynchronousTestCase):
    """No mistake closes the link."""

    def setUp(self) -> None:
        """A pair, and a call that is under way on it."""
        self.locator = Locator()
        self.pair = LinkPair(Clock(), self.locator)
        self.other = self.ask("wait")

    def ask(self, what: object, **more: Any) -> Deferred[dict[str, Any]]:
        """Send one."""
        asked = Deferred.fromCoroutine(self.pair.near.ask(Do, what=what, **more))
        self.pair.flush()
        return asked

    def assert_link_lives(self) -> None:
        """The call that was under way is answered over the same connection."""
        self.locator.waiting[0].callback("in spite of all")
        self.pair.flush()
        self.assertEqual(self.successResultOf(self.other), {"result": "in spite of all"})

    def test_our_errors_arrive(self) -> None:
        """An error of ours arrives with class and text."""
        error = self.failureResultOf(self.ask("ours"), HypervisorError).value
        self.assertEqual(str(error), "instance web1 does not run")
        self.assert_link_lives()

    def test_undeclared_exception_keeps_the_link(self) -> None:
        """A mistake is logged with a reference that the caller gets, and hurts nobody else."""
        error = self.failureResultOf(self.ask("alien"), ProgrammerError).value
        self.assertRegex(str(error), "reference [0-9a-f]{8}")
        self.assertNotIn("a mistake", str(error))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assert_link_lives()

    def test_answers_that_cannot_be_sent(self) -> None:
        """An answer of the wrong type, too long or missing is a failed call, not a lost link."""
        self.failureResultOf(self.ask("unserializable"), ProgrammerError)
        self.assertIn("at most 1000", str(self.failureResultOf(self.ask("too long"), GanetiError).value))
        self.failureResultOf(self.ask("no result"), GanetiError)
        self.flushLoggedErrors()
        self.assert_link_lives()

    def test_cancelled_responder(self) -> None:
        """A responder that is cancelled answers so."""
        self.failureResultOf(self.ask("cancelled"), GanetiError)
        self.assert_link_lives()

    def test_unreadable_arguments(self) -> None:
        """Missing or unreadable arguments are the caller's mistake."""
        for box, text in (
            ({}, "'what' is missing"),
            ({b"what": b"{"}, "cannot be read"),
            ({b"what": b"1", b"count": b"many"}, "cannot be read"),
        ):
            near: Any = self.pair.near
            asked = near.callRemoteString(b"Do", **{k.decode(): v for k, v in box.items()})
            asked.addErrback(lambda failure: failure.value.description)
            self.pair.flush()
            error = WireError(self.successResultOf(asked)).unpack()
            self.assertIsInstance(error, PrereqError)
            self.assertIn(text, str(error))
        self.assert_link_lives()

    def test_unknown_command(self) -> None:
        """A command that the other side does not know is refused."""

        class Sing(GanetiCommand):
            """Unknown."""

        asked = Deferred.fromCoroutine(self.pair.near.ask(Sing))
        self.pair.flush()
        self.assertIn("Sing", str(self.failureResultOf(asked, GanetiError).value))
        self.assert_link_lives()

    def test_failing_command_without_answer(self) -> None:
        """A mistake in a command that wants no answer is logged, and that is all."""
        near: Any = self.pair.near
        near.callRemote(Tell, what="x")
        self.pair.flush()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assert_link_lives()

    def test_from_the_model(self) -> None:
        """NodeError without a reason has one argument, as established clients expect."""
        self.assertEqual(errors.to_wire(NodeError("x")), ("RPCError", ["x"]))

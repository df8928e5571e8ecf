"""Links: bounded boxes, signs of life, what happens when the other end goes."""

from __future__ import annotations

from struct import pack
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import GanetiError
from ganeti.testing.links import LinkPair
from ganeti.wire.arguments import Chunked, RawJson, Typed
from ganeti.wire.errors import ERROR_CODE, GanetiCommand
from ganeti.wire.keepalive import KeepAlive
from ganeti.wire.link import Link, LinkLost, LinkSilent
from ganeti.wire.locator import GuardedLocator


class Make(GanetiCommand):
    """Gives as many bytes as asked for; takes any number."""

    arguments = [(b"size", Typed(int)), (b"load", Chunked(RawJson()))]
    response = [(b"load", Chunked(RawJson()))]


class Locator(GuardedLocator):
    """Answers, or (negative size) does not."""

    @Make.responder
    def make(self, size: int, load: bytes) -> Any:
        """Some bytes."""
        return Deferred() if size < 0 else {"load": b"x" * size}


class LinkTests(SynchronousTestCase):
    """A pair of links."""

    def setUp(self) -> None:
        """Two ends whose boxes may have 200,000 bytes."""
        self.clock = Clock()
        self.pair = LinkPair(self.clock, Locator(), max_box_bytes=200_000)

    def ask(self, size: int, load: bytes = b"", timeout_s: float | None = None) -> Deferred[dict[str, Any]]:
        """Ask the far end."""
        asked = Deferred.fromCoroutine(self.pair.near.ask(Make, size=size, load=load, timeout_s=timeout_s))
        self.pair.flush()
        return asked

    def test_long_values_pass(self) -> None:
        """Values longer than an AMP value pass both ways."""
        answer = self.successResultOf(self.ask(150_000, b"y" * 150_000))
        self.assertEqual(len(answer["load"]), 150_000)

    def test_too_long_request_is_refused(self) -> None:
        """A request over the limit is answered with a clear error, and the link lives."""
        error = self.failureResultOf(self.ask(1, b"y" * 400_000), GanetiError).value
        self.assertIn("more than 200000 bytes refused", str(error))
        self.assertEqual(self.successResultOf(self.ask(1)), {"load": b"x"})

    def test_too_long_answer_is_refused(self) -> None:
        """An answer over the limit is an error for who asked, and the link lives."""
        self.assertIn("refused", str(self.failureResultOf(self.ask(400_000), GanetiError).value))
        self.assertEqual(self.successResultOf(self.ask(1)), {"load": b"x"})

    def test_many_short_keys_count(self) -> None:
        """Endless keys without content do not fill the memory."""
        link, transport = Link(self.clock, Locator(), max_box_bytes=10_000), StringTransport()
        link.makeConnection(transport)
        for number in range(1000):
            key = b"k%d" % number
            link.dataReceived(pack("!H", len(key)) + key + pack("!H", 0))
        self.assertTrue(transport.disconnected)
        self.assertLess(len(link._box), 100)

    def test_unwanted_long_command_is_dropped(self) -> None:
        """A command too long that wants no answer leaves the link alive."""
        link, transport = Link(self.clock, Locator(), max_box_bytes=10_000), StringTransport()
        link.makeConnection(transport)
        link.dataReceived(amp.AmpBox({b"_command": b"Make", b"load": b"x" * 20_000}).serialize())
        self.assertFalse(transport.disconnecting)
        self.assertEqual(transport.value(), b"")

    def test_error_box_carries_our_code(self) -> None:
        """On the wire an error has the code GANETI and a JSON description."""
        link, transport = Link(self.clock, Locator()), StringTransport()
        link.makeConnection(transport)
        link.dataReceived(amp.AmpBox({b"_command": b"Make", b"_ask": b"1"}).serialize())
        (box,) = amp.parseString(transport.value())
        self.assertEqual(box[b"_error_code"], ERROR_CODE)
        self.assertEqual(
            box[b"_error_description"],
            b'["OpPrereqError",["argument \'size\' is missing","wrong_input"]]',
        )

    def test_byte_by_byte(self) -> None:
        """A message in single bytes is understood (S2.2-003)."""
        link, transport = Link(self.clock, Locator()), StringTransport()
        link.makeConnection(transport)
        message = amp.AmpBox({b"_command": b"Make", b"_ask": b"1", b"size": b"2", b"load": b"z"}).serialize()
        for position in range(len(message)):
            link.dataReceived(message[position : position + 1])
        self.assertEqual(amp.parseString(transport.value()), [{b"_answer": b"1", b"load": b"xx"}])

    def test_rubbish_ends_the_link(self) -> None:
        """Bytes that cannot be AMP end the connection at once."""
        link, transport = Link(self.clock, Locator()), StringTransport()
        link.makeConnection(transport)
        link.dataReceived(b"GET / HTTP/1.0")
        self.assertTrue(transport.disconnected)

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.integers(0, 70_000), max_size=4), st.integers(1, 40_000))
    def test_any_cutting(self, sizes: list[int], piece: int) -> None:
        """Messages arrive whole, however the network cuts them (S2.2-003)."""
        link, transport = Link(self.clock, Locator(), max_box_bytes=10**6), StringTransport()
        link.makeConnection(transport)
        stream = b""
        for number, size in enumerate(sizes):
            box = {b"_command": b"Make", b"_ask": b"%x" % number, b"size": b"1"}
            Chunked(RawJson()).toBox(b"load", box, {"load": b"l" * size}, None)
            stream += amp.AmpBox(box).serialize()
        for start in range(0, len(stream), piece):
            link.dataReceived(stream[start : start + piece])
        answered = [box[b"_answer"] for box in amp.parseString(transport.value())]
        self.assertEqual(answered, [b"%x" % number for number in range(len(sizes))])

    def test_lost_connection_fails_calls(self) -> None:
        """Calls under way fail with LinkLost, later ones at once, and who watches is told."""
        asked = self.ask(-1)
        lost = self.pair.near.when_lost()
        self.pair.lose()
        self.failureResultOf(asked, LinkLost)
        self.failureResultOf(self.ask(1), LinkLost)
        self.successResultOf(lost)
        self.successResultOf(self.pair.near.when_lost())
        self.assertTrue(self.pair.near.loss())

    def test_timeout(self) -> None:
        """An answer that does not come in time is LinkSilent; the late answer does no harm."""
        asked = self.ask(-1, timeout_s=5)
        self.clock.advance(5)
        self.failureResultOf(asked, LinkSilent)

    def test_cancel(self) -> None:
        """A cancelled call is cancelled, nothing else."""
        asked = self.ask(-1)
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.successResultOf(self.ask(1)), {"load": b"x"})


class LinkKeepAliveTests(SynchronousTestCase):
    """Signs of life."""

    def test_idle_links_stay(self) -> None:
        """Two ends that have nothing to say stay connected for hours."""
        clock = Clock()
        pair = LinkPair(clock, Locator())
        for _ in range(500):
            clock.advance(15)
            pair.flush()
        self.assertIsNone(pair.near.lost_because)
        self.assertIsNone(pair.far.lost_because)

    def test_silence_ends_the_link(self) -> None:
        """When nothing gets through any more, both ends notice within 60 s (S2.2-022)."""
        clock = Clock()
        pair = LinkPair(clock, Locator())
        pair.flush()
        asked = Deferred.fromCoroutine(pair.near.ask(Make, size=-1, load=b""))
        pair.is_cut = True
        clock.pump([10] * 5)
        self.assertNoResult(asked)
        clock.advance(10)
        pair.is_cut = False
        pair.flush()
        self.failureResultOf(asked, LinkLost)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_times(self) -> None:
        """Pings go out every 30 s; hearing something puts off the end."""
        clock, sent, ended = Clock(), [], []
        keepalive = KeepAlive(
            clock, lambda: sent.append(clock.seconds()), lambda: ended.append(clock.seconds())
        )
        keepalive.start()
        clock.pump([10] * 5)
        keepalive.heard()
        clock.pump([10] * 8)
        self.assertEqual(sent, [30, 60, 90])
        self.assertEqual(ended, [110])
        clock.advance(100)
        self.assertEqual(len(sent), 3)

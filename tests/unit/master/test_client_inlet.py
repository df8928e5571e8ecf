"""Bytes of clients: a piece at a turn, in order, and none while nobody takes answers."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from ganeti.master.inlet import PIECE_BYTES, Inlet


@implementer(IPushProducer)
class Source:
    """A transport that remembers whether it reads."""

    def __init__(self) -> None:
        self.reads = True

    def pauseProducing(self) -> None:
        """Do not read."""
        self.reads = False

    def resumeProducing(self) -> None:
        """Read."""
        self.reads = True

    def stopProducing(self) -> None:
        """Never read again."""
        self.reads = False


class InletTests(SynchronousTestCase):
    """One connection."""

    def setUp(self) -> None:
        """A connection without any bytes."""
        self.clock = Clock()
        self.source = Source()
        self.pieces: list[bytes] = []
        self.given_up = 0
        self.inlet = Inlet(self.clock, self.pieces.append, self.give_up)
        self.inlet.source = self.source

    def give_up(self) -> None:
        """Count."""
        self.given_up += 1

    def test_interface(self) -> None:
        """It is a producer, to be paused by whoever cannot take more."""
        verifyObject(IPushProducer, self.inlet)

    def test_little(self) -> None:
        """A request is read in the turn in which it comes."""
        self.inlet.put(b"request")
        self.assertEqual((self.pieces, self.source.reads), ([b"request"], True))

    def test_much(self) -> None:
        """Much at once is read piece by piece; others have their turn in between, and no more comes."""
        seen: list[tuple[int, bool]] = []

        def other() -> None:
            seen.append((len(self.pieces), self.source.reads))
            if len(seen) < 4:
                self.clock.callLater(0, other)

        self.clock.callLater(0, other)
        self.inlet.put(bytes(3 * PIECE_BYTES))
        self.clock.advance(0)
        self.assertEqual(seen, [(0, False), (1, False), (2, False), (3, True)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_paused(self) -> None:
        """Nothing is read while it is paused, also not what is there already."""
        self.inlet.put(bytes(2 * PIECE_BYTES))
        self.inlet.pauseProducing()
        self.inlet.put(b"late")
        self.clock.advance(1)
        self.assertEqual((self.pieces, self.source.reads), ([], False))
        self.inlet.resumeProducing()
        self.assertFalse(self.source.reads)
        self.clock.advance(0)
        self.assertEqual((len(b"".join(self.pieces)), self.source.reads), (2 * PIECE_BYTES + 4, True))

    def test_paused_by_what_it_reads(self) -> None:
        """If the answer to a piece is one too many, the rest waits."""

        def take(piece: bytes) -> None:
            self.pieces.append(piece)
            inlet.pauseProducing()

        inlet = Inlet(self.clock, take, self.give_up)
        inlet.source = self.source
        inlet.put(bytes(3 * PIECE_BYTES))
        for _ in range(5):
            self.clock.advance(0)
        self.assertEqual((len(self.pieces), self.source.reads), (1, False))

    def test_gone(self) -> None:
        """Nothing is left of a connection that ended, and nothing is read any more."""
        self.inlet.put(bytes(3 * PIECE_BYTES))
        self.inlet.stopProducing()
        self.clock.advance(1)
        self.assertEqual((self.pieces, self.clock.getDelayedCalls()), ([], []))

    def test_rubbish(self) -> None:
        """What cannot be read ends the connection."""

        def take(piece: bytes) -> Any:
            raise ValueError("rubbish")

        inlet = Inlet(self.clock, take, self.give_up)
        inlet.source = self.source
        inlet.put(bytes(3 * PIECE_BYTES))
        self.clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.given_up, 1)
        self.clock.advance(1)

    @given(st.lists(st.integers(0, 3 * PIECE_BYTES) | st.booleans()))
    def test_nothing_lost(self, events: list[int | bool]) -> None:
        """Whatever comes and whenever it is paused: all bytes arrive, once, in order."""
        clock, pieces = Clock(), bytearray()
        inlet = Inlet(clock, pieces.extend, self.fail)
        inlet.source = source = Source()
        sent = bytearray()
        for event in events:
            if event is True:
                inlet.pauseProducing()
            elif event is False:
                inlet.resumeProducing()
            else:
                data = bytes(number % 251 for number in range(len(sent), len(sent) + event))
                sent += data
                inlet.put(data)
            clock.advance(0)
        inlet.resumeProducing()
        for _ in range(4 * len(events) + 2):
            clock.advance(0)
        self.assertEqual((pieces, source.reads), (sent, True))

"""Bytes of a client on their way to whoever reads requests: a piece at a turn of the reactor.

A client may write hundreds of requests at once. Read in one go they would hold up everybody else for
many milliseconds; here others have their turn after each piece.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

PIECE_BYTES = 4096
"""About forty small requests."""


@implementer(IPushProducer)
class Inlet:
    """Reads from a transport, piece by piece, and not at all while it is paused.

    Args:
        clock: gives turns.
        take: reads a piece.
        give_up: ends the connection; called when `take` raises.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, take: Callable[[bytes], None], give_up: Callable[[], None]
    ) -> None:
        self.source: IPushProducer | None = None
        """Where the bytes come from; set once there is a connection."""
        self._clock = clock
        self._take = take
        self._give_up = give_up
        self._arrived = b""
        self._turn: IDelayedCall | None = None
        self._is_paused = False

    def put(self, data: bytes) -> None:
        """Take bytes that arrived."""
        if not self._arrived and not self._is_paused and len(data) <= PIECE_BYTES:
            self._take(data)
            return
        self._arrived += data
        if self.source is not None:
            self.source.pauseProducing()
        self._next_soon()

    def pauseProducing(self) -> None:
        """Read nothing more."""
        self._is_paused = True
        self._no_turn()
        if self.source is not None:
            self.source.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on."""
        self._is_paused = False
        if self._arrived:
            self._next_soon()
        elif self.source is not None:
            self.source.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is gone: nobody reads any more, and nobody waits for answers."""
        self.source = None
        self._arrived = b""
        self._no_turn()

    def _next_soon(self) -> None:
        if self._turn is None and not self._is_paused:
            self._turn = self._clock.callLater(0, self._next)

    def _no_turn(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _next(self) -> None:
        self._turn = None
        piece, self._arrived = self._arrived[:PIECE_BYTES], self._arrived[PIECE_BYTES:]
        try:
            self._take(piece)
        except Exception:
            self.log.failure("a client sent what cannot be read; closing its connection")
            self._give_up()
            return
        if self._arrived:
            self._next_soon()
        elif self.source is not None and not self._is_paused:
            self.source.resumeProducing()

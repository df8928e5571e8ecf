"""Both ends show that they live, and notice when the other does not.

TCP alone does not bound how long it takes to notice a dead peer. Each end sends `Ping` every 30 s and
gives up after 60 s without any byte.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

PING_EVERY_S = 30.0
SILENCE_S = 60.0


class KeepAlive:
    """Sends signs of life on one connection and watches for those of the other end.

    Args:
        clock: time.
        ping: sends a sign of life.
        silent: called once when nothing was heard for too long.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ping: Callable[[], object],
        silent: Callable[[], object],
        *,
        ping_every_s: float = PING_EVERY_S,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._clock = clock
        self._ping = ping
        self._silent = silent
        self._ping_every_s = ping_every_s
        self._silence_s = silence_s
        self._heard_at = clock.seconds()
        self._timers: dict[str, IDelayedCall] = {}

    def start(self) -> None:
        """Begin; the other end counts as heard now."""
        self._heard_at = self._clock.seconds()
        self._timers["ping"] = self._clock.callLater(self._ping_every_s, self._send)
        self._timers["watch"] = self._clock.callLater(self._silence_s, self._look)

    def heard(self) -> None:
        """The other end sent something. Cheap: called for every piece of data."""
        self._heard_at = self._clock.seconds()

    def stop(self) -> None:
        """End; no more calls."""
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()

    def _send(self) -> None:
        self._timers["ping"] = self._clock.callLater(self._ping_every_s, self._send)
        self._ping()

    def _look(self) -> None:
        left = self._heard_at + self._silence_s - self._clock.seconds()
        if left > 0:
            self._timers["watch"] = self._clock.callLater(left, self._look)
            return
        self.stop()
        self._silent()

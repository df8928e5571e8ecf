"""Ends waits that take too long, with one timer for all waits on a connection.

Nearly every wait ends long before its time, and a timer of its own for each costs as much as half the
call. Here the timer stays where it is when a wait ends, looks at what is left when it goes off, and is set
for the next deadline then.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Deadlines:
    """The waits on one connection.

    Args:
        clock: time.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._numbers = count()
        self._waits: dict[int, tuple[float, Callable[[], object]]] = {}
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    def add(self, seconds: float, late: Callable[[], object]) -> int:
        """Call `late` after some time, unless the wait is over before; gives a number for `over`."""
        at = self._clock.seconds() + seconds
        number = next(self._numbers)
        self._waits[number] = (at, late)
        if self._timer is None or at < self._timer_at:
            self._set(at)
        return number

    def over(self, number: int) -> None:
        """A wait has ended, late or not."""
        self._waits.pop(number, None)

    def stop(self) -> None:
        """End; nobody is called any more."""
        self._waits.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for number, (at, late) in list(self._waits.items()):
            # Who is called may end other waits.
            if at <= now and self._waits.pop(number, None) is not None:
                late()
        if self._waits and self._timer is None:
            self._set(min(at for at, _ in self._waits.values()))

"""Calls functions one after the other instead of inside each other.

A lock that is let go inside the callback of a grant grants the next one, whose callback lets go, and
so on: called directly, a few hundred waiters exhaust the stack. A trampoline puts such calls in a
row that the outermost caller works off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class Trampoline:
    """A row of calls, shared by everything whose callbacks may lead to further callbacks.

    As a context it delays the calls until its end, so that whoever changes several things calls
    nobody before all are changed.

    Args:
        report: gets the error of a call that failed; whoever caused the call, by letting go of a
            lock, has nothing to do with it and goes on.
    """

    __slots__ = ("_calls", "_depth", "_report")

    def __init__(self, report: Callable[[Exception], object]) -> None:
        self._report = report
        self._depth = 0
        self._calls: deque[tuple[Callable[[Any], object], Any]] = deque()

    def call_all(self, function: Callable[[T], object], arguments: Iterable[T]) -> None:
        """Call a function with each argument, in order: now, or when the outermost context ends."""
        with self:
            self._calls.extend((function, argument) for argument in arguments)

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._depth == 1:
                self._drain()
        finally:
            self._depth -= 1

    def _drain(self) -> None:
        while self._calls:
            called, argument = self._calls.popleft()
            try:
                called(argument)
            except Exception as exc:
                self._report(exc)

"""Work that goes on beside a block of code, and no longer than it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

R = TypeVar("R")


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, R]) -> AsyncIterator[Deferred[R]]:
    """Begin with work and go on; inside the block its result can be awaited once.

    At the end of the block the work is cancelled if it is not done.
    """
    begun: Deferred[R] = Deferred.fromCoroutine(work)
    try:
        yield begun
    finally:
        # A failure that nobody asked for is of no interest any more.
        begun.addErrback(lambda failure: None)
        begun.cancel()

"""The job on whose behalf code runs: set where a job is run, read where calls and log lines are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

current_trace: ContextVar[str | None] = ContextVar("current_trace", default=None)
"""Id of the job as text; coroutines inherit it from whoever started them."""


@contextmanager
def no_trace() -> Iterator[None]:
    """What is begun inside belongs to no job, though a job may have been the occasion."""
    token = current_trace.set(None)
    try:
        yield
    finally:
        current_trace.reset(token)

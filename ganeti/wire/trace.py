"""The job on whose behalf code runs: set where a job is run, read where calls and log lines are made."""

from __future__ import annotations

from contextvars import ContextVar

current_trace: ContextVar[str | None] = ContextVar("current_trace", default=None)
"""Id of the job as text; coroutines inherit it from whoever started them."""

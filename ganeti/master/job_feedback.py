"""What an operation tells while it runs: entries in the log of its job."""

from __future__ import annotations

from zope.interface import implementer

from ganeti.interfaces import IClock, IFeedback
from ganeti.logic.job_states import logged
from ganeti.master.job_table import JobTable, LiveJob
from ganeti.model.job import LogKind


@implementer(IFeedback)
class JobFeedback:
    """Feedback of one opcode.

    Args:
        table: has the job.
        live: the job.
        index: which of its opcodes speaks.
        clock: the time of day.
    """

    def __init__(self, table: JobTable, live: LiveJob, index: int, clock: IClock) -> None:
        self._table = table
        self._live = live
        self._index = index
        self._clock = clock

    def info(self, text: str) -> None:
        """A line for the operator."""
        self._add(LogKind.MESSAGE.value, text)

    def step(self, number: int, total: int, text: str) -> None:
        """`STEP n/m text`."""
        self.info(f"STEP {number}/{total} {text}")

    def warning(self, text: str, *, hint: str | None = None) -> None:
        """` - WARNING: text`, and what to do."""
        lines = [f" - WARNING: {text}"]
        if hint is not None:
            lines.append(f"      Hint: {hint}")
        self._add(LogKind.MESSAGE.value, *lines)

    def event(self, kind: str, value: object) -> None:
        """A log entry of another type."""
        self._add(kind, value)

    def _add(self, kind: str, *messages: object) -> None:
        # Whoever speaks after the end of the job is not heard: the end was told already.
        if not self._live.ended:
            job = logged(self._live.job, self._index, kind, messages, self._clock.seconds())
            self._table.put_logs(self._live, job)

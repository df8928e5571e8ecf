"""The way to masterd: calls that outlive its restart, submissions that happen once, waits that end.

link = MasterLink(connect, monotonic, sleep)
results = link.run([Task("inst1", [opcode])], at_most_s=600)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ganeti.cli.errors import ConnectionLost, MasterError, MasterTimeout, NoMaster
from ganeti.cli.follow import FINAL, job_error

RECONNECT_S = 60.0
RECONNECT_EVERY_S = 0.5
SILENCE_S = 180.0
"""Without any sign of masterd for this long while a job is waited for, it is taken as gone."""
MAX_TASKS = 50
"""Jobs that are submitted together; the rest waits until these have ended."""

PENDING = ("queued", "waiting", "running", "canceling")

Opcode = Mapping[str, Any]


class Connection(Protocol):
    """One connection to masterd (`ganeti.cli.client.Client`)."""

    def call(self, command: str, arguments: Sequence[Any], request_id: str | None = None) -> Any:
        """Ask and wait for the answer."""

    def pushed(self, timeout_s: float) -> tuple[str, list[Any]] | None:
        """The next message that masterd sends by itself; None: none in time."""

    def close(self) -> None:
        """Hang up."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A job to be done."""

    name: str
    """Of the instance, or whatever it is about."""
    opcodes: tuple[Opcode, ...]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a task."""

    task: Task
    job: int | None = None
    """None: masterd did not take it."""
    status: str = "refused"
    """success, error, canceled; refused; late: it has not ended in time and goes on."""
    problem: str = ""
    results: tuple[Any, ...] = ()

    @property
    def is_success(self) -> bool:
        """Whether everything went well."""
        return self.status == "success"


class PendingJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that has not ended."""

    id: int
    summary: tuple[str, ...]


class MasterLink:
    """Talks to masterd; connects when it is needed, and again after a restart.

    Args:
        connect: opens a connection.
        monotonic: seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._connect = connect
        self.monotonic = monotonic
        self._sleep = sleep
        self._connection: Connection | None = None

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(self, command: str, arguments: Sequence[Any], request_id: str | None = None) -> Any:
        """Ask for something that may be asked twice; waits `RECONNECT_S` for a masterd that is restarted.

        Raises:
            MasterError: masterd refuses.
            CommandError: it cannot be reached, or does not answer.
        """
        return self._through(lambda connection: connection.call(command, arguments, request_id))

    def _through(self, work: Callable[[Connection], Any]) -> Any:
        give_up: float | None = None
        while True:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                return work(self._connection)
            except (ConnectionLost, NoMaster):
                self.close()
                now = self.monotonic()
                give_up = now + RECONNECT_S if give_up is None else give_up
                if now >= give_up:
                    raise
                self._sleep(RECONNECT_EVERY_S)

    def rows(self, what: str, fields: Sequence[str], wanted: Any = None) -> list[list[Any]]:
        """Values of a query."""
        answer = self.call("Query", [what, list(fields), wanted])
        return [[value for _, value in row] for row in answer["data"]]

    def pending(self) -> list[PendingJob]:
        """Jobs that have not ended, oldest first."""
        wanted = ["|", *(["==", "status", status] for status in PENDING)]
        rows = self.rows("job", ["id", "summary"], wanted)
        return [PendingJob(id=int(job), summary=tuple(summary)) for job, summary in sorted(rows)]

    # --- jobs

    def run(self, tasks: Sequence[Task], *, at_most_s: float) -> list[Done]:
        """Submit jobs and wait for their end, not too many at a time.

        What the time does not suffice for is not submitted; what has not ended by then goes on.

        Raises:
            MasterError: masterd takes no jobs at all.
            CommandError: it cannot be reached.
        """
        end = self.monotonic() + at_most_s
        done: list[Done] = []
        for start in range(0, len(tasks), MAX_TASKS):
            part = tasks[start : start + MAX_TASKS]
            if self.monotonic() >= end:
                done += [
                    Done(task=task, problem="there was no time left for it in this run") for task in part
                ]
            else:
                done += self._run(part, end)
        return done

    def _run(self, tasks: Sequence[Task], end: float) -> list[Done]:
        answers = self.call(
            "SubmitManyJobs", [[list(task.opcodes) for task in tasks]], request_id=os.urandom(16).hex()
        )
        jobs = {int(value): task for (ok, value), task in zip(answers, tasks) if ok}
        self.wait(jobs, at_most_s=end - self.monotonic())
        ended = self.outcomes(jobs)
        return [
            ended[int(value)] if ok else Done(task=task, problem=str(value))
            for (ok, value), task in zip(answers, tasks)
        ]

    def wait(self, jobs: Collection[int], *, at_most_s: float) -> bool:
        """Wait for the end of jobs; gives whether all have ended in time.

        Raises:
            CommandError: masterd cannot be reached, or is silent.
        """
        left = set(jobs)
        end = self.monotonic() + at_most_s
        while left and self.monotonic() < end:
            self._through(lambda connection: self._listen(connection, left, end))
        if left:
            # Nobody is to hear of them any more.
            self.close()
        return not left

    def _listen(self, connection: Connection, left: set[int], end: float) -> None:
        watches: dict[Any, int] = {}
        for job in sorted(left):
            watch = connection.call("WatchJob", [job, ["status"], None])
            if watch is None:
                left.discard(job)
            else:
                watches[watch] = job
        heard = self.monotonic()
        while left and (now := self.monotonic()) < end:
            message = connection.pushed(min(end, heard + SILENCE_S) - now)
            if message is None:
                if self.monotonic() - heard >= SILENCE_S:
                    raise MasterTimeout()
                continue
            heard = self.monotonic()
            name, arguments = message
            if name == "JobChanged" and arguments[0] in watches:
                (status, *_), _ = arguments[1]
                if status is None or status in FINAL:
                    left.discard(watches[arguments[0]])

    def outcomes(self, jobs: Mapping[int, Task]) -> dict[int, Done]:
        """What became of jobs."""
        if not jobs:
            return {}
        wanted = ["|", *(["==", "id", job] for job in sorted(jobs))]
        rows = {row[0]: row[1:] for row in self.rows("job", ["id", "status", "opstatus", "opresult"], wanted)}
        return {job: _outcome(job, task, rows.get(job)) for job, task in jobs.items()}


def _outcome(job: int, task: Task, row: Sequence[Any] | None) -> Done:
    if row is None or row[0] is None:
        return Done(task=task, job=job, status="error", problem=f"job {job} is not there any more")
    status, states, results = row
    match status:
        case "success":
            return Done(task=task, job=job, status=status, results=tuple(results))
        case "canceled":
            return Done(task=task, job=job, status=status, problem=f"job {job} was canceled")
        case "error":
            return Done(task=task, job=job, status=status, problem=_problem(job_error(states, results)))
    return Done(task=task, job=job, status="late", problem=f"job {job} has not ended in time and goes on")


def _problem(error: MasterError) -> str:
    return error.text

"""Submits jobs, shows what they say while they run, and gives their results."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ganeti.cli.errors import CommandError, ConnectionLost, MasterError, MasterTimeout, explain

if TYPE_CHECKING:
    from ganeti.cli.declarations import Opcode
    from ganeti.cli.invocation import Invocation, Master

FINAL = frozenset(("success", "error", "canceled"))
SILENCE_S = 180.0
"""Without any sign of masterd for this long, it is taken as gone."""
NOTICE_AFTER_S = 2.0
"""A job that does not begin for this long is told to the operator."""

_NOTICES = {
    "queued": "Job {job} is waiting in queue",
    "waiting": "Job {job} is trying to acquire all necessary locks",
}


_SENTENCES = {"delay-test": "connect to {} to end this delay"}
"""How entries of other types are said; those that are not here are for programs."""


class Named(NamedTuple):
    """A job to submit, and what to call it; None: it has no name."""

    name: str | None
    opcodes: list[Opcode]


class Sent(Exception):
    """`--submit` was given: the job is on its way and nothing more is to be done."""


def submit(invocation: Invocation, opcodes: Sequence[Opcode]) -> int:
    """Submit one job; gives its ID, and prints it if that was asked for.

    Raises:
        Sent: with `--submit`.
    """
    job: int = invocation.submit("SubmitJob", [list(opcodes), False])
    if invocation.option("print_jobid"):
        invocation.print(str(job))
        invocation.flush()
    if invocation.option("submit"):
        invocation.warn(f"JobID: {job}")
        raise Sent()
    return job


def execute(invocation: Invocation, opcode: Opcode) -> Any:
    """Submit an opcode as a job, follow it, and give its result.

    Raises:
        Sent: with `--submit`.
        MasterError: the job failed, with the error it failed with.
    """
    return wait(invocation, submit(invocation, [invocation.complete(opcode)]))[0]


def quiet(invocation: Invocation, opcode: Opcode) -> Any:
    """The result of an opcode whose job the operator need not know of; `--submit` does not count.

    Raises:
        MasterError: the job failed.
    """
    job: int = invocation.submit("SubmitJob", [[invocation.complete(opcode)], False])
    return wait(invocation, job)[0]


def wait(invocation: Invocation, job: int, *, is_quiet: bool = False) -> list[Any]:
    """Show what a job says until it has ended; gives the results of its opcodes.

    Args:
        invocation: the command.
        job: its ID.
        is_quiet: show nothing.

    Raises:
        MasterError: it failed, was canceled or does not exist.
    """
    _follow(invocation, _Silent(invocation, job) if is_quiet else _Printer(invocation, job))
    return results(invocation, job)


def _follow(invocation: Invocation, printer: _Printer) -> None:
    """Watch a job to its end; a restart of masterd meanwhile only makes a pause."""
    while not printer.is_final:
        try:
            watch = invocation.master.call("WatchJob", [printer.job, ["status"], printer.serial])
            _listen(invocation.master, watch, printer)
        except ConnectionLost:
            invocation.reconnect()


def _listen(master: Master, watch: Any, printer: _Printer) -> None:
    if watch is None:
        raise printer.lost()
    silent_since = time.monotonic()
    while not printer.is_final:
        message = master.pushed(NOTICE_AFTER_S)
        if message is None:
            printer.notice()
            if time.monotonic() - silent_since > SILENCE_S:
                raise MasterTimeout()
            continue
        silent_since = time.monotonic()
        name, args = message
        if args and args[0] == watch and name == "JobChanged":
            printer.show(args[1])


class _Printer:
    """Prints each log entry and each notice once."""

    def __init__(self, invocation: Invocation, job: int) -> None:
        self._invocation = invocation
        self.job = job
        self.serial: int | None = None
        self._status: str | None = "queued"
        self._noticed: set[str] = set()

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self._status in FINAL

    def show(self, change: Any) -> None:
        """Print what is new in a change: `[values, log entries]`.

        Raises:
            MasterError: there is no such job (any more).
        """
        (self._status, *_), entries = change
        if self._status is None:
            raise self.lost()
        for serial, when, kind, content in entries or ():
            if self.serial is None or serial > self.serial:
                self.serial = serial
                self._print(when, kind, content)
        self._invocation.flush()

    def lost(self) -> MasterError:
        """The error that says that there is no such job."""
        return MasterError(
            "JobLost", [f"job {self.job} does not exist; 'gnt-job list' shows those there are"]
        )

    def _print(self, when: Sequence[int], kind: str, content: Any) -> None:
        if kind in _SENTENCES:
            content = _SENTENCES[kind].format(content)
        elif kind not in ("message", "message-list"):
            return
        for line in content if isinstance(content, list) else [content]:
            self._invocation.print(f"{time.ctime(when[0])} {line}")

    def notice(self) -> None:
        """Tell that the job has not begun yet."""
        text = _NOTICES.get(self._status or "")
        if text is not None and text not in self._noticed:
            self._noticed.add(text)
            self._invocation.warn(text.format(job=self.job))


class _Silent(_Printer):
    """Only looks for the end."""

    def _print(self, when: Sequence[int], kind: str, content: Any) -> None:
        pass

    def notice(self) -> None:
        """Nothing."""


def results(invocation: Invocation, job: int) -> list[Any]:
    """Results of the opcodes of a job that has ended.

    Raises:
        MasterError: it failed or was canceled, or does not exist.
    """
    fields = ["status", "opstatus", "opresult"]
    answer = invocation.master.call("Query", ["job", fields, ["==", "id", job]])
    rows = answer["data"]
    if not rows or rows[0][0][0] != 0:
        raise MasterError("JobLost", [f"job {job} does not exist; 'gnt-job list' shows those there are"])
    (_, status), (_, states), (_, values) = rows[0]
    if status == "success":
        return list(values)
    if status == "canceled":
        raise MasterError("GenericError", ["Job was canceled"])
    raise job_error(states, values)


def job_error(states: Sequence[str], values: Sequence[Any]) -> MasterError:
    """The error of the first opcode that failed."""
    failed = next((index for index, state in enumerate(states) if state == "error"), None)
    if failed is None:
        return MasterError("OpExecError", ["the job ended without success and without an error"])
    value = values[failed]
    match value:
        case [str(name), [*arguments]]:
            return MasterError(name, arguments)
    if len(values) > 1:
        return MasterError("OpExecError", [f"partial failure (opcode {failed}): {value}"])
    return MasterError("OpExecError", [str(value)])


def execute_many(invocation: Invocation, jobs: Sequence[Named], *, always_say: bool = True) -> int:
    """Submit several jobs and follow one after the other; gives the exit code.

    Args:
        invocation: the command.
        jobs: what to submit.
        always_say: also say the ID of a single job.
    """
    ops = [[invocation.complete(opcode) for opcode in job.opcodes] for job in jobs]
    answers = invocation.submit("SubmitManyJobs", [ops])
    if invocation.option("submit"):
        return _say_submitted(invocation, jobs, answers)
    return wait_many(
        invocation,
        [(bool(ok), job.name, value) for (ok, value), job in zip(answers, jobs)],
        always_say=always_say,
    )


def _say_submitted(invocation: Invocation, jobs: Sequence[Named], answers: Sequence[Any]) -> int:
    code = 0
    for (ok, value), job in zip(answers, jobs):
        if ok:
            invocation.print(f"{value}: {job.name}")
        else:
            invocation.warn(f"Failure for {job.name}: {value}")
            code = 1
    return code


def wait_many(
    invocation: Invocation, submitted: Iterable[tuple[bool, str | None, Any]], *, always_say: bool = True
) -> int:
    """Follow jobs that are submitted; gives the exit code, 1 if one failed."""
    return 1 if any(not ok for ok, _ in wait_all(invocation, submitted, always_say=always_say)) else 0


def wait_all(
    invocation: Invocation, submitted: Iterable[tuple[bool, str | None, Any]], *, always_say: bool = True
) -> list[tuple[bool, Any]]:
    """Follow jobs one after the other; gives for each whether it succeeded and its results.

    Args:
        invocation: the command.
        submitted: for each whether it was accepted, its name, and its ID or why not.
        always_say: also say the ID of a single job.
    """
    rows = list(submitted)
    found: list[tuple[bool, Any]] = []
    for ok, name, value in rows:
        if not ok:
            invocation.warn(f"Failed to submit job{_for(name)}: {value}")
            found.append((False, value))
    accepted = [(name, value) for ok, name, value in rows if ok]
    if accepted and (always_say or len(accepted) > 1):
        invocation.print(f"Submitted jobs {', '.join(str(job) for _, job in accepted)}")
    for name, job in accepted:
        invocation.print(f"Waiting for job {job}{_for(name)} ...")
        invocation.flush()
        found.append(_outcome(invocation, job, name))
    return found


def _outcome(invocation: Invocation, job: int, name: str | None) -> tuple[bool, Any]:
    try:
        return True, wait(invocation, job)
    except MasterError as error:
        if error.name == "JobLost":
            invocation.warn(f"Job {job}{_for(name)} has been archived, cannot check its result")
        else:
            invocation.warn(f"Job {job}{_for(name)} has failed: {explain(error)[0]}")
        return False, error


def _for(name: str | None) -> str:
    return f" for {name}" if name else ""


def failed_jobs(results_of_jobs: Sequence[tuple[bool, Any]]) -> int:
    """How many of the jobs failed."""
    return sum(not ok for ok, _ in results_of_jobs)


def require_job_id(text: str) -> int:
    """The number of a job.

    Raises:
        CommandError: not a number.
    """
    if not text.isdigit():
        raise CommandError(f"{text!r} is not a job ID; job IDs are numbers, 'gnt-job list' shows them")
    return int(text)

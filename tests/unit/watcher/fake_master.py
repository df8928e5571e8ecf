"""A master daemon in memory, as its clients see it: jobs that end at once, or not before they are told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ganeti.cli.errors import ConnectionLost, MasterError, NoMaster
from ganeti.cli.follow import FINAL
from ganeti.errors import GanetiError
from ganeti.watcher.master import MasterLink

Opcode = Mapping[str, Any]


class Job:
    """One job."""

    def __init__(self, number: int, opcodes: Sequence[Opcode], status: str = "queued") -> None:
        self.number = number
        self.opcodes = list(opcodes)
        self.status = status
        self.results: list[Any] = []

    @property
    def summary(self) -> list[str]:
        """As the queue shows it."""
        return [summary(opcode) for opcode in self.opcodes]


def summary(opcode: Opcode) -> str:
    """As the queue shows it."""
    name = opcode.get("instance_name") or opcode.get("group_name")
    return f"{opcode['OP_ID'].removeprefix('OP_')}({name})"


class FakeMaster:
    """Answers calls; each of its connections is itself.

    A wait takes the time that it may take at most, by a clock that nothing else moves.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.jobs: dict[int, Job] = {}
        self.archived: list[int] = []
        self.groups: list[str] = []
        self.results: dict[str, Callable[[Opcode], Any]] = {}
        """What an opcode gives; a GanetiError fails the job. Others give None."""
        self.unknown: set[str] = set()
        """Opcodes that it does not take."""
        self.hanging: set[str] = set()
        """Opcodes that do not end."""
        self.refusal: MasterError | None = None
        """Of submissions."""
        self.lost: list[str] = []
        """Commands of which the answer is lost, once for each time that it is in the list."""
        self.is_gone = False
        self.log: list[str] = []
        self._requests: dict[str, Any] = {}
        self._news: list[tuple[str, list[Any]]] = []

    def link(self) -> MasterLink:
        """A way to it."""
        return MasterLink(self.connect, lambda: self.now, self.sleep)

    def connect(self) -> FakeMaster:
        """A connection."""
        if self.is_gone:
            raise NoMaster("socket")
        self._news.clear()
        return self

    def close(self) -> None:
        """Hang up."""

    def sleep(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds

    def add(self, *opcodes: Opcode, status: str = "queued") -> Job:
        """A job of somebody."""
        job = Job(max(self.jobs, default=0) + 1, opcodes, status)
        self.jobs[job.number] = job
        return job

    def finish(self, job: Job) -> None:
        """Carry a job out."""
        try:
            job.results = [self._result(opcode) for opcode in job.opcodes]
            job.status = "success"
        except GanetiError as error:
            job.results = [[error.wire_name, error.wire_args()]]
            job.status = "error"

    def submitted(self) -> list[str]:
        """Summaries of all jobs, in order."""
        return [text for job in self.jobs.values() for text in job.summary]

    def _result(self, opcode: Opcode) -> Any:
        answer = self.results.get(opcode["OP_ID"])
        return None if answer is None else answer(opcode)

    # --- what clients call

    def call(self, command: str, arguments: Sequence[Any], request_id: str | None = None) -> Any:
        """Answer a call."""
        self.log.append(command)
        if self.is_gone:
            raise ConnectionLost()
        answer = getattr(self, f"_{command}")(*arguments, request_id)
        if command in self.lost:
            self.lost.remove(command)
            raise ConnectionLost()
        return answer

    def pushed(self, timeout_s: float) -> tuple[str, list[Any]] | None:
        """News of a job."""
        if self.is_gone:
            raise ConnectionLost()
        if self._news:
            return self._news.pop(0)
        self.now += timeout_s
        return None

    def _SubmitManyJobs(self, jobs: Sequence[Sequence[Opcode]], request_id: str | None) -> Any:
        if self.refusal is not None:
            raise self.refusal
        assert request_id is not None
        if request_id not in self._requests:
            self._requests[request_id] = [self._submit(opcodes) for opcodes in jobs]
        return self._requests[request_id]

    def _submit(self, opcodes: Sequence[Opcode]) -> list[Any]:
        if any(opcode["OP_ID"] in self.unknown for opcode in opcodes):
            return [False, "there is no such operation"]
        job = self.add(*opcodes)
        if not any(opcode["OP_ID"] in self.hanging for opcode in opcodes):
            self.finish(job)
        return [True, job.number]

    def _WatchJob(self, number: int, _fields: Any, _serial: Any, _request: Any) -> int | None:
        job = self.jobs.get(number)
        if job is None:
            return None
        watch = 1000 + number
        self._news.append(("JobChanged", [watch, [[job.status], []]]))
        return watch

    def _Query(self, what: str, fields: Sequence[str], wanted: Any, _request: Any) -> Any:
        if what == "group":
            return {"data": [[[0, uuid]] for uuid in self.groups]}
        assert what == "job"
        rows = [
            [self._value(job, field) for field in fields]
            for job in self.jobs.values()
            if job.number not in self.archived and _matches(job, wanted)
        ]
        return {"data": [[[0, value] for value in row] for row in rows]}

    def _value(self, job: Job, field: str) -> Any:
        states = {"error": "error"}.get(job.status, job.status)
        values = {
            "id": job.number,
            "status": job.status,
            "summary": job.summary,
            "opstatus": [states] * len(job.opcodes),
            "opresult": job.results,
        }
        return values[field]

    def _ArchiveJob(self, number: int, _request: Any) -> bool:
        assert self.jobs[number].status in FINAL
        self.archived.append(number)
        return True

    def _CancelJob(self, number: int, _request: Any) -> Any:
        self.jobs[number].status = "canceled"
        return [True, ""]


def _matches(job: Job, wanted: Any) -> bool:
    match wanted:
        case ["|", *parts]:
            return any(_matches(job, part) for part in parts)
        case ["&", *parts]:
            return all(_matches(job, part) for part in parts)
        case ["==", "id", number]:
            return bool(job.number == number)
        case ["==", "status", status]:
            return bool(job.status == status)
        case ["=[]", "summary", text]:
            return text in job.summary
    raise AssertionError(f"a filter that nobody uses: {wanted}")

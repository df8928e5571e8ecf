"""A masterd in memory and a world without terminal, for tests of the command line tools."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from ganeti.cli.errors import MasterError
from ganeti.cli.invocation import World
from ganeti.cli.main import run

NOW = 1767607200.0


class FakeMaster:
    """Answers calls from tables and runs every job at once.

    Args:
        answers: by command; a function is called with the arguments.
        results: by OP_ID, what its job ends with; an error lets it fail.
    """

    def __init__(
        self, answers: Mapping[str, Any] | None = None, results: Mapping[str, Any] | None = None
    ) -> None:
        self.answers = dict(answers or {})
        self.results = dict(results or {})
        self.calls: list[tuple[str, list[Any]]] = []
        self.jobs: dict[int, list[dict[str, Any]]] = {}
        self.log: list[list[Any]] = []
        self._pushed: list[tuple[str, list[Any]]] = []
        self.is_closed = False

    @property
    def opcodes(self) -> list[dict[str, Any]]:
        """All opcodes submitted, without the reason trail."""
        return [
            {key: value for key, value in opcode.items() if key != "reason"}
            for job in self.jobs.values()
            for opcode in job
        ]

    def call(self, command: str, arguments: Sequence[Any], request_id: str | None = None) -> Any:
        """An answer."""
        self.calls.append((command, list(arguments)))
        if command in self.answers:
            answer = self.answers[command]
            found = answer(*arguments) if callable(answer) else answer
            if isinstance(found, Exception):
                raise found
            return found
        return getattr(self, f"_{command}")(*arguments)

    def pushed(self, timeout_s: float) -> tuple[str, list[Any]] | None:
        """What was pushed."""
        return self._pushed.pop(0) if self._pushed else None

    def close(self) -> None:
        """Hang up."""
        self.is_closed = True

    def _SubmitJob(self, opcodes: list[dict[str, Any]], drained_ok: bool) -> int:
        job = 17 + len(self.jobs)
        self.jobs[job] = opcodes
        return job

    def _SubmitManyJobs(self, jobs: list[list[dict[str, Any]]]) -> list[list[Any]]:
        return [[True, self._SubmitJob(job, False)] for job in jobs]

    def _WatchJob(self, job: int, fields: list[str], serial: int | None) -> int | None:
        if job not in self.jobs:
            return None
        self._pushed.append(("KeepWaiting", [job]))
        self._pushed.append(("JobChanged", [job, [["running"], self.log]]))
        self._pushed.append(("JobChanged", [job, [[self._status(job)], self.log]]))
        return job

    def _status(self, job: int) -> str:
        results = [self.results.get(opcode["OP_ID"]) for opcode in self.jobs[job]]
        if "canceled" in results:
            return "canceled"
        return "error" if any(isinstance(result, MasterError) for result in results) else "success"

    def _Query(self, what: str, fields: list[str], wanted: Any) -> Any:
        assert what == "job" and wanted[:2] == ["==", "id"], (what, fields, wanted)
        job = wanted[2]
        if job not in self.jobs:
            return {"fields": [], "data": []}
        results = [self.results.get(opcode["OP_ID"]) for opcode in self.jobs[job]]
        states = ["error" if isinstance(result, MasterError) else "success" for result in results]
        values = [
            [result.name, list(result.arguments)] if isinstance(result, MasterError) else result
            for result in results
        ]
        return {"fields": [], "data": [[[0, self._status(job)], [0, states], [0, values]]]}


class FakeWorld(World):
    """Keeps what is written, and answers questions from a list.

    Args:
        master: the masterd; None: the real connection.
        replies: to the questions, in order; when they run out, the last choice.
        environ: environment variables.
        codes: exit codes of the programs run, in order; then 0.
    """

    def __init__(
        self,
        master: FakeMaster | None = None,
        *,
        replies: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        codes: Sequence[int] = (),
        connect: Callable[..., Any] | None = None,
    ) -> None:
        self.stdout = io.StringIO()
        self.stderr = io.StringIO()
        self.questions: list[str] = []
        self.programs: list[tuple[list[str], str | None]] = []
        self.slept: list[float] = []
        self.output = ""
        """What every program writes."""
        self._replies = list(replies)
        self._codes = list(codes)
        super().__init__(
            environ={"GANETI_ROOTDIR": "/nowhere", **(environ or {})},
            out=self.stdout,
            err=self.stderr,
            connect=connect or (lambda paths: cast("FakeMaster", master)),
            ask=self._ask,
            clock=lambda: NOW,
            sleep=self.slept.append,
            execute=self._execute,
            capture=self._capture,
        )

    def _ask(self, question: str, choices: tuple[tuple[str, str], ...]) -> str:
        self.questions.append(question)
        return self._replies.pop(0) if self._replies else choices[-1][0]

    def _execute(self, argv: Sequence[str], *, stdin: str | None = None) -> int:
        self.programs.append((list(argv), stdin))
        return self._codes.pop(0) if self._codes else 0

    def _capture(self, argv: Sequence[str], *, stdin_path: str | None = None) -> tuple[int, str]:
        self.programs.append((list(argv), stdin_path))
        return (self._codes.pop(0) if self._codes else 0), self.output

    def run(self, command_line: str, *more: str) -> int:
        """Run `gnt-job list -o id`; words with blanks are given one by one."""
        tool, *words = command_line.split()
        return run(tool, [*words, *more], self)

    @property
    def out_text(self) -> str:
        """What was written to stdout."""
        return self.stdout.getvalue()

    @property
    def err_text(self) -> str:
        """What was written to stderr."""
        return self.stderr.getvalue()


def table(kinds: Mapping[str, tuple[str, str]], *rows: Sequence[Any]) -> dict[str, Any]:
    """The answer of a query.

    Args:
        kinds: title and kind by field name.
        *rows: plain values, or `[state, value]` lists where the state is not normal.
    """
    fields = [
        {"name": name, "title": title, "kind": kind, "doc": ""} for name, (title, kind) in kinds.items()
    ]
    data = [
        [cell if isinstance(cell, list) and cell[:1] in ([1], [2], [3], [4]) else [0, cell] for cell in row]
        for row in rows
    ]
    return {"fields": fields, "data": data}


def failure(text: str, code: str = "wrong_state") -> MasterError:
    """A refusal."""
    return MasterError("OpPrereqError", [text, code])

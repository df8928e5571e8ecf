"""Nodes for tests of blocking code: `FakeHost` on a temporary directory, with programs from a script.

`FakeProcesses` answers commands from a table and remembers them, `FakeHost` has a clock that only
`sleep` moves. Nothing here starts a program or waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from zope.interface import implementer

from ganeti.errors import CommandFailed
from ganeti.interfaces import Completed, IHost, IProcessRunner
from ganeti.model.paths import Paths

ANY = "*"
"""Pattern for an argument of any value; patterns are those of `fnmatch`."""


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """A program as it was asked for."""

    argv: tuple[str, ...]
    timeout_s: float | None = None
    """None: started to go on, not waited for."""
    env: Mapping[str, str] | None = None
    cwd: str | None = None
    stdin: bytes | None = None
    log_path: str | None = None


Answer = Completed | Callable[[Ran], Completed]
"""What a program does: a fixed result, or a function that may also act on the world of the test."""


def ok(stdout: str = "") -> Completed:
    """A program that ended well."""
    return Completed(code=0, stdout=stdout, stderr="")


def failed(stderr: str, code: int = 1) -> Completed:
    """A program that ended with an error."""
    return Completed(code=code, stdout="", stderr=stderr)


@implementer(IProcessRunner)
class FakeProcesses:
    """Programs that exist only as a table.

    Args:
        answers: argument patterns to what happens; a pattern matches when it covers the first
            arguments of a command, and the first that matches counts.
    """

    def __init__(self, answers: Mapping[tuple[str, ...], Answer] | None = None) -> None:
        self.answers: dict[tuple[str, ...], Answer] = dict(answers or {})
        self.calls: list[Ran] = []
        self._next_pid = 1_000_000

    def commands(self, program: str | None = None) -> list[tuple[str, ...]]:
        """Command lines so far, of one program or of all."""
        return [call.argv for call in self.calls if program is None or call.argv[0] == program]

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bytes | None = None,
        check: bool = True,
        log_path: str | None = None,
    ) -> Completed:
        """Look the command up; one that is in no row does not exist."""
        call = Ran(argv=tuple(argv), timeout_s=timeout_s, env=env, cwd=cwd, stdin=stdin, log_path=log_path)
        self.calls.append(call)
        result = self._answer(call)
        if check and result.code != 0:
            tail = (result.stderr or result.stdout).strip()
            raise CommandFailed(f"{argv[0]} ended with exit code {result.code}: {tail}")
        return result

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log_path: str,
        cwd: str | None = None,
    ) -> int:
        """Remember the command and give a process id that no process has."""
        call = Ran(argv=tuple(argv), env=env, cwd=cwd, log_path=log_path)
        self.calls.append(call)
        self._answer(call)
        self._next_pid += 1
        return self._next_pid

    def _answer(self, call: Ran) -> Completed:
        for pattern, answer in self.answers.items():
            if len(call.argv) >= len(pattern) and all(map(fnmatchcase, call.argv, pattern)):
                return answer if isinstance(answer, Completed) else answer(call)
        raise CommandFailed(f"{call.argv[0]}: no such program")


@implementer(IHost)
class FakeHost:
    """A node on a directory.

    Args:
        root: directory below which its files lie; the test removes it.
        name: of the node.
        ip: both addresses.
        processes: its programs; None: it has none.
        clock: seconds since the epoch at the start.
    """

    def __init__(
        self,
        root: str,
        *,
        name: str = "node1.example.com",
        ip: str = "127.0.0.1",
        processes: IProcessRunner | None = None,
        clock: float = 1_000_000_000.0,
    ) -> None:
        self.paths = Paths(root)
        self.processes: IProcessRunner = processes if processes is not None else FakeProcesses()
        self.name = name
        self.primary_ip = ip
        self.secondary_ip = ip
        self.slept_s = 0.0
        self._clock = clock

    def now(self) -> float:
        """What the clock shows; it stands still but for `sleep`."""
        return self._clock

    def sleep(self, seconds: float) -> None:
        """Move the clock."""
        self._clock += seconds
        self.slept_s += seconds

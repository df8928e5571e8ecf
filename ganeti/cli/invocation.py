"""One call of a tool: what was asked for, and everything a command may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Protocol

from ganeti.cli.declarations import Command, Opcode
from ganeti.cli.errors import CommandError, ConnectionLost, MasterTimeout, NoMaster
from ganeti.cli.parser import Parsed
from ganeti.model.paths import Paths

RECONNECT_S = 30.0
RECONNECT_EVERY_S = 0.5

_PRIORITIES = {"low": 10, "normal": 0, "high": -10}


class Master(Protocol):
    """The connection to masterd as commands see it."""

    def call(self, command: str, arguments: Sequence[Any], request_id: str | None = None) -> Any:
        """Ask and wait for the answer.

        Raises:
            MasterError: masterd refuses.
            CommandError: it cannot be reached.
        """

    def pushed(self, timeout_s: float) -> tuple[str, list[Any]] | None:
        """The next message that masterd sends by itself; None: none in time."""

    def close(self) -> None:
        """Hang up."""


class World:
    """What is outside of the program; tests give their own.

    Args:
        environ: environment variables.
        out: standard output.
        err: standard error.
        connect: opens the connection to masterd.
        ask: asks a question on the terminal; gives one of the letters offered.
        clock: seconds since the epoch.
        sleep: waits so many seconds.
        execute: runs a program (`ganeti.cli.programs.execute`).
        capture: runs one and gives its output (`ganeti.cli.programs.capture`).
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        out: IO[str],
        err: IO[str],
        connect: Callable[[Paths], Master],
        ask: Callable[[str, tuple[tuple[str, str], ...]], str],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        execute: Callable[..., int],
        capture: Callable[..., tuple[int, str]],
    ) -> None:
        self.environ = environ
        self.out = out
        self.err = err
        self.connect = connect
        self.ask = ask
        self.clock = clock
        self.sleep = sleep
        self.execute = execute
        self.capture = capture
        self.paths = Paths(environ.get("GANETI_ROOTDIR", ""))


class Invocation:
    """One command with its options and arguments.

    Args:
        tool: `gnt-instance`.
        command: the sub-command.
        parsed: what was given.
        world: what is outside.
    """

    def __init__(self, tool: str, command: Command, parsed: Parsed, world: World) -> None:
        self.tool = tool
        self.command = command
        self.options = dict(parsed.options)
        self.arguments = parsed.arguments
        self.world = world
        self._master: Master | None = None

    @property
    def master(self) -> Master:
        """The connection to masterd, opened at the first use."""
        if self._master is None:
            self._master = self.world.connect(self.world.paths)
        return self._master

    def submit(self, command: str, arguments: Sequence[Any]) -> Any:
        """Ask masterd to take jobs; if it is restarted meanwhile, ask again, and nothing happens twice.

        Raises:
            MasterError: it refuses.
            CommandError: it cannot be reached.
        """
        request_id = os.urandom(16).hex()
        try:
            return self.master.call(command, arguments, request_id)
        except ConnectionLost:
            return self.reconnect().call(command, arguments, request_id)

    def reconnect(self) -> Master:
        """A new connection after masterd went away; waits for a while for it to be back.

        Raises:
            ConnectionLost: it does not come back.
        """
        self.close()
        self.warn("The master daemon went away; waiting for it to come back ...")
        for _ in range(int(RECONNECT_S / RECONNECT_EVERY_S)):
            self.world.sleep(RECONNECT_EVERY_S)
            try:
                return self.master
            except (NoMaster, MasterTimeout):
                continue
        raise ConnectionLost()

    def close(self) -> None:
        """Hang up."""
        if self._master is not None:
            self._master.close()
            self._master = None

    def option(self, dest: str, default: Any = None) -> Any:
        """The value of an option, or what stands for it."""
        return self.options.get(dest, default)

    def print(self, text: str = "") -> None:
        """A line on stdout."""
        self.world.out.write(f"{text}\n")

    def warn(self, text: str) -> None:
        """A line on stderr."""
        self.world.err.write(f"{text}\n")
        self.world.err.flush()

    def flush(self) -> None:
        """Show what was printed now."""
        self.world.out.flush()

    def complete(self, opcode: Opcode) -> Opcode:
        """The opcode with what every command gives: priority, dry run, debug level, reason trail."""
        found = dict(opcode)
        if "priority" in self.options:
            found["priority"] = _PRIORITIES[self.options["priority"]]
        if self.option("dry_run"):
            found["dry_run"] = True
        if self.option("debug"):
            found["debug_level"] = self.options["debug"]
        found["reason"] = self.reason_trail()
        return found

    def reason_trail(self) -> list[list[Any]]:
        """Who asked and why, oldest first, times in nanoseconds."""
        now = int(self.world.clock() * 1e9)
        trail: list[list[Any]] = []
        if self.option("reason"):
            trail.append(["gnt:user", self.options["reason"], now])
        trail.append([f"gnt:client:{self.tool}", self.command.name, now])
        return trail

    def confirm(self, question: str) -> bool:
        """Whether the operator says yes."""
        choices = (("y", "Yes, do it"), ("n", "No, leave everything as it is"))
        return self.world.ask(question, choices) == "y"

    def require_yes(self, question: str, *, code: int = 1) -> None:
        """Go on only if the operator says yes.

        Raises:
            CommandError: silently, with this exit code, if not.
        """
        if not self.confirm(question):
            raise CommandError("", code=code)

    def require_root(self, why: str = "it sets up this machine") -> None:
        """Go on only as root, or with a root directory of one's own.

        Args:
            why: the reason, for the operator.

        Raises:
            CommandError: somebody else.
        """
        if os.geteuid() != 0 and not self.world.paths.root:
            raise CommandError(f"'{self.tool} {self.command.name}' needs to be run as root, because {why}.")

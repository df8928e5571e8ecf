"""A whole call of a tool: find the command, read its options, run it, tell what went wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from ganeti.cli.declarations import Command, load
from ganeti.cli.errors import (
    EXIT_FAILURE,
    INTERRUPTED,
    CommandError,
    MasterError,
    MisreadFilter,
    explain,
    misread_filter,
)
from ganeti.cli.invocation import Invocation, World
from ganeti.cli.parser import HelpWanted, did_you_mean, parse


def run(tool: str, argv: Sequence[str], world: World) -> int:
    """Do what a command line says; gives the exit code."""
    try:
        return _run(tool, argv, world)
    except HelpWanted as wanted:
        world.out.write(str(wanted))
        return 0
    except CommandError as error:
        message, code = error.message, error.code
    except MasterError as error:
        message, code = explain(error)
    except MisreadFilter as error:
        message, code = misread_filter(error), EXIT_FAILURE
    except KeyboardInterrupt:
        message, code = INTERRUPTED, EXIT_FAILURE
    world.out.flush()
    if message:
        world.err.write(f"{message}\n")
    return code


def _run(tool: str, argv: Sequence[str], world: World) -> int:
    if argv[:1] == ["--version"]:
        from ganeti.version import RELEASE, VCS_VERSION

        world.out.write(f"{tool} (ganeti {VCS_VERSION}) {RELEASE}\n")
        return 0
    commands = load(tool)
    if not argv or argv[0] in ("-h", "--help"):
        world.out.write(overview(tool, commands))
        return 0 if argv else EXIT_FAILURE
    command = find(commands, argv[0])
    if command is None:
        near = did_you_mean(argv[0], _names(commands))
        world.err.write(f"{tool} has no command {argv[0]!r}{near}\n")
        world.out.write(overview(tool, commands))
        return EXIT_FAILURE
    words = [*_from_environment(command, world.environ), *argv[1:]]
    invocation = Invocation(tool, command, parse(tool, command, words), world)
    _log(invocation, words)
    try:
        return _execute(invocation)
    finally:
        invocation.close()


def _execute(invocation: Invocation) -> int:
    command = invocation.command
    if command.run is not None:
        return command.run(invocation)
    from ganeti.cli.generic import run_declared

    return run_declared(invocation)


def _log(invocation: Invocation, words: Sequence[str]) -> None:
    """A line in the log of commands, if this user may write there; secret values are left out."""
    import time

    world = invocation.world
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(world.clock()))
    shown = " ".join(map(repr, without_secrets(words)))
    line = (
        f"{stamp} pid={os.getpid()} uid={os.getuid()} {invocation.tool} {invocation.command.name} {shown}\n"
    )
    try:
        path = f"{world.paths.log_dir}/commands.log"
        # Others need not know what was done; the group of administrators may.
        with open(path, "a", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o640)) as log:
            log.write(line)
    except OSError:
        pass


def without_secrets(words: Sequence[str]) -> list[str]:
    """The words of a command line with the values of secret parameters struck out."""
    shown: list[str] = []
    is_value = False
    for word in words:
        name, equals, _ = word.partition("=")
        is_secret = name.startswith(("--os-parameters-p", "--os-parameters-s"))
        shown.append("..." if is_value else f"{name}=..." if is_secret and equals else word)
        is_value = is_secret and not equals
    return shown


def _from_environment(command: Command, environ: Mapping[str, str]) -> list[str]:
    text = environ.get(command.names_variable or "", "")
    if not command.names_variable or not text:
        return []
    import shlex

    return shlex.split(text)


def find(commands: Mapping[str, Command], name: str) -> Command | None:
    """The command of a name or alias."""
    if name in commands:
        return commands[name]
    return next((command for command in commands.values() if name in command.aliases), None)


def _names(commands: Mapping[str, Command]) -> list[str]:
    return [name for command in commands.values() for name in (command.name, *command.aliases)]


def overview(tool: str, commands: Mapping[str, Command]) -> str:
    """The list of commands that `--help` shows."""
    width = max(map(len, commands), default=0)
    lines = [f"Usage: {tool} COMMAND [options] [arguments]", "", "Commands:"]
    for command in commands.values():
        also = f" (also: {', '.join(command.aliases)})" if command.aliases else ""
        lines.append(f" {command.name.ljust(width)}  {command.doc.rstrip('.')}{also}")
    lines += ["", f"'{tool} COMMAND --help' describes one of them."]
    return "\n".join(lines) + "\n"


def real_world() -> World:
    """The process's own environment, streams and clock, and the real connection."""
    import time

    from ganeti.cli.client import connect
    from ganeti.cli.confirm import ask
    from ganeti.cli.programs import capture, execute

    return World(
        environ=os.environ,
        out=sys.stdout,
        err=sys.stderr,
        connect=connect,
        ask=ask,
        clock=time.time,
        sleep=time.sleep,
        execute=execute,
        capture=capture,
    )

"""Commands as the parser sees them: those declared by operations joined with those of a tool itself.

Declared ones come from `declared/TOOL.json` (written by `ganeti.ops.describe`); what a tool adds or
does differently stands in its module `ganeti.cli.commands_*`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ganeti.cli.invocation import Invocation

TOOLS = ("cluster", "node", "group", "instance", "job", "os", "debug")
"""What comes after `gnt-`."""

Opcode = dict[str, Any]
"""An opcode as JSON."""
Run = Callable[["Invocation"], int]
Prepare = Callable[["Invocation", Opcode], Opcode]
Report = Callable[["Invocation", Opcode, Any], int]


class Option(NamedTuple):
    """An option; `takes` is the name of a reader of values, `nothing` a switch that sets `value`."""

    flags: tuple[str, ...]
    dest: str
    doc: str
    takes: str = "nothing"
    value: Any = True
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    names: str | None = None
    default: Any = None


class Argument(NamedTuple):
    """What stands after the options."""

    metavar: str
    least: int = 1
    most: int | None = 1
    names: str | None = None
    choices: tuple[str, ...] = ()


class Declared(NamedTuple):
    """What an operation says of its command."""

    op_id: str
    kind: str
    positional: str | None
    takes: str
    fixed: Mapping[str, Any]
    defaults: Mapping[str, Any]
    confirm: str | None
    has_force: bool


class Command(NamedTuple):
    """A sub-command. In a tool's own list, what is left out is as the operation declares it."""

    name: str
    doc: str = ""
    aliases: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] | None = None
    options: tuple[Option, ...] = ()
    run: Run | None = None
    prepare: Prepare | None = None
    """Last changes of the opcode before it is submitted."""
    report: Report | None = None
    """What is printed of the result; gives the exit code."""
    names_variable: str | None = None
    """Environment variable with arguments that go before the others."""
    declared: Declared | None = None


DEBUG = Option(("-d", "--debug"), "debug", "show what is going on; may be repeated", "nothing")
REASON = Option(("--reason",), "reason", "why, for the reason trail of the job", "text", metavar="TEXT")
SUBMIT = Option(("--submit",), "submit", "submit the job and do not wait for it")
PRINT_JOB_ID = Option(
    ("--print-jobid", "--print-job-id"), "print_jobid", "print the job's ID as the first line"
)
PRIORITY = Option(
    ("--priority",),
    "priority",
    "priority of the job",
    "text",
    choices=("low", "normal", "high"),
    metavar="PRIORITY",
)
DRY_RUN = Option(("--dry-run",), "dry_run", "do only the checks and change nothing")
FORCE = Option(("-f", "--force"), "force", "ask no questions")
TO = Option(
    ("--to",),
    "_to",
    "group they may go to; may be repeated; all others if absent",
    "comma_list",
    metavar="GROUP",
    names="group",
)
COMMON = (DEBUG, REASON)
JOB = (SUBMIT, PRINT_JOB_ID, PRIORITY)


def load(tool: str) -> Mapping[str, Command]:
    """The commands of a tool by name, sorted; aliases are not in it."""
    found = {command.name: command for command in _declared(tool)}
    for own in _own(tool):
        base = found.get(own.name)
        if base is not None:
            found[own.name] = _joined(base, own)
        elif own.run is not None:
            found[own.name] = _finished(own)
    return dict(sorted(found.items()))


def _own(tool: str) -> Sequence[Command]:
    from importlib import import_module

    commands: Sequence[Command] = import_module(f"ganeti.cli.commands_{tool.removeprefix('gnt-')}").COMMANDS
    return commands


def _declared(tool: str) -> list[Command]:
    path = os.path.join(os.path.dirname(__file__), "declared", f"{tool}.json")
    try:
        with open(path, encoding="utf-8") as file:
            rows = json.load(file)["commands"]
    except FileNotFoundError:
        return []
    return [_command(row) for row in rows]


def _command(row: Mapping[str, Any]) -> Command:
    options = [_option(option) for option in row.get("options", ())]
    flags = {flag for option in options for flag in option.flags}
    has_force = any(option.dest == "force" for option in options)
    if row.get("confirm") and "--force" not in flags:
        options.append(FORCE)
    positional = row.get("positional") or {}
    return Command(
        name=row["name"],
        doc=row["doc"],
        aliases=tuple(row.get("aliases", ())),
        arguments=_arguments(row["arguments"], positional),
        options=(*options, *JOB, DRY_RUN, *COMMON),
        declared=Declared(
            op_id=row["op_id"],
            kind=row["arguments"],
            positional=positional.get("param"),
            takes=positional.get("takes", "text"),
            fixed=row.get("fixed", {}),
            defaults=row.get("defaults", {}),
            confirm=row.get("confirm"),
            has_force=has_force,
        ),
    )


def _option(row: Mapping[str, Any]) -> Option:
    return Option(
        flags=tuple(row.get("flags", ())),
        dest=row["param"],
        doc=row["doc"],
        takes=row.get("takes", "nothing"),
        value=row.get("value", True),
        metavar=row.get("metavar"),
        choices=tuple(row.get("choices", ())),
        names=row.get("names"),
        default=row.get("default"),
    )


def _arguments(kind: str, positional: Mapping[str, Any]) -> tuple[Argument, ...]:
    if not positional or kind == "none":
        return ()
    metavar = positional.get("metavar") or positional["param"].upper()
    optional = bool(positional.get("optional"))
    least = 0 if optional or kind == "many" else 1
    most = 1 if kind == "one" else None
    return (Argument(metavar, least, most, positional.get("names")),)


def _finished(own: Command) -> Command:
    return own._replace(arguments=own.arguments or (), options=(*own.options, *COMMON))


def _joined(base: Command, own: Command) -> Command:
    replaced = {flag for option in own.options for flag in option.flags}
    kept = tuple(option for option in base.options if not replaced & set(option.flags))
    return base._replace(
        doc=own.doc or base.doc,
        aliases=own.aliases or base.aliases,
        arguments=base.arguments if own.arguments is None else own.arguments,
        options=(*own.options, *kept),
        run=own.run,
        prepare=own.prepare,
        report=own.report,
        names_variable=own.names_variable,
    )

"""Runs a command that an operation declared, without any code of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ganeti.cli.errors import CommandError
from ganeti.cli.follow import Named, Sent, execute, execute_many, wait_many
from ganeti.cli.values import combine, readers

if TYPE_CHECKING:
    from ganeti.cli.declarations import Declared, Opcode
    from ganeti.cli.invocation import Invocation

_NOT_PARAMETERS = ("reason", "submit", "print_jobid", "priority", "dry_run", "debug")


def run_declared(invocation: Invocation) -> int:
    """Make the opcode of the options and arguments, ask if need be, submit and follow."""
    declared = _declared(invocation)
    if declared.kind == "many":
        return _run_many(invocation, declared, base_opcode(invocation))
    opcode = full_opcode(invocation)
    if declared.confirm is not None and not invocation.option("force"):
        invocation.require_yes(declared.confirm.format(**opcode))
    return submit_and_report(invocation, opcode)


def full_opcode(invocation: Invocation) -> Opcode:
    """The opcode of options and arguments, after the tool's own changes."""
    declared = _declared(invocation)
    opcode = base_opcode(invocation)
    if declared.positional is not None and invocation.arguments:
        opcode[declared.positional] = _argument(declared, invocation.arguments)
    return prepared(invocation, opcode)


def submit_and_report(invocation: Invocation, opcode: Opcode) -> int:
    """Run one opcode as a job and print what the command prints of its result."""
    try:
        result = execute(invocation, opcode)
    except Sent:
        return 0
    report = invocation.command.report or _report_jobs
    return 0 if invocation.option("dry_run") else report(invocation, opcode, result)


def _report_jobs(invocation: Invocation, opcode: Opcode, result: Any) -> int:
    """Follow the jobs that the operation asked for, if it did."""
    match result:
        case {"jobs": [*jobs]} if jobs:
            return wait_many(invocation, [(bool(ok), None, value) for ok, value in jobs])
    return 0


def base_opcode(invocation: Invocation) -> Opcode:
    """The opcode with what the options say; parameters not given are left to their defaults."""
    declared = _declared(invocation)
    opcode: dict[str, Any] = {"OP_ID": declared.op_id, **declared.fixed, **declared.defaults}
    for dest, value in invocation.options.items():
        if dest in _NOT_PARAMETERS or (dest == "force" and not declared.has_force):
            continue
        name, slash, part = dest.partition("/")
        if dest.startswith("switch:"):
            _switch(opcode, value)
        elif slash:
            opcode[name] = {**opcode.get(name, {}), part: value}
        elif not dest.startswith("_"):
            opcode[name] = value
    return opcode


def _switch(opcode: Opcode, sets: Mapping[str, Any]) -> None:
    """Set what a switch stands for; switches that give lists add up."""
    for name, value in sets.items():
        opcode[name] = [*opcode.get(name, ()), *value] if isinstance(value, list) else value


def prepared(invocation: Invocation, opcode: Opcode) -> Opcode:
    """The opcode after the tool's own changes."""
    prepare = invocation.command.prepare
    return opcode if prepare is None else prepare(invocation, opcode)


def _run_many(invocation: Invocation, declared: Declared, opcode: Opcode) -> int:
    assert declared.positional is not None
    if not invocation.arguments:
        raise CommandError(f"Error: Command {invocation.command.name} expects at least 1 argument(s)")
    names = list(dict.fromkeys(invocation.arguments))
    jobs = [Named(name, [prepared(invocation, {**opcode, declared.positional: name})]) for name in names]
    return execute_many(invocation, jobs, always_say=len(jobs) > 1)


def _argument(declared: Declared, arguments: tuple[str, ...]) -> Any:
    read = readers()[declared.takes]
    try:
        if declared.kind == "list":
            return combine(declared.takes, [read(argument) for argument in arguments])
        return read(arguments[0])
    except ValueError as error:
        raise CommandError(f"Error: {error}") from None


def _declared(invocation: Invocation) -> Declared:
    declared = invocation.command.declared
    assert declared is not None, f"{invocation.command.name} is not declared by an operation"
    return declared

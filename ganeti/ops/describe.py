"""What the command line tools need to know of the operations, as plain data.

The tools start faster without the typed declarations, so these are turned into one JSON file for each
tool when the project is built: `python -m ganeti.ops.describe --write`. A test compares the files with
the declarations.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

import ganeti
from ganeti.errors import ProgrammerError
from ganeti.ops.base import Command, Operation, Param, parameters
from ganeti.ops.kinds import Kind
from ganeti.ops.registry import Registry, load

DECLARED = Path(ganeti.__path__[0]) / "cli" / "declared"
"""Where the files lie."""

_PLAIN = Kind()
_SCALARS: Mapping[type[inspect.Type], str] = {
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.StrType: "text",
}
_LISTS = (inspect.VarTupleType, inspect.ListType, inspect.SetType, inspect.FrozenSetType)

_POLICY_PARTS = (
    ("minmax", "bounds-specs", "policy_bounds", "MIN-AND-MAX", "smallest and largest instances allowed"),
    ("std", "std-specs", "policy_spec", "KEY=VALUE,...", "size of the standard instance"),
    ("disk-templates", "disk-templates", "comma_list", "TEMPLATE,...", "disk templates allowed"),
    ("vcpu-ratio", "vcpu-ratio", "maybe_number", "NUMBER|default", "virtual processors for each real one"),
    ("spindle-ratio", "spindle-ratio", "maybe_number", "NUMBER|default", "spindles in use for each real one"),
)


class OptionText(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One option of a command, or its positional parameter."""

    param: str
    doc: str
    flags: tuple[str, ...] = ()
    takes: str = "nothing"
    """Reader in `ganeti.cli.values`; `nothing`: a switch."""
    value: Any = True
    """What the switch sets; a mapping for `switch:NAME`, which stands for no single parameter."""
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    names: str | None = None
    default: Any = None
    optional: bool = False
    """The opcode has a default."""


class CommandText(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sub-command."""

    name: str
    doc: str
    op_id: str
    arguments: str
    aliases: tuple[str, ...] = ()
    positional: OptionText | None = None
    fixed: Mapping[str, Any] = {}
    defaults: Mapping[str, Any] = {}
    confirm: str | None = None
    options: tuple[OptionText, ...] = ()


def describe(registry: Registry) -> dict[str, tuple[CommandText, ...]]:
    """The commands of each tool, sorted by name.

    Raises:
        ProgrammerError: a declaration from which no option can be made, naming the parameter.
    """
    tools: dict[str, dict[str, CommandText]] = {}
    for operation in registry:
        for command in operation.commands:
            commands = tools.setdefault(command.tool, {})
            if command.name in commands:
                raise ProgrammerError(f"{command.tool} {command.name} is declared by two operations")
            commands[command.name] = describe_command(operation, command)
    return {tool: tuple(commands[name] for name in sorted(commands)) for tool, commands in tools.items()}


def describe_command(operation: type[Operation[Any, Any, Any]], command: Command) -> CommandText:
    """One command with its options."""
    opcode = operation.opcode
    types = {field.name: field.type for field in _struct_fields(opcode)}
    positional = None
    options: list[OptionText] = []
    for field, param in parameters(opcode):
        if param is None or field.name in command.hidden:
            continue
        described = tuple(_options(opcode.op_id(), field.name, types[field.name], param, field))
        if field.name == command.positional:
            positional = described[0]
        else:
            options += [option for option in described if option.flags]
    options += [
        OptionText(param=f"switch:{flag}", doc=_sets(values), flags=(f"--{flag}",), value=dict(values))
        for flag, values in command.switches.items()
    ]
    return CommandText(
        name=command.name,
        doc=(opcode.__doc__ or "").strip().split("\n")[0],
        op_id=opcode.op_id(),
        arguments=command.arguments.value,
        aliases=command.aliases,
        positional=positional,
        fixed=command.fixed,
        defaults=command.defaults,
        confirm=command.confirm,
        options=tuple(options),
    )


def _sets(values: Mapping[str, Any]) -> str:
    return "set " + ", ".join(f"{name} to {json.dumps(value)}" for name, value in values.items())


def _struct_fields(opcode: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    described = inspect.type_info(opcode)
    assert isinstance(described, inspect.StructType)
    return described.fields


def _options(
    op_id: str, name: str, declared: inspect.Type, param: Param, field: msgspec.structs.FieldInfo
) -> Iterator[OptionText]:
    kind = param.kind or _PLAIN
    if kind.syntax == "ipolicy":
        yield from _policy_options(name)
        return
    plain = _without_none(declared)
    default = None if field.default is msgspec.NODEFAULT else field.default
    flags = (*([f"-{param.short}"] if param.short else []), *([f"--{param.flag}"] if param.flag else []))
    if isinstance(plain, inspect.BoolType) and kind.syntax == "text":
        yield _switch(op_id, name, param, flags, default=default)
        return
    metavar = kind.placeholder or (param.flag or name).replace("_", "-").upper()
    yield OptionText(
        param=name,
        doc=param.doc,
        flags=flags,
        takes=_reader(op_id, name, plain, kind),
        metavar=metavar,
        choices=_choices(plain),
        names=kind.names,
        default=msgspec.to_builtins(default) if isinstance(default, (str, int, float)) else None,
        optional=not field.required,
    )


def _switch(op_id: str, name: str, param: Param, flags: tuple[str, ...], *, default: object) -> OptionText:
    # `--no-locks` of a parameter called no_locks sets it; of a parameter called `locks` it clears it.
    clears = (param.flag or "").startswith(("no-", "non-")) and not name.startswith("no_")
    if default is True and flags and not clears and not name.startswith("no_"):
        raise ProgrammerError(
            f"{op_id}: {name} is true by default, so its switch must be called no-... or take yes or no"
        )
    return OptionText(param=name, doc=param.doc, flags=flags, value=not clears, optional=True)


def _policy_options(name: str) -> Iterator[OptionText]:
    for key, flag, reader, metavar, doc in _POLICY_PARTS:
        yield OptionText(
            param=f"{name}/{key}",
            doc=f"instance policy: {doc}",
            flags=(f"--ipolicy-{flag}",),
            takes=reader,
            metavar=metavar,
            optional=True,
        )


def _without_none(declared: inspect.Type) -> inspect.Type:
    if isinstance(declared, inspect.Metadata):
        return _without_none(declared.type)
    if isinstance(declared, inspect.UnionType):
        others = [member for member in declared.types if not isinstance(member, inspect.NoneType)]
        if len(others) == 1:
            return _without_none(others[0])
    return declared


def _choices(plain: inspect.Type) -> tuple[str, ...]:
    if isinstance(plain, _LISTS):
        plain = _without_none(plain.item_type)
    if isinstance(plain, inspect.LiteralType):
        return tuple(str(value) for value in plain.values)
    if isinstance(plain, inspect.EnumType):
        return tuple(str(member.value) for member in plain.cls)
    return ()


def _reader(op_id: str, name: str, plain: inspect.Type, kind: Kind) -> str:
    if kind.syntax == "number":
        return "integer" if isinstance(plain, inspect.IntType) else "number"
    if kind.syntax != "text":
        return kind.syntax
    if isinstance(plain, (inspect.LiteralType, inspect.EnumType)):
        return "text"
    if isinstance(plain, _LISTS):
        return "comma_list"
    if isinstance(plain, inspect.DictType):
        return "key_values"
    for cls, reader in _SCALARS.items():
        if isinstance(plain, cls):
            return reader
    if isinstance(plain, inspect.UnionType):
        return "text"
    raise ProgrammerError(f"{op_id}: no way to write {name} on a command line; give its Param a kind")


def as_json(tool: str, commands: tuple[CommandText, ...]) -> str:
    """Content of the file of one tool."""
    value = {"tool": tool, "commands": msgspec.to_builtins(commands)}
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def stale(registry: Registry, directory: Path = DECLARED) -> dict[Path, str]:
    """Files that differ from the declarations, with the content they should have."""
    wanted = {
        directory / f"{tool}.json": as_json(tool, commands) for tool, commands in describe(registry).items()
    }
    return {
        path: text for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text
    }


def main(arguments: list[str]) -> int:
    """`--write` brings the files up to date; without it tells which are not (exit code 1)."""
    outdated = stale(load())
    for path, text in outdated.items():
        if "--write" in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        print(f"{'written' if '--write' in arguments else 'out of date'}: {path.name}")
    return 1 if outdated and "--write" not in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

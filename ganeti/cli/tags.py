"""Tags of whatever a tool works on: `add-tags`, `remove-tags`, `list-tags`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ganeti.cli.declarations import Argument, Command, Option
from ganeti.cli.errors import CommandError, MasterError
from ganeti.cli.generic import submit_and_report

if TYPE_CHECKING:
    from ganeti.cli.invocation import Invocation

FROM = Option(
    ("--from",), "_from", "file with tags, one on each line; - for standard input", "text", metavar="FILE"
)


def tag_commands(kind: str, name: str | None = None) -> tuple[Command, ...]:
    """The three commands for a kind of object; the cluster needs no name.

    Args:
        kind: as requests call it.
        name: as people call it; None: the same.
    """
    name = name or kind
    target = () if kind == "cluster" else (Argument(name.upper(), names=name),)
    tags = Argument("TAG", 0, None)
    return (
        Command("add-tags", arguments=(*target, tags), options=(FROM,), run=_change),
        Command("remove-tags", arguments=(*target, tags), options=(FROM,), run=_change),
        Command("list-tags", arguments=target, run=lambda invocation: _list(invocation, kind)),
    )


def _change(invocation: Invocation) -> int:
    declared = invocation.command.declared
    assert declared is not None
    kind = declared.fixed["kind"]
    arguments = list(invocation.arguments)
    name = None if kind == "cluster" else arguments.pop(0)
    tags = [*arguments, *_from_file(invocation)]
    if not tags:
        raise MasterError("OpPrereqError", ["No tags to be added or removed were given", "wrong_input"])
    opcode = {"OP_ID": declared.op_id, "kind": kind, "name": name, "tags": tags}
    return submit_and_report(invocation, opcode)


def _from_file(invocation: Invocation) -> list[str]:
    path = invocation.option("_from")
    if path is None:
        return []
    try:
        if path == "-":
            text = sys.stdin.read()
        else:
            with open(path, encoding="utf-8") as file:
                text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read the tags in {path}: {error}") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _list(invocation: Invocation, kind: str) -> int:
    name = invocation.arguments[0] if invocation.arguments else None
    for tag in sorted(invocation.master.call("QueryTags", [kind, name])):
        invocation.print(tag)
    return 0


def search(invocation: Invocation) -> int:
    """Print path and tag of every tag that matches; exit code 1 if none does."""
    from ganeti.cli.follow import quiet

    assert invocation.command.declared is not None
    opcode = {"OP_ID": invocation.command.declared.op_id, "pattern": invocation.arguments[0]}
    rows = sorted((path, tag) for path, tag in quiet(invocation, opcode))
    for path, tag in rows:
        invocation.print(f"{path} {tag}")
    return 0 if rows else 1

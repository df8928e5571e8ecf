"""Which instances startup, shutdown and reboot act on: by name, node, group, tag, or all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ganeti.cli.declarations import Argument, Option
from ganeti.cli.errors import CommandError, MasterError

if TYPE_CHECKING:
    from ganeti.cli.invocation import Invocation

Row = Mapping[str, Any]

_MODES = (
    ("instance", "the arguments are instances (this is the default)"),
    ("node", "the arguments are nodes; their primary and secondary instances"),
    ("primary", "the arguments are nodes; their primary instances"),
    ("secondary", "the arguments are nodes; their secondary instances"),
    ("node-group", "the arguments are node groups"),
    ("all", "all instances"),
    ("tags", "the arguments are tags of instances"),
    ("node-tags", "the arguments are tags of primary or secondary nodes"),
    ("pri-node-tags", "the arguments are tags of primary nodes"),
    ("sec-node-tags", "the arguments are tags of secondary nodes"),
)
OPTIONS = (
    *(Option((f"--{name}",), "_select", doc, value=name) for name, doc in _MODES),
    Option(("--force-multiple",), "_force_multiple", "do not ask when several instances are affected"),
)
ARGUMENTS = (Argument("NAME", 0, None, "instance"),)

_NOTHING_GIVEN = {
    "instance": "instance names",
    "node": "node names",
    "primary": "node names",
    "secondary": "node names",
    "node-group": "group names",
    "tags": "instance tags",
    "node-tags": "node tags",
    "pri-node-tags": "node tags",
    "sec-node-tags": "node tags",
}
_SHOWN_AT_ONCE = 20


def select(invocation: Invocation) -> list[str]:
    """Full names of the instances meant, asked about where more than one named instance is affected.

    Raises:
        MasterError: nothing was named, a name does not exist, or nothing matches.
        CommandError: silently, if the operator says no; or there is no instance at all.
    """
    mode = invocation.option("_select", "instance")
    arguments = list(dict.fromkeys(invocation.arguments))
    if mode == "all" and arguments:
        raise CommandError("Error: with --all no arguments may be given")
    if mode != "all" and not arguments:
        raise _wrong(f"No {_NOTHING_GIVEN[mode]} passed")
    names = _named(invocation, arguments) if mode == "instance" else _matching(invocation, mode, arguments)
    if not names and mode == "all":
        verb = invocation.command.name
        raise CommandError(f"Cluster is empty, no instances to {verb}", code=0)
    if not names:
        raise _wrong("No instance matches; nothing was done")
    if (mode != "instance" or len(names) > 1) and not invocation.option("_force_multiple"):
        confirm_names(invocation, invocation.command.name, names)
    return names


def _wrong(text: str) -> MasterError:
    return MasterError("OpPrereqError", [text, "wrong_input"])


def _named(invocation: Invocation, names: Sequence[str]) -> list[str]:
    tests: list[Any] = [["==", "name", name] for name in names]
    wanted = tests[0] if len(tests) == 1 else ["|", *tests]
    rows = invocation.master.call("Query", ["instance", ["name"], wanted])["data"]
    return list(dict.fromkeys(row[0][1] for row in rows))


def _matching(invocation: Invocation, mode: str, arguments: Sequence[str]) -> list[str]:
    fields = ["name", "pnode", "snodes", "tags", "pnode.group", "pnode.group.uuid"]
    rows = [
        {field: cell[1] for field, cell in zip(fields, row)}
        for row in invocation.master.call("Query", ["instance", fields, None])["data"]
    ]
    test = _test(invocation, mode, arguments)
    return [row["name"] for row in rows if test(row)]


def _test(invocation: Invocation, mode: str, arguments: Sequence[str]) -> Callable[[Row], bool]:
    wanted = set(arguments)
    match mode:
        case "all":
            return lambda row: True
        case "tags":
            return lambda row: not wanted.isdisjoint(row["tags"])
        case "node-group":
            return lambda row: row["pnode.group"] in wanted or row["pnode.group.uuid"] in wanted
    nodes = _nodes(invocation, arguments, by_tag=mode.endswith("tags"))
    match mode:
        case "primary" | "pri-node-tags":
            return lambda row: row["pnode"] in nodes
        case "secondary" | "sec-node-tags":
            return lambda row: not nodes.isdisjoint(row["snodes"])
    return lambda row: row["pnode"] in nodes or not nodes.isdisjoint(row["snodes"])


def _nodes(invocation: Invocation, arguments: Sequence[str], *, by_tag: bool) -> set[str]:
    if by_tag:
        wanted: list[Any] = ["|", *(["=[]", "tags", tag] for tag in arguments)]
    else:
        wanted = ["|", *(["==", "name", name] for name in arguments)]
    rows = invocation.master.call("Query", ["node", ["name"], wanted])["data"]
    return {row[0][1] for row in rows}


def confirm_names(
    invocation: Invocation, verb: str, names: Sequence[str], *, noun: str = "instances", extra: str = ""
) -> None:
    """Ask whether to act on these; above 20 names they are only shown on request.

    Raises:
        CommandError: silently, if the operator says no.
    """
    listed = "\n".join([f"Affected {noun}:", *(f"  {name}" for name in names)])
    lines = [f"The {verb} will operate on {len(names)} {noun}."]
    question = "\n".join([*lines, *([extra] if extra else []), "Do you want to continue?"])
    yes, no = ("y", "Yes, go on"), ("n", "No, leave everything as it is")
    if len(names) <= _SHOWN_AT_ONCE:
        answer = invocation.world.ask(f"{question}\n{listed}", (yes, no))
    else:
        answer = invocation.world.ask(question, (yes, ("v", f"View the list of {noun}"), no))
        if answer == "v":
            answer = invocation.world.ask(f"{question}\n{listed}", (yes, no))
    if answer != "y":
        raise CommandError("")

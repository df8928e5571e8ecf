"""gnt-os: OS definitions on all nodes, and what the cluster says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ganeti.cli.declarations import DRY_RUN, JOB, PRIORITY, Argument, Command, Opcode, Option
from ganeti.cli.errors import CommandError
from ganeti.cli.lists import NO_HEADERS, OUTPUT

if TYPE_CHECKING:
    from ganeti.cli.invocation import Invocation

_FIELDS = (
    "name",
    "valid",
    "hidden",
    "blacklisted",
    "variants",
    "api_versions",
    "parameters",
    "node_status",
    "trusted",
    "os_hvp",
    "osparams",
)


def _rows(invocation: Invocation, names: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    from ganeti.cli.follow import quiet

    opcode: Opcode = {"OP_ID": "OP_OS_DIAGNOSE", "output_fields": list(_FIELDS), "names": list(names)}
    return [dict(zip(_FIELDS, row)) for row in quiet(invocation, opcode)]


def _rows_of_groups(invocation: Invocation, groups: list[str]) -> list[list[dict[str, Any]]]:
    """The definitions of each group, found by a job of its own; all of them at the same time."""
    from ganeti.cli.follow import wait

    opcodes: list[Opcode] = [
        {"OP_ID": "OP_OS_DIAGNOSE", "output_fields": list(_FIELDS), "names": [], "group_name": group}
        for group in groups
    ]
    answers = invocation.submit("SubmitManyJobs", [[[invocation.complete(one)] for one in opcodes]])
    found = []
    for group, (ok, value) in zip(groups, answers):
        if not ok:
            raise CommandError(f"Failed to submit job for group {group}: {value}")
        (rows,) = wait(invocation, value)
        found.append([dict(zip(_FIELDS, row)) for row in rows])
    return found


def usable_names(row: dict[str, Any]) -> list[str]:
    """Names under which an OS can be installed: with each variant, or bare if there are none."""
    if not row["valid"] or row["hidden"] or row["blacklisted"]:
        return []
    return [f"{row['name']}+{variant}" for variant in row["variants"] or ()] or [row["name"]]


def _list(invocation: Invocation) -> int:
    from ganeti.cli.lists import wants_json

    names = [name for row in _rows(invocation) for name in usable_names(row)]
    if wants_json(invocation):
        import json

        invocation.print(json.dumps([{"name": name} for name in names], indent=1))
        return 0
    for line in [*([] if invocation.option("no_headers") else ["Name"]), *names]:
        invocation.print(line)
    return 0


def _info(invocation: Invocation) -> int:
    from ganeti.cli.os_info import describe, describe_settings

    rows = {row["name"]: row for row in _rows(invocation)}
    for name in invocation.arguments or tuple(rows):
        row = rows.get(name)
        if row is not None:
            lines = describe(row)
        else:
            lines = describe_settings(name, rows.get(name.partition("+")[0]))
        for line in [*lines, ""]:
            invocation.print(line)
    return 0


def _diagnose(invocation: Invocation) -> int:
    from ganeti.cli.os_info import diagnosis, is_valid_everywhere

    nodes, groups = _nodes(invocation)
    found = _rows_of_groups(invocation, groups)
    for group, rows in zip(groups, found):
        if len(groups) > 1:
            invocation.print(f"Node group: {group}")
        for row in rows:
            for line in [*diagnosis(row, nodes), ""]:
                invocation.print(line)
    return 0 if all(is_valid_everywhere(row, nodes) for rows in found for row in rows) else 1


def _nodes(invocation: Invocation) -> tuple[dict[str, str], list[str]]:
    """Names of the nodes looked at by UUID, and of their groups."""
    group = invocation.option("_group")
    wanted = None if group is None else ["|", ["==", "group", group], ["==", "group.uuid", group]]
    rows = invocation.master.call("Query", ["node", ["uuid", "name", "group"], wanted])["data"]
    if group is not None and not rows:
        raise CommandError(f"Node group '{group}' does not exist or has no nodes")
    nodes = {row[0][1]: row[1][1] for row in rows}
    return nodes, sorted({row[2][1] for row in rows})


def _modify(invocation: Invocation) -> int:
    from ganeti.cli.generic import submit_and_report

    name = invocation.arguments[0]
    opcode: Opcode = {"OP_ID": "OP_CLUSTER_SET_PARAMS"}
    for dest, parameter in (
        ("_hvparams", "os_hvp"),
        ("_osparams", "osparams"),
        ("_private", "osparams_private_cluster"),
    ):
        if dest in invocation.options:
            opcode[parameter] = {name: invocation.options[dest]}
    for dest, parameter in (("_hidden", "hidden_os"), ("_blacklisted", "blacklisted_os")):
        if dest in invocation.options:
            opcode[parameter] = [["add" if invocation.options[dest] else "remove", name]]
    if len(opcode) == 1:
        raise CommandError("Please give at least one of the parameters.")
    return submit_and_report(invocation, opcode)


_OS = Argument("OS", names="os")

COMMANDS = (
    Command(
        "list",
        "List the OS definitions that can be installed.",
        arguments=(),
        options=(NO_HEADERS, OUTPUT, PRIORITY),
        run=_list,
    ),
    Command(
        "info",
        "Show OS definitions and what the cluster says of them.",
        aliases=("show",),
        arguments=(_OS._replace(least=0, most=None),),
        options=(PRIORITY,),
        run=_info,
    ),
    Command(
        "diagnose",
        "Show on which nodes OS definitions are usable, and why not.",
        arguments=(),
        options=(
            Option(("-g", "--node-group"), "_group", "only nodes of this group", "text", metavar="GROUP"),
            PRIORITY,
        ),
        run=_diagnose,
    ),
    Command(
        "modify",
        "Set parameters of an OS for the whole cluster, hide it or forbid it.",
        arguments=(_OS,),
        options=(
            Option(
                ("-H", "--hypervisor-parameters"),
                "_hvparams",
                "hypervisor parameters for this OS",
                "named_key_values",
                metavar="HV:KEY=VALUE,...",
            ),
            Option(
                ("-O", "--os-parameters"),
                "_osparams",
                "parameters of the OS; -KEY takes one away",
                "key_values",
                metavar="KEY=VALUE,...",
            ),
            Option(
                ("--os-parameters-private",),
                "_private",
                "the same, kept out of logs",
                "key_values",
                metavar="KEY=VALUE,...",
            ),
            Option(("--hidden",), "_hidden", "lists do not show it", "yes_no", metavar="yes|no"),
            Option(("--blacklisted",), "_blacklisted", "not to be installed", "yes_no", metavar="yes|no"),
            *JOB,
            DRY_RUN,
        ),
        run=_modify,
    ),
)

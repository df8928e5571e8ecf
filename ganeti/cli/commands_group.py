"""gnt-group: what it does beyond the declarations of operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ganeti.cli.declarations import TO, Argument, Command, Opcode, Option
from ganeti.cli.lists import OUTPUT, ListKind, list_commands
from ganeti.cli.tags import tag_commands

if TYPE_CHECKING:
    from ganeti.cli.invocation import Invocation


def _pairs(values: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items())) or "(empty)"


LIST = ListKind(
    resource="group",
    defaults=("name", "node_cnt", "pinst_cnt", "alloc_policy", "ndparams"),
    joined=("node_list", "pinst_list"),
    formats={"ndparams": _pairs},
)

_INFO_FIELDS = (
    "name",
    "ndparams",
    "custom_ndparams",
    "diskparams",
    "custom_diskparams",
    "ipolicy",
    "capacity_params",
    "custom_capacity_params",
)


def _info(invocation: Invocation) -> int:
    from ganeti.cli.filters import from_arguments
    from ganeti.cli.info import text_of
    from ganeti.cli.lists import wants_json

    wanted = from_arguments(invocation.arguments, "name", force=False)
    rows = invocation.master.call("Query", ["group", list(_INFO_FIELDS), wanted])["data"]
    groups = [dict(zip(_INFO_FIELDS, (value for _, value in row))) for row in rows]
    if wants_json(invocation):
        import json

        invocation.print(json.dumps(groups, indent=1))
    else:
        invocation.world.out.write(text_of([describe(group) for group in groups]))
    return 0


def describe(group: dict[str, Any]) -> Any:
    """Everything about one group."""
    from ganeti.cli.cluster_info import policy
    from ganeti.cli.info import Pairs, with_defaults

    own = group["custom_diskparams"] or {}
    diskparams = {
        template: with_defaults(own.get(template, {}), values)
        for template, values in (group["diskparams"] or {}).items()
    }
    return Pairs(
        [
            ("Node group", group["name"]),
            ("Node parameters", with_defaults(group["custom_ndparams"] or {}, group["ndparams"] or {})),
            ("Disk parameters", diskparams),
            ("Instance policy", policy(group["ipolicy"])),
            (
                "Capacity parameters",
                with_defaults(group["custom_capacity_params"] or {}, group["capacity_params"] or {}),
            ),
        ]
    )


def _rename(invocation: Invocation) -> int:
    from ganeti.cli.generic import base_opcode, submit_and_report

    old, new = invocation.arguments
    return submit_and_report(invocation, {**base_opcode(invocation), "group_name": old, "new_name": new})


def _assign(invocation: Invocation) -> int:
    from ganeti.cli.generic import base_opcode, submit_and_report

    group, *nodes = invocation.arguments
    return submit_and_report(invocation, {**base_opcode(invocation), "group_name": group, "nodes": nodes})


def _report_modify(invocation: Invocation, opcode: Opcode, result: Any) -> int:
    from ganeti.cli.commands_instance import print_changes

    print_changes(invocation, f"group {opcode['group_name']}", result)
    return 0


def _evacuate(invocation: Invocation) -> int:
    from ganeti.cli.moves import evacuate_group

    return evacuate_group(invocation)


def _verify_disks(invocation: Invocation) -> int:
    from ganeti.cli.verify_disks import verify_group_disks

    return verify_group_disks(invocation)


_DRAIN = (
    Option(("--watch",), "_watch", "come back to the last drain of the group, and watch it to its end"),
    Option(("--cancel",), "_cancel", "cancel the moves of the last drain of the group that have not begun"),
)

COMMANDS = (
    *list_commands(LIST, "group"),
    *tag_commands("nodegroup", "group"),
    Command(
        "assign-nodes",
        arguments=(Argument("GROUP", names="group"), Argument("NODE", 1, None, "node")),
        run=_assign,
    ),
    Command("evacuate", arguments=(Argument("GROUP", names="group"),), options=(TO, *_DRAIN), run=_evacuate),
    Command("verify-disks", run=_verify_disks),
    Command("modify", report=_report_modify),
    Command("rename", arguments=(Argument("OLD-NAME", names="group"), Argument("NEW-NAME")), run=_rename),
    Command(
        "info",
        "Show everything about node groups.",
        aliases=("show",),
        arguments=(Argument("GROUP", 0, None, "group"),),
        options=(OUTPUT,),
        run=_info,
    ),
)

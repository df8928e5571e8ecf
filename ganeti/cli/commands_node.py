"""gnt-node: what it does beyond the declarations of operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ganeti.cli.declarations import FORCE, PRIORITY, Argument, Command, Opcode, Option
from ganeti.cli.errors import CommandError
from ganeti.cli.lists import OUTPUT, ListKind, list_commands, run_list
from ganeti.cli.tags import tag_commands

if TYPE_CHECKING:
    from ganeti.cli.filters import Filter
    from ganeti.cli.invocation import Invocation

LIST = ListKind(
    resource="node",
    is_live=True,
    defaults=("name", "dtotal", "dfree", "mtotal", "mnode", "mfree", "pinst_cnt", "sinst_cnt"),
    joined=("pinst_list", "sinst_list", "tags"),
)

_GROUP = Option(
    ("-g", "--node-group"), "_group", "only nodes of this group", "text", metavar="GROUP", names="group"
)
_INTO_GROUP = Option(
    ("-g", "--node-group"), "_group", "put the node into this group", "text", metavar="GROUP", names="group"
)
_INFO_FIELDS = (
    "name",
    "pip",
    "sip",
    "master_candidate",
    "drained",
    "offline",
    "powered",
    "master_capable",
    "vm_capable",
    "pinst_list",
    "sinst_list",
    "ndparams",
    "custom_ndparams",
)
_NOT_A_CHANGE = frozenset(("OP_ID", "node_name", "force", "auto_promote", "powered"))
_POWERCYCLE_DECLINED = 2


def _in_group(invocation: Invocation) -> Filter | None:
    group = invocation.option("_group")
    return None if group is None else ["|", ["==", "group", group], ["==", "group.uuid", group]]


def _list(invocation: Invocation) -> int:
    return run_list(invocation, LIST, _in_group(invocation))


def _info(invocation: Invocation) -> int:
    from ganeti.cli.filters import from_arguments
    from ganeti.cli.info import text_of
    from ganeti.cli.lists import both, wants_json

    wanted = both(from_arguments(invocation.arguments, "name", force=False), _in_group(invocation))
    rows = invocation.master.call("Query", ["node", list(_INFO_FIELDS), wanted])["data"]
    nodes = [dict(zip(_INFO_FIELDS, (value for _, value in row))) for row in rows]
    if wants_json(invocation):
        import json

        invocation.print(json.dumps(nodes, indent=1))
    else:
        invocation.world.out.write(text_of([describe(node) for node in nodes]))
    return 0


def describe(node: dict[str, Any]) -> Any:
    """Everything about one node."""
    from ganeti.cli.info import Pairs, with_defaults

    pairs = Pairs(
        [
            ("Node name", node["name"]),
            ("primary ip", node["pip"]),
            ("secondary ip", node["sip"]),
            ("master candidate", node["master_candidate"]),
            ("drained", node["drained"]),
            ("offline", node["offline"]),
        ]
    )
    if node["powered"] is not None:
        pairs.append(("powered", node["powered"]))
    pairs += [("master_capable", node["master_capable"]), ("vm_capable", node["vm_capable"])]
    if node["vm_capable"]:
        pairs += [
            ("primary for instances", sorted(node["pinst_list"] or ())),
            ("secondary for instances", sorted(node["sinst_list"] or ())),
        ]
    parameters = with_defaults(node["custom_ndparams"] or {}, node["ndparams"] or {})
    return Pairs([*pairs, ("node parameters", parameters)])


def _prepare_modify(invocation: Invocation, opcode: Opcode) -> Opcode:
    if not set(opcode) - _NOT_A_CHANGE:
        raise CommandError("Please give at least one of the parameters.")
    if opcode.get("offline") is False and not invocation.option("force"):
        invocation.require_yes(
            f"A node that was offline may have an old configuration; 'gnt-node add --readd "
            f"{opcode['node_name']}' brings it back safely. Mark it online nevertheless?"
        )
    return opcode


def _modify(invocation: Invocation) -> int:
    """Change the node, and put it into another group: a job for each, the group first."""
    from ganeti.cli.follow import Sent, execute
    from ganeti.cli.generic import base_opcode, full_opcode, submit_and_report

    group = invocation.option("_group")
    if group is None:
        return submit_and_report(invocation, full_opcode(invocation))
    changes = set(base_opcode(invocation)) - _NOT_A_CHANGE
    opcode = full_opcode(invocation) if changes else None
    name = invocation.arguments[0]
    assign: Opcode = {"OP_ID": "OP_GROUP_ASSIGN_NODES", "group_name": group, "nodes": [name]}
    if invocation.option("force"):
        assign["force"] = True
    try:
        execute(invocation, assign)
        if not invocation.option("dry_run"):
            _report_modify(invocation, {"node_name": name}, [["group", group]])
    except Sent:
        pass
    return 0 if opcode is None else submit_and_report(invocation, opcode)


def _report_modify(invocation: Invocation, opcode: Opcode, result: Any) -> int:
    from ganeti.cli.commands_instance import print_changes

    print_changes(invocation, f"node {opcode['node_name']}", result)
    return 0


def _powercycle(invocation: Invocation) -> int:
    from ganeti.cli.generic import full_opcode, submit_and_report

    opcode = full_opcode(invocation)
    if not invocation.option("_yes"):
        question = f"Are you sure you want to hard powercycle node {opcode['node_name']}?"
        invocation.require_yes(question, code=_POWERCYCLE_DECLINED)
    return submit_and_report(invocation, opcode)


def _report_powercycle(invocation: Invocation, opcode: Opcode, result: Any) -> int:
    if result:
        invocation.print(str(result))
    return 0


def _add(invocation: Invocation) -> int:
    from ganeti.cli.node_add import add_node

    return add_node(invocation)


def _migrate(invocation: Invocation) -> int:
    from ganeti.cli.moves import migrate

    return migrate(invocation)


def _evacuate(invocation: Invocation) -> int:
    from ganeti.cli.moves import evacuate

    return evacuate(invocation)


def _failover(invocation: Invocation) -> int:
    from ganeti.cli.moves import failover

    return failover(invocation)


COMMANDS = (
    *(
        command._replace(run=_list) if command.name == "list" else command
        for command in list_commands(LIST, "node", _GROUP, names_variable="GNT_NODE_LIST")
    ),
    *tag_commands("node"),
    Command(
        "info",
        "Show everything about nodes.",
        aliases=("show",),
        arguments=(Argument("NODE", 0, None, "node"),),
        options=(_GROUP, OUTPUT),
        run=_info,
    ),
    Command(
        "add",
        options=(
            Option(("--no-ssh-key-check",), "_no_ssh_key_check", "do not check the host key of the node"),
            Option(("--force-join",), "_force_join", "take it although it belongs to another cluster"),
            Option(("--no-node-setup",), "_no_node_setup", "its credentials are there already"),
            Option(("-v", "--verbose"), "_verbose", "show what the set-up does"),
        ),
        run=_add,
    ),
    Command(
        "modify",
        options=(_INTO_GROUP,),
        prepare=_prepare_modify,
        report=_report_modify,
        run=_modify,
    ),
    Command(
        "migrate",
        arguments=(Argument("NODE", names="node"),),
        options=(FORCE,),
        run=_migrate,
    ),
    Command(
        "evacuate",
        arguments=(Argument("NODE", names="node"),),
        options=(
            FORCE,
            Option(("-p", "--primary-only"), "_primary_only", "only instances that run there"),
            Option(("-s", "--secondary-only"), "_secondary_only", "only instances that are mirrored there"),
        ),
        run=_evacuate,
    ),
    Command(
        "failover",
        "Stop the primary instances of a node and start them elsewhere.",
        arguments=(Argument("NODE", names="node"),),
        options=(
            FORCE,
            Option(
                ("--ignore-consistency",),
                "_ignore_consistency",
                "go on although disks look degraded or an instance cannot be stopped",
            ),
            Option(
                ("-I", "--iallocator"),
                "_iallocator",
                "allocator that chooses each target",
                "text",
                metavar="IALLOCATOR",
            ),
            PRIORITY,
        ),
        run=_failover,
    ),
    Command(
        "powercycle",
        options=(Option(("--yes",), "_yes", "do not ask"),),
        run=_powercycle,
        report=_report_powercycle,
    ),
)

"""gnt-instance: what it does beyond the declarations of operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ganeti.cli.declarations import PRIORITY, TO, Argument, Command, Opcode, Option
from ganeti.cli.errors import CommandError, MasterError
from ganeti.cli.lists import OUTPUT, ListKind, list_commands
from ganeti.cli.selection import ARGUMENTS, OPTIONS
from ganeti.cli.tags import tag_commands

if TYPE_CHECKING:
    from ganeti.cli.invocation import Invocation

LIST = ListKind(
    resource="instance",
    is_live=True,
    defaults=("name", "hypervisor", "os", "pnode", "status", "oper_ram"),
    joined=(
        "tags",
        "disk.sizes",
        "nic.macs",
        "nic.ips",
        "nic.modes",
        "nic.links",
        "nic.bridges",
        "nic.networks",
        "snodes",
        "snodes.group",
        "snodes.group.uuid",
    ),
)

_ADD_OPTIONS = (
    Option(("-s", "--os-size"), "_os_size", "one disk of this size", "size", metavar="SIZE"),
    Option(("--no-nics",), "_no_nics", "without network interfaces"),
    Option(("--no-name-check",), "_obsolete", "accepted without effect: names are not checked"),
    Option(("--no-ip-check",), "_obsolete", "accepted without effect: addresses are not checked"),
)
_NOT_A_CHANGE = frozenset(
    (
        "OP_ID",
        "instance_name",
        "force",
        "force_variant",
        "ignore_ipolicy",
        "wait_for_sync",
        "conflicts_check",
        "hotplug",
    )
)


def _run_selected(invocation: Invocation) -> int:
    """startup, shutdown, reboot: one job for each instance selected."""
    from ganeti.cli.follow import Named, execute_many
    from ganeti.cli.generic import base_opcode
    from ganeti.cli.selection import select

    names = select(invocation)
    opcode = base_opcode(invocation)
    jobs = [Named(name, [{**opcode, "instance_name": name}]) for name in names]
    return execute_many(invocation, jobs, always_say=len(jobs) > 1)


def _prepare_add(invocation: Invocation, opcode: Opcode) -> Opcode:
    """Hypervisor out of -H, both nodes out of -n, disks out of -s, one interface if none is given."""
    found = dict(opcode)
    hypervisors = found.pop("hvparams", None)
    if hypervisors is not None:
        if len(hypervisors) != 1 or not all(isinstance(v, dict) for v in hypervisors.values()):
            raise MasterError("ParameterError", ["option -H: exactly one hypervisor can be given"])
        (found["hypervisor"], found["hvparams"]), *_ = hypervisors.items()
    primary, colon, secondary = str(found.get("pnode", "")).partition(":")
    if primary:
        found["pnode"] = primary
    if colon:
        found["snode"] = secondary
    if found.get("no_install"):
        found["start"] = False
    return {**found, "disks": _new_disks(invocation, found), "nics": _new_nics(invocation, found)}


def _new_disks(invocation: Invocation, opcode: Opcode) -> list[Any]:
    size = invocation.option("_os_size")
    disks = opcode.get("disks")
    if opcode.get("disk_template") == "diskless":
        if disks or size is not None:
            raise _wrong("A diskless instance cannot have disks; leave --disk and -s out")
        return []
    if disks is not None and size is not None:
        raise _wrong("Either --disk or -s/--os-size can be given, not both")
    if disks is None and size is None:
        raise _wrong("No disk was given; write --disk 0:size=SIZE or -s SIZE, or -t diskless")
    return [{"size": size}] if disks is None else list(disks)


def _new_nics(invocation: Invocation, opcode: Opcode) -> list[Any]:
    nics = opcode.get("nics")
    if invocation.option("_no_nics"):
        if nics is not None:
            raise _wrong("Either --net or --no-nics can be given, not both")
        return []
    return [{}] if nics is None else list(nics)


def _wrong(text: str) -> MasterError:
    return MasterError("OpPrereqError", [text, "wrong_input"])


def _prepare_modify(invocation: Invocation, opcode: Opcode) -> Opcode:
    if not set(opcode) - _NOT_A_CHANGE:
        raise CommandError("Please give at least one of the parameters.")
    return opcode


def _report_modify(invocation: Invocation, opcode: Opcode, result: Any) -> int:
    print_changes(invocation, f"instance {opcode['instance_name']}", result)
    if result:
        invocation.print(
            "Please don't forget that most parameters take effect only at the next (re)start of the "
            "instance that is begun from here; a restart from inside the guest is not enough."
        )
        if opcode.get("hvparams"):
            invocation.print("Hypervisor parameters are also only read at such a start.")
    return 0


def print_changes(invocation: Invocation, what: str, changes: Any) -> None:
    """What a modification changed; nothing if it changed nothing worth mentioning."""
    if changes:
        invocation.print(f"Modified {what}")
        for parameter, value in changes:
            invocation.print(f" - {parameter:<5} -> {value}")


def _prepare_move(invocation: Invocation, opcode: Opcode) -> Opcode:
    """migrate and failover: a node or an allocator."""
    if opcode.get("target_node") and opcode.get("iallocator"):
        raise _wrong("Either a target node (-n) or an allocator (-I) can be given, not both")
    return opcode


def _prepare_failover(invocation: Invocation, opcode: Opcode) -> Opcode:
    found = _prepare_move(invocation, opcode)
    if found.get("ignore_consistency"):
        invocation.require_yes(
            f"To fail over {found['instance_name']} although its disks are degraded can lose data that "
            "was written last. Go on?"
        )
    return found


def _info(invocation: Invocation) -> int:
    from ganeti.cli.follow import quiet
    from ganeti.cli.info import text_of
    from ganeti.cli.instance_info import describe
    from ganeti.cli.lists import wants_json

    names, everything = list(invocation.arguments), bool(invocation.option("_all"))
    if bool(names) == everything:
        raise CommandError(
            "Either names of instances or --all must be given, not both; 'gnt-instance list' shows the names"
        )
    static = bool(invocation.option("static"))
    opcode: Opcode = {"OP_ID": "OP_INSTANCE_QUERY_DATA", "instances": names, "static": static}
    data = quiet(invocation, opcode)
    if not data:
        invocation.print("No instances.")
        return 1
    if wants_json(invocation):
        import json

        invocation.print(json.dumps(list(data.values()), indent=1))
    else:
        invocation.world.out.write(text_of([describe(instance) for instance in data.values()]))
    return 0


def _console(invocation: Invocation) -> int:
    from ganeti.cli.console import run_console

    return run_console(invocation)


_REPLACE_MODES = {
    "_on_primary": "replace_on_primary",
    "_on_secondary": "replace_on_secondary",
    "_auto": "replace_auto",
}


def _replace_disks(invocation: Invocation) -> int:
    from ganeti.cli.generic import full_opcode, submit_and_report

    return submit_and_report(invocation, full_opcode(invocation))


def _prepare_replace(invocation: Invocation, opcode: Opcode) -> Opcode:
    """Exactly one of -p, -s, -a, -n and -I says what is replaced."""
    found = dict(opcode)
    modes = [mode for option, mode in _REPLACE_MODES.items() if invocation.option(option)]
    modes += ["replace_new_secondary" for name in ("remote_node", "iallocator") if found.get(name)]
    if len(modes) != 1:
        raise _wrong("Exactly one of -p, -s, -a, -n NODE and -I ALLOCATOR must be given")
    disks = invocation.option("_disks")
    if disks is not None:
        try:
            found["disks"] = [int(index) for index in disks]
        except ValueError:
            raise _wrong("--disks takes indices joined by commas, such as 0,2") from None
    return {**found, "mode": modes[0]}


def _report_activate(invocation: Invocation, opcode: Opcode, result: Any) -> int:
    for node, name, path in result:
        invocation.print(f"{node}:{name}:{path}")
    return 0


def _change_group(invocation: Invocation) -> int:
    from ganeti.cli.moves import change_group

    return change_group(invocation)


def _batch_create(invocation: Invocation) -> int:
    from ganeti.cli.batch_create import batch_create

    return batch_create(invocation)


COMMANDS = (
    *list_commands(LIST, "instance", names_variable="GNT_INSTANCE_LIST"),
    *tag_commands("instance"),
    Command("add", options=_ADD_OPTIONS, prepare=_prepare_add),
    Command("batch-create", arguments=(Argument("FILE"),), run=_batch_create),
    Command("startup", arguments=ARGUMENTS, options=OPTIONS, run=_run_selected),
    Command("shutdown", arguments=ARGUMENTS, options=OPTIONS, run=_run_selected),
    Command("reboot", arguments=ARGUMENTS, options=OPTIONS, run=_run_selected),
    Command("modify", prepare=_prepare_modify, report=_report_modify),
    Command("migrate", prepare=_prepare_move),
    Command("failover", prepare=_prepare_failover),
    Command(
        "replace-disks",
        arguments=(Argument("INSTANCE", names="instance"),),
        options=(
            Option(("-p", "--on-primary"), "_on_primary", "new data on the primary node"),
            Option(("-s", "--on-secondary"), "_on_secondary", "new data on the secondary node"),
            Option(("-a", "--auto"), "_auto", "new data where it was lost"),
            Option(("--disks",), "_disks", "indices of the disks", "comma_list", metavar="N,..."),
        ),
        run=_replace_disks,
        prepare=_prepare_replace,
    ),
    Command("activate-disks", report=_report_activate),
    Command(
        "change-group",
        arguments=(Argument("INSTANCE", names="instance"),),
        options=(
            TO,
            Option(
                ("-n", "--node"),
                "_node",
                "nodes it goes to, in place of an allocator",
                "text",
                metavar="PRIMARY[:SECONDARY]",
                names="node",
            ),
        ),
        run=_change_group,
    ),
    Command(
        "info",
        arguments=(Argument("INSTANCE", 0, None, "instance"),),
        options=(Option(("--all",), "_all", "all instances"), OUTPUT, PRIORITY),
        run=_info,
    ),
    Command(
        "console",
        arguments=(Argument("INSTANCE", names="instance"),),
        options=(Option(("--show-cmd",), "_show_cmd", "print the command and do not run it"), PRIORITY),
        run=_console,
    ),
)

"""Moves instances off nodes and groups, where one operation asks for a job for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ganeti.cli.errors import CommandError
from ganeti.cli.follow import Named, Sent, execute, wait_all
from ganeti.cli.generic import full_opcode

if TYPE_CHECKING:
    from ganeti.cli.declarations import Opcode
    from ganeti.cli.invocation import Invocation

_MIGRATE_DECLINED = 13
_FAILOVER_DECLINED = 2


def migrate(invocation: Invocation) -> int:
    """Migrate every primary instance, after a question with their names."""
    opcode = full_opcode(invocation)
    opcode["node_name"], names = _primaries(invocation)
    if not names:
        invocation.print(f"No primary instances on node {opcode['node_name']}, exiting.")
        return 0
    if not invocation.option("force"):
        invocation.require_yes(f"Migrate instance(s) {', '.join(names)}?", code=_MIGRATE_DECLINED)
    return _follow(invocation, opcode, "All instances migrated successfully.", "node migration")


def evacuate(invocation: Invocation) -> int:
    """Empty a node as the allocator says, after a question with the names of the instances."""
    opcode = full_opcode(invocation)
    wants = (
        invocation.option("_primary_only"),
        invocation.option("_secondary_only") or "remote_node" in opcode,
    )
    match wants:
        case (True, True):
            raise CommandError("Only one of --primary-only and --secondary-only can be given")
        case (True, _):
            opcode["mode"] = "primary-only"
        case (_, True):
            opcode["mode"] = "secondary-only"
    node, primaries, secondaries = _instances(invocation)
    opcode["node_name"] = node
    names = sorted(
        {
            *(primaries if opcode["mode"] != "secondary-only" else ()),
            *(secondaries if opcode["mode"] != "primary-only" else ()),
        }
    )
    if not names:
        invocation.warn(f"No instances to evacuate on node(s) {node}, exiting.")
        return 0
    if not invocation.option("force"):
        question = f"Relocate instance(s) {', '.join(names)} from node(s) {node}?"
        invocation.require_yes(question, code=_MIGRATE_DECLINED)
    return _follow(invocation, opcode, "All instances evacuated successfully.", "evacuation")


def evacuate_group(invocation: Invocation) -> int:
    """Empty a group as the allocator says, or come back to that."""
    from ganeti.cli import drain

    opcode = _with_targets(invocation)
    group = opcode["group_name"]
    match drain.options_of(invocation, opcode):
        case "watch":
            return drain.come_back(invocation, group)
        case "cancel":
            return drain.cancel(invocation, group)
    try:
        result = execute(invocation, opcode)
    except Sent:
        return 0
    if invocation.option("dry_run"):
        return drain.print_plan(invocation, result)
    return drain.drain(invocation, result, group)


def change_group(invocation: Invocation) -> int:
    """Move an instance to another group."""
    opcode = _with_targets(invocation)
    nodes = invocation.option("_node")
    if nodes is not None:
        opcode["target_nodes"] = [name for name in nodes.split(":") if name]
    done = f"Instance '{opcode['instance_name']}' changed group successfully."
    if opcode.get("cleanup"):
        done = f"Instance '{opcode['instance_name']}' is in one group."
    return _follow(invocation, opcode, done, "group change")


def _with_targets(invocation: Invocation) -> Opcode:
    opcode = full_opcode(invocation)
    targets = invocation.option("_to")
    return {**opcode, "target_groups": list(targets)} if targets else opcode


def _follow(invocation: Invocation, opcode: Opcode, done: str, what: str) -> int:
    """Submit an operation that asks for jobs, wait for all of them, and tell how they ended."""
    try:
        result = execute(invocation, opcode)
    except Sent:
        return 0
    if invocation.option("dry_run"):
        return _print_plan(invocation, result)
    submitted = [(bool(ok), None, value) for ok, value in result["jobs"]]
    errors = sum(not ok for ok, _ in wait_all(invocation, submitted))
    if errors:
        invocation.print(f"There were {errors} errors during the {what}.")
        return 1
    invocation.print(done)
    return 0


def _print_plan(invocation: Invocation, result: Any) -> int:
    """What a dry run found, where it found something out."""
    from ganeti.cli.drain import print_plan

    return print_plan(invocation, result) if result else 0


def failover(invocation: Invocation) -> int:
    """Fail every primary instance over, a job for each; the exit code is 0 however they end."""
    node, names = _primaries(invocation)
    if not names:
        invocation.warn(f"No primary instances on node {node}, exiting.")
        return 0
    if not invocation.option("force"):
        listed = ",".join(f"'{name}'" for name in names)
        invocation.require_yes(f"Fail over instance(s) {listed}?", code=_FAILOVER_DECLINED)
    jobs = [Named(name, [_failover_of(invocation, name)]) for name in names]
    answers = invocation.submit(
        "SubmitManyJobs", [[[invocation.complete(opcode) for opcode in job.opcodes] for job in jobs]]
    )
    submitted = [(bool(ok), job.name, value) for (ok, value), job in zip(answers, jobs)]
    errors = sum(not ok for ok, _ in wait_all(invocation, submitted))
    if errors:
        invocation.print(
            f"There were errors during the failover:\n{errors} error(s) out of {len(names)} instance(s)."
        )
    else:
        invocation.print(f"All {len(names)} instance(s) failed over successfully.")
    return 0


def _failover_of(invocation: Invocation, name: str) -> Opcode:
    opcode: Opcode = {"OP_ID": "OP_INSTANCE_FAILOVER", "instance_name": name}
    for option, parameter in (("_ignore_consistency", "ignore_consistency"), ("_iallocator", "iallocator")):
        value = invocation.option(option)
        if value is not None:
            opcode[parameter] = value
    return opcode


def _primaries(invocation: Invocation) -> tuple[str, list[str]]:
    """Full name of the node that is the argument, and of its primary instances."""
    name, primaries, _ = _instances(invocation)
    return name, primaries


def _instances(invocation: Invocation) -> tuple[str, list[str], list[str]]:
    """Full name of the node that is the argument, and of its primary and secondary instances."""
    wanted = ["==", "name", invocation.arguments[0]]
    fields = ["name", "pinst_list", "sinst_list"]
    ((name, primary, secondary),) = invocation.master.call("Query", ["node", fields, wanted])["data"]
    return name[1], sorted(primary[1]), sorted(secondary[1])

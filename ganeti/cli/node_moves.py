"""Moves all instances of a node: `gnt-node migrate` and `gnt-node failover`."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    try:
        result = execute(invocation, opcode)
    except Sent:
        return 0
    if invocation.option("dry_run"):
        return 0
    submitted = [(bool(ok), None, value) for ok, value in result["jobs"]]
    errors = sum(not ok for ok, _ in wait_all(invocation, submitted))
    if errors:
        invocation.print(f"There were {errors} errors during the node migration.")
        return 1
    invocation.print("All instances migrated successfully.")
    return 0


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
    wanted = ["==", "name", invocation.arguments[0]]
    ((name, instances),) = invocation.master.call("Query", ["node", ["name", "pinst_list"], wanted])["data"]
    return name[1], sorted(instances[1])

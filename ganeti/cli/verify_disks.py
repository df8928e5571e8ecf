"""verify-disks of gnt-cluster and gnt-group: opens disks that ought to be open, lists missing ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ganeti.cli.errors import MasterError, explain
from ganeti.cli.follow import Sent, execute, wait
from ganeti.cli.generic import full_opcode

if TYPE_CHECKING:
    from ganeti.cli.invocation import Invocation


def verify_cluster_disks(invocation: Invocation) -> int:
    """Every group, or the one that was named; a job for each."""
    try:
        jobs = execute(invocation, full_opcode(invocation))["jobs"]
    except Sent:
        return 0
    results = []
    for ok, value in jobs:
        try:
            if not ok:
                raise MasterError("OpExecError", [str(value)])
            results.append(wait(invocation, value)[0])
        except MasterError as error:
            invocation.print(f"Job failed: {explain(error)[0]}")
    return _act(invocation, results)


def verify_group_disks(invocation: Invocation) -> int:
    """One group."""
    try:
        return _act(invocation, [execute(invocation, full_opcode(invocation))])
    except Sent:
        return 0


def _act(invocation: Invocation, results: Iterable[Sequence[Any]]) -> int:
    """Print what was found, and open what is closed, one instance after the other."""
    code = 0
    names = _NodeNames(invocation)
    for broken, to_activate, missing in results:
        for node, text in broken.items():
            invocation.print(f"Error gathering data on node {names[node]}: {text}")
            code = 1
        if broken:
            invocation.print("You need to fix these nodes first before fixing instances")
        if not to_activate and not missing:
            invocation.print("No disks need to be activated.")
        for name in to_activate:
            code = max(code, _activate(invocation, name))
        if missing:
            code = 1
            _print_missing(invocation, names, missing, broken)
    return code


def _activate(invocation: Invocation, name: str) -> int:
    invocation.print(f"Activating disks for instance '{name}'")
    invocation.flush()
    try:
        execute(invocation, {"OP_ID": "OP_INSTANCE_ACTIVATE_DISKS", "instance_name": name})
    except MasterError as error:
        invocation.warn(f"Error activating disks for instance {name}: {explain(error)[0]}")
        return 1
    return 0


def _print_missing(
    invocation: Invocation,
    names: _NodeNames,
    missing: Mapping[str, Sequence[Sequence[str]]],
    broken: Mapping[str, str],
) -> None:
    for instance, places in sorted(missing.items()):
        if all(node in broken for node, _ in places):
            invocation.print(f"Instance {instance} cannot be verified as it lives on broken nodes")
            continue
        invocation.print(f"Instance {instance} has missing logical volumes:")
        for node, volume in places:
            if node in broken:
                invocation.print(f"\tbroken node {names[node]} /dev/{volume}")
            else:
                invocation.print(f"\t{names[node]} /dev/{volume}")
    invocation.print(
        "You need to replace or recreate disks for all the above instances if this message persists after "
        "fixing broken nodes."
    )


class _NodeNames:
    """Names of nodes by UUID, asked for when the first one is needed."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._names: dict[str, str] | None = None

    def __getitem__(self, uuid: str) -> str:
        if self._names is None:
            rows = self._invocation.master.call("Query", ["node", ["uuid", "name"], None])["data"]
            self._names = {key[1]: name[1] for key, name in rows}
        return self._names.get(uuid, uuid)

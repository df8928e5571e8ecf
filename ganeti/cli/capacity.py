"""gnt-cluster capacity: how many more instances fit, as tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ganeti.cli.follow import Sent, execute
from ganeti.cli.generic import full_opcode
from ganeti.cli.lists import wants_json
from ganeti.cli.tables import Style, plain_table, timestamp
from ganeti.model.units import format_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ganeti.cli.invocation import Invocation

    Values = Mapping[str, Any]
    Tiers = Sequence[Sequence[int]]

_TITLES = ("Memory", "Disk", "VCPUs", "Count", "Available")
_RIGHT = (0, 1, 2, 3, 4)


def capacity(invocation: Invocation) -> int:
    """Ask, and print a table for each group and one for all."""
    opcode = {name: value for name, value in full_opcode(invocation).items() if name != "output"}
    try:
        result = execute(invocation, opcode)
    except Sent:
        return 0
    if result is None:  # dry run
        return 0
    if wants_json(invocation):
        import json

        invocation.print(json.dumps(result, indent=1))
        return 0
    names = _group_names(invocation)
    groups = result["node_groups"]
    for group in sorted(groups, key=lambda uuid: names.get(uuid, uuid)):
        _show_group(invocation, names.get(group, group), groups[group])
    _show(invocation, f"All {len(groups)} node groups" if len(groups) != 1 else "In total", result["cluster"])
    invocation.print(f"Counted {_age(result['ctime'])}")
    return 0


def _group_names(invocation: Invocation) -> dict[str, str]:
    rows = invocation.master.call("Query", ["group", ["uuid", "name"], None])["data"]
    return {uuid: name for (_, uuid), (_, name) in rows}


def _show_group(invocation: Invocation, name: str, found: Values) -> None:
    memory, disk, cpus = found["max_inst_spec"]
    invocation.print(
        f"Node group {name}: {found['default_template']} disks, up to {_size(memory)} of memory,"
        f" {_size(disk)} of disk and {cpus} processors; {found['max_cpu_ratio']:g} virtual processors"
        f" for each physical one, {found['max_disk_usage']:.0%} of the disk space"
    )
    _show(invocation, None, found["tspecs"])
    if found.get("failure_reason"):
        invocation.print(f"  no more because of: {found['failure_reason']}")


def _show(invocation: Invocation, title: str | None, tiers: Tiers) -> None:
    if title is not None:
        invocation.print(f"{title}:")
    if not tiers:
        invocation.print("  no instance fits")
        return
    rows = [
        (_size(memory), _size(disk), str(cpus), str(count), str(available(tiers, (memory, disk, cpus))))
        for memory, disk, cpus, count in tiers
    ]
    for line in plain_table(_TITLES, rows, Style(), right=_RIGHT):
        invocation.print(f"  {line}")


def available(tiers: Tiers, spec: Sequence[int]) -> int:
    """How many of a size fit: those counted for it, and one in place of each larger one (S2.3-093)."""
    return sum(
        count for *size, count in tiers if all(has >= wants for has, wants in zip(size, spec, strict=True))
    )


def _size(mib: int) -> str:
    return format_size(mib, "h")


def _age(ctime: float) -> str:
    seconds = max(0, int(time.time() - ctime))
    return f"{seconds} s ago ({timestamp(ctime)})"

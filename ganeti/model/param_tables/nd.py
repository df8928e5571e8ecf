"""Node parameters, and what is recorded by hand of a node's hypervisor and disks."""

from __future__ import annotations

from ganeti.model.param_tables.rows import absolute_path_or_empty, flag, maybe_text, number, text
from ganeti.model.params import ParamSpec, ParamTable, ParamType, ParamValue


def _positive(value: ParamValue) -> str | None:
    assert isinstance(value, float)
    return None if value > 0 else "must be larger than 0"


NODE = ParamTable(
    "a node",
    (
        text("oob_program", "", "program for out-of-band control of its power", absolute_path_or_empty),
        number("spindle_count", 1, "number of disks that can work at the same time", at_least=1),
        flag("exclusive_storage", False, "instances do not share physical volumes"),
        flag("ovs", False, "Open vSwitch is set up on it"),
        maybe_text("ovs_name", "switch1", "name of the Open vSwitch"),
        maybe_text("ovs_link", "", "network device that connects the switch to the outside"),
        number("ssh_port", 22, "port of its SSH server", at_least=1, at_most=65535),
        ParamSpec(
            name="cpu_speed",
            type=ParamType.FLOAT,
            default=1.0,
            doc="speed of a processor, relative to an ordinary one",
            check=_positive,
        ),
    ),
)

NOT_ON_NODES = frozenset({"exclusive_storage"})
"""Node parameters that only the cluster and groups can set."""

HV_STATE = ParamTable(
    "the hypervisor state",
    (
        number("mem_total", 0, "memory of the node, MiB", at_least=0),
        number("mem_node", 0, "memory that the node itself uses, MiB", at_least=0),
        number("mem_hv", 0, "memory that the hypervisor uses, MiB", at_least=0),
        number("cpu_total", 1, "processors of the node", at_least=0),
        number("cpu_node", 1, "processors that the node itself uses", at_least=0),
    ),
)

DISK_STATE = ParamTable(
    "the disk state",
    (
        number("disk_total", 0, "space, MiB", at_least=0),
        number("disk_reserved", 0, "space kept free, MiB", at_least=0),
        number("disk_overhead", 0, "space that each disk needs besides its size, MiB", at_least=0),
    ),
)

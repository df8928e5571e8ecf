"""Kinds of parameters: what a value names and how people write it on a command line.

The special syntax of a kind (`0:size=10g,mode=rw`, `key=value,no_flag`) is read by the function of the
same name in `ganeti.cli.values`; here is only its name, so that declarations stay data.
"""

from __future__ import annotations

import msgspec


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """How a parameter is written and completed."""

    syntax: str = "text"
    """Name of the reader in `ganeti.cli.values`."""
    names: str | None = None
    """What the value names, for completion: instance, node, group, os, job, network."""
    placeholder: str | None = None
    """Stands for the value in help texts; None: made from the name."""


INSTANCE = Kind(names="instance", placeholder="INSTANCE")
NODE = Kind(names="node", placeholder="NODE")
GROUP = Kind(names="group", placeholder="GROUP")
GROUPS = Kind(syntax="comma_list", names="group", placeholder="GROUP,...")
NETWORK = Kind(names="network", placeholder="NETWORK")
OS = Kind(names="os", placeholder="OS")
NODES = Kind(syntax="comma_list", names="node", placeholder="NODE,...")
NAMES = Kind(syntax="comma_list", placeholder="NAME,...")
INSTANCES = Kind(syntax="comma_list", names="instance", placeholder="INSTANCE,...")
SIZE = Kind(syntax="size", placeholder="SIZE")
SECONDS = Kind(syntax="number", placeholder="SECONDS")
YES_NO = Kind(syntax="yes_no", placeholder="yes|no")
KEY_VALUES = Kind(syntax="key_values", placeholder="KEY=VALUE,...")
NAMED_KEY_VALUES = Kind(syntax="named_key_values", placeholder="NAME:KEY=VALUE,...")
PRIVATE_KEY_VALUES = Kind(syntax="key_values", placeholder="KEY=VALUE,...")
DISK_SPECS = Kind(syntax="disk_specs", placeholder="N:size=SIZE[,KEY=VALUE...]")
NIC_SPECS = Kind(syntax="nic_specs", placeholder="N:KEY=VALUE,...")
DISK_CHANGES = Kind(syntax="device_changes", placeholder="N|add|remove:KEY=VALUE,...")
NIC_CHANGES = Kind(syntax="device_changes", placeholder="N|add|remove:KEY=VALUE,...")
TAGS = Kind(syntax="comma_list", placeholder="TAG,...")
LIST_CHANGES = Kind(syntax="list_changes", placeholder="+NAME,-NAME,...")
UID_RANGES = Kind(syntax="uid_ranges", placeholder="LOW-HIGH,...")
INSTANCE_SIZE = Kind(syntax="instance_size", placeholder="MEMORY,DISK,CPUS")
MAYBE_NUMBER = Kind(syntax="maybe_number", placeholder="NUMBER")
TEMPLATE = Kind(placeholder="TEMPLATE")
IPOLICY = Kind(syntax="ipolicy", placeholder="KEY=VALUE,...")

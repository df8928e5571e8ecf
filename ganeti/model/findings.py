"""How the nodes and instances of a group are: what OP_UPDATE_NODE_GROUP_CACHE gives and the watcher reads."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ganeti.model.ids import GroupId


class NodeFinding(msgspec.Struct, frozen=True, kw_only=True):
    """How a node is."""

    state: str
    """answered; silent: it gave no answer; offline: marked so; busy: another job has it locked."""
    boot_id: str | None = None
    problem: str = ""
    """Why it did not answer, or not everything."""


class InstanceFinding(msgspec.Struct, frozen=True, kw_only=True):
    """How an instance is that has its primary node in the group."""

    status: str | None
    """The established word (operations.md section 4); None: its node or itself is busy."""
    admin_state: str
    disks_active: bool
    disk_template: str
    primary: str
    secondaries: tuple[str, ...]
    is_split: bool
    """Its nodes are in more than one group."""


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes and instances of a group by name."""

    group: GroupId
    nodes: Mapping[str, NodeFinding]
    instances: Mapping[str, InstanceFinding]

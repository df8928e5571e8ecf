"""Nodes and node groups."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from ganeti.model.capacity import NOT_SET, CapacitySettings
from ganeti.model.ids import GroupId, NetworkId, NodeId
from ganeti.model.params import ParamValues


class AllocPolicy(StrEnum):
    """Whether an allocator may put instances into a group (S2.3-008)."""

    PREFERRED = "preferred"
    LAST_RESORT = "last_resort"
    UNALLOCABLE = "unallocable"


class NodeRole(StrEnum):
    """What a node is in the cluster; the letter that lists show."""

    MASTER = "M"
    CANDIDATE = "C"
    REGULAR = "R"
    DRAINED = "D"
    OFFLINE = "O"


class Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """A server of the cluster. At most one of candidate, offline and drained is true."""

    uuid: NodeId
    name: str
    primary_ip: str
    secondary_ip: str
    group: GroupId
    master_candidate: bool = False
    offline: bool = False
    drained: bool = False
    master_capable: bool = True
    vm_capable: bool = True
    powered: bool = True
    ndparams: ParamValues = {}
    hv_state_static: Mapping[str, Any] = {}
    disk_state_static: Mapping[str, Any] = {}
    tags: tuple[str, ...] = ()
    serial_no: int = 1
    ctime: float = 0.0
    mtime: float = 0.0

    @property
    def may_get_instances(self) -> bool:
        """Whether a new or moved instance may be put here."""
        return self.vm_capable and not self.offline and not self.drained

    @property
    def may_be_candidate(self) -> bool:
        """Whether the candidate pool may take this node."""
        return self.master_capable and not self.offline and not self.drained


class GroupNetwork(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a network is reached from the nodes of a group."""

    mode: str
    link: str
    vlan: str = ""


class NodeGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nodes that share a network and, for external storage, a pool."""

    uuid: GroupId
    name: str
    alloc_policy: AllocPolicy = AllocPolicy.PREFERRED
    ndparams: ParamValues = {}
    ipolicy: Mapping[str, Any] = {}
    diskparams: Mapping[str, ParamValues] = {}
    capacity_params: CapacitySettings = NOT_SET
    networks: Mapping[NetworkId, GroupNetwork] = {}
    hv_state_static: Mapping[str, Any] = {}
    disk_state_static: Mapping[str, Any] = {}
    tags: tuple[str, ...] = ()
    serial_no: int = 1
    ctime: float = 0.0
    mtime: float = 0.0

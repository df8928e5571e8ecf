"""Questions to instance allocators, what they may know, and their answers (iallocator.md)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from ganeti.model.calls.instances import RunningInstance
from ganeti.model.calls.system import NodeInfoResult
from ganeti.model.capacity import CapacityParams, GroupCapacity
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.params import ParamValues
from ganeti.model.spec import NicSpec

BUILTIN = "builtin"
"""Name of the allocator that comes with the cluster manager."""


class EvacuationMode(StrEnum):
    """Which instances leave a node."""

    PRIMARY_ONLY = "primary-only"
    SECONDARY_ONLY = "secondary-only"
    ALL = "all"


class InstanceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An instance to be placed."""

    name: str
    memory: int
    """MiB"""
    vcpus: int
    disks: tuple[int, ...]
    """MiB each"""
    disk_template: str
    hypervisor: str
    os: str = ""
    nics: tuple[NicSpec, ...] = ()
    tags: tuple[str, ...] = ()
    spindle_use: int = 1
    disk_spindles: tuple[int | None, ...] = ()
    """Spindles of each disk, which exclusive storage needs; empty: nothing is said of any."""
    group: GroupId | None = None
    """Only nodes of this group."""
    target_groups: tuple[GroupId, ...] = ()
    """Only nodes of one of these groups; empty: of any."""
    hvparams: ParamValues = {}

    @property
    def groups(self) -> frozenset[GroupId]:
        """The groups to which it is limited; empty: it may go into any."""
        return frozenset(self.target_groups) if self.group is None else frozenset([self.group])

    def may_enter(self, group: GroupId) -> bool:
        """Whether it may be put into a group as far as groups were asked for."""
        return not self.groups or group in self.groups


class Allocate(msgspec.Struct, frozen=True, kw_only=True, tag="allocate"):
    """Place one new instance."""

    instance: InstanceRequest


class MultiAllocate(msgspec.Struct, frozen=True, kw_only=True, tag="multi-allocate"):
    """Place several new instances, each as if the ones before were there."""

    instances: tuple[InstanceRequest, ...]


class Relocate(msgspec.Struct, frozen=True, kw_only=True, tag="relocate"):
    """Find another secondary (mirrored) or primary (external storage) for an instance."""

    instance: str
    relocate_from: tuple[NodeId, ...]


class AllocateSecondary(msgspec.Struct, frozen=True, kw_only=True, tag="allocate-secondary"):
    """Find a node for the mirror of an instance that has none, which is about to get one."""

    instance: str


class ChangeGroup(msgspec.Struct, frozen=True, kw_only=True, tag="change-group"):
    """Move instances to other groups."""

    instances: tuple[str, ...]
    target_groups: tuple[GroupId, ...]
    allow_downtime: bool = False
    """Those whose disks are on one node only are stopped and copied; external allocators do not know it."""


class Evacuate(msgspec.Struct, frozen=True, kw_only=True, tag="node-evacuate"):
    """Take instances off their nodes."""

    instances: tuple[str, ...]
    mode: EvacuationMode
    ignore_soft_errors: bool = False
    """Nodes may get more than rules of balance and policy want, but not more than they have."""


class Capacity(msgspec.Struct, frozen=True, kw_only=True, tag="capacity"):
    """How many more instances fit."""

    params: Mapping[GroupId, CapacityParams]
    """The groups to be computed, and how."""
    independent_groups: bool = True
    """A group whose nodes could not take over from each other does not spoil the others."""


AllocationRequest = (
    Allocate | MultiAllocate | Relocate | AllocateSecondary | ChangeGroup | Evacuate | Capacity
)


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """What an allocator may know: the configuration, and what the nodes reported lately.

    A node without facts did not answer and cannot be used.
    """

    cluster: Cluster
    facts: Mapping[NodeId, NodeInfoResult]
    running: Mapping[NodeId, Mapping[str, RunningInstance]]
    candidates: frozenset[NodeId] | None = None
    """Only these nodes may be used; None: all."""
    ctime: float | None = None
    """When the oldest of the reports came, seconds since the epoch; None: not known."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where one instance goes: primary first."""

    instance: str
    nodes: tuple[NodeId, ...]


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """Why one node cannot take an instance: the first rule that failed, and by how much."""

    node: NodeId
    reason: str


class Solution(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of an allocator.

    `placements` may be fewer than asked for; `failed` then has name and reason of the others.
    """

    placements: tuple[Placement, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    rejections: tuple[Rejection, ...] = ()
    info: str = ""
    jobs: tuple[tuple[Mapping[str, object], ...], ...] = ()
    """For change-group and node-evacuate: lists of opcodes as JSON objects."""
    capacity: Mapping[GroupId, GroupCapacity] = {}
    """For capacity: each group that was asked for."""

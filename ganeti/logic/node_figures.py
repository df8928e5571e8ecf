"""Free and used resources of each node, out of what it reported and what the configuration says.

Both the built-in allocator and the documents for external ones are made from these figures, so
that they decide on the same numbers (iallocator.md section 2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any

import msgspec

from ganeti.model.allocation import (
    Allocate,
    AllocateSecondary,
    AllocationRequest,
    Capacity,
    ClusterView,
    InstanceRequest,
    MultiAllocate,
    Relocate,
)
from ganeti.model.calls.disks import StorageSpace
from ganeti.model.calls.instances import RunningInstance
from ganeti.model.calls.system import NodeInfoResult
from ganeti.model.cluster import Cluster, ClusterSettings
from ganeti.model.disk import TRAITS, DiskTemplate, Mirroring, TemplateTraits
from ganeti.model.filled import BackendParams, beparams_of, ndparams_of
from ganeti.model.ids import NodeId
from ganeti.model.instance import AdminState, Instance

DRBD_METADATA_MIB = 128
"""What each mirrored disk takes on either node beside its size."""

SPINDLE_REPORT = "lvm-pv"
"""Storage type whose report counts spindles instead of MiB."""

_LOCAL = frozenset({DiskTemplate.PLAIN.value, DiskTemplate.DRBD.value, DiskTemplate.FILE.value})
_WITHOUT_SPACE = frozenset({DiskTemplate.DISKLESS.value, DiskTemplate.BLOCKDEV.value})


class NodeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Resources of a node that answered; MiB and counts."""

    total_memory: int
    reserved_memory: int
    """Used by the node itself."""
    free_memory: int
    """Reported free memory, less what running instances may still claim."""
    total_disk: int | None
    """None: the node reports no space for this kind of storage."""
    free_disk: int | None
    total_cpus: int
    reserved_cpus: int
    total_spindles: int
    free_spindles: int
    primary_memory: int
    """Memory of all instances with this primary node."""
    primary_up_memory: int
    """The same, of those that ought to run."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which hypervisor and which storage a request is about."""

    hypervisor: str
    template: str


def traits_of(template: str) -> TemplateTraits:
    """Traits of a disk template; one that is not built in counts as storage without mirror."""
    return TRAITS.get(template) or TemplateTraits(storage_type=template, needs_free_space_check=False)


class Use(msgspec.Struct, frozen=True):
    """How instances with disks of a template use their nodes."""

    nodes_needed: int
    is_local: bool
    is_movable: bool


@cache
def use_of(template: str) -> Use:
    """The same for every instance, so it is worked out once."""
    mirroring = traits_of(template).mirroring
    return Use(
        nodes_needed=2 if mirroring is Mirroring.INTERNAL else 1,
        is_local=template in _LOCAL,
        is_movable=mirroring is Mirroring.EXTERNAL,
    )


def uses_local_disk(template: str) -> bool:
    """Whether disks of this template take space of the node itself."""
    return use_of(template).is_local


def nodes_needed(template: str) -> int:
    """Number of nodes that an instance with such disks occupies."""
    return use_of(template).nodes_needed


def disk_space(template: str, sizes: tuple[int, ...]) -> int:
    """MiB that disks of these sizes take on each of their nodes."""
    if template in _WITHOUT_SPACE:
        return 0
    overhead = DRBD_METADATA_MIB if template == DiskTemplate.DRBD else 0
    return sum(sizes) + overhead * len(sizes)


def storage_units(cluster: Cluster, templates: Collection[str]) -> dict[str, str]:
    """Storage of these templates on every node, as type to name of the unit."""
    settings = cluster.settings
    places = {
        "lvm-vg": settings.volume_group_name,
        "file": settings.file_storage_dir,
        "sharedfile": settings.shared_file_storage_dir,
        "gluster": settings.gluster_storage_dir,
    }
    if any(ndparams_of(cluster, node)["exclusive_storage"] for node in cluster.nodes.values()):
        places[SPINDLE_REPORT] = settings.volume_group_name
    wanted = {traits_of(template).storage_type for template in templates}
    if "lvm-vg" in wanted:
        wanted.add(SPINDLE_REPORT)
    return {kind: place for kind, place in places.items() if place and kind in wanted}


def free_space(facts: NodeInfoResult, template: str) -> int | None:
    """MiB that a node reports as free for disks of a template; None: it reports nothing."""
    space = _report(facts.storage, traits_of(template).storage_type)
    return None if space is None else space.storage_free


def space_for(facts: NodeInfoResult, template: str) -> StorageSpace | None:
    """What a node told about the storage of a template, be it half known."""
    wanted = traits_of(template).storage_type
    return next((space for space in facts.storage if space.type == wanted), None)


def question_of(request: AllocationRequest, cluster: Cluster) -> Question:
    """Hypervisor and template whose figures count for a request (iallocator.md section 1)."""
    settings = cluster.settings
    hypervisor = settings.enabled_hypervisors[0] if settings.enabled_hypervisors else ""
    template = settings.enabled_disk_templates[0] if settings.enabled_disk_templates else "diskless"
    match request:
        case Allocate(instance=InstanceRequest() as wanted):
            return Question(hypervisor=wanted.hypervisor, template=wanted.disk_template)
        case Relocate(instance=name) | AllocateSecondary(instance=name):
            instance = cluster.instance(name)
            return Question(hypervisor=instance.hypervisor, template=cluster.disk_template(instance))
        case MultiAllocate(instances=(first, *_)):
            return Question(hypervisor=hypervisor, template=first.disk_template)
        case Capacity(params=params) if params:
            return Question(hypervisor=hypervisor, template=next(iter(params.values())).default_template)
    return Question(hypervisor=hypervisor, template=template)


def backend_reader(settings: ClusterSettings) -> Callable[[Instance], BackendParams]:
    """A quick way to the backend parameters that count for many instances."""
    inherited = beparams_of(settings, {})

    def backend(instance: Instance) -> BackendParams:
        own: Mapping[str, Any] = instance.beparams
        return msgspec.structs.replace(inherited, **own) if own else inherited

    return backend


def node_figures(view: ClusterView, question: Question) -> dict[NodeId, NodeFigures]:
    """Figures of every node that may run instances, is not offline and gave sensible facts."""
    claimed: dict[NodeId, list[int]] = {}
    inherited = beparams_of(view.cluster.settings, {}).maxmem
    for instance in view.cluster.instances.values():
        sums = claimed.setdefault(instance.primary_node, [0, 0, 0])
        memory: Any = instance.beparams.get("maxmem", inherited)
        sums[0] += memory
        if instance.admin_state is AdminState.UP and not instance.forthcoming:
            sums[1] += memory
            sums[2] += max(0, memory - _memory_now(view, instance))
    figures: dict[NodeId, NodeFigures] = {}
    for node in view.cluster.nodes.values():
        if node.vm_capable and not node.offline:
            found = _figures(view, node.uuid, question, claimed.get(node.uuid, [0, 0, 0]))
            if found is not None:
                figures[node.uuid] = found
    return figures


def _memory_now(view: ClusterView, instance: Instance) -> int:
    running: RunningInstance | None = view.running.get(instance.primary_node, {}).get(instance.name)
    return 0 if running is None else running.memory


def _figures(view: ClusterView, node: NodeId, question: Question, claimed: list[int]) -> NodeFigures | None:
    facts = view.facts.get(node)
    capacity = None if facts is None else facts.hypervisors.get(question.hypervisor)
    if facts is None or capacity is None:
        return None
    if capacity.memory_total <= 0 or capacity.cpu_total <= 0 or capacity.memory_free < 0:
        return None
    space = _report(facts.storage, traits_of(question.template).storage_type)
    spindles = _report(facts.storage, SPINDLE_REPORT) if traits_of(question.template).is_lvm else None
    return NodeFigures(
        total_memory=capacity.memory_total,
        reserved_memory=capacity.memory_dom0,
        free_memory=capacity.memory_free - claimed[2],
        total_disk=None if space is None else space.storage_size,
        free_disk=None if space is None else space.storage_free,
        total_cpus=capacity.cpu_total,
        reserved_cpus=capacity.cpu_dom0,
        total_spindles=0 if spindles is None else spindles.storage_size or 0,
        free_spindles=0 if spindles is None else spindles.storage_free or 0,
        primary_memory=claimed[0],
        primary_up_memory=claimed[1],
    )


def _report(storage: tuple[StorageSpace, ...], wanted: str) -> StorageSpace | None:
    for space in storage:
        if space.type == wanted and space.storage_free is not None and space.storage_size is not None:
            return space
    return None

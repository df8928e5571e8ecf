"""OP_TEST_ALLOCATOR: show what an allocator would be asked, or ask it; places nothing."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from ganeti.errors import PrereqError
from ganeti.model.allocation import (
    Allocate,
    AllocateSecondary,
    AllocationRequest,
    ChangeGroup,
    Evacuate,
    EvacuationMode,
    InstanceRequest,
    MultiAllocate,
    Relocate,
)
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockPlan
from ganeti.ops.base import Arguments, Command, Context, OpCode, Operation, Param
from ganeti.ops.instance.create_checks import wanted_groups
from ganeti.ops.instance.device_specs import RawDevice, read_disks, read_nics
from ganeti.ops.kinds import GROUP, INSTANCES, OS, TAGS

Mode = Literal[
    "allocate", "relocate", "multi-allocate", "allocate-secondary", "change-group", "node-evacuate"
]


class TestAllocator(OpCode, frozen=True, kw_only=True, tag="OP_TEST_ALLOCATOR"):
    """Try an allocator."""

    __test__: ClassVar[bool] = False

    direction: Annotated[Literal["in", "out"], Param("in: show the request; out: ask the allocator")]
    mode: Annotated[Mode, Param("kind of request")]
    name: Annotated[str, Param("instance to place or to move")]
    nics: Annotated[tuple[RawDevice, ...] | None, Param("its network interfaces")] = None
    disks: Annotated[tuple[RawDevice, ...] | None, Param("its disks")] = None
    hypervisor: Annotated[str | None, Param("its hypervisor")] = None
    iallocator: Annotated[str | None, Param("allocator to ask")] = None
    tags: Annotated[tuple[str, ...], Param("its tags", kind=TAGS)] = ()
    memory: Annotated[int | None, Param("its memory in MiB")] = None
    vcpus: Annotated[int | None, Param("its processors")] = None
    os: Annotated[str | None, Param("its OS", OS)] = None
    disk_template: Annotated[str | None, Param("its disk template")] = None
    instances: Annotated[tuple[str, ...] | None, Param("instances to move", kind=INSTANCES)] = None
    evac_mode: Annotated[EvacuationMode | None, Param("which of them leave their nodes")] = None
    target_groups: Annotated[tuple[str, ...] | None, Param("groups they may go to")] = None
    spindle_use: Annotated[int, Param("its weight of disk activity")] = 1
    count: Annotated[int, Param("how many of them, for multi-allocate")] = 1
    group_name: Annotated[str | None, Param("only nodes of this group", GROUP)] = None

    def summary(self) -> str:
        """With the allocator."""
        return f"TEST_ALLOCATOR({self.iallocator})"


class TestAllocatorOperation(Operation[TestAllocator, None, str]):
    """Builds the request that the opcode describes; the configuration stays as it is."""

    keeps_state = True

    __test__: ClassVar[bool] = False
    commands = (
        Command(
            tool="gnt-debug",
            name="iallocator",
            aliases=("allocator",),
            positional="name",
            arguments=Arguments.CUSTOM,
        ),
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """Everything, so that nothing moves meanwhile."""
        return LockPlan(exclusive_cluster=True)

    def check(self, cluster: Cluster, facts: None) -> None:
        """The request can be built."""
        self._request(cluster)
        if self.op.direction == "out" and not (self.op.iallocator or cluster.settings.default_iallocator):
            raise PrereqError("say which allocator is to be asked (-I); the cluster has no default one")

    async def run(self, ctx: Context, facts: None) -> str:
        """The request, or the answer, as JSON text."""
        request = self._request(ctx.cluster)
        if self.op.direction == "in":
            return await ctx.allocation.document(request, cluster=ctx.cluster)
        solution = await ctx.allocation.solve(self.op.iallocator or "", request, cluster=ctx.cluster)
        return msgspec.json.format(msgspec.json.encode(solution), indent=2).decode()

    def _request(self, cluster: Cluster) -> AllocationRequest:
        op = self.op
        match op.mode:
            case "allocate":
                return Allocate(instance=self._instance(cluster, op.name))
            case "multi-allocate":
                names = [f"{op.name}-{number}" for number in range(1, op.count + 1)]
                return MultiAllocate(instances=tuple(self._instance(cluster, name) for name in names))
            case "relocate":
                instance = cluster.instance(op.name)
                away_from = cluster.secondary_nodes(instance) or (instance.primary_node,)
                return Relocate(instance=instance.name, relocate_from=away_from)
            case "allocate-secondary":
                return AllocateSecondary(instance=cluster.instance(op.name).name)
        moved = tuple(cluster.instance(name).name for name in op.instances or (op.name,))
        if op.mode == "node-evacuate":
            return Evacuate(instances=moved, mode=op.evac_mode or EvacuationMode.ALL)
        groups = tuple(cluster.group(name).uuid for name in op.target_groups or ())
        return ChangeGroup(instances=moved, target_groups=groups)

    def _instance(self, cluster: Cluster, name: str) -> InstanceRequest:
        op, settings = self.op, cluster.settings
        if cluster.instances.by_key(name) is not None:
            raise PrereqError(f"instance {name} exists already; choose another name for the test")
        template = op.disk_template or settings.enabled_disk_templates[0]
        groups = wanted_groups(cluster, op.group_name, op.target_groups or ())
        disks = read_disks(op.disks or (), template, file_driver=None, file_storage_dir=None)
        return InstanceRequest(
            name=name,
            memory=op.memory if op.memory is not None else 128,
            vcpus=op.vcpus if op.vcpus is not None else 1,
            disks=tuple(disk.size for disk in disks),
            disk_template=template,
            hypervisor=op.hypervisor or settings.enabled_hypervisors[0],
            os=op.os or "",
            nics=read_nics(op.nics or ()),
            tags=op.tags,
            spindle_use=op.spindle_use,
            disk_spindles=tuple(disk.spindles for disk in disks),
            group=groups[0] if len(groups) == 1 else None,
            target_groups=groups if len(groups) > 1 else (),
        )

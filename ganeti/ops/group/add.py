"""OP_GROUP_ADD: make a node group."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from msgspec.structs import replace

from ganeti.errors import GanetiError, PrereqError
from ganeti.logic.capacity_params import check_template, given_params, merged_settings
from ganeti.logic.settings_changes import merged_own
from ganeti.model.capacity import NOT_SET
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId
from ganeti.model.locks import LockLevel, LockPlan
from ganeti.model.node import AllocPolicy, NodeGroup
from ganeti.model.param_tables.disk import DISK
from ganeti.model.param_tables.nd import NODE
from ganeti.model.params import ParamValue
from ganeti.ops.base import Command, Context, Hooks, HookTarget, OpCode, Operation, Param, Route
from ganeti.ops.group.base import check_group_policy, check_new_name
from ganeti.ops.kinds import (
    INSTANCE_SIZE,
    IPOLICY,
    KEY_VALUES,
    MAYBE_NUMBER,
    NAMED_KEY_VALUES,
    TEMPLATE,
    Kind,
)


class AddGroup(OpCode, frozen=True, kw_only=True, tag="OP_GROUP_ADD"):
    """Make a node group; it has no nodes yet."""

    summary_field: ClassVar[str | None] = "group_name"

    group_name: Annotated[str, Param("name of the new group", kind=Kind(placeholder="GROUP-NAME"))]
    alloc_policy: Annotated[
        AllocPolicy | None,
        Param("whether allocators may put instances into it", flag="alloc-policy"),
    ] = None
    ndparams: Annotated[
        Mapping[str, ParamValue] | None, Param("node parameters", KEY_VALUES, "node-parameters")
    ] = None
    diskparams: Annotated[
        Mapping[str, Mapping[str, ParamValue]] | None,
        Param("disk parameters", NAMED_KEY_VALUES, "disk-parameters", "D"),
    ] = None
    hv_state: Annotated[Mapping[str, Any] | None, Param("static state of hypervisors")] = None
    disk_state: Annotated[Mapping[str, Any] | None, Param("static state of storage")] = None
    ipolicy: Annotated[Mapping[str, Any] | None, Param("instance policy", kind=IPOLICY)] = None
    max_inst_spec: Annotated[
        tuple[int, int, int] | str | None,
        Param("largest instance that capacity counts", INSTANCE_SIZE, "max-inst-spec"),
    ] = None
    default_template: Annotated[
        str | None, Param("disk template of the instances that capacity counts", TEMPLATE, "default-template")
    ] = None
    max_cpu_ratio: Annotated[
        float | str | None,
        Param("virtual processors for each physical one, for capacity", MAYBE_NUMBER, "max-cpu-ratio"),
    ] = None
    max_disk_usage: Annotated[
        float | str | None,
        Param("part of the disk space that capacity may use, up to 1", MAYBE_NUMBER, "max-disk-usage"),
    ] = None


class AddGroupOperation(Operation[AddGroup, NodeGroup, None]):
    """Checks name, parameters and policy, then records the group."""

    keeps_state = True
    hooks = Hooks("group-add", HookTarget.GROUP)
    routes = (Route(method="POST", path="/2/groups", query=("dry_run",)),)
    commands = (Command(tool="gnt-group", name="add", positional="group_name"),)

    def __init__(self, op: AddGroup) -> None:
        super().__init__(op)
        self._uuid: GroupId | None = None

    def locks(self, cluster: Cluster) -> LockPlan:
        """The new group: nobody else gets at it before it is whole."""
        if self._uuid is None:
            # Made of the state of the cluster, as locks have to be known before anything is done.
            seed = f"{cluster.serial_no}:{self.op.group_name}"
            self._uuid = GroupId(str(uuid.uuid5(uuid.UUID(cluster.settings.uuid), seed)))
        return LockPlan(add={LockLevel.NODEGROUP: frozenset([self._uuid])})

    async def gather(self, ctx: Context) -> NodeGroup:
        """The group as it will be."""
        op = self.op
        (added,) = ctx.held.names(LockLevel.NODEGROUP)
        try:
            return NodeGroup(
                uuid=GroupId(added),
                name=op.group_name,
                alloc_policy=op.alloc_policy or AllocPolicy.PREFERRED,
                ndparams=NODE.check(op.ndparams or {}),
                diskparams=merged_own({}, op.diskparams or {}, DISK, "disk template"),
                ipolicy=op.ipolicy or {},
                capacity_params=merged_settings(NOT_SET, given_params(op)),
                hv_state_static=op.hv_state or {},
                disk_state_static=op.disk_state or {},
            )
        except PrereqError:
            raise
        except GanetiError as error:
            raise PrereqError(str(error)) from error

    def check(self, cluster: Cluster, facts: NodeGroup) -> None:
        """A free name, and a policy that makes sense below that of the cluster."""
        check_new_name(cluster, facts.name)
        check_template(cluster, facts.capacity_params.default_template)
        check_group_policy(cluster, facts)

    async def run(self, ctx: Context, facts: NodeGroup) -> None:
        """Record it."""

        def added(cluster: Cluster) -> Cluster:
            self.check(cluster, facts)
            return replace(cluster, groups=cluster.groups.with_item(facts.uuid, facts))

        await ctx.config.update(added, reason=f"node group {facts.name} is made")
        ctx.held.keep_added(LockLevel.NODEGROUP, [facts.uuid])

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The group's name."""
        return {"OP_TARGET": self.op.group_name, "GROUP_NAME": self.op.group_name}

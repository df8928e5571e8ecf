"""OP_GROUP_SET_PARAMS: change a node group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec.structs import replace

from ganeti.errors import GanetiError, PrereqError
from ganeti.logic.capacity_params import check_template, given_params, merged_settings
from ganeti.logic.settings_changes import merged_group_policy, merged_own
from ganeti.model.cluster import Cluster
from ganeti.model.node import AllocPolicy, NodeGroup
from ganeti.model.param_tables.disk import DISK
from ganeti.model.param_tables.nd import NODE
from ganeti.model.params import ParamValue
from ganeti.ops.base import Command, Context, Hooks, HookTarget, Param, Route
from ganeti.ops.group.base import GroupOpCode, GroupOperation, check_group_policy
from ganeti.ops.instance.target import policy_problems
from ganeti.ops.kinds import INSTANCE_SIZE, IPOLICY, KEY_VALUES, MAYBE_NUMBER, NAMED_KEY_VALUES, TEMPLATE

Changes = tuple[tuple[str, Any], ...]


class SetGroupParams(GroupOpCode, frozen=True, kw_only=True, tag="OP_GROUP_SET_PARAMS"):
    """Change a node group; what is absent stays as it is."""

    alloc_policy: Annotated[
        AllocPolicy | None,
        Param("whether allocators may put instances into it", flag="alloc-policy"),
    ] = None
    ndparams: Annotated[
        Mapping[str, ParamValue] | None,
        Param("node parameters; `default` gives the cluster's", KEY_VALUES, "node-parameters"),
    ] = None
    diskparams: Annotated[
        Mapping[str, Mapping[str, ParamValue]] | None,
        Param("disk parameters; `default` gives the cluster's", NAMED_KEY_VALUES, "disk-parameters", "D"),
    ] = None
    hv_state: Annotated[Mapping[str, Any] | None, Param("static state of hypervisors")] = None
    disk_state: Annotated[Mapping[str, Any] | None, Param("static state of storage")] = None
    ipolicy: Annotated[
        Mapping[str, Any] | None, Param("instance policy; `default` gives the cluster's", kind=IPOLICY)
    ] = None
    max_inst_spec: Annotated[
        tuple[int, int, int] | str | None,
        Param(
            "largest instance that capacity counts; `default` gives the cluster's",
            INSTANCE_SIZE,
            "max-inst-spec",
        ),
    ] = None
    default_template: Annotated[
        str | None,
        Param(
            "disk template of the instances that capacity counts; `default` gives the cluster's",
            TEMPLATE,
            "default-template",
        ),
    ] = None
    max_cpu_ratio: Annotated[
        float | str | None,
        Param(
            "virtual processors for each physical one, for capacity; `default` gives the cluster's",
            MAYBE_NUMBER,
            "max-cpu-ratio",
        ),
    ] = None
    max_disk_usage: Annotated[
        float | str | None,
        Param(
            "part of the disk space that capacity may use, up to 1; `default` gives the cluster's",
            MAYBE_NUMBER,
            "max-disk-usage",
        ),
    ] = None


class SetGroupParamsOperation(GroupOperation[SetGroupParams, None, Changes]):
    """Checks the changed group as a whole, and warns of instances that its policy no longer allows."""

    keeps_state = True
    hooks = Hooks("group-modify", HookTarget.GROUP)
    routes = (Route(method="PUT", path="/2/groups/{group_name}/modify"),)
    commands = (Command(tool="gnt-group", name="modify", positional="group_name"),)

    def check(self, cluster: Cluster, facts: None) -> None:
        """Something to change, and a group that makes sense afterwards."""
        self.group(cluster)
        if not self._changes():
            raise PrereqError("Please pass at least one parameter to modify")
        check_template(cluster, self.op.default_template)
        check_group_policy(cluster, self._changed(cluster))

    async def run(self, ctx: Context, facts: None) -> Changes:
        """Record it."""
        before = ctx.cluster

        def changed(cluster: Cluster) -> Cluster:
            group = self._changed(cluster)
            check_group_policy(cluster, group)
            return replace(cluster, groups=cluster.groups.with_item(group.uuid, group))

        after = await ctx.config.update(changed, reason=f"parameters of group {self.op.group_name} change")
        if self.op.ipolicy is not None:
            for name in _newly_violating(before, after, self.group(after)):
                ctx.feedback.warning(
                    f"after the change of the policy, instance {name} violates it",
                    hint="it goes on to run; it cannot be moved without --ignore-ipolicy",
                )
        return tuple((name, value) for name, value in self._changes().items())

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The name of the group, and its new allocation policy if that changes."""
        return {**super().hook_env(cluster), "NEW_ALLOC_POLICY": self.op.alloc_policy or ""}

    def _changes(self) -> dict[str, Any]:
        names = ("alloc_policy", "ndparams", "diskparams", "hv_state", "disk_state", "ipolicy")
        own = {name: getattr(self.op, name) for name in names if getattr(self.op, name) is not None}
        return own | given_params(self.op)

    def _changed(self, cluster: Cluster) -> NodeGroup:
        op, group = self.op, self.group(cluster)
        try:
            return replace(
                group,
                alloc_policy=op.alloc_policy or group.alloc_policy,
                ndparams=NODE.merge(group.ndparams, op.ndparams or {}),
                diskparams=merged_own(group.diskparams, op.diskparams or {}, DISK, "disk template"),
                ipolicy=merged_group_policy(group.ipolicy, op.ipolicy or {}),
                capacity_params=merged_settings(group.capacity_params, given_params(op)),
                hv_state_static={**group.hv_state_static, **(op.hv_state or {})},
                disk_state_static={**group.disk_state_static, **(op.disk_state or {})},
            )
        except PrereqError:
            raise
        except GanetiError as error:
            raise PrereqError(str(error)) from error


def _newly_violating(before: Cluster, after: Cluster, group: NodeGroup) -> list[str]:
    """Names of the instances of a group that its new policy does not allow and the old one did."""
    return sorted(
        instance.name
        for instance in after.instances.values()
        if after.nodes[instance.primary_node].group == group.uuid
        and policy_problems(after, instance, instance.primary_node)
        and not policy_problems(before, instance, instance.primary_node)
    )

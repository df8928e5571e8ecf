"""OP_CLUSTER_SET_PARAMS: change settings of the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from ganeti.errors import GanetiError, PrereqError
from ganeti.interfaces import IExternalAllocators, Plugins
from ganeti.logic.capacity_params import check_template, given_params, merged_settings
from ganeti.logic.node_flags import nodes_to_promote
from ganeti.logic.settings_changes import (
    check_directory,
    checked_mac_prefix,
    edited_list,
    merged_by_name,
    merged_os_hvp,
    merged_osparams,
    plain_changes,
    with_enabled_hypervisors,
    with_enabled_templates,
)
from ganeti.model.calls.instances import HypervisorValidateParams
from ganeti.model.calls.outcome import NodeFailed
from ganeti.model.cluster import Cluster, ClusterSettings
from ganeti.model.ipolicy import check_policy, check_templates, policy_from
from ganeti.model.locks import LockLevel, LockMode, LockPlan, all_of_level
from ganeti.model.param_tables.be import BACKEND, expand_memory
from ganeti.model.param_tables.disk import DISK
from ganeti.model.param_tables.nd import NODE
from ganeti.model.param_tables.nic import NIC
from ganeti.model.params import ParamValue
from ganeti.ops.base import Arguments, Command, Context, Hooks, HookTarget, OpCode, Operation, Param, Route
from ganeti.ops.kinds import (
    INSTANCE_SIZE,
    KEY_VALUES,
    LIST_CHANGES,
    MAYBE_NUMBER,
    NAMED_KEY_VALUES,
    NAMES,
    TEMPLATE,
    YES_NO,
    Kind,
)
from ganeti.ops.node.common import promote

Params = Mapping[str, ParamValue]
Named = Mapping[str, Params]
ListChanges = tuple[tuple[str, str], ...]

_DIRECTORIES = ("file_storage_dir", "shared_file_storage_dir", "gluster_storage_dir")

POLICY = Kind(syntax="ipolicy", placeholder="KEY=VALUE,...")

_REPLACED = (
    "candidate_pool_size",
    "max_running_jobs",
    "max_tracked_jobs",
    "diffusion_min_nodes",
    "maintain_node_health",
    "prealloc_wipe_disks",
    "enforce_max_inst_spec",
    "default_iallocator",
    "default_iallocator_params",
    "modify_etc_hosts",
    "file_storage_dir",
    "shared_file_storage_dir",
    "gluster_storage_dir",
    "install_image",
    "zeroing_image",
    "compression_tools",
    "enabled_user_shutdown",
    "reserved_lvs",
)


class SetClusterParams(OpCode, frozen=True, kw_only=True, tag="OP_CLUSTER_SET_PARAMS"):
    """Change settings of the cluster; what is absent stays as it is."""

    force: Annotated[bool, Param("ask no questions", flag="force", short="f")] = False
    enabled_hypervisors: Annotated[
        tuple[str, ...] | None,
        Param("hypervisors in use, the first is the default", NAMES, "enabled-hypervisors"),
    ] = None
    enabled_disk_templates: Annotated[
        tuple[str, ...] | None,
        Param("disk templates in use, the first is the default", NAMES, "enabled-disk-templates"),
    ] = None
    hvparams: Annotated[
        Named | None, Param("hypervisor parameters", NAMED_KEY_VALUES, "hypervisor-parameters", "H")
    ] = None
    beparams: Annotated[Params | None, Param("backend parameters", KEY_VALUES, "backend-parameters", "B")] = (
        None
    )
    nicparams: Annotated[
        Params | None, Param("network interface parameters", KEY_VALUES, "nic-parameters", "N")
    ] = None
    ndparams: Annotated[Params | None, Param("node parameters", KEY_VALUES, "node-parameters")] = None
    diskparams: Annotated[
        Named | None, Param("disk parameters", NAMED_KEY_VALUES, "disk-parameters", "D")
    ] = None
    os_hvp: Annotated[
        Mapping[str, Named | None] | None, Param("hypervisor parameters for an OS; null removes them")
    ] = None
    osparams: Annotated[Named | None, Param("OS parameters by OS")] = None
    osparams_private_cluster: Annotated[Named | None, Param("the same, kept out of logs", secret=True)] = None
    hidden_os: Annotated[ListChanges | None, Param("OS definitions that lists hide", kind=LIST_CHANGES)] = (
        None
    )
    blacklisted_os: Annotated[
        ListChanges | None, Param("OS definitions that cannot be installed", kind=LIST_CHANGES)
    ] = None
    ipolicy: Annotated[Mapping[str, Any] | None, Param("instance policy", kind=POLICY)] = None
    max_inst_spec: Annotated[
        tuple[int, int, int] | str | None,
        Param(
            "largest instance that capacity counts; `default`: by the policy", INSTANCE_SIZE, "max-inst-spec"
        ),
    ] = None
    default_template: Annotated[
        str | None,
        Param(
            "disk template of the instances that capacity counts; `default`: by the policy",
            TEMPLATE,
            "default-template",
        ),
    ] = None
    max_cpu_ratio: Annotated[
        float | str | None,
        Param(
            "virtual processors for each physical one, for capacity; `default`: by the policy",
            MAYBE_NUMBER,
            "max-cpu-ratio",
        ),
    ] = None
    max_disk_usage: Annotated[
        float | str | None,
        Param(
            "part of the disk space that capacity may use, up to 1; `default`: by the policy",
            MAYBE_NUMBER,
            "max-disk-usage",
        ),
    ] = None
    enforce_max_inst_spec: Annotated[
        bool | None,
        Param("create no instances larger than max_inst_spec", YES_NO, "enforce-max-inst-spec"),
    ] = None
    candidate_pool_size: Annotated[
        Annotated[int, msgspec.Meta(ge=1)] | None,
        Param("wanted number of master candidates", flag="candidate-pool-size", short="C"),
    ] = None
    max_running_jobs: Annotated[
        Annotated[int, msgspec.Meta(ge=1)] | None,
        Param("jobs that run at the same time", flag="max-running-jobs"),
    ] = None
    max_tracked_jobs: Annotated[
        Annotated[int, msgspec.Meta(ge=1)] | None,
        Param("jobs that are watched", flag="max-tracked-jobs"),
    ] = None
    diffusion_min_nodes: Annotated[
        Annotated[int, msgspec.Meta(ge=0)] | None,
        Param(
            "nodes from which on a group spreads its ssconf files itself, through one of its nodes; 0: never",
            flag="diffusion-min-nodes",
        ),
    ] = None
    maintain_node_health: Annotated[
        bool | None, Param("the watcher ends what runs on offline nodes", YES_NO, "maintain-node-health")
    ] = None
    prealloc_wipe_disks: Annotated[
        bool | None, Param("overwrite new disks with zeros", YES_NO, "prealloc-wipe-disks")
    ] = None
    default_iallocator: Annotated[
        str | None, Param("allocator where none is given", flag="default-iallocator", short="I")
    ] = None
    default_iallocator_params: Annotated[
        Params | None, Param("options of it", KEY_VALUES, "default-iallocator-params")
    ] = None
    mac_prefix: Annotated[
        str | None, Param("first three octets of MAC addresses", flag="mac-prefix", short="m")
    ] = None
    reserved_lvs: Annotated[
        tuple[str, ...] | None, Param("volumes that verify ignores", NAMES, "reserved-lvs")
    ] = None
    modify_etc_hosts: Annotated[bool | None, Param("/etc/hosts is managed", YES_NO, "modify-etc-hosts")] = (
        None
    )
    file_storage_dir: Annotated[str | None, Param("directory of file disks", flag="file-storage-dir")] = None
    shared_file_storage_dir: Annotated[
        str | None, Param("directory of shared file disks", flag="shared-file-storage-dir")
    ] = None
    gluster_storage_dir: Annotated[str | None, Param("directory of gluster disks")] = None
    install_image: Annotated[
        str | None, Param("image of the helper for OS installs", flag="install-image")
    ] = None
    zeroing_image: Annotated[str | None, Param("image of the helper for zeroing", flag="zeroing-image")] = (
        None
    )
    compression_tools: Annotated[
        tuple[str, ...] | None, Param("tools allowed for transfers", NAMES, "compression-tools")
    ] = None
    enabled_user_shutdown: Annotated[
        bool | None, Param("guests may switch themselves off", YES_NO, "user-shutdown")
    ] = None


NO_PLUGINS = Plugins(hypervisors={}, storage={}, iallocators={})


class SettingsFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The settings as they will be."""

    warnings: tuple[str, ...]


class SetClusterParamsOperation(Operation[SetClusterParams, SettingsFacts, None]):
    """Merges and checks everything first, also on the nodes, then records it in one step."""

    keeps_state = True
    hooks = Hooks("cluster-modify", HookTarget.CLUSTER)
    routes = (Route(method="PUT", path="/2/modify"),)
    commands = (Command(tool="gnt-cluster", name="modify", arguments=Arguments.NONE),)

    def __init__(self, op: SetClusterParams) -> None:
        super().__init__(op)
        self._plugins = NO_PLUGINS

    def locks(self, cluster: Cluster) -> LockPlan:
        """All objects, shared."""
        levels = (LockLevel.INSTANCE, LockLevel.NODEGROUP, LockLevel.NODE)
        return LockPlan(requests=dict.fromkeys(levels, all_of_level(LockMode.SHARED)))

    async def gather(self, ctx: Context) -> SettingsFacts:
        """Whether the nodes accept the new hypervisor parameters."""
        self._plugins = ctx.plugins
        if not self._asks_for_something():
            raise PrereqError("no changes submitted; give at least one option")
        settings, warnings = self._changed(ctx.cluster)
        await self._check_allocator(ctx)
        await self._ask_nodes(ctx, settings)
        return SettingsFacts(warnings=warnings)

    async def run(self, ctx: Context, facts: SettingsFacts) -> None:
        """Record it, and fill the candidate pool if it grew."""
        for warning in facts.warnings:
            ctx.feedback.warning(warning)

        def changed(cluster: Cluster) -> Cluster:
            return replace(cluster, settings=self._changed(cluster)[0])

        cluster = await ctx.config.update(changed, reason="settings of the cluster change")
        promoted = nodes_to_promote(cluster, ctx.rng)
        if promoted:
            cluster = await ctx.config.update(
                lambda newest: promote(newest, promoted), reason="the candidate pool is filled"
            )
            for uuid in promoted:
                ctx.feedback.info(f"promoted node {cluster.nodes[uuid].name} to master candidate")

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The cluster's name."""
        return {"OP_TARGET": cluster.name, "NEW_VG_NAME": ""}

    def _asks_for_something(self) -> bool:
        common = {field.name for field in msgspec.structs.fields(OpCode)} | {"force"}
        return any(
            getattr(self.op, field.name) is not None
            for field in msgspec.structs.fields(self.op)
            if field.name not in common
        )

    def _changed(self, cluster: Cluster) -> tuple[ClusterSettings, tuple[str, ...]]:
        """Settings after the change, and warnings.

        Raises:
            PrereqError: something is wrong.
        """
        try:
            return self._merged(cluster)
        except PrereqError:
            raise
        except GanetiError as error:
            raise PrereqError(str(error)) from error

    def _merged(self, cluster: Cluster) -> tuple[ClusterSettings, tuple[str, ...]]:
        op, plugins = self.op, self._plugins
        tables = {name: plugin.params for name, plugin in plugins.hypervisors.items()}
        if op.enabled_hypervisors is not None:
            cluster = replace(
                cluster, settings=with_enabled_hypervisors(cluster, op.enabled_hypervisors, tables)
            )
        if op.enabled_disk_templates is not None:
            cluster = replace(
                cluster,
                settings=with_enabled_templates(cluster, op.enabled_disk_templates, tuple(plugins.storage)),
            )
        settings = cluster.settings
        changes = plain_changes(op, _REPLACED)
        for name in _DIRECTORIES:
            check_directory(changes.get(name, ""), name)
        if op.mac_prefix is not None:
            changes["mac_prefix"] = checked_mac_prefix(op.mac_prefix)
        if op.hvparams is not None:
            changes["hvparams"] = merged_by_name(settings.hvparams, op.hvparams, tables, "hypervisor")
            for name in op.hvparams:
                plugins.hypervisors[name].check_params(changes["hvparams"][name])
        if op.os_hvp is not None:
            changes["os_hvp"] = merged_os_hvp(settings.os_hvp, op.os_hvp, tables)
        if op.osparams is not None:
            changes["osparams"] = merged_osparams(settings.osparams, op.osparams)
        if op.osparams_private_cluster is not None:
            changes["osparams_private_cluster"] = merged_osparams(
                settings.osparams_private_cluster, op.osparams_private_cluster
            )
        if op.diskparams is not None:
            changes["diskparams"] = merged_by_name(settings.diskparams, op.diskparams, DISK, "disk template")
        check_template(cluster, op.default_template)
        changes.update(self._merged_simple(settings))
        warnings = self._edit_lists(settings, changes)
        return replace(settings, **changes), warnings

    def _merged_simple(self, settings: ClusterSettings) -> dict[str, Any]:
        op = self.op
        changes: dict[str, Any] = {}
        if op.beparams is not None:
            own = settings.beparams.get("default", {})
            changes["beparams"] = {"default": BACKEND.fill(BACKEND.merge(own, expand_memory(op.beparams)))}
            if changes["beparams"]["default"]["minmem"] > changes["beparams"]["default"]["maxmem"]:
                raise PrereqError("minmem must not be more than maxmem")
        if op.nicparams is not None:
            own = settings.nicparams.get("default", {})
            changes["nicparams"] = {"default": NIC.fill(NIC.merge(own, op.nicparams))}
        if op.ndparams is not None:
            changes["ndparams"] = NODE.fill(NODE.merge(settings.ndparams, op.ndparams))
        given = given_params(op)
        if given:
            changes["capacity_params"] = merged_settings(settings.capacity_params, given)
        if op.ipolicy is not None:
            changes["ipolicy"] = policy_from(settings.ipolicy, op.ipolicy)
            check_policy(changes["ipolicy"])
            check_templates(changes["ipolicy"], settings.enabled_disk_templates)
        return changes

    def _edit_lists(self, settings: ClusterSettings, changes: dict[str, Any]) -> tuple[str, ...]:
        warnings: tuple[str, ...] = ()
        if self.op.hidden_os is not None:
            changes["hidden_os"], more = edited_list(settings.hidden_os, self.op.hidden_os, "hidden")
            warnings += more
        if self.op.blacklisted_os is not None:
            changes["blacklisted_os"], more = edited_list(
                settings.blacklisted_os, self.op.blacklisted_os, "blacklisted"
            )
            warnings += more
        return warnings

    async def _check_allocator(self, ctx: Context) -> None:
        name = self.op.default_iallocator
        if name and not await ctx.allocation.exists(name):
            plugins = ctx.plugins.iallocators.items()
            known = sorted(own for own, one in plugins if not IExternalAllocators.providedBy(one))
            raise PrereqError(
                f"there is no allocator {name!r} on the master; built in: {', '.join(known)}; others are"
                " programs that have to be installed there"
            )

    async def _ask_nodes(self, ctx: Context, settings: ClusterSettings) -> None:
        old = ctx.cluster.settings
        changed = {
            *(self.op.hvparams or {}),
            *(set(settings.enabled_hypervisors) - set(old.enabled_hypervisors)),
        } & set(settings.enabled_hypervisors)
        nodes = [node for node in ctx.cluster.nodes.values() if node.vm_capable and not node.offline]
        for hypervisor in sorted(changed):
            call = HypervisorValidateParams(hypervisor=hypervisor, hvparams=settings.hvparams[hypervisor])
            for uuid, outcome in (await ctx.nodes.each(nodes, call)).items():
                match outcome:
                    case NodeFailed() as failed:
                        raise PrereqError(
                            f"hypervisor {hypervisor} on node {ctx.cluster.nodes[uuid].name}: {failed.reason}"
                        )

"""OP_INSTANCE_SET_PARAMS: change what is set on an instance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from ganeti.errors import ErrorCode, GanetiError, PrereqError
from ganeti.logic.hooks_env import instance_env
from ganeti.logic.instance_changes import put_instance
from ganeti.model.calls.instances import HypervisorValidateParams, RunningInstance
from ganeti.model.calls.os import OsValidate
from ganeti.model.calls.outcome import NodeFailed
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.cluster import Cluster
from ganeti.model.filled import beparams_of, hvparams_of, osparams_of
from ganeti.model.instance import AdminState, Instance
from ganeti.model.locks import LockLevel, LockPlan, exclusive, shared
from ganeti.model.param_tables.be import BACKEND, expand_memory
from ganeti.model.params import RESET, ParamValue
from ganeti.ops.base import Command, Context, Hooks, HookTarget, Param, Route
from ganeti.ops.instance.base import InstanceOpCode, InstanceOperation
from ganeti.ops.instance.target import policy_problems
from ganeti.ops.kinds import KEY_VALUES, OS, PRIVATE_KEY_VALUES
from ganeti.ops.steps import capacity_of, running_on

Changes = tuple[tuple[str, Any], ...]


class SetInstanceParams(InstanceOpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_SET_PARAMS"):
    """Change an instance."""

    force: Annotated[bool, Param("go on although it will not fit any more", flag="force", short="f")] = False
    force_variant: Annotated[bool, Param("accept an OS variant that is not listed", flag="force-variant")] = (
        False
    )
    ignore_ipolicy: Annotated[bool, Param("go on although it violates the policy", flag="ignore-ipolicy")] = (
        False
    )
    beparams: Annotated[
        Mapping[str, ParamValue],
        Param("memory, processors and so on; `default` resets", KEY_VALUES, "backend-parameters", "B"),
    ] = {}
    hvparams: Annotated[
        Mapping[str, ParamValue],
        Param("hypervisor parameters; `default` resets", KEY_VALUES, "hypervisor-parameters", "H"),
    ] = {}
    os_name: Annotated[str | None, Param("record another OS; runs no script", OS, "os-type", "o")] = None
    osparams: Annotated[
        Mapping[str, ParamValue],
        Param("parameters of the OS; a leading minus removes one", KEY_VALUES, "os-parameters", "O"),
    ] = {}
    osparams_private: Annotated[
        Mapping[str, ParamValue] | None,
        Param(
            "the same, kept out of logs",
            PRIVATE_KEY_VALUES,
            "os-parameters-private",
            secret=True,
        ),
    ] = None
    offline: Annotated[bool | None, Param("true: mark as offline; false: bring back to stopped")] = None


class SetParamsFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out before a change."""

    new: Instance
    running: RunningInstance | None = None
    capacity: NodeCapacity | None = None
    warnings: tuple[str, ...] = ()


class SetInstanceParamsOperation(InstanceOperation[SetInstanceParams, SetParamsFacts, Changes]):
    """Checks the changed instance as a whole before anything is recorded."""

    hooks = Hooks("instance-modify", HookTarget.INSTANCE)
    routes = (Route(method="PUT", path="/2/instances/{instance_name}/modify"),)
    commands = (
        Command(
            tool="gnt-instance",
            name="modify",
            positional="instance_name",
            switches={"offline": {"offline": True}, "online": {"offline": False}},
        ),
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """The instance, its nodes, and their groups shared."""
        instance = self.instance(cluster)
        nodes = cluster.nodes_of(instance)
        return LockPlan(
            requests={
                LockLevel.INSTANCE: exclusive([instance.name]),
                LockLevel.NODEGROUP: shared(cluster.nodes[node].group for node in nodes),
                LockLevel.NODE: exclusive(nodes),
            }
        )

    async def gather(self, ctx: Context) -> SetParamsFacts:
        """The instance as it will be, checked by its plugins and on its node."""
        cluster = ctx.cluster
        instance = self.instance(cluster)
        try:
            new = self._changed(ctx, instance)
        except GanetiError as error:
            raise PrereqError(str(error)) from error
        primary = cluster.nodes[instance.primary_node]
        if primary.offline:
            return SetParamsFacts(
                new=new,
                warnings=(f"primary node {primary.name} is offline: nothing could be checked there",),
            )
        warnings = []
        if self.op.hvparams:
            await self._validate_hypervisor(ctx, new)
        if self.op.osparams or self.op.osparams_private or self.op.os_name:
            await self._validate_os(ctx, new)
        try:
            running = await running_on(ctx.nodes, cluster, instance)
            capacity = await capacity_of(ctx.nodes, primary, instance.hypervisor)
        except GanetiError as error:
            warnings.append(f"node {primary.name} does not tell its free memory: {error}")
            return SetParamsFacts(new=new, warnings=tuple(warnings))
        return SetParamsFacts(new=new, running=running, capacity=capacity, warnings=tuple(warnings))

    def check(self, cluster: Cluster, facts: SetParamsFacts) -> None:
        """Something changes, states allow it, it still fits node and policy."""
        instance = self.instance(cluster)
        if not self._asks_for_something():
            raise PrereqError("no changes submitted; give at least one option")
        self._check_state(instance, facts)
        problems = policy_problems(put_instance(cluster, facts.new), facts.new, instance.primary_node)
        if problems and not self.op.ignore_ipolicy and self.op.beparams:
            raise PrereqError(
                f"{instance.name} would violate the instance policy: {'; '.join(problems)} "
                "(--ignore-ipolicy goes on all the same)",
                code=ErrorCode.STATE,
            )
        self._check_memory(cluster, instance, facts)

    async def run(self, ctx: Context, facts: SetParamsFacts) -> Changes:
        """Record; what runs sees it at its next start."""
        for warning in facts.warnings:
            ctx.feedback.warning(warning)
        await ctx.config.update(
            lambda cluster: put_instance(cluster, facts.new),
            reason=f"parameters of {facts.new.name} change",
        )
        return self._report()

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The instance with its new memory and processors."""
        instance = self.instance(cluster)
        own = BACKEND.merge(instance.beparams, expand_memory(self.op.beparams))
        return instance_env(cluster, replace(instance, beparams=own))

    def _asks_for_something(self) -> bool:
        op = self.op
        asked = (op.beparams, op.hvparams, op.osparams, op.osparams_private, op.os_name)
        return any(asked) or op.offline is not None

    def _changed(self, ctx: Context, instance: Instance) -> Instance:
        """The instance after the change, checked in itself.

        Raises:
            GanetiError: a parameter is unknown or wrong.
        """
        settings = ctx.cluster.settings
        hypervisor: Any = ctx.plugins.hypervisors[instance.hypervisor]
        new = replace(
            instance,
            beparams=BACKEND.merge(instance.beparams, expand_memory(self.op.beparams)),
            hvparams=hypervisor.params.merge(instance.hvparams, self.op.hvparams),
            os=self.op.os_name or instance.os,
            osparams=_merged_free(instance.osparams, self.op.osparams),
            osparams_private=_merged_free(instance.osparams_private, self.op.osparams_private or {}),
            admin_state=self._new_state(instance),
        )
        for name in self.op.hvparams:
            if hypervisor.params.rows[name].is_global:
                raise PrereqError(
                    f"hypervisor parameter {name} can only be set for the whole cluster (gnt-cluster modify)"
                )
        hypervisor.check_params(hvparams_of(settings, new.hypervisor, new.os, new.hvparams))
        backend = beparams_of(settings, new.beparams)
        if backend.minmem > backend.maxmem:
            raise PrereqError(
                f"minmem ({backend.minmem} MiB) must not be more than maxmem ({backend.maxmem} MiB)"
            )
        return new

    def _new_state(self, instance: Instance) -> AdminState:
        if self.op.offline is None:
            return instance.admin_state
        return AdminState.OFFLINE if self.op.offline else AdminState.DOWN

    def _check_state(self, instance: Instance, facts: SetParamsFacts) -> None:
        name = instance.name
        is_up = instance.admin_state is AdminState.UP or facts.running is not None
        if self.op.offline is True and is_up:
            raise PrereqError(
                f"instance {name} runs or is to run; 'gnt-instance shutdown {name}' first",
                code=ErrorCode.STATE,
            )
        if self.op.offline is False and instance.admin_state is not AdminState.OFFLINE:
            raise PrereqError(f"instance {name} is not marked offline", code=ErrorCode.STATE)

    def _check_memory(self, cluster: Cluster, instance: Instance, facts: SetParamsFacts) -> None:
        if self.op.force or facts.capacity is None or instance.admin_state is not AdminState.UP:
            return
        old = beparams_of(cluster.settings, instance.beparams).maxmem
        wanted = beparams_of(cluster.settings, facts.new.beparams).maxmem
        in_use = facts.running.memory if facts.running is not None else 0
        missing = wanted - in_use - facts.capacity.memory_free
        if wanted > old and missing > 0:
            node = cluster.nodes[instance.primary_node].name
            raise PrereqError(
                f"{instance.name} could not start again with {wanted} MiB: node {node} misses {missing} MiB "
                "of memory (-f goes on all the same)",
                code=ErrorCode.NO_RESOURCES,
            )

    async def _validate_hypervisor(self, ctx: Context, new: Instance) -> None:
        cluster = ctx.cluster
        filled = hvparams_of(cluster.settings, new.hypervisor, new.os, new.hvparams)
        nodes = [cluster.nodes[node] for node in cluster.nodes_of(new) if not cluster.nodes[node].offline]
        call = HypervisorValidateParams(hypervisor=new.hypervisor, hvparams=filled)
        for uuid, outcome in (await ctx.nodes.each(nodes, call)).items():
            match outcome:
                case NodeFailed() as failed:
                    raise PrereqError(
                        f"hypervisor parameters do not work on {cluster.nodes[uuid].name}: {failed.reason}"
                    )

    async def _validate_os(self, ctx: Context, new: Instance) -> None:
        cluster = ctx.cluster
        parameters = {
            **osparams_of(cluster.settings, new.os, new.osparams),
            **new.osparams_private,
        }
        call = OsValidate(
            name=new.os,
            parameters=parameters,
            required=self.op.os_name is not None,
            force_variant=self.op.force_variant,
        )
        try:
            await ctx.nodes.call(cluster.nodes[new.primary_node], call)
        except GanetiError as error:
            raise PrereqError(f"OS {new.os or '(none)'} refuses: {error}") from error

    def _report(self) -> Changes:
        op = self.op
        rows: list[tuple[str, Any]] = [(f"hv/{name}", value) for name, value in op.hvparams.items()]
        rows += [(f"be/{name}", value) for name, value in op.beparams.items()]
        rows += [(f"os/{name}", value) for name, value in op.osparams.items()]
        rows += [(f"os_private/{name}", "<redacted>") for name in op.osparams_private or {}]
        if op.offline is not None:
            rows.append(("admin_state", "offline" if op.offline else "down"))
        return tuple(rows)


def _merged_free(own: Mapping[str, ParamValue], changes: Mapping[str, ParamValue]) -> dict[str, ParamValue]:
    """OS parameters after a change; nobody but the OS knows their names. None or `default` removes."""
    merged = dict(own)
    for name, value in changes.items():
        if value is None or value == RESET:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged

"""OP_INSTANCE_CREATE: create an instance, install its OS and start it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, ClassVar, Literal

import msgspec

from ganeti.errors import ErrorCode, GanetiError, OperationFailed, PrereqError
from ganeti.interfaces import Plugins
from ganeti.logic.hooks_env import text
from ganeti.logic.instance_changes import set_admin_state
from ganeti.logic.node_figures import free_space
from ganeti.model.calls.instances import HypervisorValidateParams
from ganeti.model.calls.os import OsValidate
from ganeti.model.calls.outcome import NodeFailed
from ganeti.model.calls.system import BridgesExist
from ganeti.model.cluster import Cluster
from ganeti.model.disk import TRAITS, Mirroring
from ganeti.model.filled import fill_instance, nicparams_of, osparams_of
from ganeti.model.ids import GroupId, InstanceId, NodeId
from ganeti.model.instance import AdminState
from ganeti.model.locks import LockLevel, LockMode, LockPlan, exclusive, shared
from ganeti.model.params import ParamValue
from ganeti.ops.base import Command, Context, HookNodes, Hooks, HookTarget, OpCode, Operation, Param, Route
from ganeti.ops.instance.common import hook_env, hook_nodes, require_target
from ganeti.ops.instance.create_checks import (
    CreateWish,
    check_groups,
    complete,
    normalised_name,
    refuse_existing,
    wanted_groups,
    with_address,
)
from ganeti.ops.instance.create_place import choice_locks, choose_nodes, room_of
from ganeti.ops.instance.create_steps import (
    Birth,
    create_disks,
    forget,
    install_os,
    make_real,
    reserve,
    sync_disks,
)
from ganeti.ops.instance.device_specs import RawDevice, own_nicparams
from ganeti.ops.instance.startup import start_on_primary
from ganeti.ops.kinds import (
    DISK_SPECS,
    GROUP,
    GROUPS,
    KEY_VALUES,
    NAMED_KEY_VALUES,
    NIC_SPECS,
    NODE,
    OS,
    PRIVATE_KEY_VALUES,
    TAGS,
)

Params = Mapping[str, ParamValue]


class CreateInstance(OpCode, frozen=True, kw_only=True, tag="OP_INSTANCE_CREATE"):
    """Create an instance."""

    summary_field: ClassVar[str | None] = "instance_name"

    instance_name: Annotated[str, Param("name of the new instance, a host name")]
    mode: Annotated[Literal["create"], Param("create: install an OS")]
    disks: Annotated[
        tuple[RawDevice, ...], Param("a disk: size and, if wanted, mode, name ...", DISK_SPECS, "disk")
    ]
    nics: Annotated[
        tuple[RawDevice, ...], Param("a network interface: mac, ip, mode, link ...", NIC_SPECS, "net")
    ]
    disk_template: Annotated[str | None, Param("kind of the disks", flag="disk-template", short="t")] = None
    os_type: Annotated[str | None, Param("OS definition to install", OS, "os-type", "o")] = None
    force_variant: Annotated[bool, Param("accept an OS variant that is not listed", flag="force-variant")] = (
        False
    )
    pnode: Annotated[str | None, Param("primary node", NODE, "node", "n")] = None
    pnode_uuid: Annotated[str | None, Param("the same by UUID")] = None
    snode: Annotated[str | None, Param("secondary node, for mirrored disks", NODE)] = None
    snode_uuid: Annotated[str | None, Param("the same by UUID")] = None
    iallocator: Annotated[
        str | None, Param("allocator that chooses the nodes", flag="iallocator", short="I")
    ] = None
    group_name: Annotated[str | None, Param("only nodes of this group", GROUP)] = None
    target_groups: Annotated[
        tuple[str, ...],
        Param("only nodes of these groups; may be repeated", GROUPS, "node-group", "g"),
    ] = ()
    hypervisor: Annotated[str | None, Param("hypervisor")] = None
    hvparams: Annotated[
        Params,
        Param("hypervisor and parameters of it", NAMED_KEY_VALUES, "hypervisor-parameters", "H"),
    ] = {}
    beparams: Annotated[
        Params, Param("memory, processors and so on", KEY_VALUES, "backend-parameters", "B")
    ] = {}
    osparams: Annotated[Params, Param("parameters of the OS", KEY_VALUES, "os-parameters", "O")] = {}
    osparams_private: Annotated[
        Params | None,
        Param(
            "the same, kept out of logs",
            PRIVATE_KEY_VALUES,
            "os-parameters-private",
            secret=True,
        ),
    ] = None
    osparams_secret: Annotated[
        Params | None,
        Param("the same, never stored", PRIVATE_KEY_VALUES, "os-parameters-secret", secret=True),
    ] = None
    file_driver: Annotated[
        Literal["loop", "blktap", "blktap2", "qcow2"] | None,
        Param("format of disk files: qcow2, or raw for all others", flag="file-driver"),
    ] = None
    file_storage_dir: Annotated[
        str | None, Param("sub-directory for the disk files", flag="file-storage-dir")
    ] = None
    no_install: Annotated[bool | None, Param("do not install an OS, and do not start", flag="no-install")] = (
        None
    )
    start: Annotated[bool, Param("leave it stopped", flag="no-start")] = True
    wait_for_sync: Annotated[
        bool, Param("do not wait until the mirrors are in sync", flag="no-wait-for-sync")
    ] = True
    name_check: Annotated[bool, Param("the name must resolve", flag="name-check")] = False
    ip_check: Annotated[bool, Param("the address of the name must not answer", flag="ip-check")] = False
    conflicts_check: Annotated[
        bool, Param("allow addresses of a known network", flag="no-conflicts-check")
    ] = True
    ignore_ipolicy: Annotated[bool, Param("go on although it violates the policy", flag="ignore-ipolicy")] = (
        False
    )
    opportunistic_locking: Annotated[
        bool, Param("choose among nodes that are free at once", flag="opportunistic-locking")
    ] = False
    tags: Annotated[tuple[str, ...], Param("tags of the instance", kind=TAGS, flag="tags")] = ()


class CreateFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out before a creation."""

    wish: CreateWish
    nodes: tuple[NodeId, ...]
    """Primary first."""
    free_memory_mib: int
    free_space_mib: Mapping[NodeId, int] = {}
    """For the disks; of nodes that report such a thing."""
    osparams: dict[str, ParamValue]


class CreateInstanceOperation(Operation[CreateInstance, CreateFacts, list[str]]):
    """Reserve, create the disks, install the OS, start; undone in reverse if a step fails.

    Once the OS is being installed nothing is undone: the instance stays for the administrator to
    look at.
    """

    aliases = ("OP_CREATE_INSTANCE",)
    hooks = Hooks("instance-add", HookTarget.INSTANCE)
    routes = (Route(method="POST", path="/2/instances", query=("dry_run",)),)
    commands = (
        Command(
            tool="gnt-instance",
            name="add",
            positional="instance_name",
            fixed={"mode": "create"},
        ),
    )

    def __init__(self, op: CreateInstance) -> None:
        super().__init__(op)
        self._chosen: tuple[NodeId, ...] = ()
        """Known once `gather` found a place; hooks run there."""

    def locks(self, cluster: Cluster) -> LockPlan:
        """The new name; the nodes given, or those of which an allocator chooses."""
        name = normalised_name(self.op.instance_name)
        refuse_existing(cluster, name)
        add = {LockLevel.INSTANCE: frozenset([name])}
        given = given_nodes(self.op, cluster)
        if given:
            nodes = exclusive(given)
            groups = shared(cluster.nodes[node].group for node in given)
        else:
            nodes, groups = choice_locks(
                cluster,
                wanted_groups(cluster, self.op.group_name, self.op.target_groups),
                is_opportunistic=self.op.opportunistic_locking,
                mode=LockMode.EXCLUSIVE,
            )
        return LockPlan(
            add=add,
            requests={
                LockLevel.NODEGROUP: groups,
                LockLevel.NODE: nodes,
                LockLevel.NODE_RES: nodes,
            },
        )

    async def gather(self, ctx: Context) -> CreateFacts:
        """Everything filled in, a place for it, and what the nodes say to it."""
        cluster = ctx.cluster
        check_arguments(self.op)
        wish = wish_of(self.op, cluster, ctx.plugins)
        wish = with_address(wish, await self._check_name(ctx, wish))
        groups = wanted_groups(cluster, self.op.group_name, self.op.target_groups)
        facts = await self._settle(ctx, wish, groups)
        if self._shortage(cluster, facts) is not None and not given_nodes(self.op, cluster):
            # What was known of those nodes when they were chosen was wrong, and is forgotten now.
            facts = await self._settle(ctx, wish, groups)
        self._chosen = facts.nodes
        self._release_unused(ctx, facts.nodes)
        return facts

    async def _settle(self, ctx: Context, wish: CreateWish, groups: tuple[GroupId, ...]) -> CreateFacts:
        """A place, and what its nodes say now."""
        cluster = ctx.cluster
        nodes = given_nodes(self.op, cluster) or await choose_nodes(
            ctx,
            wish,
            groups,
            allocator=self.op.iallocator,
            is_opportunistic=self.op.opportunistic_locking,
        )
        self._check_nodes(cluster, wish, nodes)
        check_groups(cluster, wish.name, nodes, groups)
        osparams = osparams_of(cluster.settings, wish.os, self.op.osparams)
        await self._ask_nodes(ctx, wish, nodes, osparams)
        infos = await room_of(ctx, wish, nodes)
        spaces = {node: free_space(info, wish.template) for node, info in infos.items()}
        return CreateFacts(
            wish=wish,
            nodes=nodes,
            free_memory_mib=infos[nodes[0]].hypervisors[wish.hypervisor].memory_free,
            free_space_mib={node: free for node, free in spaces.items() if free is not None},
            osparams=dict(self.op.osparams),
        )

    def check(self, cluster: Cluster, facts: CreateFacts) -> None:
        """Policy, memory and disk space."""
        primary = cluster.nodes[facts.nodes[0]]
        problems = facts.wish.policy_problems(cluster, primary.group)
        if problems and not self.op.ignore_ipolicy:
            group = cluster.groups[primary.group].name
            raise PrereqError(
                f"{facts.wish.name} violates the instance policy of group {group}: {'; '.join(problems)} "
                "(--ignore-ipolicy goes on all the same)",
                code=ErrorCode.INPUT,
            )
        shortage = self._shortage(cluster, facts)
        if shortage is not None:
            raise PrereqError(shortage, code=ErrorCode.NO_RESOURCES)

    def _shortage(self, cluster: Cluster, facts: CreateFacts) -> str | None:
        """What the chosen nodes lack."""
        wish = facts.wish
        needed = wish.backend.minmem
        if self._starts and facts.free_memory_mib < needed:
            return (
                f"node {cluster.nodes[facts.nodes[0]].name} has {facts.free_memory_mib} MiB of free memory, "
                f"{wish.name} needs {needed} MiB; choose another node or give it less"
            )
        space = wish.needed_space_mib(cluster.settings.volume_group_name)
        for node, free in facts.free_space_mib.items():
            if space > free:
                return (
                    f"node {cluster.nodes[node].name} has {free} MiB of free space for {wish.template} "
                    f"disks, {wish.name} needs {space} MiB; choose another node or smaller disks"
                )
        return None

    async def run(self, ctx: Context, facts: CreateFacts) -> list[str]:
        """Create it; gives the names of its nodes, primary first."""
        birth = Birth(
            uuid=InstanceId(ctx.new_uuid()),
            wish=facts.wish,
            nodes=facts.nodes,
            osparams=facts.osparams,
            osparams_private=dict(self.op.osparams_private or {}),
        )
        await reserve(ctx, birth)
        try:
            await create_disks(ctx, birth.uuid)
            await sync_disks(ctx, birth.uuid, wait=self.op.wait_for_sync)
        except OperationFailed:
            await forget(ctx, birth.uuid)
            raise
        await make_real(ctx, birth.uuid)
        ctx.held.keep_added(LockLevel.INSTANCE, [facts.wish.name])
        ctx.feedback.info(f"adding instance {facts.wish.name} to cluster config")
        # The disks are there: from here on only the instance is worked on, which may take hours.
        ctx.held.release(LockLevel.NODE)
        ctx.held.release(LockLevel.NODE_RES)
        if facts.wish.disks and facts.wish.os and not self.op.no_install:
            await install_os(
                ctx,
                birth.uuid,
                secret=dict(self.op.osparams_secret or {}),
                debug_level=self.op.debug_level or 0,
            )
        if self._starts:
            await self._start(ctx, birth.uuid)
        return self._names(ctx.cluster, facts)

    def dry_run_result(self, cluster: Cluster, facts: CreateFacts) -> list[str]:
        """Where it would go."""
        return self._names(cluster, facts)

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The instance once it exists; before that, what the opcode says."""
        found = cluster.instances.by_key(normalised_name(self.op.instance_name))
        if found is not None:
            return hook_env(cluster, found, ADD_MODE=self.op.mode)
        name = normalised_name(self.op.instance_name)
        return {
            "OP_TARGET": name,
            "ADD_MODE": self.op.mode,
            "INSTANCE_NAME": name,
            "INSTANCE_OS_TYPE": text(self.op.os_type or ""),
            "INSTANCE_STATUS": "up" if self._starts else "down",
            "INSTANCE_TAGS": text(self.op.tags),
            "INSTANCE_DISK_COUNT": text(len(self.op.disks)),
            "INSTANCE_NIC_COUNT": text(len(self.op.nics)),
        }

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Master and the instance's nodes, as far as they are known."""
        found = cluster.instances.by_key(normalised_name(self.op.instance_name))
        if found is not None:
            return hook_nodes(cluster, found)
        chosen = self._chosen or given_nodes(self.op, cluster)
        known = dict.fromkeys((cluster.settings.master_node, *chosen))
        return HookNodes(pre=tuple(known), post=tuple(known))

    @property
    def _starts(self) -> bool:
        return self.op.start and not self.op.no_install

    async def _check_name(self, ctx: Context, wish: CreateWish) -> str | None:
        if not self.op.name_check:
            return None
        family = 6 if ctx.cluster.settings.primary_ip_family == 10 else 4
        try:
            address = await ctx.reachability.resolve(wish.name, family=family)
        except GanetiError as error:
            raise PrereqError(str(error), code=ErrorCode.RESOLVER) from error
        if self.op.ip_check and await ctx.reachability.answers(address, 1811, timeout_s=10.0):
            raise PrereqError(
                f"address {address} of {wish.name} is in use already", code=ErrorCode.NOT_UNIQUE
            )
        return address

    def _check_nodes(self, cluster: Cluster, wish: CreateWish, nodes: tuple[NodeId, ...]) -> None:
        for node in nodes:
            require_target(cluster, cluster.nodes[node], f"add {wish.name}")
        traits = TRAITS.get(wish.template)
        is_pair = traits is not None and traits.mirroring is Mirroring.INTERNAL
        if is_pair and len(nodes) != 2:
            raise PrereqError(
                f"disks of template {wish.template} need a secondary node; write -n PRIMARY:SECONDARY"
            )
        if is_pair and nodes[0] == nodes[1]:
            raise PrereqError("the secondary node must be another one than the primary")

    async def _ask_nodes(
        self, ctx: Context, wish: CreateWish, nodes: tuple[NodeId, ...], osparams: dict[str, ParamValue]
    ) -> None:
        cluster = ctx.cluster
        call = HypervisorValidateParams(hypervisor=wish.hypervisor, hvparams=wish.hvparams)
        chosen = [cluster.nodes[node] for node in nodes]
        for uuid, outcome in (await ctx.nodes.each(chosen, call)).items():
            match outcome:
                case NodeFailed() as failed:
                    raise PrereqError(
                        f"hypervisor {wish.hypervisor} on node {cluster.nodes[uuid].name}: {failed.reason}",
                        code=ErrorCode.ENVIRONMENT,
                    )
        await self._ask_for_bridges(ctx, wish, nodes[0])
        if wish.os and not self.op.no_install:
            await self._ask_for_os(ctx, wish, nodes[0], osparams)

    async def _ask_for_bridges(self, ctx: Context, wish: CreateWish, node: NodeId) -> None:
        settings = ctx.cluster.settings
        nics = [nicparams_of(settings, own_nicparams(spec)) for spec in wish.nics]
        bridges = tuple(sorted({str(nic["link"]) for nic in nics if nic["mode"] == "bridged"}))
        if not bridges:
            return
        try:
            await ctx.nodes.call(ctx.cluster.nodes[node], BridgesExist(bridges=bridges))
        except GanetiError as error:
            raise PrereqError(
                f"cannot connect {wish.name} on {ctx.cluster.nodes[node].name}: {error}",
                code=ErrorCode.ENVIRONMENT,
            ) from error

    async def _ask_for_os(
        self, ctx: Context, wish: CreateWish, node: NodeId, osparams: dict[str, ParamValue]
    ) -> None:
        call = OsValidate(
            name=wish.os,
            parameters={
                **osparams,
                **(self.op.osparams_private or {}),
                **(self.op.osparams_secret or {}),
            },
            force_variant=self.op.force_variant,
        )
        try:
            await ctx.nodes.call(ctx.cluster.nodes[node], call)
        except GanetiError as error:
            raise PrereqError(
                f"OS {wish.os} cannot be used on node {ctx.cluster.nodes[node].name}: {error}"
            ) from error

    def _release_unused(self, ctx: Context, nodes: tuple[NodeId, ...]) -> None:
        for level in (LockLevel.NODE, LockLevel.NODE_RES):
            ctx.held.release(level, ctx.held.names(level) - set(nodes))

    async def _start(self, ctx: Context, uuid: InstanceId) -> None:
        ctx.feedback.info("* starting instance...")
        await ctx.config.update(
            partial(set_admin_state, uuid=uuid, state=AdminState.UP), reason="the instance is to run"
        )
        await start_on_primary(ctx, fill_instance(ctx.cluster, ctx.cluster.instances[uuid]))

    def _names(self, cluster: Cluster, facts: CreateFacts) -> list[str]:
        return [cluster.nodes[node].name for node in facts.nodes]


def given_nodes(op: CreateInstance, cluster: Cluster) -> tuple[NodeId, ...]:
    """The nodes that an opcode names, primary first; none: an allocator chooses."""
    primary = op.pnode_uuid or op.pnode
    if primary is None:
        return ()
    secondary = op.snode_uuid or op.snode
    nodes = (cluster.node(primary).uuid,)
    return nodes if secondary is None else (*nodes, cluster.node(secondary).uuid)


def check_arguments(op: CreateInstance) -> None:
    """Refuse parameters that contradict each other.

    Raises:
        PrereqError: which ones.
    """
    if op.iallocator is not None and (op.pnode or op.pnode_uuid):
        raise PrereqError("give either a node or an allocator, not both")
    if op.ip_check and not op.name_check:
        raise PrereqError("the check of the address (ip_check) needs the check of the name (name_check)")
    if not op.os_type and not op.no_install and op.disks:
        raise PrereqError("no OS given; choose one with -o, or give --no-install")


def wish_of(op: CreateInstance, cluster: Cluster, plugins: Plugins) -> CreateWish:
    """What an opcode asks for, with every default filled in.

    Raises:
        PrereqError: what cannot be.
    """
    if op.os_type and op.os_type.partition("+")[0] in cluster.settings.blacklisted_os:
        raise PrereqError(f"OS {op.os_type} is blacklisted in this cluster", code=ErrorCode.STATE)
    return complete(
        cluster,
        plugins,
        name=op.instance_name,
        hypervisor=op.hypervisor,
        template=op.disk_template,
        os=op.os_type or "",
        hvparams=op.hvparams,
        beparams=op.beparams,
        disks=op.disks,
        nics=op.nics,
        tags=op.tags,
        file_driver=op.file_driver,
        file_storage_dir=op.file_storage_dir,
    )

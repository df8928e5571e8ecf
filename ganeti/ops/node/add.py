"""OP_NODE_ADD: take a prepared node into the cluster, or take one back.

Before this, credentials were delivered to the node and its daemon was started: that is the work of a
separate script, so that the core of the system knows nothing of SSH (S2.3-153).
"""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec.structs import replace

from ganeti.errors import ErrorCode, GanetiError, PrereqError
from ganeti.logic.node_flags import should_promote_itself
from ganeti.model.calls.system import Version, VersionResult
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId, is_host_name
from ganeti.model.locks import LockLevel, LockPlan
from ganeti.model.node import Node, NodeGroup
from ganeti.model.param_tables.nd import NODE as NODE_PARAMS
from ganeti.model.params import ParamValue
from ganeti.ops.base import Command, Context, HookNodes, Hooks, HookTarget, OpCode, Operation, Param
from ganeti.ops.kinds import GROUP, KEY_VALUES, YES_NO
from ganeti.ops.node.common import clear_candidate, put_node
from ganeti.version import PROTOCOL_VERSION


class AddNode(OpCode, frozen=True, kw_only=True, tag="OP_NODE_ADD"):
    """Take a node into the cluster."""

    summary_field: ClassVar[str | None] = "node_name"

    node_name: Annotated[str, Param("name of the node, as it resolves")]
    node_uuid: Annotated[str | None, Param("UUID that its certificate carries; made up if absent")] = None
    primary_ip: Annotated[str | None, Param("address for cluster traffic; default: as the name resolves")] = (
        None
    )
    secondary_ip: Annotated[
        str | None,
        Param("address for disk and migration traffic", flag="secondary-ip", short="s"),
    ] = None
    readd: Annotated[bool, Param("the node is known already and comes back", flag="readd")] = False
    group: Annotated[str | None, Param("node group", GROUP, "node-group", "g")] = None
    master_capable: Annotated[bool | None, Param("may be master or candidate", YES_NO, "master-capable")] = (
        None
    )
    vm_capable: Annotated[bool | None, Param("may host instances", YES_NO, "vm-capable")] = None
    ndparams: Annotated[
        Mapping[str, ParamValue] | None, Param("node parameters", KEY_VALUES, "node-parameters")
    ] = None
    hv_state: Annotated[Mapping[str, Any] | None, Param("static state of hypervisors")] = None
    disk_state: Annotated[Mapping[str, Any] | None, Param("static state of storage")] = None
    node_setup: Annotated[bool, Param("accepted for older clients; nothing is set up here")] = False


class AddNodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about a new node."""

    node: Node
    version: VersionResult


class AddNodeOperation(Operation[AddNode, AddNodeFacts, None]):
    """Checks addresses and versions, then records the node; a candidate if the pool is not full."""

    hooks = Hooks("node-add", HookTarget.NODE)
    commands = (Command(tool="gnt-node", name="add", positional="node_name", hidden=("node_setup",)),)

    def __init__(self, op: AddNode) -> None:
        super().__init__(op)
        self._name = op.node_name.lower()
        """The full one, once `gather` has found it out."""

    def locks(self, cluster: Cluster) -> LockPlan:
        """Everything."""
        return LockPlan(exclusive_cluster=True)

    async def gather(self, ctx: Context) -> AddNodeFacts:
        """The node as it will be, reached and asked for its version."""
        cluster = ctx.cluster
        _check_name(self.op.node_name.lower())
        name = self._name = await self._full_name(ctx)
        _check_name(name)
        if self.op.node_uuid is not None:
            _check_uuid(self.op.node_uuid)
        known = cluster.nodes.by_key(name)
        primary_ip = self.op.primary_ip or await self._resolved(ctx, name)
        node = self._node(ctx, cluster, name, known, primary_ip)
        self._check_addresses(cluster, node, known)
        try:
            version = await ctx.nodes.call(node, Version(), timeout_s=30.0)
        except GanetiError as error:
            raise PrereqError(
                f"cannot reach the node daemon of {name} at {primary_ip}: {error}; has the node been set up, "
                "and does ganeti-noded run there?",
                code=ErrorCode.ENVIRONMENT,
            ) from error
        return AddNodeFacts(node=node, version=version)

    def check(self, cluster: Cluster, facts: AddNodeFacts) -> None:
        """Same protocol, allowed flags."""
        if facts.version.protocol != PROTOCOL_VERSION:
            raise PrereqError(
                f"node {facts.node.name} speaks protocol version {facts.version.protocol}, the master "
                f"{PROTOCOL_VERSION}; install the same release on it",
                code=ErrorCode.ENVIRONMENT,
            )
        if not facts.node.vm_capable:
            for instance in cluster.instances_on(facts.node.uuid):
                raise PrereqError(
                    f"node {facts.node.name} has instance {instance.name}: vm_capable cannot be off",
                    code=ErrorCode.STATE,
                )

    async def run(self, ctx: Context, facts: AddNodeFacts) -> None:
        """Record it."""

        def added(cluster: Cluster) -> Cluster:
            node = replace(facts.node, master_candidate=False)
            grown = put_node(cluster, node)
            return put_node(grown, replace(node, master_candidate=should_promote_itself(grown, node.uuid)))

        cluster = await ctx.config.update(added, reason=f"node {facts.node.name} joins")
        node = cluster.nodes[facts.node.uuid]
        if not self.op.readd:
            ctx.held.keep_added(LockLevel.NODE, [node.uuid])
        if node.master_candidate:
            ctx.feedback.info("Node will be a master candidate")
        elif self.op.readd:
            await clear_candidate(ctx, node)
        ctx.feedback.info(f"node {node.name} is part of the cluster now")

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """What the opcode says of the node."""
        name = self._name
        return {
            "OP_TARGET": name,
            "NODE_NAME": name,
            "NODE_PIP": str(self.op.primary_ip or ""),
            "NODE_SIP": str(self.op.secondary_ip or self.op.primary_ip or ""),
            "MASTER_CAPABLE": str(self.op.master_capable is not False),
            "VM_CAPABLE": str(self.op.vm_capable is not False),
        }

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Before: all others; after: all."""
        others = tuple(node.uuid for node in cluster.nodes.values() if node.name != self._name)
        return HookNodes(pre=others, post=tuple(cluster.nodes))

    async def _full_name(self, ctx: Context) -> str:
        """The full name; as given where only an address is given for it."""
        name = self.op.node_name.lower()
        family = 6 if ctx.cluster.settings.primary_ip_family == 10 else 4
        try:
            return await ctx.reachability.full_name(name, family=family)
        except GanetiError:
            if self.op.primary_ip is not None:
                return name
            raise PrereqError(
                f"the name {name} does not resolve; put it into DNS or /etc/hosts, or give its primary_ip",
                code=ErrorCode.RESOLVER,
            ) from None

    async def _resolved(self, ctx: Context, name: str) -> str:
        family = 6 if ctx.cluster.settings.primary_ip_family == 10 else 4
        try:
            return await ctx.reachability.resolve(name, family=family)
        except GanetiError as error:
            raise PrereqError(
                f"{error}; put {name} into DNS or /etc/hosts, or give its primary_ip",
                code=ErrorCode.RESOLVER,
            ) from error

    def _node(self, ctx: Context, cluster: Cluster, name: str, known: Node | None, primary_ip: str) -> Node:
        op = self.op
        params = NODE_PARAMS.check(op.ndparams or {})
        if op.readd:
            return self._returning(cluster, name, known, primary_ip, params)
        if known is not None:
            raise PrereqError(
                f"node {name} is in the cluster already; --readd takes a known node back",
                code=ErrorCode.EXISTS,
            )
        return Node(
            uuid=NodeId(op.node_uuid or ctx.new_uuid()),
            name=name,
            primary_ip=primary_ip,
            secondary_ip=op.secondary_ip or primary_ip,
            group=self._group(cluster).uuid,
            master_capable=op.master_capable is not False,
            vm_capable=op.vm_capable is not False,
            ndparams=params,
            hv_state_static=op.hv_state or {},
            disk_state_static=op.disk_state or {},
        )

    def _returning(
        self,
        cluster: Cluster,
        name: str,
        known: Node | None,
        primary_ip: str,
        params: dict[str, ParamValue],
    ) -> Node:
        op = self.op
        if known is None:
            raise PrereqError(
                f"node {name} is not in the cluster; add it without --readd", code=ErrorCode.UNKNOWN
            )
        if known.uuid == cluster.settings.master_node:
            raise PrereqError("the master cannot be re-added", code=ErrorCode.STATE)
        if op.group is not None:
            raise PrereqError("the group of a node cannot change when it is re-added; leave it away")
        if op.secondary_ip not in (None, known.secondary_ip):
            raise PrereqError(
                f"node {name} has the secondary address {known.secondary_ip}; it cannot change with a re-add"
            )
        return replace(
            known,
            primary_ip=primary_ip,
            offline=False,
            drained=False,
            master_candidate=False,
            ndparams=params,
            master_capable=known.master_capable if op.master_capable is None else op.master_capable,
            vm_capable=known.vm_capable if op.vm_capable is None else op.vm_capable,
        )

    def _group(self, cluster: Cluster) -> NodeGroup:
        if self.op.group is not None:
            return cluster.group(self.op.group)
        default = cluster.groups.by_key("default")
        if default is not None:
            return default
        if len(cluster.groups) == 1:
            return next(iter(cluster.groups.values()))
        raise PrereqError(
            "the cluster has several node groups and none is called default; choose one with -g"
        )

    def _check_addresses(self, cluster: Cluster, node: Node, known: Node | None) -> None:
        for address, what in ((node.primary_ip, "primary"), (node.secondary_ip, "secondary")):
            try:
                parsed = ipaddress.ip_address(address)
            except ValueError as error:
                raise PrereqError(f"{address!r} is no IP address ({what} address of {node.name})") from error
            if what == "secondary" and parsed.version != 4:
                raise PrereqError(
                    f"the secondary address of {node.name} must be IPv4, not {address}; give one with -s"
                )
        for other in cluster.nodes.values():
            if known is not None and other.uuid == known.uuid:
                continue
            taken = {other.primary_ip, other.secondary_ip} & {node.primary_ip, node.secondary_ip}
            if taken:
                raise PrereqError(
                    f"address {min(taken)} belongs to node {other.name} already", code=ErrorCode.NOT_UNIQUE
                )
        self._check_homes(cluster, node)

    def _check_homes(self, cluster: Cluster, node: Node) -> None:
        master = cluster.master
        master_single = master.primary_ip == master.secondary_ip
        single = node.primary_ip == node.secondary_ip
        if single != master_single:
            have = "no secondary address" if master_single else "a secondary address"
            raise PrereqError(
                f"the master has {have}; all nodes must be alike: "
                + ("leave -s away" if master_single else f"give the one of {node.name} with -s")
            )


def _check_name(name: str) -> None:
    if not is_host_name(name):
        raise PrereqError(f"{name[:80]!r} cannot name a node; use letters, digits, minus and dots")


def _check_uuid(text: str) -> None:
    try:
        is_plain = str(uuid.UUID(text)) == text
    except ValueError:
        is_plain = False
    if not is_plain:
        raise PrereqError(f"{text!r} is no UUID for a node; leave it away and one is made up")

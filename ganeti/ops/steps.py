"""Steps that several operations share; each takes exactly what it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping
from functools import partial
from typing import TypeVar

import msgspec

from ganeti.errors import ErrorCode, GanetiError, OperationFailed, PrereqError
from ganeti.interfaces import IConfig, IFeedback, INodes
from ganeti.logic.instance_changes import set_disks_active
from ganeti.model.calls.disks import DiskAssemble, DiskShutdown, OpenDisk
from ganeti.model.calls.instances import InstanceInfo, RunningInstance
from ganeti.model.calls.outcome import Answer, NodeFailed
from ganeti.model.calls.system import BridgesExist, NodeCapacity, NodeInfo
from ganeti.model.cluster import Cluster
from ganeti.model.filled import fill_disk, fill_nic
from ganeti.model.ids import InstanceId, NodeId
from ganeti.model.instance import Instance
from ganeti.model.node import Node

R = TypeVar("R")


async def attempt(doing: Awaitable[R], what: str) -> R:
    """The result of a step; its failure becomes the failure of the operation.

    Raises:
        OperationFailed: `what: reason`.
    """
    try:
        return await doing
    except GanetiError as error:
        raise OperationFailed(f"{what}: {error}", detail=error.detail) from error


class OpenedDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of an instance that is open on a node."""

    node: str
    """Name"""
    iv_name: str
    opened: OpenDisk


async def open_disks(
    config: IConfig,
    nodes: INodes,
    feedback: IFeedback,
    uuid: InstanceId,
    *,
    ignore_secondaries: bool = False,
    keep_on_failure: bool = False,
) -> tuple[OpenedDisk, ...]:
    """Open all disks of an instance: first on the secondaries, then on the primary.

    The configuration says `disks_active` before the first disk is touched, so that whoever comes
    after a crash knows. On failure everything is closed again, unless they were open before and are to
    stay so (`keep_on_failure`).

    Raises:
        OperationFailed: a disk cannot be opened.
    """
    cluster = await config.update(
        partial(set_disks_active, uuid=uuid, active=True), reason="disks are being opened"
    )
    instance = cluster.instances[uuid]
    try:
        await _open_on_secondaries(nodes, feedback, cluster, instance, ignore=ignore_secondaries)
        return await _open_on_primary(nodes, cluster, instance)
    except GanetiError:
        if not keep_on_failure:
            await close_disks(config, nodes, feedback, uuid)
        raise


async def _open_on_secondaries(
    nodes: INodes, feedback: IFeedback, cluster: Cluster, instance: Instance, *, ignore: bool
) -> None:
    for index, disk in enumerate(cluster.disks_of(instance)):
        for node in (cluster.nodes[uuid] for uuid in disk.nodes if uuid != instance.primary_node):
            call = DiskAssemble(
                disk=fill_disk(cluster, disk, node.uuid),
                instance=instance.name,
                on_primary=False,
                index=index,
            )
            try:
                await nodes.call(node, call)
            except GanetiError as error:
                if not (ignore or node.offline):
                    raise OperationFailed(
                        f"cannot open disk {index} of {instance.name} on its secondary {node.name}: {error}"
                    ) from error
                feedback.warning(f"disk {index} is not open on the secondary {node.name}: {error}")


async def _open_on_primary(nodes: INodes, cluster: Cluster, instance: Instance) -> tuple[OpenedDisk, ...]:
    primary = cluster.nodes[instance.primary_node]
    opened = []
    for index, disk in enumerate(cluster.disks_of(instance)):
        call = DiskAssemble(
            disk=fill_disk(cluster, disk, primary.uuid), instance=instance.name, on_primary=True, index=index
        )
        result = await attempt(
            nodes.call(primary, call), f"cannot open disk {index} of {instance.name} on {primary.name}"
        )
        opened.append(OpenedDisk(node=primary.name, iv_name=disk.iv_name or f"disk/{index}", opened=result))
    return tuple(opened)


async def close_disks(
    config: IConfig,
    nodes: INodes,
    feedback: IFeedback,
    uuid: InstanceId,
    *,
    only_on: Collection[NodeId] | None = None,
) -> bool:
    """Close all disks of an instance, everywhere or on some nodes; failures are only reported.

    Offline nodes are left out. Gives whether all that were asked did it. Only when they are closed
    everywhere the configuration says so.
    """
    cluster = config.current()
    instance = cluster.instances[uuid]
    clean = True
    for index, disk in enumerate(cluster.disks_of(instance)):
        for node in (cluster.nodes[found] for found in disk.nodes or (instance.primary_node,)):
            if node.offline or (only_on is not None and node.uuid not in only_on):
                continue
            call = DiskShutdown(disk=fill_disk(cluster, disk, node.uuid), instance=instance.name, index=index)
            try:
                await nodes.call(node, call)
            except GanetiError as error:
                clean = False
                feedback.warning(f"cannot close disk {index} of {instance.name} on {node.name}: {error}")
    if only_on is None:
        await config.update(partial(set_disks_active, uuid=uuid, active=False), reason="disks are closed")
    return clean


async def running_on(nodes: INodes, cluster: Cluster, instance: Instance) -> RunningInstance | None:
    """What the primary node says of an instance; None when it does not run there.

    Raises:
        PrereqError: environment_error: the node does not answer.
    """
    primary = cluster.nodes[instance.primary_node]
    try:
        return await nodes.call(primary, InstanceInfo(name=instance.name, hypervisor=instance.hypervisor))
    except GanetiError as error:
        raise PrereqError(
            f"cannot ask node {primary.name} whether {instance.name} runs: {error}",
            code=ErrorCode.ENVIRONMENT,
        ) from error


async def capacity_of(nodes: INodes, node: Node, hypervisor: str) -> NodeCapacity:
    """Memory and processors of a node now.

    Raises:
        PrereqError: environment_error: the node does not answer.
    """
    try:
        info = await nodes.call(node, NodeInfo(hypervisors=(hypervisor,)))
    except GanetiError as error:
        raise PrereqError(
            f"node {node.name} does not tell its free memory: {error}", code=ErrorCode.ENVIRONMENT
        ) from error
    return info.hypervisors[hypervisor]


async def missing_bridges(nodes: INodes, cluster: Cluster, instance: Instance, node: Node) -> str | None:
    """What a node says of the bridges that an instance needs; None: it has them all."""
    nics = (fill_nic(cluster, nic) for nic in instance.nics)
    wanted = tuple(sorted({nic.link for nic in nics if nic.mode == "bridged"}))
    if not wanted:
        return None
    try:
        await nodes.call(node, BridgesExist(bridges=wanted))
    except GanetiError as error:
        return str(error)
    return None


async def where_running(
    nodes: INodes, cluster: Cluster, instance: Instance
) -> tuple[Mapping[NodeId, RunningInstance], Mapping[NodeId, str]]:
    """Nodes on which an instance runs now, and those that did not answer with the reason."""
    asked = [node for node in cluster.nodes.values() if node.vm_capable and not node.offline]
    call = InstanceInfo(name=instance.name, hypervisor=instance.hypervisor)
    found: dict[NodeId, RunningInstance] = {}
    silent: dict[NodeId, str] = {}
    for uuid, outcome in (await nodes.each(asked, call)).items():
        match outcome:
            case Answer(value) if value is not None:
                found[uuid] = value
            case NodeFailed() as failed:
                silent[uuid] = failed.reason
    return found, silent

"""Changes of the configuration that several operations on instances make. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from ganeti.logic.reservations import ports_of, with_ports_returned
from ganeti.model.cluster import Cluster
from ganeti.model.disk import TRAITS, Disk, Mirroring
from ganeti.model.ids import InstanceId, NodeId
from ganeti.model.instance import AdminSource, AdminState, Instance


def put_instance(cluster: Cluster, instance: Instance, disks: Iterable[Disk] = ()) -> Cluster:
    """The cluster with an instance, and disks of it, put in or replaced."""
    return replace(
        cluster,
        instances=cluster.instances.with_item(instance.uuid, instance),
        disks=cluster.disks.with_items({disk.uuid: disk for disk in disks}),
    )


def drop_instance(cluster: Cluster, uuid: InstanceId) -> Cluster:
    """The cluster without an instance and its disks; its ports go back to the pool."""
    instance = cluster.instances[uuid]
    ports = [port for disk in cluster.disks_of(instance) for port in ports_of(disk)]
    if instance.network_port is not None:
        ports.append(instance.network_port)
    return replace(
        with_ports_returned(cluster, ports),
        instances=cluster.instances.without(uuid),
        disks=cluster.disks.without(*instance.disks),
    )


def set_admin_state(
    cluster: Cluster,
    uuid: InstanceId,
    state: AdminState,
    *,
    disks_active: bool | None = None,
    source: AdminSource = AdminSource.ADMIN,
) -> Cluster:
    """The cluster with another wanted state of an instance; None leaves the disks' state alone."""
    instance = cluster.instances[uuid]
    changed = replace(
        instance,
        admin_state=state,
        admin_state_source=source,
        disks_active=instance.disks_active if disks_active is None else disks_active,
    )
    return cluster if changed == instance else put_instance(cluster, changed)


def set_disks_active(cluster: Cluster, uuid: InstanceId, *, active: bool) -> Cluster:
    """The cluster with the disks of an instance marked as open or closed."""
    instance = cluster.instances[uuid]
    if instance.disks_active is active:
        return cluster
    return put_instance(cluster, replace(instance, disks_active=active))


def set_primary(cluster: Cluster, uuid: InstanceId, node: NodeId) -> Cluster:
    """The cluster with another primary node of an instance.

    Disks mirrored between two nodes swap their order; disks on external storage are simply reached
    from the new node.
    """
    instance = cluster.instances[uuid]
    moved = [_led_by(disk, node) for disk in cluster.disks_of(instance)]
    return put_instance(cluster, replace(instance, primary_node=node), moved)


def set_place(cluster: Cluster, uuid: InstanceId, node: NodeId, disks: Iterable[Disk]) -> Cluster:
    """The cluster with an instance on another node, to which its disks were copied."""
    return put_instance(cluster, replace(cluster.instances[uuid], primary_node=node), disks)


def _led_by(disk: Disk, node: NodeId) -> Disk:
    traits = TRAITS.get(disk.dev_type)
    if traits is not None and traits.mirroring is Mirroring.INTERNAL:
        order = (node, *(other for other in disk.nodes if other != node))
    else:
        order = (node,)
    return replace(disk, nodes=order)

"""How a mirrored disk is put together: a pair of nodes, and data and metadata on volumes below it. Pure.

The established shape (objects.md section 6): `logical_id` is (node, node, port, minor, minor, secret),
and both parts below are volumes that have the same name on both nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ganeti.errors import PrereqError
from ganeti.model.disk import Disk, DiskTemplate
from ganeti.model.ids import DiskId, NodeId
from ganeti.model.node import Node
from ganeti.model.params import ParamTable
from ganeti.model.spec import DiskSpec, Reservations

METADATA_MIB = 128


def volume_layout(
    spec: DiskSpec, nodes: Sequence[Node], reservations: Reservations, table: ParamTable
) -> Disk:
    """A disk that is one volume of its primary node.

    Raises:
        PrereqError: there is no volume group.
    """
    uuid = DiskId(reservations.new_uuid())
    return Disk(
        uuid=uuid,
        dev_type=DiskTemplate.PLAIN.value,
        logical_id=(_group(spec, reservations), f"{uuid}.disk{spec.index}"),
        size=spec.size,
        mode=spec.mode,
        iv_name=f"disk/{spec.index}",
        name=spec.name,
        nodes=(nodes[0].uuid,),
        spindles=spec.spindles,
        params=table.check(spec.params) or None,
    )


def mirror_layout(
    spec: DiskSpec, nodes: Sequence[Node], reservations: Reservations, table: ParamTable
) -> Disk:
    """A disk on two nodes with a port, a secret, and a minor on each.

    Raises:
        PrereqError: no second node, or no volume group.
    """
    if len(nodes) < 2:
        raise PrereqError(f"disk {spec.index}: template drbd needs a secondary node")
    group = _group(spec, reservations)
    uuid = DiskId(reservations.new_uuid())
    first, second = nodes[0].uuid, nodes[1].uuid
    volumes = (("data", spec.size, group), ("meta", METADATA_MIB, spec.metavg or group))
    return Disk(
        uuid=uuid,
        dev_type=DiskTemplate.DRBD.value,
        logical_id=(
            first,
            second,
            reservations.new_port(),
            reservations.new_minor(first),
            reservations.new_minor(second),
            reservations.new_secret(),
        ),
        size=spec.size,
        mode=spec.mode,
        iv_name=f"disk/{spec.index}",
        name=spec.name,
        nodes=(first, second),
        children=tuple(
            Disk(
                uuid=DiskId(reservations.new_uuid()),
                dev_type=DiskTemplate.PLAIN.value,
                logical_id=(place, f"{uuid}.disk{spec.index}_{part}"),
                size=size,
                nodes=(first, second),
            )
            for part, size, place in volumes
        ),
        spindles=spec.spindles,
        params=table.check(spec.params) or None,
    )


def with_other_node(disk: Disk, leaving: NodeId, to: NodeId, reservations: Reservations) -> Disk:
    """A mirrored disk with one of its nodes replaced; port, secret and the other minor stay."""
    first, second, port, first_minor, second_minor, secret = disk.logical_id
    minors = {first: first_minor, second: second_minor}
    minors[to] = reservations.new_minor(to)
    ends = tuple(to if node == leaving else node for node in (first, second))
    return replace(
        disk,
        logical_id=(*ends, port, *(minors[node] for node in ends), secret),
        nodes=tuple(to if node == leaving else node for node in disk.nodes),
        children=tuple(
            replace(child, nodes=tuple(to if node == leaving else node for node in child.nodes))
            for child in disk.children
        ),
    )


def _group(spec: DiskSpec, reservations: Reservations) -> str:
    group = spec.vg or reservations.vg_name
    if not group:
        raise PrereqError(
            f"disk {spec.index}: the cluster has no volume group (--vg-name of gnt-cluster init); "
            "name one with vg="
        )
    return group

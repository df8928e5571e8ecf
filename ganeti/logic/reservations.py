"""Ports, DRBD minors, MAC addresses and names that nobody uses yet. Pure.

Each function looks at the configuration and at `taken`: what was chosen for the same change but
is not in the configuration yet. None of them walks through all instances.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.cluster import Cluster
from ganeti.model.defaults import FIRST_PORT, LAST_PORT
from ganeti.model.disk import Disk, DiskTemplate
from ganeti.model.ids import NodeId
from ganeti.model.instance import Instance

if TYPE_CHECKING:
    from random import Random

_MAC_ATTEMPTS = 1000
_MINORS_AT_MOST = 1 << 20
"""Minors of the kernel have 20 bits."""


def macs_of(instance: Instance) -> list[str]:
    """MAC addresses of an instance; for `Table.having`."""
    return [nic.mac.lower() for nic in instance.nics]


def drbd_nodes_of(disk: Disk) -> list[str]:
    """Nodes on which a disk uses DRBD minors; for `Table.having`."""
    return list(disk.nodes) if disk.dev_type == DiskTemplate.DRBD else []


def free_port(cluster: Cluster) -> tuple[Cluster, int]:
    """A TCP port for one instance, and the cluster in which it is handed out.

    Returned ports are used first.

    Raises:
        PrereqError: insufficient_resources: there is none left.
    """
    settings = cluster.settings
    if settings.tcpudp_port_pool:
        port = min(settings.tcpudp_port_pool)
        rest = tuple(other for other in settings.tcpudp_port_pool if other != port)
        return replace(cluster, settings=replace(settings, tcpudp_port_pool=rest)), port
    port = max(settings.highest_used_port + 1, FIRST_PORT)
    if port > LAST_PORT:
        raise PrereqError(
            f"all ports from {FIRST_PORT} to {LAST_PORT} are in use; remove instances that need one",
            code=ErrorCode.NO_RESOURCES,
        )
    return replace(cluster, settings=replace(settings, highest_used_port=port)), port


def with_ports_returned(cluster: Cluster, ports: Iterable[int]) -> Cluster:
    """The cluster in which these ports can be handed out again."""
    settings = cluster.settings
    pool = {*settings.tcpudp_port_pool, *ports}
    if pool == set(settings.tcpudp_port_pool):
        return cluster
    return replace(cluster, settings=replace(settings, tcpudp_port_pool=tuple(sorted(pool))))


def ports_of(disk: Disk) -> tuple[int, ...]:
    """Ports that a disk and its parts use."""
    return tuple(port for port, _ in _drbd_uses(disk))


def minors_of(disk: Disk) -> tuple[tuple[str, int], ...]:
    """Nodes and minors that a disk and its parts use."""
    return tuple(use for _, uses in _drbd_uses(disk) for use in uses)


def _drbd_uses(disk: Disk) -> Iterator[tuple[int, tuple[tuple[str, int], tuple[str, int]]]]:
    """Port, and a pair of node and minor for both ends, of each DRBD device."""
    for part in disk.walk():
        if part.dev_type == DiskTemplate.DRBD and len(part.logical_id) == 6:
            first, second, port, first_minor, second_minor, _ = part.logical_id
            yield port, ((first, first_minor), (second, second_minor))


def free_minor(cluster: Cluster, node: NodeId, *, taken: Collection[int] = ()) -> int:
    """The lowest DRBD minor that is unused on a node.

    Raises:
        PrereqError: insufficient_resources: there is none left.
    """
    used = set(taken)
    for disk in cluster.disks.having(drbd_nodes_of, node):
        used.update(minor for owner, minor in minors_of(disk) if owner == node)
    for minor in range(_MINORS_AT_MOST):
        if minor not in used:
            return minor
    raise PrereqError(
        f"all DRBD minors of node {cluster.nodes[node].name} are in use", code=ErrorCode.NO_RESOURCES
    )


def new_mac(cluster: Cluster, rng: Random, *, taken: Collection[str] = (), prefix: str | None = None) -> str:
    """A MAC address that no instance has.

    Args:
        cluster: the configuration.
        rng: gives the last three octets.
        taken: addresses that must not come out either, lower case.
        prefix: first three octets, of the network; None: those of the cluster.

    Raises:
        PrereqError: insufficient_resources: no free one was found.
    """
    first = (prefix or cluster.settings.mac_prefix).lower()
    for _ in range(_MAC_ATTEMPTS):
        tail = rng.getrandbits(24)
        mac = f"{first}:{tail >> 16:02x}:{tail >> 8 & 255:02x}:{tail & 255:02x}"
        if mac not in taken and not is_mac_used(cluster, mac):
            return mac
    raise PrereqError(
        f"no free MAC address begins with {first}; choose another prefix for the cluster or network",
        code=ErrorCode.NO_RESOURCES,
    )


def is_mac_used(cluster: Cluster, mac: str) -> bool:
    """Whether an instance has this MAC address."""
    return any(True for _ in cluster.instances.having(macs_of, mac.lower()))

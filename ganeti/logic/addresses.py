"""Addresses of networks: which are free, reserving and releasing them. Pure.

A network keeps one character for each of its addresses, once for those that instances use and once
for those that are kept from instances.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator

from msgspec.structs import replace

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId, NetworkId
from ganeti.model.instance import Instance
from ganeti.model.network import Network

SHORTEST_PREFIX, LONGEST_PREFIX = 16, 30
FREE, USED = "0", "1"


def ips_of(instance: Instance) -> list[str]:
    """Addresses of an instance; for `Table.having`."""
    return [nic.ip for nic in instance.nics if nic.ip is not None]


def networks_of(instance: Instance) -> list[str]:
    """UUIDs of the networks that an instance is in; for `Table.having`."""
    return [nic.network for nic in instance.nics if nic.network is not None]


def parse_network(cidr: str) -> ipaddress.IPv4Network:
    """An IPv4 network as a network with a pool may have it.

    Raises:
        PrereqError: wrong_input, with what is wrong.
    """
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        raise PrereqError(f"{cidr!r} is no IPv4 network: {error}") from error
    if not SHORTEST_PREFIX <= network.prefixlen <= LONGEST_PREFIX:
        raise PrereqError(
            f"network {cidr} must have a prefix length from {SHORTEST_PREFIX} to {LONGEST_PREFIX}"
        )
    return network


def empty_pools(cidr: str, external: Iterable[str] = ()) -> tuple[str, str]:
    """Reservations and external reservations of a new network.

    Args:
        cidr: the network.
        external: addresses in it that instances must not get: the gateway, nodes.

    Raises:
        PrereqError: the network is not allowed, or an address is outside of it.
    """
    parsed = parse_network(cidr)
    size = parsed.num_addresses
    kept = bytearray(FREE.encode() * size)
    kept[0] = kept[-1] = ord(USED)
    for address in external:
        kept[_offset(parsed, address, cidr)] = ord(USED)
    return FREE * size, kept.decode()


def contains(network: Network, address: str) -> bool:
    """Whether an address lies in a network."""
    try:
        return ipaddress.ip_address(address) in ipaddress.IPv4Network(network.network)
    except ValueError:
        return False


def is_free(network: Network, address: str) -> bool:
    """Whether an instance could get an address of a network."""
    at = _offset_in(network, address)
    return network.reservations[at] == FREE and network.ext_reservations[at] == FREE


def free_address(network: Network, *, taken: Collection[str] = ()) -> str:
    """The lowest address that is free, other than those taken.

    Raises:
        PrereqError: insufficient_resources: the network is full.
    """
    first = int(ipaddress.IPv4Network(network.network).network_address)
    for at in _free_offsets(network):
        address = str(ipaddress.IPv4Address(first + at))
        if address not in taken:
            return address
    raise PrereqError(
        f"network {network.name} ({network.network}) has no free address", code=ErrorCode.NO_RESOURCES
    )


def free_count(network: Network) -> int:
    """How many addresses instances could still get."""
    return _merged(network).count(FREE.encode())


def with_reserved(network: Network, address: str, *, external: bool = False) -> Network:
    """The network with an address in use.

    Args:
        network: where.
        address: which.
        external: kept from instances, instead of used by one.

    Raises:
        PrereqError: it lies outside, or is in use.
    """
    at = _offset_in(network, address)
    if network.reservations[at] != FREE:
        raise PrereqError(
            f"address {address} of network {network.name} is used by an instance", code=ErrorCode.NOT_UNIQUE
        )
    if network.ext_reservations[at] != FREE:
        raise PrereqError(
            f"address {address} of network {network.name} is reserved; remove the reservation to use it",
            code=ErrorCode.NOT_UNIQUE,
        )
    return _set(network, at, USED, external=external)


def with_released(network: Network, address: str, *, external: bool = False) -> Network:
    """The network with an address free again; nothing happens if it was.

    Raises:
        PrereqError: it lies outside.
    """
    return _set(network, _offset_in(network, address), FREE, external=external)


def network_with(cluster: Cluster, group: GroupId, address: str) -> Network | None:
    """The network, connected to a group, that an address belongs to."""
    connected: Iterator[NetworkId] = iter(cluster.groups[group].networks)
    known = (cluster.networks[uuid] for uuid in connected if uuid in cluster.networks)
    return next((network for network in known if contains(network, address)), None)


def _set(network: Network, at: int, value: str, *, external: bool) -> Network:
    bits = network.ext_reservations if external else network.reservations
    bits = bits[:at] + value + bits[at + 1 :]
    return replace(network, ext_reservations=bits) if external else replace(network, reservations=bits)


def _offset_in(network: Network, address: str) -> int:
    return _offset(ipaddress.IPv4Network(network.network), address, f"{network.name} ({network.network})")


def _offset(parsed: ipaddress.IPv4Network, address: str, what: str) -> int:
    try:
        wanted = ipaddress.IPv4Address(address)
    except ValueError as error:
        raise PrereqError(f"{address!r} is no IPv4 address") from error
    if wanted not in parsed:
        raise PrereqError(f"address {address} does not lie in network {what}")
    return int(wanted) - int(parsed.network_address)


def _merged(network: Network) -> bytes:
    """`0` where neither uses an address; the characters differ in one bit, so one `or` does it."""
    ours, theirs = network.reservations.encode(), network.ext_reservations.encode()
    return (int.from_bytes(ours, "big") | int.from_bytes(theirs, "big")).to_bytes(len(ours), "big")


def _free_offsets(network: Network) -> Iterator[int]:
    merged = _merged(network)
    at = merged.find(FREE.encode())
    while at >= 0:
        yield at
        at = merged.find(FREE.encode(), at + 1)

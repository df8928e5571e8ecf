"""Address pools of networks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ErrorCode, PrereqError
from ganeti.logic.addresses import (
    contains,
    empty_pools,
    free_address,
    free_count,
    ips_of,
    is_free,
    network_with,
    networks_of,
    parse_network,
    with_released,
    with_reserved,
)
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NetworkId
from ganeti.model.instance import Nic
from ganeti.model.network import Network
from ganeti.model.node import GroupNetwork
from ganeti.testing.clusters import changed_instance, cluster, group_id


def network(cidr: str = "192.0.2.0/28", *external: str) -> Network:
    """An empty network."""
    ours, theirs = empty_pools(cidr, external)
    return Network(
        uuid=NetworkId("net"), name="net", network=cidr, reservations=ours, ext_reservations=theirs
    )


class PoolTests(SynchronousTestCase):
    """Reserving and releasing."""

    def test_new(self) -> None:
        """First and last address, and those given, are kept from instances."""
        made = network("192.0.2.0/28", "192.0.2.1")
        self.assertEqual(made.ext_reservations, "11" + "0" * 13 + "1")
        self.assertEqual(made.reservations, "0" * 16)
        self.assertEqual(free_count(made), 13)

    def test_lowest_first(self) -> None:
        """Addresses come out upwards, without those taken."""
        made = network("192.0.2.0/28", "192.0.2.1")
        self.assertEqual(free_address(made), "192.0.2.2")
        self.assertEqual(free_address(made, taken={"192.0.2.2"}), "192.0.2.3")

    @given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 15)), max_size=40))
    def test_like_sets(self, steps: list[tuple[bool, bool, int]]) -> None:
        """After any steps the free addresses are those in neither of two sets."""
        value = network()
        used: dict[bool, set[int]] = {False: set(), True: {0, 15}}
        for reserve, external, number in steps:
            address = f"192.0.2.{number}"
            if not reserve:
                value = with_released(value, address, external=external)
                used[external].discard(number)
            elif number in used[False] | used[True]:
                self.assertRaises(PrereqError, with_reserved, value, address, external=external)
            else:
                value = with_reserved(value, address, external=external)
                used[external].add(number)
        free = set(range(16)) - used[False] - used[True]
        self.assertEqual({n for n in range(16) if is_free(value, f"192.0.2.{n}")}, free)
        self.assertEqual(free_count(value), len(free))
        if free:
            self.assertEqual(free_address(value), f"192.0.2.{min(free)}")
        else:
            error = self.assertRaises(PrereqError, free_address, value)
            self.assertEqual(error.code, ErrorCode.NO_RESOURCES)

    def test_large(self) -> None:
        """The last free address of the largest network is found."""
        ours, theirs = empty_pools("10.1.0.0/16")
        full = replace(network("10.1.0.0/16"), reservations="0" + "1" * 65533 + "00", ext_reservations=theirs)
        self.assertEqual((free_address(full), len(ours)), ("10.1.255.254", 65536))

    def test_outside(self) -> None:
        """Addresses of elsewhere, and texts that are none, are refused."""
        for address in ("192.0.2.16", "10.0.0.1", "rubbish", "::1"):
            self.assertRaises(PrereqError, with_reserved, network(), address)
            self.assertFalse(contains(network(), address))
        self.assertTrue(contains(network(), "192.0.2.9"))

    def test_allowed_networks(self) -> None:
        """IPv4 networks with a prefix length from 16 to 30, without host bits."""
        for cidr in ("10.0.0.0/16", "10.0.0.4/30"):
            self.assertEqual(str(parse_network(cidr)), cidr)
        for cidr in ("10.0.0.0/15", "10.0.0.0/31", "10.0.0.1/24", "fd00::/64", "x"):
            self.assertRaises(PrereqError, parse_network, cidr)


class LookupTests(SynchronousTestCase):
    """Networks and addresses in a cluster."""

    def connected(self) -> Cluster:
        """A cluster whose group has a network."""
        value = cluster(instances=2)
        group = value.groups[group_id(1)]
        connection = GroupNetwork(mode="bridged", link="br0")
        value = replace(
            value,
            networks=value.networks.with_item(NetworkId("net"), network()),
            groups=value.groups.with_item(
                group.uuid, replace(group, networks={NetworkId("net"): connection})
            ),
        )
        nic = Nic(uuid="n", mac="aa:00:00:00:00:01", ip="192.0.2.5", network=NetworkId("net"))
        return changed_instance(value, "inst2", nics=(nic,))

    def test_network_of_address(self) -> None:
        """The network of a group that has an address."""
        value = self.connected()
        self.assertEqual(network_with(value, group_id(1), "192.0.2.5"), network())
        self.assertIsNone(network_with(value, group_id(1), "192.0.3.5"))

    def test_instances_by_address(self) -> None:
        """Instances are found by address and by network."""
        instances = self.connected().instances
        self.assertEqual([one.name for one in instances.having(ips_of, "192.0.2.5")], ["inst2.example.com"])
        self.assertEqual([one.name for one in instances.having(networks_of, "net")], ["inst2.example.com"])

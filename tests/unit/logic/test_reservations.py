"""Ports, minors and MAC addresses that nobody uses yet."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ErrorCode, PrereqError
from ganeti.logic.reservations import (
    free_minor,
    free_port,
    is_mac_used,
    minors_of,
    new_mac,
    ports_of,
    with_ports_returned,
)
from ganeti.model.cluster import Cluster
from ganeti.model.delta import stamp
from ganeti.testing.clusters import (
    changed_instance,
    cluster,
    instance_id,
    node_id,
    with_instance,
    with_settings,
)


class PortTests(SynchronousTestCase):
    """Ports of the range 11000 to 14999."""

    def test_in_order(self) -> None:
        """Ports are handed out upwards, returned ones first."""
        value, first = free_port(cluster())
        value, second = free_port(value)
        self.assertEqual((first, second), (11000, 11001))
        value = with_ports_returned(value, [first, first])
        value, again = free_port(value)
        self.assertEqual((again, value.settings.tcpudp_port_pool), (first, ()))

    def test_exhausted(self) -> None:
        """When all are used nothing is handed out; a returned one is."""
        full = with_settings(cluster(), highest_used_port=14999)
        error = self.assertRaises(PrereqError, free_port, full)
        self.assertEqual(error.code, ErrorCode.NO_RESOURCES)
        self.assertEqual(free_port(with_ports_returned(full, [12345]))[1], 12345)

    @given(st.lists(st.booleans(), max_size=60))
    def test_never_twice(self, steps: list[bool]) -> None:
        """Whatever is taken and returned, no port is with two users."""
        value = cluster()
        used: list[int] = []
        for take in steps:
            if take or not used:
                value, port = free_port(value)
                self.assertNotIn(port, used)
                used.append(port)
            else:
                value = with_ports_returned(value, [used.pop()])
        self.assertEqual(set(used) & set(value.settings.tcpudp_port_pool), set())


class MinorTests(SynchronousTestCase):
    """DRBD minors, one row on each node."""

    def test_lowest(self) -> None:
        """The lowest unused minor of the node, of both ends of its disks."""
        value = cluster(nodes=3, instances=3)
        self.assertEqual([free_minor(value, node_id(n)) for n in (1, 2, 3)], [2, 2, 2])
        self.assertEqual(free_minor(value, node_id(1), taken={2, 3}), 4)

    def test_gaps(self) -> None:
        """The minor of a removed disk is used again."""
        value = cluster(nodes=2, instances=4)
        disk = value.disks_of(value.instance("inst2"))[0]
        self.assertEqual(free_minor(value, node_id(1)), 4)
        without = replace(value, disks=value.disks.without(disk.uuid))
        expected = dict(minors_of(disk))[node_id(1)]
        self.assertEqual(free_minor(without, node_id(1)), expected)

    def test_other_templates(self) -> None:
        """Only DRBD has minors and ports."""
        value = cluster(nodes=2, instances=2, template="plain")
        self.assertEqual(free_minor(value, node_id(1)), 0)
        self.assertEqual([ports_of(disk) for disk in value.disks.values()], [(), ()])

    @given(st.lists(st.integers(1, 12), max_size=12))
    def test_follows_changes(self, removed: list[int]) -> None:
        """After any row of changes the answer is that of a slow search."""
        value = cluster(nodes=3, instances=12)
        free_minor(value, node_id(2))
        for number in removed:
            gone = value.instances.get(instance_id(number))
            if gone is not None:
                smaller = value.disks.without(*gone.disks)
                smaller_value = replace(value, disks=smaller, instances=value.instances.without(gone.uuid))
                value = stamp(value, smaller_value, now=1.0)[0]
        uses = {use for disk in value.disks.values() for use in minors_of(disk)}
        slow = next(minor for minor in range(100) if (node_id(2), minor) not in uses)
        self.assertEqual(free_minor(value, node_id(2)), slow)


class MacTests(SynchronousTestCase):
    """MAC addresses."""

    def test_prefix(self) -> None:
        """The first three octets are those of the cluster, or those given."""
        self.assertTrue(new_mac(cluster(), Random(1)).startswith("aa:00:00:"))
        self.assertTrue(new_mac(cluster(), Random(1), prefix="AA:BB:CC").startswith("aa:bb:cc:"))

    def test_unused(self) -> None:
        """Addresses of instances, and those taken, do not come out."""
        first = new_mac(cluster(), Random(1))
        second = new_mac(cluster(), Random(1), taken={first})
        self.assertNotEqual(first, second)
        value = self.with_mac(first)
        self.assertTrue(is_mac_used(value, first.upper()))
        self.assertEqual(new_mac(value, Random(1)), second)

    def test_none_left(self) -> None:
        """If there seems to be none, the operator is told what to change."""

        class Stuck(Random):
            def getrandbits(self, k: int) -> int:
                return 7

        error = self.assertRaises(PrereqError, new_mac, cluster(), Stuck(), taken={"aa:00:00:00:00:07"})
        self.assertEqual(error.code, ErrorCode.NO_RESOURCES)
        self.assertIn("prefix", str(error))

    def with_mac(self, mac: str) -> Cluster:
        """A cluster with an instance that has this address."""
        value = with_instance(cluster(), "a")
        return changed_instance(value, "a", nics=(replace(value.instance("a").nics[0], mac=mac),))

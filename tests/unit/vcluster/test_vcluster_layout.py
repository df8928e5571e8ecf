"""Tests of what a virtual cluster is: addresses, names, files."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PrereqError
from ganeti.vcluster.layout import Layout, load, plan


def make(directory: str = "/srv/cluster", count: int = 3, **more: object) -> Layout:
    """A layout with usual values."""
    values = {"hypervisor": "fake", "disk_templates": ("diskless",), **more}
    return plan(directory, count, **values)  # type: ignore[arg-type]


class PlanTests(SynchronousTestCase):
    """Addresses and names."""

    @given(st.text("abcdefgh/", min_size=1, max_size=40), st.integers(1, 1000), st.integers(0, 239))
    def test_addresses(self, directory: str, count: int, shift: int) -> None:
        """Every node and the cluster have an address of their own, none of them one that others use."""
        layout = make(f"/{directory}", count, shift=shift)
        addresses = [layout.cluster_address, *(node.address for node in layout.nodes)]
        self.assertEqual(len(set(addresses)), count + 1)
        for address in map(ipaddress.IPv4Address, addresses):
            self.assertTrue(address.is_loopback)
            self.assertGreaterEqual(address.packed[1], 16)

    def test_directories(self) -> None:
        """Clusters in different directories have different addresses and namespaces; a shift, too."""
        first, second = make("/srv/a"), make("/srv/b")
        self.assertNotEqual(first.nodes[0].address, second.nodes[0].address)
        self.assertNotEqual(first.namespace(first.nodes[0]), second.namespace(second.nodes[0]))
        self.assertNotEqual(first.nodes[0].address, make("/srv/a", shift=1).nodes[0].address)
        self.assertEqual(first, make("/srv/a"))

    def test_links(self) -> None:
        """A directory has one layout by whatever name."""
        real = self.mktemp()
        os.makedirs(real)
        os.symlink(os.path.abspath(real), f"{real}-link")
        self.assertEqual(make(f"{real}-link"), make(real))

    def test_namespaces(self) -> None:
        """In namespaces nodes have addresses of both versions; either may be the primary."""
        layout = make(netns=True)
        node = layout.nodes[1]
        assert node.address6 is not None
        self.assertEqual(ipaddress.ip_address(node.address6).version, 6)
        self.assertEqual((layout.primary(node), layout.bind_address(node)), (node.address, "0.0.0.0"))
        of_six = make(netns=True, ipv6=True)
        self.assertEqual((of_six.primary(node), of_six.bind_address(node)), (node.address6, "::"))

    def test_bind(self) -> None:
        """On loopback a daemon has the address of its node alone; noded of the first the cluster's, too."""
        layout = make()
        first, second = layout.nodes[:2]
        both = f"{first.address},{layout.cluster_address}"
        self.assertEqual(layout.bind_address(first, with_cluster=True), both)
        self.assertEqual(layout.bind_address(second, with_cluster=True), second.address)

    def test_groups(self) -> None:
        """Nodes are dealt out to groups in turn."""
        layout = make(count=5, groups=2)
        self.assertEqual([layout.group_of(node) for node in layout.nodes], [0, 1, 0, 1, 0])

    def test_refused(self) -> None:
        """What cannot be made is refused with the reason."""
        for count, more, reason in (
            (0, {}, "1 to 1000"),
            (1001, {}, "1 to 1000"),
            (2, {"groups": 3}, "group"),
            (3, {"groups": 0}, "group"),
            (201, {"netns": True}, "200"),
            (3, {"netns": True, "simulated": True}, "real nodes"),
            (3, {"ipv6": True}, "--netns"),
            (1, {"simulated": True}, "at least 2"),
        ):
            with self.assertRaisesRegex(PrereqError, reason):
                make(count=count, **more)


class FileTests(SynchronousTestCase):
    """What is written down."""

    def setUp(self) -> None:
        self.directory = os.path.realpath(self.mktemp())
        os.makedirs(self.directory)
        self.layout = make(self.directory)

    def test_round_trip(self) -> None:
        """What is saved is what is loaded."""
        self.layout.save()
        self.assertEqual(load(self.directory), self.layout)

    def test_none(self) -> None:
        """A directory without a cluster says how to make one; a damaged file its name."""
        with self.assertRaisesRegex(PrereqError, "ganeti-vcluster create"):
            load(self.directory)
        path = Path(self.directory, Layout.FILE)
        path.write_text('{"directory": 1}')
        with self.assertRaisesRegex(PrereqError, Layout.FILE):
            load(self.directory)

    def test_node(self) -> None:
        """A node is found by number, short name and full name."""
        for name in ("2", "node2", "node2.virtual"):
            self.assertEqual(self.layout.node(name), self.layout.nodes[1])
        self.assertRaises(PrereqError, self.layout.node, "4")

    def test_master(self) -> None:
        """The master is whom most nodes hold for it; without any opinion the first."""
        self.assertEqual(self.layout.master, self.layout.nodes[0])
        for node, opinion in zip(self.layout.nodes, ("node1.virtual", "node2.virtual", "node2.virtual")):
            path = Path(self.layout.paths(node).ssconf("master_node"))
            path.parent.mkdir(parents=True)
            path.write_text(f"{opinion}\n")
        self.assertEqual(self.layout.master, self.layout.nodes[1])

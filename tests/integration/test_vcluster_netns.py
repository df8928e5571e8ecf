"""Virtual clusters with a network namespace for each node: both IP versions, links that can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import unittest

from tests.integration.cluster import until
from tests.integration.vcluster_case import VclusterCase

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()"
LISTEN = "import socket; socket.create_server(('::', 7), family=socket.AF_INET6).accept()"


def _have_namespaces() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    return subprocess.run(["ip", "netns", "list"], capture_output=True, check=False).returncode == 0


def namespaces(tag: str) -> list[str]:
    """Those of one cluster."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split() if tag in name]


@unittest.skipUnless(_have_namespaces(), "needs root and the program ip")
class NamespaceTests(VclusterCase):
    """Real packets."""

    def memory(self, node: str) -> str:
        """What the list shows of a node's memory."""
        return self.gnt("gnt-node", "list", "--no-headers", "-o", "mfree", node).strip()

    def test_link(self) -> None:
        """A node whose link is cut is unreachable and does not hinder others; mended, it is back."""
        self.vcluster("create", "--nodes", "3", "--netns")
        tag = self.layout.tag
        self.assertEqual(len(namespaces(tag)), 4)
        self._check_ipv6()
        self.vcluster("link", "node3", "down")
        self.assertIn("its link is cut", self.vcluster("status"))
        self.assertEqual(self.memory("node3"), "?")
        self.assertTrue(self.memory("node2").endswith("G"))
        failed = self.run_program(
            *("exec", self.directory, "-n", "node2", "python3", "-c", CONNECT),
            *(self.layout.nodes[2].address, "1811"),
        )
        self.assertEqual(failed.returncode, 1)
        self.vcluster("link", "node3", "up")
        until(lambda: self.memory("node3").endswith("G"), "node3 does not come back")
        self.vcluster("destroy")
        self.assertEqual(namespaces(tag), [])
        self.assert_nothing_left()

    def _check_ipv6(self) -> None:
        """Connect from one node to another one by its address of version 6."""
        listener = subprocess.Popen(
            ["ip", "netns", "exec", self.layout.namespace(self.layout.nodes[1]), "python3", "-c", LISTEN]
        )
        self.addCleanup(listener.wait)
        self.addCleanup(listener.kill)
        address = self.layout.nodes[1].address6
        assert address is not None
        words = ("exec", self.directory, "-n", "node3", "python3", "-c", CONNECT, address, "7")
        until(lambda: self.run_program(*words).returncode == 0, "node3 does not reach node2")

    def test_ipv6(self) -> None:
        """A cluster whose primary addresses are IPv6."""
        self.vcluster("create", "--nodes", "2", "--netns", "--ipv6")
        tag = self.layout.tag
        rows = self.gnt("gnt-node", "list", "--no-headers", "--separator=|", "-o", "pip,sip,mfree").split()
        for row, node in zip(rows, self.layout.nodes):
            primary, secondary, memory = row.split("|")
            self.assertEqual((primary, secondary), (node.address6, node.address))
            self.assertTrue(memory.isdigit(), memory)
        self.gnt("gnt-cluster", "verify")
        self.vcluster("stop")
        self.vcluster("start")
        self.assertTrue(self.memory("node2").endswith("G"))
        self.vcluster("destroy")
        self.assertEqual(namespaces(tag), [])

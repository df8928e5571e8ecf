"""Tests of what is done before daemons run: plans, files, users, nodes that join together."""

from __future__ import annotations

import json
import os
import random
import socket
from pathlib import Path

import bcrypt

from twisted.trial.unittest import SynchronousTestCase

from ganeti.daemons.bootstrap import NODED_PORT
from ganeti.errors import CopyBehind, NodeError, PrereqError
from ganeti.model.calls.system import Stamp, WriteSsconf
from ganeti.model.ids import NodeId
from ganeti.model.paths import Paths
from ganeti.node.backend.host import Host
from ganeti.testing.clusters import cluster
from ganeti.vcluster.create import add_command, init_command, plan_free, prepare
from ganeti.vcluster.join import Joining, with_nodes
from ganeti.vcluster.layout import Layout
from ganeti.vcluster.main import main, split_command
from ganeti.vcluster.shared_ssconf import SharedSsconf


class CreateTests(SynchronousTestCase):
    """Directories of a cluster that is not there yet."""

    def setUp(self) -> None:
        self.directory = os.path.realpath(self.mktemp())

    def plan(self, count: int = 2, **more: bool | int) -> Layout:
        """A layout."""
        return plan_free(
            self.directory,
            count,
            hypervisor="fake",
            disk_templates=("diskless", "file"),
            **more,  # type: ignore[arg-type]
        )

    def test_addresses_in_use(self) -> None:
        """Where somebody listens already, other addresses are taken."""
        first = self.plan()
        with socket.socket() as listener:
            listener.bind((first.nodes[0].address, NODED_PORT))
            listener.listen()
            self.assertNotEqual(self.plan().nodes[0].address, first.nodes[0].address)
        self.assertEqual(self.plan(), first)

    def test_files(self) -> None:
        """Each node finds all names, its own name, the allowed directories, examples and the delivery."""
        layout = self.plan()
        prepare(layout)
        for node in layout.nodes:
            paths = layout.paths(node)
            self.assertEqual(Path(paths.hostname_file).read_text(), f"{node.name}\n")
            hosts = Path(paths.hosts_file).read_text()
            for address in (layout.cluster_address, *(other.address for other in layout.nodes)):
                self.assertIn(f"{address} ", hosts)
            self.assertIn(layout.file_dir, Path(paths.file_storage_paths).read_text())
            self.assertTrue(os.access(paths.node_setup_script, os.X_OK))
            self.assertTrue(os.path.exists(f"{paths.root}/srv/ganeti/os/noop/create"))

    def test_rapi_user(self) -> None:
        """`rapi.json` has the password whose hash the users file has, and nobody else can read it."""
        layout = self.plan()
        prepare(layout)
        path = Path(self.directory, "rapi.json")
        access = json.loads(path.read_text())
        self.assertEqual(set(access), {"url", "user", "password", "ca"})
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        first = layout.paths(layout.nodes[0])
        user, hashed, rights = Path(first.rapi_users_file).read_text().split()
        self.assertEqual((user, rights), (access["user"], "write"))
        known = hashed.removeprefix("{BCRYPT}").encode()
        self.assertTrue(bcrypt.checkpw(access["password"].encode(), known))

    def test_not_empty(self) -> None:
        """A directory with something in it is refused, one with a cluster with what can be done."""
        layout = self.plan()
        os.makedirs(self.directory)
        Path(self.directory, "mine").write_text("text")
        with self.assertRaisesRegex(PrereqError, "is not empty"):
            prepare(layout)
        layout.save()
        with self.assertRaisesRegex(PrereqError, "ganeti-vcluster destroy"):
            prepare(layout)
        os.rename(Path(self.directory, "mine"), f"{self.directory}-file")
        self.directory += "-file"
        with self.assertRaisesRegex(PrereqError, "no directory"):
            prepare(self.plan())

    def test_commands(self) -> None:
        """Groups and addresses of both versions are in the commands that make the cluster."""
        layout = self.plan(4, groups=2, netns=True, ipv6=True)
        first, second = layout.nodes[:2]
        init = init_command(layout)
        self.assertIn("--primary-ip-version 6 --secondary-ip " + first.address, " ".join(init))
        added = " ".join(add_command(layout, second))
        self.assertIn("--node-group group2", added)
        self.assertIn(f"--secondary-ip {second.address}", added)


class JoinTests(SynchronousTestCase):
    """Many simulated nodes."""

    def test_with_nodes(self) -> None:
        """They are in their groups, and the candidate pool is full but not more."""
        layout = plan_free(
            "/srv/join", 40, hypervisor="fake", disk_templates=("diskless",), simulated=True, groups=2
        )
        before = cluster(nodes=1, groups=2)
        groups = sorted(group.name for group in before.groups.values())
        joining = [
            Joining(node=node, uuid=NodeId(f"uuid{node.number}"), group=groups[layout.group_of(node)])
            for node in layout.nodes[1:]
        ]
        after = with_nodes(before, joining, random.Random(1))
        self.assertEqual(len(after.nodes), 40)
        self.assertEqual(after.groups[after.nodes[NodeId("uuid2")].group].name, groups[1])
        self.assertEqual(after.nodes[NodeId("uuid7")].primary_ip, layout.nodes[6].address)
        pool = [node for node in after.nodes.values() if node.master_candidate]
        self.assertEqual(len(pool), before.settings.candidate_pool_size)


class SharedSsconfTests(SynchronousTestCase):
    """Files that all simulated nodes have in common."""

    def setUp(self) -> None:
        base = os.path.abspath(self.mktemp())
        self.paths = [Paths(f"{base}/node{number}") for number in (2, 3)]
        for paths in self.paths:
            os.makedirs(paths.data_dir)
        self.shared = SharedSsconf(Host(self.paths[0]))

    def read(self, paths: Paths, name: str) -> str:
        """Text of a file."""
        return Path(paths.ssconf(name)).read_text()

    def test_one_text(self) -> None:
        """What was sent to all is there for all, also after a change and for nodes that are new."""
        for text in ("node1\n", "node1\nnode2\n"):
            for paths in self.paths:
                self.shared.write(paths, WriteSsconf(values={"node_list": text}))
            for paths in self.paths:
                self.assertEqual(self.read(paths, "node_list"), text)

    def test_stamps(self) -> None:
        """Each node refuses what is older than what it was sent itself."""
        first, second = self.paths
        newest = Stamp(generation=2, number=1)
        self.shared.write(first, WriteSsconf(values={"node_list": "new\n"}, stamp=newest))
        old = WriteSsconf(values={"node_list": "old\n"}, stamp=Stamp(generation=1, number=9))
        self.assertRaises(NodeError, self.shared.write, first, old)
        follows = WriteSsconf(values={}, stamp=Stamp(generation=2, number=2), base=newest)
        self.assertRaises(CopyBehind, self.shared.write, second, follows)
        self.assertEqual(self.read(first, "node_list"), "new\n")

    def test_again(self) -> None:
        """After a restart the links are there already; files of former times are replaced."""
        Path(self.paths[1].ssconf("cluster_name")).write_text("old\n")
        for _ in range(2):
            self.shared = SharedSsconf(Host(self.paths[0]))
            for paths in self.paths:
                self.shared.write(paths, WriteSsconf(values={"cluster_name": "new\n"}))
            self.assertEqual(self.read(self.paths[1], "cluster_name"), "new\n")


class CommandLineTests(SynchronousTestCase):
    """What needs no cluster."""

    def test_split(self) -> None:
        """The node comes first; whatever stands behind the command belongs to it."""
        for words, expected in (
            (["ls", "-n"], (None, ["ls", "-n"])),
            (["-n", "2", "ls", "-n"], ("2", ["ls", "-n"])),
            (["--node=node2", "--", "-x"], ("node2", ["-x"])),
            ([], (None, [])),
        ):
            self.assertEqual(split_command(words), expected)

    def test_no_cluster(self) -> None:
        """Without a cluster there is a message and exit code 1."""
        self.assertEqual(main(["status", self.mktemp()]), 1)

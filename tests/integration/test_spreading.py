"""Files that nodes of a group bring to each other: real daemons, two groups, and a node not to be trusted."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import psutil
from msgspec.structs import replace

from twisted.internet import reactor as the_reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from ganeti.daemons.identity import credentials, own_identity
from ganeti.errors import GanetiError, NodeError, NodeUnreachable, PermissionDenied
from ganeti.master.node_connector import NODED_PORT, TlsNodeConnector
from ganeti.master.node_pool import NodePool
from ganeti.model.calls.parcels import SignedParcel
from ganeti.model.calls.system import Stamp, WriteSsconf
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.node import Node
from ganeti.node.backend.files import stored_stamp
from ganeti.wire.link import Link, LinkLost
from ganeti.wire.node_commands import StartFunction, TakeParcel
from ganeti.wire.parcels import ParcelSigner
from tests.integration.cluster import RunningCluster, until

reactor: Any = the_reactor

BIG = (4, 5, 6)
"""Nodes of the second group."""
NODES = range(1, 7)


def setUpModule() -> None:
    """Start the cluster of all tests."""
    cluster = DiffusionCase.cluster = RunningCluster(nodes=6)
    cluster.gnt("gnt-group add big")
    cluster.gnt("gnt-group assign-nodes big node4 node5 node6")
    # A frozen candidate would hold up jobs, too, and lose its connection by that.
    cluster.gnt("gnt-cluster modify --candidate-pool-size 3 --diffusion-min-nodes 3")
    for node in BIG:
        cluster.gnt(f"gnt-node modify --master-candidate=no node{node}", check=False)
    until(lambda: DiffusionCase.have("diffusion_min_nodes", "3\n"), "nodes do not learn that they may spread")


def tearDownModule() -> None:
    """Remove it."""
    DiffusionCase.cluster.destroy()


class DiffusionCase(TestCase):
    """Six nodes in two groups which spread files themselves."""

    cluster: ClassVar[RunningCluster]
    changes: ClassVar[int] = 0
    newest: ClassVar[str] = ""

    @classmethod
    def have(cls, name: str, text: str, *nodes: int) -> bool:
        """Whether these nodes, or all, have this text in an ssconf file."""
        return all(cls.text(name, node) == text for node in nodes or NODES)

    @classmethod
    def text(cls, name: str, node: int) -> str:
        """Text of an ssconf file on a node."""
        return Path(cls.cluster.paths(node).ssconf(name)).read_text()

    def change(self) -> str:
        """Change a file that is longer than what goes directly; gives its text, which is like no other."""
        DiffusionCase.changes += 1
        tags = [f"change-{DiffusionCase.changes:04}-{number:04}-{'x' * 100}" for number in range(150)]
        client = self.cluster.client()
        self.end_of(client.submit([{"OP_ID": "OP_TAGS_SET", "kind": "cluster", "tags": tags}]))
        client.close()
        DiffusionCase.newest += "".join(f"{tag}\n" for tag in tags)
        return DiffusionCase.newest

    def end_of(self, job: int) -> None:
        """Wait until a job has succeeded."""
        self.assertEqual(self.cluster.wait_for_jobs(job), {job: "success"})

    def spread_by(self) -> list[str]:
        """What masterd said about groups that spread files, oldest first."""
        return [
            line for line in self.cluster.log("ganeti-masterd").splitlines() if "have files through" in line
        ]

    def node_of(self, number: int) -> Node:
        """A node as masterd knows it."""
        where = self.cluster.node(number)
        identity = own_identity(self.cluster.paths(number))
        return Node(
            uuid=NodeId(identity.node_uuid),
            name=where.name,
            primary_ip=where.address,
            secondary_ip=where.address,
            group=GroupId(""),
        )


class SpreadingTests(DiffusionCase):
    """Daemons that fail while they spread."""

    def test_spread(self) -> None:
        """All nodes have the newest files, and the master sent them to one node of each group (S2.3-032)."""
        before = len(self.spread_by())
        text = self.change()
        until(lambda: self.have("cluster_tags", text), "not all nodes have the newest tags")
        until(lambda: len(self.spread_by()) >= before + 2, "nothing is said")
        for line in self.spread_by()[-2:]:
            self.assertIn(" 3 of 3 nodes", line)
        self.assertEqual(len({stored_stamp(self.cluster.paths(node)) for node in NODES}), 1)

    def test_spreading_node_is_killed(self) -> None:
        """Killed in the middle it holds up nobody for long: the rest get the files directly (S2.3-032)."""
        frozen = 5
        killed = self._kill_while_it_spreads_to(frozen)
        if killed is None:
            # It was the frozen one that was to spread; it is not asked again soon, but must count as well.
            self.cluster.gnt("gnt-cluster redist-conf")
            killed = self._kill_while_it_spreads_to(frozen)
        assert killed is not None, "nobody spreads to the frozen node"
        text = DiffusionCase.newest
        done = self.cluster.gnt("gnt-cluster redist-conf", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(self.cluster.node(killed).name, done.stderr + done.stdout)
        # Thawed, it must not write what was on its way over anything newer.
        self.assertTrue(self.have("cluster_tags", text, frozen))
        self.cluster.start()
        self.cluster.gnt("gnt-cluster redist-conf")
        self.assertTrue(self.have("cluster_tags", text))
        newest = self.change()
        until(lambda: self.have("cluster_tags", newest), "not all nodes have the newest tags")

    def _kill_while_it_spreads_to(self, frozen: int) -> int | None:
        """Kill whoever waits for a frozen node while files change; gives its number."""
        with self.cluster.stopped("ganeti-noded", frozen):
            text = self.change()
            killed = self._who_spreads_to(frozen)
            if killed is not None:
                self.cluster.kill("ganeti-noded", killed)
            living = [node for node in NODES if node not in (frozen, killed)]
            until(lambda: self.have("cluster_tags", text, *living), "living nodes lack the newest files")
        complaint = "the frozen node lacks the newest files"
        until(lambda: self.have("cluster_tags", text, frozen), complaint, timeout_s=90)
        return killed

    def _who_spreads_to(self, frozen: int) -> int | None:
        """The node of the group whose daemon has a connection to the frozen one, within some seconds."""
        address = self.cluster.node(frozen).address
        daemons = {node: self.cluster.pid("ganeti-noded", node) for node in BIG if node != frozen}
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            for node, pid in daemons.items():
                with contextlib.suppress(psutil.NoSuchProcess):
                    remote = [one.raddr for one in psutil.Process(pid).net_connections("tcp") if one.raddr]
                    if any((one.ip, one.port) == (address, NODED_PORT) for one in remote):
                        return node
            time.sleep(0.02)
        return None


class DistrustTests(DiffusionCase):
    """What somebody can do who has taken over node 4."""

    async def link(self, *, own_file: str, to: int = 5) -> Link:
        """A connection to another node, with a certificate of this cluster."""
        paths = self.cluster.paths(4 if own_file == "node" else 1)
        file = paths.node_cert_file if own_file == "node" else paths.client_cert_file
        uuid = own_identity(paths).cluster_uuid
        link = await TlsNodeConnector(reactor, credentials(paths, file), uuid)(self.node_of(to))
        self.addCleanup(self._close, link)
        return link

    async def _close(self, link: Link) -> None:
        link.abort()
        await deferLater(reactor, 0.05)

    def parcel(
        self, stamp: Stamp, text: str, *, signer: str = "master", base: Stamp | None = None
    ) -> SignedParcel:
        """A parcel, signed by the master or with the key of node 4."""
        paths = self.cluster.paths(1 if signer == "master" else 4)
        own = Path(paths.client_cert_file if signer == "master" else paths.node_cert_file).read_bytes()
        write = WriteSsconf(values={"master_node": text}, stamp=stamp)
        return ParcelSigner(own, own_identity(paths).cluster_uuid).sign(write)

    def stamp(self) -> Stamp:
        """Which files node 5 has."""
        found = stored_stamp(self.cluster.paths(5))
        assert found is not None
        return found

    async def refusal(self, work: Any, kind: type[GanetiError] = PermissionDenied) -> str:
        """What is said to something that is refused."""
        try:
            await work
        except kind as error:
            return str(error)
        raise self.failureException("it was not refused")

    async def test_no_functions(self) -> None:
        """A node calls no function on another, although it gets a connection (S2.3-032)."""
        link = await self.link(own_file="node")
        args = msgspec.json.encode(WriteSsconf(values={"master_node": "evil\n"}))
        asked = link.ask(StartFunction, name="write_ssconf_files", args=args, timeout=5.0)
        self.assertIn("does not know", await self.refusal(asked, GanetiError))

    async def test_forged(self) -> None:
        """What is signed with a node's key, or changed afterwards, is not written (S2.3-032)."""
        link = await self.link(own_file="node")
        later = replace(self.stamp(), number=self.stamp().number + 1000)
        before = self.text("master_node", 5)
        own = self.parcel(later, "evil\n", signer="node")
        changed = replace(self.parcel(later, before), body=self.parcel(later, "evil\n").body)
        for what, parcel in (("own key", own), ("changed", changed)):
            with self.subTest(what):
                await self.refusal(link.ask(TakeParcel, parcel=msgspec.json.encode(parcel)))
        self.assertEqual(self.text("master_node", 5), before)

    async def test_replayed(self) -> None:
        """An old parcel of the real master changes nothing, also after a restart (S2.3-032)."""
        now, before = self.stamp(), self.text("master_node", 5)
        older = (
            replace(now, number=now.number - 1),
            Stamp(generation=now.generation - 1, number=99),
        )
        for restarted in (False, True):
            if restarted:
                self.cluster.kill("ganeti-noded", 5)
                self.cluster.start()
            link = await self.link(own_file="node")
            for stamp in older:
                data = msgspec.json.encode(self.parcel(stamp, "old\n"))
                said = await self.refusal(link.ask(TakeParcel, parcel=data), NodeError)
                self.assertIn("newer", said)
        self.assertEqual((self.text("master_node", 5), self.stamp()), (before, now))

    async def test_former_master(self) -> None:
        """A master that is not the newest any more writes no files either, not even directly (S2.3-032)."""
        paths = self.cluster.paths(1)
        own = credentials(paths, paths.client_cert_file)
        pool = NodePool(reactor, TlsNodeConnector(reactor, own, own_identity(paths).cluster_uuid))
        self.addCleanup(deferLater, reactor, 0.1)
        self.addCleanup(pool.stopService)
        old = replace(self.stamp(), generation=self.stamp().generation - 1)
        call = WriteSsconf(values={"master_node": "old\n"}, stamp=old)
        self.assertIn("newer", await self.refusal(pool.call(self.node_of(5), call), NodeError))
        self.assertNotEqual(self.text("master_node", 5), "old\n")

    async def test_switched_off(self) -> None:
        """While nothing is spread, nodes do not let each other in at all (S2.3-032)."""
        self.cluster.gnt("gnt-cluster modify --diffusion-min-nodes 0")
        until(lambda: self.have("diffusion_min_nodes", "0\n"), "nodes do not learn it")
        link = await self.link(own_file="node")
        data = msgspec.json.encode(self.parcel(self.stamp(), ""))
        with self.assertRaises((LinkLost, NodeUnreachable)):
            await link.ask(TakeParcel, parcel=data)
        self.cluster.gnt("gnt-cluster modify --diffusion-min-nodes 3")
        until(lambda: self.have("diffusion_min_nodes", "3\n"), "nodes do not learn it")

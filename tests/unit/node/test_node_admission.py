"""Who may say what to a node daemon, decided by certificates: real TLS in memory (S2.3-032)."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.test.iosim import FakeTransport, IOPump, connect
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import GanetiError
from ganeti.io.x509 import KeyPair, issue, make_authority
from ganeti.model.identity import Identity, Role
from ganeti.node.service import FROM_NODE_S, MAX_FROM_NODES, LinkFactory
from ganeti.testing.links import MemoryNode
from ganeti.wire.link import Link, LinkLost
from ganeti.wire.locator import GuardedLocator
from ganeti.wire.node_commands import ListFunctions, TakeParcel
from ganeti.wire.tls import (
    ClientTls,
    Credentials,
    ServerTls,
    master_or_node,
    only_node,
    secret_of,
    tls_factory,
)

NOW = time.time()
AUTHORITY = make_authority("cluster.example.com", now=NOW)


def certificate(role: Role, name: str = "n1", cluster: str = "c1") -> KeyPair:
    """A certificate of the authority."""
    identity = Identity(role=role, node_uuid=name, cluster_uuid=cluster)
    return issue(AUTHORITY, identity, names=[f"{name}.example.com"], now=NOW)


class FromNodes(GuardedLocator):
    """Answers other nodes."""

    @TakeParcel.responder
    def take_parcel(self, parcel: bytes) -> dict[str, Any]:
        """Give something back."""
        return {"receipts": (f"{len(parcel)} bytes",)}


class _Once(Factory):
    noisy = False

    def __init__(self, link: Link) -> None:
        self.link = link

    def buildProtocol(self, addr: object) -> Link:
        """The link."""
        return self.link


class Connection:
    """One connection to a node daemon.

    Args:
        clock: time.
        node: the daemon's factory and TLS.
        own: what the client shows.
    """

    def __init__(self, clock: Clock, node: LinkFactory, tls: ServerTls, own: KeyPair) -> None:
        self.link = Link(clock, GuardedLocator(), has_keepalive=False)
        client = ClientTls(Credentials(own=own.pem, authority=AUTHORITY.certificate))
        expected = client.to(only_node("c1", "n1", "n1.example.com"))
        near: Any = tls_factory(expected, _Once(self.link), clock, is_client=True).buildProtocol(None)
        far: Any = tls_factory(tls, node, clock, is_client=False).buildProtocol(None)
        self.pump: IOPump = connect(
            far, FakeTransport(far, isServer=True), near, FakeTransport(near, isServer=False)
        )
        self.flush()

    def flush(self) -> None:
        """Carry everything."""
        while self.pump.pump():
            pass

    def ask(self, command: Any, **arguments: Any) -> Deferred[dict[str, Any]]:
        """Send a command."""
        asked = Deferred.fromCoroutine(self.link.ask(command, **arguments))
        self.flush()
        return asked


class AdmissionTests(SynchronousTestCase):
    """A node daemon and its callers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.lets_nodes_in = True
        own = Credentials(own=certificate(Role.NODE).pem, authority=AUTHORITY.certificate)
        self.tls = ServerTls(own, master_or_node("c1", lambda: self.lets_nodes_in))
        self.factory = LinkFactory(
            self.clock, MemoryNode(self.clock).locator, from_nodes=FromNodes(), tls=self.tls
        )
        self.addCleanup(self.flushLoggedErrors)

    def connection(self, role: Role, name: str = "n2", cluster: str = "c1") -> Connection:
        """A caller."""
        return Connection(self.clock, self.factory, self.tls, certificate(role, name, cluster))

    def test_master(self) -> None:
        """The master may call functions, and cannot be taken for a node."""
        master = self.connection(Role.MASTER)
        self.assertEqual(self.successResultOf(master.ask(ListFunctions)), {"functions": ()})
        self.failureResultOf(master.ask(TakeParcel, parcel=b"x"), GanetiError)

    def test_node(self) -> None:
        """Another node may bring something, and call nothing."""
        node = self.connection(Role.NODE)
        self.assertEqual(self.successResultOf(node.ask(TakeParcel, parcel=b"x")), {"receipts": ("1 bytes",)})
        self.failureResultOf(node.ask(ListFunctions), GanetiError)

    def test_refused(self) -> None:
        """Nodes of other clusters and other roles are refused, and all nodes while nothing is spread."""
        for what, role, cluster, lets_in in (
            ("another cluster's node", Role.NODE, "c2", True),
            ("the remote interface", Role.RAPI, "c1", True),
            ("a node, although nothing is spread", Role.NODE, "c1", False),
        ):
            with self.subTest(what):
                self.lets_nodes_in = lets_in
                caller = self.connection(role, cluster=cluster)
                self.failureResultOf(caller.ask(TakeParcel, parcel=b"x"), LinkLost)
        self.assertEqual(len(self.factory.links), 0)

    def test_limits(self) -> None:
        """Nodes have few connections, which end by themselves; the master gets one all the same."""
        nodes = [self.connection(Role.NODE, f"n{number}") for number in range(MAX_FROM_NODES + 1)]
        self.failureResultOf(nodes[-1].ask(TakeParcel, parcel=b"x"), LinkLost)
        self.successResultOf(nodes[0].ask(TakeParcel, parcel=b"x"))
        master = self.connection(Role.MASTER)
        for _ in range(2):
            self.clock.advance(FROM_NODE_S / 3)
            for one in nodes[:-1]:
                self.successResultOf(one.ask(TakeParcel, parcel=b"x"))
            self.successResultOf(master.ask(ListFunctions))
        self.clock.advance(FROM_NODE_S / 3)
        for one in nodes:
            one.flush()
            self.failureResultOf(one.ask(TakeParcel, parcel=b"x"), LinkLost)
        self.successResultOf(master.ask(ListFunctions))
        self.successResultOf(self.connection(Role.NODE).ask(TakeParcel, parcel=b"x"))

    def test_secrets(self) -> None:
        """Each master shares a secret with the node that no other connection has; nodes share none."""
        callers = [self.connection(Role.MASTER), self.connection(Role.MASTER), self.connection(Role.NODE)]
        transports: list[Any] = [caller.link.transport for caller in callers]
        ours = [secret_of(transport.getHandle()) for transport in transports]
        self.assertEqual(len(set(ours)), 3)
        self.assertEqual(self.factory.secrets(), ours[:2])
        transports[0].loseConnection()
        callers[0].flush()
        self.assertEqual(self.factory.secrets(), ours[1:2])

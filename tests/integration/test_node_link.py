"""The node link with real TLS, real daemons in processes of their own, and real function processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from OpenSSL import SSL
from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from ganeti.errors import FunctionFailed, NodeTimeout, NodeUnreachable
from ganeti.io.x509 import KeyPair, issue, make_authority
from ganeti.master.node_connector import TlsNodeConnector
from ganeti.master.node_pool import NodePool, Times
from ganeti.model.calls.outcome import Answer, NodeFailed
from ganeti.model.calls.system import NodeTestDelay, Version
from ganeti.model.identity import Identity, Role
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.node import Node
from ganeti.node.launcher import session_members
from ganeti.testing.misbehaving import Behave
from ganeti.version import PROTOCOL_VERSION
from ganeti.wire.link import Link
from ganeti.wire.locator import GuardedLocator
from ganeti.wire.node_commands import ListFunctions
from ganeti.wire.tls import Credentials

reactor: Any = the_reactor

ROOT = Path(__file__).parents[2]
NOW = time.time()
AUTHORITY = make_authority("cluster.example.com", now=NOW)
QUICK = Times(round_s=1.0, grace_s=1.0, connect_s=3.0, reconnect_s=6.0)


def certificate(role: Role, name: str = "n0", cluster: str = "c1") -> KeyPair:
    """A certificate of the authority."""
    identity = Identity(role=role, node_uuid=f"uuid-{name}", cluster_uuid=cluster)
    return issue(AUTHORITY, identity, names=[f"{name}.example.com", "127.0.0.1"], now=NOW, days=5)


def credentials(own: KeyPair, authority: KeyPair = AUTHORITY) -> Credentials:
    """What an end of TLS works with."""
    return Credentials(own=own.pem, authority=authority.certificate)


class Daemon:
    """A node daemon in a process of its own."""

    def __init__(self, directory: str, name: str = "n0") -> None:
        self.name = name
        self._directory = Path(directory)
        self._directory.mkdir(exist_ok=True)
        (self._directory / "server.pem").write_bytes(certificate(Role.NODE, name).pem)
        (self._directory / "ca.pem").write_bytes(AUTHORITY.certificate)
        self.port = 0
        self.zygote_pid = 0
        self.start()

    def start(self) -> None:
        """Start it and wait until it listens; on another port than before."""
        self.log = open(self._directory / "log", "ab")  # noqa: SIM115
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "bench/node_daemon.py"),
                str(self._directory),
                "c1",
                "ganeti.testing.misbehaving",
            ],
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        found = re.fullmatch(r"listening (\d+) (\d+)\n", said)
        assert found, said + (self._directory / "log").read_text()
        self.port, self.zygote_pid = int(found[1]), int(found[2])

    @property
    def node(self) -> Node:
        """The node as masterd knows it."""
        return Node(
            uuid=NodeId(f"uuid-{self.name}"),
            name=f"{self.name}.example.com",
            primary_ip="127.0.0.1",
            secondary_ip="127.0.0.1",
            group=GroupId("g"),
        )

    def function_processes(self) -> list[int]:
        """Children of the zygote."""
        return [child.pid for child in psutil.Process(self.zygote_pid).children()]

    def children(self) -> list[int]:
        """Children of the daemon itself."""
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def signal(self, number: int) -> None:
        """Send a signal to the daemon only."""
        os.kill(self.process.pid, number)

    def end(self) -> None:
        """End it, whatever state it is in."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()


class NodeLinkCase(TestCase):
    """One or two daemons, and a pool that calls them."""

    def daemon(self, name: str = "n0") -> Daemon:
        """A running daemon."""
        daemon = Daemon(os.path.abspath(self.mktemp()), name)
        self.addCleanup(daemon.end)
        return daemon

    def pool(self, *daemons: Daemon, own: KeyPair | None = None, times: Times = QUICK) -> NodePool:
        """A pool that knows where these daemons listen, also after they were started again."""
        master = credentials(own or certificate(Role.MASTER, "m"))

        class Connector:
            """Daemons of this test listen on ports of their own."""

            async def __call__(self, node: Node) -> Link:
                port = next(daemon.port for daemon in daemons if daemon.node.uuid == node.uuid)
                return await TlsNodeConnector(reactor, master, "c1", port=port)(node)

        pool = NodePool(reactor, Connector(), times=times)
        self.addCleanup(self.stop, pool)
        return pool

    async def stop(self, pool: NodePool) -> None:
        """Stop a pool and let its connections close."""
        pool.stopService()
        await deferLater(reactor, 0.05)

    async def until(self, condition: Any) -> None:
        """Wait until something is true."""
        for _ in range(200):
            if condition():
                return
            await deferLater(reactor, 0.05)
        self.fail("it did not become true")

    async def expect(self, kind: type[BaseException], waiting: Any) -> str:
        """The text of the error that something ends with."""
        try:
            await waiting
        except kind as error:
            return str(error)
        raise self.failureException(f"no {kind.__name__}")


class CallTests(NodeLinkCase):
    """Calls that go well, and functions that do not."""

    async def test_calls(self) -> None:
        """Short and long calls give their results; a long one is waited for in rounds (S2.2-025)."""
        daemon = self.daemon()
        pool = self.pool(daemon)
        version = await pool.call(daemon.node, Version())
        self.assertEqual(version.protocol, PROTOCOL_VERSION)
        begun = time.monotonic()
        await pool.call(daemon.node, NodeTestDelay(seconds=3.3))
        self.assertGreater(time.monotonic() - begun, 3.3)
        self.assertEqual(len(await pool.call(daemon.node, Behave(how="big"))), 3_000_000)

    async def test_mistakes_do_not_hurt_the_link(self) -> None:
        """A mistake in one function is one failed call; others on the same link go on."""
        daemon = self.daemon()
        pool = self.pool(daemon)
        other = Deferred.fromCoroutine(pool.call(daemon.node, NodeTestDelay(seconds=1.5)))
        for how in ("mistake", "unserializable"):
            await self.expect(FunctionFailed, pool.call(daemon.node, Behave(how=how)))
        await other
        self.assertTrue(pool.is_connected(daemon.node.uuid))

    async def test_lost_connection_does_not_lose_the_call(self) -> None:
        """A call goes on over a new connection when the old one breaks in the middle."""
        daemon = self.daemon()
        pool = self.pool(daemon)
        asked = Deferred.fromCoroutine(pool.call(daemon.node, NodeTestDelay(seconds=2.5)))
        await self.until(lambda: len(daemon.function_processes()) == 1)
        link = pool._members[daemon.node.uuid].connection.link
        assert link is not None
        link.abort()
        await asked

    async def test_one_process_per_call(self) -> None:
        """Idle connections make no processes and hold up nobody; each call makes one (S2.2-024)."""
        daemon = self.daemon()
        self.assertEqual(daemon.children(), [daemon.zygote_pid])
        master = credentials(certificate(Role.MASTER, "m"))
        connect = TlsNodeConnector(reactor, master, "c1", port=daemon.port)
        links = [await connect(daemon.node) for _ in range(50)]
        idle = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(50)]
        for link in links:
            await link.ask(ListFunctions, timeout_s=5)
        self.assertEqual(daemon.children(), [daemon.zygote_pid])
        self.assertEqual(daemon.function_processes(), [])
        pool = self.pool(daemon)
        asked = Deferred.fromCoroutine(pool.call(daemon.node, NodeTestDelay(seconds=1)))
        await self.until(lambda: len(daemon.function_processes()) == 1)
        begun = time.monotonic()
        await pool.call(daemon.node, Version())
        self.assertLess(time.monotonic() - begun, 1)
        await asked
        await self.until(lambda: daemon.function_processes() == [])
        for connection in idle:
            connection.close()
        for link in links:
            link.abort()


class FaultTests(NodeLinkCase):
    """Daemons that hang, die or stop."""

    async def test_stopped_daemon(self) -> None:
        """A daemon that hangs times out its own calls and delays no other node (S2.2-022, S2.2-007)."""
        hangs, lives = self.daemon(), self.daemon("n1")
        pool = self.pool(hangs, lives)
        nodes = [hangs.node, lives.node]
        await pool.each(nodes, Version())
        hangs.signal(signal.SIGSTOP)
        begun = time.monotonic()
        both = Deferred.fromCoroutine(pool.each(nodes, NodeTestDelay(seconds=0)))
        await pool.call(lives.node, Version())
        self.assertLess(time.monotonic() - begun, 1)
        outcomes = await both
        self.assertLess(time.monotonic() - begun, 4)
        self.assertEqual(outcomes[lives.node.uuid], Answer(None))
        failed = outcomes[hangs.node.uuid]
        assert isinstance(failed, NodeFailed)
        self.assertIsInstance(failed.error, NodeTimeout)
        hangs.signal(signal.SIGCONT)

    async def test_killed_daemon(self) -> None:
        """A daemon that is killed takes its functions along; the call is lost, and is not run again."""
        daemon = self.daemon()
        pool = self.pool(daemon)
        asked = Deferred.fromCoroutine(pool.call(daemon.node, Behave(how="run sleep 40")))
        await self.until(lambda: len(daemon.function_processes()) == 1)
        (function,) = daemon.function_processes()
        await self.until(lambda: len(session_members(function)) == 2)
        members = session_members(function)
        zygote = daemon.zygote_pid
        daemon.signal(signal.SIGKILL)
        daemon.process.wait()
        daemon.start()
        self.assertIn("lost", await self.expect(NodeUnreachable, asked))
        await self.until(lambda: not any(psutil.pid_exists(pid) for pid in [zygote, *members]))
        self.assertEqual(daemon.function_processes(), [])
        await pool.call(daemon.node, Version())

    async def test_terminated_daemon(self) -> None:
        """On SIGTERM all function processes are gone before the daemon exits (S2.2-032)."""
        daemon = self.daemon()
        pool = self.pool(daemon)
        asked = [Deferred.fromCoroutine(pool.call(daemon.node, NodeTestDelay(seconds=40))) for _ in range(3)]
        await self.until(lambda: len(daemon.function_processes()) == 3)
        functions = daemon.function_processes()
        daemon.signal(signal.SIGTERM)
        await self.until(lambda: daemon.process.poll() is not None)
        self.assertEqual([pid for pid in functions if psutil.pid_exists(pid)], [])
        self.assertFalse(psutil.pid_exists(daemon.zygote_pid))
        self.assertEqual(daemon.process.returncode, 0)
        pool.stopService()
        for each in asked:
            await self.expect(NodeUnreachable, each)

    async def test_timeout_ends_the_function(self) -> None:
        """A call that takes too long is ended on the node (S2.2-031)."""
        daemon = self.daemon()
        pool = self.pool(daemon)
        asked = pool.call(daemon.node, NodeTestDelay(seconds=40), timeout_s=1.5)
        await self.expect(NodeTimeout, asked)
        await self.until(lambda: daemon.function_processes() == [])


class _Remembering(Protocol):
    """Remembers how the connection ended."""

    def __init__(self) -> None:
        self.lost: Deferred[str] = Deferred()

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(str(reason.value))


@implementer(IOpenSSLClientConnectionCreator)
class Anonymous:
    """TLS without a certificate of one's own."""

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """A connection that believes everything and shows nothing."""
        return SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)


class AdmissionTests(NodeLinkCase):
    """Certificates."""

    async def test_wrong_certificates_are_refused(self) -> None:
        """Other roles, clusters and authorities do not get in, and the caller learns why."""
        daemon = self.daemon()
        foreign = make_authority("cluster.example.com", now=NOW)
        identity = Identity(role=Role.MASTER, node_uuid="uuid-m", cluster_uuid="c1")
        for own in (
            certificate(Role.NODE, "m"),
            certificate(Role.RAPI, "m"),
            certificate(Role.MASTER, "m", "c2"),
            issue(foreign, identity, names=["m.example.com"], now=NOW, days=5),
        ):
            said = await self.expect(NodeUnreachable, self.pool(daemon, own=own).call(daemon.node, Version()))
            self.assertIn("refused our certificate", said)
        self.assertIsNone(daemon.process.poll())
        await self.pool(daemon).call(daemon.node, Version())

    async def test_missing_certificate(self) -> None:
        """Who shows no certificate is refused in the handshake; who speaks no TLS gets nothing."""
        daemon = self.daemon()
        link = Link(reactor, GuardedLocator())
        factory = TLSMemoryBIOFactory(Anonymous(), True, Factory.forProtocol(lambda: link), reactor)
        await TCP4ClientEndpoint(reactor, "127.0.0.1", daemon.port).connect(factory)
        await self.expect(Exception, link.ask(ListFunctions, timeout_s=5))
        self.assertRegex(link.loss(), "certificate required|handshake failure")

        plain = _Remembering()
        await TCP4ClientEndpoint(reactor, "127.0.0.1", daemon.port).connect(
            Factory.forProtocol(lambda: plain)
        )
        assert plain.transport is not None
        plain.transport.write(b"\x00\x04_ask\x00\x011\x00\x08_command\x00\x0dListFunctions\x00\x00")
        await plain.lost
        await self.pool(daemon).call(daemon.node, Version())

    async def test_wrong_node(self) -> None:
        """Masterd notices that it reached another node than it meant, and says so."""
        daemon = self.daemon()
        other = Node(
            uuid=NodeId("uuid-n9"),
            name="n9.example.com",
            primary_ip="127.0.0.1",
            secondary_ip="127.0.0.1",
            group=GroupId("g"),
        )
        connect = TlsNodeConnector(
            reactor, credentials(certificate(Role.MASTER, "m")), "c1", port=daemon.port
        )
        pool = NodePool(reactor, connect, times=QUICK)
        self.addCleanup(self.stop, pool)
        said = await self.expect(NodeUnreachable, pool.call(other, Version()))
        self.assertIn("this is not node n9.example.com", said)

    async def test_nobody_there(self) -> None:
        """A port where nobody listens is said in words."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        daemon = self.daemon()
        daemon.end()
        daemon.port = port
        said = await self.expect(NodeUnreachable, self.pool(daemon).call(daemon.node, Version()))
        self.assertIn("refused", said)
        self.assertIn("127.0.0.1", said)


class ManyCallsTests(NodeLinkCase):
    """Many calls at once."""

    async def test_many_calls_at_once(self) -> None:
        """200 calls at the same time over one connection all give their result."""
        daemon = self.daemon()
        pool = self.pool(daemon, times=Times())
        calls = [
            Deferred.fromCoroutine(pool.call(daemon.node, NodeTestDelay(seconds=0.1))) for _ in range(200)
        ]
        self.assertEqual(await gatherResults(calls), [None] * 200)
        await self.until(lambda: daemon.function_processes() == [])

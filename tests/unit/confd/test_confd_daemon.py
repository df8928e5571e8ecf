"""The configuration daemon in memory: answers, silence, and a configuration that changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ganeti.confd.answers import NO_CONFIGURATION, answer
from ganeti.confd.config_reader import LOOK_EVERY_S, ConfigReader
from ganeti.confd.service import ConfdProtocol
from ganeti.daemons.confd import build
from ganeti.io.files import write_file
from ganeti.model.cluster import Cluster
from ganeti.model.codec import encode_cluster
from ganeti.testing.clusters import cluster
from ganeti.version import CONFIG_VERSION
from ganeti.wire.confd_messages import ReplyStatus, Request, read_reply, write_request

KEY = b"secret"
PEER = ("192.0.2.9", 4321)


class FakePort:
    """A UDP socket that remembers what was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.is_open = True

    def write(self, datagram: bytes, address: tuple[str, int]) -> None:
        """Send."""
        self.sent.append((datagram, address))

    def getHost(self) -> str:
        """Where it listens."""
        return "memory"

    def stopListening(self) -> None:
        """Close."""
        self.is_open = False


class FakeUdpReactor(MemoryReactorClock):
    """A reactor whose UDP ports are in memory."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ports: dict[tuple[str, int], tuple[FakePort, ConfdProtocol]] = {}

    def listenUDP(
        self, port: int, protocol: ConfdProtocol, interface: str = "", maxPacketSize: int = 8192
    ) -> FakePort:
        """Listen."""
        made = FakePort()
        self.ports[interface, port] = (made, protocol)
        protocol.transport = made  # type: ignore[assignment]
        return made


async def at_once(work: Callable[[], Cluster]) -> Cluster:
    """A thread that is none."""
    return work()


def ping(kind: int = 0, **more: Any) -> Request:
    """A question."""
    return Request(**{"protocol": 1, "type": kind, "rsalt": "r1", **more})


class AnswerTests(SynchronousTestCase):
    """The pure part."""

    def test_ping(self) -> None:
        """A ping gets the version of the configuration, with serial number 0."""
        reply = answer(ping(), cluster(nodes=1))
        self.assertEqual((reply.status, reply.answer, reply.serial), (ReplyStatus.OK, CONFIG_VERSION, 0))

    def test_nothing_here(self) -> None:
        """Without configuration every question gets an error with a text."""
        for kind in (0, 1, 99):
            reply = answer(ping(kind), None)
            self.assertEqual((reply.status, reply.answer), (ReplyStatus.ERROR, NO_CONFIGURATION))

    def test_other_types(self) -> None:
        """What is not answered is said to be so."""
        self.assertEqual(answer(ping(1), cluster(nodes=1)).status, ReplyStatus.NOT_IMPLEMENTED)

    def test_other_protocol(self) -> None:
        """Another version of the protocol is an error."""
        self.assertEqual(answer(ping(protocol=2), cluster(nodes=1)).status, ReplyStatus.ERROR)


class ConfdDaemonTests(SynchronousTestCase):
    """The daemon as `build` puts it together."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())
        self.reactor = FakeUdpReactor()
        self.wall = Clock()
        self.wall.advance(1_700_000_000)
        self.reader = ConfigReader(self.reactor, self.path, at_once)
        self.failures: list[Failure] = []

    def write(self, value: Cluster) -> None:
        """Put a configuration where the daemon looks."""
        write_file(self.path, encode_cluster(value), durable=False)

    def start(self) -> Any:
        """Start it on two addresses."""
        service = build(
            self.reactor,
            self.reader,
            KEY,
            ["127.0.0.1", "::1"],
            1814,
            Service(),
            clock=self.wall,  # type: ignore[arg-type]
            on_failure=self.failures.append,
        )
        service.startService()
        self.port, self.protocol = self.reactor.ports["127.0.0.1", 1814]
        return service

    def ask(self, request: Request, key: bytes = KEY) -> Any:
        """The answer to a question, or None."""
        self.port.sent.clear()
        datagram = write_request(request, key, now=self.wall.seconds())
        self.protocol.datagramReceived(datagram, PEER)
        if not self.port.sent:
            return None
        ((reply, address),) = self.port.sent
        self.assertEqual(address, PEER)
        salt, found = read_reply(reply, KEY)
        self.assertEqual(salt, request.rsalt)
        return found

    def test_ping(self) -> None:
        """A signed ping is answered with the salt it came with, on every address."""
        self.write(cluster(nodes=1))
        self.start()
        self.assertEqual(self.ask(ping()).answer, CONFIG_VERSION)
        self.assertEqual(len(self.reactor.ports), 2)

    def test_strangers(self) -> None:
        """What is not signed with the key gets nothing, not even an error."""
        self.start()
        self.assertIsNone(self.ask(ping(), key=b"guessed"))
        self.protocol.datagramReceived(b"plj0 hello", PEER)
        self.assertEqual(self.port.sent, [])

    def test_old_question(self) -> None:
        """A question that somebody recorded is worthless after five minutes."""
        self.write(cluster(nodes=1))
        self.start()
        datagram = write_request(ping(), KEY, now=self.wall.seconds())
        self.wall.advance(301)
        self.protocol.datagramReceived(datagram, PEER)
        self.assertEqual(self.port.sent, [])

    def test_becomes_candidate(self) -> None:
        """A node that gets a configuration answers from it without being started again."""
        self.start()
        self.assertEqual(self.ask(ping()).status, ReplyStatus.ERROR)
        self.write(cluster(nodes=1))
        self.reactor.advance(LOOK_EVERY_S)
        self.assertEqual(self.ask(ping()).status, ReplyStatus.OK)
        os.unlink(self.path)
        self.reactor.advance(LOOK_EVERY_S)
        self.assertEqual(self.ask(ping()).status, ReplyStatus.ERROR)

    def test_damaged(self) -> None:
        """A file that cannot be read leaves what was read before in force."""
        self.write(cluster(nodes=1))
        self.start()
        for damaged in (b"{torn", b'{"version": "\xff"}', b"[" * 100_000):
            write_file(self.path, damaged, durable=False)
            self.reader.look_soon()
            self.assertEqual(self.ask(ping()).status, ReplyStatus.OK)

    def test_unchanged(self) -> None:
        """A file that is the same is not read again."""
        self.write(cluster(nodes=1))
        self.start()
        before = self.reader.cluster
        self.reactor.advance(LOOK_EVERY_S)
        self.assertIs(self.reader.cluster, before)

    def test_stop(self) -> None:
        """After a stop nothing listens and no timer runs."""
        stopping: Deferred[None] = self.start().stopService()
        self.successResultOf(stopping)
        self.assertFalse(self.port.is_open)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

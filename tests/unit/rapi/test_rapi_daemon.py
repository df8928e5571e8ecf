"""The daemon of the remote interface in memory: HTTP in, AMP to a master daemon, JSON out."""

from __future__ import annotations

import json
import os
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, connect
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ganeti.daemons.rapi import build
from ganeti.errors import ErrorCode, GanetiError, PrereqError
from ganeti.logic.cluster_info import cluster_info
from ganeti.rapi.login import Gate
from ganeti.rapi.master_link import ANSWER_TIMEOUT_S
from ganeti.testing.clusters import cluster
from ganeti.wire.link import Link
from ganeti.wire.locator import GuardedLocator
from ganeti.wire.master_commands import QueryClusterInfo

CLUSTER = cluster_info(cluster(nodes=1), architecture=("64bit", "x86_64"))


class MasterLocator(GuardedLocator):
    """A master daemon that knows one command."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.answer: Deferred[dict[str, Any]] | None = None
        self.asked = 0

    @QueryClusterInfo.responder
    def info(self, args: list[Any], request_id: str | None, trace: str | None) -> Any:
        """Settings of the cluster."""
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.answer or {"result": CLUSTER}


@implementer(IStreamClientEndpoint)
class MemoryMaster:
    """Where masterd would listen; connections are joined in memory."""

    def __init__(self, clock: MemoryReactorClock) -> None:
        self.clock = clock
        self.locator = MasterLocator()
        self.is_away = False
        self.connections: list[Any] = []

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """A new connection."""
        if self.is_away:
            return fail(ConnectError(2, "No such file"))
        near: Any = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        far = Link(self.clock, self.locator, has_keepalive=False)
        self.connections.append(
            connect(far, FakeTransport(far, isServer=True), near, FakeTransport(near, isServer=False))
        )
        connected: Deferred[Any] = Deferred()
        connected.callback(near)
        return connected

    def flush(self) -> None:
        """Carry everything that is on its way."""
        for pump in self.connections:
            while pump.pump():
                pass

    def lose(self) -> None:
        """Break the newest connection."""
        self.connections[-1].clientIO.loseConnection()
        self.flush()


class RapiDaemonTests(SynchronousTestCase):
    """Requests as bytes."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.master = MemoryMaster(self.reactor)
        users = os.path.abspath(self.mktemp())
        with open(users, "w", encoding="utf-8") as stream:
            stream.write("jill secret write\n")

        async def at_once(work: Any) -> Any:
            return work()

        gate = Gate(users, at_once)
        gate.reload()
        self.failures: list[Failure] = []
        self.service: Any = build(
            self.reactor,
            [TCP4ServerEndpoint(self.reactor, 5080, interface="127.0.0.1")],
            self.master,
            None,
            gate,
            Service(),
            on_failure=self.failures.append,
        )
        self.service.startService()
        listening: tuple[Any, ...] = self.reactor.tcpServers[0]
        self.site = listening[1]
        self.site.startFactory()
        self.addCleanup(self.site.stopFactory)

    def begin(self, request: bytes) -> StringTransport:
        """Send a request; the answer goes to the transport."""
        transport = StringTransport()
        protocol = self.site.buildProtocol(None)
        protocol.makeConnection(transport)
        protocol.dataReceived(request)
        self.master.flush()
        return transport

    def result(self, transport: StringTransport) -> tuple[int, Any, dict[str, str]]:
        """Status, decoded body and headers of an answer."""
        head, _, body = transport.value().partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertEqual(int(headers["Content-Length"]), len(body))
        return int(status.split()[1]), json.loads(body), headers

    def ask(self, method: str, path: str, *headers: str, body: bytes = b"") -> tuple[int, Any]:
        """Status and body of the answer to a request."""
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        request = "\r\n".join([*lines, "", ""]).encode() + body
        return self.result(self.begin(request))[:2]

    def test_version(self) -> None:
        """The version needs no master daemon."""
        self.master.is_away = True
        self.assertEqual(self.ask("GET", "/version"), (200, 2))
        self.assertEqual(self.ask("GET", "/2"), (200, None))

    def test_info(self) -> None:
        """The cluster is described as masterd says; one connection serves all requests."""
        for _ in range(3):
            status, info = self.ask("GET", "/2/info")
            self.assertEqual(
                (status, info["name"], info["vg_name"]), (200, CLUSTER["name"], CLUSTER["volume_group_name"])
            )
        self.assertEqual(len(self.master.connections), 1)

    def test_unknown(self) -> None:
        """Unknown paths are 404 and unknown methods 501, in the established form."""
        status, body = self.ask("GET", "/2/nope")
        self.assertEqual((status, body["code"], set(body)), (404, 404, {"code", "message", "explain"}))
        self.assertEqual(self.ask("PUT", "/2/info")[0], 501)

    def test_master_away(self) -> None:
        """502 with the reason while masterd is away; when it is back it is found."""
        self.master.is_away = True
        status, body = self.ask("GET", "/2/info")
        self.assertEqual(status, 502)
        self.assertIn("is ganeti-masterd running?", body["message"])
        self.master.is_away = False
        self.assertEqual(self.ask("GET", "/2/info")[0], 200)

    def test_master_dies(self) -> None:
        """502 if masterd goes while it is asked, and a new connection for the next request."""
        self.master.locator.answer = Deferred()
        waiting = self.begin(b"GET /2/info HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(waiting.value(), b"")
        self.master.lose()
        self.assertEqual(self.result(waiting)[0], 502)
        self.master.locator.answer = None
        self.assertEqual(self.ask("GET", "/2/info")[0], 200)
        self.assertEqual(len(self.master.connections), 2)

    def test_master_slow(self) -> None:
        """504 if it does not answer in time."""
        self.master.locator.answer = Deferred()
        waiting = self.begin(b"GET /2/info HTTP/1.1\r\nHost: x\r\n\r\n")
        self.reactor.advance(ANSWER_TIMEOUT_S)
        self.assertEqual(self.result(waiting)[0], 504)

    def test_master_errors(self) -> None:
        """What masterd does not know is 404, every other error of it 500, with its message."""
        self.master.locator.error = PrereqError("no such node", code=ErrorCode.UNKNOWN)
        self.assertEqual(self.ask("GET", "/2/info")[0], 404)
        self.master.locator.error = GanetiError("disk <full>")
        status, body = self.ask("GET", "/2/info")
        self.assertEqual((status, body["message"]), (500, "disk &lt;full&gt;"))

    def test_client_hangs_up(self) -> None:
        """A client that goes away while masterd thinks does no harm."""
        self.master.locator.answer = Deferred()
        protocol = self.site.buildProtocol(None)
        protocol.makeConnection(StringTransport())
        protocol.dataReceived(b"GET /2/info HTTP/1.1\r\nHost: x\r\n\r\n")
        self.master.flush()
        protocol.connectionLost(Failure(ConnectError()))
        self.master.locator.answer = None
        self.assertEqual(self.ask("GET", "/2/info")[0], 200)

    def test_login(self) -> None:
        """Wrong credentials are refused even where none are needed."""
        self.assertEqual(self.ask("GET", "/version", "Authorization: Basic amlsbDpzZWNyZXQ=")[0], 200)
        request = b"GET /version HTTP/1.1\r\nHost: x\r\nAuthorization: Basic amlsbDp4\r\n\r\n"
        status, _, headers = self.result(self.begin(request))
        self.assertEqual((status, headers["WWW-Authenticate"]), (401, 'Basic realm="Ganeti Remote API"'))

    def test_bodies(self) -> None:
        """A body must be JSON and say so; a charset behind it is accepted."""
        for kind, body, status in (
            (None, b"{}", 415),
            ("text/plain", b"{}", 415),
            ("application/json", b"{}", 200),
            ("Application/JSON; charset=utf-8", b"{}", 200),
            ("application/json", b"{", 400),
            ("application/json", b'"\x80"', 400),
            ("application/json", b"[" * 100_000, 400),
            ("text/plain", b"", 200),
        ):
            headers = [f"Content-Type: {kind}"] if kind else []
            self.assertEqual(self.ask("GET", "/version", *headers, body=body)[0], status, (kind, body))

    def test_head(self) -> None:
        """HEAD is GET without a body."""
        transport = self.begin(b"HEAD /version HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(transport.value().endswith(b"\r\n\r\n"))
        self.assertIn(b" 200 ", transport.value())

    def test_stop(self) -> None:
        """After a stop the connection to masterd is gone."""
        self.ask("GET", "/2/info")
        stopping = self.service.stopService()
        self.master.flush()
        self.successResultOf(stopping)
        self.assertEqual(self.failures, [])

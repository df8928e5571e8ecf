"""The commands of the client socket as bytes, so that clients without this package can speak them."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.client import chunks, encode_box, joined
from ganeti.testing.links import LinkPair
from ganeti.wire import master_commands
from ganeti.wire.link import Link
from ganeti.wire.locator import GuardedLocator
from ganeti.wire.master_commands import JobChanged, MasterCommand, PushedCommand, Query, SubmitJob


class Locator(GuardedLocator):
    """A masterd that repeats what it hears."""

    @Query.responder
    def query(self, args: list[Any], request_id: str | None, trace: str | None) -> dict[str, Any]:
        """What was asked."""
        return {"result": [args, request_id, trace]}


class Client(GuardedLocator):
    """A client that watches."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    @JobChanged.responder
    def changed(self, args: list[Any]) -> dict[str, Any]:
        """Remember."""
        self.heard.append(args)
        return {}


class MasterCommandTests(SynchronousTestCase):
    """Requests, answers, pushes."""

    def test_request_and_answer_as_bytes(self) -> None:
        """A request written by hand gets the documented answer."""
        link, transport = Link(Clock(), Locator(), has_keepalive=False), StringTransport()
        link.makeConnection(transport)
        link.dataReceived(
            b'\x00\x04_ask\x00\x011\x00\x08_command\x00\x05Query\x00\x04args\x00\x08["node"]\x00\x00'
        )
        self.assertEqual(
            transport.value(),
            b'\x00\x06result\x00\x14[["node"],null,null]\x00\x07_answer\x00\x011\x00\x00',
        )

    def test_long_query(self) -> None:
        """Arguments and results may be much longer than an AMP value."""
        pair = LinkPair(Clock(), Locator(), has_keepalive=False)
        names = [f"instance{number}.example.com" for number in range(20_000)]
        asked = Deferred.fromCoroutine(pair.near.ask(Query, args=names, request_id="r1", trace="7"))
        pair.flush()
        self.assertEqual(self.successResultOf(asked), {"result": [names, "r1", "7"]})

    def test_client_of_the_command_line(self) -> None:
        """What the standard-library client writes is understood, and it understands the answer."""
        names = [f"instance{number}" for number in range(10_000)]
        link, transport = Link(Clock(), Locator(), has_keepalive=False), StringTransport()
        link.makeConnection(transport)
        link.dataReceived(encode_box({b"_ask": b"1", b"_command": b"Query", **chunks(b"args", names)}))
        (answer,) = amp.parseString(transport.value())
        self.assertEqual(json.loads(joined(answer, b"result")), [names, None, None])

    def test_push(self) -> None:
        """Masterd sends by itself, over the same connection, and wants no answer."""
        client = Client()
        pair = LinkPair(Clock(), Locator(), client, has_keepalive=False)
        far: Any = pair.far
        self.assertIsNone(far.callRemote(JobChanged, args=[3, {"status": "running"}]))
        pair.flush()
        self.assertEqual(client.heard, [[3, {"status": "running"}]])

    def test_names(self) -> None:
        """The name on the wire is the name of the class, and every command is explained."""
        for value in vars(master_commands).values():
            if isinstance(value, type) and issubclass(value, (MasterCommand, PushedCommand)):
                self.assertEqual(value.commandName, value.__name__.encode())
                self.assertTrue(value.__doc__)
        self.assertEqual(SubmitJob.commandName, b"SubmitJob")
        self.assertFalse(JobChanged.requiresAnswer)
        self.assertIsInstance(dict(SubmitJob.arguments)[b"args"], amp.Argument)

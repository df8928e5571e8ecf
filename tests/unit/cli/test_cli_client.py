"""The client against a server that speaks AMP by Twisted, over a real unix socket."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ganeti.cli import client as client_module
from ganeti.cli.client import Client, chunks, connect, decode_box, encode_box, joined
from ganeti.cli.errors import ConnectionLost, MasterError, MasterTimeout, NoMaster, NoPermission, explain
from ganeti.errors import PrereqError
from ganeti.model.paths import Paths
from ganeti.wire import master_commands as commands
from ganeti.wire.errors import WireError


class Server(amp.AMP):
    """Answers a few commands; keeps what it was sent."""

    def __init__(self, seen: list[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    @commands.Query.responder
    def query(self, args: Any, request_id: str | None, trace: str | None) -> dict[str, Any]:
        """Echo."""
        return {"result": args}

    @commands.SubmitJob.responder
    def submit(self, args: Any, request_id: str | None, trace: str | None) -> dict[str, Any]:
        """Remember the request."""
        self.seen.append((args, request_id))
        return {"result": 17}

    @commands.WatchJob.responder
    def watch(self, args: Any, request_id: str | None, trace: str | None) -> dict[str, Any]:
        """News before the answer, and after it."""
        self.callRemote(commands.JobChanged, args=[5, [["queued"], []]])
        reactor.callLater(0, self.callRemote, commands.KeepWaiting, args=[5])
        return {"result": 5}

    @commands.QueryTags.responder
    def refuse(self, args: Any, request_id: str | None, trace: str | None) -> dict[str, Any]:
        """Refuse."""
        raise WireError.pack(PrereqError("no such node", code="unknown_entity"))

    @commands.Version.responder
    def hang(self, args: Any, request_id: str | None, trace: str | None) -> Deferred[dict[str, Any]]:
        """Never answer."""
        return Deferred()

    @commands.ArchiveJob.responder
    def drop(self, args: Any, request_id: str | None, trace: str | None) -> dict[str, Any]:
        """Hang up."""
        cast("Any", self.transport).abortConnection()
        return {"result": None}


class ClientTests(TestCase):
    """Calls and pushed messages."""

    def setUp(self) -> None:
        """A server on a socket of its own."""
        self.path = f"/tmp/cli-{os.getpid()}-{threading.get_ident()}-{id(self)}.sock"
        self.seen: list[Any] = []
        factory = Factory.forProtocol(lambda: Server(self.seen))
        factory.noisy = False
        port = cast("Any", reactor).listenUNIX(self.path, factory)
        self.addCleanup(port.stopListening)

    def run_client(self, work: Callable[[Client], Any]) -> Deferred[Any]:
        """What some work with a client gives, done in a thread as the client blocks."""

        def connected() -> Any:
            client = Client(self.path)
            try:
                return work(client)
            finally:
                client.close()

        return deferToThread(connected)

    async def test_call(self) -> None:
        """Arguments and result are JSON values."""
        arguments = ["node", ["name"], None, {"ä": [1.5, True]}]
        self.assertEqual(await self.run_client(lambda client: client.call("Query", arguments)), arguments)

    async def test_long_values(self) -> None:
        """Values longer than a box value allows go over several keys, both ways."""
        arguments = ["x" * size for size in (65_533, 65_534, 400_000)]
        found = await self.run_client(lambda client: [client.call("Query", [text]) for text in arguments])
        self.assertEqual(found, [[text] for text in arguments])

    async def test_submission(self) -> None:
        """The request id is sent beside the arguments."""
        await self.run_client(lambda client: client.call("SubmitJob", [[{}], False], "abc"))
        self.assertEqual(await self.run_client(lambda client: client.submit([{"OP_ID": "X"}])), 17)
        self.assertEqual(self.seen, [([[{}], False], "abc"), ([[{"OP_ID": "X"}], False], None)])

    async def test_error(self) -> None:
        """Errors come with their class, text and code, and the connection goes on."""

        def refused(client: Client) -> Any:
            error = self.assertRaises(MasterError, client.call, "QueryTags", ["node", "n9"])
            return error, client.call("Query", [1])

        error, after = await self.run_client(refused)
        self.assertEqual(
            (error.name, error.text, error.code), ("OpPrereqError", "no such node", "unknown_entity")
        )
        self.assertEqual(after, [1])

    async def test_unknown_command(self) -> None:
        """A command that masterd does not know is an error with its name."""

        def unknown(client: Client) -> Any:
            return self.assertRaises(MasterError, client.call, "Dance", [])

        self.assertIn("Dance", explain(await self.run_client(unknown))[0])

    async def test_pushed(self) -> None:
        """Messages that come before an answer are kept, in order; then there is none in time."""

        def watch(client: Client) -> Any:
            number = client.call("WatchJob", [17, ["status"], None])
            return number, client.pushed(5), client.pushed(5), client.pushed(0.01)

        self.assertEqual(
            await self.run_client(watch),
            (5, ("JobChanged", [5, [["queued"], []]]), ("KeepWaiting", [5]), None),
        )

    async def test_time_out(self) -> None:
        """Who is not answered gives up."""
        self.patch(client_module, "ANSWER_TIMEOUT_S", 0.05)
        error = await self.run_client(
            lambda client: self.assertRaises(MasterTimeout, client.call, "Version", [])
        )
        self.assertIn("Timeout while talking to the master daemon", error.message)

    async def test_lost(self) -> None:
        """A connection that breaks is told apart from one that is slow."""
        await self.run_client(
            lambda client: self.assertRaises(ConnectionLost, client.call, "ArchiveJob", [1])
        )


class ConnectTests(SynchronousTestCase):
    """Why there is no connection."""

    def setUp(self) -> None:
        """A node with a root directory of its own."""
        self.root = self.mktemp()
        self.paths = Paths(self.root)
        os.makedirs(self.paths.data_dir)
        os.makedirs(f"{self.root}/etc")
        self.write(self.paths.hostname_file, "n1.ex.org\n")

    def write(self, path: str, text: str) -> None:
        """A file."""
        with open(path, "w") as file:
            file.write(text)

    def test_no_cluster(self) -> None:
        """Without the name of a master this is no cluster."""
        error = self.assertRaises(MasterError, connect, self.paths)
        self.assertEqual(
            error.arguments,
            ("Cluster not initialized or this machine is not part of a cluster", "wrong_input"),
        )

    def test_not_master(self) -> None:
        """On another node the master is named."""
        self.write(self.paths.ssconf("master_node"), "n2.ex.org\n")
        error = self.assertRaises(MasterError, connect, self.paths)
        self.assertEqual(
            error.text,
            "This is not the master node, please connect to node 'n2.ex.org' and rerun the command",
        )

    def test_no_daemon(self) -> None:
        """On the master the daemon does not run."""
        self.write(self.paths.ssconf("master_node"), "n1.ex.org\n")
        error = self.assertRaises(NoMaster, connect, self.paths)
        self.assertTrue(
            error.message.startswith(
                "Cannot communicate with the master daemon.\n"
                "Is the process running and listening for connections?"
            )
        )

    def test_stale_socket(self) -> None:
        """A socket that nobody listens on is no daemon."""
        path = f"/tmp/cli-stale-{os.getpid()}.sock"
        self.addCleanup(os.unlink, path)
        with socket.socket(socket.AF_UNIX) as left_over:
            left_over.bind(path)
        self.assertRaises(NoMaster, Client, path)

    def test_no_permission(self) -> None:
        """A socket that is not for this user."""

        class Refusing(socket.socket):
            def connect(self, address: Any) -> None:
                raise PermissionError(13, "Permission denied")

        self.patch(socket, "socket", Refusing)
        error = self.assertRaises(NoPermission, Client, "/x")
        self.assertIn("It seems you don't have permissions to connect", error.message)


KEYS = st.binary(min_size=1, max_size=20)


class BoxTests(SynchronousTestCase):
    """The format of boxes."""

    @given(st.dictionaries(KEYS, st.binary(max_size=300), min_size=1, max_size=5), st.binary(max_size=9))
    def test_round_trip(self, box: dict[bytes, bytes], rest: bytes) -> None:
        """A box is read back, whatever follows it; Twisted reads the same."""
        data = encode_box(box)
        self.assertEqual(decode_box(data + rest), (box, len(data)))
        self.assertEqual(amp.AmpBox(box).serialize(), encode_box(dict(sorted(box.items()))))

    @given(st.dictionaries(KEYS, st.binary(max_size=30), min_size=1, max_size=3), st.integers(0, 200))
    def test_incomplete(self, box: dict[bytes, bytes], length: int) -> None:
        """A part of a box is not a box."""
        data = encode_box(box)
        if length < len(data):
            self.assertIsNone(decode_box(data[:length]))

    @given(st.text(max_size=10), st.integers(65_530, 65_540))
    def test_chunks(self, text: str, length: int) -> None:
        """Long values are split and joined."""
        value = text + "x" * length
        box = chunks(b"args", value)
        self.assertTrue(all(len(part) <= 65_535 for part in box.values()))
        self.assertEqual(json.loads(joined(box, b"args")), value)

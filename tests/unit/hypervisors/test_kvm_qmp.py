"""The QMP parser with bytes, and the client against a socket."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import HypervisorError
from ganeti.hypervisors.kvm.qmp import (
    MAX_LINE,
    Event,
    Failure,
    Greeting,
    QmpClient,
    QmpError,
    QmpParser,
    Reply,
    command_line,
)

GREETING = (
    b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}\r\n'
)
EVENT = b'{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}\r\n'
REPLY = b'{"return": {"status": "running"}}\r\n'
FAILURE = b'{"error": {"class": "GenericError", "desc": "no"}}\r\n'
EXPECTED = [
    Greeting((7, 2, 22)),
    Event("STOP", {}),
    Reply({"status": "running"}),
    Failure("GenericError", "no"),
]


class ParserTests(SynchronousTestCase):
    """Bytes to messages."""

    @given(st.lists(st.integers(0, 300), max_size=6))
    def test_any_fragments(self, cuts: list[int]) -> None:
        """Where the bytes are cut makes no difference."""
        data = GREETING + EVENT + REPLY + FAILURE
        parser, found = QmpParser(), []
        edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
        for start, end in pairwise(edges):
            found += parser.feed(data[start:end])
        self.assertEqual(found, EXPECTED)

    def test_event_with_data(self) -> None:
        """Data of events are kept."""
        line = b'{"event": "MIGRATION", "data": {"status": "active"}, "timestamp": {}}\n'
        self.assertEqual(QmpParser().feed(line), [Event("MIGRATION", {"status": "active"})])

    @given(st.binary(min_size=1, max_size=40).filter(lambda data: data.strip() and b"\n" not in data))
    def test_rubbish(self, data: bytes) -> None:
        """What is not QMP is an error with a message, never another exception."""
        self.assertRaises(HypervisorError, QmpParser().feed, data + b"\n")

    def test_endless_line(self) -> None:
        """A peer that never ends its line does not fill the memory."""
        parser = QmpParser()
        parser.feed(b"x" * MAX_LINE)
        self.assertRaises(HypervisorError, parser.feed, b"x")

    def test_command(self) -> None:
        """A command without arguments has no such member."""
        self.assertEqual(command_line("stop"), b'{"execute":"stop"}\n')


class ClientTests(SynchronousTestCase):
    """The blocking client, with a server thread that plays QEMU."""

    def serve(self, play: Callable[[socket.socket], None], *, depth: int = 1) -> str:
        """Path of a socket on which one client is served."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        directory = os.path.join(directory, *["d" * 60] * depth)
        os.makedirs(directory)
        path = f"{directory}/inst.qmp"
        server = socket.socket(socket.AF_UNIX)
        here = os.open(directory, os.O_PATH)
        server.bind(f"/proc/self/fd/{here}/inst.qmp")
        os.close(here)
        server.listen(1)

        def run() -> None:
            connection, _ = server.accept()
            with connection, server:
                play(connection)

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join, 5)
        return path

    def test_execute(self) -> None:
        """A command gives its value; events before it are kept; underscores become dashes."""
        seen: list[bytes] = []

        def play(peer: socket.socket) -> None:
            peer.sendall(GREETING)
            peer.recv(1000)
            peer.sendall(b'{"return": {}}\n')
            seen.append(peer.recv(1000))
            peer.sendall(EVENT + REPLY)

        with QmpClient(self.serve(play)) as qmp:
            self.assertEqual(qmp.version, (7, 2, 22))
            self.assertEqual(qmp.execute("query-x", some_key=1), {"status": "running"})
            self.assertEqual(qmp.wait_event("STOP", timeout_s=1).name, "STOP")
            self.assertEqual(qmp.events, [])
        self.assertIn(b'"some-key":1', seen[0])

    def test_long_path(self) -> None:
        """A path longer than socket addresses can be is no obstacle."""

        def play(peer: socket.socket) -> None:
            peer.sendall(GREETING)
            peer.recv(1000)
            peer.sendall(b'{"return": {}}\n')

        path = self.serve(play, depth=3)
        self.assertGreater(len(path), 107)
        QmpClient(path).close()

    def test_refusal(self) -> None:
        """What QEMU refuses is an error with its words and its class."""

        def play(peer: socket.socket) -> None:
            peer.sendall(GREETING)
            peer.recv(1000)
            peer.sendall(FAILURE)

        error = self.assertRaises(QmpError, QmpClient, self.serve(play))
        self.assertIn("no", str(error))
        self.assertEqual(error.kind, "GenericError")

    def test_silence(self) -> None:
        """A QEMU that serves somebody else, or hangs, does not hold us up."""
        done = threading.Event()
        self.addCleanup(done.set)

        def play(peer: socket.socket) -> None:
            done.wait(5)

        path = self.serve(play)
        error = self.assertRaises(HypervisorError, QmpClient, path, timeout_s=0.1)
        self.assertIn("does not answer", str(error))
        done.set()

    def test_end(self) -> None:
        """A QEMU that ends is reported, with the name of the instance."""

        def play(peer: socket.socket) -> None:
            peer.sendall(GREETING)
            peer.recv(1000)

        error = self.assertRaises(HypervisorError, QmpClient, self.serve(play))
        self.assertIn("inst", str(error))

    def test_nobody(self) -> None:
        """No socket, no connection."""
        self.assertRaises(HypervisorError, QmpClient, "/nonexistent/x.qmp")
        self.assertRaises(HypervisorError, QmpClient, "/tmp/no-such-instance.qmp")

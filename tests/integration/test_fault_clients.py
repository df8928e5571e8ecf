"""Clients that sleep, dawdle, do not read or talk nonsense, and many at once: the others are served."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any

import psutil

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.client import chunks, decode_box, encode_box, joined
from tests.integration.cluster import RunningCluster, seconds_of, until


def setUpModule() -> None:
    """Two nodes."""
    ClientsCase.cluster = RunningCluster(nodes=2)


def tearDownModule() -> None:
    """End all of it."""
    ClientsCase.cluster.destroy()


def request(command: str, *arguments: Any) -> bytes:
    """The bytes of a request."""
    return encode_box({b"_ask": b"1", b"_command": command.encode(), **chunks(b"args", list(arguments))})


class ClientsCase(SynchronousTestCase):
    """Raw connections to masterd's socket."""

    cluster: RunningCluster

    def connection(self) -> socket.socket:
        """A connection on which nothing was sent yet."""
        connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(connection.close)
        connection.settimeout(30)
        connection.connect(self.cluster.paths().master_socket)
        return connection

    def answer(self, connection: socket.socket) -> Any:
        """What is answered on a connection."""
        data = b""
        while (found := decode_box(data)) is None:
            piece = connection.recv(1 << 16)
            self.assertTrue(piece, "the connection was closed")
            data += piece
        self.assertIn(b"_answer", found[0])
        return json.loads(joined(found[0], b"result"))

    def submit_delay(self, seconds: float, **more: Any) -> int:
        """A job that sleeps."""
        return self.cluster.client().submit([{"OP_ID": "OP_TEST_DELAY", "duration": seconds, **more}])

    def assert_served(self, times: int = 5) -> None:
        """Requests on a new connection, and the tools, are answered in less than a second."""
        client = self.cluster.client()
        for _ in range(times):
            self.assertLess(seconds_of(lambda: client.call("Version", [])), 1)
        for command in ("gnt-job list", "gnt-instance list", "gnt-cluster info"):
            self.assertLess(seconds_of(lambda command=command: self.cluster.gnt(command)), 1)  # type: ignore[misc]
        job = client.submit([{"OP_ID": "OP_TEST_DELAY", "duration": 0}])
        self.assertLess(seconds_of(lambda: self.cluster.wait_for_jobs(job)), 1)


class RudeClientsTests(ClientsCase):
    """Connections that would block a server with a thread or a buffer for each."""

    def test_idle_and_slow(self) -> None:
        """200 idle connections and one that sends a byte a second delay nobody (S2.2-002 to S2.2-005)."""
        idle = [self.connection() for _ in range(200)]
        slow = self.connection()
        data = request("Version")
        over = threading.Event()

        sent = threading.Semaphore(0)

        def dawdle() -> None:
            for at in range(len(data)):
                slow.sendall(data[at : at + 1])
                sent.release()
                over.wait(0 if over.is_set() else 1)

        dawdler = threading.Thread(target=dawdle, daemon=True)
        dawdler.start()
        for _ in range(2):
            self.assertTrue(sent.acquire(timeout=5))
            self.assert_served()
        over.set()
        dawdler.join(5)
        self.assertIn("release", self.answer(slow))
        for connection in idle[::20]:
            connection.sendall(request("Version"))
            self.assertIn("release", self.answer(connection))

    def test_who_does_not_read(self) -> None:
        """A client that asks and never reads the answers is not heard any more, and costs little memory."""
        masterd = psutil.Process(self.cluster.pid("ganeti-masterd"))
        before = masterd.memory_info().rss
        connection = self.connection()
        connection.settimeout(0.5)
        data = request("QueryClusterInfo") * 100
        with self.assertRaises(TimeoutError):
            for _ in range(1000):
                connection.sendall(data)
        self.assert_served()
        self.assertLess(masterd.memory_info().rss - before, 40e6)

    def test_who_reads_late(self) -> None:
        """A client that did not read for a while gets all its answers when it reads at last."""
        connection = self.connection()
        questions = request("QueryClusterInfo") * 1000
        asker = threading.Thread(target=connection.sendall, args=(questions,), daemon=True)
        asker.start()
        time.sleep(0.5)
        data = bytearray()
        answers = 0
        while answers < 1000:
            data += connection.recv(1 << 16)
            while (found := decode_box(data)) is not None:
                answers += 1
                del data[: found[1]]
        asker.join(5)
        self.assertEqual(data, b"")

    def test_nonsense(self) -> None:
        """What is not the protocol costs its own connection only; strange requests get an error."""
        for data in (b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 70000, b"\x00\x00" * 1000, b"\x00\x04_ask\x00\x01"):
            connection = self.connection()
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(data)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass
        for data in (
            request("NoSuchCommand"),
            request("SubmitJob"),
            request("Query", 7),
            encode_box({b"_ask": b"1", b"_command": b"Query", b"args": b"{nonsense"}),
            encode_box({b"_ask": b"1", b"_command": b"Query"}),
        ):
            connection = self.connection()
            connection.sendall(data)
            found = decode_box(connection.recv(1 << 16))
            assert found is not None
            self.assertIn(b"_error", found[0])
        self.assert_served(1)


class ManyClientsTests(ClientsCase):
    """Much at once."""

    def test_many_jobs(self) -> None:
        """With 20 jobs running and more submitted all the time, lists take less than a second (S2.2-006)."""
        nodes = ["node1.virtual", "node2.virtual"]
        running = [self.submit_delay(4, on_nodes=nodes) for _ in range(20)]
        until(
            lambda: {self.cluster.jobs("status")[job][0] for job in running} == {"running"}, "they do not run"
        )
        over = threading.Event()
        submitted: list[int] = []

        def submit() -> None:
            client = self.cluster.client()
            while not over.is_set():
                submitted.append(client.submit([{"OP_ID": "OP_TEST_DELAY", "duration": 0}]))

        submitter = threading.Thread(target=submit, daemon=True)
        submitter.start()
        try:
            for _ in range(5):
                self.assertLess(seconds_of(lambda: self.cluster.gnt("gnt-job list")), 1)
                self.assertLess(seconds_of(lambda: self.cluster.gnt("gnt-job list --running")), 1)
        finally:
            over.set()
            submitter.join(10)
        self.assertGreater(len(submitted), 50)
        self.assertEqual(set(self.cluster.wait_for_jobs().values()), {"success"})

    def test_many_waits(self) -> None:
        """500 clients that wait for the same job delay nobody, and all learn of its end (S2.2-008)."""
        job = self.submit_delay(3)
        until(lambda: self.cluster.job(job)[0] == "running", "it does not run")
        waiting = [self.connection() for _ in range(500)]
        for connection in waiting:
            connection.sendall(request("WaitForJobChange", job, ["status"], ["running"], None, 60.0))
        self.assert_served(3)
        self.cluster.wait_for_jobs(job)
        ended = time.monotonic()
        for connection in waiting:
            values, _entries = self.answer(connection)
            self.assertEqual(values, ["success"])
        self.assertLess(time.monotonic() - ended, 2)

    def test_more_connections_than_usual(self) -> None:
        """1100 connections are served though systems begin with a limit of 1024 open files."""
        self.cluster.stop("ganeti-masterd")
        few = ("prlimit", "--nofile=1024:8192")
        self.assertEqual(self.cluster.start_daemon("ganeti-masterd", wrapped=few).returncode, 0)
        connections = [self.connection() for _ in range(1100)]
        connections[-1].sendall(request("Version"))
        self.assertIn("release", self.answer(connections[-1]))
        self.assert_served(1)

    def test_waits_of_clients_that_leave(self) -> None:
        """Subscriptions end with their connections; the next job is not slower for them."""
        job = self.submit_delay(600)
        for _ in range(300):
            connection = self.connection()
            connection.sendall(request("WatchJob", job, ["status"], None, 60.0))
            connection.close()
        self.assert_served(3)
        self.assertEqual(self.cluster.client().call("CancelJob", [job])[0], False)

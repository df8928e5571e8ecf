"""The client socket: every command, every error, slow and idle clients, news of jobs."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.task import deferLater
from twisted.protocols import amp
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from ganeti.errors import GanetiError, JobLost, JobQueueDrained, PrereqError, ProgrammerError
from ganeti.interfaces import IQueries
from ganeti.io.watcher_pause import WatcherPause
from ganeti.master.client_api import MasterApi
from ganeti.master.client_service import ClientService, Peer, turn_of
from ganeti.model.paths import Paths
from ganeti.testing.jobs import EPOCH, JobWorld
from ganeti.wire import master_commands as commands
from ganeti.wire.link import Link
from ganeti.wire.locator import GuardedLocator

PROBE = {"OP_ID": "OP_TEST_PROBE"}


@implementer(IQueries)
class FixedQueries:
    """Answers queries with as many rows as the filter says."""

    async def query(
        self, what: str, fields: Sequence[str], qfilter: list[Any] | None, *, cached: bool = True
    ) -> Mapping[str, Any]:
        """Rows."""
        if what == "broken":
            raise ZeroDivisionError("oops")
        count = qfilter[0] if qfilter else 1
        return {"fields": list(fields), "data": [[[0, f"{what}{row}"]] for row in range(count)]}

    def query_fields(self, what: str, fields: Sequence[str] | None) -> Mapping[str, Any]:
        """Fields."""
        return {"fields": [what]}


class Listener(GuardedLocator):
    """A client's side of the connection: remembers news."""

    def __init__(self) -> None:
        self.changes: list[Any] = []
        self.signs: list[Any] = []

    @commands.JobChanged.responder
    def changed(self, args: list[Any]) -> dict[str, Any]:
        """News."""
        self.changes.append(args)
        return {}

    @commands.KeepWaiting.responder
    def keep_waiting(self, args: list[Any]) -> dict[str, Any]:
        """A sign of life."""
        self.signs.append(args)
        return {}


class ClientServiceTestCase(TestCase):
    """A service on a real socket over an engine whose clock is driven by a ticker."""

    def setUp(self) -> None:
        directory = os.path.relpath(self.mktemp())
        self.world = JobWorld()
        paths = Paths(directory)
        os.makedirs(paths.data_dir)
        self.path = os.path.join(directory, "s")
        self.api = MasterApi(
            self.world.queue,
            self.world.engine.watch,
            FixedQueries(),
            self.world.config,
            WatcherPause(paths, self.world.clock),
            turn_of(reactor),
        )
        self.service = ClientService(reactor, self.path, self.api)  # type: ignore[arg-type]
        self.service.startService()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.service.stopService()))
        self._tick()
        self.addCleanup(lambda: self._ticker.cancel())

    def _tick(self) -> None:
        self.world.reactor.advance(0.01)
        self._ticker = reactor.callLater(0.001, self._tick)

    async def client(self, listener: Listener | None = None) -> Link:
        """A connected client."""
        link = Link(reactor, listener or Listener(), has_keepalive=False)
        endpoint = UNIXClientEndpoint(reactor, self.path)
        await connectProtocol(endpoint, link)
        self.addCleanup(self.hang_up, link)
        return link

    def hang_up(self, link: Link) -> Deferred[Any]:
        """End a connection and wait for it."""
        if link.lost_because is not None:
            return succeed(None)
        link.close()
        return link.when_lost()

    async def ask(self, link: Link, command: type[commands.MasterCommand], *args: Any, **more: Any) -> Any:
        """Ask for something."""
        return (await link.ask(command, timeout_s=20, args=list(args), **more))["result"]

    async def until(self, condition: Any) -> None:
        """Wait for something, five seconds at most."""
        for _ in range(1000):
            if condition():
                return
            await deferLater(reactor, 0.005)
        self.fail("it did not happen")


class CommandTests(ClientServiceTestCase):
    """Every command answers or errors."""

    async def test_job_from_submission_to_archive(self) -> None:
        """Submit, wait, look, archive (S2.2-014)."""
        link = await self.client()
        job = await self.ask(link, commands.SubmitJob, [PROBE])
        self.assertEqual(job, 1)
        status = ["queued"]
        while status[0] != "success":
            status, _ = await self.ask(link, commands.WaitForJobChange, job, ["status"], status, 0, 10)
        self.assertEqual(
            await self.ask(link, commands.CancelJob, 1), [False, "Job 1 is no longer waiting in the queue"]
        )
        self.assertIs(await self.ask(link, commands.ArchiveJob, 1), True)
        self.assertIs(await self.ask(link, commands.ArchiveJob, 1), False)

    async def test_many(self) -> None:
        """Several jobs, change of priority, cancelling, archiving by age."""
        link = await self.client()
        self.world.max_running = 0
        jobs = [[PROBE], [{**PROBE, "depends": [[-1, []]]}], [{"OP_ID": "OP_X"}]]
        results = await self.ask(link, commands.SubmitManyJobs, jobs)
        self.assertEqual(results[:2], [[True, 1], [True, 2]])
        self.assertFalse(results[2][0])
        done, text = await self.ask(link, commands.ChangeJobPriority, 1, -10)
        self.assertTrue(done, text)
        self.assertEqual(await self.ask(link, commands.CancelJob, 2), [True, "Job 2 canceled"])
        self.assertEqual(await self.ask(link, commands.AutoArchiveJobs, -1, 10), [1, 0])

    async def test_drain(self) -> None:
        """The flag is set, seen and obeyed; one may submit all the same if one says so."""
        link = await self.client()
        self.assertIsNone(await self.ask(link, commands.SetDrainFlag, True))
        values = await self.ask(link, commands.QueryConfigValues, ["drain_flag", "cluster_name", "nonsense"])
        self.assertEqual(values, [True, "cluster.example.com", None])
        with self.assertRaises(JobQueueDrained):
            await self.ask(link, commands.SubmitJob, [PROBE])
        self.assertEqual(await self.ask(link, commands.SubmitJob, [PROBE], True), 1)

    async def test_request_id(self) -> None:
        """A repeated request makes no second job."""
        link = await self.client()
        for _ in range(2):
            self.assertEqual(await self.ask(link, commands.SubmitJob, [PROBE], request_id="r"), 1)

    async def test_other_answers(self) -> None:
        """Queries, tags, the cluster, the watcher, versions."""
        link = await self.client()
        self.assertEqual(
            await self.ask(link, commands.Query, "node", ["name"]),
            {"fields": ["name"], "data": [[[0, "node0"]]]},
        )
        self.assertEqual(await self.ask(link, commands.QueryFields, "node"), {"fields": ["node"]})
        self.assertEqual(await self.ask(link, commands.QueryTags, "cluster"), [])
        self.assertEqual((await self.ask(link, commands.QueryClusterInfo))["name"], "cluster.example.com")
        self.assertEqual(await self.ask(link, commands.SetWatcherPause, EPOCH + 1000), EPOCH + 1000)
        self.assertEqual(await self.ask(link, commands.QueryConfigValues, ["watcher_pause"]), [EPOCH + 1000])
        self.assertIsNone(await self.ask(link, commands.SetWatcherPause, None))
        self.assertIn("release", await self.ask(link, commands.Version))

    async def test_long_answer(self) -> None:
        """Many rows arrive complete; they were encoded in slices."""
        link = await self.client()
        answer = await self.ask(link, commands.Query, "node", ["name"], [20_000])
        self.assertEqual((len(answer["data"]), answer["data"][-1]), (20_000, [[0, "node19999"]]))
        sliced = await self.api.in_slices({"data": [[1]] * 1200, "fields": []})
        self.assertIsInstance(sliced["data"], msgspec.Raw)

    async def test_errors(self) -> None:
        """Wrong arguments and mistakes in the code are errors; the connection lives on."""
        link = await self.client()
        cases: list[tuple[type[commands.MasterCommand], list[Any], type[GanetiError]]] = [
            (commands.SubmitJob, [], PrereqError),
            (commands.SubmitJob, ["x"], PrereqError),
            (commands.SubmitJob, [[{"OP_ID": "OP_TEST_PROBE", "x": 1}]], PrereqError),
            (commands.CancelJob, ["seven"], PrereqError),
            (commands.CancelJob, [7], JobLost),
            (commands.WatchJob, [7, ["status"]], JobLost),
            (commands.QueryTags, ["planet"], PrereqError),
            (commands.Query, ["broken", []], ProgrammerError),
        ]
        for command, args, error in cases:
            with self.subTest(command=command, args=args):
                with self.assertRaises(error):
                    await self.ask(link, command, *args)
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertIsNone(await self.ask(link, commands.WaitForJobChange, 7, ["status"], None, None, 1))
        self.assertEqual(await self.ask(link, commands.SubmitJob, [PROBE]), 1)


class WatchTests(ClientServiceTestCase):
    """News on the connection."""

    async def test_pushed(self) -> None:
        """All log entries once, the end last; then the subscription is over (S2.2-008, S2.2-010)."""
        held = self.world.script().hold()
        listener = Listener()
        link = await self.client(listener)
        job = await self.ask(link, commands.SubmitJob, [PROBE])
        number = await self.ask(link, commands.WatchJob, job, ["status"], None)
        await self.until(lambda: listener.changes and listener.changes[-1][1][0] == ["running"])
        held.callback(None)
        await self.until(lambda: listener.changes[-1][1][0] == ["success"])
        self.assertEqual({change[0] for change in listener.changes}, {number})
        self.assertEqual(len(self.world.engine.watch), 0)
        self.assertIsNone(await self.ask(link, commands.UnwatchJob, number))

    async def test_keep_waiting(self) -> None:
        """Signs of life come in half the time the client waits (S2.2-012)."""
        self.world.script().hold()
        listener = Listener()
        link = await self.client(listener)
        job = await self.ask(link, commands.SubmitJob, [PROBE])
        number = await self.ask(link, commands.WatchJob, job, ["status"], None, 4.0)
        await self.until(lambda: len(listener.signs) >= 2)
        self.assertEqual(listener.signs[0], [number])
        await self.ask(link, commands.UnwatchJob, number)
        self.assertEqual(len(self.world.engine.watch), 0)

    async def test_client_goes_away(self) -> None:
        """Nothing of a client that hung up is left."""
        self.world.script().hold()
        link = await self.client()
        job = await self.ask(link, commands.SubmitJob, [PROBE])
        await self.ask(link, commands.WatchJob, job, ["status"], None)
        link.abort()
        await self.until(lambda: len(self.world.engine.watch) == 0)

    async def test_many_waiters(self) -> None:
        """500 calls wait at a time; others are answered at once (S2.2-008)."""
        held = self.world.script().hold()
        link, other = await self.client(), await self.client()
        job = await self.ask(link, commands.SubmitJob, [PROBE])
        await self.until(lambda: self.world.status(job) == "running")
        waiting = [
            Deferred.fromCoroutine(
                self.ask(link, commands.WaitForJobChange, job, ["status"], ["running"], 0, 60)
            )
            for _ in range(500)
        ]
        self.assertIn("release", await self.ask(other, commands.Version))
        held.callback(None)
        answers: list[Any] = await gatherResults(waiting)
        self.assertEqual({tuple(answer[0]) for answer in answers}, {("success",)})


class ManyClientsTests(ClientServiceTestCase):
    """Clients that are of no use."""

    def raw_client(self) -> socket.socket:
        """A connection of its own, without any protocol."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.path)
        connection.setblocking(False)
        self.addCleanup(connection.close)
        return connection

    async def test_idle_and_slow(self) -> None:
        """200 that say nothing and one that sends a byte at a time: others are served (S2.2-002, 005)."""
        for _ in range(200):
            self.raw_client()
        slow = self.raw_client()
        box = amp.Box({b"_ask": b"1", b"_command": b"Version", b"args": b"[]"}).serialize()
        link = await self.client()
        for position in range(len(box)):
            slow.send(box[position : position + 1])
            self.assertIn("release", await self.ask(link, commands.Version))
        answers: list[bytes] = []

        def read() -> bool:
            try:
                answers.append(slow.recv(4096))
            except BlockingIOError:
                return False
            return True

        await self.until(read)
        self.assertIn(b"_answer", answers[0])

    async def test_three_requests_in_one_write(self) -> None:
        """Each gets its answer, in order (S2.2-003)."""
        client = self.raw_client()
        boxes = [
            amp.Box({b"_ask": b"%d" % number, b"_command": b"Version", b"args": b"[]"}).serialize()
            for number in range(3)
        ]
        client.send(b"".join(boxes))
        received = bytearray()

        def read() -> bool:
            with contextlib.suppress(BlockingIOError):
                received.extend(client.recv(4096))
            return received.count(b"_answer") == 3

        await self.until(read)
        places = [received.index(b"_answer\x00\x01%d" % number) for number in range(3)]
        self.assertEqual(places, sorted(places))

    async def test_does_not_read(self) -> None:
        """One that watches and never reads gets no endless queue, and delays nobody (S2.2-004)."""
        contexts: list[Any] = []

        async def run(ctx: Any) -> None:
            contexts.append(ctx)
            await Deferred()

        self.world.script().run = run
        link = await self.client()
        job = await self.ask(link, commands.SubmitJob, [PROBE])
        deaf = self.raw_client()
        watch = amp.Box({b"_ask": b"1", b"_command": b"WatchJob", b"args": b'[1,["oplog"],null]'})
        deaf.send(watch.serialize())
        await self.until(lambda: contexts and len(self.world.engine.watch) == 1)
        for number in range(60):
            contexts[0].feedback.info("x" * 100_000 + str(number))
            await deferLater(reactor, 0.012)
            self.assertIn("release", await self.ask(link, commands.Version))
        self.assertEqual(job, 1)
        transports: list[Any] = [client.transport for client in self.service._links]
        buffered = [
            len(transport.dataBuffer) + sum(len(part) for part in transport._tempDataBuffer)
            for transport in transports
        ]
        self.assertLess(max(buffered), 3_000_000)

    async def test_rubbish(self) -> None:
        """Bytes that are no request end that connection only."""
        link = await self.client()
        self.raw_client().send(b"\xff" * 1000)
        self.assertIn("release", await self.ask(link, commands.Version))
        self.flushLoggedErrors()


class SocketTests(ClientServiceTestCase):
    """The socket itself."""

    async def test_mode(self) -> None:
        """Owner and group only."""
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o660)

    async def test_left_over_socket(self) -> None:
        """A socket that a killed daemon left behind is no obstacle."""
        await self.service.stopService()
        left = socket.socket(socket.AF_UNIX)
        left.bind(self.path)
        left.close()
        self.service.startService()
        link = await self.client()
        self.assertIn("release", await self.ask(link, commands.Version))

    async def test_peers(self) -> None:
        """Root, the daemon's own user, and the group of the socket may connect."""
        service = ClientService(reactor, self.path, self.api, gid=4711)  # type: ignore[arg-type]
        for uid, gid, expected in (
            (0, 0, True),
            (os.getuid(), 1, True),
            (9999, 4711, True),
            (9999, 1, False),
        ):
            self.assertEqual(service.may_connect(Peer(pid=1, uid=uid, gid=gid)), expected)

    async def test_refused(self) -> None:
        """Whoever may not connect is hung up on."""
        self.service.may_connect = lambda peer: peer.pid != os.getpid()  # type: ignore[method-assign]
        link = await self.client()
        await self.until(lambda: link.lost_because is not None)

    async def test_stop(self) -> None:
        """At the end connections are closed."""
        link = await self.client()
        await self.service.stopService()
        await self.until(lambda: link.lost_because is not None)

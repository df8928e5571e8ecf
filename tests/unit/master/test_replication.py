"""Copies on candidates: in step, left behind, brought back, and good enough to become master."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ganeti.errors import ConfigurationError, JobQueueError
from ganeti.io.journal import Journal
from ganeti.master.config_store import ConfigStore
from ganeti.master.replication import Replicator, Standing, claim_generation
from ganeti.model.calls.system import QueueUpdate, UploadState
from ganeti.model.cluster import Cluster
from ganeti.model.codec import encode_cluster
from ganeti.model.node import Node
from ganeti.model.paths import Paths
from ganeti.model.records import Record, frame
from ganeti.node.backend.queue import apply_batch, replace_state, stored_generation
from ganeti.testing.clusters import NOW, cluster, node_id, with_node, with_settings
from ganeti.testing.nodes import FakeNodes


def batch(number: int) -> bytes:
    """The bytes of a batch."""
    return frame(number, [Record(kind="job", id=str(number), seq=1, payload=b"x")])


class ReplicatorTests(SynchronousTestCase):
    """Which candidate gets what, and who waits for it; time is simulated."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.cluster = cluster(nodes=3)
        self.nodes = FakeNodes(self.clock)
        self.states = 0

    def replicator(self) -> Replicator:
        """A running one."""

        def state() -> Deferred[Mapping[str, bytes]]:
            self.states += 1
            return succeed({"queue/serial": b"1\n"})

        made = Replicator(
            self.clock, self.nodes, lambda: self.cluster, state, generation=7, what="job queue", answer_s=10.0
        )
        made.start()
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(made.stop())))
        return made

    def got(self, node: str) -> list[bytes]:
        """The records that a node was sent."""
        return [called.call.records for called in self.nodes.calls_of(QueueUpdate) if node in called.node]

    def change(self, replicator: Replicator, new: Cluster) -> None:
        """Change the cluster."""
        old, self.cluster = self.cluster, new
        replicator.cluster_changed(old, new)

    def test_start(self) -> None:
        """Every candidate but the master gets the state, and then each batch."""
        replicator = self.replicator()
        self.assertEqual(
            [called.node for called in self.nodes.calls_of(UploadState)],
            ["node2.example.com", "node3.example.com"],
        )
        self.successResultOf(replicator.send(batch(1)))
        self.assertEqual((self.got("node1"), self.got("node2")), ([], [batch(1)]))
        self.assertEqual(self.nodes.calls_of(QueueUpdate)[0].call.generation, 7)

    def test_waits_for_those_in_step(self) -> None:
        """A batch is done when all that are in step have it."""
        replicator = self.replicator()
        answer: Deferred[None] = Deferred()
        self.nodes.answer(QueueUpdate, lambda node, call: answer, node=node_id(2))
        sent = replicator.send(batch(1))
        self.assertNoResult(sent)
        answer.callback(None)
        self.successResultOf(sent)

    def test_left_behind_in_time(self) -> None:
        """A candidate that does not answer holds up one batch for a bounded time, and no further one."""
        replicator = self.replicator()
        self.nodes.hanging.add(node_id(2))
        first = replicator.send(batch(1))
        self.clock.advance(9)
        self.assertNoResult(first)
        self.clock.advance(2)
        self.successResultOf(first)
        self.successResultOf(replicator.send(batch(2)))
        self.assertEqual(self.got("node3"), [batch(1), batch(2)])
        self.assertEqual(replicator.standings["node2.example.com"], Standing.BEHIND)

    def test_brought_back(self) -> None:
        """A candidate that was left behind gets the state again and is in step."""
        replicator = self.replicator()
        self.nodes.unreachable.add(node_id(2))
        self.successResultOf(replicator.send(batch(1)))
        self.nodes.unreachable.clear()
        self.clock.advance(20)
        self.assertEqual(self.states, 3)
        self.successResultOf(replicator.send(batch(2)))
        self.assertEqual(self.got("node2"), [batch(2)])

    def test_refusal(self) -> None:
        """A candidate that refuses a batch, because its copy does not fit, gets the state again."""
        replicator = self.replicator()
        self.nodes.answer(QueueUpdate, lambda node, call: JobQueueError("a gap"), node=node_id(2))
        self.successResultOf(replicator.send(batch(1)))
        self.assertEqual(replicator.standings["node2.example.com"], Standing.BEHIND)

    def test_backlog(self) -> None:
        """What is appended while a candidate gets the state follows after it, in order and unawaited."""
        uploaded: Deferred[None] = Deferred()
        self.nodes.answer(UploadState, lambda node, call: uploaded, node=node_id(2))
        replicator = self.replicator()
        for number in (1, 2):
            self.successResultOf(replicator.send(batch(number)))
        self.assertEqual(self.got("node2"), [])
        uploaded.callback(None)
        self.assertEqual(self.got("node2"), [batch(1) + batch(2)])
        self.assertEqual(replicator.standings["node2.example.com"], Standing.IN_STEP)

    def test_batch_under_way(self) -> None:
        """A batch under way when a candidate begins is not left out: the state may lack it."""
        replicator = self.replicator()
        answer: Deferred[None] = Deferred()
        self.nodes.answer(QueueUpdate, lambda node, call: answer, node=node_id(3))
        sent = replicator.send(batch(1))
        demoted = with_node(self.cluster, "node2", master_candidate=False)
        self.change(replicator, demoted)
        self.change(replicator, with_node(demoted, "node2", master_candidate=True))
        answer.callback(None)
        self.successResultOf(sent)
        self.assertEqual(self.got("node2"), [batch(1), batch(1)])

    def test_few_states_at_once(self) -> None:
        """The state is read and sent for two candidates at a time, however many there are."""
        uploads: list[Deferred[None]] = []
        self.cluster = cluster(nodes=7)

        def upload(node: Node, call: UploadState) -> Deferred[None]:
            uploads.append(Deferred())
            return uploads[-1]

        self.nodes.answer(UploadState, upload)
        replicator = self.replicator()
        seen = []
        while waiting := [one for one in uploads if not one.called]:
            seen.append(len(waiting))
            waiting[0].callback(None)
        self.assertEqual((seen, self.states), ([2, 2, 2, 2, 2, 1], 6))
        self.assertEqual(set(replicator.standings.values()), {Standing.IN_STEP})

    def test_candidates_change(self) -> None:
        """Demoted and offline candidates get nothing more, promoted ones begin."""
        self.cluster = with_node(self.cluster, "node3", master_candidate=False)
        replicator = self.replicator()
        self.change(replicator, with_node(self.cluster, "node2", master_candidate=False, offline=True))
        self.change(replicator, with_node(self.cluster, "node3", master_candidate=True))
        self.successResultOf(replicator.send(batch(1)))
        self.assertEqual((self.got("node2"), self.got("node3")), ([], [batch(1)]))

    def test_stop(self) -> None:
        """A stopped replicator leaves no timers and no calls behind."""
        self.nodes.unreachable.add(node_id(3))
        self.nodes.hanging.add(node_id(2))
        replicator = self.replicator()
        self.successResultOf(Deferred.fromCoroutine(replicator.stop()))
        waiting = [call for call in self.clock.getDelayedCalls() if call.active()]
        self.assertEqual(waiting, [])


class GenerationTests(SynchronousTestCase):
    """Generations of masters."""

    def test_grows(self) -> None:
        """Each start has a larger one than any seen here, and than any of long ago elsewhere."""
        paths = Paths(os.path.abspath(self.mktemp()))
        first = claim_generation(paths, 1000.0)
        second = claim_generation(paths, 1000.0)
        self.assertEqual((first, second), (1000, 1001))
        self.assertEqual(claim_generation(paths, 5000.0), 5000)
        self.assertEqual(stored_generation(paths.data_dir), 5000)


class FailoverTests(TestCase):
    """Real files: a store with two candidates whose copies become the configuration of a master."""

    def setUp(self) -> None:
        self.nodes = FakeNodes()
        self.directories: dict[str, str] = {}
        for number in (1, 2, 3):
            directory = self.mktemp()
            os.makedirs(directory)
            self.directories[f"node{number}.example.com"] = directory
        self.nodes.answer(QueueUpdate, self.apply)
        self.nodes.answer(UploadState, self.replace)

    def apply(self, node: Node, call: QueueUpdate) -> None:
        """What a real node does."""
        apply_batch(self.directories[node.name], call.generation, call.records)

    def replace(self, node: Node, call: UploadState) -> None:
        """What a real node does."""
        replace_state(self.directories[node.name], call.generation, call.files)

    async def start_store(self, name: str, **journal_options: Any) -> ConfigStore:
        """A master on the files of a node."""
        real: Any = reactor
        directory = self.directories[name]
        replicator = Replicator(
            real,
            self.nodes,
            lambda: store.current(),
            lambda: store.state(),
            generation=1,
            what="configuration",
        )
        journal = Journal(real, f"{directory}/config.journal", also=replicator.send, **journal_options)
        store = ConfigStore(real, journal, f"{directory}/config.data", _Clock(), freeze=False)  # type: ignore[arg-type]
        self.addCleanup(lambda: Deferred.fromCoroutine(store.stop()))
        self.addCleanup(lambda: Deferred.fromCoroutine(replicator.stop()))
        await store.start()
        store.subscribe(lambda old, new, _: replicator.cluster_changed(old, new))
        replicator.start()
        return store

    async def test_copies_become_master(self) -> None:
        """After any number of changes, and a lost contact, a candidate starts with the same cluster."""
        with open(self.directories["node1.example.com"] + "/config.data", "wb") as file:
            file.write(encode_cluster(cluster(nodes=3)))
        store = await self.start_store("node1.example.com")
        for number in range(10):
            await store.update(_tagged(number), reason="test")
            if number == 5:
                await store.snapshot()
        again = await self.start_store("node2.example.com")
        self.assertEqual(again.current(), store.current())

    async def test_master_could_not_write(self) -> None:
        """A batch that candidates have but the master could not write is not among their changes."""
        with open(self.directories["node1.example.com"] + "/config.data", "wb") as file:
            file.write(encode_cluster(cluster(nodes=3)))
        broken = [False]

        def sync(fd: int) -> None:
            if broken[0]:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        store = await self.start_store("node1.example.com", sync=sync)
        await store.update(_tagged(1), reason="test")
        before = len(self.nodes.calls_of(QueueUpdate))
        broken[0] = True
        with self.assertRaises(ConfigurationError):
            await store.update(_tagged(2), reason="test")
        # Otherwise this would show nothing: the candidates did get what the master then took back.
        self.assertGreater(len(self.nodes.calls_of(QueueUpdate)), before)
        broken[0] = False
        await store.update(_tagged(3), reason="test")
        again = await self.start_store("node2.example.com")
        self.assertEqual(again.current().settings.tags, ("1", "3"))
        self.assertEqual(again.current(), store.current())


class _Clock:
    """A clock that stands still."""

    def seconds(self) -> float:
        """A minute after everything was made."""
        return NOW + 60


def _tagged(number: int) -> Any:
    return lambda value: with_settings(value, tags=(*value.settings.tags, str(number)))

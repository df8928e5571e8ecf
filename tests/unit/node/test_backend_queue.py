"""What a candidate keeps: batches in their order, whole copies, and nothing from an old master."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import JobQueueError, StorageError
from ganeti.logic.queue_records import archive_record, drain_record, job_record, serial_record
from ganeti.model.calls.system import QueuePurge, QueueUpdate, UploadState
from ganeti.model.cluster import Cluster
from ganeti.model.codec import decode_cluster, delta_record, encode_cluster, replayed
from ganeti.model.delta import stamp
from ganeti.model.ids import JobId
from ganeti.model.records import Record, frame, header, read_journal
from ganeti.node.backend import queue as candidate
from ganeti.node.backend.queue import apply_batch, replace_state, stored_generation
from ganeti.testing.clusters import cluster, with_settings
from ganeti.testing.node_world import WithNode

EMPTY_QUEUE = {"queue/serial": b"0\n"}


def job(number: int, text: bytes = b"{}") -> Record:
    """A state of a job."""
    return job_record(JobId(number), text, number)


class CandidateTestCase(SynchronousTestCase):
    """Has a data directory with an empty queue."""

    def setUp(self) -> None:
        self.data_dir = self.mktemp()
        os.makedirs(self.data_dir)
        replace_state(self.data_dir, 5, EMPTY_QUEUE)

    def read(self, name: str) -> bytes:
        """A file of the data directory."""
        with open(f"{self.data_dir}/{name}", "rb") as file:
            return file.read()

    def kept(self) -> list[str]:
        """Ids of the records in the queue's journal."""
        contents = read_journal(self.read("queue/journal"))
        self.assertEqual((contents.damage, contents.torn_bytes), (None, 0))
        return [record.id for record in contents.records]

    def apply(self, number: int, *records: Record, generation: int = 5) -> None:
        """Send a batch."""
        apply_batch(self.data_dir, generation, frame(number, records))

    def forget(self) -> None:
        """As if another process went on."""
        candidate._tails.clear()


class BatchTests(CandidateTestCase):
    """Batches of the queue's journal."""

    def test_any_first_number(self) -> None:
        """A fresh copy takes a batch of any number, and then those that follow."""
        self.apply(57, job(1), job(2))
        self.apply(58, job(3))
        self.assertEqual(self.kept(), ["1", "2", "3"])

    def test_each_in_its_own_process(self) -> None:
        """It does not matter which process appends."""
        for number in range(57, 61):
            self.forget()
            self.apply(number, job(number))
        self.assertEqual(self.kept(), ["57", "58", "59", "60"])

    def test_several_batches(self) -> None:
        """Several batches may come at once."""
        apply_batch(self.data_dir, 5, frame(3, [job(1)]) + frame(4, [job(2)]))
        self.apply(5, job(3))
        self.assertEqual(self.kept(), ["1", "2", "3"])

    def test_number_used_again(self) -> None:
        """A batch that the master withdrew is replaced by the one with its number."""
        for forget in (self.forget, lambda: None):
            self.apply(7, job(1), job(2))
            forget()
            self.apply(7, job(3))
            self.assertEqual(self.kept(), ["3"])
            replace_state(self.data_dir, 5, EMPTY_QUEUE)

    def test_gap(self) -> None:
        """A batch that does not follow is refused, and nothing is changed."""
        self.apply(7, job(1))
        for number in (9, 5, 100):
            self.assertRaises(JobQueueError, self.apply, number, job(2))
        self.apply(8, job(3))
        self.assertEqual(self.kept(), ["1", "3"])

    def test_no_copy(self) -> None:
        """Without a copy to append to, a batch is refused."""
        os.unlink(f"{self.data_dir}/queue/journal")
        self.assertRaises(JobQueueError, self.apply, 1, job(1))

    def test_damaged_message(self) -> None:
        """Bytes that are not whole batches are refused."""
        data = frame(1, [job(1), job(2)])
        for bad in (b"", data[:-1], data[: len(frame(1, [job(1)]))], data.replace(b"{}", b"[]", 1)):
            self.assertRaises(JobQueueError, apply_batch, self.data_dir, 5, bad)

    def test_torn_copy(self) -> None:
        """What a crash of the candidate left unfinished is overwritten."""
        self.apply(7, job(1))
        with open(f"{self.data_dir}/queue/journal", "ab") as file:
            file.write(frame(8, [job(2)])[:-5])
        self.apply(8, job(3))
        self.assertEqual(self.kept(), ["1", "3"])

    def test_disk_full(self) -> None:
        """A disk that refuses is told with what to do; once there is space the copy goes on."""
        self.apply(7, job(1))
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, limit[1]))
        try:
            error = self.assertRaises(StorageError, self.apply, 8, job(2, b"y" * 5000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        self.assertIn("free space", str(error))
        self.apply(8, job(3))
        self.assertEqual(self.kept(), ["1", "3"])


class GenerationTests(CandidateTestCase):
    """Old masters."""

    def test_old_master(self) -> None:
        """What an older master sends is refused; a newer one is remembered."""
        self.assertRaises(JobQueueError, self.apply, 1, job(1), generation=4)
        self.apply(1, job(1), generation=6)
        self.assertEqual(stored_generation(self.data_dir), 6)
        self.assertRaises(JobQueueError, self.apply, 2, job(2), generation=5)
        self.assertRaises(JobQueueError, replace_state, self.data_dir, 5, EMPTY_QUEUE)


class StateTests(CandidateTestCase):
    """Whole copies."""

    def test_replaces_the_queue(self) -> None:
        """A new copy leaves nothing of the old one."""
        replace_state(self.data_dir, 5, {**EMPTY_QUEUE, "queue/job-1": b"old", "queue/drain": b""})
        self.apply(7, job(3))
        replace_state(self.data_dir, 5, {"queue/serial": b"9\n", "queue/job-2": b"new"})
        found = sorted(os.listdir(f"{self.data_dir}/queue"))
        self.assertEqual(found, ["archive", "job-2", "journal", "serial"])
        self.assertEqual(self.kept(), [])

    def test_parts_are_independent(self) -> None:
        """A copy of the configuration leaves the queue alone."""
        self.apply(7, job(1))
        replace_state(self.data_dir, 5, {"config.data": encode_cluster(cluster())})
        self.apply(8, job(2))
        self.assertEqual(self.kept(), ["1", "2"])
        self.assertEqual(self.read("config.journal"), header(0))

    def test_only_state(self) -> None:
        """Other files cannot be written this way."""
        for name in ("server.pem", "queue/../x", "../config.data", "queue/job-0", "/etc/passwd"):
            self.assertRaises(JobQueueError, replace_state, self.data_dir, 5, {name: b""})


class CompactTests(CandidateTestCase):
    """Long journals."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(candidate, "COMPACT_BYTES", 2000)

    def test_queue(self) -> None:
        """Documents, archive, serial number and drain flag get what the journal had."""
        self.apply(1, job(1, b"one"), job(2, b"two"), drain_record(drained=True, seq=1))
        self.apply(2, archive_record(JobId(1), 2), job(20_001, b"far"), archive_record(JobId(20_001), 3))
        self.apply(3, serial_record(30_000, 4), job(2, b"y" * 3000))
        self.assertEqual(self.kept(), [])
        self.assertEqual(self.read("queue/job-2"), b"y" * 3000)
        self.assertEqual(self.read("queue/archive/0/job-1"), b"one")
        self.assertEqual(self.read("queue/archive/2/job-20001"), b"far")
        self.assertEqual((self.read("queue/serial"), self.read("queue/drain")), (b"30000\n", b""))
        self.apply(4, job(5))
        self.assertEqual(self.kept(), ["5"])

    def test_configuration(self) -> None:
        """config.data gets the changes, the journal begins anew with the next number."""
        value = cluster()
        replace_state(self.data_dir, 5, {"config.data": encode_cluster(value)})
        for number in range(10, 30):
            value, record = _changed(value, lambda old: with_settings(old, tags=(*old.settings.tags, "tag")))
            self.apply(number, record)
        journal = read_journal(self.read("config.journal"))
        self.assertLess(len(journal.records), 20)
        saved = decode_cluster(self.read("config.data"))
        self.assertGreater(saved.serial_no, 1)
        self.assertEqual(replayed(saved, journal.records), value)


class FunctionTests(WithNode, SynchronousTestCase):
    """The node functions themselves."""

    def test_calls(self) -> None:
        """Copy, batch and purge."""
        queue_dir = self.host.paths.queue_dir
        candidate.state_upload(UploadState(files=EMPTY_QUEUE, generation=1), self.node)
        call = QueueUpdate(generation=1, records=frame(4, [job(1)]))
        candidate.jobqueue_append(call, self.node)
        self.assertTrue(os.path.exists(f"{queue_dir}/journal"))
        candidate.jobqueue_purge(QueuePurge(), self.node)
        self.assertFalse(os.path.exists(queue_dir))
        self.assertRaises(JobQueueError, candidate.jobqueue_append, call, self.node)


def _changed(value: Cluster, change: Callable[[Cluster], Cluster]) -> tuple[Cluster, Record]:
    new, delta = stamp(value, change(value), now=1.0)
    assert delta is not None
    return new, delta_record(delta)

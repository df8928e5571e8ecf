"""The job store on real files: durable before it answers, whatever a crash leaves behind."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from ganeti.errors import GanetiError, JobQueueError
from ganeti.interfaces import IJobStore
from ganeti.io.journal import Journal
from ganeti.logic.job_states import job_status, logged
from ganeti.logic.queue_records import replay
from ganeti.master.job_store import JobStore, LoadedQueue
from ganeti.model.ids import JobId
from ganeti.model.job import Job, decode_job, encode_job
from ganeti.model.paths import Paths
from ganeti.model.records import Record, read_journal, split_batches
from ganeti.testing.jobs import queued_job


class StoreTestCase(TestCase):
    """Has a node's directory."""

    def setUp(self) -> None:
        self.paths = Paths(os.path.abspath(self.mktemp()))
        os.makedirs(self.paths.queue_dir)

    async def start(self, paths: Paths | None = None, **options: Any) -> tuple[JobStore, LoadedQueue]:
        """A store that is running, and what it found."""
        store = JobStore(reactor, paths or self.paths, **options)  # type: ignore[arg-type]
        loaded = await store.start()
        self.addCleanup(self.stop, store)
        return store, loaded

    def stop(self, store: JobStore) -> Deferred[None]:
        """End a store, also one that was ended."""
        if getattr(store, "was_stopped", False):
            return deferLater(reactor, 0)
        store.was_stopped = True  # type: ignore[attr-defined]
        return Deferred.fromCoroutine(store.stop())

    async def crashed(self, store: JobStore, *, with_files: bool = True) -> Paths:
        """The directory as a crash leaves it: a copy, perhaps without any document."""
        paths = Paths(os.path.abspath(self.mktemp()))
        shutil.copytree(self.paths.queue_dir, paths.queue_dir, ignore=shutil.ignore_patterns("*.new-*"))
        if not with_files:
            for name in os.listdir(paths.queue_dir):
                if name.startswith("job-") or name == "serial":
                    os.unlink(os.path.join(paths.queue_dir, name))
        return paths

    def file(self, name: str) -> bytes:
        """A file of the queue directory."""
        with open(os.path.join(self.paths.queue_dir, name), "rb") as file:
            return file.read()

    def put(self, name: str, data: bytes) -> None:
        """Write a file into the queue directory."""
        with open(os.path.join(self.paths.queue_dir, name), "wb") as file:
            file.write(data)


def documents(*jobs: Job) -> dict[JobId, bytes]:
    """Documents by id."""
    return {job.id: encode_job(job) for job in jobs}


class FileTests(StoreTestCase):
    """The established files."""

    async def test_files(self) -> None:
        """Documents, serial, version with their contents and modes (jobqueue.md section 1)."""
        store, loaded = await self.start()
        self.assertTrue(verifyObject(IJobStore, store))
        self.assertEqual((loaded.jobs, loaded.drained), ((), False))
        self.assertEqual((store.reserve(1), store.reserve(2), store.reserve(1)), (1, 2, 4))
        await store.save(documents(queued_job(1), queued_job(4)))
        await store.write_files()
        self.assertEqual((self.file("serial"), self.file("version")), (b"4\n", b"1\n"))
        self.assertEqual(decode_job(self.file("job-4")), queued_job(4))
        self.assertEqual(os.stat(os.path.join(self.paths.queue_dir, "job-1")).st_mode & 0o777, 0o640)

    async def test_restart(self) -> None:
        """Everything is there again, in the order of ids; ids go on."""
        store, _ = await self.start()
        store.reserve(12)
        await store.save(documents(*(queued_job(number, "success") for number in (10, 2, 12))))
        await self.stop(store)
        again, loaded = await self.start()
        self.assertEqual([job.id for job in loaded.jobs], [2, 10, 12])
        self.assertEqual(again.reserve(1), 13)

    async def test_hole_at_the_end(self) -> None:
        """Ids that were given out are not given out again, although their jobs were refused."""
        store, _ = await self.start()
        store.reserve(5)
        await store.save(documents(queued_job(1)))
        paths = await self.crashed(store, with_files=False)
        again, _ = await self.start(paths)
        self.assertEqual(again.reserve(1), 6)

    async def test_second_daemon(self) -> None:
        """A second master daemon is refused; after the first one ended it is not."""
        store, _ = await self.start()
        with self.assertRaises(GanetiError) as caught:
            await self.start()
        self.assertIn("in use", str(caught.exception))
        await self.stop(store)
        await self.start()

    async def test_other_version(self) -> None:
        """A queue of another version is refused."""
        self.put("version", b"2\n")
        with self.assertRaises(JobQueueError) as caught:
            await self.start()
        self.assertIn("'2'", str(caught.exception))

    async def test_damaged_serial(self) -> None:
        """A serial file that is none is refused; a missing one is found out from what is there."""
        self.put("serial", b"many")
        with self.assertRaises(JobQueueError):
            await self.start()
        os.unlink(os.path.join(self.paths.queue_dir, "serial"))
        self.put("job-7", encode_job(queued_job(7)))
        store, _ = await self.start()
        self.assertEqual(store.reserve(1), 8)

    async def test_drain_flag(self) -> None:
        """It is a file, and it survives."""
        store, _ = await self.start()
        await store.set_drained(drained=True)
        self.assertEqual(self.file("drain"), b"")
        paths = await self.crashed(store)
        os.unlink(os.path.join(paths.queue_dir, "drain"))
        again, loaded = await self.start(paths)
        self.assertTrue(loaded.drained and again.drained)
        await store.set_drained(drained=False)
        self.assertFalse(os.path.exists(os.path.join(self.paths.queue_dir, "drain")))

    async def test_archive(self) -> None:
        """Documents go to a directory of ten thousand, with their last state."""
        store, _ = await self.start()
        store.reserve(20_001)
        await store.save(documents(queued_job(20_001, "success"), queued_job(5, "error")))
        await store.archive([JobId(20_001), JobId(5)])
        document = await store.load_archived(JobId(20_001))
        self.assertEqual(document, encode_job(queued_job(20_001, "success")))
        self.assertTrue(os.path.exists(os.path.join(self.paths.job_archive_dir, "2", "job-20001")))
        self.assertEqual(await store.archived_ids(), (5, 20_001))
        self.assertIsNone(await store.load_archived(JobId(6)))
        self.assertFalse(os.path.exists(os.path.join(self.paths.queue_dir, "job-5")))
        _, loaded = await self.start(await self.crashed(store))
        self.assertEqual(loaded.jobs, ())

    async def test_log_entries(self) -> None:
        """They get into the file soon, and are not lost behind an older state of the journal."""
        store, _ = await self.start()
        store.reserve(1)
        job = queued_job(1, "running")
        await store.save(documents(job))
        talking = logged(job, 0, "message", ["a", "b"], 5.0)
        store.note(talking)
        await store.write_files()
        self.assertEqual(decode_job(self.file("job-1")), talking)
        _, loaded = await self.start(await self.crashed(store))
        self.assertEqual(loaded.jobs[0].last_serial, 2)


class UnreadableTests(StoreTestCase):
    """Files that are no documents."""

    async def test_set_aside(self) -> None:
        """They are moved to the archive and named; the others are read (jobqueue.md section 9)."""
        self.put("job-1", encode_job(queued_job(1)))
        self.put("job-2", encode_job(queued_job(2))[:40])
        self.put("job-3", encode_job(queued_job(1)))
        self.put("job-4", b"\x00" * 100)
        self.put("job-05", b"no job file")
        self.put("job-6.new-123", b"half a document of a daemon that was killed")
        _, loaded = await self.start()
        self.assertEqual([job.id for job in loaded.jobs], [1])
        self.assertEqual(len(loaded.problems), 3)
        self.assertIn("document of job 3 cannot be read (this is the document of job 1", loaded.problems[1])
        for number in (2, 3, 4):
            self.assertTrue(os.path.exists(os.path.join(self.paths.job_archive_dir, "0", f"job-{number}")))
        self.assertNotIn("job-6.new-123", os.listdir(self.paths.queue_dir))

    async def test_beside_an_archived_one(self) -> None:
        """What is in the archive already is not overwritten."""
        os.makedirs(os.path.join(self.paths.job_archive_dir, "0"))
        self.put("archive/0/job-2", encode_job(queued_job(2, "success")))
        self.put("job-2", b"torn")
        store, loaded = await self.start()
        self.assertIn("job-2.unreadable", loaded.problems[0])
        self.assertEqual(await store.load_archived(JobId(2)), encode_job(queued_job(2, "success")))

    async def test_torn_file_with_journal(self) -> None:
        """A document that a power failure tore is that of the journal again."""
        store, _ = await self.start()
        store.reserve(1)
        await store.save(documents(queued_job(1, "success")))
        await store.write_files()
        paths = await self.crashed(store)
        with open(os.path.join(paths.queue_dir, "job-1"), "wb"):
            pass
        _, loaded = await self.start(paths)
        self.assertEqual((loaded.jobs, loaded.problems), ((queued_job(1, "success"),), ()))


class FixedJournal:
    """A journal with given bytes, read as after a crash."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def open(self) -> tuple[Record, ...]:
        """What can be read."""
        contents = read_journal(self._data)
        assert contents.damage is None
        return contents.records


class CrashTests(StoreTestCase):
    """Every acknowledged job is there once, whenever the end comes."""

    async def history(self) -> tuple[bytes, list[tuple[int, dict[JobId, str], frozenset[JobId]]]]:
        """Bytes of a journal, and what was acknowledged at which length: states, archived jobs."""
        journal = Journal(reactor, os.path.join(self.paths.queue_dir, "journal"))  # type: ignore[arg-type]
        store, _ = await self.start(journal=journal)
        store.reserve(3)
        states: dict[JobId, str] = {}
        archived: frozenset[JobId] = frozenset()
        seen = [(0, dict(states), archived)]
        for step in (
            (queued_job(1),),
            (queued_job(2), queued_job(3)),
            (queued_job(1, "running"), queued_job(2, "waiting")),
            (queued_job(1, "success"),),
            (queued_job(2, "canceled"), queued_job(3, "running")),
        ):
            await store.save(documents(*step))
            states |= {job.id: job_status(job).value for job in step}
            seen.append((journal.size_bytes, dict(states), archived))
        await store.archive([JobId(1)])
        archived = frozenset({JobId(1)})
        seen.append((journal.size_bytes, dict(states), archived))
        data = self.file("journal")
        self.assertEqual(len(data), journal.size_bytes)
        return data, seen

    async def test_cut_at_every_byte(self) -> None:
        """The journal ends anywhere, without documents or with those of the very end."""
        data, seen = await self.history()
        for with_files in (False, True):
            paths = Paths(os.path.abspath(self.mktemp()))
            os.makedirs(paths.queue_dir)
            if with_files:
                for job in documents(queued_job(2, "canceled"), queued_job(3, "running")).items():
                    with open(os.path.join(paths.queue_dir, f"job-{job[0]}"), "wb") as file:
                        file.write(job[1])
            for cut in range(len(data) + 1):
                store = JobStore(reactor, paths, journal=FixedJournal(data[:cut]))  # type: ignore[arg-type]
                loaded = store._load()
                store._files.close()
                self.check(cut, seen, store, loaded, with_files=with_files)

    def check(
        self, cut: int, seen: list[Any], store: JobStore, loaded: LoadedQueue, *, with_files: bool
    ) -> None:
        """What was acknowledged up to a length is there."""
        _, states, archived = max(entry for entry in seen if entry[0] <= cut)
        found = {job.id: job_status(job).value for job in loaded.jobs}
        self.assertEqual(len(found), len(loaded.jobs), "no job twice")
        self.assertEqual(loaded.problems, ())
        for job, status in states.items():
            if job in archived:
                self.assertNotIn(job, found)
                self.assertEqual(store._pending[job].document, documents(queued_job(1, "success"))[job])  # type: ignore[union-attr]
            else:
                self.assertEqual(found[job], status)
        self.assertGreaterEqual(store.reserve(1), max(states, default=0) + 1)
        if not with_files:
            self.assertEqual(set(found), set(states) - archived)

    async def test_archive_not_moved_yet(self) -> None:
        """A job whose file had not been moved when the end came is moved by the next start."""
        store, _ = await self.start()
        store.reserve(1)
        await store.save(documents(queued_job(1, "success")))
        await store.write_files()
        await store.archive([JobId(1)])
        paths = await self.crashed(store)
        again, loaded = await self.start(paths)
        self.assertEqual((loaded.jobs, await again.archived_ids()), ((), (1,)))

    async def test_checkpoint(self) -> None:
        """After a checkpoint the documents alone say everything, and the journal is short."""
        store, _ = await self.start()
        store.reserve(50)
        for number in range(1, 51):
            await store.save(documents(queued_job(number, "success")))
        long = len(self.file("journal"))
        await store._checkpoint()
        self.assertLess(len(self.file("journal")), 100)
        self.assertGreater(long, 5000)
        paths = await self.crashed(store)
        os.unlink(os.path.join(paths.queue_dir, "journal"))
        _, loaded = await self.start(paths)
        self.assertEqual(len(loaded.jobs), 50)

    async def test_saves_during_a_checkpoint(self) -> None:
        """Nothing is lost that is saved while the journal begins anew."""
        store, _ = await self.start()
        store.reserve(200)
        saves = []
        for number in range(1, 201):
            saves.append(store.save(documents(queued_job(number))))
            if number % 50 == 0:
                store._checkpoint()
                await deferLater(reactor, 0)
        for save in saves:
            await save
        _, loaded = await self.start(await self.crashed(store))
        self.assertEqual([job.id for job in loaded.jobs], list(range(1, 201)))


class FullDiskTests(StoreTestCase):
    """The disk has no space."""

    async def test_refused_and_resumed(self) -> None:
        """What cannot be written is refused with the reason; afterwards everything goes on."""
        broken = [False]

        def sync(fd: int) -> None:
            if broken[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(fd)

        path = os.path.join(self.paths.queue_dir, "journal")
        store, _ = await self.start(journal=Journal(reactor, path, sync=sync))  # type: ignore[arg-type]
        store.reserve(3)
        await store.save(documents(queued_job(1)))
        broken[0] = True
        with self.assertRaises(JobQueueError) as caught:
            await store.save(documents(queued_job(2)))
        self.assertIn("No space left on device", str(caught.exception))
        broken[0] = False
        await store.save(documents(queued_job(3)))
        _, loaded = await self.start(await self.crashed(store, with_files=False))
        self.assertEqual([job.id for job in loaded.jobs], [1, 3])

    async def test_documents_follow_later(self) -> None:
        """A document that cannot be written is kept and tried again; the journal stays meanwhile."""
        store, _ = await self.start()
        store.reserve(2)
        blocked = os.path.join(self.paths.queue_dir, f"job-1.new-{os.getpid()}")
        os.makedirs(blocked)
        await store.save(documents(queued_job(1), queued_job(2)))
        await store._checkpoint()
        self.assertFalse(os.path.exists(os.path.join(self.paths.queue_dir, "job-1")))
        self.assertTrue(os.path.exists(os.path.join(self.paths.queue_dir, "job-2")))
        self.assertIn("journal.1", os.listdir(self.paths.queue_dir))
        os.rmdir(blocked)
        await store._checkpoint()
        self.assertEqual(decode_job(self.file("job-1")), queued_job(1))
        with contextlib.suppress(FileNotFoundError):
            self.assertEqual(os.listdir(self.paths.queue_dir).count("journal.1"), 0)


class ReplicationTests(StoreTestCase):
    """Copies on master candidates."""

    async def test_same_batch(self) -> None:
        """Candidates get the same records; nothing is acknowledged before they answered or failed."""
        sent: list[bytes] = []
        answers: list[Deferred[None]] = []

        def replicate(data: bytes) -> Deferred[None]:
            sent.append(data)
            answers.append(Deferred())
            return answers[-1]

        store, _ = await self.start(replicate=replicate)
        store.reserve(1)
        saving = store.save(documents(queued_job(1)))
        while not sent:
            await deferLater(reactor, 0.001)
        await deferLater(reactor, 0.02)
        self.assertFalse(saving.called)
        answers[0].callback(None)
        await saving
        (batch,) = split_batches(sent[0])
        self.assertEqual(replay(batch.records).documents, documents(queued_job(1)))

    async def test_log_entries_are_not_sent(self) -> None:
        """New log entries alone are no reason to tell the candidates (jobqueue.md section 8)."""
        sent: list[bytes] = []

        def replicate(data: bytes) -> Deferred[None]:
            sent.append(data)
            return deferLater(reactor, 0)

        store, _ = await self.start(replicate=replicate)
        store.reserve(1)
        await store.save(documents(queued_job(1, "running")))
        store.note(logged(queued_job(1, "running"), 0, "message", ["x"], 1.0))
        await store.write_files()
        self.assertEqual(len(sent), 1)

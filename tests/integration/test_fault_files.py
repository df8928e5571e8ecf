"""Files of the master daemon that a crash, a disk or a person has spoiled: recovered, or refused in words."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ganeti.model.records import Record, frame, header, read_journal
from tests.integration.cluster import RunningCluster, until


def setUpModule() -> None:
    """One node."""
    FilesCase.cluster = RunningCluster(nodes=1)


def tearDownModule() -> None:
    """End all of it."""
    FilesCase.cluster.destroy()


class FilesCase(SynchronousTestCase):
    """masterd is killed, something happens to its files, and it is started again."""

    cluster: RunningCluster

    def setUp(self) -> None:
        """Where the files are; at the end masterd runs again."""
        paths = self.cluster.paths()
        self.queue = Path(paths.queue_dir)
        self.queue_journal = self.queue / "journal"
        self.config = Path(paths.config_file)
        self.config_journal = Path(paths.config_journal)
        self.addCleanup(self.cluster.start)

    def tag(self, name: str) -> int:
        """A change of the configuration, and a job."""
        opcode = {"OP_ID": "OP_TAGS_SET", "kind": "cluster", "tags": [name]}
        job = self.cluster.client().submit([opcode])
        self.assertEqual(self.cluster.wait_for_jobs(job), {job: "success"})
        return job

    def has_tag(self, name: str) -> bool:
        """Whether that change is there."""
        return name in self.cluster.client().call("QueryTags", ["cluster", None])

    def kill(self) -> None:
        """End masterd without warning."""
        self.cluster.kill("ganeti-masterd")

    def keep(self, path: Path) -> None:
        """Put a file back as it is now, after the test."""
        copy = path.with_name(path.name + ".kept")
        shutil.copy2(path, copy)
        self.addCleanup(os.rename, copy, path)

    def refused(self, *words: str) -> None:
        """masterd does not start: exit code 1, and says why to its starter and in its log."""
        before = self.everything()
        done = self.cluster.start_daemon("ganeti-masterd")
        self.assertEqual(done.returncode, 1, done.stderr)
        log = self.cluster.log("ganeti-masterd")[-3000:]
        for word in words:
            self.assertIn(word, done.stderr)
            self.assertIn(word, log)
        self.assertNotIn("Traceback", done.stderr)
        self.assertEqual(self.everything(), before)

    def everything(self) -> dict[str, bytes]:
        """What must not change when masterd refuses to start; documents may follow an intact journal."""
        files = [self.config, *self.config.parent.glob(self.config_journal.name + "*")]
        return {str(path): path.read_bytes() for path in files if path.is_file()}

    def restarted(self) -> str:
        """masterd starts; gives what it logged."""
        before = len(self.cluster.log("ganeti-masterd"))
        done = self.cluster.start_daemon("ganeti-masterd")
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.cluster.log("ganeti-masterd")[before:]

    def checkpointed(self) -> None:
        """Have the queue's documents written and its journal empty: what an orderly stop does."""
        self.cluster.stop("ganeti-masterd")


class JournalTests(FilesCase):
    """Journals of the queue and of the configuration."""

    def test_torn(self) -> None:
        """The end of a journal that was not written to its end is dropped and logged; the rest counts."""
        jobs = [self.tag("torn1"), self.tag("torn2")]
        self.kill()
        # Their lengths differ where the numbers of the batches do.
        lengths = {}
        for journal in (self.queue_journal, self.config_journal):
            batch = read_journal(journal.read_bytes()).next_batch
            torn = frame(batch, [Record(kind="job", id="77", seq=1, payload=b"x" * 300)])[:-100]
            with journal.open("ab") as file:
                file.write(torn)
            lengths[journal] = len(torn)
        log = self.restarted()
        for journal, length in lengths.items():
            self.assertIn(f"journal {journal}: {length} bytes of a write that did not end were dropped", log)
        self.assertTrue(self.has_tag("torn1") and self.has_tag("torn2"))
        self.assertLessEqual(set(jobs), set(self.cluster.jobs()))
        self.tag("after-torn")

    def test_header_only_half_written(self) -> None:
        """A journal that was just begun when the power went is begun anew."""
        job = self.tag("half")
        self.checkpointed()
        for journal in (self.queue_journal, self.config_journal):
            journal.write_bytes(header(1)[:-4])
        self.assertIn("did not end were dropped", self.restarted())
        self.assertIn(job, self.cluster.jobs())

    def test_damaged_queue(self) -> None:
        """A journal in which something durable was damaged is refused: where, and what to do."""
        self.check_damaged(self.queue_journal)

    def test_damaged_configuration(self) -> None:
        """So is that of the configuration."""
        self.check_damaged(self.config_journal)

    def check_damaged(self, journal: Path) -> None:
        """Flip bits in the last batch but one."""
        self.tag("damaged1")
        self.tag(f"damaged-{journal.name}")
        self.kill()
        self.keep(journal)
        data = bytearray(journal.read_bytes())
        data[read_journal(bytes(data)).last_batch_offset - 5] ^= 0xFF
        journal.write_bytes(data)
        documents = self.documents()
        self.refused(f"journal {journal} is damaged: the record at byte", "from another master candidate")
        self.assertEqual(journal.read_bytes(), bytes(data))
        if journal is self.queue_journal:
            self.assertEqual(self.documents(), documents)
        self.doCleanups()
        self.assertTrue(self.has_tag(f"damaged-{journal.name}"))

    def documents(self) -> dict[str, bytes]:
        """All documents of jobs."""
        return {path.name: path.read_bytes() for path in self.queue.glob("job-*") if path.is_file()}

    def test_not_a_journal(self) -> None:
        """Something else in the place of a journal is dropped with a warning only if it holds no record."""
        self.tag("alien")
        self.checkpointed()
        whole = self.queue_journal.read_bytes() + frame(
            1, [Record(kind="serial", id="9", seq=1, payload=b"")]
        )
        self.queue_journal.write_bytes(b"rubbish\n" + whole)
        self.keep_clean(self.queue_journal)
        self.refused("its first line is not that of a journal")

    def keep_clean(self, path: Path) -> None:
        """Remove a file after the test."""
        self.addCleanup(path.unlink)


class JobFileTests(FilesCase):
    """Documents in the queue directory."""

    def test_spoiled(self) -> None:
        """A document that is torn, none at all, or of another job, is put aside and named with the reason."""
        contents = (b"\x7fELF\x00\xff", b"{}", b"[]", b'{"id": 1, "ops": []}', b"", None, b"directory")
        jobs = {self.tag(f"document{number}"): content for number, content in enumerate(contents)}
        self.checkpointed()
        for job, content in jobs.items():
            self.spoil(self.queue / f"job-{job}", content)
        log = self.restarted()
        for job, content in jobs.items():
            archived = self.queue / "archive" / "0" / f"job-{job}"
            self.assertIn(f"the document of job {job} cannot be read", log)
            self.assertIn(f"it is now {archived}", log)
            self.assertFalse((self.queue / f"job-{job}").exists())
            if content not in (None, b"directory"):
                self.assertEqual(archived.read_bytes(), content)
        self.assertEqual(set(jobs) & set(self.cluster.jobs()), set())
        self.assertGreater(self.tag("next"), max(jobs))

    @staticmethod
    def spoil(path: Path, content: bytes | None) -> None:
        """Put something else in the place of a document; None: only its beginning."""
        if content is None:
            os.truncate(path, 100)
        elif content == b"directory":
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes(content)

    def test_other_files(self) -> None:
        """Files that are not of the queue stay as they are; a higher job number is respected."""
        job = self.tag("others")
        self.checkpointed()
        for name in ("job-007", "job-x", "notes.txt"):
            (self.queue / name).write_text("mine")
        document = json.loads((self.queue / f"job-{job}").read_bytes())
        document["id"] = job + 500
        (self.queue / f"job-{job + 500}").write_text(json.dumps(document))
        self.restarted()
        for name in ("job-007", "job-x", "notes.txt"):
            self.assertEqual((self.queue / name).read_text(), "mine")
        self.assertIn(job + 500, self.cluster.jobs())
        self.assertEqual(self.tag("others2"), job + 501)

    def test_version_and_serial(self) -> None:
        """A queue of another version, or without a readable serial number, is refused."""
        self.checkpointed()
        for name, words in (("version", "has version '7'"), ("serial", "instead of the last job id")):
            path = self.queue / name
            before = path.read_text()
            path.write_text("7" if name == "version" else "many\n")
            self.refused(words, str(self.queue))
            path.write_text(before)
        self.restarted()


class ConfigTests(FilesCase):
    """config.data."""

    def test_older_than_the_journal(self) -> None:
        """Changes that config.data does not have yet come from the journal."""
        self.cluster.stop("ganeti-masterd")
        self.cluster.start()
        old = self.config.read_bytes()
        self.tag("journaled1")
        self.tag("journaled2")
        self.kill()
        self.config.write_bytes(old)
        self.assertIn("changes of the configuration came from the journal", self.restarted())
        self.assertTrue(self.has_tag("journaled1") and self.has_tag("journaled2"))
        self.cluster.gnt("gnt-cluster verify")

    def test_gap(self) -> None:
        """A config.data so old that changes between it and the journal are missing is refused."""
        ancient = self.config.read_bytes()
        serial = json.loads(ancient)["serial_no"]
        self.tag("gap1")
        self.cluster.stop("ganeti-masterd")
        self.cluster.start()
        self.tag("gap2")
        self.kill()
        self.keep(self.config)
        self.config.write_bytes(ancient)
        self.refused(f"{self.config} has serial number {serial}", "are missing", "another master candidate")

    def test_newer_than_the_journal(self) -> None:
        """Changes of the journal that config.data has already are not made twice."""
        self.tag("newer")
        until(lambda: b"newer" in self.config.read_bytes(), "no snapshot", timeout_s=10)
        before = self.cluster.serial()
        self.kill()
        self.restarted()
        self.assertEqual(self.cluster.serial(), before)
        self.assertTrue(self.has_tag("newer"))

    def test_damaged(self) -> None:
        """A damaged config.data is refused with file and place, and not touched."""
        self.kill()
        good = self.config.read_bytes()
        self.keep(self.config)
        for spoiled, word in (
            (good[: len(good) // 2], "config.data"),
            (b"", "config.data"),
            (good.replace(b'"serial_no"', b'"serial_on"', 1), "serial_"),
            (_with(good, "nodes", 7), "nodes"),
            (_with(good, "version", 99000000), "is of version 99.0.0"),
        ):
            self.config.write_bytes(spoiled)
            self.refused(str(self.config), word)

    def test_missing(self) -> None:
        """Without a config.data masterd says that it is missing and does not begin a new one."""
        self.kill()
        self.keep(self.config)
        self.config.unlink()
        self.refused(f"{self.config} does not exist")
        self.assertFalse(self.config.exists())


def _with(config: bytes, key: str, value: object) -> bytes:
    return json.dumps({**json.loads(config), key: value}).encode()

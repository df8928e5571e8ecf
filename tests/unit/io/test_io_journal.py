"""Behaviour of the journal: durable, grouped, safe against torn writes, full disks and damage."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Sequence

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ganeti.io.files import Ownership, write_file
from ganeti.io.journal import Journal, JournalDamaged, JournalError
from ganeti.model.records import Record, frame, header


def record(number: int, text: str = "x") -> Record:
    """A record that can be told from others."""
    return Record(kind="job", id=str(number), seq=1, payload=text.encode())


def numbers(records: Sequence[Record]) -> list[int]:
    """Which records these are."""
    return [int(one.id) for one in records]


class JournalTestCase(TestCase):
    """Has a directory with a journal."""

    def setUp(self) -> None:
        directory = self.mktemp()
        os.makedirs(directory)
        self.path = os.path.join(directory, "journal")

    def open_journal(self, path: str | None = None, **options: object) -> tuple[Journal, list[int]]:
        """An open journal, and the records found in it."""
        journal = Journal(reactor, path or self.path, **options)  # type: ignore[arg-type]
        found = numbers(journal.open())
        self.addCleanup(journal.close)
        return journal, found

    def reread(self) -> list[int]:
        """What a fresh start finds."""
        return self.open_journal()[1]

    def content(self) -> bytes:
        """The newest file."""
        with open(self.path, "rb") as file:
            return file.read()

    def put(self, data: bytes, suffix: str = "") -> None:
        """Write the newest file by hand."""
        with open(self.path + suffix, "wb") as file:
            file.write(data)


class AppendTests(JournalTestCase):
    """What was appended is there after a restart."""

    async def test_append_is_durable(self) -> None:
        """Records are found again, in their order, with kind, id, number and bytes."""
        journal, _ = self.open_journal()
        odd = Record(kind="config", id="cluster", seq=7, payload=b"two\nlines \x00 and more")
        await journal.append([odd, record(2)])
        await journal.append([record(3)])
        await journal.close()
        again = Journal(reactor, self.path)  # type: ignore[arg-type]
        self.assertEqual(again.open(), (odd, record(2), record(3)))
        await again.close()

    async def test_groups(self) -> None:
        """All that waits while a batch is written goes into the next one, with one sync for all."""
        syncs: list[int] = []

        def sync(fd: int) -> None:
            syncs.append(fd)
            os.fdatasync(fd)

        journal, _ = self.open_journal(sync=sync)
        await gatherResults([journal.append([record(number)]) for number in range(100)])
        self.assertEqual(len(syncs), 2)
        self.assertEqual(self.reread(), list(range(100)))

    async def test_copies(self) -> None:
        """The same bytes go elsewhere, and the writer waits for that too."""
        sent: list[tuple[bytes, Deferred[None]]] = []

        def also(data: bytes) -> Deferred[None]:
            sent.append((data, Deferred()))
            return sent[-1][1]

        journal, _ = self.open_journal(also=also)
        first = journal.append([record(1)])
        marker = journal.rotate()
        await _a_moment()
        self.assertEqual([data for data, _ in sent], [frame(1, [record(1)])])
        self.assertNoResult(first)
        sent[0][1].callback(None)
        await first
        await marker

    async def test_copy_fails(self) -> None:
        """A copy that fails is logged and harms nobody."""
        journal, _ = self.open_journal(also=lambda data: 1 / 0)
        await journal.append([record(1)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_cancelled_writer(self) -> None:
        """Who gives up waiting loses the answer only; others are not disturbed."""
        journal, _ = self.open_journal()
        first, second = journal.append([record(1)]), journal.append([record(2)])
        first.addErrback(lambda _: None)
        second.addErrback(lambda _: None)
        second.cancel()
        await journal.append([record(3)])
        self.assertEqual(self.reread(), [1, 2, 3])

    async def test_closed(self) -> None:
        """A closed journal refuses."""
        journal, _ = self.open_journal()
        await journal.close()
        await self.assertFailure(journal.append([record(1)]), JournalError)

    async def test_bad_name(self) -> None:
        """A record that cannot be framed fails alone."""
        journal, _ = self.open_journal()
        bad = Record(kind="two words", id="1", seq=1, payload=b"")
        await self.assertFailure(journal.append([bad]), ValueError)
        await journal.append([record(1)])
        self.assertEqual(self.reread(), [1])


class DiskTests(JournalTestCase):
    """A disk that refuses."""

    async def test_disk_full(self) -> None:
        """Writers of a batch that does not fit get an error; earlier and later ones are safe."""
        journal, _ = self.open_journal()
        await journal.append([record(1)])
        before = self.content()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 1000, hard))
        try:
            with self.assertRaises(JournalError) as failed:
                await journal.append([record(2, "y" * 5000)])
            self.assertIn(self.path, str(failed.exception))
            self.assertEqual(self.content(), before)
            await journal.append([record(3)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await journal.append([record(4)])
        self.assertEqual(self.reread(), [1, 3, 4])

    async def test_sync_fails(self) -> None:
        """What could not be synced is not in the file, and its number is used again."""
        broken = [False]

        def sync(fd: int) -> None:
            if broken[0]:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        journal, _ = self.open_journal(sync=sync)
        await journal.append([record(1)])
        broken[0] = True
        await self.assertFailure(gatherResults([journal.append([record(2)])], consumeErrors=True), Exception)
        broken[0] = False
        await journal.append([record(3)])
        self.assertIn(frame(2, [record(3)]), self.content())
        self.assertEqual(self.reread(), [1, 3])


class CrashTests(JournalTestCase):
    """Files as a crash leaves them."""

    def test_torn_at_every_byte(self) -> None:
        """Wherever the last write broke off, all before it is found and the journal goes on."""
        whole = header(1) + frame(1, [record(1)]) + frame(2, [record(2), record(3)])
        first = len(header(1) + frame(1, [record(1)]))
        for length in range(first, len(whole)):
            self.put(whole[:length])
            self.assertEqual(self.reread(), [1], length)
            self.assertEqual(len(self.content()), first)

    def test_torn_header(self) -> None:
        """A file that was just being created counts as empty."""
        for length in range(len(header(1))):
            self.put(header(1)[:length])
            self.assertEqual(self.reread(), [])

    def test_zeros_at_the_end(self) -> None:
        """Zeros that a file system left at the end are dropped."""
        self.put(header(1) + frame(1, [record(1)]) + bytes(4096))
        self.assertEqual(self.reread(), [1])

    def test_out_of_order_blocks(self) -> None:
        """In the last batch, later blocks may have reached the disk before earlier ones."""
        last = bytearray(frame(2, [record(2), record(3)]))
        last[3] ^= 1
        self.put(header(1) + frame(1, [record(1)]) + bytes(last))
        self.assertEqual(self.reread(), [1])

    def test_damage_in_the_middle(self) -> None:
        """Damage before a batch that was written later is refused, naming file and place."""
        good = header(1) + frame(1, [record(1)])
        data = bytearray(good + frame(2, [record(2)]) + frame(3, [record(3)]))
        data[len(good) + 10] ^= 1
        self.put(bytes(data))
        error = self.assertRaises(JournalDamaged, Journal(reactor, self.path).open)  # type: ignore[arg-type]
        self.assertIn(f"byte {len(good)}", str(error))
        self.assertIn(self.path, str(error))
        self.assertEqual(self.content(), bytes(data))

    def test_not_a_journal(self) -> None:
        """A damaged first line before intact records is refused."""
        self.put(b"ganeti-journal 9 1\n" + frame(1, [record(1)]))
        self.assertRaises(JournalDamaged, Journal(reactor, self.path).open)  # type: ignore[arg-type]


class FreshCopyTests(JournalTestCase):
    """The journal that a candidate begins with when it gets the state of the master."""

    async def test_goes_on(self) -> None:
        """A master that starts on such a copy appends to it, and survives a torn write like any other."""
        self.put(header(0))
        journal, found = self.open_journal()
        self.assertEqual(found, [])
        await journal.append([record(1)])
        durable = len(self.content())
        await journal.append([record(2), record(3)])
        whole = self.content()
        for length in range(durable, len(whole)):
            self.put(whole[:length])
            self.assertEqual(self.reread(), [1], length)


class RotationTests(JournalTestCase):
    """Older files stand until a snapshot contains them."""

    async def test_rotate_and_discard(self) -> None:
        """Rotation loses nothing, discarding only what was appended before the rotation."""
        journal, _ = self.open_journal()
        await journal.append([record(1)])
        first = await journal.rotate()
        await journal.append([record(2)])
        second = await journal.rotate()
        await journal.append([record(3)])
        self.assertEqual(self.reread(), [1, 2, 3])
        await journal.discard(first)
        self.assertEqual(self.reread(), [2, 3])
        await journal.discard(second)
        self.assertEqual(self.reread(), [3])

    async def test_crash_between_renames(self) -> None:
        """Without a newest file the older ones are read and the numbers go on."""
        self.put(header(5) + frame(5, [record(5)]), ".1")
        journal, found = self.open_journal()
        self.assertEqual((found, journal.next_batch), ([5], 6))

    async def test_older_file_damaged(self) -> None:
        """A file that was closed in good order must be whole."""
        self.put((header(5) + frame(5, [record(5)]))[:-3], ".1")
        self.assertRaises(JournalDamaged, Journal(reactor, self.path).open)  # type: ignore[arg-type]


class WriteFileTests(SynchronousTestCase):
    """`write_file`, which snapshots are written with."""

    def test_owner_and_mode(self) -> None:
        """A file gets the owner and mode it was asked for (S2.3-152)."""
        path = os.path.join(self.mktemp())
        uid, gid = (1234, 2345) if os.getuid() == 0 else (os.getuid(), os.getgid())
        write_file(path, b"text", Ownership(mode=0o640, uid=uid, gid=gid))
        found = os.stat(path)
        self.assertEqual((found.st_uid, found.st_gid, found.st_mode & 0o7777), (uid, gid, 0o640))

    def test_failure_leaves_the_old_file(self) -> None:
        """When the new content cannot be made, the old file stays and nothing lies beside it."""
        directory = self.mktemp()
        os.makedirs(directory)
        path = os.path.join(directory, "file")
        write_file(path, b"old")
        self.assertRaises(ZeroDivisionError, write_file, path, (b"x" * (1 // n) for n in (1, 0)))
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"old")
        self.assertEqual(os.listdir(directory), ["file"])


async def _a_moment() -> None:
    done: Deferred[None] = Deferred()
    reactor.callLater(0.05, done.callback, None)
    await done

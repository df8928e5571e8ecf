"""The configuration on the master: durable changes, snapshots, starts after a crash, full disks."""

from __future__ import annotations

import errno
import gc
import os
import resource
import shutil
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from ganeti.errors import ConfigurationError
from ganeti.interfaces import IClock, IConfig
from ganeti.io.journal import Journal, JournalDamaged
from ganeti.master.config_store import ConfigStore
from ganeti.model.cluster import Cluster
from ganeti.model.codec import decode_cluster, encode_cluster
from ganeti.testing.clusters import NOW, changed_instance, cluster, with_instance, with_settings
from ganeti.testing.config import MemoryConfig
from ganeti.testing.config_behaviours import ConfigBehaviours


@implementer(IClock)
class StillClock:
    """A clock that stands still."""

    def seconds(self) -> float:
        """A minute after everything was made."""
        return NOW + 60


def grown(number: int) -> Callable[[Cluster], Cluster]:
    """A change that can be found again."""
    return lambda value: with_settings(value, tags=(*value.settings.tags, str(number)))


class StoreTestCase(TestCase):
    """Has a directory for a configuration."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.makedirs(self.directory)
        self.path = os.path.join(self.directory, "config.data")

    def write(self, value: Cluster) -> None:
        """Write config.data."""
        with open(self.path, "wb") as file:
            file.write(encode_cluster(value))

    def saved(self) -> Cluster:
        """What config.data holds."""
        with open(self.path, "rb") as file:
            return decode_cluster(file.read())

    async def start_store(self, *, snapshot_s: float = 3600.0, **journal_options: Any) -> ConfigStore:
        """A store on what is there."""
        journal = Journal(reactor, os.path.join(self.directory, "config.journal"), **journal_options)  # type: ignore[arg-type]
        store = ConfigStore(
            reactor,  # type: ignore[arg-type]
            journal,
            self.path,
            StillClock(),
            snapshot_s=snapshot_s,
            freeze=False,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(store.stop()))
        await store.start()
        return store

    async def restarted(self, *, without: str | None = None) -> ConfigStore:
        """A store on a copy of the files, as a power failure now would leave them."""
        copy = self.mktemp()
        shutil.copytree(self.directory, copy)
        self.directory, self.path = copy, os.path.join(copy, "config.data")
        return await self.start_store()


class MemoryConfigTests(ConfigBehaviours, TestCase):
    """The configuration in memory."""

    async def make_config(self, value: Cluster) -> IConfig:
        """One in memory."""
        return MemoryConfig(value)


class ConfigStoreBehaviourTests(ConfigBehaviours, StoreTestCase):
    """The real one behaves likewise."""

    async def make_config(self, value: Cluster) -> IConfig:
        """One in a directory."""
        self.write(value)
        return await self.start_store()


class DurabilityTests(StoreTestCase):
    """What a change survives."""

    async def test_survives_a_crash(self) -> None:
        """Acknowledged changes are there after a start without a snapshot."""
        self.write(cluster(instances=2))
        store = await self.start_store()
        for number in range(5):
            await store.update(grown(number), reason="test")
        newest = await store.update(lambda value: with_instance(value, "new"), reason="test")
        again = await self.restarted()
        self.assertEqual(again.current(), newest)
        self.assertEqual(self.saved().serial_no, 1)

    async def test_crash_at_any_byte_of_the_last_change(self) -> None:
        """However little of the last change reached the disk, all before it is there."""
        self.write(cluster())
        store = await self.start_store()
        before = await store.update(grown(1), reason="test")
        journal = os.path.join(self.directory, "config.journal")
        durable = os.path.getsize(journal)
        await store.update(grown(2), reason="test")
        whole = os.path.getsize(journal)
        for length in range(durable, whole, 37):
            os.truncate(journal, length)
            self.assertEqual((await self.restarted()).current(), before)
            journal = os.path.join(self.directory, "config.journal")

    async def test_snapshot(self) -> None:
        """A snapshot makes config.data complete and begins the journal anew."""
        self.write(cluster())
        store = await self.start_store()
        await store.update(grown(1), reason="test")
        await store.snapshot()
        await store.update(grown(2), reason="test")
        self.assertEqual(self.saved().settings.tags, ("1",))
        self.assertEqual(sorted(os.listdir(self.directory)), ["config.data", "config.journal"])
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o640)
        self.assertEqual((await self.restarted()).current(), store.current())

    async def test_snapshot_in_time(self) -> None:
        """Some time after a change config.data has it, without anybody asking."""
        self.write(cluster())
        store = await self.start_store(snapshot_s=0.01)
        await store.update(grown(1), reason="test")
        for _ in range(100):
            await _pause(0.02)
            if self.saved().serial_no == 2:
                break
        self.assertEqual(self.saved(), store.current())

    async def test_snapshot_while_changing(self) -> None:
        """A change that is being written when a snapshot begins is not lost, nor are later ones."""
        self.write(cluster())
        store = await self.start_store()
        await store.update(grown(0), reason="test")
        # Without this the next lines would run inside the answer above, before anything is written.
        await _pause(0)
        changes = [store.update(grown(1), reason="test")]
        snapshot = Deferred.fromCoroutine(store.snapshot())
        self.assertNoResult(changes[0])
        changes += [store.update(grown(number), reason="test") for number in range(2, 80)]
        await snapshot
        self.assertIn("1", self.saved().settings.tags)
        await gatherResults(changes)
        again = await self.restarted()
        self.assertEqual(again.current().settings.tags, tuple(str(number) for number in range(80)))

    async def test_stop(self) -> None:
        """A stopped store leaves config.data complete, and refuses changes."""
        self.write(cluster())
        store = await self.start_store()
        newest = store.update(grown(1), reason="test")
        await store.stop()
        self.assertEqual(self.saved(), await newest)
        await self.assertFailure(store.update(grown(2), reason="test"), ConfigurationError)

    async def test_old_journal_beside_newer_file(self) -> None:
        """Changes that the file has already are passed over."""
        self.write(cluster())
        store = await self.start_store()
        await store.update(grown(1), reason="test")
        newest = await store.update(grown(2), reason="test")
        self.write(newest)
        self.assertEqual((await self.restarted()).current(), newest)

    async def test_gap(self) -> None:
        """A file older than the beginning of the journal is refused, naming both serial numbers."""
        old = cluster()
        self.write(old)
        store = await self.start_store()
        await store.update(grown(1), reason="test")
        await store.snapshot()
        await store.update(grown(2), reason="test")
        self.write(old)
        with self.assertRaises(ConfigurationError) as refused:
            await self.restarted()
        for part in ("serial number 1", "has 3", "config.data"):
            self.assertIn(part, str(refused.exception))

    async def test_damaged_journal(self) -> None:
        """A journal with damage in its middle is refused."""
        self.write(cluster())
        store = await self.start_store()
        for number in range(3):
            await store.update(grown(number), reason="test")
        with open(os.path.join(self.directory, "config.journal"), "r+b") as file:
            file.seek(60)
            file.write(b"!")
        with self.assertRaises(JournalDamaged):
            await self.restarted()

    async def test_nothing_there(self) -> None:
        """Without a configuration the message says what may be wrong."""
        with self.assertRaises(ConfigurationError) as refused:
            await self.start_store()
        self.assertIn("initialised cluster", str(refused.exception))


class FailureTests(StoreTestCase):
    """Disks that refuse, and callers that go away."""

    async def test_sync_fails(self) -> None:
        """A change that cannot be made durable was not made; the next one works."""
        broken = [False]

        def sync(fd: int) -> None:
            if broken[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.write(cluster())
        store = await self.start_store(sync=sync)
        told: list[int] = []
        store.subscribe(lambda old, new, _: told.append(new.serial_no))
        broken[0] = True
        refused = [store.update(grown(number), reason="test") for number in (1, 2)]
        for one in refused:
            with self.assertRaises(ConfigurationError) as failed:
                await one
            self.assertIn("No space left", str(failed.exception))
        self.assertEqual((store.current(), told), (cluster(), []))
        broken[0] = False
        await store.update(grown(3), reason="test")
        self.assertEqual((await self.restarted()).current().settings.tags, ("3",))

    async def test_disk_full_for_snapshots(self) -> None:
        """When config.data cannot be written, changes still are, and nothing is lost."""
        self.write(cluster(instances=200))
        store = await self.start_store()
        await store.update(grown(1), reason="test")
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
        try:
            with self.assertRaises(OSError):
                await store.snapshot()
            newest = await store.update(grown(2), reason="test")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        self.assertEqual((await self.restarted()).current(), newest)

    async def test_cancelled_before_it_began(self) -> None:
        """A change whose caller went away before it began is not made."""
        self.write(cluster())
        store = await self.start_store()
        first = store.update(grown(1), reason="test")
        second = store.update(grown(2), reason="test")
        second.addErrback(lambda _: None)
        second.cancel()
        third = store.update(grown(3), reason="test")
        await gatherResults([first, third])
        self.assertEqual(store.current().settings.tags, ("1", "3"))

    async def test_cancelled_while_it_is_written(self) -> None:
        """A change that is being written stays, although nobody waits for it any more."""
        self.write(cluster())
        store = await self.start_store()
        first = store.update(grown(1), reason="test")
        first.addErrback(lambda _: None)
        first.cancel()
        await store.update(grown(2), reason="test")
        self.assertEqual(store.current().settings.tags, ("1", "2"))

    async def test_failing_subscriber(self) -> None:
        """A subscriber that fails is logged and does not disturb the change."""
        self.write(cluster())
        store = await self.start_store()
        store.subscribe(lambda old, new, _: 1 / 0)  # type: ignore[arg-type]
        await store.update(grown(1), reason="test")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_not_started(self) -> None:
        """Before the start there is no value."""
        journal = Journal(reactor, self.path)  # type: ignore[arg-type]
        store = ConfigStore(reactor, journal, self.path, StillClock())  # type: ignore[arg-type]
        self.assertRaises(ConfigurationError, store.current)
        await store.stop()

    async def test_freeze(self) -> None:
        """The configuration is kept out of garbage collection."""
        self.write(cluster())
        journal = Journal(reactor, os.path.join(self.directory, "config.journal"))  # type: ignore[arg-type]
        store = ConfigStore(reactor, journal, self.path, StillClock())  # type: ignore[arg-type]
        self.addCleanup(gc.unfreeze)
        self.addCleanup(lambda: Deferred.fromCoroutine(store.stop()))
        before = gc.get_freeze_count()
        await store.start()
        self.assertGreater(gc.get_freeze_count(), before)

    async def test_state(self) -> None:
        """A copy for a candidate is the newest configuration."""
        self.write(cluster())
        store = await self.start_store()
        await store.update(lambda value: changed_instance(with_instance(value, "a"), "a", os="x"), reason="")
        self.assertEqual(decode_cluster((await store.state())["config.data"]), store.current())


async def _pause(seconds: float) -> None:
    done: Deferred[None] = Deferred()
    reactor.callLater(seconds, done.callback, None)
    await done

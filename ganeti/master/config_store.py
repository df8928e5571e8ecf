"""Holds the cluster and makes every change of it durable: a record in a journal, not a whole file.

    store = ConfigStore(reactor, journal, paths.config_file, clock)
    await store.start()                         # config.data and the journal after it
    await store.update(change, reason="...")    # durable here and wherever the journal goes
    await store.stop()                          # config.data is complete again

`config.data` is a snapshot, written by a thread a few seconds after a change; the journal then begins
anew. A start reads the snapshot and repeats what the journal has beyond it. Changes that wait while
one is written go into the next batch together.
"""

from __future__ import annotations

import gc
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ganeti.errors import ConfigurationError, GanetiError
from ganeti.interfaces import IClock, IConfig
from ganeti.io.files import Ownership, write_file
from ganeti.io.journal import Journal, JournalError
from ganeti.logic.reservations import drbd_nodes_of, macs_of
from ganeti.model.cluster import Cluster
from ganeti.model.codec import decode_cluster, delta_record, encode_cluster, encode_pieces, replayed
from ganeti.model.delta import Delta, stamp

T = TypeVar("T")

SNAPSHOT_S = 5.0
"""A changed configuration is written to its file after so long."""
RETRY_S = 30.0
_CHANGES_AT_ONCE = 100
_FILE = Ownership(mode=0o640)

Subscriber = Callable[[Cluster, Cluster, Sequence[Delta]], None]


class IStoreReactor(IReactorTime, IReactorThreads):
    """Parts of the reactor that the store uses."""


class _Change:
    """A change that somebody waits for."""

    def __init__(self, change: Callable[[Cluster], Cluster], reason: str) -> None:
        self.change = change
        self.reason = reason
        self.done: Deferred[Cluster] = Deferred()


@implementer(IConfig)
class ConfigStore:
    """The configuration on the master.

    Cancelling the wait for an update takes the change back if it was not begun yet; one that is
    being written stays.

    Args:
        reactor: time and threads.
        journal: for the changes; opened and closed here.
        path: of config.data.
        clock: gives the times of change.
        ownership: of config.data (S2.3-163).
        snapshot_s: after a change config.data is written after so long.
        freeze: keep the configuration out of garbage collection, which would stop the daemon for
            a quarter of a second at 20,000 instances.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IStoreReactor,
        journal: Journal,
        path: str,
        clock: IClock,
        *,
        ownership: Ownership = _FILE,
        snapshot_s: float = SNAPSHOT_S,
        freeze: bool = True,
    ) -> None:
        self._reactor = reactor
        self._journal = journal
        self._path = path
        self._clock = clock
        self._ownership = ownership
        self._snapshot_s = snapshot_s
        self._freeze = freeze
        self._cluster: Cluster | None = None
        self._is_open = False
        self._saved_serial = 0
        self._waiting: deque[_Change] = deque()
        self._is_draining = False
        self._drain: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._snapshots = DeferredLock()
        self._is_snapshot_due = False
        self._background: Deferred[None] | None = None
        self._subscribers: list[Subscriber] = []

    async def start(self) -> Cluster:
        """Read the configuration.

        Raises:
            ConfigurationError: it is missing, damaged, of another version, or does not fit its journal.
            JournalDamaged: the journal cannot be read.
        """
        cluster, replayed_count = await self._in_thread(self._load)
        self._cluster = cluster
        self._is_open = True
        if self._freeze:
            gc.freeze()
        if replayed_count:
            self.log.info("{count} changes of the configuration came from the journal", count=replayed_count)
            self._snapshot_later(self._snapshot_s)
        return cluster

    async def stop(self) -> None:
        """Finish what waits, bring config.data up to date, close the journal."""
        self._is_open = False
        if self._cluster is None:
            await self._journal.close()
            return
        if self._drain is not None:
            await self._drain
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._background is not None:
            await self._background
        try:
            await self.snapshot()
        except (GanetiError, OSError) as error:
            self.log.error("config.data is not up to date, but the journal is: {error}", error=str(error))
        await self._journal.close()

    def current(self) -> Cluster:
        """The newest value.

        Raises:
            ConfigurationError: nothing was read yet.
        """
        if self._cluster is None:
            raise ConfigurationError("the configuration has not been read yet; try again in a moment")
        return self._cluster

    def update(self, change: Callable[[Cluster], Cluster], *, reason: str) -> Deferred[Cluster]:
        """Replace the value; see `IConfig`."""
        item = _Change(change, reason)
        if not self._is_open:
            item.done.errback(
                ConfigurationError(f"the master daemon is not running; the change ({reason}) was not made")
            )
            return item.done
        self._waiting.append(item)
        if not self._is_draining:
            # Set here, as whoever is answered may ask for the next change before this returns.
            self._is_draining = True
            self._drain = Deferred.fromCoroutine(self._work_off())
        return item.done

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call with the old and the new value after each change; gives what ends that."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    async def state(self) -> Mapping[str, bytes]:
        """The files of a whole copy, for a master candidate that has none."""
        cluster = self.current()
        return {os.path.basename(self._path): await self._in_thread(lambda: encode_cluster(cluster))}

    async def snapshot(self) -> None:
        """Write config.data now, if it is not up to date, and begin the journal anew.

        Raises:
            JournalError: the journal could not begin anew.
            OSError: config.data cannot be written; the journal has everything.
        """
        await self._snapshots.acquire()
        try:
            if self.current().serial_no == self._saved_serial:
                return
            mark = await self._journal.rotate()
            # Whatever is in the older journals is in this value: appends come to an end in order.
            cluster = self.current()
            await self._in_thread(lambda: write_file(self._path, encode_pieces(cluster), self._ownership))
            self._saved_serial = cluster.serial_no
            await self._journal.discard(mark)
        finally:
            self._snapshots.release()

    # --- changes

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _CHANGES_AT_ONCE))]
                await self._make_durable(batch)
        finally:
            self._is_draining = False

    async def _make_durable(self, batch: Sequence[_Change]) -> None:
        old = new = self.current()
        accepted: list[tuple[_Change, Cluster]] = []
        deltas: list[Delta] = []
        for item in batch:
            if item.done.called:
                continue
            try:
                new, delta = stamp(new, item.change(new), now=self._clock.seconds(), reason=item.reason)
            except Exception:
                # Whatever it is, it belongs to whoever gave the change.
                item.done.errback(Failure())
                continue
            accepted.append((item, new))
            if delta is not None:
                deltas.append(delta)
        if deltas:
            try:
                await self._journal.append([delta_record(delta) for delta in deltas])
            except (JournalError, ValueError) as error:
                self._refuse(accepted, str(error))
                return
            self._cluster = new
            self._tell(old, new, deltas)
            self._snapshot_later(self._snapshot_s)
        for item, value in accepted:
            if not item.done.called:
                item.done.callback(value)

    def _refuse(self, items: Sequence[tuple[_Change, Cluster]], why: str) -> None:
        self.log.error("the configuration cannot be changed: {why}", why=why)
        for item, _ in items:
            if not item.done.called:
                item.done.errback(
                    ConfigurationError(f"the change of the configuration ({item.reason}) was not made: {why}")
                )

    def _tell(self, old: Cluster, new: Cluster, changes: Sequence[Delta]) -> None:
        for callback in tuple(self._subscribers):
            try:
                callback(old, new, changes)
            except Exception:
                self.log.failure("{callback} failed after a change of the configuration", callback=callback)

    # --- snapshots

    def _snapshot_later(self, delay_s: float) -> None:
        if self._timer is None and not self._is_snapshot_due and self._is_open:
            self._timer = self._reactor.callLater(delay_s, self._snapshot_due)

    def _snapshot_due(self) -> None:
        self._timer = None
        self._is_snapshot_due = True
        self._background = Deferred.fromCoroutine(self._snapshot_in_background())

    async def _snapshot_in_background(self) -> None:
        delay_s: float | None = None
        try:
            await self.snapshot()
        except CancelledError:
            raise
        except (GanetiError, OSError) as error:
            self.log.error("config.data cannot be written: {error}; the journal has everything", error=error)
            delay_s = RETRY_S
        finally:
            self._is_snapshot_due = False
        if delay_s is None and self.current().serial_no != self._saved_serial:
            delay_s = self._snapshot_s
        if delay_s is not None:
            self._snapshot_later(delay_s)

    # --- start

    def _load(self) -> tuple[Cluster, int]:
        """The cluster, and how many changes came from the journal; blocking."""
        try:
            with open(self._path, "rb") as file:
                saved = decode_cluster(file.read(), source=self._path)
        except FileNotFoundError:
            raise ConfigurationError(
                f"{self._path} does not exist; is this node a master candidate of an initialised cluster?"
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"{self._path} cannot be read: {os.strerror(error.errno or 0)}"
            ) from error
        cluster = replayed(saved, self._journal.open(), source=self._path)
        self._saved_serial = saved.serial_no
        _make_indexes(cluster)
        return cluster, cluster.serial_no - saved.serial_no

    def _in_thread(self, work: Callable[[], T]) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)


def _make_indexes(cluster: Cluster) -> None:
    """Have the large indexes made here, in a thread, and not at the first change."""
    for table in (cluster.nodes, cluster.instances, cluster.disks):
        table.by_key("")
    list(cluster.instances.having(macs_of, ""))
    list(cluster.disks.having(drbd_nodes_of, ""))

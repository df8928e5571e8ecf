"""The configuration as it lies on this node, read again when the file has become another one."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from ganeti.errors import ConfigurationError
from ganeti.model.cluster import Cluster
from ganeti.model.codec import decode_cluster

LOOK_EVERY_S = 17.0

Identity = tuple[int, int, int]
"""Inode, time of the last change in nanoseconds, size."""


class ConfigReader(Service):
    """Holds the newest configuration of this node, if it has one.

    Args:
        reactor: time.
        path: of config.data.
        in_thread: runs what blocks.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        path: str,
        in_thread: Callable[[Callable[[], Cluster]], Awaitable[Cluster]],
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._in_thread = in_thread
        self._identity: Identity | None = None
        self._timer: IDelayedCall | None = None
        self._looking: Deferred[None] | None = None
        self.cluster: Cluster | None = None
        """What was read last; None while there is no configuration here."""

    async def startService(self) -> None:
        """Read for the first time; go on looking every few seconds."""
        super().startService()  # type: ignore[no-untyped-call]
        await self.look()
        self._schedule()

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()

    async def look(self) -> None:
        """Read the file if it is not the one that was read last.

        A file that cannot be read leaves what was read before in force.
        """
        found = _identity(self._path)
        if found == self._identity:
            return
        if found is None:
            self.log.info("this node has no configuration (any more)")
            self.cluster, self._identity = None, None
            return
        try:
            self.cluster = await self._in_thread(self._read)
        except CancelledError:
            raise
        except (ConfigurationError, OSError, ValueError, RecursionError) as error:
            self.log.error("the configuration cannot be read: {error}", error=error)
            return
        self._identity = found
        self.log.info("read configuration with serial number {serial}", serial=self.cluster.serial_no)

    def look_soon(self) -> None:
        """Look now; for SIGHUP."""
        if self._looking is None:
            self._looking = Deferred.fromCoroutine(self.look())
            self._looking.addErrback(lambda failure: failure.trap(CancelledError))
            self._looking.addBoth(self._looked)

    def _looked(self, result: object) -> None:
        self._looking = None

    def _schedule(self) -> None:
        if self.running:
            self._timer = self._reactor.callLater(LOOK_EVERY_S, self._look_again)

    def _look_again(self) -> None:
        self.look_soon()
        self._schedule()

    def _read(self) -> Cluster:
        with open(self._path, "rb") as stream:
            return decode_cluster(stream.read(), source=self._path)


def _identity(path: str) -> Identity | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size

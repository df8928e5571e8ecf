"""A configuration in memory, for tests of whatever reads and changes the cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zope.interface import implementer

from ganeti.errors import ConfigurationError
from ganeti.interfaces import IClock, IConfig
from ganeti.model.cluster import Cluster
from ganeti.model.delta import Delta, stamp


@implementer(IConfig)
class MemoryConfig:
    """`IConfig` without files: a change is done as soon as it is awaited.

    Args:
        cluster: the value to begin with.
        clock: gives the times of change; None: one that stands still.
    """

    def __init__(self, cluster: Cluster, clock: IClock | None = None) -> None:
        self.changes: list[Delta] = []
        """What was changed, in order."""
        self.failure: str | None = None
        """If set, no change can be made durable, and this is why."""
        self._cluster = cluster
        self._clock: IClock = clock if clock is not None else _StandingClock()
        self._subscribers: list[Callable[[Cluster, Cluster, Sequence[Delta]], None]] = []

    def current(self) -> Cluster:
        """The newest value."""
        return self._cluster

    async def update(self, change: Callable[[Cluster], Cluster], *, reason: str) -> Cluster:
        """Replace the value at once."""
        old = self._cluster
        new, delta = stamp(old, change(old), now=self._clock.seconds(), reason=reason)
        if delta is None:
            return old
        if self.failure is not None:
            raise ConfigurationError(f"the change ({reason}) was not made: {self.failure}")
        self._cluster = new
        self.changes.append(delta)
        for callback in tuple(self._subscribers):
            callback(old, new, (delta,))
        return new

    def subscribe(self, callback: Callable[[Cluster, Cluster, Sequence[Delta]], None]) -> Callable[[], None]:
        """Call with the old and the new value after each change; gives what ends that."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)


@implementer(IClock)
class _StandingClock:
    """A clock at a time that cannot be mistaken for 0."""

    def seconds(self) -> float:
        """Always the same."""
        return 1_700_000_100.0

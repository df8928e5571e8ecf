"""Tells whoever watches a job what is new, without anyone who changes a job having to wait.

A change only marks the watchers of a job; what they get is made and sent in a later turn of the
reactor, at most once per 0.1 s for each, and not before they took what was sent last. So a slow
watcher holds up nobody, thousand messages in a second are few deliveries, and since the newest
state is sent each time, with all log entries not sent before, nothing is lost (S2.2-008 to 013).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import msgspec

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from ganeti.logic.job_info import JobView, check_fields, job_values
from ganeti.logic.job_states import job_status
from ganeti.model.ids import JobId
from ganeti.model.job import JobStatus, LogEntry

SHORTEST_INTERVAL_S = 0.1
LONGEST_WAIT_S = 89.0
"""No wait lasts longer than half of what a client waits for an answer."""
NO_CHANGE: Literal["nochange"] = "nochange"

_UNDER_WAY = frozenset({JobStatus.QUEUED, JobStatus.WAITING, JobStatus.RUNNING})


class JobChange(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of what is new about a job."""

    values: list[Any]
    """Of the fields asked for."""
    entries: tuple[LogEntry, ...]
    """Of its log, since the last delivery."""
    is_final: bool

    def as_json(self) -> list[Any]:
        """`[values, entries]` as clients get it."""
        return [self.values, self.entries]


Deliver = Callable[[JobChange], Awaitable[None]]
KeepAlive = Callable[[], None]


class Subscription:
    """One watcher of one job.

    Made by `JobWatch.subscribe`; ends with `cancel`, or by itself after the end of the job was
    delivered.
    """

    def __init__(
        self,
        watch: JobWatch,
        job: JobId,
        fields: Sequence[str],
        serial: int,
        deliver: Deliver,
        keep_alive: KeepAlive | None,
        keep_alive_s: float,
    ) -> None:
        self.job = job
        self.is_over = False
        self._watch = watch
        self._fields = tuple(fields)
        self._serial = serial
        self._deliver = deliver
        self._keep_alive = keep_alive
        self._keep_alive_s = keep_alive_s
        self._last_values: list[Any] | None = None
        self._not_before = 0.0
        self._is_marked = False
        self._delivery: Deferred[None] | None = None
        self._call: IDelayedCall | None = None
        self._alive_call: IDelayedCall | None = None

    def cancel(self) -> None:
        """Send nothing any more."""
        if self.is_over:
            return
        self.is_over = True
        for call in (self._call, self._alive_call):
            if call is not None:
                call.cancel()
        self._call = self._alive_call = None
        self._watch.forget(self)
        if self._delivery is not None:
            self._delivery.cancel()

    def mark(self, *, is_urgent: bool = False) -> None:
        """Something may be new; whoever calls is not kept.

        Args:
            is_urgent: the end of a job, which comes only once, does not wait for the interval.
        """
        self._is_marked = True
        if self._delivery is not None or self.is_over:
            return
        reactor = self._watch.reactor
        wait_s = 0.0 if is_urgent else max(0.0, self._not_before - reactor.seconds())
        if self._call is None:
            self._call = reactor.callLater(wait_s, self._look)
        elif is_urgent:
            self._call.reset(0)

    def stay_alive(self) -> None:
        """Begin to count the time until a sign of life is due."""
        if self._keep_alive is None:
            return
        if self._alive_call is None:
            self._alive_call = self._watch.reactor.callLater(self._keep_alive_s, self._send_sign)
        else:
            self._alive_call.reset(self._keep_alive_s)

    def _look(self) -> None:
        self._call = None
        self._is_marked = False
        change = self._news()
        if change is None:
            return
        self._not_before = self._watch.reactor.seconds() + SHORTEST_INTERVAL_S
        self.stay_alive()
        delivery = Deferred.fromCoroutine(self._send(change))
        self._delivery = delivery
        delivery.addBoth(self._sent, is_final=change.is_final)

    def _news(self) -> JobChange | None:
        view = self._watch.look(self.job)
        if view is None:
            return JobChange(values=[None] * len(self._fields), entries=(), is_final=True)
        values = job_values(view, self._fields)
        entries = view.job.log_after(self._serial)
        is_final = job_status(view.job).is_final
        if values == self._last_values and not entries and not is_final:
            return None
        self._last_values = values
        if entries:
            self._serial = entries[-1].serial
        return JobChange(values=values, entries=entries, is_final=is_final)

    async def _send(self, change: JobChange) -> None:
        await self._deliver(change)

    def _sent(self, result: Any, *, is_final: bool) -> None:
        self._delivery = None
        if result is not None:
            # A watcher that cannot be reached has no use for more.
            if not result.check(CancelledError):
                self._watch.log.debug("a watcher of job {job} is gone", job=self.job)
            self.cancel()
        elif is_final:
            self.cancel()
        elif self._is_marked:
            self.mark()

    def _send_sign(self) -> None:
        self._alive_call = None
        if self._keep_alive is not None:
            self._keep_alive()
        self.stay_alive()


class JobWatch:
    """Who watches which job.

    Args:
        reactor: time and turns.
        look: the newest state of a job that is not archived.
        find: the same for any job.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        look: Callable[[JobId], JobView | None],
        find: Callable[[JobId], Awaitable[JobView | None]],
    ) -> None:
        self.reactor = reactor
        self._look = look
        self._find = find
        self._subscriptions: dict[JobId, dict[int, Subscription]] = {}
        self._gone: dict[JobId, JobView] = {}

    def __len__(self) -> int:
        return sum(map(len, self._subscriptions.values()))

    def changed(self, job: JobId) -> None:
        """A job changed; to be called by whoever changed it."""
        watchers = self._subscriptions.get(job)
        if watchers:
            view = self.look(job)
            is_final = view is not None and job_status(view.job).is_final
            for subscription in tuple(watchers.values()):
                subscription.mark(is_urgent=is_final)

    def look(self, job: JobId) -> JobView | None:
        """The newest state of a watched job."""
        return self._look(job) or self._gone.get(job)

    async def subscribe(
        self,
        job: JobId,
        fields: Sequence[str],
        deliver: Deliver,
        *,
        last_serial: int = 0,
        keep_alive: KeepAlive | None = None,
        keep_alive_s: float = LONGEST_WAIT_S / 2,
    ) -> Subscription | None:
        """Watch a job: its state is delivered now, and then whenever something is new.

        Args:
            job: archived ones are delivered once.
            fields: query fields of jobs; a change of one of them is news.
            deliver: sends news; nothing more is sent before it is done.
            last_serial: log entries up to this one are known.
            keep_alive: says that nothing happened.
            keep_alive_s: after how long.

        Returns:
            None: there is no such job.

        Raises:
            PrereqError: wrong_input: an unknown field.
        """
        check_fields(fields)
        if self._look(job) is None:
            archived = await self._find(job)
            if archived is None:
                return None
            self._gone[job] = archived
        subscription = Subscription(self, job, fields, last_serial, deliver, keep_alive, keep_alive_s)
        self._subscriptions.setdefault(job, {})[id(subscription)] = subscription
        subscription.stay_alive()
        subscription.mark()
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """A subscription is over."""
        watchers = self._subscriptions.get(subscription.job, {})
        watchers.pop(id(subscription), None)
        if not watchers:
            self._subscriptions.pop(subscription.job, None)
            self._gone.pop(subscription.job, None)

    def keep(self, view: JobView) -> None:
        """A job goes to the archive: those who watch it get its end all the same."""
        if view.job.id in self._subscriptions:
            self._gone[view.job.id] = view

    async def wait_for_change(
        self,
        job: JobId,
        fields: Sequence[str],
        previous_values: object,
        previous_serial: int | None,
        timeout_s: float,
    ) -> list[Any] | Literal["nochange"] | None:
        """What is new about a job since the client looked last (jobqueue.md section 7).

        Args:
            job: which one.
            fields: query fields.
            previous_values: what the client knows of them; JSON values.
            previous_serial: newest log entry it knows; None: it wants all.
            timeout_s: how long to wait for something new, 89 s at most.

        Returns:
            `[values, log entries]`, `nochange`, or None: there is no such job.

        Raises:
            PrereqError: wrong_input: an unknown field.
        """
        answer: Deferred[list[Any] | Literal["nochange"]] = Deferred()
        collected: list[LogEntry] = []

        async def deliver(change: JobChange) -> None:
            collected.extend(change.entries)
            if answer.called:
                return
            is_new = collected or not _same(change.values, previous_values)
            if is_new or change.is_final or _is_ending(self.look(job)):
                answer.callback([change.values, list(collected)])

        subscription = await self.subscribe(job, fields, deliver, last_serial=previous_serial or 0)
        if subscription is None:
            return None
        wait_s = min(max(0.0, timeout_s), LONGEST_WAIT_S)
        timer = self.reactor.callLater(wait_s, lambda: None if answer.called else answer.callback(NO_CHANGE))
        try:
            return await answer
        finally:
            subscription.cancel()
            if timer.active():
                timer.cancel()


def _is_ending(view: JobView | None) -> bool:
    return view is None or job_status(view.job) not in _UNDER_WAY


def _same(values: list[Any], known: object) -> bool:
    if not isinstance(known, (list, tuple)):
        return False
    return bool(msgspec.to_builtins(values) == list(known))

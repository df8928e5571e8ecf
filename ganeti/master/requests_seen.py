"""Submissions seen lately: one that comes again because its answer was lost makes no second job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from twisted.internet.defer import Deferred

from ganeti.interfaces import IClock
from ganeti.model.ids import JobId
from ganeti.model.job import Request

REMEMBERED_S = 900.0
"""A request id means the same submission for so long."""

Submit = Callable[[Sequence[int]], Awaitable[Mapping[int, JobId]]]


class RequestsSeen:
    """Jobs by the id of the request they came with, for a quarter of an hour.

    Args:
        clock: the time of day.
    """

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._jobs: dict[str, dict[int, JobId]] = {}
        self._since: dict[str, float] = {}
        self._in_progress: dict[str, list[Deferred[None]]] = {}

    def remember(self, request: Request, job: JobId, received_s: float) -> None:
        """A job of an earlier daemon came with a request."""
        if self._clock.seconds() - received_s < REMEMBERED_S:
            self._jobs.setdefault(request.id, {})[request.index] = job
            self._since.setdefault(request.id, received_s)

    def known(self, request_id: str | None) -> dict[int, JobId]:
        """Jobs, by their place in the batch, that a request made already."""
        return dict(self._jobs.get(request_id, {})) if request_id is not None else {}

    async def once(self, request_id: str | None, count: int, submit: Submit) -> Mapping[int, JobId]:
        """Submit what this request did not submit already.

        Args:
            request_id: None: it cannot be told from others.
            count: how many jobs it is.
            submit: gets the places that are missing, gives the jobs that were taken.

        Returns:
            All jobs of the request, by place.
        """
        if request_id is None:
            return await submit(range(count))
        while request_id in self._in_progress:
            waiter: Deferred[None] = Deferred()
            self._in_progress[request_id].append(waiter)
            await waiter
        known = self._jobs.get(request_id, {})
        missing = [index for index in range(count) if index not in known]
        if not missing:
            return known
        self._in_progress[request_id] = []
        try:
            jobs = self._jobs.setdefault(request_id, {})
            jobs.update(await submit(missing))
            self._since.setdefault(request_id, self._clock.seconds())
        finally:
            for waiter in self._in_progress.pop(request_id):
                waiter.callback(None)
            self._forget_old()
        return jobs

    def _forget_old(self) -> None:
        oldest = self._clock.seconds() - REMEMBERED_S
        # The dictionary has them in the order in which they came.
        for request_id, since in tuple(self._since.items()):
            if since > oldest:
                break
            del self._since[request_id]
            del self._jobs[request_id]

"""Answers the requests of clients; one object for each connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from ganeti.errors import JobLost
from ganeti.interfaces import IConfig, IQueries
from ganeti.io.watcher_pause import WatcherPause
from ganeti.logic.cluster_info import cluster_info, own_architecture
from ganeti.logic.tags import tags_of
from ganeti.master import client_requests as requests
from ganeti.master.client_requests import read
from ganeti.master.job_queue import Changed, JobQueue
from ganeti.master.job_watch import JobChange, JobWatch, Subscription
from ganeti.version import PROTOCOL_VERSION, RELEASE
from ganeti.wire import master_commands as commands
from ganeti.wire.locator import GuardedLocator

Answer = dict[str, Any]

SLICE_ROWS = 500
"""Rows of a long answer that are encoded at a time."""


class Pushes(Protocol):
    """Where news go."""

    def push(self, command: type[commands.PushedCommand], args: list[Any]) -> None:
        """Send something that wants no answer; does nothing once the connection is gone."""


class MasterApi:
    """What requests are answered from.

    Args:
        queue: the jobs.
        watch: news of jobs.
        queries: everything else.
        config: the configuration.
        pause: of the watcher.
        later: gives the reactor a turn in the middle of long work.
    """

    def __init__(
        self,
        queue: JobQueue,
        watch: JobWatch,
        queries: IQueries,
        config: IConfig,
        pause: WatcherPause,
        later: Callable[[], Awaitable[None]],
    ) -> None:
        self.queue = queue
        self.watch = watch
        self.queries = queries
        self.config = config
        self.pause = pause
        self._later = later

    def config_values(self, names: list[str]) -> list[Any]:
        """Values of the configuration by their established names; None for unknown ones."""
        cluster = self.config.current()
        settings = cluster.settings
        values: dict[str, Any] = {
            "cluster_name": cluster.name,
            "master_node": cluster.master.name,
            "watcher_pause": self.pause.until(),
            "drain_flag": self.queue.is_drained,
            "modify_ssh_setup": settings.modify_ssh_setup,
            "ssh_key_type": settings.ssh_key_type,
            "ssh_key_bits": settings.ssh_key_bits,
        }
        return [values.get(name) for name in names]

    def cluster_info(self) -> dict[str, Any]:
        """Settings and versions."""
        return cluster_info(self.config.current(), architecture=own_architecture())

    async def in_slices(self, result: Any) -> Any:
        """An answer whose rows are encoded already, some at a time, if there are many."""
        rows = result.get("data") if isinstance(result, dict) else None
        if not isinstance(rows, (list, tuple)) or len(rows) <= SLICE_ROWS:
            return result
        parts = []
        for start in range(0, len(rows), SLICE_ROWS):
            parts.append(msgspec.json.encode(rows[start : start + SLICE_ROWS])[1:-1])
            await self._later()
        return {**result, "data": msgspec.Raw(b"[" + b",".join(parts) + b"]")}


@implementer(IPushProducer)
class Outlet:
    """Says when a client that reads slowly can take more news, and hears no more of it until then."""

    def __init__(self) -> None:
        self.inlet: IPushProducer | None = None
        """Requests of the client: each of them would make the pile of unread answers higher."""
        self._is_paused = False
        self._waiting: list[Deferred[None]] = []

    async def ready(self) -> None:
        """Wait until what was sent before has gone out."""
        if self._is_paused:
            waiter: Deferred[None] = Deferred(lambda gone: self._waiting.remove(gone))
            self._waiting.append(waiter)
            await waiter

    def pauseProducing(self) -> None:
        """The client does not read."""
        self._is_paused = True
        if self.inlet is not None:
            self.inlet.pauseProducing()

    def resumeProducing(self) -> None:
        """It reads again."""
        self._is_paused = False
        if self.inlet is not None:
            self.inlet.resumeProducing()
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def stopProducing(self) -> None:
        """The connection ends; those who wait are cancelled with their subscriptions."""


class ClientRequests(GuardedLocator):
    """Answers the requests of one connection.

    Args:
        api: answers.
        outlet: when news may be sent.
    """

    def __init__(self, api: MasterApi, outlet: Outlet) -> None:
        self._api = api
        self._outlet = outlet
        self._pushes: Pushes | None = None
        self._subscriptions: dict[int, Subscription] = {}
        self._last_subscription = 0

    def attach(self, pushes: Pushes) -> None:
        """There is a connection now, on which news are sent."""
        self._pushes = pushes

    def close(self) -> None:
        """The connection is gone: nothing is watched any more."""
        self._pushes = None
        for subscription in self._subscriptions.values():
            subscription.cancel()
        self._subscriptions.clear()

    @commands.SubmitJob.responder
    async def submit_job(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """One job."""
        wanted = read("SubmitJob", args, requests.SubmitArgs)
        job = await self._api.queue.submit(
            wanted.opcodes, request_id=request_id, drained_ok=wanted.drained_ok
        )
        return {"result": job}

    @commands.SubmitManyJobs.responder
    async def submit_many_jobs(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """Several jobs."""
        wanted = read("SubmitManyJobs", args, requests.SubmitManyArgs)
        return {"result": await self._api.queue.submit_many(wanted.jobs, request_id=request_id)}

    @commands.Query.responder
    async def query(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """Rows."""
        wanted = read("Query", args, requests.QueryArgs)
        result = await self._api.queries.query(
            wanted.what, wanted.fields, wanted.qfilter, cached=wanted.cached
        )
        return {"result": await self._api.in_slices(result)}

    @commands.QueryFields.responder
    def query_fields(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """Fields."""
        wanted = read("QueryFields", args, requests.QueryFieldsArgs)
        return {"result": self._api.queries.query_fields(wanted.what, wanted.fields)}

    @commands.QueryClusterInfo.responder
    def query_cluster_info(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """The cluster."""
        return {"result": self._api.cluster_info()}

    @commands.QueryConfigValues.responder
    def query_config_values(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """Single values."""
        wanted = read("QueryConfigValues", args, requests.NamesArgs)
        return {"result": self._api.config_values(wanted.names)}

    @commands.QueryTags.responder
    def query_tags(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """Tags of an object."""
        wanted = read("QueryTags", args, requests.TagsArgs)
        return {"result": sorted(tags_of(self._api.config.current(), wanted.kind, wanted.name))}

    @commands.WaitForJobChange.responder
    async def wait_for_job_change(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """What is new about a job."""
        wanted = read("WaitForJobChange", args, requests.WaitArgs)
        change = await self._api.watch.wait_for_change(
            wanted.job, wanted.fields, wanted.previous_values, wanted.previous_serial, wanted.timeout_s
        )
        return {"result": change}

    @commands.WatchJob.responder
    async def watch_job(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """News of a job from now on."""
        wanted = read("WatchJob", args, requests.WatchArgs)
        self._last_subscription += 1
        number = self._last_subscription
        subscription = await self._api.watch.subscribe(
            wanted.job,
            wanted.fields,
            lambda change: self._send(number, change),
            last_serial=wanted.previous_serial or 0,
            keep_alive=lambda: self._keep_waiting(number),
            keep_alive_s=max(1.0, wanted.timeout_s / 2),
        )
        if subscription is None:
            raise JobLost(f"Job {wanted.job} not found; it does not exist")
        self._subscriptions[number] = subscription
        if self._pushes is None:
            self.close()
        return {"result": number}

    @commands.UnwatchJob.responder
    def unwatch_job(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """No more news."""
        subscription = self._subscriptions.pop(read("UnwatchJob", args, requests.JobArgs).id, None)
        if subscription is not None:
            subscription.cancel()
        return {"result": None}

    @commands.CancelJob.responder
    async def cancel_job(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """Cancel."""
        wanted = read("CancelJob", args, requests.JobArgs)
        return _pair(await self._api.queue.cancel(wanted.id))

    @commands.ArchiveJob.responder
    async def archive_job(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """Archive one."""
        wanted = read("ArchiveJob", args, requests.JobArgs)
        return {"result": await self._api.queue.archive(wanted.id)}

    @commands.AutoArchiveJobs.responder
    async def auto_archive_jobs(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """Archive old ones."""
        wanted = read("AutoArchiveJobs", args, requests.AutoArchiveArgs)
        return {"result": await self._api.queue.auto_archive(wanted.age_s, wanted.timeout_s)}

    @commands.ChangeJobPriority.responder
    async def change_job_priority(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """Another priority."""
        wanted = read("ChangeJobPriority", args, requests.PriorityArgs)
        return _pair(await self._api.queue.change_priority(wanted.id, wanted.priority))

    @commands.SetDrainFlag.responder
    async def set_drain_flag(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """Take no new jobs, or take them again."""
        wanted = read("SetDrainFlag", args, requests.FlagArgs)
        await self._api.queue.set_drained(drained=wanted.flag)
        return {"result": None}

    @commands.SetWatcherPause.responder
    def set_watcher_pause(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """Stop the watcher for a while."""
        return {"result": self._api.pause.set(read("SetWatcherPause", args, requests.PauseArgs).until)}

    @commands.Version.responder
    def version(self, args: Any, request_id: str | None, trace: str | None) -> Answer:
        """Versions."""
        return {"result": {"release": RELEASE, "protocol": PROTOCOL_VERSION}}

    async def _send(self, number: int, change: JobChange) -> None:
        await self._outlet.ready()
        if self._pushes is not None:
            self._pushes.push(commands.JobChanged, [number, change.as_json()])
        if change.is_final:
            self._subscriptions.pop(number, None)

    def _keep_waiting(self, number: int) -> None:
        if self._pushes is not None:
            self._pushes.push(commands.KeepWaiting, [number])


def _pair(changed: Changed) -> Answer:
    return {"result": [changed.done, changed.text]}

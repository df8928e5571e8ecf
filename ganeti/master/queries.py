"""Answers queries: finds out what the nodes say where that is asked for, then walks the rows.

Rows are walked in slices, so that a query of a large cluster keeps nobody waiting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from twisted.internet.defer import Deferred, gatherResults
from zope.interface import implementer

from ganeti.errors import ErrorCode, PrereqError
from ganeti.interfaces import IConfig, INodes, IQueries
from ganeti.io.watcher_pause import WatcherPause
from ganeti.logic.cluster_info import own_architecture
from ganeti.logic.fields import group, instance, node
from ganeti.logic.fields.base import Absent, Field, Status, Table, unknown_definition
from ganeti.logic.fields.others import (
    CACHE_FIELDS,
    CLUSTER_FIELDS,
    JOB_FIELDS,
    LOCK_FIELDS,
    OS_FIELDS,
    ClusterRow,
    MissingJob,
)
from ganeti.logic.os_rows import os_rows
from ganeti.logic.qlang import CompiledFilter, compile_filter
from ganeti.master.cluster_state import ClusterState
from ganeti.master.job_queue import JobQueue
from ganeti.model.calls.instances import InstanceConsoleInfo
from ganeti.model.calls.os import OsDiagnose
from ganeti.model.calls.outcome import Answer
from ganeti.model.calls.report import KnownReport
from ganeti.model.calls.system import NodeInfoResult
from ganeti.model.cluster import Cluster
from ganeti.model.filled import fill_instance
from ganeti.model.ids import JobId, NodeId
from ganeti.model.instance import Instance
from ganeti.model.names import nice_key
from ganeti.model.node import Node

SLICE_ROWS = 100
LIVE_TIMEOUT_S = 20.0
"""A node that does not answer in this time counts as silent in a list."""

KEYS = {
    "instance": "name",
    "node": "name",
    "group": "name",
    "job": "id",
    "lock": None,
    "os": None,
    "cluster": None,
    "cache": None,
}
TABLES: Mapping[str, Table] = {
    "instance": instance.FIELDS,
    "node": node.FIELDS,
    "group": group.FIELDS,
    "job": JOB_FIELDS,
    "lock": LOCK_FIELDS,
    "os": OS_FIELDS,
    "cluster": CLUSTER_FIELDS,
    "cache": CACHE_FIELDS,
}

Rows = tuple[Iterable[Any], Any]
"""Items in their order, and the world in which their fields are looked up."""


@implementer(IQueries)
class Queries:
    """Rows of every resource.

    Args:
        config: the configuration.
        nodes: asked for what is not kept.
        state: what the nodes say.
        queue: the jobs; set by `attach` once it is there.
        locks: gives rows name, mode, owner, pending.
        pause: of the watcher.
        later: gives the reactor a turn.
    """

    def __init__(
        self,
        config: IConfig,
        nodes: INodes,
        state: ClusterState,
        locks: Callable[[], Sequence[Mapping[str, Any]]],
        pause: WatcherPause,
        later: Callable[[], Awaitable[None]],
    ) -> None:
        self._config = config
        self._nodes = nodes
        self._state = state
        self._locks = locks
        self._pause = pause
        self._later = later
        self._queue: JobQueue | None = None

    def attach(self, queue: JobQueue) -> None:
        """The queue of jobs, which needs operations, which need queries."""
        self._queue = queue

    def query_fields(self, what: str, fields: Sequence[str] | None) -> Mapping[str, Any]:
        """Definitions of fields; see `IQueries`."""
        table = _table(what)
        names = fields or sorted(table, key=nice_key)
        return {
            "fields": [
                table[name].definition() if name in table else unknown_definition(name) for name in names
            ]
        }

    async def query(
        self, what: str, fields: Sequence[str], qfilter: list[Any] | None, *, cached: bool = True
    ) -> Mapping[str, Any]:
        """Rows; see `IQueries`.

        Raises:
            PrereqError: an unknown resource, or an object asked for by name that is not there.
            FilterError, ParameterError: the filter is wrong.
        """
        table = _table(what)
        chosen = [table.get(name) for name in fields]
        compiled = compile_filter(qfilter, table, KEYS[what])
        used = {*(field.name for field in chosen if field is not None), *compiled.fields}
        live = {name for name in used if table[name].is_live}
        items, world = await self._rows(what, compiled, live, used, cached=cached)
        data = await self._walk(items, world, chosen, compiled)
        return {**self.query_fields(what, list(fields)), "data": data}

    async def _walk(
        self,
        items: Iterable[Any],
        world: Any,
        fields: Sequence[Field[Any, Any] | None],
        compiled: CompiledFilter,
    ) -> list[list[list[Any]]]:
        getters = [None if field is None else field.get for field in fields]
        rows: list[list[list[Any]]] = []
        for number, item in enumerate(items, 1):
            if compiled.wanted is not None or compiled.test(item, world):
                rows.append([_cell(None if get is None else get(item, world), get) for get in getters])
            if number % SLICE_ROWS == 0:
                await self._later()
        return rows

    async def _rows(
        self, what: str, compiled: CompiledFilter, live: set[str], used: set[str], *, cached: bool
    ) -> Rows:
        cluster = self._config.current()
        match what:
            case "instance":
                instances = _chosen(cluster.instances.values(), compiled, cluster.instance)
                return instances, await self._instance_world(cluster, instances, live, cached=cached)
            case "node":
                nodes = _chosen(cluster.nodes.values(), compiled, cluster.node)
                facts = await self._facts(nodes, cached=cached) if live else {}
                return nodes, node.NodeWorld.of(cluster, facts)
            case "group":
                groups = _chosen(cluster.groups.values(), compiled, cluster.group)
                return groups, group.GroupWorld.of(cluster)
            case "job":
                return await self._jobs(compiled, with_archived="archived" in used), None
            case "lock":
                return sorted(self._locks(), key=lambda row: nice_key(row["name"])), None
            case "cache":
                return list(self._state.rows()), None
            case "os":
                return await self._operating_systems(cluster), None
        return [self._cluster_row(cluster)], None

    async def _instance_world(
        self, cluster: Cluster, instances: Sequence[Instance], live: set[str], *, cached: bool
    ) -> instance.InstanceWorld:
        if not live:
            return instance.InstanceWorld.of(cluster, {}, {})
        online = [each for each in cluster.nodes.values() if each.vm_capable and not each.offline]
        reports = await self._reports(online, cached=cached)
        running = {uuid: report.running for uuid, report in reports.items() if not report.problems}
        consoles = await self._consoles(cluster, instances) if "console" in live else {}
        return instance.InstanceWorld.of(cluster, running, consoles)

    async def _consoles(
        self, cluster: Cluster, instances: Sequence[Instance]
    ) -> Mapping[str, Mapping[str, Any]]:
        by_node: dict[str, list[Instance]] = {}
        for each in instances:
            if not cluster.nodes[each.primary_node].offline:
                by_node.setdefault(each.primary_node, []).append(each)
        # At the same time, so that nodes that hang are waited for once.
        asked = [Deferred.fromCoroutine(self._consoles_on(cluster, members)) for members in by_node.values()]
        parts: list[Mapping[str, Mapping[str, Any]]] = await gatherResults(asked, consumeErrors=True)
        return {name: console for part in parts for name, console in part.items()}

    async def _consoles_on(
        self, cluster: Cluster, members: Sequence[Instance]
    ) -> Mapping[str, Mapping[str, Any]]:
        primary = cluster.nodes[members[0].primary_node]
        call = InstanceConsoleInfo(instances=tuple(fill_instance(cluster, each) for each in members))
        outcomes = await self._nodes.each([primary], call, timeout_s=LIVE_TIMEOUT_S, patient=False)
        outcome = outcomes[primary.uuid]
        if not isinstance(outcome, Answer):
            return {}
        return {name: msgspec.to_builtins(info) for name, info in outcome.value.items()}

    async def _facts(self, nodes: Sequence[Node], *, cached: bool) -> Mapping[NodeId, NodeInfoResult]:
        reports = await self._reports([each for each in nodes if not each.offline], cached=cached)
        return {uuid: report.info for uuid, report in reports.items()}

    async def _reports(self, nodes: Sequence[Node], *, cached: bool) -> Mapping[NodeId, KnownReport]:
        outcomes = await self._state.reports(nodes, cached=cached, timeout_s=LIVE_TIMEOUT_S, patient=False)
        return {uuid: outcome.value for uuid, outcome in outcomes.items() if isinstance(outcome, Answer)}

    async def _jobs(self, compiled: CompiledFilter, *, with_archived: bool) -> list[Any]:
        queue = self._queue
        if queue is None:
            return []
        if compiled.wanted is not None:
            found: list[Any] = []
            for wanted in dict.fromkeys(compiled.wanted):
                if isinstance(wanted, bool) or not isinstance(wanted, int):
                    raise PrereqError(f"{wanted!r} is not the number of a job")
                found.append(await queue.find(JobId(wanted)) or MissingJob(wanted))
            return found
        views = list(queue.jobs())
        if with_archived:
            for job in await queue.archived_ids():
                view = await queue.find(job)
                if view is not None:
                    views.append(view)
        return sorted(views, key=lambda view: view.job.id)

    async def _operating_systems(self, cluster: Cluster) -> list[Any]:
        asked = [each for each in cluster.nodes.values() if each.vm_capable and not each.offline]
        outcomes = await self._nodes.each(asked, OsDiagnose(), timeout_s=LIVE_TIMEOUT_S, patient=False)
        found = {uuid: outcome.value for uuid, outcome in outcomes.items() if isinstance(outcome, Answer)}
        return os_rows(cluster.settings, found)

    def _cluster_row(self, cluster: Cluster) -> ClusterRow:
        return ClusterRow(
            cluster=cluster,
            architecture=own_architecture(),
            drain_flag=self._queue.is_drained if self._queue is not None else False,
            watcher_pause=self._pause.until(),
        )


def _table(what: str) -> Table:
    table = TABLES.get(what)
    if table is None:
        raise PrereqError(
            f"there is no resource {what!r}; known: {', '.join(sorted(TABLES))}", code=ErrorCode.INPUT
        )
    return table


def _chosen(everything: Iterable[Any], compiled: CompiledFilter, find: Callable[[str], Any]) -> list[Any]:
    """Those asked for by name in the order of asking, else all in natural order."""
    if compiled.wanted is None:
        return sorted(everything, key=lambda item: nice_key(item.name))
    return [find(str(name)) for name in compiled.wanted]


def _cell(value: Any, get: object) -> list[Any]:
    if get is None:
        return [int(Status.UNKNOWN), None]
    if isinstance(value, Absent):
        return [int(value.status), None]
    return [0, value]

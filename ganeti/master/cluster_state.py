"""What the nodes say, out of the cache or asked: the one way by which lists, placement and capacity know it.

    reports = await state.reports(cluster.nodes.values())        # asks those of which nothing counts
    observed = ObservedNodes(pool, state)                        # what other calls tell is compared

Full reports alone get into the cache (S2.3-044, S2.3-045); what calls for other purposes tell by the way is
compared with it and takes away what it contradicts (S2.3-048), and so does a node that does not answer.
Whoever uses what is more than half a minute old lets the nodes be asked in the background, so that whoever
looks again sees what they say now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from ganeti.errors import NodeTimeout, NodeUnreachable, NonsenseReported
from ganeti.interfaces import IClock, IClusterState, IConfig, INodes
from ganeti.logic.node_figures import storage_units
from ganeti.logic.plausible import report_nonsense
from ganeti.logic.state_cache import StateCache
from ganeti.master.meanwhile import beside
from ganeti.model.calls.base import NodeCall
from ganeti.model.calls.instances import AllInstancesInfo, InstanceInfo
from ganeti.model.calls.outcome import Answer, NodeFailed, Outcome
from ganeti.model.calls.report import KnownReport, NodeReport, Report
from ganeti.model.calls.system import NodeInfo
from ganeti.model.capacity import CapacityParams, GroupCapacity
from ganeti.model.cluster import Cluster
from ganeti.model.delta import Delta
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.node import Node
from ganeti.wire.trace import no_trace

R = TypeVar("R")

FRESH_S = 30.0
"""What is older is still used, but asked for again in the background."""


@implementer(IClusterState)
class ClusterState:
    """The state cache of a cluster, and how it is fed.

    A report with figures that cannot be true counts as no answer.

    Args:
        config: whose nodes count; its changes make worthless what they touch.
        nodes: asked.
        clock: ages.
    """

    log = Logger()

    def __init__(self, config: IConfig, nodes: INodes, clock: IClock) -> None:
        self._config = config
        self._nodes = nodes
        self._clock = clock
        self._cache = StateCache()
        self._asking: set[NodeId] = set()
        """Nodes that are being asked in the background."""

    async def reports(
        self,
        nodes: Collection[Node],
        *,
        cached: bool = True,
        timeout_s: float | None = None,
        patient: bool = True,
    ) -> Mapping[NodeId, Outcome[KnownReport]]:
        """What each node tells; see `IClusterState`."""
        found: dict[NodeId, Outcome[KnownReport]] = {}
        asked: list[Node] = []
        stale: list[Node] = []
        now = self._clock.seconds()
        for node in nodes:
            known = self._cache.node(node.uuid, now=now) if cached else None
            if known is None:
                asked.append(node)
            else:
                found[node.uuid] = Answer(known)
                if now - known.at > FRESH_S and node.uuid not in self._asking:
                    stale.append(node)
        if stale:
            self._ask_in_background(stale)
        if asked:
            ticket = self._cache.ticket()
            call = full_report(self._config.current())
            answers = await self._nodes.each(asked, call, timeout_s=timeout_s, patient=patient)
            for uuid, outcome in answers.items():
                found[uuid] = self._learned(uuid, outcome, ticket)
        return found

    def _ask_in_background(self, nodes: Collection[Node]) -> None:
        uuids = {node.uuid for node in nodes}
        self._asking |= uuids

        async def ask() -> None:
            try:
                await self.reports(nodes, cached=False, patient=False)
            finally:
                self._asking -= uuids

        with no_trace():
            task = Deferred.fromCoroutine(ask())
        task.addErrback(lambda failure: self.log.failure("nodes cannot be asked for news", failure=failure))

    async def refresh(self, group: GroupId, nodes: Collection[Node]) -> Mapping[NodeId, Outcome[KnownReport]]:
        """Ask a whole group anew; see `IClusterState`."""
        self._cache.drop_group(group)
        return await self.reports(nodes, cached=False)

    def _learned(self, node: NodeId, outcome: Outcome[Report], ticket: int) -> Outcome[KnownReport]:
        if isinstance(outcome, NodeFailed):
            self._cache.drop_nodes([node])
            return outcome
        told = outcome.value
        nonsense = ", ".join(report_nonsense(told))
        if nonsense:
            self._cache.drop_nodes([node])
            text = f"what it reports cannot be true: {nonsense}"
            self.log.warn("{node}: {text}", node=node, text=text)
            return NodeFailed(NonsenseReported(text))
        known = KnownReport(
            info=told.info, running=told.running, problems=told.problems, at=self._clock.seconds()
        )
        if told.problems:
            self._cache.drop_nodes([node])
        else:
            self._cache.learned(self._config.current(), node, known, ticket)
        return Answer(known)

    # --- capacity

    def ticket(self) -> int:
        """To be had before a view is taken; see `IClusterState`."""
        return self._cache.ticket()

    def capacity(self, group: GroupId, params: CapacityParams) -> GroupCapacity | None:
        """What is known of the capacity of a group; see `IClusterState`."""
        return self._cache.capacity(group, params, now=self._clock.seconds())

    def computed(self, group: GroupId, capacity: GroupCapacity, ticket: int) -> None:
        """Keep a capacity; see `IClusterState`."""
        if group in self._config.current().groups:
            self._cache.computed(group, capacity, ticket)

    # --- what does not count any more

    def forget(self, nodes: Iterable[NodeId] | None) -> None:
        """What is known of these nodes, or of all, does not count; see `IClusterState`."""
        if nodes is None:
            self._cache.drop_all()
        else:
            self._cache.drop_nodes(nodes)

    def config_changed(self, old: Cluster, new: Cluster, changes: Sequence[Delta]) -> None:
        """The configuration changed."""
        for delta in changes:
            self._cache.config_changed(old, new, delta)

    def told(self, node: NodeId, call: NodeCall[Any], result: Any) -> None:
        """A call for another purpose told something about a node."""
        match call:
            case NodeInfo():
                self._cache.seen(node, info=result)
            case AllInstancesInfo(hypervisors=hypervisors):
                is_all = set(hypervisors) >= set(self._config.current().settings.enabled_hypervisors)
                self._cache.seen(node, running=result, is_all=is_all)
            case InstanceInfo(name=name):
                if result is None:
                    self._cache.seen(node, absent=(name,))
                else:
                    self._cache.seen(node, running={name: result})

    # --- for whoever looks

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Everything that counts, as `group`, `kind` (node, capacity), `name` and `age` in seconds."""
        cluster = self._config.current()
        for group, node, age in self._cache.rows(now=self._clock.seconds()):
            if group in cluster.groups and (node is None or node in cluster.nodes):
                name = cluster.groups[group].name
                yield {
                    "group": name,
                    "kind": "capacity" if node is None else "node",
                    "name": name if node is None else cluster.nodes[node].name,
                    "age": age,
                }


_TELLING = (NodeInfo, AllInstancesInfo, InstanceInfo)


@implementer(INodes)
class ObservedNodes:
    """Nodes whose answers are compared with what is known of them.

    Args:
        nodes: called.
        state: told of what they say, and of those that do not answer.
    """

    def __init__(self, nodes: INodes, state: ClusterState) -> None:
        self._nodes = nodes
        self._state = state

    async def call(self, node: Node, call: NodeCall[R], *, timeout_s: float | None = None) -> R:
        """Call a function; see `INodes`."""
        try:
            result = await self._nodes.call(node, call, timeout_s=timeout_s)
        except (NodeUnreachable, NodeTimeout):
            self._state.forget([node.uuid])
            raise
        if isinstance(call, _TELLING):
            self._state.told(node.uuid, call, result)
        return result

    async def each(
        self,
        nodes: Collection[Node],
        call: NodeCall[R],
        *,
        timeout_s: float | None = None,
        patient: bool = True,
    ) -> Mapping[NodeId, Outcome[R]]:
        """Call the same on many nodes; see `INodes`."""
        outcomes = await self._nodes.each(nodes, call, timeout_s=timeout_s, patient=patient)
        for uuid, outcome in outcomes.items():
            self._note(uuid, call, outcome)
        return outcomes

    async def each_own(
        self, calls: Collection[tuple[Node, NodeCall[R]]], *, timeout_s: float | None = None
    ) -> Mapping[NodeId, Outcome[R]]:
        """Call one function on many nodes, with arguments of their own; see `INodes`."""
        outcomes = await self._nodes.each_own(calls, timeout_s=timeout_s)
        for node, call in calls:
            self._note(node.uuid, call, outcomes[node.uuid])
        return outcomes

    def meanwhile(
        self, node: Node, call: NodeCall[R], *, timeout_s: float | None = None
    ) -> AbstractAsyncContextManager[Awaitable[R]]:
        """Call a function and go on; see `INodes`."""
        return beside(self.call(node, call, timeout_s=timeout_s))

    def _note(self, node: NodeId, call: NodeCall[Any], outcome: Outcome[Any]) -> None:
        if isinstance(outcome, NodeFailed):
            if isinstance(outcome.error, (NodeUnreachable, NodeTimeout)):
                self._state.forget([node])
        elif isinstance(call, _TELLING):
            self._state.told(node, call, outcome.value)


def full_report(cluster: Cluster) -> NodeReport:
    """The call by which a node tells everything that anybody asks."""
    settings = cluster.settings
    return NodeReport(
        storage_units=storage_units(cluster, settings.enabled_disk_templates),
        hypervisors=settings.enabled_hypervisors,
    )

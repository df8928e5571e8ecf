"""Keeps the ssconf files of all nodes up to date, in the background, after changes of the cluster.

    distributor = SsconfDistributor(reactor, config, nodes)
    distributor.start()
    failures = await distributor.redistribute()      # everything, to everybody, now

One round at a time: a node never gets an older text after a newer one. Each node is sent what
differs from what it has; one that failed gets everything with a later round. Every round has a stamp,
so that nodes themselves refuse what is older than what they have, whoever brings it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from ganeti.errors import CopyBehind, GanetiError
from ganeti.interfaces import IConfig, INodes
from ganeti.logic.ssconf import changed, ssconf_files
from ganeti.master.diffusion import Diffusion
from ganeti.model.calls.outcome import Answer, NodeFailed, Outcome
from ganeti.model.calls.system import Stamp, WriteSsconf
from ganeti.model.cluster import Cluster
from ganeti.model.delta import Delta
from ganeti.model.ids import NodeId
from ganeti.model.node import Node

ROUND_S = 1.0
"""Between the change and the round, in which further changes may come."""
CONNECT_S = 5.0
"""The first round waits so long where groups spread files: only nodes with a connection take part."""
RETRY_S = 60.0
ANSWER_S = 30.0


class _Sent:
    """What nodes were sent that are alike."""

    def __init__(self, texts: Mapping[str, str], stamp: Stamp | None) -> None:
        self.texts = texts
        self.stamp = stamp


_NOTHING = _Sent({}, None)

Compute = Callable[[Cluster], Deferred[dict[str, str]]]


class IDistributorReactor(IReactorTime, IReactorThreads):
    """Parts of the reactor that the distributor uses."""


class SsconfDistributor:
    """Sends ssconf files to nodes.

    Args:
        reactor: time, and a thread in which the texts are made.
        config: the cluster.
        nodes: to call functions on them.
        generation: of this master; nodes refuse older ones. May be set until `start`.
        diffusion: other ways to large groups; None: every node is called.
        compute: makes the texts; given by tests.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IDistributorReactor,
        config: IConfig,
        nodes: INodes,
        *,
        generation: int = 0,
        diffusion: Diffusion | None = None,
        compute: Compute | None = None,
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._nodes = nodes
        self.generation = generation
        self._diffusion = diffusion
        self._compute = compute or self._compute_in_thread
        self._number = 0
        self._sent: dict[NodeId, _Sent] = {}
        self._rounds = DeferredLock()
        self._timer: IDelayedCall | None = None
        self._is_in_round = False
        self._round: Deferred[None] | None = None
        self._end_subscription: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin with a round for everybody."""
        self._end_subscription = self._config.subscribe(self._cluster_changed)
        self._round_in(CONNECT_S if self._config.current().settings.diffusion_min_nodes else 0.0)

    async def stop(self) -> None:
        """Send nothing more."""
        if self._end_subscription is not None:
            self._end_subscription()
            self._end_subscription = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._round is not None:
            self._round.cancel()

    async def redistribute(self) -> Mapping[str, str]:
        """Send everything to every online node now; names of nodes that failed, and why.

        Raises:
            ConfigurationError: a file would be too long.
        """
        await self._rounds.acquire()
        try:
            self._sent.clear()
            return await self._send_all()
        finally:
            self._rounds.release()

    def _cluster_changed(self, old: Cluster, new: Cluster, changes: Sequence[Delta]) -> None:
        same = all(
            getattr(old, name) is getattr(new, name)
            for name in ("settings", "nodes", "groups", "instances", "networks")
        )
        if not same:
            # Whoever is new has nothing at all, and is soon asked for its master.
            has_newcomers = old.nodes is not new.nodes and any(uuid not in old.nodes for uuid in new.nodes)
            self._round_in(0.0 if has_newcomers else ROUND_S)

    def _round_in(self, delay_s: float) -> None:
        if self._end_subscription is None:
            return
        if self._timer is not None:
            if self._timer.getTime() <= self._reactor.seconds() + delay_s:
                return
            self._timer.cancel()
        self._timer = self._reactor.callLater(delay_s, self._begin_round)

    def _begin_round(self) -> None:
        self._timer = None
        if self._is_in_round:
            # Look again after the round that is under way.
            self._round_in(ROUND_S)
            return
        self._is_in_round = True
        self._round = Deferred.fromCoroutine(self._one_round())

    async def _one_round(self) -> None:
        try:
            await self._rounds.acquire()
            try:
                failures = await self._send_all()
            finally:
                self._rounds.release()
        except CancelledError:
            return
        except GanetiError as error:
            self.log.error("nodes do not get new ssconf files: {error}", error=str(error))
            self._round_in(RETRY_S)
        except Exception:
            self.log.failure("distribution of ssconf files failed")
            self._round_in(RETRY_S)
        else:
            if failures:
                self._round_in(RETRY_S)
        finally:
            self._is_in_round = False

    async def _send_all(self) -> Mapping[str, str]:
        cluster = self._config.current()
        texts = await self._compute(cluster)
        online = {node.uuid: node for node in cluster.nodes.values() if not node.offline}
        self._sent = {uuid: sent for uuid, sent in self._sent.items() if uuid in online}
        self._number += 1
        new = _Sent(texts, Stamp(generation=self.generation, number=self._number))
        failures: dict[str, str] = {}
        for known, nodes in self._by_what_they_have(online.values()):
            differing = changed(known.texts, texts)
            if not differing:
                continue
            call = WriteSsconf(values=differing, stamp=new.stamp, base=known.stamp)
            outcomes = await self._write(cluster, nodes, call)
            behind = [node for node in nodes if _is_behind(outcomes.get(node.uuid))]
            if behind:
                everything = WriteSsconf(values=texts, stamp=new.stamp)
                again = await self._nodes.each(behind, everything, timeout_s=ANSWER_S)
                outcomes = {**outcomes, **again}
            for node in nodes:
                self._note(node, outcomes.get(node.uuid), new, failures)
        return failures

    async def _write(
        self, cluster: Cluster, nodes: list[Node], call: WriteSsconf
    ) -> Mapping[NodeId, Outcome[None]]:
        if self._diffusion is not None:
            return await self._diffusion.write(cluster, nodes, call, timeout_s=ANSWER_S)
        return await self._nodes.each(nodes, call, timeout_s=ANSWER_S)

    def _by_what_they_have(self, nodes: Iterable[Node]) -> list[tuple[_Sent, list[Node]]]:
        """Nodes that have the same files, together; nearly always there is one such set."""
        sets: dict[int, tuple[_Sent, list[Node]]] = {}
        for node in nodes:
            known = self._sent.get(node.uuid, _NOTHING)
            sets.setdefault(id(known), (known, []))[1].append(node)
        return list(sets.values())

    def _note(
        self,
        node: Node,
        outcome: Outcome[None] | None,
        new: _Sent,
        failures: dict[str, str],
    ) -> None:
        match outcome:
            case Answer():
                self._sent[node.uuid] = new
            case NodeFailed() as failed:
                self._failed(node, failed.reason, failures)
            case None:
                self._failed(node, "no answer", failures)

    def _failed(self, node: Node, why: str, failures: dict[str, str]) -> None:
        self._sent.pop(node.uuid, None)
        failures[node.name] = why
        self.log.warn("node {node} did not get its ssconf files: {why}", node=node.name, why=why)

    def _compute_in_thread(self, cluster: Cluster) -> Deferred[dict[str, str]]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), ssconf_files, cluster)


def _is_behind(outcome: Outcome[None] | None) -> bool:
    return isinstance(outcome, NodeFailed) and isinstance(outcome.error, CopyBehind)

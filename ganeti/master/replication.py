"""Copies of a journal on the master candidates, batch by batch.

    replicator = Replicator(reactor, nodes, lambda: store.current(), state, generation=..., what="...")
    journal = Journal(reactor, path, also=replicator.send)
    replicator.start()          # once there is a configuration: every candidate gets the whole state

A candidate that is in step gets each batch while it is written here, and whoever waits for the batch
waits for it too. One that fails or does not answer in time is left behind: nobody waits for it, and
after a while it gets the whole state again and then what was appended meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from ganeti.errors import ConfigurationError, GanetiError
from ganeti.interfaces import INodes
from ganeti.io.files import Ownership, write_file
from ganeti.model.calls.outcome import Answer, NodeFailed
from ganeti.model.calls.system import QueueUpdate, UploadState
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.node import Node
from ganeti.model.paths import Paths
from ganeti.wire.trace import no_trace

ANSWER_S = 10.0
"""A candidate that does not answer a batch in this time is left behind."""
RETRY_S = 15.0
_UPLOADS_AT_ONCE = 2

State = Callable[[], Awaitable[Mapping[str, bytes]]]
"""Gives the files of a whole copy, with at least all that was acknowledged until now."""


class Standing(Enum):
    """How far a candidate is."""

    BEHIND = "behind"
    JOINING = "joining"
    IN_STEP = "in step"


class _Candidate:
    """What is known of one candidate."""

    def __init__(self) -> None:
        self.standing = Standing.BEHIND
        self.backlog: list[bytes] = []
        """Batches for a candidate that is joining."""
        self.joining: Deferred[None] | None = None
        self.retry: IDelayedCall | None = None


class Replicator:
    """Sends the batches of one journal to the master candidates.

    Args:
        reactor: time.
        nodes: to call functions on them.
        cluster: gives the newest configuration, with the candidates.
        state: gives the files of a whole copy.
        generation: of this master; candidates refuse older ones. May be set until `start`.
        what: for messages: `configuration`.
        answer_s: longest wait for a candidate.
        retry_s: between attempts to bring one back into step.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        nodes: INodes,
        cluster: Callable[[], Cluster],
        state: State,
        *,
        generation: int,
        what: str,
        answer_s: float = ANSWER_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._reactor = reactor
        self._nodes = nodes
        self._cluster = cluster
        self._state = state
        self.generation = generation
        self._what = what
        self._answer_s = answer_s
        self._retry_s = retry_s
        self._uploads = DeferredSemaphore(_UPLOADS_AT_ONCE)
        self._known: dict[NodeId, _Candidate] = {}
        self._in_flight: bytes | None = None
        self._is_running = False

    def start(self) -> None:
        """Begin to bring all candidates into step."""
        self._is_running = True
        self._look_for_candidates()

    async def stop(self) -> None:
        """Send nothing more."""
        self._is_running = False
        for uuid in tuple(self._known):
            self._forget(uuid)

    @property
    def standings(self) -> Mapping[str, Standing]:
        """How far each candidate is, by name."""
        cluster = self._cluster()
        known = {uuid: one.standing for uuid, one in self._known.items()}
        return {
            cluster.nodes[uuid].name: standing for uuid, standing in known.items() if uuid in cluster.nodes
        }

    def cluster_changed(self, old: Cluster, new: Cluster) -> None:
        """To be subscribed to changes of the configuration."""
        if self._is_running and old.nodes is not new.nodes:
            self._look_for_candidates()

    async def rejoin(self) -> Mapping[str, str]:
        """Give every candidate the whole state anew; names of those that did not take it, and why."""
        cluster = self._cluster()
        for uuid in tuple(self._known):
            self._forget(uuid)
        self._look_for_candidates()
        for known in tuple(self._known.values()):
            if known.joining is not None:
                await _branch(known.joining)
        return {
            cluster.nodes[uuid].name: f"it does not have the newest {self._what}"
            for uuid, known in self._known.items()
            if known.standing is not Standing.IN_STEP and uuid in cluster.nodes
        }

    def send(self, data: bytes) -> Deferred[None]:
        """Give a batch to all candidates; fires, never with an error, when those in step have it.

        One that fails is left behind, and is in step no more.
        """
        return Deferred.fromCoroutine(self._send(data))

    async def _send(self, data: bytes) -> None:
        self._in_flight = data
        try:
            for one in self._known.values():
                if one.standing is Standing.JOINING:
                    one.backlog.append(data)
            targets = [node for node in self._candidates() if self._standing(node.uuid) is Standing.IN_STEP]
            if not targets:
                return
            call = QueueUpdate(generation=self.generation, records=data)
            # Everybody waits for this: not for a candidate that could not be reached just now.
            outcomes = await self._nodes.each(targets, call, timeout_s=self._answer_s, patient=False)
            for node in targets:
                match outcomes.get(node.uuid):
                    case Answer():
                        pass
                    case NodeFailed() as failed:
                        self._leave_behind(node, failed.reason)
                    case None:
                        self._leave_behind(node, "no answer")
        finally:
            self._in_flight = None

    # --- candidates

    def _candidates(self) -> list[Node]:
        cluster = self._cluster()
        return [
            cluster.nodes[uuid]
            for uuid in self._known
            if uuid in cluster.nodes and not cluster.nodes[uuid].offline
        ]

    def _standing(self, uuid: NodeId) -> Standing:
        known = self._known.get(uuid)
        return Standing.BEHIND if known is None else known.standing

    def _look_for_candidates(self) -> None:
        cluster = self._cluster()
        wanted = {
            node.uuid: node
            for node in cluster.nodes.values()
            if node.master_candidate and not node.offline and node.uuid != cluster.settings.master_node
        }
        for uuid in [uuid for uuid in self._known if uuid not in wanted]:
            self._forget(uuid)
        for uuid, node in wanted.items():
            if uuid not in self._known:
                self._known[uuid] = _Candidate()
                self._begin_join(node)

    def _forget(self, uuid: NodeId) -> None:
        known = self._known.pop(uuid)
        if known.retry is not None:
            known.retry.cancel()
        if known.joining is not None:
            known.joining.cancel()

    def _leave_behind(self, node: Node, why: str) -> None:
        known = self._known.get(node.uuid)
        if known is None:
            return
        self.log.warn(
            "master candidate {node} does not have the newest {what}: {why}; it is tried again in {s:.0f} s",
            node=node.name,
            what=self._what,
            why=why,
            s=self._retry_s,
        )
        known.standing = Standing.BEHIND
        known.backlog = []
        if known.retry is None and self._is_running:
            known.retry = self._reactor.callLater(self._retry_s, self._retry, node.uuid)

    def _retry(self, uuid: NodeId) -> None:
        known = self._known.get(uuid)
        if known is None:
            return
        known.retry = None
        node = self._cluster().nodes.get(uuid)
        if node is not None and known.standing is Standing.BEHIND:
            self._begin_join(node)

    def _begin_join(self, node: Node) -> None:
        known = self._known[node.uuid]
        known.standing = Standing.JOINING
        # A batch that is under way may be missing in the state; it may be repeated, but not be left out.
        known.backlog = [] if self._in_flight is None else [self._in_flight]
        with no_trace():
            known.joining = Deferred.fromCoroutine(self._join(node, known))
        known.joining.addErrback(lambda failure: failure.trap(CancelledError))

    async def _join(self, node: Node, known: _Candidate) -> None:
        try:
            await self._bring_into_step(node, known)
        except CancelledError:
            raise
        except GanetiError as error:
            self._leave_behind(node, str(error))
        except Exception as error:
            self.log.failure("no copy of the {what} for {node}", what=self._what, node=node.name)
            self._leave_behind(node, str(error))
        else:
            known.standing = Standing.IN_STEP
            self.log.info("master candidate {node} has the newest {what}", node=node.name, what=self._what)
        finally:
            known.joining = None

    async def _bring_into_step(self, node: Node, known: _Candidate) -> None:
        # The state may have many megabytes: it is not read for all candidates at the same time.
        async with self._uploads:
            files = await self._state()
            await self._nodes.call(node, UploadState(files=files, generation=self.generation))
        while known.backlog:
            data, known.backlog = b"".join(known.backlog), []
            call = QueueUpdate(generation=self.generation, records=data)
            await self._nodes.call(node, call, timeout_s=self._answer_s)


def _branch(work: Deferred[None]) -> Deferred[None]:
    """Something to wait for that ends with the work; cancelling it leaves the work alone."""
    waiter: Deferred[None] = Deferred()

    def ended(result: object) -> object:
        if not waiter.called:
            waiter.callback(None)
        return result

    work.addBoth(ended)
    return waiter


def claim_generation(paths: Paths, now: float) -> int:
    """The generation of a master daemon that starts here; blocking.

    It is larger than any that this node has seen, and grows with time, so that it is also larger
    than that of a master which this node knows nothing of. To be called by whoever holds the lock of
    the queue: a daemon that is refused must not make the running one look old.

    Raises:
        ConfigurationError: it cannot be written down.
    """
    path = f"{paths.data_dir}/master-generation"
    try:
        with open(path, encoding="ascii") as file:
            stored = int(file.read())
    except (FileNotFoundError, ValueError):
        stored = 0
    generation = max(stored + 1, int(now))
    try:
        os.makedirs(paths.data_dir, mode=0o755, exist_ok=True)
        write_file(path, b"%d\n" % generation, Ownership(mode=0o640))
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {path}: {error.strerror}; a master that candidates shall follow must write it"
        ) from error
    return generation

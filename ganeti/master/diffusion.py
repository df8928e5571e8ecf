"""Brings ssconf files to nodes through one node of each large group, and proves that they arrived.

    diffusion = Diffusion(nodes, signer.sign, secret_with, in_thread, reactor.seconds)
    outcomes = await diffusion.write(cluster, nodes, WriteSsconf(...), timeout_s=30)

Whoever spreads can only pass on or withhold what the master signed. What counts as delivered is what the
receiving node gave a receipt for; every other node gets it directly, whatever the reason. So nothing
depends on the node in between but the time that its trial takes (docs/adr/0007).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from hmac import compare_digest

from twisted.internet.defer import Deferred, DeferredList, FirstError
from twisted.logger import Logger

from ganeti.interfaces import INodes
from ganeti.logic.diffusion import Route, ways
from ganeti.model.calls.outcome import Answer, NodeFailed, Outcome
from ganeti.model.calls.parcels import MAX_PARCEL_BYTES, Delivery, Neighbour, SignedParcel, SpreadParcel
from ganeti.model.calls.system import WriteSsconf
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.node import Node
from ganeti.wire.parcels import digest, receipt

WITHIN_S = 12.0
"""A node that spreads waits no longer for others; less than the master waits for a sign of life of it."""

SHUNNED_S = 600.0
"""A node that failed to spread is not asked again for this time."""

Secret = Callable[[NodeId], bytes | None]
Signed = tuple[SignedParcel, bytes]
"""A parcel and its digest."""
InThread = Callable[[Callable[[], Signed]], Awaitable[Signed]]
Outcomes = dict[NodeId, Outcome[None]]


class Diffusion:
    """Writes ssconf files on nodes, by the way that fits.

    Args:
        nodes: to call functions on them.
        sign: makes a parcel.
        secret_with: what only we and a node know; None: there is no connection to it.
        in_thread: carries out what takes long.
        seconds: time that passes.
    """

    log = Logger()

    def __init__(
        self,
        nodes: INodes,
        sign: Callable[[WriteSsconf], SignedParcel],
        secret_with: Secret,
        in_thread: InThread,
        seconds: Callable[[], float],
    ) -> None:
        self._nodes = nodes
        self._sign = sign
        self._secret_with = secret_with
        self._in_thread = in_thread
        self._seconds = seconds
        self._turn = 0
        self.proven = 0
        """Nodes that got the newest files through others."""
        self._shunned: dict[NodeId, float] = {}
        """Until when."""

    async def write(
        self, cluster: Cluster, nodes: Sequence[Node], call: WriteSsconf, *, timeout_s: float
    ) -> Mapping[NodeId, Outcome[None]]:
        """Write files on all these nodes; an outcome for each, as of `INodes.each`."""
        size = sum(map(len, call.values.values()))
        now = self._seconds()
        self._shunned = {node: until for node, until in self._shunned.items() if until > now}
        self._turn += 1
        plan = ways(
            nodes,
            min_nodes=cluster.settings.diffusion_min_nodes if call.stamp is not None else 0,
            size=size,
            turn=self._turn,
            is_connected=lambda node: self._secret_with(node.uuid) is not None,
            may_relay=lambda node: (
                node.uuid != cluster.settings.master_node and node.uuid not in self._shunned
            ),
        )
        if not plan.routes:
            return await self._nodes.each(nodes, call, timeout_s=timeout_s)
        parcel, wanted = await self._in_thread(lambda: self._signed(call))
        if len(parcel.body) > MAX_PARCEL_BYTES:
            return await self._nodes.each(nodes, call, timeout_s=timeout_s)
        found: Outcomes = {}
        self.proven = 0
        await _all(
            self._direct(plan.direct, call, timeout_s, found),
            *(self._along(route, parcel, wanted, call, timeout_s, found) for route in plan.routes),
        )
        return found

    def _signed(self, call: WriteSsconf) -> Signed:
        parcel = self._sign(call)
        return parcel, digest(parcel)

    async def _direct(
        self, nodes: Sequence[Node], call: WriteSsconf, timeout_s: float, found: Outcomes
    ) -> None:
        if nodes:
            found.update(await self._nodes.each(nodes, call, timeout_s=timeout_s))

    async def _along(
        self,
        route: Route,
        parcel: SignedParcel,
        wanted: bytes,
        call: WriteSsconf,
        timeout_s: float,
        found: Outcomes,
    ) -> None:
        """Through one node, and then directly to all that gave no receipt."""
        asked = SpreadParcel(
            parcel=parcel,
            neighbours=tuple(
                Neighbour(uuid=node.uuid, name=node.name, primary_ip=node.primary_ip) for node in route.others
            ),
            within_s=WITHIN_S,
        )
        outcomes = await self._nodes.each([route.relay], asked, timeout_s=timeout_s)
        members = (route.relay, *route.others)
        match outcomes.get(route.relay.uuid):
            case Answer(value=deliveries):
                proven = self._proven(route, wanted, deliveries)
            case NodeFailed() as failed:
                self._shun(route.relay, failed.reason)
                proven = set()
            case None:
                self._shun(route.relay, "no answer")
                proven = set()
        self.proven += len(proven)
        self.log.info(
            "{count} of {all} nodes of a group have files through node {relay}",
            count=len(proven),
            all=len(members),
            relay=route.relay.name,
        )
        found.update({node: Answer(None) for node in proven})
        await self._direct([node for node in members if node.uuid not in proven], call, timeout_s, found)

    def _proven(self, route: Route, wanted: bytes, deliveries: Sequence[Delivery]) -> set[NodeId]:
        """The nodes that have it beyond doubt."""
        said = {delivery.node: delivery for delivery in deliveries}
        proven: set[NodeId] = set()
        failed: list[str] = []
        for node in (route.relay, *route.others):
            delivery = said.get(node.uuid)
            if delivery is None:
                self._shun(route.relay, f"it does not say what became of {node.name}")
            elif delivery.problem is not None:
                failed.append(f"{node.name}: {delivery.problem}")
            elif (secret := self._secret_with(node.uuid)) is None:
                # Lost in between; no receipt can be judged.
                continue
            elif _has(delivery.receipts, receipt(secret, wanted)):
                proven.add(node.uuid)
            else:
                self._shun(route.relay, f"it says that {node.name} has files, without a receipt of that node")
        if failed:
            # Also once for all nodes of a group, after the setting was changed: they do not know of it yet.
            self.log.warn(
                "node {relay} brought no files to {count} of {all} nodes, which get them directly ({first})",
                relay=route.relay.name,
                count=len(failed),
                all=len(route.others) + 1,
                first=failed[0],
            )
            if not proven - {route.relay.uuid}:
                self._shun(route.relay, "it reached none of the others")
        return proven

    def _shun(self, node: Node, why: str) -> None:
        if node.uuid not in self._shunned:
            self.log.warn(
                "node {node} spreads no files for {minutes:.0f} minutes: {why}",
                node=node.name,
                minutes=SHUNNED_S / 60,
                why=why,
            )
        self._shunned[node.uuid] = self._seconds() + SHUNNED_S


def _has(given: Sequence[str], wanted: str) -> bool:
    return any(compare_digest(wanted.encode(), one.encode()) for one in given)


async def _all(*works: Awaitable[None]) -> None:
    """Wait for all; the first error ends it, and so does who cancels."""
    pending = [Deferred.fromCoroutine(_done(work)) for work in works]
    try:
        await DeferredList(pending, fireOnOneErrback=True, consumeErrors=True)
    except FirstError as error:
        for one in pending:
            one.cancel()
        error.subFailure.raiseException()
        raise


async def _done(work: Awaitable[None]) -> None:
    await work

"""Parcels of the master at a node: taken, whoever brings them, and brought to other nodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from ganeti.errors import GanetiError, NodeError, PrereqError
from ganeti.model.calls.parcels import Delivery, Neighbour, Parcel, SignedParcel, SpreadParcel
from ganeti.model.calls.system import WriteSsconf
from ganeti.model.ids import NodeId
from ganeti.model.reading import UNREADABLE
from ganeti.wire.link import Link, LinkLost, LinkSilent
from ganeti.wire.locator import GuardedLocator
from ganeti.wire.node_commands import TakeParcel
from ganeti.wire.parcels import digest, receipt

AT_ONCE = 16
"""Nodes to which a parcel is being brought at the same time."""

T = TypeVar("T")
InThread = Callable[[Callable[[], T]], Awaitable[T]]


class ParcelIntake:
    """Takes parcels: proves where they come from, writes what they bring, gives receipts.

    Args:
        opened: the content of a parcel that is the master's; raises PermissionDenied.
        write: writes it, unless it is old; blocking.
        secrets: what this node and each of its masters know.
        in_thread: carries out what blocks.
    """

    log = Logger()

    def __init__(
        self,
        opened: Callable[[SignedParcel], Parcel],
        write: Callable[[WriteSsconf], None],
        secrets: Callable[[], Sequence[bytes]],
        in_thread: InThread[tuple[str, ...]],
    ) -> None:
        self._opened = opened
        self._write = write
        self._secrets = secrets
        self._in_thread = in_thread
        # Signatures cost time, and whoever is let in may send any number of parcels.
        self._turns = DeferredSemaphore(1)

    async def take(self, parcel: SignedParcel) -> tuple[str, ...]:
        """Carry out a parcel; gives a receipt for each connection with a master.

        Raises:
            PermissionDenied: it is not the master's.
            GanetiError: it is not written; says why.
        """
        secrets = self._secrets()

        def carry_out() -> tuple[str, ...]:
            self._write(self._opened(parcel).write)
            found = digest(parcel)
            return tuple(receipt(secret, found) for secret in secrets)

        async with self._turns:
            return await self._in_thread(carry_out)


class NeighbourLocator(GuardedLocator):
    """What a node daemon answers to other nodes.

    Args:
        intake: takes what they bring.
    """

    def __init__(self, intake: ParcelIntake) -> None:
        self._intake = intake

    @TakeParcel.responder
    async def take_parcel(self, parcel: bytes) -> dict[str, Any]:
        """Take it, if it is the master's."""
        try:
            signed = msgspec.json.decode(parcel, type=SignedParcel)
        except UNREADABLE as error:
            raise PrereqError(f"this is not a parcel: {error}") from error
        try:
            return {"receipts": await self._intake.take(signed)}
        except GanetiError as error:
            self.log.warn("a parcel that another node brought is not taken: {error}", error=str(error))
            raise


class ParcelSpreader:
    """Brings parcels to other nodes, and says what came of it.

    Args:
        clock: time.
        own: this node.
        connect: makes a connection to another node.
        intake: of this node.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        own: NodeId,
        connect: Callable[[Neighbour], Awaitable[Link]],
        intake: ParcelIntake,
    ) -> None:
        self._clock = clock
        self._own = own
        self._connect = connect
        self._intake = intake

    async def spread(self, call: SpreadParcel) -> tuple[Delivery, ...]:
        """Take the parcel and bring it to all; one that fails does not hold up the others."""
        data = msgspec.json.encode(call.parcel)
        turns = DeferredSemaphore(AT_ONCE)
        pending = [self._begun(self._own, self._taken(call.parcel), call.within_s)]
        pending += [
            self._begun(one.uuid, self._brought(one, data, turns), call.within_s) for one in call.neighbours
        ]
        return tuple([await delivery for delivery in pending])

    def _begun(self, node: NodeId, work: Awaitable[tuple[str, ...]], within_s: float) -> Deferred[Delivery]:
        begun: Deferred[tuple[str, ...]] = Deferred.fromCoroutine(_given(work))
        begun.addTimeout(within_s, self._clock)
        return begun.addCallbacks(
            lambda given: Delivery(node=node, receipts=given), lambda failure: self._problem(node, failure)
        )

    def _problem(self, node: NodeId, failure: Failure) -> Delivery:
        if failure.check(TimeoutError, CancelledError):
            return Delivery(node=node, problem="it did not take it in time")
        if not failure.check(GanetiError, LinkLost, LinkSilent):
            self.log.failure("cannot bring a parcel to {node}", failure, node=node)
        return Delivery(node=node, problem=failure.getErrorMessage() or type(failure.value).__name__)

    async def _taken(self, parcel: SignedParcel) -> tuple[str, ...]:
        return await self._intake.take(parcel)

    async def _brought(
        self, neighbour: Neighbour, parcel: bytes, turns: DeferredSemaphore
    ) -> tuple[str, ...]:
        async with turns:
            link = await self._connect(neighbour)
            try:
                answer = await link.ask(TakeParcel, parcel=parcel)
            except LinkLost as error:
                # With TLS 1.3 a node that does not let us in is noticed no earlier.
                raise NodeError(f"node {neighbour.name} did not answer: {error}") from None
            finally:
                link.abort()
        found: tuple[str, ...] = answer["receipts"]
        return found


async def _given(work: Awaitable[T]) -> T:
    return await work

"""Parcels at a node: taken from whoever brings them, brought to others; real AMP in memory (S2.3-032)."""

from __future__ import annotations

import time
from typing import Any

from msgspec.structs import replace

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import GanetiError, NodeUnreachable, PermissionDenied, PrereqError, StorageError
from ganeti.io.x509 import issue, make_authority
from ganeti.model.calls.parcels import Delivery, Neighbour, Parcel, SignedParcel, SpreadParcel
from ganeti.model.calls.system import Stamp, WriteSsconf
from ganeti.model.identity import Identity, Role
from ganeti.model.ids import NodeId
from ganeti.node.parcels import AT_ONCE, NeighbourLocator, ParcelIntake, ParcelSpreader
from ganeti.testing.links import LinkPair
from ganeti.wire.link import Link
from ganeti.wire.node_commands import Ping, StartFunction, TakeParcel
from ganeti.wire.parcels import ParcelSigner, digest, opened, receipt

NOW = time.time()
AUTHORITY = make_authority("cluster.example.com", now=NOW)
MASTER = issue(
    AUTHORITY,
    Identity(role=Role.MASTER, node_uuid="n0", cluster_uuid="c1"),
    names=["n0.example.com"],
    now=NOW,
)
PARCEL = ParcelSigner(MASTER.pem, "c1").sign(
    WriteSsconf(values={"node_list": "n1\n"}, stamp=Stamp(generation=1, number=1))
)


class Taker:
    """A node that takes parcels."""

    def __init__(self, name: str) -> None:
        self.secret = name.encode()
        self.written: list[WriteSsconf] = []
        self.problem: GanetiError | None = None
        self.intake = ParcelIntake(self.open, self.write, lambda: [b"another", self.secret], maybeDeferred)

    def open(self, parcel: SignedParcel) -> Parcel:
        """As every node does."""
        return opened(parcel, authority=AUTHORITY.certificate, cluster_uuid="c1", now=NOW)

    def write(self, call: WriteSsconf) -> None:
        """Remember it, or fail."""
        if self.problem is not None:
            raise self.problem
        self.written.append(call)

    @property
    def receipt(self) -> str:
        """The one for its master."""
        return receipt(self.secret, digest(PARCEL))


class World:
    """Nodes that are joined in memory.

    Args:
        count: how many beside the one that spreads.
    """

    def __init__(self, count: int) -> None:
        self.clock = Clock()
        self.takers = {f"n{number}": Taker(f"n{number}") for number in range(1, count + 1)}
        self.pairs: list[LinkPair] = []
        self.gone: set[str] = set()
        self.cut: set[str] = set()
        self.own = Taker("n0")
        self.spreader = ParcelSpreader(self.clock, NodeId("n0"), self.connect, self.own.intake)

    async def connect(self, neighbour: Neighbour) -> Link:
        """A connection to a node."""
        if neighbour.uuid in self.gone:
            raise NodeUnreachable("connection refused")
        pair = LinkPair(self.clock, NeighbourLocator(self.takers[neighbour.uuid].intake))
        pair.is_cut = neighbour.uuid in self.cut
        self.pairs.append(pair)
        return pair.near

    def open(self) -> int:
        """Connections that are there now."""
        return sum(pair.near.lost_because is None for pair in self.pairs)

    def settle(self) -> None:
        """Carry everything that is on its way."""
        while sum(pair.flush() for pair in list(self.pairs)):
            pass

    def spread(self, parcel: SignedParcel = PARCEL) -> Deferred[tuple[Delivery, ...]]:
        """Spread to all, within five seconds."""
        neighbours = tuple(
            Neighbour(uuid=NodeId(name), name=f"{name}.example.com", primary_ip="192.0.2.1")
            for name in self.takers
        )
        call = SpreadParcel(parcel=parcel, neighbours=neighbours, within_s=5.0)
        begun = Deferred.fromCoroutine(self.spreader.spread(call))
        self.settle()
        return begun


class SpreaderTests(SynchronousTestCase):
    """The node in between."""

    def test_all(self) -> None:
        """All get it, also the one that spreads; each gives receipts of its own, and nothing stays open."""
        world = World(3 * AT_ONCE)
        found = {one.node: one for one in self.successResultOf(world.spread())}
        self.assertEqual(set(found), {"n0", *world.takers})
        for name, taker in {"n0": world.own, **world.takers}.items():
            self.assertEqual(len(taker.written), 1)
            self.assertIn(taker.receipt, found[NodeId(name)].receipts)
        self.assertEqual(world.open(), 0)

    def test_at_once(self) -> None:
        """Only so many connections are open at the same time."""
        world = World(AT_ONCE + 5)
        world.cut = set(world.takers)
        world.spread()
        self.assertEqual(world.open(), AT_ONCE)

    def test_problems(self) -> None:
        """Nodes that are gone, hang, or refuse are told, each with its reason; the others have it."""
        world = World(4)
        world.gone, world.cut = {"n1"}, {"n2"}
        world.takers["n3"].problem = StorageError("the disk is full")
        asked = world.spread()
        self.assertNoResult(asked)
        world.clock.advance(5)
        world.settle()
        found = {one.node: one.problem for one in self.successResultOf(asked)}
        self.assertEqual(
            found,
            {
                "n0": None,
                "n1": "connection refused",
                "n2": "it did not take it in time",
                "n3": "the disk is full",
                "n4": None,
            },
        )
        self.assertEqual(world.open(), 0)

    def test_forged(self) -> None:
        """Nobody writes what the master did not sign, whoever spreads it."""
        world = World(2)
        found = self.successResultOf(world.spread(replace(PARCEL, signature=b"forged")))
        self.assertEqual([one.receipts for one in found], [()] * 3)
        self.assertEqual([taker.written for taker in (world.own, *world.takers.values())], [[]] * 3)
        self.assertTrue(all("not what the master signed" in str(one.problem) for one in found))


class NeighbourLocatorTests(SynchronousTestCase):
    """What a node answers to another node."""

    def setUp(self) -> None:
        self.taker = Taker("n1")
        self.pair = LinkPair(Clock(), NeighbourLocator(self.taker.intake))

    def ask(self, command: Any, **arguments: Any) -> Deferred[dict[str, Any]]:
        """Send a command."""
        asked = Deferred.fromCoroutine(self.pair.near.ask(command, **arguments))
        self.pair.flush()
        return asked

    def test_no_functions(self) -> None:
        """Functions are not for other nodes: there is not even such a command."""
        asked = self.ask(StartFunction, name="version", args=b"{}", timeout=1.0)
        self.assertIn("does not know StartFunction", str(self.failureResultOf(asked, GanetiError).value))

    def test_commands(self) -> None:
        """There are a parcel and a sign of life, nothing else."""
        names = set(NeighbourLocator._commandDispatch)  # type: ignore[attr-defined]
        self.assertEqual(names, {TakeParcel.commandName, Ping.commandName})

    def test_rubbish(self) -> None:
        """What is no parcel is refused, and the connection goes on."""
        for text in (b"", b"{}", b"[1]", b'{"body": 1, "certificate": 2, "signature": ""}'):
            self.failureResultOf(self.ask(TakeParcel, parcel=text), PrereqError)
        forged = b'{"body": {}, "certificate": "x", "signature": ""}'
        self.failureResultOf(self.ask(TakeParcel, parcel=forged), PermissionDenied)
        self.assertIsNone(self.pair.near.lost_because)

"""Files that one node of a group spreads: proofs, and the direct way wherever one is missing (S2.3-032)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import NodeError, StorageError
from ganeti.io.x509 import issue, make_authority
from ganeti.logic.diffusion import MIN_BYTES
from ganeti.master.diffusion import SHUNNED_S, Diffusion
from ganeti.model.calls.outcome import Answer, NodeFailed, Outcome
from ganeti.model.calls.parcels import MAX_PARCEL_BYTES, Delivery, SpreadParcel
from ganeti.model.calls.system import Stamp, WriteSsconf
from ganeti.model.cluster import Cluster
from ganeti.model.identity import Identity, Role
from ganeti.model.ids import NodeId
from ganeti.model.node import Node
from ganeti.testing.clusters import cluster, group_id, node_id, with_settings
from ganeti.testing.nodes import FakeNodes
from ganeti.wire.parcels import ParcelSigner, digest, opened, receipt

NOW = time.time()
AUTHORITY = make_authority("cluster.example.com", now=NOW)
MASTER = issue(
    AUTHORITY,
    Identity(role=Role.MASTER, node_uuid="n0", cluster_uuid="c1"),
    names=["n0.example.com"],
    now=NOW,
)
SIGNER = ParcelSigner(MASTER.pem, "c1")
WRITE = WriteSsconf(values={"node_list": "x" * MIN_BYTES}, stamp=Stamp(generation=1, number=1))

Reported = Mapping[NodeId, Delivery]


def two_groups(size: int = 4) -> Cluster:
    """Nodes with odd numbers are in the first group, the others in the second."""
    value = cluster(nodes=2 * size, groups=2)
    nodes = [
        replace(value.nodes[node_id(number)], group=group_id(2 - number % 2))
        for number in range(1, 2 * size + 1)
    ]
    value = replace(value, nodes=value.nodes.with_items({node.uuid: node for node in nodes}))
    return with_settings(value, diffusion_min_nodes=size)


class World:
    """Nodes that spread as they should, unless told otherwise."""

    def __init__(self, value: Cluster | None = None) -> None:
        self.clock = Clock()
        self.cluster = value or two_groups()
        self.nodes = FakeNodes(self.clock)
        self.nodes.answer(SpreadParcel, self.spread)
        self.nodes.answer(WriteSsconf, self.write_directly)
        self.has: set[NodeId] = set()
        """Nodes that have the files."""
        self.refusing: set[NodeId] = set()
        self.away: set[NodeId] = set()
        """Nodes without a connection."""
        self.distort: Callable[[Node, dict[NodeId, Delivery]], Any] = lambda relay, said: said
        """What a node makes of its report."""
        self.drops: set[NodeId] = set()
        """To these nothing is brought by others."""
        self.diffusion = Diffusion(
            self.nodes, SIGNER.sign, self.secret_with, maybeDeferred, self.clock.seconds
        )

    def secret_with(self, node: NodeId) -> bytes | None:
        """What the master and a node know."""
        return None if node in self.away else node.encode()

    def write_directly(self, node: Node, call: WriteSsconf) -> None:
        """The master's own call."""
        if node.uuid in self.refusing:
            raise StorageError("the disk is full")
        self.has.add(node.uuid)

    def spread(self, relay: Node, call: SpreadParcel) -> tuple[Delivery, ...]:
        """The call to the node in between."""
        opened(call.parcel, authority=AUTHORITY.certificate, cluster_uuid="c1", now=NOW)
        found = digest(call.parcel)
        said = {}
        for uuid in (relay.uuid, *(one.uuid for one in call.neighbours)):
            if uuid in self.refusing:
                said[uuid] = Delivery(node=uuid, problem="the disk is full")
            elif uuid in self.drops:
                said[uuid] = Delivery(node=uuid, receipts=("00" * 32,))
            else:
                self.has.add(uuid)
                said[uuid] = Delivery(node=uuid, receipts=(receipt(uuid.encode(), found),))
        return tuple(self.distort(relay, said).values())

    def start(self, call: WriteSsconf = WRITE) -> Deferred[Mapping[NodeId, Outcome[None]]]:
        """Write on all nodes."""
        nodes = list(self.cluster.nodes.values())
        return Deferred.fromCoroutine(self.diffusion.write(self.cluster, nodes, call, timeout_s=30.0))

    def relays(self) -> list[str]:
        """Who was asked to spread."""
        return [called.node.partition(".")[0] for called in self.nodes.calls_of(SpreadParcel)]

    def directly(self) -> list[str]:
        """Who was called directly."""
        return sorted(called.node.partition(".")[0] for called in self.nodes.calls_of(WriteSsconf))


GROUPS = (("node1", "node3", "node5", "node7"), ("node2", "node4", "node6", "node8"))


class DiffusionTests(SynchronousTestCase):
    """One message to two groups of four."""

    def setUp(self) -> None:
        self.world = World()

    def write(self, call: WriteSsconf = WRITE) -> Mapping[NodeId, Outcome[None]]:
        """Write on all nodes; each has an outcome, and what is said to have it has it."""
        found = self.successResultOf(self.world.start(call))
        self.assertEqual(set(found), set(self.world.cluster.nodes))
        had = {node for node, outcome in found.items() if isinstance(outcome, Answer)}
        self.assertLessEqual(had, self.world.has)
        return found

    def assert_all_have(self, found: Mapping[NodeId, Outcome[None]]) -> None:
        """Nobody failed."""
        self.assertEqual([outcome for outcome in found.values() if isinstance(outcome, NodeFailed)], [])

    def test_by_groups(self) -> None:
        """The master calls one node of each group, never its own, another with each message."""
        self.assert_all_have(self.write())
        for _ in range(2):
            self.write()
        self.assertEqual(self.world.directly(), [])
        relays = self.world.relays()
        self.assertEqual(set(relays[::2]), set(GROUPS[0]) - {"node1"})
        self.assertEqual(len(set(relays[1::2])), 3)

    def test_not_worth_it(self) -> None:
        """Short messages, small groups and what has no stamp go directly."""
        short = replace(WRITE, values={"node_list": "node1\n"})
        bare = replace(WRITE, stamp=None)
        long = replace(WRITE, values={"node_list": "x" * (MAX_PARCEL_BYTES + 1)})
        for call in (short, bare, long):
            self.assert_all_have(self.write(call))
        self.world.cluster = with_settings(self.world.cluster, diffusion_min_nodes=5)
        self.write()
        self.assertEqual((self.world.relays(), len(self.world.directly())), ([], 32))

    def test_dead_relay(self) -> None:
        """The group of a node that cannot be reached is called directly, and it is not asked again soon."""
        self.world.nodes.unreachable = {node_id(number) for number in (3, 5, 7)}
        found = self.write()
        failed = [node for node, outcome in found.items() if isinstance(outcome, NodeFailed)]
        self.assertEqual(sorted(failed), [node_id(number) for number in (3, 5, 7)])
        self.assertEqual(self.world.directly(), ["node1"])
        self.world.nodes.unreachable = set()
        for _ in range(4):
            self.assert_all_have(self.write())
        self.assertEqual(len({name for name in self.world.relays() if name in GROUPS[0]}), 2)
        self.world.clock.advance(SHUNNED_S)
        for _ in range(3):
            self.write()
        self.assertEqual(len({name for name in self.world.relays() if name in GROUPS[0]}), 3)

    def test_hanging_relay(self) -> None:
        """A node that hangs costs its group a while, and nothing else."""
        self.world.nodes.hanging = {node_id(number) for number in (3, 5, 7)}
        asked = self.world.start()
        self.assertNoResult(asked)
        self.assertLessEqual({node_id(number) for number in (2, 4, 6, 8)}, self.world.has)
        self.world.nodes.hanging = set()
        self.world.clock.advance(30)
        self.assert_all_have(self.successResultOf(asked))
        self.assertEqual(self.world.directly(), list(GROUPS[0]))

    def test_lies(self) -> None:
        """A node that says it brought what it did not is found out; who did not get it gets it directly."""
        self.world.drops = {node_id(5), node_id(7)}
        self.assert_all_have(self.write())
        self.assertLessEqual({"node5", "node7"}, set(self.world.directly()))
        self.assertLessEqual(set(self.world.directly()), {"node5", "node7"})

    def test_borrowed_receipts(self) -> None:
        """A receipt of one node, or for another message, proves nothing for another."""

        def borrowed(relay: Node, said: dict[NodeId, Delivery]) -> dict[NodeId, Delivery]:
            genuine = said[relay.uuid].receipts
            return {node: replace(one, receipts=genuine) for node, one in said.items()}

        self.world.distort = borrowed
        self.assert_all_have(self.write())
        self.assertEqual(len(self.world.directly()), 6)

    def test_silence(self) -> None:
        """Nodes of which nothing is said get it directly."""
        self.world.distort = lambda relay, said: {}
        self.assert_all_have(self.write())
        self.assertEqual(len(self.world.directly()), 8)

    def test_refusing_node(self) -> None:
        """A node that refuses is called directly, and fails with its own reason."""
        self.world.refusing = {node_id(4)}
        found = self.write()
        failed = {node: outcome.reason for node, outcome in found.items() if isinstance(outcome, NodeFailed)}
        self.assertEqual(failed, {node_id(4): "the disk is full"})

    def test_cut_off(self) -> None:
        """A node that reaches none of its neighbours is not asked again soon."""
        self.world.distort = lambda relay, said: {
            node: one if node == relay.uuid else Delivery(node=node, problem="no route to host")
            for node, one in said.items()
        }
        for _ in range(4):
            self.assert_all_have(self.write())
        self.assertEqual(sorted(self.world.relays()), sorted(["node3", "node5", "node7", *GROUPS[1]]))

    def test_not_connected(self) -> None:
        """Nodes without a connection, which could prove nothing, get it directly at once."""
        world = World(two_groups(5))
        world.cluster = with_settings(world.cluster, diffusion_min_nodes=4)
        world.away = {node_id(4)}
        self.world = world
        self.assert_all_have(self.write())
        self.assertEqual(world.directly(), ["node4"])

    def test_connection_changes(self) -> None:
        """A node that connects anew in between gave no receipt that counts, and gets it once more."""

        def lost(relay: Node, said: dict[NodeId, Delivery]) -> dict[NodeId, Delivery]:
            self.world.away = {node_id(8)}
            return said

        self.world.distort = lost
        self.assert_all_have(self.write())
        self.assertEqual(self.world.directly(), ["node8"])

    def test_cancelled(self) -> None:
        """Who gives up gets CancelledError, and no call goes on."""
        self.world.nodes.hanging = set(self.world.cluster.nodes)
        asked = self.world.start()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual([call for call in self.world.clock.getDelayedCalls() if call.active()], [])

    def test_other_version(self) -> None:
        """A node that cannot spread costs the direct way only."""

        def unknown(node: Node, call: SpreadParcel) -> None:
            raise NodeError("no such function")

        self.world.nodes.answer(SpreadParcel, unknown)
        self.assert_all_have(self.write())
        self.assertEqual(len(self.world.directly()), 8)

    @given(
        st.sets(st.integers(1, 8).map(node_id)),
        st.sets(st.integers(1, 8).map(node_id)),
        st.sets(st.integers(1, 8).map(node_id)),
        st.sets(st.integers(1, 8).map(node_id)),
    )
    def test_whatever_happens(
        self, dead: set[NodeId], drops: set[NodeId], refusing: set[NodeId], away: set[NodeId]
    ) -> None:
        """Whoever can have the files has them, and exactly the others are said to lack them."""
        self.world = World()
        self.world.nodes.unreachable, self.world.drops = dead, drops
        self.world.refusing, self.world.away = refusing, away
        found = self.write()
        failed = {node for node, outcome in found.items() if isinstance(outcome, NodeFailed)}
        # One that only the master cannot reach may have them from another node.
        self.assertLessEqual(refusing, failed)
        self.assertLessEqual(failed, refusing | dead)

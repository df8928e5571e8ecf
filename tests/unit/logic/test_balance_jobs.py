"""Moves become jobs: the right opcodes in the right order, side by side where they do not touch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.balance import Limits, Move, balance
from ganeti.logic.balance_board import MoveKind, Restrictions
from ganeti.logic.balance_jobs import move_jobs, opcodes_of
from ganeti.model.cluster import Cluster
from ganeti.model.instance import AdminState
from ganeti.testing.clusters import cluster, group_id, node_id, with_instance, with_node
from ganeti.testing.placement_worlds import random_case

MIGRATE, FAILOVER, REPLACE = "OP_INSTANCE_MIGRATE", "OP_INSTANCE_FAILOVER", "OP_INSTANCE_REPLACE_DISKS"
PLACES: dict[MoveKind, tuple[int, ...]] = {
    MoveKind.FAILOVER: (2, 1),
    MoveKind.REPLACE: (1, 3),
    MoveKind.REPLACE_AND_FAILOVER: (3, 1),
    MoveKind.FAILOVER_AND_REPLACE: (2, 3),
    MoveKind.REPLACE_PRIMARY: (3, 2),
    MoveKind.RELOCATE: (3,),
}


def move(value: Cluster, name: str, before: tuple[int, ...], kind: MoveKind, after: tuple[int, ...]) -> Move:
    """A step of a plan; its gain is of no importance."""
    return Move(
        instance=value.instance(name).uuid,
        kind=kind,
        before=tuple(node_id(number) for number in before),
        after=tuple(node_id(number) for number in after),
        score=1.0,
        gain=1.0,
    )


class OpcodeTests(SynchronousTestCase):
    """What is done for each kind of move of an instance on node1, mirrored on node2."""

    def kinds(self, value: Cluster, kind: MoveKind) -> list[tuple[object, object]]:
        """OP_ID and node that is named."""
        before = (1,) if kind is MoveKind.RELOCATE else (1, 2)
        opcodes = opcodes_of(value, move(value, "web", before, kind, PLACES[kind]))
        self.assertEqual({opcode["instance_name"] for opcode in opcodes}, {"web.example.com"})
        return [(opcode["OP_ID"], opcode.get("remote_node", opcode.get("target_node"))) for opcode in opcodes]

    def value(self, admin_state: AdminState = AdminState.UP) -> Cluster:
        """With the instance."""
        return with_instance(cluster(), "web", primary="node1", secondary="node2", admin_state=admin_state)

    def test_running(self) -> None:
        """Migrations, and new secondaries in between."""
        swap, copy = (MIGRATE, None), (REPLACE, "node3.example.com")
        for kind, wanted in (
            (MoveKind.FAILOVER, [swap]),
            (MoveKind.REPLACE, [copy]),
            (MoveKind.REPLACE_AND_FAILOVER, [copy, swap]),
            (MoveKind.FAILOVER_AND_REPLACE, [swap, copy]),
            (MoveKind.REPLACE_PRIMARY, [swap, copy, swap]),
            (MoveKind.RELOCATE, [(MIGRATE, "node3.example.com")]),
        ):
            self.assertEqual(self.kinds(self.value(), kind), wanted, kind)

    def test_stopped(self) -> None:
        """What does not run is failed over, every time."""
        found = self.kinds(self.value(AdminState.DOWN), MoveKind.REPLACE_PRIMARY)
        self.assertEqual([op for op, _ in found], [FAILOVER, REPLACE, FAILOVER])

    def test_down(self) -> None:
        """From a node that is down it is failed over; afterwards it runs, and is migrated."""
        value = with_node(self.value(), "node1.example.com", offline=True, master_candidate=False)
        found = self.kinds(value, MoveKind.REPLACE_PRIMARY)
        self.assertEqual([op for op, _ in found], [FAILOVER, REPLACE, MIGRATE])


class OrderTests(SynchronousTestCase):
    """Which jobs wait for which."""

    def test_turns(self) -> None:
        """Only moves with a common node wait, each for the last ones on its nodes."""
        value = cluster(nodes=6, instances=4, template="sharedfile")
        moves = [
            move(value, "inst1", (1,), MoveKind.RELOCATE, (2,)),
            move(value, "inst2", (3,), MoveKind.RELOCATE, (4,)),
            move(value, "inst3", (2,), MoveKind.RELOCATE, (3,)),
            move(value, "inst4", (5,), MoveKind.RELOCATE, (6,)),
            move(value, "inst1", (2,), MoveKind.RELOCATE, (5,)),
        ]
        jobs = move_jobs(value, moves)
        self.assertEqual([job.after for job in jobs], [(), (), (0, 1), (), (2, 3)])
        self.assertEqual([job.turn for job in jobs], [1, 1, 2, 1, 3])

    @given(st.integers(0, 10**6))
    def test_nodes(self, seed: int) -> None:
        """Jobs of one turn touch no common node; whatever touches a node does so in the order of the plan."""
        view, _ = random_case(seed, "drbd")
        plan = balance(view, group_id(1), Limits(max_moves=12), Restrictions())
        jobs = move_jobs(view.cluster, plan.moves)
        turns: dict[int, list[set[str]]] = {}
        for step, job in zip(plan.moves, jobs):
            turns.setdefault(job.turn, []).append({*step.before, *step.after})
        for nodes in turns.values():
            self.assertEqual(sum(map(len, nodes)), len(set().union(*nodes)))
        for number, job in enumerate(jobs):
            self.assertTrue(all(before < number and jobs[before].turn < job.turn for before in job.after))

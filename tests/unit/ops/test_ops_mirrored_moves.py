"""Tests of migration, failover and creation of mirrored instances: which end may write, and when."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import OperationFailed, ProgrammerError
from ganeti.model.calls.disks import MirrorConnect, MirrorStatus
from ganeti.model.calls.instances import (
    AcceptInstance,
    FinalizeMigrationTarget,
    InstanceMigrate,
    RunState,
)
from ganeti.model.disk import Disk
from ganeti.model.instance import AdminState
from ganeti.ops.instance.create import CreateInstance
from ganeti.ops.instance.failover import FailoverInstance
from ganeti.ops.instance.migrate import MigrateInstance
from ganeti.testing.clusters import cluster, node_id, with_node
from ganeti.testing.operations import OperationWorld
from tests.unit.ops.new_instances import create

NAME = "inst1.example.com"
NODE1, NODE2 = "node1.example.com", "node2.example.com"
MIGRATE = MigrateInstance(instance_name="inst1")
CLEAN_UP = MigrateInstance(instance_name="inst1", cleanup=True)
FAILOVER = FailoverInstance(instance_name="inst1")


def _die(node: object, call: object) -> None:
    raise ValueError("masterd died")


class MirrorCase(SynchronousTestCase):
    """One mirrored instance on the first and the second of three nodes."""

    def setUp(self) -> None:
        self.world = OperationWorld(cluster(instances=1))

    @property
    def disk(self) -> Disk:
        """Its disk."""
        (found,) = self.world.cluster.disks_of(self.world.cluster.instance(NAME))
        return found

    def assert_settled(self, primary: str) -> None:
        """It runs on a node, whose end alone is primary; both ends are connected and in step."""
        self.assertEqual(self.world.model.where(NAME), {primary: RunState.RUNNING})
        self.assertEqual(
            self.world.cluster.nodes[self.world.cluster.instance(NAME).primary_node].name, primary
        )
        state = self.world.model.disks.model(self.disk).status(self.disk.nodes[0])
        assert state is not None
        self.assertEqual((state.is_degraded, state.is_primary, state.is_connected), (False, True, True))
        self.assertEqual(self.world.model.disks.primaries(self.disk.uuid), {primary})


class MigrationTests(MirrorCase):
    """OP_INSTANCE_MIGRATE."""

    def test_there_and_back(self) -> None:
        """Both ends may be primary only meanwhile; the old primary stays as the mirror."""
        for target in (NODE2, NODE1):
            self.world.run(MIGRATE)
            self.assert_settled(target)
        modes = [called.call.multimaster for called in self.world.nodes.calls_of(MirrorConnect)]
        self.assertEqual(modes, [True, True, False, False] * 2)
        self.assertEqual(self.world.feedback.warnings, [])

    def test_failures(self) -> None:
        """Whatever fails before the end, it goes on at its primary, and the mirror is as it was."""
        for call, node in ((AcceptInstance, 2), (InstanceMigrate, 1)):
            self.setUp()
            self.world.model.break_call(call, "broken", self.world.cluster.nodes[node_id(node)])
            with self.assertRaisesRegex(OperationFailed, f"broken; it goes on running on {NODE1}"):
                self.world.run(MIGRATE)
            self.assert_settled(NODE1)

    def test_does_not_connect(self) -> None:
        """Also when the disks do not allow two primaries."""
        working = self.world.model.answer_of(MirrorConnect)

        def answer(node: object, call: MirrorConnect) -> object:
            if call.multimaster:
                raise OperationFailed("no two primaries")
            return working(node, call)

        self.world.nodes.answer(MirrorConnect, answer)
        with self.assertRaisesRegex(OperationFailed, "no two primaries; it goes on running"):
            self.world.run(MIGRATE)
        self.assert_settled(NODE1)

    def test_mirror_is_not_in_step(self) -> None:
        """Nothing is sent to a node whose data is not the newest; the message names the remedy."""
        self.world.model.disks.cut_power(NODE2)
        with self.assertRaisesRegex(OperationFailed, "disk 0 .* is not open on node2.*activate-disks"):
            self.world.run(MIGRATE)
        self.assertEqual(self.world.nodes.calls_of(AcceptInstance), [])

    def test_clean_up_at_the_target(self) -> None:
        """An end that failed is cleaned up: it runs on the target, where its primary end is then."""
        self.world.model.break_call(FinalizeMigrationTarget, "stuck")
        self.assertRaises(OperationFailed, self.world.run, MIGRATE)
        self.world.model.repair_call(FinalizeMigrationTarget)
        self.world.model.run(NODE2, NAME)
        self.world.run(CLEAN_UP)
        self.assert_settled(NODE2)

    def test_clean_up_at_the_source(self) -> None:
        """Or on the source, whose mirror steps back."""
        self.world.nodes.answer(InstanceMigrate, _die)
        self.assertRaises(ProgrammerError, self.world.run, MIGRATE)
        self.flushLoggedErrors(ValueError)
        self.assertEqual(self.world.model.disks.primaries(self.disk.uuid), {NODE1, NODE2})
        self.world.run(CLEAN_UP)
        self.assert_settled(NODE1)


class FailoverTests(MirrorCase):
    """OP_INSTANCE_FAILOVER."""

    def test_there_and_back(self) -> None:
        """It starts where its mirror was, and is mirrored to where it ran."""
        for target in (NODE2, NODE1):
            self.world.run(FAILOVER)
            self.world.advance(60)
            self.assert_settled(target)

    def test_stale_mirror(self) -> None:
        """It is not started from old data; nothing is stopped before that is known."""
        model = self.world.model.disks.model(self.disk)
        model.disconnect(node_id(2))
        self.world.model.disks.mirrors[self.disk.uuid] = model.mirror
        with self.assertRaisesRegex(OperationFailed, "disk 0 .* is not connected to its other end on node2"):
            self.world.run(FAILOVER)
        self.assertEqual(self.world.model.where(NAME), {NODE1: RunState.RUNNING})

    def test_dead_primary(self) -> None:
        """From a node that is down it starts on the mirror; when the node is back it catches up."""
        self.world = OperationWorld(with_node(cluster(instances=1), "node1", offline=True))
        self.world.model.running.clear()
        self.world.run(FAILOVER)
        self.assertEqual(self.world.model.where(NAME), {NODE2: RunState.RUNNING})
        self.assertEqual(self.world.model.disks.in_step(self.disk.uuid), {NODE2})

    def test_stopped(self) -> None:
        """Of a stopped instance the disks are closed, and stay so."""
        self.world = OperationWorld(cluster(instances=1, admin_state=AdminState.DOWN))
        self.world.run(FAILOVER)
        self.assertEqual(self.world.model.opened(self.disk.uuid), set())
        self.assertEqual(self.disk.nodes, (node_id(2), node_id(1)))


class CreationTests(MirrorCase):
    """OP_INSTANCE_CREATE."""

    def create(self, **more: object) -> CreateInstance:
        """An opcode for a mirrored instance."""
        values: dict[str, object] = {"disk_template": "drbd", "pnode": "node2", "snode": "node3"}
        return create(instance_name="new.example.com", **{**values, "disks": ({"size": 2048},), **more})

    def test_waits_for_the_mirror(self) -> None:
        """It is there when both ends have all data."""
        self.world.model.disks.rate_mib_s = 100
        self.world.run(self.create())
        (disk,) = self.world.cluster.disks_of(self.world.cluster.instance("new"))
        self.assertEqual(self.world.model.disks.in_step(disk.uuid), {NODE2, "node3.example.com"})
        self.assertTrue(any("% done" in line for line in self.world.feedback.lines))

    def test_does_not_wait(self) -> None:
        """Or when the copy has begun, if nobody wants to wait."""
        self.world.model.disks.rate_mib_s = 1
        self.world.run(self.create(wait_for_sync=False))
        (disk,) = self.world.cluster.disks_of(self.world.cluster.instance("new"))
        self.assertEqual(self.world.model.disks.in_step(disk.uuid), {NODE2})
        self.assertLess(self.world.reactor.seconds(), 60)

    def test_mirror_fails(self) -> None:
        """A mirror whose state cannot be found out ends it, and nothing is left."""
        self.world.model.break_call(MirrorStatus, "broken")
        with self.assertRaisesRegex(OperationFailed, "degraded disks for instance new.*broken"):
            self.world.run(self.create())
        self.assertEqual(len(self.world.cluster.instances), 1)
        disks = {disk for found in self.world.model.data.values() for disk in found}
        self.assertEqual(disks, {self.disk.uuid})

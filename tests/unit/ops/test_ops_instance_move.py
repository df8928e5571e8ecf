"""Tests of migration with its clean-up, and of failover."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import BlockDeviceError, ErrorCode, OperationFailed, PrereqError
from ganeti.model.allocation import Relocate
from ganeti.model.calls.disks import DiskAssemble
from ganeti.model.calls.instances import (
    AcceptInstance,
    FinalizeMigrationSource,
    FinalizeMigrationTarget,
    InstanceMigratable,
    InstanceMigrate,
    InstanceMigrationStatus,
    InstanceShutdown,
    InstanceStart,
    RunState,
)
from ganeti.model.calls.system import BridgesExist
from ganeti.model.cluster import Cluster
from ganeti.model.instance import AdminState
from ganeti.ops.instance.failover import FailoverInstance
from ganeti.ops.instance.migrate import MigrateInstance
from ganeti.testing.clusters import (
    changed_instance,
    cluster,
    node_id,
    with_instance,
    with_node,
    with_settings,
)
from ganeti.testing.operations import OperationWorld

NAME = "inst1.example.com"
NODE1, NODE2, NODE3 = "node1.example.com", "node2.example.com", "node3.example.com"
RUNNING = RunState.RUNNING


def make(state: AdminState = AdminState.UP, **options: Any) -> Cluster:
    """Three nodes and one instance on shared storage, on the first."""
    return cluster(**{"instances": 1, "template": "sharedfile", "admin_state": state, **options})


def world(value: Cluster | None = None, **options: Any) -> OperationWorld:
    """A world with that cluster."""
    return OperationWorld(value or make(), **options)


def primary(world: OperationWorld) -> str:
    """Name of the primary node."""
    return world.cluster.nodes[world.cluster.instance(NAME).primary_node].name


def opened(world: OperationWorld) -> set[str]:
    """Where the disk is open."""
    return world.model.opened(world.cluster.instance(NAME).disks[0])


MIGRATE = MigrateInstance(instance_name="inst1", target_node="node2")
CLEAN_UP = MigrateInstance(instance_name="inst1", cleanup=True)
FAILOVER = FailoverInstance(instance_name="inst1", target_node="node2")


class MigrationTests(SynchronousTestCase):
    """OP_INSTANCE_MIGRATE."""

    def test_success(self) -> None:
        """It runs on the target, which is its primary node; the source has nothing of it any more."""
        one = world()
        self.assertIsNone(one.run(MIGRATE))
        self.assertEqual(one.model.where(NAME), {NODE2: RUNNING})
        self.assertEqual((primary(one), opened(one)), (NODE2, {NODE2}))
        self.assertEqual(one.cluster.instance(NAME).admin_state, AdminState.UP)
        self.assertEqual(one.feedback.warnings, [])

    def test_is_followed(self) -> None:
        """Every second it is asked how far it is, every ten seconds that is told."""
        one = world()
        one.model.polls = 25
        one.run(MIGRATE)
        told = [line for line in one.feedback.lines if "progress" in line]
        self.assertEqual(told, ["* memory transfer progress: 50.00 %"] * 2)

    def test_disk_is_open_on_both_meanwhile(self) -> None:
        """The target opens the disk before it accepts, the source closes it at the very end."""
        one = world()
        one.run(MIGRATE)
        self.assertEqual(
            [
                step
                for step in one.called()
                if step[0] in ("blockdev_assemble", "accept_instance", "blockdev_shutdown")
            ],
            [("blockdev_assemble", "node2"), ("accept_instance", "node2"), ("blockdev_shutdown", "node1")],
        )

    def test_failures_leave_it_where_it_was(self) -> None:
        """Whatever fails before the end, it runs on the source, and the target has nothing of it."""
        failures: tuple[tuple[type[Any], str], ...] = (
            (AcceptInstance, NODE2),
            (InstanceMigrate, NODE1),
            (InstanceMigrationStatus, NODE1),
        )
        for call, node in failures:
            one = world()
            one.model.break_call(call, "broken", one.cluster.node(node))
            with self.assertRaisesRegex(OperationFailed, f"broken; it goes on running on {NODE1}"):
                one.run(MIGRATE)
            self.assertEqual(one.model.where(NAME), {NODE1: RUNNING}, call)
            self.assertEqual((primary(one), opened(one)), (NODE1, {NODE1}), call)

    def test_target_disk_fails(self) -> None:
        """A disk that the target cannot open ends it before anything was sent."""
        one = world()
        one.model.break_call(DiskAssemble, BlockDeviceError("not mounted"), one.cluster.node("node2"))
        with self.assertRaisesRegex(OperationFailed, "cannot open disk 0 on node2.*not mounted"):
            one.run(MIGRATE)
        self.assertEqual((one.model.where(NAME), one.nodes.calls_of(AcceptInstance)), ({NODE1: RUNNING}, []))

    def test_transfer_fails(self) -> None:
        """A transfer that the hypervisor gives up is undone on both sides."""
        for status in ("failed", "cancelled"):
            one = world()
            one.model.migration_status = status
            with self.assertRaisesRegex(OperationFailed, f"{status}: the line is dead; it goes on running"):
                one.run(MIGRATE)
            self.assertEqual((one.model.where(NAME), primary(one)), ({NODE1: RUNNING}, NODE1))

    def test_lost_contact(self) -> None:
        """A source that does not answer is asked ten times, then it is given up."""
        one = world()
        one.model.break_call(InstanceMigrationStatus, "no contact")
        self.assertRaises(OperationFailed, one.run, MIGRATE)
        self.assertEqual(len(one.nodes.calls_of(InstanceMigrationStatus)), 10)

    def test_undo_fails(self) -> None:
        """What cannot be undone is told, and the rest is undone."""
        one = world()
        one.model.migration_status = "failed"
        one.model.break_call(FinalizeMigrationTarget, "stuck")
        self.assertRaises(OperationFailed, one.run, MIGRATE)
        self.assertIn(f"cannot undo the migration on {NODE2}: stuck", one.feedback.warnings)
        self.assertEqual(one.model.where(NAME)[NODE1], RUNNING)

    def test_end_fails(self) -> None:
        """If only the end fails the state is not known: the message says what finds it out."""
        for call in (FinalizeMigrationSource, FinalizeMigrationTarget):
            one = world()
            one.model.break_call(call, "stuck")
            with self.assertRaisesRegex(OperationFailed, f"migrate --cleanup {NAME}"):
                one.run(MIGRATE)
            self.assertEqual(primary(one), NODE1)

    def test_not_migratable(self) -> None:
        """What the hypervisor refuses to migrate is left alone."""
        one = world()
        one.model.break_call(InstanceMigratable, "it has a CD in the drive")
        with self.assertRaisesRegex(OperationFailed, f"{NAME} cannot be migrated from {NODE1}.*a CD"):
            one.run(MIGRATE)
        self.assertEqual(one.nodes.calls_of(DiskAssemble), [])

    def test_allocator(self) -> None:
        """An allocator may choose the target, out of the nodes that are locked."""
        one = world()
        one.allocation.nodes = (node_id(3),)
        one.run(MigrateInstance(instance_name="inst1", iallocator="hail"))
        self.assertEqual(primary(one), NODE3)
        name, request, candidates = one.allocation.requests[0]
        self.assertEqual((name, request), ("hail", Relocate(instance=NAME, relocate_from=(node_id(1),))))
        self.assertEqual(candidates, {node_id(1), node_id(2), node_id(3)})

    def test_default_allocator(self) -> None:
        """Without target and allocator the cluster's default one chooses; without that it is refused."""
        op = MigrateInstance(instance_name="inst1")
        with self.assertRaisesRegex(PrereqError, "give a target node or an allocator"):
            world().run(op)
        one = world(with_settings(make(), default_iallocator="builtin"))
        one.allocation.nodes = (node_id(2),)
        one.run(op)
        self.assertEqual((primary(one), one.allocation.requests[0][0]), (NODE2, "builtin"))

    def test_modes(self) -> None:
        """Live is the default; the cluster and the opcode may say otherwise."""
        cases = (
            (MIGRATE, True),
            (MigrateInstance(instance_name="inst1", target_node="node2", mode="non-live"), False),
            (MigrateInstance(instance_name="inst1", target_node="node2", live=False), False),
        )
        for op, is_live in cases:
            one = world()
            one.run(op)
            self.assertIs(one.nodes.calls_of(InstanceMigrate)[0].call.live, is_live)

    def test_refusals(self) -> None:
        """What cannot work is refused with the name and the remedy, and nothing happens."""
        both = MigrateInstance(instance_name="inst1", target_node="node2", mode="live", live=True)
        two = MigrateInstance(instance_name="inst1", target_node="node2", iallocator="hail")
        stopped = changed_instance(make(), "inst1", admin_state=AdminState.OFFLINE)
        cases: tuple[tuple[Cluster, MigrateInstance, str], ...] = (
            (with_node(make(), "node2", drained=True, master_candidate=False), MIGRATE, "node2.*is drained"),
            (with_node(make(), "node2", vm_capable=False), MIGRATE, "node2.*vm_capable"),
            (with_node(make(), "node2", offline=True, master_candidate=False), MIGRATE, "node2.*offline"),
            (with_node(make(), "node1", offline=True, master_candidate=False), MIGRATE, "node1.*offline"),
            (make(), MigrateInstance(instance_name="inst1", target_node="node1"), "is on node1.* already"),
            (make(), both, "either 'mode' or 'live'"),
            (make(), two, "either a target node or an allocator"),
            (stopped, MIGRATE, "marked offline"),
            (make(AdminState.DOWN), MIGRATE, "does not run on node1.*failover"),
            (make(memory=16), MIGRATE, "violates the policy.*node2.*--ignore-ipolicy"),
        )
        for value, op, pattern in cases:
            one = world(value)
            before = dict(one.model.where(NAME))
            with self.assertRaisesRegex(PrereqError, pattern):
                one.run(op)
            self.assertEqual((one.model.where(NAME), one.config.changes), (before, []), pattern)

    def test_policy_can_be_ignored(self) -> None:
        """A violation of the policy may be ignored."""
        one = world(make(memory=16))
        one.run(MigrateInstance(instance_name="inst1", target_node="node2", ignore_ipolicy=True))
        self.assertEqual(primary(one), NODE2)

    def test_no_memory(self) -> None:
        """The target needs the memory that the instance uses."""
        value = with_instance(make(memory=4096), "big", primary="node2", memory=5000, template="plain")
        one = world(value, memory_mib=8192)
        with self.assertRaisesRegex(PrereqError, "node2.*2168 MiB.*needs 4096 MiB") as caught:
            one.run(MIGRATE)
        self.assertEqual(caught.exception.code, ErrorCode.NO_RESOURCES)

    def test_bridge(self) -> None:
        """The target needs the bridges."""
        one = world()
        one.model.break_call(BridgesExist, "no bridge br7")
        with self.assertRaisesRegex(PrereqError, "cannot run on node2.*no bridge br7"):
            one.run(MIGRATE)

    def test_versions(self) -> None:
        """Different versions of the hypervisor are refused, unless they are to be ignored."""
        one = world()
        one.model.hv_versions = {NODE1: "8.0", NODE2: "9.0"}
        with self.assertRaisesRegex(PrereqError, "8.0 here, 9.0 on the target.*--ignore-hvversions"):
            one.run(MIGRATE)
        one.run(MigrateInstance(instance_name="inst1", target_node="node2", ignore_hvversions=True))
        self.assertEqual(primary(one), NODE2)

    def test_falls_back_to_failover(self) -> None:
        """One that does not run is failed over if that is allowed, or if it always is."""
        allowed = MigrateInstance(instance_name="inst1", target_node="node2", allow_failover=True)
        one = world(make(AdminState.DOWN))
        one.run(allowed)
        self.assertEqual((primary(one), one.model.where(NAME)), (NODE2, {}))
        value = make()
        backend = {**value.instance("inst1").beparams, "always_failover": True}
        one = world(changed_instance(value, "inst1", beparams=backend))
        one.run(MIGRATE)
        self.assertEqual((one.model.where(NAME), one.nodes.calls_of(InstanceMigrate)), ({NODE2: RUNNING}, []))

    def test_guest_that_switched_itself_off(self) -> None:
        """What only the hypervisor still has of a guest cannot be migrated."""
        one = world()
        one.model.run(NODE1, NAME, state=RunState.SHUTDOWN)
        with self.assertRaisesRegex(PrereqError, "does not run on node1"):
            one.run(MIGRATE)

    def test_hooks(self) -> None:
        """Hooks run on the master, the instance's nodes and the target."""
        one = world()
        one.run(MIGRATE)
        runs = [run for run in one.hooks.runs if run[0] == "instance-migrate"]
        self.assertEqual([set(run[2]) for run in runs], [{NODE1, NODE2}, {NODE1, NODE2}])
        for env, prefix in ((runs[0][3], "GANETI_"), (runs[1][3], "GANETI_POST_")):
            self.assertEqual((env[f"{prefix}OLD_PRIMARY"], env[f"{prefix}NEW_PRIMARY"]), (NODE1, NODE2))
        self.assertEqual(runs[0][3]["GANETI_MIGRATE_LIVE"], "True")


class CleanUpTests(SynchronousTestCase):
    """OP_INSTANCE_MIGRATE after a failure midway."""

    def found(self, **states: RunState) -> OperationWorld:
        """An instance that is found on nodes in these states."""
        one = world()
        one.model.stop(NODE1, NAME)
        for node, state in states.items():
            one.model.run(f"{node}.example.com", NAME, state=state)
        return one

    def test_on_its_primary(self) -> None:
        """On its primary only: that is confirmed."""
        one = self.found(node1=RUNNING)
        one.run(CLEAN_UP)
        self.assertEqual((primary(one), one.model.where(NAME)), (NODE1, {NODE1: RUNNING}))
        self.assertIn("confirmed", one.feedback.lines[-1])

    def test_target_still_waits(self) -> None:
        """What waits on a target is removed."""
        one = self.found(node1=RUNNING, node2=RunState.MIGRATING_IN)
        one.run(CLEAN_UP)
        self.assertEqual((primary(one), one.model.where(NAME)), (NODE1, {NODE1: RUNNING}))

    def test_on_another_node(self) -> None:
        """On another node only: that is its primary from now on."""
        one = self.found(node3=RUNNING)
        one.run(CLEAN_UP)
        self.assertEqual((primary(one), one.model.where(NAME)), (NODE3, {NODE3: RUNNING}))

    def test_sent_but_not_recorded(self) -> None:
        """It runs on the target, and the source only keeps what was sent."""
        one = self.found(node1=RunState.MIGRATED_AWAY, node2=RUNNING)
        one.run(CLEAN_UP)
        self.assertEqual((primary(one), one.model.where(NAME)), (NODE2, {NODE2: RUNNING}))
        self.assertNotIn(NODE1, opened(one))

    def test_on_several(self) -> None:
        """On several nodes at the same time: somebody has to look, and nothing is touched."""
        one = self.found(node1=RUNNING, node2=RUNNING)
        with self.assertRaisesRegex(OperationFailed, f"several nodes: {NODE1}, {NODE2}"):
            one.run(CLEAN_UP)
        self.assertEqual(one.model.where(NAME), {NODE1: RUNNING, NODE2: RUNNING})

    def test_nowhere(self) -> None:
        """Nowhere: the message says how it is started."""
        for states in ({}, {"node2": RunState.MIGRATING_IN}):
            with self.assertRaisesRegex(OperationFailed, f"runs nowhere; 'gnt-instance shutdown {NAME}'"):
                self.found(**states).run(CLEAN_UP)

    def test_silent_node(self) -> None:
        """While a node does not answer nobody knows, so nothing is done."""
        one = self.found(node1=RUNNING)
        one.nodes.unreachable.add(node_id(3))
        with self.assertRaisesRegex(OperationFailed, "do not answer: node3"):
            one.run(CLEAN_UP)


class FailoverTests(SynchronousTestCase):
    """OP_INSTANCE_FAILOVER."""

    def test_success(self) -> None:
        """It is stopped on the source and started on the target."""
        one = world()
        one.run(FAILOVER)
        self.assertEqual((primary(one), one.model.where(NAME)), (NODE2, {NODE2: RUNNING}))
        self.assertEqual(opened(one), {NODE2})

    def test_mirrored(self) -> None:
        """One on two mirrors goes to the other one, and its disks swap their order."""
        one = world(make(template="drbd"))
        one.run(FailoverInstance(instance_name="inst1"))
        (disk,) = one.cluster.disks_of(one.cluster.instance(NAME))
        self.assertEqual((primary(one), disk.nodes), (NODE2, (node_id(2), node_id(1))))
        self.assertEqual(one.model.where(NAME), {NODE2: RUNNING})

    def test_mirrored_elsewhere(self) -> None:
        """A mirrored one cannot go anywhere else."""
        one = world(make(template="drbd"))
        with self.assertRaisesRegex(PrereqError, "mirrored to node2.*leave the target away"):
            one.run(FailoverInstance(instance_name="inst1", target_node="node3"))

    def test_stopped(self) -> None:
        """A stopped one only changes its primary node, whatever memory there is."""
        one = world(make(AdminState.DOWN, memory=4096), memory_mib=2048)
        one.run(FAILOVER)
        self.assertEqual((primary(one), one.model.where(NAME)), (NODE2, {}))
        self.assertEqual(one.nodes.calls_of(InstanceStart), [])

    def test_offline_source(self) -> None:
        """From a node marked offline it is started elsewhere; the node is not contacted."""
        value = with_node(make(), "node1", offline=True, master_candidate=False)
        one = world(with_settings(value, master_node=node_id(3)))
        one.run(FAILOVER)
        self.assertEqual((primary(one), one.model.where(NAME)[NODE2]), (NODE2, RUNNING))
        self.assertNotIn("node1", [node for _, node in one.called()])

    def test_dead_source(self) -> None:
        """From a node that does not answer, and is not marked offline, it is refused with the remedy."""
        one = world(with_settings(make(), master_node=node_id(3)))
        one.nodes.unreachable.add(node_id(1))
        with self.assertRaisesRegex(OperationFailed, f"mark it offline.*--offline=yes {NODE1}"):
            one.run(FAILOVER)
        self.assertEqual((primary(one), NODE2 in one.model.where(NAME)), (NODE1, False))

    def test_dead_source_ignored(self) -> None:
        """With --ignore-consistency it goes on, and says what must be made sure of."""
        one = world(with_settings(make(), master_node=node_id(3)))
        one.nodes.unreachable.add(node_id(1))
        op = FailoverInstance(instance_name="inst1", target_node="node2", ignore_consistency=True)
        one.run(op)
        self.assertEqual((primary(one), one.model.where(NAME)[NODE2]), (NODE2, RUNNING))
        self.assertIn(f"make sure that {NODE1} is down", one.feedback.warnings[0])

    def test_does_not_stop(self) -> None:
        """If it cannot be stopped it stays where it is."""
        one = world()
        one.model.break_call(InstanceShutdown, "it does not listen")
        self.assertRaises(OperationFailed, one.run, FAILOVER)
        self.assertEqual((primary(one), one.model.where(NAME)), (NODE1, {NODE1: RUNNING}))

    def test_does_not_start(self) -> None:
        """If it does not start on the target, it is there all the same, stopped."""
        one = world()
        one.model.break_call(InstanceStart, "no memory")
        with self.assertRaisesRegex(OperationFailed, f"is on {NODE2} now, but does not start.*no memory"):
            one.run(FAILOVER)
        self.assertEqual((primary(one), opened(one)), (NODE2, set()))

    def test_refusals(self) -> None:
        """What cannot work is refused before anything is stopped."""
        cases = (
            (with_node(make(), "node2", drained=True, master_candidate=False), "node2.*is drained"),
            (with_node(make(), "node2", vm_capable=False), "node2.*vm_capable"),
            (make(memory=16), "violates the policy.*node2.*--ignore-ipolicy"),
        )
        for value, pattern in cases:
            one = world(value)
            with self.assertRaisesRegex(PrereqError, pattern):
                one.run(FAILOVER)
            self.assertEqual(one.model.where(NAME), {NODE1: RUNNING}, pattern)

    def test_no_memory(self) -> None:
        """The target needs the memory of an instance that is to run."""
        one = world(make(memory=4096), memory_mib=5000)
        with self.assertRaisesRegex(PrereqError, "node2.*needs 4096 MiB"):
            one.run(FAILOVER)

    def test_hooks(self) -> None:
        """Before: without the source, which may be dead; after: everywhere."""
        one = world(with_settings(make(), master_node=node_id(3)))
        one.run(FAILOVER)
        runs = {run[1]: run[2] for run in one.hooks.runs if run[0] == "instance-failover"}
        self.assertEqual(runs["pre"], (NODE3, NODE2))
        self.assertEqual(set(runs["post"]), {NODE1, NODE2, NODE3})

    def test_hooks_of_mirrored(self) -> None:
        """Hooks of one on mirrors are told both old and new secondary, also for a target not given."""
        one = world(make(template="drbd"))
        one.run(FailoverInstance(instance_name="inst1"))
        (env,) = (run[3] for run in one.hooks.runs if run[:2] == ("instance-failover", "pre"))
        names = [env[f"GANETI_{age}_{role}"] for age in ("OLD", "NEW") for role in ("PRIMARY", "SECONDARY")]
        self.assertEqual(names, [NODE1, NODE2, NODE2, NODE1])

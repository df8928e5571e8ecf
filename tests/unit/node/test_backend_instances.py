"""Tests of the node functions that run, stop, describe and migrate instances."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ganeti.errors import BlockDeviceError, HypervisorError
from ganeti.hypervisors.fake import FakeHypervisor
from ganeti.interfaces import IHost, IHypervisor, Plugins
from ganeti.model.calls.disks import DiskAssemble, OpenDisk
from ganeti.model.calls.instances import (
    AcceptInstance,
    AllInstancesInfo,
    FinalizeMigrationSource,
    FinalizeMigrationTarget,
    HypervisorValidateParams,
    InstanceBalloon,
    InstanceConsoleInfo,
    InstanceInfo,
    InstanceList,
    InstanceMigratable,
    InstanceMigrate,
    InstanceMigrationStatus,
    InstanceReboot,
    InstanceShutdown,
    InstanceStart,
    MigrationCancel,
    MigrationInfo,
    RunningInstance,
    RunState,
)
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.filled import FilledInstance
from ganeti.model.params import ParamTable, ParamValues
from ganeti.node.backend import instances, migration
from ganeti.node.backend.disks import blockdev_assemble
from ganeti.node.backend.reasons import reason_file
from ganeti.node.backend.registry import NodeWorld
from ganeti.testing.host import FakeHost
from ganeti.testing.node_world import WithNode

REASON = (("gnt-instance", "maintenance", 1_000_000_000),)


@implementer(IHypervisor)
class PatientHypervisor:
    """One guest that needs to be asked a number of times, and may survive everything.

    Args:
        asks: how often it has to be asked before it shuts down.
        state_after: what is left of it then; None: nothing.
        immortal: not even force ends it.
    """

    name = "patient"
    params = ParamTable("hypervisor patient", ())

    def __init__(self, asks: int, *, state_after: RunState | None = None, immortal: bool = False) -> None:
        self.asks = asks
        self.state: RunState | None = RunState.RUNNING
        self.state_after = state_after
        self.immortal = immortal
        self.log: list[tuple[str, float]] = []
        self.opened: Sequence[OpenDisk] = ()

    def check_params(self, hvparams: ParamValues) -> None:
        """Refuses the parameter `contradiction`."""
        if "contradiction" in hvparams:
            raise HypervisorError("parameters contradict")

    def validate_on_node(self, host: IHost, hvparams: ParamValues) -> None:
        """Refuses the parameter `missing_file`."""
        if "missing_file" in hvparams:
            raise HypervisorError("file is missing")

    def start(
        self, host: IHost, instance: FilledInstance, disks: Sequence[OpenDisk], *, paused: bool = False
    ) -> None:
        """Notes it."""
        self.log.append(("start", host.now()))
        self.state = RunState.RUNNING
        self.opened = disks

    def stop(self, host: IHost, name: str, *, force: bool, timeout_s: float) -> None:
        """Notes it; obeys when it was asked often enough."""
        self.log.append(("force" if force else "ask", host.now()))
        self.asks -= 1
        if force and not self.immortal:
            self.state = None
        elif self.asks <= 0 and not force:
            self.state = self.state_after

    def reboot(self, host: IHost, instance: FilledInstance, disks: Sequence[OpenDisk]) -> None:
        """Notes it."""
        self.log.append(("reboot", host.now()))

    def cleanup(self, host: IHost, name: str) -> None:
        """Notes it."""
        self.log.append(("cleanup", host.now()))

    def list_running(self, host: IHost) -> Sequence[RunningInstance]:
        """The guest, if anything is left of it."""
        if self.state is None:
            return []
        return [RunningInstance(name="inst1.example.com", memory=128, vcpus=1, state=self.state)]

    def capacity(self, host: IHost) -> NodeCapacity:
        """Not asked for."""
        raise NotImplementedError

    def self_test(self, host: IHost) -> Sequence[str]:
        """Nothing is wrong."""
        return ()


class StopTests(WithNode, SynchronousTestCase):
    """How long an instance is asked, and what happens then."""

    def stop(
        self, hypervisor: PatientHypervisor, *, timeout_s: int = 12, force: bool = False
    ) -> list[tuple[str, float]]:
        """Stop the guest; what was done, and how many seconds after the beginning."""
        start = self.host.now()
        call = InstanceShutdown(
            instance=self.instance(hypervisor="patient"), timeout_s=timeout_s, force=force, reason=REASON
        )
        instances.instance_shutdown(call, self.world_with(hypervisor))
        return [(what, when - start) for what, when in hypervisor.log]

    def test_obeys(self) -> None:
        """A guest that obeys is asked once, and cleaned up after."""
        self.assertEqual(self.stop(PatientHypervisor(1)), [("ask", 0), ("cleanup", 0)])

    def test_asked_again(self) -> None:
        """It is asked again every 5 s."""
        self.assertEqual(
            self.stop(PatientHypervisor(3)), [("ask", 0), ("ask", 5), ("ask", 10), ("cleanup", 10)]
        )

    def test_ended(self) -> None:
        """After the timeout it is ended."""
        self.assertEqual(
            self.stop(PatientHypervisor(99)),
            [("ask", 0), ("ask", 5), ("ask", 10), ("force", 12), ("cleanup", 12)],
        )

    def test_no_time(self) -> None:
        """Without any time it is asked once."""
        done = self.stop(PatientHypervisor(99), timeout_s=0)
        self.assertEqual(done, [("ask", 0), ("force", 0), ("cleanup", 0)])

    def test_force(self) -> None:
        """By force it is not asked."""
        self.assertEqual(self.stop(PatientHypervisor(1), force=True), [("force", 0), ("cleanup", 0)])

    def test_remains(self) -> None:
        """What a guest leaves that switched itself off is ended at once."""
        done = self.stop(PatientHypervisor(1, state_after=RunState.SHUTDOWN))
        self.assertEqual(done, [("ask", 0), ("force", 0), ("cleanup", 0)])

    def test_immortal(self) -> None:
        """One that runs all the same is an error, and is not cleaned up."""
        hypervisor = PatientHypervisor(99, immortal=True)
        error = self.assertRaises(HypervisorError, self.stop, hypervisor)
        self.assertIn("inst1.example.com still runs", str(error))
        self.assertNotIn("cleanup", dict(hypervisor.log))

    def test_not_running(self) -> None:
        """One that does not run is only cleaned up, and no reason is kept."""
        hypervisor = PatientHypervisor(1)
        hypervisor.state = None
        self.assertEqual(self.stop(hypervisor), [("cleanup", 0)])
        self.assertFalse(os.path.exists(reason_file(self.host, "inst1.example.com")))

    def test_reason(self) -> None:
        """The reason of the change is kept as JSON."""
        self.stop(PatientHypervisor(1))
        with open(reason_file(self.host, "inst1.example.com"), encoding="utf-8") as stream:
            self.assertEqual(json.load(stream), [["gnt-instance", "maintenance", 1_000_000_000]])


class RunTests(WithNode, SynchronousTestCase):
    """Starting, rebooting and describing."""

    def start(self, instance: FilledInstance, **arguments: Any) -> None:
        """Call the function."""
        instances.instance_start(InstanceStart(instance=instance, **arguments), self.node)

    def info(self, name: str = "inst1.example.com") -> RunningInstance | None:
        """Call the function."""
        return instances.instance_info(InstanceInfo(name=name, hypervisor="fake"), self.node)

    def test_start(self) -> None:
        """An instance that was started is told by name, in lists and in full."""
        self.start(self.instance(self.created_disk()))
        found = self.info()
        assert found is not None
        self.assertEqual(
            (found.name, found.memory, found.state), ("inst1.example.com", 128, RunState.RUNNING)
        )
        self.assertIsNone(self.info("inst2.example.com"))
        everything = instances.all_instances_info(AllInstancesInfo(hypervisors=("fake",)), self.node)
        self.assertEqual(everything, {"inst1.example.com": found})
        names = instances.instance_list(InstanceList(hypervisors=("fake",)), self.node)
        self.assertEqual(names, ("inst1.example.com",))

    def test_disks(self) -> None:
        """It gets its disks open, in order, each with its stable name."""
        hypervisor = PatientHypervisor(1)
        hypervisor.state = None
        disks = [self.created_disk(index=index) for index in (0, 1)]
        call = InstanceStart(instance=self.instance(*disks, hypervisor="patient"))
        instances.instance_start(call, self.world_with(hypervisor))
        self.assertEqual([disk.path for disk in hypervisor.opened], [disk.logical_id[1] for disk in disks])
        self.assertEqual(
            [os.path.basename(disk.link or "") for disk in hypervisor.opened],
            ["inst1.example.com:0", "inst1.example.com:1"],
        )

    def test_missing_disk(self) -> None:
        """Without its data it is not started."""
        self.assertRaises(BlockDeviceError, self.start, self.instance(self.make_disk()))
        self.assertIsNone(self.info())

    def test_start_again(self) -> None:
        """Starting one that runs does nothing, and does not even need its disks."""
        self.start(self.instance())
        self.start(self.instance(self.make_disk()), paused=True)
        found = self.info()
        assert found is not None
        self.assertEqual(found.state, RunState.RUNNING)

    def test_unknown_hypervisor(self) -> None:
        """A hypervisor that this node does not have is named, with those it has."""
        error = self.assertRaises(HypervisorError, self.start, self.instance(hypervisor="vax"))
        self.assertIn("vax", str(error))
        self.assertIn("fake", str(error))

    def reboot(self, kind: str) -> list[str]:
        """What a hypervisor is told for a reboot."""
        hypervisor = PatientHypervisor(1)
        call = InstanceReboot(instance=self.instance(hypervisor="patient"), reboot_type=kind)
        instances.instance_reboot(call, self.world_with(hypervisor))
        return [what for what, _ in hypervisor.log]

    def test_reboot(self) -> None:
        """Soft: from inside; hard: stopped and started; nothing else is known to a node."""
        self.assertEqual(self.reboot("soft"), ["reboot"])
        self.assertEqual(self.reboot("hard"), ["ask", "cleanup", "start"])
        self.assertRaises(HypervisorError, self.reboot, "full")

    def test_reboot_of_stopped(self) -> None:
        """One that does not run cannot be rebooted."""
        call = InstanceReboot(instance=self.instance(), reboot_type="soft")
        self.assertRaises(HypervisorError, instances.instance_reboot, call, self.node)

    def test_balloon(self) -> None:
        """Memory changes where the hypervisor can do that, else the error says so."""
        self.start(self.instance())
        instances.instance_balloon_memory(InstanceBalloon(instance=self.instance(), memory=96), self.node)
        found = self.info()
        assert found is not None
        self.assertEqual(found.memory, 96)
        call = InstanceBalloon(instance=self.instance(hypervisor="patient"), memory=96)
        world = self.world_with(PatientHypervisor(1))
        error = self.assertRaises(HypervisorError, instances.instance_balloon_memory, call, world)
        self.assertIn("patient", str(error))

    def test_console(self) -> None:
        """Consoles come by name; without one there is a message."""
        call = InstanceConsoleInfo(instances=(self.instance(),))
        self.assertEqual(
            instances.instance_console_info(call, self.node)["inst1.example.com"].instance,
            "inst1.example.com",
        )
        call = InstanceConsoleInfo(instances=(self.instance(hypervisor="patient"),))
        found = instances.instance_console_info(call, self.world_with(PatientHypervisor(1)))
        self.assertEqual(found["inst1.example.com"].kind, "msg")

    def test_twice(self) -> None:
        """An instance under two hypervisors is an error that names it."""
        self.start(self.instance())
        both = {"fake": FakeHypervisor(), "patient": PatientHypervisor(1)}
        world = NodeWorld(host=self.host, plugins=Plugins(hypervisors=both, storage={}, iallocators={}))
        call = AllInstancesInfo(hypervisors=("fake", "patient"))
        error = self.assertRaises(HypervisorError, instances.all_instances_info, call, world)
        self.assertIn("inst1.example.com", str(error))

    def test_validate(self) -> None:
        """Parameters are checked against each other and against the node."""
        world = self.world_with(PatientHypervisor(1))
        for values in ({"contradiction": True}, {"missing_file": "x"}):
            call = HypervisorValidateParams(hypervisor="patient", hvparams=values)
            self.assertRaises(HypervisorError, instances.hypervisor_validate_params, call, world)
        call = HypervisorValidateParams(hypervisor="patient", hvparams={})
        self.assertIsNone(instances.hypervisor_validate_params(call, world))


class MigrationTests(WithNode, SynchronousTestCase):
    """A migration between two nodes, function by function."""

    def setUp(self) -> None:
        """An instance that runs on the first of two nodes."""
        super().setUp()
        self.disk = self.created_disk(template="sharedfile")
        self.guest = self.instance(self.disk)
        blockdev_assemble(
            DiskAssemble(disk=self.disk, instance=self.guest.name, on_primary=True, index=0), self.node
        )
        instances.instance_start(InstanceStart(instance=self.guest), self.node)
        target_host = FakeHost(f"{self.directory}/node2", name="node2.example.com")
        os.makedirs(target_host.paths.run_dir)
        self.write(target_host.paths.file_storage_paths, f"{self.images}\n")
        self.target = NodeWorld(host=target_host, plugins=self.node.plugins)

    def names(self, node: NodeWorld) -> tuple[str, ...]:
        """What runs on a node."""
        return instances.instance_list(InstanceList(hypervisors=("fake",)), node)

    def send(self) -> str:
        """Do everything up to the end of the transfer."""
        migration.instance_migratable(InstanceMigratable(instance=self.guest), self.node)
        info = migration.migration_info(MigrationInfo(instance=self.guest), self.node)
        migration.accept_instance(
            AcceptInstance(instance=self.guest, info=info, target_ip="127.0.0.1"), self.target
        )
        migration.instance_migrate(
            InstanceMigrate(cluster_name="cluster", instance=self.guest, target_ip="127.0.0.1"), self.node
        )
        return info

    def finish(self, info: str, *, success: bool) -> None:
        """End it on both sides."""
        migration.instance_finalize_migration_dst(
            FinalizeMigrationTarget(instance=self.guest, info=info, success=success), self.target
        )
        migration.instance_finalize_migration_src(
            FinalizeMigrationSource(instance=self.guest, success=success), self.node
        )

    def test_success(self) -> None:
        """Afterwards it runs on the target only."""
        info = self.send()
        for _ in range(100):
            status = migration.instance_get_migration_status(
                InstanceMigrationStatus(instance=self.guest), self.node
            )
            if status.is_over:
                break
            self.host.sleep(1)
        self.assertEqual(status.status, "completed")
        self.finish(info, success=True)
        self.assertEqual((self.names(self.node), self.names(self.target)), ((), (self.guest.name,)))

    def test_cancelled(self) -> None:
        """A cancelled one goes on at the source."""
        info = self.send()
        migration.instance_migration_cancel(MigrationCancel(instance=self.guest), self.node)
        self.finish(info, success=False)
        self.assertEqual((self.names(self.node), self.names(self.target)), ((self.guest.name,), ()))

    def test_no_link(self) -> None:
        """Without the stable name of a disk it cannot be migrated, and the remedy is told."""
        os.unlink(f"{self.host.paths.instance_disks_dir}/{self.guest.name}:0")
        call = InstanceMigratable(instance=self.guest)
        error = self.assertRaises(HypervisorError, migration.instance_migratable, call, self.node)
        self.assertIn("activate-disks", str(error))

    def test_not_running(self) -> None:
        """What does not run here cannot leave."""
        call = InstanceMigratable(instance=self.guest)
        self.assertRaises(HypervisorError, migration.instance_migratable, call, self.target)

    def test_hypervisor_cannot(self) -> None:
        """A hypervisor that cannot migrate says so, and what to do instead."""
        call = MigrationInfo(instance=self.instance(hypervisor="patient"))
        world = self.world_with(PatientHypervisor(1))
        error = self.assertRaises(HypervisorError, migration.migration_info, call, world)
        self.assertIn("failover", str(error))

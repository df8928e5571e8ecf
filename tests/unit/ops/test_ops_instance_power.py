"""Tests of starting, stopping and restarting instances, and of their consoles."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import BlockDeviceError, ErrorCode, OperationFailed, PrereqError
from ganeti.model.calls.disks import DiskAssemble
from ganeti.model.calls.instances import (
    InstanceInfo,
    InstanceReboot,
    InstanceShutdown,
    InstanceStart,
    RunState,
)
from ganeti.model.calls.system import BridgesExist
from ganeti.model.cluster import Cluster
from ganeti.model.instance import AdminSource, AdminState
from ganeti.ops.instance.console import InstanceConsole
from ganeti.ops.instance.reboot import RebootInstance
from ganeti.ops.instance.shutdown import ShutdownInstance
from ganeti.ops.instance.startup import StartInstance
from ganeti.testing.clusters import changed_instance, cluster, with_node
from ganeti.testing.operations import OperationWorld

NAME = "inst1.example.com"


def world(
    state: AdminState = AdminState.DOWN, value: Cluster | None = None, **options: Any
) -> OperationWorld:
    """Three nodes and one mirrored instance on the first two."""
    return OperationWorld(value or cluster(instances=1, admin_state=state), **options)


def state_of(world: OperationWorld) -> AdminState:
    """What is wanted of the instance."""
    return world.cluster.instance(NAME).admin_state


class StartTests(SynchronousTestCase):
    """OP_INSTANCE_STARTUP."""

    def test_starts(self) -> None:
        """The disks are opened on both nodes, secondary first, then it starts; that is recorded."""
        one = world()
        self.assertIsNone(one.run(StartInstance(instance_name="inst1")))
        self.assertEqual(
            one.called()[-3:],
            [("blockdev_assemble", "node2"), ("blockdev_assemble", "node1"), ("instance_start", "node1")],
        )
        self.assertEqual(one.model.where(NAME), {"node1.example.com": RunState.RUNNING})
        self.assertEqual((state_of(one), one.cluster.instance(NAME).disks_active), (AdminState.UP, True))

    def test_running_already(self) -> None:
        """One that runs stays as it is."""
        one = world(AdminState.UP)
        one.run(StartInstance(instance_name="inst1"))
        self.assertEqual(one.model.where(NAME), {"node1.example.com": RunState.RUNNING})

    def test_paused(self) -> None:
        """It may be started with its processors stopped."""
        one = world()
        one.run(StartInstance(instance_name="inst1", startup_paused=True))
        self.assertEqual(one.model.where(NAME), {"node1.example.com": RunState.PAUSED})

    def test_without_remembering(self) -> None:
        """The wanted state may stay as it was."""
        one = world()
        one.run(StartInstance(instance_name="inst1", no_remember=True))
        self.assertEqual((state_of(one), len(one.model.where(NAME))), (AdminState.DOWN, 1))

    def test_parameters_for_this_start(self) -> None:
        """Backend parameters can be given for one start; nothing of them is kept."""
        one = world()
        one.run(StartInstance(instance_name="inst1", beparams={"maxmem": 512, "minmem": 512}))
        self.assertEqual(one.model.running["node1.example.com"][NAME].memory, 512)
        self.assertEqual(one.cluster.instance(NAME).beparams["maxmem"], 128)

    def test_wrong_parameters(self) -> None:
        """A parameter that does not exist is refused before anything happens."""
        one = world()
        for wrong in ({"beparams": {"memry": 1}}, {"hvparams": {"colour": "red"}}):
            with self.assertRaises(PrereqError):
                one.run(StartInstance(instance_name="inst1", **wrong))
        self.assertEqual((one.called(), state_of(one)), ([], AdminState.DOWN))

    def test_marked_offline(self) -> None:
        """One marked offline is refused; the message says how it comes back."""
        one = world(AdminState.OFFLINE)
        with self.assertRaisesRegex(PrereqError, f"{NAME} is marked offline.*--online"):
            one.run(StartInstance(instance_name="inst1"))

    def test_no_memory(self) -> None:
        """It needs its minimal memory on the primary node."""
        one = world(value=cluster(instances=1, memory=8192, admin_state=AdminState.DOWN), memory_mib=8000)
        with self.assertRaisesRegex(PrereqError, "node1.*6976 MiB.*needs 8192 MiB") as caught:
            one.run(StartInstance(instance_name="inst1"))
        self.assertEqual(caught.exception.code, ErrorCode.NO_RESOURCES)

    def test_missing_bridge(self) -> None:
        """Its bridges have to be there."""
        one = world()
        one.model.break_call(BridgesExist, "no bridge xen-br0")
        with self.assertRaisesRegex(PrereqError, f"{NAME} cannot start on node1.*xen-br0"):
            one.run(StartInstance(instance_name="inst1"))

    def test_offline_node(self) -> None:
        """On a node marked offline it is refused, or only recorded."""
        one = world(value=with_node(world().cluster, "node1", offline=True, master_candidate=False))
        with self.assertRaisesRegex(PrereqError, "node1.*offline.*--ignore-offline"):
            one.run(StartInstance(instance_name="inst1"))
        one.run(StartInstance(instance_name="inst1", ignore_offline_nodes=True))
        self.assertEqual((state_of(one), one.called()), (AdminState.UP, []))

    def test_silent_node(self) -> None:
        """A node that does not answer is named."""
        one = world()
        one.nodes.unreachable.add(one.cluster.master.uuid)
        with self.assertRaisesRegex(PrereqError, "cannot ask node node1") as caught:
            one.run(StartInstance(instance_name="inst1"))
        self.assertEqual(caught.exception.code, ErrorCode.ENVIRONMENT)

    def test_disk_fails(self) -> None:
        """If a disk cannot be opened, all are closed again and nothing starts."""
        one = world()
        one.model.break_call(DiskAssemble, BlockDeviceError("gone"), one.cluster.node("node1"))
        with self.assertRaisesRegex(OperationFailed, "disk 0 of inst1.*node1.*gone"):
            one.run(StartInstance(instance_name="inst1"))
        instance = one.cluster.instance(NAME)
        self.assertEqual((one.model.opened(instance.disks[0]), instance.disks_active), (set(), False))

    def test_secondary_disk_fails(self) -> None:
        """A broken mirror is an error, unless it is to start by force."""
        for force in (False, True):
            one = world()
            one.model.break_call(DiskAssemble, BlockDeviceError("gone"), one.cluster.node("node2"))
            op = StartInstance(instance_name="inst1", force=force)
            if force:
                one.run(op)
                self.assertIn("secondary node2.example.com: gone", one.feedback.warnings[0])
            else:
                with self.assertRaisesRegex(OperationFailed, "secondary node2.example.com: gone"):
                    one.run(op)
            self.assertEqual(bool(one.model.where(NAME)), force)

    def test_start_fails(self) -> None:
        """If the hypervisor refuses, the disks are closed; the wanted state stays `up`."""
        one = world()
        one.model.break_call(InstanceStart, "no kvm")
        with self.assertRaisesRegex(OperationFailed, "could not start inst1.*node1.example.com: no kvm"):
            one.run(StartInstance(instance_name="inst1"))
        self.assertEqual(one.model.opened(one.cluster.instance(NAME).disks[0]), set())
        self.assertEqual(state_of(one), AdminState.UP)

    def test_guest_had_switched_itself_off(self) -> None:
        """What the hypervisor still has of a guest that shut down is cleared away first."""
        one = world(AdminState.UP)
        one.model.run("node1.example.com", NAME, state=RunState.SHUTDOWN)
        one.run(StartInstance(instance_name="inst1"))
        functions = [function for function, _ in one.called()]
        self.assertLess(functions.index("instance_shutdown"), functions.index("blockdev_shutdown"))
        self.assertEqual(one.model.where(NAME), {"node1.example.com": RunState.RUNNING})

    def test_hooks(self) -> None:
        """Hooks run on the master and the instance's nodes, before and after."""
        one = world()
        one.run(StartInstance(instance_name="inst1", force=True))
        runs = [run for run in one.hooks.runs if run[0] == "instance-start"]
        self.assertEqual([run[1] for run in runs], ["pre", "post"])
        self.assertEqual(runs[0][2], ("node1.example.com", "node2.example.com"))
        env = runs[0][3]
        self.assertEqual((env["GANETI_INSTANCE_NAME"], env["GANETI_FORCE"]), (NAME, "True"))
        self.assertEqual(runs[1][3]["GANETI_POST_INSTANCE_STATUS"], "up")

    def test_dry_run(self) -> None:
        """A dry run checks and changes nothing."""
        one = world()
        self.assertIsNone(one.run(StartInstance(instance_name="inst1", dry_run=True)))
        self.assertEqual((one.model.where(NAME), one.config.changes), ({}, []))


class ShutdownTests(SynchronousTestCase):
    """OP_INSTANCE_SHUTDOWN."""

    def test_stops(self) -> None:
        """It is stopped, its disks are closed everywhere, and that is recorded."""
        one = world(AdminState.UP)
        one.run(ShutdownInstance(instance_name="inst1", timeout=30))
        self.assertEqual(one.nodes.calls_of(InstanceShutdown)[0].call.timeout_s, 30)
        instance = one.cluster.instance(NAME)
        self.assertEqual((one.model.where(NAME), one.model.opened(instance.disks[0])), ({}, set()))
        self.assertEqual(
            (instance.admin_state, instance.admin_state_source, instance.disks_active),
            (AdminState.DOWN, AdminSource.ADMIN, False),
        )

    def test_source(self) -> None:
        """Who asked for it can be recorded."""
        one = world(AdminState.UP)
        one.run(ShutdownInstance(instance_name="inst1", admin_state_source=AdminSource.USER))
        self.assertEqual(one.cluster.instance(NAME).admin_state_source, AdminSource.USER)

    def test_without_remembering(self) -> None:
        """The wanted state may stay as it was."""
        one = world(AdminState.UP)
        one.run(ShutdownInstance(instance_name="inst1", no_remember=True))
        self.assertEqual((state_of(one), one.model.where(NAME)), (AdminState.UP, {}))

    def test_marked_offline(self) -> None:
        """One marked offline is stopped only by force, and stays marked."""
        one = world(AdminState.OFFLINE)
        with self.assertRaisesRegex(PrereqError, "is marked offline"):
            one.run(ShutdownInstance(instance_name="inst1"))
        one.model.run("node1.example.com", NAME)
        one.run(ShutdownInstance(instance_name="inst1", force=True))
        self.assertEqual((state_of(one), one.model.where(NAME)), (AdminState.OFFLINE, {}))

    def test_offline_node(self) -> None:
        """On a node marked offline it is refused, or only recorded."""
        up = world(AdminState.UP).cluster
        one = world(value=with_node(up, "node1", offline=True, master_candidate=False))
        with self.assertRaisesRegex(PrereqError, "node1.*offline.*--ignore-offline"):
            one.run(ShutdownInstance(instance_name="inst1"))
        one.run(ShutdownInstance(instance_name="inst1", ignore_offline_nodes=True))
        self.assertEqual((state_of(one), one.called()), (AdminState.DOWN, []))

    def test_does_not_stop(self) -> None:
        """If it cannot be stopped the job fails, and its disks stay open."""
        one = world(AdminState.UP)
        one.model.break_call(InstanceShutdown, "it does not listen")
        with self.assertRaisesRegex(OperationFailed, f"could not stop {NAME} on node1.*does not listen"):
            one.run(ShutdownInstance(instance_name="inst1"))
        self.assertEqual(len(one.model.opened(one.cluster.instance(NAME).disks[0])), 2)


class RebootTests(SynchronousTestCase):
    """OP_INSTANCE_REBOOT."""

    def test_on_the_node(self) -> None:
        """Soft and hard are done by the node; the disks are left alone."""
        for kind in ("soft", "hard"):
            one = world(AdminState.UP)
            one.run(RebootInstance(instance_name="inst1", reboot_type=kind, shutdown_timeout=7))
            (called,) = one.nodes.calls_of(InstanceReboot)
            self.assertEqual((called.call.reboot_type, called.call.shutdown_timeout_s), (kind, 7))
            self.assertEqual(one.nodes.calls_of(DiskAssemble), [])

    def test_full(self) -> None:
        """Full stops it, closes and opens the disks, and starts it."""
        one = world(AdminState.UP)
        one.run(RebootInstance(instance_name="inst1", reboot_type="full"))
        functions = [function for function, _ in one.called()]
        wanted = ["instance_shutdown", "blockdev_shutdown", "blockdev_assemble", "instance_start"]
        self.assertEqual(sorted(wanted, key=functions.index), wanted)
        self.assertEqual(one.model.where(NAME), {"node1.example.com": RunState.RUNNING})

    def test_stopped(self) -> None:
        """One that does not run is started, and is to run from now on."""
        for kind in ("soft", "hard", "full"):
            one = world()
            one.run(RebootInstance(instance_name="inst1", reboot_type=kind))
            self.assertEqual((state_of(one), len(one.model.where(NAME))), (AdminState.UP, 1))

    def test_guest_had_switched_itself_off(self) -> None:
        """A guest that shut down cannot be reset: it is cleared away and started."""
        one = world(AdminState.UP)
        one.model.run("node1.example.com", NAME, state=RunState.SHUTDOWN)
        one.run(RebootInstance(instance_name="inst1", reboot_type="soft"))
        self.assertEqual(one.nodes.calls_of(InstanceReboot), [])
        self.assertEqual(one.model.where(NAME), {"node1.example.com": RunState.RUNNING})

    def test_refusals(self) -> None:
        """Offline instances, offline nodes, missing bridges."""
        up = world(AdminState.UP).cluster
        cases = (
            (changed_instance(up, "inst1", admin_state=AdminState.OFFLINE), "is marked offline"),
            (with_node(up, "node1", offline=True, master_candidate=False), "node1.*marked offline"),
        )
        for value, pattern in cases:
            with self.assertRaisesRegex(PrereqError, pattern):
                world(value=value).run(RebootInstance(instance_name="inst1", reboot_type="hard"))
        one = world(AdminState.UP)
        one.model.break_call(BridgesExist, "no bridge xen-br0")
        with self.assertRaisesRegex(PrereqError, "no bridge xen-br0"):
            one.run(RebootInstance(instance_name="inst1", reboot_type="hard"))

    def test_fails(self) -> None:
        """What the node says is told."""
        one = world(AdminState.UP)
        one.model.break_call(InstanceReboot, "qemu is gone")
        with self.assertRaisesRegex(OperationFailed, "could not restart inst1.*node1.*qemu is gone"):
            one.run(RebootInstance(instance_name="inst1", reboot_type="soft"))


class ConsoleTests(SynchronousTestCase):
    """OP_INSTANCE_CONSOLE."""

    def test_running(self) -> None:
        """The established dictionary."""
        found = world(AdminState.UP).run(InstanceConsole(instance_name="inst1"))
        self.assertEqual(
            set(found), {"instance", "kind", "message", "host", "port", "user", "command", "display"}
        )
        self.assertEqual((found["instance"], found["host"]), (NAME, "node1.example.com"))

    def test_stopped(self) -> None:
        """One that does not run has no console; the message says how to start it."""
        with self.assertRaisesRegex(PrereqError, f"{NAME} does not run; 'gnt-instance startup"):
            world().run(InstanceConsole(instance_name="inst1"))

    def test_guest_had_switched_itself_off(self) -> None:
        """Neither has one whose guest shut down."""
        one = world(AdminState.UP)
        one.model.run("node1.example.com", NAME, state=RunState.SHUTDOWN)
        with self.assertRaisesRegex(PrereqError, f"{NAME} does not run"):
            one.run(InstanceConsole(instance_name="inst1"))

    def test_silent_node(self) -> None:
        """A node that does not tell is named."""
        one = world(AdminState.UP)
        one.model.break_call(InstanceInfo, "no answer")
        with self.assertRaisesRegex(PrereqError, "cannot ask node node1"):
            one.run(InstanceConsole(instance_name="inst1"))

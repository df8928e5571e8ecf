"""Tests of OP_INSTANCE_MOVE: an instance is copied to another node, whole or not at all (S2.3-033)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import BlockDeviceError, ConfigurationError, NodeUnreachable, OperationFailed, PrereqError
from ganeti.model.calls.disks import DiskCreate, DiskRemove
from ganeti.model.calls.instances import InstanceShutdown, InstanceStart
from ganeti.model.calls.transfers import DiskReceive, DiskSend, TransferEndpoint
from ganeti.model.cluster import Cluster
from ganeti.model.instance import AdminState
from ganeti.model.locks import LockLevel, LockMode
from ganeti.ops.instance.move import MoveInstance
from ganeti.testing.clusters import cluster, node_id, with_instance, with_node, with_settings
from ganeti.testing.operations import OperationWorld

NAME = "inst1.example.com"
NODE1, NODE2 = "node1.example.com", "node2.example.com"
MOVE = MoveInstance(instance_name="inst1", target_node="node2")


def make(template: str = "file", **options: Any) -> Cluster:
    """Nodes 1 and 3 in one group, 2 and 4 in another; an instance with two disks on the first."""
    return with_instance(
        cluster(nodes=4, groups=2),
        "inst1",
        primary="node1",
        template=template,
        disk_sizes=(2048, 1024),
        **options,
    )


class MoveCase(SynchronousTestCase):
    """One instance that may move."""

    def setUp(self) -> None:
        """A world."""
        self.world = OperationWorld(make())

    def use(self, value: Cluster, **options: Any) -> None:
        """Another world."""
        self.world = OperationWorld(value, **options)

    def disks(self) -> list[Any]:
        """Its disks as the configuration has them now."""
        return list(self.world.cluster.disks_of(self.world.cluster.instance(NAME)))

    def assert_on(self, node: str, *, runs: bool = True) -> None:
        """It is on that node only, with all its data; it runs there, or nowhere."""
        one, value = self.world, self.world.cluster
        self.assertEqual(value.nodes[value.instance(NAME).primary_node].name, node)
        self.assertEqual(list(one.model.where(NAME)), [node] if runs else [])
        for disk in self.disks():
            self.assertEqual([value.nodes[uuid].name for uuid in disk.nodes], [node])
            self.assertEqual(one.model.stored(disk.uuid), {node})
            self.assertEqual(one.model.opened(disk.uuid), {node} if runs else set())
            content = one.model.transfers.content.get((node, disk.uuid), f"data of {disk.uuid}")
            self.assertEqual(content, f"data of {disk.uuid}")
        self.assertFalse(one.model.transfers.is_listening)

    def refused(self, text: str, op: MoveInstance = MOVE) -> None:
        """It is refused with this text; nothing was touched."""
        with self.assertRaisesRegex(PrereqError, text):
            self.world.run(op)
        self.assert_on(NODE1, runs=self.world.cluster.instance(NAME).admin_state is AdminState.UP)


class MoveTests(MoveCase):
    """What it does."""

    def test_running(self) -> None:
        """It runs on the target, also in another group, and nothing of it is left where it was."""
        before = self.disks()
        self.assertIsNone(self.world.run(MOVE))
        self.assert_on(NODE2)
        self.assertEqual(self.world.feedback.warnings, [])
        self.assertEqual([disk.uuid for disk in self.disks()], [disk.uuid for disk in before])

    def test_order(self) -> None:
        """It stops before the first byte is copied, and starts before the old data goes."""
        self.world.run(MOVE)
        steps = ("instance_shutdown", "blockdev_create", "disk_receive", "disk_send", "instance_start")
        self.assertEqual(
            [step for step in self.world.called() if step[0] in steps],
            [
                ("instance_shutdown", "node1"),
                *(2 * [("blockdev_create", "node2")]),
                *(2 * [("disk_receive", "node2"), ("disk_send", "node1")]),
                ("instance_start", "node2"),
            ],
        )
        self.assertEqual(self.world.called()[-1], ("blockdev_remove", "node1"))

    def test_stopped(self) -> None:
        """One that is not to run stays stopped."""
        self.use(make(admin_state=AdminState.DOWN))
        self.world.run(MOVE)
        self.assert_on(NODE2, runs=False)

    def test_there_and_back(self) -> None:
        """Every place has a name of its own for the data, and it can go back and forth."""
        places = [self.disks()[0].logical_id]
        for node in ("node2", "node1", "node3", "node2"):
            self.world.run(replace(MOVE, target_node=node))
            self.assert_on(f"{node}.example.com")
            places.append(self.disks()[0].logical_id)
        self.assertEqual(len(set(places)), 4)

    def test_plain(self) -> None:
        """A volume keeps its group."""
        self.use(make("plain"))
        group = self.disks()[0].logical_id[0]
        self.world.run(MOVE)
        self.assert_on(NODE2)
        self.assertEqual(self.disks()[0].logical_id[0], group)

    def test_address(self) -> None:
        """The copy goes over the secondary network; each transfer has its own token."""
        self.use(with_node(make(), "node2", secondary_ip="10.8.0.2"))
        self.world.run(replace(MOVE, compress="gzip"))
        receiving = [one.call for one in self.world.nodes.calls_of(DiskReceive)]
        sending = [one.call for one in self.world.nodes.calls_of(DiskSend)]
        self.assertEqual({call.address for call in receiving}, {"10.8.0.2"})
        self.assertEqual([call.token for call in receiving], [call.token for call in sending])
        self.assertEqual(len({call.token for call in receiving}), 2)
        self.assertEqual({call.compress for call in sending}, {"gzip"})
        self.assertEqual({call.source for call in receiving}, {node_id(1)})
        self.assertEqual({call.target for call in sending}, {node_id(2)})

    def test_locks(self) -> None:
        """The instance, source and target, and their resources."""
        requests = self.world.plan(MOVE).requests
        for level in (LockLevel.NODE, LockLevel.NODE_RES):
            self.assertEqual(set(requests[level].names or ()), {node_id(1), node_id(2)})
            self.assertIs(requests[level].mode, LockMode.EXCLUSIVE)
        self.assertEqual(set(requests[LockLevel.INSTANCE].names or ()), {NAME})

    def test_hooks(self) -> None:
        """Hooks run on the master, the source and the target, before and after."""
        self.use(with_settings(make(), master_node=node_id(3)))
        operation = self.world.operation(MOVE)
        before = operation.hook_nodes(self.world.cluster)
        self.assertEqual(set(before.pre), {node_id(1), node_id(2), node_id(3)})
        env = operation.hook_env(self.world.cluster)
        self.assertEqual((env["TARGET_NODE"], env["SHUTDOWN_TIMEOUT"]), (NODE2, "120"))
        self.world.with_context(operation)
        self.world.advance(10)
        self.assert_on(NODE2)
        self.assertEqual(
            set(operation.hook_nodes(self.world.cluster).post), {node_id(1), node_id(2), node_id(3)}
        )


class FailureTests(MoveCase):
    """What fails on the way."""

    def fails(self, text: str) -> None:
        """It fails with this text and stays, whole and running."""
        with self.assertRaisesRegex(OperationFailed, f"was not moved and stays on {NODE1}: .*{text}"):
            self.world.run(MOVE)
        self.assert_on(NODE1)

    def test_every_step_before_the_end(self) -> None:
        """Whatever fails while it is copied, it runs on at the source, and the target has nothing of it."""
        steps: tuple[tuple[Any, str], ...] = (
            (InstanceShutdown, "node1"),
            (DiskCreate, "node2"),
            (DiskReceive, "node2"),
            (TransferEndpoint, "node2"),
            (DiskSend, "node1"),
        )
        for step, node in steps:
            for error in (BlockDeviceError("broken"), NodeUnreachable("the call is broken")):
                with self.subTest(f"{step.__name__}: {error}"):
                    self.use(make())
                    self.world.model.break_call(step, error, self.world.cluster.node(node))
                    if step is InstanceShutdown:
                        with self.assertRaisesRegex(OperationFailed, "broken"):
                            self.world.run(MOVE)
                        self.assertEqual(list(self.world.model.where(NAME)), [NODE1])
                    else:
                        # Of a receiver that was never there the node itself can only say this.
                        self.fails("no disk is being received" if step is DiskReceive else "broken")

    def test_second_disk(self) -> None:
        """A second disk that fails takes the first one with it."""
        answer = self.world.model.answer_of(DiskSend)

        def second_fails(node: Any, call: DiskSend) -> Any:
            if call.disk.iv_name == "disk/1":
                raise BlockDeviceError("a bad sector")
            return answer(node, call)

        self.world.nodes.answer(DiskSend, second_fails)
        self.fails("disk/1 of inst1.*a bad sector")

    def test_other_content(self) -> None:
        """What arrives has to be what was sent."""
        self.world.model.transfers.is_lossy = True
        self.fails("sent .* got")

    def test_configuration(self) -> None:
        """A change that is not durable has not happened."""
        update = self.world.config.update

        async def refuse(change: Callable[[Cluster], Cluster], *, reason: str) -> Cluster:
            if "was copied" in reason:
                raise ConfigurationError("no candidate answers")
            return await update(change, reason=reason)

        self.world.config.update = refuse  # type: ignore[method-assign]
        self.fails("no candidate answers")

    def test_stopped(self) -> None:
        """One that did not run does not run afterwards."""
        self.use(make(admin_state=AdminState.DOWN))
        self.world.model.break_call(DiskSend, BlockDeviceError("broken"))
        with self.assertRaisesRegex(OperationFailed, "broken"):
            self.world.run(MOVE)
        self.assert_on(NODE1, runs=False)

    def test_repeated(self) -> None:
        """What a move left behind that was killed is replaced."""
        self.world.model.break_call(DiskSend, BlockDeviceError("broken"))
        self.world.model.break_call(DiskRemove, BlockDeviceError("busy"), self.world.cluster.node("node2"))
        with self.assertRaisesRegex(OperationFailed, "busy"):
            self.world.run(MOVE)
        disk = self.disks()[0].uuid
        self.world.model.data.setdefault(NODE2, set()).add(disk)
        self.use_repaired()
        self.world.run(MOVE)
        self.assert_on(NODE2)

    def use_repaired(self) -> None:
        """All calls work again."""
        self.world.model.repair_call(DiskSend)
        self.world.nodes.answer(
            DiskRemove, self.world.model.answer_of(DiskRemove), node=self.world.cluster.node("node2").uuid
        )

    def test_target_keeps_something(self) -> None:
        """What cannot be removed on the target is named, with what to do."""
        self.world.model.break_call(DiskSend, BlockDeviceError("broken"))
        remove, asked = self.world.model.answer_of(DiskRemove), []

        def busy_later(node: Any, call: DiskRemove) -> Any:
            asked.append(call)
            if len(asked) > 2:
                raise BlockDeviceError("busy")
            return remove(node, call)

        self.world.nodes.answer(DiskRemove, busy_later)
        with self.assertRaisesRegex(OperationFailed, "broken"):
            self.world.run(MOVE)
        first, _ = self.world.feedback.warnings
        self.assertRegex(first, "cannot remove the incomplete disk/0 .* on node2.*busy.*repeat the move")
        self.assertEqual(list(self.world.model.where(NAME)), [NODE1])

    def test_source_keeps_something(self) -> None:
        """What cannot be removed at the source is a warning with the place; the move is done."""
        self.world.model.break_call(DiskRemove, BlockDeviceError("busy"), self.world.cluster.node("node1"))
        old = self.disks()[1].logical_id[1]
        self.world.run(MOVE)
        self.assertEqual(list(self.world.model.where(NAME)), [NODE2])
        self.assertRegex(self.world.feedback.warnings[1], f"old disk/1 .* on node1.*busy.*by hand: .*{old}")

    def test_does_not_start(self) -> None:
        """It is on the target when it does not start there, and its old data is gone."""
        self.world.model.break_call(InstanceStart, "no kvm", self.world.cluster.node("node2"))
        with self.assertRaisesRegex(OperationFailed, f"is on {NODE2} now, but does not start: .*no kvm"):
            self.world.run(MOVE)
        self.assert_on(NODE2, runs=False)

    def test_cannot_be_stopped(self) -> None:
        """With --ignore-consistency it goes on when the source only does not say that it stopped it."""
        stop = self.world.model.answer_of(InstanceShutdown)

        def stop_and_fail(node: Any, call: InstanceShutdown) -> None:
            stop(node, call)
            raise BlockDeviceError("no answer from the monitor")

        self.world.nodes.answer(InstanceShutdown, stop_and_fail)
        self.world.run(replace(MOVE, ignore_consistency=True))
        self.assert_on(NODE2)
        self.assertIn("no answer from the monitor; going on", self.world.feedback.warnings[0])


class RefusalTests(MoveCase):
    """What is refused before anything is touched."""

    def test_target(self) -> None:
        """Where it is already, and nodes that may get no instance."""
        self.refused("is on node1.example.com already", replace(MOVE, target_node="node1"))
        for flag, text in (
            ("offline", "marked offline"),
            ("drained", "drained"),
            ("vm_capable", "vm_capable"),
        ):
            self.use(with_node(make(), "node2", **{flag: flag != "vm_capable"}))
            self.refused(text)

    def test_source(self) -> None:
        """From a node that is down nothing can be copied."""
        value = with_settings(make(), master_node=node_id(3))
        self.use(with_node(value, "node1", offline=True, master_candidate=False))
        with self.assertRaisesRegex(PrereqError, "needs node node1.example.com, which is marked offline"):
            self.world.run(MOVE)

    def test_templates(self) -> None:
        """Disks that other nodes reach anyway are not copied; the message says what to do in place of it."""
        for template in ("sharedfile", "rbd"):
            self.use(make(template))
            with self.assertRaisesRegex(
                PrereqError, f"has {template} disks, which are not copied; .*migrate"
            ):
                self.world.run(MOVE)
        self.use(
            with_instance(
                cluster(nodes=4, groups=2), "inst1", primary="node1", template="diskless", disk_sizes=()
            )
        )
        with self.assertRaisesRegex(PrereqError, "no disks to copy"):
            self.world.run(MOVE)

    def test_room(self) -> None:
        """The target needs the memory if it is to run there; not if it stays stopped."""
        self.use(make(memory=4096), memory_mib=4096)
        self.refused("3072 MiB of free memory")
        self.use(make(memory=4096, admin_state=AdminState.DOWN), memory_mib=4096)
        self.world.run(MOVE)
        self.assert_on(NODE2, runs=False)

    def test_bridges(self) -> None:
        """The target needs its bridges."""
        (bridge,) = {nic.link for nic in self.filled().nics} or {"br0"}
        self.world.model.lacks[NODE2] = {bridge}
        self.refused(f"has no bridge {bridge}")

    def filled(self) -> Any:
        """The instance with all parameters."""
        from ganeti.model.filled import fill_instance

        return fill_instance(self.world.cluster, self.world.cluster.instance(NAME))

    def test_compression(self) -> None:
        """Only what the cluster allows and both ends can."""
        self.refused(
            "compressed by 'lzop'; possible: none, gzip, gzip-fast, gzip-slow", replace(MOVE, compress="lzop")
        )
        self.use(with_settings(make(), compression_tools=("lzop", "gzip-fast")))
        self.refused("by 'gzip'; possible: none, gzip-fast", replace(MOVE, compress="gzip"))

"""Tests of the replacement of mirrored disks, and of what mends one that broke off."""

from __future__ import annotations

from typing import Any

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import BlockDeviceError, GanetiError, OperationFailed, PrereqError, ProgrammerError
from ganeti.model.allocation import Relocate
from ganeti.model.calls.base import NodeCall
from ganeti.model.calls.disks import (
    DiskCreate,
    DiskRemove,
    DiskRename,
    DiskShutdown,
    MirrorAttach,
    MirrorConnect,
    MirrorDetach,
    MirrorDisconnect,
    MirrorStatus,
    StorageSpace,
)
from ganeti.model.calls.system import NodeInfo, NodeInfoResult
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk
from ganeti.model.ids import NodeId
from ganeti.model.instance import AdminState
from ganeti.ops.instance.activate_disks import ActivateDisks
from ganeti.ops.instance.replace_disks import ReplaceDisks
from ganeti.testing.clusters import (
    changed_instance,
    cluster,
    group_id,
    node_id,
    with_instance,
    with_node,
    with_settings,
)
from ganeti.testing.operations import OperationWorld

NAME = "inst1.example.com"
NODE1, NODE2, NODE3 = (f"node{number}.example.com" for number in (1, 2, 3))


def replace(mode: Any = "replace_new_secondary", **more: Any) -> ReplaceDisks:
    """The opcode for the instance."""
    return ReplaceDisks(instance_name="inst1", mode=mode, **more)


TO_NODE3 = replace(remote_node="node3")
ON_SECONDARY = replace("replace_on_secondary")
ON_PRIMARY = replace("replace_on_primary")
AUTO = replace("replace_auto")
ACTIVATE = ActivateDisks(instance_name="inst1", wait_for_sync=True)


def make(state: AdminState = AdminState.UP, **options: Any) -> Cluster:
    """Three nodes; one instance with two mirrored disks on the first and the second."""
    return cluster(**{"instances": 1, "disk_sizes": (1024, 2048), "admin_state": state, **options})


class ReplaceCase(SynchronousTestCase):
    """One instance whose mirrors are looked at."""

    def make(self, value: Cluster | None = None) -> OperationWorld:
        """A world, kept as `self.world`."""
        self.world = OperationWorld(value or make())
        return self.world

    def disks(self) -> tuple[Disk, ...]:
        """The disks of the instance as they are recorded."""
        return tuple(self.world.cluster.disks_of(self.world.cluster.instance(NAME)))

    def nodes(self) -> list[str]:
        """Short names of the nodes of the instance, primary first."""
        value = self.world.cluster
        return [value.nodes[node].name.partition(".")[0] for node in value.nodes_of(value.instance(NAME))]

    def assert_whole(self, *nodes: str) -> None:
        """Both disks are mirrored between these nodes, in step, with volumes there and nowhere else."""
        self.assertEqual(self.nodes(), list(nodes))
        names = {f"{node}.example.com" for node in nodes}
        for index, disk in enumerate(self.disks()):
            state = self.world.model.disks.model(disk).status(disk.nodes[0])
            assert state is not None
            self.assertEqual((state.is_degraded, state.is_connected, state.is_primary), (False, True, True))
            self.assertEqual(self.world.model.stored(disk.uuid), names)
            volumes = {f"xenvg/{disk.uuid}.disk{index}_{part}" for part in ("data", "meta")}
            for node in (NODE1, NODE2, NODE3):
                found = {one for one in self.world.model.disks.volumes.get(node, ()) if disk.uuid in one}
                self.assertEqual(found, volumes if node in names else set(), node)
        self.assertEqual(list(self.world.model.where(NAME)), [f"{nodes[0]}.example.com"])

    def broken(self, call: type[NodeCall[Any]], node: str, op: ReplaceDisks) -> str:
        """What is said when a function fails on a node meanwhile; afterwards it works again."""
        found = self.world.cluster.node(node).uuid
        self.world.nodes.answer(call, BlockDeviceError("broken"), node=found)
        try:
            self.world.run(op)
        except GanetiError as error:
            return str(error)
        finally:
            working = self.world.model.answer_of(call)
            self.world.nodes.answer(call, working, node=found)
        raise AssertionError(f"{call.function()} on {node} is not needed")


class NewSecondaryTests(ReplaceCase):
    """replace_new_secondary."""

    def test_given_node(self) -> None:
        """The mirror goes to the new node: all is copied, the old data removed; the guest runs on."""
        self.make()
        secrets = [disk.logical_id[5] for disk in self.disks()]
        self.assertIsNone(self.world.run(TO_NODE3))
        self.assert_whole("node1", "node3")
        self.assertEqual([disk.logical_id[5] for disk in self.disks()], secrets)
        self.assertEqual([disk.logical_id[1] for disk in self.disks()], [node_id(3)] * 2)
        self.assertEqual([disk.logical_id[4] for disk in self.disks()], [0, 1])
        for disk in self.disks():
            self.assertEqual(disk.children[0].nodes, (node_id(1), node_id(3)))
        steps = [line for line in self.world.feedback.lines if line.startswith("STEP")]
        self.assertEqual([step[:8] for step in steps], [f"STEP {number}/6" for number in range(1, 7)])
        self.assertEqual(self.world.feedback.warnings, [])

    def test_progress(self) -> None:
        """While data is copied the operator is told how far it is."""
        self.make()
        self.world.model.disks.rate_mib_s = 10
        self.world.run(TO_NODE3)
        told = [line for line in self.world.feedback.lines if line.startswith("- device disk/0")]
        self.assertGreaterEqual(len(told), 2)
        self.assertRegex(told[0], r"^- device disk/0:  0\.00 % done, 102 s remaining$")

    def test_by_allocator(self) -> None:
        """The allocator is asked where the secondary goes; nodes that it did not choose are free again."""
        self.make(cluster(nodes=5, instances=1))
        self.world.allocation.nodes = (node_id(4),)
        held: list[frozenset[str]] = []
        self.world.nodes.answer(
            DiskCreate, lambda node, call: held.append(self.world.locks.nodes_held()), node=node_id(4)
        )
        with self.assertRaises(OperationFailed):
            self.world.run(replace(iallocator="hail"))
        ((name, request, candidates),) = self.world.allocation.requests
        self.assertEqual((name, request), ("hail", Relocate(instance=NAME, relocate_from=(node_id(2),))))
        self.assertEqual(candidates, frozenset(map(node_id, range(1, 6))))
        self.assertEqual(held[0], frozenset(map(node_id, (1, 2, 4))))

    def test_stopped_instance(self) -> None:
        """The disks of a stopped instance are open only meanwhile."""
        self.make(make(AdminState.DOWN))
        self.world.run(TO_NODE3)
        self.assertEqual(self.nodes(), ["node1", "node3"])
        for disk in self.disks():
            self.assertEqual(self.world.model.opened(disk.uuid), set())
            self.assertEqual(self.world.model.disks.in_step(disk.uuid), {NODE1, NODE3})
        self.assertFalse(self.world.cluster.instance(NAME).disks_active)

    def test_offline_secondary(self) -> None:
        """The mirror leaves a node that is down; what is there is mentioned."""
        self.make(with_node(make(), "node2", offline=True))
        self.world.run(TO_NODE3)
        self.assertEqual(self.nodes(), ["node1", "node3"])
        for disk in self.disks():
            self.assertEqual(self.world.model.disks.in_step(disk.uuid), {NODE1, NODE3})
        self.assertTrue(any("stays on offline node node2" in text for text in self.world.feedback.warnings))

    def test_early_release(self) -> None:
        """With early release old data and node locks are gone while the copy is still on its way."""
        self.make()
        self.world.model.disks.rate_mib_s = 10
        done = self.world.start(replace(remote_node="node3", early_release=True))
        self.world.advance(1)
        self.assertNoResult(done)
        self.assertEqual(self.world.model.stored(self.disks()[0].uuid), {NODE1, NODE3})
        self.assertEqual(self.world.locks.nodes_held(), frozenset())
        for _ in range(400):
            self.world.advance(1)
        self.successResultOf(done)
        self.assert_whole("node1", "node3")

    def test_without_early_release(self) -> None:
        """Otherwise the old data is there, and the nodes are locked, until the new data is in step."""
        self.make()
        self.world.model.disks.rate_mib_s = 10
        done = self.world.start(TO_NODE3)
        self.world.advance(1)
        self.assertEqual(self.world.model.stored(self.disks()[0].uuid), {NODE1, NODE2, NODE3})
        self.assertEqual(self.world.locks.nodes_held(), frozenset(map(node_id, (1, 2, 3))))
        for _ in range(400):
            self.world.advance(1)
        self.successResultOf(done)

    def test_failures_before_the_change(self) -> None:
        """Until the change is recorded a failure leaves everything as it was, and nothing on the new node."""
        failures: tuple[tuple[type[NodeCall[Any]], str], ...] = (
            (MirrorStatus, "node1"),
            (DiskCreate, "node3"),
            (DiskRemove, "node3"),
            (MirrorDisconnect, "node1"),
        )
        for call, node in failures:
            self.make()
            self.assertIn("broken", self.broken(call, node, TO_NODE3), call)
            self.world.reactor.advance(60)
            self.assert_whole("node1", "node2")
            self.world.run(TO_NODE3)
            self.assert_whole("node1", "node3")

    def test_failures_after_the_change(self) -> None:
        """After it `activate-disks` goes on from there, and so does the next replacement."""
        for node in ("node3", "node1"):
            for mend in (ACTIVATE, ON_SECONDARY):
                self.make()
                said = self.broken(MirrorConnect, node, TO_NODE3)
                self.assertRegex(said, f"node3.* is recorded, but its disks do not connect on {node}")
                self.assertEqual(self.nodes(), ["node1", "node3"])
                self.assertEqual(list(self.world.model.where(NAME)), [NODE1])
                self.world.run(ACTIVATE)
                self.world.run(mend)
                # The old data has to be removed by hand, or goes when the mirror comes back.
                self.world.run(replace(remote_node="node2"))
                self.assert_whole("node1", "node2")

    def test_masterd_dies(self) -> None:
        """Wherever masterd dies, activate-disks and the same command again bring it to the end."""
        for done in range(12):
            self.make()
            is_dead = self.dies_after(done, TO_NODE3)
            self.assertEqual(is_dead, done < 11)
            self.assertEqual(list(self.world.model.where(NAME)), [NODE1])
            self.world.run(ACTIVATE)
            here = self.nodes()[1]
            self.world.run(replace(remote_node="node2" if here == "node3" else "node3"))
            self.assert_whole("node1", "node2" if here == "node3" else "node3")

    def dies_after(self, count: int, op: ReplaceDisks) -> bool:
        """Let the operation end after so many changes of nodes; gives whether there are more."""
        left = [count]
        changes = (DiskCreate, DiskRemove, DiskShutdown, MirrorConnect, MirrorDisconnect)

        def dying(call: type[NodeCall[Any]]) -> Any:
            working = self.world.model.answer_of(call)

            def answer(node: Any, made: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise RuntimeError("masterd died")
                return working(node, made)

            return answer

        for call in changes:
            self.world.nodes.answer(call, dying(call))
        try:
            self.world.run(op)
        except ProgrammerError:
            return True
        finally:
            self.flushLoggedErrors(RuntimeError)
            for call in changes:
                self.world.model.repair_call(call)
        return False

    def test_old_node_does_not_close(self) -> None:
        """An old secondary that does not answer is only mentioned."""
        self.make()
        for call in (DiskShutdown, DiskRemove):
            broken(self.world, call, "stuck", node_id(2))
        self.world.run(TO_NODE3)
        self.assertEqual(self.nodes(), ["node1", "node3"])
        self.assertEqual(len([text for text in self.world.feedback.warnings if "stuck" in text]), 4)

    def test_refused_nodes(self) -> None:
        """Own nodes, nodes of another group and such that get no instances are refused (S2.3-013)."""
        cases: tuple[tuple[dict[str, Any], str, str], ...] = (
            ({}, "node1", "node1.* is the primary node"),
            ({}, "node2", "node2.* is the secondary node .* already"),
            ({"group": group_id(2)}, "node3", "node3.* is in group group2.*change-group"),
            ({"offline": True}, "node3", "it is marked offline"),
            ({"drained": True}, "node3", "it is drained"),
            ({"vm_capable": False}, "node3", "may not host instances"),
        )
        for changes, node, text in cases:
            base = cluster(nodes=4, instances=0, groups=2)
            for number in (1, 2, 3, 4):
                base = with_node(base, f"node{number}", group=group_id(1))
            value = with_instance(base, "inst1", primary="node1", secondary="node2")
            self.make(with_node(value, "node3", **changes) if changes else value)
            with self.assertRaisesRegex(PrereqError, text):
                self.world.run(replace(remote_node=node))
            self.assertEqual(self.world.nodes.calls_of(DiskCreate), [])

    def test_between_groups(self) -> None:
        """As a step of a move to another group the new secondary may be there (S2.3-017)."""
        base = with_node(cluster(nodes=3, groups=2), "node2", group=group_id(1))
        base = with_node(base, "node3", group=group_id(2))
        self.make(with_instance(base, "inst1", primary="node1", secondary="node2"))
        self.assertRaises(PrereqError, self.world.run, TO_NODE3)
        self.world.run(replace(remote_node="node3", between_groups=True))
        self.assertEqual(self.nodes(), ["node1", "node3"])

    def test_arguments(self) -> None:
        """What contradicts itself is refused."""
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({"remote_node": "node3", "iallocator": "hail"}, "not both"),
            ({"remote_node": "node3", "disks": (0,)}, "gets all disks"),
            ({}, "name an allocator"),
            ({"mode": "replace_on_primary", "remote_node": "node3"}, "only be given where"),
            ({"mode": "replace_auto", "disks": (0,)}, "do not name any"),
            ({"mode": "replace_on_primary", "disks": (2,)}, "has no disk 2; its disks are 0 to 1"),
        )
        for more, text in cases:
            self.make()
            with self.assertRaisesRegex(PrereqError, text):
                self.world.run(replace(**more))

    def test_not_mirrored(self) -> None:
        """Disks of another template are not replaced."""
        for template in ("plain", "sharedfile", "diskless"):
            self.make(cluster(instances=1, template=template))
            with self.assertRaisesRegex(PrereqError, f"template {template}; only mirrored ones"):
                self.world.run(ON_PRIMARY)

    def test_space_and_policy(self) -> None:
        """The new node has to have the space, and the policy of its group counts."""
        self.make()
        space = StorageSpace(type="lvm-vg", name="xenvg", storage_free=1000, storage_size=9000)
        self.world.nodes.answer(NodeInfo, NodeInfoResult(boot_id="b", storage=(space,), hypervisors={}))
        with self.assertRaisesRegex(PrereqError, "node3.* has 1000 MiB of free space.* need 3328 MiB"):
            self.world.run(TO_NODE3)
        self.make(only_plain(make()))
        with self.assertRaisesRegex(PrereqError, "violates the policy.*ignore-ipolicy"):
            self.world.run(TO_NODE3)
        self.world.run(replace(remote_node="node3", ignore_ipolicy=True))
        self.assert_whole("node1", "node3")

    def test_hooks(self) -> None:
        """Hooks know both secondaries, before and after."""
        self.make()
        self.world.run(TO_NODE3)
        self.assertEqual(
            [(path, phase, nodes) for path, phase, nodes, _ in self.world.hooks.runs[:2]],
            [("mirrors-replace", phase, (NODE1, NODE3)) for phase in ("pre", "post")],
        )
        for *_, env in self.world.hooks.runs[:2]:
            found = [env[f"GANETI_{name}"] for name in ("MODE", "OLD_SECONDARY", "NEW_SECONDARY")]
            self.assertEqual(found, ["replace_new_secondary", NODE2, NODE3])


class SameNodeTests(ReplaceCase):
    """replace_on_primary, replace_on_secondary and replace_auto."""

    def test_both_ends(self) -> None:
        """New data on one end is copied from the other, while the guest runs; old data goes."""
        for op, node in ((ON_PRIMARY, NODE1), (ON_SECONDARY, NODE2)):
            self.make()
            before = self.disks()
            self.world.run(op)
            self.assert_whole("node1", "node2")
            self.assertEqual(self.disks(), before)
            created = [called.node for called in self.world.nodes.calls_of(DiskCreate)]
            self.assertEqual(created, [node] * 4)

    def test_one_disk(self) -> None:
        """Only the disks that were named are touched."""
        self.make()
        self.world.run(replace("replace_on_secondary", disks=(1,)))
        self.assert_whole("node1", "node2")
        self.assertEqual(len(self.world.nodes.calls_of(MirrorDetach)), 1)

    def test_failures(self) -> None:
        """Wherever it fails the guest runs on, and repeating it brings everything in order."""
        failures: tuple[tuple[type[NodeCall[Any]], str], ...] = (
            (DiskCreate, "broken; nothing was changed"),
            (MirrorDetach, "does not let go of its data on node2.*goes on as before"),
            (DiskRename, "has only its data on node1.* now: broken; repeat when node2.* is well"),
            (MirrorAttach, "has only its data on node1.* now: broken; repeat"),
        )
        for call, text in failures:
            self.make()
            self.assertRegex(self.broken(call, "node2", ON_SECONDARY), text)
            self.assertEqual(list(self.world.model.where(NAME)), [NODE1])
            self.world.run(ON_SECONDARY)
            self.assert_whole("node1", "node2")

    def test_second_rename_fails(self) -> None:
        """Also when a volume has lost its name already and none has the new one."""
        self.make()
        working = self.world.model.answer_of(DiskRename)
        count = [0]

        def answer(node: Any, call: Any) -> Any:
            count[0] += 1
            if count[0] == 2:
                raise BlockDeviceError("broken")
            return working(node, call)

        self.world.nodes.answer(DiskRename, answer)
        self.assertRaises(OperationFailed, self.world.run, ON_SECONDARY)
        self.world.run(ON_SECONDARY)
        self.assert_whole("node1", "node2")

    def test_without_good_source(self) -> None:
        """The only good data is never given up."""
        self.make()
        self.world.model.disks.cut_power(NODE2)
        with self.assertRaisesRegex(OperationFailed, "disk 0 .* is not open on node2.*activate-disks"):
            self.world.run(ON_PRIMARY)
        self.assertEqual(self.world.nodes.calls_of(DiskCreate), [])

    def test_offline_node(self) -> None:
        """Both nodes have to be there."""
        self.make(with_node(make(), "node2", offline=True))
        with self.assertRaisesRegex(PrereqError, "needs node node2.*offline"):
            self.world.run(ON_SECONDARY)

    def lose_data(self, node: str, index: int) -> None:
        """Let a disk of a node fail."""
        disk = self.disks()[index]
        model = self.world.model.disks.model(disk)
        model.detach(self.world.cluster.node(node).uuid)
        self.world.model.disks.mirrors[disk.uuid] = model.mirror

    def test_auto(self) -> None:
        """Lost data is found and replaced, on either end, and nothing else; without any nothing is done."""
        for node in ("node1", "node2"):
            self.make()
            self.lose_data(node, 1)
            self.world.run(AUTO)
            self.assert_whole("node1", "node2")
            created = {called.node for called in self.world.nodes.calls_of(DiskCreate)}
            self.assertEqual(created, {f"{node}.example.com"})
            self.assertEqual(len(self.world.nodes.calls_of(MirrorDetach)), 1)
        self.make()
        self.world.run(AUTO)
        self.assertEqual(self.world.nodes.calls_of(DiskCreate), [])
        self.assertIn("No disks need replacement", self.world.feedback.lines[-1])

    def test_auto_on_both(self) -> None:
        """Data lost on both nodes is nothing that can be mended."""
        self.make()
        self.lose_data("node1", 0)
        self.lose_data("node2", 1)
        with self.assertRaisesRegex(PrereqError, r"lost data on both nodes \(disks 0 on the primary, 1 on"):
            self.world.run(AUTO)

    def test_auto_of_closed_disks(self) -> None:
        """Of closed disks nobody knows."""
        self.make(changed_instance(make(AdminState.DOWN), "inst1", disks_active=False))
        with self.assertRaisesRegex(PrereqError, "are closed.*activate-disks"):
            self.world.run(AUTO)


def broken(world: OperationWorld, call: type[NodeCall[Any]], text: str, node: NodeId) -> None:
    """Let a function fail on a node."""
    world.nodes.answer(call, BlockDeviceError(text), node=node)


def only_plain(value: Cluster) -> Cluster:
    """The cluster with a policy that does not want mirrored disks."""
    policy = msgspec.structs.replace(value.settings.ipolicy, disk_templates=("plain",))
    return with_settings(value, ipolicy=policy)

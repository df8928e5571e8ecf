"""Tests of the search for disks that are closed or missing, and of what opens and closes them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import BlockDeviceError, OperationFailed, PrereqError
from ganeti.model.calls.disks import DiskAssemble, DiskShutdown, FindDisks
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk
from ganeti.model.instance import AdminState
from ganeti.ops.cluster.verify_disks import VerifyClusterDisks
from ganeti.ops.group.verify_disks import VerifyGroupDisks
from ganeti.ops.instance.activate_disks import ActivateDisks
from ganeti.ops.instance.deactivate_disks import DeactivateDisks
from ganeti.testing.clusters import changed_instance, cluster, node_id, with_instance, with_node
from ganeti.testing.operations import OperationWorld

NODE1, NODE2 = "node1.example.com", "node2.example.com"
VERIFY = VerifyGroupDisks(group_name="default")


def make() -> Cluster:
    """Instances on the first and second of three nodes: `pair` mirrored, `local` on one; `off` is stopped."""
    value = with_instance(cluster(), "pair", primary="node1", secondary="node2")
    value = with_instance(value, "local", primary="node1", template="plain")
    return with_instance(value, "off", primary="node1", secondary="node2", admin_state=AdminState.DOWN)


class DisksCase(SynchronousTestCase):
    """A world with these instances."""

    def make(self, value: Cluster | None = None) -> None:
        """Make it."""
        self.world = OperationWorld(value or make())

    def disk(self, name: str) -> Disk:
        """The disk of an instance."""
        (found,) = self.world.cluster.disks_of(self.world.cluster.instance(name))
        return found


class VerifyTests(DisksCase):
    """OP_GROUP_VERIFY_DISKS and OP_CLUSTER_VERIFY_DISKS."""

    def verified(self) -> Any:
        """The result for the group."""
        return self.world.run(VERIFY)

    def test_all_well(self) -> None:
        """Nothing has to be done; each node was asked once; stopped instances do not count."""
        self.make()
        self.assertEqual(self.verified(), [{}, [], {}])
        asked = [called.node for called in self.world.nodes.calls_of(FindDisks)]
        self.assertEqual(sorted(asked), [NODE1, NODE2])

    def test_after_a_boot(self) -> None:
        """What was open before a node went down has to be opened, on whichever end it was."""
        for node, names in ((NODE1, ["local", "pair"]), (NODE2, ["pair"])):
            self.make()
            self.world.model.disks.cut_power(node)
            expected = [f"{name}.example.com" for name in names]
            self.assertEqual(self.verified(), [{}, expected, {}])
            for name in names:
                self.world.run(ActivateDisks(instance_name=name))
            self.assertEqual(self.verified(), [{}, [], {}])

    def test_stands_alone(self) -> None:
        """A mirror whose ends do not look for each other has to be connected."""
        self.make()
        model = self.world.model.disks.model(self.disk("pair"))
        model.disconnect(node_id(1))
        self.world.model.disks.mirrors[self.disk("pair").uuid] = model.mirror
        self.assertEqual(self.verified(), [{}, ["pair.example.com"], {}])
        self.world.run(ActivateDisks(instance_name="pair", wait_for_sync=True))
        self.assertEqual(self.world.model.disks.in_step(self.disk("pair").uuid), {NODE1, NODE2})

    def test_offline_mirror(self) -> None:
        """A mirror whose other node is down is not opened again and again."""
        self.make(with_node(make(), "node2", offline=True))
        self.assertEqual(self.verified(), [{}, [], {}])

    def test_silent_node(self) -> None:
        """A node that does not answer is told with the reason; nothing is concluded from its silence."""
        self.make()
        self.world.nodes.unreachable.add(node_id(2))
        errors, to_activate, missing = self.verified()
        self.assertEqual((list(errors), to_activate, missing), ([node_id(2)], [], {}))
        self.assertIn("cannot be reached", errors[node_id(2)])

    def test_hanging_node(self) -> None:
        """A node that hangs is waited for once, while the others answer."""
        self.make()
        self.world.nodes.hanging.add(node_id(2))
        self.world.model.disks.cut_power(NODE1)
        errors, to_activate, missing = self.verified()
        self.assertEqual((list(errors), missing), ([node_id(2)], {}))
        self.assertEqual(to_activate, ["local.example.com", "pair.example.com"])
        self.assertLess(self.world.reactor.seconds(), 65)

    def test_missing_volumes(self) -> None:
        """What is missing is named with its node; opening would not help."""
        self.make()
        pair, local = self.disk("pair"), self.disk("local")
        self.world.model.disks.volumes[NODE2].discard(f"xenvg/{pair.uuid}.disk0_meta")
        self.world.model.disks.volumes[NODE1].discard(f"xenvg/{local.uuid}.disk0")
        self.assertEqual(
            self.verified(),
            [
                {},
                [],
                {
                    "pair.example.com": [[node_id(2), f"xenvg/{pair.uuid}.disk0_meta"]],
                    "local.example.com": [[node_id(1), f"xenvg/{local.uuid}.disk0"]],
                },
            ],
        )

    def test_forthcoming(self) -> None:
        """The disks of an instance that is being created may be missing."""
        self.make(changed_instance(make(), "local", forthcoming=True))
        self.world.model.disks.volumes[NODE1].clear()
        self.assertNotIn("local.example.com", self.verified()[2])

    def test_job_for_each_group(self) -> None:
        """One job for each group by name, or for the one that was named."""
        self.make(cluster(nodes=4, groups=2))
        self.world.run(VerifyClusterDisks(is_strict=False))
        self.assertEqual(
            self.world.jobs.submitted,
            [(VerifyGroupDisks(group_name=name, is_strict=False),) for name in ("default", "group2")],
        )
        self.world.run(VerifyClusterDisks(group_name="group2"))
        self.assertEqual(self.world.jobs.submitted[2:], [(VerifyGroupDisks(group_name="group2"),)])


class ActivationTests(DisksCase):
    """OP_INSTANCE_ACTIVATE_DISKS and OP_INSTANCE_DEACTIVATE_DISKS."""

    def test_open_and_close(self) -> None:
        """The disks of a stopped instance are opened, told with node and path, and closed again."""
        self.make()
        uuid = self.disk("off").uuid
        result = self.world.run(ActivateDisks(instance_name="off"))
        self.assertEqual(result, [[NODE1, "disk/0", f"/dev/{uuid}"]])
        self.assertEqual(self.world.model.opened(uuid), {NODE1, NODE2})
        self.assertTrue(self.world.cluster.instance("off").disks_active)
        self.assertIsNone(self.world.run(DeactivateDisks(instance_name="off")))
        self.assertEqual(self.world.model.opened(uuid), set())
        self.assertFalse(self.world.cluster.instance("off").disks_active)

    def test_running(self) -> None:
        """Of a running instance they may be opened again, but not closed."""
        self.make()
        self.world.run(ActivateDisks(instance_name="pair"))
        with self.assertRaisesRegex(PrereqError, "pair.* is running; 'gnt-instance shutdown"):
            self.world.run(DeactivateDisks(instance_name="pair"))
        self.assertEqual(self.world.model.disks.primaries(self.disk("pair").uuid), {NODE1})

    def test_failure_closes_only_what_was_closed(self) -> None:
        """After a failure closed disks are closed again; those of a running instance stay open."""
        for name, opened in (("off", set()), ("pair", {NODE1, NODE2})):
            self.make()
            self.world.model.break_call(
                DiskAssemble, BlockDeviceError("broken"), self.world.cluster.nodes[node_id(1)]
            )
            with self.assertRaisesRegex(OperationFailed, f"disk 0 of {name}.* on {NODE1}: broken"):
                self.world.run(ActivateDisks(instance_name=name))
            self.assertEqual(self.world.model.opened(self.disk(name).uuid), opened)

    def test_offline_primary(self) -> None:
        """Nothing is opened on a node that is down."""
        self.make(with_node(make(), "node1", offline=True))
        with self.assertRaisesRegex(PrereqError, "needs node node1.*offline"):
            self.world.run(ActivateDisks(instance_name="off"))

    def test_close_by_force(self) -> None:
        """By force nobody is asked, and what does not close is told."""
        self.make()
        self.world.run(ActivateDisks(instance_name="off"))
        self.world.model.break_call(
            DiskShutdown, BlockDeviceError("busy"), self.world.cluster.nodes[node_id(2)]
        )
        with self.assertRaisesRegex(OperationFailed, "not all disks of off"):
            self.world.run(DeactivateDisks(instance_name="off", force=True))
        self.assertEqual(self.world.model.opened(self.disk("off").uuid), {NODE2})

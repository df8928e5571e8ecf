"""Tests of changes of the configuration that operations on instances make."""

from __future__ import annotations

from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.config_check import check_config
from ganeti.logic.instance_changes import (
    drop_instance,
    put_instance,
    set_admin_state,
    set_disks_active,
    set_primary,
)
from ganeti.model.instance import AdminSource, AdminState
from ganeti.testing.clusters import changed_instance, cluster, instance_id, node_id

FIRST = instance_id(1)


class ChangeTests(SynchronousTestCase):
    """Each change does one thing; the configuration stays consistent."""

    def test_put(self) -> None:
        """An instance with its disks is put in or replaced."""
        full = cluster(instances=2)
        instance = full.instances[FIRST]
        again = put_instance(drop_instance(full, FIRST), instance, full.disks_of(instance))
        self.assertEqual(again.instances[FIRST], instance)
        self.assertEqual(again.disks_of(instance), full.disks_of(instance))

    def test_drop(self) -> None:
        """It goes with its disks, and its ports are free again."""
        value = changed_instance(cluster(instances=2), "inst1", network_port=11000)
        (disk,) = value.disks_of(value.instances[FIRST])
        after = drop_instance(value, FIRST)
        self.assertEqual((len(after.instances), len(after.disks)), (1, 1))
        self.assertEqual(set(after.settings.tcpudp_port_pool), {11000, disk.logical_id[2]})
        self.assertEqual(check_config(after), ())

    def test_admin_state(self) -> None:
        """State and who wanted it; without a change the value itself."""
        value = cluster(instances=1)
        self.assertIs(set_admin_state(value, FIRST, AdminState.UP), value)
        after = set_admin_state(
            value, FIRST, AdminState.DOWN, disks_active=False, source=AdminSource.USER
        ).instances[FIRST]
        self.assertEqual(
            (after.admin_state, after.admin_state_source, after.disks_active),
            (AdminState.DOWN, AdminSource.USER, False),
        )
        self.assertTrue(set_admin_state(value, FIRST, AdminState.DOWN).instances[FIRST].disks_active)

    def test_disks_active(self) -> None:
        """Without a change the value itself."""
        value = cluster(instances=1)
        self.assertIs(set_disks_active(value, FIRST, active=True), value)
        self.assertFalse(set_disks_active(value, FIRST, active=False).instances[FIRST].disks_active)

    def test_primary_of_mirrored(self) -> None:
        """Mirrors swap their order, and nothing else of the disk."""
        value = cluster(instances=1)
        after = set_primary(value, FIRST, node_id(2))
        (before,), (disk,) = value.disks_of(value.instances[FIRST]), after.disks_of(after.instances[FIRST])
        self.assertEqual(
            (after.instances[FIRST].primary_node, disk.nodes), (node_id(2), (node_id(2), node_id(1)))
        )
        self.assertEqual(replace(disk, nodes=before.nodes), before)
        self.assertEqual(after.secondary_nodes(after.instances[FIRST]), (node_id(1),))
        self.assertEqual(check_config(after), ())

    def test_primary_of_shared(self) -> None:
        """What is stored elsewhere is reached from the new node only."""
        value = cluster(instances=1, template="sharedfile")
        after = set_primary(value, FIRST, node_id(3))
        (disk,) = after.disks_of(after.instances[FIRST])
        self.assertEqual((disk.nodes, after.secondary_nodes(after.instances[FIRST])), ((node_id(3),), ()))

    def test_there_and_back(self) -> None:
        """Twice the other way round is as before."""
        for template in ("drbd", "sharedfile"):
            value = cluster(instances=1, template=template)
            there = set_primary(value, FIRST, node_id(2))
            back = set_primary(there, FIRST, node_id(1))
            self.assertEqual(dict(back.instances), dict(value.instances))
            self.assertEqual(dict(back.disks), dict(value.disks))

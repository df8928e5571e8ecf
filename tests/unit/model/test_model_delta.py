"""Stamping a change: serial numbers, times, and what changed."""

from __future__ import annotations

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PrereqError, ProgrammerError
from ganeti.model.cluster import Cluster
from ganeti.model.delta import stamp
from ganeti.model.table import Table
from ganeti.testing.clusters import (
    NOW,
    changed_instance,
    cluster,
    instance_id,
    node,
    node_id,
    with_instance,
    with_node,
    with_settings,
)

LATER = NOW + 60


class StampTests(SynchronousTestCase):
    """One change."""

    def setUp(self) -> None:
        self.old = cluster(instances=3)

    def stamped(self, new: Cluster) -> Cluster:
        """The new value, stamped."""
        return stamp(self.old, new, now=LATER)[0]

    def test_changed_object(self) -> None:
        """What changed gets the next serial number and the time, and keeps its birthday."""
        new = self.stamped(changed_instance(self.old, "inst2", os="other", serial_no=99, ctime=1.0))
        instance = new.instance("inst2")
        self.assertEqual((instance.os, instance.serial_no), ("other", 2))
        self.assertEqual((instance.ctime, instance.mtime), (NOW, LATER))
        self.assertEqual((new.serial_no, new.mtime), (2, LATER))

    def test_others_untouched(self) -> None:
        """What did not change is the very same object."""
        new = self.stamped(changed_instance(self.old, "inst2", os="other"))
        self.assertIs(new.instance("inst1"), self.old.instance("inst1"))
        self.assertIs(new.nodes, self.old.nodes)
        self.assertIs(new.settings, self.old.settings)

    def test_new_object(self) -> None:
        """A new object begins with serial number 1, now."""
        instance = self.stamped(with_instance(self.old, "new", serial_no=7)).instance("new")
        self.assertEqual((instance.serial_no, instance.ctime, instance.mtime), (1, LATER, LATER))

    def test_settings(self) -> None:
        """Changed settings are recorded key by key."""
        new, delta = stamp(self.old, with_settings(self.old, candidate_pool_size=3), now=LATER)
        assert delta is not None
        expected = {"candidate_pool_size": 3, "serial_no": 2, "mtime": LATER}
        self.assertEqual(delta.settings, expected)
        self.assertEqual((new.settings.serial_no, new.settings.ctime), (2, NOW))

    def test_delta_is_small(self) -> None:
        """A delta has what changed and nothing else."""
        _, delta = stamp(self.old, changed_instance(self.old, "inst2", os="other"), now=LATER)
        assert delta is not None
        self.assertEqual(list(delta.instances), [instance_id(2)])
        self.assertEqual((delta.nodes, delta.disks, delta.settings), ({}, {}, {}))

    def test_settled(self) -> None:
        """The tables of the new value have nothing left to record."""
        new = self.stamped(changed_instance(self.old, "inst2", os="other"))
        self.assertEqual(new.instances.changes, {})

    def test_no_change(self) -> None:
        """Changing something to what it was is no change."""
        same = with_node(with_settings(self.old, tags=()), "node1", tags=())
        self.assertEqual(stamp(self.old, same, now=LATER), (self.old, None))

    def test_removed_and_never_there(self) -> None:
        """Only what was there is recorded as removed."""
        added = with_instance(self.old, "new").instances
        gone = added.without(instance_id(4), instance_id(1))
        _, delta = stamp(self.old, msgspec.structs.replace(self.old, instances=gone), now=LATER)
        assert delta is not None
        self.assertEqual(delta.instances, {instance_id(1): None})

    def test_taken_name(self) -> None:
        """Two objects of a kind cannot have one name."""
        twin = node(9, name="node1.example.com")
        new = msgspec.structs.replace(self.old, nodes=self.old.nodes.with_item(node_id(9), twin))
        self.assertRaises(PrereqError, self.stamped, new)

    def test_swapped_names(self) -> None:
        """Names may be swapped in one change."""
        one, two = self.old.nodes[node_id(1)], self.old.nodes[node_id(2)]
        swapped = {
            one.uuid: msgspec.structs.replace(one, name=two.name),
            two.uuid: msgspec.structs.replace(two, name=one.name),
        }
        new = self.stamped(msgspec.structs.replace(self.old, nodes=self.old.nodes.with_items(swapped)))
        self.assertEqual(new.node("node1").uuid, two.uuid)

    def test_foreign_table(self) -> None:
        """A table that was not made from the old one is a mistake."""
        strange = Table({node_id(9): node(9)}, key=lambda one: one.name)
        new = msgspec.structs.replace(self.old, nodes=strange)
        self.assertRaises(ProgrammerError, self.stamped, new)
        wrong = self.old.nodes.with_item(node_id(8), node(9))
        self.assertRaises(ProgrammerError, self.stamped, msgspec.structs.replace(self.old, nodes=wrong))

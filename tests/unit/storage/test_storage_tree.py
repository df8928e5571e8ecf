"""Tests of the order in which the parts of a disk are treated."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.model.disk import Disk
from ganeti.model.ids import DiskId
from ganeti.storage.tree import closing_order, creation_order, opening_order, removal_order

_numbers = count()


def _disk(children: list[Disk]) -> Disk:
    uuid = DiskId(str(next(_numbers)))
    return Disk(uuid=uuid, dev_type="drbd", logical_id=(), size=1, children=tuple(children))


TREES = st.recursive(st.builds(_disk, st.just([])), lambda kids: st.builds(_disk, st.lists(kids, max_size=3)))


def _names(disks: object) -> list[str]:
    assert hasattr(disks, "__iter__")
    return [disk.uuid for disk in disks]


class OrderTests(SynchronousTestCase):
    """Each part once, what stands below at the right time."""

    def test_mirror(self) -> None:
        """A mirrored disk comes after data and metadata, and goes before them."""
        data, meta = _disk([]), _disk([])
        disk = _disk([data, meta])
        self.assertEqual(list(creation_order(disk)), [data, meta, disk])
        self.assertEqual(list(closing_order(disk)), [disk, meta, data])

    @given(TREES)
    def test_children_first(self, disk: Disk) -> None:
        """Whatever the tree, every part comes once and after its children."""
        order = _names(creation_order(disk))
        self.assertEqual(sorted(order), sorted(_names(disk.walk())))
        for part in disk.walk():
            for child in part.children:
                self.assertLess(order.index(child.uuid), order.index(part.uuid))

    @given(TREES)
    def test_reverse(self, disk: Disk) -> None:
        """Closing and removing are the exact reverse of opening and creating."""
        self.assertEqual(_names(closing_order(disk)), _names(opening_order(disk))[::-1])
        self.assertEqual(_names(removal_order(disk)), _names(creation_order(disk))[::-1])

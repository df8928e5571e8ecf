"""Which end of a mirrored instance gets new data, as tables."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PrereqError
from ganeti.logic.disk_replacement import Replacement, check_space, chosen_disks, faulty_disks
from ganeti.model.calls.disks import LocalData, SyncStatus
from ganeti.testing.clusters import cluster, node_id

VALUE = cluster(instances=1, disk_sizes=(1024, 2048))
INSTANCE = VALUE.instance("inst1")


def state(data: LocalData) -> SyncStatus:
    """An end with such data."""
    return SyncStatus(is_degraded=data is not LocalData.OKAY, is_connected=True, ldisk_status=data)


GOOD, COPYING, LOST = (state(data) for data in (LocalData.OKAY, LocalData.SYNCING, LocalData.FAULTY))


class FaultyTests(SynchronousTestCase):
    """`faulty_disks`."""

    def test_table(self) -> None:
        """Only lost data is replaced, on the end that lost it; what is copied or closed is not lost."""
        first, second = node_id(1), node_id(2)
        cases = (
            ((GOOD, GOOD), (GOOD, GOOD), None),
            ((GOOD, COPYING), (COPYING, GOOD), None),
            ((None, GOOD), (None, None), None),
            ((LOST, GOOD), (GOOD, GOOD), Replacement(node=first, disks=(0,))),
            ((LOST, LOST), (GOOD, None), Replacement(node=first, disks=(0, 1))),
            ((GOOD, GOOD), (COPYING, LOST), Replacement(node=second, disks=(1,))),
        )
        for here, there, expected in cases:
            self.assertEqual(faulty_disks(INSTANCE, first, second, (here, there)), expected)

    def test_both(self) -> None:
        """Lost on both ends, even of different disks, nothing can be said."""
        with self.assertRaisesRegex(PrereqError, "restore it from a backup"):
            faulty_disks(INSTANCE, node_id(1), node_id(2), ((LOST, GOOD), (GOOD, LOST)))


class ChoiceTests(SynchronousTestCase):
    """`chosen_disks` and `check_space`."""

    def test_disks(self) -> None:
        """None means all; what is named comes once and in order; what is not there is refused."""
        cases = (((), (0, 1)), ((1, 0, 1), (0, 1)), ((1,), (1,)))
        for wanted, expected in cases:
            self.assertEqual(chosen_disks(INSTANCE, wanted), expected)
        self.assertRaises(PrereqError, chosen_disks, INSTANCE, (0, 2))

    def test_space(self) -> None:
        """The disks that are replaced count, with their metadata."""
        plan = Replacement(node=node_id(2), disks=(1,))
        for free in (None, 2176, 9999):
            check_space(VALUE, INSTANCE, plan, free)
        with self.assertRaisesRegex(PrereqError, "2175 MiB of free space.* need 2176 MiB"):
            check_space(VALUE, INSTANCE, plan, 2175)

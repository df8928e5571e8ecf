"""Tiers on a ground that is a few numbers."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.capacity_tiers import Attempt, Spec, tiered
from ganeti.logic.node_room import FailMode

SMALLEST = Spec(64, 256, 1)


class Bins:
    """Nodes that take whatever fits, the first one first; only memory, disk and processors count."""

    def __init__(self, *nodes: tuple[int, int, int], least: Spec = SMALLEST) -> None:
        self.nodes = [list(node) for node in nodes]
        self._least = least
        self.asked = 0

    def by_room(self, spec: Spec) -> Attempt:
        """What each node lacks first."""
        self.asked += 1
        failures = [0] * len(FailMode)
        if not self.is_allowed(spec):
            failures[FailMode.MEMORY] = len(self.nodes)
            return Attempt(False, failures)
        for node in self.nodes:
            lacking = next((mode for mode in range(3) if spec[mode] > node[mode]), None)
            if lacking is not None:
                failures[lacking] += 1
        return Attempt(sum(failures) < len(self.nodes), failures)

    attempt = by_room

    def is_allowed(self, spec: Spec) -> bool:
        """Not below the least."""
        return all(wants >= least for wants, least in zip(spec, self._least))

    def fill(self, spec: Spec) -> tuple[int, Sequence[int]]:
        """Put in what fits."""
        count = 0
        while self.by_room(spec).fits:
            node = next(node for node in self.nodes if all(w <= has for w, has in zip(spec, node)))
            for mode in range(3):
                node[mode] -= spec[mode]
            count += 1
        return count, self.by_room(spec).failures


class TieredTests(SynchronousTestCase):
    """Sizes and how many of each."""

    def test_only_one_size(self) -> None:
        """Where nothing is left, there is one tier."""
        result = tiered(Bins((1024, 10240, 8)), Spec(512, 5120, 4))
        self.assertEqual(result.tiers, ((Spec(512, 5120, 4), 2),))

    def test_rest_of_memory(self) -> None:
        """What is left of memory takes a smaller one, in steps of 64 MiB."""
        result = tiered(Bins((1300, 99999, 99)), Spec(512, 1024, 1))
        self.assertEqual(result.tiers, ((Spec(512, 1024, 1), 2), (Spec(256, 1024, 1), 1)))

    def test_rest_of_disk(self) -> None:
        """And of disk, in steps of 256 MiB."""
        result = tiered(Bins((99999, 2500, 99)), Spec(512, 1024, 1))
        self.assertEqual(result.tiers, ((Spec(512, 1024, 1), 2), (Spec(512, 256, 1), 1)))

    def test_backwards(self) -> None:
        """Where the resource that most lack cannot help, another one does, from the smallest size on."""
        bins = Bins((99999, 0, 99), (99999, 0, 99), (200, 99999, 99))
        self.assertEqual(tiered(bins, Spec(512, 1024, 1)).tiers[0], (Spec(192, 256, 1), 1))

    def test_nothing(self) -> None:
        """Where nothing fits whatever its size, there are no tiers, but a reason."""
        result = tiered(Bins((10, 10, 0)), Spec(512, 1024, 1))
        self.assertEqual(result.tiers, ())
        self.assertEqual(result.failures[FailMode.MEMORY], 1)

    def test_policy(self) -> None:
        """Below what the policy allows nothing is counted."""
        result = tiered(Bins((700, 99999, 99), least=Spec(256, 1024, 1)), Spec(512, 1024, 1))
        self.assertEqual(result.tiers, ((Spec(512, 1024, 1), 1),))

    @given(
        st.lists(
            st.tuples(st.integers(0, 3000), st.integers(0, 9000), st.integers(0, 9)), min_size=1, max_size=4
        )
    )
    def test_ends(self, nodes: list[tuple[int, int, int]]) -> None:
        """Sizes never grow, every count is positive, and not even the smallest fits at the end."""
        bins = Bins(*nodes)
        result = tiered(bins, Spec(1024, 4096, 4))
        for (before, _), (after, _) in zip(result.tiers, result.tiers[1:]):
            self.assertTrue(all(more >= less for more, less in zip(before, after)))
        self.assertTrue(all(count > 0 for _, count in result.tiers))

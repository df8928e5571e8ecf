"""How long jobs try to get their locks, and when their priority rises."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.lock_attempts import TIMEOUTS_S, LockAttempts
from ganeti.model.locks import PRIORITY_HIGHEST


class TimeoutTests(SynchronousTestCase):
    """The attempts of one round."""

    def test_numbers(self) -> None:
        """28 attempts of 5 to 75 s, 1,853.7 s together, as established."""
        self.assertEqual(len(TIMEOUTS_S), 28)
        self.assertEqual([round(t, 2) for t in TIMEOUTS_S[:6]], [5.0, 7.95, 14.18, 29.25, 72.31, 75.0])
        self.assertAlmostEqual(sum(TIMEOUTS_S), 1853.7, places=1)

    @given(st.integers(0, 27), st.integers())
    def test_variation(self, failed: int, seed: int) -> None:
        """Each attempt is varied by at most five per cent."""
        timeout = LockAttempts(failed=failed).timeout_s(0, random.Random(seed))
        assert timeout is not None
        self.assertLessEqual(abs(timeout / TIMEOUTS_S[failed] - 1), 0.0500001)

    def test_blocking_at_the_highest_priority(self) -> None:
        """The first attempt at -20 has no timeout (S2.3-116)."""
        self.assertIsNone(LockAttempts().timeout_s(PRIORITY_HIGHEST, random.Random(1)))


class PriorityTests(SynchronousTestCase):
    """The priority rises by one with each round that failed."""

    def test_from_normal_to_highest(self) -> None:
        """20 rounds, about ten hours, lead from 0 to -20, and never beyond (S2.3-115)."""
        attempts, priority, rng = LockAttempts(), 0, random.Random(3)
        total, seen = 0.0, [0]
        while (timeout := attempts.timeout_s(priority, rng)) is not None:
            total += timeout
            attempts, priority = attempts.after_failure(priority)
            if priority != seen[-1]:
                seen.append(priority)
        self.assertEqual(seen, list(range(0, -21, -1)))
        self.assertLess(abs(total - 20 * sum(TIMEOUTS_S)) / 3600, 0.2)

    def test_stays_within_a_round(self) -> None:
        """27 failures leave the priority alone; the 28th raises it and begins again."""
        attempts, priority = LockAttempts(), 10
        for number in range(1, 28):
            attempts, priority = attempts.after_failure(priority)
            self.assertEqual((attempts.failed, priority), (number, 10))
        self.assertEqual(attempts.after_failure(priority), (LockAttempts(), 9))

    @given(st.integers(-20, 19), st.integers(0, 27))
    def test_never_beyond_the_highest(self, priority: int, failed: int) -> None:
        """No failure leads out of the range of priorities."""
        _, after = LockAttempts(failed=failed).after_failure(priority)
        self.assertIn(after, (priority, priority - 1))
        self.assertGreaterEqual(after, PRIORITY_HIGHEST)

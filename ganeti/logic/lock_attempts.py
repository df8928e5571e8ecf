"""How long a job tries to get its locks before others have their turn, and when it gets more urgent.

The attempts of one round at a priority get longer; when all of them failed the priority rises by
one and a new round starts. At the highest priority the job waits for ever (S2.3-115, S2.3-116).
"""

from __future__ import annotations

import random

import msgspec

from ganeti.model.locks import PRIORITY_HIGHEST

FIRST_S = 5.0
SHORTEST_S = 5.0
LONGEST_S = 75.0
ROUND_S = 36_000.0 / 20
"""A round ends when its attempts lasted this long; from 0 to -20 it takes about ten hours."""
VARIATION = 0.05


def _round() -> tuple[float, ...]:
    found = [FIRST_S]
    while sum(found) < ROUND_S:
        found.append(min(LONGEST_S, max(SHORTEST_S, (found[-1] * 1.05) ** 1.25)))
    return tuple(found)


TIMEOUTS_S = _round()
"""The attempts of one round, seconds, before variation."""


class LockAttempts(msgspec.Struct, frozen=True, kw_only=True):
    """Where an opcode is in its round."""

    failed: int = 0
    """Attempts of this round that failed."""

    def timeout_s(self, priority: int, rng: random.Random) -> float | None:
        """How long the next attempt may take, varied a little; None: until the locks are there."""
        if priority <= PRIORITY_HIGHEST:
            return None
        return TIMEOUTS_S[self.failed] * (1 + rng.uniform(-VARIATION, VARIATION))

    def after_failure(self, priority: int) -> tuple[LockAttempts, int]:
        """Place in the round, and priority, after an attempt that failed."""
        if priority <= PRIORITY_HIGHEST:
            return self, priority
        if self.failed + 1 < len(TIMEOUTS_S):
            return LockAttempts(failed=self.failed + 1), priority
        return LockAttempts(), priority - 1

"""Tiered allocation: instances of the largest size as long as one fits, then of the next smaller, and so on.

The procedure is that of the established `hspace`, so that the answer is the same. When nothing fits any
more, the resource that most places lack is made smaller, unit by unit, until something fits. Where that comes
to its end, the sizes on the way are gone through backwards: from each, one resource alone is made smaller,
as long as places lack it, until something fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from ganeti.logic.node_room import FailMode

UNITS = {FailMode.MEMORY: 64, FailMode.DISK: 256, FailMode.CPU: 1}
"""By how much a resource is made smaller at a time; so much remains at least."""


class Spec(NamedTuple):
    """Size of an instance with one disk; MiB and counts."""

    memory: int
    disk: int
    vcpus: int

    def smaller(self, mode: FailMode, steps: int = 1) -> Spec | None:
        """Some units less of a resource; None: it is not one of these, or as small as can be."""
        unit = UNITS.get(mode)
        if unit is None:
            return None
        values = list(self)
        values[mode] -= unit * steps
        return Spec(*values) if values[mode] >= unit else None

    def steps_down(self, mode: FailMode) -> int:
        """How often a resource can be made smaller and still smaller once more."""
        unit = UNITS.get(mode)
        return 0 if unit is None else max(0, self[mode] // unit - 2)


class Attempt(NamedTuple):
    """What came of looking for a place for one instance."""

    fits: bool
    failures: Sequence[int]
    """Refused places by `FailMode`."""


class Ground(Protocol):
    """Where instances are put."""

    def fill(self, spec: Spec) -> tuple[int, Sequence[int]]:
        """Put as many instances of a size as fit; gives their number and the refusals of the next."""

    def attempt(self, spec: Spec) -> Attempt:
        """Look for a place."""

    def by_room(self, spec: Spec) -> Attempt:
        """Look for a node, or two, with room, whatever becomes of the others.

        What fits by room fits by room, too, if it is smaller, unless the policy forbids it.
        """

    def is_allowed(self, spec: Spec) -> bool:
        """Whether the policy allows a size."""


class Tiers(NamedTuple):
    """Result of a tiered allocation."""

    tiers: tuple[tuple[Spec, int], ...]
    failures: Sequence[int]
    """Why the next instance did not fit."""


def tiered(ground: Ground, largest: Spec) -> Tiers:
    """Fill a ground with instances of decreasing sizes, beginning with the largest."""
    found: list[tuple[Spec, int]] = []
    last: Sequence[int] | None = None
    spec: Spec | None = largest
    tried: list[tuple[Spec, list[FailMode]]] = []
    """Sizes of which nothing fitted since something did, and what places lack most of each."""
    while spec is not None:
        count, failures = ground.fill(spec)
        if count:
            found.append((spec, count))
            tried = []
        if count or last is None:
            last = failures
        modes = sorted(FailMode, key=lambda mode: failures[mode])[::-1]
        tried.append((spec, modes))
        spec = spec.smaller(modes[0])
        while spec is None and tried:
            spec = _big_step(ground, *tried.pop())
    return Tiers(tuple(found), last or ())


def _big_step(ground: Ground, spec: Spec, modes: Sequence[FailMode]) -> Spec | None:
    """The first size that fits if one resource alone is made smaller, the one that most lack first."""
    found = (_fitting(ground, spec, mode) for mode in modes)
    return next((size for size in found if size is not None), None)


def _fitting(ground: Ground, spec: Spec, mode: FailMode) -> Spec | None:
    """The first smaller size that fits, as long as places lack this resource.

    As in the established tool the smallest size of all is not among them.
    """
    if not ground.by_room(spec).failures[mode]:
        return None
    first = _first_with_room(ground, spec, mode)
    if first is None or not ground.by_room(_lowered(spec, mode, first - 1)).failures[mode]:
        return None
    for size in _sizes(spec, mode, first):
        attempt = ground.attempt(size)
        if attempt.fits:
            return size
        if not attempt.failures[mode]:
            return None
    return None


def _first_with_room(ground: Ground, spec: Spec, mode: FailMode) -> int | None:
    """How often a resource has to be made smaller until some node has room; None: that does not help."""
    low, high = 0, spec.steps_down(mode)
    while high > 0 and not ground.is_allowed(_lowered(spec, mode, high)):
        high = _last_allowed(ground, spec, mode, high)
    if high < 1 or not ground.by_room(_lowered(spec, mode, high)).fits:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if ground.by_room(_lowered(spec, mode, middle)).fits:
            high = middle
        else:
            low = middle
    return high


def _last_allowed(ground: Ground, spec: Spec, mode: FailMode, steps: int) -> int:
    """A number of steps after which the policy still allows a size; 0: there is none."""
    low, high = 0, steps
    while high - low > 1:
        middle = (low + high) // 2
        if ground.is_allowed(_lowered(spec, mode, middle)):
            low = middle
        else:
            high = middle
    return low


def _lowered(spec: Spec, mode: FailMode, steps: int) -> Spec:
    lowered = spec.smaller(mode, steps)
    assert lowered is not None
    return lowered


def _sizes(spec: Spec, mode: FailMode, first: int) -> Iterator[Spec]:
    """Ever smaller ones, in one resource, beginning after some steps."""
    for steps in range(first, spec.steps_down(mode) + 1):
        yield _lowered(spec, mode, steps)

"""Proof against deadlock: locks of different kinds are only ever acquired in one order."""

from __future__ import annotations

from enum import IntEnum

from ganeti.errors import ProgrammerError


class LockOrder:
    """Ranks that one owner holds at this moment; acquiring downwards or sideways is a mistake."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: list[IntEnum] = []

    def enter(self, rank: IntEnum) -> None:
        """About to acquire something of a rank.

        Raises:
            ProgrammerError: something of the same or a higher rank is held.
        """
        if self._held and self._held[-1] >= rank:
            raise ProgrammerError(f"acquires {rank.name} while holding {self._held[-1].name}")
        self._held.append(rank)

    def leave(self, rank: IntEnum) -> None:
        """Nothing of this rank is held any more; no error if nothing was."""
        if rank in self._held:
            self._held.remove(rank)

    @property
    def held(self) -> tuple[IntEnum, ...]:
        """What is held, lowest first."""
        return tuple(self._held)

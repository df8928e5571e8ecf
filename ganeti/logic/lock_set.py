"""The locks of one level: named members, and one lock for the set as a whole.

The lock of the set (`instance/[lockset]`) is taken before any member by whoever wants all members,
and by whoever adds some; so membership does not grow under those who hold everything. Members are
acquired in the order of their names, which is why two owners never wait for each other.

What may have to wait is a generator of steps (`lock_steps`); the rest happens at once.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence

from ganeti.errors import LockError, ProgrammerError
from ganeti.logic.lock_steps import Claimant, Steps, delete, obtain
from ganeti.logic.shared_lock import SharedLock
from ganeti.logic.trampoline import Trampoline
from ganeti.model.locks import LockMode

SET_LOCK = "[lockset]"
"""Name of the lock of the set in lists."""


class LockSet:
    """Named locks that are acquired together.

    Args:
        prefix: start of the locks' names in lists: `instance`.
        trampoline: that of all locks.
        names: the first members.
    """

    def __init__(self, prefix: str, trampoline: Trampoline, names: Iterable[str] = ()) -> None:
        self.prefix = prefix
        self._trampoline = trampoline
        self._set_lock = SharedLock(f"{prefix}/{SET_LOCK}", trampoline)
        self._locks: dict[str, SharedLock] = {}
        self._owned: dict[Hashable, dict[str, None]] = {}
        self.version = 0
        """Counts changes of membership."""
        self._sorted: tuple[int, list[str]] = (0, [])
        for name in names:
            self._make(name)

    # --- acquiring -----------------------------------------------------------------------------

    def acquire(
        self,
        claimant: Claimant,
        names: Collection[str] | None,
        mode: LockMode,
        *,
        opportunistic: bool = False,
        add: Collection[str] = (),
    ) -> Steps[frozenset[str]]:
        """Acquire members; if that fails or is given up, nothing is held.

        Args:
            claimant: who, and with which priority.
            names: which; None: all there are, and nobody can add any until they are released.
            mode: how.
            opportunistic: only those that exist and are free; the result may be empty.
            add: members to be made, and held exclusively, after the others were acquired.

        Returns:
            Names obtained, the added ones not among them.

        Raises:
            LockError: one of `names` does not exist (any more), or one of `add` does.
            LocksNotGranted: the claimant is impatient and something was not free.
            ProgrammerError: the owner has members of this set already.
        """
        owner = claimant.owner
        if self._has_any(owner):
            raise ProgrammerError(f"{owner} acquires locks of {self.prefix} a second time")
        if names is not None and not opportunistic:
            self._must_exist(names)
        self._must_be_new(add)
        owned = self._owned[owner] = {}
        try:
            if names is None or add:
                yield from obtain(self._set_lock, claimant, LockMode.EXCLUSIVE if add else mode)
            if opportunistic:
                self._take_free(owned, owner, names, mode)
            else:
                yield from self._take(owned, claimant, names, mode)
            obtained = frozenset(owned)
            if add:
                self._make_held(owner, add, LockMode.EXCLUSIVE)
                self._open_set(owner, None if names is not None else mode)
            self._forget_if_empty(owner)
        except BaseException:
            self.release(owner)
            raise
        return obtained

    def add(
        self, claimant: Claimant, names: Collection[str], *, hold: LockMode | None = LockMode.EXCLUSIVE
    ) -> Steps[None]:
        """Make new members, all or none.

        Args:
            claimant: who; owns either nothing here or the whole set exclusively.
            names: which.
            hold: how they are owned from the first moment on; None: not at all.

        Raises:
            LockError: one exists.
            LocksNotGranted: the claimant is impatient and somebody has the whole set.
            ProgrammerError: the owner has some members only, or shares them.
        """
        owner = claimant.owner
        self._must_be_new(names)
        if self._set_lock.is_owned(owner, LockMode.EXCLUSIVE):
            self._make_held(owner, names, hold)
            return
        if self._has_any(owner):
            raise ProgrammerError(f"{owner} adds locks to {self.prefix} while holding some of it")
        yield from obtain(self._set_lock, claimant, LockMode.EXCLUSIVE)
        try:
            self._make_held(owner, names, hold)
        finally:
            self._set_lock.release(owner)

    def remove(self, claimant: Claimant, names: Collection[str]) -> Steps[frozenset[str]]:
        """Delete members; those that are gone already are skipped.

        Args:
            claimant: who; owns either all of `names` exclusively or nothing here.
            names: which.

        Returns:
            Names of those that were deleted by this.

        Raises:
            LocksNotGranted: the claimant is impatient and one was not free.
            ProgrammerError: the owner has others or only some of them, or shares them.
        """
        owner = claimant.owner
        owns_some = self._has_any(owner)
        if owns_some and not self.check_owned(owner, names, LockMode.EXCLUSIVE):
            raise ProgrammerError(f"{owner} removes locks of {self.prefix} while holding others")
        removed: set[str] = set()
        for name in sorted(set(names)):
            lock = self._locks.get(name)
            if lock is None:
                continue
            try:
                yield from delete(lock, claimant)
            except LockError:
                continue
            self._drop(owner, name)
            removed.add(name)
        return frozenset(removed)

    # --- holding -------------------------------------------------------------------------------

    def release(
        self, owner: Hashable, names: Iterable[str] | None = None, *, doomed: Collection[str] = ()
    ) -> None:
        """Let go of members, and of the set as a whole even if they are only some.

        Nobody is told of a grant before all of it is let go.

        Args:
            owner: who; owning nothing is no error if `names` is None.
            names: which; None: all.
            doomed: those among them that shall exist no more; held exclusively.

        Raises:
            ProgrammerError: one of them is not owned.
        """
        owned = self._owned.get(owner, {})
        chosen = list(owned) if names is None else list(dict.fromkeys(names))
        self._must_own(owner, chosen)
        with self._trampoline:
            if self._set_lock.is_owned(owner):
                self._set_lock.release(owner)
            for name in chosen:
                if name in doomed:
                    self._locks[name].delete(owner)
                    self._drop(owner, name)
                else:
                    del owned[name]
                    self._locks[name].release(owner)
            self._forget_if_empty(owner)

    def downgrade(self, owner: Hashable, names: Iterable[str] | None = None) -> None:
        """Go on sharing; the set as a whole is shared too once all its members are.

        Args:
            owner: who.
            names: which; None: all that are owned.

        Raises:
            ProgrammerError: one of them is not owned.
        """
        owned = self._owned.get(owner, {})
        chosen = list(owned) if names is None else list(dict.fromkeys(names))
        self._must_own(owner, chosen)
        with self._trampoline:
            for name in chosen:
                self._locks[name].downgrade(owner)
            all_shared = self.check_owned(owner, owned, LockMode.SHARED)
            if all_shared and self._set_lock.is_owned(owner, LockMode.EXCLUSIVE):
                self._set_lock.downgrade(owner)

    def list_owned(self, owner: Hashable) -> frozenset[str]:
        """Names of the members owned."""
        return frozenset(self._owned.get(owner, ()))

    def check_owned(self, owner: Hashable, names: Iterable[str], mode: LockMode | None = None) -> bool:
        """Whether all of these are owned, in this mode or (None) in any."""
        owned = self._owned.get(owner, {})
        return all(name in owned and self._locks[name].is_owned(owner, mode) for name in names)

    def owning_all(self, owner: Hashable) -> bool:
        """Whether the owner has the set as a whole: nobody can add members."""
        return self._set_lock.is_owned(owner)

    # --- members -------------------------------------------------------------------------------

    def create(self, names: Iterable[str]) -> None:
        """Make members without asking anybody: for whoever is alone, by the exclusive BGL.

        Raises:
            LockError: one exists, none was made.
        """
        new = sorted(set(names))
        self._must_be_new(new)
        for name in new:
            self._make(name)

    def names(self) -> frozenset[str]:
        """All members."""
        return frozenset(self._locks)

    def locks(self) -> Iterator[SharedLock]:
        """The lock of the set and those of all members, in no order."""
        yield self._set_lock
        yield from self._locks.values()

    # --- inside --------------------------------------------------------------------------------

    def _in_order(self, names: Collection[str] | None) -> Sequence[str]:
        if names is not None:
            return sorted(set(names))
        if self._sorted[0] != self.version:
            self._sorted = (self.version, sorted(self._locks))
        return self._sorted[1]

    def _take(
        self, owned: dict[str, None], claimant: Claimant, names: Collection[str] | None, mode: LockMode
    ) -> Steps[None]:
        for name in self._in_order(names):
            lock = self._locks.get(name)
            if lock is None:
                if names is None:
                    continue
                raise self._unknown(name)
            if not lock.try_acquire(claimant.owner, mode):
                try:
                    yield from obtain(lock, claimant, mode)
                except LockError:
                    # Whoever wants all members wants those that there are in the end.
                    if names is None:
                        continue
                    raise
            owned[name] = None

    def _take_free(
        self, owned: dict[str, None], owner: Hashable, names: Collection[str] | None, mode: LockMode
    ) -> None:
        for name in self._in_order(names):
            lock = self._locks.get(name)
            if lock is not None and lock.try_acquire(owner, mode):
                owned[name] = None

    def _make_held(self, owner: Hashable, names: Collection[str], hold: LockMode | None) -> None:
        self._must_be_new(names)
        for name in sorted(set(names)):
            lock = self._make(name)
            if hold is not None:
                lock.try_acquire(owner, hold)
                self._owned.setdefault(owner, {})[name] = None

    def _open_set(self, owner: Hashable, mode: LockMode | None) -> None:
        """Bring the set's lock from exclusive to what is wanted for the rest of the time."""
        if mode is None:
            self._set_lock.release(owner)
        elif mode is LockMode.SHARED:
            self._set_lock.downgrade(owner)

    def _make(self, name: str) -> SharedLock:
        self.version += 1
        lock = self._locks[name] = SharedLock(f"{self.prefix}/{name}", self._trampoline)
        return lock

    def _drop(self, owner: Hashable, name: str) -> None:
        self.version += 1
        del self._locks[name]
        self._owned.get(owner, {}).pop(name, None)
        self._forget_if_empty(owner)

    def _has_any(self, owner: Hashable) -> bool:
        return owner in self._owned or self._set_lock.is_owned(owner)

    def _forget_if_empty(self, owner: Hashable) -> None:
        if not self._owned.get(owner, True):
            del self._owned[owner]

    def _must_own(self, owner: Hashable, names: Iterable[str]) -> None:
        owned = self._owned.get(owner, {})
        for name in names:
            if name not in owned:
                raise ProgrammerError(f"{owner} does not hold lock {self.prefix}/{name}")

    def _must_exist(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            if name not in self._locks:
                raise self._unknown(name)

    def _must_be_new(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            if name in self._locks:
                raise LockError(
                    f"lock {self.prefix}/{name} exists: so does its object, or another job is making it"
                )

    def _unknown(self, name: str) -> LockError:
        return LockError(
            f"there is no lock {self.prefix}/{name}: no such object, or it was removed; check the name"
        )

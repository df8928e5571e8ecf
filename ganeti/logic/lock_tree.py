"""All locks of the cluster: the BGL and the sets of the levels above it, acquired by one plan.

Whoever acquires goes from level to level in increasing order and holds one plan at a time. Nodes
have two locks, of the levels NODE and NODE_RES; both come and go together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from ganeti.errors import ProgrammerError
from ganeti.logic.lock_order import LockOrder
from ganeti.logic.lock_set import LockSet
from ganeti.logic.lock_steps import Claimant, Steps, obtain, run_at_once
from ganeti.logic.shared_lock import SharedLock
from ganeti.logic.trampoline import Trampoline
from ganeti.model.cluster import Cluster
from ganeti.model.locks import BGL, LockLevel, LockMode, LockPlan

MEMBER_LEVELS: tuple[LockLevel, ...] = tuple(level for level in LockLevel if level is not LockLevel.CLUSTER)
"""Levels whose locks come and go with objects, in the order of acquiring."""

_BOTH_OF_NODES = (LockLevel.NODE, LockLevel.NODE_RES)


def lock_names(cluster: Cluster) -> Mapping[LockLevel, frozenset[str]]:
    """Names of the locks that the objects of a cluster have."""
    nodes = frozenset(cluster.nodes)
    return {
        LockLevel.INSTANCE: frozenset(instance.name for instance in cluster.instances.values()),
        LockLevel.NODEGROUP: frozenset(cluster.groups),
        LockLevel.NODE: nodes,
        LockLevel.NODE_RES: nodes,
        LockLevel.NETWORK: frozenset(cluster.networks),
    }


def twin_levels(level: LockLevel) -> tuple[LockLevel, ...]:
    """Levels that have the same members as this one, itself among them."""
    return _BOTH_OF_NODES if level in _BOTH_OF_NODES else (level,)


class LockTree:
    """Every lock there is, and who acquires or holds a plan.

    Args:
        report: gets errors of callbacks of grants.
    """

    def __init__(self, report: Callable[[Exception], object]) -> None:
        self.trampoline = trampoline = Trampoline(report)
        self.bgl = SharedLock(f"{LockLevel.CLUSTER.prefix}/{BGL}", trampoline)
        self.sets = {level: LockSet(level.prefix, trampoline) for level in MEMBER_LEVELS}
        self._holdings: dict[str, Holding] = {}
        self._sorted: tuple[int, list[SharedLock]] = (-1, [])

    def add(self, level: LockLevel, names: Iterable[str]) -> None:
        """Make locks of objects that exist now; those that have one keep it.

        Raises:
            LocksNotGranted: somebody has the whole level.
        """
        wanted = frozenset(names)
        for twin in twin_levels(level):
            missing = wanted - self._set(twin).names()
            if missing:
                run_at_once(self._set(twin).add(_passer_by(), missing, hold=None))

    def remove(self, level: LockLevel, names: Iterable[str]) -> None:
        """Delete locks of objects that are gone; no error if there are none.

        Raises:
            LocksNotGranted: somebody has one of them.
        """
        wanted = frozenset(names)
        for twin in twin_levels(level):
            run_at_once(self._set(twin).remove(_passer_by(), wanted))

    def members(self, level: LockLevel) -> frozenset[str]:
        """Names of the locks of a level."""
        return frozenset((BGL,)) if level is LockLevel.CLUSTER else self._set(level).names()

    def change_priority(self, owner: str, priority: int) -> bool:
        """Let an owner wait with another priority; says whether it waits for something."""
        holding = self._holdings.get(owner)
        return holding is not None and holding.claimant.change_priority(priority)

    def rows(self) -> list[Mapping[str, Any]]:
        """Name, mode, owner and pending of every lock, nice-sorted by name (locking.md section 5)."""
        return [_row(lock) for lock in self._sorted_locks()]

    def enter(self, holding: Holding) -> None:
        """Note who begins to acquire; for `Holding`.

        Raises:
            ProgrammerError: the same owner acquires or holds something already.
        """
        if holding.owner in self._holdings:
            raise ProgrammerError(f"{holding.owner} acquires locks while it acquires or holds others")
        self._holdings[holding.owner] = holding

    def leave(self, holding: Holding) -> None:
        """Note who has let go of everything; for `Holding`."""
        if self._holdings.get(holding.owner) is holding:
            del self._holdings[holding.owner]

    def _set(self, level: LockLevel) -> LockSet:
        if level is LockLevel.CLUSTER:
            raise ProgrammerError("the cluster level has the one lock BGL only")
        return self.sets[level]

    def _sorted_locks(self) -> list[SharedLock]:
        # Sorting tens of thousands of names takes much longer than listing them.
        version = sum(lock_set.version for lock_set in self.sets.values())
        if self._sorted[0] != version:
            locks = [self.bgl, *(lock for lock_set in self.sets.values() for lock in lock_set.locks())]
            self._sorted = (version, sorted(locks, key=lambda lock: _nice_key(lock.name)))
        return self._sorted[1]


class Holding:
    """What one owner holds by one plan, or is about to.

    Args:
        tree: the locks.
        owner: text for lists, the job's id; acquires one plan at a time.
        priority: for waiting; lower is served first.
        patient: False: nothing is waited for.
    """

    def __init__(self, tree: LockTree, *, owner: str, priority: int, patient: bool = True) -> None:
        self.owner = owner
        self.claimant = Claimant(owner, priority=priority, patient=patient)
        self._tree = tree
        self._order = LockOrder()
        self._added: dict[LockLevel, frozenset[str]] = {}
        # Deleted instead of released: added but not kept, or forgotten.
        self._doomed: dict[LockLevel, set[str]] = {}

    def acquire(self, plan: LockPlan) -> Steps[None]:
        """Acquire everything; if that fails or is given up, nothing is held.

        Raises:
            LockError: an object of the plan is gone, or one to be added exists.
            LocksNotGranted: the claimant is impatient and something was not free.
            ProgrammerError: the owner acquires or holds another plan.
        """
        added = _added_everywhere(plan)
        self._tree.enter(self)
        try:
            self._order.enter(LockLevel.CLUSTER)
            mode = LockMode.EXCLUSIVE if plan.exclusive_cluster else LockMode.SHARED
            yield from obtain(self._tree.bgl, self.claimant, mode)
            for level in MEMBER_LEVELS:
                yield from self._acquire_level(level, plan, added.get(level, frozenset()))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of everything, highest level first; may be repeated.

        Nobody is told of a grant before all of it is let go.
        """
        with self._tree.trampoline, ExitStack() as last_first:
            last_first.callback(self._tree.leave, self)
            last_first.callback(self.release, LockLevel.CLUSTER)
            for level in MEMBER_LEVELS:
                if level in self._order.held or level in self._doomed:
                    last_first.callback(self._close_level, level)

    def names(self, level: LockLevel) -> frozenset[str]:
        """Names held at a level; of a whole level all its members."""
        if level is LockLevel.CLUSTER:
            return frozenset((BGL,)) if self._tree.bgl.is_owned(self.owner) else frozenset()
        return self._tree.sets[level].list_owned(self.owner)

    def release(self, level: LockLevel, names: Iterable[str] | None = None) -> None:
        """Let go early; None: the whole level. The BGL comes last.

        Raises:
            ProgrammerError: one of them is not held, or the BGL is let go before others.
        """
        if level is LockLevel.CLUSTER:
            self._release_bgl()
        else:
            self._tree.sets[level].release(self.owner, names, doomed=self._doomed.get(level, ()))
        if not self.names(level):
            self._order.leave(level)

    def downgrade(self, level: LockLevel, names: Iterable[str] | None = None) -> None:
        """From exclusive to shared; None: all of the level.

        Raises:
            ProgrammerError: one of them is not held, or is to be deleted in the end.
        """
        if level is LockLevel.CLUSTER:
            self._tree.bgl.downgrade(self.owner)
            return
        chosen = self.names(level) if names is None else frozenset(names)
        if chosen & self._doomed.get(level, set()):
            raise ProgrammerError(f"{self.owner} downgrades locks of {level.prefix} that it will delete")
        self._tree.sets[level].downgrade(self.owner, None if names is None else chosen)

    def keep_added(self, level: LockLevel, names: Iterable[str]) -> None:
        """These objects exist now: their locks stay when the owner lets go.

        Whoever holds the BGL exclusively may also name objects that the plan did not add; those
        get their locks now.

        Raises:
            ProgrammerError: neither in `add` of the plan nor the BGL held exclusively.
        """
        kept = frozenset(names)
        for twin in twin_levels(level):
            foreign = kept - self._added.get(twin, frozenset()) - self._tree.sets[twin].names()
            if foreign and not self._owns_cluster_alone():
                raise ProgrammerError(
                    f"{self.owner} keeps locks that it did not add: {', '.join(sorted(foreign))}"
                )
            self._doomed.get(twin, set()).difference_update(kept)
            self._tree.sets[twin].create(foreign)

    def forget(self, level: LockLevel, names: Iterable[str]) -> None:
        """These objects are gone: their locks are deleted when the owner lets go.

        Raises:
            ProgrammerError: they are shared, or neither they nor the BGL are held exclusively.
        """
        gone = frozenset(names)
        for twin in twin_levels(level):
            needed = gone & self.names(twin) if self._owns_cluster_alone() else gone
            if not self._tree.sets[twin].check_owned(self.owner, needed, LockMode.EXCLUSIVE):
                raise ProgrammerError(
                    f"{self.owner} forgets locks of {twin.prefix} that it does not hold exclusively"
                )
            self._doomed.setdefault(twin, set()).update(gone)

    def _acquire_level(self, level: LockLevel, plan: LockPlan, add: frozenset[str]) -> Steps[None]:
        request = plan.requests.get(level)
        if request is None and not add:
            return
        self._order.enter(level)
        names = frozenset() if request is None else request.names
        mode = LockMode.EXCLUSIVE if request is None else request.mode
        opportunistic = request is not None and request.opportunistic
        yield from self._tree.sets[level].acquire(
            self.claimant, names, mode, opportunistic=opportunistic, add=add
        )
        if add:
            self._added[level] = add
            self._doomed.setdefault(level, set()).update(add)

    def _close_level(self, level: LockLevel) -> None:
        self.release(level)
        gone = self._doomed.get(level)
        if gone and self._owns_cluster_alone():
            # The owner of the exclusive BGL need not hold the locks that it forgets.
            run_at_once(self._tree.sets[level].remove(Claimant(self.owner, patient=False), gone))

    def _release_bgl(self) -> None:
        if not self._tree.bgl.is_owned(self.owner):
            return
        if any(self._tree.sets[level].list_owned(self.owner) for level in MEMBER_LEVELS):
            raise ProgrammerError(f"{self.owner} lets go of the BGL before its other locks")
        self._tree.bgl.release(self.owner)

    def _owns_cluster_alone(self) -> bool:
        return self._tree.bgl.is_owned(self.owner, LockMode.EXCLUSIVE)


def _added_everywhere(plan: LockPlan) -> Mapping[LockLevel, frozenset[str]]:
    """What a plan adds, on both levels of nodes."""
    if LockLevel.CLUSTER in plan.requests or LockLevel.CLUSTER in plan.add:
        raise ProgrammerError("a plan asks for the cluster level by exclusive_cluster only")
    added: dict[LockLevel, frozenset[str]] = {}
    for level, names in plan.add.items():
        for twin in twin_levels(level):
            added[twin] = added.get(twin, frozenset()) | names
    return added


def _passer_by() -> Claimant:
    """Somebody who takes only what is free and keeps nothing."""
    return Claimant("masterd", patient=False)


def _row(lock: SharedLock) -> Mapping[str, Any]:
    info = lock.info()
    return {
        "name": info.name,
        "mode": info.mode,
        "owner": list(info.owners) or None,
        "pending": [[mode, list(owners)] for mode, owners in info.pending] or None,
    }


def _nice_key(name: str) -> list[str | int]:
    """Key for sorting by which numbers inside names compare as numbers."""
    return [int(part) if at % 2 else part for at, part in enumerate(re.split(r"([0-9]+)", name))]

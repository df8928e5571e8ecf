"""How fast locks are when nobody is in the way, and how fast a long queue drains."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from ganeti.logic.lock_queue import Waiting
from ganeti.logic.shared_lock import SharedLock
from ganeti.logic.trampoline import Trampoline
from ganeti.master.lock_manager import LockManager
from ganeti.model.locks import LockLevel, LockMode, LockPlan, all_of_level, exclusive
from ganeti.testing.locks import locks_with

REPEATS = 5
PAIRS = 100_000
WAITERS = 1000
INSTANCES = 20_000
JOBS = 2000


def _raise(error: Exception) -> None:
    raise error


def uncontended(mode: LockMode) -> Callable[[], None]:
    """Acquire and release a free lock again and again."""
    lock = SharedLock("instance/x", Trampoline(_raise))

    def work() -> None:
        for _ in range(PAIRS):
            lock.acquire("1", mode)
            lock.release("1")

    return work


def drain(mode: LockMode) -> Callable[[], None]:
    """Queue waiters of five priorities and let all of them have the lock, one after the other."""

    def work() -> None:
        lock = SharedLock("instance/x", Trampoline(_raise))
        lock.acquire("holder", LockMode.EXCLUSIVE)
        done: list[object] = []

        def let_go(waiting: Waiting) -> None:
            done.append(waiting.owner)
            lock.release(waiting.owner)

        for number in range(WAITERS):
            waiting = lock.acquire(number, mode, priority=number % 5)
            assert waiting is not None
            waiting.when_decided(let_go)
        lock.release("holder")
        assert len(done) == WAITERS

    return work


def cancel_all() -> None:
    """Give up a long queue from its end to its head."""
    lock = SharedLock("instance/x", Trampoline(_raise))
    lock.acquire("holder", LockMode.EXCLUSIVE)
    waiting = [lock.acquire(number, LockMode.EXCLUSIVE) for number in range(WAITERS)]
    for handle in reversed(waiting):
        assert handle is not None
        handle.give_up()


async def _hold(locks: LockManager, owner: str, plan: LockPlan) -> None:
    async with locks.held(plan, owner=owner, priority=0, timeout_s=None):
        pass


def drain_jobs() -> None:
    """Coroutines of the manager that queue for one instance."""
    locks = locks_with({LockLevel.INSTANCE: ["x"]}, Clock())
    plan = LockPlan(requests={LockLevel.INSTANCE: exclusive(["x"])})
    gate: Deferred[None] = Deferred()

    async def first() -> None:
        async with locks.held(plan, owner="first", priority=0, timeout_s=None):
            await gate

    jobs = [Deferred.fromCoroutine(first())]
    jobs += [Deferred.fromCoroutine(_hold(locks, str(number), plan)) for number in range(WAITERS)]
    gate.callback(None)
    assert all(job.called for job in jobs)


def typical_jobs() -> Callable[[], None]:
    """Plans of one instance and two nodes, all free."""
    names = [f"instance{number}" for number in range(JOBS)]
    locks = locks_with({LockLevel.INSTANCE: names, LockLevel.NODE: names}, Clock())
    plans = [
        LockPlan(
            requests={
                LockLevel.INSTANCE: exclusive([name]),
                LockLevel.NODE: exclusive([name, names[-1 - at]]),
                LockLevel.NODE_RES: exclusive([name]),
            }
        )
        for at, name in enumerate(names)
    ]

    def work() -> None:
        for plan in plans:
            Deferred.fromCoroutine(_hold(locks, "1", plan))

    return work


def big_locks() -> LockManager:
    """The locks of a big cluster."""
    return locks_with({LockLevel.INSTANCE: [f"instance{number}" for number in range(INSTANCES)]}, Clock())


def whole_level(locks: LockManager) -> Callable[[], object]:
    """All instances of a big cluster, shared."""
    plan = LockPlan(requests={LockLevel.INSTANCE: all_of_level(LockMode.SHARED)})
    return lambda: Deferred.fromCoroutine(_hold(locks, "1", plan))


def run() -> list[dict[str, Any]]:
    """Rows name, value, unit, target, met; CPU time, medians."""
    big = big_locks()
    return [
        _rate("locks: free, exclusive acquire + release", PAIRS, uncontended(LockMode.EXCLUSIVE), 500_000),
        _rate("locks: free, shared acquire + release", PAIRS, uncontended(LockMode.SHARED), 500_000),
        _time("locks: 1,000 exclusive waiters queued and drained", drain(LockMode.EXCLUSIVE), 50.0),
        _time("locks: 1,000 shared waiters queued and drained", drain(LockMode.SHARED), 50.0),
        _time("locks: 1,000 waiters cancelled, last one first", cancel_all, 50.0),
        _time("locks: 1,000 jobs drained through one instance", drain_jobs, 50.0),
        _rate("locks: free plans of 1 instance, 2 nodes, 1 node-res", JOBS, typical_jobs()),
        _time("locks: whole level of 20,000 instances and back", whole_level(big), 20.0),
        _time("locks: list of all of 20,000 instances", big.pending),
    ]


def _median_s(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return sorted(times)[REPEATS // 2]


def _rate(name: str, count: int, work: Callable[[], object], target: int | None = None) -> dict[str, Any]:
    value = round(count / _median_s(work))
    met = None if target is None else value >= target
    goal = None if target is None else f">= {target} /s"
    return {"name": name, "value": value, "unit": "/s", "target": goal, "met": met}


def _time(name: str, work: Callable[[], object], target: float | None = None) -> dict[str, Any]:
    value = round(_median_s(work) * 1000, 2)
    met = None if target is None else value <= target
    goal = None if target is None else f"<= {target:g} ms"
    return {"name": name, "value": value, "unit": "ms", "target": goal, "met": met}


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))

"""Everything about jobs, put together: the one place that knows how its parts are connected."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ganeti.interfaces import IClock, IJobStore, ILocks
from ganeti.logic.job_info import JobView
from ganeti.logic.job_states import is_final, recovered
from ganeti.master.job_opcodes import restored
from ganeti.master.job_queue import JobQueue
from ganeti.master.job_runner import GRACE_S, JobRunner
from ganeti.master.job_table import JobTable, LiveJob
from ganeti.master.job_watch import JobWatch
from ganeti.master.op_executor import OpExecutor
from ganeti.model.ids import JobId
from ganeti.model.job import Job, encode_job
from ganeti.ops.registry import Registry


class JobEngine:
    """Queue, runner and watch over one table of jobs.

        engine = JobEngine(reactor, store, registry, locks, executor, clock, rng=..., max_running=...)
        await engine.start((await store.start()).jobs)
        await engine.queue.submit([...])
        await engine.stop()                                # before the store

    Args:
        reactor: time.
        store: keeps jobs; is started before and stopped after this.
        registry: knows all opcodes.
        locks: of the cluster.
        executor: executes opcodes.
        clock: the time of day.
        rng: varies how long is waited for locks.
        max_running: how many jobs may have their turn at a time, asked again each time.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        store: IJobStore,
        registry: Registry,
        locks: ILocks,
        executor: OpExecutor,
        clock: IClock,
        *,
        rng: random.Random,
        max_running: Callable[[], int],
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self.table = JobTable(reactor, store, clock)
        self.queue = JobQueue(
            store,
            self.table,
            registry,
            clock,
            enqueue=lambda live: self.runner.enqueue(live),
            wake=lambda live: self.runner.wake(live),
        )
        self.runner = JobRunner(
            reactor,
            self.table,
            executor,
            locks,
            clock,
            rng=rng,
            max_running=max_running,
            find_status=self.queue.status,
            submit=self.queue.submit_many,
        )
        self.watch = JobWatch(reactor, self._look, self.queue.find)
        self.table.on_change = self.watch.changed
        self.table.on_archive = self.watch.keep
        self.table.on_end = self.runner.ended
        self.table.on_repair = self.runner.resume

    async def start(self, jobs: Sequence[Job]) -> None:
        """Take over the jobs that the last daemon left, and begin to execute.

        Raises:
            JobQueueError: what became of them could not be written.
        """
        now = self._clock.seconds()
        lives = [self._taken_over(job, now) for job in jobs]
        changed = {live.id: encode_job(live.job) for live, job in zip(lives, jobs) if live.job is not job}
        if changed:
            await self._store.save(changed)
            self.log.info("{count} jobs of the last master daemon were taken over", count=len(changed))
        for live in lives:
            self.table.restore(live)
            self.queue.restore(live)
            if is_final(live.job):
                live.forget_opcodes()
            else:
                self.runner.enqueue(live)
        self.runner.start()

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Take no more jobs, put back those that wait, and let running ones go on for a while."""
        self.queue.stop_accepting()
        await self.runner.stop(grace_s)

    def _taken_over(self, job: Job, now: float) -> LiveJob:
        return LiveJob(recovered(job, now), restored(self._registry, job))

    def _look(self, job: JobId) -> JobView | None:
        live = self.table.find(job)
        return None if live is None or live.durable is None else live.view()

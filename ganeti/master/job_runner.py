"""Executes jobs: the most urgent first, one opcode at a turn, so many at a time.

A turn takes a job from the queue, waits for its locks for a while and executes one opcode. Then the
job goes back to the queue, behind those as urgent, if something of it is left or if it did not get
its locks. Jobs that depend on others are parked outside of the queue.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ganeti.errors import GanetiError, JobQueueError, OperationFailed, ProgrammerError
from ganeti.interfaces import IClock, IJobs, ILocks
from ganeti.logic.job_schedule import CancelThis, Fail, Go, ReadyJobs, Wait, WaitingJobs, check_dependency
from ganeti.logic.job_states import (
    canceled,
    deferred,
    failed,
    job_status,
    next_index,
    picked_up,
    pool_priority,
    started,
    succeeded,
)
from ganeti.logic.lock_attempts import LockAttempts
from ganeti.master.job_feedback import JobFeedback
from ganeti.master.job_table import JobTable, LiveJob
from ganeti.master.op_executor import Execution, NotStarted, OpExecutor, TryLater, inherited
from ganeti.model.ids import JobId
from ganeti.model.job import JobStatus
from ganeti.ops.base import OpCode
from ganeti.wire.trace import current_trace

GRACE_S = 30.0
"""How long running opcodes may go on when the daemon stops."""


class JobRunner:
    """Gives jobs their turns.

    Args:
        reactor: time.
        table: the jobs.
        executor: executes opcodes.
        locks: told of new priorities of those who wait.
        clock: the time of day.
        rng: varies how long is waited for locks.
        max_running: how many turns there may be at a time; asked again each time.
        find_status: status of a job that may be archived.
        submit: takes jobs that operations ask for.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        table: JobTable,
        executor: OpExecutor,
        locks: ILocks,
        clock: IClock,
        *,
        rng: random.Random,
        max_running: Callable[[], int],
        find_status: Callable[[JobId], Awaitable[JobStatus | None]],
        submit: Callable[[Sequence[Any]], Awaitable[Sequence[tuple[bool, JobId | str]]]],
    ) -> None:
        self._reactor = reactor
        self._table = table
        self._executor = executor
        self._locks = locks
        self._clock = clock
        self._rng = rng
        self._max_running = max_running
        self._find_status = find_status
        self._submit = submit
        self._ready = ReadyJobs()
        self._parked = WaitingJobs()
        self._delayed: dict[JobId, IDelayedCall] = {}
        self._turns: dict[JobId, Deferred[None]] = {}
        self._fill_call: IDelayedCall | None = None
        self._is_running = False

    # --- the queue

    def start(self) -> None:
        """Begin to give turns."""
        self._is_running = True
        self._fill_soon()

    def enqueue(self, live: LiveJob) -> None:
        """Let a job wait for its turn."""
        self._ready.add(live.id, pool_priority(live.job))
        self._fill_soon()

    def wake(self, live: LiveJob) -> None:
        """Look at a job that was cancelled or has another priority."""
        status = job_status(live.job)
        if status.is_final:
            self._ready.remove(live.id)
        elif status is JobStatus.CANCELING:
            self._stop_waiting(live)
        else:
            priority = pool_priority(live.job)
            self._ready.change_priority(live.id, priority)
            self._locks.change_priority(str(live.id), priority)

    def ended(self, job: JobId) -> None:
        """A job ended: those that waited for it have their turn."""
        for waiting in self._parked.ended(job):
            live = self._table.find(waiting)
            if live is not None:
                self.enqueue(live)

    def resume(self) -> None:
        """Go on after the queue could not be written for a while."""
        self._fill_soon()

    @property
    def running(self) -> int:
        """How many jobs have their turn."""
        return len(self._turns)

    def waited_for(self) -> list[dict[str, Any]]:
        """Rows for the list of locks: jobs that others wait for."""
        return [
            {"name": f"job/{job}", "mode": None, "owner": None, "pending": [["job", list(map(str, jobs))]]}
            for job, jobs in self._parked
        ]

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """End cleanly: start nothing, put back what waits, let what runs go on for a while."""
        self._is_running = False
        if self._fill_call is not None:
            self._fill_call.cancel()
            self._fill_call = None
        for call in self._delayed.values():
            call.cancel()
        self._delayed.clear()
        for live in self._table:
            if live.interrupt is not None:
                live.interrupt()
            elif self._parked.remove(live.id) or live.id in self._ready:
                self._put_back(live)
        await self._wait_for_turns(grace_s)
        for turn in tuple(self._turns.values()):
            turn.cancel()
        await self._table.settle()

    async def _wait_for_turns(self, grace_s: float) -> None:
        if not self._turns:
            return
        over: Deferred[None] = Deferred()
        timer = self._reactor.callLater(grace_s, over.callback, None)
        all_done = DeferredList([_branch(turn) for turn in self._turns.values()])
        all_done.addCallback(lambda _: None if over.called else over.callback(None))
        await over
        if timer.active():
            timer.cancel()

    def _put_back(self, live: LiveJob) -> None:
        if job_status(live.job) is JobStatus.WAITING:
            self._table.put(live, deferred(live.job))

    def _stop_waiting(self, live: LiveJob) -> None:
        if self._parked.remove(live.id) or live.id in self._ready:
            self._ready.remove(live.id)
            self._table.put(live, canceled(live.job, self._clock.seconds()))
        elif live.interrupt is not None:
            live.interrupt()

    # --- turns

    def _fill_soon(self) -> None:
        if self._fill_call is None and self._is_running:
            self._fill_call = self._reactor.callLater(0, self._fill)

    def _fill(self) -> None:
        """Begin turns while there are jobs and room."""
        self._fill_call = None
        most = self._max_running()
        while len(self._turns) < most and not self._table.is_broken:
            job = self._ready.pop()
            if job is None:
                return
            live = self._table.find(job)
            if live is not None and not job_status(live.job).is_final:
                self._begin_turn(live)

    def _begin_turn(self, live: LiveJob) -> None:
        turn = Deferred.fromCoroutine(self._turn(live))
        self._turns[live.id] = turn
        turn.addBoth(self._turn_over, live)

    def _turn_over(self, result: Any, live: LiveJob) -> None:
        self._turns.pop(live.id, None)
        live.interrupt = None
        if isinstance(result, Failure):
            self._broken_turn(result, live)
        self._fill_soon()

    def _broken_turn(self, failure: Failure, live: LiveJob) -> None:
        if failure.check(CancelledError):
            self._cancelled(live)
            return
        self.log.failure("the turn of job {job} broke", failure, job=live.id)
        if next_index(live.job) is not None:
            error = ProgrammerError("internal error in the job queue; see the log of the master daemon")
            self._table.put(live, failed(live.job, error, self._clock.seconds()))

    async def _turn(self, live: LiveJob) -> None:
        current_trace.set(str(live.id))
        if job_status(live.job) is JobStatus.CANCELING:
            self._table.put(live, canceled(live.job, self._clock.seconds()))
            return
        index = next_index(live.job)
        assert index is not None
        op = live.opcodes[index]
        self._table.put(live, picked_up(live.job, self._clock.seconds()))
        if isinstance(op, GanetiError):
            self._table.put(live, failed(live.job, op, self._clock.seconds()))
        elif await self._may_go(live, op):
            await self._execute(live, index, op)

    async def _may_go(self, live: LiveJob, op: OpCode) -> bool:
        """Whether the dependencies of an opcode are fulfilled; otherwise the job is taken care of."""
        for awaited, wanted in (op.depends or ())[live.dependencies_met :]:
            verdict = check_dependency(live.id, JobId(awaited), wanted, await self._status(JobId(awaited)))
            if job_status(live.job) is JobStatus.CANCELING:
                verdict = CancelThis()
            match verdict:
                case Go():
                    live.dependencies_met += 1
                    continue
                case Wait(other):
                    self._parked.park(live.id, other)
                case CancelThis():
                    self._table.put(live, canceled(live.job, self._clock.seconds()))
                case Fail(text):
                    error = OperationFailed(text)
                    self._table.put(live, failed(live.job, error, self._clock.seconds()))
            return False
        return True

    async def _status(self, job: JobId) -> JobStatus | None:
        live = self._table.find(job)
        # No waiting for those that are not archived: they must not end between look and parking.
        return await self._find_status(job) if live is None else job_status(live.visible)

    async def _execute(self, live: LiveJob, index: int, op: OpCode) -> None:
        begun = self._clock.seconds()
        priority = live.job.ops[index].priority
        execution = Execution(
            job_id=live.id,
            priority=priority,
            timeout_s=live.attempts.timeout_s(priority, self._rng),
            feedback=JobFeedback(self._table, live, index, self._clock),
            jobs=_ChildJobs(self._submit, op),
            started=lambda: self._started(live),
        )
        working = Deferred.fromCoroutine(self._executor.execute(op, execution))
        if job_status(live.job) is JobStatus.WAITING:
            live.interrupt = working.cancel
        try:
            result = await working
        except TryLater as later:
            self._try_later(live, later)
        except NotStarted:
            self._not_started(live)
        except CancelledError:
            self._cancelled(live)
        except GanetiError as error:
            self.log.info("{op} failed: {error}", op=op.op_id(), error=error)
            self._table.put(live, failed(live.job, error, self._clock.seconds()))
        else:
            now = self._clock.seconds()
            self._table.put(live, succeeded(live.job, result, now))
            self.log.info("{op} done after {seconds:.1f} s", op=op.op_id(), seconds=now - begun)
            self._next_opcode(live)

    async def _started(self, live: LiveJob) -> None:
        live.interrupt = None
        if job_status(live.job) is JobStatus.CANCELING:
            raise NotStarted
        try:
            await self._table.put_durably(live, started(live.job, self._clock.seconds()))
        except JobQueueError as error:
            raise NotStarted from error

    def _next_opcode(self, live: LiveJob) -> None:
        if next_index(live.job) is not None:
            live.attempts = LockAttempts()
            live.dependencies_met = 0
            self.enqueue(live)

    def _not_started(self, live: LiveJob) -> None:
        """It was cancelled just before its start, or its start could not be recorded."""
        if job_status(live.job) is JobStatus.CANCELING:
            self._table.put(live, canceled(live.job, self._clock.seconds()))
        else:
            self._table.put(live, deferred(live.job))
            self.enqueue(live)

    def _cancelled(self, live: LiveJob) -> None:
        """The attempt was given up: the job was cancelled, or the daemon stops."""
        status = job_status(live.job)
        now = self._clock.seconds()
        if status is JobStatus.CANCELING:
            self._table.put(live, canceled(live.job, now))
        elif status is JobStatus.WAITING:
            self._table.put(live, deferred(live.job))
        else:
            error = OperationFailed("the master daemon was stopped while this opcode was running")
            self._table.put(live, failed(live.job, error, now))

    def _try_later(self, live: LiveJob, later: TryLater) -> None:
        if job_status(live.job) is JobStatus.CANCELING:
            self._table.put(live, canceled(live.job, self._clock.seconds()))
            return
        index = next_index(live.job)
        assert index is not None
        live.attempts, priority = live.attempts.after_failure(live.job.ops[index].priority)
        self._table.put(live, deferred(live.job, priority))
        self.log.debug("back to the queue: {reason}", reason=str(later))
        if later.delay_s:
            self._delayed[live.id] = self._reactor.callLater(later.delay_s, self._delay_over, live)
        else:
            self.enqueue(live)

    def _delay_over(self, live: LiveJob) -> None:
        del self._delayed[live.id]
        self.enqueue(live)


@implementer(IJobs)
class _ChildJobs:
    """Submits jobs for an opcode, with what they inherit of it."""

    def __init__(
        self,
        submit: Callable[[Sequence[Any]], Awaitable[Sequence[tuple[bool, JobId | str]]]],
        parent: OpCode,
    ) -> None:
        self._submit = submit
        self._parent = parent

    async def submit_many(self, jobs: Sequence[Sequence[Any]]) -> Sequence[tuple[bool, JobId | str]]:
        """Submit lists of opcodes; relative dependencies count inside the batch."""
        return await self._submit([[inherited(op, self._parent) for op in ops] for ops in jobs])


def _branch(turn: Deferred[None]) -> Deferred[None]:
    branch: Deferred[None] = Deferred()

    def passed(result: Any) -> Any:
        branch.callback(None)
        return result

    turn.addBoth(passed)
    return branch

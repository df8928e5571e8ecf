"""Looks after one node group: asks, writes down, starts what should run, brings disks in order (S2.3-066)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from twisted.logger import Logger

from ganeti.cli.errors import MasterError
from ganeti.errors import GanetiError
from ganeti.logic.watcher import (
    Plan,
    WatcherState,
    attempted,
    decide,
    has_disks_to_verify,
    rebooted,
    reconnections,
    remembered,
    reported,
    restored,
    settled,
    with_boot_ids,
)
from ganeti.model.findings import Findings
from ganeti.model.ids import GroupId
from ganeti.watcher.codes import EXIT_FAILURE, EXIT_OK
from ganeti.watcher.master import Done, MasterLink, Opcode, PendingJob, Task
from ganeti.watcher.state_file import StateFile
from ganeti.watcher.status_files import StatusFiles

FINDINGS_S = 3600.0
"""A group that is locked as a whole is waited for so long."""
MAINTENANCE_S = 240.0
"""From the findings on, jobs are waited for so long altogether; they go on by themselves. What is behind a
lock that is held for hours shall not keep the next run from looking after the rest of the group."""
LOW_PRIORITY = 10


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A node group."""

    uuid: GroupId
    name: str


class GroupWatch:
    """One round over a group whose state file is ours.

    Args:
        group: it.
        link: to masterd.
        file: what is remembered; held.
        status: files for others.
        clock: seconds since the epoch.
        verify_disks: look for disks that are to be activated.
        strict: that verification waits for what is locked.
    """

    log = Logger()

    def __init__(
        self,
        group: Group,
        link: MasterLink,
        file: StateFile,
        status: StatusFiles,
        clock: Callable[[], float],
        *,
        verify_disks: bool = True,
        strict: bool = True,
    ) -> None:
        self._group = group
        self._link = link
        self._file = file
        self._status = status
        self._clock = clock
        self._is_verifying = verify_disks
        self._is_strict = strict
        self._code = EXIT_OK
        self._end = 0.0

    def run(self) -> int:
        """Do everything; gives the exit code.

        Raises:
            MasterError: masterd refuses something.
            CommandError: it cannot be reached.
            GanetiError: the state of the group could not be had.
            OSError: the state file cannot be written; nothing was done that would have to be in it.
        """
        began = self._link.monotonic()
        try:
            findings = self._findings()
        except GanetiError:
            if self._is_there():
                raise
            self.log.info("group {group} was removed meanwhile", group=self._group.name)
            return self._code
        self._end = self._link.monotonic() + MAINTENANCE_S
        self._write_status(findings)
        state = remembered(findings, self._file.read(), self._clock())
        state, started = self._look_after_instances(findings, state)
        state = self._look_after_reboots(findings, state, started)
        self._file.save(state)
        if self._is_verifying and has_disks_to_verify(findings):
            self._verify_disks(findings)
        seconds = self._link.monotonic() - began
        self.log.info(
            "group {group} was looked after in {seconds:.3f} s", group=self._group.name, seconds=seconds
        )
        return self._code

    # --- what there is

    def _findings(self) -> Findings:
        summary = f"UPDATE_NODE_GROUP_CACHE({self._group.uuid})"
        left_behind = _with_summary(self._link.pending(), summary)
        if left_behind:
            # Of a watcher that was ended; a second one would only wait behind it.
            (job, *_) = left_behind
            self._link.wait([job], at_most_s=FINDINGS_S)
            done = self._link.outcomes({job: Task(name=self._group.name, opcodes=())})[job]
        else:
            task = Task(name=self._group.name, opcodes=(self._update_cache(),))
            (done,) = self._link.run([task], at_most_s=FINDINGS_S)
        if done.status == "late":
            self._link.call("CancelJob", [done.job])
        if not done.is_success:
            raise GanetiError(f"group {self._group.name} could not be asked: {done.problem}")
        self._archive_former(summary, done.job)
        try:
            findings = msgspec.convert(done.results[0], Findings)
        except msgspec.ValidationError as error:
            raise GanetiError(f"job {done.job} told what is not understood: {error}") from error
        for name, node in sorted(findings.nodes.items()):
            if node.problem:
                self.log.warn("node {node} is {state}: {why}", node=name, state=node.state, why=node.problem)
        return findings

    def _is_there(self) -> bool:
        """Whether the group still exists; the next run removes the files of one that does not."""
        return any(uuid == self._group.uuid for (uuid,) in self._link.rows("group", ["uuid"]))

    def _update_cache(self) -> Opcode:
        return self._opcode("OP_UPDATE_NODE_GROUP_CACHE", group_name=self._group.uuid)

    def _archive_former(self, summary: str, newest: int | None) -> None:
        """Of the jobs that asked, one is kept: with one every five minutes nobody would see others."""
        wanted = ["&", ["==", "status", "success"], ["=[]", "summary", summary]]
        for (job,) in self._link.rows("job", ["id"], wanted):
            if job != newest:
                self._link.call("ArchiveJob", [job])

    def _write_status(self, findings: Findings) -> None:
        try:
            self._status.write(findings)
        except (GanetiError, OSError) as error:
            self._failed(f"states of instances cannot be written down for others: {error}")

    # --- instances

    def _look_after_instances(
        self, findings: Findings, state: WatcherState
    ) -> tuple[WatcherState, frozenset[str]]:
        plan = decide(findings, state, self._busy_with())
        self._tell(plan)
        if not plan.restarts and not plan.shutdowns:
            return plan.state, frozenset()
        counted = attempted(plan.state, plan.restarts, plan.shutdowns, self._clock())
        # Written before it is tried: whoever ends us now does not make us try without end.
        self._file.save(counted)
        try:
            stopped, started = self._try(plan)
        except MasterError:
            # The queue takes no jobs.
            self._file.save(plan.state)
            raise
        refused = [one.task.name for one in (*stopped, *started) if one.job is None]
        after = restored(counted, plan.state, refused)
        return settled(after, _successes(stopped)), frozenset(_successes(started))

    def _try(self, plan: Plan) -> tuple[list[Done], list[Done]]:
        stopped = self._run("recording as stopped", [self._shutdown(name) for name in plan.shutdowns])
        return stopped, self._run("starting", [self._startup(name) for name in plan.restarts])

    def _busy_with(self) -> frozenset[str]:
        """Instances that some job is to start or stop already."""
        found = set()
        for job in self._link.pending():
            for summary in job.summary:
                kind, _, rest = summary.partition("(")
                if kind in ("INSTANCE_STARTUP", "INSTANCE_SHUTDOWN"):
                    found.add(rest.removesuffix(")"))
        return frozenset(found)

    def _tell(self, plan: Plan) -> None:
        for text in plan.errors:
            self._failed(text)
        for text in plan.warnings:
            self.log.warn("{text}", text=text)

    def _startup(self, name: str) -> Task:
        return self._task(name, "OP_INSTANCE_STARTUP", force=False)

    def _shutdown(self, name: str) -> Task:
        return self._task(name, "OP_INSTANCE_SHUTDOWN", admin_state_source="user")

    # --- disks

    def _look_after_reboots(
        self, findings: Findings, state: WatcherState, started: frozenset[str]
    ) -> WatcherState:
        nodes = rebooted(findings, state)
        for name in nodes:
            self.log.info("node {node} has booted", node=name)
        wanted = reconnections(findings, nodes, started)
        done = self._activate(wanted)
        if any(one.job is None for one in done):
            # Not even tried: the next run is to see these nodes as booted again.
            return state
        return with_boot_ids(findings, state)

    def _verify_disks(self, findings: Findings) -> None:
        summary = f"GROUP_VERIFY_DISKS({self._group.uuid})"
        if _with_summary(self._link.pending(), summary):
            self.log.info("disks of group {group} are being verified already", group=self._group.name)
            return
        opcode = self._opcode(
            "OP_GROUP_VERIFY_DISKS",
            group_name=self._group.uuid,
            is_strict=self._is_strict,
            priority=LOW_PRIORITY,
        )
        task = Task(name=self._group.name, opcodes=(opcode,))
        (done,) = self._link.run([task], at_most_s=self._left_s())
        if done.status == "late" or self._left_s() <= 0:
            self.log.warn("disks of group {group} are not verified in time", group=self._group.name)
            return
        if not done.is_success:
            self._failed(f"disks of group {self._group.name} are not verified: {done.problem}")
            return
        self._link.call("ArchiveJob", [done.job])
        match done.results:
            case ([_, [*names], _],) if all(isinstance(name, str) for name in names):
                self._activate(reported(findings, names))
            case _:
                self._failed(f"job {done.job} told what is not understood: {str(done.results)[:200]}")

    def _activate(self, names: Sequence[str]) -> list[Done]:
        # A job for each: one that fails does not keep those behind it from being looked after.
        return self._run(
            "activating disks", [self._task(name, "OP_INSTANCE_ACTIVATE_DISKS") for name in names]
        )

    # --- jobs

    def _run(self, what: str, tasks: Sequence[Task]) -> list[Done]:
        if not tasks:
            return []
        self.log.info("{what}: {names}", what=what, names=", ".join(task.name for task in tasks))
        done = self._link.run(tasks, at_most_s=self._left_s())
        for one in done:
            if not one.is_success:
                self._failed(f"{what}, {one.task.name}: {one.problem}")
        return done

    def _left_s(self) -> float:
        return max(self._end - self._link.monotonic(), 0.0)

    def _task(self, instance: str, op_id: str, **values: Any) -> Task:
        return Task(name=instance, opcodes=(self._opcode(op_id, instance_name=instance, **values),))

    def _opcode(self, op_id: str, **values: Any) -> Opcode:
        reason = [["gnt:watcher", "", int(self._clock() * 1e9)]]
        return {"OP_ID": op_id, **values, "reason": reason}

    def _failed(self, text: str) -> None:
        self.log.error("{text}", text=text)
        self._code = EXIT_FAILURE


def _with_summary(jobs: Iterable[PendingJob], summary: str) -> list[int]:
    return [job.id for job in jobs if job.summary == (summary,)]


def _successes(done: Iterable[Done]) -> list[str]:
    return [one.task.name for one in done if one.is_success]

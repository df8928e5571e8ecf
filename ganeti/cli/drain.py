"""gnt-group drain: many moves as one thing that is planned, watched, canceled, and told of at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ganeti.cli.errors import CommandError, ConnectionLost, MasterError, MasterTimeout, explain
from ganeti.cli.follow import FINAL, NOTICE_AFTER_S, SILENCE_S, results, wait

if TYPE_CHECKING:
    from ganeti.cli.declarations import Opcode
    from ganeti.cli.invocation import Invocation

_NOT_BEGUN = frozenset(("queued", "waiting"))


class Move(NamedTuple):
    """One instance, and the job that moves it."""

    job: int
    instance: str
    text: str
    """From where to where, and how."""


class Outcome(NamedTuple):
    """How a move ended."""

    move: Move
    error: str | None
    """None: it is where it should be."""


def print_plan(invocation: Invocation, result: Mapping[str, Any]) -> int:
    """Print every move of a dry run, and what would stay; the exit code is 1 if something would."""
    moves, stuck = result.get("moves", ()), result.get("stuck", ())
    for row in moves:
        invocation.print(f"{row['instance']}: {_described(row)}")
    for name, reason in stuck:
        invocation.print(f"{name} stays: {reason}")
    tail = f", {len(stuck)} would stay" if stuck else ""
    invocation.print(f"{len(moves)} instance(s) would move{tail}.")
    return 1 if stuck else 0


def moves_of(result: Mapping[str, Any]) -> tuple[list[Move], list[tuple[str, str]]]:
    """The moves that were submitted, and instances with the reason why they are not moved."""
    found: list[Move] = []
    stuck = [(str(name), str(reason)) for name, reason in result.get("stuck", ())]
    for (ok, value), row in zip(result["jobs"], result.get("moves", ())):
        if ok:
            found.append(Move(value, row["instance"], _described(row)))
        else:
            stuck.append((row["instance"], f"its job was not accepted: {value}"))
    return found, stuck


def drain(invocation: Invocation, result: Mapping[str, Any], group: str) -> int:
    """Watch the moves that an operation asked for; gives the exit code, 1 if something stayed."""
    moves, stuck = moves_of(result)
    if moves:
        invocation.print(f"Submitted jobs {', '.join(str(move.job) for move in moves)}")
        invocation.flush()
    return _watch_and_tell(invocation, moves, stuck, group)


def come_back(invocation: Invocation, group: str) -> int:
    """Watch a drain that somebody began before."""
    name, result = _newest(invocation, group)
    moves, stuck = moves_of(result)
    return _watch_and_tell(invocation, moves, stuck, name)


def cancel(invocation: Invocation, group: str) -> int:
    """Cancel all moves of the last drain of a group that have not begun; what has begun goes on."""
    name, result = _newest(invocation, group)
    moves, _ = moves_of(result)
    states = _opcode_states(invocation, moves)
    code = canceled = running = 0
    for move in moves:
        found = states.get(move.job)
        if found is None or all(state in FINAL for state in found):
            continue
        if found[0] not in _NOT_BEGUN:
            invocation.print(f"{move.instance} is being moved (job {move.job}); it goes on")
            running += 1
            continue
        done, message = invocation.master.call("CancelJob", [move.job])
        if done:
            canceled += 1
        else:
            invocation.warn(f"{move.instance}: {message}")
            code = 1
    invocation.print(f"{canceled} move(s) of group {name} canceled, {running} under way.")
    return code


# --- watching


def _watch_and_tell(
    invocation: Invocation, moves: Sequence[Move], stuck: Sequence[tuple[str, str]], group: str
) -> int:
    for name, reason in stuck:
        invocation.print(f"{name} stays: {reason}")
    try:
        outcomes = watch(invocation, moves)
    except KeyboardInterrupt:
        invocation.warn(
            f"\nNot watching any more; the moves go on. 'gnt-group drain --watch {group}' comes back, "
            f"'gnt-group drain --cancel {group}' cancels what has not begun."
        )
        return 1
    return _tell(invocation, outcomes, dict(stuck), group)


def watch(invocation: Invocation, moves: Sequence[Move]) -> list[Outcome]:
    """Wait until all moves have ended; prints a line for each."""
    waiting = {move.job: move for move in moves}
    outcomes: list[Outcome] = []
    while waiting:
        try:
            _follow(invocation, waiting, outcomes, len(moves))
        except ConnectionLost:
            invocation.reconnect()
    return outcomes


def _follow(invocation: Invocation, waiting: dict[int, Move], outcomes: list[Outcome], total: int) -> None:
    """Subscribe to all jobs at once, and take what ends out of `waiting`."""
    master = invocation.master
    watches: dict[Any, int] = {}
    for job in list(waiting):
        found = master.call("WatchJob", [job, ["status"], None])
        if found is None:
            _ended(invocation, waiting.pop(job), outcomes, total)
        else:
            watches[found] = job
    heard_at = time.monotonic()
    while waiting:
        message = master.pushed(NOTICE_AFTER_S)
        if message is None:
            if time.monotonic() - heard_at > SILENCE_S:
                raise MasterTimeout()
            continue
        heard_at = time.monotonic()
        match message:
            case ("JobChanged", [watched, [[status, *_], _]]) if status in FINAL or status is None:
                move = waiting.pop(watches.get(watched, 0), None)
                if move is not None:
                    _ended(invocation, move, outcomes, total)


def _ended(invocation: Invocation, move: Move, outcomes: list[Outcome], total: int) -> None:
    error = None
    try:
        results(invocation, move.job)
    except MasterError as failure:
        error = "its job was archived meanwhile" if failure.name == "JobLost" else _one_line(failure)
    outcomes.append(Outcome(move, error))
    end = "done" if error is None else error if error == "canceled" else f"failed: {error}"
    invocation.print(f"[{len(outcomes)}/{total}] {move.instance}: {move.text}: {end}")
    invocation.flush()


def _tell(invocation: Invocation, outcomes: Sequence[Outcome], stuck: dict[str, str], group: str) -> int:
    """The total, what stayed and why."""
    errors = sum(outcome.error is not None for outcome in outcomes)
    if errors:
        invocation.print(f"There were {errors} errors during the evacuation.")
    left = _instances_in(invocation, group)
    if not left and not errors:
        invocation.print("All instances evacuated successfully.")
        return 0
    reasons = {**stuck, **{one.move.instance: one.error for one in outcomes if one.error is not None}}
    moved = sum(outcome.error is None for outcome in outcomes)
    invocation.print(f"{moved} instance(s) left group {group}, {len(left)} stay:")
    for name in left:
        invocation.print(f"  {name}: {reasons.get(name, 'it was not there when this was planned')}")
    return 1


def _instances_in(invocation: Invocation, group: str) -> list[str]:
    """Names of instances with a node in a group."""
    key = ["|", ["==", "name", group], ["==", "uuid", group]]
    rows = invocation.master.call("Query", ["group", ["name"], key])["data"]
    if not rows:
        return []
    ((_, name),) = rows[0]
    wanted = ["|", ["==", "pnode.group", name], ["=[]", "snodes.group", name]]
    found = invocation.master.call("Query", ["instance", ["name"], wanted])["data"]
    return sorted(cell[0][1] for cell in found)


# --- drains of before


def _newest(invocation: Invocation, group: str) -> tuple[str, Mapping[str, Any]]:
    """Name of a group, and what its last drain asked for; waits for one that is still being planned.

    Raises:
        CommandError: there is no such group, or no drain of it that is known.
    """
    key = ["|", ["==", "name", group], ["==", "uuid", group]]
    rows = invocation.master.call("Query", ["group", ["name", "uuid"], key])["data"]
    if not rows:
        raise CommandError(f"There is no node group {group!r}; 'gnt-group list' shows those there are")
    names = [value for _, value in rows[0]]
    summaries = {f"GROUP_EVACUATE({name})" for name in (*names, group)}
    jobs = invocation.master.call("Query", ["job", ["id", "summary", "status"], None])["data"]
    found = [
        job
        for (_, job), (_, summary), (_, status) in jobs
        if summary and summary[0] in summaries and status not in ("error", "canceled")
    ]
    for job in sorted(found, reverse=True):
        result: Any = wait(invocation, job, is_quiet=True)[0]
        if result and result.get("jobs"):
            return str(names[0]), result
    raise CommandError(
        f"No drain of group {names[0]} is known; jobs that ended may have been archived ('gnt-job list')"
    )


def _opcode_states(invocation: Invocation, moves: Sequence[Move]) -> dict[int, list[str]]:
    wanted = ["|", *(["==", "id", move.job] for move in moves)]
    rows = invocation.master.call("Query", ["job", ["id", "opstatus"], wanted])["data"]
    return {row[0][1]: row[1][1] for row in rows if row[1][0] == 0}


def _described(row: Mapping[str, Any]) -> str:
    def place(nodes: Sequence[str], group: str) -> str:
        return f"{','.join(nodes)} ({group})"

    source, target = place(row["from"], row["from_group"]), place(row["to"], row["to_group"])
    return f"{source} -> {target} by {row['how']}"


def _one_line(error: MasterError) -> str:
    if error.name == "GenericError":
        # That is how the end of a canceled job is told.
        return "canceled" if "canceled" in str(error.arguments[0]) else str(error.arguments[0])
    if error.name in ("OpPrereqError", "OpExecError") and error.arguments:
        return " ".join(str(error.arguments[0]).split())
    return " ".join(explain(error)[0].removeprefix("Failure: ").split())


def options_of(invocation: Invocation, opcode: Opcode) -> str | None:
    """Which of --watch and --cancel was given.

    Raises:
        CommandError: both, or one of them with options of a new drain.
    """
    given = [name for name in ("watch", "cancel") if invocation.option(f"_{name}")]
    if not given:
        return None
    others = set(opcode) - {"OP_ID", "group_name"}
    if len(given) > 1 or others or invocation.option("dry_run"):
        raise CommandError(f"--{given[0]} is about a drain that was begun; no other options go with it")
    return given[0]

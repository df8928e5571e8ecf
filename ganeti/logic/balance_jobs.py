"""A plan of moves as jobs: those that touch no common node run side by side, the others in their order."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ganeti.logic.balance import Move
from ganeti.logic.balance_board import MoveKind
from ganeti.logic.move_opcodes import Opcode, leave, replace_secondary
from ganeti.logic.move_plan import after_overlapping
from ganeti.model.cluster import Cluster
from ganeti.model.instance import AdminState


class MoveJob(msgspec.Struct, frozen=True, kw_only=True):
    """One move."""

    opcodes: tuple[Opcode, ...]
    after: tuple[int, ...]
    """Places in the list of the jobs that have to succeed before, in order."""
    turn: int
    """Counted from 1; all jobs of one turn may run at the same time."""


def move_jobs(cluster: Cluster, moves: Sequence[Move]) -> tuple[MoveJob, ...]:
    """A job for each move of one or more plans.

    A move waits for the last one before it that touched any of its nodes. If that fails, it is not
    made, for what it counts on is not there.

    Args:
        cluster: as the plan found it.
        moves: in their order.
    """
    waits = after_overlapping([{*move.before, *move.after} for move in moves])
    jobs: list[MoveJob] = []
    for number, (move, distances) in enumerate(zip(moves, waits)):
        before = [number + distance for distance in distances]
        turn = 1 + max((jobs[one].turn for one in before), default=0)
        jobs.append(MoveJob(opcodes=opcodes_of(cluster, move), after=tuple(before), turn=turn))
    return tuple(jobs)


def opcodes_of(cluster: Cluster, move: Move) -> tuple[Opcode, ...]:
    """What is done for a move, in order."""
    instance = cluster.instances[move.instance]
    is_stopped = instance.admin_state is not AdminState.UP
    is_down = is_stopped or cluster.nodes[move.before[0]].offline
    swap = leave(cluster, instance, None, is_down=is_down)
    swap_back = leave(cluster, instance, None, is_down=is_stopped)
    primary, secondary = move.after[0], move.after[-1]
    match move.kind:
        case MoveKind.FAILOVER:
            return (swap,)
        case MoveKind.REPLACE:
            return (replace_secondary(cluster, instance, secondary),)
        case MoveKind.REPLACE_AND_FAILOVER:
            return (replace_secondary(cluster, instance, primary), swap)
        case MoveKind.FAILOVER_AND_REPLACE:
            return (swap, replace_secondary(cluster, instance, secondary))
        case MoveKind.REPLACE_PRIMARY:
            return (swap, replace_secondary(cluster, instance, primary), swap_back)
    return (leave(cluster, instance, primary, is_down=is_down),)

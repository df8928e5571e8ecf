"""Jobs that move instances: those that an allocator asks for, and those of a plan for a more even group."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ganeti.errors import OperationFailed
from ganeti.interfaces import IFeedback
from ganeti.logic.balance_jobs import MoveJob
from ganeti.logic.move_plan import PlannedMove, after_overlapping
from ganeti.model.allocation import Solution
from ganeti.ops.base import Jobs, OpCode

ANY_END = ("canceled", "error", "success")
"""However a job that is waited for ends."""


def allocator_jobs(
    solution: Solution,
    feedback: IFeedback,
    *,
    early_release: bool = False,
    force_failover: bool = False,
    sequential: bool = False,
    between_groups: bool = False,
    moves: Sequence[PlannedMove] = (),
) -> Jobs:
    """The jobs of an answer, unless some instance has to stay.

    Args:
        solution: the answer, for change-group or node-evacuate.
        feedback: told what the allocator says of it.
        early_release: old disks are given up before new ones are in step.
        force_failover: nothing is migrated live.
        sequential: one job after the other.
        between_groups: mirrors may span two groups on the way (S2.3-017).
        moves: what each job does; those that share a node then wait for each other.

    Raises:
        OperationFailed: an instance cannot leave; none is moved then.
        PrereqError: the allocator asks for something unknown.
    """
    from ganeti.ops.registry import load

    if solution.failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in solution.failed)
        raise OperationFailed(f"not all instances can leave, so none is moved: {reasons}")
    if solution.info:
        feedback.info(solution.info)
    registry = load()
    waits = list(after_overlapping([move.touched for move in moves]))
    jobs: list[tuple[OpCode, ...]] = []
    for opcodes in solution.jobs:
        ops = []
        for opcode in opcodes:
            if force_failover and opcode["OP_ID"] == "OP_INSTANCE_MIGRATE":
                opcode = {
                    name: value
                    for name, value in {**opcode, "OP_ID": "OP_INSTANCE_FAILOVER"}.items()
                    if name != "allow_failover"
                }
            op = registry.decode(opcode)
            ops.append(_adapted(op, early_release=early_release, between_groups=between_groups))
        distances = (-1,) if sequential and jobs else waits[len(jobs)] if waits and not sequential else ()
        if distances:
            ops[0] = replace(ops[0], depends=tuple((distance, ANY_END) for distance in distances))
        jobs.append(tuple(ops))
    return Jobs(jobs=tuple(jobs))


def _adapted(op: OpCode, **wanted: bool) -> OpCode:
    """The opcode with those switches on that it has."""
    known = {name: True for name, is_on in wanted.items() if is_on and name in op.__struct_fields__}
    return replace(op, **known) if known else op


def moving_jobs(moves: Sequence[MoveJob]) -> tuple[tuple[OpCode, ...], ...]:
    """Jobs for the moves of a plan; each depends on the success of those it comes after."""
    from ganeti.ops.registry import load

    registry = load()
    jobs = []
    for number, move in enumerate(moves):
        first, *others = (registry.decode(opcode) for opcode in move.opcodes)
        if move.after:
            depends = tuple((before - number, ("success",)) for before in move.after)
            first = replace(first, depends=depends)
        jobs.append((first, *others))
    return tuple(jobs)

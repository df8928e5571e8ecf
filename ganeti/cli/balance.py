"""gnt-cluster balance: shows the plan of moves, and follows its jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ganeti.cli.errors import CommandError
from ganeti.cli.follow import Sent, execute, wait_all
from ganeti.cli.generic import full_opcode
from ganeti.cli.tables import Style, plain_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ganeti.cli.invocation import Invocation

    Values = Mapping[str, Any]

_TITLES = ("Turn", "Instance", "From", "To", "Gain", "Score")
_RIGHT = (0, 4, 5)


def balance(invocation: Invocation) -> int:
    """Plan, show the plan, and wait for the jobs of its moves."""
    opcode = full_opcode(invocation)
    if not (opcode.get("disk_moves", True) or opcode.get("instance_moves", True)):
        raise CommandError("without disk moves and without instance moves nothing can be moved")
    try:
        result = execute(invocation, opcode)
    except Sent:
        return 0
    plans = result["plans"]
    for plan in plans:
        _show(invocation, plan)
    names = [move["instance"] for plan in plans for move in plan["moves"]]
    if not names or invocation.option("dry_run"):
        return 0
    return _follow(invocation, names, result["jobs"])


def _show(invocation: Invocation, plan: Values) -> None:
    """The plan for one group: a line for each move, and what comes of it."""
    before, after, moves = plan["score_before"], plan["score_after"], plan["moves"]
    if not moves:
        invocation.print(f"Group {plan['group']}: nothing is to be gained; score {before:.8f}")
        return
    count = "1 move" if len(moves) == 1 else f"{len(moves)} moves"
    invocation.print(f"Group {plan['group']}: {count}, score {before:.8f} before and {after:.8f} after")
    for line in plain_table(_TITLES, [_cells(move) for move in moves], Style(), right=_RIGHT):
        invocation.print(line)


def _cells(move: Values) -> Sequence[str]:
    return (
        str(move["turn"]),
        move["instance"],
        ",".join(move["before"]),
        ",".join(move["after"]),
        f"{move['gain']:.8f}",
        f"{move['score']:.8f}",
    )


def _follow(invocation: Invocation, names: Sequence[str], jobs: Sequence[Sequence[Any]]) -> int:
    """Wait for the jobs; one that comes after a failed one is not done, and counts as failed, too."""
    submitted = [(bool(ok), name, value) for name, (ok, value) in zip(names, jobs)]
    errors = sum(not ok for ok, _ in wait_all(invocation, submitted))
    if errors:
        invocation.print(
            f"{errors} of {len(names)} moves were not made; 'gnt-cluster balance' makes a new plan"
            " out of what is there now."
        )
        return 1
    invocation.print(f"All {len(names)} moves are made.")
    return 0

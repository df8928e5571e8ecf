"""gnt-cluster balance: the plan, its jobs, and what is said of their ends."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.cli.cli_fakes import FakeMaster, FakeWorld, failure

MOVES = [
    {
        "instance": "web.x",
        "kind": "fa",
        "before": ["n1.x"],
        "after": ["n2.x"],
        "gain": 1.5,
        "score": 2.25,
        "turn": 1,
    },
    {
        "instance": "db.x",
        "kind": "r",
        "before": ["n1.x", "n2.x"],
        "after": ["n1.x", "n3.x"],
        "gain": 0.25,
        "score": 2.0,
        "turn": 2,
    },
]
PLAN = {"group": "default", "score_before": 3.75, "score_after": 2.0, "moves": MOVES}
EVEN = {"group": "rack2", "score_before": 0.5, "score_after": 0.5, "moves": []}
TABLE = (
    "Group default: 2 moves, score 3.75000000 before and 2.00000000 after\n"
    "Turn Instance From      To              Gain      Score\n"
    "   1 web.x    n1.x      n2.x      1.50000000 2.25000000\n"
    "   2 db.x     n1.x,n2.x n1.x,n3.x 0.25000000 2.00000000\n"
)


class BalanceTests(SynchronousTestCase):
    """Options, output and exit code."""

    def world(self, *plans: Any, **results: Any) -> FakeWorld:
        """A masterd that has made these plans, with jobs 30 and 31."""
        jobs = [[True, 30], [True, 31]] if any(plan["moves"] for plan in plans) else []
        self.master = FakeMaster({}, {"OP_CLUSTER_BALANCE": {"plans": list(plans), "jobs": jobs}, **results})
        if jobs:
            moves = {30: "OP_INSTANCE_MIGRATE", 31: "OP_INSTANCE_REPLACE_DISKS"}
            self.master.jobs.update({job: [{"OP_ID": op_id}] for job, op_id in moves.items()})
        return FakeWorld(self.master)

    def test_plan(self) -> None:
        """A line for each move, the scores, and all jobs are waited for by the names of the instances."""
        world = self.world(PLAN, EVEN)
        self.assertEqual((world.run("gnt-cluster balance"), world.err_text), (0, ""))
        self.assertEqual(
            world.out_text,
            TABLE + "Group rack2: nothing is to be gained; score 0.50000000\n"
            "Submitted jobs 30, 31\nWaiting for job 30 for web.x ...\nWaiting for job 31 for db.x ...\n"
            "All 2 moves are made.\n",
        )

    def test_dry_run(self) -> None:
        """The plan only."""
        world = self.world(PLAN)
        self.assertEqual(world.run("gnt-cluster balance --dry-run"), 0)
        self.assertEqual(world.out_text, TABLE)
        self.assertIn({"OP_ID": "OP_CLUSTER_BALANCE", "dry_run": True}, self.master.opcodes)

    def test_options(self) -> None:
        """Every limit goes into the opcode."""
        world = self.world(EVEN)
        code = world.run(
            "gnt-cluster balance --max-moves 5 --min-gain 0.2 --min-gain-limit 1 --min-score 0.5"
            " --no-disk-moves --node-group rack2 --select-instances a,b --exclude-instances c --evac-mode"
        )
        self.assertEqual((code, world.err_text), (0, ""))
        (opcode,) = self.master.opcodes
        self.assertEqual(
            opcode,
            {
                "OP_ID": "OP_CLUSTER_BALANCE",
                "max_moves": 5,
                "min_gain": 0.2,
                "min_gain_limit": 1,
                "min_score": 0.5,
                "disk_moves": False,
                "node_group": "rack2",
                "select_instances": ["a", "b"],
                "exclude_instances": ["c"],
                "evacuate_only": True,
            },
        )

    def test_nothing(self) -> None:
        """Nothing to be gained is said, with the score, and is no failure."""
        world = self.world(EVEN)
        self.assertEqual(world.run("gnt-cluster balance"), 0)
        self.assertEqual(world.out_text, "Group rack2: nothing is to be gained; score 0.50000000\n")

    def test_nothing_allowed(self) -> None:
        """Ruling out all moves is a mistake, told before anything is asked for."""
        world = self.world(EVEN)
        self.assertEqual(world.run("gnt-cluster balance --no-disk-moves --no-instance-moves"), 1)
        self.assertIn("nothing can be moved", world.err_text)
        self.assertEqual(self.master.opcodes, [])

    def test_failures(self) -> None:
        """Moves that were not made are counted, with what to do, and are the exit code."""
        world = self.world(PLAN, OP_INSTANCE_MIGRATE=failure("no", "wrong_state"))
        self.assertEqual(world.run("gnt-cluster balance"), 1)
        self.assertIn("Job 30 for web.x has failed: ", world.err_text)
        self.assertIn("1 of 2 moves were not made; 'gnt-cluster balance' makes a new plan", world.out_text)

    def test_unknown_group(self) -> None:
        """What the master refuses is the message."""
        world = self.world(
            EVEN, OP_CLUSTER_BALANCE=failure("node group nosuch is not known", "unknown_entity")
        )
        self.assertEqual(world.run("gnt-cluster balance --node-group nosuch"), 1)
        self.assertIn("nosuch", world.err_text)
        self.assertIn("gnt-group list", world.err_text)

    def test_submit(self) -> None:
        """With --submit nobody waits."""
        world = self.world(PLAN)
        self.assertEqual(world.run("gnt-cluster balance --submit"), 0)
        self.assertEqual(world.out_text, "")
        self.assertIn("JobID: ", world.err_text)

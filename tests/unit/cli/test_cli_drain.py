"""`gnt-group drain`: the plan, the moves as one thing, coming back, canceling, and what stayed."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.cli.cli_fakes import FakeMaster, FakeWorld, failure


def row(name: str) -> dict[str, Any]:
    """A move as the operation tells it."""
    return {
        "instance": name,
        "from": ["n1", "n3"],
        "from_group": "default",
        "to": ["n2", "n4"],
        "to_group": "rack",
        "how": "replace-disks, migrate, replace-disks",
    }


TEXT = "n1,n3 (default) -> n2,n4 (rack) by replace-disks, migrate, replace-disks"


class DrainMaster(FakeMaster):
    """A masterd that drained, or is to drain, the group `default`.

    Args:
        results: by instance, what its job ends with.
        left: instances that are in the group afterwards.
        states: by instance, states of the opcodes of its job.
        stuck: instances that are not moved.
    """

    def __init__(
        self,
        results: dict[str, Any],
        *,
        left: tuple[str, ...] = (),
        states: dict[str, list[str]] | None = None,
        stuck: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__()
        self._left = left
        self._states = states or {}
        self.names = list(results)
        for index, (name, result) in enumerate(results.items()):
            self.jobs[30 + index] = [{"OP_ID": f"OP_{name}"}]
            self.results[f"OP_{name}"] = result
        self.parent = {
            "jobs": [[True, 30 + index] for index in range(len(results))],
            "moves": [row(name) for name in results],
            "stuck": [list(one) for one in stuck],
        }
        self.results["OP_GROUP_EVACUATE"] = self.parent
        self.canceled: list[int] = []
        self.is_interrupted = False

    def begun(self) -> DrainMaster:
        """The same, with a drain that somebody began before."""
        self.jobs[20] = [{"OP_ID": "OP_GROUP_EVACUATE"}]
        return self

    def pushed(self, timeout_s: float) -> tuple[str, list[Any]] | None:
        """What was pushed; or the operator presses Ctrl-C."""
        if self.is_interrupted and any(one[:1] == ("WatchJob",) and one[1][0] == 30 for one in self.calls):
            raise KeyboardInterrupt
        return super().pushed(timeout_s)

    def _CancelJob(self, job: int) -> list[Any]:
        self.canceled.append(job)
        return [True, f"Job {job} canceled"]

    def _Query(self, what: str, fields: list[str], wanted: Any) -> Any:
        match what, fields:
            case "group", _:
                known = wanted[1][2] in ("default", "u1")
                values = {"name": "default", "uuid": "u1"}
                return {"data": [[[0, values[field]] for field in fields]] if known else []}
            case "instance", _:
                return {"data": [[[0, name]] for name in self._left]}
            case "job", ["id", "summary", "status"]:
                rows = [[[0, 19], [0, ["GROUP_EVACUATE(other)"]], [0, "success"]]]
                if 20 in self.jobs:
                    rows.append([[0, 20], [0, ["GROUP_EVACUATE(u1)"]], [0, "success"]])
                return {"data": rows}
            case "job", ["id", "opstatus"]:
                states = [self._states.get(name, ["success"]) for name in self.names]
                return {"data": [[[0, 30 + index], [0, found]] for index, found in enumerate(states)]}
        return super()._Query(what, fields, wanted)


class DrainTests(SynchronousTestCase):
    """gnt-group drain."""

    def run_it(self, master: DrainMaster, options: str, code: int) -> FakeWorld:
        """Run it; the exit code is as expected."""
        world = FakeWorld(master)
        self.assertEqual(world.run(f"gnt-group drain {options}"), code, world.out_text + world.err_text)
        return world

    def test_plan(self) -> None:
        """A dry run prints every move, and what would stay."""
        world = self.run_it(DrainMaster({"a.x": None}), "--dry-run default", 0)
        self.assertEqual(world.out_text, f"a.x: {TEXT}\n1 instance(s) would move.\n")
        world = self.run_it(DrainMaster({"a.x": None}, stuck=(("b.x", "its disks"),)), "--dry-run default", 1)
        tail = "b.x stays: its disks\n1 instance(s) would move, 1 would stay.\n"
        self.assertTrue(world.out_text.endswith(tail), world.out_text)

    def test_all_leave(self) -> None:
        """A line for each move that ended, and one at the end."""
        world = self.run_it(DrainMaster({"a.x": None, "b.x": None}), "default", 0)
        self.assertEqual(
            world.out_text,
            "Submitted jobs 30, 31\n"
            f"[1/2] a.x: {TEXT}: done\n"
            f"[2/2] b.x: {TEXT}: done\n"
            "All instances evacuated successfully.\n",
        )

    def test_some_stay(self) -> None:
        """What stayed is listed with the reason, and is the exit code."""
        results = {"a.x": None, "b.x": failure("node n2 is\noffline"), "c.x": "canceled"}
        master = DrainMaster(results, left=("b.x", "c.x", "d.x", "new.x"), stuck=(("d.x", "plain disks"),))
        world = self.run_it(master, "--partial default", 1)
        self.assertIn(f"[2/3] b.x: {TEXT}: failed: node n2 is offline\n", world.out_text)
        self.assertIn(f"[3/3] c.x: {TEXT}: canceled\n", world.out_text)
        tail = (
            "There were 2 errors during the evacuation.\n"
            "1 instance(s) left group default, 4 stay:\n"
            "  b.x: node n2 is offline\n"
            "  c.x: canceled\n"
            "  d.x: plain disks\n"
            "  new.x: it was not there when this was planned\n"
        )
        self.assertTrue(world.out_text.endswith(tail), world.out_text)

    def test_interrupted(self) -> None:
        """Ctrl-C leaves the moves alone and says how to come back."""
        master = DrainMaster({"a.x": None}).begun()
        master.is_interrupted = True
        world = self.run_it(master, "--watch default", 1)
        for command in ("gnt-group drain --watch default", "gnt-group drain --cancel default"):
            self.assertIn(f"'{command}'", world.err_text)
        self.assertEqual(master.canceled, [])

    def test_come_back(self) -> None:
        """The last drain of the group is found, also if it was begun by the group's UUID."""
        world = self.run_it(DrainMaster({"a.x": None}).begun(), "--watch default", 0)
        self.assertEqual(world.out_text, f"[1/1] a.x: {TEXT}: done\nAll instances evacuated successfully.\n")
        world = self.run_it(DrainMaster({"a.x": None}), "--watch default", 1)
        self.assertIn("No drain of group default is known", world.err_text)
        world = self.run_it(DrainMaster({}), "--watch nosuch", 1)
        self.assertIn("There is no node group 'nosuch'", world.err_text)

    def test_cancel(self) -> None:
        """What has not begun is canceled; what has begun goes on, so that no instance is left half way."""
        states = {
            "a.x": ["success", "success", "success"],
            "b.x": ["success", "queued", "queued"],
            "c.x": ["queued", "queued", "queued"],
            "d.x": ["waiting", "queued", "queued"],
            "e.x": ["running", "queued", "queued"],
        }
        master = DrainMaster(dict.fromkeys(states), states=states).begun()
        world = self.run_it(master, "--cancel default", 0)
        self.assertEqual(master.canceled, [32, 33])
        self.assertEqual(
            world.out_text,
            "b.x is being moved (job 31); it goes on\n"
            "e.x is being moved (job 34); it goes on\n"
            "2 move(s) of group default canceled, 2 under way.\n",
        )

    def test_options_that_do_not_go_together(self) -> None:
        """Coming back and canceling take nothing of a new drain."""
        for options in ("--watch --cancel", "--watch --to rack", "--cancel --dry-run", "--watch --partial"):
            master = DrainMaster({}).begun()
            world = self.run_it(master, f"{options} default", 1)
            self.assertIn("no other options go with it", world.err_text)
            self.assertNotIn(17, master.jobs)

    def test_submit(self) -> None:
        """With --submit nothing is watched."""
        world = self.run_it(DrainMaster({"a.x": None}), "--submit default", 0)
        self.assertEqual(world.out_text, "")
        self.assertIn("JobID: ", world.err_text)


class ChangeTests(SynchronousTestCase):
    """gnt-instance change-group."""

    def test_nodes(self) -> None:
        """-n names the nodes; --cleanup ends a move that broke off."""
        cases: tuple[tuple[str, dict[str, Any]], ...] = (
            ("-n n2:n4", {"target_nodes": ["n2", "n4"]}),
            ("-n n2", {"target_nodes": ["n2"]}),
            ("--cleanup -I hail", {"cleanup": True, "iallocator": "hail"}),
            ("--cleanup -n n4", {"cleanup": True, "target_nodes": ["n4"]}),
            ("--to rack", {"target_groups": ["rack"]}),
        )
        for options, expected in cases:
            master = FakeMaster({}, {"OP_INSTANCE_CHANGE_GROUP": {"jobs": [], "moves": []}})
            self.assertEqual(FakeWorld(master).run(f"gnt-instance change-group {options} web"), 0)
            opcode = {"OP_ID": "OP_INSTANCE_CHANGE_GROUP", "instance_name": "web", **expected}
            self.assertEqual(master.opcodes, [opcode])

    def test_plan(self) -> None:
        """A dry run prints the move."""
        result = {"jobs": [], "moves": [row("web.x")], "stuck": []}
        world = FakeWorld(FakeMaster({}, {"OP_INSTANCE_CHANGE_GROUP": result}))
        self.assertEqual(world.run("gnt-instance change-group --dry-run -n n2:n4 web"), 0)
        self.assertEqual(world.out_text, f"web.x: {TEXT}\n1 instance(s) would move.\n")

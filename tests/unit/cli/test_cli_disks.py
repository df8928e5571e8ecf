"""`replace-disks`, `activate-disks` and `verify-disks`: options, jobs, and what is printed."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.cli.cli_fakes import FakeMaster, FakeWorld, failure


class ReplaceTests(SynchronousTestCase):
    """gnt-instance replace-disks."""

    def test_modes(self) -> None:
        """Each of the five options is a mode of its own."""
        cases: tuple[tuple[str, dict[str, Any]], ...] = (
            ("-p", {"mode": "replace_on_primary"}),
            ("-s --disks 0,2", {"mode": "replace_on_secondary", "disks": [0, 2]}),
            ("-a", {"mode": "replace_auto"}),
            (
                "-n node3 --early-release",
                {"mode": "replace_new_secondary", "remote_node": "node3", "early_release": True},
            ),
            (
                "-I hail --ignore-ipolicy",
                {"mode": "replace_new_secondary", "iallocator": "hail", "ignore_ipolicy": True},
            ),
        )
        for options, expected in cases:
            master = FakeMaster()
            self.assertEqual(FakeWorld(master).run(f"gnt-instance replace-disks {options} web"), 0)
            self.assertEqual(
                master.opcodes,
                [{"OP_ID": "OP_INSTANCE_REPLACE_DISKS", "instance_name": "web", **expected}],
            )

    def test_exactly_one(self) -> None:
        """None or two of them are refused, and so are indices that are none."""
        for options in ("", "-p -s", "-n node3 -I hail", "-a -p"):
            world = FakeWorld(master := FakeMaster())
            self.assertEqual(world.run(f"gnt-instance replace-disks {options} web"), 1)
            self.assertIn("Exactly one of -p, -s, -a, -n NODE and -I ALLOCATOR", world.err_text)
            self.assertEqual(master.opcodes, [])
        world = FakeWorld(FakeMaster())
        self.assertEqual(world.run("gnt-instance replace-disks -p --disks x web"), 1)
        self.assertIn("such as 0,2", world.err_text)


class ActivateTests(SynchronousTestCase):
    """gnt-instance activate-disks."""

    def test_paths(self) -> None:
        """A line for each disk."""
        rows = [["node1.x", "disk/0", "/dev/drbd0"], ["node1.x", "disk/1", None]]
        world = FakeWorld(FakeMaster({}, {"OP_INSTANCE_ACTIVATE_DISKS": rows}))
        self.assertEqual(world.run("gnt-instance activate-disks web"), 0)
        self.assertEqual(world.out_text, "node1.x:disk/0:/dev/drbd0\nnode1.x:disk/1:None\n")


NAMES = {"data": [[[0, "u1"], [0, "node1.x"]], [[0, "u2"], [0, "node2.x"]]]}


def master(*results: Any, **more: Any) -> FakeMaster:
    """A masterd whose groups give these results."""
    jobs = list(range(30, 30 + len(results)))
    answers = {"OP_CLUSTER_VERIFY_DISKS": {"jobs": [[True, job] for job in jobs]}, **more}

    def query(what: str, fields: list[str], qfilter: Any) -> Any:
        return NAMES if what == "node" else fake._Query(what, fields, qfilter)

    fake = FakeMaster({"Query": query}, answers)
    for job, result in zip(jobs, results):
        fake.results[f"OP_{job}"] = result
        fake.jobs[job] = [{"OP_ID": f"OP_{job}"}]
    return fake


class VerifyTests(SynchronousTestCase):
    """gnt-cluster verify-disks and gnt-group verify-disks."""

    def test_nothing(self) -> None:
        """A line for each group in good order."""
        world = FakeWorld(master([{}, [], {}], [{}, [], {}]))
        self.assertEqual(world.run("gnt-cluster verify-disks -g rack --no-strict"), 0)
        self.assertEqual(world.out_text, "No disks need to be activated.\n" * 2)

    def test_activates(self) -> None:
        """What is closed is opened, one instance after the other; a failure is told and is the exit code."""
        fake = master([{}, ["a.x", "b.x"], {}], OP_INSTANCE_ACTIVATE_DISKS=[])
        world = FakeWorld(fake)
        self.assertEqual(world.run("gnt-cluster verify-disks"), 0)
        named = [one["instance_name"] for one in fake.opcodes if "instance_name" in one]
        self.assertEqual(named, ["a.x", "b.x"])
        self.assertIn("Activating disks for instance 'b.x'\n", world.out_text)
        world = FakeWorld(master([{}, ["a.x"], {}], OP_INSTANCE_ACTIVATE_DISKS=failure("no", "wrong_state")))
        self.assertEqual(world.run("gnt-cluster verify-disks"), 1)
        self.assertIn("Error activating disks for instance a.x", world.err_text)

    def test_broken_and_missing(self) -> None:
        """Broken nodes and missing volumes are listed with the names of nodes."""
        missing = {"a.x": [["u1", "vg/a"], ["u2", "vg/a"]], "b.x": [["u2", "vg/b"]]}
        world = FakeWorld(master([{"u2": "no route"}, [], missing]))
        self.assertEqual(world.run("gnt-cluster verify-disks"), 1)
        self.assertEqual(
            world.out_text,
            "Error gathering data on node node2.x: no route\n"
            "You need to fix these nodes first before fixing instances\n"
            "Instance a.x has missing logical volumes:\n"
            "\tnode1.x /dev/vg/a\n"
            "\tbroken node node2.x /dev/vg/a\n"
            "Instance b.x cannot be verified as it lives on broken nodes\n"
            "You need to replace or recreate disks for all the above instances if this message persists "
            "after fixing broken nodes.\n",
        )

    def test_job_fails(self) -> None:
        """A job that fails is told, and is no failure of the command."""
        world = FakeWorld(master(failure("no", "wrong_state"), [{}, [], {}]))
        self.assertEqual(world.run("gnt-cluster verify-disks"), 0)
        self.assertIn("Job failed: ", world.out_text)
        self.assertIn("No disks need to be activated.\n", world.out_text)

    def test_group(self) -> None:
        """One group is looked at without further jobs."""
        fake = FakeMaster({}, {"OP_GROUP_VERIFY_DISKS": [{}, [], {}]})
        world = FakeWorld(fake)
        self.assertEqual(world.run("gnt-group verify-disks --no-strict rack"), 0)
        wanted = {"OP_ID": "OP_GROUP_VERIFY_DISKS", "group_name": "rack", "is_strict": False}
        self.assertEqual(fake.opcodes, [wanted])
        self.assertEqual(FakeWorld(fake).run("gnt-group verify-disks --submit rack"), 0)

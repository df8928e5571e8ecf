"""`gnt-node migrate` and `gnt-node failover`: questions, jobs, and what is said of their ends."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.cli.cli_fakes import FakeMaster, FakeWorld, failure

NODE = "node1.example.com"


def master(*instances: str, **results: Any) -> FakeMaster:
    """A masterd that knows one node with these primary instances."""

    def query(what: str, fields: list[str], qfilter: Any) -> Any:
        if what == "node":
            return {"data": [[[0, NODE], [0, list(instances)], [0, ["mirrored.x"]]]]}
        return fake._Query(what, fields, qfilter)

    fake = FakeMaster({"Query": query}, results)
    return fake


class MigrateTests(SynchronousTestCase):
    """gnt-node migrate."""

    def test_nothing(self) -> None:
        """A node without primary instances is done at once."""
        fake = master()
        world = FakeWorld(fake)
        self.assertEqual(world.run("gnt-node migrate -f node1"), 0)
        self.assertEqual(world.out_text, f"No primary instances on node {NODE}, exiting.\n")
        self.assertEqual(fake.opcodes, [])

    def test_jobs(self) -> None:
        """One job of the node asks for one for each instance, and all of them are waited for."""
        fake = master("a.x", "b.x", OP_NODE_MIGRATE={"jobs": [[True, 30], [True, 31]]})
        fake.jobs.update({30: [{"OP_ID": "OP_INSTANCE_MIGRATE"}], 31: [{"OP_ID": "OP_INSTANCE_MIGRATE"}]})
        world = FakeWorld(fake)
        self.assertEqual(world.run("gnt-node migrate -f -n node2 --migration-mode live node1"), 0)
        wanted = {"OP_ID": "OP_NODE_MIGRATE", "node_name": NODE, "target_node": "node2", "mode": "live"}
        self.assertIn(wanted, fake.opcodes)
        self.assertTrue(world.out_text.endswith("All instances migrated successfully.\n"), world.out_text)

    def test_failures(self) -> None:
        """Failures are counted, and are the exit code."""
        fake = master(
            "a.x",
            "b.x",
            OP_NODE_MIGRATE={"jobs": [[True, 30], [False, "queue is full"]]},
            OP_INSTANCE_MIGRATE=failure("no", "wrong_state"),
        )
        fake.jobs[30] = [{"OP_ID": "OP_INSTANCE_MIGRATE"}]
        world = FakeWorld(fake)
        self.assertEqual(world.run("gnt-node migrate -f node1"), 1)
        self.assertIn("There were 2 errors during the node migration.\n", world.out_text)

    def test_declined(self) -> None:
        """Without -f there is a question with the names; no ends it with 13."""
        fake = master("a.x", "b.x")
        world = FakeWorld(fake)
        self.assertEqual(world.run("gnt-node migrate node1"), 13)
        self.assertEqual(world.questions, ["Migrate instance(s) a.x, b.x?"])
        self.assertEqual(fake.opcodes, [])


class FailoverTests(SynchronousTestCase):
    """gnt-node failover."""

    def test_nothing(self) -> None:
        """A node without primary instances is done at once."""
        world = FakeWorld(master())
        self.assertEqual(world.run("gnt-node failover -f node1"), 0)
        self.assertEqual(world.err_text, f"No primary instances on node {NODE}, exiting.\n")

    def test_jobs(self) -> None:
        """A job for each instance."""
        fake = master("b.x", "a.x")
        world = FakeWorld(fake)
        self.assertEqual(world.run("gnt-node failover -f --ignore-consistency -I hail node1"), 0)
        self.assertEqual(
            fake.opcodes,
            [
                {
                    "OP_ID": "OP_INSTANCE_FAILOVER",
                    "instance_name": name,
                    "ignore_consistency": True,
                    "iallocator": "hail",
                }
                for name in ("a.x", "b.x")
            ],
        )
        self.assertIn("All 2 instance(s) failed over successfully.\n", world.out_text)

    def test_failures(self) -> None:
        """Failures are told, but the exit code is 0 as it always was."""
        fake = master("a.x", OP_INSTANCE_FAILOVER=failure("no", "wrong_state"))
        world = FakeWorld(fake)
        self.assertEqual(world.run("gnt-node failover -f node1"), 0)
        told = "There were errors during the failover:\n1 error(s) out of 1 instance(s).\n"
        self.assertIn(told, world.out_text)

    def test_declined(self) -> None:
        """No ends it with 2."""
        world = FakeWorld(master("a.x"))
        self.assertEqual(world.run("gnt-node failover node1"), 2)
        self.assertEqual(world.questions, ["Fail over instance(s) 'a.x'?"])


class EvacuateTests(SynchronousTestCase):
    """gnt-node evacuate."""

    def test_modes(self) -> None:
        """-p, -s, neither; a new secondary means -s."""
        for options, mode, names in (
            ("-p", "primary-only", "a.x"),
            ("-s", "secondary-only", "mirrored.x"),
            ("-n node3", "secondary-only", "mirrored.x"),
            ("", "all", "a.x, mirrored.x"),
        ):
            fake = master("a.x", OP_NODE_EVACUATE={"jobs": []})
            world = FakeWorld(fake, replies=("y",))
            self.assertEqual(world.run(f"gnt-node evacuate {options} node1"), 0)
            self.assertEqual(world.questions, [f"Relocate instance(s) {names} from node(s) {NODE}?"])
            (opcode,) = fake.opcodes
            self.assertEqual((opcode["mode"], opcode["node_name"]), (mode, NODE))
            self.assertEqual(world.out_text, "All instances evacuated successfully.\n")

    def test_nothing(self) -> None:
        """A node without such instances is done at once."""
        fake = master()
        world = FakeWorld(fake)
        self.assertEqual(world.run("gnt-node evacuate -f -p node1"), 0)
        self.assertEqual(world.err_text, f"No instances to evacuate on node(s) {NODE}, exiting.\n")
        self.assertEqual(fake.opcodes, [])

    def test_both_ends(self) -> None:
        """-p and -s together are a mistake."""
        world = FakeWorld(master("a.x"))
        self.assertEqual(world.run("gnt-node evacuate -f -p -s node1"), 1)
        self.assertIn("Only one of", world.err_text)

    def test_failures(self) -> None:
        """Failures are counted, and are the exit code."""
        fake = master(
            "a.x", OP_NODE_EVACUATE={"jobs": [[True, 30]]}, OP_INSTANCE_MIGRATE=failure("no", "wrong_state")
        )
        fake.jobs[30] = [{"OP_ID": "OP_INSTANCE_MIGRATE"}]
        world = FakeWorld(fake)
        self.assertEqual(world.run("gnt-node evacuate -f node1"), 1)
        self.assertIn("There were 1 errors during the evacuation.\n", world.out_text)

    def test_declined(self) -> None:
        """No ends it with 13."""
        self.assertEqual(FakeWorld(master("a.x")).run("gnt-node evacuate node1"), 13)

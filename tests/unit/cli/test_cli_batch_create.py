"""gnt-instance batch-create: the file, the jobs, and what is said of their ends."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.cli.cli_fakes import FakeMaster, FakeWorld, failure

ENTRY = {"instance_name": "a.x", "disk_template": "plain", "disks": [{"size": "10g"}], "os_type": "noop"}


class BatchCreateTests(SynchronousTestCase):
    """A file and a masterd."""

    def setUp(self) -> None:
        """A directory for the file."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "instances.json"

    def create(
        self, content: Any, *options: str, jobs: Any = (), failed: Any = (), **results: Any
    ) -> FakeWorld:
        """Run the command; jobs of the answer are given with the names of their instances."""
        self.path.write_text(content if isinstance(content, str) else json.dumps(content))
        answer = {
            "jobs": [value for _, value in jobs],
            "allocatable": [name for name, _ in jobs],
            "failed": list(failed),
        }
        self.master = FakeMaster(results={"OP_INSTANCE_MULTI_ALLOC": answer, **results})
        for _, (ok, number) in jobs:
            if ok:
                self.master.jobs[number] = [{"OP_ID": "OP_INSTANCE_CREATE"}]
        self.world = FakeWorld(self.master)
        self.code = self.world.run("gnt-instance batch-create", *options, str(self.path))
        return self.world

    def test_opcode(self) -> None:
        """Entries are passed on; what `add` would take as a matter of course is filled in."""
        diskless = {"instance_name": "b.x", "disk_template": "diskless", "nics": [], "target_groups": ["g"]}
        self.create([ENTRY, diskless], "-I", "hail")
        (opcode,) = self.master.opcodes
        self.assertEqual((opcode["OP_ID"], opcode["iallocator"]), ("OP_INSTANCE_MULTI_ALLOC", "hail"))
        self.assertEqual(opcode["instances"][0], {**ENTRY, "mode": "create", "nics": [{}]})
        self.assertEqual(opcode["instances"][1], {**diskless, "mode": "create", "disks": []})

    def test_success(self) -> None:
        """All jobs are waited for."""
        world = self.create([ENTRY], jobs=[("a.x", (True, 30))])
        self.assertEqual(self.code, 0)
        self.assertIn("Waiting for job 30 for a.x ...", world.out_text)
        self.assertTrue(world.out_text.endswith("All instances created successfully.\n"), world.out_text)

    def test_errors(self) -> None:
        """Instances without a place, jobs that were not taken and jobs that failed are counted."""
        jobs = [("a.x", (True, 30)), ("b.x", (False, "queue is full"))]
        world = self.create([ENTRY], jobs=jobs, failed=["c.x"], OP_INSTANCE_CREATE=failure("no"))
        self.assertEqual(self.code, 1)
        self.assertIn("There were 3 errors during the creation of the instances.\n", world.out_text)
        self.assertIn("Failed to submit job for b.x: queue is full", world.err_text)

    def test_dry_run(self) -> None:
        """A dry run fails if something has no place."""
        for failed, code in (((), 0), (("a.x",), 1)):
            self.create([ENTRY], "--dry-run", failed=failed)
            self.assertEqual((self.code, self.master.opcodes[0]["dry_run"]), (code, True))

    def test_submit(self) -> None:
        """With --submit only the first job is told."""
        world = self.create([ENTRY], "--submit")
        self.assertEqual((self.code, world.err_text), (0, "JobID: 17\n"))

    def test_bad_files(self) -> None:
        """A file that is no list of instances is refused with what is wrong; nothing is submitted."""
        for content, text in (
            ("{", "is not JSON"),
            ({"a.x": ENTRY}, "must be a JSON list"),
            ([], "must be a JSON list"),
            ([ENTRY, "b.x"], "entry 2 is not an object with the key instance_name"),
            ([{"name": "a"}], "entry 1 is not an object"),
        ):
            world = self.create(content)
            self.assertEqual((self.code, self.master.opcodes), (1, []), text)
            self.assertIn(text, world.err_text)
        world = FakeWorld(FakeMaster())
        self.assertEqual(world.run("gnt-instance batch-create /nowhere/at/all"), 1)
        self.assertIn("/nowhere/at/all cannot be read: No such file", world.err_text)

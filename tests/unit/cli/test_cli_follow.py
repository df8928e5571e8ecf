"""Submitting jobs, what is shown while they run, and how they end."""

from __future__ import annotations

import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.errors import ConnectionLost, MasterError, NoMaster
from ganeti.cli.follow import job_error
from tests.unit.cli.cli_fakes import FakeMaster, FakeWorld, failure

DELAY = "gnt-debug delay 0.5"
ENTRIES: list[list[Any]] = [
    [1, [1767607201, 0], "message", " - INFO: one"],
    [2, [1767607202, 5], "message-list", ["two", "three"]],
    [3, [1767607203, 5], "jqueue-test", ["a", {}]],
    [4, [1767607204, 5], "delay-test", "/some/socket"],
]


def spoken(world: FakeWorld) -> list[str]:
    """Lines on stdout."""
    return world.out_text.splitlines()


class SingleJobTests(SynchronousTestCase):
    """Commands that submit one job."""

    def test_success(self) -> None:
        """A job that succeeds in silence prints nothing."""
        master = FakeMaster()
        world = FakeWorld(master)
        self.assertEqual((world.run(DELAY), world.out_text, world.err_text), (0, "", ""))
        self.assertEqual(
            master.opcodes, [{"OP_ID": "OP_TEST_DELAY", "duration": 0.5, "no_locks": False}], master.calls
        )

    def test_log(self) -> None:
        """Messages come with their time, each once; of other entries those that mean something to people."""
        master = FakeMaster()
        master.log = ENTRIES
        world = FakeWorld(master)
        world.run(DELAY)
        first, second, _, last = (time.ctime(entry[1][0]) for entry in ENTRIES)
        self.assertEqual(
            spoken(world),
            [
                f"{first}  - INFO: one",
                f"{second} two",
                f"{second} three",
                f"{last} connect to /some/socket to end this delay",
            ],
        )

    def test_submit(self) -> None:
        """`--submit` says the ID on stderr and does not wait."""
        master = FakeMaster()
        world = FakeWorld(master)
        self.assertEqual(world.run("gnt-debug delay --submit 1"), 0)
        self.assertEqual((world.out_text, world.err_text), ("", "JobID: 17\n"))
        self.assertNotIn("WatchJob", [command for command, _ in master.calls])

    def test_print_job_id(self) -> None:
        """`--print-jobid` makes the ID the first line of stdout, also with `--submit`."""
        for more in ("", " --submit"):
            world = FakeWorld(FakeMaster())
            world.run(f"gnt-debug delay --print-jobid{more} 1")
            self.assertEqual(spoken(world), ["17"])

    def test_failure(self) -> None:
        """The error of a job is raised again."""
        world = FakeWorld(FakeMaster(results={"OP_TEST_DELAY": failure("no", "wrong_input")}))
        self.assertEqual(world.run(DELAY), 1)
        self.assertIn("error type: wrong_input, error details:\nno\n", world.err_text)

    def test_canceled(self) -> None:
        """A canceled job is a failure."""
        world = FakeWorld(FakeMaster(results={"OP_TEST_DELAY": "canceled"}))
        self.assertEqual(
            (world.run(DELAY), world.err_text), (1, "Unhandled Ganeti error: Job was canceled\n")
        )

    def test_common_options(self) -> None:
        """Priority, dry run, debug level and reasons get into the opcode (opcodes.md section 7)."""
        master = FakeMaster()
        world = FakeWorld(master)
        world.run("gnt-debug delay --priority=high --dry-run -dd --reason why 1")
        (opcode,) = master.jobs[17]
        self.assertEqual((opcode["priority"], opcode["dry_run"], opcode["debug_level"]), (-10, True, 2))
        stamp = 1767607200 * 10**9
        self.assertEqual(
            opcode["reason"], [["gnt:user", "why", stamp], ["gnt:client:gnt-debug", "delay", stamp]]
        )

    def test_notices(self) -> None:
        """A job that does not begin is told of, once for each state; KeepWaiting is not news."""
        pushes: list[Any] = [
            None,
            ("KeepWaiting", [17]),
            None,
            ("JobChanged", [17, [["waiting"], []]]),
            None,
            ("JobChanged", [99, [["success"], []]]),
            ("JobChanged", [17, [["success"], []]]),
        ]
        master = FakeMaster({"WatchJob": 17})
        master.pushed = lambda timeout_s: pushes.pop(0)  # type: ignore[method-assign]
        world = FakeWorld(master)
        self.assertEqual(world.run(DELAY), 0)
        self.assertEqual(
            world.err_text.splitlines(),
            ["Job 17 is waiting in queue", "Job 17 is trying to acquire all necessary locks"],
        )

    def test_unknown_job(self) -> None:
        """A job that does not exist."""
        world = FakeWorld(FakeMaster())
        self.assertEqual(world.run("gnt-job wait 99"), 1)
        self.assertIn("Error checking job status: job 99 does not exist", world.err_text)


class RestartTests(SynchronousTestCase):
    """masterd is restarted while a command runs."""

    def test_submission_is_repeated(self) -> None:
        """The same request is sent again with the same id."""
        requests: list[str | None] = []

        class Restarted(FakeMaster):
            def call(self, command: str, arguments: Any, request_id: str | None = None) -> Any:
                if command == "SubmitJob":
                    requests.append(request_id)
                    if len(requests) == 1:
                        raise ConnectionLost()
                return super().call(command, arguments)

        world = FakeWorld(Restarted())
        self.assertEqual(world.run(DELAY), 0)
        self.assertEqual((len(requests), len(set(requests))), (2, 1))
        self.assertIn("waiting for it to come back", world.err_text)

    def test_following_goes_on(self) -> None:
        """The job is watched again from the last entry shown."""
        news: list[Any] = [
            ("JobChanged", [17, [["running"], ENTRIES[:1]]]),
            ConnectionLost(),
            ("JobChanged", [17, [["success"], ENTRIES[:1]]]),
        ]
        master = FakeMaster({"WatchJob": 17})

        def pushed(timeout_s: float) -> Any:
            found = news.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

        master.pushed = pushed  # type: ignore[method-assign]
        world = FakeWorld(master)
        self.assertEqual(world.run(DELAY), 0)
        watches = [arguments for command, arguments in master.calls if command == "WatchJob"]
        self.assertEqual(watches, [[17, ["status"], None], [17, ["status"], 1]])
        self.assertEqual(len(spoken(world)), 1)

    def test_gone_for_good(self) -> None:
        """Half a minute without masterd ends the command with what to do."""
        master = FakeMaster({"SubmitJob": ConnectionLost()})
        attempts = iter((master,))

        def connect(paths: object) -> FakeMaster:
            for found in attempts:
                return found
            raise NoMaster("/socket")

        world = FakeWorld(connect=connect)
        self.assertEqual(world.run(DELAY), 1)
        self.assertEqual(sum(world.slept), 30.0)
        self.assertIn("'gnt-job list' shows them", world.err_text)


class ManyJobTests(SynchronousTestCase):
    """Commands that submit several jobs."""

    def setUp(self) -> None:
        """Two instances."""
        self.names: dict[str, Any] = {"Query": self._query}
        self.master = FakeMaster(self.names)

    def _query(self, what: str, fields: list[str], wanted: Any) -> Any:
        if what == "job":
            return self.master._Query(what, fields, wanted)
        return {"fields": [], "data": [[[0, test[2]]] for test in wanted[1:]]}

    def test_each_is_followed(self) -> None:
        """All IDs first, then job by job; a failure names the instance, exit code 1."""
        self.master.results = {"OP_INSTANCE_STARTUP": MasterError("OpExecError", ["no memory"])}
        world = FakeWorld(self.master)
        self.assertEqual(world.run("gnt-instance startup --force-multiple a b"), 1)
        self.assertEqual(
            spoken(world),
            ["Submitted jobs 17, 18", "Waiting for job 17 for a ...", "Waiting for job 18 for b ..."],
        )
        self.assertIn("Job 18 for b has failed: Failure: command execution error:\nno memory", world.err_text)

    def test_submit(self) -> None:
        """`--submit` prints ID and instance on stdout, refusals on stderr, and ignores --print-jobid."""
        self.names["SubmitManyJobs"] = lambda jobs: [[True, 17], [False, "queue full"]]
        self.master = FakeMaster(self.names)
        world = FakeWorld(self.master)
        self.assertEqual(world.run("gnt-instance startup --submit --print-jobid --force-multiple a b"), 1)
        self.assertEqual((world.out_text, world.err_text), ("17: a\n", "Failure for b: queue full\n"))

    def test_refused_submission(self) -> None:
        """A job that was not taken is told of, the others are followed."""

        def submit(jobs: list[Any]) -> list[Any]:
            return [[False, "queue full"], [True, self.master._SubmitJob(jobs[1], False)]]

        self.master.answers["SubmitManyJobs"] = submit
        world = FakeWorld(self.master)
        self.assertEqual(world.run("gnt-instance shutdown --force-multiple a b"), 1)
        self.assertEqual(world.err_text, "Failed to submit job for a: queue full\n")
        self.assertEqual(spoken(world)[-1], "Waiting for job 17 for b ...")


class JobErrorTests(SynchronousTestCase):
    """From results to errors."""

    def test_encoded(self) -> None:
        """The first failed opcode counts."""
        error = job_error(["success", "error"], [None, ["OpExecError", ["x"]]])
        self.assertEqual((error.name, error.arguments), ("OpExecError", ("x",)))

    def test_not_encoded(self) -> None:
        """Plain text says which opcode it was of several."""
        self.assertEqual(job_error(["success", "error"], [1, "bad"]).text, "partial failure (opcode 1): bad")
        self.assertEqual(job_error(["error"], ["bad"]).text, "bad")

    def test_without_an_error(self) -> None:
        """A job that failed without a failed opcode still gives an error."""
        self.assertEqual(job_error([], []).name, "OpExecError")

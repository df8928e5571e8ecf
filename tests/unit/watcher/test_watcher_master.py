"""The way to masterd: restarts, repeated submissions, bounded waits."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.errors import ConnectionLost, MasterError, MasterTimeout, NoMaster
from ganeti.errors import OperationFailed
from ganeti.watcher.master import MAX_TASKS, RECONNECT_S, SILENCE_S, Task
from tests.unit.watcher.fake_master import FakeMaster


def task(name: str, op_id: str = "OP_X") -> Task:
    """A job of one opcode."""
    return Task(name=name, opcodes=({"OP_ID": op_id, "instance_name": name},))


class LinkTests(SynchronousTestCase):
    """What a run can rely on."""

    def setUp(self) -> None:
        self.master = FakeMaster()
        self.link = self.master.link()

    def test_outcomes(self) -> None:
        """Success with results, failure with its reason, refusal, each at its place."""

        def fail(_: object) -> None:
            raise OperationFailed("no memory")

        self.master.results["OP_X"] = lambda opcode: opcode["instance_name"].upper()
        self.master.results["OP_BAD"] = fail
        self.master.unknown.add("OP_NEW")
        done = self.link.run([task("a"), task("b", "OP_BAD"), task("c", "OP_NEW"), task("d")], at_most_s=60)
        self.assertEqual([one.task.name for one in done], ["a", "b", "c", "d"])
        self.assertEqual([one.status for one in done], ["success", "error", "refused", "success"])
        self.assertEqual([one.results for one in done], [("A",), (), (), ("D",)])
        self.assertIn("no memory", done[1].problem)
        self.assertEqual([one.job is None for one in done], [False, False, True, False])

    def test_submitted_once(self) -> None:
        """A submission whose answer is lost is sent again and makes no second job."""
        self.master.lost = ["SubmitManyJobs"]
        (done,) = self.link.run([task("a")], at_most_s=60)
        self.assertTrue(done.is_success)
        self.assertEqual(self.master.submitted(), ["X(a)"])
        self.assertEqual(self.master.log.count("SubmitManyJobs"), 2)

    def test_any_answer_may_be_lost(self) -> None:
        """At whatever point the connection breaks, the job is watched to its end."""
        self.master.lost = ["WatchJob", "Query", "WatchJob", "Query"]
        (done,) = self.link.run([task("a")], at_most_s=60)
        self.assertTrue(done.is_success)

    def test_gone(self) -> None:
        """A masterd that does not come back is given up after a bounded time."""
        self.master.is_gone = True
        self.assertRaises(NoMaster, self.link.call, "Query", ["job", [], None])
        self.assertTrue(RECONNECT_S <= self.master.now <= RECONNECT_S + 1, self.master.now)

    def test_gone_while_waiting(self) -> None:
        """The same when it goes in the middle of a wait."""
        self.master.hanging.add("OP_X")
        job = self.master.add({"OP_ID": "OP_X"})
        self.link.pending()
        self.master.is_gone = True
        error = self.assertRaises((ConnectionLost, NoMaster), self.link.wait, [job.number], at_most_s=3600)
        self.assertIn("master daemon", str(error))
        self.assertLess(self.master.now, RECONNECT_S + 1)

    def test_late(self) -> None:
        """A wait ends when its time is over; the job goes on and is named."""
        self.master.hanging.add("OP_X")
        (done,) = self.link.run([task("a")], at_most_s=100)
        self.assertEqual((done.status, done.job, self.master.now), ("late", 1, 100.0))
        self.assertIn("job 1 has not ended", done.problem)

    def test_silence(self) -> None:
        """A masterd that says nothing at all for long is taken as gone although it is connected."""
        self.master.hanging.add("OP_X")
        self.assertRaises(MasterTimeout, self.link.run, [task("a")], at_most_s=3600)
        self.assertEqual(self.master.now, SILENCE_S)

    def test_not_all_at_once(self) -> None:
        """Many jobs go in portions; what there is no time for is not submitted."""
        names = [f"i{number}" for number in range(2 * MAX_TASKS + 1)]
        done = self.link.run([task(name) for name in names], at_most_s=60)
        self.assertEqual([one.task.name for one in done if one.is_success], names)
        self.assertEqual(self.master.log.count("SubmitManyJobs"), 3)
        self.master.hanging.add("OP_X")
        late = self.link.run([task(name) for name in names], at_most_s=60)
        self.assertEqual([one.status for one in late].count("late"), MAX_TASKS)
        self.assertEqual([one.job for one in late].count(None), MAX_TASKS + 1)

    def test_archived_meanwhile(self) -> None:
        """A job that is not there any more when its end is looked at is not taken as a success."""
        self.assertTrue(self.link.wait([7], at_most_s=60))
        done = self.link.outcomes({7: task("a")})[7]
        self.assertEqual((done.status, done.is_success), ("error", False))

    def test_refused(self) -> None:
        """A queue that takes no jobs says so."""
        self.master.refusal = MasterError("JobQueueFull", ["full"])
        self.assertRaises(MasterError, self.link.run, [task("a")], at_most_s=60)

    def test_pending(self) -> None:
        """Jobs that have not ended, oldest first."""
        for status in ("success", "running", "error", "queued", "waiting", "canceling", "canceled"):
            self.master.add({"OP_ID": "OP_X", "instance_name": status}, status=status)
        self.assertEqual([job.id for job in self.link.pending()], [2, 4, 5, 6])
        self.assertEqual(self.link.pending()[0].summary, ("X(running)",))

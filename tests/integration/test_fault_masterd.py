"""The master daemon dies without warning: what it acknowledged is there, once, and goes on as it should."""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.errors import ConnectionLost, MasterError, MasterTimeout, NoMaster
from ganeti.model.job import JobStatus
from tests.integration.cluster import RunningCluster, matches, until

UNCLEAN = ["OpExecError", ["Unclean master daemon shutdown"]]
PRIORITIES = (10, 0, -10)


def delay(seconds: float, **more: Any) -> dict[str, Any]:
    """An opcode that waits."""
    return {"OP_ID": "OP_TEST_DELAY", "duration": seconds, **more}


def remove_tag(tag: str, priority: int = 0) -> dict[str, Any]:
    """An opcode that succeeds once: a tag that is gone cannot be removed again."""
    return {"OP_ID": "OP_TAGS_DEL", "kind": "cluster", "tags": [tag], "priority": priority}


def setUpModule() -> None:
    """Three nodes, so that copies for master candidates are on their way all the time."""
    MasterdCase.cluster = RunningCluster(nodes=3)


def tearDownModule() -> None:
    """End all of it."""
    MasterdCase.cluster.destroy()


class MasterdCase(SynchronousTestCase):
    """What happens to masterd, and what is left."""

    cluster: RunningCluster

    def add_tags(self, tags: Sequence[str]) -> None:
        """Give the cluster tags."""
        job = self.cluster.client().submit([{"OP_ID": "OP_TAGS_SET", "kind": "cluster", "tags": list(tags)}])
        self.assertEqual(self.cluster.wait_for_jobs(job), {job: "success"})

    def tags(self) -> set[str]:
        """The cluster's tags."""
        return set(self.cluster.client().call("QueryTags", ["cluster", None]))

    def run_delays(self, count: int, **more: Any) -> list[int]:
        """Jobs that run for ever."""
        client = self.cluster.client()
        jobs = [client.submit([delay(600, **more)]) for _ in range(count)]
        until(lambda: self.statuses(jobs) == {"running"}, "the jobs do not run")
        return jobs

    def statuses(self, jobs: Sequence[int]) -> set[str]:
        """Every status that one of these jobs has."""
        found = self.cluster.jobs("status")
        return {found[job][0] for job in jobs}

    def crash(self) -> None:
        """Kill masterd and start it again."""
        self.cluster.kill("ganeti-masterd")
        self.cluster.start()


class CrashTests(MasterdCase):
    """`kill -9` of masterd."""

    def test_full_queue(self) -> None:
        """20 running jobs are errors, 200 queued ones run once and by priority, 5 waiting ones run.

        S2.3-117, jobqueue.md section 9.
        """
        self.cluster.gnt("gnt-cluster modify --max-running-jobs 25")
        client = self.cluster.client()
        tags = [f"full{number}" for number in range(200)]
        self.add_tags(tags)
        before = set(self.cluster.jobs())
        waiting = self.run_delays(1, on_nodes=["node1.virtual"], on_master=False, no_locks=False)
        running = waiting + self.run_delays(19)
        locked = [
            client.submit([delay(0, on_nodes=["node1.virtual"], on_master=False, no_locks=False)])
            for _ in range(5)
        ]
        until(lambda: self.statuses(locked) == {"waiting"}, "nobody waits for locks")
        wishes = {tag: PRIORITIES[number % 3] for number, tag in enumerate(tags)}
        jobs = {client.submit([remove_tag(tag, wishes[tag])]): tag for tag in tags[:100]}
        many = client.call("SubmitManyJobs", [[[remove_tag(tag, wishes[tag])] for tag in tags[100:]]])
        jobs.update({job: tag for (_, job), tag in zip(many, tags[100:], strict=True)})
        self.assertEqual(self.statuses(list(jobs)), {"queued"})

        self.crash()
        found = self.cluster.jobs("status", "opresult", "oppriority")
        self.assertEqual(set(found) - before, {*running, *locked, *jobs})
        self.assertEqual(
            {job: found[job][:2] for job in running}, {job: ("error", [UNCLEAN]) for job in running}
        )
        self.assertEqual(
            {job: found[job][2][0] for job in jobs}, {job: wishes[tag] for job, tag in jobs.items()}
        )
        ended = self.cluster.wait_for_jobs()
        self.assertEqual({ended[job] for job in (*jobs, *locked)}, {"success"})
        self.assertEqual(self.tags() & set(tags), set())
        self.assert_begun_by_priority({job: wishes[tag] for job, tag in jobs.items()})

    def assert_begun_by_priority(self, wishes: dict[int, int]) -> None:
        """Urgent ones were picked up first, the older of two alike before the newer."""
        starts = self.cluster.jobs("opstart")
        self.assertEqual(
            sorted(wishes, key=lambda job: (wishes[job], job)),
            sorted(wishes, key=lambda job: (starts[job][0][0], wishes[job], job)),
        )

    def test_while_jobs_are_submitted(self) -> None:
        """Killed at any moment of a stream of submissions: acknowledged jobs are there and ran once.

        What was not acknowledged may be sent again with the same request id, and is one job then.
        """
        rng = random.Random(20)
        for round_number in range(3):
            tags = [f"stream{round_number}-{number}" for number in range(900)]
            self.add_tags(tags)
            self.run_delays(3)
            before = set(self.cluster.jobs())
            streams = [Stream(self.cluster, tags[part::3], batch=size) for part, size in enumerate((1, 1, 7))]
            for stream in streams:
                stream.start()
            time.sleep(rng.uniform(0.05, 0.5))
            self.crash()
            for stream in streams:
                stream.join(30)
            self.check_streams(streams, before)

    def check_streams(self, streams: Sequence[Stream], before: set[int]) -> None:
        """Compare what was promised with what is there."""
        acknowledged = {tag: job for stream in streams for tag, job in stream.acknowledged.items()}
        self.assertGreater(len(acknowledged), 5)
        found = self.cluster.jobs("ops")
        by_tag: dict[str, list[int]] = {}
        for job in set(found) - before:
            by_tag.setdefault(found[job][0][0]["tags"][0], []).append(job)
        self.assertEqual(
            {tag: by_tag.get(tag) for tag in acknowledged}, {tag: [job] for tag, job in acknowledged.items()}
        )
        again = {tag: job for stream in streams for tag, job in stream.send_rest().items()}
        by_tag.update({tag: [job] for tag, job in again.items() if tag not in by_tag})
        self.assertEqual({tag: by_tag[tag] for tag in again}, {tag: [job] for tag, job in again.items()})
        self.cluster.wait_for_jobs()
        self.check_effects({jobs[0]: tag for tag, jobs in by_tag.items()})

    def check_effects(self, jobs: dict[int, str]) -> None:
        """Each did its work once, unless it was interrupted in the middle of it."""
        ended = self.cluster.jobs("status", "opresult")
        left = self.tags()
        for job, tag in jobs.items():
            status, results = ended[job]
            if status == JobStatus.SUCCESS:
                self.assertNotIn(tag, left)
            else:
                self.assertEqual((job, results), (job, [UNCLEAN]))
        # An object has a limited number of tags.
        rest = self.cluster.client().submit([{**remove_tag(""), "tags": sorted(left)}])
        self.assertEqual(self.cluster.wait_for_jobs(rest), {rest: "success"})


class Stream(threading.Thread):
    """Somebody who submits jobs, so many at a time, until the connection is lost."""

    def __init__(self, cluster: RunningCluster, tags: Sequence[str], *, batch: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[str, int] = {}
        self._cluster = cluster
        self._batches = [list(tags[at : at + batch]) for at in range(0, len(tags), batch)]
        self._unanswered: tuple[str, list[str]] | None = None

    def run(self) -> None:
        """Submit."""
        client = self._cluster.client()
        for tags in self._batches:
            request = str(uuid.uuid4())
            self._unanswered = (request, tags)
            try:
                self.acknowledged.update(self._submit(client, request, tags))
            except ConnectionLost:
                return
            self._unanswered = None

    def send_rest(self) -> dict[str, int]:
        """Send what got no answer once more; gives what came of it."""
        if self._unanswered is None:
            return {}
        return self._submit(self._cluster.client(), *self._unanswered)

    @staticmethod
    def _submit(client: Any, request: str, tags: list[str]) -> dict[str, int]:
        if len(tags) == 1:
            return {tags[0]: client.call("SubmitJob", [[remove_tag(tags[0])], False], request)}
        answers = client.call("SubmitManyJobs", [[[remove_tag(tag)] for tag in tags]], request)
        return {tag: job for tag, (taken, job) in zip(tags, answers, strict=True) if taken}


class PowerCutTests(MasterdCase):
    """All processes of the master's node end at once (`ganeti-vcluster kill`)."""

    def test_everything_acknowledged_is_there(self) -> None:
        """Instance, tag and jobs that were acknowledged just before are there after a start."""
        add = "gnt-instance add -t diskless -o noop --no-nics --no-install -n node2.virtual cut.virtual"
        self.cluster.gnt(add)
        self.cluster.gnt("gnt-instance start cut.virtual")
        running = self.run_delays(20)
        self.cluster.gnt("gnt-job list")
        client = self.cluster.client()
        queued = [client.submit([remove_tag("none", priority)]) for priority in PRIORITIES]
        self.cluster.vcluster("kill", "1")
        self.assertEqual(self.cluster.processes(1), [])
        refused = self.cluster.gnt("gnt-instance list", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertTrue(matches("master.*(run|connect)", refused.stderr), refused.stderr)

        self.cluster.start()
        listed = self.cluster.gnt("gnt-instance list --no-headers -o name,status,pnode").stdout.split()
        self.assertEqual(listed, ["cut.virtual", "running", "node2.virtual"])
        ended = self.cluster.wait_for_jobs(*running, *queued)
        self.assertEqual({ended[job] for job in running}, {"error"})
        self.assertEqual({self.cluster.job(job)[1][1][1] for job in queued}, {"unknown_entity"})
        self.cluster.gnt("gnt-cluster verify")


class StartTests(MasterdCase):
    """Daemons that must not start."""

    def test_second_master_daemon(self) -> None:
        """Another masterd on the node is refused, also when the pid file is lost (the queue's lock)."""
        first = self.cluster.pid("ganeti-masterd")
        generation = Path(self.cluster.paths().data_dir, "master-generation")
        generation_before = generation.read_text()
        second = self.cluster.start_daemon("ganeti-masterd")
        self.assertEqual(second.returncode, 1)
        self.assertTrue(matches(f"running already.*{first}", second.stderr), second.stderr)
        pid_file = self.cluster.paths().pid_file("ganeti-masterd")
        os.rename(pid_file, pid_file + ".aside")
        try:
            third = self.cluster.start_daemon("ganeti-masterd")
        finally:
            os.rename(pid_file + ".aside", pid_file)
        self.assertEqual(third.returncode, 1)
        self.assertTrue(matches("the job queue .* is in use by another process", third.stderr), third.stderr)
        self.assertEqual(self.cluster.pid("ganeti-masterd"), first)
        self.assertEqual(generation.read_text(), generation_before)
        self.cluster.gnt("gnt-job list")

    def test_not_on_another_node(self) -> None:
        """masterd on a node that is not the master ends with 11 and names the master."""
        refused = self.cluster.start_daemon("ganeti-masterd", 2)
        self.assertEqual(refused.returncode, 11)
        self.assertIn("node1.virtual", refused.stderr)

    def test_without_credentials(self) -> None:
        """Daemons of a node that is in no cluster end with 12 and say what makes one."""
        with tempfile.TemporaryDirectory() as root:
            for daemon in ("ganeti-noded", "ganeti-masterd"):
                wrapped = ("env", f"GANETI_ROOTDIR={root}")
                refused = self.cluster.start_daemon(daemon, 2, wrapped=wrapped)
                self.assertEqual(refused.returncode, 12, refused.stderr)
                self.assertIn("gnt-cluster init", refused.stderr)

    def test_nobody_answers(self) -> None:
        """Without masterd a tool says so, and which daemon is to be started."""
        self.cluster.stop("ganeti-masterd")
        self.addCleanup(self.cluster.start)
        refused = self.cluster.gnt("gnt-job list", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("masterd", refused.stderr)
        self.assertRaises((NoMaster, MasterError, MasterTimeout), self.cluster.client)
        self.assertTrue(Path(self.cluster.paths().queue_dir).is_dir())

"""Jobs, lists and locks, through the real tools and daemons."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.integration.cluster import until
from tests.integration.operations_case import OperationsCase, begin, end

setUpModule, tearDownModule = begin, end


class JobsCase(OperationsCase):
    """Jobs that sleep."""

    def submit(self, seconds: float, *options: str) -> int:
        """A job that sleeps, on the nodes only if there are any; its number."""
        options = ("--no-master", *options) if options else ()
        done = self.cluster.gnt("gnt-debug delay --submit", *options, str(seconds))
        job = int(done.stderr.removeprefix("JobID: "))
        self.addCleanup(self.cluster.gnt, f"gnt-job cancel {job}", check=False)
        return job

    def status(self, job: int) -> str:
        """Status of a job."""
        ((status,),) = self.rows("gnt-job list", f"-o status {job}")
        return status

    def wait_until(self, job: int, status: str) -> None:
        """Wait until a job has this status."""
        until(lambda: self.status(job) == status, f"job {job} does not become {status}")

    def submit_opcodes(self, *opcodes: dict[str, Any]) -> int:
        """A job of any opcodes."""
        return self.cluster.client().submit(opcodes)


class SubmitTests(JobsCase):
    """Options that all commands have which submit jobs."""

    def test_submit(self) -> None:
        """`--submit` prints the number and does not wait."""
        job = self.submit(2)
        self.assertIn(self.status(job), ("running", "waiting", "queued"))

    def test_print_job_id(self) -> None:
        """`--print-jobid` prints the number first and waits."""
        first = self.gnt("gnt-debug delay --print-jobid 0").splitlines()[0]
        self.assertEqual(self.status(int(first)), "success")

    def test_priority_and_reason(self) -> None:
        """Priority and reason trail are in the job."""
        job = self.submit(1, "-n", "node3", "--priority=high", "--reason", "because of a test")
        ((priority,),) = self.rows("gnt-job list", f"-o priority {job}")
        self.assertEqual(priority, "-10")
        (found,) = json.loads(self.gnt(f"gnt-job info --output json {job}"))
        trail = json.dumps(found)
        self.assertIn("because of a test", trail)
        self.assertIn("gnt:client:gnt-debug", trail)

    def test_failure(self) -> None:
        """A job that fails gives exit code 1 and its reason; it is listed as an error."""
        self.cluster.gnt("gnt-node modify --offline=yes --auto-promote node3")
        self.addCleanup(self.gnt, "gnt-node modify -f --offline=no node3")
        done = self.cluster.gnt("gnt-debug delay --print-jobid --no-master -n node3 0", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("node3.virtual", done.stderr)
        job = int(done.stdout.splitlines()[0])
        self.assertEqual(self.status(job), "error")
        self.assertIn([str(job)], self.rows("gnt-job list", "--error -o id"))

    def test_several_opcodes(self) -> None:
        """Opcodes of a job run one after the other; those behind a failure do not."""
        job = self.submit_opcodes(
            {"OP_ID": "OP_TEST_DELAY", "duration": 0},
            {"OP_ID": "OP_TAGS_DEL", "kind": "cluster", "tags": ["absent"]},
            {"OP_ID": "OP_TEST_DELAY", "duration": 0},
        )
        self.wait_until(job, "error")
        (found,) = json.loads(self.gnt(f"gnt-job list --output json,opstatus {job}"))
        self.assertEqual(found["opstatus"], ["success", "error", "error"])

    def test_dependencies(self) -> None:
        """A job that depends on others waits for them, and fails with one that did."""
        first = self.submit(1.5)
        second = self.submit_opcodes(
            {"OP_ID": "OP_TEST_DELAY", "duration": 0, "depends": [[first, ["success"]]]}
        )
        third = self.submit_opcodes(
            {"OP_ID": "OP_TEST_DELAY", "duration": 0, "depends": [[second, ["error"]]]}
        )
        self.assertIn(self.status(second), ("waiting", "queued"))
        self.wait_until(second, "success")
        self.assertEqual(self.status(first), "success")
        self.wait_until(third, "error")

    def test_file(self) -> None:
        """Jobs from files, several of them."""
        path = Path(self.cluster.directory, "jobs.json")
        path.write_text(json.dumps([{"OP_ID": "OP_TEST_DELAY", "duration": 0}]))
        printed = self.gnt(f"gnt-debug submit-job --job-repeat 3 --op-repeat 2 {path}")
        jobs = re.findall(r"\d+", printed.splitlines()[0])
        self.assertEqual(len(jobs), 3, printed)
        found = json.loads(self.gnt(f"gnt-job list --output json,opstatus {' '.join(jobs)}"))
        self.assertEqual([row["opstatus"] for row in found], [["success", "success"]] * 3)

    def test_refused_submission(self) -> None:
        """Nothing wrong gets into the queue."""
        path = Path(self.cluster.directory, "wrong.json")
        for opcode, text in (
            ({"OP_ID": "OP_NONSENSE"}, "OP_NONSENSE"),
            ({"OP_ID": "OP_TEST_DELAY"}, "duration"),
            ({"OP_ID": "OP_TEST_DELAY", "duration": "long"}, "duration"),
            ({"OP_ID": "OP_TEST_DELAY", "duration": -1}, "duration"),
            ({"OP_ID": "OP_TEST_DELAY", "duration": 1, "duratoin": 1}, "duratoin"),
            ({"OP_ID": "OP_TEST_DELAY", "duration": 1, "priority": 3}, "priority"),
        ):
            path.write_text(json.dumps([opcode]))
            self.refused(f"gnt-debug submit-job {path}", text)
        path.write_text("no json")
        self.refused(f"gnt-debug submit-job {path}", "wrong.json")


class ControlTests(JobsCase):
    """gnt-job."""

    def test_cancel(self) -> None:
        """What does not run yet is cancelled; what runs is not, and the exit code says so."""
        running = self.submit(3, "-n", "node2")
        self.wait_until(running, "running")
        waiting = self.submit(3, "-n", "node2")
        self.wait_until(waiting, "waiting")
        self.gnt(f"gnt-job cancel {waiting}")
        self.wait_until(waiting, "canceled")
        done = self.cluster.gnt(f"gnt-job cancel {running}", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(str(running), done.stdout + done.stderr)
        self.refused("gnt-job cancel 99999", "99999")

    def test_change_priority(self) -> None:
        """The priority of a waiting job can be changed."""
        self.submit(3, "-n", "node3")
        waiting = self.submit(0, "-n", "node3")
        self.wait_until(waiting, "waiting")
        self.gnt(f"gnt-job change-priority --priority low {waiting}")
        self.assertEqual(self.rows("gnt-job list", f"-o priority {waiting}"), [["10"]])
        self.wait_until(waiting, "success")

    def test_wait_and_watch(self) -> None:
        """`wait` tells by its exit code how a job ended, `watch` shows what it said."""
        job = self.submit(0.2)
        self.assertEqual(self.gnt(f"gnt-job wait {job}"), "")
        name = self.add("watched")
        (found,) = json.loads(
            self.gnt("gnt-job list -F --output json,id", f'"INSTANCE_CREATE({name})" in summary')
        )
        text = self.gnt(f"gnt-job watch {found['id']}")
        self.assertIn(f"Output from job {found['id']} follows", text)
        self.assertIn("* creating instance disks...", text)
        failed = self.submit_opcodes({"OP_ID": "OP_TAGS_DEL", "kind": "cluster", "tags": ["absent"]})
        for command in ("wait", "watch"):
            done = self.cluster.gnt(f"gnt-job {command} {failed}", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"Job {failed} failed", done.stderr)

    def test_archive(self) -> None:
        """Archived jobs are not listed unless asked for; those that have not ended are not archived."""
        done, running = self.submit(0), self.submit(2)
        self.wait_until(done, "success")
        self.gnt(f"gnt-job archive {done}")
        self.assertNotIn([str(done)], self.rows("gnt-job list", "-o id"))
        self.assertIn([str(done)], [row[:1] for row in self.rows("gnt-job list", "--archived -o id")])
        self.refused(f"gnt-job archive {running}", str(running))

    def test_autoarchive(self) -> None:
        """By age, and all."""
        job = self.submit(0)
        self.wait_until(job, "success")
        self.assertIn("Archived 0 jobs", self.gnt("gnt-job autoarchive 1h"))
        self.assertRegex(self.gnt("gnt-job autoarchive all"), "Archived [1-9][0-9]* jobs, 0 unchecked left")
        self.refused("gnt-job autoarchive sometime", "sometime")

    def test_info(self) -> None:
        """Everything about a job."""
        job = self.submit(0)
        self.wait_until(job, "success")
        text = self.gnt(f"gnt-job info {job}")
        for line in (f"- Job ID: {job}", "Status: success", "Opcode: OP_TEST_DELAY", "duration: 0"):
            self.assertIn(line, text)
        self.assertIn("99999", self.gnt("gnt-job info 99999"))

    def test_drain(self) -> None:
        """A drained queue takes no new jobs; those in it go on."""
        self.gnt("gnt-cluster queue drain")
        self.addCleanup(self.gnt, "gnt-cluster queue undrain")
        self.assertIn("is set", self.gnt("gnt-cluster queue info"))
        self.refused("gnt-debug delay 0", "drain")
        self.gnt("gnt-cluster queue undrain")
        self.gnt("gnt-debug delay 0")


class LocksTests(JobsCase):
    """gnt-debug locks."""

    def locks(self) -> dict[str, list[str]]:
        """Mode, owner and pending by name."""
        return {row[0]: row[1:] for row in self.rows("gnt-debug locks", "-o name,mode,owner,pending")}

    def test_locks(self) -> None:
        """Who holds a lock, and who waits for it."""
        holder = self.submit(3, "-n", "node2")
        self.wait_until(holder, "running")
        waiter = self.submit(3, "-n", "node2")
        self.wait_until(waiter, "waiting")
        (uuid,) = self.of("node", "node2", "uuid")
        found = self.locks()
        mode, owner, pending = found[f"node/{uuid}"]
        self.assertEqual(mode, "exclusive")
        self.assertIn(str(holder), owner)
        self.assertRegex(pending, rf"exclusive:.*{waiter}")
        self.assertEqual(found["cluster/BGL"][0], "shared")
        self.gnt(f"gnt-job cancel {waiter}")
        self.assertTrue(any(name.startswith("rpc/node2") for name in found), found)


class ListsTests(OperationsCase):
    """What lists have in common."""

    def test_fields(self) -> None:
        """Chosen columns, further ones, and one that is unknown (exit code 14)."""
        self.assertEqual(self.gnt("gnt-node list -o name,role --no-headers node1"), "node1.virtual M\n")
        self.assertEqual(self.gnt("gnt-node list -o +role node1").split()[-1], "M")
        done = self.cluster.gnt("gnt-node list -o name,nope", check=False)
        self.assertEqual(done.returncode, 14)
        self.assertIn("nope", done.stderr)

    def test_format(self) -> None:
        """Separators, units, JSON."""
        line = self.gnt("gnt-node list --no-headers --separator=: -o name,pinst_cnt node2")
        self.assertEqual(line, "node2.virtual:0\n")
        in_mib = self.gnt("gnt-node list --no-headers --units m -o mtotal node1").strip()
        in_gib = self.gnt("gnt-node list --no-headers --units g -o mtotal node1").strip()
        self.assertAlmostEqual(int(in_mib) / 1024, float(in_gib), delta=0.1)
        (found,) = json.loads(self.gnt("gnt-node list --output json,name,pip node3"))
        self.assertEqual(found, {"name": "node3.virtual", "pip": self.cluster.node(3).address})

    def test_filters(self) -> None:
        """The filter language, patterns, and where a filter is wrong."""
        for condition, expected in (
            ('role == "M"', ["node1.virtual"]),
            ('name =~ m/^node[23]/ and not name == "node2.virtual"', ["node3.virtual"]),
            ("master_candidate", ["node1.virtual", "node2.virtual", "node3.virtual"]),
            ('pinst_cnt > 0 or name =* "*3.*"', ["node3.virtual"]),
            ('"nothing" in tags', []),
        ):
            printed = self.gnt("gnt-node list --no-headers -o name -F", condition)
            self.assertEqual(printed.split(), expected, condition)
        printed = self.gnt("gnt-node list --no-headers -o name node?.virtual")
        self.assertEqual(len(printed.split()), 3)
        done = self.cluster.gnt("gnt-node list -F", "name ==", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("filter", done.stderr)

    def test_list_fields(self) -> None:
        """Every tool tells its fields."""
        for tool in ("node", "group", "instance", "job"):
            self.assertIn("uuid" if tool != "job" else "summary", self.gnt(f"gnt-{tool} list-fields"))

    def test_all_fields(self) -> None:
        """No field of any resource breaks the list."""
        self.add("complete")
        for tool in ("node", "group", "instance", "job"):
            names = [row[0] for row in self.rows(f"gnt-{tool} list-fields")]
            found = json.loads(self.gnt(f"gnt-{tool} list --output json,{','.join(names)}"))
            self.assertEqual(list(found[0]), names)

    def test_exit_codes(self) -> None:
        """0, 1 for what cannot be done, 2 for what cannot be meant; help is no failure."""
        self.assertEqual(self.cluster.gnt("gnt-node --help", check=False).returncode, 0)
        self.assertEqual(self.cluster.gnt("gnt-node list --help", check=False).returncode, 0)
        self.assertEqual(self.cluster.gnt("gnt-node list node9", check=False).returncode, 1)
        self.assertEqual(self.cluster.gnt("gnt-node list --nonsense", check=False).returncode, 2)
        done = self.cluster.gnt("gnt-node lst", check=False)
        self.assertEqual((done.returncode, "list" in done.stderr), (1, True))

    def test_watcher_pause(self) -> None:
        """The watcher is paused for a time."""
        self.gnt("gnt-cluster watcher pause 10m")
        self.addCleanup(self.gnt, "gnt-cluster watcher continue")
        self.assertIn("paused until", self.gnt("gnt-cluster watcher info"))
        self.gnt("gnt-cluster watcher continue")
        self.assertIn("not paused", self.gnt("gnt-cluster watcher info"))

"""Rows of the seed checklist that only a real master daemon with real nodes can show."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.client import chunks, decode_box, encode_box, joined
from ganeti.cli.errors import MasterError
from ganeti.ops.base import OpCode
from ganeti.ops.registry import load
from tests.integration.cluster import RunningCluster, seconds_of, until
from tests.integration.reactor_probe import Found, ReactorProbe

TRIVIAL = [{"OP_ID": "OP_TEST_DELAY", "duration": 0.0}]
SEED_THREADS = 52
"""Threads of the master daemon that the seed complains about."""
LONGEST_STEP_MS = 10.0
OUTLIER_MS = 25.0
"""One step in a thousand may take this long: collecting garbage, a loaded machine."""
SLEEPER_S = 2.0


def delay(seconds: float, **more: Any) -> list[dict[str, Any]]:
    """A job that waits."""
    return [{"OP_ID": "OP_TEST_DELAY", "duration": seconds, **more}]


class RawClient:
    """A connection on which many requests go out in one write."""

    def __init__(self, cluster: RunningCluster) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(cluster.paths().master_socket)
        self.socket.settimeout(60)
        self._asked = 0
        self._buffer = bytearray()

    def send(self, command: str, *requests: list[Any]) -> None:
        """Send requests of one kind in one write."""
        data = b""
        for args in requests:
            self._asked += 1
            outline = {b"_ask": b"%x" % self._asked, b"_command": command.encode()}
            data += encode_box({**outline, **chunks(b"args", args)})
        self.socket.sendall(data)

    def answer_to(self, command: str, args: str) -> str:
        """The answer, or the error, to one request whose arguments are this text."""
        outline = {b"_ask": b"1", b"_command": command.encode()}
        data = args.encode()
        parts = [data[at : at + 65535] for at in range(0, len(data), 65535)]
        more = {b"args.%d" % number: part for number, part in enumerate(parts[1:], 1)}
        self.socket.sendall(encode_box({**outline, b"args": parts[0], **more}))
        while True:
            while (decoded := decode_box(self._buffer)) is not None:
                box, size = decoded
                del self._buffer[:size]
                if b"_answer" in box:
                    return joined(box, b"result").decode()
                if b"_error" in box:
                    return box[b"_error_description"].decode()
            data = self.socket.recv(1 << 20)
            assert data, "masterd hung up"
            self._buffer += data

    def answers(self, count: int) -> list[Any]:
        """The next answers."""
        found: list[Any] = []
        while len(found) < count:
            data = self.socket.recv(1 << 20)
            assert data, "masterd hung up"
            self._buffer += data
            while (decoded := decode_box(self._buffer)) is not None:
                box, size = decoded
                del self._buffer[:size]
                assert b"_answer" in box, box
                found.append(json.loads(joined(box, b"result")))
        return found


class MasterCase(SynchronousTestCase):
    """Three nodes; the others are candidates."""

    cluster: RunningCluster

    @classmethod
    def setUpClass(cls) -> None:
        """Begin."""
        cls.cluster = RunningCluster(nodes=3)
        cls.addClassCleanup(cls.cluster.destroy)

    def raw(self) -> RawClient:
        """A connection."""
        client = RawClient(self.cluster)
        self.addCleanup(client.socket.close)
        return client

    def threads(self) -> int:
        """Threads of the master daemon."""
        return len(os.listdir(f"/proc/{self.cluster.pid('ganeti-masterd')}/task"))


class ThreadTests(MasterCase):
    """Threads of the master daemon."""

    def test_idle_and_busy(self) -> None:
        """Idle it has a few threads instead of 52; running jobs and waiting clients need no others.

        S2.2-001, S2.2-008.
        """
        idle = self.threads()
        self.assertLessEqual(idle, 8)
        client = self.cluster.client()
        jobs = [client.submit(delay(600)) for _ in range(20)]
        until(lambda: {self.cluster.jobs("status")[job][0] for job in jobs} == {"running"}, "they do not run")
        before = self.threads()
        waiting = self.raw()
        wait = [jobs[0], ["status"], ["running"], None, 60.0]
        waiting.send("WaitForJobChange", *[wait] * 500)
        self.assertLess(seconds_of(lambda: client.call("Version", [])), 1)
        self.assertEqual(self.threads(), before)
        self.assertLessEqual(before, SEED_THREADS // 2)


class ReactorTests(MasterCase):
    """Steps of the reactors while much is going on."""

    def probed(self, daemon: str, node: int) -> ReactorProbe:
        """A daemon that was started anew with a probe in it."""
        probe = ReactorProbe(Path(tempfile.mkdtemp(dir=self.cluster.directory)))
        self.cluster.stop(daemon, node)
        done = self.cluster.start_daemon(daemon, node, wrapped=probe.wrapper())
        self.assertEqual(done.returncode, 0, done.stderr)
        return probe

    def assert_small_steps(self, found: Found, what: str) -> None:
        """No blocking calls, and steps of 10 ms but for one in a thousand."""
        self.assertEqual(found.blocking, [], f"{what}: this can block the reactor")
        self.assertGreater(found.ticks, 50)
        allowed = 1 + found.ticks // 1000
        complaint = f"{what}: {found.steps_ms[:10]}; slow: {found.slow[:5]}"
        self.assertEqual([step for step in found.steps_ms[allowed:] if step > LONGEST_STEP_MS], [], complaint)
        self.assertLessEqual(max(found.steps_ms, default=0.0), OUTLIER_MS, complaint)

    def test_small_steps(self) -> None:
        """While 1,000 jobs come and run no step of masterd or noded takes long, or can wait for a disk.

        Neither when 500 requests come in one write, nor when 1,000 jobs come in one request, nor when
        all of them are listed with everything known of them. S2.2-004, S2.2-009, S2.2-010.
        """
        master, node = self.probed("ganeti-masterd", 1), self.probed("ganeti-noded", 2)
        self.cluster.client().call("Version", [])
        self.cluster.wait_for_jobs(self.cluster.client().submit(TRIVIAL))
        for probe in (master, node):
            probe.begin()
        client = self.raw()
        client.send("SubmitJob", *[[TRIVIAL]] * 500)
        client.answers(500)
        client.send("SubmitManyJobs", [[TRIVIAL] * 1000])
        self.assertEqual(len(client.answers(1)[0]), 1000)
        self.cluster.wait_for_jobs()
        self.assert_small_steps(master.read(), "masterd, jobs")
        self.assert_small_steps(node.read(), "noded, jobs")

        master.begin()
        client.send("Query", ["job", ["id", "status", "ops", "opresult", "oplog", "summary"], None])
        self.assertGreater(len(client.answers(1)[0]["data"]), 1500)
        client.send("AutoArchiveJobs", [-1, 60.0])
        self.assertGreater(client.answers(1)[0][0], 1500)
        found = master.read()
        self.assertEqual(found.blocking, [])
        self.assertLessEqual(max(found.steps_ms, default=0.0), OUTLIER_MS, str(found.slow[:5]))


class LoadTests(MasterCase):
    """The workload with which the seed's master stopped answering."""

    def test_many_installations(self) -> None:
        """While 16 instances are installed, lists take less than a second and jobs are taken (S2.2-006)."""
        for node in (1, 2, 3):
            self.write_sleeper(node)
        client = self.cluster.client()
        jobs = [client.submit([self.creation(number)]) for number in range(16)]
        until(lambda: len(self.sleeping()) >= 8, "they are not installed side by side")
        for _ in range(5):
            self.assertLess(seconds_of(lambda: self.cluster.gnt("gnt-job list")), 1)
            self.assertLess(seconds_of(lambda: client.submit(TRIVIAL)), 1)
        self.assertEqual(set(self.cluster.wait_for_jobs(*jobs).values()), {"success"})

    def write_sleeper(self, node: int) -> None:
        """An OS definition whose installation takes a while."""
        directory = Path(self.cluster.paths(node).root, "srv/ganeti/os/sleeper")
        directory.mkdir(parents=True)
        for script in ("create", "import", "export", "rename", "verify"):
            path = directory / script
            path.write_text(f"#!/bin/sh\nexec sleep {SLEEPER_S}\n" if script == "create" else "#!/bin/sh\n")
            path.chmod(0o755)
        (directory / "ganeti_api_version").write_text("20\n")
        (directory / "parameters.list").write_text("")

    def creation(self, number: int) -> dict[str, Any]:
        """An instance with that OS."""
        return {
            "OP_ID": "OP_INSTANCE_CREATE",
            "mode": "create",
            "instance_name": f"load{number}.virtual",
            "disk_template": "file",
            "os_type": "sleeper",
            "disks": [{"size": 10}],
            "nics": [],
            "beparams": {"minmem": 32, "maxmem": 32},
            "pnode": f"node{number % 3 + 1}.virtual",
            "start": False,
        }

    def sleeping(self) -> list[int]:
        """Scripts that are running."""
        return [pid for node in (1, 2, 3) for pid in self.cluster.programs("sleep", node)]


class PriorityTests(MasterCase):
    """Priorities in the files and on a single worker."""

    def test_default_in_the_file(self) -> None:
        """5 is refused with the values there are; without a priority the file has 0 (S2.3-111)."""
        client = self.cluster.client()
        error = self.assertRaises(MasterError, client.submit, [{**TRIVIAL[0], "priority": 5}])
        self.assertIn("priority", str(error))
        job = client.submit(TRIVIAL)
        self.cluster.wait_for_jobs(job)
        path = Path(self.cluster.paths().queue_dir, f"job-{job}")
        until(path.exists, "there is no document")
        until(lambda: json.loads(path.read_bytes())["ops"][0]["status"] == "success", "it is not written")
        self.assertEqual(json.loads(path.read_bytes())["ops"][0]["priority"], 0)

    def test_one_worker(self) -> None:
        """A job of three opcodes lets an urgent one run in between, also where one job runs (S2.3-112)."""
        self.cluster.gnt("gnt-cluster modify --max-running-jobs 1")
        self.addCleanup(self.cluster.gnt, "gnt-cluster modify --max-running-jobs 20")
        client = self.cluster.client()
        long = client.submit(delay(1.0) + delay(0.1) + delay(0.1))
        until(lambda: self.cluster.jobs("status")[long] == ("running",), "it does not run")
        normal = client.submit(delay(0))
        urgent = client.submit(delay(0, priority=-10))
        self.cluster.wait_for_jobs(long, normal, urgent)
        found = self.cluster.jobs("opexec")
        (first, second, _), (other,), (fast,) = (found[job][0] for job in (long, normal, urgent))
        self.assertEqual(sorted([first, second, other, fast]), [first, fast, other, second])


class HungCandidateTests(MasterCase):
    """A master candidate that hangs."""

    def test_submission_returns(self) -> None:
        """The first submission waits some seconds for it, the second one does not (S2.2-019)."""
        client = self.cluster.client()
        with self.cluster.stopped("ganeti-noded", 2):
            self.assertLess(seconds_of(lambda: client.submit(TRIVIAL)), 10)
            for _ in range(10):
                self.assertLess(seconds_of(lambda: client.submit(TRIVIAL)), 1)
            self.assertEqual(set(self.cluster.wait_for_jobs().values()), {"success"})
        queue = Path(self.cluster.paths(2).queue_dir, "journal")

        def size() -> int:
            # It is away for a moment while the candidate takes a new copy of everything.
            try:
                return queue.stat().st_size
            except FileNotFoundError:
                return -1

        before = size()

        def caught_up() -> bool:
            client.submit(TRIVIAL)
            time.sleep(0.2)
            return size() not in (before, -1)

        until(caught_up, "the candidate gets no copies again")


class OddValuesTests(MasterCase):
    """Requests and opcodes with values of every kind in every place."""

    ODD = ("null", "[]", "{}", "-1", "1e308", str(10**30), "true", '"x"', r'"a\nb"', r'"\u0000"', "[[null]]")
    DEEP = "[" * 20_000 + "]" * 20_000
    HARMFUL = ("OP_CLUSTER_DESTROY", "OP_NODE_POWERCYCLE", "OP_TEST_DELAY")

    def test_requests(self) -> None:
        """Each is answered, or refused as what it is; none of them is a mistake in the program."""
        plain = {
            "SubmitJob": ["null"],
            "SubmitManyJobs": ["null"],
            "Query": ['"job"', '["id"]', "null"],
            "QueryFields": ['"node"', "null"],
            "QueryConfigValues": ["[]"],
            "QueryTags": ['"cluster"', "null"],
            "WaitForJobChange": ["1", '["status"]', "null", "null", "0"],
            "WatchJob": ["1", '["status"]', "null"],
            "UnwatchJob": ["1"],
            "CancelJob": ["1"],
            "ArchiveJob": ["99"],
            "AutoArchiveJobs": ["1e9", "0"],
            "ChangeJobPriority": ["1", "0"],
        }
        client = self.raw()
        for command, args in plain.items():
            for place in range(len(args)):
                for odd in (*self.ODD, self.DEEP):
                    text = ",".join([*args[:place], odd, *args[place + 1 :]])
                    answer = client.answer_to(command, f"[{text}]")
                    self.assertNotIn("ProgrammerError", answer, f"{command} {text[:200]}")

    def test_opcodes(self) -> None:
        """Jobs of them are refused or end; no one ends because of a mistake; lists show them."""
        jobs = [
            opcode
            for operation in load()
            if operation.opcode.op_id() not in self.HARMFUL
            for opcode in self.variants(operation.opcode)
        ]
        self.assertGreater(len(jobs), 3000)
        client = self.cluster.client()
        for start in range(0, len(jobs), 1000):
            results = client.call("SubmitManyJobs", [[[job] for job in jobs[start : start + 1000]]])
            taken = [job for done, job in results if done]
            refused = [text for done, text in results if not done]
            self.assertEqual([text for text in refused if "internal error" in text], [])
            if taken:
                self.cluster.wait_for_jobs(*taken)
            found = self.cluster.jobs("opresult", "summary", "ops", client=client)
            wrong = [found[job] for job in taken if "internal error" in str(found[job][0])]
            self.assertEqual(wrong[:3], [])
            client.call("AutoArchiveJobs", [-1, 60.0])

    def variants(self, opcode: type[OpCode]) -> list[dict[str, Any]]:
        """An opcode with an odd value in each of its places, as a dry run."""
        fields = {field.encode_name: field for field in msgspec.structs.fields(opcode)}
        required = {name: "x" for name, field in fields.items() if field.required}
        plain = {"OP_ID": opcode.op_id(), **required, "dry_run": True}
        places = set(fields) - {"dry_run"}
        return [{**plain, name: json.loads(odd)} for name in sorted(places) for odd in self.ODD]


class PowercycleTests(SynchronousTestCase):
    """Fire and forget."""

    def test_returns_at_once(self) -> None:
        """A power cycle is answered before it happens, and happens all the same (S2.2-029)."""
        mark = os.path.join(tempfile.mkdtemp(), "cycled")
        environment = {"GANETI_POWERCYCLE_COMMAND": f"touch {mark}"}
        cluster = RunningCluster(nodes=2, environment=environment)
        self.addCleanup(cluster.destroy)
        self.assertLess(seconds_of(lambda: cluster.gnt("gnt-node powercycle --yes --force node2.virtual")), 4)
        self.assertFalse(os.path.exists(mark))
        until(lambda: os.path.exists(mark), "it never happens", timeout_s=20)

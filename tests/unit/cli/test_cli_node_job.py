"""gnt-node and gnt-job."""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.commands_node import describe
from ganeti.cli.errors import MasterError
from ganeti.cli.info import text_of
from ganeti.cli.job_info import FIELDS
from tests.unit.cli.cli_fakes import FakeMaster, FakeWorld, table

NODE: dict[str, Any] = {
    "name": "n1.ex.org",
    "pip": "192.0.2.11",
    "sip": "198.51.100.11",
    "master_candidate": True,
    "drained": False,
    "offline": False,
    "powered": None,
    "master_capable": True,
    "vm_capable": True,
    "pinst_list": ["db1.ex.org"],
    "sinst_list": [],
    "ndparams": {"cpu_speed": 1.0, "oob_program": "", "ssh_port": 2222},
    "custom_ndparams": {"ssh_port": 2222},
}


class NodeListTests(SynchronousTestCase):
    """gnt-node list and info."""

    def test_group(self) -> None:
        """`-g` restricts lists and infos to a group (S2.3-006)."""
        group: list[Any] = ["|", ["==", "group", "g1"], ["==", "group.uuid", "g1"]]
        for command in ("list", "info"):
            master = FakeMaster({"Query": {"fields": [], "data": []}})
            FakeWorld(master).run(f"gnt-node {command} -g g1 n1")
            self.assertEqual(master.calls[0][1][2], ["&", ["==", "name", "n1"], group])

    def test_offline(self) -> None:
        """Live values of an offline node are stars."""
        answer = table({"name": ("Node", "text"), "mfree": ("MFree", "unit")}, ["n2", [4, None]])
        world = FakeWorld(FakeMaster({"Query": answer}))
        world.run("gnt-node list")
        self.assertEqual(world.out_text, "Node MFree\nn2       *\n")

    def test_info(self) -> None:
        """The established keys; inherited parameters are shown as default."""
        answer = {"fields": [], "data": [[[0, NODE[name]] for name in NODE]]}
        world = FakeWorld(FakeMaster({"Query": answer}))
        self.assertEqual(world.run("gnt-node info n1"), 0)
        self.assertEqual(
            world.out_text,
            "- Node name: n1.ex.org\n  primary ip: 192.0.2.11\n  secondary ip: 198.51.100.11\n"
            "  master candidate: True\n  drained: False\n  offline: False\n  master_capable: True\n"
            "  vm_capable: True\n  primary for instances: \n    - db1.ex.org\n  secondary for instances: \n"
            "  node parameters: \n    cpu_speed: default (1.0)\n    oob_program: default ()\n"
            "    ssh_port: 2222\n",
        )

    def test_info_json(self) -> None:
        """The same as JSON."""
        answer = {"fields": [], "data": [[[0, NODE[name]] for name in NODE]]}
        world = FakeWorld(FakeMaster({"Query": answer}))
        world.run("gnt-node info -o json")
        self.assertEqual(json.loads(world.out_text), [NODE])

    def test_info_of_others(self) -> None:
        """Power state only if known, instances only where there may be some."""
        text = text_of(describe({**NODE, "powered": True, "vm_capable": False}))
        self.assertIn("powered: True\n", text)
        self.assertNotIn("instances", text)


class NodeAddTests(SynchronousTestCase):
    """gnt-node add."""

    def test_set_up_comes_first(self) -> None:
        """Credentials are issued for a new UUID, then the operation carries it (S2.3-153)."""
        master = FakeMaster({"QueryClusterInfo": {"primary_ip_version": 4}})
        world = FakeWorld(master)
        self.assertEqual(world.run("gnt-node add -s 10.0.0.2 --no-ssh-key-check n2"), 0, world.err_text)
        ((argv, stdin),) = world.programs
        self.assertEqual(argv, [sys.executable, "-m", "ganeti.daemons.node_setup", "n2"])
        request = json.loads(stdin or "")
        (opcode,) = master.opcodes
        self.assertEqual(opcode["node_uuid"], request["node_uuid"])
        self.assertEqual(
            {key: value for key, value in request.items() if key != "node_uuid"},
            {
                "primary_ip": None,
                "secondary_ip": "10.0.0.2",
                "family": 4,
                "readd": False,
                "force_join": False,
                "ssh_key_check": False,
                "verbose": False,
            },
        )

    def test_set_up_fails(self) -> None:
        """Without credentials nothing is added, and it is said what can be done."""
        master = FakeMaster({"QueryClusterInfo": {"primary_ip_version": 4}})
        world = FakeWorld(master, codes=[3])
        self.assertEqual((world.run("gnt-node add n2"), master.opcodes), (1, []))
        self.assertIn("--no-node-setup", world.err_text)

    def test_without_set_up(self) -> None:
        """--no-node-setup only submits."""
        master = FakeMaster()
        world = FakeWorld(master)
        self.assertEqual((world.run("gnt-node add --no-node-setup n2"), world.programs), (0, []))

    def test_readd(self) -> None:
        """A node that comes back keeps its UUID."""

        def query(what: str, fields: list[str], wanted: Any) -> Any:
            return master._Query(what, fields, wanted) if what == "job" else {"data": [[[0, "u2"]]]}

        master = FakeMaster({"Query": query})
        self.assertEqual(FakeWorld(master).run("gnt-node add --readd --no-node-setup n2"), 0)
        self.assertEqual(master.opcodes[0]["node_uuid"], "u2")


class NodeChangeTests(SynchronousTestCase):
    """gnt-node modify and powercycle."""

    def test_modify(self) -> None:
        """What changed is listed."""
        master = FakeMaster(results={"OP_NODE_SET_PARAMS": [["offline", "True"]]})
        world = FakeWorld(master)
        self.assertEqual(world.run("gnt-node modify --offline=yes n2"), 0)
        self.assertEqual(world.out_text, "Modified node n2\n - offline -> True\n")
        self.assertIs(master.opcodes[0]["offline"], True)

    def test_nothing(self) -> None:
        """Some parameters alone are no change."""
        for words in ("", "--auto-promote", "--node-powered=yes"):
            world = FakeWorld(FakeMaster())
            self.assertEqual(world.run(f"gnt-node modify {words} n2"), 1)
            self.assertEqual(world.err_text, "Please give at least one of the parameters.\n")

    def test_back_online(self) -> None:
        """Marking a node online hints at adding it again."""
        world = FakeWorld(FakeMaster(), replies=["n"])
        self.assertEqual(world.run("gnt-node modify -O no n2"), 1)
        self.assertIn("gnt-node add --readd n2", world.questions[0])

    def test_powercycle(self) -> None:
        """-f does not leave the question out, --yes does; no is exit code 2."""
        world = FakeWorld(FakeMaster(), replies=["n"])
        self.assertEqual((world.run("gnt-node powercycle -f n2"), len(world.questions)), (2, 1))
        world = FakeWorld(FakeMaster(results={"OP_NODE_POWERCYCLE": "rebooting"}))
        self.assertEqual((world.run("gnt-node powercycle --yes n2"), world.out_text), (0, "rebooting\n"))


JOBS = {"id": ("ID", "number"), "status": ("Status", "text"), "summary": ("Summary", "other")}


class JobListTests(SynchronousTestCase):
    """gnt-job list."""

    def test_table(self) -> None:
        """Summaries are joined."""
        answer = table(
            JOBS, [17, "success", ["A(x)"]], [18, "waiting", ["B", "C(y)"]], [99, [3, None], [3, None]]
        )
        world = FakeWorld(FakeMaster({"Query": answer}))
        self.assertEqual(world.run("gnt-job list 17 18 99"), 0)
        self.assertEqual(
            world.out_text, "ID Status  Summary\n17 success A(x)\n18 waiting B,C(y)\n99 -       -\n"
        )

    def test_states(self) -> None:
        """Options restrict by status, together with IDs."""
        master = FakeMaster({"Query": table(JOBS)})
        world = FakeWorld(master)
        world.run("gnt-job list --running 17")
        self.assertEqual(master.calls[0][1][2], ["&", ["==", "id", 17], ["==", "status", "running"]])
        world.run("gnt-job list --error")
        self.assertEqual(master.calls[1][1][2], ["==", "status", "error"])

    def test_archived(self) -> None:
        """--archived appends a column, which brings the archived ones."""
        master = FakeMaster({"Query": table(JOBS)})
        world = FakeWorld(master)
        world.run("gnt-job list --archived")
        world.run("gnt-job list --archived -o id")
        self.assertEqual(master.calls[0][1][1], ["id", "status", "summary", "archived"])
        self.assertEqual(master.calls[1][1][1], ["id", "archived"])

    def test_times(self) -> None:
        """Times of opcodes are lists of texts, `?` for those to come."""
        answer = table({"opstart": ("OpCode_start", "other")}, [[[1767607200, 5], None]])
        world = FakeWorld(FakeMaster({"Query": answer}))
        world.run("gnt-job list -o opstart --no-headers")
        self.assertRegex(world.out_text, r"^\['2026-\d\d-\d\d \d\d:\d\d:00\.000005', '\?'\]\n$")

    def test_not_a_number(self) -> None:
        """Job IDs are numbers."""
        world = FakeWorld(FakeMaster())
        self.assertEqual(world.run("gnt-job list web"), 1)
        self.assertIn("job IDs are numbers", world.err_text)


ROW: dict[str, Any] = {
    "id": 17,
    "status": "success",
    "ops": [{"OP_ID": "OP_TEST_DELAY", "depends": None, "on_nodes": [], "osparams_secret": {"a": "b"}}],
    "opresult": [None],
    "opstatus": ["success"],
    "oplog": [[[1, [1767607201, 0], "message", "some text"]]],
    "opstart": [[1767607200, 120331]],
    "opexec": [None],
    "opend": [[1767607203, 501002]],
    "received_ts": [1767607200, 120],
    "start_ts": [1767607200, 120331],
    "end_ts": [1767607203, 501002],
}


class JobInfoTests(SynchronousTestCase):
    """gnt-job info."""

    def text(self, **changes: Any) -> str:
        """What is printed of jobs 17 and 99, minus the date."""
        row = {**ROW, **changes}
        answer = {"fields": [], "data": [[[0, row[name]] for name in FIELDS]]}
        world = FakeWorld(FakeMaster({"Query": answer}))
        self.assertEqual(world.run("gnt-job info 17 99"), 0)
        import re

        return re.sub(r"2026-\d\d-\d\d \d\d:", "", world.out_text)

    def test_text(self) -> None:
        """The established keys and alignment; secrets are not shown; an unknown job is named."""
        self.assertEqual(
            self.text(),
            "- Job ID: 17\n  Status: success\n"
            "  Received:         00:00.000120\n"
            "  Processing start: 00:00.120331 (delta 0.120211s)\n"
            "  Processing end:   00:03.501002 (delta 3.380671s)\n"
            "  Total processing time: 3.500882 seconds\n"
            "  Opcodes: \n    - Opcode: OP_TEST_DELAY\n      Status: success\n"
            "      Processing start: 00:00.120331\n      Execution start:  N/A\n"
            "      Processing end:   00:03.501002\n      Input fields: \n        OP_ID: OP_TEST_DELAY\n"
            "        depends: None\n        on_nodes: \n        osparams_secret: <redacted>\n"
            "      Result: None\n      Execution log: \n        - Time: 00:01.000000\n"
            "          Content: [1, message, some text]\n"
            "- Job ID 99 not found\n",
        )

    def test_missing_times(self) -> None:
        """What did not happen yet."""
        text = self.text(start_ts=None, end_ts=None)
        self.assertIn("  Processing start: unknown (None)\n  Processing end:   unknown (None)\n", text)
        self.assertIn("  Total processing time: N/A\n", text)


class JobChangeTests(SynchronousTestCase):
    """cancel, change-priority, archive, autoarchive."""

    def test_cancel(self) -> None:
        """One message for each job; exit code 1 if one was refused."""
        answers = {17: [True, "Job 17 canceled"], 18: [False, "Job 18 is no longer waiting in the queue"]}
        world = FakeWorld(FakeMaster({"CancelJob": answers.get}))
        self.assertEqual(world.run("gnt-job cancel 17 18"), 1)
        self.assertEqual(world.out_text, "Job 17 canceled\nJob 18 is no longer waiting in the queue\n")

    def test_by_state(self) -> None:
        """With a status the jobs are listed and asked about; no is exit code 13."""
        master = FakeMaster({"Query": table(JOBS, [17, "queued", ["A"]]), "CancelJob": [True, "done"]})
        world = FakeWorld(master, replies=["n"])
        self.assertEqual(world.run("gnt-job cancel --queued"), 13)
        self.assertEqual(world.questions, ["Cancel job(s) listed above?"])
        self.assertEqual(world.out_text, "ID Status Summary\n17 queued A\n")
        world = FakeWorld(master)
        self.assertEqual((world.run("gnt-job cancel --queued -f"), world.out_text), (0, "done\n"))

    def test_ids_or_state(self) -> None:
        """Exactly one of both."""
        for words in ("", "--pending 17"):
            self.assertEqual(FakeWorld(FakeMaster()).run(f"gnt-job cancel {words}"), 1)

    def test_priority(self) -> None:
        """The priority is a word; without it nothing is asked."""
        master = FakeMaster({"ChangeJobPriority": [True, "changed"]})
        world = FakeWorld(master)
        self.assertEqual(world.run("gnt-job change-priority --priority low 17"), 0)
        self.assertEqual(master.calls, [("ChangeJobPriority", [17, 10])])
        self.assertEqual(world.run("gnt-job change-priority 17"), 1)

    def test_archive(self) -> None:
        """Silent, unless it was refused."""
        world = FakeWorld(FakeMaster({"ArchiveJob": lambda job: job == 17}))
        self.assertEqual((world.run("gnt-job archive 17 18"), world.out_text), (1, ""))
        self.assertEqual(world.err_text, "Failed to archive job with ID '18'\n")

    def test_auto_archive(self) -> None:
        """The age as a time, or all (S2.2-033)."""
        for text, age in (("2h", 7200), ("all", -1)):
            master = FakeMaster({"AutoArchiveJobs": [3, 1]})
            world = FakeWorld(master)
            self.assertEqual(world.run(f"gnt-job autoarchive {text}"), 0)
            self.assertEqual(world.out_text, "Archived 3 jobs, 1 unchecked left\n")
            self.assertEqual(master.calls[0][1][0], age)
        self.assertEqual(FakeWorld(FakeMaster()).run("gnt-job autoarchive soon"), 1)


class JobWaitTests(SynchronousTestCase):
    """wait and watch."""

    def master(self, result: Any = None) -> FakeMaster:
        """A job 17 with a log entry."""
        master = FakeMaster(results={"OP_X": result})
        master.jobs[17] = [{"OP_ID": "OP_X"}]
        master.log = [[1, [1767607200, 0], "message", "hello"]]
        return master

    def test_wait(self) -> None:
        """No output."""
        world = FakeWorld(self.master())
        self.assertEqual((world.run("gnt-job wait 17"), world.out_text), (0, ""))

    def test_watch(self) -> None:
        """A title, a line of dashes of its length, and the log."""
        world = FakeWorld(self.master())
        self.assertEqual(world.run("gnt-job watch 17"), 0)
        title, dashes, entry = world.out_text.splitlines()
        self.assertEqual((title, len(dashes)), ("Output from job 17 follows", len(title)))
        self.assertTrue(entry.endswith(" hello"))

    def test_failure(self) -> None:
        """A failed job is told on stderr, exit code 1."""
        world = FakeWorld(self.master(MasterError("OpExecError", ["broken"])))
        self.assertEqual(world.run("gnt-job wait 17"), 1)
        self.assertEqual(world.err_text, "Job 17 failed: Failure: command execution error:\nbroken\n")

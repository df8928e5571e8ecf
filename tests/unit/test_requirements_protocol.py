"""Rows of the seed checklist about protocols: older clients, and functions that know no transport."""

from __future__ import annotations

from typing import Any

import msgspec

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from ganeti.daemons.logs import classic_text
from ganeti.errors import PrereqError, ResolverError
from ganeti.io.names import full_name, resolve
from ganeti.master import client_requests as requests
from ganeti.master.job_opcodes import summary_of
from ganeti.model.job import QueuedOp
from ganeti.model.paths import Paths
from ganeti.node.backend.execution import answer_to
from ganeti.node.backend.registry import functions, load_all
from ganeti.ops.base import OpCode
from ganeti.ops.registry import load
from ganeti.testing.jobs import JobWorld
from ganeti.testing.node_world import WithNode

ESTABLISHED: dict[str, tuple[type[Any], list[Any]]] = {
    "SubmitJob": (requests.SubmitArgs, [[]]),
    "SubmitManyJobs": (requests.SubmitManyArgs, [[]]),
    "Query": (requests.QueryArgs, ["node", ["name"], None]),
    "QueryFields": (requests.QueryFieldsArgs, ["node", None]),
    "QueryConfigValues": (requests.NamesArgs, [["cluster_name"]]),
    "QueryTags": (requests.TagsArgs, ["cluster", None]),
    "WaitForJobChange": (requests.WaitArgs, [1, ["status"], None, None, 60]),
    "CancelJob": (requests.JobArgs, [1]),
    "ArchiveJob": (requests.JobArgs, [1]),
    "AutoArchiveJobs": (requests.AutoArchiveArgs, [-1, 60]),
    "ChangeJobPriority": (requests.PriorityArgs, [1, 10]),
    "SetDrainFlag": (requests.FlagArgs, [True]),
    "SetWatcherPause": (requests.PauseArgs, [None]),
}
"""Requests with the arguments that clients have always sent."""

NEW_COMMON = ("priority", "depends", "reason", "debug_level", "dry_run", "comment")
"""Keys that opcodes did not have from the beginning."""


class OlderClientsTests(SynchronousTestCase):
    """Clients that do not know what is new."""

    def test_requests(self) -> None:
        """The established arguments are enough, and what newer clients add is passed over (SX-001)."""
        for command, (wanted, args) in ESTABLISHED.items():
            with self.subTest(command=command):
                plain = requests.read(command, args, wanted)
                fields = len(msgspec.structs.fields(wanted))
                padded = [*args, *(getattr(plain, name) for name in wanted.__struct_fields__[len(args) :])]
                self.assertEqual(len(padded), fields)
                self.assertEqual(requests.read(command, [*padded, {"from": "the future"}], wanted), plain)
                self.assertRaises(PrereqError, requests.read, command, {"no": "list"}, wanted)

    def test_opcodes(self) -> None:
        """No opcode asks for one of the keys that came later (SX-001)."""
        for operation in load():
            fields = {field.name: field for field in msgspec.structs.fields(operation.opcode)}
            for name in NEW_COMMON:
                with self.subTest(opcode=operation.opcode.op_id(), name=name):
                    self.assertFalse(fields[name].required)

    def test_job_without_new_keys(self) -> None:
        """A job as the oldest clients write it runs with priority 0 (SX-001, S2.3-111)."""
        world = JobWorld()
        job = world.result(world.queue.submit([{"OP_ID": "OP_TEST_PROBE"}]))
        self.assertEqual(world.status(job).value, "success")
        document = msgspec.json.decode(world.store.documents[job])
        self.assertEqual((document["ops"][0]["priority"], document["ops"][0]["input"]["priority"]), (0, 0))


class FunctionLayerTests(WithNode, SynchronousTestCase):
    """Functions take JSON and give JSON; what carries it is none of their business."""

    def setUp(self) -> None:
        """All functions."""
        super().setUp()
        load_all()

    def answer(self, name: str, args: Any) -> Any:
        """The answer to a call of which only the JSON is known."""
        request = msgspec.json.encode({"name": name, "args": args})
        return msgspec.json.decode(answer_to(request, self.node)[0])

    def test_json_in_json_out(self) -> None:
        """A call is a name and JSON arguments, its answer `[true, value]` (S2.2-021, S2.2-034)."""
        self.write(self.host.paths.ssconf("master_node"), "node1.example.com\n")
        answer = self.answer("master_node_name", {"fn": "master_node_name"})
        self.assertEqual(answer, [True, "node1.example.com"])

    def test_errors(self) -> None:
        """An error is `[false, [class, arguments]]`, also of what is no function at all (S2.2-021)."""
        for name, args in (("no_such", {}), ("master_node_name", {"fn": "other"}), ("bridges_exist", [7])):
            with self.subTest(name=name):
                succeeded, (kind, texts) = self.answer(name, args)
                self.assertFalse(succeeded)
                self.assertIn("Error", kind)
                self.assertTrue(texts[0])

    def test_all_are_json(self) -> None:
        """Arguments and result of every function can be written as JSON (S2.2-021)."""
        self.assertGreater(len(functions()), 40)
        for name, registered in functions().items():
            with self.subTest(name=name):
                self.assertIsInstance(msgspec.json.schema(registered.call), dict)
                self.assertIsInstance(msgspec.json.schema(registered.call.result_type()), dict)


class OddValuesTests(SynchronousTestCase):
    """Values that nobody means, but somebody sends."""

    def test_odd_summary(self) -> None:
        """A job whose opcode cannot even be summed up does not hide the others from lists."""

        class Odd(OpCode, frozen=True, kw_only=True, tag="OP_TEST_ODD"):
            number: float

            def summary(self) -> str:
                return str(int(self.number))

        queued = QueuedOp(input=msgspec.Raw(b'{"OP_ID":"OP_TEST_ODD"}'))
        self.assertEqual(summary_of(Odd(number=float("inf")), queued), "TEST_ODD")
        self.assertEqual(summary_of(Odd(number=2.0), queued), "2")

    def test_endless_delay(self) -> None:
        """A delay without end is refused at submission."""
        for duration in (1e308, 4e9):
            error = self.assertRaises(
                PrereqError, load().decode, {"OP_ID": "OP_TEST_DELAY", "duration": duration}
            )
            self.assertIn("duration", str(error))

    def test_names_that_cannot_be_resolved(self) -> None:
        """A name that no resolver takes does not resolve, and that is all."""
        paths = Paths(self.mktemp())
        for name in ("x" * 100 + ".example.com", "a..b", "\0", "."):
            with self.subTest(name=name):
                self.assertRaises(ResolverError, resolve, paths, name, family=4)
                self.assertRaises(ResolverError, full_name, paths, name, family=4)

    def test_log_lines(self) -> None:
        """What users write into names cannot command the terminal of who reads the log."""
        event = {"log_format": "no {name}", "name": "\x1b[2J\0x\ny", "log_time": 0.0, "log_namespace": "n"}
        text = classic_text({**event, "log_level": LogLevel.info})
        assert text is not None
        self.assertIn("no \\x1b[2J\\x00x\n\ty\n", text)

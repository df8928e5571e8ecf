"""A whole call: help, mistakes, exit codes."""

from __future__ import annotations

import io
import os

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.errors import CommandError, MasterError, explain
from ganeti.cli.info import Pairs, text_of
from ganeti.cli.main import without_secrets
from ganeti.model.paths import Paths
from ganeti.version import RELEASE, VCS_VERSION
from tests.unit.cli.cli_fakes import FakeMaster, FakeWorld, failure, table

EXPLAINED = (
    (
        failure("node n9 does not exist", "unknown_entity"),
        "Failure: prerequisites not met for this operation:\n"
        "error type: unknown_entity, error details:\nnode n9 does not exist\n",
    ),
    (
        MasterError("OpPrereqError", ["no code"]),
        "Failure: prerequisites not met for this operation:\nno code",
    ),
    (MasterError("OpExecError", ["it broke"]), "Failure: command execution error:\nit broke"),
    (
        MasterError("HooksAbort", [[["n1", "00-check", "disk full"], ["n2", "10-x", ""]]]),
        "Failure: hooks execution failed:\n"
        "  node: n1, script: 00-check, output: disk full\n  node: n2, script: 10-x (no output)\n",
    ),
    (MasterError("HooksFailure", ["no nodes"]), "Failure: hooks general failure: no nodes"),
    (MasterError("ResolverError", ["h"]), "Failure: can't resolve hostname 'h'"),
    (MasterError("TagError", ["bad"]), "Failure: invalid tag(s) given:\nbad"),
    (
        MasterError("JobQueueDrainError", ["x"]),
        "Failure: the job queue is marked for drain and doesn't accept new requests\n",
    ),
    (
        MasterError("JobQueueFull", ["x"]),
        "Failure: the job queue is full and doesn't accept new job submissions until old jobs are archived\n",
    ),
    (MasterError("TypeEnforcementError", ["not an int"]), "Parameter Error: not an int"),
    (MasterError("ParameterError", ["acpy"]), "Failure: unknown/wrong parameter name 'acpy'"),
    (MasterError("JobLost", ["gone"]), "Error checking job status: gone"),
    (MasterError("GenericError", ["Job was canceled"]), "Unhandled Ganeti error: Job was canceled"),
    (MasterError("ConfigurationError", ["torn"]), "Corrupt configuration file: torn\nAborting."),
)


class OverviewTests(SynchronousTestCase):
    """Calls without a command."""

    def test_version(self) -> None:
        """`--version` prints build and release."""
        world = FakeWorld()
        self.assertEqual(world.run("gnt-node --version"), 0)
        self.assertEqual(world.out_text, f"gnt-node (ganeti {VCS_VERSION}) {RELEASE}\n")

    def test_help(self) -> None:
        """`--help` lists the commands on stdout, exit code 0."""
        world = FakeWorld()
        self.assertEqual(world.run("gnt-instance --help"), 0)
        self.assertIn("startup", world.out_text)

    def test_nothing(self) -> None:
        """No command: the list, exit code 1."""
        world = FakeWorld()
        self.assertEqual(world.run("gnt-instance"), 1)
        self.assertIn("startup", world.out_text)

    def test_unknown(self) -> None:
        """An unknown command: the list and the nearest name, exit code 1."""
        world = FakeWorld()
        self.assertEqual(world.run("gnt-instance strtup"), 1)
        self.assertIn("startup", world.out_text)
        self.assertIn("did you mean startup?", world.err_text)

    def test_command_help(self) -> None:
        """`COMMAND --help` describes its options."""
        world = FakeWorld()
        self.assertEqual(world.run("gnt-debug delay --help"), 0)
        self.assertIn("--no-master", world.out_text)


class UsageTests(SynchronousTestCase):
    """Mistakes that never reach masterd."""

    def check(self, line: str, code: int, *texts: str) -> None:
        """A call ends with this code and these texts on stderr."""
        world = FakeWorld(connect=self.fail)
        self.assertEqual(world.run(line), code, world.err_text)
        self.assertEqual(world.out_text, "")
        for text in texts:
            self.assertIn(text, world.err_text)

    def test_unknown_option(self) -> None:
        """Exit code 2 and the nearest option."""
        self.check("gnt-instance list --no-heads", 2, "gnt-instance list: error: ", "--no-headers")
        self.check("gnt-instance startup --forse x", 2, "did you mean --force?")

    def test_value_missing(self) -> None:
        """An option at the end without its value."""
        self.check("gnt-job list -o", 2, "needs a value")

    def test_choice(self) -> None:
        """A value that is none of the choices."""
        self.check("gnt-instance reboot -t sofd x", 2, "choose from", "soft")

    def test_key_values(self) -> None:
        """A malformed list of keys is a parameter error, exit code 1."""
        self.check("gnt-instance startup -H =x web", 1, "Failure: unknown/wrong parameter name")

    def test_number_of_arguments(self) -> None:
        """The established texts, exit code 1."""
        self.check("gnt-cluster info x", 1, "Error: Command info expects no arguments")
        self.check("gnt-job wait", 1, "Error: Command wait expects 1 argument(s)")
        self.check("gnt-job archive", 1, "Error: Command archive expects at least 1 argument(s)")
        self.check("gnt-cluster watcher a b c", 1, "Error: Command watcher expects only 2 argument(s)")

    def test_filter(self) -> None:
        """A filter that cannot be read, exit code 1 with the place."""
        self.check("gnt-node list -F offline=", 1, "Error while parsing query filter", "^")


class ErrorTests(SynchronousTestCase):
    """Errors of masterd and of jobs."""

    def test_texts(self) -> None:
        """Each class has its established text; what to do next comes after it."""
        for error, wanted in EXPLAINED:
            with self.subTest(name=error.name):
                text, code = explain(error)
                self.assertTrue(text.startswith(wanted) if wanted.endswith("\n") else text == wanted, text)
                self.assertEqual(code, 2 if error.name == "ConfigurationError" else 1)

    def test_what_to_do_next(self) -> None:
        """A drained queue names the command that opens it."""
        self.assertIn("gnt-cluster queue undrain", explain(MasterError("JobQueueDrainError", []))[0])

    def test_where_names_are(self) -> None:
        """An unknown name leads to the list of those there are, where there is one."""
        for noun, tool in (
            ("instance", "instance"),
            ("node", "node"),
            ("node group", "group"),
            ("job", "job"),
        ):
            text, _ = explain(failure(f"{noun} 'x' is not known", "unknown_entity"))
            self.assertTrue(text.endswith(f"\n('gnt-{tool} list' shows what there is)"), text)
        self.assertNotIn("list", explain(failure("hook 'x' is not known", "unknown_entity"))[0])

    def test_query_error(self) -> None:
        """An error of a query ends the command with its text."""
        world = FakeWorld(FakeMaster({"Query": failure("no such node", "unknown_entity")}))
        self.assertEqual(world.run("gnt-node list n9"), 1)
        self.assertIn("error type: unknown_entity, error details:\nno such node\n", world.err_text)

    def test_interrupt(self) -> None:
        """Ctrl-C: jobs may go on."""

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        world = FakeWorld(FakeMaster({"Query": interrupted}))
        self.assertEqual(world.run("gnt-node list"), 1)
        self.assertIn("Aborted. Note that if the operation created any jobs", world.err_text)

    def test_no_connection(self) -> None:
        """Errors of the connection end the command."""

        def refuse(paths: object) -> None:
            raise CommandError("Cannot communicate")

        world = FakeWorld(connect=refuse)
        self.assertEqual((world.run("gnt-node list"), world.err_text), (1, "Cannot communicate\n"))


class EnvironmentTests(SynchronousTestCase):
    """Default arguments."""

    def test_list_arguments(self) -> None:
        """GNT_NODE_LIST goes before the given words, split as a shell does, and only for `list`."""
        answer = table({"name": ("Node", "text")}, ["n1"])
        world = FakeWorld(FakeMaster({"Query": answer}), environ={"GNT_NODE_LIST": "--no-headers -o 'name'"})
        self.assertEqual((world.run("gnt-node list"), world.out_text), (0, "n1\n"))


class LogTests(SynchronousTestCase):
    """The log of commands."""

    def test_logged(self) -> None:
        """Each command leaves a line where it may."""
        root = self.mktemp()
        paths = Paths(root)
        os.makedirs(paths.log_dir)
        world = FakeWorld(FakeMaster({"Query": table({})}), environ={"GANETI_ROOTDIR": root})
        world.run("gnt-node list -o name")
        with open(f"{paths.log_dir}/commands.log") as file:
            self.assertRegex(file.read(), r"^2026-01-05 .* uid=\d+ gnt-node list '-o' 'name'\n$")

    def test_secrets(self) -> None:
        """Values of secret parameters are not written."""
        words = ["--os-parameters-private=a=1", "--os-parameters-secret", "b=2", "-O", "c=3", "web"]
        wanted = ["--os-parameters-private=...", "--os-parameters-secret", "...", "-O", "c=3", "web"]
        self.assertEqual(without_secrets(words), wanted)


class InfoFormatTests(SynchronousTestCase):
    """The YAML-like format."""

    def test_format(self) -> None:
        """Nested mappings, lists, empty containers, tuples."""
        value = [
            Pairs(
                [
                    ("Name", "x"),
                    ("Empty", {}),
                    ("Params", {"b": True, "a": None}),
                    ("Nodes", [Pairs([("primary", "n1"), ("group", "g")]), "plain"]),
                    ("Trail", [["a", 1]]),
                    ("Content", (1, "message", "text")),
                ]
            )
        ]
        self.assertEqual(
            text_of(value),
            "- Name: x\n  Empty: \n  Params: \n    a: None\n    b: True\n  Nodes: \n"
            "    - primary: n1\n      group: g\n    - plain\n  Trail: \n    - - a\n      - 1\n"
            "  Content: [1, message, text]\n",
        )


class BrokenStreamTests(SynchronousTestCase):
    """Streams are flushed in order."""

    def test_stdout_before_stderr(self) -> None:
        """What was printed before an error is flushed first."""
        order: list[str] = []

        class Noted(io.StringIO):
            def flush(self) -> None:
                order.append("flush")

        world = FakeWorld(FakeMaster({"Query": failure("x")}))
        world.out = Noted()
        world.run("gnt-node list")
        self.assertEqual(order, ["flush"])

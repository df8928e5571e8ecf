"""Command lines, read by declarations."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.declarations import COMMON, TOOLS, Argument, Command, Option, load
from ganeti.cli.errors import CommandError, MasterError, UsageError
from ganeti.cli.parser import HelpWanted, build, parse, usage
from ganeti.cli.values import readers

COMMAND = Command(
    "grow",
    "Make something grow.",
    arguments=(Argument("NAME"), Argument("MORE", 0, None)),
    options=(
        Option(("-f", "--force"), "force", "no questions"),
        Option(("-O", "--os-parameters"), "osparams", "for the OS", "key_values", metavar="KEY=VALUE,..."),
        Option(("-n", "--node"), "nodes", "where, 100% sure", "comma_list", metavar="NODE", default="n1"),
        Option(("--mode",), "mode", "how", "text", choices=("fast", "slow")),
        Option(("-s", "--size"), "size", "how much", "size"),
        Option(("--no-wait",), "wait", "do not wait", value=False),
        *COMMON,
    ),
)


def read(*words: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Options and arguments."""
    parsed = parse("gnt-x", COMMAND, words)
    return dict(parsed.options), parsed.arguments


class ParseTests(SynchronousTestCase):
    """What can be written."""

    def test_forms(self) -> None:
        """Short, long, joined, shortened and repeated options."""
        for words, wanted in (
            (["-f", "a"], {"force": True}),
            (["-fs1g", "a"], {"force": True, "size": 1024}),
            (["-s", "1g", "a"], {"size": 1024}),
            (["--size=1g", "a"], {"size": 1024}),
            (["--size", "1g", "a"], {"size": 1024}),
            (["--siz", "1g", "a"], {"size": 1024}),
            (["-n", "a,b", "--node=c", "a"], {"nodes": ["a", "b", "c"]}),
            (["--no-wait", "a"], {"wait": False}),
            (["-dd", "a"], {"debug": 2}),
            (["-s", "1g", "-s", "2g", "a"], {"size": 2048}),
            (["--mode", "fast", "a"], {"mode": "fast"}),
        ):
            with self.subTest(words=words):
                self.assertEqual(read(*words), (wanted, ("a",)))

    def test_values_with_a_dash(self) -> None:
        """`-O -dns` takes the parameter dns away (S2.2-102)."""
        for words in (["-O", "-dns"], ["-O-dns"], ["--os-parameters", "-dns"], ["--os-parameters=-dns"]):
            self.assertEqual(read(*words, "a")[0], {"osparams": {"dns": None}})

    def test_equals_sign(self) -> None:
        """A value may have equals signs."""
        self.assertEqual(read("-Oa=b=c", "a")[0], {"osparams": {"a": "b=c"}})

    def test_options_before_arguments(self) -> None:
        """What comes after the first argument is an argument."""
        self.assertEqual(read("a", "-f"), ({}, ("a", "-f")))
        self.assertEqual(read("-f", "--", "-x"), ({"force": True}, ("-x",)))
        self.assertEqual(read("-5"), ({}, ("-5",)))
        self.assertEqual(read("-"), ({}, ("-",)))

    @given(st.lists(st.text("ab-=", min_size=1, max_size=4), min_size=1, max_size=4))
    def test_after_two_dashes(self, words: list[str]) -> None:
        """After `--` everything is an argument."""
        self.assertEqual(read("--", *words), ({}, tuple(words)))

    def test_help(self) -> None:
        """The help has the usage and what the options mean, with choices and defaults."""
        text = str(self.assertRaises(HelpWanted, read, "--help"))
        self.assertIn("gnt-x grow [options] NAME [MORE...]", text)
        self.assertIn("how (fast, slow)", text)
        self.assertIn("where, 100% sure [n1]", text)


class MistakeTests(SynchronousTestCase):
    """What cannot be read."""

    def test_usage(self) -> None:
        """Exit code 2 and what is wrong."""
        for words, text in (
            (["-x", "a"], "no such option: -x"),
            (["--frce", "a"], "no such option: --frce; did you mean --force?"),
            (["--no", "a"], "could be --no-wait or --node"),
            (["--force=1", "a"], "option --force takes no value"),
            (["-s"], "option -s needs a value"),
            (["--size"], "option --size needs a value"),
            (["--mode", "fest", "a"], "choose from fast, slow); did you mean fast?"),
            (["-s", "huge", "a"], "option --size: "),
        ):
            with self.subTest(words=words):
                error = self.assertRaises(UsageError, read, *words)
                self.assertIn(text, error.message)
                self.assertEqual(error.code, 2)

    def test_parameters(self) -> None:
        """Lists of keys are parameter errors."""
        error = self.assertRaises(MasterError, read, "-O", "=x", "a")
        self.assertEqual(error.name, "ParameterError")

    def test_too_few(self) -> None:
        """The established text."""
        error = self.assertRaises(CommandError, read)
        self.assertEqual(
            (error.message, error.code), ("Error: Command grow expects at least 1 argument(s)", 1)
        )


class EveryCommandTests(SynchronousTestCase):
    """All commands of all tools."""

    def test_parsers(self) -> None:
        """Each command has a parser: no option twice, every reader known; and a description."""
        for tool in TOOLS:
            for command in load(f"gnt-{tool}").values():
                with self.subTest(tool=tool, command=command.name):
                    build(tool, command)
                    takes = {option.takes for option in command.options}
                    self.assertLessEqual(takes - {"nothing"}, set(readers()))
                    self.assertTrue(command.doc)
                    self.assertTrue(usage(tool, command))

    def test_custom_commands(self) -> None:
        """What an operation leaves to its tool, the tool does."""
        for tool in TOOLS:
            for command in load(f"gnt-{tool}").values():
                if command.declared is not None and command.declared.kind == "custom":
                    self.assertIsNotNone(command.run, f"gnt-{tool} {command.name}")

    def test_common_options(self) -> None:
        """--reason and --debug are everywhere."""
        for tool in TOOLS:
            for command in load(f"gnt-{tool}").values():
                flags = {flag for option in command.options for flag in option.flags}
                self.assertLessEqual({"--reason", "--debug", "-d"}, flags)

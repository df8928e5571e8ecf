"""The files made of the declarations of operations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ProgrammerError
from ganeti.model.paths import Paths
from ganeti.ops.base import Arguments, Command, OpCode, Operation, Param
from ganeti.ops.describe import DECLARED, CommandText, describe, describe_command, main, stale
from ganeti.ops.kinds import INSTANCE, IPOLICY, NODES, SECONDS, YES_NO
from ganeti.ops.registry import Registry, load


class Grow(OpCode, frozen=True, kw_only=True, tag="OP_CLI_TEST_GROW"):
    """Make an instance grow.

    More about it.
    """

    summary_field: ClassVar[str | None] = "instance_name"
    instance_name: Annotated[str, Param("which instance", kind=INSTANCE)]
    instance_uuid: Annotated[str | None, Param("the same by UUID")] = None
    force: Annotated[bool, Param("ask nothing", flag="force", short="f")] = False
    wait: Annotated[bool, Param("do not wait", flag="no-wait")] = True
    no_locks: Annotated[bool, Param("no locks", flag="no-locks")] = True
    mode: Annotated[Literal["fast", "slow"] | None, Param("how", flag="mode")] = None
    offline: Annotated[bool | None, Param("state", YES_NO, "offline", "O")] = None
    nodes: Annotated[tuple[str, ...], Param("where", NODES, "node", "n")] = ()
    seconds: Annotated[int, Param("how long", SECONDS, "seconds")] = 5
    names: Annotated[tuple[str, ...], Param("names", flag="names")] = ()
    secret: Annotated[str, Param("not for the command line")] = ""


class GrowOperation(Operation[Grow, None, None]):
    """Grows."""

    commands = (
        Command(
            tool="gnt-x",
            name="grow",
            aliases=("g",),
            positional="instance_name",
            arguments=Arguments.MANY,
            fixed={"mode": "fast"},
            switches={"sleep": {"offline": True, "seconds": 0}},
            hidden=("names",),
        ),
    )


class Bad(OpCode, frozen=True, kw_only=True, tag="OP_CLI_TEST_BAD"):
    """Bad."""

    wait: Annotated[bool, Param("wait", flag="wait")] = True


class BadOperation(Operation[Bad, None, None]):
    """A switch that can never change anything."""

    commands = (Command(tool="gnt-x", name="bad", arguments=Arguments.NONE),)


class Policy(OpCode, frozen=True, kw_only=True, tag="OP_CLI_TEST_POLICY"):
    """Policy."""

    ipolicy: Annotated[dict[str, Any] | None, Param("policy", IPOLICY)] = None


class PolicyOperation(Operation[Policy, None, None]):
    """Has an instance policy."""

    commands = (Command(tool="gnt-x", name="policy", arguments=Arguments.NONE),)


def described(operation: type[Operation[Any, Any, Any]]) -> CommandText:
    """Its first command."""
    return describe_command(operation, operation.commands[0])


class DescribeTests(SynchronousTestCase):
    """From declarations to data."""

    def test_command(self) -> None:
        """Name, first line of the text, what the arguments stand for."""
        found = described(GrowOperation)
        self.assertEqual((found.name, found.aliases, found.doc), ("grow", ("g",), "Make an instance grow."))
        self.assertEqual(
            (found.op_id, found.arguments, found.fixed), ("OP_CLI_TEST_GROW", "many", {"mode": "fast"})
        )
        assert found.positional is not None
        self.assertEqual((found.positional.param, found.positional.names), ("instance_name", "instance"))

    def test_options(self) -> None:
        """Reader, flags and values come of types and kinds; what has no flag is no option."""
        rows = {option.param: option for option in described(GrowOperation).options}
        self.assertEqual(
            {name: (row.flags, row.takes, row.value) for name, row in rows.items()},
            {
                "force": (("-f", "--force"), "nothing", True),
                "wait": (("--no-wait",), "nothing", False),
                "no_locks": (("--no-locks",), "nothing", True),
                "mode": (("--mode",), "text", True),
                "offline": (("-O", "--offline"), "yes_no", True),
                "nodes": (("-n", "--node"), "comma_list", True),
                "seconds": (("--seconds",), "integer", True),
                "switch:sleep": (("--sleep",), "nothing", {"offline": True, "seconds": 0}),
            },
        )
        self.assertEqual(rows["mode"].choices, ("fast", "slow"))
        self.assertEqual(rows["seconds"].default, 5)

    def test_policy(self) -> None:
        """An instance policy has an option for each of its parts."""
        flags = {flag for option in described(PolicyOperation).options for flag in option.flags}
        self.assertIn("--ipolicy-bounds-specs", flags)
        self.assertEqual(len(flags), 5)

    def test_senseless_switch(self) -> None:
        """A switch for what is true already is refused, naming operation and parameter."""
        error = self.assertRaises(ProgrammerError, described, BadOperation)
        self.assertIn("OP_CLI_TEST_BAD: wait", error.message)

    def test_twice(self) -> None:
        """A command belongs to one operation."""

        class Other(OpCode, frozen=True, kw_only=True, tag="OP_CLI_TEST_OTHER"):
            """Other."""

        class OtherOperation(Operation[Other, None, None]):
            """Claims the same command."""

            commands = (Command(tool="gnt-x", name="grow", arguments=Arguments.NONE),)

        error = self.assertRaises(ProgrammerError, describe, Registry([GrowOperation, OtherOperation]))
        self.assertIn("gnt-x grow", error.message)


class FilesTests(SynchronousTestCase):
    """The committed files."""

    def test_fresh(self) -> None:
        """They are what the declarations give; `python -m ganeti.ops.describe --write` makes them so."""
        self.assertEqual(sorted(path.name for path in stale(load())), [])
        self.assertEqual(main([]), 0)

    def test_no_leftovers(self) -> None:
        """There is no file without a tool."""
        self.assertEqual({path.stem for path in DECLARED.glob("*.json")}, set(describe(load())))

    def test_stale(self) -> None:
        """In an empty directory every file is missing."""
        self.assertEqual(len(stale(load(), Path(self.mktemp()))), len(describe(load())))


CHECKOUT = Path(__file__).resolve().parents[3]

_PROBE = """
import sys
from ganeti.cli.main import real_world, run
code = run("gnt-instance", ["list"], real_world())
import ganeti.cli.client, ganeti.cli.follow, ganeti.cli.generic, ganeti.cli.programs
heavy = ("twisted", "OpenSSL", "msgspec", "zope", "asyncio", "ssl", "dataclasses", "inspect")
print("loaded:", [name for name in heavy if name in sys.modules])
"""


class ImportTests(SynchronousTestCase):
    """What a tool loads."""

    def test_light(self) -> None:
        """`gnt-instance list` loads neither Twisted nor anything else that is slow to load."""
        found = subprocess.run(
            [sys.executable, "-c", _PROBE],
            cwd=CHECKOUT,
            env={**os.environ, "GANETI_ROOTDIR": "/nowhere"},
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual(found.stdout, "loaded: []\n")

    def test_scripts(self) -> None:
        """Every script in bin works from anywhere without anything installed."""
        for tool in ("cluster", "node", "instance", "job", "os", "debug"):
            found = subprocess.run(
                [sys.executable, "-S", CHECKOUT / "bin" / f"gnt-{tool}", "--version"],
                cwd="/",
                capture_output=True,
                text=True,
                check=True,
            )
            self.assertTrue(found.stdout.startswith(f"gnt-{tool} (ganeti "))

    def test_no_cluster(self) -> None:
        """Without a cluster a tool says so, exit code 1."""
        root = os.path.abspath(self.mktemp())
        found = subprocess.run(
            [sys.executable, CHECKOUT / "bin" / "gnt-node", "list"],
            env={**os.environ, "GANETI_ROOTDIR": Paths(root).root},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(found.returncode, 1)
        self.assertIn("Cluster not initialized or this machine is not part of a cluster", found.stderr)

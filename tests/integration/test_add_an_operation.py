"""The page on adding an operation, followed to the letter in a copy of the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

import ganeti

CHECKOUT = Path(ganeti.__file__).parent.parent
PAGE = CHECKOUT / "docs/howto/add-an-operation.md"

DERIVED = """
import json
from ganeti.ops.registry import load
operation = load().operation_class("OP_GROUP_CLOSE")
opcode = load().decode({"OP_ID": "OP_GROUP_CLOSE", "group_name": "rack1"})
print(json.dumps([opcode.summary(), operation.routes[0].path]))
"""


class AddAnOperationTests(SynchronousTestCase):
    """One file makes an operation with command, route and reference."""

    copy: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        """Copy the project and put the file of the page into it; nothing else is done."""
        super().setUpClass()
        cls.copy = Path(tempfile.mkdtemp(prefix="operation-"))
        cls.addClassCleanup(shutil.rmtree, cls.copy)
        for name in ("ganeti", "plugins", "bin", "docs"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(CHECKOUT / name, cls.copy / name, symlinks=True, ignore=ignored)
        operation, tests = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
        (cls.copy / "ganeti/ops/group/close.py").write_text(operation)
        (cls.copy / "test_close.py").write_text(tests)
        cls.run_in_copy(sys.executable, "-m", "ganeti.ops.describe", "--write")

    @classmethod
    def run_in_copy(cls, *argv: str) -> str:
        """Output of a program that uses the copy and must succeed."""
        environment = {**os.environ, "PYTHONPATH": str(cls.copy), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            argv, cwd=cls.copy, env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def test_command(self) -> None:
        """The command is there with its option and its help."""
        text = self.run_in_copy(sys.executable, "bin/gnt-group", "close", "--help")
        self.assertIn("Close a node group to new instances", text)
        self.assertIn("--even-last", text)
        self.assertIn("although no open group is left", text)

    def test_submission_and_route(self) -> None:
        """Submissions are decoded, lists show the group, the route is declared."""
        found = json.loads(self.run_in_copy(sys.executable, "-c", DERIVED))
        self.assertEqual(found, ["GROUP_CLOSE(rack1)", "/2/groups/{group_name}/close"])

    def test_its_tests(self) -> None:
        """The tests on the page pass."""
        text = self.run_in_copy(
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_close.py"
        )
        self.assertIn("2 passed", text)

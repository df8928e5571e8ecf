"""The report of benchmarks: rows, verdicts, failures, and what is printed."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from bench import report

GOOD = '''"""A benchmark."""


def run():
    """Rows."""
    print("noise")
    return [{"name": "good", "value": 5, "unit": "ms", "target": "<= 10 ms", "met": True, "more": 1}]
'''
BAD = '''"""A benchmark that fails."""


def run():
    """Rows."""
    raise ValueError("no")
'''


def row(value: float | None, target: str | None, met: bool | None) -> dict[str, Any]:
    """A row."""
    return {"name": "x", "value": value, "unit": "ms", "target": target, "met": met}


class ReportTests(SynchronousTestCase):
    """Running and showing."""

    def benchmarks(self, **modules: str) -> None:
        """A package with these modules in place of ours."""
        root = Path(self.mktemp()).absolute()
        directory = root / "bench"
        directory.mkdir(parents=True)
        (directory / "__init__.py").touch()
        (directory / "report.py").write_text(Path(report.__file__).read_text())
        for name, text in modules.items():
            (directory / f"{name}.py").write_text(text)
        self.patch(report, "HERE", directory)

    def output(self, *arguments: str) -> tuple[int, str]:
        """Exit code and standard output."""
        with contextlib.redirect_stdout(io.StringIO()) as text:
            code = report.main(arguments)
        return code, text.getvalue()

    def test_ours(self) -> None:
        """Every module with a `run` is found; helpers and the report itself are not."""
        found = report.names()
        self.assertIn("locks", found)
        self.assertNotIn("report", found)

    def test_json(self) -> None:
        """A list of objects with exactly the five keys, the machine's speed among them."""
        self.benchmarks(good=GOOD)
        code, text = self.output("--json", "good")
        rows = json.loads(text)
        self.assertEqual(code, 0)
        self.assertTrue(all(list(found) == ["name", "value", "unit", "target", "met"] for found in rows))
        self.assertEqual(
            rows[-1], {"name": "good", "value": 5, "unit": "ms", "target": "<= 10 ms", "met": True}
        )
        self.assertTrue(any(found["name"].startswith("machine: ") for found in rows))

    def test_failure(self) -> None:
        """A benchmark that cannot be run is a row that is not met, and exit code 1; the others are run."""
        self.benchmarks(bad=BAD, good=GOOD)
        code, text = self.output()
        self.assertEqual(code, 1)
        self.assertIn("bad: FAILED", text)
        self.assertRegex(text, r"good +5 ms +<= 10 ms +ok")

    def test_unknown(self) -> None:
        """An unknown name is refused with those that there are."""
        self.benchmarks(good=GOOD)
        with contextlib.redirect_stderr(io.StringIO()) as text:
            self.assertRaises(SystemExit, report.main, ["nope"])
        self.assertIn("there are good", text.getvalue())

    def test_verdicts(self) -> None:
        """A missed target says by how much."""
        for found, text in (
            (row(5, None, None), ""),
            (row(5, "<= 10 ms", True), "ok"),
            (row(15, "<= 10 ms", False), "MISSED, 1.50 times off"),
            (row(500, ">= 1,000 /s", False), "MISSED, 2.00 times off"),
            (row(None, "to run", False), "MISSED"),
        ):
            self.assertEqual(report.verdict(found), text)

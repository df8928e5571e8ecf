"""Reference pages, manual pages and completion."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ganeti.cli.declarations import TOOLS, load
from ganeti.cli.reference import commands_markdown, completions, main, man_page, stale


class PageTests(SynchronousTestCase):
    """Pages made of declarations."""

    def test_fresh(self) -> None:
        """The committed pages are up to date; `bin/generate-docs` makes them so."""
        self.assertEqual(sorted(path.name for path in stale()), [])
        self.assertEqual(main([]), 0)

    def test_every_command(self) -> None:
        """Each command is in the reference and in the manual page of its tool."""
        reference = commands_markdown()
        for tool in TOOLS:
            page = man_page(tool)
            for name in load(f"gnt-{tool}"):
                self.assertIn(f"### gnt-{tool} {name}\n", reference)
                self.assertIn(f"gnt\\-{tool} {name}".replace("-", "\\-").replace("\\\\-", "\\-"), page)

    def test_manual_pages(self) -> None:
        """No line of a manual page is taken for a macro that does not exist."""
        known = (".TH", ".SH", ".SS", ".TP", ".PP", ".B")
        for tool in TOOLS:
            for line in man_page(tool).splitlines():
                if line.startswith((".", "'")):
                    self.assertIn(line.split()[0], known)


class CompletionTests(SynchronousTestCase):
    """Completion scripts."""

    def test_bash(self) -> None:
        """The scripts are made, bash can read them, and names are asked for by the tools themselves."""
        directory = Path(self.mktemp())
        self.assertEqual(main(["--completions", str(directory)]), 0)
        script = directory / "bash" / "gnt-instance"
        self.assertIn("_gnt_instance_names", script.read_text())
        self.assertEqual(len(list(directory.rglob("*gnt-*"))), len(completions()))
        if shutil.which("bash") is None:
            raise SkipTest("no bash here")
        subprocess.run(["bash", "-n", str(script)], check=True)

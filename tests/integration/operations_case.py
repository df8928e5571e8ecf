"""What tests of operations through the real tools have in common: one cluster for all tests of a file.

setUpModule, tearDownModule = begin, end
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Done, RunningCluster, until

SMALL = ("-o", "noop", "-t", "sharedfile", "--disk", "0:size=4m", "--no-nics", "-B", "memory=64")
"""Options of the usual instance."""


class OperationsCase(SynchronousTestCase):
    """Tools against a running cluster with the hypervisor fake; every test makes what it needs."""

    cluster: RunningCluster

    def gnt(self, command: str, *more: str) -> str:
        """What a tool prints; it must succeed."""
        return self.cluster.gnt(command, *more).stdout

    def refused(self, command: str, *texts: str, code: int = 1) -> Done:
        """A tool that fails with this exit code and says so; nothing of the configuration changes."""
        before = self.cluster.serial()
        done = self.cluster.gnt(command, check=False)
        self.assertEqual((done.returncode, self.cluster.serial()), (code, before), done.stderr)
        said = " ".join((done.stdout + done.stderr).split())
        for text in texts:
            self.assertIn(text, said)
        return done

    def add(self, name: str, *options: str, size: tuple[str, ...] = SMALL) -> str:
        """A new instance, which goes with the test; its full name."""
        self.addCleanup(
            self.cluster.gnt, f"gnt-instance remove -f --ignore-failures {name}.virtual", check=False
        )
        self.gnt("gnt-instance add", *size, *options, f"{name}.virtual")
        return f"{name}.virtual"

    def of(self, kind: str, name: str, *fields: str) -> list[Any]:
        """Fields of one object, as JSON values."""
        (row,) = json.loads(self.gnt(f"gnt-{kind} list --output json,{','.join(fields)} {name}"))
        return [row[field] for field in fields]

    def rows(self, command: str, options: str = "") -> list[list[str]]:
        """The columns of each line of a list without titles: of `gnt-node list`, with options behind it."""
        printed = self.gnt(f"{command} --no-headers --separator=| {options}")
        return [line.split("|") for line in printed.splitlines()]

    def newest_job(self) -> dict[str, Any]:
        """Everything about the job that was submitted last."""
        last = max(int(row[0]) for row in self.rows("gnt-job list", "-o id"))
        found: dict[str, Any] = json.loads(self.gnt(f"gnt-job info --output json {last}"))[0]
        return found

    def wait_for(self, kind: str, name: str, expected: list[Any], *fields: str) -> None:
        """Wait until an object is as it should be."""
        until(lambda: self.of(kind, name, *fields) == expected, f"{name} does not become {expected}")


def begin() -> None:
    """Start the cluster of a file."""
    OperationsCase.cluster = RunningCluster(nodes=3)


def end() -> None:
    """Remove it."""
    OperationsCase.cluster.destroy()

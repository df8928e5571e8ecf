"""The disk of the master daemon is full: nothing is promised that cannot be kept; then it goes on."""

from __future__ import annotations

import os
import subprocess
import time
import unittest
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.errors import MasterError
from tests.integration.cluster import RunningCluster, seconds_of, until

SIZE_MIB = 6
MOUNT = """
set -e
mount --make-rprivate /
cp -a "$1" "$1.copy"
mount -t tmpfs -o size="$2" none "$1"
cp -a "$1.copy/." "$1"
echo ready
exec sleep 900
"""


def setUpModule() -> None:
    """One node, whose master daemon has its files on a very small disk that nobody else sees."""
    if os.geteuid() != 0:
        raise unittest.SkipTest("only root can mount a small disk")
    DiskTests.cluster = RunningCluster(nodes=1)
    DiskTests.cluster.stop("ganeti-masterd")
    directory = DiskTests.cluster.paths().data_dir
    DiskTests.mounted = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", MOUNT, "sh", directory, f"{SIZE_MIB}m"], stdout=subprocess.PIPE
    )
    assert DiskTests.mounted.stdout is not None
    assert DiskTests.mounted.stdout.readline() == b"ready\n"


def tearDownModule() -> None:
    """The mount ends with the last process that sees it."""
    DiskTests.cluster.destroy()
    DiskTests.mounted.kill()
    DiskTests.mounted.communicate()


class DiskTests(SynchronousTestCase):
    """A disk that is filled, and has space again."""

    cluster: RunningCluster
    mounted: ClassVar[subprocess.Popen[bytes]]

    def setUp(self) -> None:
        """masterd sees the small disk; we see it through its holder."""
        self.inside = ("nsenter", "--mount", f"--target={self.mounted.pid}")
        self.assertEqual(self.cluster.start_daemon("ganeti-masterd", wrapped=self.inside).returncode, 0)
        self.filler = Path(f"/proc/{self.mounted.pid}/root{self.cluster.paths().data_dir}/filler")
        self.addCleanup(self.cluster.stop, "ganeti-masterd")
        self.addCleanup(self.filler.unlink, missing_ok=True)

    def fill(self) -> None:
        """Leave no space at all."""
        with self.filler.open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while file.write(b"x" * size):
                        pass
                except OSError:
                    continue

    def submit(self, *opcodes: dict[str, Any]) -> int:
        """A job."""
        return self.cluster.client().submit(list(opcodes))

    def delay(self, seconds: float) -> dict[str, Any]:
        """An opcode that waits."""
        return {"OP_ID": "OP_TEST_DELAY", "duration": seconds}

    def tag(self, name: str) -> dict[str, Any]:
        """An opcode that changes the configuration."""
        return {"OP_ID": "OP_TAGS_SET", "kind": "cluster", "tags": [name]}

    def until_refused(self) -> str:
        """Why a submission is refused; a few may still fit into what is allocated already."""

        def attempt() -> str:
            try:
                taken.append(self.submit(self.delay(0)))
            except MasterError as error:
                return str(error)
            return ""

        taken: list[int] = []
        refusal = until(attempt, "the full disk is not noticed")
        self.taken = taken
        return refusal

    def test_full_and_space_again(self) -> None:
        """Submissions are refused with the reason, what runs ends in error, and all works after that."""
        before = self.submit(self.tag("before"))
        self.cluster.wait_for_jobs(before)
        running = [self.submit(self.delay(1.5)) for _ in range(3)]
        writes = self.submit(self.delay(1.0), self.tag("while-full"))
        until(lambda: {self.cluster.job(job)[0] for job in (*running, writes)} == {"running"}, "nothing runs")
        self.fill()
        refusal = self.until_refused()
        self.assertIn("No space left on device", refusal)
        self.assertIn("see that there is space", refusal)
        told = self.cluster.gnt("gnt-cluster add-tags full", check=False)
        self.assertEqual(told.returncode, 1)
        self.assertIn("No space left on device", " ".join(told.stderr.split()))

        ended = self.cluster.wait_for_jobs(*running, timeout_s=10)
        self.assertEqual(set(ended.values()), {"error"})
        for job in running:
            self.assertIn("No space left on device", self.cluster.job(job)[1][1][0])
        self.assertLess(seconds_of(lambda: self.cluster.gnt("gnt-job list")), 2)
        self.assertLess(seconds_of(lambda: self.cluster.gnt("gnt-instance list")), 2)
        self.assertIn("No space left on device", self.cluster.log("ganeti-masterd"))

        self.filler.unlink()
        self.check_service(running, writes)

    def check_service(self, running: list[int], writes: int) -> None:
        """Everything works again, and is still so after a crash."""
        began = time.monotonic()
        after = until(self.attempt_again, "submissions are still refused", timeout_s=5)
        self.assertLess(time.monotonic() - began, 3)
        ended = self.cluster.wait_for_jobs(after, writes, *self.taken, timeout_s=10)
        self.assertEqual(ended[after], "success")
        for job in self.taken:
            # It was taken in the last free bytes; if it ran, that could not be recorded.
            result = self.cluster.job(job)[1]
            self.assertTrue(result is None or "No space left on device" in result[1][0], result)
        # Documents that could not be written are tried again, but must not be needed.
        known = self.cluster.jobs("status", "opstatus")
        tags = self.tags()
        self.assertEqual("while-full" in tags, ended[writes] == "success")
        self.assertLessEqual({"before", "after"}, tags)
        self.cluster.kill("ganeti-masterd")
        self.assertEqual(self.cluster.start_daemon("ganeti-masterd", wrapped=self.inside).returncode, 0)
        self.assertEqual(self.cluster.jobs("status", "opstatus"), known)
        self.assertEqual(self.tags(), tags)

    def attempt_again(self) -> int:
        """Submit; 0: still refused."""
        try:
            return self.submit(self.tag("after"))
        except MasterError:
            return 0

    def test_full_between_opcodes(self) -> None:
        """A job whose first opcode ends on the full disk changes nothing until its state is durable."""
        job = self.submit(self.delay(1.0), self.tag("between"))
        until(lambda: self.cluster.job(job)[0] == "running", "it does not run")
        self.fill()
        self.until_refused()
        time.sleep(1.5)
        self.assertNotIn("between", self.tags())
        self.filler.unlink()
        ended = self.cluster.wait_for_jobs(job, timeout_s=10)
        self.assertEqual("between" in self.tags(), ended[job] == "success")

    def tags(self) -> set[str]:
        """The cluster's tags."""
        return set(self.cluster.client().call("QueryTags", ["cluster", None]))

    def test_full_at_the_start(self) -> None:
        """masterd does not begin to serve on a full disk, says why, and starts once there is space."""
        self.cluster.wait_for_jobs(self.submit(self.delay(0)))
        self.cluster.kill("ganeti-masterd")
        self.fill()
        refused = self.cluster.start_daemon("ganeti-masterd", wrapped=self.inside)
        if refused.returncode == 0:
            self.assertIn("No space left on device", self.until_refused())
        else:
            self.assertIn("No space left on device", refused.stderr)
            self.assertNotIn("Traceback", refused.stderr)
        self.filler.unlink()
        self.assertEqual(self.cluster.start_daemon("ganeti-masterd", wrapped=self.inside).returncode, 0)
        job = until(self.attempt_again, "submissions are still refused", timeout_s=5)
        self.assertEqual(self.cluster.wait_for_jobs(job), {job: "success"})

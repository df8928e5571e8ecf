"""Instances whose disks are on one node only go to other nodes and groups, as copies (S2.3-033)."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from tests.integration.cluster import RunningCluster, until
from tests.integration.operations_case import OperationsCase, end

LOCAL = ("-o", "noop", "-t", "file", "--no-nics", "-B", "memory=64")
MIB = 1024 * 1024


def setUpModule() -> None:
    """Nodes 1 and 3 in the group `default`, 2 and 4 in another one."""
    OperationsCase.cluster = RunningCluster(nodes=4, groups=2, templates="file,plain,diskless,sharedfile")


tearDownModule = end


class MoveCase(OperationsCase):
    """Instances with images of their own."""

    def setUp(self) -> None:
        """Know the other group."""
        super().setUp()
        (self.other,) = self.of("node", "node2", "group")

    def image(self, name: str, index: int = 0) -> Path:
        """Where the data of a disk is, as the configuration says."""
        (found,) = json.loads(self.gnt(f"gnt-instance info -s --output json {name}"))
        return Path(found["disks"][index]["logical_id"][1])

    def make(self, name: str, *sizes: int, size_mib: int = 16) -> tuple[str, list[str]]:
        """An instance on node1 with known data in its disks, which runs; and what the disks hold."""
        disks = [word for index in range(2) for word in ("--disk", f"{index}:size={size_mib}m")]
        full = self.add(name, "-n", "node1", *disks, size=LOCAL)
        for index in range(2):
            with self.image(full, index).open("r+b") as stream:
                for offset in (0, size_mib // 2 * MIB - 3, size_mib * MIB - MIB):
                    stream.seek(offset)
                    stream.write(os.urandom(MIB))
        return full, self.sums(full)

    def sums(self, name: str) -> list[str]:
        """Checksums of what the disks hold."""
        return [hashlib.sha256(self.image(name, index).read_bytes()).hexdigest() for index in range(2)]

    def files(self, name: str) -> set[Path]:
        """All files there are of an instance's disks, wherever they came from."""
        return set(Path(self.cluster.layout.file_dir, name).iterdir())

    def assert_on(self, name: str, node: str, sums: list[str]) -> None:
        """It runs there with its data, and nothing else is left of it."""
        self.assertEqual(self.of("instance", name, "pnode", "status"), [f"{node}.virtual", "running"])
        self.assertEqual(self.sums(name), sums)
        self.assertEqual(self.files(name), {self.image(name, 0), self.image(name, 1)})


class MoveTests(MoveCase):
    """gnt-instance move."""

    def test_to_another_group_and_back(self) -> None:
        """What is on the disks is the same byte by byte; the old data is gone; it runs."""
        name, sums = self.make("moving")
        for node, options in (("node2", ""), ("node3", "--compress=gzip"), ("node1", "")):
            old = self.image(name)
            self.gnt(f"gnt-instance move -f {options} -n {node} {name}")
            self.assert_on(name, node, sums)
            self.assertFalse(old.exists())

    def test_stopped(self) -> None:
        """A stopped one is moved, too, and stays stopped."""
        name, sums = self.make("resting")
        self.gnt(f"gnt-instance shutdown {name}")
        self.gnt(f"gnt-instance move -f -n node3 {name}")
        self.assertEqual(self.of("instance", name, "pnode", "status"), ["node3.virtual", "ADMIN_down"])
        self.assertEqual(self.sums(name), sums)
        self.gnt(f"gnt-instance startup {name}")
        self.assert_on(name, "node3", sums)

    def test_pretended(self) -> None:
        """Pretended volumes have nothing to copy, and move all the same."""
        name = self.add(
            "volumes", "-n", "node1", "--disk", "0:size=64m", size=(*LOCAL[:2], "-t", "plain", *LOCAL[4:])
        )
        self.gnt(f"gnt-instance move -f -n node2 {name}")
        self.assertEqual(self.of("instance", name, "pnode", "status"), ["node2.virtual", "running"])

    def test_refused(self) -> None:
        """What cannot be moved says why."""
        name, _ = self.make("staying")
        self.refused(f"gnt-instance move -f -n node1 {name}", "is on node1.virtual already")
        self.refused(f"gnt-instance move -f --compress=lzop -n node2 {name}", "possible: none, gzip")
        shared = self.add("shared", "-n", "node1")
        self.refused(f"gnt-instance move -f -n node2 {shared}", "sharedfile disks, which are not copied")


class ChangeGroupTests(MoveCase):
    """Between groups, where the allocator chooses."""

    def test_change_group(self) -> None:
        """It goes when downtime is allowed, and the refusal says how to allow it."""
        name, sums = self.make("group-bound")
        self.refused(f"gnt-instance change-group --to {self.other} {name}", "--allow-downtime")
        plan = self.gnt(f"gnt-instance change-group --dry-run --allow-downtime --to {self.other} {name}")
        self.assertIn("stop and copy", plan)
        self.gnt(f"gnt-instance change-group --allow-downtime --to {self.other} {name}")
        (node, group) = self.of("instance", name, "pnode", "pnode.group")
        self.assertEqual(group, self.other)
        self.assert_on(name, node.partition(".")[0], sums)
        self.gnt(f"gnt-instance change-group --allow-downtime -n node3 {name}")
        self.assert_on(name, "node3", sums)

    def test_drain(self) -> None:
        """A group is emptied of such instances, too."""
        name, sums = self.make("drained")
        self.refused(f"gnt-group drain --to {self.other} default", name, "--allow-downtime")
        self.gnt(f"gnt-group drain --allow-downtime --to {self.other} default")
        (node, group) = self.of("instance", name, "pnode", "pnode.group")
        self.assertEqual(group, self.other)
        self.assert_on(name, node.partition(".")[0], sums)


class BrokenOffTests(MoveCase):
    """Something dies in the middle of a copy."""

    def begin_slowly(self, name: str) -> int:
        """Begin a move that takes a while; it is in the middle when this returns."""
        before = self.files(name)
        self.gnt(f"gnt-instance move -f --submit --compress=gzip-slow -n node2 {name}")
        job = max(int(row[0]) for row in self.rows("gnt-job list", "-o id"))

        def is_copying() -> bool:
            return any(path.stat().st_blocks > 4096 for path in self.files(name) - before)

        until(is_copying, "nothing is copied")
        return job

    def make_large(self, name: str) -> tuple[str, list[str]]:
        """An instance that takes some seconds to copy."""
        full, _ = self.make(name, size_mib=160)
        for index in range(2):
            self.image(full, index).write_bytes(os.urandom(160 * MIB))
        return full, self.sums(full)

    def status(self, job: int) -> str:
        """Of a job."""
        ((found,),) = self.rows("gnt-job list", f"-o status {job}")
        return found

    def test_noded_is_killed(self) -> None:
        """Whichever end dies, it stays at the source, whole; a repetition succeeds."""
        name, sums = self.make_large("unlucky")
        for node in ("node1", "node2"):
            job = self.begin_slowly(name)
            self.cluster.kill("ganeti-noded", node)
            until(lambda job=job: self.status(job) == "error", f"job {job} does not end")  # type: ignore[misc]
            self.assertEqual(self.of("instance", name, "pnode"), ["node1.virtual"])
            self.assertEqual(self.sums(name), sums)
            self.cluster.start()
            self.gnt(f"gnt-instance startup {name}")
            self.assertEqual(self.of("instance", name, "status"), ["running"])
        self.gnt(f"gnt-instance move -f -n node2 {name}")
        self.assert_on(name, "node2", sums)

    def test_masterd_is_killed(self) -> None:
        """The configuration says the source; what is left at the target is replaced when it is repeated."""
        name, sums = self.make_large("orphan")
        self.begin_slowly(name)
        self.cluster.kill("ganeti-masterd")
        self.cluster.start()
        self.assertEqual(self.of("instance", name, "pnode"), ["node1.virtual"])
        self.assertEqual(self.sums(name), sums)
        self.assertGreater(len(self.files(name)), 2)
        self.gnt(f"gnt-instance startup {name}")
        self.gnt(f"gnt-instance move -f -n node2 {name}")
        self.assert_on(name, "node2", sums)

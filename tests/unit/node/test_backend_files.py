"""Files that the master distributes: only those, wholly, with their modes."""

from __future__ import annotations

import contextlib
import os

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import CopyBehind, NodeError, PermissionDenied
from ganeti.logic.ssconf import MAX_BYTES, ssconf_files
from ganeti.model.calls.system import Stamp, UploadFile, WriteSsconf
from ganeti.model.paths import Paths
from ganeti.node.backend.files import allowed_target, stored_stamp, upload_file_single, write_ssconf_files
from ganeti.testing.clusters import cluster
from ganeti.testing.node_world import WithNode


class SsconfTests(WithNode, SynchronousTestCase):
    """ssconf files."""

    def test_written(self) -> None:
        """All files of a cluster are written, readable by all and writable by none."""
        files = ssconf_files(cluster(instances=2))
        for _ in range(2):
            write_ssconf_files(WriteSsconf(values=files), self.node)
        for name, text in files.items():
            path = self.host.paths.ssconf(name)
            with open(path, encoding="utf-8") as file:
                self.assertEqual(file.read(), text)
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o444)

    def test_bad_names_and_sizes(self) -> None:
        """Names that lead elsewhere and texts that are too long are refused; nothing is written."""
        good = {"cluster_name": "x\n"}
        for bad in ({"../x": ""}, {"Name": ""}, {"": ""}, {"node_list": "x" * (MAX_BYTES + 1)}):
            call = WriteSsconf(values={**good, **bad})
            self.assertRaises(PermissionDenied, write_ssconf_files, call, self.node)
        self.assertFalse(os.path.exists(self.host.paths.ssconf("cluster_name")))

    def test_stamps(self) -> None:
        """What is older than what the node has is refused, and a gap is noticed (S2.3-032)."""
        first, second, third = (Stamp(generation=5, number=number) for number in (1, 2, 3))

        def write(text: str, stamp: Stamp, base: Stamp | None = None) -> str:
            call = WriteSsconf(values={"node_list": text}, stamp=stamp, base=base)
            with contextlib.suppress(NodeError):
                write_ssconf_files(call, self.node)
            with open(self.host.paths.ssconf("node_list"), encoding="utf-8") as file:
                return file.read()

        self.assertEqual(write("one\n", first), "one\n")
        self.assertEqual(write("three\n", third, second), "one\n", "changes of something that is not there")
        self.assertEqual(write("two\n", second, first), "two\n")
        self.assertEqual(write("one\n", first), "two\n", "the same master, too late")
        self.assertEqual(write("x\n", Stamp(generation=4, number=99)), "two\n", "a former master")
        self.assertEqual(write("x\n", second), "two\n", "once more")
        self.assertEqual(write("new\n", Stamp(generation=6, number=1)), "new\n")
        self.assertEqual(stored_stamp(self.host.paths), Stamp(generation=6, number=1))
        self.assertEqual(os.stat(self.host.paths.ssconf_stamp_file).st_mode & 0o777, 0o600)

    def test_damaged_stamp(self) -> None:
        """A stamp that cannot be read counts as none: changes are refused, the whole set is written."""
        self.write(self.host.paths.ssconf_stamp_file, "nonsense")
        stamp, base = Stamp(generation=5, number=2), Stamp(generation=5, number=1)
        changes = WriteSsconf(values={"node_list": ""}, stamp=stamp, base=base)
        self.assertRaises(CopyBehind, write_ssconf_files, changes, self.node)
        write_ssconf_files(WriteSsconf(values={"node_list": ""}, stamp=stamp), self.node)
        self.assertEqual(stored_stamp(self.host.paths), stamp)


class UploadTests(WithNode, SynchronousTestCase):
    """Single files."""

    def test_below_the_nodes_root(self) -> None:
        """A file goes below the node's own root, with the mode that was given."""
        call = UploadFile(path="/var/lib/ganeti/known_hosts", data=b"keys", mode=0o644)
        upload_file_single(call, self.node)
        path = f"{self.host.paths.data_dir}/known_hosts"
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"keys")
        self.assertEqual(os.stat(path).st_mode & 0o7777, 0o644)

    def test_whitelist(self) -> None:
        """Only listed files are taken; never the list of file storage paths."""
        own = Paths("/root/node1")
        allowed = {
            "/var/lib/ganeti/hmac.key": "/root/node1/var/lib/ganeti/hmac.key",
            "/root/node1/var/lib/ganeti/rapi.pem": "/root/node1/var/lib/ganeti/rapi.pem",
            "/etc/hosts": "/root/node1/etc/hosts",
        }
        for path, target in allowed.items():
            self.assertEqual(allowed_target(path, own), target)
        for path in (
            "/etc/ganeti/file-storage-paths",
            "/etc/passwd",
            "/var/lib/ganeti/../../../etc/hosts",
            "/var/lib/ganeti/server.pem",
            "etc/hosts",
        ):
            self.assertRaises(PermissionDenied, allowed_target, path, own)

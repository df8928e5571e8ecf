"""Files that the master distributes: only those, wholly, with their modes."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PermissionDenied
from ganeti.logic.ssconf import MAX_BYTES, ssconf_files
from ganeti.model.calls.system import UploadFile, WriteSsconf
from ganeti.model.paths import Paths
from ganeti.node.backend.files import allowed_target, upload_file_single, write_ssconf_files
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

"""Tests of sockets with long paths."""

from __future__ import annotations

import os
import socket
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from ganeti.io.unix_address import UnixAddress


class UnixAddressTests(SynchronousTestCase):
    """Paths that fit into an address, and paths that do not."""

    def setUp(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def test_short(self) -> None:
        """A path that fits is its own address."""
        path = f"{self.directory.name}/s"
        self.assertEqual(UnixAddress(path).text, path)

    def test_long(self) -> None:
        """A socket with a long path can be made and reached, and nothing stays open."""
        deep = os.path.join(self.directory.name, "d" * 120)
        os.mkdir(deep)
        open_before = os.listdir("/proc/self/fd")
        address = UnixAddress(f"{deep}/s")
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind(address.text)
            listener.listen()
            client.connect(address.text)
        self.assertTrue(os.path.exists(f"{deep}/s"))
        address.close()
        self.assertEqual(os.listdir("/proc/self/fd"), open_before)

    def test_no_directory(self) -> None:
        """Without its directory there is no address."""
        self.assertRaises(FileNotFoundError, UnixAddress, f"{self.directory.name}/{'d' * 120}/s")

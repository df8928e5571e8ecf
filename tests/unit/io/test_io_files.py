"""Files of daemons."""

from __future__ import annotations

import os
import stat

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import GanetiError
from ganeti.io.files import FileLock, Ownership, read_limited, write_file


class WriteFileTests(SynchronousTestCase):
    """Replacing a file."""

    def setUp(self) -> None:
        """A directory."""
        self.directory = self.mktemp()
        os.makedirs(self.directory)
        self.path = f"{self.directory}/file"

    def test_content_and_mode(self) -> None:
        """The content is there, with the mode asked for whatever the umask, and nothing beside it."""
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)
        write_file(self.path, b"one", Ownership(mode=0o644))
        write_file(self.path, [b"t", b"wo"], Ownership(mode=0o640))
        self.assertEqual(read_limited(self.path, at_most=10), b"two")
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o640)
        self.assertEqual(os.listdir(self.directory), ["file"])

    def test_failure_leaves_the_old_file(self) -> None:
        """When it cannot be written, the old content stays and no temporary file is left."""
        write_file(self.path, b"old")
        with self.assertRaises(TypeError):
            write_file(self.path, ["text"])  # type: ignore[list-item]
        self.assertEqual(read_limited(self.path, at_most=10), b"old")
        self.assertEqual(os.listdir(self.directory), ["file"])

    def test_too_long_to_read(self) -> None:
        """A file longer than it should be is refused by name."""
        write_file(self.path, b"x" * 11)
        with self.assertRaisesRegex(GanetiError, "file has more than 10 bytes"):
            read_limited(self.path, at_most=10)


class FileLockTests(SynchronousTestCase):
    """Locks against a second daemon."""

    def test_second_is_refused(self) -> None:
        """Only one holds it; when it lets go, the next may."""
        path = self.mktemp()
        first, second = FileLock(path, "the job queue"), FileLock(path, "the job queue")
        with first:
            first.acquire()
            self.assertTrue(first.is_held)
            with self.assertRaisesRegex(GanetiError, "the job queue is in use"):
                second.acquire()
            self.assertFalse(second.is_held)
        second.acquire()
        self.assertTrue(second.is_held)
        second.release()
        second.release()

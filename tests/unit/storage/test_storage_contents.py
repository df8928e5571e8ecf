"""Tests of reading and writing the content of disks: every byte arrives, zeros cost nothing (S2.3-033)."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ganeti.errors import BlockDeviceError
from ganeti.interfaces import ICopyable
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.disk import TRAITS, Disk
from ganeti.model.ids import DiskId, NodeId
from ganeti.storage.contents import BLOCK, ZEROS_AT_ONCE, ContentDigest, Sink, Source
from ganeti.storage.fake import FakeStorage
from ganeti.storage.file_template import FileTemplate
from ganeti.storage.qcow2 import refers_elsewhere


def header(*, version: int = 3, backing: int = 0, features: int = 0, magic: bytes = b"QFI\xfb") -> bytes:
    """The beginning of an image."""
    return magic + struct.pack(">IQ", version, backing) + bytes(56) + struct.pack(">Q", features) + bytes(24)


class ContentCase(SynchronousTestCase):
    """Files in a directory."""

    def setUp(self) -> None:
        """The directory."""
        self.directory = tempfile.mkdtemp(prefix="contents-")
        self.addCleanup(shutil.rmtree, self.directory)

    def disk(self, name: str, size: int, *, format: str = "raw", fill: bytes = b"") -> OpenDisk:
        """A file of a size."""
        path = f"{self.directory}/{name}"
        with open(path, "wb") as stream:
            stream.write(fill * size)
            stream.truncate(size)
        return OpenDisk(path=path, format=format)

    def read(self, disk: OpenDisk) -> bytes:
        """What is in it."""
        assert disk.path is not None
        with open(disk.path, "rb") as stream:
            return stream.read()

    def copy(self, source: OpenDisk, target: OpenDisk, size: int) -> list[tuple[int, int]]:
        """Copy; gives offset and length of what was carried."""
        reading, writing = Source(source, size), Sink(target, size)
        writing.begin(reading.size)
        carried = []
        for offset, data in reading.blocks():
            carried.append((offset, len(data)))
            writing.put(offset, data)
        writing.finish()
        reading.close()
        writing.close()
        return carried


class CopyTests(ContentCase):
    """From a file to another one."""

    @settings(max_examples=40, deadline=None)
    @given(
        size=st.integers(0, 3 * BLOCK + 7),
        parts=st.lists(st.tuples(st.integers(0, 3 * BLOCK), st.binary(min_size=1, max_size=300)), max_size=4),
        fill=st.sampled_from([b"", b"\0", b"x"]),
    )
    def test_any_content(self, size: int, parts: list[tuple[int, bytes]], fill: bytes) -> None:
        """Whatever is in the source is in the target afterwards, whatever was in that before."""
        source, target = self.disk("source", size), self.disk("target", size, fill=fill)
        assert source.path is not None
        with open(source.path, "r+b") as stream:
            for offset, data in parts:
                stream.seek(offset)
                stream.write(data[: max(0, size - offset)])
            stream.truncate(size)
        self.copy(source, target, size)
        self.assertEqual(self.read(target), self.read(source))

    def test_holes(self) -> None:
        """A large hole is told of in steps and costs neither time nor space."""
        size = 40 * ZEROS_AT_ONCE + 5
        source, target = self.disk("source", size), self.disk("target", size)
        assert source.path is not None and target.path is not None
        with open(source.path, "r+b") as stream:
            stream.seek(size - 1)
            stream.write(b"!")
        carried = self.copy(source, target, size)
        self.assertEqual(carried[:2], [(ZEROS_AT_ONCE, 0), (2 * ZEROS_AT_ONCE, 0)])
        self.assertEqual(carried[-1], (40 * ZEROS_AT_ONCE, 5))
        self.assertLess(os.stat(target.path).st_blocks * 512, BLOCK)
        self.assertEqual(os.stat(target.path).st_size, size)

    def test_digest(self) -> None:
        """The place of a block counts as much as what is in it."""
        found = set()
        for blocks in ([(0, b"ab")], [(1, b"ab")], [(0, b"a"), (1, b"b")], [(0, b"ba")], []):
            digest = ContentDigest()
            for offset, data in blocks:
                digest.add(offset, data)
            found.add(digest.hex())
        self.assertEqual(len(found), 5)


class RefusalTests(ContentCase):
    """What is not read or written."""

    def refused(self, text: str, sink: Sink, offset: int, data: bytes) -> None:
        """A block that is refused."""
        with self.assertRaisesRegex(BlockDeviceError, text):
            sink.put(offset, data)

    def test_places(self) -> None:
        """Nothing outside of the disk, nothing twice, nothing backwards."""
        target = self.disk("target", 100)
        sink = Sink(target, 100)
        self.addCleanup(sink.close)
        with self.assertRaisesRegex(BlockDeviceError, "has 101 bytes at the source and 100"):
            sink.begin(101)
        sink.begin(100)
        sink.put(10, b"x" * 10)
        for offset, data in ((19, b"x"), (0, b"x"), (100, b"x"), (99, b"xx"), (1 << 62, b"")):
            self.refused("lie outside of it", sink, offset, data)
        self.assertEqual(self.read(target), bytes(10) + b"x" * 10 + bytes(80))

    def test_short_source(self) -> None:
        """A source that is shorter than it should be is not filled up."""
        source = Source(self.disk("source", 10, fill=b"x"), 20)
        self.addCleanup(source.close)
        with self.assertRaisesRegex(BlockDeviceError, "ends at 10 bytes; it should have 20"):
            list(source.blocks())

    def test_no_device(self) -> None:
        """Disks that only a hypervisor reaches, and those that are gone."""
        for kind in (Source, Sink):
            with self.assertRaisesRegex(BlockDeviceError, "has no device"):
                kind(OpenDisk(path=None, uri="rbd:pool/image"), 1)
            with self.assertRaisesRegex(BlockDeviceError, "cannot be (read|written)"):
                kind(OpenDisk(path=f"{self.directory}/gone"), 1)

    def test_images(self) -> None:
        """An image that opens other files, or is none, or is far too large is not taken."""
        for bad in (header(backing=512), header(features=4), header(magic=b"MZ\0\0"), b"QFI\xfb", bytes(200)):
            self.assertTrue(refers_elsewhere(bad))
            sink = Sink(self.disk("target", 100, format="qcow2"), BLOCK)
            self.addCleanup(sink.close)
            with self.assertRaisesRegex(BlockDeviceError, "cannot be one of 1048576 bytes"):
                sink.begin(1 << 40)
            sink.begin(65536)
            self.refused("stands on another file", sink, 0, bad)
            self.refused("stands on another file", sink, 512, b"x")
        for good in (header(), header(version=2, features=4), header(features=1)):
            self.assertFalse(refers_elsewhere(good))


class ElsewhereTests(SynchronousTestCase):
    """Names of data on other nodes."""

    def test_names(self) -> None:
        """A file stays in its directory, a volume in its group; both are named anew, the rest stays."""
        uuid = "0badcafe-0000-4000-8000-000000000001"
        cases = (
            (
                FileTemplate("file"),
                ("loop", "/srv/web/old.file.disk1"),
                ("loop", f"/srv/web/{uuid}.file.disk1"),
            ),
            (FileTemplate("file"), ("qcow2", "/srv/d/a"), ("qcow2", f"/srv/d/{uuid}.file.disk1")),
            (FakeStorage("plain", TRAITS["plain"]), ("xenvg", "old.disk1"), ("xenvg", f"{uuid}.disk1")),
            (FakeStorage(), ("fake", "old.fake.disk1"), ("fake", f"{uuid}.disk1")),
            (FakeStorage("file", TRAITS["file"]), ("loop", "/srv/d/a"), ("loop", "/srv/d/a")),
        )
        for plugin, before, after in cases:
            self.assertTrue(verifyObject(ICopyable, plugin))
            disk = Disk(uuid=DiskId("u"), dev_type=plugin.name, logical_id=before, size=7, iv_name="disk/1")
            moved = plugin.elsewhere(disk, NodeId("n2"), uuid)
            self.assertEqual(moved, replace(disk, logical_id=after, nodes=(NodeId("n2"),)))

"""Tests of disks that are files: allowed paths, creation without traces, names, qcow2, wiping."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import struct
import tempfile
from unittest import skipUnless

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import BlockDeviceError, FileStoragePathError, PrereqError, StorageError
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.disk import Disk
from ganeti.model.ids import DiskId
from ganeti.model.spec import DiskSpec
from ganeti.node.backend.host import ProcessRunner
from ganeti.storage import directories, file_based, qcow2
from ganeti.storage.allowed_paths import (
    FORBIDDEN,
    bad_entries,
    check_allowed,
    is_below,
    is_forbidden,
    parse_allowed_paths,
)
from ganeti.storage.file_images import image_of
from ganeti.storage.file_template import FileTemplate
from ganeti.storage.raw_views import raw_views
from ganeti.storage.wipe import overwrite_with_zeros
from ganeti.testing.host import FakeHost
from ganeti.testing.storage_behaviours import MIB, make_nodes, make_reservations

HAVE_QEMU_IMG = shutil.which("qemu-img") is not None


class InDirectory(SynchronousTestCase):
    """A node that allows `images` in a directory of the test."""

    def setUp(self) -> None:
        """The node and its list."""
        self.directory = os.path.realpath(tempfile.mkdtemp(prefix="files-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.images = f"{self.directory}/images"
        os.mkdir(self.images)
        self.host = FakeHost(f"{self.directory}/node1", processes=ProcessRunner())
        os.makedirs(self.host.paths.conf_dir)
        self.allow(self.images)

    def allow(self, *entries: str) -> None:
        """Write the list of allowed directories."""
        with open(self.host.paths.file_storage_paths, "w", encoding="utf-8") as stream:
            stream.write("\n".join(entries) + "\n")

    def disk(self, path: str, *, driver: str = "loop", size: int = 4) -> Disk:
        """A disk in a certain file."""
        return Disk(uuid=DiskId("disk-uuid"), dev_type="file", logical_id=(driver, path), size=size)

    def files(self) -> list[str]:
        """Everything below the images' directory."""
        return sorted(
            os.path.relpath(os.path.join(top, name), self.images)
            for top, directories_, names in os.walk(self.images)
            for name in [*directories_, *names]
        )


class AllowedPathsTests(InDirectory):
    """Which paths file storage may touch."""

    def refused(self, path: str) -> str:
        """The reason why a path is refused."""
        return str(self.assertRaises(FileStoragePathError, check_allowed, self.host, path))

    def test_parse(self) -> None:
        """Blank lines and comments do not count."""
        text = "# disks\n\n/srv/a\n  /srv/b  \n#/srv/c\n"
        self.assertEqual(parse_allowed_paths(text), ("/srv/a", "/srv/b"))

    def test_below(self) -> None:
        """A path below an entry is allowed, and the entry is told."""
        self.assertEqual(check_allowed(self.host, f"{self.images}/inst1/disk0"), self.images)

    def test_entry_itself(self) -> None:
        """The entry itself is no place for a disk, but may be a storage directory."""
        self.refused(self.images)
        self.assertEqual(check_allowed(self.host, self.images, may_be_entry=True), self.images)

    def test_similar_name(self) -> None:
        """A directory whose name only begins like an entry is another one."""
        self.assertIn("file-storage-paths", self.refused(f"{self.images}-2/disk0"))

    def test_no_list(self) -> None:
        """Without a list nothing is allowed."""
        os.unlink(self.host.paths.file_storage_paths)
        self.assertIn("allowed: none", self.refused(f"{self.images}/inst1/disk0"))

    def test_relative_entry(self) -> None:
        """A relative entry of the list allows nothing."""
        self.allow("images")
        self.refused(f"{self.images}/disk0")

    def test_not_plain(self) -> None:
        """Paths that have to be normalised are refused before the disk is looked at."""
        for path in (f"{self.images}/a/../../x", f"{self.images}//a", "images/a", f"{self.images}/a/", ""):
            self.assertIn("plain form", self.refused(path))

    def test_link_out(self) -> None:
        """A symbolic link inside does not lead out."""
        outside = f"{self.directory}/outside"
        os.mkdir(outside)
        os.symlink(outside, f"{self.images}/inst1")
        self.refused(f"{self.images}/inst1/disk0")

    def test_entry_is_a_link(self) -> None:
        """An entry may be a link: the administrator wrote it."""
        os.symlink(self.images, f"{self.directory}/link")
        self.allow(f"{self.directory}/link")
        check_allowed(self.host, f"{self.directory}/link/inst1/disk0")

    def test_system_directories(self) -> None:
        """Directories of the system are forbidden even where the list names them."""
        self.allow("/")
        for path in ("/etc/ganeti/disk0", "/usr/local/lib/x/disk0"):
            self.assertIn("system", self.refused(path))

    def test_bad_entries(self) -> None:
        """Entries that are relative or name the system are told, others are not."""
        entries = ("/srv/disks", "srv", "/etc", "/usr/lib64/x", "/home/joe", "/etcetera", "/usr/lib128")
        self.assertEqual(bad_entries(entries), ("srv", "/etc", "/usr/lib64/x", "/home/joe"))

    def test_virtual_node_in_home(self) -> None:
        """A virtual node below /home has its own system directories, and a share beside it."""
        root = "/home/joe/cluster/node1"
        self.assertFalse(is_forbidden(f"{root}/srv/ganeti/file-storage", root))
        self.assertFalse(is_forbidden("/home/joe/cluster/shared", root))
        self.assertTrue(is_forbidden(f"{root}/etc/x", root))
        self.assertTrue(is_forbidden("/home/joe/other", root))

    @given(st.sampled_from(sorted(FORBIDDEN)), st.text("ab/.", max_size=8))
    def test_forbidden_is_forbidden(self, top: str, rest: str) -> None:
        """Whatever lies below a directory of the system once `..` is resolved is forbidden."""
        path = os.path.normpath(f"{top}/{rest}")
        if path == top or is_below(path, top):
            self.assertTrue(is_forbidden(f"{top}/{rest}"))


class CreateTests(InDirectory):
    """Creation and removal of files."""

    def test_name(self) -> None:
        """A new disk is `<storage dir>/<instance>/<uuid>.<template>.disk<N>`."""
        reservations = make_reservations({"sharedfile": "/srv/shared"})
        disk = FileTemplate("sharedfile").layout(DiskSpec(index=2, size=4), make_nodes(1), reservations)
        self.assertEqual(
            disk.logical_id,
            ("loop", f"/srv/shared/inst1.example.com/{disk.uuid}.sharedfile.disk2"),
        )

    def test_sub_directory(self) -> None:
        """A directory of the request lies between, and cannot lead out."""
        plugin = FileTemplate("file")
        reservations = make_reservations({"file": "/srv/files"})
        spec = DiskSpec(index=0, size=4, file_storage_dir="fast")
        path = plugin.layout(spec, make_nodes(1), reservations).logical_id[1]
        self.assertTrue(path.startswith("/srv/files/fast/inst1.example.com/"))
        for wanted in ("../x", "/x", ".", "a/../../b"):
            spec = DiskSpec(index=0, size=4, file_storage_dir=wanted)
            self.assertRaises(PrereqError, plugin.layout, spec, make_nodes(1), reservations)

    def test_what_files_cannot(self) -> None:
        """What only other templates have is refused by name."""
        plugin = FileTemplate("file")
        reservations = make_reservations({"file": "/srv/files"})
        for name in ("adopt", "vg", "metavg", "provider", "access"):
            spec = msgspec.structs.replace(DiskSpec(index=0, size=4), **{name: "x"})
            error = self.assertRaises(PrereqError, plugin.layout, spec, make_nodes(1), reservations)
            self.assertIn(name, str(error))
        spec = DiskSpec(index=0, size=4, file_driver="floppy")
        error = self.assertRaises(PrereqError, plugin.layout, spec, make_nodes(1), reservations)
        self.assertIn("qcow2", str(error))

    def test_no_storage_dir(self) -> None:
        """A cluster without a directory for the template cannot lay out its disks."""
        spec = DiskSpec(index=0, size=4)
        error = self.assertRaises(
            PrereqError, FileTemplate("file").layout, spec, make_nodes(1), make_reservations()
        )
        self.assertIn("gnt-cluster modify", str(error))

    def test_sparse_and_private(self) -> None:
        """A raw image takes no space at first, and only root reads it."""
        disk = self.disk(f"{self.images}/inst1/disk0")
        file_based.create(self.host, disk)
        found = os.stat(f"{self.images}/inst1/disk0")
        self.assertEqual((found.st_size, stat.S_IMODE(found.st_mode)), (4 * MIB, 0o600))
        self.assertLess(found.st_blocks * 512, MIB)

    def test_never_overwrites(self) -> None:
        """Not even an empty file or a link to nowhere is overwritten."""
        os.mkdir(f"{self.images}/inst1")
        os.symlink("/nonexistent", f"{self.images}/inst1/disk0")
        disk = self.disk(f"{self.images}/inst1/disk0")
        error = self.assertRaises(BlockDeviceError, file_based.create, self.host, disk)
        self.assertIn("exists", str(error))
        self.assertTrue(os.path.islink(f"{self.images}/inst1/disk0"))

    def test_disk_full(self) -> None:
        """When the file system refuses, path and free space are told and nothing is left."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))
        disk = self.disk(f"{self.images}/inst1/disk0")
        error = self.assertRaises(BlockDeviceError, file_based.create, self.host, disk)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.assertIn(f"{self.images}/inst1/disk0", str(error))
        self.assertIn("MiB are free", str(error))
        self.assertEqual(self.files(), [])

    def test_larger_than_free(self) -> None:
        """A sparse image larger than the free space is refused, its directory taken back."""
        disk = self.disk(f"{self.images}/inst1/disk0", size=1 << 40)
        error = self.assertRaises(BlockDeviceError, file_based.create, self.host, disk)
        self.assertIn("are free", str(error))
        self.assertEqual(self.files(), [])

    def test_storage_dir_missing(self) -> None:
        """A storage directory that is missing is not made: its file system may not be mounted."""
        os.rmdir(self.images)
        disk = self.disk(f"{self.images}/inst1/disk0")
        error = self.assertRaises(FileStoragePathError, file_based.create, self.host, disk)
        self.assertIn("mount", str(error))
        self.assertFalse(os.path.exists(self.images))

    def test_remains_of_a_crash(self) -> None:
        """What a killed creation left does not keep the next one, and goes with the disk."""
        path = f"{self.images}/inst1/disk0"
        os.mkdir(f"{self.images}/inst1")
        for _ in range(2):
            with open(f"{path}.new", "w", encoding="ascii") as stream:
                stream.write("half")
            file_based.remove(self.host, self.disk(path))
            file_based.create(self.host, self.disk(path))
            self.assertEqual(self.files(), ["inst1", "inst1/disk0"])
            file_based.remove(self.host, self.disk(path))

    def test_directory_goes_with_last_disk(self) -> None:
        """The directory of an instance goes with its last disk, but not before."""
        plugin = FileTemplate("file")
        reservations = make_reservations({"file": self.images})
        disks = [
            plugin.layout(DiskSpec(index=index, size=4), make_nodes(1), reservations) for index in (0, 1)
        ]
        for disk in disks:
            plugin.create(self.host, disk, on_primary=True)
        plugin.remove(self.host, disks[0])
        self.assertEqual(len(self.files()), 2)
        plugin.remove(self.host, disks[1])
        self.assertEqual(self.files(), [])

    def test_foreign_directory_stays(self) -> None:
        """The directory of a file that was not named by the layout is not removed."""
        disk = self.disk(f"{self.images}/pool/disk0")
        file_based.create(self.host, disk)
        file_based.remove(self.host, disk)
        self.assertEqual(self.files(), ["pool"])

    def test_outside_is_not_removed(self) -> None:
        """A file outside the allowed directories is never removed."""
        path = f"{self.directory}/precious"
        with open(path, "w", encoding="ascii") as stream:
            stream.write("data")
        self.assertRaises(FileStoragePathError, file_based.remove, self.host, self.disk(path))
        self.assertTrue(os.path.exists(path))

    def test_link_in_place_of_image(self) -> None:
        """A link where the image should be is not followed."""
        os.mkdir(f"{self.images}/inst1")
        os.symlink("/etc/passwd", f"{self.images}/inst1/disk0")
        disk = self.disk(f"{self.images}/inst1/disk0")
        self.assertRaises(BlockDeviceError, file_based.open_image, self.host, disk)

    def test_alien_identity(self) -> None:
        """An identity that is no file is an error that shows it."""
        for logical_id in (("floppy", "/x"), ("loop", "x"), ("loop",), ()):
            disk = msgspec.structs.replace(self.disk("/x"), logical_id=logical_id)
            self.assertRaises(BlockDeviceError, image_of, disk)


class DirectoryTests(InDirectory):
    """Directories for disk files."""

    def test_make_and_remove(self) -> None:
        """Both may be repeated."""
        for _ in range(2):
            directories.make(self.host, f"{self.images}/fast/inst1")
        for _ in range(2):
            directories.remove(self.host, f"{self.images}/fast/inst1")
        self.assertEqual(self.files(), ["fast"])

    def test_not_empty(self) -> None:
        """A directory with something in it stays, and the error says what."""
        os.makedirs(f"{self.images}/inst1/precious")
        error = self.assertRaises(StorageError, directories.remove, self.host, f"{self.images}/inst1")
        self.assertIn("precious", str(error))

    def test_problems(self) -> None:
        """A directory that is not allowed and missing has both problems."""
        found = directories.problems(self.host, f"{self.directory}/elsewhere")
        self.assertEqual(len(found), 2)
        self.assertEqual(directories.problems(self.host, self.images), [])

    def test_space_of_nothing(self) -> None:
        """A directory that is missing has no space."""
        self.assertRaises(StorageError, directories.space, "file", f"{self.directory}/elsewhere")


class Qcow2Tests(InDirectory):
    """Images of the format qcow2."""

    @given(st.integers(0, 2**63), st.binary(min_size=20, max_size=20), st.binary(max_size=80))
    def test_virtual_size(self, size: int, middle: bytes, rest: bytes) -> None:
        """The size is read from where the format has it, whatever is around."""
        header = qcow2.MAGIC + middle + struct.pack(">Q", size) + rest
        self.assertEqual(qcow2.virtual_size(header), size)

    @given(st.binary(max_size=40))
    def test_not_an_image(self, data: bytes) -> None:
        """Other data has no size."""
        if not data.startswith(qcow2.MAGIC):
            self.assertIsNone(qcow2.virtual_size(data))

    def test_truncated(self) -> None:
        """A header that ends early has no size."""
        self.assertIsNone(qcow2.virtual_size(qcow2.MAGIC + bytes(20)))

    @skipUnless(HAVE_QEMU_IMG, "qemu-img is not installed")
    def test_raw_view(self) -> None:
        """What is written to the raw view is in the image afterwards, and the view is gone."""
        path = f"{self.images}/inst1/disk0"
        disk = self.disk(path, driver="qcow2")
        file_based.create(self.host, disk)
        opened = file_based.open_image(self.host, disk)
        for text in (b"first", b"second"):
            with raw_views(self.host, [opened]) as (view,):
                assert view.path is not None
                self.assertEqual(os.path.getsize(view.path), 4 * MIB)
                with open(view.path, "r+b") as stream:
                    stream.seek(MIB)
                    stream.write(text)
        with raw_views(self.host, [opened], writable=False) as (view,):
            assert view.path is not None
            with open(view.path, "rb") as stream:
                stream.seek(MIB)
                self.assertEqual(stream.read(6), b"second")
        self.assertEqual(self.files(), ["inst1", "inst1/disk0"])

    @skipUnless(HAVE_QEMU_IMG, "qemu-img is not installed")
    def test_failed_use_is_not_written_back(self) -> None:
        """After an error in the block the image is as it was."""
        disk = self.disk(f"{self.images}/inst1/disk0", driver="qcow2")
        file_based.create(self.host, disk)
        opened = file_based.open_image(self.host, disk)

        def fail() -> None:
            with raw_views(self.host, [opened]) as (view,):
                assert view.path is not None
                with open(view.path, "r+b") as stream:
                    stream.write(b"half")
                raise BlockDeviceError("on purpose")

        self.assertRaises(BlockDeviceError, fail)
        with raw_views(self.host, [opened], writable=False) as (view,):
            assert view.path is not None
            with open(view.path, "rb") as stream:
                self.assertEqual(stream.read(4), bytes(4))

    def test_raw_disks_are_left_alone(self) -> None:
        """A disk that is raw already is its own view."""
        disk = OpenDisk(path="/dev/null")
        with raw_views(self.host, [disk]) as views:
            self.assertIs(views[0], disk)


class WipeTests(InDirectory):
    """Overwriting with zeros."""

    def setUp(self) -> None:
        """An image of 3 MiB full of ones."""
        super().setUp()
        self.path = f"{self.images}/disk0"
        with open(self.path, "wb") as stream:
            stream.write(b"\xff" * 3 * MIB)

    def wipe(self, offset: int, size: int, timeout_s: float = 60) -> None:
        """Wipe a part."""
        disk = OpenDisk(path=self.path)
        overwrite_with_zeros(
            self.host, disk, offset_mib=offset, size_mib=size, disk_bytes=3 * MIB, timeout_s=timeout_s
        )

    def test_only_the_part(self) -> None:
        """What lies before and behind stays."""
        self.wipe(1, 1)
        with open(self.path, "rb") as stream:
            data = stream.read()
        self.assertEqual([data[part * MIB :][:MIB].count(0) for part in range(3)], [0, MIB, 0])
        self.assertEqual(len(data), 3 * MIB)

    def test_outside(self) -> None:
        """A part that does not lie in the disk is refused, and the file does not grow."""
        for offset, size in ((2, 2), (-1, 1), (0, -1), (4, 0)):
            self.assertRaises(BlockDeviceError, self.wipe, offset, size)
        self.assertEqual(os.path.getsize(self.path), 3 * MIB)

    @skipUnless(shutil.which("qemu-io"), "qemu-io is not installed")
    def test_qcow2(self) -> None:
        """In an image of that format the guest's data is wiped, not the format."""
        disk = self.disk(f"{self.images}/inst1/disk0", driver="qcow2")
        file_based.create(self.host, disk)
        opened = file_based.open_image(self.host, disk)
        with raw_views(self.host, [opened]) as (view,):
            assert view.path is not None
            with open(view.path, "r+b") as stream:
                stream.write(b"\xff" * 2 * MIB)
        overwrite_with_zeros(self.host, opened, offset_mib=0, size_mib=1, disk_bytes=4 * MIB, timeout_s=60)
        with raw_views(self.host, [opened], writable=False) as (view,):
            assert view.path is not None
            with open(view.path, "rb") as stream:
                self.assertEqual(stream.read(2 * MIB), bytes(MIB) + b"\xff" * MIB)

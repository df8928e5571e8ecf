"""Parts of the tiny guest that need no kernel: archives, heartbeats, labels."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import unittest
from shutil import which

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.vcluster.cpio import Member, archive
from ganeti.vcluster.tiny_guest import elf_kernel, main
from ganeti.vcluster.tiny_heartbeats import (
    FIRST_SECTOR,
    SECTOR,
    SLOTS,
    Heartbeat,
    console_heartbeats,
    disk_heartbeats,
    label,
    summary,
)


def _beat(number: int, boot: str = "b1") -> Heartbeat:
    return Heartbeat(number=number, boot=boot, uptime_s=float(number))


class CpioTests(SynchronousTestCase):
    """Archives of the initial file system."""

    def test_the_usual_program_reads_it(self) -> None:
        """What is packed comes out again, with content, mode and names of any length."""
        if which("cpio") is None:
            raise unittest.SkipTest("cpio is not installed")
        target = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, target)
        members = [
            Member(name="d", mode=0o040755),
            Member(name="d/a", mode=0o100755, data=b"abc"),
            Member(name="d/bcdefg", mode=0o100600, data=b""),
        ]
        subprocess.run(["cpio", "-id", "--quiet"], input=archive(members), cwd=target, check=True, timeout=20)
        with open(f"{target}/d/a", "rb") as stream:
            self.assertEqual(stream.read(), b"abc")
        self.assertEqual(os.stat(f"{target}/d/a").st_mode, 0o100755)
        self.assertEqual(os.stat(f"{target}/d/bcdefg").st_size, 0)

    @given(st.lists(st.binary(max_size=9), max_size=4))
    def test_everything_is_aligned(self, contents: list[bytes]) -> None:
        """The length is a multiple of 4 whatever is in it, as the kernel wants it."""
        members = [Member(name=f"f{n}", mode=0o100644, data=data) for n, data in enumerate(contents)]
        self.assertEqual(len(archive(members)) % 4, 0)


class HeartbeatTests(SynchronousTestCase):
    """What a disk or console proves."""

    def test_unbroken(self) -> None:
        """Consecutive numbers of one boot have no gap."""
        found = summary(_beat(n) for n in (3, 1, 2))
        assert found is not None
        self.assertEqual((found.newest.number, found.missing, found.boots), (3, (), ("b1",)))

    def test_gap(self) -> None:
        """A number that is not there was lost."""
        found = summary(_beat(n) for n in (5, 6, 9))
        assert found is not None
        self.assertEqual(found.missing, (7, 8))

    def test_second_boot(self) -> None:
        """A reboot shows as a second id."""
        found = summary([_beat(1), _beat(2, "b2")])
        assert found is not None
        self.assertEqual(found.boots, ("b1", "b2"))

    @given(st.integers(1, 3 * SLOTS), st.integers(1, SLOTS))
    def test_the_ring_may_turn(self, first: int, count: int) -> None:
        """Slots that the ring overwrote are no gap, wherever it stands."""
        kept = {number % SLOTS: _beat(number) for number in range(first, first + SLOTS + count)}
        found = summary(kept.values())
        assert found is not None
        self.assertEqual((found.newest.number, found.missing), (first + SLOTS + count - 1, ()))

    def test_disk(self) -> None:
        """Records are found where the guest writes them."""
        with tempfile.NamedTemporaryFile() as disk:
            disk.write(label("inst1"))
            for number in (7, 8):
                disk.seek((FIRST_SECTOR + number % SLOTS) * SECTOR)
                disk.write(f"HB {number} abc {number}.5\n".encode().ljust(SECTOR, b"\0"))
            disk.flush()
            found = disk_heartbeats(disk.name)
        assert found is not None
        self.assertEqual(found.newest, Heartbeat(number=8, boot="abc", uptime_s=8.5))

    def test_empty_disk(self) -> None:
        """A disk on which nothing ran has none."""
        with tempfile.NamedTemporaryFile() as disk:
            disk.truncate(2 << 20)
            self.assertIsNone(disk_heartbeats(disk.name))

    def test_qcow2_is_refused(self) -> None:
        """An image of another format is not taken for an empty disk."""
        with tempfile.NamedTemporaryFile() as disk:
            disk.write(b"QFI\xfb")
            disk.flush()
            self.assertRaises(ValueError, disk_heartbeats, disk.name)

    def test_console(self) -> None:
        """Heartbeats are picked out of other output, torn lines left out."""
        self.assertEqual(
            console_heartbeats(b"tiny: ready\r\nheartbeat 4\r\nnoise heartbeat 9\nheartbeat 5\r\nheart"),
            (4, 5),
        )


class BuilderTests(SynchronousTestCase):
    """The builder's edges."""

    def test_unknown_compression(self) -> None:
        """A kernel that cannot be taken out is used as it is."""
        self.assertIsNone(elf_kernel(b"\0" * 100))

    def test_usage(self) -> None:
        """Two directories are a mistake."""
        self.assertEqual(main(["a", "b"]), 2)

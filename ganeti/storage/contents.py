"""The content of an opened disk as a row of blocks: read without its zeros, written where all was zero.

Of a qcow2 image the file itself is the content, so that a copy is the same image. Blocks come in order
and never overlap; what lies between them is zero.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator

from ganeti.errors import BlockDeviceError
from ganeti.model.calls.disks import OpenDisk
from ganeti.storage import qcow2

BLOCK = 1024 * 1024
ZEROS_AT_ONCE = 64 * BLOCK
"""Of a long row of zeros the reader tells after this much, so that whoever waits sees it is alive."""
SYNC_EVERY = 64 * BLOCK
"""Written data is brought to the device after this much, so that the end does not take minutes."""

_ZEROS = bytes(BLOCK)


class ContentDigest:
    """SHA-256 of blocks with their places."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.carried = 0

    def add(self, offset: int, data: bytes) -> None:
        """The next block."""
        self._hash.update(offset.to_bytes(8, "big"))
        self._hash.update(data)
        self.carried += len(data)

    def hex(self) -> str:
        """The digest so far."""
        return self._hash.hexdigest()


class Source:
    """Content that is read, and does not change meanwhile.

    Args:
        disk: open on this node.
        size_bytes: what a guest sees of it.

    Raises:
        BlockDeviceError: it cannot be read.
    """

    def __init__(self, disk: OpenDisk, size_bytes: int) -> None:
        self._path = _path_of(disk)
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY)
            found = os.fstat(self._descriptor)
        except OSError as error:
            raise BlockDeviceError(f"{self._path} cannot be read: {error.strerror}") from error
        self.size = found.st_size if disk.format == "qcow2" else size_bytes
        self._may_have_holes = stat.S_ISREG(found.st_mode)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Offset and data of each block that is not zero; without data: all is zero up to there.

        Raises:
            BlockDeviceError: a part cannot be read.
        """
        try:
            yield from self._blocks()
        except OSError as error:
            raise BlockDeviceError(f"{self._path} cannot be read: {error.strerror}") from error

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        offset = told = 0
        while offset < self.size:
            offset = self._next_data(offset)
            while offset - told >= ZEROS_AT_ONCE:
                told += ZEROS_AT_ONCE
                yield told, b""
            if offset >= self.size:
                return
            length = min(BLOCK, self.size - offset)
            data = os.pread(self._descriptor, length, offset)
            if len(data) != length:
                raise BlockDeviceError(
                    f"{self._path} ends at {offset + len(data)} bytes; it should have {self.size}"
                )
            if data != _ZEROS[:length]:
                yield offset, data
                told = offset + length
            offset += length

    def _next_data(self, offset: int) -> int:
        """Where the block begins in which there may be something other than zeros."""
        if not self._may_have_holes:
            return offset
        try:
            found = os.lseek(self._descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return self.size
            return offset
        return found - found % BLOCK if found > offset else offset


class Sink:
    """A new disk that gets content.

    Args:
        disk: open on this node; nobody else uses it.
        size_bytes: what a guest sees of it.

    Raises:
        BlockDeviceError: it cannot be written.
    """

    def __init__(self, disk: OpenDisk, size_bytes: int) -> None:
        self._path = _path_of(disk)
        self._is_qcow2 = disk.format == "qcow2"
        self._wanted = size_bytes
        self._end = 0
        self._unsynced = 0
        self.size = 0
        try:
            self._descriptor = os.open(self._path, os.O_RDWR)
            self._reads_as_zeros = self._is_all_hole()
        except OSError as error:
            raise BlockDeviceError(f"{self._path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)

    def begin(self, size: int) -> None:
        """Say how much comes.

        Raises:
            BlockDeviceError: that is not what the disk holds.
        """
        if self._is_qcow2:
            # Tables of an image take a small part of what it can hold.
            most = self._wanted + self._wanted // 8 + 64 * BLOCK
            if not qcow2.HEADER_BYTES <= size <= most:
                raise BlockDeviceError(f"an image of {size} bytes cannot be one of {self._wanted} bytes")
        elif size != self._wanted:
            raise BlockDeviceError(
                f"the disk has {size} bytes at the source and {self._wanted} bytes in {self._path}"
            )
        self.size = size
        if self._is_qcow2:
            with self._problems():
                os.ftruncate(self._descriptor, 0)
                os.ftruncate(self._descriptor, size)
            self._reads_as_zeros = True

    def put(self, offset: int, data: bytes) -> None:
        """Write a block, and zeros before it; without data only zeros up to `offset`.

        Raises:
            BlockDeviceError: out of order, too much, no space, or an image that refers to other files.
        """
        if offset < self._end or offset + len(data) > self.size:
            raise BlockDeviceError(f"the source sends data for {self._path} that lie outside of it")
        if self._is_qcow2 and self._end == 0 and (offset > 0 or qcow2.refers_elsewhere(data)):
            raise BlockDeviceError(
                f"the image for {self._path} stands on another file or is damaged, and is not taken"
            )
        with self._problems():
            self._zeros_up_to(offset)
            self._write(data, offset)
        self._end = offset + len(data)

    def finish(self) -> None:
        """Write the zeros at the end, and bring all of it to the device."""
        with self._problems():
            self._zeros_up_to(self.size)
            os.fsync(self._descriptor)

    def _zeros_up_to(self, offset: int) -> None:
        if self._reads_as_zeros:
            return
        for start in range(self._end, offset, BLOCK):
            self._write(_ZEROS[: min(BLOCK, offset - start)], start)

    def _write(self, data: bytes, offset: int) -> None:
        left = memoryview(data)
        while left:
            done = os.pwrite(self._descriptor, left, offset)
            left, offset = left[done:], offset + done
        self._unsynced += len(data)
        if self._unsynced >= SYNC_EVERY:
            os.fdatasync(self._descriptor)
            self._unsynced = 0

    def _is_all_hole(self) -> bool:
        """Whether nothing was ever written to it, so that it reads as zeros."""
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            return False
        try:
            os.lseek(self._descriptor, 0, os.SEEK_DATA)
        except OSError as error:
            return error.errno == errno.ENXIO
        return False

    def _problems(self) -> _Named:
        return _Named(self._path)


class _Named:
    """Errors of the system inside the block become those of the disk."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise BlockDeviceError(f"{self._path} cannot be written: {error.strerror}") from error


def _path_of(disk: OpenDisk) -> str:
    if disk.path is None:
        raise BlockDeviceError(f"disk {disk.uri} has no device on this node and cannot be copied here")
    return disk.path

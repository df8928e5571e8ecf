"""Images of the format qcow2: what their header says, and commands that act on them. Pure."""

from __future__ import annotations

import struct

MAGIC = b"QFI\xfb"
HEADER_BYTES = 32
"""As much of the file as `virtual_size` needs."""

_EXTENDED_HEADER_BYTES = 80
_EXTERNAL_DATA = 1 << 2
"""Bit of the features that an old reader must know: the data are in another file."""

DRIVER = "qcow2"
"""Driver in the identity of a disk that makes its file an image of this format; others are raw."""


def virtual_size(header: bytes) -> int | None:
    """Bytes that a guest sees, from the beginning of the file; None if it is no such image."""
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        return None
    (size,) = struct.unpack(">Q", header[24:32])
    return int(size)


def refers_elsewhere(header: bytes) -> bool:
    """Whether an image stands on another file, keeps its data in one, or is no image.

    Whoever opens such an image opens the other file, too.
    """
    if len(header) < _EXTENDED_HEADER_BYTES or not header.startswith(MAGIC):
        return True
    version, backing_offset = struct.unpack(">IQ", header[4:16])
    (features,) = struct.unpack(">Q", header[72:80])
    return backing_offset != 0 or (version >= 3 and bool(features & _EXTERNAL_DATA))


def create_command(path: str, size_mib: int) -> list[str]:
    """Make an empty image."""
    return ["qemu-img", "create", "-q", "-f", "qcow2", "--", path, f"{size_mib}M"]


def grow_command(path: str, by_mib: int) -> list[str]:
    """Enlarge an image that nobody has open."""
    return ["qemu-img", "resize", "-q", "-f", "qcow2", "--", path, f"+{by_mib}M"]


def unpack_command(image: str, raw: str) -> list[str]:
    """Copy what a guest sees to a sparse raw file."""
    return ["qemu-img", "convert", "-q", "-f", "qcow2", "-O", "raw", "--", image, raw]


def repack_command(raw: str, image: str) -> list[str]:
    """Copy a raw file into an image that exists, over all that it holds."""
    return ["qemu-img", "convert", "-q", "-n", "-f", "raw", "-O", "qcow2", "--", raw, image]


def zero_command(image: str, offset_mib: int, size_mib: int) -> list[str]:
    """Overwrite a part of an image with zeros."""
    return ["qemu-io", "-f", "qcow2", "-c", f"write -q -z {offset_mib}M {size_mib}M", "--", image]

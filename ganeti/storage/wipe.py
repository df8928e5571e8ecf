"""Overwrites a part of an open disk with zeros, without looking at what was there."""

from __future__ import annotations

import os

from ganeti.errors import BlockDeviceError, CommandFailed
from ganeti.interfaces import IHost
from ganeti.model.calls.disks import OpenDisk
from ganeti.storage import qcow2
from ganeti.storage.directories import MIB

_ZEROS = bytes(MIB)


def overwrite_with_zeros(
    host: IHost, disk: OpenDisk, *, offset_mib: int, size_mib: int, disk_bytes: int, timeout_s: float
) -> None:
    """Write zeros and make sure that they are on the device.

    Args:
        host: the node.
        disk: open on this node; nobody else may write to it.
        offset_mib: where to begin.
        size_mib: how much.
        disk_bytes: real size of the disk.
        timeout_s: after this long it is given up.

    Raises:
        BlockDeviceError: the part lies outside the disk, or cannot be written.
    """
    if disk.path is None:
        raise BlockDeviceError(f"disk {disk.uri} has no device on this node and cannot be wiped here")
    if offset_mib < 0 or size_mib < 0 or (offset_mib + size_mib) * MIB > disk_bytes:
        raise BlockDeviceError(
            f"{size_mib} MiB from {offset_mib} MiB on lie outside {disk.path} ({disk_bytes // MIB} MiB)"
        )
    try:
        if disk.format == "qcow2":
            command = qcow2.zero_command(disk.path, offset_mib, size_mib)
            host.processes.run(command, timeout_s=timeout_s)
        else:
            _write(host, disk.path, offset_mib, size_mib, timeout_s)
    except (OSError, CommandFailed) as error:
        raise BlockDeviceError(f"{disk.path} cannot be wiped: {error}") from error


def _write(host: IHost, path: str, offset_mib: int, size_mib: int, timeout_s: float) -> None:
    deadline = host.now() + timeout_s
    descriptor = os.open(path, os.O_WRONLY)
    try:
        for part in range(offset_mib, offset_mib + size_mib):
            _write_mib(descriptor, part)
            if host.now() > deadline:
                raise BlockDeviceError(f"{path} was wiped up to {part} MiB only: it takes too long")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_mib(descriptor: int, part: int) -> None:
    done = 0
    while done < MIB:
        done += os.pwrite(descriptor, _ZEROS[done:], part * MIB + done)

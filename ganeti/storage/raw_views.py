"""Raw copies of images for programs that only know devices, such as OS scripts.

A script writes to `DISK_0_PATH` as if it were a device. On a qcow2 image that would destroy the
format, so the script gets a sparse raw copy beside the image, which is written back afterwards.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import msgspec

from ganeti.errors import BlockDeviceError, CommandFailed
from ganeti.interfaces import IHost
from ganeti.model.calls.disks import OpenDisk
from ganeti.storage import qcow2

_COPY_TIMEOUT_S = 4 * 3600.0


@contextlib.contextmanager
def raw_views(host: IHost, disks: Sequence[OpenDisk], *, writable: bool = True) -> Iterator[list[OpenDisk]]:
    """The same disks, all of them raw, while the block runs.

    Args:
        host: the node.
        disks: open on this node; nobody else may use them meanwhile.
        writable: what was written is kept when the block ends without an error.

    Raises:
        BlockDeviceError: an image cannot be copied to or fro; then it is as it was before.
    """
    with contextlib.ExitStack() as copies:
        views = [_view(host, disk, copies) for disk in disks]
        yield views
        if writable:
            for disk, view in zip(disks, views, strict=True):
                if view is not disk and disk.path is not None and view.path is not None:
                    _copy(host, qcow2.repack_command(view.path, disk.path), disk.path)


def _view(host: IHost, disk: OpenDisk, copies: contextlib.ExitStack) -> OpenDisk:
    if disk.path is None or disk.format == "raw":
        return disk
    copy = f"{disk.path}.raw"
    copies.callback(_drop, copy)
    # Made beforehand, so that nobody but root may read it.
    os.close(os.open(copy, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    _copy(host, qcow2.unpack_command(disk.path, copy), disk.path)
    return msgspec.structs.replace(disk, path=copy, format="raw", link=None)


def _copy(host: IHost, command: list[str], image: str) -> None:
    try:
        host.processes.run(command, timeout_s=_COPY_TIMEOUT_S)
    except CommandFailed as error:
        raise BlockDeviceError(f"image {image} cannot be shown as a raw disk: {error}") from error


def _drop(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)

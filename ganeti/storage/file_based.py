"""Disks that are files on this node: created whole or not at all, and never over anything.

Raw images are sparse; space is taken as the guest writes. All the same a disk that is larger than
the free space is refused, because its guest would meet write errors long after anybody expects them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from ganeti.errors import BlockDeviceError, CommandFailed, StorageError
from ganeti.interfaces import IHost
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.disk import Disk
from ganeti.storage import directories, qcow2
from ganeti.storage.allowed_paths import check_allowed
from ganeti.storage.directories import MIB
from ganeti.storage.file_images import Image, image_of

_COMMAND_TIMEOUT_S = 120.0
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def create(host: IHost, disk: Disk) -> None:
    """Create the file, and the instance's directory where it lacks.

    Raises:
        BlockDeviceError: it exists, or cannot be created; nothing is left behind.
        FileStoragePathError: it may not lie there.
    """
    image = image_of(disk)
    check_allowed(host, image.path)
    if os.path.lexists(image.path):
        raise BlockDeviceError(f"{image.path} exists already and will not be overwritten")
    try:
        made = directories.make(host, image.directory)
    except StorageError as error:
        raise BlockDeviceError(f"{image.path} cannot be created: {error}") from error
    try:
        _refuse_without_space(host, image, disk.size)
        _create_whole(host, image, disk.size)
    except BaseException:
        directories.unmake(made)
        raise


def remove(host: IHost, disk: Disk) -> None:
    """Remove the file, and the instance's directory with the last one; no error if it is gone.

    Raises:
        BlockDeviceError: it cannot be removed.
        FileStoragePathError: it may not be touched.
    """
    image = image_of(disk)
    check_allowed(host, image.path)
    for path in (_unfinished(image), image.path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise BlockDeviceError(f"{path} cannot be removed: {error.strerror}") from error
    if image.has_own_directory:
        with contextlib.suppress(OSError):
            os.rmdir(image.directory)


def open_image(host: IHost, disk: Disk) -> OpenDisk:
    """The file for whoever reads and writes it.

    Raises:
        BlockDeviceError: it is missing, or is not what the disk says.
        FileStoragePathError: it may not be touched.
    """
    image = image_of(disk)
    check_allowed(host, image.path)
    if size_bytes(disk) is None:
        raise BlockDeviceError(
            f"{image.path} of disk {disk.iv_name or disk.uuid} is missing on node {host.name or 'here'},"
            f" or is not a {image.format} image"
        )
    return OpenDisk(path=image.path, format=image.format, mode=disk.mode, size=disk.size)


def grow(host: IHost, disk: Disk, *, by_mib: int, dry_run: bool) -> None:
    """Enlarge the file; with `dry_run` only find out whether that can be done.

    Raises:
        BlockDeviceError: it cannot be enlarged; it is as before.
        FileStoragePathError: it may not be touched.
    """
    image = image_of(disk)
    open_image(host, disk)
    if by_mib < 0:
        raise BlockDeviceError(f"{image.path} cannot shrink (by {-by_mib} MiB); disks can only grow")
    _refuse_without_space(host, image, by_mib)
    if dry_run:
        return
    try:
        if image.format == "qcow2":
            # Fails by itself if a hypervisor has the image open: only that may enlarge it then.
            host.processes.run(qcow2.grow_command(image.path, by_mib), timeout_s=_COMMAND_TIMEOUT_S)
        else:
            os.truncate(image.path, os.stat(image.path).st_size + by_mib * MIB)
    except (OSError, CommandFailed) as error:
        raise _failure("enlarged", image, error) from error


def size_bytes(disk: Disk) -> int | None:
    """Bytes that a guest sees, or None if the file is missing or of another kind."""
    image = image_of(disk)
    try:
        found = os.lstat(image.path)
        if not stat.S_ISREG(found.st_mode):
            return None
        if image.format == "raw":
            return found.st_size
        with open(image.path, "rb") as file:
            return qcow2.virtual_size(file.read(qcow2.HEADER_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BlockDeviceError(f"{image.path} cannot be read: {error.strerror}") from error


def _create_whole(host: IHost, image: Image, size_mib: int) -> None:
    """Make the file under another name and link it to its own, which fails if that is taken."""
    unfinished = _unfinished(image)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        try:
            if image.format == "raw":
                os.ftruncate(descriptor, size_mib * MIB)
        finally:
            os.close(descriptor)
        if image.format == "qcow2":
            host.processes.run(qcow2.create_command(unfinished, size_mib), timeout_s=_COMMAND_TIMEOUT_S)
        os.link(unfinished, image.path)
    except (OSError, CommandFailed) as error:
        raise _failure("created", image, error) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)


def _refuse_without_space(host: IHost, image: Image, wanted_mib: int) -> None:
    try:
        free = directories.free_mib(image.directory)
    except StorageError as error:
        raise BlockDeviceError(f"{image.path}: {error}") from error
    if wanted_mib > free:
        raise BlockDeviceError(
            f"no space for {wanted_mib} MiB of {image.path} on node {host.name or 'here'}:"
            f" {free} MiB are free; remove something there or choose another node"
        )


def _failure(what: str, image: Image, error: OSError | CommandFailed) -> BlockDeviceError:
    if isinstance(error, CommandFailed):
        return BlockDeviceError(f"{image.path} cannot be {what}: {error}")
    if error.errno in _NO_SPACE:
        free = directories.free_mib(image.directory)
        return BlockDeviceError(f"{image.path} cannot be {what}: {error.strerror} ({free} MiB are free)")
    return BlockDeviceError(f"{image.path} cannot be {what}: {error.strerror}")


def _unfinished(image: Image) -> str:
    return f"{image.path}.new"

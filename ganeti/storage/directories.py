"""Directories for disk files on this node: made, removed, measured and tested."""

from __future__ import annotations

import os

from ganeti.errors import FileStoragePathError, StorageError
from ganeti.interfaces import IHost
from ganeti.model.calls.disks import StorageSpace
from ganeti.storage.allowed_paths import check_allowed

MIB = 1024 * 1024
_MODE = 0o750


def make(host: IHost, path: str) -> list[str]:
    """Make a directory and what lacks above it, but never an entry of the allowed list itself.

    An entry that is missing usually means that a file system is not mounted; to make it would put
    disks into the file system below.

    Returns:
        What was made, in that order.

    Raises:
        FileStoragePathError: it may not lie there, or its allowed directory is missing.
        StorageError: it cannot be made.
    """
    entry = check_allowed(host, path, may_be_entry=True)
    if not os.path.isdir(entry):
        raise FileStoragePathError(
            f"directory {entry} for disk files is missing on node {host.name or 'here'};"
            " mount its file system, or create it"
        )
    missing = []
    directory = path
    while not os.path.lexists(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    made: list[str] = []
    try:
        for directory in reversed(missing):
            os.mkdir(directory, _MODE)
            made.append(directory)
    except FileExistsError:
        # Another call made it just now, which is as good.
        os.makedirs(path, _MODE, exist_ok=True)
    except OSError as error:
        unmake(made)
        raise StorageError(f"directory {path} cannot be made: {error.strerror}") from error
    if not os.path.isdir(path):
        raise StorageError(f"{path} is not a directory")
    return made


def unmake(made: list[str]) -> None:
    """Take back what `make` made, as far as it is empty."""
    for directory in reversed(made):
        try:
            os.rmdir(directory)
        except OSError:
            return


def remove(host: IHost, path: str) -> None:
    """Remove an empty directory below an allowed one; no error if it is gone.

    Raises:
        FileStoragePathError: it may not be touched.
        StorageError: it is not empty, or cannot be removed.
    """
    check_allowed(host, path)
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        left = ""
        if os.path.isdir(path) and not os.path.islink(path):
            left = ", ".join(sorted(os.listdir(path))[:5])
        reason = f"it still holds {left}" if left else error.strerror
        raise StorageError(f"directory {path} cannot be removed: {reason}") from error


def free_mib(path: str) -> int:
    """Space in MiB that new files in a directory may take.

    Raises:
        StorageError: the directory is missing.
    """
    space = _statvfs(path)
    return space.f_bavail * space.f_frsize // MIB


def space(storage_type: str, path: str) -> StorageSpace:
    """Space of the file system in which a directory lies; raises as `free_mib`."""
    found = _statvfs(path)
    return StorageSpace(
        type=storage_type,
        name=path,
        storage_free=found.f_bavail * found.f_frsize // MIB,
        storage_size=found.f_blocks * found.f_frsize // MIB,
    )


def problems(host: IHost, path: str) -> list[str]:
    """What is wrong with a directory for disk files on this node; empty: nothing."""
    found: list[str] = []
    try:
        check_allowed(host, path, may_be_entry=True)
    except FileStoragePathError as error:
        found.append(str(error))
    if not os.path.isdir(path):
        found.append(f"{path} is missing, or is not a directory")
    elif not os.access(path, os.W_OK | os.X_OK):
        found.append(f"{path} cannot be written to")
    return found


def _statvfs(path: str) -> os.statvfs_result:
    try:
        return os.statvfs(path)
    except OSError as error:
        raise StorageError(f"space of {path} cannot be found out: {error.strerror}") from error

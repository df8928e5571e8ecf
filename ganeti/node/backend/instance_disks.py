"""Disks of an instance on this node: opened with a link, `<instance>:<index>`, that stays the same."""

from __future__ import annotations

import contextlib
import os

import msgspec

from ganeti.errors import BlockDeviceError
from ganeti.interfaces import IHost
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.disk import Disk
from ganeti.model.filled import FilledInstance
from ganeti.node.backend.plugin_choice import storage_named
from ganeti.node.backend.registry import NodeWorld
from ganeti.storage.tree import opening_order


def open_disk(node: NodeWorld, disk: Disk, instance: str, index: int, *, on_primary: bool) -> OpenDisk:
    """Open a disk and what it stands on; on the primary also set its link. May be repeated.

    Raises:
        BlockDeviceError: it cannot be opened.
    """
    opened: OpenDisk | None = None
    for part in opening_order(disk):
        opened = storage_named(node, part.dev_type).open(node.host, part, on_primary=on_primary)
    assert opened is not None
    if not on_primary or opened.path is None:
        return opened
    return msgspec.structs.replace(opened, link=set_link(node.host, instance, index, opened.path))


def open_all(node: NodeWorld, instance: FilledInstance) -> tuple[OpenDisk, ...]:
    """Every disk of an instance, opened once more, which does nothing where they are open."""
    return tuple(
        open_disk(node, disk, instance.name, index, on_primary=True)
        for index, disk in enumerate(instance.disks)
    )


def link_path(host: IHost, instance: str, index: int) -> str:
    """Where the link to a disk is.

    Raises:
        BlockDeviceError: the name of the instance cannot be part of a file name.
    """
    if "/" in instance or not instance or "\0" in instance:
        raise BlockDeviceError(f"{instance!r} is no name for an instance")
    return f"{host.paths.instance_disks_dir}/{instance}:{index}"


def set_link(host: IHost, instance: str, index: int, target: str) -> str:
    """Let the link lead to an open disk, in place of where it led before; gives its name.

    Raises:
        BlockDeviceError: the link cannot be made.
    """
    link = link_path(host, instance, index)
    unfinished = f"{link}.new-{os.getpid()}"
    try:
        if os.path.islink(link) and os.readlink(link) == target:
            return link
        os.makedirs(os.path.dirname(link), 0o755, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        os.symlink(target, unfinished)
        os.replace(unfinished, link)
    except OSError as error:
        raise BlockDeviceError(f"link {link} cannot be made: {error.strerror}") from error
    return link


def drop_link(host: IHost, instance: str, index: int) -> None:
    """Remove the link; no error if there is none."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link_path(host, instance, index))

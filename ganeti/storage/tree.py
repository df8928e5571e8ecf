"""In which order the parts of a disk are created, opened, closed and removed. Pure.

A disk may stand on others (`children`): a mirrored one on its data and its metadata. What stands
below has to be there first and goes last; parts beside each other keep their order.
"""

from __future__ import annotations

from collections.abc import Iterator

from ganeti.model.disk import Disk


def creation_order(disk: Disk) -> Iterator[Disk]:
    """The parts of a disk as they have to be created: what stands below comes first."""
    for child in disk.children:
        yield from creation_order(child)
    yield disk


def opening_order(disk: Disk) -> Iterator[Disk]:
    """The parts of a disk as they have to be opened; the disk itself is the last."""
    return creation_order(disk)


def closing_order(disk: Disk) -> Iterator[Disk]:
    """The parts of a disk as they have to be closed: exactly the reverse of opening."""
    yield disk
    for child in reversed(disk.children):
        yield from closing_order(child)


def removal_order(disk: Disk) -> Iterator[Disk]:
    """The parts of a disk as they have to be removed: exactly the reverse of creation."""
    return closing_order(disk)

"""Whether what a node says of itself can be true. Pure.

A node that is out of its mind must not get instances because of it: one figure that cannot be, and
nothing that it says counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from ganeti.model.calls.disks import StorageSpace
from ganeti.model.calls.report import Report
from ganeti.model.calls.system import NodeCapacity, NodeInfoResult

LARGEST_MEMORY_MIB = 2**30
"""A pebibyte."""
LARGEST_DISK_MIB = 2**40
"""An exbibyte."""
LARGEST_CPU_COUNT = 2**16


def report_nonsense(report: Report) -> Iterator[str]:
    """Figures of a whole report that cannot be true, in words."""
    yield from info_nonsense(report.info)
    for name, found in report.running.items():
        if not 0 <= found.memory <= LARGEST_MEMORY_MIB:
            yield f"instance {name} uses {found.memory} MiB of memory"


def info_nonsense(info: NodeInfoResult) -> Iterator[str]:
    """Figures of the node itself that cannot be true, in words."""
    for hypervisor, capacity in info.hypervisors.items():
        for text in capacity_nonsense(capacity):
            yield f"hypervisor {hypervisor}: {text}"
    for space in info.storage:
        for text in _space_nonsense(space):
            yield f"storage {space.type} {space.name}: {text}"


def capacity_nonsense(capacity: NodeCapacity) -> Iterator[str]:
    """Figures of a hypervisor that cannot be true, in words."""
    memory, cpus = capacity.memory_total, capacity.cpu_total
    if not 0 < memory <= LARGEST_MEMORY_MIB:
        yield f"{memory} MiB of memory in all"
    elif not 0 <= capacity.memory_free <= memory:
        yield f"{capacity.memory_free} MiB of memory free of {memory}"
    elif not 0 <= capacity.memory_dom0 <= memory:
        yield f"{capacity.memory_dom0} MiB of memory used by the node itself of {memory}"
    if not 0 < cpus <= LARGEST_CPU_COUNT:
        yield f"{cpus} processors"
    elif not 0 <= capacity.cpu_dom0 <= cpus:
        yield f"{capacity.cpu_dom0} processors used by the node itself of {cpus}"


def _space_nonsense(space: StorageSpace) -> Iterator[str]:
    size, free = space.storage_size, space.storage_free
    if size is not None and not 0 <= size <= LARGEST_DISK_MIB:
        yield f"a size of {size}"
    elif free is not None and not 0 <= free <= (LARGEST_DISK_MIB if size is None else size):
        yield f"{free} free" if size is None else f"{free} free of {size}"

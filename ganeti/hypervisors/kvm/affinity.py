"""Pins the processors of an instance to processors of the node (`cpu_mask`)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ganeti.errors import HypervisorError
from ganeti.hypervisors.kvm.qmp import QmpClient


def pinning(mask: str, vcpus: int) -> tuple[frozenset[int] | None, ...]:
    """Processors of the node for each of the instance; None: any. Pure.

    Raises:
        HypervisorError: as many lists as processors are needed, or one.
    """
    lists = [None if part == "all" else _processors(part) for part in mask.split(":")]
    if len(lists) == 1:
        return tuple(lists * vcpus)
    if len(lists) != vcpus:
        raise HypervisorError(f"cpu_mask has {len(lists)} lists for {vcpus} processors; give one or {vcpus}")
    return tuple(lists)


def pin(qmp: QmpClient, wanted: Sequence[frozenset[int] | None]) -> None:
    """Bind the threads of QEMU.

    Raises:
        HypervisorError: a processor that this node does not have.
    """
    if all(processors is None for processors in wanted):
        return
    for thread in qmp.execute("query-cpus-fast"):
        processors = wanted[thread["cpu-index"]]
        if processors is None:
            continue
        try:
            os.sched_setaffinity(thread["thread-id"], processors)
        except OSError as error:
            listed = ",".join(map(str, sorted(processors)))
            raise HypervisorError(f"cannot pin a processor to {listed}: {error.strerror}") from error


def _processors(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)

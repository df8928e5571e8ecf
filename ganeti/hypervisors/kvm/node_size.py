"""Memory and processors of this node, from what the kernel says."""

from __future__ import annotations

import glob
import os
import re

import msgspec

from ganeti.model.calls.system import NodeCapacity


def capacity(meminfo: str, cpuinfo: str, *, nodes: int, used_mib: int, version: str | None) -> NodeCapacity:
    """Capacity of a node. Pure.

    Args:
        meminfo: text of `/proc/meminfo`.
        cpuinfo: text of `/proc/cpuinfo`.
        nodes: NUMA nodes.
        used_mib: memory given to instances.
        version: of the hypervisor.
    """
    sizes = {name: int(kib) // 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", meminfo, re.MULTILINE)}
    total, free = sizes.get("MemTotal", 0), sizes.get("MemAvailable", sizes.get("MemFree", 0))
    sockets = set(re.findall(r"^physical id\s*:\s*(\d+)", cpuinfo, re.MULTILINE))
    return NodeCapacity(
        memory_total=total,
        memory_free=free,
        memory_dom0=max(0, total - free - used_mib),
        cpu_total=max(1, len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE))),
        cpu_nodes=max(1, nodes),
        cpu_sockets=max(1, len(sockets)),
        cpu_dom0=1,
        hv_version=version,
    )


def measured(*, used_mib: int, version: str | None) -> NodeCapacity:
    """Capacity of this machine."""
    texts = []
    for path in ("/proc/meminfo", "/proc/cpuinfo"):
        with open(path, encoding="ascii", errors="replace") as stream:
            texts.append(stream.read())
    nodes = len(glob.glob("/sys/devices/system/node/node[0-9]*"))
    found = capacity(texts[0], texts[1], nodes=nodes, used_mib=used_mib, version=version)
    # Not every architecture lists its processors in the same way.
    return msgspec.structs.replace(found, cpu_total=max(found.cpu_total, os.cpu_count() or 1))

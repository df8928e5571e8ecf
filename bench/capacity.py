"""How long the capacity of a node group takes, and by how much less than Debian's hspace (iallocator.md 6.8).

The 100 nodes take hspace some minutes; without the package the rows that need it have no value.
"""

from __future__ import annotations

import json
import re
import resource
import tempfile
import time
from collections.abc import Mapping
from random import Random
from typing import Any
from unittest import SkipTest

import msgspec

from ganeti.logic.capacity import capacities
from ganeti.logic.node_figures import Question
from ganeti.model.allocation import Capacity, ClusterView
from ganeti.model.capacity import CapacityParams, Tier
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk
from ganeti.model.ids import DiskId, InstanceId, NodeId
from ganeti.model.instance import Instance
from ganeti.testing.clusters import cluster, group_id, with_settings
from ganeti.testing.htools import run_htools, text_data
from ganeti.testing.placement_worlds import Machine, placement_view

NODES = 1000
HSPACE_TIMEOUT_S = 500.0
PARAMS = CapacityParams(
    max_inst_spec=(16384, 102400, 4), default_template="drbd", max_cpu_ratio=4.0, max_disk_usage=1.0
)
TOO_LARGE = "102400,33792,4"
"""A standard size that the policy forbids, so that hspace does not count another time."""


def empty_view(nodes: int) -> ClusterView:
    """Nodes of 256 GiB, 10 TiB and 32 processors with nothing on them."""
    return _view(cluster(nodes=nodes, enabled_hypervisors=("kvm",)))


def half_full_view(nodes: int) -> ClusterView:
    """The same with fifteen mirrored instances of many sizes on each, anywhere."""
    full = cluster(nodes=nodes, instances=15 * nodes, enabled_hypervisors=("kvm",), hypervisor="kvm")
    rng, order = Random(1), list(full.nodes)
    instances: dict[InstanceId, Instance] = {}
    disks: dict[DiskId, Disk] = {}
    for instance in full.instances.values():
        memory = rng.choice((2048, 4096, 8192, 16384))
        beparams: Mapping[str, int] = {"maxmem": memory, "minmem": memory, "vcpus": rng.choice((1, 2, 4))}
        instances[instance.uuid] = msgspec.structs.replace(instance, beparams=beparams)
        others = [node for node in rng.sample(order, 2) if node != instance.primary_node]
        for disk in full.disks_of(instance):
            size = rng.choice((10240, 51200, 204800))
            disks[disk.uuid] = _moved(disk, (instance.primary_node, others[0]), size)
    return _view(
        msgspec.structs.replace(
            full,
            instances=full.instances.with_items(instances).settled(),
            disks=full.disks.with_items(disks).settled(),
        )
    )


def _moved(disk: Disk, nodes: tuple[NodeId, ...], size: int) -> Disk:
    children = tuple(_moved(child, nodes, size) for child in disk.children)
    return msgspec.structs.replace(disk, nodes=nodes, size=size, children=children)


def _view(value: Cluster) -> ClusterView:
    value = with_settings(value, ndparams={**value.settings.ndparams, "spindle_count": 400})
    machine = Machine(memory=262144, own_memory=0, disk=10485760, cpus=32)
    return placement_view(value, dict.fromkeys(value.nodes, machine))


def _ours(view: ClusterView) -> tuple[tuple[Tier, ...], float]:
    """The tiers, and CPU seconds."""
    began = time.process_time()
    found = capacities(Capacity(params={group_id(1): PARAMS}), view)
    return found[group_id(1)].tspecs, time.process_time() - began


def _hspace(view: ClusterView) -> tuple[tuple[Tier, ...], float]:
    """The same by hspace."""
    memory, disk, cpus = PARAMS.max_inst_spec
    began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with tempfile.NamedTemporaryFile("w", prefix="hspace.") as file:
        file.write(text_data(view, Question(hypervisor="kvm", template=PARAMS.default_template)))
        file.flush()
        done = run_htools(
            "hspace",
            f"--text-data={file.name}",
            f"--disk-template={PARAMS.default_template}",
            f"--tiered-alloc={disk},{memory},{cpus}",
            f"--standard-alloc={TOO_LARGE}",
            "--machine-readable",
            timeout_s=HSPACE_TIMEOUT_S,
        )
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - began
    found = re.search(r"HTS_TSPEC='?([^'\n]*)", done.stdout)
    if found is None:
        raise RuntimeError(f"hspace did not answer: {done.stderr}")
    tiers = [tuple(map(int, re.split("[,=]", entry))) for entry in found[1].split()]
    return tuple((memory, disk, cpus, count) for memory, disk, cpus, _, count in tiers), used


def _row(
    name: str, value: float | None, unit: str, target: str | None, *, is_met: bool | None
) -> dict[str, Any]:
    shown = None if value is None else round(value, 2)
    return {"name": name, "value": shown, "unit": unit, "target": target, "met": is_met}


def _ratio_row(nodes: int, least: float) -> dict[str, Any]:
    view = empty_view(nodes)
    name = f"capacity: less CPU than hspace, {nodes} empty nodes"
    target = f">= {least:g} x less"
    try:
        theirs, their_seconds = _hspace(view)
    except SkipTest as reason:
        return _row(f"{name} ({reason})", None, "x less", target, is_met=None)
    ours, our_seconds = _ours(view)
    if ours != theirs:
        return _row(f"{name}: ANOTHER RESULT", None, "x less", target, is_met=False)
    ratio = their_seconds / our_seconds
    return _row(f"{name}, same result", ratio, "x less", target, is_met=ratio >= least)


def run() -> list[dict[str, Any]]:
    """Rows name, value, unit, target, met; CPU time."""
    rows = []
    for name, view, most in (
        ("empty", empty_view(NODES), 10.0),
        ("half full, 15,000 instances of many sizes", half_full_view(NODES), 30.0),
    ):
        tiers, seconds = _ours(view)
        count = sum(tier[3] for tier in tiers)
        text = f"capacity: 1,000 nodes, {name} ({count} more fit)"
        rows.append(_row(text, seconds, "s", f"<= {most:g} s", is_met=seconds <= most))
    rows.append(_ratio_row(40, 50.0))
    rows.append(_ratio_row(100, 100.0))
    return rows


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))

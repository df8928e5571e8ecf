"""CPU that a plan for a more even group takes, beside Debian's `hbal` with the same limits.

hbal needs seconds for each move, so both plan only a few; whole plans are shown for ours alone.
"""

from __future__ import annotations

import json
import re
import resource
import tempfile
import time
from random import Random
from typing import Any
from unittest import SkipTest

import msgspec

from ganeti.logic.balance import Limits, Plan, balance, question_for
from ganeti.logic.balance_board import Restrictions
from ganeti.model.allocation import ClusterView
from ganeti.testing.clusters import cluster, group_id, with_instance, with_settings
from ganeti.testing.htools import NODE_MEMORY, run_htools, text_data
from ganeti.testing.placement_worlds import Machine, placement_view

CASES = ((40, 10, 6), (40, 20, 3), (100, 10, 1), (100, 20, 1))
"""Nodes, instances on each, and moves that both plan."""
FACTOR = 10.0
GROUP = "default"
TIMEOUT_S = 400.0


def world(nodes: int, each: int, *, seed: int = 1) -> ClusterView:
    """Mirrored instances of many sizes on pairs of nodes that chance has chosen."""
    rng = Random(seed)
    value = cluster(nodes=nodes, enabled_hypervisors=("kvm",))
    value = with_settings(value, ipolicy=msgspec.structs.replace(value.settings.ipolicy, spindle_ratio=256.0))
    names = [node.name for node in value.nodes.values()]
    for number in range(nodes * each):
        primary, secondary = rng.sample(names, 2)
        value = with_instance(
            value,
            f"i{number}",
            primary=primary,
            secondary=secondary,
            memory=rng.choice((1024, 2048, 4096, 8192)),
            vcpus=rng.choice((1, 2, 4)),
            disk_sizes=(rng.choice((10240, 20480, 51200)),),
            hypervisor="kvm",
        )
    machine = Machine(memory=each * 12288, disk=each * 153600, cpus=each * 3)
    return placement_view(value, dict.fromkeys(value.nodes, machine))


def ours(view: ClusterView, most: int | None) -> tuple[Plan, float]:
    """A plan, and the CPU seconds it took."""
    start = time.process_time()
    plan = balance(view, group_id(1), Limits(max_moves=most), Restrictions())
    return plan, time.process_time() - start


def theirs(view: ClusterView, most: int) -> tuple[float, float]:
    """Score after hbal's plan, and the CPU seconds it took."""
    with tempfile.NamedTemporaryFile("w", prefix="ganeti-hbal.") as file:
        file.write(text_data(view, question_for(view.cluster)))
        file.flush()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        options = ("-t", file.name, "-G", GROUP, "-l", str(most))
        done = run_htools("hbal", NODE_MEMORY, *options, timeout_s=TIMEOUT_S)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.search(r"improved from [\d.]+ to ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1]), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _row(name: str, value: float, unit: str, target: str | None = None, met: bool | None = None) -> Any:
    return {"name": name, "value": value, "unit": unit, "target": target, "met": met}


def _against_hbal(view: ClusterView, label: str, most: int) -> list[dict[str, Any]]:
    plan, seconds = ours(view, most)
    try:
        score, hbal_seconds = theirs(view, most)
    except SkipTest as error:
        return [_row(f"{label}: no hbal to compare with ({error})", round(seconds, 3), "s CPU")]
    ratio, label = hbal_seconds / seconds, f"{label}, first {most} moves"
    better = score - plan.score_after
    return [
        _row(f"{label}: hbal", round(hbal_seconds, 2), "s CPU"),
        _row(f"{label}: here", round(seconds, 3), "s CPU"),
        _row(f"{label}: less CPU", round(ratio, 1), "times", f">= {FACTOR:g} times", ratio >= FACTOR),
        _row(f"{label}: score after, hbal", score, ""),
        _row(
            f"{label}: score after, here",
            round(plan.score_after, 8),
            "",
            f"<= {score}",
            better >= -1e-6 * score,
        ),
    ]


def run() -> list[dict[str, Any]]:
    """Rows name, value, unit, target, met; CPU time."""
    rows: list[dict[str, Any]] = []
    for nodes, each, most in CASES:
        label = f"balance: {nodes} nodes x {each}"
        view = world(nodes, each)
        rows += _against_hbal(view, label, most)
        plan, seconds = ours(view, None)
        rows.append(_row(f"{label}, whole plan of {len(plan.moves)} moves", round(seconds, 2), "s CPU"))
    return rows


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))

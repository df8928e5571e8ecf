"""How long the built-in allocator takes for the best of all pairs of 1,000 nodes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from twisted.internet.defer import maybeDeferred

from ganeti.logic.allocator_protocol import encode
from ganeti.logic.node_figures import question_of
from ganeti.logic.node_state import NodeState, node_states
from ganeti.logic.placement import Scene, place
from ganeti.master.allocation import Allocation
from ganeti.master.hooks import OperationHooks
from ganeti.master.op_executor import OpExecutor
from ganeti.model.allocation import Allocate, ClusterView
from ganeti.model.ids import GroupId, NodeId
from ganeti.ops.instance.create import CreateInstance
from ganeti.testing.clusters import cluster, group_id, node_id
from ganeti.testing.operations import OperationWorld
from ganeti.testing.placement_worlds import Machine, placement_view, request_for

NODES = 1000
INSTANCES = 20000
REPEATS = 5


def different_states(count: int, *, is_balanced: bool = False) -> tuple[NodeState, ...]:
    """Online nodes of one group that all differ, each with about a dozen mirrored instances."""
    rng = Random(1)
    return tuple(_state(rng, number, count, is_balanced=is_balanced) for number in range(1, count + 1))


def _state(rng: Random, number: int, count: int, *, is_balanced: bool) -> NodeState:
    memory = 262144 if is_balanced else rng.choice((131072, 262144, 524288))
    disk = 4194304 if is_balanced else rng.choice((2, 4, 8)) * 1048576
    primaries = 12 if is_balanced else rng.randint(5, 20)
    secondaries = 12 if is_balanced else rng.randint(5, 20)
    used = int(memory * rng.uniform(0.49, 0.51) if is_balanced else memory * rng.uniform(0.4, 0.8))
    free_disk = int(disk * (rng.uniform(0.49, 0.51) if is_balanced else rng.uniform(0.2, 0.6)))
    peers = {node_id(rng.randint(1, count)): rng.randint(1, 4) * 4096 for _ in range(secondaries)}
    cpus = 1 + 3 * primaries
    return NodeState(
        node=NodeId(node_id(number)),
        name=f"node{number:04}",
        group=GroupId(group_id(1)),
        total_memory=memory,
        node_memory=1024,
        instance_memory=used - 1024,
        planned_unallocated=memory - used,
        total_disk=disk,
        free_disk=free_disk,
        planned_free_disk=free_disk,
        total_cpus=rng.choice((32, 64, 96)),
        used_cpus=cpus,
        planned_cpus=cpus,
        spindle_limit=32.0 * 24,
        spindles=primaries + secondaries,
        planned_spindles=primaries + secondaries,
        primaries=primaries,
        secondaries=secondaries,
        reserved=max(peers.values()),
        peers=peers,
        partners=frozenset(node_id(rng.randint(1, count)) for _ in range(primaries)),
    )


def _best_ms(function: Callable[[], Any]) -> float:
    """Median CPU time of a few runs, milliseconds."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return sorted(times)[REPEATS // 2] * 1000


def _row(name: str, value: float, unit: str, target: float | None = None) -> dict[str, Any]:
    met = None if target is None else value <= target
    goal = None if target is None else f"<= {target:g} {unit}"
    return {"name": name, "value": round(value, 2), "unit": unit, "target": goal, "met": met}


def _full_view() -> ClusterView:
    full = cluster(nodes=NODES, instances=INSTANCES, memory=512, enabled_hypervisors=("kvm",))
    return placement_view(full, {node: Machine(memory=131072) for node in full.nodes})


class _World(OperationWorld):
    """A master in memory that really asks the built-in allocator."""

    def __init__(self) -> None:
        full = cluster(nodes=NODES, instances=INSTANCES, memory=128, default_iallocator="builtin")
        super().__init__(full, memory_mib=131072)
        self.allocation = Allocation(self.state, self.nodes, self.plugins, maybeDeferred)  # type: ignore
        hooks = OperationHooks(self.hooks, self.config, "/data")
        self.executor = OpExecutor(self.registry, self.locks, hooks, self._services(), self.reactor.seconds)
        self.count = 0

    def create(self) -> None:
        """OP_INSTANCE_CREATE of a further instance, from locks to configuration."""
        self.count += 1
        name = f"new{self.count}.example.com"
        self.reachability.names[name] = f"10.99.0.{self.count}"
        self.run(
            CreateInstance(
                instance_name=name,
                mode="create",
                disk_template="sharedfile",
                disks=({"size": 1024},),
                nics=({},),
                os_type="noop",
                hypervisor="fake",
                iallocator="builtin",
                beparams={"memory": 1024},
                start=False,
                no_install=True,
            )
        )


def run() -> list[dict[str, Any]]:
    """Rows name, value, unit, target, met; CPU time, medians."""
    request = request_for(disk_template="drbd", memory=8192, vcpus=4, disks=(102400,))
    base = cluster(nodes=1)
    rows = []
    for name, states, target in (
        ("allocate: best of all pairs, 1,000 different nodes", different_states(NODES), 20.0),
        ("allocate: the same, balanced but for noise", different_states(NODES, is_balanced=True), None),
    ):
        scene = Scene(cluster=base, states=states)
        assert place(scene, request) is not None
        rows.append(_row(name, _best_ms(partial(place, scene, request)), "ms", target))
    view = _full_view()
    question = question_of(Allocate(instance=request), view.cluster)
    scene = Scene(cluster=view.cluster, states=node_states(view, question))
    rows.append(
        _row("allocate: best pair, 1,000 equal nodes", _best_ms(partial(place, scene, request)), "ms")
    )
    read = _best_ms(partial(node_states, view, question))
    rows.append(_row("allocate: reading 1,000 nodes and 20,000 instances", read, "ms"))
    world = _World()
    world.create()
    rows.append(
        _row("allocate: OP_INSTANCE_CREATE on the same, from the cache", _best_ms(world.create), "ms", 250.0)
    )
    text = _best_ms(partial(encode, Allocate(instance=request), view))
    rows.append(_row("allocate: the same as a document for an external allocator", text, "ms"))
    return rows


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))

"""What jobs of an allocator do to instances: from where to where, how, and after which others. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId

Opcode = Mapping[str, object]

_STEPS = {
    "OP_INSTANCE_REPLACE_DISKS": "replace-disks",
    "OP_INSTANCE_MIGRATE": "migrate",
    "OP_INSTANCE_FAILOVER": "failover",
    "OP_INSTANCE_MOVE": "stop and copy",
    "OP_INSTANCE_ACTIVATE_DISKS": "activate-disks",
}


class PlannedMove(msgspec.Struct, frozen=True, kw_only=True):
    """What one job does to its instance."""

    instance: str
    source: tuple[NodeId, ...]
    """Nodes before, primary first."""
    target: tuple[NodeId, ...]
    """Nodes afterwards."""
    touched: frozenset[NodeId]
    """All nodes that have a part in it."""
    steps: tuple[str, ...]
    """`replace-disks`, `migrate` ..., in order."""

    def as_row(self, cluster: Cluster) -> dict[str, object]:
        """The move with names, for people and programs."""
        return {
            "instance": self.instance,
            "from": [cluster.nodes[node].name for node in self.source],
            "from_group": group_of(cluster, self.source),
            "to": [cluster.nodes[node].name for node in self.target],
            "to_group": group_of(cluster, self.target),
            "how": ", ".join(self.steps),
        }


def group_of(cluster: Cluster, nodes: Sequence[NodeId]) -> str:
    """Name of the group of these nodes; of a split pair both."""
    return "+".join(dict.fromkeys(cluster.groups[cluster.nodes[node].group].name for node in nodes))


def planned_moves(cluster: Cluster, jobs: Sequence[Sequence[Opcode]]) -> tuple[PlannedMove, ...]:
    """What each job does; its opcodes are followed one by one.

    Args:
        cluster: as it is before the first job.
        jobs: opcodes as JSON objects, each job about one instance.
    """
    return tuple(_planned(cluster, job) for job in jobs)


def _planned(cluster: Cluster, job: Sequence[Opcode]) -> PlannedMove:
    instance = cluster.instance(str(job[0]["instance_name"]))
    source = nodes = tuple(cluster.nodes_of(instance))
    touched = set(source)
    for opcode in job:
        nodes = _after(cluster, opcode, nodes)
        touched.update(nodes)
    return PlannedMove(
        instance=instance.name,
        source=source,
        target=nodes,
        touched=frozenset(touched),
        steps=tuple(_STEPS.get(str(opcode["OP_ID"]), str(opcode["OP_ID"])) for opcode in job),
    )


def _after(cluster: Cluster, opcode: Opcode, nodes: tuple[NodeId, ...]) -> tuple[NodeId, ...]:
    match opcode:
        case {"OP_ID": "OP_INSTANCE_REPLACE_DISKS", "remote_node": str(name)}:
            return (nodes[0], cluster.node(name).uuid)
        case {
            "OP_ID": "OP_INSTANCE_MIGRATE" | "OP_INSTANCE_FAILOVER" | "OP_INSTANCE_MOVE",
            "target_node": str(name),
        }:
            return (cluster.node(name).uuid, *nodes[1:])
        case {"OP_ID": "OP_INSTANCE_MIGRATE" | "OP_INSTANCE_FAILOVER"} if len(nodes) == 2:
            return nodes[::-1]
    return nodes


def after_overlapping(touched: Sequence[Collection[NodeId]]) -> Iterator[tuple[int, ...]]:
    """For each of a list of jobs the earlier ones that it has to wait for; -1 is the one before it.

    Jobs that share a node would only lock each other out, and keep turns from others while they wait;
    those that do not touch run side by side. It is enough to wait for the last job of each node.
    """
    last: dict[NodeId, int] = {}
    for index, nodes in enumerate(touched):
        yield tuple(sorted({last[node] - index for node in nodes if node in last}))
        last.update(dict.fromkeys(nodes, index))

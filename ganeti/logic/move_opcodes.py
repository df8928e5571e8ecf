"""The opcodes that bring an instance to other nodes, as JSON objects."""

from __future__ import annotations

from collections.abc import Mapping

from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.instance import Instance

Opcode = Mapping[str, object]


def leave(cluster: Cluster, instance: Instance, target: NodeId | None, *, is_down: bool) -> Opcode:
    """Bring an instance to its other node, or to a target.

    Args:
        cluster: where it is.
        instance: which.
        target: on shared storage, where to; None: to its secondary.
        is_down: there is nothing to migrate: it does not run, or its node is down.
    """
    where = {} if target is None else {"target_node": cluster.nodes[target].name}
    if is_down:
        return {"OP_ID": "OP_INSTANCE_FAILOVER", "instance_name": instance.name, **where}
    return {
        "OP_ID": "OP_INSTANCE_MIGRATE",
        "instance_name": instance.name,
        "allow_failover": True,
        **where,
    }


def copy_to(cluster: Cluster, instance: Instance, target: NodeId) -> Opcode:
    """Stop an instance whose disks are on one node only, and copy it to another one."""
    return {
        "OP_ID": "OP_INSTANCE_MOVE",
        "instance_name": instance.name,
        "target_node": cluster.nodes[target].name,
    }


def replace_secondary(cluster: Cluster, instance: Instance, secondary: NodeId) -> Opcode:
    """Mirror an instance on another node than before."""
    return {
        "OP_ID": "OP_INSTANCE_REPLACE_DISKS",
        "instance_name": instance.name,
        "mode": "replace_new_secondary",
        "remote_node": cluster.nodes[secondary].name,
        "disks": [],
        "early_release": False,
    }

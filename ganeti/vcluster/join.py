"""Takes many simulated nodes into a cluster at once.

A thousand jobs, each with hooks on all nodes, would take four minutes (docs/adr/0006). So the credentials
are issued here, and the nodes are recorded together while masterd does not run; from then on they
are nodes like all others.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from ganeti.cli.client import Client
from ganeti.daemons import control
from ganeti.daemons.bootstrap import wait_for_master
from ganeti.daemons.cluster_files import load_authority, node_files, write_node_files
from ganeti.daemons.identity import own_identity
from ganeti.io.files import Ownership, write_file
from ganeti.logic.node_flags import nodes_to_promote
from ganeti.model.cluster import Cluster
from ganeti.model.codec import decode_cluster, encode_cluster
from ganeti.model.delta import stamp
from ganeti.model.ids import NodeId
from ganeti.model.node import Node
from ganeti.model.paths import Paths
from ganeti.vcluster.layout import Layout, VirtualNode
from ganeti.vcluster.nodes import start_node, start_simulator

MASTERD = "ganeti-masterd"
JOBS_END_S = 60.0


class Joining(msgspec.Struct, frozen=True, kw_only=True):
    """A node that joins."""

    node: VirtualNode
    uuid: NodeId
    group: str


def join_simulated(layout: Layout, groups: Mapping[int, str]) -> None:
    """Take all nodes but the first into the cluster that runs on the first.

    Args:
        layout: the cluster.
        groups: name of the group by number of the node.

    Raises:
        GanetiError: a daemon does not start or end.
    """
    paths = layout.paths(layout.nodes[0])
    joining = [
        Joining(node=node, uuid=NodeId(str(uuid.uuid4())), group=groups[node.number])
        for node in layout.nodes[1:]
    ]
    _issue(layout, joining)
    start_simulator(layout)
    _wait_for_jobs(paths)
    control.stop(paths, MASTERD)
    _record(paths, joining)
    start_node(layout, layout.nodes[0])
    wait_for_master(paths)


def with_nodes(cluster: Cluster, joining: Sequence[Joining], rng: random.Random) -> Cluster:
    """The cluster with further nodes, and a full candidate pool. Pure."""
    nodes = {
        one.uuid: Node(
            uuid=one.uuid,
            name=one.node.name,
            primary_ip=one.node.address,
            secondary_ip=one.node.address,
            group=cluster.group(one.group).uuid,
        )
        for one in joining
    }
    grown = replace(cluster, nodes=cluster.nodes.with_items(nodes))
    promoted = {
        node: replace(grown.nodes[node], master_candidate=True) for node in nodes_to_promote(grown, rng)
    }
    return replace(grown, nodes=grown.nodes.with_items(promoted))


def _issue(layout: Layout, joining: Sequence[Joining]) -> None:
    first = layout.paths(layout.nodes[0])
    authority = load_authority(first)
    cluster_uuid = own_identity(first).cluster_uuid
    for one in joining:
        files = node_files(
            first,
            authority,
            cluster_uuid=cluster_uuid,
            node_uuid=one.uuid,
            names=(one.node.name, one.node.address),
            now=time.time(),
        )
        # Thousands of files that are as good as new after a crash: nobody needs them then.
        write_node_files(layout.paths(one.node).data_dir, files, durable=False)


def _wait_for_jobs(paths: Paths) -> None:
    """Wait for the end of what masterd does; the jobs of the init are few and short."""
    client = Client(paths.master_socket)

    def is_idle() -> bool:
        rows = client.call("Query", ["job", ["status"], None])["data"]
        return all(status in ("success", "error", "canceled") for ((_, status),) in rows)

    try:
        control.wait_until(is_idle, "the first jobs of the cluster do not end", timeout_s=JOBS_END_S)
    finally:
        client.close()


def _record(paths: Paths, joining: Sequence[Joining]) -> None:
    with open(paths.config_file, "rb") as stream:
        cluster = decode_cluster(stream.read(), source=paths.config_file)
    grown = with_nodes(cluster, joining, random.Random())
    stamped, _ = stamp(cluster, grown, now=time.time(), reason="simulated nodes join")
    write_file(paths.config_file, encode_cluster(stamped), Ownership(mode=0o640))

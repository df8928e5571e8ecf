"""Takes many simulated nodes into a cluster: credentials for all, then the job of `gnt-node add` for each.

A command for each would take longer than all the jobs, and they would wait for each other anyway: a job
that adds a node holds the lock of the whole cluster, and runs hooks on every node there is. For a
thousand nodes that is a million hooks (docs/adr/0006); whoever only wants to have such a cluster
has the nodes recorded at once, while masterd does not run.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from ganeti.cli.client import Client
from ganeti.cli.follow import job_error
from ganeti.daemons import control
from ganeti.daemons.bootstrap import wait_for_master
from ganeti.daemons.cluster_files import load_authority, node_files, write_node_files
from ganeti.daemons.identity import own_identity
from ganeti.errors import CommandFailed
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

_LOOK_EVERY_S = 0.5
_FINAL = ("success", "error", "canceled")


class Joining(msgspec.Struct, frozen=True, kw_only=True):
    """A node that joins."""

    node: VirtualNode
    uuid: NodeId
    group: str

    def opcode(self) -> dict[str, Any]:
        """What `gnt-node add` submits for it."""
        return {
            "OP_ID": "OP_NODE_ADD",
            "node_name": self.node.name,
            "node_uuid": self.uuid,
            "primary_ip": self.node.address,
            "group": self.group,
        }


def join_by_jobs(layout: Layout, groups: Mapping[int, str]) -> None:
    """Take all nodes but the first into the cluster that runs on the first, by a job for each.

    Args:
        layout: the cluster.
        groups: name of the group by number of the node.

    Raises:
        CommandFailed: a node does not join; says why.
        GanetiError: the nodes do not start.
    """
    joining = _issued(layout, groups)
    start_simulator(layout)
    client = Client(layout.paths(layout.nodes[0]).master_socket)
    try:
        answers = client.call("SubmitManyJobs", [[[one.opcode()] for one in joining]])
        jobs = {}
        for one, (is_taken, value) in zip(joining, answers, strict=True):
            if not is_taken:
                raise CommandFailed(f"node {one.node.name} does not join: {value}")
            jobs[value] = one
        _follow(client, jobs)
    finally:
        client.close()


def join_at_once(layout: Layout, groups: Mapping[int, str]) -> None:
    """The same by one change of the configuration; arguments and errors as of `join_by_jobs`."""
    paths = layout.paths(layout.nodes[0])
    joining = _issued(layout, groups)
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


def _follow(client: Client, jobs: Mapping[int, Joining]) -> None:
    """Wait for all jobs; a failed one ends it."""
    ended = told = 0
    while ended < len(jobs):
        time.sleep(_LOOK_EVERY_S)
        rows = client.call("Query", ["job", ["id", "status", "opstatus", "opresult"], None])["data"]
        ended = 0
        for (_, job), (_, status), (_, states), (_, values) in rows:
            if job not in jobs or status not in _FINAL:
                continue
            if status != "success":
                why = job_error(states, values).text
                raise CommandFailed(f"node {jobs[job].node.name} does not join (job {job}): {why}")
            ended += 1
        if ended // 100 > told // 100:
            told = ended
            print(f"{ended} of {len(jobs)} nodes have joined", flush=True)


def _issued(layout: Layout, groups: Mapping[int, str]) -> list[Joining]:
    """Credentials for all: what the separate script of `gnt-node add` delivers to a real node."""
    joining = [
        Joining(node=node, uuid=NodeId(str(uuid.uuid4())), group=groups[node.number])
        for node in layout.nodes[1:]
    ]
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
    return joining


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

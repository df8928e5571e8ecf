"""What a virtual cluster is: nodes with a directory and an address each, written down in one file."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from typing import ClassVar

import msgspec

from ganeti.errors import PrereqError
from ganeti.model.paths import Paths
from ganeti.model.reading import UNREADABLE

MAX_NODES = 1000


REAL_TEMPLATES = ("sharedfile", "file", "diskless")
"""Disk templates that need nothing of this machine but files."""
FAKE_TEMPLATES = ("plain", "drbd")
"""Disk templates that are pretended where guests are, with the rules of the real ones."""


class VirtualNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node."""

    number: int
    """From 1 on; 1 becomes the master."""
    name: str
    address: str
    address6: str | None = None
    """Only with network namespaces."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The whole cluster; kept as `vcluster.json` in its directory."""

    FILE: ClassVar[str] = "vcluster.json"

    directory: str
    cluster_name: str
    cluster_address: str
    nodes: tuple[VirtualNode, ...]
    hypervisor: str
    disk_templates: tuple[str, ...]
    groups: int = 1
    netns: bool = False
    cluster_address6: str | None = None
    """Only with network namespaces."""
    ipv6: bool = False
    """The primary addresses are those of version 6."""
    simulated: bool = False
    """All nodes but the first are served by one process."""
    accelerator: str = ""
    """What QEMU uses, `kvm` or `tcg`, found out once for all nodes; empty: each finds out itself."""

    def root(self, node: VirtualNode) -> str:
        """Root directory of a node."""
        return os.path.join(self.directory, node.name.partition(".")[0])

    def paths(self, node: VirtualNode) -> Paths:
        """Files of a node."""
        return Paths(self.root(node))

    @property
    def shared_dir(self) -> str:
        """Storage that all nodes reach."""
        return os.path.join(self.directory, "shared")

    @property
    def plugin_dir(self) -> str:
        """Plugins of this cluster only: fake storage where there is no real one."""
        return os.path.join(self.directory, "plugins")

    @property
    def has_fake_templates(self) -> bool:
        """Whether there are disk templates whose disks are only pretended, for guests that need none."""
        return self.hypervisor == "fake"

    @property
    def file_dir(self) -> str:
        """File storage: a setting of the cluster, so the same name on all nodes."""
        return os.path.join(self.directory, "file-storage")

    def bind_address(self, node: VirtualNode, *, with_cluster: bool = False) -> str:
        """Where the daemons of a node listen; the first node has the cluster's address, too."""
        if self.netns:
            return "::" if self.ipv6 else "0.0.0.0"
        return f"{node.address},{self.cluster_address}" if with_cluster and node.number == 1 else node.address

    def daemon_options(self, node: VirtualNode, daemon: str) -> list[str]:
        """Options with which a daemon of a node is started."""
        if daemon == "ganeti-masterd":
            return []
        return ["--bind", self.bind_address(node, with_cluster=daemon == "ganeti-noded")]

    def primary(self, node: VirtualNode) -> str:
        """Primary address of a node."""
        return node.address6 if self.ipv6 and node.address6 is not None else node.address

    @property
    def tag(self) -> str:
        """Short text that is different for each directory; names namespaces and links."""
        return f"{zlib.crc32(self.directory.encode()):08x}"

    def namespace(self, node: VirtualNode) -> str:
        """Network namespace of a node."""
        return f"gnt-{self.tag}-{node.number}"

    def is_simulated(self, node: VirtualNode) -> bool:
        """Whether a node is served by the process of the simulated ones."""
        return self.simulated and node.number != 1

    def group_of(self, node: VirtualNode) -> int:
        """Number of the node's group, from 0 on; nodes are dealt out in turn."""
        return (node.number - 1) % self.groups

    def node(self, wanted: str) -> VirtualNode:
        """A node by number, short or full name.

        Raises:
            PrereqError: there is none.
        """
        for node in self.nodes:
            if wanted in (str(node.number), node.name, node.name.partition(".")[0]):
                return node
        raise PrereqError(f"there is no node {wanted!r}; nodes: 1 to {len(self.nodes)}")

    @property
    def master(self) -> VirtualNode:
        """The node that most nodes' own files say is the master; the first before there is one."""
        votes: Counter[str] = Counter()
        # Simulated nodes never become master, and there may be very many of them.
        for node in self.nodes[:1] if self.simulated else self.nodes:
            try:
                with open(self.paths(node).ssconf("master_node"), encoding="ascii") as stream:
                    votes[stream.read().strip()] += 1
            except OSError:
                continue
        by_name = {node.name: node for node in self.nodes}
        known = [by_name[name] for name, _ in votes.most_common() if name in by_name]
        return known[0] if known else self.nodes[0]

    def save(self) -> None:
        """Write it down."""
        path = os.path.join(self.directory, self.FILE)
        with open(path + ".new", "wb") as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(self)))
        os.rename(path + ".new", path)


def plan(
    directory: str,
    count: int,
    *,
    hypervisor: str,
    disk_templates: tuple[str, ...],
    groups: int = 1,
    netns: bool = False,
    ipv6: bool = False,
    simulated: bool = False,
    shift: int = 0,
) -> Layout:
    """A new cluster; its addresses follow from the directory, so that several rarely meet.

    Args:
        directory: where it will be.
        count: number of nodes.
        hypervisor: the only one enabled.
        disk_templates: enabled ones, the first is the default.
        groups: number of node groups.
        netns: a network namespace for each node.
        ipv6: primary addresses of version 6.
        simulated: all nodes but the first are served by one process.
        shift: other numbers give other addresses, where others have those of 0.

    Raises:
        PrereqError: too few or too many nodes, or more groups than nodes.
    """
    if not 1 <= count <= MAX_NODES:
        raise PrereqError(f"a virtual cluster has 1 to {MAX_NODES} nodes, not {count}")
    if not 1 <= groups <= count:
        raise PrereqError(f"{count} node(s) cannot make {groups} group(s)")
    if ipv6 and not netns:
        raise PrereqError("nodes have addresses of version 6 only with network namespaces (--netns)")
    if simulated and count < 2:
        raise PrereqError("simulated nodes stand beside the master: at least 2 nodes are needed")
    if netns and (simulated or count > 200):
        raise PrereqError("network namespaces are for up to 200 real nodes")
    directory = os.path.realpath(directory)
    mark = zlib.crc32(directory.encode())
    # The range 127.16.0.0 to 127.255.0.0 leaves addresses that other programs use on loopback alone.
    prefix = f"127.{16 + (mark + shift) % 240}" if not netns else "10.231"
    third = (mark >> 8) % 60 * 4

    def address(host: int) -> str:
        return f"{prefix}.{third + host // 250}.{1 + host % 250}"

    def address6(host: int) -> str | None:
        return f"fd00:{mark >> 16:x}:{mark & 0xFFFF:x}::{host:x}" if netns else None

    nodes = tuple(
        VirtualNode(
            number=number,
            name=f"node{number}.virtual",
            address=address(9 + number),
            address6=address6(number),
        )
        for number in range(1, count + 1)
    )
    return Layout(
        directory=directory,
        cluster_name="cluster.virtual",
        cluster_address=address(4),
        cluster_address6=address6(0xFFFF),
        nodes=nodes,
        hypervisor=hypervisor,
        disk_templates=disk_templates,
        groups=groups,
        netns=netns,
        ipv6=ipv6,
        simulated=simulated,
    )


def load(directory: str) -> Layout:
    """The cluster in a directory.

    Raises:
        PrereqError: there is none.
    """
    directory = os.path.realpath(directory)
    path = os.path.join(directory, Layout.FILE)
    try:
        with open(path, "rb") as stream:
            return msgspec.json.decode(stream.read(), type=Layout)
    except FileNotFoundError:
        raise PrereqError(
            f"{directory} holds no virtual cluster; 'ganeti-vcluster create {directory}' makes one"
        ) from None
    except UNREADABLE as error:
        raise PrereqError(f"{path} is damaged: {error}") from error

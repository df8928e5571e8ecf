"""What a virtual cluster is: nodes with a directory and an address each, written down in one file."""

from __future__ import annotations

import os
import zlib
from typing import ClassVar

import msgspec

from ganeti.errors import PrereqError
from ganeti.model.paths import Paths

MAX_NODES = 1000


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
    def file_dir(self) -> str:
        """File storage: a setting of the cluster, so the same name on all nodes."""
        return os.path.join(self.directory, "file-storage")

    def bind_address(self, node: VirtualNode, *, with_cluster: bool = False) -> str:
        """Where the daemons of a node listen; the first node has the cluster's address, too."""
        if self.netns:
            return "0.0.0.0"
        return f"{node.address},{self.cluster_address}" if with_cluster and node.number == 1 else node.address

    @property
    def tag(self) -> str:
        """Short text that is different for each directory; names namespaces and links."""
        return f"{zlib.crc32(self.directory.encode()):08x}"

    def namespace(self, node: VirtualNode) -> str:
        """Network namespace of a node."""
        return f"gnt-{self.tag}-{node.number}"

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
        """The node that its own files say is the master; the first before there is one."""
        for node in self.nodes:
            try:
                with open(self.paths(node).ssconf("master_node"), encoding="ascii") as stream:
                    return self.node(stream.read().strip())
            except (OSError, PrereqError):
                continue
        return self.nodes[0]

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
    simulated: bool = False,
) -> Layout:
    """A new cluster; its addresses follow from the directory, so that several do not meet.

    Raises:
        PrereqError: too few or too many nodes, or more groups than nodes.
    """
    if not 1 <= count <= MAX_NODES:
        raise PrereqError(f"a virtual cluster has 1 to {MAX_NODES} nodes, not {count}")
    if not 1 <= groups <= count:
        raise PrereqError(f"{count} node(s) cannot make {groups} group(s)")
    if netns and (simulated or count > 200):
        raise PrereqError("network namespaces are for up to 200 real nodes")
    directory = os.path.abspath(directory)
    mark = zlib.crc32(directory.encode())
    # The range 127.16.0.0 to 127.255.0.0 leaves addresses that other programs use on loopback alone.
    prefix = f"127.{16 + mark % 240}" if not netns else "10.231"
    third = (mark >> 8) % 60 * 4

    def address(host: int) -> str:
        return f"{prefix}.{third + host // 250}.{1 + host % 250}"

    nodes = tuple(
        VirtualNode(
            number=number,
            name=f"node{number}.virtual",
            address=address(9 + number),
            address6=f"fd00:{mark >> 16:x}:{mark & 0xFFFF:x}::{number:x}" if netns else None,
        )
        for number in range(1, count + 1)
    )
    return Layout(
        directory=directory,
        cluster_name="cluster.virtual",
        cluster_address=address(4),
        nodes=nodes,
        hypervisor=hypervisor,
        disk_templates=disk_templates,
        groups=groups,
        netns=netns,
        simulated=simulated,
    )


def load(directory: str) -> Layout:
    """The cluster in a directory.

    Raises:
        PrereqError: there is none.
    """
    directory = os.path.abspath(directory)
    path = os.path.join(directory, Layout.FILE)
    try:
        with open(path, "rb") as stream:
            return msgspec.json.decode(stream.read(), type=Layout)
    except FileNotFoundError:
        raise PrereqError(
            f"{directory} holds no virtual cluster; 'ganeti-vcluster create {directory}' makes one"
        ) from None
    except msgspec.DecodeError as error:
        raise PrereqError(f"{path} is damaged: {error}") from error

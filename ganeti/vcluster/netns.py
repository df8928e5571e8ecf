"""A network namespace for each node: own addresses, one wire between them that can be cut."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from ganeti.errors import CommandFailed
from ganeti.vcluster.layout import Layout, VirtualNode


def ensure(layout: Layout) -> None:
    """Make the namespaces, the wire and the addresses that are not there yet.

    Raises:
        CommandFailed: not root, or no `ip` program here.
    """
    hub = _hub(layout)
    have = _namespaces()
    if hub not in have:
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        _ip("-n", hub, "link", "set", "br0", "up")
    for node in layout.nodes:
        if layout.namespace(node) not in have:
            _add_node(layout, hub, node)


def _add_node(layout: Layout, hub: str, node: VirtualNode) -> None:
    name, port = layout.namespace(node), f"port{node.number}"
    _ip("netns", "add", name)
    _ip("-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip("-n", hub, "link", "set", port, "master", "br0", "up")
    _ip("-n", name, "link", "set", "lo", "up")
    _ip("-n", name, "link", "set", "eth0", "up")
    _ip("-n", name, "address", "add", f"{node.address}/16", "dev", "eth0")
    if node.number == 1:
        _ip("-n", name, "address", "add", f"{layout.cluster_address}/16", "dev", "eth0")
        _ip("-n", name, "address", "add", f"{layout.cluster_address6}/64", "dev", "eth0", "nodad")
    if node.address6 is not None:
        _ip("-n", name, "address", "add", f"{node.address6}/64", "dev", "eth0", "nodad")


def set_link(layout: Layout, node: VirtualNode, *, up: bool) -> None:
    """Cut or mend the wire of a node.

    Raises:
        CommandFailed: the namespaces are not there.
    """
    _ip("-n", _hub(layout), "link", "set", f"port{node.number}", "up" if up else "down")


def is_link_up(layout: Layout, node: VirtualNode) -> bool:
    """Whether the wire of a node is whole."""
    shown = _ip("-n", _hub(layout), "-o", "link", "show", f"port{node.number}")
    flags = shown.partition("<")[2].partition(">")[0].split(",")
    return "UP" in flags


def remove(layout: Layout) -> None:
    """Remove all namespaces of this cluster with all that is in them; nothing to remove is no error."""
    for name in sorted(_namespaces()):
        if name.startswith(f"gnt-{layout.tag}-"):
            _ip("netns", "delete", name)


def _hub(layout: Layout) -> str:
    return f"gnt-{layout.tag}-hub"


def _namespaces() -> set[str]:
    return {line.split()[0] for line in _ip("netns", "list").splitlines() if line.strip()}


def _ip(*arguments: str) -> str:
    return _run(["ip", *arguments])


def _run(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CommandFailed(
            f"--netns needs the program {argv[0]}; install the package iproute2, or leave --netns away"
        ) from None
    if done.returncode != 0:
        raise CommandFailed(
            f"{' '.join(argv)}: {done.stderr.strip()} (network namespaces need root; "
            "without --netns nodes have loopback addresses)"
        )
    return done.stdout

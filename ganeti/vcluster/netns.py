"""A network namespace for each node: own addresses, one wire between them that can be cut."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from ganeti.errors import CommandFailed
from ganeti.vcluster.layout import Layout, VirtualNode


def ensure(layout: Layout) -> None:
    """Make the namespaces, the wire and the addresses that are not there yet."""
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
    if node.address6 is not None:
        _ip("-n", name, "address", "add", f"{node.address6}/64", "dev", "eth0", "nodad")


def set_link(layout: Layout, node: VirtualNode, *, up: bool) -> None:
    """Cut or mend the wire of a node."""
    _ip("-n", _hub(layout), "link", "set", f"port{node.number}", "up" if up else "down")


def remove(layout: Layout) -> None:
    """Remove the namespaces with all that is in them; those that are gone are passed over."""
    have = _namespaces()
    for name in (*(layout.namespace(node) for node in layout.nodes), _hub(layout)):
        if name in have:
            _ip("netns", "delete", name)


def _hub(layout: Layout) -> str:
    return f"gnt-{layout.tag}-hub"


def _namespaces() -> set[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False)
    return {line.split()[0] for line in listed.stdout.splitlines() if line.strip()}


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)}: {done.stderr.strip()} (network namespaces need root)")

"""Delivery script of virtual clusters: puts credentials into a node's directory and starts its daemon."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Sequence

import msgspec

from ganeti.daemons import control
from ganeti.daemons.cluster_files import write_node_files
from ganeti.daemons.node_setup import Delivery
from ganeti.errors import GanetiError, PrereqError
from ganeti.vcluster.layout import Layout, VirtualNode, load
from ganeti.vcluster.nodes import start_node


def deliver(layout: Layout, node: VirtualNode, delivery: Delivery) -> None:
    """Write the files and start what serves the node.

    Raises:
        PrereqError: the node belongs to a cluster already.
        GanetiError: the daemon does not start.
    """
    paths = layout.paths(node)
    if os.path.exists(paths.node_cert_file) and not (delivery.readd or delivery.force_join):
        raise PrereqError(
            f"node {node.name} has credentials of a cluster already ({paths.node_cert_file}); "
            "--force-join takes it over"
        )
    files = {name: base64.b64decode(content) for name, content in delivery.files.items()}
    # A daemon that runs with other credentials does not see the new ones.
    control.stop(paths, "ganeti-noded")
    write_node_files(paths.data_dir, files)
    start_node(layout, node)


def main(arguments: Sequence[str]) -> int:
    """Run: directory of the cluster, name of the node; gives the exit code."""
    delivery = msgspec.json.decode(sys.stdin.buffer.read(), type=Delivery)
    try:
        layout = load(arguments[0])
        deliver(layout, layout.node(arguments[1]), delivery)
    except GanetiError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

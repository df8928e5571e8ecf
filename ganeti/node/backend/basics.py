"""Functions that every node has, whatever it runs: its version, and one that only waits."""

from __future__ import annotations

from ganeti.model.calls.system import NodeTestDelay, Version, VersionResult
from ganeti.node.backend.registry import NodeWorld, node_function
from ganeti.version import PROTOCOL_VERSION, RELEASE


def own_version() -> VersionResult:
    """Version of this code."""
    return VersionResult(protocol=PROTOCOL_VERSION, release=RELEASE)


@node_function(Version)
def version(call: Version, node: NodeWorld) -> VersionResult:
    """Protocol and release."""
    return own_version()


@node_function(NodeTestDelay)
def test_delay(call: NodeTestDelay, node: NodeWorld) -> None:
    """Wait as long as asked."""
    node.host.sleep(call.seconds)

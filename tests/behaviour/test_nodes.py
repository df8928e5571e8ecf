"""The behaviours of `INodes`, shown by the fake and by the real pool over AMP in memory."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import HypervisorError
from ganeti.interfaces import INodes
from ganeti.master.node_pool import NodePool
from ganeti.model.calls.system import MasterNodeName, NodeTestDelay, Version, VersionResult
from ganeti.model.ids import NodeId
from ganeti.node.functions import Functions
from ganeti.node.locator import NodeLocator
from ganeti.testing.links import FakeProcess, MemoryCluster, MemoryNode
from ganeti.testing.nodes import FakeNodes, NodesBehaviours


class FakeNodesTests(NodesBehaviours, SynchronousTestCase):
    """The fake."""

    def make_nodes(self) -> INodes:
        """A fake with the nodes of the suite."""
        self.clock = Clock()
        nodes = FakeNodes(self.clock)
        nodes.unreachable.add(NodeId("uuid-gone"))
        nodes.hanging.add(NodeId("uuid-stuck"))
        nodes.answer(Version, lambda node, call: VersionResult(protocol=1, release=node.name))
        nodes.answer(MasterNodeName, lambda node, call: HypervisorError(f"no such thing on {node.name}"))
        return nodes

    def settle(self, seconds: float = 0.0) -> None:
        """Only time."""
        self.clock.advance(seconds)


class NodePoolTests(NodesBehaviours, SynchronousTestCase):
    """The pool, over real AMP without sockets (S2.2-034)."""

    def make_nodes(self) -> INodes:
        """A pool with the nodes of the suite."""
        self.clock = Clock()
        self.cluster = MemoryCluster(self.clock, {name: self._node(name) for name in ("one", "stuck")})
        pool = NodePool(self.clock, self.cluster, jitter=lambda: 0.0)
        self.addCleanup(pool.stopService)
        return pool

    def settle(self, seconds: float = 0.0) -> None:
        """Time and messages."""
        self.cluster.settle(seconds)

    def _node(self, name: str) -> MemoryNode:
        node = MemoryNode(self.clock)
        inline = {Version: lambda call: VersionResult(protocol=1, release=name)}
        node.functions = Functions(self.clock, node.launcher, inline=inline)
        node.locator = NodeLocator(node.functions)

        def work(process: FakeProcess) -> None:
            process.start()
            if process.request.name == NodeTestDelay.function():
                process.succeed()
            else:
                process.fail(HypervisorError(f"no such thing on {name}"))

        if name != "stuck":
            node.launcher.on_launch = work
        return node

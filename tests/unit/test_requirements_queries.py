"""Lists do not wait for one node after the other, nor keep the reactor for long."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ganeti.io.watcher_pause import WatcherPause
from ganeti.master.cluster_state import ClusterState
from ganeti.master.queries import LIVE_TIMEOUT_S, SLICE_ROWS, Queries
from ganeti.model.paths import Paths
from ganeti.testing.clusters import cluster
from ganeti.testing.config import MemoryConfig
from ganeti.testing.jobs import TestClock
from ganeti.testing.nodes import FakeNodes


class QueriesTests(SynchronousTestCase):
    """Queries over nodes in memory."""

    def setUp(self) -> None:
        """Three nodes with instances on each."""
        self.clock = Clock()
        self.nodes = FakeNodes(self.clock)
        self.turns = 0

    def queries(self, instances: int) -> Queries:
        """Queries about a cluster with so many instances."""
        config = MemoryConfig(cluster(nodes=3, instances=instances), TestClock(self.clock))
        pause = WatcherPause(Paths(self.mktemp()), TestClock(self.clock))
        state = ClusterState(config, self.nodes, TestClock(self.clock))
        return Queries(config, self.nodes, state, list, pause, self.later)

    def later(self) -> Deferred[None]:
        """Count the turns that others have."""
        self.turns += 1
        return succeed(None)

    def test_hanging_nodes_are_waited_for_once(self) -> None:
        """Consoles of instances on three nodes that hang cost the time of one (S2.2-007)."""
        self.nodes.hanging.update(node.uuid for node in cluster(nodes=3).nodes.values())
        asked = Deferred.fromCoroutine(self.queries(6).query("instance", ["name", "console"], None))
        # Once for what runs, and once for the consoles.
        for _ in range(2):
            self.assertNoResult(asked)
            self.clock.advance(LIVE_TIMEOUT_S + 1)
        self.assertEqual(len(self.successResultOf(asked)["data"]), 6)

    def test_slices(self) -> None:
        """Others have a turn after each hundred rows (S2.2-010)."""
        rows = self.successResultOf(
            Deferred.fromCoroutine(self.queries(350).query("instance", ["name"], None))
        )
        self.assertEqual((len(rows["data"]), self.turns), (350, 350 // SLICE_ROWS))

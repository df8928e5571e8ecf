"""Tests of OP_UPDATE_NODE_GROUP_CACHE, and of what operations leave in the state cache."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import GanetiError
from ganeti.logic.tags import TagKind
from ganeti.model.calls.instances import InstanceShutdown
from ganeti.model.calls.report import NodeReport
from ganeti.model.locks import LockLevel, LockMode, LockPlan, exclusive
from ganeti.ops.base import OpCode
from ganeti.ops.group.update_cache import UpdateNodeGroupCache
from ganeti.ops.instance.console import InstanceConsole
from ganeti.ops.instance.shutdown import ShutdownInstance
from ganeti.ops.tags.set_tags import SetTags
from ganeti.testing.clusters import changed_instance, cluster, group_id, node_id, with_instance, with_node
from ganeti.testing.operations import OperationWorld


class CacheCase(SynchronousTestCase):
    """Nodes 1 and 3 in `default`, 2 and 4 in `group2`; inst1 on nodes 1 and 3, inst2 on 2 and 4."""

    def setUp(self) -> None:
        """Nothing is known."""
        self.use(OperationWorld(cluster(nodes=4, groups=2, instances=2)))

    def use(self, world: OperationWorld) -> None:
        """Take another world."""
        self.world = world

    def known(self) -> set[str]:
        """Short names of nodes of which something is known."""
        return {row["name"].partition(".")[0] for row in self.world.state.rows() if row["kind"] == "node"}

    def learn(self) -> None:
        """All nodes tell everything."""
        for name in ("default", "group2"):
            self.world.run(UpdateNodeGroupCache(group_name=name))


class UpdateTests(CacheCase):
    """The opcode of the watcher."""

    def found(self, group: str = "default") -> dict[str, Any]:
        """Its result."""
        result: dict[str, Any] = self.world.run(UpdateNodeGroupCache(group_name=group))
        return result

    def states(self) -> dict[str, str]:
        """State of each node, by short name."""
        return {name.partition(".")[0]: node["state"] for name, node in self.found()["nodes"].items()}

    def status(self, name: str = "inst1") -> str | None:
        """Of an instance."""
        found: str | None = self.found()["instances"][f"{name}.example.com"]["status"]
        return found

    def test_one_group(self) -> None:
        """Only its nodes are asked, one call each; all of it is known then (S2.3-046, S2.3-061, S2.3-062)."""
        found = self.found()
        asked = [called.node for called in self.world.nodes.calls_of(NodeReport)]
        self.assertEqual(asked, ["node1.example.com", "node3.example.com"])
        self.assertEqual(self.known(), {"node1", "node3"})
        self.assertEqual(found["group"], group_id(1))
        self.assertEqual(found["nodes"]["node1.example.com"]["boot_id"], "boot-node1.example.com")
        self.assertEqual(
            found["instances"],
            {
                "inst1.example.com": {
                    "status": "running",
                    "admin_state": "up",
                    "disks_active": True,
                    "disk_template": "drbd",
                    "primary": "node1.example.com",
                    "secondaries": ["node3.example.com"],
                    "is_split": False,
                }
            },
        )

    def test_locks(self) -> None:
        """All shared; nodes and instances as far as they are free (S2.3-061, S2.3-068)."""
        plan = self.world.plan(UpdateNodeGroupCache(group_name="default"))
        shown = {
            level: (request.names, request.mode, request.opportunistic)
            for level, request in plan.requests.items()
        }
        self.assertEqual(
            shown,
            {
                LockLevel.INSTANCE: (frozenset({"inst1.example.com"}), LockMode.SHARED, True),
                LockLevel.NODEGROUP: (frozenset({group_id(1)}), LockMode.SHARED, False),
                LockLevel.NODE: (frozenset({node_id(1), node_id(3)}), LockMode.SHARED, True),
            },
        )

    def test_statuses(self) -> None:
        """Instances are as their nodes say now, whatever was known."""
        self.assertEqual(self.status(), "running")
        self.world.model.stop("node1.example.com", "inst1.example.com")
        self.assertEqual(self.status(), "ERROR_down")
        self.world.model.run("node3.example.com", "inst1.example.com")
        self.assertEqual(self.status(), "ERROR_wrongnode")
        self.world.nodes.unreachable.add(node_id(1))
        self.assertEqual(self.status(), "ERROR_nodedown")
        self.assertEqual(self.states(), {"node1": "silent", "node3": "answered"})

    def test_offline(self) -> None:
        """Offline nodes are not asked."""
        value = with_node(cluster(nodes=4, groups=2, instances=2), "node1", offline=True)
        self.use(OperationWorld(with_node(value, "node1", master_candidate=False)))
        self.assertEqual(self.states(), {"node1": "offline", "node3": "answered"})
        self.assertEqual(self.status(), "ERROR_nodeoffline")

    def hold(self, level: LockLevel, name: str) -> Any:
        """Let another job hold something."""
        held = self.world.locks.held(
            LockPlan(requests={level: exclusive([name])}), owner="9", priority=0, timeout_s=None
        )
        self.successResultOf(Deferred.fromCoroutine(held.__aenter__()))
        return held

    def test_busy_node(self) -> None:
        """A node that is locked does not keep others waiting; of it nothing is said (S2.3-068)."""
        value = with_instance(
            cluster(nodes=4, groups=2, instances=2), "other", primary="node3", template="sharedfile"
        )
        self.use(OperationWorld(value))
        self.learn()
        self.hold(LockLevel.NODE, node_id(1))
        self.assertEqual(self.states(), {"node1": "busy", "node3": "answered"})
        self.assertEqual((self.status("inst1"), self.status("other")), (None, "running"))
        self.assertEqual(self.known(), {"node2", "node3", "node4"})

    def test_busy_instance(self) -> None:
        """Of an instance that somebody works on nothing is said."""
        self.hold(LockLevel.INSTANCE, "inst1.example.com")
        self.assertEqual(self.status(), None)
        self.assertEqual(self.states(), {"node1": "answered", "node3": "answered"})

    def test_split(self) -> None:
        """An instance with nodes in two groups is told of as such."""
        self.use(OperationWorld(with_node(self.world.cluster, "node3", group=group_id(2))))
        self.assertTrue(self.found()["instances"]["inst1.example.com"]["is_split"])

    def test_unborn(self) -> None:
        """An instance that is only planned is nobody to look after."""
        self.use(OperationWorld(changed_instance(self.world.cluster, "inst1", forthcoming=True)))
        self.assertEqual(self.found()["instances"], {})


class WhatOperationsLeaveTests(CacheCase):
    """Invalidation by operations."""

    def setUp(self) -> None:
        """Everything is known."""
        super().setUp()
        self.learn()

    def left(self, op: OpCode) -> set[str]:
        """Nodes known after an operation."""
        self.world.run(op)
        return self.known()

    def test_default(self) -> None:
        """The nodes of an instance that was locked are not known any more (S2.3-049)."""
        self.assertEqual(self.left(ShutdownInstance(instance_name="inst1")), {"node2", "node3", "node4"})

    def test_failed(self) -> None:
        """Whoever failed may have done half of it."""
        self.world.model.break_call(InstanceShutdown, "hangs")
        self.assertRaises(GanetiError, self.world.run, ShutdownInstance(instance_name="inst1"))
        self.assertNotIn("node1", self.known())

    def test_refused(self) -> None:
        """Whoever was refused has done nothing."""
        self.assertRaises(GanetiError, self.world.run, ShutdownInstance(instance_name="nobody"))
        self.assertEqual(len(self.known()), 4)

    def test_opted_out(self) -> None:
        """Looking at a console or tagging changes nothing that nodes tell (S2.3-050)."""
        self.assertEqual(len(self.left(InstanceConsole(instance_name="inst1"))), 4)
        tags = SetTags(kind=TagKind.INSTANCE, name="inst1", tags=("a",))
        self.assertEqual(len(self.left(tags)), 4)

    def test_answers_meanwhile(self) -> None:
        """What a node told while an operation changed it does not count either."""
        answers: list[Any] = []

        def shutdown(node: Any, call: Any) -> None:
            nodes = [self.world.cluster.nodes[node_id(1)]]
            answers.append(Deferred.fromCoroutine(self._ask(nodes)))
            self.world.model.stop(node.name, call.instance.name)

        self.world.nodes.answer(InstanceShutdown, shutdown)
        self.world.run(ShutdownInstance(instance_name="inst1"))
        self.assertEqual(len(self.successResultOf(answers[0])), 1)
        self.assertNotIn("node1", self.known())

    async def _ask(self, nodes: Any) -> Any:
        return await self.world.state.reports(nodes)

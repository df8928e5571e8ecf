"""Tests of changing, renaming and removing node groups, and of putting nodes into them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import msgspec

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ErrorCode, OperationFailed, PrereqError
from ganeti.model.allocation import ChangeGroup, Solution
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId
from ganeti.model.locks import LockLevel, LockPlan, exclusive
from ganeti.model.node import AllocPolicy, NodeGroup
from ganeti.ops.base import OpCode
from ganeti.ops.group.assign_nodes import AssignNodes
from ganeti.ops.group.evacuate import EvacuateGroup
from ganeti.ops.group.remove import RemoveGroup
from ganeti.ops.group.rename import RenameGroup
from ganeti.ops.group.set_params import SetGroupParams
from ganeti.ops.instance.change_group import ChangeInstanceGroup
from ganeti.testing.clusters import cluster, group_id, node_id, with_node
from ganeti.testing.operations import OperationWorld


async def _as_coroutine(awaited: Awaitable[Any]) -> Any:
    return await awaited


class GroupCase(SynchronousTestCase):
    """Four nodes in two groups by turns: 1 and 3 in `default`, 2 and 4 in `group2`."""

    value: Cluster | None = None

    def setUp(self) -> None:
        """No instances."""
        self.world = OperationWorld(self.value or cluster(nodes=4, groups=2))

    def group(self, name: str) -> NodeGroup:
        """A group as it is now."""
        return self.world.cluster.group(name)

    def members(self, name: str) -> list[str]:
        """Names of its nodes, without the domain."""
        nodes = self.world.cluster.members(self.group(name).uuid)
        return sorted(node.name.partition(".")[0] for node in nodes)

    def refused(self, op: OpCode, text: str) -> PrereqError:
        """The refusal of an opcode; nothing has changed."""
        before = self.world.cluster
        error: PrereqError = self.assertRaises(PrereqError, self.world.run, op)
        self.assertIn(text, str(error))
        self.assertIs(self.world.cluster, before)
        return error


class RemoveTests(GroupCase):
    """OP_GROUP_REMOVE."""

    def test_empty(self) -> None:
        """A group without nodes goes, and so does its lock (S2.3-003)."""
        self.world.run(AssignNodes(group_name="default", nodes=("node2", "node4")))
        gone = self.group("group2").uuid
        self.world.run(RemoveGroup(group_name="group2"))
        self.assertEqual([group.name for group in self.world.cluster.groups.values()], ["default"])
        forgotten = [event.names for event in self.world.locks.events if event.what == "forget"]
        self.assertEqual(forgotten, [frozenset([gone])])

    def test_with_nodes(self) -> None:
        """A group with nodes stays; they are named, and the remedy (S2.3-003)."""
        error = self.refused(RemoveGroup(group_name="group2"), "node2.example.com, node4.example.com")
        self.assertIn("gnt-group assign-nodes", str(error))
        self.assertEqual(error.code, ErrorCode.STATE)

    def test_unknown(self) -> None:
        """A group that does not exist cannot be removed."""
        self.assertEqual(self.refused(RemoveGroup(group_name="nosuch"), "nosuch").code, ErrorCode.UNKNOWN)

    def test_hooks(self) -> None:
        """They run on the master, and know the name also when the group is gone."""
        self.world.run(AssignNodes(group_name="default", nodes=("node2", "node4")))
        operation = self.world.operation(RemoveGroup(group_name="group2"))
        self.world.run(RemoveGroup(group_name="group2"))
        env = operation.hook_env(self.world.cluster)
        self.assertEqual(env, {"OP_TARGET": "group2", "GROUP_NAME": "group2"})
        self.assertEqual(operation.hook_nodes(self.world.cluster).post, (node_id(1),))


class LastGroupTests(GroupCase):
    """A cluster with one group that has no nodes does not exist, but the rule does not count on it."""

    def test_last(self) -> None:
        """The only group stays even without nodes (S2.3-003)."""
        operation = self.world.operation(RemoveGroup(group_name="default"))
        lonely = cluster(nodes=0)
        with self.assertRaisesRegex(PrereqError, "only node group"):
            operation.check(lonely, None)


class RenameTests(GroupCase):
    """OP_GROUP_RENAME."""

    def test_renamed(self) -> None:
        """The name changes, nothing that refers to the group does (S2.3-005, S2.3-024)."""
        before = self.world.cluster.nodes
        result = self.world.run(RenameGroup(group_name="group2", new_name="rack2"))
        self.assertEqual(result, "rack2")
        self.assertEqual(self.group("rack2").uuid, group_id(2))
        self.assertIs(self.world.cluster.nodes, before)
        self.assertEqual(self.members("rack2"), ["node2", "node4"])

    def test_taken(self) -> None:
        """Neither a name nor a UUID that means a group can be taken; nor can anything that is no name."""
        for name in ("default", "group2", group_id(1)):
            error = self.refused(RenameGroup(group_name="group2", new_name=name), "already")
            self.assertEqual(error.code, ErrorCode.EXISTS)
        self.refused(RenameGroup(group_name="group2", new_name="a b"), "'a b' cannot name a node group")

    def test_hooks(self) -> None:
        """They run on the master and the group's nodes, before and after."""
        operation = self.world.operation(RenameGroup(group_name="group2", new_name="rack2"))
        first = operation.hook_nodes(self.world.cluster)
        self.assertEqual(first.pre, (node_id(1), node_id(2), node_id(4)))
        self.world.run(RenameGroup(group_name="group2", new_name="rack2"))
        self.assertEqual(operation.hook_nodes(self.world.cluster).post, first.post)
        env = {"OP_TARGET": "group2", "OLD_NAME": "group2", "NEW_NAME": "rack2"}
        self.assertEqual(operation.hook_env(self.world.cluster), env)


class ModifyTests(GroupCase):
    """OP_GROUP_SET_PARAMS."""

    value = cluster(nodes=4, groups=2, instances=3, memory=128)

    def modify(self, **changes: Any) -> Any:
        """Change `group2`."""
        return self.world.run(SetGroupParams(group_name="group2", **changes))

    def test_alloc_policy(self) -> None:
        """The allocation policy changes, and hooks know it (S2.3-008)."""
        self.assertEqual(self.modify(alloc_policy=AllocPolicy.LAST_RESORT), [["alloc_policy", "last_resort"]])
        self.assertEqual(self.group("group2").alloc_policy, AllocPolicy.LAST_RESORT)
        for policy, told in ((AllocPolicy.UNALLOCABLE, "unallocable"), (None, "")):
            op = SetGroupParams(group_name="group2", alloc_policy=policy)
            self.assertEqual(self.world.operation(op).hook_env(self.world.cluster)["NEW_ALLOC_POLICY"], told)

    def test_parameters(self) -> None:
        """Parameters are merged with those that are set; `default` gives the cluster's."""
        self.modify(ndparams={"ssh_port": "2222", "spindle_count": 4}, diskparams={"plain": {"stripes": "2"}})
        self.modify(ndparams={"spindle_count": "default"}, diskparams={"drbd": {"metavg": "meta"}})
        group = self.group("group2")
        self.assertEqual(group.ndparams, {"ssh_port": 2222})
        self.assertEqual(group.diskparams, {"plain": {"stripes": 2}, "drbd": {"metavg": "meta"}})
        self.modify(diskparams={"plain": {"stripes": "default"}})
        self.assertEqual(self.group("group2").diskparams, {"drbd": {"metavg": "meta"}})

    def test_policy(self) -> None:
        """A part of the policy can be set, and given back to the cluster."""
        self.modify(ipolicy={"vcpu-ratio": 2.0})
        self.assertEqual(self.world.cluster.policy_of(group_id(2)).vcpu_ratio, 2.0)
        self.modify(ipolicy={"vcpu-ratio": "default"})
        self.assertEqual(dict(self.group("group2").ipolicy), {})

    def test_instances_against_the_policy(self) -> None:
        """Instances that the new policy does not allow are named; those of other groups are not."""
        bounds = [{"min": self._spec(256), "max": self._spec(1024)}]
        self.modify(ipolicy={"minmax": bounds})
        (warned,) = self.world.feedback.warnings
        self.assertIn("instance inst2.example.com violates it", warned)
        self.modify(ipolicy={"minmax": bounds})
        self.assertEqual(len(self.world.feedback.warnings), 1)

    def test_wrong(self) -> None:
        """What is unknown, wrong or contradicts itself is refused by its name."""
        for changes, text in (
            ({}, "at least one parameter"),
            ({"ndparams": {"ssh_prot": 1}}, "ssh_port"),
            ({"diskparams": {"plane": {}}}, "'plane'"),
            ({"diskparams": {"plain": {"stripes": 0}}}, "stripes"),
            ({"ipolicy": {"vcpu-ration": 1}}, "vcpu-ration"),
            ({"ipolicy": {"vcpu-ratio": 0.5}}, "vcpu-ratio"),
            ({"ipolicy": {"disk-templates": ["plane"]}}, "plane"),
            ({"ipolicy": {"std": {"memory-size": 64}}}, "set for the cluster"),
        ):
            with self.subTest(text=text):
                self.refused(SetGroupParams(group_name="group2", **changes), text)

    def _spec(self, memory: int) -> dict[str, int]:
        return {
            "memory-size": memory,
            "cpu-count": 1 if memory < 1000 else 8,
            "disk-count": 1 if memory < 1000 else 16,
            "disk-size": 1 if memory < 1000 else 2**20,
            "nic-count": 0 if memory < 1000 else 8,
            "spindle-use": 1 if memory < 1000 else 12,
        }


class AssignTests(GroupCase):
    """OP_GROUP_ASSIGN_NODES of nodes without instances."""

    def test_empty_nodes(self) -> None:
        """They change their group; those that are in it already stay."""
        self.world.run(AssignNodes(group_name="group2", nodes=("node1", "node2")))
        self.assertEqual(self.members("group2"), ["node1", "node2", "node4"])
        self.assertEqual(self.members("default"), ["node3"])

    def test_by_uuid(self) -> None:
        """UUIDs count if both are given."""
        op = AssignNodes(group_name=group_id(2), nodes=("node1",), node_uuids=(node_id(3),))
        self.world.run(op)
        self.assertEqual(self.members("group2"), ["node2", "node3", "node4"])

    def test_locks(self) -> None:
        """The group, those where the nodes come from, and the nodes; not the cluster (S2.3-026)."""
        plan = self.world.plan(AssignNodes(group_name="group2", nodes=("node1",)))
        self.assertFalse(plan.exclusive_cluster)
        self.assertEqual(
            {level: set(request.names or ()) for level, request in plan.requests.items()},
            {LockLevel.NODEGROUP: {group_id(1), group_id(2)}, LockLevel.NODE: {node_id(1)}},
        )

    def test_unknown(self) -> None:
        """Groups and nodes that do not exist are named; no node at all is a mistake."""
        self.refused(AssignNodes(group_name="nosuch", nodes=("node1",)), "nosuch")
        self.refused(AssignNodes(group_name="group2", nodes=("node1", "nosuch")), "nosuch")
        self.refused(AssignNodes(group_name="group2", nodes=()), "name the nodes")


class AssignWithInstancesTests(GroupCase):
    """Mirrored instances: on 1 and 3, on 2 and 4, on 3 and 1."""

    value = cluster(nodes=4, groups=2, instances=3)

    def test_refused(self) -> None:
        """A node with instances keeps its group (S2.3-020)."""
        op = AssignNodes(group_name="group2", nodes=("node1", "node3"))
        error = self.refused(op, "node1.example.com, node3.example.com")
        self.assertIn("--force", str(error))

    def test_forced(self) -> None:
        """With force they go together with their instances, if those stay whole (S2.3-020)."""
        self.world.run(AssignNodes(group_name="group2", nodes=("node1", "node3"), force=True))
        self.assertEqual(self.members("group2"), ["node1", "node2", "node3", "node4"])
        self.assertEqual(self.world.feedback.warnings, [])

    def test_split(self) -> None:
        """Not even force splits an instance (S2.3-013, S2.3-020)."""
        error = self.refused(AssignNodes(group_name="group2", nodes=("node1",), force=True), "together")
        self.assertIn("inst1.example.com", str(error))
        self.assertNotIn("inst2", str(error))


class EvacuateTests(GroupCase):
    """OP_GROUP_EVACUATE; instances 1 and 3 are in `default`, 2 in `group2`."""

    value = cluster(nodes=4, groups=2, instances=3, template="sharedfile", default_iallocator="builtin")

    def setUp(self) -> None:
        """The allocator migrates both."""
        super().setUp()
        self.world.allocation.solution = Solution(
            jobs=tuple(
                (
                    {
                        "OP_ID": "OP_INSTANCE_MIGRATE",
                        "instance_name": f"inst{number}.example.com",
                        "allow_failover": True,
                        "target_node": "node2.example.com",
                    },
                )
                for number in (1, 3)
            )
        )

    def jobs(self) -> list[Any]:
        """Opcodes that were submitted, one of each job."""
        return [job for (job,) in self.world.jobs.submitted]

    def test_request(self) -> None:
        """All instances of the group, and the other groups or those that were named (S2.3-012)."""
        for wanted in (None, ("group2",), (group_id(2), "group2")):
            self.setUp()
            self.world.run(EvacuateGroup(group_name="default", target_groups=wanted))
            ((name, request, _),) = self.world.allocation.requests
            names = ("inst1.example.com", "inst3.example.com")
            expected = ChangeGroup(instances=names, target_groups=(group_id(2),))
            self.assertEqual((name, request), ("builtin", expected))

    def test_jobs(self) -> None:
        """A job for each; those that share a node wait for each other."""
        result = self.world.run(EvacuateGroup(group_name="default"))
        self.assertEqual(result["jobs"], [[True, 101], [True, 102]])
        self.assertEqual([op.op_id() for op in self.jobs()], ["OP_INSTANCE_MIGRATE"] * 2)
        first, second = self.jobs()
        self.assertEqual((first.depends, second.depends), (None, ((-1, ("canceled", "error", "success")),)))

    def test_one_after_the_other(self) -> None:
        """`sequential`: each waits for the one before, however that ends; `force_failover`: none is live."""
        self.world.run(EvacuateGroup(group_name="default", sequential=True, force_failover=True))
        first, second = self.jobs()
        self.assertEqual((first.op_id(), first.target_node), ("OP_INSTANCE_FAILOVER", "node2.example.com"))
        self.assertEqual((first.depends, second.depends[0][0]), (None, -1))

    def test_plan(self) -> None:
        """A dry run gives every move; with `force_failover` as it will be done."""
        for force, how in ((False, "migrate"), (True, "failover")):
            result = self.world.run(EvacuateGroup(group_name="default", dry_run=True, force_failover=force))
            rows = [(row["instance"], row["to"], row["to_group"], row["how"]) for row in result["moves"]]
            expected = ["node2.example.com"], "group2", how
            self.assertEqual(rows, [(f"inst{number}.example.com", *expected) for number in (1, 3)])
        self.assertEqual(self.world.jobs.submitted, [])

    def test_some_cannot_go(self) -> None:
        """What cannot go keeps the others, unless they are to go without it (S2.3-012)."""
        solution = self.world.allocation.solution
        assert solution is not None
        self.world.allocation.solution = msgspec.structs.replace(
            solution, jobs=solution.jobs[:1], failed=(("inst3.example.com", "plain disks"),)
        )
        with self.assertRaisesRegex(OperationFailed, "none is moved .--partial.*inst3.*: plain disks"):
            self.world.run(EvacuateGroup(group_name="default"))
        self.assertEqual(self.world.jobs.submitted, [])
        result = self.world.run(EvacuateGroup(group_name="default", partial=True))
        self.assertEqual([op.instance_name for op in self.jobs()], ["inst1.example.com"])
        self.assertEqual(result["stuck"], [["inst3.example.com", "plain disks"]])

    def test_target_lacks_something(self) -> None:
        """What the new nodes lack keeps an instance, too (S2.3-022)."""
        self.world.model.data["shared"].discard(self.world.cluster.instance("inst3").disks[0])
        with self.assertRaisesRegex(OperationFailed, "inst3.*: node node2.* does not reach disk 0"):
            self.world.run(EvacuateGroup(group_name="default"))
        self.world.run(EvacuateGroup(group_name="default", partial=True))
        self.assertEqual([op.instance_name for op in self.jobs()], ["inst1.example.com"])

    def test_removed_meanwhile(self) -> None:
        """A group that is removed while a job waits for it: the job ends and says so."""
        for op in (
            EvacuateGroup(group_name="group3"),
            EvacuateGroup(group_name="default", target_groups=("group3",)),
            ChangeInstanceGroup(instance_name="inst1", target_groups=("group3",)),
        ):
            value = cluster(nodes=6, groups=3, instances=1, template="sharedfile", default_iallocator="a")
            for number in (3, 6):
                value = with_node(value, f"node{number}", group=group_id(1))
            self.world = OperationWorld(value)
            error = self.removed_while_waiting(op, group_id(3))
            self.assertIsInstance(error, PrereqError)
            self.assertIn("group3", str(error))
            self.assertEqual(self.world.jobs.submitted, [])

    def removed_while_waiting(self, op: OpCode, group: GroupId) -> BaseException:
        """How an operation ends that waits for the lock of a group which is then removed."""
        plan = LockPlan(requests={LockLevel.NODEGROUP: exclusive([group])})
        holder = self.world.locks.held(plan, owner="9", priority=0, timeout_s=None)
        held = self.successResultOf(Deferred.fromCoroutine(_as_coroutine(holder.__aenter__())))
        waiting = self.world.start(op)
        self.assertNoResult(waiting)

        def removed(value: Cluster) -> Cluster:
            return msgspec.structs.replace(value, groups=value.groups.without(group))

        update = self.world.config.update(removed, reason="removed")
        self.successResultOf(Deferred.fromCoroutine(_as_coroutine(update)))
        held.forget(LockLevel.NODEGROUP, [group])
        self.successResultOf(Deferred.fromCoroutine(_as_coroutine(holder.__aexit__(None, None, None))))
        self.world.advance(1)
        error: BaseException = self.failureResultOf(waiting).value
        return error

    def test_empty(self) -> None:
        """A group without instances is empty already."""
        self.world = OperationWorld(cluster(nodes=4, groups=2, default_iallocator="builtin"))
        result = self.world.run(EvacuateGroup(group_name="default"))
        self.assertEqual(result, {"jobs": [], "moves": [], "stuck": []})
        self.assertEqual(self.world.allocation.requests, [])

    def test_refusals(self) -> None:
        """The group itself is no target; there must be another group and an allocator."""
        self.refused(
            EvacuateGroup(group_name="default", target_groups=("default",)), "cannot be their target"
        )
        self.refused(EvacuateGroup(group_name="default", target_groups=("nosuch",)), "nosuch")
        self.world = OperationWorld(cluster(instances=1, default_iallocator="builtin"))
        self.refused(EvacuateGroup(group_name="default"), "no other node group")
        self.world = OperationWorld(cluster(nodes=4, groups=2, instances=1, default_iallocator=""))
        self.refused(EvacuateGroup(group_name="default"), "-I")

    def test_hooks(self) -> None:
        """They run on the master and the group's nodes, and know the targets."""
        operation = self.world.operation(EvacuateGroup(group_name="group2", target_groups=("default",)))
        self.assertEqual(
            operation.hook_env(self.world.cluster),
            {"OP_TARGET": "group2", "GROUP_NAME": "group2", "TARGET_GROUPS": group_id(1)},
        )
        nodes = operation.hook_nodes(self.world.cluster)
        self.assertEqual(nodes.pre, (node_id(1), node_id(2), node_id(4)))


class ChangeGroupTests(GroupCase):
    """OP_INSTANCE_CHANGE_GROUP."""

    value = EvacuateTests.value

    def setUp(self) -> None:
        """The allocator has nothing to do."""
        super().setUp()
        self.world.allocation.solution = Solution()

    def test_request(self) -> None:
        """One instance, and the other groups or those that were named (S2.3-021)."""
        for wanted in (None, ("group2",)):
            self.setUp()
            self.world.run(
                ChangeInstanceGroup(instance_name="inst1", target_groups=wanted, iallocator="hail")
            )
            ((name, request, _),) = self.world.allocation.requests
            expected = ChangeGroup(instances=("inst1.example.com",), target_groups=(group_id(2),))
            self.assertEqual((name, request), ("hail", expected))

    def test_refusals(self) -> None:
        """The group where it is is no target; its disks must be such that it can go (S2.3-022)."""
        op = ChangeInstanceGroup(instance_name="inst1", target_groups=("default",))
        self.refused(op, "cannot be their target")
        self.world.allocation.solution = Solution(failed=(("inst1.example.com", "plain disks"),))
        with self.assertRaisesRegex(OperationFailed, "plain disks"):
            self.world.run(ChangeInstanceGroup(instance_name="inst1"))

    def test_hooks(self) -> None:
        """They run on the master, and know instance and targets."""
        op = ChangeInstanceGroup(instance_name="inst1", target_groups=("group2",))
        operation = self.world.operation(op)
        env = operation.hook_env(self.world.cluster)
        self.assertEqual((env["TARGET_GROUPS"], env["INSTANCE_NAME"]), (group_id(2), "inst1.example.com"))
        self.assertEqual(operation.hook_nodes(self.world.cluster).pre, (node_id(1),))

"""Tests of operations on nodes."""

from __future__ import annotations

from typing import Any

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ErrorCode, NodeUnreachable, OperationFailed, PrereqError
from ganeti.model.allocation import Evacuate, EvacuationMode, Solution
from ganeti.model.calls.system import (
    NodeDemote,
    NodeLeaveCluster,
    NodePowercycle,
    QueuePurge,
    Version,
    VersionResult,
)
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockMode
from ganeti.model.node import Node, NodeRole
from ganeti.ops.instance.create import CreateInstance
from ganeti.ops.instance.migrate import MigrateInstance
from ganeti.ops.node.add import AddNode
from ganeti.ops.node.evacuate import EvacuateNode
from ganeti.ops.node.migrate import MigrateNode
from ganeti.ops.node.powercycle import PowercycleNode
from ganeti.ops.node.remove import RemoveNode
from ganeti.ops.node.set_params import SetNodeParams
from ganeti.testing.clusters import cluster, group_id, node_id, with_node, with_settings
from ganeti.testing.operations import OperationWorld
from ganeti.version import PROTOCOL_VERSION

NEW = "node9.example.com"
OFF = {"offline": True, "master_candidate": False}


def world(value: Cluster | None = None) -> OperationWorld:
    """Three nodes; the name of a ninth resolves."""
    one = OperationWorld(value or cluster())
    one.reachability.names[NEW] = "10.0.0.99"
    return one


def add(**changes: Any) -> AddNode:
    """The ninth node."""
    return AddNode(**{"node_name": NEW, "secondary_ip": "10.1.0.99", **changes})


def modify(name: str = "node2", **changes: Any) -> SetNodeParams:
    """A change of a node."""
    return SetNodeParams(node_name=name, **changes)


def role(world: OperationWorld, name: str) -> NodeRole:
    """Role of a node."""
    return world.cluster.role(world.cluster.node(name))


def node(world: OperationWorld, name: str) -> Node:
    """A node."""
    return world.cluster.node(name)


class AddTests(SynchronousTestCase):
    """OP_NODE_ADD for a new node."""

    def test_joins(self) -> None:
        """It is recorded with its addresses, in the default group, as a candidate while there is room."""
        one = world()
        one.run(add())
        found = node(one, NEW)
        self.assertEqual((found.primary_ip, found.secondary_ip), ("10.0.0.99", "10.1.0.99"))
        self.assertEqual((found.group, found.master_candidate), (group_id(1), True))
        self.assertIn("Node will be a master candidate", one.feedback.lines)

    def test_short_name(self) -> None:
        """A short name is completed."""
        one = world()
        one.run(add(node_name="NODE9"))
        self.assertEqual(node(one, NEW).name, NEW)

    def test_full_pool(self) -> None:
        """It is no candidate where the pool is full, or where it must not be (S2.3-100)."""
        one = world(cluster(candidate_pool_size=3))
        one.run(add())
        self.assertEqual(role(one, NEW), NodeRole.REGULAR)
        one = world()
        one.run(add(master_capable=False))
        self.assertEqual((role(one, NEW), node(one, NEW).master_capable), (NodeRole.REGULAR, False))

    def test_uuid(self) -> None:
        """Its UUID is that of its certificate."""
        one = world()
        one.run(add(node_uuid="11111111-0000-4000-8000-000000000009"))
        self.assertEqual(node(one, NEW).uuid, "11111111-0000-4000-8000-000000000009")

    def test_can_be_locked(self) -> None:
        """Its locks exist from then on: an instance can be put there."""
        one = world()
        one.run(add())
        one.run(
            CreateInstance(
                instance_name="web",
                mode="create",
                disk_template="file",
                disks=({"size": 1024},),
                nics=(),
                os_type="noop",
                pnode=NEW,
                ignore_ipolicy=True,
            )
        )
        self.assertEqual(list(one.model.where("web")), [NEW])

    def test_group(self) -> None:
        """A group may be chosen; where none is called default it has to be."""
        one = world(cluster(nodes=2, groups=2))
        one.run(add(group="group2"))
        self.assertEqual(node(one, NEW).group, group_id(2))

    def test_flags_and_parameters(self) -> None:
        """Flags and parameters are kept."""
        one = world()
        one.run(add(vm_capable=False, ndparams={"oob_program": "/usr/bin/oob"}))
        found = node(one, NEW)
        self.assertEqual((found.vm_capable, found.ndparams), (False, {"oob_program": "/usr/bin/oob"}))

    def test_refusals(self) -> None:
        """What cannot be is refused with the remedy; nothing is recorded."""
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({"node_name": "node7"}, "node7 does not resolve; put it into DNS"),
            ({"node_name": "node2.example.com", "primary_ip": "10.0.0.77"}, "node2.*already; --readd"),
            ({"primary_ip": "10.0.0.3"}, "address 10.0.0.3 belongs to node node2"),
            ({"secondary_ip": "10.1.0.2"}, "address 10.1.0.2 belongs to node node1"),
            ({"secondary_ip": None}, "the master has a secondary address.*with -s"),
            ({"secondary_ip": "fe80::1"}, "must be IPv4, not fe80::1"),
            ({"secondary_ip": "ten"}, "'ten' is no IP address"),
            ({"group": "blue"}, "'blue' is not known"),
            ({"readd": True}, "is not in the cluster; add it without --readd"),
            ({"ndparams": {"colour": "red"}}, "'colour'"),
        )
        for changes, pattern in cases:
            one = world()
            with self.assertRaisesRegex(Exception, pattern):
                one.run(add(**changes))
            self.assertEqual(one.config.changes, [], pattern)

    def test_daemon_does_not_answer(self) -> None:
        """If its daemon does not answer, the message says what to look at."""
        one = world()
        one.model.break_call(Version, NodeUnreachable("connection refused"))
        with self.assertRaisesRegex(PrereqError, f"{NEW} at 10.0.0.99.*refused.*ganeti-noded") as caught:
            one.run(add())
        self.assertEqual(caught.exception.code, ErrorCode.ENVIRONMENT)

    def test_other_protocol(self) -> None:
        """A node of another release is refused."""
        one = world()
        one.nodes.answer(Version, VersionResult(protocol=PROTOCOL_VERSION + 1, release="9"))
        with self.assertRaisesRegex(PrereqError, "install the same release"):
            one.run(add())

    def test_hooks(self) -> None:
        """Before: all others; after: all, the new one included."""
        one = world()
        one.run(add())
        runs = {run[1]: set(run[2]) for run in one.hooks.runs if run[0] == "node-add"}
        self.assertEqual(len(runs["pre"]), 3)
        self.assertEqual(runs["post"] - runs["pre"], {NEW})


class ReaddTests(SynchronousTestCase):
    """OP_NODE_ADD for a node that comes back."""

    def back(self, **changes: Any) -> AddNode:
        """The second node comes back."""
        return AddNode(node_name="node2.example.com", primary_ip="10.0.0.3", readd=True, **changes)

    def test_comes_back(self) -> None:
        """It is online and undrained, keeps its group, and becomes a candidate again if there is room."""
        value = with_node(cluster(nodes=4, groups=2), "node2", **OFF, ndparams={"spindle_count": 4})
        one = world(value)
        one.run(self.back())
        found = node(one, "node2")
        self.assertEqual((found.offline, found.group, found.ndparams), (False, group_id(2), {}))
        self.assertEqual(role(one, "node2"), NodeRole.CANDIDATE)

    def test_no_candidate_any_more(self) -> None:
        """If there is no room it is cleared of what candidates have."""
        one = world(with_node(cluster(nodes=4, candidate_pool_size=3), "node2", **OFF))
        one.run(AddNode(node_name="node4.example.com", primary_ip="10.0.0.5", readd=True))
        self.assertEqual([called.node for called in one.nodes.calls_of(NodeDemote)], [])
        one = world(with_settings(with_node(cluster(), "node2", **OFF), candidate_pool_size=2))
        one.run(self.back())
        self.assertEqual(role(one, "node2"), NodeRole.REGULAR)
        self.assertEqual([called.node for called in one.nodes.calls_of(QueuePurge)], ["node2.example.com"])

    def test_new_address(self) -> None:
        """Its primary address may have changed."""
        one = world(with_node(cluster(), "node2", **OFF))
        one.run(AddNode(node_name="node2.example.com", primary_ip="10.0.0.200", readd=True))
        self.assertEqual(node(one, "node2").primary_ip, "10.0.0.200")

    def test_refusals(self) -> None:
        """Not the master, no other group, no other secondary address, not without its instances."""
        cases = (
            (AddNode(node_name="node1.example.com", primary_ip="10.0.0.2", readd=True), "the master cannot"),
            (self.back(group="default"), "cannot change when it is re-added"),
            (self.back(secondary_ip="10.1.0.77"), "has the secondary address 10.1.0.3"),
            (self.back(vm_capable=False), "has instance inst1.*vm_capable cannot be off"),
        )
        for op, pattern in cases:
            with self.assertRaisesRegex(PrereqError, pattern):
                world(cluster(instances=1)).run(op)


class SetParamsTests(SynchronousTestCase):
    """OP_NODE_SET_PARAMS."""

    def test_roles(self) -> None:
        """Each flag gives its role, and the result says what changed (S2.3-100 to S2.3-102)."""
        for flags, wanted in (
            ({"offline": True}, NodeRole.OFFLINE),
            ({"drained": True}, NodeRole.DRAINED),
            ({"master_candidate": False}, NodeRole.REGULAR),
            ({"master_capable": False}, NodeRole.REGULAR),
        ):
            one = world(cluster(nodes=4, candidate_pool_size=2))
            one.run(modify("node4", vm_capable=False))
            found = one.run(modify("node2", auto_promote=True, **flags))
            self.assertEqual(role(one, "node2"), wanted)
            self.assertIn(["master_candidate", "False"], found)

    def test_pool_is_filled(self) -> None:
        """With auto_promote another node takes the place; without it the demotion is refused (S2.3-103)."""
        value = cluster(nodes=4, candidate_pool_size=2)
        with self.assertRaisesRegex(PrereqError, "only 1 of 2.*--auto-promote"):
            world(value).run(modify("node2", offline=True))
        one = world(value)
        one.run(modify("node2", offline=True, auto_promote=True))
        candidates = [found.name for found in one.cluster.nodes.values() if found.master_candidate]
        self.assertEqual(len(candidates), 2)
        self.assertIn(f"promoted node {candidates[1]} to master candidate", one.feedback.lines)

    def test_incapable_nodes_are_not_promoted(self) -> None:
        """Nodes that must not be candidates are passed over (S2.3-103)."""
        value = with_node(cluster(nodes=4, candidate_pool_size=2), "node3", master_capable=False)
        one = world(value)
        one.run(modify("node2", drained=True, auto_promote=True))
        self.assertEqual((role(one, "node3"), role(one, "node4")), (NodeRole.REGULAR, NodeRole.CANDIDATE))

    def test_demoted_node_is_cleared(self) -> None:
        """A node that is no candidate any more loses configuration and queue, unless it is offline."""
        one = world()
        one.run(modify(master_candidate=False))
        self.assertEqual(
            [(type(called.call), called.node) for called in one.nodes.calls],
            [(NodeDemote, "node2.example.com"), (QueuePurge, "node2.example.com")],
        )
        one = world()
        one.run(modify(offline=True))
        self.assertEqual(one.called(), [])

    def test_clearing_fails(self) -> None:
        """If that fails it is a warning."""
        one = world()
        one.nodes.unreachable.add(node_id(2))
        one.run(modify(drained=True))
        self.assertIn("could not be told that it is no candidate", one.feedback.warnings[0])

    def test_comes_online(self) -> None:
        """A node that comes online has to answer; re-adding it is safer, which is said."""
        one = world(with_node(cluster(), "node2", **OFF))
        one.run(modify(offline=False))
        self.assertEqual(role(one, "node2"), NodeRole.CANDIDATE)
        self.assertIn("--readd node2.example.com", one.feedback.warnings[0])
        one = world(with_node(cluster(), "node2", **OFF))
        one.model.break_call(Version, NodeUnreachable("no route"))
        with self.assertRaisesRegex(PrereqError, "node2.*cannot come online: no route"):
            one.run(modify(offline=False))

    def test_vm_capable_race(self) -> None:
        """A node that lost vm_capable gets no instance, however late that is seen (S2.3-106)."""
        one = world()
        one.run(modify(vm_capable=False))
        with self.assertRaisesRegex(PrereqError, "vm_capable is off"):
            one.run(
                CreateInstance(
                    instance_name="web",
                    mode="create",
                    disk_template="file",
                    disks=({"size": 1024},),
                    nics=({},),
                    os_type="noop",
                    pnode="node2",
                )
            )

    def test_both_flags(self) -> None:
        """Both capabilities may be taken from one node (S2.3-107)."""
        one = world()
        one.run(modify(vm_capable=False, master_capable=False))
        found = node(one, "node2")
        self.assertEqual((found.vm_capable, found.master_capable, found.master_candidate), (False,) * 3)

    def test_parameters(self) -> None:
        """Node parameters are merged; `default` resets."""
        one = world(with_node(cluster(), "node2", ndparams={"spindle_count": 4, "ssh_port": 222}))
        one.run(modify(ndparams={"spindle_count": "default", "cpu_speed": 2.0}))
        self.assertEqual(node(one, "node2").ndparams, {"ssh_port": 222, "cpu_speed": 2.0})

    def test_powered(self) -> None:
        """The power state is recorded where a program can tell it."""
        one = world(with_node(cluster(), "node2", ndparams={"oob_program": "/oob"}))
        one.run(modify(powered=False))
        self.assertIs(node(one, "node2").powered, False)

    def test_refusals(self) -> None:
        """What cannot be is refused with the name and the remedy; nothing changes."""
        incapable = with_node(cluster(), "node2", master_capable=False, master_candidate=False)
        busy = cluster(instances=2)
        cases: tuple[tuple[Cluster, SetNodeParams, str], ...] = (
            (cluster(), modify(), "no changes submitted for node node2"),
            (cluster(), modify(offline=True, drained=True), "node2.*at the same time"),
            (cluster(), modify("node1", offline=True), "node1.*is the master.*failover"),
            (cluster(), modify("node1", master_capable=False), "must remain master capable"),
            (incapable, modify(master_candidate=True), "not master capable"),
            (busy, modify(vm_capable=False), "has instances .*inst1.*move them first"),
            (cluster(), modify(powered=True), "no out-of-band program"),
            (cluster(), modify(ndparams={"exclusive_storage": True}), "not on a single node"),
            (cluster(), modify(ndparams={"colour": "red"}), "'colour'"),
            (cluster(), modify(secondary_ip="10.1.0.2"), "10.1.0.2 belongs to node node1"),
            (busy, modify(secondary_ip="10.1.0.55"), "inst.*is to run; stop it"),
        )
        for value, op, pattern in cases:
            one = world(value)
            with self.assertRaisesRegex(PrereqError, pattern):
                one.run(op)
            self.assertEqual(one.config.changes, [], pattern)

    def test_hooks(self) -> None:
        """Hooks on the master and the node are told the flags."""
        one = world()
        one.run(modify(drained=True))
        run = one.hooks.runs[0]
        self.assertEqual((run[0], run[2]), ("node-modify", ("node1.example.com", "node2.example.com")))
        self.assertEqual((run[3]["GANETI_DRAINED"], run[3]["GANETI_OFFLINE"]), ("True", "None"))


class RemoveTests(SynchronousTestCase):
    """OP_NODE_REMOVE."""

    def test_removed(self) -> None:
        """It is told to leave and forgotten, with its certificate."""
        value = with_settings(cluster(), candidate_certs={node_id(2): "aa", node_id(3): "bb"})
        one = world(value)
        one.run(RemoveNode(node_name="node2"))
        self.assertEqual(len(one.cluster.nodes), 2)
        self.assertEqual(one.cluster.settings.candidate_certs, {node_id(3): "bb"})
        self.assertEqual(
            [called.node for called in one.nodes.calls_of(NodeLeaveCluster)], ["node2.example.com"]
        )

    def test_pool_is_filled(self) -> None:
        """Another node takes its place among the candidates."""
        one = world(cluster(nodes=4, candidate_pool_size=2))
        one.run(RemoveNode(node_name="node2"))
        self.assertEqual(sum(found.master_candidate for found in one.cluster.nodes.values()), 2)

    def test_offline(self) -> None:
        """An offline node is forgotten without being told."""
        one = world(with_node(cluster(), "node2", **OFF))
        one.run(RemoveNode(node_name="node2"))
        self.assertEqual((len(one.cluster.nodes), one.called()), (2, []))

    def test_silent(self) -> None:
        """One that does not answer is forgotten, with a warning about what stays on it."""
        one = world()
        one.nodes.unreachable.add(node_id(2))
        one.run(RemoveNode(node_name="node2"))
        self.assertEqual(len(one.cluster.nodes), 2)
        self.assertIn("credentials stay on it", one.feedback.warnings[0])

    def test_refusals(self) -> None:
        """Neither the master nor a node with instances, primary or secondary."""
        value = cluster(instances=1)
        for name, pattern in (("node1", "is the master"), ("node2", "still has instance inst1")):
            one = world(value)
            with self.assertRaisesRegex(PrereqError, pattern):
                one.run(RemoveNode(node_name=name))
            self.assertEqual(len(one.cluster.nodes), 3)

    def test_locks_go(self) -> None:
        """Its locks go with it."""
        one = world()
        one.run(RemoveNode(node_name="node2"))
        held = one.plan(SetNodeParams(node_name="node3", drained=True)).requests[LockLevel.NODE]
        self.assertEqual(held.names, {node_id(3)})
        self.assertNotIn(f"node/{node_id(2)}", [row["name"] for row in one.locks.pending()])

    def test_hooks(self) -> None:
        """Hooks run on all nodes but the removed one, also when it is named in short."""
        one = world()
        one.run(RemoveNode(node_name="node2"))
        for run in one.hooks.runs[:2]:
            self.assertEqual(run[2], ("node1.example.com", "node3.example.com"))


class MigrateTests(SynchronousTestCase):
    """OP_NODE_MIGRATE."""

    def setUp(self) -> None:
        """Instances 1 and 4 on node 1, the others elsewhere."""
        self.world = world(cluster(instances=5, template="sharedfile"))

    def refused(self, text: str, **options: Any) -> None:
        """The node is not migrated."""
        with self.assertRaisesRegex(PrereqError, text):
            self.world.run(MigrateNode(**{"node_name": "node1", **options}))
        self.assertEqual(self.world.jobs.submitted, [])

    def test_jobs(self) -> None:
        """One job for each primary instance, with the same wishes."""
        op = MigrateNode(node_name="node1", target_node="node2", mode="live", ignore_ipolicy=True)
        self.assertEqual(self.world.run(op), {"jobs": [[True, 101], [True, 102]]})
        jobs = [job for (job,) in self.world.jobs.submitted]
        wishes: dict[str, Any] = {"target_node": "node2", "mode": "live", "ignore_ipolicy": True}
        names = ["inst1.example.com", "inst4.example.com"]
        self.assertEqual(
            [msgspec.structs.replace(job, reason=()) for job in jobs],
            [MigrateInstance(instance_name=name, **wishes) for name in names],
        )

    def test_empty(self) -> None:
        """A node without primary instances needs no job."""
        self.world = world(cluster())
        self.assertEqual(self.world.run(MigrateNode(node_name="node1")), {"jobs": []})

    def test_locks(self) -> None:
        """The node only, and shared: the instances are locked by their own jobs."""
        plan = self.world.plan(MigrateNode(node_name="node1"))
        self.assertEqual(list(plan.requests), [LockLevel.NODE])
        self.assertEqual(plan.requests[LockLevel.NODE].mode, LockMode.SHARED)

    def test_refusals(self) -> None:
        """Wishes that cannot be, and a node from which nothing can be migrated."""
        self.refused("not both", target_node="node2", iallocator="builtin")
        self.refused("not both", mode="live", live=True)
        self.refused("already", target_node="node1")
        self.refused("'nosuch'", target_node="nosuch")
        self.refused("'nosuch'", node_name="nosuch")
        self.world = world(with_node(self.world.cluster, "node1", **OFF))
        self.refused("gnt-node failover")

    def test_hooks(self) -> None:
        """They run on the master and know the node."""
        operation = self.world.operation(MigrateNode(node_name="node2", allow_runtime_changes=False))
        name = "node2.example.com"
        self.assertEqual(
            operation.hook_env(self.world.cluster),
            {"OP_TARGET": name, "NODE_NAME": name, "ALLOW_RUNTIME_CHANGES": "False"},
        )
        self.assertEqual(operation.hook_nodes(self.world.cluster).pre, (node_id(1),))


class EvacuateTests(SynchronousTestCase):
    """OP_NODE_EVACUATE."""

    def setUp(self) -> None:
        """Mirrored instances: 1 on nodes 1 and 2, 2 on 2 and 3, 3 on 3 and 1."""
        self.world = world(cluster(instances=3, default_iallocator="builtin"))
        self.world.allocation.solution = Solution(
            jobs=(({"OP_ID": "OP_INSTANCE_MIGRATE", "instance_name": "inst1.example.com"},),)
        )

    def asked(self) -> tuple[str, Evacuate]:
        """Allocator and request."""
        ((name, request, _),) = self.world.allocation.requests
        assert isinstance(request, Evacuate)
        return name, request

    def refused(self, text: str, **options: Any) -> None:
        """Nothing is evacuated."""
        given = {"node_name": "node1", "mode": EvacuationMode.ALL, **options}
        with self.assertRaisesRegex((PrereqError, OperationFailed), text):
            self.world.run(EvacuateNode(**given))
        self.assertEqual(self.world.jobs.submitted, [])

    def test_modes(self) -> None:
        """The allocator is asked about the instances that the mode means."""
        for mode, numbers in (
            (EvacuationMode.PRIMARY_ONLY, (1,)),
            (EvacuationMode.SECONDARY_ONLY, (3,)),
            (EvacuationMode.ALL, (1, 3)),
        ):
            self.setUp()
            self.world.run(EvacuateNode(node_name="node1", mode=mode, ignore_soft_errors=True))
            names = tuple(f"inst{number}.example.com" for number in numbers)
            self.assertEqual(
                self.asked(), ("builtin", Evacuate(instances=names, mode=mode, ignore_soft_errors=True))
            )

    def test_jobs(self) -> None:
        """What the allocator wants done is submitted."""
        result = self.world.run(EvacuateNode(node_name="node1", mode=EvacuationMode.ALL, iallocator="hail"))
        self.assertEqual(result, {"jobs": [[True, 101]]})
        self.assertEqual(self.asked()[0], "hail")
        ((job,),) = self.world.jobs.submitted
        self.assertEqual(job.op_id(), "OP_INSTANCE_MIGRATE")

    def test_one_stays(self) -> None:
        """If one cannot leave none does, and the reason is told."""
        self.world.allocation.solution = Solution(failed=(("inst3.example.com", "no room"),))
        self.refused("inst3.example.com: no room")

    def test_nothing_there(self) -> None:
        """A node without instances is evacuated already; nobody is asked."""
        self.world = world(cluster(default_iallocator="builtin"))
        result = self.world.run(EvacuateNode(node_name="node1", mode=EvacuationMode.ALL))
        self.assertEqual((result, self.world.allocation.requests), ({"jobs": []}, []))

    def test_strange_opcodes(self) -> None:
        """An allocator that asks for something unknown is refused."""
        self.world.allocation.solution = Solution(jobs=(({"OP_ID": "OP_FORMAT_EVERYTHING"},),))
        self.refused("OP_FORMAT_EVERYTHING")

    def test_refusals(self) -> None:
        """Contradicting wishes and unknown nodes."""
        self.refused("either an allocator or a new secondary", remote_node="node2", iallocator="hail")
        self.refused("only where secondaries", remote_node="node2")
        self.refused("already", mode=EvacuationMode.SECONDARY_ONLY, remote_node="node3")
        self.refused("'nosuch'", node_name="nosuch")
        self.world = world(cluster(instances=3, default_iallocator=""))
        self.refused("either an allocator or a new secondary")

    def test_locks(self) -> None:
        """The group with its nodes, and the instances, all shared (S2.3-026)."""
        plan = self.world.plan(EvacuateNode(node_name="node1", mode=EvacuationMode.PRIMARY_ONLY))
        self.assertEqual({request.mode for request in plan.requests.values()}, {LockMode.SHARED})
        self.assertEqual(plan.requests[LockLevel.INSTANCE].names, {"inst1.example.com"})
        self.assertEqual(plan.requests[LockLevel.NODEGROUP].names, {group_id(1)})


class PowercycleTests(SynchronousTestCase):
    """OP_NODE_POWERCYCLE."""

    def test_reboots(self) -> None:
        """The node is asked, also one that is offline, and its answer is the result."""
        one = world(with_node(cluster(), "node2", **OFF))
        self.assertEqual(one.run(PowercycleNode(node_name="node2")), "node2.example.com reboots")

    def test_master(self) -> None:
        """The master only by force."""
        with self.assertRaisesRegex(PrereqError, "node1.*is the master; give --force"):
            world().run(PowercycleNode(node_name="node1"))
        self.assertEqual(
            world().run(PowercycleNode(node_name="node1", force=True)), "node1.example.com reboots"
        )

    def test_fails(self) -> None:
        """What the node says is told."""
        one = world()
        one.model.break_call(NodePowercycle, "not root")
        with self.assertRaisesRegex(OperationFailed, "could not reboot node node2.*not root"):
            one.run(PowercycleNode(node_name="node2"))

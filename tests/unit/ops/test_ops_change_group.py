"""Tests of moves between groups: to nodes that are named, with what they lack, broken off and cleaned up."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import GanetiError, OperationFailed, PrereqError
from ganeti.model.allocation import Solution
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NetworkId
from ganeti.model.instance import AdminState
from ganeti.model.network import Network
from ganeti.model.node import GroupNetwork
from ganeti.ops.group.evacuate import EvacuateGroup
from ganeti.ops.instance.change_group import ChangeInstanceGroup
from ganeti.ops.instance.replace_disks import ReplaceDisks
from ganeti.testing.clusters import cluster, group_id, node_id, with_instance, with_node, with_settings
from ganeti.testing.operations import OperationWorld

NAME = "inst1.example.com"
NETWORK = NetworkId("00000007-0000-4000-8000-000000000001")


def make(template: str = "drbd", **options: Any) -> Cluster:
    """Nodes 1, 3, 5 in `default`, 2, 4, 6 in `group2`; an instance on 1, if it is mirrored also on 3."""
    options = {"primary": "node1", "secondary": "node3", "template": template, **options}
    return with_instance(cluster(nodes=6, groups=2), "inst1", **options)


def change(*nodes: str, **more: Any) -> ChangeInstanceGroup:
    """To these nodes."""
    return ChangeInstanceGroup(instance_name="inst1", target_nodes=nodes or None, **more)


TO_GROUP2 = change("node2", "node4")
CLEAN_UP = ChangeInstanceGroup(instance_name="inst1", cleanup=True, iallocator="hail")


class MoveCase(SynchronousTestCase):
    """One instance, and jobs that are carried out one opcode at a time."""

    def make(self, value: Cluster | None = None) -> OperationWorld:
        """A world, kept as `self.world`."""
        self.world = OperationWorld(value or make())
        return self.world

    def nodes(self) -> list[str]:
        """Short names of the instance's nodes, primary first."""
        value = self.world.cluster
        return [value.nodes[node].name.partition(".")[0] for node in value.nodes_of(value.instance(NAME))]

    def assert_at(self, *nodes: str) -> None:
        """It runs there, and its mirror is in step there; nothing is left elsewhere."""
        self.assertEqual(self.nodes(), list(nodes))
        self.assertEqual(list(self.world.model.where(NAME)), [f"{nodes[0]}.example.com"])
        for disk in self.world.cluster.disks_of(self.world.cluster.instance(NAME)):
            names = {f"{node}.example.com" for node in nodes}
            self.assertEqual(self.world.model.stored(disk.uuid), names)
            self.assertEqual(self.world.model.disks.in_step(disk.uuid), names)

    def submitted(self, op: ChangeInstanceGroup) -> list[Any]:
        """Opcodes of the one job that an operation asks for."""
        self.world.jobs.submitted.clear()
        self.world.run(op)
        return [op for job in self.world.jobs.submitted for op in job]

    def refused(self, op: ChangeInstanceGroup, text: str) -> None:
        """It is refused with this text, and nothing is asked for."""
        with self.assertRaisesRegex(PrereqError, text):
            self.world.run(op)
        self.assertEqual(self.world.jobs.submitted, [])


class ByNodesTests(MoveCase):
    """Explicit nodes (S2.3-021)."""

    def test_mirrored(self) -> None:
        """New mirror, migration, new mirror; it never stops (S2.3-017)."""
        self.make()
        ops = self.submitted(TO_GROUP2)
        self.assertEqual(
            [op.op_id() for op in ops],
            ["OP_INSTANCE_REPLACE_DISKS", "OP_INSTANCE_MIGRATE", "OP_INSTANCE_REPLACE_DISKS"],
        )
        expected = (["node1", "node2"], ["node2", "node1"], ["node2", "node4"])
        for op, nodes in zip(ops, expected):
            self.world.run(op)
            self.assertEqual(self.nodes(), nodes)
            self.assertEqual(list(self.world.model.where(NAME)), [f"{nodes[0]}.example.com"])
        self.assert_at("node2", "node4")

    def test_shared_storage(self) -> None:
        """On shared storage it is one migration."""
        self.make(make("sharedfile"))
        (op,) = self.submitted(change("node2"))
        self.assertEqual((op.op_id(), op.target_node), ("OP_INSTANCE_MIGRATE", "node2.example.com"))
        self.world.run(op)
        self.assertEqual(self.nodes(), ["node2"])

    def test_from_a_dead_node(self) -> None:
        """Away from a node that is down it starts on its mirror first."""
        self.make(with_node(make(), "node1", offline=True))
        self.world.model.running.clear()
        ops = self.submitted(TO_GROUP2)
        self.assertEqual(ops[0].op_id(), "OP_INSTANCE_FAILOVER")
        for op in ops:
            self.world.run(op)
        self.assertEqual(self.nodes(), ["node2", "node4"])

    def test_plan(self) -> None:
        """A dry run gives the move with names, groups and steps."""
        self.make()
        result = self.world.run(change("node2", "node4", dry_run=True))
        self.assertEqual(
            result,
            {
                "jobs": [],
                "moves": [
                    {
                        "instance": NAME,
                        "from": ["node1.example.com", "node3.example.com"],
                        "from_group": "default",
                        "to": ["node2.example.com", "node4.example.com"],
                        "to_group": "group2",
                        "how": "replace-disks, migrate, replace-disks",
                    }
                ],
                "stuck": [],
            },
        )
        self.assertEqual(self.world.jobs.submitted, [])

    def test_refused_nodes(self) -> None:
        """Both nodes have to be in one other group, and may get instances (S2.3-016)."""
        cases: tuple[tuple[tuple[str, ...], dict[str, Any], str], ...] = (
            (("node2",), {}, "need a primary and another secondary node"),
            (("node2", "node2"), {}, "need a primary and another secondary node"),
            (("node2", "node5"), {}, "same node group: node2.* in group2, node5.* in default"),
            (("node3", "node5"), {}, "is in group default already"),
            (("node2", "node4"), {"offline": True}, "node4.*offline"),
            (("node2", "node4"), {"drained": True}, "node4.*drained"),
            (("node2", "node4"), {"vm_capable": False}, "node4.*may not host"),
        )
        for nodes, changes, text in cases:
            self.make(with_node(make(), "node4", **changes))
            self.refused(change(*nodes), text)

    def test_refused_arguments(self) -> None:
        """What contradicts itself."""
        self.make()
        self.refused(change("node2", "node4", target_groups=("group2",)), "groups .* or nodes")
        self.refused(change("node2", "node4", iallocator="hail"), "nodes .* or an allocator")
        self.refused(change("node2", "node4", cleanup=True), "name one node")
        self.refused(change(cleanup=True, target_groups=("group2",)), "in which the instance runs")

    def test_local_disks(self) -> None:
        """Disks of one node only need to be stopped and copied; that has to be asked for (S2.3-033)."""
        for template in ("plain", "file"):
            self.make(make(template))
            self.refused(
                change("node2"), f"stays: its {template} disks are on one node only.*--allow-downtime"
            )
            (op,) = self.submitted(change("node2", allow_downtime=True))
            self.assertEqual((op.op_id(), op.target_node), ("OP_INSTANCE_MOVE", "node2.example.com"))
            self.world.run(op)
            self.assertEqual(self.nodes(), ["node2"])
            self.assertEqual(list(self.world.model.where(NAME)), ["node2.example.com"])

    def test_local_disks_that_cannot_go(self) -> None:
        """From a node that is down nothing can be copied; two nodes are one too many (S2.3-033)."""
        value = with_settings(make("file"), master_node=node_id(3))
        self.make(with_node(value, "node1", offline=True, master_candidate=False))
        self.refused(change("node2", allow_downtime=True), "node1.example.com only, which is marked offline")
        self.make(make("file"))
        self.refused(change("node2", "node4", allow_downtime=True), "need one node")


class OtherAllocatorTests(MoveCase):
    """Instances with local disks where an allocator is to decide that cannot place them (S2.3-033)."""

    def make_two(self) -> None:
        """One with local disks beside a mirrored one."""
        value = with_instance(make("file"), "inst2", primary="node1", secondary="node3")
        self.make(value)

    def drain(self, **more: Any) -> EvacuateGroup:
        """Empty the group."""
        return EvacuateGroup(group_name="default", iallocator="hail", **more)

    def asked(self) -> list[tuple[str, Any]]:
        """Who was asked for which instances."""
        requests: list[tuple[str, Any, Any]] = self.world.allocation.requests
        return [(name, request.instances) for name, request, _ in requests]

    def test_allowed(self) -> None:
        """The other one is asked for those that it can place, the built-in one for the rest."""
        self.make_two()
        self.world.allocation.solution = Solution()
        self.world.run(self.drain(allow_downtime=True))
        self.assertEqual(
            self.asked(), [("hail", ("inst2.example.com",)), ("builtin", ("inst1.example.com",))]
        )

    def test_not_allowed(self) -> None:
        """Without the permission it stays, and the option is named."""
        self.make_two()
        self.world.allocation.solution = Solution()
        with self.assertRaisesRegex(OperationFailed, "inst1.example.com: its file disks .*--allow-downtime"):
            self.world.run(self.drain())
        self.assertEqual(self.asked(), [("hail", ("inst2.example.com",))])

    def test_default(self) -> None:
        """A dot stands for the default allocator; the built-in one is asked for all at once."""
        for default, times in (("builtin", 1), ("hail", 2)):
            self.make_two()
            self.use_default(default)
            self.world.allocation.solution = Solution()
            self.world.run(EvacuateGroup(group_name="default", iallocator=".", allow_downtime=True))
            self.assertEqual(len(self.asked()), times)

    def use_default(self, name: str) -> None:
        """Let the cluster have a default allocator."""
        self.make(with_settings(self.world.cluster, default_iallocator=name))

    def test_change_group(self) -> None:
        """A single instance with local disks is placed by the built-in one, and copied."""
        self.make(make("file"))
        opcode = {"OP_ID": "OP_INSTANCE_MOVE", "instance_name": NAME, "target_node": "node4.example.com"}
        self.world.allocation.solution = Solution(jobs=((opcode,),))
        (op,) = self.submitted(change(iallocator="hail", allow_downtime=True))
        self.assertEqual(self.asked(), [("builtin", (NAME,))])
        self.world.run(op)
        self.assertEqual(self.nodes(), ["node4"])


class NeedsTests(MoveCase):
    """What the new group lacks (S2.3-022)."""

    def test_bridge(self) -> None:
        """A bridge that one of the new nodes does not have."""
        self.make()
        bridge = "xen-br0"
        self.world.model.lacks["node4.example.com"] = {bridge}
        self.refused(TO_GROUP2, f"cannot change its group: node node4.* has no bridge {bridge}")
        self.world.model.lacks.clear()
        self.assertTrue(self.submitted(TO_GROUP2))

    def test_volume_group(self) -> None:
        """The volume group of its disks."""
        self.make()
        self.world.model.lacks["node2.example.com"] = {"xenvg"}
        self.refused(TO_GROUP2, "node node2.* has no volume group xenvg")

    def test_network(self) -> None:
        """A network to which the group is not connected."""
        value = make()
        instance = value.instance("inst1")
        nics = tuple(replace(nic, network=NETWORK) for nic in instance.nics)
        network = Network(uuid=NETWORK, name="lan", network="192.0.2.0/24")
        value = replace(
            value,
            networks=value.networks.with_item(NETWORK, network),
            instances=value.instances.with_item(instance.uuid, replace(instance, nics=nics)),
        )
        self.make(value)
        self.refused(TO_GROUP2, "group group2 is not connected to network lan")
        group = value.groups[group_id(2)]
        connected = replace(group, networks={NETWORK: GroupNetwork(mode="bridged", link="br0")})
        self.make(replace(value, groups=value.groups.with_item(group.uuid, connected)))
        self.assertTrue(self.submitted(TO_GROUP2))

    def test_storage_is_not_shared(self) -> None:
        """Shared storage that the other group does not reach (S2.3-012)."""
        self.make(make("sharedfile"))
        self.world.model.data["shared"].clear()
        self.refused(change("node2"), "node node2.* does not reach disk 0 .*does not share that storage")

    def test_silent_node(self) -> None:
        """A node that does not tell."""
        self.make()
        self.world.nodes.unreachable.add(node_id(2))
        self.refused(TO_GROUP2, "node node2.* does not tell what it has: .*cannot be reached")


class CleanUpTests(MoveCase):
    """A move that broke off is cleaned up (S2.3-018)."""

    def broken_off(self, after: int) -> None:
        """Let a move end after so many of its three opcodes."""
        self.make()
        for op in self.submitted(TO_GROUP2)[:after]:
            self.world.run(op)

    def clean_up(self, chosen: int) -> list[str]:
        """Clean up; the allocator chooses a node. Gives what was done."""
        ops = self.submitted(CLEAN_UP)
        self.world.allocation.nodes = (node_id(chosen),)
        for op in ops:
            self.world.run(op)
        return [op.op_id().removeprefix("OP_INSTANCE_") for op in ops]

    def test_before_the_migration(self) -> None:
        """It runs in the old group still: the mirror comes back there."""
        self.broken_off(1)
        self.assertEqual(self.nodes(), ["node1", "node2"])
        self.assertEqual(self.clean_up(5), ["ACTIVATE_DISKS", "REPLACE_DISKS"])
        self.assert_at("node1", "node5")

    def test_after_the_migration(self) -> None:
        """It runs in the new group already: the mirror follows."""
        self.broken_off(2)
        self.assertEqual(self.nodes(), ["node2", "node1"])
        self.assertEqual(self.clean_up(6), ["ACTIVATE_DISKS", "REPLACE_DISKS"])
        self.assert_at("node2", "node6")

    def test_migration_was_not_recorded(self) -> None:
        """It runs where the configuration does not say: that is mended first, and its group counts."""
        self.broken_off(1)
        self.world.model.stop("node1.example.com", NAME)
        self.world.model.run("node2.example.com", NAME)
        model = self.world.model.disks.model(self.disk())
        model.open(node_id(1), node_id(2), as_primary=False)
        model.open(node_id(2), node_id(1), as_primary=True)
        self.world.model.disks.mirrors[self.disk().uuid] = model.mirror
        self.assertEqual(self.clean_up(6), ["MIGRATE", "ACTIVATE_DISKS", "REPLACE_DISKS"])
        self.assert_at("node2", "node6")

    def disk(self) -> Any:
        """Its disk."""
        (found,) = self.world.cluster.disks_of(self.world.cluster.instance(NAME))
        return found

    def test_to_a_given_node(self) -> None:
        """The new mirror can be named; it has to be in the right group."""
        self.broken_off(2)
        self.refused_cleanup("node5", "runs in group group2; node node5.* is in default")
        (_, op) = self.submitted(change("node6", cleanup=True))
        self.assertEqual((op.remote_node, op.iallocator), ("node6.example.com", None))

    def refused_cleanup(self, node: str, text: str) -> None:
        """It is refused with this text."""
        with self.assertRaisesRegex(PrereqError, text):
            self.world.run(change(node, cleanup=True))

    def test_nothing_to_do(self) -> None:
        """In one group already there is nothing to do: never moved, or moved to the end."""
        for done in (0, 3):
            self.broken_off(done)
            self.assertEqual(self.submitted(CLEAN_UP), [])
            self.assertIn("nothing to clean up", self.world.feedback.lines[-1])

    def test_stopped(self) -> None:
        """A stopped instance counts where it would be started."""
        self.make(make(admin_state=AdminState.DOWN))
        self.world.run(self.submitted(TO_GROUP2)[0])
        self.assertEqual(self.clean_up(5), ["REPLACE_DISKS"])
        self.assertEqual(self.nodes(), ["node1", "node5"])

    def test_every_crash_of_a_move(self) -> None:
        """Wherever masterd dies in a step of the move, the clean-up brings it into one group."""
        for step in range(3):
            for calls in (2, 4, 6):
                self.broken_off(step)
                self.crash(self.submitted_again(step), after=calls)
                homes = {self.world.cluster.node(node).group for node in self.nodes()}
                if len(homes) > 1:
                    self.clean_up(5 if self.nodes()[0] == "node1" else 6)
                homes = {self.world.cluster.node(node).group for node in self.nodes()}
                self.assertEqual(len(homes), 1)
                self.assertEqual(len(self.world.model.where(NAME)), 1)

    def submitted_again(self, step: int) -> Any:
        """The opcode of a step of the move."""
        return self.world.jobs.submitted[0][step]

    def crash(self, op: Any, *, after: int) -> None:
        """Let masterd die in an operation after so many calls."""
        left = [after]
        call = self.world.nodes.call

        async def dying(*arguments: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("masterd died")
            return await call(*arguments, **more)

        self.world.nodes.call = dying  # type: ignore[method-assign]
        try:
            self.world.run(op)
        except GanetiError:
            self.flushLoggedErrors(RuntimeError)
        finally:
            self.world.nodes.call = call  # type: ignore[method-assign]

    def test_runs_twice(self) -> None:
        """Nothing is decided for an instance that runs twice, or nobody knows where."""
        self.broken_off(1)
        self.world.model.run("node2.example.com", NAME)
        with self.assertRaisesRegex(OperationFailed, "runs on several nodes"):
            self.world.run(CLEAN_UP)
        self.broken_off(1)
        self.world.nodes.unreachable.add(node_id(2))
        with self.assertRaisesRegex(OperationFailed, "node2.* does not tell whether"):
            self.world.run(CLEAN_UP)

    def test_split_does_not_move_on(self) -> None:
        """Before it is cleaned up it goes nowhere else; its mirror comes to its primary's group only."""
        self.broken_off(1)
        self.world.jobs.submitted.clear()
        self.refused(change("node4", "node6"), "--cleanup inst1")
        with self.assertRaisesRegex(PrereqError, "both have to be in one group"):
            self.world.run(
                ReplaceDisks(instance_name="inst1", mode="replace_new_secondary", remote_node="node4")
            )

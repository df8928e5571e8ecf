"""Tests of what each operation locks, against the established table (locking.md section 6)."""

from __future__ import annotations

from typing import Any

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PrereqError
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockPlan, LockRequest
from ganeti.ops.registry import load
from ganeti.testing.clusters import cluster, group_id, node_id, with_instance

REGISTRY = load()
NODE1, NODE2, NODE3 = node_id(1), node_id(2), node_id(3)
GROUP = group_id(1)
NO_LOCKS: dict[str, Any] = {}
WHOLE_CLUSTER = {"cluster": "exclusive"}


def world() -> Cluster:
    """Three nodes; `mirrored` on 1 and 2, `shared` and `local` on 1."""
    value = cluster(nodes=3)
    value = with_instance(value, "mirrored", primary="node1", secondary="node2")
    value = with_instance(value, "shared", primary="node1", template="sharedfile")
    return with_instance(value, "local", primary="node1", template="plain")


def plan(op_id: str, **parameters: Any) -> LockPlan:
    """What an opcode asks for."""
    op = REGISTRY.decode({"OP_ID": op_id, **parameters})
    return REGISTRY.operation(op).locks(world())


def shown(plan: LockPlan) -> dict[str, Any]:
    """A plan as short text: `E` exclusive, `S` shared, `o` opportunistic; names or `all`."""
    found: dict[str, Any] = {"cluster": "exclusive"} if plan.exclusive_cluster else {}
    for level, request in plan.requests.items():
        if request.names is None or request.names:
            found[level.prefix] = _shown_request(request)
    for level, names in plan.add.items():
        found[f"add {level.prefix}"] = set(names)
    return found


def _shown_request(request: LockRequest) -> tuple[str, Any]:
    letter = request.mode.name[0] + ("o" if request.opportunistic else "")
    return letter, "all" if request.names is None else set(request.names)


def instance(name: str) -> dict[str, Any]:
    """One instance exclusively."""
    return {"instance": ("E", {f"{name}.example.com"})}


def nodes(*names: str) -> dict[str, Any]:
    """Nodes and their resources exclusively."""
    return {"node": ("E", set(names)), "node-res": ("E", set(names))}


ALL_NODES = {"node": ("E", "all"), "node-res": ("E", "all")}
DISK_AND_NIC: dict[str, Any] = {"mode": "create", "disks": [{"size": 1024}], "nics": []}


class InstanceLocksTests(SynchronousTestCase):
    """Operations on instances."""

    def check(self, expected: dict[str, Any], op_id: str, **parameters: Any) -> None:
        """Compare."""
        self.assertEqual(shown(plan(op_id, **parameters)), expected)

    def test_create_on_given_nodes(self) -> None:
        """The new name is added; the nodes are held exclusively, their groups shared."""
        self.check(
            {
                "add instance": {"new.example.com"},
                "nodegroup": ("S", {GROUP}),
                **nodes(NODE1, NODE2),
            },
            "OP_INSTANCE_CREATE",
            instance_name="New.example.com",
            pnode="node1",
            snode="node2",
            **DISK_AND_NIC,
        )

    def test_create_with_allocator(self) -> None:
        """An allocator may choose any node."""
        self.check(
            {"add instance": {"new.example.com"}, "nodegroup": ("S", "all"), **ALL_NODES},
            "OP_INSTANCE_CREATE",
            instance_name="new.example.com",
            iallocator="hail",
            **DISK_AND_NIC,
        )

    def test_create_opportunistically(self) -> None:
        """Nodes that are not free at once are left out."""
        found = shown(
            plan(
                "OP_INSTANCE_CREATE",
                instance_name="new",
                iallocator="hail",
                opportunistic_locking=True,
                **DISK_AND_NIC,
            )
        )
        self.assertEqual((found["node"], found["node-res"]), (("Eo", "all"), ("Eo", "all")))

    def test_startup(self) -> None:
        """The instance and the resources of its primary node."""
        self.check(
            {**instance("mirrored"), "node-res": ("E", {NODE1})},
            "OP_INSTANCE_STARTUP",
            instance_name="mirrored",
        )

    def test_only_the_instance(self) -> None:
        """Shutdown and reboot hold the instance only."""
        for op_id, more in (("OP_INSTANCE_SHUTDOWN", {}), ("OP_INSTANCE_REBOOT", {"reboot_type": "hard"})):
            self.check(instance("shared"), op_id, instance_name="shared", **more)

    def test_console(self) -> None:
        """Shared."""
        self.check({"instance": ("S", {"shared.example.com"})}, "OP_INSTANCE_CONSOLE", instance_name="shared")

    def test_query_data(self) -> None:
        """Nothing, or given instances with all that belongs to them, or everything; shared."""
        self.check(NO_LOCKS, "OP_INSTANCE_QUERY_DATA")
        self.check(
            {
                "instance": ("S", {"mirrored.example.com"}),
                "nodegroup": ("S", {GROUP}),
                "node": ("S", {NODE1, NODE2}),
            },
            "OP_INSTANCE_QUERY_DATA",
            instances=["mirrored"],
            use_locking=True,
        )
        levels = ("instance", "nodegroup", "node", "network")
        self.check(dict.fromkeys(levels, ("S", "all")), "OP_INSTANCE_QUERY_DATA", use_locking=True)

    def test_move_of_mirrored(self) -> None:
        """Migration and failover between mirrors hold both nodes."""
        for op_id in ("OP_INSTANCE_MIGRATE", "OP_INSTANCE_FAILOVER"):
            self.check({**instance("mirrored"), **nodes(NODE1, NODE2)}, op_id, instance_name="mirrored")

    def test_move_to_a_given_node(self) -> None:
        """On shared storage: primary and target."""
        for op_id in ("OP_INSTANCE_MIGRATE", "OP_INSTANCE_FAILOVER"):
            self.check(
                {**instance("shared"), **nodes(NODE1, NODE3)},
                op_id,
                instance_name="shared",
                target_node="node3",
            )

    def test_move_by_allocator(self) -> None:
        """On shared storage an allocator may choose any node."""
        for op_id in ("OP_INSTANCE_MIGRATE", "OP_INSTANCE_FAILOVER"):
            self.check({**instance("shared"), **ALL_NODES}, op_id, instance_name="shared", iallocator="hail")

    def test_move_of_local(self) -> None:
        """What no other node can reach is refused before anything is locked."""
        for op_id in ("OP_INSTANCE_MIGRATE", "OP_INSTANCE_FAILOVER"):
            with self.assertRaisesRegex(PrereqError, "local.example.com.*plain"):
                plan(op_id, instance_name="local")

    def test_set_params(self) -> None:
        """The instance, its nodes, and their groups shared; no resources."""
        self.check(
            {**instance("mirrored"), "nodegroup": ("S", {GROUP}), "node": ("E", {NODE1, NODE2})},
            "OP_INSTANCE_SET_PARAMS",
            instance_name="mirrored",
        )

    def test_remove(self) -> None:
        """The instance and its nodes."""
        self.check(
            {**instance("mirrored"), **nodes(NODE1, NODE2)}, "OP_INSTANCE_REMOVE", instance_name="mirrored"
        )

    def test_uuid_counts(self) -> None:
        """Where name and UUID are given, the UUID counts."""
        uuid = world().instance("shared").uuid
        self.check(instance("shared"), "OP_INSTANCE_SHUTDOWN", instance_name="mirrored", instance_uuid=uuid)

    def test_disks(self) -> None:
        """The instance and its nodes."""
        expected = {**instance("mirrored"), "node": ("E", {NODE1, NODE2})}
        for op_id in ("OP_INSTANCE_ACTIVATE_DISKS", "OP_INSTANCE_DEACTIVATE_DISKS"):
            self.check(expected, op_id, instance_name="mirrored")

    def test_replace_disks(self) -> None:
        """The instance and its nodes; also a new one, or its group's nodes where an allocator chooses."""
        op_id, mirrored = "OP_INSTANCE_REPLACE_DISKS", instance("mirrored")
        more: dict[str, Any] = {"instance_name": "mirrored", "mode": "replace_on_primary"}
        self.check({**mirrored, **nodes(NODE1, NODE2)}, op_id, **more)
        more["mode"] = "replace_new_secondary"
        self.check({**mirrored, **nodes(NODE1, NODE2, NODE3)}, op_id, remote_node="node3", **more)
        self.check(
            {**mirrored, "nodegroup": ("S", {GROUP}), **nodes(NODE1, NODE2, NODE3)},
            op_id,
            iallocator="hail",
            **more,
        )

    def test_change_group(self) -> None:
        """All nodes and groups, or those that count, shared; for a clean-up its own exclusively."""
        op_id, name = "OP_INSTANCE_CHANGE_GROUP", "mirrored.example.com"
        everywhere = {"nodegroup": ("S", "all"), "node": ("S", "all")}
        self.check({"instance": ("S", {name}), **everywhere}, op_id, instance_name="mirrored")
        some = {"nodegroup": ("S", {GROUP}), "node": ("S", {NODE1, NODE2, NODE3})}
        more: dict[str, Any] = {"instance_name": "mirrored", "target_nodes": ["node3"]}
        self.check({"instance": ("S", {name}), **some}, op_id, **more)
        own = {"nodegroup": ("S", {GROUP}), "node": ("E", {NODE1, NODE2})}
        self.check({**instance("mirrored"), **own}, op_id, instance_name="mirrored", cleanup=True)

    def test_move(self) -> None:
        """The instance, its primary and the target, and their resources, exclusively (S2.3-033)."""
        nodes = {"node": ("E", {NODE1, NODE3}), "node-res": ("E", {NODE1, NODE3})}
        self.check(
            {**instance("local"), **nodes}, "OP_INSTANCE_MOVE", instance_name="local", target_node="node3"
        )

    def test_unknown(self) -> None:
        """An instance that does not exist is refused at once, by every operation on one."""
        for operation in REGISTRY:
            fields = {field.name for field in msgspec.structs.fields(operation.opcode)}
            if "instance_name" not in fields or operation.opcode.op_id() == "OP_INSTANCE_CREATE":
                continue
            more = {"reboot_type": "hard"} if "reboot_type" in fields else {}
            more |= {"mode": "replace_auto"} if "between_groups" in fields else {}
            more |= {"target_node": "node2"} if "compress" in fields else {}
            with self.assertRaisesRegex(PrereqError, "instance 'nobody' is not known"):
                plan(operation.opcode.op_id(), instance_name="nobody", **more)


class OtherLocksTests(SynchronousTestCase):
    """Operations on nodes, tags and the cluster."""

    def check(self, expected: dict[str, Any], op_id: str, **parameters: Any) -> None:
        """Compare."""
        self.assertEqual(shown(plan(op_id, **parameters)), expected)

    def test_whole_cluster(self) -> None:
        """What changes who belongs to the cluster waits for everybody."""
        for op_id in ("OP_NODE_ADD", "OP_NODE_REMOVE"):
            self.check(WHOLE_CLUSTER, op_id, node_name="node2")
        for op_id in ("OP_CLUSTER_DESTROY", "OP_CLUSTER_POST_INIT"):
            self.check(WHOLE_CLUSTER, op_id)

    def test_node_set_params(self) -> None:
        """The node with its resources (S2.3-106)."""
        for more in ({"vm_capable": False}, {"offline": True}, {"auto_promote": True, "drained": False}):
            self.check(nodes(NODE2), "OP_NODE_SET_PARAMS", node_name="node2", **more)

    def test_node_set_params_with_promotion(self) -> None:
        """Where another node may be promoted instead: all of them."""
        for demotion in (
            {"offline": True},
            {"drained": True},
            {"master_candidate": False},
            {"master_capable": False},
        ):
            self.check(ALL_NODES, "OP_NODE_SET_PARAMS", node_name="node2", auto_promote=True, **demotion)

    def test_cluster_set_params(self) -> None:
        """All objects, shared."""
        levels = ("instance", "nodegroup", "node")
        self.check(dict.fromkeys(levels, ("S", "all")), "OP_CLUSTER_SET_PARAMS")

    def test_redist_conf(self) -> None:
        """All nodes, shared."""
        self.check({"node": ("S", "all")}, "OP_CLUSTER_REDIST_CONF")

    def test_verify_config(self) -> None:
        """Every level, shared."""
        levels = ("instance", "nodegroup", "node", "node-res", "network")
        self.check(dict.fromkeys(levels, ("S", "all")), "OP_CLUSTER_VERIFY_CONFIG")

    def test_verify_group(self) -> None:
        """The group, its members and instances, and mirrors elsewhere; shared."""
        value = with_instance(cluster(nodes=4, groups=2), "a", primary="node1", secondary="node4")
        value = with_instance(value, "b", primary="node2", secondary="node4")
        op = REGISTRY.decode({"OP_ID": "OP_CLUSTER_VERIFY_GROUP", "group_name": "default"})
        self.assertEqual(
            shown(REGISTRY.operation(op).locks(value)),
            {
                "instance": ("S", {"a.example.com"}),
                "nodegroup": ("S", {GROUP}),
                "node": ("S", {NODE1, NODE3, node_id(4)}),
            },
        )

    def test_verify_disks(self) -> None:
        """The group with its instances and nodes, shared; not strictly, those that are free."""
        for letter, is_strict in (("S", True), ("So", False)):
            expected = {
                "instance": (letter, {f"{name}.example.com" for name in ("mirrored", "shared", "local")}),
                "nodegroup": ("S", {GROUP}),
                "node": (letter, {NODE1, NODE2, NODE3}),
            }
            self.check(expected, "OP_GROUP_VERIFY_DISKS", group_name="default", is_strict=is_strict)
        self.check({"nodegroup": ("S", "all")}, "OP_CLUSTER_VERIFY_DISKS")
        self.check({"nodegroup": ("S", {GROUP})}, "OP_CLUSTER_VERIFY_DISKS", group_name="default")

    def test_nothing(self) -> None:
        """Readers and generators of jobs take no locks."""
        for op_id, more in (
            ("OP_CLUSTER_VERIFY", {}),
            ("OP_CLUSTER_QUERY", {}),
            ("OP_OS_DIAGNOSE", {"output_fields": []}),
            ("OP_TAGS_SEARCH", {"pattern": "x"}),
            ("OP_TAGS_GET", {"kind": "node", "name": "node1"}),
            ("OP_TAGS_SET", {"kind": "cluster", "tags": ["x"]}),
            ("OP_QUERY", {"what": "node", "fields": []}),
            ("OP_QUERY_FIELDS", {"what": "node"}),
            ("OP_NODE_POWERCYCLE", {"node_name": "node2"}),
            ("OP_TEST_DELAY", {"duration": 1, "on_nodes": ["node1"]}),
        ):
            self.check(NO_LOCKS, op_id, **more)

    def test_tags(self) -> None:
        """The object: exclusively for changes, shared for reading."""
        for kind, name, level, member in (
            ("instance", "shared", "instance", "shared.example.com"),
            ("node", "node2", "node", NODE2),
            ("nodegroup", "default", "nodegroup", GROUP),
        ):
            for op_id in ("OP_TAGS_SET", "OP_TAGS_DEL"):
                self.check({level: ("E", {member})}, op_id, kind=kind, name=name, tags=["x"])
            self.check({level: ("S", {member})}, "OP_TAGS_GET", kind=kind, name=name, use_locking=True)

    def test_delay(self) -> None:
        """The nodes slept on, if that is wanted."""
        self.check(
            {"node": ("E", {NODE1, NODE3})},
            "OP_TEST_DELAY",
            duration=1,
            on_nodes=["node1", "node3"],
            no_locks=False,
        )

    def test_order_of_levels(self) -> None:
        """No plan asks for the lock of the cluster by its level; that is what `exclusive_cluster` is for."""
        for op_id in ("OP_NODE_ADD", "OP_CLUSTER_DESTROY"):
            more = {"node_name": "node2"} if op_id == "OP_NODE_ADD" else {}
            self.assertNotIn(LockLevel.CLUSTER, plan(op_id, **more).requests)

"""Tests of the query fields: the established names, titles and kinds, and how their values come about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.fields import group, instance, node, others
from ganeti.logic.fields.base import NO_DATA, OFFLINE, UNAVAILABLE, Absent, Table
from ganeti.logic.fields.group import GroupWorld
from ganeti.logic.fields.instance import InstanceWorld, status
from ganeti.logic.fields.node import NodeWorld
from ganeti.model.calls.disks import StorageSpace
from ganeti.model.calls.instances import RunningInstance, RunState
from ganeti.model.calls.system import NodeCapacity, NodeInfoResult
from ganeti.model.cluster import Cluster
from ganeti.model.filled import GLOBAL_HVPARAMS
from ganeti.model.ids import NodeId
from ganeti.model.instance import AdminSource, AdminState
from ganeti.model.param_tables.hv import HYPERVISORS
from ganeti.model.params import ParamType
from ganeti.testing.clusters import (
    changed_instance,
    cluster,
    group_id,
    node_id,
    with_instance,
    with_node,
    with_settings,
)
from tests.unit.logic.field_tables import ALIASES, FIELDS, HV_TITLES

TABLES: Mapping[str, Table] = {
    "cluster": others.CLUSTER_FIELDS,
    "instance": instance.FIELDS,
    "node": node.FIELDS,
    "group": group.FIELDS,
    "job": others.JOB_FIELDS,
    "lock": others.LOCK_FIELDS,
    "os": others.OS_FIELDS,
}
OUR_OWN = {
    "cluster": {"uuid"},
    "group": {"capacity_params", "custom_capacity_params"},
    "os": {"os_version"},
}
"""Fields that only we have."""
NAME = "inst1.example.com"


class EstablishedTests(SynchronousTestCase):
    """Names, titles and kinds."""

    def test_rows(self) -> None:
        """Every established field is there with its title and its kind."""
        for resource, rows in FIELDS.items():
            for name, title, kind, _ in rows:
                field = TABLES[resource].get(name)
                self.assertIsNotNone(field, f"{resource} {name}")
                assert field is not None
                self.assertEqual((field.title, field.kind.value), (title, kind), f"{resource} {name}")

    def test_nothing_else(self) -> None:
        """There are no others, but for parameters, aliases and a few of our own."""
        for resource, fields in TABLES.items():
            known = {row[0] for row in FIELDS[resource]} | OUR_OWN.get(resource, set())
            if resource == "instance":
                known |= {name for name in fields if name.startswith("hv/")} | set(ALIASES)
            self.assertEqual(set(fields) - known, set(), resource)

    def test_flags(self) -> None:
        """Host names are compared as such, pairs of times by their seconds; live fields ask nodes."""
        for resource, rows in FIELDS.items():
            for name, _, _, flags in rows:
                field = TABLES[resource][name]
                self.assertEqual(field.is_host_name, "H" in flags, f"{resource} {name}")
                self.assertEqual(field.is_stamp, "T" in flags, f"{resource} {name}")
                if resource in ("instance", "node"):
                    self.assertEqual(field.is_live, "L" in flags, f"{resource} {name}")

    def test_aliases(self) -> None:
        """Old names give the same, with the same title and kind."""
        for alias, name in ALIASES.items():
            one, other = instance.FIELDS[alias], instance.FIELDS[name]
            self.assertEqual((one.title, one.kind), (other.title, other.kind), alias)

    def test_hypervisor_parameters(self) -> None:
        """There is a field for each parameter of any hypervisor, without those of the cluster only."""
        specs = {name: spec for table in HYPERVISORS.values() for name, spec in table.rows.items()}
        self.assertEqual(
            {name for name in instance.FIELDS if name.startswith("hv/")},
            {f"hv/{name}" for name in specs if name not in GLOBAL_HVPARAMS},
        )
        kinds = {ParamType.BOOL: "bool", ParamType.INT: "number"}
        for name, spec in specs.items():
            field = instance.FIELDS.get(f"hv/{name}")
            if field is not None:
                self.assertEqual(field.title, HV_TITLES.get(f"hv/{name}", f"hv/{name}"))
                self.assertEqual(field.kind.value, kinds.get(spec.type, "other"), name)

    def test_form(self) -> None:
        """Names, titles and texts have the form that clients count on."""
        for fields in TABLES.values():
            for name, field in fields.items():
                self.assertEqual(name, field.name)
                self.assertRegex(name, r"^[a-z0-9/._]+$")
                self.assertNotRegex(field.title, r"\s")
                self.assertRegex(field.doc, r"^[A-Z].*[^.,?! ]$")
                self.assertNotIn("\n", field.doc)


def running(name: str = NAME, state: RunState = RunState.RUNNING) -> dict[str, RunningInstance]:
    """What a node says that runs one instance."""
    return {name: RunningInstance(name=name, memory=777, vcpus=3, state=state)}


def world(
    value: Cluster, found: Mapping[NodeId, Mapping[str, RunningInstance]] | None = None
) -> InstanceWorld:
    """What instance fields look at; all nodes answered, with nothing running unless said."""
    answers: dict[NodeId, Mapping[str, RunningInstance]] = {uuid: {} for uuid in value.nodes}
    return InstanceWorld.of(value, {**answers, **(found or {})}, {})


def get(name: str, value: Cluster, seen: InstanceWorld | None = None) -> Any:
    """The value of an instance field."""
    return instance.FIELDS[name].get(value.instance("inst1"), seen or world(value))


class StatusTests(SynchronousTestCase):
    """The status of instances (operations.md section 4)."""

    def check(self, expected: str, value: Cluster, seen: InstanceWorld) -> None:
        """Compare."""
        self.assertEqual(status(value.instance("inst1"), seen), expected)

    def test_matrix(self) -> None:
        """Wanted state against what the primary node says."""
        up, down, off = AdminState.UP, AdminState.DOWN, AdminState.OFFLINE
        nothing: Mapping[str, RunningInstance] = {}
        cases = (
            (up, running(), "running"),
            (up, running(state=RunState.PAUSED), "running"),
            (up, nothing, "ERROR_down"),
            (up, running(state=RunState.SHUTDOWN), "ERROR_down"),
            (down, running(), "ERROR_up"),
            (down, nothing, "ADMIN_down"),
            (down, running(state=RunState.SHUTDOWN), "ADMIN_down"),
            (off, running(), "ERROR_up"),
            (off, nothing, "ADMIN_offline"),
            (off, running(state=RunState.SHUTDOWN), "ADMIN_down"),
        )
        for admin, found, expected in cases:
            value = cluster(instances=1, admin_state=admin)
            self.check(expected, value, world(value, {node_id(1): found}))

    def test_user_shutdown(self) -> None:
        """Where guests may switch themselves off, that is no error; KVM has to allow it, too."""
        for hypervisor, allowed, expected in (
            ("fake", None, "USER_down"),
            ("kvm", True, "USER_down"),
            ("kvm", False, "ERROR_down"),
        ):
            value = with_settings(cluster(instances=1, hypervisor=hypervisor), enabled_user_shutdown=True)
            if allowed is not None:
                value = changed_instance(value, "inst1", hvparams={"user_shutdown": allowed})
            self.check(expected, value, world(value, {node_id(1): running(state=RunState.SHUTDOWN)}))

    def test_user_shutdown_recorded(self) -> None:
        """Once it is recorded, the source tells it apart."""
        stopped = cluster(instances=1, admin_state=AdminState.DOWN)
        value = changed_instance(stopped, "inst1", admin_state_source=AdminSource.USER)
        self.check("ADMIN_down", value, world(value))
        value = with_settings(value, enabled_user_shutdown=True)
        self.check("USER_down", value, world(value))

    def test_node_comes_first(self) -> None:
        """An offline or silent primary node hides everything else."""
        value = cluster(instances=1)
        seen = world(value, {node_id(2): running()})
        self.check("ERROR_wrongnode", value, seen)
        silent = InstanceWorld.of(value, {node_id(2): running()}, {})
        self.check("ERROR_nodedown", value, silent)
        value = with_node(value, "node1", offline=True, master_candidate=False)
        self.check("ERROR_nodeoffline", value, world(value, {node_id(2): running()}))

    def test_migration_under_way(self) -> None:
        """While it is being sent it runs where it was, not on the node that receives."""
        value = cluster(instances=1)
        incoming = {node_id(1): running(), node_id(2): running(state=RunState.MIGRATING_IN)}
        self.check("running", value, world(value, incoming))
        only = {node_id(2): running(state=RunState.MIGRATING_IN)}
        self.check("ERROR_down", value, world(value, only))


class InstanceFieldTests(SynchronousTestCase):
    """Values of instance fields."""

    def test_live(self) -> None:
        """Memory and processors in use; nothing where it does not run, other states where nobody knows."""
        value = cluster(instances=1)
        names = ("oper_ram", "oper_vcpus", "oper_state")
        up = world(value, {node_id(1): running()})
        self.assertEqual([get(name, value, up) for name in names], [777, 3, True])
        self.assertEqual([get(name, value) for name in names], [UNAVAILABLE, UNAVAILABLE, False])
        silent = InstanceWorld.of(value, {}, {})
        self.assertEqual([get(name, value, silent) for name in names], [NO_DATA] * 3)
        value = with_node(value, "node1", offline=True, master_candidate=False)
        self.assertEqual([get(name, value) for name in names], [OFFLINE, OFFLINE, NO_DATA])

    def test_nodes(self) -> None:
        """Primary and secondary nodes with their groups."""
        value = with_instance(cluster(nodes=2, groups=2), "inst1", primary="node1", secondary="node2")
        self.assertEqual(get("pnode", value), "node1.example.com")
        self.assertEqual(
            (get("pnode.group", value), get("pnode.group.uuid", value)), ("default", group_id(1))
        )
        self.assertEqual(get("snodes", value), ["node2.example.com"])
        self.assertEqual(
            (get("snodes.group", value), get("snodes.group.uuid", value)), (["group2"], [group_id(2)])
        )

    def test_devices(self) -> None:
        """Lists and single values; nothing where there is no such device."""
        value = cluster(instances=1, disk_sizes=(1024, 2048))
        self.assertEqual((get("disk.count", value), get("disk.sizes", value)), (2, [1024, 2048]))
        self.assertEqual((get("disk.size/1", value), get("disk.size/2", value)), (2048, UNAVAILABLE))
        self.assertEqual((get("sda_size", value), get("sdb_size", value)), (1024, 2048))
        self.assertEqual((get("nic.count", value), get("nic.macs", value)), (1, ["aa:00:00:00:00:01"]))
        self.assertEqual((get("nic.bridge/0", value), get("nic.vlan/0", value)), ("xen-br0", UNAVAILABLE))
        self.assertEqual((get("nic.ip/0", value), get("nic.mac/1", value)), (UNAVAILABLE, UNAVAILABLE))

    def test_disk_usage(self) -> None:
        """Mirrors need room for their metadata; adopted devices count nothing."""
        for template, wanted in (("drbd", 1152), ("plain", 1024), ("blockdev", 0), ("diskless", 0)):
            self.assertEqual(get("disk_usage", cluster(instances=1, template=template)), wanted, template)

    def test_parameters(self) -> None:
        """Merged and own parameters."""
        value = changed_instance(cluster(instances=1), "inst1", beparams={"maxmem": 512})
        self.assertEqual((get("be/maxmem", value), get("be/memory", value)), (512, 512))
        self.assertEqual(get("custom_beparams", value), {"maxmem": 512})
        self.assertEqual((get("vcpus", value), get("beparams", value)["vcpus"]), (1, 1))
        self.assertIs(get("hv/acpi", value), UNAVAILABLE)
        kvm = cluster(instances=1, hypervisor="kvm")
        self.assertIs(get("hv/acpi", kvm), True)
        self.assertFalse(set(get("hvparams", kvm)) & GLOBAL_HVPARAMS)

    def test_every_field_has_a_value(self) -> None:
        """No field fails, whatever instance it looks at."""
        for template in ("drbd", "plain", "diskless", "file"):
            for hypervisor in ("kvm", "fake"):
                value = cluster(instances=1, template=template, hypervisor=hypervisor)
                seen = world(value, {node_id(1): running()})
                for name in instance.FIELDS:
                    get(name, value, seen)


def facts(**storage: int) -> NodeInfoResult:
    """What a node told: free space by type."""
    capacity = NodeCapacity(memory_total=4096, memory_free=2048, memory_dom0=512, cpu_total=8)
    space = tuple(
        StorageSpace(type=kind.replace("_", "-"), name="/srv", storage_free=free, storage_size=20)
        for kind, free in storage.items()
    )
    return NodeInfoResult(boot_id="boot", storage=space, hypervisors={"fake": capacity})


class NodeFieldTests(SynchronousTestCase):
    """Values of node fields."""

    def get(self, name: str, value: Cluster, seen: Mapping[NodeId, NodeInfoResult]) -> Any:
        """A field of the second node."""
        return node.FIELDS[name].get(value.node("node2"), NodeWorld.of(value, seen))

    def test_live(self) -> None:
        """Memory, processors and space as told."""
        seen = {node_id(2): facts(file=7, lvm_vg=10)}
        names = ("mtotal", "mfree", "mnode", "ctotal", "dtotal", "dfree", "bootid")
        found = [self.get(name, cluster(), seen) for name in names]
        self.assertEqual(found, [4096, 2048, 512, 8, 20, 10, "boot"])

    def test_absent(self) -> None:
        """Offline, silent, or of no meaning there."""
        value = cluster()
        self.assertIs(self.get("mfree", value, {}), NO_DATA)
        self.assertIs(self.get("dfree", value, {node_id(2): facts()}), UNAVAILABLE)
        off = with_node(value, "node2", offline=True, master_candidate=False)
        self.assertIs(self.get("mfree", off, {}), OFFLINE)
        bare = with_node(value, "node2", vm_capable=False)
        self.assertIs(self.get("mfree", bare, {node_id(2): facts(lvm_vg=1)}), UNAVAILABLE)
        self.assertIs(self.get("powered", value, {}), UNAVAILABLE)

    def test_instances(self) -> None:
        """Primary and secondary instances."""
        value = cluster(instances=3)
        names = ("pinst_cnt", "pinst_list", "sinst_cnt", "sinst_list")
        found = [self.get(name, value, {}) for name in names]
        self.assertEqual(found, [1, ["inst2.example.com"], 1, [NAME]])

    def test_roles(self) -> None:
        """The letter of each role."""
        value = cluster()
        self.assertEqual(node.FIELDS["role"].get(value.node("node1"), NodeWorld.of(value, {})), "M")
        for flags, letter in (
            ({}, "C"),
            ({"master_candidate": False}, "R"),
            ({"master_candidate": False, "drained": True}, "D"),
            ({"master_candidate": False, "offline": True}, "O"),
        ):
            self.assertEqual(self.get("role", with_node(value, "node2", **flags), {}), letter)

    def test_every_field_has_a_value(self) -> None:
        """No field fails, with and without facts."""
        for seen in ({}, {node_id(2): facts(lvm_vg=1)}):
            for name in node.FIELDS:
                self.get(name, cluster(), seen)


class GroupFieldTests(SynchronousTestCase):
    """Values of group fields."""

    def test_values(self) -> None:
        """Members, instances, parameters."""
        value = cluster(nodes=3, instances=2, groups=2)
        seen = GroupWorld.of(value)
        first = value.groups[group_id(1)]

        def get(name: str) -> Any:
            return group.FIELDS[name].get(first, seen)

        self.assertEqual((get("node_cnt"), get("node_list")), (2, ["node1.example.com", "node3.example.com"]))
        self.assertEqual((get("pinst_cnt"), get("pinst_list")), (1, [NAME]))
        self.assertEqual((get("alloc_policy"), get("custom_ndparams")), ("preferred", {}))
        self.assertEqual(get("ndp/spindle_count"), 1)
        for name in group.FIELDS:
            self.assertNotIsInstance(get(name), Absent)

    def test_policy_is_merged(self) -> None:
        """The merged policy is complete, with the established keys."""
        value = cluster()
        found = group.FIELDS["ipolicy"].get(value.groups[group_id(1)], GroupWorld.of(value))
        self.assertEqual(set(found), {"minmax", "std", "disk-templates", "vcpu-ratio", "spindle-ratio"})
        self.assertTrue(all(re.match(r"^[a-z-]+$", key) for key in found["std"]))

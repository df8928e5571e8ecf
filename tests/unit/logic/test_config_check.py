"""Inconsistent configurations, each made by one change to a good one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.addresses import empty_pools, with_reserved
from ganeti.logic.config_check import Finding, check_config
from ganeti.model.cluster import Cluster
from ganeti.model.ids import DiskId, GroupId, InstanceId, NetworkId, NodeId
from ganeti.model.instance import Nic
from ganeti.model.network import Network
from ganeti.testing.clusters import (
    changed_instance,
    cluster,
    group_id,
    instance_id,
    node_id,
    uuid_of,
    with_instance,
    with_node,
    with_settings,
)
from ganeti.testing.strategies import clusters

NETWORK = NetworkId("00000009-0000-4000-8000-000000000001")


def good() -> Cluster:
    """A configuration without findings: two groups, DRBD and plain disks, a network."""
    value = cluster(nodes=4, instances=3, groups=2)
    value = with_instance(value, "plain", template="plain", network_port=11001)
    ours, theirs = empty_pools("192.0.2.0/28")
    network = Network(
        uuid=NETWORK, name="net", network="192.0.2.0/28", reservations=ours, ext_reservations=theirs
    )
    network = with_reserved(network, "192.0.2.5")
    value = replace(value, networks=value.networks.with_item(NETWORK, network))
    nic = Nic(uuid=uuid_of(8, 1), mac="aa:00:00:aa:aa:aa", ip="192.0.2.5", network=NETWORK)
    return changed_instance(value, "plain", nics=(nic,))


def disk_of(value: Cluster, name: str) -> DiskId:
    """UUID of the first disk of an instance."""
    return value.instance(name).disks[0]


def changed_disk(value: Cluster, uuid: DiskId, **changes: Any) -> Cluster:
    """The cluster with another state of a disk."""
    return replace(value, disks=value.disks.with_item(uuid, replace(value.disks[uuid], **changes)))


def changed_group(value: Cluster, **changes: Any) -> Cluster:
    """The cluster with another state of the first group."""
    group = value.groups[group_id(1)]
    return replace(value, groups=value.groups.with_item(group.uuid, replace(group, **changes)))


def changed_network(value: Cluster, **changes: Any) -> Cluster:
    """The cluster with another state of its network."""
    changed = replace(value.networks[NETWORK], **changes)
    return replace(value, networks=value.networks.with_item(NETWORK, changed))


def changed_nic(value: Cluster, **changes: Any) -> Cluster:
    """The cluster with another network interface of the instance `plain`."""
    return changed_instance(value, "plain", nics=(replace(value.instance("plain").nics[0], **changes),))


def logical(value: Cluster, place: int, content: object) -> Cluster:
    """The cluster with another part of the logical id of the first instance's disk."""
    uuid = disk_of(value, "inst1")
    old = value.disks[uuid].logical_id
    return changed_disk(value, uuid, logical_id=(*old[:place], content, *old[place + 1 :]))


def same_volume(value: Cluster) -> Cluster:
    """A second plain disk on the volume of the first."""
    other = with_instance(value, "other", template="plain", primary="node4", nics=0)
    first, second = disk_of(other, "plain"), disk_of(other, "other")
    return changed_disk(other, second, logical_id=other.disks[first].logical_id)


GONE = NodeId("gone")
Change = Callable[[Cluster], Cluster]

CASES: dict[str, tuple[Change, str, str]] = {
    "master is gone": (lambda c: with_settings(c, master_node=GONE), "cluster", "does not exist"),
    "no hypervisor": (lambda c: with_settings(c, enabled_hypervisors=()), "cluster", "no hypervisor"),
    "unknown hypervisor": (lambda c: with_settings(c, enabled_hypervisors=("x",)), "cluster", "plugin"),
    "unknown template": (lambda c: with_settings(c, enabled_disk_templates=("x",)), "cluster", "plugin"),
    "bad hvparam": (
        lambda c: with_settings(c, hvparams={"kvm": {"acpi": 7}}),
        "cluster",
        "hvparams of kvm: parameter acpi",
    ),
    "unknown hvparam": (lambda c: with_settings(c, hvparams={"kvm": {"apci": True}}), "cluster", "'apci'"),
    "bad os_hvp": (
        lambda c: with_settings(c, os_hvp={"deb": {"kvm": {"boot_order": "x"}}}),
        "cluster",
        "os_hvp of deb",
    ),
    "bad beparam": (
        lambda c: with_settings(c, beparams={"default": {"vcpus": 0}}),
        "cluster",
        "beparams: parameter vcpus",
    ),
    "bad nicparam": (
        lambda c: with_settings(c, nicparams={"default": {"mode": "x"}}),
        "cluster",
        "nicparams: parameter mode",
    ),
    "bad ndparam": (lambda c: with_settings(c, ndparams={"ssh_port": 0}), "cluster", "ndparams: parameter"),
    "bad diskparam": (
        lambda c: with_settings(c, diskparams={"drbd": {"protocol": "D"}}),
        "cluster",
        "diskparams of drbd",
    ),
    "bad policy": (
        lambda c: with_settings(c, ipolicy=replace(c.settings.ipolicy, vcpu_ratio=0.5)),
        "cluster",
        "vcpu-ratio",
    ),
    "pool": (lambda c: with_node(c, "node3", master_candidate=False), "cluster", "actual 3, target 4"),
    "two flags": (lambda c: with_node(c, "node3", offline=True), "node", "only one of"),
    "master flag": (
        lambda c: with_settings(with_node(c, "node1", master_candidate=False), candidate_pool_size=3),
        "node",
        "it is the master but",
    ),
    "node group": (lambda c: with_node(c, "node3", group=GroupId("x")), "node", "its group x"),
    "node name": (lambda c: with_node(c, "node3", name="node2.example.com"), "node", "same name"),
    "node address": (
        lambda c: with_node(c, "node3", primary_ip="10.1.0.3"),
        "node",
        "node node2.example.com",
    ),
    "cluster address": (lambda c: with_node(c, "node3", primary_ip="10.9.0.1"), "node", "the cluster"),
    "node exclusive storage": (
        lambda c: with_node(c, "node3", ndparams={"exclusive_storage": True}),
        "node",
        "only be set on groups",
    ),
    "group name": (lambda c: changed_group(c, name="group2"), "group", "same name"),
    "group policy": (lambda c: changed_group(c, ipolicy={"x": 1}), "group", "'x'"),
    "group policy range": (
        lambda c: changed_group(c, ipolicy={"std": {"cpu-count": 99}}),
        "group",
        "standard size",
    ),
    "group diskparam": (lambda c: changed_group(c, diskparams={"plain": {"stripes": 0}}), "group", "plain"),
    "group network": (
        lambda c: changed_group(c, networks={NetworkId("x"): None}),
        "group",
        "network x",
    ),
    "network range": (lambda c: changed_network(c, network="10.0.0.0/8"), "network", "prefix length"),
    "network pool": (lambda c: changed_network(c, ext_reservations="01"), "network", "16 characters"),
    "primary node": (
        lambda c: changed_instance(c, "plain", primary_node=GONE),
        "instance",
        "primary node gone",
    ),
    "instance name": (
        lambda c: changed_instance(c, "inst1", name="inst2.example.com"),
        "instance",
        "same name",
    ),
    "missing disk": (
        lambda c: replace(c, disks=c.disks.without(disk_of(c, "inst1"))),
        "instance",
        "disk 0 (",
    ),
    "shared disk": (
        lambda c: changed_instance(c, "inst1", disks=(disk_of(c, "inst1"), disk_of(c, "inst2"))),
        "instance",
        "belongs to instance inst1.example.com, too",
    ),
    "orphan disk": (lambda c: changed_instance(c, "inst1", disks=()), "disk", "belongs to no instance"),
    "instance hypervisor": (
        lambda c: changed_instance(c, "inst1", hypervisor="x"),
        "instance",
        "hypervisor x",
    ),
    "instance hvparam": (
        lambda c: changed_instance(c, "inst1", hypervisor="kvm", hvparams={"acpi": "x"}),
        "instance",
        "hvparams",
    ),
    "instance memory": (
        lambda c: changed_instance(c, "inst1", beparams={"minmem": 999}),
        "instance",
        "minmem (999 MiB)",
    ),
    "mac": (
        lambda c: changed_nic(c, mac=c.instance("inst1").nics[0].mac.upper()),
        "instance",
        "MAC address",
    ),
    "nic network": (lambda c: changed_nic(c, network=NetworkId("x")), "instance", "network x does not"),
    "nic params": (
        lambda c: changed_nic(c, nicparams={"vlan": "x"}),
        "instance",
        "interface 0: parameter vlan",
    ),
    "ip not reserved": (lambda c: changed_nic(c, ip="192.0.2.6"), "instance", "not reserved"),
    "ip outside": (lambda c: changed_nic(c, ip="192.0.3.6"), "instance", "does not lie in"),
    "ip twice": (
        lambda c: changed_instance(c, "inst1", nics=(replace(c.instance("plain").nics[0], mac="a"),)),
        "instance",
        "IP address 192.0.2.5 is also",
    ),
    "disk template": (
        lambda c: changed_disk(c, disk_of(c, "plain"), dev_type="x"),
        "disk",
        "template x is not known",
    ),
    "disk node": (lambda c: changed_disk(c, disk_of(c, "plain"), nodes=(GONE,)), "disk", "node gone"),
    "drbd nodes": (lambda c: logical(c, 0, node_id(4)), "disk", "not those of its logical_id"),
    "drbd shape": (
        lambda c: changed_disk(c, disk_of(c, "inst1"), logical_id=("a", "b")),
        "disk",
        "two minors",
    ),
    "drbd parts": (
        lambda c: changed_disk(c, disk_of(c, "inst1"), children=c.disks[disk_of(c, "inst1")].children[:1]),
        "disk",
        "two parts",
    ),
    "uuid twice": (
        lambda c: replace(c, disks=c.disks.with_item(DiskId("x"), replace(c.disks[disk_of(c, "plain")]))),
        "disk",
        "is also that of",
    ),
    "port in pool": (lambda c: with_settings(c, tcpudp_port_pool=(11001,)), "instance", "the pool of free"),
    "port twice": (lambda c: changed_instance(c, "plain", network_port=11016), "disk", "port 11016"),
    "port too high": (lambda c: logical(c, 2, 14000), "disk", "highest one handed out"),
    "minor twice": (lambda c: logical(c, 3, 1), "disk", "DRBD minor 1 on node node1"),
    "volume twice": (same_volume, "disk", "logical volume xenvg/"),
}


class CheckTests(SynchronousTestCase):
    """One finding for each thing that is wrong."""

    def test_good(self) -> None:
        """A configuration in order has no findings."""
        self.assertEqual([str(finding) for finding in check_config(good())], [])

    def test_cases(self) -> None:
        """Each spoilt configuration has a finding about the right object with the right text."""
        for what, (change, kind, text) in CASES.items():
            found = check_config(change(good()))
            told = [str(finding) for finding in found]
            fitting = [one for one in found if one.kind == kind and text in one.text]
            self.assertTrue(fitting, f"{what}: {told}")
            self.assertLessEqual(len(found), 6, f"{what}: {told}")

    def test_text(self) -> None:
        """A finding names its object."""
        (found,) = check_config(with_node(good(), "node3", group=GroupId("x")))
        self.assertEqual(found, Finding(kind="node", name="node3.example.com", text=found.text))
        self.assertEqual(str(found), "node node3.example.com: its group x does not exist")

    def test_forthcoming(self) -> None:
        """A reserved instance may lack node and hypervisor."""
        reserved = changed_instance(
            cluster(instances=1, template="diskless"),
            "inst1",
            forthcoming=True,
            primary_node=NodeId(""),
            hypervisor="",
        )
        self.assertEqual(check_config(reserved), ())

    def test_unknown_plugin_values(self) -> None:
        """Parameters of a plugin that is missing for now, but not enabled, are no finding."""
        value = good()
        hvparams = {**value.settings.hvparams, "bhyve": {"x": 1}}
        self.assertEqual(check_config(with_settings(value, hvparams=hvparams)), ())

    @given(clusters())
    @settings(max_examples=25, deadline=None)
    def test_never_fails(self, value: Cluster) -> None:
        """Whatever the configuration looks like, it is told and not stumbled over."""
        for finding in check_config(value):
            self.assertTrue(finding.text)

    def test_instance_id_is_stable(self) -> None:
        """The example has the instances that the cases speak of."""
        self.assertIn(InstanceId(instance_id(4)), good().instances)

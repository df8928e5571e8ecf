"""The cluster value: finding objects, following references, filling parameters."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.filled import fill_instance, hvparams_of, ndparams_of, osparams_of
from ganeti.model.names import nice_key
from ganeti.model.node import NodeRole
from ganeti.model.units import format_size, parse_duration_s, parse_size_mib
from ganeti.testing.clusters import (
    changed_instance,
    cluster,
    group_id,
    node_id,
    with_instance,
    with_node,
    with_settings,
)


class FindTests(SynchronousTestCase):
    """Names, short names and UUIDs."""

    def test_found(self) -> None:
        """An object is found by its name, its UUID, and nodes and instances by a short name."""
        value = cluster(nodes=2, instances=("web.a.example.com",))
        for wanted in ("node2.example.com", "NODE2.example.com", node_id(2), "node2"):
            self.assertEqual(value.node(wanted).uuid, node_id(2))
        for wanted in ("web", "web.a"):
            self.assertEqual(value.instance(wanted).name, "web.a.example.com")
        self.assertEqual(value.group("default").uuid, group_id(1))

    def test_not_found(self) -> None:
        """Unknown and ambiguous names are refused, with what to do."""
        value = cluster(instances=("web.a", "web.b"))
        self.assertEqual(self.assertRaises(PrereqError, value.node, "node9").code, ErrorCode.UNKNOWN)
        self.assertIn("web.a, web.b", str(self.assertRaises(PrereqError, value.instance, "web")))
        self.assertRaises(PrereqError, value.group, "def")
        self.assertRaises(PrereqError, value.node, "")


class ReferenceTests(SynchronousTestCase):
    """Nodes and instances of each other."""

    def test_nodes_of_instances(self) -> None:
        """Primary first; secondaries follow from the disks."""
        value = with_instance(cluster(), "web", primary="node2", secondary="node3")
        web = value.instance("web")
        self.assertEqual(value.nodes_of(web), (node_id(2), node_id(3)))
        self.assertEqual(value.disk_template(web), "drbd")
        self.assertEqual([one.name for one in value.instances_on(node_id(3))], ["web.example.com"])
        self.assertEqual(list(value.primary_instances(node_id(3))), [])

    def test_instances_of_nodes(self) -> None:
        """Found by index as by looking at every instance, also after changes (each instance once)."""
        value = cluster(nodes=4, instances=9)
        value = with_instance(value, "shared", primary="node1", template="sharedfile")
        changed = changed_instance(value, "inst1", primary_node=node_id(4))
        removed = msgspec.structs.replace(
            changed, instances=changed.instances.without(changed.instance("inst3").uuid)
        )
        for one in (value, changed, removed):
            for node in one.nodes:
                looked = [each.name for each in one.instances.values() if node in one.nodes_of(each)]
                self.assertEqual(sorted(each.name for each in one.instances_on(node)), sorted(looked))
                mine = [each.name for each in one.instances.values() if each.primary_node == node]
                self.assertEqual(sorted(each.name for each in one.primary_instances(node)), sorted(mine))

    def test_templates(self) -> None:
        """Instances may be diskless, or have disks of several templates."""
        value = cluster(instances=("a", "b"), template="plain")
        mixed = replace(value.disks[value.instance("a").disks[0]], dev_type="file")
        value = replace(value, disks=value.disks.with_item(mixed.uuid, mixed))
        value = changed_instance(value, "b", disks=(mixed.uuid, *value.instance("b").disks))
        self.assertEqual(value.disk_template(value.instance("b")), "mixed")
        self.assertEqual(
            value.disk_template(changed_instance(value, "a", disks=()).instance("a")), "diskless"
        )

    def test_roles(self) -> None:
        """The role follows from the flags, and being the master comes first."""
        value = with_node(cluster(nodes=5), "node2", offline=True)
        value = with_node(with_node(value, "node3", drained=True), "node4", master_candidate=False)
        letters = "".join(value.role(node).value for node in value.nodes.values())
        self.assertEqual(letters, "MODRC")
        self.assertEqual(value.role(value.master), NodeRole.MASTER)


class FillTests(SynchronousTestCase):
    """Inheritance of parameters (objects.md section 10)."""

    def test_hypervisor_parameters(self) -> None:
        """Cluster, OS, OS with variant, instance; the global ones are left out."""
        value = with_settings(
            cluster(),
            os_hvp={"deb": {"kvm": {"acpi": False, "vga": "os"}}, "deb+min": {"kvm": {"vga": "variant"}}},
        )
        filled = hvparams_of(value.settings, "kvm", "deb+min", {"keymap": "de"})
        self.assertEqual((filled["acpi"], filled["vga"], filled["keymap"]), (False, "variant", "de"))
        self.assertEqual((filled["disk_type"], "migration_port" in filled), ("paravirtual", False))

    def test_os_parameters(self) -> None:
        """OS, OS with variant, instance (S2.2-103, S2.2-104)."""
        value = with_settings(cluster(), osparams={"deb": {"a": "1", "b": "1"}, "deb+min": {"b": "2"}})
        self.assertEqual(osparams_of(value.settings, "deb+min", {"c": "3"}), {"a": "1", "b": "2", "c": "3"})

    def test_node_parameters(self) -> None:
        """Cluster, group, node."""
        value = cluster()
        group = replace(value.groups[group_id(1)], ndparams={"ssh_port": 222, "spindle_count": 3})
        value = replace(value, groups=value.groups.with_item(group.uuid, group))
        value = with_node(value, "node2", ndparams={"ssh_port": 2222})
        filled = ndparams_of(value, value.node("node2"))
        self.assertEqual((filled["ssh_port"], filled["spindle_count"], filled["ovs"]), (2222, 3, False))

    def test_instance(self) -> None:
        """A filled instance has everything, names instead of UUIDs, and overrides for once."""
        value = with_instance(cluster(), "web", primary="node2", secondary="node3", memory=512)
        filled = fill_instance(value, value.instance("web"), beparams={"vcpus": 4})
        self.assertEqual(
            (filled.primary_node, filled.secondary_nodes), ("node2.example.com", ("node3.example.com",))
        )
        self.assertEqual((filled.beparams.maxmem, filled.beparams.vcpus), (512, 4))
        self.assertEqual((filled.nics[0].mode, filled.nics[0].link), ("bridged", "xen-br0"))
        params = filled.disks[0].params
        assert params is not None
        self.assertEqual(params["protocol"], "C")
        self.assertEqual(filled.disks[0].children[0].params, {"stripes": 1})


class UnitTests(SynchronousTestCase):
    """Sizes, times and the order of names."""

    def test_sizes(self) -> None:
        """Sizes are read with units, rounded up to 4 MiB."""
        for text, size in (
            ("512", 512),
            ("1g", 1024),
            ("1.5G", 1536),
            ("2 TiB", 2097152),
            ("5m", 8),
            ("0.3", 4),
        ):
            self.assertEqual(parse_size_mib(text), size)
        for text in ("", "g", "1x", "1.2.3", "-1"):
            self.assertRaises(ValueError, parse_size_mib, text)
        self.assertEqual([format_size(size) for size in (100, 1536, 2097152)], ["100M", "1.5G", "2.0T"])

    def test_durations(self) -> None:
        """Durations are read with units."""
        for text, seconds in (("90", 90), ("5m", 300), ("2h", 7200), ("1w", 604800)):
            self.assertEqual(parse_duration_s(text), seconds)
        for text in ("", "m", "1y", "-1", "1.5h"):
            self.assertRaises(ValueError, parse_duration_s, text)

    def test_nice_order(self) -> None:
        """Numbers inside names count as numbers."""
        names = ["node10", "node2", "a", "node2a", "node", "10", "9"]
        self.assertEqual(sorted(names, key=nice_key), ["9", "10", "a", "node", "node2", "node2a", "node10"])

    @given(st.lists(st.text(max_size=8), max_size=6))
    def test_any_names(self, names: list[str]) -> None:
        """Any texts can be sorted."""
        self.assertEqual(len(sorted(names, key=nice_key)), len(names))

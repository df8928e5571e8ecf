"""Tests of what hook scripts are told about an instance (plugins.md section 3.2)."""

from __future__ import annotations

from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.hooks_env import instance_env, text
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NetworkId
from ganeti.model.network import Network
from ganeti.testing.clusters import changed_instance, cluster

NAME = "inst1.example.com"


def env(value: Cluster) -> dict[str, str]:
    """What is told about the first instance."""
    return instance_env(value, value.instance("inst1"))


class InstanceEnvTests(SynchronousTestCase):
    """Variables of an instance."""

    def test_instance(self) -> None:
        """Names, places, sizes."""
        found = env(changed_instance(cluster(instances=1), "inst1", tags=("a", "b")))
        wanted = {
            "OP_TARGET": NAME,
            "INSTANCE_NAME": NAME,
            "INSTANCE_PRIMARY": "node1.example.com",
            "INSTANCE_SECONDARIES": "node2.example.com",
            "INSTANCE_OS_TYPE": "noop",
            "INSTANCE_STATUS": "up",
            "INSTANCE_MINMEM": "128",
            "INSTANCE_MAXMEM": "128",
            "INSTANCE_MEMORY": "128",
            "INSTANCE_VCPUS": "1",
            "INSTANCE_DISK_TEMPLATE": "drbd",
            "INSTANCE_HYPERVISOR": "fake",
            "INSTANCE_TAGS": "a b",
            "INSTANCE_NIC_COUNT": "1",
            "INSTANCE_DISK_COUNT": "1",
            "INSTANCE_BE_auto_balance": "True",
        }
        self.assertEqual({name: found.get(name) for name in wanted}, wanted)

    def test_interfaces(self) -> None:
        """A bridge only where there is one; a name only if it has one."""
        found = env(cluster(instances=1))
        self.assertEqual(found["INSTANCE_NIC0_MAC"], "aa:00:00:00:00:01")
        self.assertEqual((found["INSTANCE_NIC0_IP"], found["INSTANCE_NIC0_MODE"]), ("", "bridged"))
        self.assertEqual(found["INSTANCE_NIC0_BRIDGE"], found["INSTANCE_NIC0_LINK"])
        self.assertNotIn("INSTANCE_NIC0_NAME", found)
        value = cluster(instances=1)
        nic = replace(
            value.instance("inst1").nics[0], name="lan", nicparams={"mode": "routed", "link": "main"}
        )
        found = env(changed_instance(value, "inst1", nics=(nic,)))
        self.assertEqual((found["INSTANCE_NIC0_NAME"], found["INSTANCE_NIC0_LINK"]), ("lan", "main"))
        self.assertNotIn("INSTANCE_NIC0_BRIDGE", found)

    def test_network(self) -> None:
        """What is known of the network of an interface."""
        value = cluster(instances=1)
        network = Network(
            uuid=NetworkId("net"), name="lan", network="10.2.0.0/24", gateway="10.2.0.1", tags=("t",)
        )
        value = replace(value, networks=value.networks.with_item(network.uuid, network))
        nic = replace(value.instance("inst1").nics[0], network=network.uuid)
        found = env(changed_instance(value, "inst1", nics=(nic,)))
        self.assertEqual(
            {name: text for name, text in found.items() if "_NETWORK_" in name},
            {
                "INSTANCE_NIC0_NETWORK_NAME": "lan",
                "INSTANCE_NIC0_NETWORK_UUID": "net",
                "INSTANCE_NIC0_NETWORK_TAGS": "t",
                "INSTANCE_NIC0_NETWORK_SUBNET": "10.2.0.0/24",
                "INSTANCE_NIC0_NETWORK_GATEWAY": "10.2.0.1",
            },
        )

    def test_disks(self) -> None:
        """The identity of a disk, in the words of its template."""
        for template, names in (
            ("plain", {"VG", "ID"}),
            ("file", {"DRIVER", "ID"}),
            ("sharedfile", {"DRIVER", "ID"}),
            ("blockdev", {"DRIVER", "ID"}),
            ("rbd", {"DRIVER", "ID"}),
            ("gluster", {"DRIVER", "ID"}),
            ("ext", {"PROVIDER", "ID"}),
            (
                "drbd",
                {"PNODE", "SNODE", "PORT", "PMINOR", "SMINOR", "DATA_VG", "DATA_ID", "META_VG", "META_ID"},
            ),
        ):
            prefix = "INSTANCE_DISK0_"
            found = env(cluster(instances=1, template=template))
            told = {name.removeprefix(prefix) for name in found if name.startswith(prefix)}
            self.assertEqual(told, {"UUID", "SIZE", "MODE", "DEV_TYPE"} | names, template)

    def test_mirror(self) -> None:
        """Nodes of a mirror are told by name; its secret is not told."""
        found = env(cluster(instances=1))
        self.assertEqual(
            (found["INSTANCE_DISK0_PNODE"], found["INSTANCE_DISK0_SNODE"]),
            ("node1.example.com", "node2.example.com"),
        )
        self.assertNotIn("0" * 39 + "1", found.values())

    def test_pretended_mirror(self) -> None:
        """A simulated mirror, which has no ports and minors, is told as far as it goes."""
        value = cluster(instances=1)
        (disk,) = value.disks_of(value.instance("inst1"))
        value = replace(
            value, disks=value.disks.with_item(disk.uuid, replace(disk, logical_id=("fake", "x")))
        )
        self.assertEqual(env(value)["INSTANCE_DISK0_DEV_TYPE"], "drbd")

    def test_parameters(self) -> None:
        """Hypervisor parameters that count, without those of the cluster only."""
        found = env(cluster(instances=1, hypervisor="kvm"))
        self.assertEqual(found["INSTANCE_HV_acpi"], "True")
        self.assertNotIn("INSTANCE_HV_migration_port", found)

    def test_all_are_texts(self) -> None:
        """Everything is a text, as an environment needs it."""
        for template in ("drbd", "diskless", "ext"):
            for value in env(cluster(instances=1, template=template)).values():
                self.assertIsInstance(value, str)

    def test_words(self) -> None:
        """How values are written."""
        for value, word in ((True, "True"), (None, "None"), ((), ""), (["a", 1], "a 1"), (1.5, "1.5")):
            self.assertEqual(text(value), word)

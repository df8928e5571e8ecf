"""Tests of the environment in which OS scripts run."""

from __future__ import annotations

from typing import Any

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import InvalidOperatingSystem
from ganeti.logic.os_definition import OsDefinition, OsScript
from ganeti.logic.os_env import core_env, instance_env, transfer_env
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.disk import Disk
from ganeti.model.filled import FilledInstance, FilledNic
from ganeti.model.ids import DiskId
from ganeti.model.params import ParamValues
from ganeti.testing.hypervisor_behaviours import filled_instance

HVPARAMS: ParamValues = {"disk_type": "paravirtual", "nic_type": "virtio", "acpi": True, "boot_order": None}


def definition(*versions: int, variants: tuple[str, ...] = ()) -> OsDefinition:
    """A definition of these versions."""
    return OsDefinition(
        name="debian",
        path="/srv/os/debian",
        api_versions=versions or (20,),
        scripts=tuple(OsScript),
        variants=variants,
    )


def instance(**changes: Any) -> FilledInstance:
    """An instance without devices, changed."""
    base = filled_instance("inst1.example.com", "kvm", HVPARAMS)
    return msgspec.structs.replace(base, **changes)


class CoreEnvTests(SynchronousTestCase):
    """What every script gets."""

    def test_exactly(self) -> None:
        """There is nothing but the established variables."""
        env = core_env(definition(10, 15, 20, variants=("a", "b")), "debian+b", {"dns-server": "192.0.2.1"})
        self.assertEqual(
            env,
            {
                "OS_API_VERSION": "20",
                "OS_NAME": "debian",
                "OS_VARIANT": "b",
                "DEBUG_LEVEL": "0",
                "PATH": "/sbin:/bin:/usr/sbin:/usr/bin",
                "OSP_DNS_SERVER": "192.0.2.1",
            },
        )

    def test_variants(self) -> None:
        """The first variant stands for none; before version 15 there are none."""
        table = (
            (definition(15, variants=("a", "b")), "debian", "a"),
            (definition(20), "debian+b", ""),
            (definition(10, variants=("a",)), "debian+a", ""),
        )
        for found, name, expected in table:
            self.assertEqual(core_env(found, name, {})["OS_VARIANT"], expected)

    def test_no_instance(self) -> None:
        """Nothing of an instance is in it, as verify must not depend on one (S2.2-097)."""
        env = core_env(definition(), "debian", {"a": "1"})
        self.assertFalse([name for name in env if name.startswith(("INSTANCE", "DISK", "NIC", "HYPERVISOR"))])

    def test_values(self) -> None:
        """Values are free text; a missing one is like an empty one (S2.2-091, S2.2-092)."""
        env = core_env(definition(), "debian", {"a": "x, y = z", "b": None, "c": 3, "D": True})
        self.assertEqual(
            (env["OSP_A"], env["OSP_B"], env["OSP_C"], env["OSP_D"]), ("x, y = z", "", "3", "True")
        )

    def test_unfit(self) -> None:
        """Names and values that no environment can carry are refused (S2.2-105)."""
        for params in ({"a.b": "x"}, {"1a": "x"}, {"a": "x\0y"}):
            self.assertRaises(InvalidOperatingSystem, core_env, definition(), "debian", params)

    def test_secret_value(self) -> None:
        """The refusal of a value does not show it."""
        error = self.assertRaises(InvalidOperatingSystem, core_env, definition(), "x", {"a": "secret\0"})
        self.assertNotIn("secret", str(error))


class InstanceEnvTests(SynchronousTestCase):
    """What scripts that work on an instance get in addition."""

    def test_instance(self) -> None:
        """Name, identity, nodes, hypervisor and all parameters."""
        env = instance_env(
            instance(secondary_nodes=("node2.example.com", "node3.example.com"), ctime=1.5, mtime=2.25), []
        )
        expected = {
            "INSTANCE_NAME": "inst1.example.com",
            "INSTANCE_OS": "noop",
            "INSTANCE_UUID": "00000000-0000-4000-8000-000000000001",
            "INSTANCE_CTIME": "1.5",
            "INSTANCE_MTIME": "2.25",
            "INSTANCE_PRIMARY_NODE": "node1.example.com",
            "INSTANCE_SECONDARY_NODES": "node2.example.com node3.example.com",
            "HYPERVISOR": "kvm",
            "DISK_COUNT": "0",
            "NIC_COUNT": "0",
            "INSTANCE_BE_maxmem": "128",
            "INSTANCE_BE_minmem": "128",
            "INSTANCE_BE_vcpus": "1",
            "INSTANCE_BE_auto_balance": "True",
            "INSTANCE_BE_always_failover": "False",
            "INSTANCE_BE_spindle_use": "1",
            "INSTANCE_HV_disk_type": "paravirtual",
            "INSTANCE_HV_nic_type": "virtio",
            "INSTANCE_HV_acpi": "True",
            "INSTANCE_HV_boot_order": "None",
        }
        self.assertEqual(env, expected)

    def disk_env(self, opened: OpenDisk, **changes: Any) -> dict[str, str]:
        """Variables of a single disk, without their prefix."""
        disk = Disk(uuid=DiskId("d-uuid"), dev_type="file", logical_id=("loop", "/i"), size=64)
        disk = msgspec.structs.replace(disk, **changes)
        env = instance_env(instance(disks=(disk,)), [opened])
        self.assertEqual(env["DISK_COUNT"], "1")
        return {name[7:]: value for name, value in env.items() if name.startswith("DISK_0_")}

    def test_file_disk(self) -> None:
        """A disk in a file has its driver in the kind of its backend."""
        self.assertEqual(
            self.disk_env(OpenDisk(path="/i"), name="root"),
            {
                "ACCESS": "rw",
                "UUID": "d-uuid",
                "SIZE": "64",
                "PATH": "/i",
                "NAME": "root",
                "FRONTEND_TYPE": "paravirtual",
                "BACKEND_TYPE": "file:loop",
            },
        )

    def test_block_disk(self) -> None:
        """Others are block devices; without a path there is a URI only."""
        opened = OpenDisk(path=None, uri="rbd:rbd/x")
        env = self.disk_env(opened, dev_type="rbd", logical_id=("rbd", "x"), mode="ro")
        self.assertEqual((env["BACKEND_TYPE"], env["URI"], env["ACCESS"]), ("block", "rbd:rbd/x", "ro"))
        self.assertNotIn("PATH", env)

    def nic_env(self, **values: Any) -> dict[str, str]:
        """Variables of a single interface, without their prefix."""
        nic = FilledNic(uuid="n-uuid", mac="aa:00:00:00:00:01", **values)
        env = instance_env(instance(nics=(nic,)), [])
        return {name[6:]: value for name, value in env.items() if name.startswith("NIC_0_")}

    def test_bridged_nic(self) -> None:
        """A bridged interface names its bridge."""
        self.assertEqual(
            self.nic_env(mode="bridged", link="br0", ip="192.0.2.9", name="front"),
            {
                "MAC": "aa:00:00:00:00:01",
                "UUID": "n-uuid",
                "MODE": "bridged",
                "NAME": "front",
                "IP": "192.0.2.9",
                "BRIDGE": "br0",
                "LINK": "br0",
                "FRONTEND_TYPE": "virtio",
            },
        )

    def test_other_modes(self) -> None:
        """Only bridged interfaces have a bridge, and an empty link is none."""
        self.assertNotIn("BRIDGE", self.nic_env(mode="openvswitch", link="switch1"))
        self.assertNotIn("LINK", self.nic_env(mode="routed", link=""))

    def test_network(self) -> None:
        """Of a network name, UUID and tags are always there, the rest where it is set."""
        facts = {
            "name": "lan",
            "uuid": "net-uuid",
            "tags": ["a", "b"],
            "subnet": "192.0.2.0/24",
            "gateway": None,
        }
        env = self.nic_env(mode="bridged", link="br0", network="net-uuid", network_facts=facts)
        found = {name: value for name, value in env.items() if name.startswith("NETWORK")}
        self.assertEqual(
            found,
            {
                "NETWORK_NAME": "lan",
                "NETWORK_UUID": "net-uuid",
                "NETWORK_TAGS": "a b",
                "NETWORK_SUBNET": "192.0.2.0/24",
            },
        )

    def test_transfer(self) -> None:
        """Import and export are told the disk under both names of old."""
        self.assertEqual(
            transfer_env("IMPORT", 1, OpenDisk(path="/i")),
            {"IMPORT_INDEX": "1", "IMPORT_DISK_PATH": "/i", "IMPORT_DEVICE": "/i"},
        )
        self.assertEqual(
            transfer_env("EXPORT", 0, OpenDisk(path=None, uri="u")),
            {"EXPORT_INDEX": "0", "EXPORT_DISK_URI": "u"},
        )

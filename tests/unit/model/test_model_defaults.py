"""Settings of a new cluster."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ParameterError, PrereqError, TypeEnforcementError
from ganeti.logic.config_check import check_config
from ganeti.model.cluster import ClusterSettings
from ganeti.model.defaults import new_cluster_settings
from ganeti.model.ids import NodeId
from ganeti.model.param_tables.be import BACKEND
from ganeti.model.param_tables.disk import DISK
from ganeti.model.param_tables.hv import HYPERVISORS
from ganeti.model.param_tables.rows import number
from ganeti.model.params import ParamTable
from ganeti.testing.clusters import cluster, with_settings


def new(**options: Any) -> ClusterSettings:
    """Settings of a new cluster with these options."""
    values: dict[str, Any] = {
        "uuid": "u",
        "cluster_name": "c.example.com",
        "master_node": NodeId("n"),
        "master_ip": "192.0.2.1",
        "now": 5.0,
    }
    return new_cluster_settings(**{**values, **options})


class NewClusterTests(SynchronousTestCase):
    """objects.md section 2, column default at init."""

    def test_complete(self) -> None:
        """Every parameter of every known hypervisor and template has a value."""
        made = new()
        self.assertEqual(made.hvparams, {name: table.defaults for name, table in HYPERVISORS.items()})
        expected = {name: table.defaults for name, table in DISK.items()}
        self.assertEqual(made.diskparams, expected)
        self.assertEqual(made.beparams, {"default": BACKEND.defaults})
        self.assertEqual(made.nicparams["default"]["mode"], "bridged")
        self.assertEqual(made.ndparams["ssh_port"], 22)
        self.assertEqual(
            (made.enabled_hypervisors, made.enabled_disk_templates), (("xen-pvm",), ("drbd", "plain"))
        )
        self.assertEqual((made.ctime, made.mtime, made.serial_no), (5.0, 5.0, 1))

    def test_in_order(self) -> None:
        """A cluster with these settings has no findings."""
        made = new(master_node=cluster().settings.master_node)
        fields = {name: getattr(made, name) for name in ("hvparams", "diskparams", "beparams", "ipolicy")}
        self.assertEqual(check_config(with_settings(cluster(), **fields)), ())

    def test_lvm(self) -> None:
        """Only with an LVM template there is a volume group; DRBD's metadata goes there, too."""
        self.assertEqual(new().volume_group_name, "xenvg")
        self.assertEqual(new(volume_group_name="vg0").diskparams["drbd"]["metavg"], "vg0")
        self.assertEqual(
            new(volume_group_name="a", diskparams={"drbd": {"metavg": "b"}}).diskparams["drbd"]["metavg"], "b"
        )
        filed = new(enabled_disk_templates=["file"])
        self.assertEqual((filed.volume_group_name, filed.drbd_usermode_helper), (None, None))

    def test_policy(self) -> None:
        """The policy allows just the enabled templates, and takes what is given."""
        made = new(enabled_disk_templates=["plain", "file"], ipolicy={"vcpu-ratio": 2.0})
        self.assertEqual((made.ipolicy.disk_templates, made.ipolicy.vcpu_ratio), (("file", "plain"), 2.0))
        self.assertRaises(PrereqError, new, ipolicy={"disk-templates": ["rbd"]})
        self.assertRaises(PrereqError, new, ipolicy={"std": {"memory-size": 1}})

    def test_netmask(self) -> None:
        """The netmask fits the IP version."""
        self.assertEqual((new().master_netmask, new(primary_ip_family=10).master_netmask), (32, 128))
        self.assertEqual(new(master_netmask=24).master_netmask, 24)

    def test_given(self) -> None:
        """Given parameters are checked and lie over the defaults; `memory` is understood."""
        made = new(hvparams={"kvm": {"acpi": "no"}}, beparams={"memory": "1g"}, nicparams={"link": "br0"})
        self.assertEqual(made.hvparams["kvm"]["acpi"], False)
        self.assertEqual(made.beparams["default"]["minmem"], 1024)
        self.assertEqual(made.nicparams["default"]["link"], "br0")

    def test_refused(self) -> None:
        """What is unknown or not allowed is refused."""
        cases: tuple[tuple[type[Exception], dict[str, Any]], ...] = (
            (PrereqError, {"enabled_hypervisors": []}),
            (PrereqError, {"enabled_hypervisors": ["vmware"]}),
            (PrereqError, {"enabled_hypervisors": ["kvm", "kvm"]}),
            (PrereqError, {"enabled_disk_templates": []}),
            (PrereqError, {"enabled_disk_templates": ["tape"]}),
            (PrereqError, {"hvparams": {"vmware": {}}}),
            (PrereqError, {"beparams": {"minmem": 4096}}),
            (ParameterError, {"ndparams": {"colour": 1}}),
            (TypeEnforcementError, {"diskparams": {"plain": {"stripes": 0}}}),
        )
        for error, options in cases:
            self.assertRaises(error, new, **options)

    def test_plugin(self) -> None:
        """A hypervisor that a plugin brought is like any other."""
        table = ParamTable("hypervisor bhyve", (number("slots", 4, "slots"),))
        made = new(
            hypervisors={**HYPERVISORS, "bhyve": table},
            enabled_hypervisors=["bhyve"],
            hvparams={"bhyve": {"slots": "8"}},
        )
        self.assertEqual(made.hvparams["bhyve"], {"slots": 8})

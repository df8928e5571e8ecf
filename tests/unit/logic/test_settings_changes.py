"""Tests of changed cluster settings: merged, checked, and what they break."""

from __future__ import annotations

from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import GanetiError, PrereqError
from ganeti.logic.settings_changes import (
    checked_mac_prefix,
    edited_list,
    merged_by_name,
    merged_os_hvp,
    merged_osparams,
    plain_changes,
    with_enabled_hypervisors,
    with_enabled_templates,
)
from ganeti.model.param_tables.disk import DISK
from ganeti.model.param_tables.hv import HYPERVISORS
from ganeti.model.params import ParamValues
from ganeti.testing.clusters import ALL_TEMPLATES, cluster


class EnabledTests(SynchronousTestCase):
    """Which hypervisors and templates are in use."""

    def test_hypervisors(self) -> None:
        """A new one gets all its parameters, those of the others stay."""
        value = cluster(enabled_hypervisors=("fake",))
        settings = with_enabled_hypervisors(value, ("xen-pvm", "fake"), HYPERVISORS)
        self.assertEqual(settings.enabled_hypervisors, ("xen-pvm", "fake"))
        self.assertEqual(set(settings.hvparams["xen-pvm"]), set(HYPERVISORS["xen-pvm"].rows))

    def test_hypervisor_settings_survive(self) -> None:
        """What was set for one that is disabled and enabled again is kept."""
        value = cluster(hvparams={"kvm": {"acpi": False}})
        without = with_enabled_hypervisors(value, ("fake",), HYPERVISORS)
        self.assertIs(without.hvparams["kvm"]["acpi"], False)

    def test_templates(self) -> None:
        """The policy keeps what it allowed and is still enabled; if nothing is left, it allows all."""
        value = cluster(ipolicy={"disk-templates": ["plain", "file"]})
        self.assertEqual(
            with_enabled_templates(value, ("file", "rbd"), ALL_TEMPLATES).ipolicy.disk_templates, ("file",)
        )
        self.assertEqual(
            with_enabled_templates(value, ("ext", "rbd"), ALL_TEMPLATES).ipolicy.disk_templates,
            ("ext", "rbd"),
        )

    def test_in_use(self) -> None:
        """What is in use cannot go; the message names who uses it."""
        value = cluster(instances=1)
        with self.assertRaisesRegex(PrereqError, "fake is used by instance inst1"):
            with_enabled_hypervisors(value, ("kvm",), HYPERVISORS)
        with self.assertRaisesRegex(PrereqError, "drbd is used by disk"):
            with_enabled_templates(value, ("plain",), ALL_TEMPLATES)

    def test_refused(self) -> None:
        """Empty, double or unknown."""
        for wanted, pattern in (((), "at least one"), (("fake", "fake"), "twice"), (("vmware",), "unknown")):
            with self.assertRaisesRegex(PrereqError, pattern):
                with_enabled_hypervisors(cluster(), wanted, HYPERVISORS)
            with self.assertRaisesRegex(PrereqError, pattern):
                with_enabled_templates(cluster(), wanted, ALL_TEMPLATES)


class MergeTests(SynchronousTestCase):
    """Parameters of several named things."""

    def test_by_name(self) -> None:
        """Only what was named changes; `default` gives the built-in default."""
        own: dict[str, ParamValues] = {
            "drbd": DISK["drbd"].fill({"resync-rate": 99}),
            "plain": {"stripes": 2},
        }
        merged = merged_by_name(own, {"drbd": {"resync-rate": "default"}}, DISK, "disk template")
        self.assertEqual(merged["drbd"]["resync-rate"], DISK["drbd"].defaults["resync-rate"])
        self.assertIs(merged["plain"], own["plain"])

    def test_by_name_refused(self) -> None:
        """Unknown names and parameters are refused."""
        with self.assertRaisesRegex(PrereqError, "unknown disk template 'nfs'; known: "):
            merged_by_name({}, {"nfs": {}}, DISK, "disk template")
        with self.assertRaisesRegex(GanetiError, "'colour'"):
            merged_by_name({}, {"drbd": {"colour": "red"}}, DISK, "disk template")

    def test_os_hvp(self) -> None:
        """Only what differs is kept for an OS; None removes it."""
        own = {"debian": {"kvm": {"acpi": False}}, "old": {}}
        merged = merged_os_hvp(own, {"debian": {"kvm": {"serial_console": False}}, "old": None}, HYPERVISORS)
        self.assertEqual(merged, {"debian": {"kvm": {"acpi": False, "serial_console": False}}})
        with self.assertRaisesRegex(PrereqError, "unknown hypervisor 'vmware'"):
            merged_os_hvp({}, {"debian": {"vmware": {}}}, HYPERVISORS)

    def test_osparams(self) -> None:
        """None and `default` remove a parameter; an OS without any is left out."""
        own = {"debian": {"a": "1", "b": "2"}, "fedora": {"c": "3"}}
        changes: dict[str, ParamValues] = {"debian": {"a": None, "d": "4"}, "fedora": {"c": "default"}}
        self.assertEqual(merged_osparams(own, changes), {"debian": {"b": "2", "d": "4"}})


class ListTests(SynchronousTestCase):
    """Lists that are edited step by step."""

    def test_steps(self) -> None:
        """Steps count one after the other; those without effect are warnings."""
        names, warnings = edited_list(
            ("a", "b"), (("add", "c"), ("remove", "a"), ("add", "c"), ("remove", "z")), "hidden"
        )
        self.assertEqual(names, ("b", "c"))
        self.assertEqual(warnings, ("OS c is hidden already", "OS z is not hidden"))

    def test_unknown_step(self) -> None:
        """Only add and remove."""
        with self.assertRaisesRegex(PrereqError, "'drop' is neither add nor remove"):
            edited_list((), (("drop", "a"),), "hidden")


class PlainTests(SynchronousTestCase):
    """Simple settings."""

    def test_mac_prefix(self) -> None:
        """Three octets, stored in lower case."""
        self.assertEqual(checked_mac_prefix("AA:0b:99"), "aa:0b:99")
        for wrong in ("", "aa:bb", "aa:bb:cc:dd", "gg:00:00", "aa-bb-cc", "aa:bb:cc\n", "a:bb:cc"):
            with self.assertRaises(PrereqError):
                checked_mac_prefix(wrong)

    def test_plain_changes(self) -> None:
        """Only what is not None."""
        op = SimpleNamespace(a=1, b=None, c=False)
        self.assertEqual(plain_changes(op, ("a", "b", "c")), {"a": 1, "c": False})

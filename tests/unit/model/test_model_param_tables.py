"""The tables of parameters: complete, consistent, and refusing what makes no sense."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ParameterError, PrereqError, TypeEnforcementError
from ganeti.model.disk import TRAITS
from ganeti.model.param_tables.be import BACKEND, check_memory_order, expand_memory
from ganeti.model.param_tables.disk import DISK
from ganeti.model.param_tables.hv import HYPERVISORS
from ganeti.model.param_tables.nd import DISK_STATE, HV_STATE, NODE
from ganeti.model.param_tables.nic import CONNECTION, NIC
from ganeti.model.params import ParamTable, ParamValue
from ganeti.testing.strategies import param_values

ALL: tuple[ParamTable, ...] = (
    BACKEND,
    NIC,
    CONNECTION,
    NODE,
    HV_STATE,
    DISK_STATE,
    *DISK.values(),
    *HYPERVISORS.values(),
)
COUNTS = {"kvm": 65, "xen-hvm": 24, "xen-pvm": 17, "lxc": 7, "chroot": 1, "fake": 1}

# table, parameter, allowed values, refused values
CASES: tuple[tuple[ParamTable, str, list[ParamValue], list[ParamValue]], ...] = (
    (BACKEND, "maxmem", [128, "512", "1g"], [0, -1, "x", True]),
    (BACKEND, "vcpus", [1, "64"], [0, 1.5]),
    (BACKEND, "auto_balance", [True, "no"], ["perhaps", 1]),
    (NIC, "mode", ["bridged", "ext"], ["pool", ""]),
    (CONNECTION, "mode", ["pool"], ["none"]),
    (NIC, "vlan", ["", "5", ".100", ":1:2", ".3:4:5"], ["x", "1:", "12345", "."]),
    (NODE, "oob_program", ["", "/usr/bin/oob"], ["oob", "/../oob"]),
    (NODE, "cpu_speed", [0.5, 2, "1.5"], [0, -1, "fast"]),
    (NODE, "ovs_name", [None, "", "br"], [5]),
    (NODE, "ssh_port", [22], [0, 65536]),
    (DISK["drbd"], "protocol", ["A", "C"], ["D", ""]),
    (DISK["drbd"], "disk-barriers", ["n", "bfd", "b", "db"], ["", "x", "bb", "nb"]),
    (DISK["rbd"], "access", ["userspace"], ["none"]),
    (HYPERVISORS["kvm"], "cpu_mask", ["all", "1", "0-2,4", "0:1-2:all"], ["", "a", "2-1", "0::1"]),
    (HYPERVISORS["lxc"], "cpu_mask", ["", "0-3"], ["all", "0:1"]),
    (HYPERVISORS["kvm"], "vnc_bind_address", ["", "127.0.0.1", "::1", "/run"], ["eth0", "/a/../b"]),
    (HYPERVISORS["kvm"], "cdrom_image_path", ["", "/a.iso", "https://x/y.iso"], ["a.iso", "gopher://x"]),
    (HYPERVISORS["kvm"], "serial_speed", [38400], [38401]),
    (HYPERVISORS["kvm"], "virtio_net_queues", [1, 32], [0, 33]),
    (HYPERVISORS["kvm"], "disk_cache", ["default", "none"], ["unsafe"]),
    (HYPERVISORS["kvm"], "root_path", [None, "", "/dev/vda1"], [1]),
    (HYPERVISORS["xen-hvm"], "boot_order", ["cd", "n"], ["", "x"]),
    (HYPERVISORS["xen-pvm"], "cpu_weight", [1, 65535], [0, 65536]),
    (HYPERVISORS["chroot"], "init_script", ["/x"], ["", "x"]),
)


class TableTests(SynchronousTestCase):
    """Every table."""

    def test_defaults_are_allowed(self) -> None:
        """Every built-in default passes its own check, unchanged."""
        for table in ALL:
            self.assertEqual(table.check(table.defaults), table.defaults)

    def test_documented(self) -> None:
        """Every parameter says what it is, in one line without a full stop."""
        for table in ALL:
            for row in table.rows.values():
                self.assertTrue(row.doc, row.name)
                self.assertFalse(row.doc.endswith(".") or "\n" in row.doc, row.name)

    def test_established(self) -> None:
        """The established hypervisors have as many parameters as ever, the templates a table each."""
        self.assertEqual({name: len(table.rows) for name, table in HYPERVISORS.items()}, COUNTS)
        self.assertEqual(set(DISK), {str(name) for name in TRAITS})

    def test_globals(self) -> None:
        """Migration port, bandwidth and mode belong to the cluster alone."""
        for table in HYPERVISORS.values():
            found = {row.name for row in table.rows.values() if row.is_global}
            expected = {"migration_port", "migration_bandwidth", "migration_mode"} & set(table.rows)
            self.assertEqual(found, expected)

    def test_values(self) -> None:
        """Sensible values are taken and others refused, with the parameter's name."""
        for table, name, allowed, refused in CASES:
            for value in allowed:
                table.check({name: value})
            for value in refused:
                error = self.assertRaises(TypeEnforcementError, table.check, {name: value})
                self.assertIn(name, str(error))

    def test_unknown(self) -> None:
        """An unknown name is refused with the nearest known one."""
        error = self.assertRaises(ParameterError, HYPERVISORS["kvm"].check, {"kernel_pth": ""})
        self.assertIn("'kernel_path'", str(error))


class MergeTests(SynchronousTestCase):
    """Layers of values."""

    @given(param_values(BACKEND), param_values(BACKEND))
    def test_fill(self, low: dict[str, ParamValue], high: dict[str, ParamValue]) -> None:
        """The upper layer counts, then the lower one, then the default."""
        filled = BACKEND.fill(low, high)
        for name, value in filled.items():
            self.assertEqual(value, high.get(name, low.get(name, BACKEND.defaults[name])))

    def test_reset(self) -> None:
        """`default` takes a setting away, unless it is a value of the parameter itself."""
        self.assertEqual(BACKEND.merge({"vcpus": 2, "maxmem": 512}, {"vcpus": "default"}), {"maxmem": 512})
        kvm = HYPERVISORS["kvm"]
        self.assertEqual(
            kvm.merge({"disk_cache": "none"}, {"disk_cache": "default"}), {"disk_cache": "default"}
        )


class MemoryTests(SynchronousTestCase):
    """The input-only parameter `memory`."""

    @given(st.integers(1, 10**6))
    def test_expanded(self, size: int) -> None:
        """It sets both ends."""
        expanded = expand_memory({"memory": size, "vcpus": 2})
        self.assertEqual(expanded, {"maxmem": size, "minmem": size, "vcpus": 2})

    def test_contradiction(self) -> None:
        """Beside another value of one end it is refused; beside the same it is not."""
        self.assertRaises(PrereqError, expand_memory, {"memory": 512, "minmem": 128})
        self.assertEqual(expand_memory({"memory": 512, "minmem": 512})["maxmem"], 512)

    def test_order(self) -> None:
        """The minimum is not above the maximum, defaults counted."""
        check_memory_order({"minmem": 128, "maxmem": 128})
        self.assertRaises(PrereqError, check_memory_order, {"minmem": 256})

"""Parts of the kvm hypervisor that meet the node: facts, accelerator, taps, records, checks."""

from __future__ import annotations

import os
import shutil
import tempfile

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import CommandFailed, HypervisorError
from ganeti.hypervisors.kvm import accel, affinity, facts, migration, network, node_size, process, wiring
from ganeti.hypervisors.kvm.files import Runtime, files_of, known_names, load, prepare, remove, save
from ganeti.hypervisors.kvm.hypervisor import KvmHypervisor
from ganeti.hypervisors.kvm.network import Phase
from ganeti.hypervisors.kvm.node_checks import missing_on_node
from ganeti.hypervisors.kvm.params import TABLE, check, kvm_params
from ganeti.interfaces import Completed
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.filled import FilledInstance, FilledNic
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.node import Node
from ganeti.model.params import ParamValue
from ganeti.testing.host import ANY, Answer, FakeHost, FakeProcesses, Ran, failed, ok
from ganeti.testing.hypervisor_behaviours import filled_instance

VERSION = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright"
MACHINES = """Supported machines are:
microvm              microvm (i386)
pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)
pc-i440fx-7.2        Standard PC (i440FX + PIIX, 1996) (default)
q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)
"""
NIC = FilledNic(uuid="n0", mac="aa:00:00:00:00:01", mode="bridged", link="br0", name="lan")


class NodeCase(SynchronousTestCase):
    """A node on a temporary directory, with programs from a table."""

    def host(self, answers: dict[tuple[str, ...], Answer] | None = None) -> FakeHost:
        """The node."""
        root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, root)
        self.processes = FakeProcesses(answers)
        return FakeHost(root, processes=self.processes)

    def program(self, host: FakeHost) -> str:
        """A file that stands for QEMU."""
        path = f"{host.paths.root}/qemu"
        if os.path.exists(path):
            return path
        with open(path, "w", encoding="ascii") as stream:
            stream.write("#!/bin/true\n")
        os.chmod(path, 0o755)
        return path


class CheckTests(SynchronousTestCase):
    """Contradictions between parameters."""

    def test_refused(self) -> None:
        """Each contradiction and each thing not supported is refused, and the message names it."""
        cases: tuple[tuple[dict[str, ParamValue], str], ...] = (
            ({"security_model": "pool"}, "security_model"),
            ({"use_chroot": True}, "use_chroot"),
            ({"spice_bind": "127.0.0.1"}, "spice_bind"),
            ({"initrd_path": "/i", "kernel_path": ""}, "initrd_path"),
            ({"disk_aio": "native"}, "disk_cache=none"),
            ({"boot_order": "cdrom"}, "cdrom_image_path"),
            ({"boot_order": "floppy"}, "floppy_image_path"),
            ({"cdrom2_image_path": "/c"}, "cdrom_image_path"),
            ({"vnc_tls": True}, "vnc_bind_address"),
            ({"vnc_x509_path": "/x"}, "vnc_tls"),
            ({"vnc_x509_verify": True}, "vnc_x509_path"),
            ({"virtio_net_queues": 2, "nic_type": "e1000"}, "nic_type"),
        )
        for values, word in cases:
            with self.subTest(**values):
                error = self.assertRaises(HypervisorError, check, kvm_params(values))
                self.assertIn(word, str(error))

    def test_allowed(self) -> None:
        """The defaults and a full set that fits together are allowed."""
        check(kvm_params({}))
        check(
            kvm_params(
                {"disk_aio": "native", "disk_cache": "none", "vnc_bind_address": "::1", "vnc_tls": True}
            )
        )

    def test_every_parameter_is_typed(self) -> None:
        """The struct has no name that the table lacks."""
        names = set(type(kvm_params({})).__struct_fields__)
        self.assertEqual(names - set(TABLE.rows), set())


class FactsTests(NodeCase):
    """What QEMU says of itself."""

    def test_asked_once(self) -> None:
        """Version and machines are read, remembered, and asked again when the program changes."""
        host = self.host({(ANY, "--version"): ok(VERSION), (ANY, "-machine"): ok(MACHINES)})
        path = self.program(host)
        found = facts.qemu_facts(host, path)
        self.assertEqual((found.version, found.default_machine), ((7, 2, 22), "pc-i440fx-7.2"))
        self.assertEqual(set(found.machines), {"microvm", "pc", "pc-i440fx-7.2", "q35"})
        self.assertEqual(facts.qemu_facts(host, path), found)
        self.assertEqual(len(self.processes.calls), 2)
        os.utime(path, (1, 1))
        facts.qemu_facts(host, path)
        self.assertEqual(len(self.processes.calls), 4)

    def test_unknown_machine(self) -> None:
        """A machine type that this QEMU lacks is refused, and the message says how to list them."""
        host = self.host({(ANY, "--version"): ok(VERSION), (ANY, "-machine"): ok(MACHINES)})
        params = kvm_params({"kvm_path": self.program(host), "kvm_flag": "disabled"})
        error = self.assertRaises(HypervisorError, facts.gather, host, params, (), machine="pc-i440fx-99")
        self.assertIn("-machine help", str(error))
        self.assertEqual(facts.gather(host, params, (), machine=None).machine, "pc-i440fx-7.2")

    def test_no_qemu(self) -> None:
        """A missing program is named; one that does not run, too."""
        self.assertRaises(HypervisorError, facts.qemu_path, "/nonexistent/qemu")
        host = self.host({(ANY,): failed("cannot load library")})
        self.assertRaises(HypervisorError, facts.qemu_facts, host, self.program(host))
        self.assertRaises(HypervisorError, facts.parse_version, "no number here")

    def test_disks(self) -> None:
        """Files and devices are told apart; what cannot be opened is left to QEMU."""
        self.assertFalse(facts.disk_facts(OpenDisk(path=__file__)).is_block_device)
        self.assertEqual(
            facts.disk_facts(OpenDisk(path="/nonexistent")), facts.DiskFacts(has_direct_io=False)
        )

    def test_missing_on_node(self) -> None:
        """Files and directories that parameters name must be there."""
        qemu = facts.QemuFacts(path="q", version=(4, 0, 0), default_machine="pc", machines=("pc",), stamp="")
        params = kvm_params(
            {"kernel_path": "/no/k", "mem_path": "/no/m", "machine_version": "x", "disk_aio": "io_uring"}
        )
        found = " ".join(missing_on_node(params, qemu))
        for word in ("/no/k", "/no/m", "'x'", "io_uring"):
            self.assertIn(word, found)
        self.assertEqual(list(missing_on_node(kvm_params({"kernel_path": __file__}), qemu)), [])


class AcceleratorTests(NodeCase):
    """KVM or not."""

    def setUp(self) -> None:
        """No order from outside."""
        before = os.environ.pop(accel.VARIABLE, None)
        if before is not None:
            self.addCleanup(os.environ.__setitem__, accel.VARIABLE, before)

    def probing(self, output: bytes) -> FakeHost:
        """A node on which a kernel prints this."""

        def boot(call: Ran) -> Completed:
            assert call.log_path is not None
            with open(call.log_path, "ab") as log:
                log.write(output)
            raise CommandFailed("killed after the time")

        return self.host({(ANY, "-accel", "kvm"): boot})

    def decided(self, host: FakeHost) -> str:
        """The answer, with files that are there for device and kernel."""
        return accel.decide(host, self.program(host), "", kernel=__file__, device="/dev/null")

    def test_kernel_comes_up(self) -> None:
        """A kernel that reaches its end proves KVM; the answer is remembered."""
        host = self.probing(b"Linux version 6\nKernel panic - not syncing: VFS: Unable to mount root fs on x")
        self.assertEqual(self.decided(host), "kvm")
        self.assertEqual(self.decided(host), "kvm")
        self.assertEqual(len(self.processes.calls), 1)

    def test_silent_kernel(self) -> None:
        """Where nothing is printed it is not waited for long."""
        host = self.probing(b"")
        self.assertEqual(self.decided(host), "tcg")
        self.assertEqual([call.timeout_s for call in self.processes.calls], [accel.FIRST_SIGN_S])

    def test_slow_kernel(self) -> None:
        """One that begins gets more time, and has to come up all the same."""
        host = self.probing(b"Linux version 6\n")
        self.assertEqual(self.decided(host), "tcg")
        self.assertEqual(
            [call.timeout_s for call in self.processes.calls], [accel.FIRST_SIGN_S, accel.PROBE_S]
        )

    def test_orders(self) -> None:
        """The parameter decides, then the environment; without device or kernel it is TCG."""
        host = self.host()
        qemu = self.program(host)
        self.assertEqual(accel.decide(host, qemu, "enabled", device="/nonexistent"), "kvm")
        self.assertEqual(accel.decide(host, qemu, "disabled"), "tcg")
        self.assertEqual(accel.decide(host, qemu, "", device="/nonexistent"), "tcg")
        self.assertEqual(accel.decide(host, qemu, "", kernel="/nonexistent", device="/dev/null"), "tcg")
        os.environ[accel.VARIABLE] = "kvm"
        self.addCleanup(os.environ.pop, accel.VARIABLE, None)
        self.assertEqual(accel.decide(host, qemu, "", device="/nonexistent"), "kvm")


class NetworkTests(NodeCase):
    """Taps, scripts and built-in wiring."""

    def instance(self, *nics: FilledNic) -> FilledInstance:
        """An instance with these interfaces."""
        return msgspec.structs.replace(filled_instance("inst1", "kvm", {}), nics=nics, tags=("a", "b"))

    def script(self, host: FakeHost, mode: str, action: str) -> str:
        """An executable script of the administrator."""
        path = f"{host.paths.conf_dir}/network/{mode}/{action}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as stream:
            stream.write("#!/bin/sh\n")
        os.chmod(path, 0o755)
        return path

    def test_bridged(self) -> None:
        """A tap is created anew, gets a high MAC, and is enslaved."""
        host = self.host({("ip",): ok()})
        taps = network.connect(host, self.instance(NIC), kvm_params({}), Phase.START)
        self.assertEqual(
            self.processes.commands("ip"),
            [
                ("ip", "link", "delete", "dev", taps[0]),
                ("ip", "tuntap", "add", "dev", taps[0], "mode", "tap", "vnet_hdr"),
                ("ip", "link", "set", "dev", taps[0], "address", "fe:00:00:00:00:01"),
                ("ip", "link", "set", "dev", taps[0], "master", "br0"),
                ("ip", "link", "set", "dev", taps[0], "up"),
            ],
        )

    def test_user_network(self) -> None:
        """An interface of mode user needs nothing on the node, not even rights."""
        host = self.host({})
        instance = self.instance(msgspec.structs.replace(NIC, mode="user", link=""))
        taps = network.connect(host, instance, kvm_params({}), Phase.START)
        network.connect_rest(host, instance, taps)
        network.disconnect(host, instance, taps)
        self.assertEqual((taps, self.processes.commands()), (("",), []))

    def test_tap_names(self) -> None:
        """Names fit the kernel, are stable, and differ between nodes and interfaces."""
        first, second = self.host(), self.host()
        instance = self.instance(NIC)
        names = {network.tap_name(host, instance, index) for host in (first, second) for index in range(3)}
        self.assertEqual(len(names), 6)
        self.assertTrue(all(len(name) < 16 for name in names))
        self.assertEqual(network.tap_name(first, instance, 0), network.tap_name(first, instance, 0))

    def test_own_script(self) -> None:
        """The administrator's script replaces the wiring and gets the documented environment."""
        host = self.host({("ip",): ok(), (ANY,): ok()})
        script = self.script(host, "bridged", "up")
        nic = msgspec.structs.replace(
            NIC,
            ip="192.0.2.1",
            vlan="5",
            network="u",
            network_facts={"name": "net", "tags": ["x", "y"], "subnet": None},
        )
        (tap,) = network.connect(host, self.instance(nic), kvm_params({}), Phase.START)
        call = self.processes.calls[-1]
        self.assertEqual(call.argv, (script, tap))
        self.assertEqual(
            call.env,
            {
                "PATH": "/sbin:/usr/sbin:/bin:/usr/bin", "INSTANCE": "inst1", "MAC": NIC.mac,
                "MODE": "bridged", "INTERFACE": tap, "INTERFACE_INDEX": "0", "INTERFACE_UUID": "n0",
                "TAGS": "a b", "ACTION": "up",
                "IP": "192.0.2.1", "INTERFACE_NAME": "lan", "LINK": "br0", "VLAN": "5", "BRIDGE": "br0",
                "NETWORK_NAME": "net", "NETWORK_TAGS": "x y",
            },
        )  # fmt: skip

    def test_ext_needs_a_script(self) -> None:
        """Mode ext without a script is refused, and the tap is gone again."""
        host = self.host({("ip",): ok()})
        instance = self.instance(msgspec.structs.replace(NIC, mode="ext"))
        error = self.assertRaises(
            HypervisorError, network.connect, host, instance, kvm_params({}), Phase.START
        )
        self.assertIn("network/ext/up", str(error))
        self.assertEqual(self.processes.commands()[-1][:3], ("ip", "link", "delete"))

    def test_failing_script_around_a_migration(self) -> None:
        """Mode ext may fail around a migration, other modes may not."""
        host = self.host({("ip", "link", "set"): failed("no bridge"), ("ip",): ok(), ("*/up",): failed("no")})
        self.script(host, "ext", "up")
        ext = self.instance(msgspec.structs.replace(NIC, mode="ext"))
        network.connect(host, ext, kvm_params({}), Phase.BEFORE_MIGRATION)
        env = self.processes.calls[-1].env
        self.assertEqual((env or {})["MIGRATION_PHASE"], "pre")
        self.assertRaises(HypervisorError, network.connect, host, ext, kvm_params({}), Phase.START)
        bridged = self.instance(NIC)
        error = self.assertRaises(
            HypervisorError, network.connect, host, bridged, kvm_params({}), Phase.BEFORE_MIGRATION
        )
        self.assertIn("br0", str(error))

    def test_phases(self) -> None:
        """Bridges are connected before a migration, routes after it, ext both times."""
        table = {
            mode: [network.connects_in(mode, phase) for phase in Phase]
            for mode in ("bridged", "routed", "ext")
        }
        self.assertEqual(
            table, {"bridged": [True, True, False], "routed": [True, False, True], "ext": [True, True, True]}
        )

    def test_disconnect_never_fails(self) -> None:
        """What is gone is gone."""
        host = self.host({("ip",): failed("no such device")})
        network.disconnect(host, self.instance(NIC), ("tap0",))

    def test_wiring(self) -> None:
        """Commands for routes and switches."""
        routed = msgspec.structs.replace(NIC, mode="routed", link="100", ip="192.0.2.1")
        commands = wiring.commands(routed, "t", "up")
        self.assertIn(("ip", "-4", "rule", "add", "dev", "t", "table", "100"), commands)
        self.assertIn(("ip", "-4", "route", "replace", "192.0.2.1/32", "dev", "t", "table", "100"), commands)
        six = msgspec.structs.replace(routed, link="", ip="2001:db8::1")
        self.assertIn(
            ("ip", "-6", "route", "replace", "2001:db8::1/128", "dev", "t"), wiring.commands(six, "t", "up")
        )
        switch = msgspec.structs.replace(NIC, mode="openvswitch", link="sw", vlan=".5:6:7")
        self.assertEqual(wiring.commands(switch, "t", "up")[-1][-2:], ("tag=5", "trunks=6,7"))
        trunk = msgspec.structs.replace(NIC, vlan=":6:7")
        self.assertIn(("bridge", "vlan", "add", "dev", "t", "vid", "7"), wiring.commands(trunk, "t", "up"))
        self.assertEqual(wiring.commands(NIC, "t", "down"), ())

    def test_wiring_lacks_something(self) -> None:
        """An interface without what its mode needs is refused."""
        for change in (
            {"link": ""},
            {"mode": "routed"},
            {"mode": "openvswitch", "link": ""},
            {"mode": "odd"},
        ):
            nic = msgspec.structs.replace(NIC, **change)
            self.assertRaises(HypervisorError, wiring.commands, nic, "t", "up")

    def test_vlans(self) -> None:
        """The four ways to write VLANs."""
        for text, wanted in (
            ("5", ("5", ())), (".5", ("5", ())), (":6:7", (None, ("6", "7"))), (".5:6", ("5", ("6",))),
            ("", (None, ())),
        ):  # fmt: skip
            self.assertEqual(wiring.vlans(text), wanted)


class RecordTests(NodeCase):
    """What is kept of a running instance."""

    def runtime(self) -> Runtime:
        """A record."""
        instance = msgspec.structs.replace(
            filled_instance("inst1", "kvm", {"acpi": True}),
            nics=(NIC,),
            osparams_private={"password": "secret"},
        )
        return Runtime(
            instance=instance,
            disks=(OpenDisk(path="/d"),),
            taps=("t0",),
            machine="pc",
            accelerator="tcg",
            argv=("qemu",),
        )

    def test_round_trip(self) -> None:
        """A record comes back whole, but without the secrets of the OS, readable by root only."""
        where = files_of(self.host().paths, "inst1")
        prepare(where)
        save(where, self.runtime())
        found = load(where)
        assert found is not None
        self.assertEqual(found.instance.osparams_private, {})
        self.assertEqual(msgspec.structs.replace(found, instance=self.runtime().instance), self.runtime())
        self.assertEqual(os.stat(where.runtime).st_mode & 0o777, 0o600)
        with open(where.runtime, encoding="utf-8") as stream:
            self.assertNotIn("secret", stream.read())

    def test_damaged(self) -> None:
        """A damaged record is an error that says what to do, and does not prevent the clean-up."""
        host = self.host()
        where = files_of(host.paths, "inst1")
        prepare(where)
        with open(where.runtime, "w", encoding="ascii") as stream:
            stream.write("{")
        self.assertIn("by force", str(self.assertRaises(HypervisorError, load, where)))
        KvmHypervisor().cleanup(host, "inst1")
        self.assertIsNone(load(where))

    def test_console_logs(self) -> None:
        """The log of the start before is kept once."""
        where = files_of(self.host().paths, "inst1")
        prepare(where)
        with open(where.console_log, "w", encoding="ascii") as stream:
            stream.write("first")
        prepare(where)
        self.assertTrue(os.path.exists(f"{where.console_log}.old"))
        self.assertFalse(os.path.exists(where.console_log))

    def test_foreign_process(self) -> None:
        """A process id that belongs to another program now is not the instance."""
        host = self.host()
        where = files_of(host.paths, "inst1")
        prepare(where)
        for content in (f"{os.getpid()}\n", "999999999", "rubbish", ""):
            with open(where.pid, "w", encoding="ascii") as stream:
                stream.write(content)
            self.assertIsNone(process.find(where))
        self.assertEqual(known_names(host.paths), ["inst1"])
        self.assertEqual(list(KvmHypervisor().list_running(host)), [])
        remove(where)
        remove(where)
        self.assertEqual(known_names(host.paths), [])


class MigrationTests(SynchronousTestCase):
    """Pure parts of migration."""

    def test_progress(self) -> None:
        """States of QEMU become the few that the master knows."""
        for status, wanted in (
            ("setup", "active"), ("active", "active"), ("device", "active"), ("cancelling", "active"),
            ("postcopy-active", "postcopy-active"), ("completed", "completed"), ("failed", "failed"),
            ("cancelled", "cancelled"), ("none", "cancelled"),
        ):  # fmt: skip
            self.assertEqual(migration.progress_of({"status": status}).status, wanted)
        found = migration.progress_of(
            {"status": "failed", "error-desc": "why", "ram": {"transferred": 1, "total": 2}}
        )
        self.assertEqual((found.transferred_ram, found.total_ram, found.error), (1, 2, "why"))
        self.assertEqual(migration.progress_of({}).status, "cancelled")

    def test_postcopy(self) -> None:
        """Post-copy begins when it is allowed and one round is done."""
        allowed = kvm_params({"migration_caps": "postcopy-ram:xbzrle"})
        second = {"status": "active", "ram": {"dirty-sync-count": 2}}
        self.assertTrue(migration.wants_postcopy(second, allowed))
        self.assertFalse(migration.wants_postcopy(second, kvm_params({})))
        self.assertFalse(migration.wants_postcopy({"status": "active"}, allowed))

    def test_default_endpoint(self) -> None:
        """Without word from the target it is the port of the cluster; IPv6 in brackets."""
        params = kvm_params({}, {"migration_port": 9000})
        self.assertEqual(migration.default_endpoint(params, "192.0.2.1"), "192.0.2.1:9000")
        self.assertEqual(migration.default_endpoint(params, "::1"), "[::1]:9000")

    def test_unreadable_info(self) -> None:
        """What another version says is refused with a hint."""
        error = self.assertRaises(HypervisorError, migration.decode_info, "{}", "inst1")
        self.assertIn("same version", str(error))


class SmallPartsTests(SynchronousTestCase):
    """Pinning, console, size of the node."""

    def test_pinning(self) -> None:
        """All, one list for all, one list each; another number is refused."""
        self.assertEqual(affinity.pinning("all", 2), (None, None))
        self.assertEqual(affinity.pinning("0-1,4", 2), (frozenset({0, 1, 4}),) * 2)
        self.assertEqual(affinity.pinning("0:all", 2), (frozenset({0}), None))
        self.assertRaises(HypervisorError, affinity.pinning, "0:1:2", 2)

    @given(st.sets(st.integers(0, 300), min_size=1))
    def test_pinning_lists(self, processors: set[int]) -> None:
        """Any list is read as it is written."""
        text = ",".join(map(str, processors))
        self.assertEqual(affinity.pinning(text, 1), (frozenset(processors),))

    def test_console(self) -> None:
        """Serial console first, then VNC, then a message that says what to set."""
        node = Node(uuid=NodeId("n"), name="node1", primary_ip="1", secondary_ip="1", group=GroupId("g"))
        paths = FakeHost("/r").paths
        table: tuple[tuple[dict[str, ParamValue], str], ...] = (
            ({}, "ssh"),
            ({"serial_console": False, "vnc_bind_address": "0.0.0.0"}, "vnc"),
            ({"serial_console": False}, "msg"),
        )
        for values, kind in table:
            instance = msgspec.structs.replace(filled_instance("i", "kvm", values), network_port=5907)
            found = KvmHypervisor().console(instance, node, paths)
            self.assertEqual(found.kind, kind)
            if kind == "vnc":
                self.assertEqual((found.host, found.port, found.display), ("node1", 5907, 7))

    def test_node_size(self) -> None:
        """Memory of the kernel's table, less what instances have for the node itself."""
        found = node_size.capacity(
            "MemTotal: 4096000 kB\nMemFree: 1 kB\nMemAvailable: 2048000 kB\n",
            "processor : 0\nphysical id : 0\nprocessor : 1\nphysical id : 1\n",
            nodes=1,
            used_mib=500,
            version="7.2",
        )
        self.assertEqual((found.memory_total, found.memory_free, found.memory_dom0), (4000, 2000, 1500))
        self.assertEqual((found.cpu_total, found.cpu_sockets), (2, 2))

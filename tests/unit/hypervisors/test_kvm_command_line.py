"""Command lines of QEMU against golden files, and what no golden file shows.

`GOLDEN_UPDATE=1` writes the files anew: look at the difference before you commit it, because guests
are migrated between versions.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import HypervisorError
from ganeti.hypervisors.kvm.command_line import command_line
from ganeti.hypervisors.kvm.facts import DiskFacts, KvmFacts, QemuFacts
from ganeti.hypervisors.kvm.files import files_of
from ganeti.hypervisors.kvm.params import TABLE
from ganeti.hypervisors.kvm.process import QemuProcess
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.filled import FilledInstance, FilledNic
from ganeti.model.params import ParamValue
from ganeti.model.paths import Paths
from ganeti.testing.hypervisor_behaviours import filled_instance

GOLDEN = Path(__file__).parent / "golden"
QEMU = QemuFacts(
    path="/usr/bin/kvm",
    version=(7, 2, 0),
    default_machine="pc-i440fx-7.2",
    machines=("pc", "pc-i440fx-7.2", "q35"),
    stamp="",
)
TCG = KvmFacts(qemu=QEMU, accelerator="tcg", machine="pc-i440fx-7.2")
KVM = KvmFacts(
    qemu=QEMU,
    accelerator="kvm",
    machine="pc-i440fx-7.2",
    has_vhost_net=True,
    disks=(DiskFacts(is_block_device=True), DiskFacts(is_block_device=True)),
)
TWO_DISKS = (
    OpenDisk(path="/dev/xenvg/a", link="/run/ganeti/instance-disks/inst1:0", size=1024),
    OpenDisk(path="/dev/xenvg/b", size=1024, mode="ro"),
)
NICS = (
    FilledNic(uuid="n0", mac="aa:00:00:00:00:01", mode="bridged", link="br0"),
    FilledNic(uuid="n1", mac="aa:00:00:00:00:02", mode="routed", link="", ip="192.0.2.7"),
)


def _instance(**hvparams: ParamValue) -> FilledInstance:
    base = {"kernel_path": "/boot/vmlinuz", **hvparams}
    return filled_instance("inst1.example.com", "kvm", base, memory=512, vcpus=2)


def _line(
    instance: FilledInstance,
    facts: KvmFacts = TCG,
    disks: tuple[OpenDisk, ...] = (),
    *,
    is_incoming: bool = False,
) -> tuple[str, ...]:
    taps = tuple(f"gnttap{number}" for number in range(len(instance.nics)))
    return command_line(
        instance, disks, facts, files_of(Paths(), instance.name), taps, is_incoming=is_incoming
    )


def _values(line: tuple[str, ...], option: str) -> list[str]:
    return [value for name, value in pairwise(line) if name == option]


class GoldenTests(SynchronousTestCase):
    """Whole command lines; one file each, one argument a line."""

    def check(self, name: str, line: tuple[str, ...]) -> None:
        """Compare with the golden file, or write it."""
        path = GOLDEN / f"{name}.txt"
        text = "".join(f"{argument}\n" for argument in line)
        if os.environ.get("GOLDEN_UPDATE"):
            path.write_text(text, encoding="utf-8")
        self.assertEqual(text, path.read_text(encoding="utf-8"))

    def test_smallest(self) -> None:
        """A kernel of the node, no disks, no networks, emulated."""
        self.check("smallest", _line(_instance()))

    def test_disks_and_bridges(self) -> None:
        """Two logical volumes and two interfaces, with KVM and vhost; boots from its disk."""
        instance = msgspec.structs.replace(
            _instance(kernel_path="", disk_cache="none", disk_aio="native", disk_discard="unmap"),
            nics=NICS,
            disk_template="plain",
        )
        self.check("disks_and_bridges", _line(instance, KVM, TWO_DISKS))

    def test_user_network(self) -> None:
        """An interface of mode user is connected by QEMU itself, also with its own MAC."""
        nic = FilledNic(uuid="n0", mac="aa:00:00:00:00:01", mode="user", link="")
        instance = msgspec.structs.replace(_instance(), nics=(nic,))
        line = command_line(instance, (), TCG, files_of(Paths(), instance.name), ("",))
        self.assertEqual(_values(line, "-netdev"), ["user,id=net0"])
        self.assertTrue(
            any("mac=aa:00:00:00:00:01,netdev=net0" in value for value in _values(line, "-device"))
        )

    def test_incoming(self) -> None:
        """The same instance as target of a migration differs in its last arguments only."""
        instance = msgspec.structs.replace(_instance(), disk_template="sharedfile")
        disks = (OpenDisk(path="/srv/disk0", size=4, format="qcow2"),)
        arriving = _line(instance, TCG, disks, is_incoming=True)
        self.check("incoming", arriving)
        self.assertEqual(_line(instance, TCG, disks)[:-1], arriving[:-2])

    def test_display(self) -> None:
        """VNC with TLS and password, USB, sound, CDs, guest agent, multi-queue, pinned topology."""
        instance = msgspec.structs.replace(
            _instance(
                kernel_path="",
                boot_order="cdrom",
                cdrom_image_path="/srv/a,b.iso",
                cdrom2_image_path="http://example.com/c.iso",
                cpu_cores=2,
                cpu_sockets=1,
                cpu_type="host",
                keymap="de",
                machine_version="q35",
                soundhw="hda",
                usb_devices="usb-ehci",
                usb_mouse="tablet",
                use_guest_agent=True,
                virtio_net_queues=2,
                vnc_bind_address="::1",
                vnc_password_file="/etc/ganeti/vnc",
                vnc_tls=True,
                vnc_x509_path="/etc/ganeti/vnc-certs",
                vnc_x509_verify=True,
                acpi=False,
                use_localtime=True,
                user_shutdown=True,
                reboot_behavior="exit",
                kvm_extra="-device 'pci-bridge,id=pb' -msg timestamp=on",
            ),
            nics=NICS[:1],
            network_port=11000,
        )
        self.check("display", _line(instance, msgspec.structs.replace(KVM, machine="q35")))

    def test_scsi(self) -> None:
        """SCSI disks on a controller, a CD beside them, write-through."""
        instance = _instance(
            disk_type="scsi-hd",
            scsi_controller_type="virtio-scsi-pci",
            disk_cache="writethrough",
            cdrom_image_path="/srv/cd.iso",
        )
        self.check("scsi", _line(instance, KVM, TWO_DISKS))

    def test_remote_disk(self) -> None:
        """A disk that only QEMU can reach is named by its address."""
        disk = OpenDisk(path=None, uri="rbd:pool/image:id=a,b", size=10)
        self.check("remote_disk", _line(_instance(disk_type="ide", serial_console=False), TCG, (disk,)))

    def test_boards_own_disk(self) -> None:
        """A disk on the board itself has no device argument."""
        self.check("legacy_disk", _line(_instance(disk_type="sd"), TCG, (OpenDisk(path="/srv/d", size=4),)))


class RuleTests(SynchronousTestCase):
    """Rules that hold for every command line."""

    @given(vcpus=st.integers(1, 64), memory=st.integers(4, 1 << 20))
    def test_a_process_tells_its_size(self, vcpus: int, memory: int) -> None:
        """Memory and processors can be read back from the arguments of a running process."""
        instance = filled_instance("i", "kvm", {"kernel_path": "/k"}, memory=memory, vcpus=vcpus)
        found = QemuProcess(pid=1, argv=_line(instance))
        self.assertEqual((found.memory, found.vcpus), (memory, vcpus))

    @given(template=st.sampled_from(["plain", "file", "sharedfile", "drbd", "rbd"]), direct=st.booleans())
    def test_shared_disks_pass_by_the_cache(self, template: str, direct: bool) -> None:
        """What another node can write is never cached, unless the file system knows no other way."""
        instance = msgspec.structs.replace(_instance(), disk_template=template)
        facts = msgspec.structs.replace(TCG, disks=(DiskFacts(has_direct_io=direct),))
        line = _line(instance, facts, (OpenDisk(path="/d", size=4),))
        cache = msgspec.json.decode(_values(line, "-blockdev")[0])["cache"]
        self.assertEqual(cache["direct"], direct and template in ("sharedfile", "drbd", "rbd"))

    def test_many_disks(self) -> None:
        """Paravirtual devices have places of their own as long as there are any."""
        disks = tuple(OpenDisk(path=f"/d{n}", size=4) for n in range(16))
        instance = msgspec.structs.replace(_instance(), nics=NICS * 4)
        devices = _values(_line(instance, TCG, disks), "-device")
        places = [part for device in devices for part in device.split(",") if part.startswith("addr=")]
        self.assertEqual(len(places), len(set(places)))
        self.assertEqual(len(places), 30 - 12 + 1)

    def test_vnc_needs_a_port(self) -> None:
        """Without a reserved port the message says how to get one."""
        error = self.assertRaises(HypervisorError, _line, _instance(vnc_bind_address="0.0.0.0"))
        self.assertIn("no port for VNC", str(error))

    def test_vnc_socket(self) -> None:
        """A directory means a socket with the name of the instance."""
        line = _line(_instance(vnc_bind_address="/run/vnc"))
        self.assertEqual(_values(line, "-vnc"), ["unix:/run/vnc/inst1.example.com.vnc"])

    def test_unreachable_disk(self) -> None:
        """A disk that is not open is refused."""
        self.assertRaises(HypervisorError, _line, _instance(), TCG, (OpenDisk(path=None, size=4),))

    def test_native_aio_needs_direct_io(self) -> None:
        """A file system without direct I/O is named, instead of QEMU's dark words."""
        facts = msgspec.structs.replace(TCG, disks=(DiskFacts(has_direct_io=False),))
        instance = _instance(disk_aio="native", disk_cache="none")
        disks = (OpenDisk(path="/tmp/d", size=4),)
        error = self.assertRaises(HypervisorError, _line, instance, facts, disks)
        self.assertIn("/tmp/d", str(error))

    def test_unknown_sound_card(self) -> None:
        """The known ones are listed."""
        error = self.assertRaises(HypervisorError, _line, _instance(soundhw="tuba"))
        self.assertIn("ac97", str(error))

    def test_emulated_host(self) -> None:
        """The processor of the host cannot be passed through without KVM: all that can be emulated is."""
        self.assertEqual(_values(_line(_instance(cpu_type="host")), "-cpu"), ["max"])

    def test_defaults_are_known_to_the_table(self) -> None:
        """Every disk and interface type of the table makes a command line."""
        for name in ("disk_type", "nic_type", "scsi_controller_type"):
            for value in TABLE.rows[name].choices:
                with self.subTest(**{name: value}):
                    instance = msgspec.structs.replace(_instance(**{name: value}), nics=NICS)
                    self.assertTrue(_line(instance, KVM, TWO_DISKS))

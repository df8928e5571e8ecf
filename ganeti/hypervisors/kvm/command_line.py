"""The command line of QEMU for an instance: a pure function, with golden files in the tests.

What it must not change between versions of this module is what the guest sees: order and place of
devices decide whether an instance can be migrated to a node with a newer version.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from ganeti.hypervisors.kvm.display import display_arguments
from ganeti.hypervisors.kvm.drives import disk_arguments, escaped, removable_arguments
from ganeti.hypervisors.kvm.facts import KvmFacts
from ganeti.hypervisors.kvm.files import InstanceFiles
from ganeti.hypervisors.kvm.nics import nic_arguments
from ganeti.hypervisors.kvm.params import KvmParams, params_of
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.disk import TRAITS
from ganeti.model.filled import FilledInstance

_LAST_SLOT = 30
"""The board of q35 has its own device in slot 31."""


def command_line(
    instance: FilledInstance,
    disks: Sequence[OpenDisk],
    facts: KvmFacts,
    files: InstanceFiles,
    taps: Sequence[str] = (),
    *,
    is_incoming: bool = False,
) -> tuple[str, ...]:
    """Program and arguments that start an instance.

    It is to be run in `files.control_dir`: sockets are named relative to it. QEMU goes into the
    background when all is set up, with the processors stopped, or waiting for a migration.

    Args:
        instance: what to start.
        disks: open on this node, in order.
        facts: of the node.
        files: of the instance.
        taps: of its network interfaces, in order; they exist.
        is_incoming: it is to receive a migration.

    Raises:
        HypervisorError: the parameters cannot work.
    """
    params = params_of(instance)
    slots = _slots(params, facts)
    traits = TRAITS.get(instance.disk_template)
    is_shared = traits is not None and traits.is_mirrored
    return (
        facts.qemu.path,
        *("-name", f"guest={escaped(instance.name)},debug-threads=on"),
        *("-uuid", instance.uuid),
        *("-nodefaults", "-no-user-config"),
        *("-daemonize", "-pidfile", files.pid),
        *_machine(params, instance, facts),
        *_sockets(params, files),
        *_boot(params),
        *display_arguments(params, instance.name, instance.network_port),
        *("-device", "virtio-balloon-pci,id=balloon0"),
        *disk_arguments(params, disks, facts, is_shared=is_shared, slots=slots),
        *removable_arguments(params, facts, disks=len(disks)),
        *nic_arguments(params, instance.nics, taps, facts, slots),
        *(("-incoming", "defer") if is_incoming else ("-S",)),
        *shlex.split(params.kvm_extra),
    )


def _machine(params: KvmParams, instance: FilledInstance, facts: KvmFacts) -> Iterator[str]:
    yield from ("-machine", facts.machine + ("" if params.acpi else ",acpi=off"))
    # Other threads of a host with many guests need memory more than translated code does.
    yield from ("-accel", "kvm" if facts.accelerator == "kvm" else "tcg,tb-size=128")
    if params.cpu_type:
        emulated_host = params.cpu_type == "host" and facts.accelerator != "kvm"
        yield from ("-cpu", "max" if emulated_host else params.cpu_type)
    topology = (
        ("sockets", params.cpu_sockets),
        ("cores", params.cpu_cores),
        ("threads", params.cpu_threads),
    )
    given = "".join(f",{name}={value}" for name, value in topology if value)
    yield from ("-smp", f"cpus={instance.beparams.vcpus}{given}")
    yield from ("-m", f"size={instance.beparams.maxmem}")
    if params.mem_path:
        yield from ("-mem-path", params.mem_path, "-mem-prealloc")
    yield from ("-rtc", f"base={'localtime' if params.use_localtime else 'utc'}")
    if params.reboot_behavior == "exit":
        yield "-no-reboot"
    if params.user_shutdown:
        yield "-no-shutdown"


def _sockets(params: KvmParams, files: InstanceFiles) -> Iterator[str]:
    name = escaped(files.name)
    yield from ("-qmp", f"unix:{name}.qmp,server=on,wait=off")
    yield from ("-monitor", f"unix:{name}.monitor,server=on,wait=off")
    if params.serial_console:
        log = escaped(files.console_log)
        yield from ("-chardev", f"socket,id=serial0,path={name}.serial,server=on,wait=off,logfile={log}")
        yield from ("-serial", "chardev:serial0")
    if params.use_guest_agent:
        yield from ("-device", "virtio-serial-pci,id=vserial0")
        yield from ("-chardev", f"socket,id=qga0,path={name}.qga,server=on,wait=off")
        yield from ("-device", "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0")


def _boot(params: KvmParams) -> Iterator[str]:
    if not params.kernel_path:
        # Disks, CDs and interfaces carry their own place in the order.
        if params.boot_order == "floppy":
            yield from ("-boot", "order=a")
        return
    yield from ("-kernel", params.kernel_path)
    if params.initrd_path:
        yield from ("-initrd", params.initrd_path)
    arguments = [f"root={params.root_path}"] if params.root_path else []
    arguments += [params.kernel_args] if params.kernel_args else []
    if params.serial_console:
        arguments.append(f"console=ttyS0,{params.serial_speed}")
    if arguments:
        yield from ("-append", " ".join(arguments))


def _slots(params: KvmParams, facts: KvmFacts) -> Iterator[str]:
    """PCI places beyond those left to QEMU, so that a device keeps its place when others come and go."""
    if params.kvm_pci_reservations == 0:
        return
    bus = "pcie.0" if "q35" in facts.machine else "pci.0"
    for slot in range(params.kvm_pci_reservations, _LAST_SLOT + 1):
        yield f",bus={bus},addr={slot:#x}"

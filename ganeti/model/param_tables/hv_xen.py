"""Parameters of Xen, with full virtualisation (xen-hvm) and paravirtualised (xen-pvm)."""

from __future__ import annotations

from ganeti.model.param_tables.rows import (
    absolute_path,
    absolute_path_or_empty,
    bind_address_or_empty,
    choice,
    cpu_mask,
    flag,
    image_or_empty,
    matches,
    maybe_text,
    number,
    text,
)
from ganeti.model.params import ParamSpec, ParamTable

_COMMON: tuple[ParamSpec, ...] = (
    number("cpu_cap", 0, "processor time it may use at most, percent of one; 0: no limit", at_least=0),
    text("cpu_mask", "all", "processors it may run on: all, 0-2,4, or one list per VCPU", cpu_mask),
    number("cpu_weight", 256, "share of processor time", at_least=1, at_most=65535),
    text("cpuid", "", "processor features shown to it"),
    number("migration_port", 8002, "TCP port of migrations", at_least=1, at_most=65535, is_global=True),
    choice("reboot_behavior", "reboot", "what a reboot from within does", ("reboot", "exit")),
    text("soundhw", "", "sound cards"),
    text("vif_script", "", "script that sets up its network interfaces", absolute_path_or_empty),
)

XEN_HVM = ParamTable(
    "hypervisor xen-hvm",
    (
        *_COMMON,
        flag("acpi", True, "ACPI"),
        text("blockdev_prefix", "hd", "first letters of its disks' device names"),
        text(
            "boot_order",
            "cd",
            "devices it boots from: a floppy, c disk, d CD, n network",
            matches(r"[acdn]+", "made of the letters a, c, d and n"),
        ),
        text("cdrom_image_path", "", "image of the CD, a file or an address", image_or_empty),
        text("device_model", "/usr/lib/xen/bin/qemu-dm", "program that emulates devices", absolute_path),
        choice("disk_type", "paravirtual", "kind of disks", ("ioemu", "paravirtual")),
        text("kernel_path", "/usr/lib/xen/boot/hvmloader", "boot loader of the machine", absolute_path),
        choice("migration_mode", "non-live", "how it is migrated", ("live", "non-live"), is_global=True),
        choice(
            "nic_type",
            "rtl8139",
            "kind of network interfaces",
            ("e1000", "ne2k_isa", "ne2k_pci", "paravirtual", "rtl8139"),
        ),
        flag("pae", True, "PAE"),
        text("pci_pass", "", "PCI devices passed through, joined with semicolons"),
        flag("use_localtime", False, "its clock shows local time"),
        choice("vif_type", "ioemu", "kind of virtual interface", ("ioemu", "vif")),
        flag("viridian", False, "Hyper-V extensions"),
        text("vnc_bind_address", "0.0.0.0", "address on which VNC listens", bind_address_or_empty),
        text(
            "vnc_password_file",
            "/etc/ganeti/vnc-cluster-password",
            "file with the VNC password",
            absolute_path_or_empty,
        ),
    ),
)

XEN_PVM = ParamTable(
    "hypervisor xen-pvm",
    (
        *_COMMON,
        text("blockdev_prefix", "sd", "first letters of its disks' device names"),
        text("bootloader_args", "", "arguments of the boot loader"),
        text("bootloader_path", "", "boot loader that finds its kernel", absolute_path_or_empty),
        text("initrd_path", "", "initial RAM disk", absolute_path_or_empty),
        text("kernel_args", "ro", "command line of the kernel"),
        text("kernel_path", "/boot/vmlinuz-3-xenU", "kernel file on the node", absolute_path_or_empty),
        choice("migration_mode", "live", "how it is migrated", ("live", "non-live"), is_global=True),
        maybe_text("root_path", "/dev/xvda1", "root device told to the kernel"),
        flag("use_bootloader", False, "use the boot loader instead of a kernel of the node"),
    ),
)

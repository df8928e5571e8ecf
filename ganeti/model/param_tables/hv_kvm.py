"""Parameters of KVM."""

from __future__ import annotations

from ganeti.model.param_tables.rows import (
    absolute_path,
    absolute_path_or_empty,
    bind_address_or_empty,
    choice,
    cpu_mask,
    flag,
    image_or_empty,
    maybe_text,
    number,
    one_of_numbers,
    text,
)
from ganeti.model.params import ParamSpec, ParamTable

DISK_TYPES = (
    "ide", "mtd", "paravirtual", "pflash", "scsi", "scsi-block", "scsi-cd", "scsi-generic", "scsi-hd", "sd",
)  # fmt: skip
NIC_TYPES = (
    "e1000", "i82551", "i82557b", "i82559er", "ne2k_isa", "ne2k_pci", "paravirtual", "pcnet", "rtl8139",
)  # fmt: skip
SERIAL_SPEEDS = (
    75, 110, 300, 600, 1200, 1800, 2400, 4800, 9600, 14400, 19200, 28800, 38400, 57600, 115200, 230400,
    345600, 460800,
)  # fmt: skip
_WAN_COMPRESSION = ("", "always", "auto", "never")

_MACHINE: tuple[ParamSpec, ...] = (
    flag("acpi", True, "ACPI"),
    choice("boot_order", "disk", "what it boots from", ("cdrom", "disk", "floppy", "network")),
    number("cpu_cores", 0, "cores per socket; 0: QEMU decides", at_least=0),
    text("cpu_mask", "all", "processors it may run on: all, 0-2,4, or one list per VCPU", cpu_mask),
    number("cpu_sockets", 0, "sockets; 0: QEMU decides", at_least=0),
    number("cpu_threads", 0, "threads per core; 0: QEMU decides", at_least=0),
    text("cpu_type", "", "processor model, with features; empty: QEMU's own"),
    text("initrd_path", "", "initial RAM disk for a kernel of the node", absolute_path_or_empty),
    text("kernel_args", "ro", "command line for a kernel of the node"),
    text(
        "kernel_path",
        "/boot/vmlinuz-3-kvmU",
        "kernel file on the node; empty: boot from its own disk",
        absolute_path_or_empty,
    ),
    text("keymap", "", "keyboard layout of the VNC display"),
    text("kvm_extra", "", "further arguments of QEMU"),
    choice("kvm_flag", "", "processor support; empty: QEMU decides", ("", "disabled", "enabled")),
    text("kvm_path", "/usr/bin/kvm", "QEMU program", absolute_path),
    number("kvm_pci_reservations", 12, "PCI slots kept free for hot-plugging", at_least=0, at_most=32),
    text("machine_version", "", "machine type; empty: QEMU's own"),
    text("mem_path", "", "directory where huge pages are mounted", absolute_path_or_empty),
    choice("reboot_behavior", "reboot", "what a reboot from within does", ("reboot", "exit")),
    maybe_text("root_path", "/dev/vda1", "root device told to a kernel of the node"),
    flag("serial_console", True, "a serial console"),
    one_of_numbers("serial_speed", 38400, "speed of the serial console, bit/s", SERIAL_SPEEDS),
    text("soundhw", "", "sound cards"),
    text("usb_devices", "", "USB devices, joined with commas or spaces"),
    choice("usb_mouse", "", "pointing device on USB", ("", "mouse", "tablet")),
    flag("use_guest_agent", False, "a channel to the guest agent"),
    flag("use_localtime", False, "its clock shows local time"),
    flag("user_shutdown", False, "notice when the guest shuts itself down"),
    text("vga", "", "display adapter; empty: QEMU's own"),
)

_DISKS: tuple[ParamSpec, ...] = (
    text("cdrom2_image_path", "", "image of the second CD, a file or an address", image_or_empty),
    choice("cdrom_disk_type", "", "bus of the CDs; empty: as the disks", ("", *DISK_TYPES)),
    text("cdrom_image_path", "", "image of the CD, a file or an address", image_or_empty),
    choice("disk_aio", "threads", "how disks are read and written", ("threads", "native", "io_uring")),
    choice("disk_cache", "default", "caching of the disks", ("default", "none", "writethrough", "writeback")),
    choice("disk_discard", "ignore", "whether freed blocks are given back", ("ignore", "unmap")),
    choice("disk_type", "paravirtual", "kind of disks", DISK_TYPES),
    text("floppy_image_path", "", "image of the floppy", absolute_path_or_empty),
    choice(
        "scsi_controller_type",
        "lsi",
        "SCSI controller",
        ("lsi", "virtio-scsi-pci", "megasas", "dc390"),
    ),
)

_NETWORK: tuple[ParamSpec, ...] = (
    choice("nic_type", "paravirtual", "kind of network interfaces", NIC_TYPES),
    flag("vhost_net", True, "let the node's kernel move packets"),
    number("virtio_net_queues", 1, "queues of a paravirtual interface", at_least=1, at_most=32),
    flag("vnet_hdr", True, "leave checksums to the node"),
)

_MIGRATION: tuple[ParamSpec, ...] = (
    number("migration_bandwidth", 32, "rate of migrations at most, MiB/s", at_least=1, is_global=True),
    text("migration_caps", "", "migration capabilities switched on, joined with colons"),
    number("migration_downtime", 30, "pause at the end of a migration at most, ms", at_least=1),
    choice("migration_mode", "live", "how it is migrated", ("live", "non-live"), is_global=True),
    number("migration_port", 8102, "TCP port of migrations", at_least=1, at_most=65535, is_global=True),
)

_SECURITY: tuple[ParamSpec, ...] = (
    text("security_domain", "", "user that runs QEMU, for the security model user"),
    choice("security_model", "none", "as whom QEMU runs: root, one user, one of the pool", (
        "none", "user", "pool",
    )),
    flag("use_chroot", False, "run QEMU in an empty directory"),
)  # fmt: skip

_DISPLAY: tuple[ParamSpec, ...] = (
    text("spice_bind", "", "address or network device on which SPICE listens; empty: no SPICE"),
    choice(
        "spice_image_compression",
        "",
        "compression of images",
        ("", "auto_glz", "auto_lz", "glz", "lz", "off", "quic"),
    ),
    one_of_numbers("spice_ip_version", 0, "IP version where a device is given; 0: any", (0, 4, 6)),
    choice("spice_jpeg_wan_compression", "", "JPEG on slow links", _WAN_COMPRESSION),
    text("spice_password_file", "", "file with the SPICE password", absolute_path_or_empty),
    flag("spice_playback_compression", True, "compression of sound"),
    choice("spice_streaming_video", "", "finding of video streams", ("", "all", "filter", "off")),
    text("spice_tls_ciphers", "HIGH:-DES:-3DES:-EXPORT:-DH", "ciphers of SPICE"),
    flag("spice_use_tls", False, "TLS on SPICE"),
    flag("spice_use_vdagent", True, "a channel to the SPICE agent"),
    choice("spice_zlib_glz_wan_compression", "", "zlib on slow links", _WAN_COMPRESSION),
    text(
        "vnc_bind_address",
        "",
        "address on which VNC listens, or directory for its socket; empty: no VNC",
        bind_address_or_empty,
    ),
    text("vnc_password_file", "", "file with the VNC password", absolute_path_or_empty),
    flag("vnc_tls", False, "TLS on VNC"),
    text("vnc_x509_path", "", "directory with the certificates of VNC", absolute_path_or_empty),
    flag("vnc_x509_verify", False, "VNC clients must show a certificate"),
)

KVM = ParamTable(
    "hypervisor kvm",
    sorted((*_MACHINE, *_DISKS, *_NETWORK, *_MIGRATION, *_SECURITY, *_DISPLAY), key=lambda row: row.name),
)

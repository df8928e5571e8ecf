"""Parameters of a KVM instance as a typed value, and which of them contradict each other. Pure."""

from __future__ import annotations

import msgspec

from ganeti.errors import HypervisorError
from ganeti.model.filled import FilledInstance
from ganeti.model.param_tables.hv import HYPERVISORS
from ganeti.model.params import ParamValues

TABLE = HYPERVISORS["kvm"]


class KvmParams(msgspec.Struct, frozen=True, kw_only=True):
    """Every parameter of objects.md section 12, filled; the table documents them."""

    acpi: bool
    boot_order: str
    cdrom2_image_path: str
    cdrom_disk_type: str
    cdrom_image_path: str
    cpu_cores: int
    cpu_mask: str
    cpu_sockets: int
    cpu_threads: int
    cpu_type: str
    disk_aio: str
    disk_cache: str
    disk_discard: str
    disk_type: str
    floppy_image_path: str
    initrd_path: str
    kernel_args: str
    kernel_path: str
    keymap: str
    kvm_extra: str
    kvm_flag: str
    kvm_path: str
    kvm_pci_reservations: int
    machine_version: str
    mem_path: str
    migration_bandwidth: int
    migration_caps: str
    migration_downtime: int
    migration_port: int
    nic_type: str
    reboot_behavior: str
    root_path: str | None
    scsi_controller_type: str
    security_domain: str
    security_model: str
    serial_console: bool
    serial_speed: int
    soundhw: str
    spice_bind: str
    usb_devices: str
    usb_mouse: str
    use_chroot: bool
    use_guest_agent: bool
    use_localtime: bool
    user_shutdown: bool
    vga: str
    vhost_net: bool
    virtio_net_queues: int
    vnc_bind_address: str
    vnc_password_file: str
    vnc_tls: bool
    vnc_x509_path: str
    vnc_x509_verify: bool
    vnet_hdr: bool

    @property
    def vnc_is_socket(self) -> bool:
        """Whether the display is a socket in a directory, not a port."""
        return self.vnc_bind_address.startswith("/")

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Migration capabilities switched on by the administrator."""
        return tuple(name for name in self.migration_caps.split(":") if name)


def kvm_params(hvparams: ParamValues, hvglobals: ParamValues | None = None) -> KvmParams:
    """The typed parameters; what is not given has its built-in default."""
    return msgspec.convert(TABLE.fill(hvparams, hvglobals or {}, with_globals=True), KvmParams)


def params_of(instance: FilledInstance) -> KvmParams:
    """The typed parameters of an instance."""
    return kvm_params(instance.hvparams, instance.hvglobals)


def check(params: KvmParams) -> None:
    """Refuse what contradicts itself or is not supported.

    Raises:
        HypervisorError: with the first contradiction.
    """
    for is_wrong, text in _contradictions(params):
        if is_wrong:
            raise HypervisorError(text)


def _contradictions(params: KvmParams) -> tuple[tuple[bool, str], ...]:
    vnc = bool(params.vnc_bind_address)
    return (
        (
            params.security_model != "none" or bool(params.security_domain),
            f"security_model {params.security_model} is not supported yet; set security_model=none and leave"
            " security_domain empty",
        ),
        (params.use_chroot, "use_chroot is not supported yet; set use_chroot=false"),
        (bool(params.spice_bind), "SPICE is not supported yet; leave spice_bind empty and use VNC"),
        (
            bool(params.initrd_path) and not params.kernel_path,
            "initrd_path needs kernel_path; without a kernel the instance boots from its own disk",
        ),
        (
            params.disk_aio == "native" and params.disk_cache != "none",
            "disk_aio=native needs disk_cache=none",
        ),
        (
            params.boot_order == "cdrom" and not params.cdrom_image_path,
            "boot_order=cdrom needs cdrom_image_path",
        ),
        (
            params.boot_order == "floppy" and not params.floppy_image_path,
            "boot_order=floppy needs floppy_image_path",
        ),
        (
            bool(params.cdrom2_image_path) and not params.cdrom_image_path,
            "cdrom2_image_path needs cdrom_image_path",
        ),
        (
            (params.vnc_tls or bool(params.vnc_password_file)) and not vnc,
            "vnc_tls and vnc_password_file need vnc_bind_address",
        ),
        (
            bool(params.vnc_x509_path) and not params.vnc_tls,
            "vnc_x509_path needs vnc_tls=true",
        ),
        (
            params.vnc_x509_verify and not params.vnc_x509_path,
            "vnc_x509_verify needs vnc_x509_path, the directory with the certificates",
        ),
        (
            params.virtio_net_queues > 1 and params.nic_type != "paravirtual",
            "virtio_net_queues needs nic_type=paravirtual",
        ),
    )

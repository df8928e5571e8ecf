"""What the parameters of an instance need of the node it is to run on."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ganeti.hypervisors.kvm.facts import QemuFacts
from ganeti.hypervisors.kvm.params import KvmParams


def missing_on_node(params: KvmParams, qemu: QemuFacts) -> Iterator[str]:
    """What this node lacks, most important first."""
    for name, path in _needed_files(params):
        if path.startswith("/") and not os.path.isfile(path):
            yield f"{name} {path} is not there; copy it to the node or change {name}"
    for name, path in (("mem_path", params.mem_path), ("vnc_x509_path", params.vnc_x509_path)):
        if path and not os.path.isdir(path):
            yield f"{name} {path} is no directory; create it or change {name}"
    machine = params.machine_version.partition(",")[0]
    if machine and machine not in qemu.machines:
        yield f"QEMU knows no machine type {machine!r}; '{qemu.path} -machine help' lists them"
    if params.disk_aio == "io_uring" and qemu.version < (5, 0, 0):
        yield "disk_aio=io_uring needs QEMU 5.0; use threads"


def _needed_files(params: KvmParams) -> tuple[tuple[str, str], ...]:
    return (
        ("kernel_path", params.kernel_path),
        ("initrd_path", params.initrd_path),
        ("cdrom_image_path", params.cdrom_image_path),
        ("cdrom2_image_path", params.cdrom2_image_path),
        ("floppy_image_path", params.floppy_image_path),
        ("vnc_password_file", params.vnc_password_file),
    )

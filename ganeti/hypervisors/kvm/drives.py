"""Arguments of QEMU for disks, CDs and the floppy. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ganeti.errors import HypervisorError
from ganeti.hypervisors.kvm.facts import DiskFacts, KvmFacts
from ganeti.hypervisors.kvm.params import KvmParams
from ganeti.model.calls.disks import OpenDisk

_LEGACY = {"sd", "mtd", "pflash"}
"""Disk types that have no device of their own: the board has a place for them."""
_SCSI_DEVICES = {
    "scsi": "scsi-hd",
    "scsi-hd": "scsi-hd",
    "scsi-cd": "scsi-cd",
    "scsi-block": "scsi-block",
    "scsi-generic": "scsi-generic",
}
_PASSTHROUGH = {"scsi-block", "scsi-generic"}


def escaped(value: str) -> str:
    """A value inside a comma separated argument."""
    return value.replace(",", ",,")


def disk_arguments(
    params: KvmParams,
    disks: Sequence[OpenDisk],
    facts: KvmFacts,
    *,
    is_shared: bool,
    slots: Iterator[str],
) -> Iterator[str]:
    """Arguments for the disks of an instance and for their controller.

    Args:
        params: of the instance.
        disks: in order.
        facts: of the node, with one entry for each disk.
        is_shared: another node can reach the data: then the page cache is passed by, because after a
            migration it would show what the other node has overwritten since.
        slots: PCI places of paravirtual disks, as options of the device.
    """
    if (disks and params.disk_type in _SCSI_DEVICES) or _cd_type(params) == "scsi-cd":
        yield from ("-device", f"{params.scsi_controller_type},id=scsi")
    if params.disk_type == "ide":
        slots = _ide_places(facts, first=0)
    for index, disk in enumerate(disks):
        found = facts.disks[index] if index < len(facts.disks) else DiskFacts()
        yield from _disk(params, index, disk, found, is_shared=is_shared, slots=slots)


def _disk(
    params: KvmParams, index: int, disk: OpenDisk, facts: DiskFacts, *, is_shared: bool, slots: Iterator[str]
) -> Iterator[str]:
    node = f"disk{index}"
    is_direct = (is_shared or params.disk_cache == "none") and facts.has_direct_io
    if params.disk_type in _LEGACY:
        yield from ("-drive", _legacy(params, disk, is_direct=is_direct))
        return
    path = disk.link or disk.path
    if path is None or (disk.uri is not None and disk.path is None):
        yield from ("-drive", _remote(params, node, disk, is_direct=is_direct))
    else:
        yield from ("-blockdev", _local(params, node, path, disk, facts, is_direct=is_direct))
    device = _device(params, index, slots)
    if params.disk_cache == "writethrough" and params.disk_type not in _PASSTHROUGH:
        device += ",write-cache=off"
    if params.boot_order == "disk" and not params.kernel_path:
        device += f",bootindex={index + 1}"
    yield from ("-device", f"{device},drive={node},id=hdd{index}")


def _device(params: KvmParams, index: int, slots: Iterator[str]) -> str:
    match params.disk_type:
        case "paravirtual":
            return f"virtio-blk-pci{next(slots, '')}"
        case "ide":
            return f"ide-hd{next(slots, '')}"
    return f"{_SCSI_DEVICES[params.disk_type]},bus=scsi.0,scsi-id={index}"


def _local(
    params: KvmParams, node: str, path: str, disk: OpenDisk, facts: DiskFacts, *, is_direct: bool
) -> str:
    if params.disk_aio == "native" and not is_direct:
        raise HypervisorError(f"disk_aio=native does not work for {path}: its file system has no direct I/O")
    cache = {"direct": is_direct, "no-flush": False}
    read_only = disk.mode == "ro"
    value: dict[str, Any] = {
        "driver": disk.format,
        "node-name": node,
        "read-only": read_only,
        "discard": params.disk_discard,
        "cache": cache,
        "file": {
            "driver": "host_device" if facts.is_block_device else "file",
            "filename": path,
            "aio": params.disk_aio,
            "read-only": read_only,
            "discard": params.disk_discard,
            "cache": cache,
        },
    }
    return msgspec.json.encode(value).decode()


def _remote(params: KvmParams, node: str, disk: OpenDisk, *, is_direct: bool) -> str:
    if disk.uri is None:
        raise HypervisorError(f"{node} has neither a path nor an address on this node; activate the disks")
    return (
        f"file={escaped(disk.uri)},format={disk.format},if=none,id={node},discard={params.disk_discard},"
        f"{_cache(params, is_direct=is_direct)}{_read_only(disk)}"
    )


def _legacy(params: KvmParams, disk: OpenDisk, *, is_direct: bool) -> str:
    source = disk.link or disk.path or disk.uri
    if source is None:
        raise HypervisorError("a disk has neither a path nor an address on this node; activate the disks")
    return (
        f"file={escaped(source)},format={disk.format},if={params.disk_type},"
        f"{_cache(params, is_direct=is_direct)}{_read_only(disk)}"
    )


def _cache(params: KvmParams, *, is_direct: bool) -> str:
    write = "off" if params.disk_cache == "writethrough" else "on"
    return f"cache.direct={'on' if is_direct else 'off'},cache.writeback={write}"


def _read_only(disk: OpenDisk) -> str:
    return ",readonly=on" if disk.mode == "ro" else ""


def _cd_type(params: KvmParams) -> str:
    wanted = params.cdrom_disk_type or params.disk_type
    if not params.cdrom_image_path:
        return ""
    return "scsi-cd" if wanted in _SCSI_DEVICES else "ide-cd"


def _ide_places(facts: KvmFacts, *, first: int) -> Iterator[str]:
    """Ports of the controller of q35, which has one device each; elsewhere QEMU finds the place."""
    return (f",bus=ide.{port}" for port in range(first, 6)) if "q35" in facts.machine else iter(())


def removable_arguments(params: KvmParams, facts: KvmFacts, *, disks: int) -> Iterator[str]:
    """Arguments for the CDs and the floppy.

    Args:
        params: of the instance.
        facts: of the node.
        disks: number of disks, which come first where CDs are on the same bus.
    """
    device = _cd_type(params)
    ports = _ide_places(facts, first=disks if params.disk_type == "ide" else 0)
    for index, image in enumerate(filter(None, (params.cdrom_image_path, params.cdrom2_image_path))):
        yield from (
            "-drive",
            f"file={escaped(image)},format=raw,if=none,media=cdrom,readonly=on,id=cd{index}",
        )
        # Disks are numbered from below; QEMU finds a free number for a CD.
        place = ",bus=scsi.0" if device == "scsi-cd" else next(ports, "")
        boot = ",bootindex=1" if params.boot_order == "cdrom" and index == 0 else ""
        yield from ("-device", f"{device}{place},drive=cd{index},id=cdrom{index}{boot}")
    if params.floppy_image_path:
        yield from ("-drive", f"file={escaped(params.floppy_image_path)},format=raw,if=floppy,readonly=on")

"""Identity of disks that are files: which driver and path, and how new ones are named. Pure."""

from __future__ import annotations

import os
import re

import msgspec
from msgspec.structs import replace

from ganeti.errors import BlockDeviceError, ErrorCode, PrereqError
from ganeti.model.disk import Disk
from ganeti.model.ids import DiskId, NodeId
from ganeti.model.params import ParamValues
from ganeti.model.spec import DiskSpec, Reservations
from ganeti.storage.qcow2 import DRIVER as QCOW2

FILE_DRIVERS = ("loop", "blktap", "blktap2", QCOW2)
"""Values of `file_driver`; only the last says anything about the format, the others are raw."""

_LAID_OUT = re.compile(r"^[0-9a-f-]{36}\.[a-z]+\.disk\d+\Z")


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """File that holds a disk."""

    driver: str
    path: str

    @property
    def format(self) -> str:
        """raw or qcow2"""
        return "qcow2" if self.driver == QCOW2 else "raw"

    @property
    def directory(self) -> str:
        """Directory of the file."""
        return os.path.dirname(self.path)

    @property
    def has_own_directory(self) -> bool:
        """Whether the file was named by `lay_out`, which gives each instance its directory."""
        return _LAID_OUT.match(os.path.basename(self.path)) is not None


def image_of(disk: Disk) -> Image:
    """The file of a disk.

    Raises:
        BlockDeviceError: the identity is not that of a file.
    """
    match disk.logical_id:
        case (str() as driver, str() as path) if driver in FILE_DRIVERS and os.path.isabs(path):
            return Image(driver=driver, path=path)
    raise BlockDeviceError(f"disk {disk.uuid} has the identity {list(disk.logical_id)}, which is not a file")


def lay_out(
    template: str,
    spec: DiskSpec,
    primary: NodeId,
    reservations: Reservations,
    params: ParamValues,
) -> Disk:
    """A new disk in the instance's directory below the cluster's directory for this template.

    Raises:
        PrereqError: the template cannot do what is asked.
    """
    check_spec(template, spec)
    storage_dir = reservations.storage_dirs.get(template)
    if storage_dir is None:
        raise PrereqError(
            f"this cluster has no directory for {template} disks; set it with gnt-cluster modify",
            code=ErrorCode.STATE,
        )
    uuid = DiskId(reservations.new_uuid())
    parts = (storage_dir, *_sub_directory(spec), reservations.instance_name)
    path = os.path.join(*parts, f"{uuid}.{template}.disk{spec.index}")
    return Disk(
        uuid=uuid,
        dev_type=template,
        logical_id=(spec.file_driver, path),
        size=spec.size,
        mode=spec.mode,
        iv_name=f"disk/{spec.index}",
        name=spec.name,
        nodes=(primary,),
        spindles=spec.spindles,
        params=params or None,
    )


def with_other_name(disk: Disk, node: NodeId, uuid: str) -> Disk:
    """The same disk on another node, in a file that is named after `uuid`; driver and directory stay.

    Raises:
        BlockDeviceError: the identity is not that of a file.
    """
    image = image_of(disk)
    index = disk.iv_name.rpartition("/")[2] or "0"
    path = os.path.join(image.directory, f"{uuid}.{disk.dev_type}.disk{index}")
    return replace(disk, logical_id=(image.driver, path), nodes=(node,))


def check_spec(template: str, spec: DiskSpec) -> None:
    """Refuse what disks that are files cannot have.

    Raises:
        PrereqError: with the parameter.
    """
    for parameter in ("adopt", "provider", "vg", "metavg", "access"):
        if getattr(spec, parameter) is not None:
            raise PrereqError(f"disk {spec.index}: disks of template {template} have no {parameter!r}")
    if spec.size < 1:
        raise PrereqError(f"disk {spec.index}: a size of {spec.size} MiB is not possible; at least 1 MiB")
    if spec.file_driver not in FILE_DRIVERS:
        known = ", ".join(FILE_DRIVERS)
        raise PrereqError(f"disk {spec.index}: file driver {spec.file_driver!r} is not one of {known}")


def _sub_directory(spec: DiskSpec) -> tuple[str, ...]:
    wanted = spec.file_storage_dir
    if wanted is None:
        return ()
    if os.path.isabs(wanted) or os.path.normpath(wanted) != wanted or wanted.startswith(("..", ".")):
        raise PrereqError(
            f"disk {spec.index}: the directory {wanted!r} must be a plain name below the cluster's"
            " storage directory"
        )
    return (wanted,)

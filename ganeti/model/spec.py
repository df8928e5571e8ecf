"""What was asked for when disks and network interfaces are to be made, checked and typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from ganeti.model.params import ParamValue


class DiskSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A disk to be created."""

    index: int
    size: int
    """MiB"""
    mode: str = "rw"
    name: str | None = None
    vg: str | None = None
    metavg: str | None = None
    adopt: str | None = None
    provider: str | None = None
    spindles: int | None = None
    access: str | None = None
    file_driver: str = "loop"
    """Driver of file based templates; `qcow2` makes the image of that format, all others raw."""
    file_storage_dir: str | None = None
    """Sub-directory of the cluster's storage directory."""
    params: Mapping[str, ParamValue] = {}


class NicSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface to be created; None: inherit or generate."""

    mac: str | None = None
    ip: str | None = None
    mode: str | None = None
    link: str | None = None
    vlan: str | None = None
    network: str | None = None
    name: str | None = None


class Reservations(msgspec.Struct, frozen=True, kw_only=True):
    """Fresh identities for things that are being laid out, and the places to put them."""

    instance_uuid: str
    instance_name: str
    new_uuid: Callable[[], str]
    new_port: Callable[[], int]
    """A TCP port that is unique in the cluster."""
    new_secret: Callable[[], str]
    new_minor: Callable[[str], int]
    """A DRBD minor that is unused on the node with this UUID."""
    storage_dirs: Mapping[str, str] = {}
    """Template to the cluster's directory for it."""
    vg_name: str | None = None

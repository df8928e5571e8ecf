"""Instances and their network interfaces."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ganeti.model.ids import DiskId, InstanceId, NetworkId, NodeId
from ganeti.model.params import ParamValues


class AdminState(StrEnum):
    """What the administrator wants of an instance."""

    UP = "up"
    DOWN = "down"
    OFFLINE = "offline"


class AdminSource(StrEnum):
    """Who asked for the state."""

    ADMIN = "admin"
    USER = "user"


class Nic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network interface; `nicparams` holds only what differs from the cluster's defaults."""

    uuid: str
    mac: str
    ip: str | None = None
    network: NetworkId | None = None
    name: str | None = None
    nicparams: ParamValues = {}


class Instance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A virtual machine; parameters hold only what differs from the cluster's defaults."""

    uuid: InstanceId
    name: str
    primary_node: NodeId
    os: str = ""
    """Name of the OS definition, with `+variant` where one was chosen."""
    hypervisor: str
    hvparams: ParamValues = {}
    beparams: ParamValues = {}
    osparams: ParamValues = {}
    osparams_private: ParamValues = {}
    admin_state: AdminState = AdminState.DOWN
    admin_state_source: AdminSource = AdminSource.ADMIN
    nics: tuple[Nic, ...] = ()
    disks: tuple[DiskId, ...] = ()
    disks_active: bool = False
    network_port: int | None = None
    forthcoming: bool = False
    tags: tuple[str, ...] = ()
    serial_no: int = 1
    ctime: float = 0.0
    mtime: float = 0.0

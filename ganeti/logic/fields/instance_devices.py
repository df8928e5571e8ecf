"""Query fields of the disks and network interfaces of instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ganeti.logic.fields.base import UNAVAILABLE, Field, FieldKind, present
from ganeti.model.disk import Disk
from ganeti.model.filled import FilledNic, fill_nic
from ganeti.model.instance import Instance

MAX_DISKS = 16
MAX_NICS = 8

_TEXT, _NUMBER, _UNIT, _OTHER = FieldKind.TEXT, FieldKind.NUMBER, FieldKind.UNIT, FieldKind.OTHER

_DISK = (
    ("size", "Size", _UNIT, "size", lambda disk: disk.size),
    ("spindles", "Spindles", _NUMBER, "spindles", lambda disk: disk.spindles),
    ("name", "Name", _TEXT, "name", lambda disk: disk.name),
    ("uuid", "UUID", _TEXT, "UUID", lambda disk: disk.uuid),
)


def _only(mode: str, value: str) -> Callable[[FilledNic], str | None]:
    return lambda nic: getattr(nic, value) if nic.mode == mode else None


_NIC: tuple[tuple[str, str, str, str, Callable[[FilledNic], Any]], ...] = (
    ("ip", "ips", "IP", "IP address", lambda nic: nic.ip),
    ("mac", "macs", "MAC", "MAC address", lambda nic: nic.mac),
    ("name", "names", "Name", "name", lambda nic: nic.name),
    ("uuid", "uuids", "UUID", "UUID", lambda nic: nic.uuid),
    ("mode", "modes", "Mode", "mode", lambda nic: nic.mode),
    ("link", "links", "Link", "link", lambda nic: nic.link),
    ("vlan", "vlans", "VLAN", "VLAN", _only("openvswitch", "vlan")),
    ("bridge", "bridges", "Bridge", "bridge", _only("bridged", "link")),
    ("network", "networks", "Network", "network UUID", lambda nic: nic.network),
    ("network.name", "networks.names", "NetworkName", "network", lambda nic: nic.network_facts.get("name")),
)
_NIC_LIST_TITLES = {"networks.names": "NIC_networks_names", "names": "NIC_Names"}

_ALIASES = (
    ("sda_size", "disk.size/0"),
    ("sdb_size", "disk.size/1"),
    ("ip", "nic.ip/0"),
    ("mac", "nic.mac/0"),
    ("bridge", "nic.bridge/0"),
    ("nic_mode", "nic.mode/0"),
    ("nic_link", "nic.link/0"),
    ("nic_network", "nic.network/0"),
)


def device_fields() -> list[Field[Any, Any]]:
    """Counts, lists and the fields of each index, with the old names of some."""
    rows = [*_disk_fields(), *_nic_fields()]
    by_name = {row.name: row for row in rows}
    for alias, name in _ALIASES:
        row = by_name[name]
        rows.append(Field(name=alias, title=row.title, kind=row.kind, doc=row.doc, get=row.get))
    return rows


def _disk_fields() -> list[Field[Any, Any]]:
    rows: list[Field[Any, Any]] = [
        Field(
            name="disk.count",
            title="Disks",
            kind=_NUMBER,
            doc="Number of disks",
            get=lambda i, w: len(i.disks),
        ),
    ]
    for name, title, kind, doc, value in _DISK:
        plural = name if name.endswith("s") else name + "s"
        rows.append(
            Field(
                name=f"disk.{plural}",
                title=f"Disk_{plural}" if name != "uuid" else "Disk_UUIDs",
                kind=_OTHER,
                doc=f"List of disk {doc} values",
                get=_disk_list(value),
            )
        )
        rows += [
            Field(
                name=f"disk.{name}/{index}",
                title=f"Disk{'' if name == 'size' else title}/{index}",
                kind=kind,
                doc=f"Disk {doc} of disk {index}",
                get=_disk_value(index, value),
            )
            for index in range(MAX_DISKS)
        ]
    return rows


def _disk_list(value: Callable[[Disk], Any]) -> Callable[[Instance, Any], Any]:
    return lambda i, w: [value(disk) for disk in w.cluster.disks_of(i)]


def _disk_value(index: int, value: Callable[[Disk], Any]) -> Callable[[Instance, Any], Any]:
    def get(instance: Instance, world: Any) -> Any:
        if index >= len(instance.disks):
            return UNAVAILABLE
        return present(value(world.cluster.disks[instance.disks[index]]))

    return get


def _nic_fields() -> list[Field[Any, Any]]:
    rows: list[Field[Any, Any]] = [
        Field(
            name="nic.count",
            title="NICs",
            kind=_NUMBER,
            doc="Number of network interfaces",
            get=lambda i, w: len(i.nics),
        ),
    ]
    for name, plural, title, doc, value in _NIC:
        list_title = _NIC_LIST_TITLES.get(plural, f"NIC_{title}s" if title.isupper() else f"NIC_{plural}")
        rows.append(
            Field(
                name=f"nic.{plural}",
                title=list_title,
                kind=_OTHER,
                doc=f"List of the {doc} of each network interface",
                get=_nic_list(value),
            )
        )
        rows += [
            Field(
                name=f"nic.{name}/{index}",
                title=f"Nic{title}/{index}",
                kind=_TEXT,
                doc=f"Network interface {index}: {doc}",
                get=_nic_value(index, value),
            )
            for index in range(MAX_NICS)
        ]
    return rows


def _nic_list(value: Callable[[FilledNic], Any]) -> Callable[[Instance, Any], Any]:
    return lambda i, w: [value(fill_nic(w.cluster, nic)) for nic in i.nics]


def _nic_value(index: int, value: Callable[[FilledNic], Any]) -> Callable[[Instance, Any], Any]:
    def get(instance: Instance, world: Any) -> Any:
        if index >= len(instance.nics):
            return UNAVAILABLE
        return present(value(fill_nic(world.cluster, instance.nics[index])))

    return get

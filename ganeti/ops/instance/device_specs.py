"""Disks and network interfaces as opcodes describe them, read into typed values. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from ganeti.errors import PrereqError
from ganeti.model.cluster import Cluster
from ganeti.model.disk import DiskTemplate
from ganeti.model.filled import nicparams_of
from ganeti.model.instance import Nic
from ganeti.model.param_tables.nic import NIC
from ganeti.model.params import ParamValue
from ganeti.model.spec import DiskSpec, NicSpec
from ganeti.model.units import parse_size_mib

MAX_DISKS = 16
MAX_NICS = 8

RawDevice = Mapping[str, ParamValue]

_DISK_KEYS = ("mode", "name", "vg", "metavg", "adopt", "provider", "access")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NIC_KEYS = ("mac", "ip", "mode", "link", "vlan", "network", "name", "bridge")


def read_disks(
    raw: Sequence[RawDevice], template: str, *, file_driver: str | None, file_storage_dir: str | None
) -> tuple[DiskSpec, ...]:
    """Disk definitions of an opcode, checked in themselves.

    Raises:
        PrereqError: too many, a missing or wrong size, an unknown key, a name used twice.
    """
    if len(raw) > MAX_DISKS:
        raise PrereqError(f"an instance has at most {MAX_DISKS} disks, not {len(raw)}")
    if raw and template == DiskTemplate.DISKLESS:
        raise PrereqError("a diskless instance cannot have disks; leave them away or choose a template")
    if not raw and template != DiskTemplate.DISKLESS:
        raise PrereqError(f"an instance of template {template} needs at least one disk")
    specs = tuple(
        _read_disk(index, disk, template, file_driver or "loop", file_storage_dir)
        for index, disk in enumerate(raw)
    )
    _refuse_doubles("disk", [spec.name for spec in specs])
    return specs


def _read_disk(index: int, raw: RawDevice, template: str, driver: str, directory: str | None) -> DiskSpec:
    known: dict[str, str | None] = {
        key: str(raw[key]) for key in _DISK_KEYS if raw.get(key) not in (None, "none", "default")
    }
    mode = known.pop("mode", None) or "rw"
    if mode not in ("rw", "ro"):
        raise PrereqError(f"disk {index}: mode is rw or ro, not {mode!r}")
    others = {key: value for key, value in raw.items() if key not in (*_DISK_KEYS, "size", "spindles")}
    if others and template != DiskTemplate.EXT:
        raise PrereqError(
            f"disk {index}: unknown key {min(others)!r}; known: size, spindles, {', '.join(_DISK_KEYS)}"
        )
    spindles = raw.get("spindles")
    if spindles is not None and (not isinstance(spindles, int) or spindles < 1):
        raise PrereqError(f"disk {index}: spindles is a number from 1 on, not {spindles!r}")
    return DiskSpec(
        index=index,
        size=_size(index, raw),
        mode=mode,
        spindles=spindles,
        params=others,
        file_driver=driver,
        file_storage_dir=directory,
        **known,
    )


def _size(index: int, raw: RawDevice) -> int:
    value = raw.get("size")
    if value is None:
        if raw.get("adopt") is not None:
            return 0
        raise PrereqError(f"disk {index} has no size; write for example size=10g")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise PrereqError(f"disk {index}: {value!r} is no size")
    try:
        size = value if isinstance(value, int) else parse_size_mib(value)
    except ValueError as error:
        raise PrereqError(f"disk {index}: {error}") from error
    if size <= 0:
        raise PrereqError(f"disk {index}: the size must be more than 0 MiB")
    return size


def read_nics(raw: Sequence[RawDevice]) -> tuple[NicSpec, ...]:
    """Network interface definitions of an opcode, checked in themselves.

    Raises:
        PrereqError: too many, an unknown key, keys that exclude each other, a name used twice, a wrong
            address.
    """
    if len(raw) > MAX_NICS:
        raise PrereqError(f"an instance has at most {MAX_NICS} network interfaces, not {len(raw)}")
    specs = tuple(_read_nic(index, nic) for index, nic in enumerate(raw))
    _refuse_doubles("network interface", [spec.name for spec in specs])
    return specs


def _read_nic(index: int, raw: RawDevice) -> NicSpec:
    unknown = sorted(set(raw) - set(_NIC_KEYS))
    if unknown:
        raise PrereqError(
            f"network interface {index}: unknown key {unknown[0]!r}; known: {', '.join(_NIC_KEYS)}"
        )
    given = {key: str(value) for key, value in raw.items() if value is not None}
    bridge = given.pop("bridge", None)
    if bridge is not None:
        if given.get("link", bridge) != bridge or given.get("mode", "bridged") != "bridged":
            raise PrereqError(
                f"network interface {index}: bridge is short for mode=bridged and link; give one form only"
            )
        given.update(link=bridge, mode="bridged")
    if given.get("network") == "none":
        del given["network"]
    if "network" in given and ("mode" in given or "link" in given):
        raise PrereqError(
            f"network interface {index}: a network has its own mode and link; leave mode and link away"
        )
    _check_addresses(index, given)
    return NicSpec(**given)


def _check_addresses(index: int, given: Mapping[str, str]) -> None:
    mac, ip = given.get("mac", "auto"), given.get("ip", "none")
    if mac not in ("auto", "generate") and not _MAC.fullmatch(mac.lower()):
        raise PrereqError(
            f"network interface {index}: {mac!r} is no MAC address; write it as aa:00:00:12:34:56, or auto"
        )
    if ip == "pool" and "network" not in given:
        raise PrereqError(
            f"network interface {index}: ip=pool takes an address of a network; name the network"
        )
    if ip in ("none", "auto", "pool"):
        return
    try:
        ip_address(ip)
    except ValueError:
        raise PrereqError(f"network interface {index}: {ip!r} is no IP address; none means none") from None


def check_nics(cluster: Cluster, specs: Sequence[NicSpec]) -> None:
    """Refuse network interfaces that cannot work in this cluster.

    Raises:
        PrereqError: wrong parameters, or a routed one without an address.
    """
    for index, spec in enumerate(specs):
        own = own_nicparams(spec)
        params = nicparams_of(cluster.settings, NIC.check(own))
        if params["mode"] == "routed" and spec.ip in (None, "none"):
            raise PrereqError(f"network interface {index} is routed and needs an IP address")
        if spec.network is not None:
            cluster.network(spec.network)


def own_nicparams(spec: NicSpec) -> dict[str, ParamValue]:
    """What was set on a network interface itself."""
    given = {"mode": spec.mode, "link": spec.link, "vlan": spec.vlan}
    return {key: value for key, value in given.items() if value not in (None, "default")}


def built_nic(cluster: Cluster, spec: NicSpec, *, uuid: str, mac: str, ip: str | None) -> Nic:
    """A network interface of the configuration."""
    network = cluster.network(spec.network).uuid if spec.network is not None else None
    return Nic(uuid=uuid, mac=mac, ip=ip, network=network, name=spec.name, nicparams=own_nicparams(spec))


def _refuse_doubles(what: str, names: Sequence[str | None]) -> None:
    given = [name for name in names if name is not None]
    doubles = sorted({name for name in given if given.count(name) > 1})
    if doubles:
        raise PrereqError(f"{what} name {doubles[0]!r} is used twice")

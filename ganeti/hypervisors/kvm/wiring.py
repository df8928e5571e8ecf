"""Commands that connect a tap where no script does: bridged, routed, openvswitch. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ganeti.errors import HypervisorError
from ganeti.model.filled import FilledNic

Argv = tuple[str, ...]


def commands(nic: FilledNic, tap: str, action: str) -> tuple[Argv, ...]:
    """Commands for one interface, in order; `down` has only what deleting the tap does not undo.

    Raises:
        HypervisorError: the interface lacks what its mode needs.
    """
    match nic.mode, action:
        case "bridged", "up":
            return tuple(_bridged(nic, tap))
        case "routed", "up":
            return tuple(_routed(nic, tap))
        case "openvswitch", "up":
            return tuple(_openvswitch(nic, tap))
        case "openvswitch", "down":
            return (("ovs-vsctl", "--if-exists", "del-port", nic.link, tap),)
        case "bridged" | "routed", "down":
            return ()
    raise HypervisorError(f"network mode {nic.mode} has no script")


def host_mac(mac: str) -> str:
    """MAC of the node's end of a tap: higher than any real one, so that a bridge never takes it over."""
    return "fe" + mac[2:]


def _bridged(nic: FilledNic, tap: str) -> Iterator[Argv]:
    if not nic.link:
        raise HypervisorError("a bridged network interface needs a link, the name of the bridge")
    yield ("ip", "link", "set", "dev", tap, "address", host_mac(nic.mac))
    yield ("ip", "link", "set", "dev", tap, "master", nic.link)
    yield ("ip", "link", "set", "dev", tap, "up")
    if nic.vlan:
        access, trunks = vlans(nic.vlan)
        yield ("bridge", "vlan", "del", "dev", tap, "vid", "1")
        if access is not None:
            yield ("bridge", "vlan", "add", "dev", tap, "vid", access, "pvid", "untagged")
        for vlan in trunks:
            yield ("bridge", "vlan", "add", "dev", tap, "vid", vlan)


def _routed(nic: FilledNic, tap: str) -> Iterator[Argv]:
    if nic.ip is None:
        raise HypervisorError("a routed network interface needs an IP address")
    family, bits = ("-6", "128") if ":" in nic.ip else ("-4", "32")
    yield ("ip", "link", "set", "dev", tap, "up")
    table = ("table", nic.link) if nic.link else ()
    if nic.link:
        yield ("ip", family, "rule", "add", "dev", tap, *table)
    yield ("ip", family, "route", "replace", f"{nic.ip}/{bits}", "dev", tap, *table)
    if family == "-4":
        yield ("sysctl", "-q", "-w", f"net.ipv4.conf.{tap}.proxy_arp=1", f"net.ipv4.conf.{tap}.forwarding=1")
    else:
        yield ("sysctl", "-q", "-w", f"net.ipv6.conf.{tap}.proxy_ndp=1", f"net.ipv6.conf.{tap}.forwarding=1")


def _openvswitch(nic: FilledNic, tap: str) -> Iterator[Argv]:
    if not nic.link:
        raise HypervisorError("an openvswitch network interface needs a link, the name of the switch")
    access, trunks = vlans(nic.vlan)
    options = [f"tag={access}"] if access is not None else []
    options += [f"trunks={','.join(trunks)}"] if trunks else []
    yield ("ip", "link", "set", "dev", tap, "up")
    yield ("ovs-vsctl", "--if-exists", "del-port", nic.link, tap, "--", "add-port", nic.link, tap, *options)


def vlans(text: str) -> tuple[str | None, tuple[str, ...]]:
    """Access VLAN and trunks of the parameter `vlan`: `N`, `.N`, `:N:N` or `.N:N`."""
    access, *trunks = text.split(":")
    return access.lstrip(".") or None, tuple(filter(None, trunks))

"""Taps of an instance and the scripts that connect them (plugins.md section 5).

A script of the administrator, `/etc/ganeti/network/MODE/ACTION`, comes first, then one installed in
`/usr/lib/ganeti/network/MODE/ACTION`; without either, bridged, routed and openvswitch are connected by
the commands of `wiring`. Mode `ext` is the administrator's script and nothing else.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum

from ganeti.errors import CommandFailed, HypervisorError
from ganeti.hypervisors.kvm import wiring
from ganeti.hypervisors.kvm.params import KvmParams
from ganeti.interfaces import IHost
from ganeti.model.filled import FilledInstance, FilledNic

INSTALLED_SCRIPTS = "/usr/lib/ganeti/network"
_TIMEOUT_S = 60.0
_PATH = "/sbin:/usr/sbin:/bin:/usr/bin"


class Phase(StrEnum):
    """When an interface is connected."""

    START = ""
    """The instance starts here."""
    BEFORE_MIGRATION = "pre"
    """It is about to arrive here."""
    AFTER_MIGRATION = "post"
    """It has arrived."""


def connects_in(mode: str, phase: Phase) -> bool:
    """Whether an interface of this mode is connected in a phase: routes follow the instance. Pure."""
    match phase:
        case Phase.BEFORE_MIGRATION:
            return mode != "routed"
        case Phase.AFTER_MIGRATION:
            return mode in ("routed", "ext")
    return True


def tap_name(host: IHost, instance: FilledInstance, index: int) -> str:
    """Name of a tap: the same for each start, different on each node of one machine."""
    # A virtual cluster may have both ends of a migration in one kernel.
    key = f"{host.name} {host.paths.root} {instance.uuid} {index}"
    return "gnt" + hashlib.sha256(key.encode()).hexdigest()[:10]


def connect(host: IHost, instance: FilledInstance, params: KvmParams, phase: Phase) -> tuple[str, ...]:
    """Create the taps of an instance and connect those that are due; their names, in order.

    Raises:
        HypervisorError: a tap could not be created or connected; none is left behind.
    """
    taps = tuple(
        # An interface of mode user has none: QEMU makes its network by itself.
        "" if nic.mode == "user" else tap_name(host, instance, index)
        for index, nic in enumerate(instance.nics)
    )
    try:
        for index, nic, tap in _with_taps(instance, taps):
            _create(host, params, tap)
            _configure(host, instance, nic, index, tap, phase)
    except BaseException:
        disconnect(host, instance, taps)
        raise
    return taps


def connect_rest(host: IHost, instance: FilledInstance, taps: Sequence[str]) -> None:
    """Connect what waits for the end of a migration.

    Raises:
        HypervisorError: an interface could not be connected.
    """
    for index, nic, tap in _with_taps(instance, taps):
        _configure(host, instance, nic, index, tap, Phase.AFTER_MIGRATION)


def disconnect(host: IHost, instance: FilledInstance, taps: Sequence[str]) -> None:
    """Disconnect and remove taps; what fails or is gone is passed over."""
    for index, nic, tap in _with_taps(instance, taps):
        with suppress(HypervisorError, CommandFailed):
            _run_action(host, instance, nic, index, tap, "down", Phase.START)
        with suppress(CommandFailed):
            _ip(host, "link", "delete", "dev", tap)


def _with_taps(instance: FilledInstance, taps: Sequence[str]) -> Iterator[tuple[int, FilledNic, str]]:
    """Index, interface and tap of the interfaces that have one."""
    return ((index, nic, tap) for index, (nic, tap) in enumerate(zip(instance.nics, taps)) if tap)


def environment(
    instance: FilledInstance, nic: FilledNic, index: int, tap: str, action: str, phase: Phase
) -> Mapping[str, str]:
    """What a script is told. Pure."""
    optional = {
        "IP": nic.ip,
        "INTERFACE_NAME": nic.name,
        "LINK": nic.link,
        "VLAN": nic.vlan,
        "BRIDGE": nic.link if nic.mode == "bridged" else None,
        "MIGRATION_PHASE": phase.value,
        **_network_environment(nic),
    }
    return {
        "PATH": _PATH,
        "INSTANCE": instance.name,
        "MAC": nic.mac,
        "MODE": nic.mode,
        "INTERFACE": tap,
        "INTERFACE_INDEX": str(index),
        "INTERFACE_UUID": nic.uuid,
        "TAGS": " ".join(instance.tags),
        "ACTION": action,
        **{name: value for name, value in optional.items() if value},
    }


def _network_environment(nic: FilledNic) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in nic.network_facts.items():
        if value is not None:
            found[f"NETWORK_{name.upper()}"] = (
                " ".join(value) if isinstance(value, list | tuple) else str(value)
            )
    return found


def _create(host: IHost, params: KvmParams, tap: str) -> None:
    options = ["multi_queue"] if params.nic_type == "paravirtual" and params.virtio_net_queues > 1 else []
    if params.nic_type == "paravirtual" and params.vnet_hdr:
        options.append("vnet_hdr")
    # Left over from a QEMU that was killed.
    with suppress(CommandFailed):
        _ip(host, "link", "delete", "dev", tap)
    try:
        _ip(host, "tuntap", "add", "dev", tap, "mode", "tap", *options)
    except CommandFailed as error:
        raise HypervisorError(f"cannot create the network interface {tap}: {error}") from error


def _configure(
    host: IHost, instance: FilledInstance, nic: FilledNic, index: int, tap: str, phase: Phase
) -> None:
    if not connects_in(nic.mode, phase):
        return
    try:
        _run_action(host, instance, nic, index, tap, "up", phase)
    except CommandFailed as error:
        # Around a migration the guest matters more than what an external script thinks of it.
        if nic.mode == "ext" and phase is not Phase.START:
            return
        raise HypervisorError(
            f"cannot connect interface {index} of {instance.name} to {nic.link or nic.mode}: {error}"
        ) from error


def _run_action(
    host: IHost, instance: FilledInstance, nic: FilledNic, index: int, tap: str, action: str, phase: Phase
) -> None:
    script = _script(host, nic.mode, action)
    if script is not None:
        env = environment(instance, nic, index, tap, action, phase)
        host.processes.run([script, tap], timeout_s=_TIMEOUT_S, env=env)
        return
    for argv in wiring.commands(nic, tap, action):
        host.processes.run(argv, timeout_s=_TIMEOUT_S)


def _script(host: IHost, mode: str, action: str) -> str | None:
    own = f"{host.paths.conf_dir}/network/{mode}/{action}"
    if os.access(own, os.X_OK):
        return own
    if mode == "ext":
        raise HypervisorError(f"network mode ext needs the script {own}")
    installed = f"{INSTALLED_SCRIPTS}/{mode}/{action}"
    return installed if os.access(installed, os.X_OK) else None


def _ip(host: IHost, *arguments: str) -> None:
    host.processes.run(["ip", *arguments], timeout_s=_TIMEOUT_S)

"""Checks of a node's hypervisors, instances, kernel, clock and OS definitions (rpc.md section 3)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ganeti.errors import GanetiError
from ganeti.model.calls.os import OsStatus
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.params import ParamValues
from ganeti.node.backend.os_search import diagnose
from ganeti.node.backend.plugin_choice import hypervisor_named
from ganeti.node.backend.registry import NodeWorld
from ganeti.node.backend.system import missing_bridges
from ganeti.version import PROTOCOL_VERSION, RELEASE

Check = Callable[[NodeWorld, Any], object]
"""A check: takes the argument as it came, gives something that JSON can carry."""

_NAMES = tuple[str, ...]
_FILE_SYSTEMS = (
    ("/proc", "/proc/sys/kernel", "/proc/meminfo"),
    ("/sys", "/sys/block", "/sys/class/net"),
)


def hypervisors(node: NodeWorld, argument: Any) -> Mapping[str, str | None]:
    """What is wrong with each hypervisor, None if nothing is."""
    return {name: _self_test(node, name) for name in msgspec.convert(argument, _NAMES)}


def hypervisor_params(node: NodeWorld, argument: Any) -> list[tuple[str, str, str]]:
    """Parameters that cannot work here: where they come from, hypervisor, reason."""
    wrong = []
    for source, name, values in msgspec.convert(argument, tuple[tuple[str, str, ParamValues], ...]):
        try:
            hypervisor = hypervisor_named(node, name)
            hypervisor.check_params(values)
            hypervisor.validate_on_node(node.host, values)
        except GanetiError as error:
            wrong.append((source, name, str(error)))
    return wrong


def instance_names(node: NodeWorld, argument: Any) -> list[str]:
    """Names of running instances."""
    found = {
        instance.name
        for name in msgspec.convert(argument, _NAMES)
        for instance in hypervisor_named(node, name).list_running(node.host)
    }
    return sorted(found)


def hypervisor_capacity(node: NodeWorld, argument: Any) -> NodeCapacity:
    """Memory and processors."""
    return hypervisor_named(node, msgspec.convert(argument, str)).capacity(node.host)


def versions(node: NodeWorld, argument: Any) -> tuple[int, str]:
    """Protocol and release."""
    return PROTOCOL_VERSION, RELEASE


def kernel_file_systems(node: NodeWorld, argument: Any) -> list[str]:
    """What lacks of the file systems of the kernel."""
    return [
        f"{top} is not mounted or cannot be read: no {path}"
        for top, *needed in _FILE_SYSTEMS
        for path in needed
        if not os.path.exists(path)
    ]


def clock(node: NodeWorld, argument: Any) -> tuple[int, int]:
    """Seconds and microseconds since the epoch."""
    now = node.host.now()
    return int(now), int(now % 1 * 1_000_000)


def os_list(node: NodeWorld, argument: Any) -> tuple[OsStatus, ...]:
    """Every OS definition, as `os_diagnose` gives them."""
    return diagnose(node.host)


def bridges(node: NodeWorld, argument: Any) -> list[str]:
    """Bridges that are missing."""
    return missing_bridges(node.host, msgspec.convert(argument, _NAMES))


SYSTEM_CHECKS: Mapping[str, Check] = {
    "hypervisor": hypervisors,
    "hvparms": hypervisor_params,
    "instancelist": instance_names,
    "hvinfo": hypervisor_capacity,
    "version": versions,
    "nodesetup": kernel_file_systems,
    "time": clock,
    "oslist": os_list,
    "bridges": bridges,
}


def _self_test(node: NodeWorld, name: str) -> str | None:
    try:
        return "; ".join(hypervisor_named(node, name).self_test(node.host)) or None
    except GanetiError as error:
        return str(error)

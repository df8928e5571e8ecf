"""Node functions about the node itself: facts, bridges, allocators, leaving, power (rpc.md 2.4)."""

from __future__ import annotations

import os
import re
import tempfile

from ganeti.errors import AllocatorError, CommandFailed, ConfigurationError, GanetiError, OperationFailed
from ganeti.interfaces import IHost
from ganeti.logic.os_env import SCRIPT_PATH
from ganeti.model.calls.system import (
    AllocatorRunner,
    BridgesExist,
    MasterNodeName,
    NodeInfo,
    NodeInfoResult,
    NodePowercycle,
)
from ganeti.model.ids import PLUGIN_NAME
from ganeti.node.backend.disks import space_of
from ganeti.node.backend.plugin_choice import hypervisor_named
from ganeti.node.backend.registry import NodeWorld, node_function

POWERCYCLE_VARIABLE = "GANETI_POWERCYCLE_COMMAND"
"""Shell command that stands for a power cycle where the node is not a whole machine."""

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_NET_DIR = "/sys/class/net"
_POWERCYCLE_DELAY_S = 5
_REBOOT = "echo 1 >/proc/sys/kernel/sysrq; echo b >/proc/sysrq-trigger; reboot -n -f"
_MARGIN_S = 30.0


@node_function(NodeInfo)
def node_info(call: NodeInfo, node: NodeWorld) -> NodeInfoResult:
    """Boot id, space and capacity now."""
    return NodeInfoResult(
        boot_id=boot_id(),
        storage=tuple(space_of(node, kind, unit) for kind, unit in call.storage_units.items()),
        hypervisors={name: hypervisor_named(node, name).capacity(node.host) for name in call.hypervisors},
    )


@node_function(MasterNodeName)
def master_node_name(call: MasterNodeName, node: NodeWorld) -> str:
    """The master as this node knows it."""
    return read_master_name(node.host)


@node_function(BridgesExist)
def bridges_exist(call: BridgesExist, node: NodeWorld) -> None:
    """Refuse with the names of bridges that are missing."""
    missing = missing_bridges(node.host, call.bridges)
    if missing:
        raise OperationFailed(f"node {node.host.name} has no bridge {', '.join(missing)}; create it there")


@node_function(NodePowercycle)
def node_powercycle(call: NodePowercycle, node: NodeWorld) -> str:
    """Reset this machine shortly after the answer."""
    host = node.host
    command = os.environ.get(POWERCYCLE_VARIABLE)
    if host.paths.root and not command:
        raise OperationFailed(
            f"node {host.name} is virtual: a power cycle would reset the machine below it."
            f" Stop it with ganeti-vcluster, or set {POWERCYCLE_VARIABLE} for its node daemon"
        )
    host.processes.start(
        ["/bin/sh", "-c", f"sleep {_POWERCYCLE_DELAY_S}; {command or _REBOOT}"],
        env={"PATH": SCRIPT_PATH},
        log_path=f"{host.paths.log_dir}/powercycle.log",
    )
    return f"Reboot of {host.name} in {_POWERCYCLE_DELAY_S} seconds"


@node_function(AllocatorRunner)
def iallocator_runner(call: AllocatorRunner, node: NodeWorld) -> str:
    """Let an external allocator answer a request; its standard output."""
    host = node.host
    program = _allocator(host, call.name)
    options = [
        f"--{key}" if value is None else f"--{key}={value}" for key, value in sorted(call.options.items())
    ]
    with tempfile.NamedTemporaryFile("w", prefix="ganeti-iallocator.", encoding="utf-8") as request:
        request.write(call.request)
        request.flush()
        try:
            done = host.processes.run(
                [program, request.name, *options],
                timeout_s=call.duration.value - _MARGIN_S,
                env={"PATH": SCRIPT_PATH, "LC_ALL": "C"},
                check=False,
            )
        except CommandFailed as error:
            raise AllocatorError(f"allocator {call.name} on node {host.name}: {error}") from error
    if done.code != 0:
        output = "\n".join(part.strip() for part in (done.stdout, done.stderr) if part.strip())
        raise AllocatorError(
            f"allocator {call.name} on node {host.name} ended with exit code {done.code}:"
            f" {output or 'no output'}"
        )
    return done.stdout


def boot_id() -> str:
    """Identifier of this boot of the machine; empty where the kernel has none."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def read_master_name(host: IHost) -> str:
    """The master's name from the node's ssconf files.

    Raises:
        ConfigurationError: this node has none.
    """
    path = host.paths.ssconf("master_node")
    try:
        with open(path, encoding="utf-8") as file:
            name = file.read().strip()
    except OSError as error:
        raise ConfigurationError(
            f"node {host.name} does not know the master: {path}: {error.strerror}; "
            "run gnt-cluster redist-conf on the master"
        ) from error
    if not name:
        raise ConfigurationError(f"node {host.name} does not know the master: {path} is empty")
    return name


def missing_bridges(host: IHost, names: tuple[str, ...], net_dir: str = _NET_DIR) -> list[str]:
    """Which of these are neither bridges of the kernel nor of Open vSwitch."""
    return [name for name in names if not _is_bridge(host, name, net_dir)]


def _is_bridge(host: IHost, name: str, net_dir: str) -> bool:
    if not re.fullmatch(r"[^/\s]{1,15}", name) or name in (".", ".."):
        return False
    if os.path.isdir(f"{net_dir}/{name}/bridge"):
        return True
    try:
        host.processes.run(["ovs-vsctl", "--timeout=5", "br-exists", name], timeout_s=10)
    except GanetiError:
        return False
    return True


def _allocator(host: IHost, name: str) -> str:
    directories = host.paths.allocator_search_path
    for directory in directories if PLUGIN_NAME.match(name) else ():
        path = f"{directory}/{name}"
        if os.path.isfile(path):
            if not os.access(path, os.X_OK):
                raise AllocatorError(f"allocator {path} on node {host.name} is not executable")
            return path
    raise AllocatorError(
        f"allocator {name!r} is not there on node {host.name}; searched: {', '.join(directories)}"
    )

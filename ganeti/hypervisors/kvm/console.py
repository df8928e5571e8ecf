"""How to reach the console of a KVM instance. Pure."""

from __future__ import annotations

from ganeti.hypervisors.kvm.display import VNC_BASE_PORT
from ganeti.hypervisors.kvm.files import InstanceFiles
from ganeti.hypervisors.kvm.params import KvmParams
from ganeti.model.calls.instances import ConsoleInfo
from ganeti.model.filled import FilledInstance
from ganeti.model.node import Node

_TERMINAL = "STDIO,raw,echo=0,icanon=0,isig=0,escape=0x1d"
"""Terminal options of socat; Control-] ends the session."""


def console_of(instance: FilledInstance, params: KvmParams, node: Node, files: InstanceFiles) -> ConsoleInfo:
    """Serial console through a command on the node, else VNC, else a message that says what to set."""
    if params.serial_console:
        return ConsoleInfo(
            instance=instance.name,
            kind="ssh",
            host=node.name,
            user="root",
            command=("socat", _TERMINAL, f"UNIX-CONNECT:{files.serial}"),
        )
    if params.vnc_bind_address and not params.vnc_is_socket and instance.network_port is not None:
        is_any = params.vnc_bind_address in ("0.0.0.0", "::")
        return ConsoleInfo(
            instance=instance.name,
            kind="vnc",
            host=node.name if is_any else params.vnc_bind_address,
            port=instance.network_port,
            display=instance.network_port - VNC_BASE_PORT,
        )
    return ConsoleInfo(
        instance=instance.name,
        kind="msg",
        message=f"instance {instance.name} has no console; set serial_console=true or vnc_bind_address",
    )

"""Node functions that run, stop and describe instances (rpc.md section 2.1).

Hypervisors do the work; what is here is what they have in common: disks are looked up, an instance
that does not shut down in time is ended, and the reason of a change is kept for those who ask later.
"""

from __future__ import annotations

from collections.abc import Mapping

from ganeti.errors import HypervisorError
from ganeti.interfaces import IConsole, IResizable
from ganeti.model.calls.instances import (
    AllInstancesInfo,
    ConsoleInfo,
    HypervisorValidateParams,
    InstanceBalloon,
    InstanceConsoleInfo,
    InstanceInfo,
    InstanceList,
    InstanceReboot,
    InstanceShutdown,
    InstanceStart,
    RunningInstance,
)
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.node import Node
from ganeti.node.backend.instance_disks import open_all
from ganeti.node.backend.instance_stop import stop_instance
from ganeti.node.backend.plugin_choice import hypervisor_named
from ganeti.node.backend.reasons import keep_reason
from ganeti.node.backend.registry import NodeWorld, node_function


@node_function(InstanceInfo)
def instance_info(call: InstanceInfo, node: NodeWorld) -> RunningInstance | None:
    """One instance, or None if it does not run here."""
    return _running(node, call.hypervisor).get(call.name)


@node_function(AllInstancesInfo)
def all_instances_info(call: AllInstancesInfo, node: NodeWorld) -> Mapping[str, RunningInstance]:
    """Every running instance by name; one that runs twice is an error that names it."""
    found: dict[str, RunningInstance] = {}
    for hypervisor in call.hypervisors:
        running = _running(node, hypervisor)
        twice = sorted(found.keys() & running.keys())
        if twice:
            raise HypervisorError(f"{', '.join(twice)} runs under two hypervisors on {node.host.name}")
        found.update(running)
    return found


@node_function(InstanceList)
def instance_list(call: InstanceList, node: NodeWorld) -> tuple[str, ...]:
    """Names of running instances."""
    return tuple(sorted({name for hypervisor in call.hypervisors for name in _running(node, hypervisor)}))


@node_function(InstanceStart)
def instance_start(call: InstanceStart, node: NodeWorld) -> None:
    """Start an instance that does not run."""
    instance = call.instance
    hypervisor = hypervisor_named(node, instance.hypervisor)
    if instance.name in _running(node, instance.hypervisor):
        return
    hypervisor.start(node.host, instance, open_all(node, instance), paused=call.paused)
    keep_reason(node.host, instance.name, call.reason)


@node_function(InstanceShutdown)
def instance_shutdown(call: InstanceShutdown, node: NodeWorld) -> None:
    """Stop an instance; does nothing but clean up if it does not run."""
    instance = call.instance
    hypervisor = hypervisor_named(node, instance.hypervisor)
    was_running = stop_instance(
        hypervisor, node.host, instance.name, timeout_s=call.timeout_s, force=call.force
    )
    if was_running:
        keep_reason(node.host, instance.name, call.reason)


@node_function(InstanceReboot)
def instance_reboot(call: InstanceReboot, node: NodeWorld) -> None:
    """Reboot a running instance without leaving this node."""
    instance = call.instance
    hypervisor = hypervisor_named(node, instance.hypervisor)
    if instance.name not in _running(node, instance.hypervisor):
        raise HypervisorError(
            f"instance {instance.name} does not run on {node.host.name}; start it instead of rebooting"
        )
    match call.reboot_type:
        case "soft":
            hypervisor.reboot(node.host, instance, open_all(node, instance))
        case "hard":
            stop_instance(
                hypervisor, node.host, instance.name, timeout_s=call.shutdown_timeout_s, force=False
            )
            hypervisor.start(node.host, instance, open_all(node, instance))
        case other:
            raise HypervisorError(f"a node cannot do a reboot of type {other!r}; it knows soft and hard")
    keep_reason(node.host, instance.name, call.reason)


@node_function(InstanceBalloon)
def instance_balloon_memory(call: InstanceBalloon, node: NodeWorld) -> None:
    """Change the memory of a running instance."""
    hypervisor = hypervisor_named(node, call.instance.hypervisor)
    if not IResizable.providedBy(hypervisor):
        raise HypervisorError(f"hypervisor {hypervisor.name} cannot change the memory of running instances")
    resizable: IResizable = hypervisor
    resizable.set_memory(node.host, call.instance, call.memory)


@node_function(InstanceConsoleInfo)
def instance_console_info(call: InstanceConsoleInfo, node: NodeWorld) -> Mapping[str, ConsoleInfo]:
    """How to reach the consoles of instances."""
    here = Node(
        uuid=NodeId(""),
        name=node.host.name,
        primary_ip=node.host.primary_ip,
        secondary_ip=node.host.secondary_ip,
        group=GroupId(""),
    )
    consoles = {}
    for instance in call.instances:
        hypervisor = hypervisor_named(node, instance.hypervisor)
        if IConsole.providedBy(hypervisor):
            with_console: IConsole = hypervisor
            consoles[instance.name] = with_console.console(instance, here, node.host.paths)
        else:
            text = f"instances of hypervisor {hypervisor.name} have no console"
            consoles[instance.name] = ConsoleInfo(instance=instance.name, kind="msg", message=text)
    return consoles


@node_function(HypervisorValidateParams)
def hypervisor_validate_params(call: HypervisorValidateParams, node: NodeWorld) -> None:
    """Refuse hypervisor parameters that contradict each other or cannot work here."""
    hypervisor = hypervisor_named(node, call.hypervisor)
    hypervisor.check_params(call.hvparams)
    hypervisor.validate_on_node(node.host, call.hvparams)


def _running(node: NodeWorld, hypervisor: str) -> dict[str, RunningInstance]:
    found = hypervisor_named(node, hypervisor).list_running(node.host)
    return {instance.name: instance for instance in found}

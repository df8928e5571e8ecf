"""The node function that tells everything about the node and its instances at once (S2.3-062)."""

from __future__ import annotations

from ganeti.errors import GanetiError
from ganeti.model.calls.instances import AllInstancesInfo, RunningInstance
from ganeti.model.calls.report import NodeReport, Report
from ganeti.model.calls.system import NodeCapacity, NodeInfoResult
from ganeti.node.backend.disks import space_of
from ganeti.node.backend.instances import all_instances_info
from ganeti.node.backend.plugin_choice import hypervisor_named
from ganeti.node.backend.registry import NodeWorld, node_function
from ganeti.node.backend.system import boot_id


@node_function(NodeReport)
def node_report(call: NodeReport, node: NodeWorld) -> Report:
    """Boot id, space, capacity and instances; a hypervisor that cannot be asked spoils no other's part."""
    capacities: dict[str, NodeCapacity] = {}
    running: dict[str, RunningInstance] = {}
    problems: dict[str, str] = {}
    for name in call.hypervisors:
        try:
            capacities[name] = hypervisor_named(node, name).capacity(node.host)
            found = all_instances_info(AllInstancesInfo(hypervisors=(name,)), node)
        except GanetiError as error:
            problems[name] = str(error)
            continue
        twice = sorted(running.keys() & found.keys())
        if twice:
            problems[name] = f"{', '.join(twice)} runs under two hypervisors"
        running.update(found)
    info = NodeInfoResult(
        boot_id=boot_id(),
        storage=tuple(space_of(node, kind, unit) for kind, unit in call.storage_units.items()),
        hypervisors=capacities,
    )
    return Report(info=info, running=running, problems=problems)

"""What is wrong with instances: where they run, where they lie, what lacks of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ganeti.logic.fields.instance import InstanceWorld, status
from ganeti.logic.verify.facts import GroupFacts
from ganeti.logic.verify.findings import Findings, VerifyCode, error, warning
from ganeti.model.calls.instances import RunningInstance, RunState
from ganeti.model.cluster import Cluster
from ganeti.model.disk import TRAITS
from ganeti.model.filled import beparams_of, ndparams_of
from ganeti.model.ids import NodeId
from ganeti.model.instance import AdminState, Instance
from ganeti.model.ipolicy import violations
from ganeti.model.node import Node

_PASSING = (RunState.MIGRATING_IN, RunState.MIGRATED_AWAY)


def instance_findings(
    cluster: Cluster, instance: Instance, facts: GroupFacts, world: InstanceWorld
) -> Findings:
    """What is wrong with one instance.

    Args:
        cluster: the configuration.
        instance: not a forthcoming one; its primary node exists.
        facts: of its group.
        world: of what runs on the nodes of its group, for its status.
    """
    if status(instance, world) in ("ERROR_down", "ERROR_wrongnode"):
        name = cluster.nodes[instance.primary_node].name
        if instance.admin_state is AdminState.UP:
            text = f"it does not run on its primary node {name}"
            yield error(VerifyCode.EINSTANCEDOWN, instance.name, text)
    for text in _bad_nodes(cluster, instance):
        yield error(VerifyCode.EINSTANCEBADNODE, instance.name, text)
    yield from _layout(cluster, instance)
    yield from _policy(cluster, instance)
    yield from _exclusive_storage(cluster, instance)
    for text in _missing_disks(cluster, instance, facts):
        yield error(VerifyCode.EINSTANCEMISSINGDISK, instance.name, text)


def misplaced_findings(cluster: Cluster, node: Node, running: Mapping[str, RunningInstance]) -> Findings:
    """Instances that run on a node although the cluster has them elsewhere, or does not know them."""
    for name, found in running.items():
        if found.state in _PASSING:
            continue
        instance = cluster.instances.by_key(name)
        if instance is None or instance.forthcoming:
            yield error(
                VerifyCode.ENODEORPHANINSTANCE, node.name, f"instance {name} runs here and is unknown"
            )
        elif instance.primary_node != node.uuid and found.state is not RunState.SHUTDOWN:
            primary = cluster.nodes.get(instance.primary_node)
            where = primary.name if primary is not None else instance.primary_node
            text = f"it runs on node {node.name}, but its primary node is {where}"
            yield error(VerifyCode.EINSTANCEWRONGNODE, name, text)


def _bad_nodes(cluster: Cluster, instance: Instance) -> Iterator[str]:
    for uuid in cluster.nodes_of(instance):
        node = cluster.nodes.get(uuid)
        is_primary = uuid == instance.primary_node
        role = "primary" if is_primary else "secondary"
        if node is None:
            yield f"its {role} node {uuid} does not exist"
            continue
        if node.offline and is_primary and instance.admin_state is AdminState.UP:
            yield f"it is to run, but its primary node {node.name} is marked offline"
        elif node.offline and not is_primary:
            yield f"its secondary node {node.name} is marked offline"
        if not node.vm_capable:
            yield f"its {role} node {node.name} may not host instances (vm_capable is off)"


def _layout(cluster: Cluster, instance: Instance) -> Findings:
    secondaries = [node for node in cluster.secondary_nodes(instance) if node in cluster.nodes]
    if len(secondaries) > 1:
        names = ", ".join(cluster.nodes[node].name for node in secondaries)
        yield warning(VerifyCode.EINSTANCELAYOUT, instance.name, f"it has several secondary nodes: {names}")
    groups: dict[str, list[str]] = {}
    for uuid in (instance.primary_node, *secondaries):
        node = cluster.nodes[uuid]
        group = cluster.groups.get(node.group)
        groups.setdefault(node.group if group is None else group.name, []).append(node.name)
    if len(groups) > 1:
        places = "; ".join(f"{', '.join(nodes)} in {group}" for group, nodes in sorted(groups.items()))
        text = f"its nodes are in different groups: {places}"
        yield error(VerifyCode.EINSTANCESPLITGROUPS, instance.name, text)


def _policy(cluster: Cluster, instance: Instance) -> Findings:
    backend = beparams_of(cluster.settings, instance.beparams)
    problems = violations(
        cluster.policy_of(cluster.nodes[instance.primary_node].group),
        memory=backend.maxmem,
        vcpus=backend.vcpus,
        disk_sizes=tuple(disk.size for disk in cluster.disks_of(instance)),
        nic_count=len(instance.nics),
        spindle_use=backend.spindle_use,
        template=cluster.disk_template(instance),
    )
    if problems:
        text = f"it violates the instance policy: {'; '.join(problems)}"
        yield warning(VerifyCode.EINSTANCEPOLICY, instance.name, text)


def _exclusive_storage(cluster: Cluster, instance: Instance) -> Findings:
    nodes = (cluster.nodes[uuid] for uuid in cluster.nodes_of(instance) if uuid in cluster.nodes)
    exclusive = [node.name for node in nodes if ndparams_of(cluster, node)["exclusive_storage"]]
    if not exclusive:
        return
    for index, disk in enumerate(cluster.disks_of(instance)):
        traits = TRAITS.get(disk.dev_type)
        if traits is None or not traits.is_lvm:
            continue
        if not traits.allows_exclusive_storage:
            text = (
                f"disks of template {disk.dev_type} cannot be on {exclusive[0]}, which has exclusive storage"
            )
            yield error(VerifyCode.EINSTANCEUNSUITABLENODE, instance.name, text)
        elif disk.spindles is None:
            text = f"disk {index} has no number of spindles, which exclusive storage needs"
            yield error(VerifyCode.EINSTANCEMISSINGCFGPARAMETER, instance.name, text)


def _missing_disks(cluster: Cluster, instance: Instance, facts: GroupFacts) -> Iterator[str]:
    for index, disk in enumerate(cluster.disks_of(instance)):
        for uuid in disk.nodes or (NodeId(instance.primary_node),):
            sizes = facts.disk_sizes.get(uuid, {})
            if disk.uuid in sizes and sizes[disk.uuid] is None:
                yield f"disk {index} is missing on node {cluster.nodes[uuid].name}"

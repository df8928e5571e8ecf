"""Whether nodes could take over what runs elsewhere, and tags that must not meet on a node. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ganeti.logic.placement_tags import tag_rules
from ganeti.logic.verify.facts import GroupFacts
from ganeti.logic.verify.findings import Findings, VerifyCode, error
from ganeti.model.cluster import Cluster
from ganeti.model.filled import beparams_of
from ganeti.model.ids import NodeId
from ganeti.model.node import Node


def n1_findings(cluster: Cluster, nodes: Collection[Node], facts: GroupFacts) -> Findings:
    """Nodes whose free memory is not enough if one of the nodes they stand in for fails.

    Stopped instances count, too: they may be started at any time. Each failing node is looked at by
    itself.
    """
    asked = {node.uuid: node for node in nodes if node.vm_capable and not node.offline}
    for (secondary, primary), (needed, names) in _reserved(cluster, asked).items():
        report = facts.report(secondary)
        if report is None or report.hvinfo is None:
            continue
        free = report.hvinfo.memory_free
        if free < needed:
            failing = cluster.nodes[primary].name
            text = (
                f"it has not enough memory to take over from node {failing}: {free} MiB are free, "
                f"{needed} MiB are needed for {len(names)} instance(s)"
            )
            yield error(VerifyCode.ENODEN1, asked[secondary].name, text)


def _reserved(
    cluster: Cluster, secondaries: Mapping[NodeId, Node]
) -> Mapping[tuple[NodeId, NodeId], tuple[int, list[str]]]:
    """Memory (MiB) and instances by the node that takes over and the node that fails."""
    found: dict[tuple[NodeId, NodeId], tuple[int, list[str]]] = {}
    for instance in cluster.instances.values():
        if instance.forthcoming or instance.primary_node not in cluster.nodes:
            continue
        backend = beparams_of(cluster.settings, instance.beparams)
        if not backend.auto_balance:
            continue
        for node in cluster.secondary_nodes(instance):
            if node in secondaries:
                memory, names = found.get((node, instance.primary_node), (0, []))
                found[node, instance.primary_node] = memory + backend.minmem, [*names, instance.name]
    return found


def exclusion_findings(cluster: Cluster, nodes: Collection[Node]) -> Findings:
    """Nodes that are the primary of two instances with a tag that must be on a node only once."""
    rules = tag_rules(cluster)
    if not rules.exclusion:
        return
    members = {node.uuid: node for node in nodes}
    owners: dict[tuple[NodeId, str], str] = {}
    for instance in cluster.instances.values():
        if instance.primary_node not in members or instance.forthcoming:
            continue
        for tag in rules.exclusive(instance.tags):
            other = owners.setdefault((instance.primary_node, tag), instance.name)
            if other != instance.name:
                text = f"instances {other} and {instance.name} both have the exclusive tag {tag}"
                yield error(VerifyCode.EEXTAGS, members[instance.primary_node].name, text)

"""Asking the nodes of a group what a verification has to know."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from msgspec.structs import replace

from ganeti.errors import GanetiError, NodeTimeout, NodeUnreachable
from ganeti.logic.verify.facts import GroupFacts, NodeAnswer, NodeReport, read_report
from ganeti.logic.verify.files import file_findings, paths_to_check
from ganeti.logic.verify.questions import Batch, batches, disks_to_find, group_instances
from ganeti.model.calls.disks import DiskSizes
from ganeti.model.calls.instances import AllInstancesInfo, RunningInstance
from ganeti.model.calls.outcome import Answer, NodeFailed, Outcome
from ganeti.model.calls.system import NodeVerify
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk
from ganeti.model.ids import DiskId, GroupId, NodeId
from ganeti.model.node import Node
from ganeti.ops.base import Context

LOOK_FOR_S = 120.0
"""How long a node may look for the disks that it should have."""
ON_ITS_WAY_S = 3.0
"""Files that the master distributes in the background have arrived after so long."""


async def gather_facts(ctx: Context, group: GroupId) -> GroupFacts:
    """Ask all online nodes of a group, and other nodes for the data of its instances."""
    cluster = ctx.cluster
    online = [node for node in cluster.members(group) if not node.offline]
    count = f"({len(online)} nodes)"
    ctx.feedback.info(f"* Gathering data {count}")
    answers: dict[NodeId, NodeAnswer] = {}
    for batch in batches(cluster, group):
        answers.update(await _ask(ctx, batch))
    ctx.feedback.info(f"* Gathering information about nodes {count}")
    running, silent = await _running(ctx, cluster, online)
    nonsense = await _nonsense(ctx, online)
    ctx.feedback.info(f"* Gathering disk information {count}")
    silent_at_all = {node for node, answer in answers.items() if answer.report is None}
    sizes, failures = await _disk_sizes(ctx, cluster, group, silent_at_all)
    return GroupFacts(
        answers=answers,
        running=running,
        silent=silent,
        nonsense=nonsense,
        disk_sizes=sizes,
        disk_failures=failures,
    )


async def read_files_again(ctx: Context, group: GroupId, facts: GroupFacts) -> list[tuple[Node, NodeReport]]:
    """The reports of the group's nodes; where files differ, with checksums of a moment later.

    Some files are distributed in the background, so that a difference may be one that is just going.
    """
    cluster = ctx.cluster
    reports = {
        node.uuid: (node, report)
        for node in cluster.members(group)
        if (report := facts.report(node.uuid)) is not None
    }
    if next(file_findings(cluster, reports.values()), None) is None:
        return list(reports.values())
    await ctx.sleep(ON_ITS_WAY_S)
    nodes = tuple(node for node, _ in reports.values())
    newer = await _ask(ctx, Batch(nodes=nodes, checks={"filelist": list(paths_to_check())}))
    for uuid, (node, report) in tuple(reports.items()):
        again = newer[uuid].report
        if again is not None:
            reports[uuid] = node, replace(report, filelist=again.filelist)
    return list(reports.values())


async def _ask(ctx: Context, batch: Batch) -> Mapping[NodeId, NodeAnswer]:
    call = NodeVerify(checks=batch.checks, cluster_name=ctx.cluster.name)
    asked_at = ctx.clock.seconds()
    outcomes = await ctx.nodes.each(batch.nodes, call)
    answered_at = ctx.clock.seconds()
    return {uuid: _answer(outcome, asked_at, answered_at) for uuid, outcome in outcomes.items()}


def _answer(outcome: Outcome[Mapping[str, Any]], asked_at: float, answered_at: float) -> NodeAnswer:
    match outcome:
        case Answer(results):
            try:
                report = read_report(results)
            except ValueError as error:
                return NodeAnswer(failure=str(error))
            return NodeAnswer(report=report, asked_at=asked_at, answered_at=answered_at)
        case NodeFailed() as failed:
            return NodeAnswer(failure=failed.reason)


async def _running(
    ctx: Context, cluster: Cluster, online: list[Node]
) -> tuple[Mapping[NodeId, Mapping[str, RunningInstance]], Mapping[NodeId, str]]:
    hosts = [node for node in online if node.vm_capable]
    call = AllInstancesInfo(hypervisors=cluster.settings.enabled_hypervisors)
    running: dict[NodeId, Mapping[str, RunningInstance]] = {}
    silent: dict[NodeId, str] = {}
    for uuid, outcome in (await ctx.nodes.each(hosts, call)).items():
        match outcome:
            case Answer(found):
                running[uuid] = found
            case NodeFailed() as failed:
                silent[uuid] = failed.reason
    return running, silent


async def _nonsense(ctx: Context, online: list[Node]) -> Mapping[NodeId, str]:
    """Nodes that answer, but whose reports placement does not count, and why."""
    hosts = [node for node in online if node.vm_capable]
    outcomes = await ctx.state.reports(hosts, cached=False)
    return {
        uuid: found.reason
        for uuid, found in outcomes.items()
        if isinstance(found, NodeFailed) and not isinstance(found.error, (NodeUnreachable, NodeTimeout))
    }


async def _disk_sizes(
    ctx: Context, cluster: Cluster, group: GroupId, silent: Collection[NodeId]
) -> tuple[Mapping[NodeId, Mapping[DiskId, int | None]], Mapping[NodeId, str]]:
    """Sizes by node and disk, and nodes that did not tell them; those silent before are not asked."""
    sizes: dict[NodeId, Mapping[DiskId, int | None]] = {}
    failures: dict[NodeId, str] = {}
    for uuid, disks in disks_to_find(cluster, group_instances(cluster, group)).items():
        if uuid in silent:
            continue
        try:
            found = await ctx.nodes.call(cluster.nodes[uuid], DiskSizes(disks=disks), timeout_s=LOOK_FOR_S)
        except GanetiError as error:
            failures[uuid] = str(error)
        else:
            sizes[uuid] = _by_disk(disks, found)
    return sizes, failures


def _by_disk(disks: tuple[Disk, ...], sizes: tuple[int | None, ...]) -> Mapping[DiskId, int | None]:
    return {disk.uuid: size for disk, size in zip(disks, sizes, strict=True)}

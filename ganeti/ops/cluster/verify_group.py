"""OP_CLUSTER_VERIFY_GROUP: verify the nodes and instances of one node group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from ganeti.interfaces import IFeedback
from ganeti.logic.fields.instance import InstanceWorld
from ganeti.logic.verify.facts import GroupFacts
from ganeti.logic.verify.files import file_findings
from ganeti.logic.verify.findings import Findings, Subject, VerifyCode, error, simulated
from ganeti.logic.verify.hooks import hook_findings
from ganeti.logic.verify.instances import instance_findings, misplaced_findings
from ganeti.logic.verify.nodes import certificate_findings, node_findings
from ganeti.logic.verify.notes import notes
from ganeti.logic.verify.os_definitions import os_findings
from ganeti.logic.verify.questions import group_instances
from ganeti.logic.verify.redundancy import exclusion_findings, n1_findings
from ganeti.model.calls.outcome import Outcome
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.instance import Instance
from ganeti.model.locks import LockLevel, LockPlan, shared
from ganeti.model.names import nice_key
from ganeti.model.node import Node, NodeGroup
from ganeti.ops.base import Context, HookNodes, Hooks, HookTarget, OpCode, Operation, Param
from ganeti.ops.cluster.verify_config import SIMULATED as OF_CONFIG
from ganeti.ops.cluster.verify_facts import gather_facts, read_files_again
from ganeti.ops.cluster.verify_params import (
    Clutter,
    ErrorCodes,
    IgnoreErrors,
    OptionalCheck,
    Simulate,
    SkipChecks,
    Verbose,
)
from ganeti.ops.cluster.verify_report import VerifyReport
from ganeti.ops.kinds import GROUP

_AT_ONCE = 50
"""Instances looked at before other work gets its turn."""


class VerifyGroup(OpCode, frozen=True, kw_only=True, tag="OP_CLUSTER_VERIFY_GROUP"):
    """Look for what is wrong in one node group."""

    summary_field: ClassVar[str | None] = "group_name"

    group_name: Annotated[str, Param("node group to verify", kind=GROUP)]
    debug_simulate_errors: Simulate = False
    error_codes: ErrorCodes = False
    skip_checks: SkipChecks = frozenset()
    ignore_errors: IgnoreErrors = frozenset()
    verbose: Verbose = False
    verify_clutter: Clutter = False


class VerifyGroupOperation(Operation[VerifyGroup, GroupFacts, bool]):
    """Asks all online nodes of the group to check themselves; gives whether there is no error.

    Offline nodes are only counted. Nodes that may not host instances are asked nothing about
    instances, and named if they have some (S2.3-105).
    """

    keeps_state = True
    hooks = Hooks("cluster-verify", HookTarget.CLUSTER)

    def locks(self, cluster: Cluster) -> LockPlan:
        """The group, its nodes, its primary instances and their secondary nodes, all shared."""
        group = self._group(cluster)
        nodes = {node.uuid for node in cluster.members(group.uuid)}
        instances = [one for one in cluster.instances.values() if one.primary_node in nodes]
        secondaries = {node for one in instances for node in cluster.secondary_nodes(one)}
        return LockPlan(
            requests={
                LockLevel.INSTANCE: shared(one.name for one in instances),
                LockLevel.NODEGROUP: shared([group.uuid]),
                LockLevel.NODE: shared(nodes | (secondaries & set(cluster.nodes))),
            }
        )

    async def gather(self, ctx: Context) -> GroupFacts:
        """Ask the nodes."""
        group = self._group(ctx.cluster)
        ctx.feedback.info(f"* Verifying group '{group.name}'")
        return await gather_facts(ctx, group.uuid)

    async def run(self, ctx: Context, facts: GroupFacts) -> bool:
        """Tell what is wrong."""
        cluster = ctx.cluster
        group = self._group(cluster)
        nodes = sorted(cluster.members(group.uuid), key=lambda node: nice_key(node.name))
        instances = sorted(group_instances(cluster, group.uuid), key=lambda one: nice_key(one.name))
        world = InstanceWorld.of(cluster, facts.running, {})
        report = self._report(ctx.feedback)
        report.section("Verifying configuration file consistency")
        report.add(file_findings(cluster, await read_files_again(ctx, group.uuid, facts)))
        report.section("Verifying node status")
        self._tell_nodes(report, cluster, nodes, facts)
        report.section("Verifying instance status")
        await self._tell_instances(ctx, report, instances, facts, world)
        report.section("Verifying orphan volumes")
        report.section("Verifying N+1 Memory redundancy")
        if OptionalCheck.N1_MEMORY not in self.op.skip_checks:
            report.add(n1_findings(cluster, nodes, facts))
        if self.op.debug_simulate_errors:
            report.add(_simulated(cluster, group, nodes, instances))
        report.section("Other Notes")
        for text in notes(cluster, nodes, instances, world):
            report.notice(text)
        return report.is_clean

    def judge_hooks(
        self,
        result: bool,
        outcomes: Mapping[NodeId, Outcome[Any]],
        *,
        cluster: Cluster,
        feedback: IFeedback,
    ) -> bool:
        """Failing hooks are findings, too."""
        report = self._report(feedback)
        report.section("Hooks Results")
        report.add(hook_findings(cluster, outcomes))
        return result and report.is_clean

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """Tags of the cluster and of the nodes."""
        env = {"CLUSTER_TAGS": " ".join(cluster.settings.tags)}
        for node in cluster.members(self._group(cluster).uuid):
            env[f"NODE_TAGS_{node.name}"] = " ".join(node.tags)
        return env

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Only afterwards, on all nodes of the group."""
        members = cluster.members(self._group(cluster).uuid)
        return HookNodes(pre=(), post=tuple(node.uuid for node in members))

    def _group(self, cluster: Cluster) -> NodeGroup:
        return cluster.group(self.op.group_name)

    def _report(self, feedback: IFeedback) -> VerifyReport:
        op = self.op
        return VerifyReport(
            feedback, ignored=op.ignore_errors, with_codes=op.error_codes, is_verbose=op.verbose
        )

    def _tell_nodes(
        self, report: VerifyReport, cluster: Cluster, nodes: list[Node], facts: GroupFacts
    ) -> None:
        definitions = []
        for node in nodes:
            if node.offline:
                report.detail(f"Skipping offline node {node.name}")
                continue
            report.detail(f"Verifying node {node.name} ({cluster.role(node).value})")
            report.add(node_findings(cluster, node, facts.answers[node.uuid]))
            found = facts.report(node.uuid)
            if found is not None:
                report.add(certificate_findings(cluster, node, found))
                if found.oslist is not None:
                    definitions.append((node, found.oslist))
            report.add(misplaced_findings(cluster, node, facts.running.get(node.uuid, {})))
        report.add(_silence(cluster, facts))
        report.add(os_findings(definitions))
        report.add(exclusion_findings(cluster, nodes))

    async def _tell_instances(
        self,
        ctx: Context,
        report: VerifyReport,
        instances: list[Instance],
        facts: GroupFacts,
        world: InstanceWorld,
    ) -> None:
        for number, instance in enumerate(instances, start=1):
            report.detail(f"Verifying instance {instance.name}")
            report.add(instance_findings(world.cluster, instance, facts, world))
            if number % _AT_ONCE == 0:
                await ctx.sleep(0)


def _silence(cluster: Cluster, facts: GroupFacts) -> Findings:
    """What nodes could not tell besides their own checks; that they do not answer at all was told."""
    for uuid, reason in facts.silent.items():
        if facts.report(uuid) is not None:
            text = f"it does not tell what runs on it: {reason}"
            yield error(VerifyCode.ENODEHV, cluster.nodes[uuid].name, text)
    for uuid, reason in facts.nonsense.items():
        if uuid not in facts.silent:
            text = f"it gets no instances, as nobody knows what it has: {reason}"
            yield error(VerifyCode.ENODEHV, cluster.nodes[uuid].name, text)
    for uuid, reason in facts.disk_failures.items():
        yield error(VerifyCode.ENODERPC, cluster.nodes[uuid].name, f"it could not look for disks: {reason}")


def _simulated(cluster: Cluster, group: NodeGroup, nodes: list[Node], instances: list[Instance]) -> Findings:
    names = {Subject.CLUSTER: cluster.name, Subject.GROUP: group.name}
    if nodes:
        names[Subject.NODE] = nodes[0].name
    if instances:
        names[Subject.INSTANCE] = instances[0].name
    return simulated((code for code in VerifyCode if code not in OF_CONFIG), names)

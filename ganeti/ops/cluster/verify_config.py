"""OP_CLUSTER_VERIFY_CONFIG: verify the configuration, the master's certificates, hypervisor parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ganeti.errors import GanetiError
from ganeti.interfaces import Plugins
from ganeti.logic.config_check import ESTABLISHED, Known
from ganeti.logic.verify.config import (
    MASTER_CHECKS,
    config_findings,
    dangling_findings,
    hvparam_findings,
    master_certificate_findings,
)
from ganeti.logic.verify.facts import NodeReport, read_report
from ganeti.logic.verify.findings import Subject, VerifyCode, simulated
from ganeti.logic.verify.questions import HvParams, hvparam_sets
from ganeti.model.calls.system import NodeVerify
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockLevel, LockMode, LockPlan, all_of_level
from ganeti.ops.base import Context, OpCode, Operation
from ganeti.ops.cluster.verify_params import ErrorCodes, IgnoreErrors, Simulate, Verbose
from ganeti.ops.cluster.verify_report import VerifyReport

SIMULATED = (
    VerifyCode.ECLUSTERCFG,
    VerifyCode.ECLUSTERCERT,
    VerifyCode.ECLUSTERDANGLINGNODES,
    VerifyCode.ECLUSTERDANGLINGINST,
)
_AT_ONCE = 50
"""Parameter sets checked before other work gets its turn."""


class VerifyConfig(OpCode, frozen=True, kw_only=True, tag="OP_CLUSTER_VERIFY_CONFIG"):
    """Look for what is wrong in the configuration."""

    debug_simulate_errors: Simulate = False
    error_codes: ErrorCodes = False
    ignore_errors: IgnoreErrors = frozenset()
    verbose: Verbose = False


class MasterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the master says of its certificates."""

    report: NodeReport | None = None
    failure: str | None = None


class VerifyConfigOperation(Operation[VerifyConfig, MasterFacts, bool]):
    """Looks at the configuration as a whole; gives whether there is no error."""

    keeps_state = True

    def locks(self, cluster: Cluster) -> LockPlan:
        """Everything, shared."""
        levels = (
            LockLevel.INSTANCE,
            LockLevel.NODEGROUP,
            LockLevel.NODE,
            LockLevel.NODE_RES,
            LockLevel.NETWORK,
        )
        return LockPlan(requests=dict.fromkeys(levels, all_of_level(LockMode.SHARED)))

    async def gather(self, ctx: Context) -> MasterFacts:
        """Ask the master for its certificates."""
        cluster = ctx.cluster
        call = NodeVerify(checks=MASTER_CHECKS, cluster_name=cluster.name)
        try:
            return MasterFacts(report=read_report(await ctx.nodes.call(cluster.master, call)))
        except (GanetiError, ValueError) as error:
            return MasterFacts(failure=str(error))

    async def run(self, ctx: Context, facts: MasterFacts) -> bool:
        """Tell what is wrong."""
        op, cluster = self.op, ctx.cluster
        report = VerifyReport(
            ctx.feedback, ignored=op.ignore_errors, with_codes=op.error_codes, is_verbose=op.verbose
        )
        report.section("Verifying cluster config")
        known = _known(ctx.plugins)
        report.add(await ctx.in_thread(lambda: tuple(config_findings(cluster, known))))
        report.section("Verifying cluster certificate files")
        report.add(master_certificate_findings(cluster, facts.report, facts.failure))
        report.section("Verifying hypervisor parameters")
        for problem in await _hvparam_problems(ctx, cluster):
            report.add(hvparam_findings(cluster, [problem]))
        report.section("Verifying all nodes belong to an existing group")
        report.add(dangling_findings(cluster))
        if op.debug_simulate_errors:
            names = {Subject.CLUSTER: cluster.name, Subject.NODE: cluster.master.name}
            report.add(simulated(SIMULATED, names))
        return report.is_clean


def _known(plugins: Plugins) -> Known:
    """Parameter tables of what can be used here, plugins of others included."""
    found: Mapping[str, Any] = plugins.hypervisors
    backends: Mapping[str, Any] = plugins.storage
    return Known(
        hypervisors={
            **ESTABLISHED.hypervisors,
            **{name: plugin.params for name, plugin in found.items()},
        },
        templates={
            **ESTABLISHED.templates,
            **{name: backend.params for name, backend in backends.items()},
        },
    )


async def _hvparam_problems(ctx: Context, cluster: Cluster) -> list[tuple[str, str, str]]:
    problems = []
    sets = hvparam_sets(cluster, list(cluster.instances.values()))
    for number, one in enumerate(sets, start=1):
        reason = _problem(ctx.plugins, one)
        if reason is not None:
            problems.append((one.source, one.hypervisor, reason))
        if number % _AT_ONCE == 0:
            await ctx.sleep(0)
    return problems


def _problem(plugins: Plugins, one: HvParams) -> str | None:
    hypervisor: Any = plugins.hypervisors.get(one.hypervisor)
    if hypervisor is None:
        return "there is no such plugin on the master"
    try:
        hypervisor.check_params(one.values)
    except GanetiError as error:
        return str(error)
    return None

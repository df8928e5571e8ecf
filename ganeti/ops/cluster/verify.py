"""OP_CLUSTER_VERIFY: have the configuration and every node group verified by jobs."""

from __future__ import annotations

from typing import Annotated

from ganeti.model.cluster import Cluster
from ganeti.model.job import FINAL
from ganeti.ops.base import Arguments, Command, Context, Jobs, OpCode, Operation, Param
from ganeti.ops.cluster.verify_config import VerifyConfig
from ganeti.ops.cluster.verify_group import VerifyGroup
from ganeti.ops.cluster.verify_params import (
    Clutter,
    ErrorCodes,
    IgnoreErrors,
    OptionalCheck,
    Simulate,
    SkipChecks,
    Verbose,
)
from ganeti.ops.kinds import GROUP

ANY_END = tuple(sorted(status.value for status in FINAL))


class VerifyCluster(OpCode, frozen=True, kw_only=True, tag="OP_CLUSTER_VERIFY"):
    """Look for everything that is wrong in the cluster."""

    debug_simulate_errors: Simulate = False
    error_codes: ErrorCodes = False
    skip_checks: SkipChecks = frozenset()
    ignore_errors: IgnoreErrors = frozenset()
    verbose: Verbose = False
    group_name: Annotated[str | None, Param("only this node group", GROUP, "node-group", "g")] = None
    verify_clutter: Clutter = False


class VerifyClusterOperation(Operation[VerifyCluster, None, Jobs]):
    """Asks for one job for the configuration, then one for each group, which waits for the first.

    Of a single group only that group is verified.
    """

    keeps_state = True
    commands = (
        Command(
            tool="gnt-cluster",
            name="verify",
            arguments=Arguments.CUSTOM,
            switches={
                "no-nplus1-mem": {"skip_checks": [OptionalCheck.N1_MEMORY.value]},
                "no-hv-param-assessment": {"skip_checks": [OptionalCheck.HVPARAM_ADVICE.value]},
            },
        ),
    )

    def check(self, cluster: Cluster, facts: None) -> None:
        """The group exists."""
        if self.op.group_name is not None:
            cluster.group(self.op.group_name)

    async def run(self, ctx: Context, facts: None) -> Jobs:
        """The jobs; the groups by name."""
        if self.op.group_name is not None:
            return Jobs(jobs=((self._of_group(ctx.cluster.group(self.op.group_name).name, None),),))
        names = sorted(group.name for group in ctx.cluster.groups.values())
        groups = [(self._of_group(name, distance),) for distance, name in enumerate(names, start=1)]
        return Jobs(jobs=((self._of_config(),), *groups))

    def _of_config(self) -> OpCode:
        op = self.op
        return VerifyConfig(
            debug_simulate_errors=op.debug_simulate_errors,
            error_codes=op.error_codes,
            ignore_errors=op.ignore_errors,
            verbose=op.verbose,
        )

    def _of_group(self, name: str, distance: int | None) -> OpCode:
        """The opcode of a group's job, so many jobs after the one for the configuration."""
        op = self.op
        return VerifyGroup(
            group_name=name,
            debug_simulate_errors=op.debug_simulate_errors,
            error_codes=op.error_codes,
            skip_checks=op.skip_checks,
            ignore_errors=op.ignore_errors,
            verbose=op.verbose,
            verify_clutter=op.verify_clutter,
            depends=None if distance is None else ((-distance, ANY_END),),
        )

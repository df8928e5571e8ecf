"""OP_CLUSTER_QUERY: settings and versions of the cluster."""

from __future__ import annotations

from typing import Any

from ganeti.logic.cluster_info import cluster_info, own_architecture
from ganeti.ops.base import Context, OpCode, Operation


class QueryCluster(OpCode, frozen=True, kw_only=True, tag="OP_CLUSTER_QUERY"):
    """Settings and versions."""


class QueryClusterOperation(Operation[QueryCluster, None, dict[str, Any]]):
    """Reads the configuration."""

    keeps_state = True

    async def run(self, ctx: Context, facts: None) -> dict[str, Any]:
        """The established dictionary."""
        return cluster_info(ctx.cluster, architecture=own_architecture())

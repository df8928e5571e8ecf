"""OP_QUERY: rows of a resource, as an opcode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from ganeti.errors import PrereqError
from ganeti.model.cluster import Cluster
from ganeti.ops.base import Context, OpCode, Operation, Param


class Query(OpCode, frozen=True, kw_only=True, tag="OP_QUERY"):
    """Rows of a resource."""

    summary_field: ClassVar[str | None] = "what"

    what: Annotated[str, Param("resource: instance, node, group, job, os ...")]
    fields: Annotated[tuple[str, ...], Param("wanted fields")]
    use_locking: Annotated[bool, Param("hold locks meanwhile; refused")] = False
    qfilter: Annotated[list[Any] | None, Param("which rows; none: all")] = None
    cached: Annotated[bool, Param("what the nodes told lately is good enough; false: ask them")] = True


class QueryOperation(Operation[Query, None, Mapping[str, Any]]):
    """Answers as the direct query call does."""

    keeps_state = True

    def check(self, cluster: Cluster, facts: None) -> None:
        """Without locks."""
        if self.op.use_locking:
            raise PrereqError("queries take no locks; leave use_locking away")

    async def run(self, ctx: Context, facts: None) -> Mapping[str, Any]:
        """Field definitions and rows."""
        return await ctx.queries.query(self.op.what, self.op.fields, self.op.qfilter, cached=self.op.cached)

"""OP_QUERY_FIELDS: fields of a resource, as an opcode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from ganeti.ops.base import Context, OpCode, Operation, Param


class QueryFields(OpCode, frozen=True, kw_only=True, tag="OP_QUERY_FIELDS"):
    """Fields of a resource."""

    summary_field: ClassVar[str | None] = "what"

    what: Annotated[str, Param("resource: instance, node, group, job, os ...")]
    fields: Annotated[tuple[str, ...] | None, Param("wanted fields; none: all")] = None


class QueryFieldsOperation(Operation[QueryFields, None, Mapping[str, Any]]):
    """Answers as the direct call does."""

    keeps_state = True

    async def run(self, ctx: Context, facts: None) -> Mapping[str, Any]:
        """Field definitions."""
        return ctx.queries.query_fields(self.op.what, self.op.fields)

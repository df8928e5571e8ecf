"""OP_OS_DIAGNOSE: OS definitions of all nodes compared."""

from __future__ import annotations

from typing import Annotated, Any

from ganeti.errors import PrereqError
from ganeti.ops.base import Arguments, Command, Context, OpCode, Operation, Param
from ganeti.ops.kinds import NAMES


class DiagnoseOs(OpCode, frozen=True, kw_only=True, tag="OP_OS_DIAGNOSE"):
    """Rows about OS definitions."""

    output_fields: Annotated[tuple[str, ...], Param("wanted fields of the resource os")]
    names: Annotated[tuple[str, ...], Param("which; none: all", kind=NAMES)] = ()


class DiagnoseOsOperation(Operation[DiagnoseOs, None, list[list[Any]]]):
    """A query of the resource os, with bare values."""

    keeps_state = True
    commands = tuple(
        Command(tool="gnt-os", name=name, positional="names", arguments=Arguments.CUSTOM)
        for name in ("list", "diagnose", "info")
    )

    async def run(self, ctx: Context, facts: None) -> list[list[Any]]:
        """A list of values for each OS, by name."""
        known = {field["name"] for field in ctx.queries.query_fields("os", None)["fields"]}
        unknown = [name for name in self.op.output_fields if name not in known]
        if unknown:
            raise PrereqError(f"unknown field(s): {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        qfilter: list[Any] | None = None
        if self.op.names:
            qfilter = ["|", *(["==", "name", name] for name in self.op.names)]
        answer = await ctx.queries.query("os", self.op.output_fields, qfilter)
        return [[value for _status, value in row] for row in answer["data"]]

"""OP_OS_DIAGNOSE: OS definitions of all nodes compared."""

from __future__ import annotations

from typing import Annotated, Any

from ganeti.errors import PrereqError
from ganeti.logic.fields.base import Absent
from ganeti.logic.fields.others import OS_FIELDS, OsRow
from ganeti.logic.os_rows import os_rows
from ganeti.model.calls.os import OsDiagnose
from ganeti.model.calls.outcome import Answer
from ganeti.model.node import NodeGroup
from ganeti.ops.base import Arguments, Command, Context, OpCode, Operation, Param
from ganeti.ops.kinds import GROUP, NAMES

ANSWER_WITHIN_S = 60.0
"""How long nodes may take to look at their OS definitions."""


class DiagnoseOs(OpCode, frozen=True, kw_only=True, tag="OP_OS_DIAGNOSE"):
    """Rows about OS definitions."""

    output_fields: Annotated[tuple[str, ...], Param("wanted fields of the resource os")]
    names: Annotated[tuple[str, ...], Param("which; none: all", kind=NAMES)] = ()
    group_name: Annotated[str | None, Param("compare only the nodes of this group", GROUP)] = None


class DiagnoseOsOperation(Operation[DiagnoseOs, None, list[list[Any]]]):
    """A query of the resource os, with bare values; of one group only its nodes are asked (S2.3-023)."""

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
        if self.op.group_name is not None:
            return await self._of_group(ctx, ctx.cluster.group(self.op.group_name))
        qfilter: list[Any] | None = None
        if self.op.names:
            qfilter = ["|", *(["==", "name", name] for name in self.op.names)]
        answer = await ctx.queries.query("os", self.op.output_fields, qfilter)
        return [[value for _status, value in row] for row in answer["data"]]

    async def _of_group(self, ctx: Context, group: NodeGroup) -> list[list[Any]]:
        """The same, as if there were no other groups."""
        members = ctx.cluster.members(group.uuid)
        asked = [node for node in members if node.vm_capable and not node.offline]
        outcomes = await ctx.nodes.each(asked, OsDiagnose(), timeout_s=ANSWER_WITHIN_S)
        found = {uuid: outcome.value for uuid, outcome in outcomes.items() if isinstance(outcome, Answer)}
        rows = os_rows(ctx.cluster.settings, found)
        wanted = [row for row in rows if not self.op.names or row.name in self.op.names]
        return [[_value(name, row) for name in self.op.output_fields] for row in wanted]


def _value(name: str, row: OsRow) -> Any:
    value = OS_FIELDS[name].get(row, None)
    return None if isinstance(value, Absent) else value

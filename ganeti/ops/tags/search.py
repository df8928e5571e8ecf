"""OP_TAGS_SEARCH: find tags by a regular expression."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ganeti.logic.tags import search
from ganeti.model.cluster import Cluster
from ganeti.ops.base import Arguments, Command, Context, OpCode, Operation, Param


class SearchTags(OpCode, frozen=True, kw_only=True, tag="OP_TAGS_SEARCH"):
    """Find tags."""

    summary_field: ClassVar[str | None] = "pattern"

    pattern: Annotated[str, Param("regular expression found anywhere in the tag")]


class SearchTagsOperation(Operation[SearchTags, None, list[tuple[str, str]]]):
    """Looks through all objects."""

    keeps_state = True
    commands = (
        Command(tool="gnt-cluster", name="search-tags", positional="pattern", arguments=Arguments.CUSTOM),
    )

    def check(self, cluster: Cluster, facts: None) -> None:
        """The expression can be read."""
        search(cluster, self.op.pattern)

    async def run(self, ctx: Context, facts: None) -> list[tuple[str, str]]:
        """Path and tag, such as `/nodes/node1.example.com` and `rack:4`."""
        return search(ctx.cluster, self.op.pattern)

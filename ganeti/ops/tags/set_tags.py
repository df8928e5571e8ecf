"""OP_TAGS_SET: add tags."""

from __future__ import annotations

from typing import Annotated

from ganeti.errors import PrereqError
from ganeti.logic.tags import TagKind, check_tag, tags_of, uuid_of, with_tags
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockMode, LockPlan
from ganeti.ops.base import Context, OpCode, Operation, Param
from ganeti.ops.kinds import TAGS
from ganeti.ops.tags.common import tag_commands, tag_locks, tag_routes


class SetTags(OpCode, frozen=True, kw_only=True, tag="OP_TAGS_SET"):
    """Add tags."""

    kind: Annotated[TagKind, Param("what has the tags")]
    tags: Annotated[tuple[str, ...], Param("tags to add", kind=TAGS)]
    name: Annotated[str | None, Param("which object; nothing for the cluster")] = None


class SetTagsOperation(Operation[SetTags, None, None]):
    """Adds tags of the cluster or of one object."""

    keeps_state = True
    routes = tag_routes("PUT")
    commands = tag_commands("add-tags", positional="tags")

    def locks(self, cluster: Cluster) -> LockPlan:
        """The object."""
        return tag_locks(cluster, self.op.kind, self.op.name, LockMode.EXCLUSIVE)

    def check(self, cluster: Cluster, facts: None) -> None:
        """Well-formed tags of an object that exists."""
        uuid_of(cluster, self.op.kind, self.op.name)
        if not self.op.tags:
            raise PrereqError("no tags given")
        for tag in self.op.tags:
            check_tag(tag)

    async def run(self, ctx: Context, facts: None) -> None:
        """Record."""
        await ctx.config.update(self._changed, reason="tags change")

    def _changed(self, cluster: Cluster) -> Cluster:
        op = self.op
        tags = set(tags_of(cluster, op.kind, op.name)) | set(op.tags)
        return with_tags(cluster, op.kind, op.name, tags)

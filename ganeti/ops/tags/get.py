"""OP_TAGS_GET: list the tags of one object."""

from __future__ import annotations

from typing import Annotated

from ganeti.logic.tags import TagKind, tags_of, uuid_of
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockMode, LockPlan
from ganeti.ops.base import Context, OpCode, Operation, Param
from ganeti.ops.tags.common import tag_commands, tag_locks


class GetTags(OpCode, frozen=True, kw_only=True, tag="OP_TAGS_GET"):
    """List tags."""

    kind: Annotated[TagKind, Param("what has the tags")]
    use_locking: Annotated[bool, Param("hold the lock meanwhile")] = False
    name: Annotated[str | None, Param("which object; nothing for the cluster")] = None

    def summary(self) -> str:
        """With the kind."""
        return f"TAGS_GET({self.kind})"


class GetTagsOperation(Operation[GetTags, None, list[str]]):
    """Reads tags from the configuration."""

    keeps_state = True
    commands = tag_commands("list-tags", positional="name")

    def locks(self, cluster: Cluster) -> LockPlan:
        """Nothing, or the object, shared."""
        if not self.op.use_locking:
            return LockPlan.NOTHING
        return tag_locks(cluster, self.op.kind, self.op.name, LockMode.SHARED)

    def check(self, cluster: Cluster, facts: None) -> None:
        """The object exists."""
        uuid_of(cluster, self.op.kind, self.op.name)

    async def run(self, ctx: Context, facts: None) -> list[str]:
        """Sorted."""
        return sorted(tags_of(ctx.cluster, self.op.kind, self.op.name))

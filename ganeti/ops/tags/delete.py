"""OP_TAGS_DEL: remove tags."""

from __future__ import annotations

from typing import Annotated

from ganeti.errors import ErrorCode, PrereqError
from ganeti.logic.tags import TagKind, tags_of, uuid_of, with_tags
from ganeti.model.cluster import Cluster
from ganeti.model.locks import LockMode, LockPlan
from ganeti.ops.base import Arguments, Command, Context, OpCode, Operation, Param, Route
from ganeti.ops.kinds import TAGS
from ganeti.ops.tags.locks import tag_locks


class DeleteTags(OpCode, frozen=True, kw_only=True, tag="OP_TAGS_DEL"):
    """Remove tags."""

    kind: Annotated[TagKind, Param("what has the tags")]
    tags: Annotated[tuple[str, ...], Param("tags to remove", kind=TAGS)]
    name: Annotated[str | None, Param("which object; nothing for the cluster")] = None


class DeleteTagsOperation(Operation[DeleteTags, None, None]):
    """Removes tags of the cluster or of one object."""

    routes = (
        Route(method="DELETE", path="/2/tags", query=("tag", "dry_run"), fixed={"kind": "cluster"}),
        *(
            Route(
                method="DELETE",
                path=f"/2/{plural}/{{name}}/tags",
                query=("tag", "dry_run"),
                fixed={"kind": kind},
            )
            for kind, plural in (
                ("instance", "instances"),
                ("node", "nodes"),
                ("nodegroup", "groups"),
                ("network", "networks"),
            )
        ),
    )
    commands = tuple(
        Command(
            tool=tool,
            name="remove-tags",
            positional="tags",
            arguments=Arguments.CUSTOM,
            fixed={"kind": kind},
        )
        for tool, kind in (("gnt-cluster", "cluster"), ("gnt-node", "node"), ("gnt-instance", "instance"))
    )

    def locks(self, cluster: Cluster) -> LockPlan:
        """The object."""
        return tag_locks(cluster, self.op.kind, self.op.name, LockMode.EXCLUSIVE)

    def check(self, cluster: Cluster, facts: None) -> None:
        """Present tags of an object that exists."""
        uuid_of(cluster, self.op.kind, self.op.name)
        if not self.op.tags:
            raise PrereqError("no tags given")
        missing = sorted(set(self.op.tags) - set(tags_of(cluster, self.op.kind, self.op.name)))
        if missing:
            raise PrereqError(f"tags not found: {', '.join(missing)}", code=ErrorCode.UNKNOWN)

    async def run(self, ctx: Context, facts: None) -> None:
        """Record."""
        await ctx.config.update(self._changed, reason="tags change")

    def _changed(self, cluster: Cluster) -> Cluster:
        op = self.op
        tags = set(tags_of(cluster, op.kind, op.name)) - set(op.tags)
        return with_tags(cluster, op.kind, op.name, tags)

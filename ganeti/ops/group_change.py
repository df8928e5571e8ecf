"""To which nodes of other groups instances go: as an allocator says, or the built-in one in its place."""

from __future__ import annotations

from msgspec.structs import replace

from ganeti.logic.group_moves import is_local, why_not_copied
from ganeti.model.allocation import BUILTIN, ChangeGroup, Solution
from ganeti.ops.base import Context


async def solve_change(ctx: Context, allocator: str, request: ChangeGroup) -> Solution:
    """The answer of an allocator to a question about other groups (S2.3-033).

    Only the built-in one knows that instances whose disks are on one node only can be stopped and copied.
    Where another one is to decide, the built-in one finds the places of those instances; it does not see
    what the other one plans, but every move looks once more whether there is room before it stops anything.
    """
    cluster = ctx.cluster
    local = tuple(name for name in request.instances if is_local(cluster, cluster.instance(name)))
    chosen = cluster.settings.default_iallocator if allocator == "." else allocator
    if chosen == BUILTIN or not local:
        return await ctx.allocation.solve(allocator, request, cluster=cluster)
    others = tuple(name for name in request.instances if name not in set(local))
    found = Solution()
    if others:
        found = await ctx.allocation.solve(allocator, replace(request, instances=others), cluster=cluster)
    reasons = {
        name: why_not_copied(cluster, cluster.instance(name), allow_downtime=request.allow_downtime)
        for name in local
    }
    stuck = tuple((name, reason) for name, reason in reasons.items() if reason is not None)
    copied = tuple(name for name, reason in reasons.items() if reason is None)
    own = Solution()
    if copied:
        own = await ctx.allocation.solve(BUILTIN, replace(request, instances=copied), cluster=cluster)
    return Solution(
        placements=found.placements + own.placements,
        failed=found.failed + own.failed + stuck,
        jobs=found.jobs + own.jobs,
        info="; ".join(info for info in (found.info, own.info) if info),
    )

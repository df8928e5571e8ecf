"""The built-in allocator: exact, in the master's process, says why when nothing fits."""

from __future__ import annotations

from zope.interface import implementer

from ganeti.interfaces import IAllocator
from ganeti.logic import allocate
from ganeti.model.allocation import AllocationRequest, ClusterView, Solution


@implementer(IAllocator)
class BuiltinAllocator:
    """Places instances by the established cluster score."""

    name = "builtin"

    def solve(self, request: AllocationRequest, view: ClusterView) -> Solution:
        """Answer a request; see `ganeti.logic.allocate`."""
        return allocate.solve(request, view)


builtin = BuiltinAllocator()

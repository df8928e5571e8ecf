"""External allocators: programs that read a request as JSON and print where instances go.

The programs are looked up by their name on the master node; this plugin only speaks their language.
It cannot be chosen itself: `default_iallocator` is the name of a program, such as `hail`.
"""

from __future__ import annotations

from zope.interface import implementer

from ganeti.errors import AllocatorError
from ganeti.interfaces import IAllocator, IExternalAllocators
from ganeti.logic import allocator_answers, allocator_protocol
from ganeti.model.allocation import AllocationRequest, ClusterView, Solution


@implementer(IAllocator, IExternalAllocators)
class ScriptAllocators:
    """Stands for every program in the allocator search path."""

    name = "script"

    def solve(self, request: AllocationRequest, view: ClusterView) -> Solution:
        """Not possible: it is a program that has to be asked."""
        raise AllocatorError("script stands for external programs; give the name of one, such as hail")

    def encode(self, request: AllocationRequest, view: ClusterView) -> str:
        """The request as the established JSON."""
        return allocator_protocol.encode(request, view)

    def decode(self, request: AllocationRequest, view: ClusterView, answer: str) -> Solution:
        """The answer of a program, checked."""
        return allocator_answers.decode(request, view, answer)


script = ScriptAllocators()

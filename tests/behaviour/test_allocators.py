"""The shipped allocators pass the suites of their interfaces."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import AllocatorError
from ganeti.model.allocation import Allocate, Capacity
from ganeti.plugin_registry import discover
from ganeti.testing.allocator_behaviours import AllocatorBehaviours, ExternalAllocatorBehaviours
from ganeti.testing.clusters import cluster
from ganeti.testing.placement_worlds import placement_view, request_for


class BuiltinAllocatorTests(AllocatorBehaviours, SynchronousTestCase):
    """The plugin `builtin`, as it is found."""

    def make_allocator(self) -> Any:
        """The plugin."""
        return discover().iallocators["builtin"]

    def test_unknown_kind(self) -> None:
        """A request of a kind that it does not answer is refused by name."""
        with self.assertRaisesRegex(AllocatorError, "capacity"):
            self.make_allocator().solve(Capacity(), placement_view(cluster(nodes=1)))


class ScriptAllocatorsTests(ExternalAllocatorBehaviours, SynchronousTestCase):
    """The plugin `script`, as it is found."""

    def make_allocator(self) -> Any:
        """The plugin."""
        return discover().iallocators["script"]

    def test_is_no_allocator_itself(self) -> None:
        """Asked directly it says that a program has to be named."""
        request = Allocate(instance=request_for())
        with self.assertRaisesRegex(AllocatorError, "hail"):
            self.make_allocator().solve(request, placement_view(cluster(nodes=1)))

"""The shipped allocators pass the suites of their interfaces."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import AllocatorError
from ganeti.logic.allocator_answers import decode
from ganeti.logic.allocator_protocol import encode
from ganeti.logic.capacity_params import filled_params
from ganeti.model.allocation import Allocate, Capacity
from ganeti.plugin_registry import discover
from ganeti.testing.allocator_behaviours import AllocatorBehaviours, ExternalAllocatorBehaviours
from ganeti.testing.clusters import cluster, node_id
from ganeti.testing.placement_worlds import placement_view, request_for


class BuiltinAllocatorTests(AllocatorBehaviours, SynchronousTestCase):
    """The plugin `builtin`, as it is found."""

    def make_allocator(self) -> Any:
        """The plugin."""
        return discover().iallocators["builtin"]

    def test_capacity(self) -> None:
        """It tells the capacity of the groups that it is asked for (S2.3-081)."""
        view = placement_view(cluster(nodes=2, groups=2, enabled_hypervisors=("kvm",)))
        group = view.cluster.group("group2")
        params = filled_params(view.cluster, group)
        solution = self.make_allocator().solve(Capacity(params={group.uuid: params}), view)
        self.assertEqual(list(solution.capacity), [group.uuid])


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


class HowtoTests(SynchronousTestCase):
    """The examples of docs/howto/add-an-allocator.md do what the page says."""

    def example(self, number: int) -> str:
        """A block of Python of the page."""
        page = Path(__file__).parents[2] / "docs" / "howto" / "add-an-allocator.md"
        text = page.read_text(encoding="utf-8")
        return str(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[number])

    def test_plugin(self) -> None:
        """The plugin takes the first node with room."""
        names: dict[str, Any] = {}
        exec(compile(self.example(0), "first_fit.py", "exec"), names)
        request = Allocate(instance=request_for())
        solution = names["first_fit"].solve(request, placement_view(cluster(nodes=3)))
        self.assertEqual(solution.placements[0].nodes, (node_id(1),))

    def test_program(self) -> None:
        """The program reads a request and answers it."""
        view = placement_view(cluster(nodes=3))
        request = Allocate(instance=request_for(disk_template="drbd"))
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
            file.write(encode(request, view))
            file.flush()
            done = subprocess.run(
                [sys.executable, "-c", self.example(2), file.name], capture_output=True, text=True, timeout=60
            )
        solution = decode(request, view, done.stdout)
        self.assertEqual(solution.placements[0].nodes, (node_id(1), node_id(2)))

"""What is declared is declared once: OP_IDs, routes, commands, node calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.model.calls.base import NodeCall
from ganeti.node.backend.registry import load_all
from ganeti.ops.registry import load
from ganeti.rapi.info import info_routes
from ganeti.rapi.master_link import MasterLink
from ganeti.rapi.routes import Routes


def twice(things: Iterable[object]) -> list[object]:
    """Those that are there more than once."""
    return [thing for thing, count in Counter(things).items() if count > 1]


def all_calls(base: type[NodeCall[Any]] = NodeCall) -> list[type[NodeCall[Any]]]:
    """Every kind of call to a node."""
    found: list[type[NodeCall[Any]]] = []
    for cls in base.__subclasses__():
        if cls.__module__.startswith("ganeti.model.calls.") and cls.__struct_config__.tag is not None:
            found.append(cls)
        found += all_calls(cls)
    return found


class DeclaredOnceTests(SynchronousTestCase):
    """The registry refuses an OP_ID that is there twice; the rest is looked for here."""

    def test_operations(self) -> None:
        """OP_IDs and their aliases."""
        ids = [op_id for operation in load() for op_id in (operation.opcode.op_id(), *operation.aliases)]
        self.assertEqual(twice(ids), [])
        self.assertTrue(all(op_id.startswith("OP_") for op_id in ids))

    def test_commands(self) -> None:
        """Names and aliases of the commands of each tool."""
        names = [
            (command.tool, name)
            for operation in load()
            for command in operation.commands
            for name in (command.name, *command.aliases)
        ]
        self.assertEqual(twice(names), [])

    def test_routes(self) -> None:
        """Method and path, of operations and of the interface itself."""
        own: MasterLink = MasterLink(None, None)  # type: ignore[arg-type]
        rows = [(route.method, route.path) for route in Routes(info_routes(own)).rows]
        rows += [(route.method, route.path) for operation in load() for route in operation.routes]
        self.assertEqual(twice(rows), [])

    def test_node_calls(self) -> None:
        """Names of functions on the wire."""
        load_all()
        names = [call.function() for call in all_calls()]
        self.assertGreater(len(names), 30)
        self.assertEqual(twice(names), [])

"""Finds every operation and reads submitted opcodes."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import msgspec

import ganeti.ops
from ganeti.errors import PrereqError
from ganeti.ops.base import OpCode, Operation


class Registry:
    """Operations by OP_ID.

    Args:
        operations: their classes; two must not share an OP_ID or an alias.
    """

    def __init__(self, operations: list[type[Operation[Any, Any, Any]]]) -> None:
        self._operations: dict[str, type[Operation[Any, Any, Any]]] = {}
        for operation in operations:
            for op_id in (operation.opcode.op_id(), *operation.aliases):
                other = self._operations.get(op_id)
                if other is not None:
                    raise PrereqError(
                        f"{op_id} is declared by {other.__module__} and by {operation.__module__}"
                    )
                self._operations[op_id] = operation
        self._decoders: dict[str, msgspec.json.Decoder[OpCode]] = {}

    def __iter__(self) -> Iterator[type[Operation[Any, Any, Any]]]:
        return iter(sorted(set(self._operations.values()), key=lambda cls: cls.opcode.op_id()))

    def operation_class(self, op_id: str) -> type[Operation[Any, Any, Any]]:
        """The class of an OP_ID or alias.

        Raises:
            PrereqError: wrong_input: there is none, with the nearest right name.
        """
        found = self._operations.get(op_id)
        if found is None:
            from difflib import get_close_matches

            close = get_close_matches(op_id, self._operations, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise PrereqError(f"there is no operation {op_id!r}{hint}")
        return found

    def operation(self, op: OpCode) -> Operation[Any, Any, Any]:
        """The operation that executes an opcode."""
        return self.operation_class(op.op_id())(op)

    def decode(self, value: object) -> OpCode:
        """The typed opcode of a JSON object.

        Raises:
            PrereqError: wrong_input: unknown OP_ID, unknown parameter or a wrong value, with its place.
        """
        if not isinstance(value, Mapping) or not isinstance(value.get("OP_ID"), str):
            raise PrereqError("an opcode must be a JSON object with the key OP_ID")
        cls = self.operation_class(value["OP_ID"]).opcode
        try:
            return msgspec.convert({**value, "OP_ID": cls.op_id()}, cls, strict=True)
        except msgspec.ValidationError as error:
            raise PrereqError(f"{cls.op_id()}: {_explained(str(error), cls, value)}") from error


@cache
def load() -> Registry:
    """Every operation of the project: all classes in the sub-packages of `ganeti.ops`."""
    found: list[type[Operation[Any, Any, Any]]] = []
    for package in pkgutil.iter_modules(ganeti.ops.__path__, "ganeti.ops."):
        if not package.ispkg:
            continue
        path = importlib.import_module(package.name).__path__
        for module in pkgutil.iter_modules(path, package.name + "."):
            loaded = importlib.import_module(module.name)
            found += [
                thing
                for thing in vars(loaded).values()
                if isinstance(thing, type)
                and issubclass(thing, Operation)
                and thing.__module__ == loaded.__name__
                and "opcode" in vars(thing)
            ]
    return Registry(found)


def _explained(problem: str, cls: type[OpCode], value: Mapping[str, Any]) -> str:
    known = [field.encode_name for field in msgspec.structs.fields(cls)]
    unknown = [key for key in value if key not in known and key != "OP_ID"]
    if unknown:
        from difflib import get_close_matches

        close = get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"
        return f"unknown parameter {unknown[0]!r}{hint}"
    return problem.replace(" - at `$.", " (parameter `").replace("`", "'") + (
        ")" if " - at `$." in problem else ""
    )

"""The format of `info` commands: YAML text with fixed rules.

Mappings are sorted by key, `Pairs` keep their order, lists are items with a dash, tuples stay on one
line as `[a, b]`. What is empty leaves nothing after its key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Pairs(list[tuple[str, Any]]):
    """Keys and values in a fixed order."""


def lines_of(value: Any, depth: int = 0) -> Iterator[str]:
    """The lines of a mapping or list, indented by two blanks for each level."""
    indent = "  " * depth
    if isinstance(value, (Mapping, Pairs)):
        pairs = value if isinstance(value, Pairs) else sorted(value.items())
        for key, inner in pairs:
            yield from _entry(f"{indent}{key}: ", inner, depth)
    else:
        for item in value:
            yield from _item(item, depth)


def _entry(start: str, value: Any, depth: int) -> Iterator[str]:
    if not _is_container(value):
        yield start + scalar(value)
        return
    yield start
    yield from lines_of(value, depth + 1)


def _item(item: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if not _is_container(item):
        yield f"{indent}- {scalar(item)}"
        return
    lines = list(lines_of(item, depth + 1)) or [f"{indent}  "]
    # The first line of the item stands behind the dash.
    yield f"{indent}- {lines[0][len(indent) + 2 :]}"
    yield from lines[1:]


def _is_container(value: Any) -> bool:
    return isinstance(value, (Mapping, list))


def scalar(value: Any) -> str:
    """A single value; tuples as `[a, b]`."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(scalar, value)) + "]"
    return str(value)


def text_of(value: Any) -> str:
    """The whole text, with the last line break."""
    return "".join(f"{line}\n" for line in lines_of(value))


def with_defaults(own: Mapping[str, Any], actual: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with their values; inherited ones as `default (VALUE)`."""
    return {
        name: own[name] if name in own else f"default ({scalar(value)})" for name, value in actual.items()
    }


def or_none(names: Any) -> str:
    """Names with commas between them, or `(none)`."""
    return ", ".join(names) or "(none)"

"""Tables as text: columns by the kind of their field, special states, alignment, units."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ganeti.model.units import format_size

Cell = Sequence[Any]
"""State and value."""
Format = Callable[[Any], str]

NORMAL, UNKNOWN, NO_DATA, UNAVAILABLE, OFFLINE = range(5)

_TERSE = {UNKNOWN: "??", NO_DATA: "?", UNAVAILABLE: "-", OFFLINE: "*"}
_VERBOSE = {UNKNOWN: "(unknown)", NO_DATA: "(nodata)", UNAVAILABLE: "(unavail)", OFFLINE: "(offline)"}
_RIGHT = frozenset(("number", "float", "unit"))

KIND_NAMES = {
    "unknown": "Unknown",
    "text": "Text",
    "bool": "Boolean",
    "number": "Number",
    "float": "Floating-point number",
    "unit": "Storage size",
    "timestamp": "Timestamp",
    "other": "Custom",
}
"""What `list-fields` calls the kinds."""


class Style(NamedTuple):
    """How a table is printed."""

    headers: bool = True
    separator: str | None = None
    """None: columns padded, one space between."""
    units: str | None = None
    """h, m, g or t; None: h, and m with a separator."""
    verbose: bool = False
    """Long names of special states."""


def timestamp(seconds: float) -> str:
    """`YYYY-MM-DD HH:MM:SS`, local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def timestamp_us(pair: Sequence[int]) -> str:
    """The same of seconds and microseconds, with the latter."""
    return f"{timestamp(pair[0])}.{pair[1]:06d}"


def yes_or_no(value: Any) -> str:
    """`Y` or `N`."""
    return "Y" if value else "N"


def joined(value: Any) -> str:
    """The items of a list with commas between them."""
    return ",".join(map(str, value))


def format_of(kind: str, units: str) -> Format:
    """How values of a kind of field are printed."""
    match kind:
        case "bool":
            return yes_or_no
        case "unit":
            return partial(_sized, units=units)
        case "timestamp":
            return timestamp
    return str


def _sized(value: Any, *, units: str) -> str:
    return format_size(value, units)


def render(
    fields: Sequence[Mapping[str, Any]],
    rows: Sequence[Sequence[Cell]],
    style: Style,
    formats: Mapping[str, Format] | None = None,
) -> Iterable[str]:
    """The lines of a table.

    Args:
        fields: definitions with `name`, `title` and `kind`.
        rows: a cell for each field.
        style: how it looks.
        formats: by field name, instead of what the kind says.
    """
    units = style.units or ("h" if style.separator is None else "m")
    states = _VERBOSE if style.verbose else _TERSE
    columns = []
    for index, field in enumerate(fields):
        write = (formats or {}).get(field["name"]) or format_of(field["kind"], units)
        cells = (row[index] for row in rows)
        texts = [write(cell[1]) if cell[0] == NORMAL else states.get(cell[0], "?") for cell in cells]
        columns.append([str(field["title"]), *texts] if style.headers else texts)
    if not columns:
        return []
    if style.separator is not None:
        return map(style.separator.join, zip(*columns))
    return _padded(columns, [field["kind"] in _RIGHT for field in fields])


def _padded(columns: Sequence[Sequence[str]], right: Sequence[bool]) -> Iterable[str]:
    parts = []
    for index, (column, is_right) in enumerate(zip(columns, right)):
        width = max(map(len, column), default=0)
        is_last = index == len(columns) - 1
        parts.append(f"%{width}s" if is_right else "%s" if is_last else f"%-{width}s")
    line = " ".join(parts)
    return [line % cells for cells in zip(*columns)]


def plain_table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], style: Style, *, right: Sequence[int] = ()
) -> Iterable[str]:
    """The lines of a table of texts, for lists that are no queries.

    Args:
        titles: of the columns.
        rows: texts.
        style: how it looks.
        right: numbers of the columns that are aligned right.
    """
    fields = [
        {"name": title, "title": title, "kind": "number" if index in right else "text"}
        for index, title in enumerate(titles)
    ]
    return render(fields, [[(NORMAL, text) for text in row] for row in rows], style)

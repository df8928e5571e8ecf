"""What a query field is: a name, a title, a kind, a line of documentation and how to get the value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum, StrEnum
from typing import Any, Generic, TypeVar

import msgspec


class FieldKind(StrEnum):
    """How values of a field are shown (query.md section 2)."""

    UNKNOWN = "unknown"
    TEXT = "text"
    BOOL = "bool"
    NUMBER = "number"
    FLOAT = "float"
    UNIT = "unit"
    TIMESTAMP = "timestamp"
    OTHER = "other"


class Status(IntEnum):
    """What a cell of a result is; a value stands in it only if NORMAL."""

    NORMAL = 0
    UNKNOWN = 1
    NO_DATA = 2
    UNAVAILABLE = 3
    OFFLINE = 4


class Absent:
    """Takes the place of a value that is not there; `status` says why."""

    __slots__ = ("status",)

    def __init__(self, status: Status) -> None:
        self.status = status


NO_DATA = Absent(Status.NO_DATA)
UNAVAILABLE = Absent(Status.UNAVAILABLE)
OFFLINE = Absent(Status.OFFLINE)

I = TypeVar("I")  # noqa: E741
W = TypeVar("W")


class Field(msgspec.Struct, Generic[I, W], frozen=True, kw_only=True):
    """One field: `get(item, world)` gives a JSON value or an `Absent`."""

    name: str
    title: str
    kind: FieldKind
    doc: str
    get: Callable[[I, W], Any]
    is_live: bool = False
    """Needs an answer of nodes."""
    is_host_name: bool = False
    """In comparisons a short name is enough."""
    is_stamp: bool = False
    """A pair of seconds and microseconds, compared by its seconds."""

    def definition(self) -> dict[str, str]:
        """The field as clients see it."""
        return {"name": self.name, "title": self.title, "kind": self.kind.value, "doc": self.doc}


Table = Mapping[str, Field[Any, Any]]


def table(rows: Iterable[Field[I, W]]) -> dict[str, Field[I, W]]:
    """Fields by name; a name that stands twice is a mistake."""
    found: dict[str, Field[I, W]] = {}
    for row in rows:
        if row.name in found:
            raise ValueError(f"field {row.name} is declared twice")
        found[row.name] = row
    return found


def unknown_definition(name: str) -> dict[str, str]:
    """What clients get for a field that is not there."""
    return {
        "name": name,
        "title": name,
        "kind": FieldKind.UNKNOWN.value,
        "doc": f"Unknown field '{name}'",
    }


def present(value: Any) -> Any:
    """The value, or unavailable where it is None."""
    return UNAVAILABLE if value is None else value


def plain(name: str, title: str, kind: FieldKind, doc: str) -> Field[Any, Any]:
    """A field that is an attribute of the item."""
    return Field(name=name, title=title, kind=kind, doc=doc, get=lambda item, _: getattr(item, name))


def common_fields(what: str, *, tags: bool = True) -> list[Field[Any, Any]]:
    """Fields that all stored objects have."""
    rows = [
        plain("uuid", "UUID", FieldKind.TEXT, f"{what} UUID"),
        plain(
            "serial_no",
            "SerialNo",
            FieldKind.NUMBER,
            f"{what} object serial number, incremented on each change",
        ),
        plain("ctime", "CTime", FieldKind.TIMESTAMP, "Creation timestamp"),
        plain("mtime", "MTime", FieldKind.TIMESTAMP, "Modification timestamp"),
    ]
    if tags:
        rows.append(
            Field(
                name="tags",
                title="Tags",
                kind=FieldKind.OTHER,
                doc="Tags",
                get=lambda item, _: list(item.tags),
            )
        )
    return rows

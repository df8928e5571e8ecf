"""The table of routes: which function answers which method on which path, and who may ask."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from ganeti.errors import ProgrammerError
from ganeti.rapi.errors import HttpError
from ganeti.rapi.users import Access

Method = Literal["GET", "PUT", "POST", "DELETE"]

_NAME = r"[\w._-]+"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request, taken apart."""

    names: Mapping[str, str] = {}
    """Values of the braces in the path."""
    query: Mapping[str, tuple[str, ...]] = {}
    """Query arguments; those without a value are left out."""
    body: Any = None
    """Decoded JSON; None: there is none."""


Answer = Callable[[Call], Awaitable[Any]]


class HttpRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One row: `GET /2/instances/{name}`."""

    method: Method
    path: str
    answer: Answer
    doc: str
    """What it does, for the reference page."""
    access: Access | None = None
    """None: nothing for GET, the right to write for everything else."""

    @property
    def needs(self) -> Access:
        """Who may use it."""
        if self.access is not None:
            return self.access
        return Access.OPEN if self.method == "GET" else Access.WRITE


class Routes:
    """All rows, and the search in them.

    Args:
        rows: of the table.

    Raises:
        ProgrammerError: two rows have the same method and path.
    """

    def __init__(self, rows: Iterable[HttpRoute]) -> None:
        self.rows = tuple(rows)
        self._patterns: dict[str, tuple[re.Pattern[str], dict[str, HttpRoute]]] = {}
        for row in self.rows:
            _, methods = self._patterns.setdefault(row.path, (_pattern(row.path), {}))
            if row.method in methods:
                raise ProgrammerError(f"{row.method} {row.path} is declared twice")
            methods[row.method] = row

    def find(self, method: str, path: str) -> tuple[HttpRoute, Mapping[str, str]]:
        """The row for a request, and the names in its path.

        Raises:
            HttpError: 404 for an unknown path, 501 for a method that it does not have.
        """
        for pattern, methods in self._patterns.values():
            match = pattern.fullmatch(path)
            if match is None:
                continue
            row = methods.get(method)
            if row is None:
                raise HttpError(501, f"{method} is not supported on {path}")
            return row, {name: unquote(value) for name, value in match.groupdict().items()}
        raise HttpError(404)


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", path)
    texts = [re.escape(part) if at % 2 == 0 else f"(?P<{part}>{_NAME})" for at, part in enumerate(parts)]
    return re.compile("".join(texts), re.ASCII)

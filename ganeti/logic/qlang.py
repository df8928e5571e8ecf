"""The filter language of queries: JSON lists read into a test of one row. Pure (query.md section 3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from ganeti.errors import FilterError, ParameterError
from ganeti.logic.fields.base import Absent, Field, FieldKind, Table
from ganeti.model.ids import names_match

Test = Callable[[Any, Any], bool]
"""Gets an item and its world."""

MAX_DEPTH = 100

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


class CompiledFilter:
    """A filter that has been read once.

    Attributes:
        test: whether an item passes.
        fields: names of all fields that it looks at.
        wanted: for a filter that only asks for keys: the keys in their order; else None.
    """

    def __init__(self, test: Test, fields: frozenset[str], wanted: tuple[Any, ...] | None) -> None:
        self.test = test
        self.fields = fields
        self.wanted = wanted


def compile_filter(qfilter: Any, table: Table, key: str | None) -> CompiledFilter:
    """Read a filter.

    Args:
        qfilter: JSON value; None lets everything pass.
        table: fields of the resource.
        key: name of its key field.

    Raises:
        FilterError: it is not well-formed; the place is named.
        ParameterError: an unknown field, or a comparison of different types.
    """
    if qfilter is None:
        return CompiledFilter(lambda item, world: True, frozenset(), None)
    used: set[str] = set()
    test = _Reader(table, used).read(qfilter, "the filter", 0)
    return CompiledFilter(test, frozenset(used), _wanted_keys(qfilter, key))


def _wanted_keys(qfilter: Any, key: str | None) -> tuple[Any, ...] | None:
    """The keys of a filter that is nothing but an OR of tests of the key field."""
    if key is None or not isinstance(qfilter, list | tuple) or not qfilter:
        return None
    if qfilter[0] in ("==", "=") and len(qfilter) == 3:
        return (qfilter[2],) if qfilter[1] == key else None
    if qfilter[0] != "|" or len(qfilter) < 2:
        return None
    found = [_wanted_keys(part, key) for part in qfilter[1:]]
    if any(part is None for part in found):
        return None
    return tuple(value for part in found if part is not None for value in part)


class _Reader:
    def __init__(self, table: Table, used: set[str]) -> None:
        self._table = table
        self._used = used

    def read(self, qfilter: Any, where: str, depth: int) -> Test:
        if depth > MAX_DEPTH:
            raise FilterError(f"the filter is nested deeper than {MAX_DEPTH} levels")
        if not isinstance(qfilter, list | tuple) or not qfilter or not isinstance(qfilter[0], str):
            raise FilterError(f"{where} must be a list that begins with an operator, not {_shown(qfilter)}")
        operator, *arguments = qfilter
        match operator:
            case "&" | "|":
                tests = [
                    self.read(part, f"part {number} of {operator} in {where}", depth + 1)
                    for number, part in enumerate(arguments, 1)
                ]
                return _all(tests) if operator == "&" else _any(tests)
            case "!":
                (part,) = self._exactly(1, operator, arguments, where)
                inner = self.read(part, f"! in {where}", depth + 1)
                return lambda item, world: not inner(item, world)
            case "?":
                (name,) = self._exactly(1, operator, arguments, where)
                return _on_value(self._field(name, where), bool)
            case "!=":
                equal = self.read(["==", *arguments], where, depth + 1)
                return lambda item, world: not equal(item, world)
            case "==" | "=" | "<" | "<=" | ">" | ">=" | "=~" | "=[]":
                name, value = self._exactly(2, operator, arguments, where)
                return self._comparison(operator, self._field(name, where), value, where)
        raise FilterError(f"unknown operator {operator!r} in {where}")

    def _exactly(self, count: int, operator: str, arguments: Sequence[Any], where: str) -> Sequence[Any]:
        if len(arguments) != count:
            raise FilterError(
                f"operator {operator!r} in {where} takes {count} argument(s), not {len(arguments)}"
            )
        return arguments

    def _field(self, name: Any, where: str) -> Field[Any, Any]:
        field = self._table.get(name) if isinstance(name, str) else None
        if field is None:
            raise ParameterError(f"unknown field {_shown(name)} in {where}")
        self._used.add(field.name)
        return field

    def _comparison(self, operator: str, field: Field[Any, Any], value: Any, where: str) -> Test:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ParameterError(
                f"field {field.name} in {where} is compared with {_shown(value)}; "
                "only texts and whole numbers can be compared"
            )
        match operator:
            case "=~":
                return _on_value(field, _regex(value, where))
            case "=[]":
                return _on_value(field, lambda found: value in found)
            case "==" | "=":
                if field.is_host_name and isinstance(value, str):
                    return _on_value(field, lambda found: names_match(value, found))
                return _on_value(field, _same_type(field, value, lambda found: bool(found == value)))
        compare = _ORDER[operator]
        return _on_value(field, _same_type(field, value, lambda found: compare(found, value)))


def _same_type(
    field: Field[Any, Any], value: str | int, compare: Callable[[Any], bool]
) -> Callable[[Any], bool]:
    def check(found: Any) -> bool:
        if field.is_stamp and isinstance(found, list | tuple):
            found = found[0]
        numbers = isinstance(found, int | float) and not isinstance(found, bool)
        if isinstance(value, str) is not isinstance(found, str) or (isinstance(value, int) and not numbers):
            kind = "text" if field.kind is FieldKind.TEXT else field.kind.value
            raise ParameterError(f"field {field.name} ({kind}) cannot be compared with {_shown(value)}")
        return compare(found)

    return check


def _regex(value: str | int, where: str) -> Callable[[Any], bool]:
    if not isinstance(value, str):
        raise ParameterError(f"the regular expression in {where} must be a text")
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise FilterError(f"cannot read the regular expression {value!r} in {where}: {error}") from error

    def check(found: Any) -> bool:
        if not isinstance(found, str):
            raise ParameterError(f"a regular expression in {where} is used on a field that is no text")
        return pattern.search(found) is not None

    return check


def _on_value(field: Field[Any, Any], check: Callable[[Any], bool]) -> Test:
    get = field.get

    def test(item: Any, world: Any) -> bool:
        value = get(item, world)
        # Where there is no value the single test counts as true, as clients are used to.
        return True if isinstance(value, Absent) else check(value)

    return test


def _all(tests: Sequence[Test]) -> Test:
    return lambda item, world: all(test(item, world) for test in tests)


def _any(tests: Sequence[Test]) -> Test:
    return lambda item, world: any(test(item, world) for test in tests)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

"""Parameters with a name, a type and a default: one row each, checked and filled in one place.

Objects store only the values that were set on them. `ParamTable.fill` lays the layers above each
other, `ParamTable.check` refuses what no row knows or allows, and `merge` applies a change, in
which the value `default` takes a setting away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import msgspec

from ganeti.errors import ParameterError, TypeEnforcementError

ParamValue = str | int | float | bool | None
ParamValues = Mapping[str, ParamValue]

RESET = "default"
"""Value that takes a setting away, so that the inherited one counts again."""


class ParamType(StrEnum):
    """Types of parameters; sizes are MiB and may be written with a unit."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    SIZE = "size"
    STRING = "string"
    MAYBE_STRING = "maybe-string"


Check = Callable[[ParamValue], str | None]
"""Gives what is wrong with a value, or None; sees only values of the right type."""


class ParamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter."""

    name: str
    type: ParamType
    default: ParamValue
    doc: str
    check: Check | None = None
    choices: tuple[str, ...] = ()
    """Allowed strings; empty: any."""
    is_global: bool = False
    """Can only be set on the cluster and is left out of what instances see."""


class ParamTable:
    """The parameters of one kind of thing, in the order they are documented.

    Args:
        subject: what has these parameters, for messages: `hypervisor kvm`.
        rows: the parameters.
    """

    def __init__(self, subject: str, rows: Sequence[ParamSpec]) -> None:
        self.subject = subject
        self.rows: Mapping[str, ParamSpec] = {row.name: row for row in rows}

    @property
    def defaults(self) -> dict[str, ParamValue]:
        """Every parameter with its built-in default."""
        return {row.name: row.default for row in self.rows.values()}

    def fill(self, *layers: ParamValues, with_globals: bool = False) -> dict[str, ParamValue]:
        """The values that count: built-in defaults, then each layer over the one before."""
        filled = {row.name: row.default for row in self.rows.values() if with_globals or not row.is_global}
        for layer in layers:
            filled.update((name, value) for name, value in layer.items() if name in filled)
        return filled

    def check(self, values: ParamValues, *, may_reset: bool = False) -> dict[str, ParamValue]:
        """The values in their proper types: `"512m"` for a size becomes 512.

        Args:
            values: as given by the user.
            may_reset: `default` is allowed and stays as it is.

        Raises:
            ParameterError: a name that is not in this table.
            TypeEnforcementError: a value of the wrong type or not allowed.
        """
        return {
            name: RESET if may_reset and value == RESET else self._checked(name, value)
            for name, value in values.items()
        }

    def merge(self, own: ParamValues, changes: ParamValues) -> dict[str, ParamValue]:
        """The own values after a change, checked; `default` removes a value."""
        merged = dict(own)
        for name, value in self.check(changes, may_reset=True).items():
            if value == RESET and self.rows[name].default != RESET:
                merged.pop(name, None)
            else:
                merged[name] = value
        return merged

    def _checked(self, name: str, value: ParamValue) -> ParamValue:
        row = self.rows.get(name)
        if row is None:
            raise ParameterError(f"{self.subject} has no parameter {name!r}{_nearest(name, self.rows)}")
        converted = convert(value, row.type, f"parameter {name} of {self.subject}")
        if row.choices and converted not in row.choices:
            allowed = ", ".join(choice or "(empty)" for choice in row.choices)
            raise TypeEnforcementError(
                f"parameter {name} of {self.subject} cannot be {value!r}; allowed: {allowed}"
            )
        problem = row.check(converted) if row.check is not None else None
        if problem is not None:
            raise TypeEnforcementError(f"parameter {name} of {self.subject}: {problem}")
        return converted


def is_one_line(text: str) -> bool:
    """Whether a text can stand on a line of a file, and in an environment, as it is."""
    return not any(character < " " or character == "\x7f" for character in text)


_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}


def convert(value: ParamValue, wanted: ParamType, what: str) -> ParamValue:
    """A value in the wanted type; texts from a command line are read.

    Raises:
        TypeEnforcementError: it cannot be read; the message starts with `what`.
    """
    from ganeti.model.units import parse_size_mib

    match wanted, value:
        case (ParamType.MAYBE_STRING, None):
            return None
        case (ParamType.STRING | ParamType.MAYBE_STRING, str()):
            if not is_one_line(value):
                raise TypeEnforcementError(f"{what} must be one line without control characters")
            return value
        case (ParamType.STRING, None | False):
            return ""
        case (ParamType.BOOL, bool()):
            return value
        case (ParamType.BOOL, str()) if value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        case (ParamType.INT | ParamType.SIZE, int()) if not isinstance(value, bool):
            return value
        case (ParamType.FLOAT, int() | float()) if not isinstance(value, bool):
            return float(value)
        case (ParamType.INT, str()):
            try:
                return int(value)
            except ValueError:
                pass
        case (ParamType.FLOAT, str()):
            try:
                return float(value)
            except ValueError:
                pass
        case (ParamType.SIZE, str()):
            try:
                return parse_size_mib(value)
            except ValueError as error:
                raise TypeEnforcementError(f"{what}: {error}") from error
    kind = {"maybe-string": "a text", "string": "a text", "bool": "yes or no"}.get(
        wanted, f"a number ({wanted})"
    )
    raise TypeEnforcementError(f"{what} must be {kind}, not {value!r}")


def _nearest(name: str, known: Mapping[str, object]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known)) or 'none'}"

"""Readers of values on the command line, by the name that a parameter's kind gives as its syntax.

A reader takes the text of one option and gives a JSON value. An option may be repeated where its
values can be put together (lists, mappings); `combine` does that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ganeti.cli.errors import MisspeltParameter
from ganeti.model.units import parse_duration_s, parse_size_mib

Reader = Callable[[str], Any]

_YES = {"yes": True, "true": True, "no": False, "false": False}
_INDEX = re.compile(r"^\d+$")
_POLICY_SIZES = ("memory-size", "disk-size")


def text(value: str) -> str:
    """The text itself."""
    return value


def integer(value: str) -> int:
    """A whole number."""
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a whole number") from None


def number(value: str) -> int | float:
    """A number, with or without a fraction."""
    try:
        exact = float(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a number") from None
    return int(exact) if _INDEX.match(value) else exact


def maybe_number(value: str) -> int | float | str:
    """A number or the word `default`."""
    return value if value == "default" else number(value)


def size(value: str) -> int:
    """MiB of `10g`, `512m` or a plain number."""
    return parse_size_mib(value)


def instance_size(value: str) -> list[int] | str:
    """Memory, disk and processors as in `8g,100g,4`, or the word `default`."""
    if value == "default":
        return value
    parts = value.split(",")
    if len(parts) != 3:
        raise ValueError(f"{value!r} is not a size of an instance; write MEMORY,DISK,CPUS as in 8g,100g,4")
    return [parse_size_mib(parts[0]), parse_size_mib(parts[1]), integer(parts[2])]


def new_nodes(value: str) -> list[str]:
    """A node that could be added: a name, or a size with commas."""
    return [value]


def duration(value: str) -> int:
    """Seconds of `90`, `5m`, `2h`, `7d` or `1w`."""
    return parse_duration_s(value)


def yes_no(value: str) -> bool:
    """True for yes, False for no."""
    found = _YES.get(value.lower())
    if found is None:
        raise MisspeltParameter(f"{value!r} is neither yes nor no")
    return found


def json_value(value: str) -> Any:
    """Any JSON value."""
    import json

    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None


def comma_list(value: str) -> list[str]:
    """Names with commas between them; an empty text is an empty list."""
    return [item for item in split_escaped(value, ",") if item]


def split_escaped(value: str, separator: str) -> list[str]:
    r"""Parts of a text between separators; a backslash before a separator makes it part of the text.

    >>> split_escaped(r"a=1\\,2,b=3", ",")
    ['a=1,2', 'b=3']
    """
    parts = [""]
    position = 0
    while position < len(value):
        char = value[position]
        if char == "\\" and value[position + 1 : position + 2] in (separator, "\\"):
            parts[-1] += value[position + 1]
            position += 1
        elif char == separator:
            parts.append("")
        else:
            parts[-1] += char
        position += 1
    return parts


def key_values(value: str) -> dict[str, Any]:
    """`key=value,switch,no_switch,-key`: texts, True, False and null.

    Raises:
        MisspeltParameter: no key before `=`, or one key twice.
    """
    found: dict[str, Any] = {}
    for item in split_escaped(value, ",") if value else ():
        key, given = _key_value(item)
        if not key:
            raise MisspeltParameter(f"{item!r} has no name before '='; write KEY=VALUE,KEY=VALUE")
        if key in found:
            raise MisspeltParameter(f"{key!r} is given twice in {value!r}")
        found[key] = given
    return found


def _key_value(item: str) -> tuple[str, Any]:
    key, equals, given = item.partition("=")
    if equals:
        return key, given
    if key.startswith("no_"):
        return key[3:], False
    if key.startswith("-"):
        return key[1:], None
    return key, True


def named_key_values(value: str) -> dict[str, Any]:
    """`name:key=value,...`; `no_name` takes the name away (False), `-name` resets it (null).

    Raises:
        MisspeltParameter: no name, or `no_name` with values.
    """
    name, colon, rest = value.partition(":")
    removed: Any = {}
    if name.startswith("no_"):
        name, removed = name[3:], False
    elif name.startswith("-"):
        name, removed = name[1:], None
    if not name or "=" in name:
        raise MisspeltParameter(f"{value!r} has no name in front; write NAME:KEY=VALUE,...")
    if removed == {}:
        return {name: key_values(rest)}
    if colon:
        raise MisspeltParameter(f"{value!r} removes {name!r}, so nothing may follow the colon")
    return {name: removed}


def list_changes(value: str) -> list[list[str]]:
    """`+NAME,-NAME,...` as `["add", NAME]` and `["remove", NAME]`."""
    found = []
    for item in comma_list(value):
        verb = {"+": "add", "-": "remove"}.get(item[0])
        if verb is None or len(item) == 1:
            raise MisspeltParameter(f"{item!r} must be +NAME to add it or -NAME to take it away")
        found.append([verb, item[1:]])
    return found


def uid_ranges(value: str) -> list[list[int]]:
    """`1000-1010,2000` as `[[1000, 1010], [2000, 2000]]`."""
    ranges = []
    for item in comma_list(value):
        low, _, high = item.partition("-")
        if not _INDEX.match(low) or not _INDEX.match(high or low):
            raise ValueError(f"{item!r} is neither a user id nor LOW-HIGH")
        ranges.append([int(low), int(high or low)])
    return ranges


def policy_spec(value: str) -> dict[str, Any]:
    """Size of an instance in a policy: `memory-size=1g,cpu-count=2`; sizes become MiB."""
    return {
        key: parse_size_mib(str(given)) if key in _POLICY_SIZES else integer(str(given))
        for key, given in key_values(value).items()
    }


def policy_bounds(value: str) -> list[dict[str, Any]]:
    """`min:KEY=VALUE,.../max:KEY=VALUE,...//min:...`: pairs of smallest and largest instance."""
    pairs = []
    for pair in value.split("//"):
        ends: dict[str, Any] = {}
        for end in pair.split("/"):
            name, colon, rest = end.partition(":")
            if not colon or name not in ("min", "max"):
                raise MisspeltParameter(f"{end!r} must start with min: or max:")
            ends[name] = policy_spec(rest)
        if set(ends) != {"min", "max"}:
            raise MisspeltParameter(f"{pair!r} needs both min: and max:, with a slash between")
        pairs.append(ends)
    return pairs


def readers() -> Mapping[str, Reader]:
    """Every reader by name."""
    from ganeti.cli.devices import device_changes, disk_specs, nic_specs, recreated_disks

    return {
        "text": text,
        "integer": integer,
        "number": number,
        "maybe_number": maybe_number,
        "size": size,
        "instance_size": instance_size,
        "new_nodes": new_nodes,
        "duration": duration,
        "yes_no": yes_no,
        "json": json_value,
        "comma_list": comma_list,
        "key_values": key_values,
        "named_key_values": named_key_values,
        "list_changes": list_changes,
        "uid_ranges": uid_ranges,
        "policy_spec": policy_spec,
        "policy_bounds": policy_bounds,
        "disk_specs": disk_specs,
        "nic_specs": nic_specs,
        "device_changes": device_changes,
        "recreated_disks": recreated_disks,
    }


REPEATABLE = frozenset(
    (
        "comma_list",
        "new_nodes",
        "key_values",
        "named_key_values",
        "list_changes",
        "uid_ranges",
        "policy_spec",
        "disk_specs",
        "nic_specs",
        "device_changes",
        "recreated_disks",
    )
)
"""Readers whose option may be given several times."""


def combine(reader: str, values: Sequence[Any]) -> Any:
    """One value of what an option was given, in order.

    Raises:
        MisspeltParameter: two disks or interfaces with one index.
    """
    if reader not in REPEATABLE:
        return values[-1]
    if reader in ("disk_specs", "nic_specs"):
        from ganeti.cli.devices import in_order

        return in_order(values)
    if isinstance(values[0], dict):
        return _merged(values)
    return [item for value in values for item in value]


def _merged(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for value in values:
        for key, given in value.items():
            before = merged.get(key)
            both = isinstance(before, dict) and isinstance(given, dict)
            merged[key] = {**before, **given} if both else given  # type: ignore[dict-item]
    return merged

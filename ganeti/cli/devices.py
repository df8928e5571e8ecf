"""Readers of disks and network interfaces: `--disk 0:size=10g,mode=rw`, `--net add:link=br1`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ganeti.cli.errors import MisspeltParameter
from ganeti.cli.values import key_values
from ganeti.model.units import parse_size_mib

_INDEX = re.compile(r"^-?\d+$")
_VERBS = ("add", "attach", "modify", "remove", "detach")

Indexed = tuple[int, dict[str, Any]]


def disk_specs(value: str) -> Indexed:
    """`N:size=SIZE,KEY=VALUE,...` of a new disk: its index and keys; sizes become MiB."""
    index, params = _indexed(value, "N:size=SIZE")
    return index, disk_params(params)


def nic_specs(value: str) -> Indexed:
    """`N:KEY=VALUE,...` of a new network interface: its index and keys."""
    return _indexed(value, "N:KEY=VALUE,...")


def _indexed(value: str, form: str) -> Indexed:
    index, colon, rest = value.partition(":")
    if not index.isdigit():
        raise MisspeltParameter(f"{value!r} must start with an index and a colon; write {form}")
    return int(index), key_values(rest) if colon else {}


def disk_params(params: dict[str, Any]) -> dict[str, Any]:
    """Keys of a disk with the sizes and numbers read.

    Raises:
        MisspeltParameter: a size or number that cannot be read.
    """
    found = dict(params)
    try:
        if isinstance(found.get("size"), str):
            found["size"] = parse_size_mib(found["size"])
        if isinstance(found.get("spindles"), str):
            found["spindles"] = int(found["spindles"])
    except ValueError as error:
        raise MisspeltParameter(f"disk: {error}") from None
    return found


def in_order(values: Sequence[Indexed]) -> list[dict[str, Any]]:
    """The devices by index; an index that was left out is a device with defaults.

    Raises:
        MisspeltParameter: an index twice, or one far beyond what an instance can have.
    """
    found: dict[int, dict[str, Any]] = {}
    for index, params in values:
        if index in found:
            raise MisspeltParameter(f"index {index} is given twice")
        if index > 63:
            raise MisspeltParameter(f"index {index} is too high; indices count from 0")
        found[index] = params
    return [found.get(index, {}) for index in range(max(found) + 1)]


def device_changes(value: str) -> list[list[Any]]:
    """A change of a disk or interface as `[[verb, index or name, keys]]`.

    `add:KEYS` (at the end), `N:add,KEYS`, `N:KEYS` or `N:modify,KEYS`, `remove` (the last),
    `N:remove`, `N:detach`, `attach:name=X`; N is an index, a name or a UUID, -1 the last.
    """
    ident, _, rest = value.partition(":")
    params = key_values(rest)
    if ident in _VERBS:
        return [_change(value, ident, -1, params)]
    named = [verb for verb in _VERBS if params.get(verb) is True]
    if len(named) > 1:
        raise MisspeltParameter(f"{value!r} asks for {' and '.join(named)} at once")
    verb = named[0] if named else "modify"
    params.pop(verb, None)
    if not ident:
        raise MisspeltParameter(f"{value!r} does not say which device; write N:..., add:... or remove")
    return [_change(value, verb, int(ident) if _INDEX.match(ident) else ident, params)]


def _change(value: str, verb: str, ident: int | str, params: dict[str, Any]) -> list[Any]:
    if verb in ("remove", "detach") and params:
        raise MisspeltParameter(f"{value!r}: nothing may be given with {verb}")
    if verb == "attach" and set(params) not in ({"name"}, {"uuid"}):
        raise MisspeltParameter(f"{value!r}: attach needs name=NAME or uuid=UUID")
    return [verb, ident, disk_params(params)]


def recreated_disks(value: str) -> list[Any]:
    """`N` or `N:size=SIZE,...` of disks to make again: `[[N, keys]]`."""
    index, params = _indexed(value, "N or N:size=SIZE")
    return [[index, disk_params(params)]]

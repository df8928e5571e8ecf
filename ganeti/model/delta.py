"""What differs between two values of the cluster: as much as was changed, however large the cluster.

`stamp` finishes a change (serial numbers, times) and says what it was; `apply` repeats it on
another copy of the old value. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ganeti.errors import ErrorCode, PrereqError, ProgrammerError
from ganeti.model.cluster import Cluster, ClusterSettings
from ganeti.model.disk import Disk
from ganeti.model.filters import FilterRule
from ganeti.model.instance import Instance
from ganeti.model.network import Network
from ganeti.model.node import Node, NodeGroup
from ganeti.model.table import Table

TABLES = ("nodes", "groups", "instances", "disks", "networks", "filters")
"""Names of the cluster's tables."""

_NAMED = {"nodes": "node", "groups": "node group", "instances": "instance", "networks": "network"}


class Delta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One change: the new state of whatever changed, None for what was removed."""

    serial_no: int
    """Serial number of the configuration after the change."""
    mtime: float
    reason: str = ""
    settings: Mapping[str, Any] = {}
    """Only the keys that changed."""
    nodes: Mapping[str, Node | None] = {}
    groups: Mapping[str, NodeGroup | None] = {}
    instances: Mapping[str, Instance | None] = {}
    disks: Mapping[str, Disk | None] = {}
    networks: Mapping[str, Network | None] = {}
    filters: Mapping[str, FilterRule | None] = {}


def stamp(old: Cluster, new: Cluster, *, now: float, reason: str = "") -> tuple[Cluster, Delta | None]:
    """The new value with serial numbers and times set, its tables settled, and what changed.

    Args:
        old: the value before, settled.
        new: made from `old`.
        now: seconds since the epoch.
        reason: kept in the journal for whoever looks.

    Returns:
        the old value itself and None if nothing changed.

    Raises:
        PrereqError: two objects of a kind with one name.
        ProgrammerError: `new` was not made from `old`.
    """
    changes = {name: _table_changes(name, old, new, now) for name in TABLES}
    settings = _settings_changes(old.settings, new.settings, now)
    if not settings and not any(changes.values()):
        return old, None
    serial = old.serial_no + 1
    delta = Delta(serial_no=serial, mtime=now, reason=reason, settings=settings, **changes)
    stamped = msgspec.structs.replace(
        new,
        settings=msgspec.structs.replace(new.settings, **settings) if settings else old.settings,
        serial_no=serial,
        mtime=now,
        version=old.version,
        ctime=old.ctime,
        **{
            name: _restamped(getattr(new, name), changed) if changed else getattr(old, name)
            for name, changed in changes.items()
        },
    )
    return stamped, delta


def apply(cluster: Cluster, delta: Delta) -> Cluster:
    """The cluster after a change that was recorded."""
    settings = cluster.settings
    if delta.settings:
        values = {**msgspec.to_builtins(settings), **msgspec.to_builtins(delta.settings)}
        settings = msgspec.convert(values, ClusterSettings)
    tables = {}
    for name in TABLES:
        changed: Mapping[str, Any] = getattr(delta, name)
        table: Table[str, Any] = getattr(cluster, name)
        gone = [item for item, value in changed.items() if value is None]
        present = {item: value for item, value in changed.items() if value is not None}
        tables[name] = table.without(*gone).with_items(present).settled()
    return msgspec.structs.replace(
        cluster, settings=settings, serial_no=delta.serial_no, mtime=delta.mtime, **tables
    )


def _table_changes(name: str, old: Cluster, new: Cluster, now: float) -> dict[str, Any]:
    before: Table[str, Any] = getattr(old, name)
    after: Table[str, Any] = getattr(new, name)
    if after is before:
        return {}
    if not after.changes and dict(after) != dict(before):
        raise ProgrammerError(f"a change replaced the table of {name} instead of changing it")
    found: dict[str, Any] = {}
    for item, value in after.changes.items():
        previous = before.get(item)
        if value is None:
            if previous is not None:
                found[item] = None
        elif value is not previous and value != previous:
            if value.uuid != item:
                raise ProgrammerError(f"{name}: {value.uuid} was put under the key {item}")
            _refuse_taken_name(name, before, after, value)
            found[item] = _stamped(value, previous, now)
    return found


def _refuse_taken_name(name: str, before: Table[str, Any], after: Table[str, Any], value: Any) -> None:
    if name not in _NAMED:
        return
    for other in (before.by_key(value.name), after.by_key(value.name)):
        if other is None or other.uuid == value.uuid:
            continue
        still = after.get(other.uuid)
        if still is not None and still.name == value.name:
            raise PrereqError(f"there is already a {_NAMED[name]} {value.name}", code=ErrorCode.NOT_UNIQUE)


def _stamped(value: Any, previous: Any, now: float) -> Any:
    if isinstance(value, FilterRule):
        return value
    if previous is None:
        return msgspec.structs.replace(value, serial_no=1, ctime=now, mtime=now)
    return msgspec.structs.replace(value, serial_no=previous.serial_no + 1, ctime=previous.ctime, mtime=now)


def _restamped(table: Table[str, Any], changed: Mapping[str, Any]) -> Table[str, Any]:
    stamped = {item: value for item, value in changed.items() if value is not None}
    return table.with_items(stamped).settled()


def _settings_changes(old: ClusterSettings, new: ClusterSettings, now: float) -> dict[str, Any]:
    if new is old:
        return {}
    stamps = {"serial_no", "ctime", "mtime"}
    changed = {
        name: value
        for name in ClusterSettings.__struct_fields__
        if name not in stamps
        and (value := getattr(new, name)) is not (before := getattr(old, name))
        and value != before
    }
    if changed:
        changed |= {"serial_no": old.serial_no + 1, "mtime": now}
    return changed

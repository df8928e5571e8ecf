"""OS definitions of all nodes put together into rows (plugins.md section 1.6). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ganeti.logic.fields.others import OsRow
from ganeti.model.calls.os import OsStatus
from ganeti.model.cluster import ClusterSettings
from ganeti.model.ids import NodeId
from ganeti.model.names import nice_key

Found = Mapping[NodeId, Sequence[OsStatus]]


def os_rows(settings: ClusterSettings, found: Found) -> list[OsRow]:
    """One row for each name that any node knows; valid only if every node has it valid."""
    names = {status.name for statuses in found.values() for status in statuses}
    return [_row(settings, found, name) for name in sorted(names, key=nice_key)]


def _row(settings: ClusterSettings, found: Found, name: str) -> OsRow:
    by_node = {
        node: [status for status in statuses if status.name == name] for node, statuses in found.items()
    }
    in_use = [statuses[0] if statuses else None for statuses in by_node.values()]
    present = [status for status in in_use if status is not None]
    valid = all(status is not None and status.valid for status in in_use)
    versions = {status.os_version for status in present}
    return OsRow(
        name=name,
        valid=valid,
        hidden=name in settings.hidden_os,
        blacklisted=name in settings.blacklisted_os,
        variants=_common([status.variants for status in present]),
        parameters=_common([status.parameters for status in present]),
        api_versions=_common([status.api_versions for status in present]),
        trusted=all(status.trusted for status in present if status.valid),
        node_status={node: [_entry(status) for status in statuses] for node, statuses in by_node.items()},
        os_hvp=_settings_of(settings.os_hvp, name),
        osparams=_settings_of(settings.osparams, name),
        os_version=versions.pop() if len(versions) == 1 else None,
    )


def _common(lists: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """What stands in all of them, in the order of the first."""
    if not lists:
        return ()
    return tuple(item for item in lists[0] if all(item in other for other in lists[1:]))


def _entry(status: OsStatus) -> list[Any]:
    return [
        status.path,
        status.valid,
        status.message,
        list(status.variants),
        [list(parameter) for parameter in status.parameters],
        list(status.api_versions),
        status.trusted,
    ]


def _settings_of(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key.partition("+")[0] == name}

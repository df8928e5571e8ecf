"""Changed cluster settings: merged, checked, and what they break. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.cluster import Cluster, ClusterSettings
from ganeti.model.disk import DiskTemplate
from ganeti.model.param_tables.rows import absolute_path_or_empty
from ganeti.model.params import RESET, ParamTable, ParamValue, ParamValues, is_one_line

_MAC_PREFIX = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){2}")


def with_enabled_hypervisors(
    cluster: Cluster, wanted: Sequence[str], known: Mapping[str, ParamTable]
) -> ClusterSettings:
    """Settings with other enabled hypervisors; new ones get their defaults.

    Raises:
        PrereqError: unknown, empty, twice, or one that goes is in use.
    """
    names = _unique(wanted, "hypervisor")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise PrereqError(f"unknown hypervisor {unknown[0]!r}; found: {', '.join(sorted(known))}")
    for instance in cluster.instances.values():
        if instance.hypervisor not in names:
            raise PrereqError(
                f"hypervisor {instance.hypervisor} is used by instance {instance.name}: it must stay enabled",
                code=ErrorCode.STATE,
            )
    hvparams = dict(cluster.settings.hvparams)
    for name in names:
        hvparams[name] = known[name].fill(hvparams.get(name, {}), with_globals=True)
    return replace(cluster.settings, enabled_hypervisors=names, hvparams=hvparams)


def with_enabled_templates(cluster: Cluster, wanted: Sequence[str], known: Sequence[str]) -> ClusterSettings:
    """Settings with other enabled disk templates; the policy allows no others.

    Raises:
        PrereqError: unknown, empty, twice, or one that goes is in use.
    """
    names = _unique(wanted, "disk template")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise PrereqError(f"unknown disk template {unknown[0]!r}; found: {', '.join(sorted(known))}")
    for disk in cluster.disks.values():
        if disk.dev_type not in names:
            raise PrereqError(
                f"disk template {disk.dev_type} is used by disk {disk.uuid} and cannot be disabled",
                code=ErrorCode.STATE,
            )
    without_disks = [each.name for each in cluster.instances.values() if not each.disks]
    if without_disks and DiskTemplate.DISKLESS not in names:
        raise PrereqError(
            f"disk template diskless is used by instance {min(without_disks)} and cannot be disabled",
            code=ErrorCode.STATE,
        )
    policy = cluster.settings.ipolicy
    allowed = tuple(name for name in policy.disk_templates if name in names) or names
    return replace(
        cluster.settings,
        enabled_disk_templates=names,
        ipolicy=replace(policy, disk_templates=allowed),
    )


def merged_by_name(
    own: Mapping[str, ParamValues],
    changes: Mapping[str, ParamValues],
    tables: Mapping[str, ParamTable],
    what: str,
) -> dict[str, ParamValues]:
    """Parameters of several named things after a change; `default` gives the built-in default.

    Raises:
        PrereqError: an unknown name.
        GanetiError: an unknown or wrong parameter.
    """
    merged = merged_own(own, changes, tables, what)
    whole = {name: tables[name].fill(merged.get(name, {}), with_globals=True) for name in changes}
    return {**own, **whole}


def merged_own(
    own: Mapping[str, ParamValues],
    changes: Mapping[str, ParamValues],
    tables: Mapping[str, ParamTable],
    what: str,
) -> dict[str, ParamValues]:
    """As `merged_by_name`, where only what differs from a larger whole is kept; `default` gives that.

    Raises:
        PrereqError: an unknown name.
        GanetiError: an unknown or wrong parameter.
    """
    merged = dict(own)
    for name, values in changes.items():
        table = tables.get(name)
        if table is None:
            raise PrereqError(f"unknown {what} {name!r}; known: {', '.join(sorted(tables))}")
        merged[name] = table.merge(merged.get(name, {}), values)
    return {name: values for name, values in merged.items() if values}


def merged_group_policy(own: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What a group's policy says beside that of the cluster; None or `default` gives the cluster's."""
    merged = {**own, **changes}
    return {name: value for name, value in merged.items() if value not in (None, RESET)}


def merged_os_hvp(
    own: Mapping[str, Mapping[str, ParamValues]],
    changes: Mapping[str, Mapping[str, ParamValues] | None],
    tables: Mapping[str, ParamTable],
) -> dict[str, Mapping[str, ParamValues]]:
    """Hypervisor parameters per OS after a change; None removes.

    Raises:
        PrereqError: an unknown hypervisor.
        GanetiError: an unknown or wrong parameter.
    """
    merged = dict(own)
    for os, by_hypervisor in changes.items():
        if by_hypervisor is None:
            merged.pop(os, None)
            continue
        current = dict(merged.get(os, {}))
        for hypervisor, values in by_hypervisor.items():
            if hypervisor not in tables:
                raise PrereqError(f"unknown hypervisor {hypervisor!r}; known: {', '.join(sorted(tables))}")
            current[hypervisor] = tables[hypervisor].merge(current.get(hypervisor, {}), values)
        merged[os] = current
    return merged


def merged_osparams(
    own: Mapping[str, ParamValues], changes: Mapping[str, Mapping[str, ParamValue]]
) -> dict[str, ParamValues]:
    """OS parameters per OS after a change; a value of None or `default` removes one."""
    merged = dict(own)
    for os, values in changes.items():
        current = {**merged.get(os, {}), **values}
        merged[os] = {name: value for name, value in current.items() if value not in (None, RESET)}
        if not merged[os]:
            del merged[os]
    return merged


def edited_list(
    own: Sequence[str], changes: Sequence[tuple[str, str]], what: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A list after `add` and `remove` steps, and warnings about steps without effect.

    Raises:
        PrereqError: a step that is neither.
    """
    names = list(own)
    warnings = []
    for action, name in changes:
        match action:
            case "add" if name in names:
                warnings.append(f"OS {name} is {what} already")
            case "add":
                names.append(name)
            case "remove" if name not in names:
                warnings.append(f"OS {name} is not {what}")
            case "remove":
                names.remove(name)
            case _:
                raise PrereqError(f"{action!r} is neither add nor remove")
    return tuple(names), tuple(warnings)


def checked_mac_prefix(prefix: str) -> str:
    """A prefix in lower case.

    Raises:
        PrereqError: not three octets.
    """
    lower = prefix.lower()
    if _MAC_PREFIX.fullmatch(lower) is None:
        raise PrereqError(f"MAC prefix {prefix!r} is not three octets such as aa:00:00")
    return lower


def check_directory(path: str, what: str) -> None:
    """Refuse a directory of the cluster that is not absolute and plain; empty means none.

    Raises:
        PrereqError: with what is wrong.
    """
    problem = absolute_path_or_empty(path)
    if problem is None and not is_one_line(path):
        problem = f"{path!r} has control characters"
    if problem is not None:
        raise PrereqError(f"{what}: {problem}")


def plain_changes(op: Any, names: Sequence[str]) -> dict[str, Any]:
    """Settings that are replaced as they are: those of an opcode that are not None."""
    return {name: getattr(op, name) for name in names if getattr(op, name) is not None}


def _unique(names: Sequence[str], what: str) -> tuple[str, ...]:
    if not names:
        raise PrereqError(f"at least one {what} must be enabled")
    if len(set(names)) != len(names):
        raise PrereqError(f"a {what} is named twice: {', '.join(names)}")
    return tuple(names)

"""Which versions of config.data can be read, and what the older ones need to become current. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganeti.errors import ConfigurationVersionMismatch
from ganeti.model.param_tables.disk import DISK
from ganeti.model.param_tables.hv import HYPERVISORS
from ganeti.model.param_tables.nd import NODE
from ganeti.model.params import ParamTable
from ganeti.version import CONFIG_VERSION

_OLDEST = (3, 0)
_GONE_IN_3_1 = frozenset({"xen_cmd"})
"""Hypervisor parameters that 3.0 had."""
_COMPUTED_IN_3_0 = frozenset({"disk_template", "disks_info"})
"""Keys of instances that follow from their disks."""


def check_version(version: Any, source: str) -> None:
    """Refuse a file of a version that cannot be read.

    Raises:
        ConfigurationVersionMismatch: with both versions, and what to do.
    """
    if not isinstance(version, int) or isinstance(version, bool):
        raise ConfigurationVersionMismatch(f"{source} has no version number; is it a configuration?")
    if _OLDEST <= _major_minor(version) <= _major_minor(CONFIG_VERSION):
        return
    found, own = _text(version), _text(CONFIG_VERSION)
    if _major_minor(version) > _major_minor(CONFIG_VERSION):
        remedy = "install the version that wrote it, or downgrade it with that version's tools"
    else:
        remedy = "upgrade it to 3.0 with the tools of that version first"
    raise ConfigurationVersionMismatch(f"{source} is of version {found}, this is {own}; {remedy}")


def upgraded(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object of a config.data of a version that `check_version` allows, as of today."""
    values = {**raw, "version": CONFIG_VERSION}
    if _major_minor(raw["version"]) == (3, 0):
        _from_3_0(values)
    return values


def _from_3_0(values: dict[str, Any]) -> None:
    cluster = dict(values.get("cluster") or {})
    cluster["hvparams"] = _completed(HYPERVISORS, _per_hypervisor(cluster.get("hvparams")))
    cluster["os_hvp"] = {os: _per_hypervisor(own) for os, own in (cluster.get("os_hvp") or {}).items()}
    cluster["diskparams"] = _completed(DISK, cluster.get("diskparams") or {})
    cluster["ndparams"] = {**NODE.defaults, **(cluster.get("ndparams") or {})}
    values["cluster"] = cluster
    values["instances"] = {
        uuid: _instance_from_3_0(instance) for uuid, instance in (values.get("instances") or {}).items()
    }


def _instance_from_3_0(instance: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in instance.items() if key not in _COMPUTED_IN_3_0}
    if kept.get("hvparams"):
        kept["hvparams"] = _without_gone(kept["hvparams"])
    return kept


def _per_hypervisor(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {hypervisor: _without_gone(own) for hypervisor, own in (values or {}).items()}


def _without_gone(own: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in own.items() if name not in _GONE_IN_3_1}


def _completed(tables: Mapping[str, ParamTable], given: Mapping[str, Any]) -> dict[str, Any]:
    """Stored values over the defaults; what has no table (plugins) stays as it is."""
    known = {name: {**table.defaults, **given.get(name, {})} for name, table in tables.items()}
    return {**given, **known}


def _major_minor(version: int) -> tuple[int, int]:
    return version // 1_000_000, version // 10_000 % 100


def _text(version: int) -> str:
    major, minor = _major_minor(version)
    return f"{major}.{minor}.{version % 10_000}"

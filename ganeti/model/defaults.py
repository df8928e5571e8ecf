"""Settings of a new cluster, complete: every parameter of every known hypervisor and template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.cluster import ClusterSettings
from ganeti.model.disk import TRAITS, DiskTemplate
from ganeti.model.ids import NodeId
from ganeti.model.ipolicy import DEFAULT_POLICY, InstancePolicy, check_policy, check_templates, policy_from
from ganeti.model.param_tables.be import BACKEND, check_memory_order, expand_memory
from ganeti.model.param_tables.disk import DISK
from ganeti.model.param_tables.hv import HYPERVISORS
from ganeti.model.param_tables.nd import NODE
from ganeti.model.param_tables.nic import NIC
from ganeti.model.params import ParamTable, ParamValue, ParamValues

DATA_COLLECTORS = ("cpu-avg-load", "xen-cpu-avg-load", "diskstats", "drbd", "lv", "inst-status-xen")
_COLLECTOR_INTERVAL_US = 5_000_000
DEFAULT_GROUP_NAME = "default"
_NOTHING: Mapping[str, Any] = {}
FIRST_PORT, LAST_PORT = 11000, 14999
"""Range of the ports that the cluster hands out."""


def new_cluster_settings(
    *,
    uuid: str,
    cluster_name: str,
    master_node: NodeId,
    master_ip: str,
    now: float,
    enabled_hypervisors: Sequence[str] = ("xen-pvm",),
    enabled_disk_templates: Sequence[str] = ("drbd", "plain"),
    volume_group_name: str | None = None,
    primary_ip_family: int = 2,
    hypervisors: Mapping[str, ParamTable] = HYPERVISORS,
    templates: Mapping[str, ParamTable] = DISK,
    hvparams: Mapping[str, ParamValues] = _NOTHING,
    beparams: ParamValues = _NOTHING,
    nicparams: ParamValues = _NOTHING,
    ndparams: ParamValues = _NOTHING,
    diskparams: Mapping[str, ParamValues] = _NOTHING,
    ipolicy: Mapping[str, Any] = _NOTHING,
    **others: Any,
) -> ClusterSettings:
    """The settings that a cluster begins with.

    Args:
        uuid: of the cluster.
        cluster_name: its full name.
        master_node: UUID of its first node.
        master_ip: address of the cluster.
        now: seconds since the epoch.
        enabled_hypervisors: the first is the default.
        enabled_disk_templates: the first is the default.
        volume_group_name: None: `xenvg` where a template needs one.
        primary_ip_family: 2 for IPv4, 10 for IPv6.
        hypervisors: tables of all hypervisors, those of plugins included.
        templates: tables of all disk templates, those of plugins included.
        hvparams: what differs from the built-in defaults; so for the following four.
        beparams: `memory` is understood.
        nicparams: see above.
        ndparams: see above.
        diskparams: see above.
        ipolicy: parts of the instance policy, with the names of objects.md section 14.
        others: further fields of `ClusterSettings`.

    Raises:
        PrereqError: nothing is enabled, or something unknown.
        ParameterError: an unknown parameter.
        TypeEnforcementError: a value that is not allowed.
    """
    _check_enabled("hypervisor", enabled_hypervisors, hypervisors)
    _check_enabled("disk template", enabled_disk_templates, templates)
    backend = BACKEND.fill(BACKEND.check(expand_memory(beparams)))
    check_memory_order(backend)
    if volume_group_name is None and any(_is_lvm(template) for template in enabled_disk_templates):
        volume_group_name = "xenvg"
    if DiskTemplate.DRBD in enabled_disk_templates:
        others.setdefault("drbd_usermode_helper", "/bin/true")
    others.setdefault("master_netmask", 32 if primary_ip_family == 2 else 128)
    return ClusterSettings(
        uuid=uuid,
        cluster_name=cluster_name,
        master_node=master_node,
        master_ip=master_ip,
        primary_ip_family=primary_ip_family,
        volume_group_name=volume_group_name,
        enabled_hypervisors=tuple(enabled_hypervisors),
        enabled_disk_templates=tuple(enabled_disk_templates),
        hvparams=complete(hypervisors, hvparams, "hypervisor"),
        beparams={"default": backend},
        nicparams={"default": NIC.fill(NIC.check(nicparams))},
        ndparams=NODE.fill(NODE.check(ndparams)),
        diskparams=complete(templates, _with_metavg(diskparams, volume_group_name), "disk template"),
        ipolicy=_new_policy(ipolicy, enabled_disk_templates),
        data_collectors={
            name: {"active": True, "interval": _COLLECTOR_INTERVAL_US} for name in DATA_COLLECTORS
        },
        ctime=now,
        mtime=now,
        **others,
    )


def complete(
    tables: Mapping[str, ParamTable], given: Mapping[str, ParamValues], what: str
) -> dict[str, dict[str, ParamValue]]:
    """Every parameter of every table, the given values over the built-in ones.

    Raises:
        PrereqError: values for something that has no table.
        ParameterError: an unknown parameter.
        TypeEnforcementError: a value that is not allowed.
    """
    for name in given:
        if name not in tables:
            raise PrereqError(f"{what} {name} is not known; known: {', '.join(sorted(tables))}")
    return {
        name: table.fill(table.check(given.get(name, {})), with_globals=True)
        for name, table in tables.items()
    }


def _check_enabled(what: str, enabled: Sequence[str], known: Mapping[str, ParamTable]) -> None:
    if not enabled:
        raise PrereqError(f"at least one {what} must be enabled", code=ErrorCode.INPUT)
    for name in enabled:
        if name not in known:
            raise PrereqError(f"{what} {name} is not known; known: {', '.join(sorted(known))}")
    if len(set(enabled)) != len(enabled):
        raise PrereqError(f"a {what} is enabled twice: {', '.join(enabled)}")


def _is_lvm(template: str) -> bool:
    return template in TRAITS and TRAITS[template].is_lvm


def _with_metavg(given: Mapping[str, ParamValues], volume_group: str | None) -> Mapping[str, ParamValues]:
    drbd = given.get(DiskTemplate.DRBD, {})
    if volume_group is None or "metavg" in drbd:
        return given
    return {**given, str(DiskTemplate.DRBD): {**drbd, "metavg": volume_group}}


def _new_policy(given: Mapping[str, Any], enabled: Sequence[str]) -> InstancePolicy:
    policy = policy_from(DEFAULT_POLICY, {"disk-templates": sorted(enabled), **given})
    check_templates(policy, enabled)
    check_policy(policy)
    return policy

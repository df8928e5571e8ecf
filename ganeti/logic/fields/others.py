"""Query fields of jobs, locks, operating systems and the cluster itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ganeti.logic.fields.base import UNAVAILABLE, Field, FieldKind, plain, present, table
from ganeti.logic.job_info import GETTERS, JobView
from ganeti.model.cluster import Cluster
from ganeti.version import (
    CONFIG_VERSION,
    EXPORT_VERSION,
    OS_API_VERSIONS,
    PROTOCOL_VERSION,
    RELEASE,
    VCS_VERSION,
)

_TEXT, _BOOL, _NUMBER, _OTHER, _TIME = (
    FieldKind.TEXT,
    FieldKind.BOOL,
    FieldKind.NUMBER,
    FieldKind.OTHER,
    FieldKind.TIMESTAMP,
)

_JOB_ROWS = (
    ("archived", "Archived", _BOOL, "Whether job is archived"),
    ("end_ts", "End", _OTHER, "Timestamp of when job ended"),
    ("id", "ID", _NUMBER, "Job ID"),
    ("opend", "OpCode_end", _OTHER, "List of opcode end timestamps"),
    ("opexec", "OpCode_exec", _OTHER, "List of opcode execution start timestamps"),
    ("oplog", "OpCode_log", _OTHER, "List of opcode output logs"),
    ("oppriority", "OpCode_prio", _OTHER, "List of opcode priorities"),
    ("opresult", "OpCode_result", _OTHER, "List of opcode results"),
    ("ops", "OpCodes", _OTHER, "List of all opcodes"),
    ("opstart", "OpCode_start", _OTHER, "List of opcode start timestamps, before acquiring locks"),
    ("opstatus", "OpCode_status", _OTHER, "List of opcode status"),
    ("priority", "Priority", _NUMBER, "Current job priority, 19 to -20"),
    ("received_ts", "Received", _OTHER, "Timestamp of when job was received"),
    ("start_ts", "Start", _OTHER, "Timestamp of job start"),
    ("status", "Status", _TEXT, "Job status"),
    ("summary", "Summary", _OTHER, "List of per-opcode summaries"),
)
_STAMPS = ("end_ts", "received_ts", "start_ts")


class MissingJob(msgspec.Struct, frozen=True):
    """Stands for a job that was asked for by its id and is not there."""

    id: int


def _job_value(name: str) -> Callable[[JobView | MissingJob, Any], Any]:
    getter = GETTERS[name]

    def get(view: JobView | MissingJob, world: Any) -> Any:
        if isinstance(view, MissingJob):
            return view.id if name == "id" else UNAVAILABLE
        value = getter(view)
        return present(value) if name in _STAMPS else value

    return get


JOB_FIELDS = table(
    Field(name=name, title=title, kind=kind, doc=doc, get=_job_value(name), is_stamp=name in _STAMPS)
    for name, title, kind, doc in _JOB_ROWS
)
"""All fields of jobs by name."""


def _row_value(name: str) -> Callable[[Mapping[str, Any], Any], Any]:
    return lambda row, world: row[name]


LOCK_FIELDS = table(
    Field(name=name, title=title, kind=_OTHER, doc=doc, get=_row_value(name), is_live=True)
    for name, title, doc in (
        ("name", "Name", "Lock name"),
        ("mode", "Mode", "Mode in which the lock is currently acquired (exclusive or shared)"),
        ("owner", "Owner", "Current lock owner(s)"),
        ("pending", "Pending", "Jobs waiting for the lock"),
    )
)
"""All fields of locks by name."""


CACHE_FIELDS = table(
    Field(name=name, title=title, kind=kind, doc=doc, get=_row_value(name))
    for name, title, kind, doc in (
        ("group", "Group", FieldKind.TEXT, "Node group"),
        ("kind", "Kind", FieldKind.TEXT, "What is known: node, capacity"),
        ("name", "Name", FieldKind.TEXT, "Name of the node or group"),
        ("age", "Age", FieldKind.NUMBER, "Seconds since it was found out"),
    )
)
"""All fields of the state cache by name."""


class OsRow(msgspec.Struct, frozen=True, kw_only=True):
    """An OS definition compared over all nodes."""

    name: str
    valid: bool
    hidden: bool
    blacklisted: bool
    variants: tuple[str, ...]
    parameters: tuple[tuple[str, str], ...]
    api_versions: tuple[int, ...]
    trusted: bool
    node_status: Mapping[str, Any]
    os_hvp: Mapping[str, Any]
    osparams: Mapping[str, Any]
    os_version: str | None
    """None: nodes differ, or none declares one."""


OS_FIELDS = table(
    [
        plain("name", "Name", _TEXT, "Operating system name"),
        plain("valid", "Valid", _BOOL, "Whether operating system definition is valid"),
        plain("hidden", "Hidden", _BOOL, "Whether operating system is hidden"),
        plain("blacklisted", "Blacklisted", _BOOL, "Whether operating system is blacklisted"),
        plain("variants", "Variants", _OTHER, "Operating system variants"),
        plain("parameters", "Parameters", _OTHER, "Operating system parameters"),
        plain("api_versions", "ApiVersions", _OTHER, "Operating system API versions"),
        plain("trusted", "Trusted", _BOOL, "Whether this OS is trusted"),
        plain("node_status", "NodeStatus", _OTHER, "Status from node"),
        plain("os_hvp", "OsHypervisorParams", _OTHER, "Operating system specific hypervisor parameters"),
        plain("osparams", "OsParameters", _OTHER, "Operating system specific parameters"),
        Field(
            name="os_version",
            title="OsVersion",
            kind=_TEXT,
            doc="Version of the operating system definition",
            get=lambda row, world: present(row.os_version),
        ),
    ]
)
"""All fields of operating systems by name."""


class ClusterRow(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster as a row."""

    cluster: Cluster
    architecture: tuple[str, str]
    drain_flag: bool
    watcher_pause: float | None


def _cluster(
    name: str, title: str, kind: FieldKind, doc: str, get: Callable[[ClusterRow], Any]
) -> Field[Any, Any]:
    return Field(
        name=name,
        title=title,
        kind=kind,
        doc=doc,
        get=lambda row, world: get(row),
        is_host_name=name in ("name", "cluster_name", "master_node"),
    )


CLUSTER_FIELDS = table(
    [
        _cluster(
            "architecture", "ArchInfo", _OTHER, "Architecture information", lambda r: list(r.architecture)
        ),
        _cluster("cluster_name", "Name", _TEXT, "Cluster name", lambda r: r.cluster.name),
        _cluster(
            "config_version",
            "ConfigVersion",
            _NUMBER,
            "Configuration format version",
            lambda r: CONFIG_VERSION,
        ),
        _cluster("ctime", "CTime", _TIME, "Creation timestamp", lambda r: r.cluster.settings.ctime),
        _cluster("drain_flag", "QueueDrained", _BOOL, "Whether the queue is drained", lambda r: r.drain_flag),
        _cluster(
            "export_version", "ExportVersion", _NUMBER, "Export format version", lambda r: EXPORT_VERSION
        ),
        _cluster("master_node", "Master", _TEXT, "Master node name", lambda r: r.cluster.master.name),
        _cluster("mtime", "MTime", _TIME, "Modification timestamp", lambda r: r.cluster.settings.mtime),
        _cluster("name", "Name", _TEXT, "Cluster name", lambda r: r.cluster.name),
        _cluster(
            "os_api_version",
            "OsApiVersion",
            _NUMBER,
            "API version for OS scripts",
            lambda r: max(OS_API_VERSIONS),
        ),
        _cluster(
            "protocol_version", "ProtocolVersion", _NUMBER, "RPC protocol version", lambda r: PROTOCOL_VERSION
        ),
        _cluster("software_version", "SoftwareVersion", _TEXT, "Software version", lambda r: RELEASE),
        _cluster("tags", "Tags", _OTHER, "Tags", lambda r: list(r.cluster.settings.tags)),
        _cluster("vcs_version", "VCSVersion", _TEXT, "Build version", lambda r: VCS_VERSION),
        _cluster(
            "volume_group_name",
            "VgName",
            _TEXT,
            "Volume group name",
            lambda r: present(r.cluster.settings.volume_group_name),
        ),
        _cluster(
            "watcher_pause",
            "WatcherPause",
            _TIME,
            "Until when watcher is paused",
            lambda r: present(r.watcher_pause),
        ),
        _cluster("uuid", "UUID", _TEXT, "Cluster UUID", lambda r: r.cluster.settings.uuid),
    ]
)
"""All fields of the cluster by name."""

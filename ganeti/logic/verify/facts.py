"""What the nodes of a group answered when they were asked to check themselves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ganeti.model.calls.instances import RunningInstance
from ganeti.model.calls.os import OsStatus
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.ids import DiskId, NodeId


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """Results of the checks of one node (rpc.md section 3); None: not asked for, or not possible."""

    version: tuple[int, str] | None = None
    time: tuple[int, int] | None = None
    nodesetup: tuple[str, ...] | None = None
    hypervisor: Mapping[str, str | None] | None = None
    hvparms: tuple[tuple[str, str, str], ...] | None = None
    hvinfo: NodeCapacity | None = None
    oslist: tuple[OsStatus, ...] | None = None
    bridges: tuple[str, ...] | None = None
    """Missing ones."""
    filelist: Mapping[str, str] | None = None
    node_net_test: Mapping[str, str] | None = msgspec.field(default=None, name="node-net-test")
    master_ip: bool | None = msgspec.field(default=None, name="master-ip")
    user_scripts: tuple[str, ...] | None = msgspec.field(default=None, name="user-scripts")
    oob_paths: tuple[str | None, ...] | None = msgspec.field(default=None, name="oob-paths")
    client_cert: tuple[str | None, str] | None = msgspec.field(default=None, name="client-cert")
    allowed_paths: tuple[str, ...] | None = msgspec.field(default=None, name="allowed-file-storage-paths")
    """Entries that the list must not have."""
    file_dir: str | None = msgspec.field(default=None, name="file-storage-path")
    shared_file_dir: str | None = msgspec.field(default=None, name="shared-file-storage-path")
    gluster_dir: str | None = msgspec.field(default=None, name="gluster-storage-path")
    check_errors: Mapping[str, str] = msgspec.field(default={}, name="check-errors")
    """Checks that could not be made, and why."""


class NodeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of asking one node."""

    report: NodeReport | None = None
    failure: str | None = None
    """Why there is no report."""
    asked_at: float = 0.0
    """Time of the master when it asked, and when it had the answer."""
    answered_at: float = 0.0


class GroupFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything found out for the verification of one group. Offline nodes are in none of it."""

    answers: Mapping[NodeId, NodeAnswer] = {}
    running: Mapping[NodeId, Mapping[str, RunningInstance]] = {}
    """What runs on each node that told it."""
    silent: Mapping[NodeId, str] = {}
    """Nodes that did not tell what runs on them, and why."""
    nonsense: Mapping[NodeId, str] = {}
    """Nodes of which nobody knows what they have, as they say what cannot be, and why."""
    disk_sizes: Mapping[NodeId, Mapping[DiskId, int | None]] = {}
    """Size in bytes of the data of each disk on each node; None: there is none."""
    disk_failures: Mapping[NodeId, str] = {}
    """Nodes that could not look for disks, and why."""

    def report(self, node: NodeId) -> NodeReport | None:
        """The report of a node that gave one."""
        answer = self.answers.get(node)
        return None if answer is None else answer.report


def read_report(results: Mapping[str, Any]) -> NodeReport:
    """The report in what a node sent.

    Raises:
        ValueError: it makes no sense; with the place.
    """
    try:
        return msgspec.convert(results, NodeReport)
    except msgspec.ValidationError as problem:
        raise ValueError(f"the answer makes no sense: {problem}") from problem

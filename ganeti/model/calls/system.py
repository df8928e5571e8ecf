"""Calls about the node itself: facts, files, daemons, hooks (rpc.md sections 2.3 to 2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from ganeti.model.calls.base import Duration, NodeCall
from ganeti.model.calls.disks import StorageSpace


class NodeCapacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a hypervisor finds on its node; MiB and counts."""

    memory_total: int
    memory_free: int
    memory_dom0: int
    cpu_total: int
    cpu_nodes: int = 1
    cpu_sockets: int = 1
    cpu_dom0: int = 1
    hv_version: str | None = None


class NodeInfoResult(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of a node."""

    boot_id: str
    storage: tuple[StorageSpace, ...]
    hypervisors: Mapping[str, NodeCapacity]


class VersionResult(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of a node daemon."""

    protocol: int
    release: str


class Version(NodeCall[VersionResult], frozen=True, kw_only=True, tag="version"):
    """Protocol and release of the node daemon."""

    duration: ClassVar[Duration] = Duration.URGENT
    inline: ClassVar[bool] = True
    contacts_offline: ClassVar[bool] = True


class NodeInfo(NodeCall[NodeInfoResult], frozen=True, kw_only=True, tag="node_info"):
    """Memory, processors and space; storage units as type to name, hypervisors by name."""

    duration: ClassVar[Duration] = Duration.URGENT
    storage_units: Mapping[str, str] = {}
    hypervisors: tuple[str, ...] = ()


class NodeVerify(NodeCall[Mapping[str, Any]], frozen=True, kw_only=True, tag="node_verify"):
    """Run checks, given as name to argument; result by name (rpc.md section 3)."""

    checks: Mapping[str, Any]
    cluster_name: str


class NodeLeaveCluster(NodeCall[None], frozen=True, kw_only=True, tag="node_leave_cluster"):
    """Forget the cluster: remove certificates, ssconf and configuration, then quit."""

    modify_ssh_setup: bool = False


class NodeDemote(NodeCall[None], frozen=True, kw_only=True, tag="node_demote_from_mc"):
    """Back up and remove the configuration, as the node is no candidate any more."""

    duration: ClassVar[Duration] = Duration.FAST


class NodePowercycle(NodeCall[str], frozen=True, kw_only=True, tag="node_powercycle"):
    """Reboot the machine at once, 5 s after the answer."""

    contacts_offline: ClassVar[bool] = True
    hypervisor: str


class MasterNodeName(NodeCall[str], frozen=True, kw_only=True, tag="master_node_name"):
    """Name of the master as this node knows it."""

    duration: ClassVar[Duration] = Duration.URGENT


class Stamp(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """How new a set of ssconf files is; a larger one is newer."""

    generation: int
    """Of the master, as in `QueueUpdate`."""
    number: int
    """Of the set, counted by that master."""


class WriteSsconf(NodeCall[None], frozen=True, kw_only=True, tag="write_ssconf_files"):
    """Write ssconf files, given as name to text.

    A node with a set that is newer than `stamp` refuses; so does one whose set is not `base`, of which
    the values are only what has changed since (`CopyBehind`).
    """

    values: Mapping[str, str]
    stamp: Stamp | None = None
    """Of the set that the node has afterwards; None: unknown, and written in any case."""
    base: Stamp | None = None
    """None: the values are the whole set."""


class UploadFile(NodeCall[None], frozen=True, kw_only=True, tag="upload_file_single"):
    """Write one of the files that the master may distribute; text is base64."""

    path: str
    data: bytes
    mode: int = 0o600


class HookResult(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of one hook script: 0 skipped, 1 failed, 2 well."""

    script: str
    code: int
    output: str


class HooksRunner(NodeCall[tuple[HookResult, ...]], frozen=True, kw_only=True, tag="hooks_runner"):
    """Run the hook scripts of a directory name and phase."""

    duration: ClassVar[Duration] = Duration.NORMAL
    hpath: str
    phase: str
    env: Mapping[str, str]


class AllocatorRunner(NodeCall[str], frozen=True, kw_only=True, tag="iallocator_runner"):
    """Run an external allocator on a JSON text; its standard output."""

    duration: ClassVar[Duration] = Duration.NORMAL
    name: str
    request: str
    options: Mapping[str, Any] = {}


class BridgesExist(NodeCall[None], frozen=True, kw_only=True, tag="bridges_exist"):
    """Fail with the names of bridges that this node does not have."""

    duration: ClassVar[Duration] = Duration.URGENT
    bridges: tuple[str, ...]


class NodeTestDelay(NodeCall[None], frozen=True, kw_only=True, tag="test_delay"):
    """Sleep."""

    duration: ClassVar[Duration] = Duration.DAY
    seconds: float


class QueueUpdate(NodeCall[None], frozen=True, kw_only=True, tag="jobqueue_append"):
    """Append a batch of journal records and write job documents, on a master candidate.

    `generation` is the master's; a node refuses an older one.
    """

    duration: ClassVar[Duration] = Duration.URGENT
    inline: ClassVar[bool] = True
    generation: int
    records: bytes


class QueuePurge(NodeCall[None], frozen=True, kw_only=True, tag="jobqueue_purge"):
    """Remove the queue files of a node that is no candidate any more."""


class UploadState(NodeCall[None], frozen=True, kw_only=True, tag="state_upload"):
    """Replace configuration and queue of a new candidate: file name below the data dir to content.

    A part that is there replaces that part: `config.data` the configuration, `queue/serial` the
    whole queue. `generation` is the master's, as in `QueueUpdate`.
    """

    duration: ClassVar[Duration] = Duration.NORMAL
    files: Mapping[str, bytes]
    generation: int = 0

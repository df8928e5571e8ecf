"""Nodes that follow the rules: what runs where, which disks exist and are open, how much memory is left.

    nodes = FakeNodes()
    model = SimulatedNodes(nodes, cluster)       # as the configuration says it should be
    model.running["node1.example.com"]           # {'inst1.example.com': RunningInstance(...)}
    model.break_call(InstanceStart, "kvm is gone", node="node2")

A call against the rules fails as it would on a node: an instance does not start while one of its
disks is closed, data is not created twice, nothing migrates to a node that did not prepare for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from ganeti.errors import (
    BlockDeviceError,
    GanetiError,
    HypervisorError,
    InvalidOperatingSystem,
    OperationFailed,
)
from ganeti.model.calls.base import NodeCall
from ganeti.model.calls.disks import (
    DiskShutdown,
    StorageSpace,
)
from ganeti.model.calls.instances import (
    AcceptInstance,
    AllInstancesInfo,
    ConsoleInfo,
    FinalizeMigrationSource,
    FinalizeMigrationTarget,
    InstanceConsoleInfo,
    InstanceInfo,
    InstanceMigratable,
    InstanceMigrate,
    InstanceMigrationStatus,
    InstanceReboot,
    InstanceShutdown,
    InstanceStart,
    MigrationCancel,
    MigrationInfo,
    MigrationProgress,
    RunningInstance,
    RunState,
)
from ganeti.model.calls.os import InstanceOsAdd, OsStatus, OsValidate
from ganeti.model.calls.report import NodeReport, Report
from ganeti.model.calls.system import (
    BridgesExist,
    NodeCapacity,
    NodeInfo,
    NodeInfoResult,
    NodePowercycle,
    NodeVerify,
    Version,
    VersionResult,
)
from ganeti.model.cluster import Cluster
from ganeti.model.filled import FilledInstance, beparams_of
from ganeti.model.ids import DiskId
from ganeti.model.instance import AdminState
from ganeti.model.node import Node
from ganeti.testing.nodes import FakeNodes
from ganeti.testing.simulated_disks import SimulatedDisks
from ganeti.testing.simulated_transfers import SimulatedTransfers
from ganeti.version import PROTOCOL_VERSION, RELEASE

MEMORY_DOM0 = 1024
SPACE_MIB = 1 << 24
"""Free space of every storage unit."""


class SimulatedNodes:
    """The state of all nodes, and answers by which it changes.

    Args:
        nodes: gets the answers.
        cluster: instances that are up run, their disks exist and are open.
        memory_mib: of each node.
        oses: definitions that every node has.
    """

    def __init__(
        self,
        nodes: FakeNodes,
        cluster: Cluster,
        *,
        memory_mib: int = 65536,
        oses: tuple[str, ...] = ("noop",),
    ) -> None:
        self.nodes = nodes
        self.memory_mib = memory_mib
        self.oses = oses
        self.running: dict[str, dict[str, RunningInstance]] = {}
        """By name of node and instance."""
        self.disks = SimulatedDisks(nodes, cluster)
        self.transfers = SimulatedTransfers(self.disks)
        self.data = self.disks.data
        """Disks that exist, by name of node; of external storage under the name `shared`."""
        self.open = self.disks.open
        """Disks that are open, by name of node."""
        self.installed: list[str] = []
        """Instances whose OS was installed, in order."""
        self.accepting: dict[str, set[str]] = {}
        """Instances that a node is prepared to receive."""
        self.migration_status = "completed"
        """How a migration ends."""
        self.polls = 0
        """Polls before it ends."""
        self.hv_versions: dict[str, str] = {}
        """By name of node."""
        self.says: dict[str, dict[str, Any]] = {}
        """Results of checks that differ from those of a node in good order, by name of node."""
        self.lacks: dict[str, set[str]] = {}
        """Bridges and storage units that are not there, by name of node."""
        self.clock_s = 0.0
        """Time of all nodes."""
        self._populate(cluster)
        for call, answer in self._answers().items():
            nodes.answer(call, answer)

    def break_call(
        self, call: type[NodeCall[Any]], error: GanetiError | str, node: Node | None = None
    ) -> None:
        """Let a function fail, on one node or on all."""
        failure = HypervisorError(error) if isinstance(error, str) else error
        self.nodes.answer(call, failure, node=None if node is None else node.uuid)

    def answer_of(self, call: type[NodeCall[Any]]) -> Any:
        """What answers a function of nodes that are well."""
        return self._answers()[call]

    def repair_call(self, call: type[NodeCall[Any]]) -> None:
        """Let a function that was broken everywhere work again."""
        self.nodes.answer(call, self._answers()[call])

    def run(self, node: str, name: str, *, memory: int = 128, state: RunState = RunState.RUNNING) -> None:
        """Let an instance be there, whatever the configuration says."""
        self.running.setdefault(node, {})[name] = RunningInstance(
            name=name, memory=memory, vcpus=1, state=state
        )

    def cut_power(self, node: str) -> None:
        """Let a node forget what runs and what is open; it still answers."""
        self.running.pop(node, None)
        self.disks.cut_power(node)

    def stop(self, node: str, name: str) -> None:
        """Let an instance be gone."""
        del self.running[node][name]

    def where(self, name: str) -> dict[str, RunState]:
        """Nodes that have an instance, and its state there."""
        return {node: found[name].state for node, found in self.running.items() if name in found}

    def opened(self, disk: DiskId) -> set[str]:
        """Names of nodes on which a disk is open."""
        return self.disks.opened(disk)

    def stored(self, disk: DiskId) -> set[str]:
        """Where the data of a disk is."""
        return {node for node, disks in self.data.items() if disk in disks}

    def _populate(self, cluster: Cluster) -> None:
        for instance in cluster.instances.values():
            if instance.admin_state is AdminState.UP:
                memory = beparams_of(cluster.settings, instance.beparams).maxmem
                self.run(cluster.nodes[instance.primary_node].name, instance.name, memory=memory)

    def _answers(self) -> Mapping[type[NodeCall[Any]], Any]:
        return {
            Version: VersionResult(protocol=PROTOCOL_VERSION, release=RELEASE),
            NodeInfo: self._info,
            BridgesExist: self._bridges,
            NodeVerify: self._verify,
            NodePowercycle: lambda node, call: f"{node.name} reboots",
            InstanceInfo: lambda node, call: self.running.get(node.name, {}).get(call.name),
            AllInstancesInfo: lambda node, call: self.running.get(node.name, {}),
            NodeReport: lambda node, call: Report(
                info=self._info(node, call), running=self.running.get(node.name, {})
            ),
            InstanceStart: self._start,
            InstanceShutdown: self._shutdown,
            InstanceReboot: self._reboot,
            InstanceConsoleInfo: lambda node, call: {
                one.name: ConsoleInfo(instance=one.name, kind="ssh", host=node.name) for one in call.instances
            },
            InstanceMigratable: lambda node, call: self._running(node, call.instance),
            MigrationInfo: lambda node, call: f"started on {node.name}",
            AcceptInstance: self._accept,
            InstanceMigrate: self._migrate,
            InstanceMigrationStatus: self._progress,
            MigrationCancel: None,
            FinalizeMigrationSource: self._finish_source,
            FinalizeMigrationTarget: self._finish_target,
            DiskShutdown: self._close,
            **self.disks.answers(),
            **self.transfers.answers(),
            OsValidate: self._validate_os,
            InstanceOsAdd: self._install,
        }

    # --- facts

    def _info(self, node: Node, call: NodeInfo | NodeReport) -> NodeInfoResult:
        hypervisors = dict.fromkeys(call.hypervisors, self._capacity(node))
        storage = tuple(self._space(node, kind, name) for kind, name in call.storage_units.items())
        return NodeInfoResult(boot_id=f"boot-{node.name}", storage=storage, hypervisors=hypervisors)

    def _space(self, node: Node, kind: str, name: str) -> StorageSpace:
        size = None if name in self.lacks.get(node.name, ()) else SPACE_MIB
        return StorageSpace(type=kind, name=name, storage_free=size, storage_size=size)

    def _bridges(self, node: Node, call: BridgesExist) -> None:
        missing = [name for name in call.bridges if name in self.lacks.get(node.name, ())]
        if missing:
            raise OperationFailed(f"node {node.name} has no bridge {', '.join(missing)}; create it there")

    def _capacity(self, node: Node) -> NodeCapacity:
        used = sum(one.memory for one in self.running.get(node.name, {}).values())
        return NodeCapacity(
            memory_total=self.memory_mib,
            memory_free=max(0, self.memory_mib - MEMORY_DOM0 - used),
            memory_dom0=MEMORY_DOM0,
            cpu_total=16,
            hv_version=self.hv_versions.get(node.name),
        )

    def _verify(self, node: Node, call: NodeVerify) -> Mapping[str, Any]:
        """Results of the checks that were asked for; of those it does not know, nothing."""
        good: dict[str, Any] = {
            "version": [PROTOCOL_VERSION, RELEASE],
            "time": [int(self.clock_s), 0],
            "nodesetup": [],
            "filelist": dict.fromkeys(call.checks.get("filelist") or (), "same"),
            "client-cert": [None, f"digest of {node.name}"],
            "allowed-file-storage-paths": [],
            "hypervisor": dict.fromkeys(call.checks.get("hypervisor") or ()),
            "hvparms": [],
            "hvinfo": self._capacity(node),
            "oslist": [_os(name) for name in self.oses],
            "bridges": [],
            "node-net-test": {},
            "master-ip": True,
            "user-scripts": [],
            "oob-paths": [None for _ in call.checks.get("oob-paths") or ()],
            "file-storage-path": None,
            "shared-file-storage-path": None,
            "gluster-storage-path": None,
        }
        if not node.master_candidate:
            for path in ("/var/lib/ganeti/config.data", "/var/lib/ganeti/ca-key.pem"):
                good["filelist"].pop(path, None)
        told = {**good, **self.says.get(node.name, {})}
        asked = {name: told[name] for name in call.checks if name in told}
        errors = self.says.get(node.name, {}).get("check-errors", {})
        return {
            **{name: value for name, value in asked.items() if name not in errors},
            "check-errors": errors,
        }

    def _running(self, node: Node, instance: FilledInstance) -> None:
        if instance.name not in self.running.get(node.name, {}):
            raise HypervisorError(f"instance {instance.name} does not run on {node.name}")

    def _validate_os(self, node: Node, call: OsValidate) -> bool:
        if call.name.partition("+")[0] in self.oses:
            return True
        if call.required:
            raise InvalidOperatingSystem(f"there is no OS {call.name} on {node.name}")
        return False

    # --- instances

    def _need_open(self, node: Node, instance: FilledInstance) -> None:
        closed = [disk for disk in instance.disks if not self.disks.is_usable(node.name, disk)]
        if closed:
            raise HypervisorError(f"{closed[0].iv_name} of {instance.name} is not open on {node.name}")

    def _start(self, node: Node, call: InstanceStart) -> None:
        instance = call.instance
        if instance.name in self.running.get(node.name, {}):
            return
        self._need_open(node, instance)
        state = RunState.PAUSED if call.paused else RunState.RUNNING
        self.run(node.name, instance.name, memory=instance.beparams.maxmem, state=state)

    def _shutdown(self, node: Node, call: InstanceShutdown) -> None:
        self.running.get(node.name, {}).pop(call.instance.name, None)

    def _reboot(self, node: Node, call: InstanceReboot) -> None:
        self._running(node, call.instance)
        self._need_open(node, call.instance)

    def _install(self, node: Node, call: InstanceOsAdd) -> None:
        self._need_open(node, call.instance)
        self.installed.append(call.instance.name)

    # --- migration

    def _accept(self, node: Node, call: AcceptInstance) -> str:
        self._need_open(node, call.instance)
        self.accepting.setdefault(node.secondary_ip, set()).add(call.instance.name)
        self.run(node.name, call.instance.name, state=RunState.MIGRATING_IN)
        return f"{node.secondary_ip}:8102"

    def _migrate(self, node: Node, call: InstanceMigrate) -> None:
        self._running(node, call.instance)
        name = call.instance.name
        if name not in self.accepting.get(call.target_ip, set()) or not call.endpoint.startswith(
            call.target_ip
        ):
            raise HypervisorError(f"nobody listens for {name} at {call.target_ip}")

    def _progress(self, node: Node, call: InstanceMigrationStatus) -> MigrationProgress:
        if self.polls:
            self.polls -= 1
            return MigrationProgress(status="active", transferred_ram=50, total_ram=100)
        if self.migration_status == "completed":
            self._set_state(node, call.instance.name, RunState.MIGRATED_AWAY)
        return MigrationProgress(status=self.migration_status, error="the line is dead")

    def _finish_source(self, node: Node, call: FinalizeMigrationSource) -> None:
        if call.success:
            self.running.get(node.name, {}).pop(call.instance.name, None)
        elif call.instance.name in self.running.get(node.name, {}):
            self._set_state(node, call.instance.name, RunState.RUNNING)

    def _finish_target(self, node: Node, call: FinalizeMigrationTarget) -> None:
        if call.success:
            self._running(node, call.instance)
            self._set_state(node, call.instance.name, RunState.RUNNING)
        else:
            self.running.get(node.name, {}).pop(call.instance.name, None)

    def _set_state(self, node: Node, name: str, state: RunState) -> None:
        found = self.running[node.name]
        found[name] = replace(found[name], state=state)

    def _close(self, node: Node, call: DiskShutdown) -> None:
        if call.instance and self._is_used(node, call.instance):
            raise BlockDeviceError(f"{call.instance} runs on {node.name} and uses {call.disk.iv_name}")
        self.disks.close(node, call)

    def _is_used(self, node: Node, name: str) -> bool:
        found = self.running.get(node.name, {}).get(name)
        return found is not None and found.state is not RunState.MIGRATED_AWAY


def _os(name: str) -> OsStatus:
    return OsStatus(name=name, path=f"/srv/ganeti/os/{name}", valid=True, message="", api_versions=(20,))

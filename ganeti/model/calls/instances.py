"""Calls that act on instances (rpc.md section 2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar

import msgspec

from ganeti.model.calls.base import Duration, NodeCall
from ganeti.model.filled import FilledInstance
from ganeti.model.params import ParamValues

Reason = tuple[tuple[str, str, int], ...]
"""Reason trail: (source, reason, nanoseconds since the epoch)"""


class RunState(StrEnum):
    """What a hypervisor says of an instance it knows."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    """The guest switched itself off and the hypervisor still has it."""
    MIGRATING_IN = "incoming"
    """Started to receive a live migration."""
    MIGRATED_AWAY = "migratedaway"
    """Runs on another node by now; what is left here only waits for the end of the migration."""


class RunningInstance(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as found on a node."""

    name: str
    memory: int
    """MiB"""
    vcpus: int
    state: RunState = RunState.RUNNING
    time: float = 0.0
    """CPU seconds used"""


class MigrationProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a live migration is; RAM in bytes."""

    status: str
    """active, completed, failed, cancelled, postcopy-active"""
    transferred_ram: int | None = None
    total_ram: int | None = None
    postcopy_status: str | None = None
    error: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the migration ended, well or not."""
        return self.status in ("completed", "failed", "cancelled")


class ConsoleInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the console of an instance (rapi.md, console)."""

    instance: str
    kind: str
    """ssh, vnc, spice, msg"""
    message: str | None = None
    host: str | None = None
    port: int | None = None
    user: str | None = None
    command: tuple[str, ...] | None = None
    display: int | None = None


class InstanceInfo(NodeCall[RunningInstance | None], frozen=True, kw_only=True, tag="instance_info"):
    """One instance, or None when it does not run here."""

    duration: ClassVar[Duration] = Duration.URGENT
    name: str
    hypervisor: str


class AllInstancesInfo(
    NodeCall[Mapping[str, RunningInstance]], frozen=True, kw_only=True, tag="all_instances_info"
):
    """Every instance that runs here under these hypervisors, by name."""

    duration: ClassVar[Duration] = Duration.URGENT
    hypervisors: tuple[str, ...]


class InstanceList(NodeCall[tuple[str, ...]], frozen=True, kw_only=True, tag="instance_list"):
    """Names of the instances that run here under these hypervisors."""

    duration: ClassVar[Duration] = Duration.URGENT
    hypervisors: tuple[str, ...]


class InstanceStart(NodeCall[None], frozen=True, kw_only=True, tag="instance_start"):
    """Start an instance whose disks are open; does nothing if it runs already."""

    instance: FilledInstance
    paused: bool = False
    reason: Reason = ()


class InstanceShutdown(NodeCall[None], frozen=True, kw_only=True, tag="instance_shutdown"):
    """Ask it to shut down, again every 5 s; after the timeout end it by force."""

    duration: ClassVar[Duration] = Duration.SLOW
    instance: FilledInstance
    timeout_s: int = 120
    force: bool = False
    reason: Reason = ()


class InstanceReboot(NodeCall[None], frozen=True, kw_only=True, tag="instance_reboot"):
    """Reboot from inside (soft) or stop and start on this node (hard)."""

    instance: FilledInstance
    reboot_type: str
    shutdown_timeout_s: int = 120
    reason: Reason = ()


class InstanceBalloon(NodeCall[None], frozen=True, kw_only=True, tag="instance_balloon_memory"):
    """Set the memory of a running instance, MiB."""

    instance: FilledInstance
    memory: int


class InstanceMigratable(NodeCall[None], frozen=True, kw_only=True, tag="instance_migratable"):
    """Fail with the reason if the instance cannot be migrated away from here."""

    instance: FilledInstance


class MigrationInfo(NodeCall[str], frozen=True, kw_only=True, tag="migration_info"):
    """What the target has to know; opaque outside the hypervisor plugin."""

    instance: FilledInstance


class AcceptInstance(NodeCall[str], frozen=True, kw_only=True, tag="accept_instance"):
    """Prepare to receive a live migration; gives the endpoint that `InstanceMigrate` needs."""

    instance: FilledInstance
    info: str
    target_ip: str


class InstanceMigrate(NodeCall[None], frozen=True, kw_only=True, tag="instance_migrate"):
    """Begin to migrate; returns at once, `InstanceMigrationStatus` follows it."""

    duration: ClassVar[Duration] = Duration.SLOW
    cluster_name: str
    instance: FilledInstance
    target_ip: str
    live: bool = True
    endpoint: str = ""
    """What `AcceptInstance` gave."""


class InstanceMigrationStatus(
    NodeCall[MigrationProgress], frozen=True, kw_only=True, tag="instance_get_migration_status"
):
    """How far it is."""

    duration: ClassVar[Duration] = Duration.FAST
    instance: FilledInstance


class MigrationCancel(NodeCall[None], frozen=True, kw_only=True, tag="instance_migration_cancel"):
    """Stop a migration that is under way; the instance goes on here."""

    instance: FilledInstance


class FinalizeMigrationSource(
    NodeCall[None], frozen=True, kw_only=True, tag="instance_finalize_migration_src"
):
    """Clean up where the instance was (success) or let it go on here (no success)."""

    duration: ClassVar[Duration] = Duration.SLOW
    instance: FilledInstance
    success: bool
    live: bool = True


class FinalizeMigrationTarget(
    NodeCall[None], frozen=True, kw_only=True, tag="instance_finalize_migration_dst"
):
    """Let the received instance run (success) or remove what was prepared (no success)."""

    instance: FilledInstance
    info: str
    success: bool


class InstanceConsoleInfo(
    NodeCall[Mapping[str, ConsoleInfo]], frozen=True, kw_only=True, tag="instance_console_info"
):
    """Consoles of instances of this node, by name."""

    duration: ClassVar[Duration] = Duration.URGENT
    instances: tuple[FilledInstance, ...]


class HypervisorValidateParams(NodeCall[None], frozen=True, kw_only=True, tag="hypervisor_validate_params"):
    """Fail with the reason if these filled parameters cannot work on this node."""

    hypervisor: str
    hvparams: ParamValues

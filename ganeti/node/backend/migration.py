"""Node functions of live migration, on the source and on the target (rpc.md section 2.1)."""

from __future__ import annotations

import os

from ganeti.errors import HypervisorError
from ganeti.interfaces import IMigratable
from ganeti.model.calls.instances import (
    AcceptInstance,
    FinalizeMigrationSource,
    FinalizeMigrationTarget,
    InstanceMigratable,
    InstanceMigrate,
    InstanceMigrationStatus,
    MigrationCancel,
    MigrationInfo,
    MigrationProgress,
)
from ganeti.model.filled import FilledInstance
from ganeti.node.backend.instance_disks import link_path, open_all
from ganeti.node.backend.plugin_choice import hypervisor_named
from ganeti.node.backend.registry import NodeWorld, node_function


@node_function(InstanceMigratable)
def instance_migratable(call: InstanceMigratable, node: NodeWorld) -> None:
    """Refuse with the reason if the instance cannot leave this node alive."""
    instance = call.instance
    hypervisor = _migratable(node, instance)
    running = {found.name for found in hypervisor_named(node, instance.hypervisor).list_running(node.host)}
    if instance.name not in running:
        raise HypervisorError(f"instance {instance.name} does not run on {node.host.name}")
    for index, _ in enumerate(instance.disks):
        link = link_path(node.host, instance.name, index)
        if not os.path.islink(link):
            raise HypervisorError(
                f"disk {index} of instance {instance.name} has no link {link} on {node.host.name};"
                " open its disks with gnt-instance activate-disks"
            )
    hypervisor.check_migratable(node.host, instance)


@node_function(MigrationInfo)
def migration_info(call: MigrationInfo, node: NodeWorld) -> str:
    """What the target has to know."""
    return _migratable(node, call.instance).migration_info(node.host, call.instance)


@node_function(AcceptInstance)
def accept_instance(call: AcceptInstance, node: NodeWorld) -> str:
    """Prepare to receive, with the disks as this node sees them; gives where it listens."""
    hypervisor = _migratable(node, call.instance)
    disks = open_all(node, call.instance)
    return hypervisor.accept(node.host, call.instance, disks, call.info, call.target_ip)


@node_function(InstanceMigrate)
def instance_migrate(call: InstanceMigrate, node: NodeWorld) -> None:
    """Begin to send."""
    hypervisor = _migratable(node, call.instance)
    hypervisor.migrate(node.host, call.instance, call.target_ip, live=call.live, endpoint=call.endpoint)


@node_function(InstanceMigrationStatus)
def instance_get_migration_status(call: InstanceMigrationStatus, node: NodeWorld) -> MigrationProgress:
    """How far it is."""
    return _migratable(node, call.instance).progress(node.host, call.instance)


@node_function(MigrationCancel)
def instance_migration_cancel(call: MigrationCancel, node: NodeWorld) -> None:
    """Stop sending; the instance goes on here."""
    _migratable(node, call.instance).cancel(node.host, call.instance)


@node_function(FinalizeMigrationSource)
def instance_finalize_migration_src(call: FinalizeMigrationSource, node: NodeWorld) -> None:
    """Clean up after the instance left, or make sure that it goes on here."""
    hypervisor = _migratable(node, call.instance)
    hypervisor.finish_source(node.host, call.instance, success=call.success, live=call.live)


@node_function(FinalizeMigrationTarget)
def instance_finalize_migration_dst(call: FinalizeMigrationTarget, node: NodeWorld) -> None:
    """Make the received instance ours, or remove it."""
    hypervisor = _migratable(node, call.instance)
    hypervisor.finish_target(node.host, call.instance, call.info, success=call.success)


def _migratable(node: NodeWorld, instance: FilledInstance) -> IMigratable:
    hypervisor = hypervisor_named(node, instance.hypervisor)
    if not IMigratable.providedBy(hypervisor):
        raise HypervisorError(
            f"hypervisor {hypervisor.name} cannot migrate running instances such as {instance.name};"
            " use failover"
        )
    migratable: IMigratable = hypervisor
    return migratable

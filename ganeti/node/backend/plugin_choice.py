"""The plugin that a node function needs, or an error that says what this node lacks."""

from __future__ import annotations

from collections.abc import Mapping

from ganeti.errors import BlockDeviceError, HypervisorError, StorageError
from ganeti.interfaces import IHypervisor, IStorageBackend
from ganeti.model.disk import TemplateTraits
from ganeti.node.backend.registry import NodeWorld


def hypervisor_named(node: NodeWorld, name: str) -> IHypervisor:
    """The hypervisor of this name.

    Raises:
        HypervisorError: there is none.
    """
    found: IHypervisor | None = node.plugins.hypervisors.get(name)
    if found is None:
        known = ", ".join(sorted(node.plugins.hypervisors)) or "none"
        raise HypervisorError(f"node {node.host.name} has no plugin for hypervisor {name}; it has {known}")
    return found


def storage_named(node: NodeWorld, template: str) -> IStorageBackend:
    """The storage plugin of a disk template.

    Raises:
        BlockDeviceError: there is none.
    """
    found: IStorageBackend | None = node.plugins.storage.get(template)
    if found is None:
        known = ", ".join(sorted(node.plugins.storage)) or "none"
        raise BlockDeviceError(
            f"node {node.host.name} has no plugin for disk template {template}; it has {known}"
        )
    return found


def storage_of_type(node: NodeWorld, storage_type: str) -> IStorageBackend:
    """The storage plugin that knows the units of a storage type: a template's name will do, too.

    Raises:
        StorageError: there is none.
    """
    plugins: Mapping[str, IStorageBackend] = node.plugins.storage
    if storage_type in plugins:
        return plugins[storage_type]
    for plugin in plugins.values():
        if plugin.traits.storage_type == storage_type:
            return plugin
    raise StorageError(f"node {node.host.name} has no plugin for storage of type {storage_type}")


def traits_of_templates(node: NodeWorld) -> Mapping[str, TemplateTraits]:
    """What can be done with disks of each template that this node knows."""
    return {name: plugin.traits for name, plugin in node.plugins.storage.items()}

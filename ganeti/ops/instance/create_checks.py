"""What is asked for when an instance is created: completed from the cluster's defaults and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ganeti.errors import ErrorCode, GanetiError, PrereqError
from ganeti.interfaces import Plugins
from ganeti.logic.capacity_params import oversize
from ganeti.logic.node_figures import disk_space
from ganeti.logic.tags import check_tag
from ganeti.model.allocation import InstanceRequest
from ganeti.model.cluster import Cluster
from ganeti.model.filled import GLOBAL_HVPARAMS, BackendParams, beparams_of, hvparams_of
from ganeti.model.ids import GroupId, NodeId, is_host_name
from ganeti.model.ipolicy import violations
from ganeti.model.param_tables.be import BACKEND, expand_memory
from ganeti.model.params import RESET, ParamValue
from ganeti.model.spec import DiskSpec, NicSpec
from ganeti.ops.instance.device_specs import RawDevice, check_nics, read_disks, read_nics


class CreateWish(msgspec.Struct, frozen=True, kw_only=True):
    """A new instance, with every default filled in, before it has a place."""

    name: str
    hypervisor: str
    template: str
    os: str
    own_hvparams: Mapping[str, ParamValue]
    hvparams: Mapping[str, ParamValue]
    own_beparams: Mapping[str, ParamValue]
    backend: BackendParams
    disks: tuple[DiskSpec, ...]
    nics: tuple[NicSpec, ...]
    tags: tuple[str, ...]

    def request(self, groups: tuple[GroupId, ...] = ()) -> InstanceRequest:
        """The question for an allocator, which may use nodes of these groups; none: of any."""
        return InstanceRequest(
            name=self.name,
            memory=self.backend.maxmem,
            vcpus=self.backend.vcpus,
            disks=tuple(disk.size for disk in self.disks),
            disk_template=self.template,
            hypervisor=self.hypervisor,
            os=self.os,
            nics=self.nics,
            tags=self.tags,
            spindle_use=self.backend.spindle_use,
            disk_spindles=tuple(disk.spindles for disk in self.disks),
            group=groups[0] if len(groups) == 1 else None,
            target_groups=groups if len(groups) > 1 else (),
            hvparams=self.hvparams,
        )

    def needed_space_mib(self, volume_group: str | None) -> int:
        """What the disks take on each node, of the storage that the cluster's settings name."""
        sizes = (disk.size for disk in self.disks if disk.adopt is None and disk.vg in (None, volume_group))
        return disk_space(self.template, tuple(sizes))

    def policy_problems(self, cluster: Cluster, group: GroupId) -> tuple[str, ...]:
        """What the policy of a group says against it."""
        memory, vcpus = self.backend.maxmem, self.backend.vcpus
        sizes = tuple(disk.size for disk in self.disks)
        return (
            *violations(
                cluster.policy_of(group),
                memory=memory,
                vcpus=vcpus,
                disk_sizes=sizes,
                nic_count=len(self.nics),
                spindle_use=self.backend.spindle_use,
                template=self.template,
            ),
            *oversize(cluster, cluster.groups[group], memory=memory, vcpus=vcpus, disk_sizes=sizes),
        )


def complete(
    cluster: Cluster,
    plugins: Plugins,
    *,
    name: str,
    hypervisor: str | None,
    template: str | None,
    os: str,
    hvparams: Mapping[str, ParamValue],
    beparams: Mapping[str, ParamValue],
    disks: tuple[RawDevice, ...],
    nics: tuple[RawDevice, ...],
    tags: tuple[str, ...],
    file_driver: str | None,
    file_storage_dir: str | None,
) -> CreateWish:
    """Fill in defaults and check everything that can be checked without asking a node.

    Raises:
        PrereqError: with the object and the remedy.
    """
    settings = cluster.settings
    normal = _checked_name(cluster, name)
    chosen_hv = _enabled(hypervisor, settings.enabled_hypervisors, "hypervisor")
    chosen_template = _enabled(template, settings.enabled_disk_templates, "disk template")
    plugin: Any = plugins.hypervisors[chosen_hv]
    try:
        own_hv = _without_resets(plugin.params.check(hvparams, may_reset=True))
        _refuse_globals(own_hv)
        filled_hv = hvparams_of(settings, chosen_hv, os, own_hv)
        plugin.check_params(filled_hv)
        own_be = _without_resets(BACKEND.check(expand_memory(beparams), may_reset=True))
        backend = beparams_of(settings, own_be)
        for tag in tags:
            check_tag(tag)
        nic_specs = read_nics(nics)
        check_nics(cluster, nic_specs)
    except PrereqError:
        raise
    except GanetiError as error:
        raise PrereqError(str(error)) from error
    if backend.minmem > backend.maxmem:
        raise PrereqError(
            f"minmem ({backend.minmem} MiB) must not be more than maxmem ({backend.maxmem} MiB)"
        )
    return CreateWish(
        name=normal,
        hypervisor=chosen_hv,
        template=chosen_template,
        os=os,
        own_hvparams=own_hv,
        hvparams=filled_hv,
        own_beparams=own_be,
        backend=backend,
        disks=read_disks(disks, chosen_template, file_driver=file_driver, file_storage_dir=file_storage_dir),
        nics=nic_specs,
        tags=tuple(sorted(set(tags))),
    )


def with_address(wish: CreateWish, address: str | None) -> CreateWish:
    """The same instance; network interfaces with the address of its name (ip=auto) have it.

    Args:
        wish: the instance.
        address: of its name; None: it was not looked up.

    Raises:
        PrereqError: it is needed and was not looked up.
    """
    if all(nic.ip != "auto" for nic in wish.nics):
        return wish
    if address is None:
        raise PrereqError(
            f"ip=auto is the address of the name {wish.name}; have it looked up with --name-check"
        )
    nics = (msgspec.structs.replace(nic, ip=address) if nic.ip == "auto" else nic for nic in wish.nics)
    return msgspec.structs.replace(wish, nics=tuple(nics))


def wanted_groups(cluster: Cluster, one: str | None, several: Sequence[str]) -> tuple[GroupId, ...]:
    """Groups to which a new instance is limited; none: it may go into any.

    Args:
        cluster: the configuration.
        one: the name of one, as older clients give it.
        several: names or UUIDs.

    Raises:
        PrereqError: unknown, or given in both ways.
    """
    if one is not None and several:
        raise PrereqError("give either group_name or target_groups, not both")
    names = several if one is None else (one,)
    return tuple(dict.fromkeys(cluster.group(name).uuid for name in names))


def check_groups(cluster: Cluster, name: str, nodes: Sequence[NodeId], groups: Sequence[GroupId]) -> None:
    """Refuse nodes of different groups, and nodes outside of the groups that were asked for.

    Raises:
        PrereqError: with the names of the groups.
    """
    places = [(cluster.nodes[node], cluster.groups[cluster.nodes[node].group]) for node in nodes]
    for node, group in places:
        if groups and group.uuid not in groups:
            asked = " or ".join(cluster.groups[one].name for one in groups)
            raise PrereqError(
                f"{name} is to be put into group {asked}, but node {node.name} is in group {group.name};"
                " leave out the group or choose another node"
            )
    if len({group.uuid for _, group in places}) > 1:
        where = " and ".join(f"node {node.name} is in group {group.name}" for node, group in places)
        raise PrereqError(
            f"the nodes of {name} must be in the same node group, but {where}; choose both from one of them"
        )


def normalised_name(name: str) -> str:
    """Instance name in the form in which it is stored.

    Raises:
        PrereqError: it cannot be the name of a host.
    """
    normal = name.strip().rstrip(".").lower()
    if not is_host_name(normal):
        raise PrereqError(
            f"{name!r} cannot name an instance; use letters, digits, minus and dots as in a host name"
        )
    return normal


def refuse_existing(cluster: Cluster, name: str) -> None:
    """Refuse the normalised name of an instance that is there.

    Raises:
        PrereqError: already_exists.
    """
    if cluster.instances.by_key(name) is not None:
        raise PrereqError(f"instance {name} exists already; choose another name", code=ErrorCode.EXISTS)


def _checked_name(cluster: Cluster, name: str) -> str:
    normal = normalised_name(name)
    refuse_existing(cluster, normal)
    return normal


def _enabled(wanted: str | None, enabled: tuple[str, ...], what: str) -> str:
    if wanted is None:
        return enabled[0]
    if wanted not in enabled:
        raise PrereqError(
            f"{what} {wanted!r} is not enabled in this cluster; enabled: {', '.join(enabled)}"
            f" (gnt-cluster modify --enabled-{what.replace(' ', '-')}s enables others)",
            code=ErrorCode.STATE,
        )
    return wanted


def _without_resets(values: Mapping[str, ParamValue]) -> dict[str, ParamValue]:
    return {name: value for name, value in values.items() if value != RESET}


def _refuse_globals(values: Mapping[str, ParamValue]) -> None:
    found = sorted(GLOBAL_HVPARAMS & set(values))
    if found:
        raise PrereqError(
            f"hypervisor parameter {found[0]} can only be set for the whole cluster (gnt-cluster modify)"
        )

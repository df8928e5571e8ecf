"""The dictionary that describes the cluster to clients (`gnt-cluster info`, /2/info). Pure."""

from __future__ import annotations

import platform
import struct
from typing import Any

import msgspec

from ganeti.model.cluster import Cluster
from ganeti.version import (
    CONFIG_VERSION,
    EXPORT_VERSION,
    OS_API_VERSIONS,
    PROTOCOL_VERSION,
    RELEASE,
    VCS_VERSION,
)

_COPIED = (
    "beparams",
    "blacklisted_os",
    "candidate_pool_size",
    "capacity_params",
    "compression_tools",
    "ctime",
    "default_iallocator",
    "default_iallocator_params",
    "diffusion_min_nodes",
    "diskparams",
    "drbd_usermode_helper",
    "enabled_disk_templates",
    "enabled_user_shutdown",
    "file_storage_dir",
    "hidden_os",
    "install_image",
    "instance_communication_network",
    "mac_prefix",
    "maintain_node_health",
    "master_netdev",
    "master_netmask",
    "max_running_jobs",
    "max_tracked_jobs",
    "modify_etc_hosts",
    "mtime",
    "ndparams",
    "nicparams",
    "os_hvp",
    "osparams",
    "prealloc_wipe_disks",
    "enforce_max_inst_spec",
    "primary_ip_version",
    "reserved_lvs",
    "shared_file_storage_dir",
    "tags",
    "uid_pool",
    "use_external_mip_script",
    "uuid",
    "zeroing_image",
    "gluster_storage_dir",
    "modify_ssh_setup",
    "ssh_key_type",
    "ssh_key_bits",
)


def own_architecture() -> tuple[str, str]:
    """Word size and machine of this computer in the established words: ("64bits", "x86_64")."""
    return f"{struct.calcsize('P') * 8}bits", platform.machine()


def cluster_info(cluster: Cluster, *, architecture: tuple[str, str]) -> dict[str, Any]:
    """Settings and versions.

    Args:
        cluster: the configuration.
        architecture: word size and machine of the master, as `own_architecture` gives them.
    """
    settings = msgspec.to_builtins(cluster.settings)
    settings["primary_ip_version"] = 6 if cluster.settings.primary_ip_family == 10 else 4
    info: dict[str, Any] = {name: settings[name] for name in _COPIED}
    enabled = cluster.settings.enabled_hypervisors
    info.update(
        architecture=list(architecture),
        config_version=CONFIG_VERSION,
        default_hypervisor=enabled[0],
        enabled_data_collectors={
            name: bool(values.get("active", True))
            for name, values in cluster.settings.data_collectors.items()
        },
        data_collector_interval={
            name: values.get("interval") for name, values in cluster.settings.data_collectors.items()
        },
        enabled_hypervisors=list(enabled),
        export_version=EXPORT_VERSION,
        hvparams={name: settings["hvparams"].get(name, {}) for name in enabled},
        ipolicy=settings["ipolicy"],
        master=cluster.master.name,
        name=cluster.settings.cluster_name,
        os_api_version=max(OS_API_VERSIONS),
        protocol_version=PROTOCOL_VERSION,
        software_version=RELEASE,
        vcs_version=VCS_VERSION,
        volume_group_name=cluster.settings.volume_group_name,
    )
    return info

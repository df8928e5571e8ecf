"""The text of `gnt-cluster info`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ganeti.cli.info import Pairs, or_none
from ganeti.cli.tables import timestamp
from ganeti.model.paths import Paths

Data = Mapping[str, Any]

_SETTINGS = (
    ("candidate pool size", "candidate_pool_size"),
    ("maximal number of jobs running simultaneously", "max_running_jobs"),
    ("maximal number of jobs simultaneously tracked by the scheduler", "max_tracked_jobs"),
    ("minimal nodes of a group that spreads files itself", "diffusion_min_nodes"),
    ("mac prefix", "mac_prefix"),
    ("master netdev", "master_netdev"),
    ("master netmask", "master_netmask"),
    ("use external master IP address setup script", "use_external_mip_script"),
    ("lvm volume group", "volume_group_name"),
)
_STORAGE = (
    ("drbd usermode helper", "drbd_usermode_helper"),
    ("file storage path", "file_storage_dir"),
    ("shared file storage path", "shared_file_storage_dir"),
    ("gluster storage path", "gluster_storage_dir"),
    ("maintenance of node health", "maintain_node_health"),
)
_DEFAULTS = (
    ("default instance allocator", "default_iallocator"),
    ("default instance allocator parameters", "default_iallocator_params"),
    ("primary ip version", "primary_ip_version"),
    ("preallocation wipe disks", "prealloc_wipe_disks"),
    ("max_inst_spec enforced", "enforce_max_inst_spec"),
)
_IMAGES = (
    ("install image", "install_image"),
    ("instance communication network", "instance_communication_network"),
    ("zeroing image", "zeroing_image"),
    ("compression tools", "compression_tools"),
    ("enabled user shutdown", "enabled_user_shutdown"),
    ("modify ssh setup", "modify_ssh_setup"),
    ("ssh_key_type", "ssh_key_type"),
    ("ssh_key_bits", "ssh_key_bits"),
)


def describe(data: Data, paths: Paths) -> Pairs:
    """All settings of the cluster, as masterd's QueryClusterInfo gives them."""
    enabled = list(data["enabled_hypervisors"])
    return Pairs(
        [
            ("Cluster name", data["name"]),
            ("Cluster UUID", data["uuid"]),
            ("Creation time", timestamp(data["ctime"])),
            ("Modification time", timestamp(data["mtime"])),
            ("Master node", data["master"]),
            ("Architecture (this node)", "{} ({})".format(*data["architecture"])),
            ("Tags", or_none(sorted(data["tags"]))),
            ("Default hypervisor", data["default_hypervisor"]),
            ("Enabled hypervisors", ", ".join(enabled)),
            ("Hypervisor parameters", {name: data["hvparams"].get(name, {}) for name in enabled}),
            ("OS-specific hypervisor parameters", data["os_hvp"]),
            ("OS parameters", data["osparams"]),
            ("Hidden OSes", ", ".join(data["hidden_os"])),
            ("Blacklisted OSes", ", ".join(data["blacklisted_os"])),
            ("Cluster parameters", _settings(data, paths)),
            ("Default node parameters", data["ndparams"]),
            ("Default instance parameters", data["beparams"]),
            ("Default nic parameters", data["nicparams"]),
            ("Default disk parameters", data["diskparams"]),
            ("Instance policy - limits for instances", policy(data["ipolicy"])),
            ("Capacity parameters", capacity_params(data["capacity_params"])),
            ("Data collectors", _collectors(data)),
        ]
    )


def _settings(data: Data, paths: Paths) -> Pairs:
    extstorage = f"{paths.root}/srv/ganeti/extstorage"
    return Pairs(
        [
            *_rows(data, _SETTINGS),
            ("lvm reserved volumes", or_none(data.get("reserved_lvs", ()))),
            *_rows(data, _STORAGE),
            ("uid pool", ", ".join(map(_uid_range, data.get("uid_pool", ())))),
            *_rows(data, _DEFAULTS),
            ("OS search path", ", ".join(paths.os_search_path)),
            ("ExtStorage Providers search path", extstorage),
            ("enabled disk templates", ", ".join(data["enabled_disk_templates"])),
            *_rows(data, _IMAGES),
        ]
    )


def _rows(data: Data, rows: Sequence[tuple[str, str]]) -> list[tuple[str, Any]]:
    return [(title, data[key]) for title, key in rows if key in data]


def _uid_range(ends: Sequence[int]) -> str:
    low, high = ends
    return str(low) if low == high else f"{low}-{high}"


def capacity_params(values: Data) -> Pairs:
    """Parameters of capacity, as far as they are set."""
    return Pairs([(name, "by the policy" if value is None else value) for name, value in values.items()])


def policy(limits: Data) -> Pairs:
    """An instance policy."""
    bounds = [
        Pairs([(f"min/{index}", pair["min"]), (f"max/{index}", pair["max"])])
        for index, pair in enumerate(limits.get("minmax", ()))
    ]
    ratios = [(name, limits[name]) for name in ("spindle-ratio", "vcpu-ratio") if name in limits]
    return Pairs(
        [
            ("bounds specs", bounds),
            ("std", limits.get("std", {})),
            ("allowed disk templates", ", ".join(limits.get("disk-templates", ()))),
            *ratios,
        ]
    )


def _collectors(data: Data) -> dict[str, Any]:
    intervals = data.get("data_collector_interval", {})
    return {
        name: Pairs([("active", active), ("interval", f"{intervals.get(name, 0) / 1e6:.3f}s")])
        for name, active in data.get("enabled_data_collectors", {}).items()
    }

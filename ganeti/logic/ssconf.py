"""The small files with facts of the cluster that every node has, for scripts and for daemons that
start (objects.md section 16). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ganeti.errors import ConfigurationError, CopyBehind, NodeError
from ganeti.model.calls.system import Stamp, WriteSsconf
from ganeti.model.cluster import Cluster
from ganeti.model.filled import ndparams_of
from ganeti.model.names import nice_key
from ganeti.model.node import Node
from ganeti.model.param_tables.hv import HYPERVISORS
from ganeti.model.params import ParamValue
from ganeti.version import RELEASE

MAX_BYTES = 8 * 1024 * 1024
"""The established limit of 128 KiB would end at some 5,000 instances."""

Writer = Callable[[Cluster], str | Iterable[str]]
"""Gives a value, or one line for each item."""


def ssconf_files(cluster: Cluster) -> dict[str, str]:
    """The text of every file, by name.

    Raises:
        ConfigurationError: a file would be longer than nodes take.
    """
    texts = {name: _text(name, writer(cluster)) for name, writer in _FILES.items()}
    for hypervisor in {*HYPERVISORS, *cluster.settings.hvparams}:
        name = f"hvparams_{hypervisor}"
        texts[name] = _text(name, _hvparams(cluster, hypervisor))
    return texts


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Those files of the new ones that differ from the old ones."""
    return {name: text for name, text in new.items() if old.get(name) != text}


def is_due(have: Stamp | None, call: WriteSsconf) -> bool:
    """Whether a node is to write what a call brings; False: it has done so already.

    Args:
        have: the set that it has; None: unknown.
        call: the call.

    Raises:
        NodeError: the node has a newer set.
        CopyBehind: the call continues another set than the node has.
    """
    if call.stamp is None:
        return True
    if have is not None and have == call.stamp:
        return False
    if have is not None and have > call.stamp:
        raise NodeError(
            f"there is a newer set of ssconf files ({_stamp(have)}) than this one ({_stamp(call.stamp)});"
            " an old master daemon must be stopped"
        )
    if call.base is not None and call.base != have:
        raise CopyBehind(
            f"the ssconf files here are {'unknown' if have is None else _stamp(have)}, not those that"
            f" these changes continue ({_stamp(call.base)})"
        )
    return True


def _stamp(stamp: Stamp) -> str:
    return f"{stamp.generation}.{stamp.number}"


def _text(name: str, value: str | Iterable[str]) -> str:
    lines = [value] if isinstance(value, str) else list(value)
    text = "".join(f"{line}\n" for line in lines)
    if len(text.encode()) > MAX_BYTES:
        raise ConfigurationError(
            f"ssconf_{name} would have {len(text.encode())} bytes; nodes take at most {MAX_BYTES}"
        )
    return text


def _value(name: str) -> Writer:
    return lambda cluster: str(getattr(cluster.settings, name))


def _nodes(wanted: Callable[[Node], bool], line: Callable[[Node], str]) -> Writer:
    def lines(cluster: Cluster) -> Iterable[str]:
        chosen = sorted(cluster.nodes.values(), key=lambda node: nice_key(node.name))
        return [line(node) for node in chosen if wanted(node)]

    return lines


def _any(node: Node) -> bool:
    return True


def _candidates(line: Callable[[Node], str]) -> Writer:
    def lines(cluster: Cluster) -> Iterable[str]:
        master = cluster.settings.master_node
        return [line(node) for node in cluster.nodes.values() if node.master_candidate or node.uuid == master]

    return lines


def _ssh_ports(cluster: Cluster) -> Iterable[str]:
    nodes = sorted(cluster.nodes.values(), key=lambda node: nice_key(node.name))
    return [f"{node.name}={ndparams_of(cluster, node)['ssh_port']}" for node in nodes]


def _instances(cluster: Cluster) -> Iterable[str]:
    return sorted((instance.name for instance in cluster.instances.values()), key=nice_key)


def _groups(cluster: Cluster) -> Iterable[str]:
    groups = sorted(cluster.groups.values(), key=lambda group: nice_key(group.name))
    return [f"{group.uuid} {group.name}" for group in groups]


def _networks(cluster: Cluster) -> Iterable[str]:
    networks = sorted(cluster.networks.values(), key=lambda network: nice_key(network.name))
    return [f"{network.uuid} {network.name}" for network in networks]


def _uid_pool(cluster: Cluster) -> Iterable[str]:
    return [str(low) if low == high else f"{low}-{high}" for low, high in cluster.settings.uid_pool]


def _candidate_certs(cluster: Cluster) -> Iterable[str]:
    return [f"{node}={digest}" for node, digest in sorted(cluster.settings.candidate_certs.items())]


def _hvparams(cluster: Cluster, hypervisor: str) -> Iterable[str]:
    values = cluster.settings.hvparams.get(hypervisor, {})
    return [f"{name}={_param(value)}" for name, value in sorted(values.items())]


def _param(value: ParamValue) -> str:
    return "" if value is None else str(value)


_FILES: Mapping[str, Writer] = {
    "cluster_name": _value("cluster_name"),
    "cluster_tags": lambda cluster: sorted(cluster.settings.tags, key=nice_key),
    "diffusion_min_nodes": _value("diffusion_min_nodes"),
    "enabled_user_shutdown": _value("enabled_user_shutdown"),
    "file_storage_dir": _value("file_storage_dir"),
    "gluster_storage_dir": _value("gluster_storage_dir"),
    "hypervisor_list": lambda cluster: cluster.settings.enabled_hypervisors,
    "instance_list": _instances,
    "maintain_node_health": _value("maintain_node_health"),
    "master_candidates": _candidates(lambda node: node.name),
    "master_candidates_certs": _candidate_certs,
    "master_candidates_ips": _candidates(lambda node: node.primary_ip),
    "master_ip": _value("master_ip"),
    "master_netdev": _value("master_netdev"),
    "master_netmask": _value("master_netmask"),
    "master_node": lambda cluster: cluster.master.name,
    "networks": _networks,
    "node_list": _nodes(_any, lambda node: node.name),
    "node_primary_ips": _nodes(_any, lambda node: f"{node.name} {node.primary_ip}"),
    "node_secondary_ips": _nodes(_any, lambda node: f"{node.name} {node.secondary_ip}"),
    "node_vm_capable": _nodes(_any, lambda node: f"{node.name}={node.vm_capable}"),
    "nodegroups": _groups,
    "offline_nodes": _nodes(lambda node: node.offline, lambda node: node.name),
    "online_nodes": _nodes(lambda node: not node.offline, lambda node: node.name),
    "primary_ip_family": _value("primary_ip_family"),
    "release_version": lambda cluster: RELEASE,
    "shared_file_storage_dir": _value("shared_file_storage_dir"),
    "ssh_ports": _ssh_ports,
    "uid_pool": _uid_pool,
}

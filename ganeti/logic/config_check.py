"""What is inconsistent in a configuration: duplicates, references that lead nowhere, bad parameters.

Each finding is one of ECLUSTERCFG (operations.md section 1.8). Pure; every check walks once over
what it looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from ganeti.errors import GanetiError
from ganeti.logic.addresses import contains, is_free, parse_network
from ganeti.logic.node_flags import candidates, flag_problem, pool_size_wanted
from ganeti.logic.reservations import minors_of, ports_of
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk, DiskTemplate
from ganeti.model.filled import nicparams_of
from ganeti.model.ids import NodeId
from ganeti.model.ipolicy import policy_from, policy_problems
from ganeti.model.param_tables.be import BACKEND, check_memory_order
from ganeti.model.param_tables.disk import DISK
from ganeti.model.param_tables.hv import HYPERVISORS
from ganeti.model.param_tables.nd import NODE, NOT_ON_NODES
from ganeti.model.param_tables.nic import NIC
from ganeti.model.params import ParamTable, ParamValues


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong, and with what."""

    kind: str
    """cluster, node, group, instance, disk or network."""
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.text}"


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Parameter tables of all hypervisors and disk templates, those of plugins included."""

    hypervisors: Mapping[str, ParamTable]
    templates: Mapping[str, ParamTable]


ESTABLISHED = Known(hypervisors=HYPERVISORS, templates=DISK)

Findings = Iterator[Finding]


def check_config(cluster: Cluster, known: Known = ESTABLISHED) -> tuple[Finding, ...]:
    """Everything that is wrong, in a fixed order; empty: nothing is."""
    checks: tuple[Callable[[], Findings], ...] = (
        lambda: _cluster(cluster, known),
        lambda: _pool(cluster),
        lambda: _nodes(cluster),
        lambda: _groups(cluster, known),
        lambda: _networks(cluster),
        lambda: _instances(cluster, known),
        lambda: _nics(cluster),
        lambda: _disks(cluster, known),
        lambda: _identities(cluster),
        lambda: _ports(cluster),
        lambda: _minors(cluster),
        lambda: _volumes(cluster),
    )
    return tuple(finding for check in checks for finding in check())


def _cluster(cluster: Cluster, known: Known) -> Findings:
    settings = cluster.settings

    def wrong(text: str) -> Finding:
        return Finding(kind="cluster", name=cluster.name, text=text)

    for what, enabled, tables in (
        ("hypervisor", settings.enabled_hypervisors, known.hypervisors),
        ("disk template", settings.enabled_disk_templates, known.templates),
    ):
        if not enabled:
            yield wrong(f"no {what} is enabled")
        for name in enabled:
            if name not in tables:
                yield wrong(f"enabled {what} {name} is not known; is its plugin missing?")
    if settings.master_node not in cluster.nodes:
        yield wrong(f"the master node {settings.master_node} does not exist")
    for table, values, what in (
        *_tables(known.hypervisors, settings.hvparams, "hvparams"),
        *_tables(known.templates, settings.diskparams, "diskparams"),
        (BACKEND, settings.beparams.get("default", {}), "beparams"),
        (NIC, settings.nicparams.get("default", {}), "nicparams"),
        (NODE, settings.ndparams, "ndparams"),
    ):
        yield from (wrong(f"{what}: {text}") for text in _param_problems(table, values))
    for os, per_hypervisor in settings.os_hvp.items():
        for table, values, what in _tables(known.hypervisors, per_hypervisor, f"os_hvp of {os}"):
            yield from (wrong(f"{what}: {text}") for text in _param_problems(table, values))
    yield from (wrong(f"instance policy: {text}") for text in policy_problems(settings.ipolicy))


def _tables(
    tables: Mapping[str, ParamTable], values: Mapping[str, ParamValues], what: str
) -> Iterator[tuple[ParamTable, ParamValues, str]]:
    for name, own in values.items():
        # Values for a plugin that is gone for now do no harm; that it is enabled is told elsewhere.
        if name in tables:
            yield tables[name], own, f"{what} of {name}"


def _param_problems(table: ParamTable, values: ParamValues) -> Iterator[str]:
    for name, value in values.items():
        try:
            table.check({name: value})
        except GanetiError as error:
            yield str(error)


def _pool(cluster: Cluster) -> Findings:
    have, wanted = len(candidates(cluster)), pool_size_wanted(cluster)
    if have < wanted:
        text = f"not enough master candidates: actual {have}, target {wanted}"
        yield Finding(kind="cluster", name=cluster.name, text=text)


def _nodes(cluster: Cluster) -> Findings:
    owners: dict[str, str] = {cluster.settings.master_ip: "the cluster"}
    names: set[str] = set()
    for node in cluster.nodes.values():

        def wrong(text: str, name: str = node.name) -> Finding:
            return Finding(kind="node", name=name, text=text)

        if node.name in names:
            yield wrong("another node has the same name")
        names.add(node.name)
        for address in dict.fromkeys((node.primary_ip, node.secondary_ip)):
            if address in owners:
                yield wrong(f"address {address} belongs to {owners[address]}, too")
            owners.setdefault(address, f"node {node.name}")
        problem = flag_problem(node)
        if problem is not None:
            yield wrong(problem)
        if node.uuid == cluster.settings.master_node and not node.master_candidate:
            yield wrong("it is the master but not a master candidate")
        if node.group not in cluster.groups:
            yield wrong(f"its group {node.group} does not exist")
        yield from (wrong(f"ndparams: {text}") for text in _param_problems(NODE, node.ndparams))
        for name in sorted(NOT_ON_NODES & node.ndparams.keys()):
            yield wrong(f"ndparams: {name} can only be set on groups and on the cluster")


def _groups(cluster: Cluster, known: Known) -> Findings:
    names: set[str] = set()
    for group in cluster.groups.values():

        def wrong(text: str, name: str = group.name) -> Finding:
            return Finding(kind="group", name=name, text=text)

        if group.name in names:
            yield wrong("another group has the same name")
        names.add(group.name)
        yield from (wrong(f"ndparams: {text}") for text in _param_problems(NODE, group.ndparams))
        for table, values, what in _tables(known.templates, group.diskparams, "diskparams"):
            yield from (wrong(f"{what}: {text}") for text in _param_problems(table, values))
        for network in group.networks:
            if network not in cluster.networks:
                yield wrong(f"it is connected to network {network}, which does not exist")
        try:
            policy = policy_from(cluster.settings.ipolicy, group.ipolicy)
        except GanetiError as error:
            yield wrong(str(error))
        else:
            yield from (wrong(f"instance policy: {text}") for text in policy_problems(policy))


def _networks(cluster: Cluster) -> Findings:
    names: set[str] = set()
    for network in cluster.networks.values():

        def wrong(text: str, name: str = network.name) -> Finding:
            return Finding(kind="network", name=name, text=text)

        if network.name in names:
            yield wrong("another network has the same name")
        names.add(network.name)
        try:
            size = parse_network(network.network).num_addresses
        except GanetiError as error:
            yield wrong(str(error))
            continue
        for what in ("reservations", "ext_reservations"):
            bits = getattr(network, what)
            if len(bits) != size or set(bits) > {"0", "1"}:
                yield wrong(f"{what} must be {size} characters 0 or 1")


def _instances(cluster: Cluster, known: Known) -> Findings:
    names: set[str] = set()
    owners: dict[str, str] = {}
    for instance in cluster.instances.values():

        def wrong(text: str, name: str = instance.name) -> Finding:
            return Finding(kind="instance", name=name, text=text)

        if instance.name in names:
            yield wrong("another instance has the same name")
        names.add(instance.name)
        if instance.primary_node not in cluster.nodes and not instance.forthcoming:
            yield wrong(f"its primary node {instance.primary_node} does not exist")
        for index, disk in enumerate(instance.disks):
            if disk not in cluster.disks:
                yield wrong(f"disk {index} ({disk}) does not exist")
            elif disk in owners:
                yield wrong(f"disk {index} ({disk}) belongs to instance {owners[disk]}, too")
            owners.setdefault(disk, instance.name)
        hypervisor = known.hypervisors.get(instance.hypervisor)
        if hypervisor is not None:
            yield from (wrong(f"hvparams: {text}") for text in _param_problems(hypervisor, instance.hvparams))
        elif not instance.forthcoming:
            yield wrong(f"its hypervisor {instance.hypervisor} is not known; is its plugin missing?")
        yield from (wrong(f"beparams: {text}") for text in _backend_problems(cluster, instance.beparams))
    for disk in cluster.disks:
        if disk not in owners:
            yield Finding(kind="disk", name=disk, text="it belongs to no instance")


def _backend_problems(cluster: Cluster, own: ParamValues) -> Iterator[str]:
    problems = list(_param_problems(BACKEND, own))
    yield from problems
    if problems:
        return
    try:
        check_memory_order({**cluster.settings.beparams.get("default", {}), **own})
    except (GanetiError, AssertionError) as error:
        yield str(error)


def _nics(cluster: Cluster) -> Findings:
    macs: dict[str, str] = {}
    addresses: dict[tuple[str, str], str] = {}
    for instance in cluster.instances.values():
        for index, nic in enumerate(instance.nics):

            def wrong(text: str, name: str = instance.name, at: int = index) -> Finding:
                return Finding(kind="instance", name=name, text=f"network interface {at}: {text}")

            mac = nic.mac.lower()
            if mac in macs:
                yield wrong(f"MAC address {nic.mac} is also that of instance {macs[mac]}")
            macs.setdefault(mac, instance.name)
            problems = list(_param_problems(NIC, nic.nicparams))
            yield from map(wrong, problems)
            network = cluster.networks.get(nic.network) if nic.network is not None else None
            if nic.network is not None and network is None:
                yield wrong(f"its network {nic.network} does not exist")
            if nic.ip is None or problems:
                continue
            link = str(nicparams_of(cluster.settings, nic.nicparams)["link"])
            place = (nic.network or f"link {link}", nic.ip)
            if place in addresses:
                yield wrong(f"IP address {nic.ip} is also that of instance {addresses[place]}")
            addresses.setdefault(place, instance.name)
            if network is not None:
                yield from map(wrong, _pool_problems(network, nic.ip))


def _pool_problems(network: Any, address: str) -> Iterator[str]:
    if not contains(network, address):
        yield f"IP address {address} does not lie in network {network.name} ({network.network})"
        return
    try:
        free = is_free(network, address)
    except (GanetiError, IndexError):
        return
    if free:
        yield f"IP address {address} is not reserved in network {network.name}"


def _disks(cluster: Cluster, known: Known) -> Findings:
    for disk in cluster.disks.values():
        for part in disk.walk():

            def wrong(text: str, name: str = disk.uuid) -> Finding:
                return Finding(kind="disk", name=name, text=text)

            table = known.templates.get(part.dev_type)
            if table is None:
                yield wrong(f"its template {part.dev_type} is not known; is its plugin missing?")
            for node in dict.fromkeys((*part.nodes, *_drbd_ends(part))):
                if node not in cluster.nodes:
                    yield wrong(f"its node {node} does not exist")
            if part.dev_type == DiskTemplate.DRBD:
                yield from map(wrong, _drbd_problems(part))


def _drbd_ends(disk: Disk) -> tuple[str, ...]:
    return tuple(node for node, _ in minors_of(disk)) if not disk.nodes else ()


def _drbd_problems(disk: Disk) -> Iterator[str]:
    if len(disk.logical_id) != 6:
        yield "its logical_id must have two nodes, a port, two minors and a secret"
        return
    if set(disk.nodes) != set(disk.logical_id[:2]):
        yield "its nodes are not those of its logical_id"
    if len(disk.children) not in (0, 2):
        yield "it must have two parts, for data and metadata"


def _identities(cluster: Cluster) -> Findings:
    seen: dict[str, str] = {cluster.settings.uuid: "the cluster"}
    for kind in ("nodes", "groups", "instances", "disks", "networks"):
        for value in getattr(cluster, kind).values():
            for one in value.walk() if isinstance(value, Disk) else (value,):
                name = one.uuid if isinstance(one, Disk) else one.name
                this = f"{kind[:-1]} {name}"
                if one.uuid in seen:
                    text = f"its UUID {one.uuid} is also that of {seen[one.uuid]}"
                    yield Finding(kind=kind[:-1], name=name, text=text)
                seen.setdefault(one.uuid, this)


def _ports(cluster: Cluster) -> Findings:
    users: dict[int, str] = dict.fromkeys(cluster.settings.tcpudp_port_pool, "the pool of free ports")
    for what, kind, name, port in _port_uses(cluster):
        if port in users:
            yield Finding(kind=kind, name=name, text=f"port {port} also belongs to {users[port]}")
        users.setdefault(port, what)
        if port > cluster.settings.highest_used_port:
            text = f"port {port} is above the highest one handed out, {cluster.settings.highest_used_port}"
            yield Finding(kind=kind, name=name, text=text)


def _port_uses(cluster: Cluster) -> Iterator[tuple[str, str, str, int]]:
    for instance in cluster.instances.values():
        if instance.network_port is not None:
            yield f"instance {instance.name}", "instance", instance.name, instance.network_port
    for disk in cluster.disks.values():
        for port in ports_of(disk):
            yield f"disk {disk.uuid}", "disk", disk.uuid, port


def _minors(cluster: Cluster) -> Findings:
    users: dict[tuple[str, int], str] = {}
    for disk in cluster.disks.values():
        for use in minors_of(disk):
            if use in users:
                node = cluster.nodes.get(NodeId(use[0]))
                where = node.name if node is not None else use[0]
                text = f"DRBD minor {use[1]} on node {where} also belongs to disk {users[use]}"
                yield Finding(kind="disk", name=disk.uuid, text=text)
            users.setdefault(use, disk.uuid)


def _volumes(cluster: Cluster) -> Findings:
    users: dict[tuple[str, Any, Any], str] = {}
    for disk in cluster.disks.values():
        for part in disk.walk():
            if part.dev_type != DiskTemplate.PLAIN or len(part.logical_id) != 2:
                continue
            for node in part.nodes or disk.nodes:
                use = (node, *part.logical_id)
                if users.get(use, disk.uuid) != disk.uuid:
                    volume = "/".join(map(str, part.logical_id))
                    text = f"logical volume {volume} also belongs to disk {users[use]}"
                    yield Finding(kind="disk", name=disk.uuid, text=text)
                users.setdefault(use, disk.uuid)

"""Hypothesis strategies for the values of the model: any cluster that is well-formed.

`clusters()` gives configurations as a file could hold them, odd names and all; references between
objects lead somewhere, but nothing else makes sense. For clusters in good order see
`ganeti.testing.clusters`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from ganeti.model.cluster import Cluster, empty_cluster
from ganeti.model.disk import Disk
from ganeti.model.filters import FilterRule
from ganeti.model.ids import DiskId, GroupId, NetworkId, NodeId
from ganeti.model.instance import AdminSource, AdminState, Instance, Nic
from ganeti.model.network import Network
from ganeti.model.node import AllocPolicy, GroupNetwork, Node, NodeGroup
from ganeti.model.param_tables.be import BACKEND
from ganeti.model.param_tables.hv import HYPERVISORS
from ganeti.model.params import ParamSpec, ParamTable, ParamType, ParamValue
from ganeti.testing.clusters import settings

uuids = st.uuids().map(str)
words = st.text(alphabet=st.characters(codec="utf-8"), max_size=12)
host_names = st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z]{2,5}){0,2}", fullmatch=True)
addresses = st.ip_addresses(v=4).map(str)
macs = st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":"))
times = st.floats(min_value=0, max_value=4e9, allow_nan=False)
serials = st.integers(min_value=1, max_value=10**9)
tags = st.lists(st.from_regex(r"[a-z0-9.:@-]{1,10}", fullmatch=True), max_size=3, unique=True).map(tuple)
sizes = st.integers(min_value=0, max_value=10**7)

STAMPS: dict[str, st.SearchStrategy[Any]] = {"serial_no": serials, "ctime": times, "mtime": times}


def param_values(table: ParamTable) -> st.SearchStrategy[dict[str, ParamValue]]:
    """Some parameters of a table with values of their types, allowed ones where there is a list."""
    return st.fixed_dictionaries({}, optional={row.name: _param(row) for row in table.rows.values()})


def _param(row: ParamSpec) -> st.SearchStrategy[ParamValue]:
    if row.choices:
        return st.sampled_from(row.choices)
    if row.check is not None:
        return st.just(row.default)
    by_type: dict[ParamType, st.SearchStrategy[ParamValue]] = {
        ParamType.BOOL: st.booleans(),
        ParamType.INT: st.integers(0, 10**6),
        ParamType.SIZE: st.integers(0, 10**6),
        ParamType.FLOAT: st.floats(0.1, 10),
        ParamType.STRING: words,
        ParamType.MAYBE_STRING: st.none() | words,
    }
    return by_type[row.type]


def groups(uuid: str) -> st.SearchStrategy[NodeGroup]:
    """A group."""
    connection = st.builds(GroupNetwork, mode=st.just("bridged"), link=words, vlan=st.just(""))
    return st.builds(
        NodeGroup,
        uuid=st.just(GroupId(uuid)),
        name=st.just(f"group-{uuid[:8]}"),
        alloc_policy=st.sampled_from(AllocPolicy),
        ipolicy=st.sampled_from([{}, {"vcpu-ratio": 2.5}, {"std": {"cpu-count": 3}}]),
        diskparams=st.sampled_from([{}, {"plain": {"stripes": 2}}]),
        networks=st.dictionaries(uuids.map(NetworkId), connection, max_size=1),
        tags=tags,
        **STAMPS,
    )


def nodes(uuid: str, group: str) -> st.SearchStrategy[Node]:
    """A node of a group."""
    flags = st.sampled_from([(False, False, False), (True, False, False), (False, True, False)])
    plain = st.builds(
        Node,
        uuid=st.just(NodeId(uuid)),
        name=host_names.map(lambda name: f"{name}-{uuid}"),
        primary_ip=addresses,
        secondary_ip=addresses,
        group=st.just(GroupId(group)),
        master_capable=st.booleans(),
        vm_capable=st.booleans(),
        powered=st.booleans(),
        tags=tags,
        **STAMPS,
    )
    return st.builds(
        lambda node, roles: msgspec.structs.replace(
            node, master_candidate=roles[0], offline=roles[1], drained=roles[2]
        ),
        plain,
        flags,
    )


nics = st.builds(
    Nic,
    uuid=uuids,
    mac=macs,
    ip=st.none() | addresses,
    name=st.none() | words,
    nicparams=st.sampled_from([{}, {"link": "br1"}, {"mode": "routed", "vlan": ".4"}]),
)


def disks(uuid: str, some_nodes: Sequence[str]) -> st.SearchStrategy[Disk]:
    """A disk, of one or two levels, on some nodes."""
    on = tuple(NodeId(node) for node in some_nodes[:2])
    part = st.builds(
        Disk,
        uuid=uuids.map(DiskId),
        dev_type=st.just("plain"),
        logical_id=st.tuples(st.just("xenvg"), words),
        size=sizes,
        nodes=st.just(on),
    )
    return st.builds(
        Disk,
        uuid=st.just(DiskId(uuid)),
        dev_type=st.sampled_from(["plain", "drbd", "file", "ext"]),
        logical_id=st.tuples(words, st.integers(0, 99)) | st.tuples(words, words),
        size=sizes,
        mode=st.sampled_from(["rw", "ro"]),
        iv_name=words,
        name=st.none() | words,
        nodes=st.just(on),
        children=st.lists(part, max_size=2).map(tuple),
        spindles=st.none() | st.integers(1, 5),
        params=st.none() | st.dictionaries(words, words, max_size=2),
        forthcoming=st.booleans(),
        **STAMPS,
    )


def instances(uuid: str, node: str, own_disks: Sequence[str]) -> st.SearchStrategy[Instance]:
    """An instance on a node."""
    return st.builds(
        Instance,
        uuid=st.just(uuid),
        name=host_names.map(lambda name: f"{name}-{uuid}"),
        primary_node=st.just(NodeId(node)),
        os=words,
        hypervisor=st.just("kvm"),
        hvparams=param_values(HYPERVISORS["kvm"]),
        beparams=param_values(BACKEND),
        osparams=st.dictionaries(words, words, max_size=2),
        admin_state=st.sampled_from(AdminState),
        admin_state_source=st.sampled_from(AdminSource),
        nics=st.lists(nics, max_size=2).map(tuple),
        disks=st.just(tuple(DiskId(disk) for disk in own_disks)),
        disks_active=st.booleans(),
        network_port=st.none() | st.integers(11000, 14999),
        forthcoming=st.booleans(),
        tags=tags,
        **STAMPS,
    )


def networks(uuid: str) -> st.SearchStrategy[Network]:
    """A network with sixteen addresses."""
    bits = st.text(alphabet="01", min_size=16, max_size=16)
    return st.builds(
        Network,
        uuid=st.just(NetworkId(uuid)),
        name=st.just(f"net-{uuid[:8]}"),
        network=st.integers(0, 255).map(lambda octet: f"10.{octet}.0.0/28"),
        mac_prefix=st.none() | st.just("aa:bb:cc"),
        reservations=bits,
        ext_reservations=bits,
        tags=tags,
        **STAMPS,
    )


def filter_rules(uuid: str) -> st.SearchStrategy[FilterRule]:
    """A filter rule."""
    return st.builds(
        FilterRule,
        uuid=st.just(uuid),
        watermark=st.integers(0, 10**6),
        priority=st.integers(0, 99),
        predicates=st.sampled_from([(), (("jobid", [">", "id", "watermark"]),)]),
        action=st.sampled_from(["ACCEPT", "PAUSE", ("RATE_LIMIT", 3)]),
        reason_trail=st.sampled_from([(), (("gnt", "because", 1700000000),)]),
    )


@st.composite
def clusters(draw: st.DrawFn, *, most: int = 3) -> Cluster:
    """A configuration with up to `most` objects of each kind, and at least one group and node."""
    ids = draw(st.lists(uuids, min_size=6 * most, max_size=6 * most, unique=True))
    count = st.integers(0, most)
    group_ids, node_ids, instance_ids, disk_ids, network_ids, rule_ids = (
        ids[at * most : at * most + max(least, draw(count))] for at, least in enumerate((1, 1, 0, 0, 0, 0))
    )
    base = empty_cluster(settings(master_node=node_ids[0]), now=draw(times))
    return msgspec.structs.replace(
        base,
        groups=base.groups.holding({GroupId(one): draw(groups(one)) for one in group_ids}),
        nodes=base.nodes.holding({NodeId(one): draw(nodes(one, group_ids[0])) for one in node_ids}),
        instances=base.instances.holding(
            {one: draw(instances(one, node_ids[0], disk_ids)) for one in instance_ids}  # type: ignore[misc]
        ),
        disks=base.disks.holding({DiskId(one): draw(disks(one, node_ids)) for one in disk_ids}),
        networks=base.networks.holding({NetworkId(one): draw(networks(one)) for one in network_ids}),
        filters=base.filters.holding({one: draw(filter_rules(one)) for one in rule_ids}),
        serial_no=draw(serials),
    )

"""Query fields of node groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ganeti.logic.capacity_params import filled_params
from ganeti.logic.fields.base import Field, FieldKind, common_fields, table
from ganeti.logic.fields.node import ndparam_kind, ndparam_title
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId
from ganeti.model.node import NodeGroup
from ganeti.model.param_tables.nd import NODE


class GroupWorld(msgspec.Struct, kw_only=True):
    """What fields of groups look at."""

    cluster: Cluster
    members: Mapping[GroupId, list[str]] = {}
    instances: Mapping[GroupId, list[str]] = {}

    @classmethod
    def of(cls, cluster: Cluster) -> GroupWorld:
        """With an index of what is in which group."""
        members: dict[GroupId, list[str]] = {}
        instances: dict[GroupId, list[str]] = {}
        for node in cluster.nodes.values():
            members.setdefault(node.group, []).append(node.name)
        for instance in cluster.instances.values():
            instances.setdefault(cluster.nodes[instance.primary_node].group, []).append(instance.name)
        return cls(cluster=cluster, members=members, instances=instances)


Get = Callable[[NodeGroup, GroupWorld], Any]
_TEXT, _NUMBER, _OTHER = FieldKind.TEXT, FieldKind.NUMBER, FieldKind.OTHER


def _row(name: str, title: str, kind: FieldKind, doc: str, get: Get) -> Field[NodeGroup, GroupWorld]:
    return Field(name=name, title=title, kind=kind, doc=doc, get=get)


def _diskparams(group: NodeGroup, world: GroupWorld) -> dict[str, Any]:
    settings = world.cluster.settings.diskparams
    return {
        template: {**settings.get(template, {}), **group.diskparams.get(template, {})}
        for template in sorted({*settings, *group.diskparams})
    }


def _ndparams(group: NodeGroup, world: GroupWorld) -> dict[str, Any]:
    return NODE.fill(world.cluster.settings.ndparams, group.ndparams)


def _ndparam(name: str) -> Get:
    return lambda group, world: _ndparams(group, world)[name]


FIELDS = table(
    [
        _row("name", "Group", _TEXT, "Group name", lambda g, w: g.name),
        _row(
            "alloc_policy",
            "AllocPolicy",
            _TEXT,
            "Allocation policy for group",
            lambda g, w: g.alloc_policy.value,
        ),
        _row(
            "custom_diskparams",
            "CustomDiskParameters",
            _OTHER,
            "Custom disk parameters",
            lambda g, w: msgspec.to_builtins(g.diskparams),
        ),
        _row(
            "custom_ipolicy",
            "CustomInstancePolicy",
            _OTHER,
            "Custom instance policy limitations",
            lambda g, w: dict(g.ipolicy),
        ),
        _row(
            "custom_ndparams",
            "CustomNDParams",
            _OTHER,
            "Custom node parameters",
            lambda g, w: dict(g.ndparams),
        ),
        _row(
            "capacity_params",
            "CapacityParams",
            _OTHER,
            "Parameters of capacity (merged)",
            lambda g, w: msgspec.to_builtins(filled_params(w.cluster, g)),
        ),
        _row(
            "custom_capacity_params",
            "CustomCapacityParams",
            _OTHER,
            "Custom parameters of capacity",
            lambda g, w: {k: v for k, v in msgspec.to_builtins(g.capacity_params).items() if v is not None},
        ),
        _row("diskparams", "DiskParameters", _OTHER, "Disk parameters (merged)", _diskparams),
        _row(
            "ipolicy",
            "InstancePolicy",
            _OTHER,
            "Instance policy limitations (merged)",
            lambda g, w: msgspec.to_builtins(w.cluster.policy_of(g.uuid)),
        ),
        _row("ndparams", "NDParams", _OTHER, "Node parameters", _ndparams),
        _row("node_cnt", "Nodes", _NUMBER, "Number of nodes", lambda g, w: len(w.members.get(g.uuid, ()))),
        _row(
            "node_list", "NodeList", _OTHER, "List of nodes", lambda g, w: sorted(w.members.get(g.uuid, ()))
        ),
        _row(
            "pinst_cnt",
            "Instances",
            _NUMBER,
            "Number of primary instances",
            lambda g, w: len(w.instances.get(g.uuid, ())),
        ),
        _row(
            "pinst_list",
            "InstanceList",
            _OTHER,
            "List of primary instances",
            lambda g, w: sorted(w.instances.get(g.uuid, ())),
        ),
        *(
            _row(
                f"ndp/{name}",
                ndparam_title(name),
                ndparam_kind(name),
                f"Node parameter {name}",
                _ndparam(name),
            )
            for name in NODE.rows
        ),
        *common_fields("Group"),
    ]
)
"""All fields of groups by name."""

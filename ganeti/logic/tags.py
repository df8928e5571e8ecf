"""Tags: what may be one, and objects with other tags. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum

from msgspec.structs import replace

from ganeti.errors import PrereqError, TagError
from ganeti.model.cluster import Cluster

MAX_LENGTH = 128
MAX_TAGS = 4096
_ALLOWED = re.compile(r"[\w.+*/:@-]+")


class TagKind(StrEnum):
    """What can have tags."""

    CLUSTER = "cluster"
    NODEGROUP = "nodegroup"
    NODE = "node"
    INSTANCE = "instance"
    NETWORK = "network"


def check_tag(tag: str) -> None:
    """Refuse texts that cannot be a tag.

    Raises:
        TagError: why not.
    """
    if not tag:
        raise TagError("a tag must not be empty")
    if len(tag) > MAX_LENGTH:
        raise TagError(f"tag {tag[:20]}... is longer than {MAX_LENGTH} characters")
    if _ALLOWED.fullmatch(tag) is None:
        raise TagError(f"tag {tag!r} has characters other than letters, digits and . + * / : @ - _")


def uuid_of(cluster: Cluster, kind: TagKind, name: str | None) -> str | None:
    """UUID of the object that has the tags; None for the cluster itself.

    Raises:
        PrereqError: no such object, or no name where one is needed.
    """
    if kind is TagKind.CLUSTER:
        return None
    if not name:
        raise PrereqError(f"tags of kind {kind} need the name of an object")
    match kind:
        case TagKind.NODE:
            return cluster.node(name).uuid
        case TagKind.INSTANCE:
            return cluster.instance(name).uuid
        case TagKind.NODEGROUP:
            return cluster.group(name).uuid
        case _:
            return cluster.network(name).uuid


def tags_of(cluster: Cluster, kind: TagKind, name: str | None) -> tuple[str, ...]:
    """Tags of an object."""
    match kind:
        case TagKind.CLUSTER:
            return cluster.settings.tags
        case TagKind.NODE:
            return cluster.node(name or "").tags
        case TagKind.INSTANCE:
            return cluster.instance(name or "").tags
        case TagKind.NODEGROUP:
            return cluster.group(name or "").tags
        case _:
            return cluster.network(name or "").tags


def with_tags(cluster: Cluster, kind: TagKind, name: str | None, tags: Iterable[str]) -> Cluster:
    """The cluster with exactly these tags on an object.

    Raises:
        TagError: too many.
    """
    wanted = tuple(sorted(set(tags)))
    if len(wanted) > MAX_TAGS:
        raise TagError(f"an object has at most {MAX_TAGS} tags")
    match kind:
        case TagKind.CLUSTER:
            return replace(cluster, settings=replace(cluster.settings, tags=wanted))
        case TagKind.NODE:
            node = replace(cluster.node(name or ""), tags=wanted)
            return replace(cluster, nodes=cluster.nodes.with_item(node.uuid, node))
        case TagKind.INSTANCE:
            instance = replace(cluster.instance(name or ""), tags=wanted)
            return replace(cluster, instances=cluster.instances.with_item(instance.uuid, instance))
        case TagKind.NODEGROUP:
            group = replace(cluster.group(name or ""), tags=wanted)
            return replace(cluster, groups=cluster.groups.with_item(group.uuid, group))
        case _:
            network = replace(cluster.network(name or ""), tags=wanted)
            return replace(cluster, networks=cluster.networks.with_item(network.uuid, network))


def search(cluster: Cluster, pattern: str) -> list[tuple[str, str]]:
    """Path and tag of every tag in which a regular expression is found.

    Raises:
        PrereqError: the expression cannot be read.
    """
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise PrereqError(f"cannot read the regular expression {pattern!r}: {error}") from error
    return [(path, tag) for path, tags in _all_tags(cluster) for tag in tags if wanted.search(tag)]


def _all_tags(cluster: Cluster) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "/cluster", cluster.settings.tags
    yield from ((f"/instances/{instance.name}", instance.tags) for instance in cluster.instances.values())
    yield from ((f"/nodes/{node.name}", node.tags) for node in cluster.nodes.values())
    yield from ((f"/nodegroup/{group.name}", group.tags) for group in cluster.groups.values())
    yield from ((f"/network/{network.name}", network.tags) for network in cluster.networks.values())

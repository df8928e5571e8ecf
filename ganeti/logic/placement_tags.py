"""Tags that say which instances and nodes may come together (htools:...). Pure.

The cluster has tags `htools:KIND:PREFIX`, each of which gives a meaning to the tags `PREFIX:...` of
instances or nodes:

    htools:iextags:svc            two instances with the same tag svc:... do not share a node
    htools:nlocation:power        nodes with the same tag power:... fail together
    htools:desiredlocation:power  an instance tagged power:... belongs on such a node
    htools:migration:cpu          an instance leaves a node tagged cpu:... only for one with the same tags
    htools:allowmigration:A::B    or from a node tagged A for one tagged B
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ganeti.model.cluster import Cluster

EXCLUSION = "htools:iextags:"
LOCATION = "htools:nlocation:"
DESIRED_LOCATION = "htools:desiredlocation:"
MIGRATION = "htools:migration:"
ALLOWED_MIGRATION = "htools:allowmigration:"

Tags = frozenset[str]


class TagRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the tags of a cluster make of the tags of others."""

    exclusion: tuple[str, ...] = ()
    """Beginnings of the tags that have this meaning, with their colon; likewise the next three."""
    location: tuple[str, ...] = ()
    desired: tuple[str, ...] = ()
    migration: tuple[str, ...] = ()
    allowed: Mapping[str, Tags] = {}
    """Node tag to those of nodes from which instances may come although they lack it."""

    def exclusive(self, instance_tags: Iterable[str]) -> tuple[str, ...]:
        """Tags of which a node should have one instance."""
        return _matching(instance_tags, self.exclusion)

    def locations(self, node_tags: Iterable[str]) -> Tags:
        """Causes for which a node fails together with others."""
        return frozenset(_matching(node_tags, self.location))

    def desired_locations(self, instance_tags: Iterable[str]) -> Tags:
        """Locations that an instance ought to have."""
        if not self.desired:
            return frozenset()
        exact = {prefix.removesuffix(":") for prefix in self.desired}
        tags = tuple(instance_tags)
        return frozenset((*_matching(tags, self.desired), *exact.intersection(tags)))

    def migration_tags(self, node_tags: Iterable[str]) -> Tags:
        """What instances of a node need of the node that they go to."""
        return frozenset(_matching(node_tags, self.migration))

    def accepted_migrations(self, node_tags: Iterable[str]) -> Tags:
        """What a node has for instances that come to it."""
        own = self.migration_tags(node_tags)
        return own.union(*(self.allowed[tag] for tag in own if tag in self.allowed))


def tag_rules(cluster: Cluster) -> TagRules:
    """The rules of a cluster; tags that make no sense give none."""
    tags = cluster.settings.tags
    allowed: dict[str, set[str]] = {}
    for pair in _after(tags, ALLOWED_MIGRATION):
        source, colons, target = pair.partition("::")
        if source and colons and target:
            allowed.setdefault(target, set()).add(source)
    return TagRules(
        exclusion=_prefixes(tags, EXCLUSION),
        location=_prefixes(tags, LOCATION),
        desired=_prefixes(tags, DESIRED_LOCATION),
        migration=_prefixes(tags, MIGRATION),
        allowed={target: frozenset(sources) for target, sources in allowed.items()},
    )


def _after(tags: Iterable[str], beginning: str) -> list[str]:
    found = (tag.removeprefix(beginning) for tag in tags if tag.startswith(beginning))
    return [rest for rest in found if rest]


def _prefixes(tags: Iterable[str], beginning: str) -> tuple[str, ...]:
    return tuple(f"{rest}:" for rest in _after(tags, beginning))


def _matching(tags: Iterable[str], prefixes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(tag for tag in tags if tag.startswith(prefixes)) if prefixes else ()

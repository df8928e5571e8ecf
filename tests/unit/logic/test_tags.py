"""Tests of tags: which texts may be one, and objects that have them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PrereqError, TagError
from ganeti.logic.tags import (
    MAX_LENGTH,
    MAX_TAGS,
    TagKind,
    check_tag,
    search,
    tags_of,
    uuid_of,
    with_tags,
)
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NetworkId
from ganeti.model.network import Network
from ganeti.testing.clusters import cluster

NAMES = {
    TagKind.CLUSTER: None,
    TagKind.NODE: "node2",
    TagKind.INSTANCE: "inst1",
    TagKind.NODEGROUP: "default",
    TagKind.NETWORK: "lan",
}


def world() -> Cluster:
    """One object of each kind, at least."""
    value = cluster(instances=1)
    network = Network(uuid=NetworkId("net"), name="lan", network="10.2.0.0/24")
    return replace(value, networks=value.networks.with_item(network.uuid, network))


class TextTests(SynchronousTestCase):
    """Texts that may be tags."""

    def test_allowed(self) -> None:
        """Letters, digits and some other characters."""
        for tag in ("a", "rack:4", "a.b+c*d/e:f@g-h_i", "0", "x" * MAX_LENGTH, "htools:iextags:svc"):
            check_tag(tag)

    def test_refused(self) -> None:
        """Everything else, with the reason."""
        for tag, pattern in (
            ("", "must not be empty"),
            ("x" * (MAX_LENGTH + 1), "longer than 128"),
            ("two words", "characters other than"),
            ("a,b", "characters other than"),
            ("a\n", "characters other than"),
        ):
            with self.assertRaisesRegex(TagError, pattern):
                check_tag(tag)


class ObjectTests(SynchronousTestCase):
    """Tags of objects."""

    def test_every_kind(self) -> None:
        """Tags are stored sorted and each once, on the object that is meant and on no other."""
        for kind, name in NAMES.items():
            value = with_tags(world(), kind, name, ["b", "a", "b"])
            self.assertEqual(tags_of(value, kind, name), ("a", "b"))
            others = {other: tags_of(value, other, NAMES[other]) for other in NAMES if other is not kind}
            self.assertEqual(set(others.values()), {()}, kind)

    def test_too_many(self) -> None:
        """An object has at most so many."""
        with_tags(world(), TagKind.CLUSTER, None, map(str, range(MAX_TAGS)))
        with self.assertRaisesRegex(TagError, "at most 4096"):
            with_tags(world(), TagKind.CLUSTER, None, map(str, range(MAX_TAGS + 1)))

    def test_which_object(self) -> None:
        """An object needs a name, the cluster none."""
        self.assertIsNone(uuid_of(world(), TagKind.CLUSTER, None))
        self.assertEqual(uuid_of(world(), TagKind.NETWORK, "lan"), "net")
        with self.assertRaisesRegex(PrereqError, "node need the name"):
            uuid_of(world(), TagKind.NODE, None)
        with self.assertRaisesRegex(PrereqError, "'nobody' is not known"):
            uuid_of(world(), TagKind.INSTANCE, "nobody")

    def test_search(self) -> None:
        """The established path of each kind of object."""
        value = world()
        for kind, name in NAMES.items():
            value = with_tags(value, kind, name, [f"is-{kind}"])
        self.assertEqual(
            dict(search(value, "^is-")),
            {
                "/cluster": "is-cluster",
                "/nodes/node2.example.com": "is-node",
                "/instances/inst1.example.com": "is-instance",
                "/nodegroup/default": "is-nodegroup",
                "/network/lan": "is-network",
            },
        )
        self.assertEqual(search(value, "cluster$"), [("/cluster", "is-cluster")])

    def test_search_cannot_be_read(self) -> None:
        """A broken expression is refused with what is wrong."""
        with self.assertRaisesRegex(PrereqError, r"'\['"):
            search(world(), "[")

    @given(st.sets(st.from_regex(r"[a-zA-Z0-9_.+*/:@-]{1,20}", fullmatch=True), max_size=8))
    def test_come_back(self, tags: set[str]) -> None:
        """What is allowed is stored, and found by searching for anything."""
        for tag in tags:
            check_tag(tag)
        value = with_tags(world(), TagKind.NODE, "node2", tags)
        self.assertEqual(tags_of(value, TagKind.NODE, "node2"), tuple(sorted(tags)))
        self.assertEqual({tag for _, tag in search(value, "")}, tags)

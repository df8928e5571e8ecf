"""config.data read and written: the same both ways, strict, and precise about mistakes."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ConfigurationError, ConfigurationVersionMismatch
from ganeti.model.cluster import Cluster
from ganeti.model.codec import (
    KINDS,
    decode_cluster,
    decode_delta,
    decode_object,
    encode_cluster,
    encode_delta,
    encode_object,
    encode_pieces,
)
from ganeti.model.delta import apply, stamp
from ganeti.testing.clusters import changed_instance, cluster, group_id, instance_id, node_id, with_settings
from ganeti.testing.strategies import clusters

SOURCE = "/var/lib/ganeti/config.data"


def raw_of(value: Cluster) -> dict[str, Any]:
    """The JSON object of a configuration, to be spoilt."""
    return dict(msgspec.json.decode(encode_cluster(value)))


def reread(raw: object) -> Cluster:
    """The configuration in a JSON value."""
    return decode_cluster(msgspec.json.encode(raw), source=SOURCE)


class RoundTripTests(SynchronousTestCase):
    """What is written can be read."""

    @given(clusters())
    @hypothesis_settings(max_examples=40, deadline=None)
    def test_round_trip(self, value: Cluster) -> None:
        """Any cluster survives, and so do the bytes."""
        data = encode_cluster(value)
        again = decode_cluster(data)
        self.assertEqual(again, value)
        self.assertEqual(encode_cluster(again), data)

    @given(clusters(most=2), st.booleans())
    @hypothesis_settings(max_examples=30, deadline=None)
    def test_absent_null_default(self, value: Cluster, absent: bool) -> None:
        """An absent key and null mean the default (SX-001)."""
        raw = raw_of(value)
        for section, kind in KINDS.items():
            defaults = {
                field.encode_name: msgspec.to_builtins(field.default)
                for field in msgspec.structs.fields(kind)
                if field.default is not msgspec.NODEFAULT
            }
            objects = [raw[section]] if section == "cluster" else raw[section].values()
            for one in objects:
                for name in [name for name, default in defaults.items() if one.get(name) == default]:
                    if absent:
                        del one[name]
                    else:
                        one[name] = None
        self.assertEqual(reread(raw), value)

    def test_pieces(self) -> None:
        """A large configuration is encoded piece by piece, each of them small."""
        value = cluster(nodes=5, instances=1000)
        pieces = list(encode_pieces(value))
        self.assertGreater(len(pieces), 8)
        self.assertEqual(decode_cluster(b"".join(pieces)), value)

    def test_top_level(self) -> None:
        """The keys are the established ones."""
        expected = "cluster ctime disks filters instances mtime networks nodegroups nodes serial_no version"
        raw = raw_of(cluster())
        self.assertEqual(sorted(raw), expected.split())
        self.assertEqual(raw["version"], 3010000)

    def test_objects(self) -> None:
        """Single objects can be written and read by section."""
        value = cluster(instances=1)
        instance = value.instance("inst1")
        self.assertEqual(decode_object("instances", encode_object(instance)), instance)


class ComputedTests(SynchronousTestCase):
    """What may stand there without meaning."""

    def test_members(self) -> None:
        """Members of groups follow from the nodes and are passed over."""
        raw = raw_of(cluster())
        raw["nodegroups"][group_id(1)]["members"] = [node_id(1)]
        self.assertEqual(reread(raw), cluster())

    def test_references(self) -> None:
        """Objects refer to each other by UUID, so that none is changed when another is renamed (S2.3-025)."""
        raw = raw_of(cluster(nodes=3, instances=2))
        nodes = set(raw["nodes"])
        for node in raw["nodes"].values():
            self.assertIn(node["group"], raw["nodegroups"])
        for instance in raw["instances"].values():
            self.assertIn(instance["primary_node"], nodes)
            self.assertLessEqual(set(instance["disks"]), set(raw["disks"]))
        for disk in raw["disks"].values():
            self.assertLessEqual(set(disk["nodes"]), nodes)
        self.assertIn(raw["cluster"]["master_node"], nodes)

    def test_forthcoming(self) -> None:
        """A reserved instance may have next to no keys."""
        raw = raw_of(cluster())
        raw["instances"][instance_id(7)] = {"uuid": instance_id(7), "forthcoming": True, "serial_no": 3}
        instance = reread(raw).instances[instance_id(7)]
        self.assertTrue(instance.forthcoming)
        self.assertEqual(instance.serial_no, 3)


class RefusalTests(SynchronousTestCase):
    """Mistakes are refused with file, place, what is wrong and what to do."""

    def refused(self, data: bytes, *parts: str) -> None:
        """Assert that a file is refused with a message that has these parts."""
        error = self.assertRaises(ConfigurationError, decode_cluster, data, source=SOURCE)
        for part in (SOURCE, *parts):
            self.assertIn(part, str(error))

    def spoilt(self, change: Any, *parts: str) -> None:
        """Assert that a configuration is refused after a change to its JSON."""
        raw = raw_of(cluster(instances=1))
        change(raw)
        self.refused(msgspec.json.encode(raw), *parts)

    def test_unknown_keys(self) -> None:
        """Unknown keys are named with their path."""
        place = f"instances/{instance_id(1)}"
        self.spoilt(lambda raw: raw["instances"][instance_id(1)].update(colour=1), place, "`colour`")
        self.spoilt(lambda raw: raw["instances"][instance_id(1)]["nics"][0].update(x=1), place + ".nics[0]")
        self.spoilt(lambda raw: raw["cluster"].update(colour=1), "cluster", "`colour`")
        self.spoilt(lambda raw: raw.update(colour={}), "`colour`")

    def test_wrong_types(self) -> None:
        """Values of a wrong type are named with their path."""
        place = f"nodes/{node_id(2)}.offline"
        self.spoilt(lambda raw: raw["nodes"][node_id(2)].update(offline="no"), place, "bool")
        self.spoilt(lambda raw: raw.update(nodes=[]), "nodes")
        self.spoilt(lambda raw: raw.update(cluster=None), "cluster")

    def test_key_and_uuid(self) -> None:
        """An object stands under its UUID."""
        self.spoilt(lambda raw: raw["nodes"][node_id(2)].update(uuid="other"), f"nodes/{node_id(2)}", "other")

    def test_not_json(self) -> None:
        """A broken file is refused with line and column."""
        data = encode_cluster(cluster())
        at = data.index(b'"nodes"')
        self.refused(data[:at] + b"!" + data[at:], "line 2, column 1")
        self.refused(data[:-10], "truncated")
        self.refused(b"[]", "does not hold a configuration")

    def test_damaged_delta(self) -> None:
        """A change in the journal that cannot be read is refused."""
        self.assertRaises(ConfigurationError, decode_delta, b'{"serial_no":1,"mtime":1,"cats":{}}')
        self.assertRaises(ConfigurationError, decode_object, "nodes", b"{")


class VersionTests(SynchronousTestCase):
    """Files of other versions."""

    def with_version(self, version: object) -> str:
        """Why a version is refused."""
        raw = raw_of(cluster()) | {"version": version}
        return str(self.assertRaises(ConfigurationVersionMismatch, reread, raw))

    def test_refused(self) -> None:
        """Newer, much older and no versions are refused with both versions."""
        self.assertIn("3.2.0, this is 3.1.0", self.with_version(3020000))
        self.assertIn("upgrade it to 3.0", self.with_version(2160000))
        self.with_version(None)
        self.with_version("3.1")

    def test_newer_with_unknown_keys(self) -> None:
        """For a newer file the version is what is told, not its new keys."""
        raw = raw_of(cluster()) | {"version": 4000000, "novelties": {}}
        self.assertRaises(ConfigurationVersionMismatch, reread, raw)

    def test_upgrade_from_3_0(self) -> None:
        """3.0 becomes current: parameters that are gone vanish, new ones get their default."""
        value = changed_instance(cluster(instances=1), "inst1", hypervisor="xen-pvm")
        raw = raw_of(value) | {"version": 3000000}
        raw["cluster"]["hvparams"]["xen-pvm"]["xen_cmd"] = "xl"
        raw["cluster"]["hvparams"]["kvm"]["vhost_net"] = False
        raw["cluster"]["os_hvp"] = {"debian": {"xen-pvm": {"xen_cmd": "xm", "kernel_args": "quiet"}}}
        del raw["cluster"]["diskparams"]["rbd"]["user-id"]
        raw["instances"][instance_id(1)].update(disk_template="drbd", hvparams={"xen_cmd": "xl"})
        read = reread(raw)
        self.assertEqual(read.version, 3010000)
        self.assertNotIn("xen_cmd", read.settings.hvparams["xen-pvm"])
        self.assertEqual(read.settings.os_hvp["debian"]["xen-pvm"], {"kernel_args": "quiet"})
        self.assertEqual(read.settings.hvparams["kvm"]["vhost_net"], False)
        self.assertEqual(read.settings.diskparams["rbd"]["user-id"], "")
        self.assertEqual(read.instance("inst1").hvparams, {})


class DeltaTests(SynchronousTestCase):
    """Changes as the journal carries them."""

    @given(clusters(), clusters())
    @hypothesis_settings(max_examples=30, deadline=None)
    def test_replayed(self, old: Cluster, other: Cluster) -> None:
        """A change that was written, read and applied gives the same cluster."""
        tables = ("nodes", "groups", "instances", "disks", "networks", "filters")
        changes: dict[str, Any] = {
            name: getattr(old, name).without(*list(getattr(old, name))[:1]).with_items(getattr(other, name))
            for name in tables
        }
        changed = with_settings(msgspec.structs.replace(old, **changes), tags=("new",))
        new, delta = stamp(old, changed, now=5e9, reason="test")
        assert delta is not None
        self.assertEqual(apply(old, decode_delta(encode_delta(delta))), new)
        self.assertEqual(new.serial_no, old.serial_no + 1)

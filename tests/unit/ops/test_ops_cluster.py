"""Tests of operations on the cluster, on tags, and of those that only read or wait."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import HypervisorError, OperationFailed, PrereqError
from ganeti.logic.tags import TagKind
from ganeti.model.calls.instances import HypervisorValidateParams
from ganeti.model.calls.os import OsDiagnose, OsStatus
from ganeti.model.calls.system import NodeTestDelay
from ganeti.model.cluster import Cluster
from ganeti.ops.cluster.destroy import DestroyCluster
from ganeti.ops.cluster.post_init import PostInit
from ganeti.ops.cluster.query import QueryCluster
from ganeti.ops.cluster.set_params import SetClusterParams
from ganeti.ops.debug.test_delay import TestDelay
from ganeti.ops.os.diagnose import DiagnoseOs
from ganeti.ops.query.query import Query
from ganeti.ops.query.query_fields import QueryFields
from ganeti.ops.tags.delete import DeleteTags
from ganeti.ops.tags.get import GetTags
from ganeti.ops.tags.search import SearchTags
from ganeti.ops.tags.set_tags import SetTags
from ganeti.testing.clusters import cluster, node_id, with_node, with_settings
from ganeti.testing.operations import OperationWorld


def world(value: Cluster | None = None) -> OperationWorld:
    """Three nodes."""
    return OperationWorld(value or cluster())


def settings_after(one: OperationWorld, **parameters: Any) -> Any:
    """The settings after a change."""
    one.run(SetClusterParams(**parameters))
    return one.cluster.settings


class SetParamsTests(SynchronousTestCase):
    """OP_CLUSTER_SET_PARAMS."""

    def test_plain(self) -> None:
        """Settings without further meaning are replaced."""
        found = settings_after(
            world(),
            max_running_jobs=5,
            max_tracked_jobs=6,
            maintain_node_health=True,
            default_iallocator_params={"a": 1},
            reserved_lvs=("xenvg/.*",),
            file_storage_dir="/srv/disks",
            enabled_user_shutdown=True,
        )
        self.assertEqual((found.max_running_jobs, found.max_tracked_jobs), (5, 6))
        self.assertEqual((found.maintain_node_health, found.enabled_user_shutdown), (True, True))
        self.assertEqual((found.reserved_lvs, found.file_storage_dir), (("xenvg/.*",), "/srv/disks"))

    def test_mac_prefix(self) -> None:
        """Stored in lower case."""
        self.assertEqual(settings_after(world(), mac_prefix="AA:BB:CC").mac_prefix, "aa:bb:cc")

    def test_parameters(self) -> None:
        """Parameters of instances, interfaces and nodes are merged with what is set."""
        one = world()
        found = settings_after(
            one,
            beparams={"memory": 512},
            nicparams={"link": "br7"},
            ndparams={"spindle_count": 3},
            diskparams={"drbd": {"resync-rate": 1024}},
        )
        backend = found.beparams["default"]
        self.assertEqual((backend["minmem"], backend["maxmem"], backend["vcpus"]), (512, 512, 1))
        self.assertEqual(found.nicparams["default"]["link"], "br7")
        self.assertEqual(found.ndparams["spindle_count"], 3)
        self.assertEqual(found.diskparams["drbd"]["resync-rate"], 1024)

    def test_hypervisor_parameters_are_tried(self) -> None:
        """New parameters are tried on all nodes that may host instances and are online."""
        value = with_node(cluster(nodes=4), "node2", offline=True, master_candidate=False)
        one = world(with_node(value, "node3", vm_capable=False))
        found = settings_after(one, hvparams={"kvm": {"acpi": False}})
        self.assertIs(found.hvparams["kvm"]["acpi"], False)
        asked = [called.node for called in one.nodes.calls_of(HypervisorValidateParams)]
        self.assertEqual(asked, ["node1.example.com", "node4.example.com"])

    def test_hypervisor_parameters_are_refused(self) -> None:
        """What a node refuses is refused, and nothing changes."""
        one = world()
        one.model.break_call(HypervisorValidateParams, HypervisorError("no such kernel"))
        with self.assertRaisesRegex(PrereqError, "hypervisor kvm on node node1.*no such kernel"):
            one.run(SetClusterParams(hvparams={"kvm": {"kernel_path": "/vmlinuz"}}))
        self.assertEqual(one.config.changes, [])

    def test_enabled_hypervisors(self) -> None:
        """A new one gets its defaults and is tried on the nodes; one in use must stay."""
        one = world(cluster(enabled_hypervisors=("fake",)))
        found = settings_after(one, enabled_hypervisors=("kvm", "fake"))
        self.assertEqual(found.enabled_hypervisors, ("kvm", "fake"))
        self.assertIn("acpi", found.hvparams["kvm"])
        with self.assertRaisesRegex(PrereqError, "fake is used by instance inst1"):
            world(cluster(instances=1)).run(SetClusterParams(enabled_hypervisors=("kvm",)))

    def test_enabled_templates(self) -> None:
        """The policy allows no others; one in use must stay."""
        found = settings_after(world(), enabled_disk_templates=("file", "plain"))
        self.assertEqual(found.enabled_disk_templates, ("file", "plain"))
        self.assertEqual(set(found.ipolicy.disk_templates), {"file", "plain"})
        with self.assertRaisesRegex(PrereqError, "drbd is used by disk"):
            world(cluster(instances=1)).run(SetClusterParams(enabled_disk_templates=("file",)))

    def test_os_settings(self) -> None:
        """Parameters by OS are merged and removed; lists are edited, with warnings."""
        one = world()
        settings_after(
            one,
            os_hvp={"debian": {"kvm": {"acpi": False}}},
            osparams={"debian": {"a": "1", "b": "2"}},
            hidden_os=(("add", "old"), ("add", "older")),
        )
        found = settings_after(
            one,
            os_hvp={"debian": None},
            osparams={"debian": {"a": None}},
            hidden_os=(("remove", "old"), ("add", "older")),
            blacklisted_os=(("add", "bad"),),
        )
        self.assertEqual((found.os_hvp, found.osparams), ({}, {"debian": {"b": "2"}}))
        self.assertEqual((found.hidden_os, found.blacklisted_os), (("older",), ("bad",)))
        self.assertEqual(one.feedback.warnings, ["OS older is hidden already"])

    def test_allocator(self) -> None:
        """A default allocator has to be there: built in, or found on the master; empty unsets it."""
        for name in ("builtin", "hail", ""):
            self.assertEqual(settings_after(world(), default_iallocator=name).default_iallocator, name)
        with self.assertRaisesRegex(PrereqError, "no allocator 'dice' on the master; built in: builtin"):
            world().run(SetClusterParams(default_iallocator="dice"))

    def test_pool_grows(self) -> None:
        """A larger pool is filled at once."""
        one = world(cluster(candidate_pool_size=1))
        settings_after(one, candidate_pool_size=3)
        self.assertEqual(sum(node.master_candidate for node in one.cluster.nodes.values()), 3)
        self.assertEqual(len([line for line in one.feedback.lines if "promoted node" in line]), 2)

    def test_policy(self) -> None:
        """The instance policy is merged and checked."""
        found = settings_after(world(), ipolicy={"vcpu-ratio": 2.0, "std": {"cpu-count": 2}})
        self.assertEqual((found.ipolicy.vcpu_ratio, found.ipolicy.std.cpu_count), (2.0, 2))

    def test_refusals(self) -> None:
        """What cannot be is refused, and nothing changes."""
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({}, "no changes submitted"),
            ({"force": True}, "no changes submitted"),
            ({"mac_prefix": "xx:yy"}, "'xx:yy' is not three octets"),
            ({"enabled_hypervisors": ()}, "at least one hypervisor"),
            ({"enabled_hypervisors": ("fake", "fake")}, "named twice"),
            ({"enabled_hypervisors": ("vmware",)}, "unknown hypervisor 'vmware'"),
            ({"enabled_disk_templates": ("nfs",)}, "unknown disk template 'nfs'"),
            ({"hvparams": {"vmware": {}}}, "unknown hypervisor 'vmware'"),
            ({"hvparams": {"kvm": {"colour": "red"}}}, "'colour'"),
            ({"beparams": {"minmem": 4096, "maxmem": 128}}, "minmem"),
            ({"nicparams": {"speed": "fast"}}, "'speed'"),
            ({"hidden_os": (("hide", "a"),)}, "'hide' is neither add nor remove"),
            ({"ipolicy": {"colour": 1}}, "has no 'colour'"),
            ({"ipolicy": {"vcpu-ratio": 0.5}}, "vcpu-ratio is 0.5"),
        )
        for parameters, pattern in cases:
            one = world()
            with self.assertRaisesRegex(PrereqError, pattern):
                one.run(SetClusterParams(**parameters))
            self.assertEqual(one.config.changes, [], pattern)


class LifeTests(SynchronousTestCase):
    """Beginning, end and description of a cluster."""

    def test_destroy(self) -> None:
        """Only an empty cluster can be destroyed; the result is the master's UUID."""
        with self.assertRaisesRegex(PrereqError, r"1 instance\(s\) are left, such as inst1"):
            world(cluster(nodes=1, instances=1, template="file")).run(DestroyCluster())
        with self.assertRaisesRegex(PrereqError, "other nodes: node2.example.com, node3"):
            world().run(DestroyCluster())
        one = world(cluster(nodes=1))
        self.assertEqual(one.run(DestroyCluster()), node_id(1))
        self.assertEqual([run[:2] for run in one.hooks.runs], [("cluster-destroy", "post")])

    def test_post_init(self) -> None:
        """Its post hooks run on the master."""
        one = world()
        self.assertIs(one.run(PostInit()), True)
        self.assertEqual(
            [run[:3] for run in one.hooks.runs], [("cluster-init", "post", ("node1.example.com",))]
        )

    def test_query(self) -> None:
        """The description of the cluster."""
        found = world().run(QueryCluster())
        self.assertEqual((found["name"], found["master"]), ("cluster.example.com", "node1.example.com"))


class TagTests(SynchronousTestCase):
    """OP_TAGS_*."""

    def test_set_get_delete(self) -> None:
        """Tags of every kind of object can be set, listed and removed."""
        for kind, name in (
            (TagKind.CLUSTER, None),
            (TagKind.NODE, "node2"),
            (TagKind.INSTANCE, "inst1"),
            (TagKind.NODEGROUP, "default"),
        ):
            one = world(cluster(instances=1))
            one.run(SetTags(kind=kind, name=name, tags=("b", "a", "b")))
            one.run(SetTags(kind=kind, name=name, tags=("c",)))
            self.assertEqual(one.run(GetTags(kind=kind, name=name)), ["a", "b", "c"])
            one.run(DeleteTags(kind=kind, name=name, tags=("a", "c")))
            self.assertEqual(one.run(GetTags(kind=kind, name=name)), ["b"])

    def test_refusals(self) -> None:
        """What is refused, with the reason."""
        cases: tuple[tuple[Any, str], ...] = (
            (SetTags(kind=TagKind.CLUSTER, tags=()), "no tags given"),
            (SetTags(kind=TagKind.CLUSTER, tags=("a b",)), "'a b'"),
            (SetTags(kind=TagKind.NODE, tags=("a",)), "need the name of an object"),
            (SetTags(kind=TagKind.NODE, name="node9", tags=("a",)), "'node9' is not known"),
            (DeleteTags(kind=TagKind.CLUSTER, tags=("z", "y")), "tags not found: y, z"),
            (SearchTags(pattern="("), "cannot read the regular expression"),
        )
        for op, pattern in cases:
            one = world()
            with self.assertRaisesRegex(Exception, pattern):
                one.run(op)
            self.assertEqual(one.config.changes, [])

    def test_search(self) -> None:
        """Tags are found everywhere, with the path of their object."""
        one = world()
        one.run(SetTags(kind=TagKind.CLUSTER, tags=("rack:1",)))
        one.run(SetTags(kind=TagKind.NODE, name="node2", tags=("rack:2", "ssd")))
        self.assertEqual(
            one.run(SearchTags(pattern="^rack")),
            [["/cluster", "rack:1"], ["/nodes/node2.example.com", "rack:2"]],
        )


class ReadingTests(SynchronousTestCase):
    """Operations that only read."""

    def test_query(self) -> None:
        """It answers as the direct call; locks are refused."""
        one = world()
        one.queries.rows["node"] = [{"name": "node1", "pip": "10.0.0.2"}]
        found = one.run(Query(what="node", fields=("name",), qfilter=["==", "name", "node1"]))
        self.assertEqual(found["data"], [[[0, "node1"]]])
        self.assertEqual(one.queries.asked, [("node", ("name",), ["==", "name", "node1"])])
        with self.assertRaisesRegex(PrereqError, "leave use_locking away"):
            one.run(Query(what="node", fields=("name",), use_locking=True))

    def test_query_fields(self) -> None:
        """Definitions of fields."""
        one = world()
        one.queries.rows["node"] = [{"name": "node1", "pip": "10.0.0.2"}]
        self.assertEqual(one.run(QueryFields(what="node")), {"fields": [{"name": "name"}, {"name": "pip"}]})

    def test_os_diagnose(self) -> None:
        """Bare values of the wanted definitions; unknown fields are refused."""
        one = world()
        one.queries.rows["os"] = [{"name": "debian", "valid": True}]
        found = one.run(DiagnoseOs(output_fields=("valid", "name"), names=("debian",)))
        self.assertEqual(found, [[True, "debian"]])
        self.assertEqual(one.queries.asked[0][2], ["|", ["==", "name", "debian"]])
        with self.assertRaisesRegex(PrereqError, r"unknown field\(s\): colour; known: name, valid"):
            one.run(DiagnoseOs(output_fields=("colour",)))

    def test_os_diagnose_of_a_group(self) -> None:
        """Only nodes of the group are asked, and only they have to have a definition (S2.3-023)."""
        one = OperationWorld(with_node(cluster(nodes=6, groups=2), "node6", vm_capable=False))
        one.queries.rows["os"] = [{"name": "debian", "valid": True}]
        there = OsStatus(name="debian", path="/os/debian", valid=True, message="")
        one.nodes.answer(OsDiagnose, lambda node, call: (there,) if node.name[4] in "24" else ())
        for group, expected in (("group2", [[True, "debian"]]), ("default", [])):
            found = one.run(DiagnoseOs(output_fields=("valid", "name"), group_name=group))
            self.assertEqual(found, expected)
        asked = [called.node.partition(".")[0] for called in one.nodes.calls_of(OsDiagnose)]
        self.assertEqual(asked, ["node2", "node4", "node1", "node3", "node5"])
        found = one.run(DiagnoseOs(output_fields=("name",), names=("other",), group_name="group2"))
        self.assertEqual(found, [])
        with self.assertRaisesRegex(PrereqError, "nosuch"):
            one.run(DiagnoseOs(output_fields=("name",), group_name="nosuch"))


class DelayTests(SynchronousTestCase):
    """OP_TEST_DELAY."""

    def test_on_the_master(self) -> None:
        """It takes as long as asked for."""
        one = world()
        done = one.start(TestDelay(duration=10.0))
        one.advance(9.0)
        self.assertNoResult(done)
        one.advance(1.5)
        self.assertIsNone(self.successResultOf(done))

    def test_repeated(self) -> None:
        """Repetitions are counted aloud."""
        one = world()
        one.run(TestDelay(duration=1.0, repeat=2))
        self.assertEqual(one.feedback.lines, ["Test delay iteration 1/2", "Test delay iteration 2/2"])

    def test_on_nodes(self) -> None:
        """Nodes sleep at the same time; one that fails is named."""
        one = world()
        op = TestDelay(duration=1.0, on_master=False, on_nodes=("node1", "node3"))
        one.run(op)
        self.assertEqual(
            [called.node for called in one.nodes.calls_of(NodeTestDelay)],
            ["node1.example.com", "node3.example.com"],
        )
        one.nodes.unreachable.add(node_id(3))
        with self.assertRaisesRegex(OperationFailed, "delay on node node3"):
            one.run(op)

    def test_interrupted(self) -> None:
        """An interruptible delay tells a socket, and ends when somebody connects to it."""
        one = world()
        done = one.start(TestDelay(duration=600.0, interruptible=True))
        (bell,) = one.doorbells
        self.assertEqual(one.feedback.events, [("delay-test", bell.path)])
        one.advance(5.0)
        self.assertNoResult(done)
        bell.ring()
        self.assertIsNone(self.successResultOf(done))
        self.assertFalse(bell.is_open)

    def test_not_interrupted(self) -> None:
        """If nobody comes it takes as long as asked for."""
        one = world()
        done = one.start(TestDelay(duration=10.0, interruptible=True))
        one.advance(9.0)
        self.assertNoResult(done)
        one.advance(1.5)
        self.assertIsNone(self.successResultOf(done))

    def test_interruptible_on_the_master_only(self) -> None:
        """Nodes cannot be interrupted."""
        for options in ({"on_nodes": ("node1",)}, {"on_master": False}):
            with self.assertRaisesRegex(PrereqError, "only a delay on the master"):
                world().run(TestDelay(duration=1.0, interruptible=True, **options))

    def test_refusals(self) -> None:
        """Neither negative numbers nor unknown nodes."""
        for op in (
            TestDelay(duration=-1.0),
            TestDelay(duration=1.0, repeat=-1),
            TestDelay(duration=1.0, on_nodes=("node9",)),
        ):
            self.assertRaises(PrereqError, world().run, op)


class SettingsStayTests(SynchronousTestCase):
    """What a change must not touch."""

    def test_nothing_else_changes(self) -> None:
        """A change of one setting leaves all others as they are."""
        one = world(with_settings(cluster(), tags=("a",), hidden_os=("old",)))
        before = one.cluster.settings
        after = settings_after(one, max_running_jobs=7)
        changed = {name for name in before.__struct_fields__ if getattr(before, name) != getattr(after, name)}
        self.assertEqual(changed - {"serial_no", "mtime"}, {"max_running_jobs"})

"""Tests of what is found wrong with nodes, their files and OS definitions, and with instances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.fields.instance import InstanceWorld
from ganeti.logic.verify.facts import GroupFacts, NodeAnswer, NodeReport, read_report
from ganeti.logic.verify.files import RULES, Where, file_findings
from ganeti.logic.verify.findings import Finding, Level, VerifyCode
from ganeti.logic.verify.instances import instance_findings, misplaced_findings
from ganeti.logic.verify.nodes import certificate_findings, node_findings
from ganeti.logic.verify.os_definitions import os_findings
from ganeti.model.calls.instances import RunningInstance, RunState
from ganeti.model.calls.os import OsStatus
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.instance import AdminState
from ganeti.testing.clusters import (
    changed_instance,
    cluster,
    node,
    node_id,
    with_instance,
    with_node,
    with_settings,
)
from ganeti.version import PROTOCOL_VERSION, RELEASE

NAME = "inst1.example.com"
Code = VerifyCode


def codes(found: Any) -> list[VerifyCode]:
    """Their codes, in order."""
    return [one.code for one in found]


class NodeTests(SynchronousTestCase):
    """What nodes say of themselves."""

    def findings(self, results: Mapping[str, Any], **answer: Any) -> list[Finding]:
        """What is wrong with a node that sent this."""
        report = read_report({"check-errors": {}, **results})
        return list(node_findings(cluster(), node(2), NodeAnswer(report=report, **answer)))

    def test_in_order(self) -> None:
        """A node that finds nothing wrong."""
        good = {
            "version": [PROTOCOL_VERSION, RELEASE],
            "time": [1000, 0],
            "nodesetup": [],
            "hypervisor": {"fake": None},
            "hvparms": [],
            "bridges": [],
            "node-net-test": {},
            "master-ip": None,
            "user-scripts": [],
            "oob-paths": [None],
            "allowed-file-storage-paths": [],
            "file-storage-path": None,
        }
        self.assertEqual(self.findings(good, asked_at=1000.0, answered_at=1001.0), [])

    def test_codes(self) -> None:
        """Each kind of trouble has its code."""
        for results, code in (
            ({"nodesetup": ["no /sys"]}, Code.ENODESETUP),
            ({"hypervisor": {"kvm": "no /dev/kvm"}}, Code.ENODEHV),
            ({"hvparms": [["cluster", "kvm", "no kernel"]]}, Code.ENODEHV),
            ({"bridges": ["br1"]}, Code.ENODENET),
            ({"node-net-test": {"node3": "refused"}}, Code.ENODENET),
            ({"master-ip": False}, Code.ENODENET),
            ({"user-scripts": ["/etc/x"]}, Code.ENODEUSERSCRIPTS),
            ({"oob-paths": [None, "/oob is missing"]}, Code.ENODEOOBPATH),
            ({"allowed-file-storage-paths": ["/etc"]}, Code.ENODEFILESTORAGEPATHS),
            ({"file-storage-path": "missing"}, Code.ENODEFILESTORAGEPATHUNUSABLE),
            ({"shared-file-storage-path": "missing"}, Code.ENODESHAREDFILESTORAGEPATHUNUSABLE),
            ({"gluster-storage-path": "missing"}, Code.ENODEGLUSTERSTORAGEPATHUNUSABLE),
        ):
            self.assertEqual(codes(self.findings(results)), [code], results)

    def test_checks_that_could_not_be_made(self) -> None:
        """Each has the code of what it would have found; the certificate is told elsewhere."""
        for check, expected in (
            ("oslist", [Code.ENODEOS]),
            ("hvinfo", [Code.ENODEHV]),
            ("filelist", [Code.ENODEFILECHECK]),
            ("time", [Code.ENODETIME]),
            ("something", [Code.ENODERPC]),
            ("client-cert", []),
        ):
            self.assertEqual(codes(self.findings({"check-errors": {check: "broken"}})), expected)

    def test_silent(self) -> None:
        """A node without an answer."""
        found = list(node_findings(cluster(), node(2), NodeAnswer(failure="no route")))
        self.assertEqual((codes(found), found[0].text), ([Code.ENODERPC], "it could not be asked: no route"))

    def test_versions(self) -> None:
        """Another protocol hides the rest, another release is a warning."""
        found = self.findings({"version": [PROTOCOL_VERSION + 1, RELEASE], "bridges": ["br1"]})
        self.assertEqual((codes(found), found[0].level), ([Code.ENODEVERSION], Level.ERROR))
        found = self.findings({"version": [PROTOCOL_VERSION, "0.1"], "bridges": ["br1"]})
        self.assertEqual([one.level for one in found], [Level.WARNING, Level.ERROR])

    def test_clocks(self) -> None:
        """150 s are all right, counted from when it was asked and until it answered."""
        for seconds, expected in (
            (850, []),
            (1210, []),
            (849, [Code.ENODETIME]),
            (1211, [Code.ENODETIME]),
        ):
            found = self.findings({"time": [seconds, 0]}, asked_at=1000.0, answered_at=1060.0)
            self.assertEqual(codes(found), expected, seconds)

    def test_certificates(self) -> None:
        """Ends soon, is not the one that is recorded, is recorded of one that is no candidate."""
        value = with_settings(cluster(), candidate_certs={node_id(2): "aa", node_id(3): "cc"})
        value = with_node(value, "node3", master_candidate=False)
        for name, certificate, levels in (
            ("node2", (None, "aa"), []),
            ("node2", (None, "bb"), [Level.ERROR]),
            ("node2", ("WARNING", "20 days"), [Level.WARNING]),
            ("node2", ("ERROR", "2 days"), [Level.ERROR]),
            ("node3", (None, "cc"), [Level.ERROR]),
            ("node1", (None, "dd"), []),
        ):
            report = NodeReport(client_cert=certificate)
            found = list(certificate_findings(value, value.node(name), report))
            self.assertEqual([one.level for one in found], levels, (name, certificate))
            self.assertLessEqual(set(codes(found)), {Code.ECLUSTERCLIENTCERT})


class FileTests(SynchronousTestCase):
    """Files of all nodes compared."""

    def findings(self, *changes: Mapping[str, str | None], value: Cluster | None = None) -> list[Finding]:
        """What is wrong if nodes differ from the good state by this."""
        value = value or cluster()
        told = []
        for one, change in zip(value.nodes.values(), (*changes, {}, {}, {}), strict=False):
            belongs = {
                rule.path: "same" for rule in RULES if rule.where is Where.EVERYWHERE or one.master_candidate
            }
            files = {path: text for path, text in {**belongs, **change}.items() if text is not None}
            told.append((one, NodeReport(filelist=files)))
        return list(file_findings(value, told))

    def test_in_order(self) -> None:
        """All have the same."""
        self.assertEqual(self.findings(), [])

    def test_missing(self) -> None:
        """A required file is missing; the message says where and what to do."""
        (found,) = self.findings({}, {"/var/lib/ganeti/ca.pem": None})
        self.assertEqual((found.code, found.name), (Code.ECLUSTERFILECHECK, "cluster.example.com"))
        self.assertRegex(found.text, "ca.pem is missing on node2.example.com; 'gnt-cluster redist-conf'")

    def test_optional(self) -> None:
        """Some need not be there."""
        self.assertEqual(self.findings({"/var/lib/ganeti/rapi/users": None}), [])

    def test_differs(self) -> None:
        """Each content is listed with its nodes, the most frequent first."""
        (found,) = self.findings({}, {"/var/lib/ganeti/hmac.key": "other"})
        self.assertRegex(
            found.text, "variant 1 on node1.example.com, node3.example.com; variant 2 on node2.example.com"
        )

    def test_snapshots_may_differ(self) -> None:
        """The configuration file itself is written when it suits each candidate."""
        self.assertEqual(self.findings({}, {"/var/lib/ganeti/config.data": "older"}), [])

    def test_must_not_be_there(self) -> None:
        """What only candidates have is found elsewhere."""
        value = with_node(cluster(), "node3", master_candidate=False)
        (found,) = self.findings({}, {}, {"/var/lib/ganeti/config.data": "same"}, value=value)
        self.assertIn("must not be on node3.example.com", found.text)

    def test_no_checksums(self) -> None:
        """A node that gave none is named, unless it said why."""
        found = list(file_findings(cluster(), [(node(2), NodeReport())]))
        self.assertEqual(
            [(one.code, one.name) for one in found], [(Code.ENODEFILECHECK, "node2.example.com")]
        )
        excused = NodeReport(check_errors={"filelist": "broken"})
        self.assertEqual(list(file_findings(cluster(), [(node(2), excused)])), [])

    def test_many_nodes(self) -> None:
        """A long list of nodes is cut."""
        told = [(node(number), NodeReport(filelist={})) for number in range(1, 30)]
        text = next(file_findings(cluster(), told)).text
        self.assertIn("node10.example.com and 19 more", text)


def definition(name: str = "debian", **changes: Any) -> OsStatus:
    """An OS definition that can be used."""
    return OsStatus(
        **{
            "name": name,
            "path": f"/os/{name}",
            "valid": True,
            "message": "",
            "api_versions": (20,),
            **changes,
        }
    )


class OsTests(SynchronousTestCase):
    """OS definitions of all nodes compared."""

    def findings(self, *found: tuple[OsStatus, ...]) -> list[str]:
        """Texts with the number of their node."""
        told = [(node(number), definitions) for number, definitions in enumerate(found, start=1)]
        return [f"{one.name.partition('.')[0]}: {one.text}" for one in os_findings(told)]

    def test_in_order(self) -> None:
        """All have the same, in any order."""
        self.assertEqual(
            self.findings((definition(), definition("fedora")), (definition("fedora"), definition())), []
        )
        self.assertEqual(self.findings(), [])

    def test_own_problems(self) -> None:
        """One that cannot be used, and one that hides another."""
        broken = definition(valid=False, message="no create script")
        self.assertEqual(
            self.findings((broken,)), ["node1: OS debian in /os/debian cannot be used: no create script"]
        )
        twice = (definition(), definition(path="/other/debian"))
        self.assertEqual(
            self.findings(twice),
            ["node1: OS debian is there more than once; /os/debian counts, not /other/debian"],
        )

    def test_differences(self) -> None:
        """Missing, additional, or with other properties than on the first node."""
        base = (definition(variants=("small",), parameters=(("mirror", "where"),)),)
        cases: tuple[tuple[tuple[OsStatus, ...], str], ...] = (
            ((), "OS debian is missing, but is on node node1"),
            ((*base, definition("fedora")), "OS fedora is here, but not on node node1"),
            ((replace(base[0], variants=()),), "variants of OS debian differ.*none here, small there"),
            ((replace(base[0], api_versions=(15,)),), "API versions of OS debian differ.*15 here, 20"),
            ((replace(base[0], parameters=()),), "parameters of OS debian differ"),
        )
        for definitions, pattern in cases:
            (text,) = self.findings(base, definitions)
            self.assertRegex(text, f"^node2: {pattern}")

    def test_explanations_may_differ(self) -> None:
        """Only names of parameters count."""
        one, other = (definition(parameters=(("mirror", text),)) for text in ("where from", "from where"))
        self.assertEqual(self.findings((one,), (other,)), [])


class InstanceTests(SynchronousTestCase):
    """Instances."""

    def findings(
        self,
        value: Cluster,
        *,
        found_on: int | None = 1,
        state: RunState = RunState.RUNNING,
        sizes: Mapping[NodeId, Any] | None = None,
    ) -> list[Finding]:
        """What is wrong with the first instance, which runs on the node of this number."""
        running: dict[NodeId, dict[str, RunningInstance]] = {
            uuid: {} for uuid, one in value.nodes.items() if not one.offline
        }
        if found_on is not None:
            running[node_id(found_on)][NAME] = RunningInstance(name=NAME, memory=128, vcpus=1, state=state)
        facts = GroupFacts(running=running, disk_sizes=sizes or {})
        world = InstanceWorld.of(value, running, {})
        return list(instance_findings(value, value.instance("inst1"), facts, world))

    def test_in_order(self) -> None:
        """Nothing is wrong with one that runs where it should."""
        self.assertEqual(self.findings(cluster(instances=1)), [])

    def test_down(self) -> None:
        """Not running although it should: nowhere, or only elsewhere."""
        value = cluster(instances=1)
        for place in (None, 2):
            self.assertEqual(codes(self.findings(value, found_on=place)), [Code.EINSTANCEDOWN])
        stopped = changed_instance(value, "inst1", admin_state=AdminState.DOWN)
        self.assertEqual(self.findings(stopped, found_on=None), [])
        self.assertEqual(codes(self.findings(value, state=RunState.SHUTDOWN)), [Code.EINSTANCEDOWN])

    def test_guest_may_switch_itself_off(self) -> None:
        """That is no error where it is allowed."""
        value = with_settings(cluster(instances=1), enabled_user_shutdown=True)
        self.assertEqual(self.findings(value, state=RunState.SHUTDOWN), [])

    def test_bad_nodes(self) -> None:
        """Offline nodes, and nodes that may not host instances (S2.3-105)."""
        off = {"offline": True, "master_candidate": False}
        for name, flags, texts in (
            ("node1", off, ["it is to run, but its primary node node1"]),
            ("node2", off, ["its secondary node node2.example.com is marked offline"]),
            ("node1", {"vm_capable": False}, ["its primary node node1.*vm_capable is off"]),
        ):
            value = with_node(cluster(instances=1), name, **flags)
            found = self.findings(value, found_on=None if value.node("node1").offline else 1)
            self.assertEqual(codes(found), [Code.EINSTANCEBADNODE])
            self.assertRegex(found[0].text, texts[0])

    def test_stopped_on_offline_node(self) -> None:
        """A stopped one may stay on an offline node."""
        value = cluster(instances=1, template="file", admin_state=AdminState.DOWN)
        value = with_node(value, "node1", offline=True, master_candidate=False)
        self.assertEqual(self.findings(value, found_on=None), [])

    def test_split(self) -> None:
        """Nodes in different groups are an error."""
        value = with_instance(cluster(nodes=2, groups=2), "inst1", primary="node1", secondary="node2")
        (found,) = self.findings(value)
        self.assertEqual((found.code, found.level), (Code.EINSTANCESPLITGROUPS, Level.ERROR))
        self.assertRegex(found.text, "node1.example.com in default; node2.example.com in group2")

    def test_policy(self) -> None:
        """A violation of the policy is a warning."""
        (found,) = self.findings(cluster(instances=1, memory=16))
        self.assertEqual((found.code, found.level), (Code.EINSTANCEPOLICY, Level.WARNING))

    def test_exclusive_storage(self) -> None:
        """Mirrors cannot be there, and local volumes need spindles."""
        for template, code in (
            ("drbd", Code.EINSTANCEUNSUITABLENODE),
            ("plain", Code.EINSTANCEMISSINGCFGPARAMETER),
        ):
            value = cluster(instances=1, template=template, ndparams={"exclusive_storage": True})
            self.assertEqual(codes(self.findings(value)), [code])
        value = cluster(instances=1, template="file", ndparams={"exclusive_storage": True})
        self.assertEqual(self.findings(value), [])

    def test_missing_disk(self) -> None:
        """Data that a node looked for and did not find; nodes that did not look say nothing."""
        value = cluster(instances=1)
        disk = value.instance("inst1").disks[0]
        found = self.findings(value, sizes={node_id(2): {disk: None}})
        self.assertEqual(codes(found), [Code.EINSTANCEMISSINGDISK])
        self.assertEqual(found[0].text, "disk 0 is missing on node node2.example.com")
        self.assertEqual(self.findings(value, sizes={node_id(1): {disk: 5}, node_id(2): {}}), [])

    def test_several_secondaries(self) -> None:
        """More than one secondary node is a warning."""
        value = cluster(instances=1)
        (disk,) = value.disks_of(value.instance("inst1"))
        wide = replace(disk, nodes=(*disk.nodes, node_id(3)))
        value = replace(value, disks=value.disks.with_item(disk.uuid, wide))
        found = self.findings(value)
        self.assertEqual((codes(found), found[0].level), ([Code.EINSTANCELAYOUT], Level.WARNING))

    def misplaced(self, value: Cluster, name: str, state: RunState = RunState.RUNNING) -> list[Finding]:
        """What is wrong if this runs on the third node."""
        running = {name: RunningInstance(name=name, memory=1, vcpus=1, state=state)}
        return list(misplaced_findings(value, value.node("node3"), running))

    def test_misplaced(self) -> None:
        """Unknown here, or known elsewhere; not what a migration leaves for a moment."""
        value = cluster(instances=1)
        self.assertEqual(codes(self.misplaced(value, "stranger")), [Code.ENODEORPHANINSTANCE])
        self.assertEqual(codes(self.misplaced(value, NAME)), [Code.EINSTANCEWRONGNODE])
        for state in (RunState.MIGRATING_IN, RunState.MIGRATED_AWAY):
            self.assertEqual(self.misplaced(value, NAME, state), [])
        reserved = changed_instance(value, "inst1", forthcoming=True)
        self.assertEqual(codes(self.misplaced(reserved, NAME)), [Code.ENODEORPHANINSTANCE])

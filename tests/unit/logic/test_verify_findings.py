"""Tests of findings, and of the checks of a cluster that need no node to answer."""

from __future__ import annotations

from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.verify.config import (
    CERTIFICATES,
    config_findings,
    dangling_findings,
    master_certificate_findings,
)
from ganeti.logic.verify.facts import GroupFacts, NodeAnswer, NodeReport, read_report
from ganeti.logic.verify.findings import (
    Finding,
    Level,
    Subject,
    VerifyCode,
    demoted,
    error,
    simulated,
    warning,
)
from ganeti.logic.verify.questions import batches, disks_to_find, group_instances, hvparam_sets
from ganeti.logic.verify.redundancy import exclusion_findings, n1_findings
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId, NodeId
from ganeti.testing.clusters import (
    changed_instance,
    cluster,
    group_id,
    node_id,
    with_instance,
    with_node,
    with_settings,
)

BY_SUBJECT = {
    Subject.CLUSTER: "ECLUSTERCFG ECLUSTERCERT ECLUSTERCLIENTCERT ECLUSTERFILECHECK",
    Subject.NODE: """ECLUSTERDANGLINGNODES ECLUSTERDANGLINGINST ENODEDRBD ENODEDRBDHELPER
        ENODEDRBDVERSION ENODEFILECHECK ENODEFILESTORAGEPATHS ENODEFILESTORAGEPATHUNUSABLE
        ENODESHAREDFILESTORAGEPATHUNUSABLE ENODEGLUSTERSTORAGEPATHUNUSABLE ENODEHOOKS ENODEHV ENODELVM
        ENODEN1 ENODENET ENODEOS ENODEORPHANINSTANCE ENODEORPHANLV ENODERPC ENODESETUP ENODESSH
        ENODETIME ENODEUSERSCRIPTS ENODEVERSION ENODEOOBPATH EEXTAGS""",
    Subject.INSTANCE: """EINSTANCEBADNODE EINSTANCEDOWN EINSTANCELAYOUT EINSTANCEMISSINGDISK
        EINSTANCEFAULTYDISK EINSTANCEWRONGNODE EINSTANCESPLITGROUPS EINSTANCEPOLICY
        EINSTANCEUNSUITABLENODE EINSTANCEMISSINGCFGPARAMETER""",
    Subject.GROUP: "EGROUPDIFFERENTPVSIZE",
}


class FindingTests(SynchronousTestCase):
    """Codes and lines."""

    def test_codes(self) -> None:
        """The established codes, each about its kind of object."""
        expected = {code: subject for subject, codes in BY_SUBJECT.items() for code in codes.split()}
        self.assertEqual({code.value: code.subject for code in VerifyCode}, expected)

    def test_lines(self) -> None:
        """For people and for programs."""
        one = error(VerifyCode.ENODEOS, "node1", "no OS")
        self.assertEqual(one.line(with_code=False), "  - ERROR: node node1: no OS")
        self.assertEqual(one.line(with_code=True), "  - ERROR:ENODEOS:node:node1:no OS")
        other = warning(VerifyCode.EINSTANCEPOLICY, "web", "too large")
        self.assertEqual(other.line(with_code=False), "  - WARNING: instance web: too large")

    def test_demoted(self) -> None:
        """Ignored codes become warnings, others stay."""
        found = [error(VerifyCode.ENODEOS, "a", "x"), error(VerifyCode.ENODEHV, "a", "y")]
        levels = [one.level for one in demoted(found, {VerifyCode.ENODEOS})]
        self.assertEqual(levels, [Level.WARNING, Level.ERROR])

    def test_simulated(self) -> None:
        """One for each code about something that exists."""
        found = simulated(VerifyCode, {Subject.NODE: "node1"})
        self.assertEqual({one.code.subject for one in found}, {Subject.NODE})


class ReportTests(SynchronousTestCase):
    """Reading what a node sent."""

    def test_names(self) -> None:
        """Results by the established names of the checks; unknown ones do no harm."""
        report = read_report(
            {"node-net-test": {"b": "refused"}, "master-ip": False, "check-errors": {}, "vglist": {}}
        )
        self.assertEqual((report.node_net_test, report.master_ip), ({"b": "refused"}, False))

    def test_nonsense(self) -> None:
        """What makes no sense is refused with its place."""
        with self.assertRaisesRegex(ValueError, r"\$\.time"):
            read_report({"time": "noon"})


class ConfigTests(SynchronousTestCase):
    """The configuration and the master."""

    def test_in_order(self) -> None:
        """Nothing is wrong with a cluster in good order."""
        value = cluster(instances=3)
        self.assertEqual([*config_findings(value), *dangling_findings(value)], [])

    def test_inconsistent(self) -> None:
        """Inconsistencies are about the cluster, and say which object is meant."""
        (found,) = config_findings(with_node(cluster(), "node2", drained=True))
        self.assertEqual((found.code, found.name), (VerifyCode.ECLUSTERCFG, "cluster.example.com"))
        self.assertTrue(found.text.startswith("node node2.example.com: "), found.text)

    def test_dangling(self) -> None:
        """Nodes in no group, and instances on no node."""
        value = with_node(cluster(instances=1), "node2", group=GroupId("gone"))
        value = changed_instance(value, "inst1", primary_node=NodeId("nowhere"))
        self.assertEqual(
            [(found.code, found.name) for found in dangling_findings(value)],
            [
                (VerifyCode.ECLUSTERDANGLINGNODES, "node2.example.com"),
                (VerifyCode.ECLUSTERDANGLINGINST, "nowhere"),
            ],
        )

    def test_certificates(self) -> None:
        """Missing files, an end that is near, a check that could not be made."""
        there = dict.fromkeys(CERTIFICATES, "x")
        cases: tuple[tuple[NodeReport, list[Level]], ...] = (
            (NodeReport(filelist=there, client_cert=(None, "aa")), []),
            (NodeReport(filelist=there, client_cert=("WARNING", "20 days")), [Level.WARNING]),
            (NodeReport(filelist=there, client_cert=("ERROR", "2 days")), [Level.ERROR]),
            (NodeReport(filelist={}), [Level.ERROR] * len(CERTIFICATES)),
            (NodeReport(check_errors={"client-cert": "broken"}), [Level.ERROR]),
        )
        for report, levels in cases:
            found = list(master_certificate_findings(cluster(), report, None))
            self.assertEqual([one.level for one in found], levels)
            self.assertLessEqual({one.code for one in found}, {VerifyCode.ECLUSTERCERT})


class QuestionTests(SynchronousTestCase):
    """What nodes are asked."""

    def test_kinds_of_nodes(self) -> None:
        """Candidates, hosts, both or neither; offline ones nothing (S2.3-105, S2.3-107)."""
        value = with_node(cluster(nodes=5), "node2", vm_capable=False)
        value = with_node(value, "node3", master_candidate=False)
        value = with_node(value, "node4", vm_capable=False, master_candidate=False)
        value = with_node(value, "node5", offline=True, master_candidate=False)
        asked = {
            node.name.partition(".")[0]: set(batch.checks)
            for batch in batches(value, group_id(1))
            for node in batch.nodes
        }
        self.assertEqual(set(asked), {"node1", "node2", "node3", "node4"})
        for name, is_candidate, is_host in (
            ("node1", True, True),
            ("node2", True, False),
            ("node3", False, True),
            ("node4", False, False),
        ):
            self.assertIn("version", asked[name])
            self.assertEqual("node-net-test" in asked[name], is_candidate, name)
            self.assertEqual("oslist" in asked[name], is_host, name)

    def test_arguments(self) -> None:
        """Peers with their addresses, candidates by name."""
        value = with_node(cluster(), "node3", master_candidate=False)
        checks = batches(value, group_id(1))[0].checks
        peers, candidates = checks["node-net-test"]
        self.assertEqual(peers[0], ["node1.example.com", "10.0.0.2", "10.1.0.2"])
        self.assertEqual((len(peers), candidates), (3, ["node1.example.com", "node2.example.com"]))
        self.assertEqual(checks["master-ip"], ["node1.example.com", "10.9.0.1", candidates])

    def test_only_if_used(self) -> None:
        """Programs, scripts and bridges are asked for only where there are some."""
        bare = batches(cluster(), group_id(1))[0].checks
        self.assertFalse({"bridges", "user-scripts", "oob-paths"} & set(bare))
        value = with_settings(cluster(instances=1), use_external_mip_script=True)
        value = with_node(value, "node2", ndparams={"oob_program": "/usr/bin/oob"})
        full = batches(value, group_id(1))[0].checks
        self.assertEqual(full["bridges"], ["xen-br0"])
        self.assertEqual(full["oob-paths"], ["/usr/bin/oob"])
        self.assertEqual(full["user-scripts"], ["/etc/ganeti/scripts/master-ip-setup"])

    def test_directories(self) -> None:
        """Directories of templates that are enabled."""
        value = with_settings(cluster(), enabled_disk_templates=("file",), file_storage_dir="/srv/f")
        checks = batches(value, group_id(1))[0].checks
        self.assertEqual(checks["file-storage-path"], "/srv/f")
        self.assertNotIn("shared-file-storage-path", checks)

    def test_files_have_no_root(self) -> None:
        """Names of files are those of an ordinary host, whatever node asks."""
        for path in batches(cluster(), group_id(1))[0].checks["filelist"]:
            self.assertRegex(path, "^/(var/lib|etc)/ganeti/")

    def test_instances(self) -> None:
        """Those whose primary node is in the group, without forthcoming ones."""
        value = cluster(nodes=4, instances=4, groups=2)
        value = changed_instance(value, "inst3", forthcoming=True)
        names = [one.name for one in group_instances(value, group_id(1))]
        self.assertEqual(names, ["inst1.example.com"])

    def test_disks(self) -> None:
        """Every node with data that can be asked."""
        value = with_node(cluster(instances=1), "node2", vm_capable=False)
        found = disks_to_find(value, list(value.instances.values()))
        self.assertEqual(set(found), {node_id(1)})

    def test_hvparams(self) -> None:
        """Parameters of the cluster, of an OS, and of instances that have own ones."""
        value = with_settings(cluster(instances=2), os_hvp={"debian": {"kvm": {"acpi": False}}})
        value = changed_instance(value, "inst2", hvparams={"acpi": True})
        found = list(hvparam_sets(value, list(value.instances.values())))
        self.assertEqual(
            [(one.source, one.hypervisor) for one in found],
            [
                ("cluster", "fake"),
                ("cluster", "kvm"),
                ("os debian", "kvm"),
                ("instance inst2.example.com", "fake"),
            ],
        )
        self.assertIs(found[2].values["acpi"], False)


def free(**memory: int) -> GroupFacts:
    """Nodes that told so much free memory."""
    return GroupFacts(
        answers={
            node_id(int(name[-1])): NodeAnswer(
                report=NodeReport(
                    hvinfo=NodeCapacity(memory_total=65536, memory_free=mib, memory_dom0=512, cpu_total=8)
                )
            )
            for name, mib in memory.items()
        }
    )


class RedundancyTests(SynchronousTestCase):
    """Memory for the failure of one node, and exclusive tags."""

    def n1(self, value: Cluster, facts: GroupFacts) -> list[Finding]:
        """Findings of all nodes."""
        return list(n1_findings(value, list(value.nodes.values()), facts))

    def pairs(self) -> Cluster:
        """Two instances of 1 GiB, each failing over from another node to the third."""
        value = with_instance(cluster(), "a", primary="node1", secondary="node3", memory=1024)
        return with_instance(value, "b", primary="node2", secondary="node3", memory=1024)

    def test_one_node_fails_at_a_time(self) -> None:
        """Memory for each of them is enough; both need not fit."""
        self.assertEqual(self.n1(self.pairs(), free(node3=1024)), [])
        found = self.n1(self.pairs(), free(node3=1023))
        self.assertEqual([one.name for one in found], ["node3.example.com"] * 2)
        self.assertRegex(found[0].text, "from node node1.*1023 MiB are free, 1024 MiB are needed for 1")

    def test_what_counts(self) -> None:
        """Stopped ones count, with their minimal memory; those without auto_balance do not."""
        value = self.pairs()
        big = {"maxmem": 4096, "minmem": 2048, "vcpus": 1}
        stopped = changed_instance(value, "a", admin_state="down", beparams=big)
        self.assertEqual(len(self.n1(stopped, free(node3=2047))), 1)
        unbalanced = changed_instance(value, "a", beparams={**big, "auto_balance": False})
        self.assertEqual(self.n1(unbalanced, free(node3=1024)), [])

    def test_who_is_asked(self) -> None:
        """Offline nodes, silent ones and those that host nothing are passed over."""
        value = self.pairs()
        self.assertEqual(self.n1(value, free()), [])
        off = with_node(value, "node3", offline=True, master_candidate=False)
        self.assertEqual(self.n1(off, free(node3=1)), [])
        bare = with_node(value, "node3", vm_capable=False)
        self.assertEqual(self.n1(bare, free(node3=1)), [])

    def test_exclusion_tags(self) -> None:
        """Two primaries of one node must not share an exclusive tag."""
        value = with_settings(cluster(nodes=1), tags=("htools:iextags:svc",))
        for name in ("a", "b"):
            value = with_instance(value, name, template="file", tags=("svc:dns", "other:x"))
        (found,) = exclusion_findings(value, list(value.nodes.values()))
        self.assertEqual((found.code, found.name), (VerifyCode.EEXTAGS, "node1.example.com"))
        self.assertIn("svc:dns", found.text)
        free_tags = replace(value, settings=replace(value.settings, tags=()))
        self.assertEqual(list(exclusion_findings(free_tags, list(value.nodes.values()))), [])

"""Tests of verification and redistribution: what is asked, what is told, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import BlockDeviceError, FunctionFailed, OperationFailed, PrereqError
from ganeti.logic.verify.findings import VerifyCode
from ganeti.model.calls.disks import DiskSizes
from ganeti.model.calls.instances import AllInstancesInfo, RunState
from ganeti.model.calls.outcome import Answer, NodeFailed, Outcome
from ganeti.model.calls.report import NodeReport, Report
from ganeti.model.calls.system import HookResult, NodeCapacity, NodeInfoResult, NodeVerify
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NodeId
from ganeti.model.instance import AdminState
from ganeti.ops.cluster.redist_conf import RedistConf
from ganeti.ops.cluster.verify import VerifyCluster
from ganeti.ops.cluster.verify_config import VerifyConfig, VerifyConfigOperation
from ganeti.ops.cluster.verify_group import VerifyGroup, VerifyGroupOperation
from ganeti.ops.cluster.verify_params import OptionalCheck
from ganeti.testing.clusters import (
    changed_instance,
    cluster,
    node_id,
    with_instance,
    with_node,
    with_settings,
)
from ganeti.testing.operations import OperationWorld, RecordingFeedback

NODE1, NODE2 = "node1.example.com", "node2.example.com"
NAME = "inst1.example.com"
OFF = {"offline": True, "master_candidate": False}
ANY_END = ("canceled", "error", "success")


def world(value: Cluster | None = None, **options: Any) -> OperationWorld:
    """Three nodes, two mirrored instances, everything in order."""
    return OperationWorld(value or cluster(instances=2), **options)


def findings(one: OperationWorld) -> list[str]:
    """Lines that tell of something wrong."""
    return [line for line in one.feedback.lines if line.startswith(("  - ERROR", "  - WARNING"))]


def verify(one: OperationWorld, **options: Any) -> list[str]:
    """What is found in the default group."""
    one.run(VerifyGroup(group_name="default", **options))
    return findings(one)


class JobsTests(SynchronousTestCase):
    """OP_CLUSTER_VERIFY asks for jobs."""

    def test_one_for_each_group(self) -> None:
        """First the configuration, then every group, which waits for the first job however it ends."""
        one = world(cluster(nodes=3, groups=2))
        found = one.run(VerifyCluster(verbose=True, ignore_errors=frozenset([VerifyCode.ENODEN1])))
        self.assertEqual(found, {"jobs": [[True, 101], [True, 102], [True, 103]]})
        (config,), (first,), (second,) = one.jobs.submitted
        self.assertIsInstance(config, VerifyConfig)
        assert isinstance(first, VerifyGroup) and isinstance(second, VerifyGroup)
        self.assertEqual((first.group_name, second.group_name), ("default", "group2"))
        self.assertEqual((first.depends, second.depends), (((-1, ANY_END),), ((-2, ANY_END),)))
        self.assertEqual((first.verbose, first.ignore_errors), (True, {VerifyCode.ENODEN1}))

    def test_one_group(self) -> None:
        """Of a given group only that, without waiting."""
        one = world(cluster(nodes=3, groups=2))
        one.run(VerifyCluster(group_name="group2"))
        ((only,),) = one.jobs.submitted
        assert isinstance(only, VerifyGroup)
        self.assertEqual((only.group_name, only.depends), ("group2", None))

    def test_unknown_group(self) -> None:
        """A group that does not exist is refused."""
        with self.assertRaisesRegex(PrereqError, "'blue' is not known"):
            world().run(VerifyCluster(group_name="blue"))


class ConfigTests(SynchronousTestCase):
    """OP_CLUSTER_VERIFY_CONFIG."""

    def test_does_not_hold_up_the_reactor(self) -> None:
        """The configuration is looked through in a thread: with many instances it takes long."""
        one = world()
        asked: list[Callable[[], Any]] = []

        def in_thread(work: Callable[[], Any]) -> Deferred[Any]:
            asked.append(work)
            return Deferred()

        running = one.with_context(VerifyConfigOperation(VerifyConfig()), in_thread=in_thread)
        self.assertNoResult(running)
        self.assertEqual([work() for work in asked], [()])
        running.cancel()
        self.failureResultOf(running)

    def test_in_order(self) -> None:
        """Nothing but the headings, and true."""
        one = world()
        self.assertIs(one.run(VerifyConfig()), True)
        self.assertEqual(
            one.feedback.lines,
            [
                "* Verifying cluster config",
                "* Verifying cluster certificate files",
                "* Verifying hypervisor parameters",
                "* Verifying all nodes belong to an existing group",
            ],
        )

    def test_inconsistent(self) -> None:
        """An error makes it false; the line is the established one."""
        one = world(with_node(cluster(), "node2", primary_ip="10.0.0.2"))
        self.assertIs(one.run(VerifyConfig()), False)
        (line,) = findings(one)
        self.assertRegex(line, r"^  - ERROR: cluster cluster\.example\.com: node node2.*10\.0\.0\.2 belongs")

    def test_for_programs(self) -> None:
        """With codes the line can be cut at its colons."""
        one = world(with_node(cluster(), "node2", primary_ip="10.0.0.2"))
        one.run(VerifyConfig(error_codes=True))
        (line,) = findings(one)
        self.assertTrue(line.startswith("  - ERROR:ECLUSTERCFG:cluster:cluster.example.com:node "), line)

    def test_ignored(self) -> None:
        """An ignored code is a warning, and the verdict is good."""
        one = world(with_node(cluster(), "node2", primary_ip="10.0.0.2"))
        self.assertIs(one.run(VerifyConfig(ignore_errors=frozenset([VerifyCode.ECLUSTERCFG]))), True)
        self.assertTrue(findings(one)[0].startswith("  - WARNING: cluster "))

    def test_certificates(self) -> None:
        """What the master says of its certificates; a warning is no error."""
        for level, verdict in (("ERROR", False), ("WARNING", True)):
            one = world()
            one.model.says[NODE1] = {"client-cert": [level, "client.pem ends in 3 days; renew it"]}
            self.assertIs(one.run(VerifyConfig()), verdict)
            self.assertIn(f"  - {level}: cluster cluster.example.com: client.pem ends", findings(one)[0])

    def test_certificate_missing(self) -> None:
        """A certificate file that is missing, and a master that cannot be asked."""
        one = world()
        one.model.says[NODE1] = {"filelist": {"/var/lib/ganeti/ca.pem": "x"}}
        one.run(VerifyConfig())
        self.assertEqual(len(findings(one)), 3)
        one = world()
        one.nodes.unreachable.add(node_id(1))
        self.assertIs(one.run(VerifyConfig()), False)
        self.assertIn("certificates of the master could not be checked", findings(one)[0])

    def test_hypervisor_parameters(self) -> None:
        """Parameters that contradict each other are named with their source."""
        value = changed_instance(
            cluster(instances=1), "inst1", hypervisor="kvm", hvparams={"security_model": "user"}
        )
        one = world(value)
        one.run(VerifyConfig())
        self.assertRegex(findings(one)[0], f"hypervisor kvm \\(instance {NAME}\\)")

    def test_simulated(self) -> None:
        """Every check of the configuration can be made to fail."""
        one = world()
        self.assertIs(one.run(VerifyConfig(debug_simulate_errors=True, error_codes=True)), False)
        codes = [line.split(":")[1] for line in findings(one)]
        self.assertEqual(
            codes, ["ECLUSTERCFG", "ECLUSTERCERT", "ECLUSTERDANGLINGNODES", "ECLUSTERDANGLINGINST"]
        )


class GroupTests(SynchronousTestCase):
    """OP_CLUSTER_VERIFY_GROUP."""

    def test_in_order(self) -> None:
        """Nothing but the headings, and true."""
        one = world()
        self.assertIs(one.run(VerifyGroup(group_name="default")), True)
        self.assertEqual(
            one.feedback.lines,
            [
                "* Verifying group 'default'",
                "* Gathering data (3 nodes)",
                "* Gathering information about nodes (3 nodes)",
                "* Gathering disk information (3 nodes)",
                "* Verifying configuration file consistency",
                "* Verifying node status",
                "* Verifying instance status",
                "* Verifying orphan volumes",
                "* Verifying N+1 Memory redundancy",
                "* Other Notes",
                "* Hooks Results",
            ],
        )

    def test_verbose(self) -> None:
        """Each node and instance is named on request."""
        one = world(with_node(cluster(instances=1), "node3", **OFF))
        verify(one, verbose=True)
        for line in (
            f"* Verifying node {NODE1} (M)",
            "* Skipping offline node node3.example.com",
            f"* Verifying instance {NAME}",
        ):
            self.assertIn(line, one.feedback.lines)

    def test_notes(self) -> None:
        """What is unusual is counted."""
        value = with_node(cluster(instances=1), "node3", **OFF)
        value = with_instance(value, "local", primary="node1", template="plain")
        value = with_instance(value, "away", primary="node1", admin_state=AdminState.OFFLINE)
        one = world(value)
        one.model.run(NODE1, "away.example.com")
        verify(one)
        self.assertEqual(
            [line for line in one.feedback.lines if "NOTICE" in line],
            [
                "  - NOTICE: 1 non-redundant instance(s) found.",
                "  - NOTICE: 1 offline instance(s) found.",
                "  - NOTICE: 1 instance(s) that run although they should not found.",
                "  - NOTICE: 1 offline node(s) found.",
            ],
        )

    def test_offline_node(self) -> None:
        """An offline node is not asked and is no error."""
        one = world(with_node(cluster(), "node3", **OFF))
        self.assertEqual(verify(one), [])
        self.assertNotIn("node3", [node for _, node in one.called()])

    def test_silent_node(self) -> None:
        """A node that does not answer is an error; nothing more is said of it, or asked of it."""
        one = world()
        one.nodes.unreachable.add(node_id(3))
        lines = verify(one)
        self.assertEqual(len(lines), 1)
        self.assertRegex(lines[0], "^  - ERROR: node node3.example.com: it could not be asked: .*refused")

    def test_nonsense(self) -> None:
        """A node whose answer makes no sense is an error, too."""
        one = world()
        one.model.says[NODE2] = {"time": "noon"}
        self.assertRegex(verify(one)[0], f"node {NODE2}: it could not be asked: the answer makes no sense")

    def test_node_problems(self) -> None:
        """What a node says is wrong is told."""
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({"nodesetup": ["/sys is not mounted"]}, "/sys is not mounted"),
            ({"hypervisor": {"fake": "no /dev/kvm", "kvm": None}}, "hypervisor fake: no /dev/kvm"),
            ({"bridges": ["br7"]}, "missing bridges: br7"),
            ({"node-net-test": {"node3.example.com": "timed out"}}, "does not reach node node3.*timed out"),
            ({"master-ip": False}, "does not reach the master's address 10.9.0.1"),
            ({"check-errors": {"oslist": "no directory"}}, "check oslist could not be made: no directory"),
            ({"time": [1, 0]}, "clock is at least .* s behind"),
            ({"version": [99, "9"]}, "speaks protocol version 99"),
        )
        for says, pattern in cases:
            one = world()
            one.model.says[NODE2] = says
            lines = verify(one)
            self.assertRegex("\n".join(lines), f"ERROR: node {NODE2}: .*{pattern}")

    def test_only_candidates_try_the_network(self) -> None:
        """Nodes that are no candidates try to reach nobody (S2.3-105 for the rest)."""
        value = with_node(cluster(nodes=4), "node4", master_candidate=False)
        one = world(with_node(value, "node3", vm_capable=False))
        verify(one)
        asked = {called.node: set(called.call.checks) for called in one.nodes.calls_of(NodeVerify)}
        self.assertIn("node-net-test", asked[NODE1])
        self.assertNotIn("node-net-test", asked["node4.example.com"])
        self.assertIn("hypervisor", asked["node4.example.com"])
        self.assertNotIn("hypervisor", asked["node3.example.com"])

    def test_not_vm_capable(self) -> None:
        """A node that may not host instances is not asked about any, but named if it has one (S2.3-105)."""
        one = world(with_node(cluster(instances=1), "node2", vm_capable=False))
        lines = verify(one)
        self.assertNotIn(
            NODE2,
            [called.node for call in (AllInstancesInfo, DiskSizes) for called in one.nodes.calls_of(call)],
        )
        self.assertEqual(
            lines,
            [
                f"  - ERROR: instance {NAME}: its secondary node {NODE2} may not host instances "
                "(vm_capable is off)"
            ],
        )

    def test_instances(self) -> None:
        """Down, on the wrong node, unknown, with missing data."""
        one = world()
        one.model.stop(NODE1, NAME)
        self.assertEqual(
            verify(one), [f"  - ERROR: instance {NAME}: it does not run on its primary node {NODE1}"]
        )
        one = world()
        one.model.stop(NODE1, NAME)
        one.model.run("node3.example.com", NAME)
        self.assertIn(
            f"  - ERROR: instance {NAME}: it runs on node node3.example.com, but its primary node is {NODE1}",
            verify(one),
        )
        one = world()
        one.model.run(NODE2, "stranger")
        self.assertEqual(
            verify(one), [f"  - ERROR: node {NODE2}: instance stranger runs here and is unknown"]
        )
        one = world()
        one.model.data[NODE2].discard(one.cluster.instance(NAME).disks[0])
        self.assertEqual(verify(one), [f"  - ERROR: instance {NAME}: disk 0 is missing on node {NODE2}"])

    def test_split_instance(self) -> None:
        """S2.3-019: an instance whose nodes are in different groups is an error; the result is false."""
        value = cluster(nodes=4, instances=("fine",), groups=2)
        self.assertEqual(world(value).run(VerifyGroup(group_name="default")), True)
        one = world(with_instance(value, "inst1", primary="node1", secondary="node2"))
        self.assertEqual(one.run(VerifyGroup(group_name="default", error_codes=True)), False)
        (found,) = [line for line in findings(one) if "SPLIT" in line]
        self.assertIn(f"ERROR:EINSTANCESPLITGROUPS:instance:{NAME}:", found)

    def test_forthcoming(self) -> None:
        """Reserved instances are only counted."""
        one = world()
        value = changed_instance(
            one.cluster, "inst1", forthcoming=True, admin_state=AdminState.DOWN, disks_active=False
        )
        one = OperationWorld(value)
        one.model.data.clear()
        one.model.data.update({"shared": set()})
        lines = verify(one)
        self.assertFalse([line for line in lines if NAME in line], lines)
        self.assertIn("  - NOTICE: 1 forthcoming instance(s) found.", one.feedback.lines)

    def test_hypervisor_does_not_tell(self) -> None:
        """Of a node that does not tell what runs, no instance is called down."""
        one = world()
        one.model.break_call(AllInstancesInfo, "virsh hangs", one.cluster.node("node1"))
        self.assertEqual(
            verify(one), [f"  - ERROR: node {NODE1}: it does not tell what runs on it: virsh hangs"]
        )

    def test_impossible_figures(self) -> None:
        """A node with figures that cannot be true is an error, and so is one with none at all."""
        capacity = NodeCapacity(memory_total=4096, memory_free=-5, memory_dom0=0, cpu_total=4)
        info = NodeInfoResult(boot_id="b", storage=(), hypervisors={"fake": capacity})
        cases: tuple[tuple[Any, str], ...] = (
            (Report(info=info, running={}), "cannot be true: hypervisor fake: -5 MiB of memory free of 4096"),
            (FunctionFailed("answered something unexpected"), "answered something unexpected"),
        )
        for told, text in cases:
            one = world()
            one.nodes.answer(NodeReport, told, node=node_id(2))
            (found,) = verify(one, error_codes=True)
            self.assertIn(f"ERROR:ENODEHV:node:{NODE2}:it gets no instances", found)
            self.assertIn(text, found)

    def test_disks_cannot_be_looked_for(self) -> None:
        """A node that cannot look for disks is an error; no disk is called missing."""
        one = world()
        one.model.break_call(DiskSizes, BlockDeviceError("lvs hangs"), one.cluster.node("node2"))
        self.assertEqual(verify(one), [f"  - ERROR: node {NODE2}: it could not look for disks: lvs hangs"])

    def test_n1(self) -> None:
        """A node that could not take over is an error, unless that check is left out."""
        value = with_instance(cluster(), "big", primary="node1", secondary="node2", memory=4096)
        one = world(value, memory_mib=4096)
        self.assertRegex(
            verify(one)[0], f"node {NODE2}: it has not enough memory to take over from.*4096 MiB"
        )
        one = world(value, memory_mib=4096)
        self.assertEqual(verify(one, skip_checks=frozenset([OptionalCheck.N1_MEMORY])), [])

    def test_files_differ(self) -> None:
        """Files that differ are an error - if they still do a moment later."""
        one = world()
        one.model.says[NODE2] = {"filelist": {"/var/lib/ganeti/hmac.key": "other"}}
        lines = verify(one)
        self.assertIn("/var/lib/ganeti/hmac.key has 2 different contents", "\n".join(lines))
        one = world()
        one.model.says[NODE2] = {"filelist": {}}
        done = one.start(VerifyGroup(group_name="default"))
        del one.model.says[NODE2]
        one.advance(5.0)
        self.assertIs(self.successResultOf(done), True)
        self.assertEqual(findings(one), [])

    def test_ignored(self) -> None:
        """Ignored codes do not spoil the verdict."""
        one = world()
        one.model.stop(NODE1, NAME)
        op = VerifyGroup(group_name="default", ignore_errors=frozenset([VerifyCode.EINSTANCEDOWN]))
        self.assertIs(one.run(op), True)
        self.assertTrue(findings(one)[0].startswith(f"  - WARNING: instance {NAME}"))

    def test_simulated(self) -> None:
        """Every check of a group can be made to fail."""
        one = world()
        lines = verify(one, debug_simulate_errors=True, error_codes=True)
        codes = {line.split(":")[1] for line in lines}
        of_config = {"ECLUSTERCFG", "ECLUSTERCERT", "ECLUSTERDANGLINGNODES", "ECLUSTERDANGLINGINST"}
        self.assertEqual(codes, {code.value for code in VerifyCode} - of_config)

    def test_hooks(self) -> None:
        """Hooks run afterwards on the nodes of the group, and are told the tags."""
        value = with_node(with_settings(cluster(), tags=("blue",)), "node2", tags=("ssd", "fast"))
        one = world(value)
        one.run(VerifyGroup(group_name="default"))
        (run,) = [run for run in one.hooks.runs if run[0] == "cluster-verify"]
        self.assertEqual((run[1], len(run[2])), ("post", 3))
        self.assertEqual(
            (run[3]["GANETI_CLUSTER_TAGS"], run[3][f"GANETI_NODE_TAGS_{NODE2}"]), ("blue", "ssd fast")
        )

    def test_hooks_spoil_the_verdict(self) -> None:
        """A script that fails, or hooks that could not be run, are findings (ENODEHOOKS)."""
        failed = HookResult(script="50-disks", code=1, output="smart says no\n")
        outcomes: dict[NodeId, Outcome[Any]] = {
            node_id(1): Answer((failed, HookResult(script="60-ok", code=2, output=""))),
            node_id(2): NodeFailed(BlockDeviceError("no answer")),
            node_id(3): Answer(()),
        }
        feedback = RecordingFeedback()
        operation = VerifyGroupOperation(VerifyGroup(group_name="default"))
        verdict = operation.judge_hooks(True, outcomes, cluster=cluster(), feedback=feedback)
        self.assertIs(verdict, False)
        self.assertEqual(
            feedback.lines,
            [
                "* Hooks Results",
                f"  - ERROR: node {NODE1}: hook 50-disks failed: smart says no",
                f"  - ERROR: node {NODE2}: its hooks could not be run: no answer",
            ],
        )

    def test_migration_under_way(self) -> None:
        """What a migration leaves for a moment on both sides is not called an error."""
        one = world()
        one.model.run("node3.example.com", NAME, state=RunState.MIGRATING_IN)
        self.assertEqual(verify(one), [])


class RedistTests(SynchronousTestCase):
    """OP_CLUSTER_REDIST_CONF."""

    def test_all_well(self) -> None:
        """The distribution does all; nodes that get nothing are named."""
        one = world(with_node(cluster(), "node3", **OFF))
        self.assertIsNone(one.run(RedistConf()))
        self.assertEqual((one.distribution.rounds, one.called()), (1, []))
        self.assertIn("node node3.example.com is offline and gets nothing", one.feedback.lines)

    def test_failure(self) -> None:
        """Nodes that did not get it are named, and the job fails."""
        one = world()
        one.distribution.failures = {NODE2: "no route"}
        with self.assertRaisesRegex(OperationFailed, f"1 node.s. did not get everything: {NODE2}"):
            one.run(RedistConf())
        self.assertEqual(one.feedback.warnings, [f"node {NODE2} did not get everything: no route"])

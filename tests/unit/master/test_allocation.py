"""Asking allocators: facts of live nodes, built-in and external ones, and all that goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from ganeti.errors import (
    AllocatorError,
    ErrorCode,
    GanetiError,
    NodeTimeout,
    NodeUnreachable,
    PrereqError,
)
from ganeti.interfaces import IAllocation, IAllocator, Plugins
from ganeti.logic.node_figures import storage_units
from ganeti.master.allocation import Allocation, concerned
from ganeti.master.cluster_state import ClusterState
from ganeti.model.allocation import (
    Allocate,
    AllocationRequest,
    Capacity,
    ChangeGroup,
    ClusterView,
    Evacuate,
    EvacuationMode,
    MultiAllocate,
    Placement,
    Relocate,
    Solution,
)
from ganeti.model.calls.report import NodeReport, Report
from ganeti.model.calls.system import AllocatorRunner
from ganeti.model.capacity import CapacityParams
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GroupId
from ganeti.model.node import AllocPolicy
from ganeti.plugin_registry import discover
from ganeti.testing.allocator_behaviours import with_policy
from ganeti.testing.clusters import cluster, group_id, node_id, with_node, with_settings
from ganeti.testing.config import MemoryConfig
from ganeti.testing.jobs import TestClock
from ganeti.testing.nodes import FakeNodes
from ganeti.testing.placement_worlds import placement_view, request_for

T = TypeVar("T")

UNALLOCABLE = AllocPolicy.UNALLOCABLE


@implementer(IAllocator)
class OddAllocator:
    """An allocator of somebody else."""

    name = "odd"

    def __init__(self, behaviour: Callable[[], Solution]) -> None:
        self.behaviour = behaviour

    def solve(self, request: AllocationRequest, view: ClusterView) -> Solution:
        """Whatever the test wants."""
        return self.behaviour()


def at_once(function: Callable[[], T]) -> Deferred[T]:
    """Run a function here and now."""
    return maybeDeferred(function)


class Never:
    """A thread that does not come to an end."""

    def __init__(self) -> None:
        self.waiting: Deferred[Any] = Deferred()

    def __call__(self, function: Callable[[], T]) -> Deferred[T]:
        """Wait for ever."""
        return self.waiting


class AllocationCase(SynchronousTestCase):
    """`Allocation` with nodes that answer from memory."""

    def setUp(self) -> None:
        """Three nodes."""
        self.use(cluster(nodes=3, default_iallocator="builtin"))

    def use(self, value: Cluster) -> None:
        """Take another cluster."""
        self.cluster = value
        self.plugins = discover()
        view = placement_view(value)
        self.nodes = FakeNodes()
        self.nodes.answer(
            NodeReport,
            lambda node, call: Report(info=view.facts[node.uuid], running=view.running[node.uuid]),
        )
        self.clock = TestClock(Clock())
        self.state = ClusterState(MemoryConfig(value), self.nodes, self.clock)

    def ask(self, name: str = "builtin", request: AllocationRequest | None = None, **more: Any) -> Solution:
        """The answer; its errors are raised."""
        allocation = Allocation(self.state, self.nodes, self.plugins, at_once)
        self.assertTrue(verifyObject(IAllocation, allocation))
        wanted = request or Allocate(instance=request_for())
        return self.successResultOf(
            Deferred.fromCoroutine(allocation.solve(name, wanted, cluster=self.cluster, **more))
        )

    def refused(self, kind: type[GanetiError], name: str = "builtin", **more: Any) -> GanetiError:
        """The error of a question."""
        allocation = Allocation(self.state, self.nodes, self.plugins, at_once)
        wanted = Allocate(instance=more.pop("instance", request_for()))
        coroutine = allocation.solve(name, wanted, cluster=self.cluster, **more)
        error = self.failureResultOf(Deferred.fromCoroutine(coroutine), kind).value
        assert isinstance(error, kind)
        return error


class AllocationTests(AllocationCase):
    """Plugins, and the facts they get."""

    def test_builtin(self) -> None:
        """The built-in allocator answers with what the nodes report."""
        self.assertEqual(self.ask().placements[0].nodes, (node_id(3),))

    def test_default(self) -> None:
        """An empty name or a dot mean the cluster's default."""
        for name in ("", "."):
            self.assertEqual(len(self.ask(name).placements), 1)

    def test_no_default(self) -> None:
        """Without a default the message says what can be done."""
        self.use(cluster(nodes=1, default_iallocator=""))
        self.assertIn("default_iallocator", str(self.refused(PrereqError, ".")))

    def test_asks_only_who_can_answer(self) -> None:
        """Offline nodes and those not for instances are not asked; drained ones are."""
        value = with_node(cluster(nodes=4), "node1", offline=True, master_candidate=False)
        value = with_node(with_node(value, "node2", vm_capable=False), "node3", drained=True)
        self.use(value)
        self.ask()
        asked = {called.node.partition(".")[0] for called in self.nodes.calls_of(NodeReport)}
        self.assertEqual(asked, {"node3", "node4"})

    def test_what_is_asked(self) -> None:
        """Nodes are asked for everything, whatever the request, so that the answer is good for others."""
        templates = ("file", "drbd")
        value = with_settings(cluster(nodes=1), enabled_disk_templates=templates, volume_group_name="vg")
        self.use(value)
        self.ask(request=Allocate(instance=request_for(disk_template="file", hypervisor="fake")))
        call = self.nodes.calls_of(NodeReport)[0].call
        self.assertEqual(call.hypervisors, value.settings.enabled_hypervisors)
        self.assertEqual(call.storage_units, {"file": "/srv/ganeti/file-storage", "lvm-vg": "vg"})

    def test_from_the_cache(self) -> None:
        """The second question asks no node, unless that is wanted (S2.3-055)."""
        self.ask()
        asked = len(self.nodes.calls)
        self.ask()
        self.assertEqual(len(self.nodes.calls), asked)
        self.ask(cached=False)
        self.assertEqual(len(self.nodes.calls), 2 * asked)

    def test_other_groups(self) -> None:
        """Nodes of other groups than those wanted are not asked: one that hangs delays nobody (S2.3-055)."""
        self.use(cluster(nodes=4, groups=2, default_iallocator="builtin"))
        self.nodes.hanging.add(node_id(2))
        wanted = msgspec.structs.replace(request_for(), group=group_id(1))
        self.assertIn(
            self.ask(request=Allocate(instance=wanted)).placements[0].nodes[0], (node_id(1), node_id(3))
        )

    def test_concerned(self) -> None:
        """Which groups a request is about; None: any."""
        value = cluster(nodes=6, groups=3, instances=2)
        one, two, three = group_id(1), group_id(2), group_id(3)
        first, second = "inst1.example.com", "inst2.example.com"
        replace = msgspec.structs.replace
        anywhere = request_for()
        here = replace(anywhere, group=one)
        listed = replace(anywhere, target_groups=(two, three))
        relocation = Relocate(instance=second, relocate_from=(node_id(5),))
        params = CapacityParams(
            max_inst_spec=(1, 1, 1), default_template="file", max_cpu_ratio=1.0, max_disk_usage=1.0
        )
        cases: tuple[tuple[AllocationRequest, set[GroupId] | None], ...] = (
            (Allocate(instance=anywhere), None),
            (Allocate(instance=here), {one}),
            (Allocate(instance=listed), {two, three}),
            (MultiAllocate(instances=(here, listed)), {one, two, three}),
            (MultiAllocate(instances=(here, anywhere)), None),
            (relocation, {two}),
            (Evacuate(instances=(first, second), mode=EvacuationMode.ALL), {one, two}),
            (ChangeGroup(instances=(first,), target_groups=(three,)), {one, three}),
            (ChangeGroup(instances=(first,), target_groups=()), None),
            (Capacity(params={two: params}), {two}),
        )
        for request, expected in cases:
            self.assertEqual(concerned(request, value), expected, request)

    def test_volume_group(self) -> None:
        """Volumes need the volume group; spindles are asked for where storage is exclusive."""
        value = with_settings(cluster(nodes=1), volume_group_name="xenvg")
        self.assertEqual(storage_units(value, ["drbd"]), {"lvm-vg": "xenvg"})
        value = with_settings(value, ndparams={"exclusive_storage": True})
        self.assertEqual(storage_units(value, ["plain"]), {"lvm-vg": "xenvg", "lvm-pv": "xenvg"})
        self.assertEqual(storage_units(value, ["rbd", "diskless"]), {})

    def test_silent_nodes(self) -> None:
        """Nodes that do not answer are left out."""
        self.nodes.unreachable = {node_id(3)}
        self.assertEqual(self.ask().placements[0].nodes, (node_id(2),))

    def test_candidates(self) -> None:
        """Only the candidates are used."""
        self.assertEqual(self.ask(candidates=[node_id(1)]).placements[0].nodes, (node_id(1),))

    def test_nothing_fits(self) -> None:
        """If nothing fits the job fails with the reason for each node and what would help."""
        wanted = request_for(memory=32768, vcpus=8, disks=(1048576,))
        error = self.refused(PrereqError, instance=wanted)
        assert isinstance(error, PrereqError)
        self.assertEqual(error.code, ErrorCode.NO_RESOURCES)
        self.assertIn("node2.example.com: 1 MiB of disk space missing", str(error))
        self.assertIn("it would fit with 1 MiB less on disk 0", str(error))

    def test_some_of_several_fit(self) -> None:
        """Of several instances those that fit are placed."""
        wanted = (request_for("a"), request_for("b", disks=(1048576,)))
        solution = self.ask(request=MultiAllocate(instances=wanted))
        self.assertEqual([p.instance for p in solution.placements], ["a"])
        self.assertEqual([name for name, _ in solution.failed], ["b"])

    def test_unallocable_group(self) -> None:
        """S2.3-009, S2.3-015: an unallocable group cannot be asked for, whoever decides."""
        self.use(with_policy(cluster(nodes=1), 1, UNALLOCABLE))
        for name in ("builtin", "hail"):
            error = self.refused(PrereqError, name, instance=request_for(group=group_id(1)))
            self.assertIn("group default is unallocable", str(error))

    def test_only_unallocable_groups(self) -> None:
        """S2.3-009, S2.3-015: nor can a list of them, or a cluster that has no others."""
        self.use(with_policy(with_policy(cluster(nodes=2, groups=2), 1, UNALLOCABLE), 2, UNALLOCABLE))
        for groups in ((group_id(1), group_id(2)), ()):
            error = self.refused(PrereqError, "hail", instance=request_for(target_groups=groups))
            self.assertIn("groups default, group2 are unallocable; choose another one", str(error))
            assert isinstance(error, PrereqError)
            self.assertEqual(error.code, ErrorCode.NO_RESOURCES)

    def use_odd(self, behaviour: Callable[[], Solution]) -> None:
        """Install somebody else's allocator."""
        odd = OddAllocator(behaviour)
        self.plugins = Plugins(hypervisors={}, storage={}, iallocators={"odd": odd})

    def test_crash(self) -> None:
        """A plugin that crashes is named; the log has the rest."""

        def crash() -> Solution:
            raise ZeroDivisionError("division by zero")

        self.use_odd(crash)
        self.assertIn("allocator odd crashed", str(self.refused(AllocatorError, "odd")))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_wrong_answer(self) -> None:
        """The answer of a plugin is checked like that of a program."""
        self.cluster = with_node(self.cluster, "node1", drained=True)
        placement = Placement(instance="new.example.com", nodes=(node_id(1),))
        self.use_odd(lambda: Solution(placements=(placement,)))
        text = str(self.refused(AllocatorError, "odd"))
        self.assertEqual(
            text, "allocator odd: it put instance new.example.com on node1.example.com, which is drained"
        )

    def test_cancelled(self) -> None:
        """A job that is cancelled while it waits for an allocator ends at once."""
        thread = Never()
        allocation = Allocation(self.state, self.nodes, self.plugins, thread)
        request = Allocate(instance=request_for())
        result = Deferred.fromCoroutine(allocation.solve("builtin", request, cluster=self.cluster))
        self.assertNoResult(result)
        result.cancel()
        self.failureResultOf(result)
        self.assertTrue(thread.waiting.called)


class ExternalProgramTests(AllocationCase):
    """Programs on the master."""

    def test_exists(self) -> None:
        """Plugins that decide exist, and programs that can be run; nothing else does."""
        directory = tempfile.mkdtemp(prefix="allocators-")
        self.addCleanup(shutil.rmtree, directory)
        for name, mode in (("hail", 0o755), ("notes", 0o644)):
            path = os.path.join(directory, name)
            with open(path, "w", encoding="ascii"):
                os.chmod(path, mode)
        allocation = Allocation(self.state, self.nodes, self.plugins, at_once, [directory])
        names = ("builtin", "hail", "notes", "script", "none", "../" + directory)
        found = [self.successResultOf(Deferred.fromCoroutine(allocation.exists(name))) for name in names]
        self.assertEqual(found, [True, True, False, False, False, False])

    def program_gives(self, result: str | GanetiError) -> None:
        """What comes of running the program."""
        self.nodes.answer(AllocatorRunner, lambda node, call: result)

    def reply(self, **changes: Any) -> str:
        """An answer of a program."""
        return json.dumps({"success": True, "info": "ok", "result": ["node2.example.com"], **changes})

    def test_program(self) -> None:
        """A name that is no plugin's is a program's; it gets the document and the cluster's options."""
        self.cluster = with_settings(self.cluster, default_iallocator_params={"verbose": None})
        self.program_gives(self.reply())
        self.assertEqual(self.ask("hail").placements[0].nodes, (node_id(2),))
        ((node, call),) = [(one.node, one.call) for one in self.nodes.calls_of(AllocatorRunner)]
        self.assertEqual(node, "node1.example.com")
        self.assertEqual((call.name, call.options), ("hail", {"verbose": None}))
        document = json.loads(call.request)
        self.assertEqual(document["request"]["name"], "new.example.com")
        self.assertEqual(document["cache_ctime"], self.clock.seconds())

    def test_refusal(self) -> None:
        """A program that finds no place is quoted."""
        self.nodes.answer(
            AllocatorRunner, self.reply(success=False, info="Request failed: FailMem", result=[])
        )
        error = self.refused(PrereqError, "hail")
        assert isinstance(error, PrereqError)
        self.assertEqual(error.code, ErrorCode.NO_RESOURCES)
        self.assertIn("allocator hail found no place for instance new.example.com", str(error))
        self.assertIn("FailMem", str(error))

    def test_program_crash(self) -> None:
        """What the node says of a program that is missing or ends with an error is passed on."""
        self.program_gives(AllocatorError("allocator hail on node node1 ended with exit code 139: no output"))
        text = str(self.refused(AllocatorError, "hail"))
        self.assertEqual(text, "allocator hail on node node1 ended with exit code 139: no output")

    def test_master_unreachable(self) -> None:
        """If the master's node daemon cannot be asked this is said."""
        self.program_gives(NodeUnreachable("connection refused"))
        text = str(self.refused(AllocatorError, "hail"))
        self.assertEqual(text, "allocator hail could not be run on node1.example.com: connection refused")

    def test_hang(self) -> None:
        """A program that hangs is given up."""
        self.program_gives(NodeTimeout("no answer"))
        self.assertIn("did not answer within 900 seconds", str(self.refused(AllocatorError, "hail")))

    def test_program_rubbish(self) -> None:
        """Rubbish is quoted."""
        self.program_gives("Traceback (most recent call last)")
        self.assertIn("it wrote: Traceback", str(self.refused(AllocatorError, "hail")))

    def test_offline_node(self) -> None:
        """A program that answers with an unusable node is refused."""
        self.cluster = with_node(self.cluster, "node2", offline=True, master_candidate=False)
        self.program_gives(self.reply())
        self.assertIn("node2.example.com, which is offline", str(self.refused(AllocatorError, "hail")))

    def test_bad_name(self) -> None:
        """A name that can be no program's is refused before anything is run."""
        text = str(self.refused(PrereqError, "../bin/sh"))
        self.assertIn("built in: builtin;", text)
        self.assertEqual(self.nodes.calls_of(AllocatorRunner), [])

    def test_missing_program(self) -> None:
        """A program that is not there is refused before the nodes are asked for anything."""
        directory = self.mktemp()
        allocation = Allocation(self.state, self.nodes, self.plugins, at_once, [directory])
        asked = allocation.solve("hail", Allocate(instance=request_for()), cluster=self.cluster)
        error = self.failureResultOf(Deferred.fromCoroutine(asked), PrereqError)
        self.assertIn(directory, str(error.value))
        self.assertEqual(self.nodes.calls, [])

    def test_script_itself(self) -> None:
        """`script` only stands for programs and is none."""
        self.assertIn("no allocator 'script'", str(self.refused(PrereqError, "script")))

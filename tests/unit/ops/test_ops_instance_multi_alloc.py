"""Tests of placing several new instances at once."""

from __future__ import annotations

from typing import Any

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import AllocatorError, ErrorCode, PrereqError
from ganeti.master.job_opcodes import read_opcodes, restored, stored, without_secrets
from ganeti.model.allocation import MultiAllocate, Placement, Solution
from ganeti.model.ids import JobId
from ganeti.model.job import Job
from ganeti.model.locks import LockLevel, LockMode
from ganeti.ops.instance.create import CreateInstance
from ganeti.ops.instance.multi_alloc import AllocateInstances
from ganeti.ops.registry import load
from ganeti.testing.clusters import cluster, group_id, node_id
from ganeti.testing.operations import OperationWorld
from tests.unit.ops import new_instances

NAMES = ("a.example.com", "b.example.com")


def create(name: str, **changes: Any) -> CreateInstance:
    """An instance without nodes."""
    return new_instances.create(instance_name=name, **changes)


def op(*instances: CreateInstance, **changes: Any) -> AllocateInstances:
    """Two instances, or others."""
    given = instances or tuple(create(name) for name in NAMES)
    return AllocateInstances(**{"instances": given, "iallocator": "hail", **changes})


class MultiAllocTests(SynchronousTestCase):
    """What comes of a list of instances."""

    def setUp(self) -> None:
        """Six nodes in three groups; both instances have a place."""
        self.world = OperationWorld(cluster(nodes=6, groups=3))
        self.places(a=(1,), b=(4,))

    def places(self, *failed: tuple[str, str], **chosen: tuple[int, ...]) -> None:
        """What the allocator answers."""
        placements = (
            Placement(instance=f"{name}.example.com", nodes=tuple(node_id(number) for number in numbers))
            for name, numbers in chosen.items()
        )
        self.world.allocation.solution = Solution(placements=tuple(placements), failed=failed)

    def test_jobs(self) -> None:
        """Each instance gets a job that makes it on its nodes; the result names them."""
        result = self.world.run(op(create("A.example.com."), create(NAMES[1], tags=("x",))))
        self.assertEqual(
            result, {"jobs": [[True, 101], [True, 102]], "allocatable": list(NAMES), "failed": []}
        )
        (first,), (second,) = self.world.jobs.submitted
        assert isinstance(first, CreateInstance) and isinstance(second, CreateInstance)
        self.assertEqual((first.pnode, first.snode, first.iallocator), ("node1.example.com", None, None))
        self.assertEqual((second.pnode, second.tags), ("node4.example.com", ("x",)))
        self.assertEqual(self.world.config.changes, [])

    def test_jobs_can_run(self) -> None:
        """The jobs that are asked for make the instances."""
        self.world.run(op())
        for (one,) in tuple(self.world.jobs.submitted):
            self.world.run(one)
        homes = [self.world.cluster.instance(name).primary_node for name in NAMES]
        self.assertEqual(homes, [node_id(1), node_id(4)])

    def test_pairs(self) -> None:
        """A mirrored instance gets both nodes."""
        self.places(a=(1, 4))
        self.world.run(op(create(NAMES[0], disk_template="drbd")))
        ((one,),) = self.world.jobs.submitted
        assert isinstance(one, CreateInstance)
        self.assertEqual((one.pnode, one.snode), ("node1.example.com", "node4.example.com"))

    def test_request(self) -> None:
        """All are asked about at once, each with its own groups."""
        self.world.run(op(create(NAMES[0], group_name="group2"), create(NAMES[1])))
        ((name, request, candidates),) = self.world.allocation.requests
        assert isinstance(request, MultiAllocate)
        self.assertEqual((name, [one.name for one in request.instances]), ("hail", list(NAMES)))
        self.assertEqual([one.group for one in request.instances], [group_id(2), None])
        self.assertEqual(len(candidates or ()), 6)

    def test_some_fail(self) -> None:
        """Those without a place are named, and the reason is told; the others are made."""
        self.places(("b.example.com", "too large"), a=(1,))
        result = self.world.run(op())
        self.assertEqual((result["allocatable"], result["failed"]), ([NAMES[0]], [NAMES[1]]))
        self.assertEqual(len(self.world.jobs.submitted), 1)
        self.assertIn("no place for instance b.example.com", "\n".join(self.world.feedback.warnings))

    def test_given_nodes(self) -> None:
        """Where all have nodes no allocator is asked."""
        ops = (create(NAMES[0], pnode="node1"), create(NAMES[1], pnode="node2"))
        self.world.run(op(*ops, iallocator=None))
        self.assertEqual(self.world.allocation.requests, [])
        pairs = [one for (one,) in self.world.jobs.submitted if isinstance(one, CreateInstance)]
        self.assertEqual([one.pnode for one in pairs], ["node1.example.com", "node2.example.com"])

    def test_locks(self) -> None:
        """Nodes are shared: all, those of the groups, or those given."""
        for ops, names in (
            (op(), None),
            (op(create(NAMES[0], group_name="group2")), {node_id(2), node_id(5)}),
            (op(create(NAMES[0], group_name="group2"), create(NAMES[1])), None),
            (op(create(NAMES[0], pnode="node3"), iallocator=None), {node_id(3)}),
        ):
            request = self.world.plan(ops).requests[LockLevel.NODE]
            self.assertEqual((request.names, request.mode), (names, LockMode.SHARED))

    def test_opportunistic(self) -> None:
        """Nodes that others hold can be left out."""
        plan = self.world.plan(op(opportunistic_locking=True))
        self.assertTrue(plan.requests[LockLevel.NODE].opportunistic)

    def test_dry_run(self) -> None:
        """A dry run tells who would have a place, and submits nothing."""
        self.places(("b.example.com", "too large"), a=(1,))
        expected = {"jobs": [], "allocatable": [NAMES[0]], "failed": [NAMES[1]]}
        self.assertEqual(self.world.run(op(dry_run=True)), expected)
        self.assertEqual(self.world.jobs.submitted, [])

    def test_default_allocator(self) -> None:
        """Without a name the cluster's allocator is asked; `.` means it, too."""
        world = OperationWorld(cluster(nodes=4, default_iallocator="builtin"))
        world.allocation.solution = self.world.allocation.solution
        for name in (None, "."):
            world.run(op(iallocator=name))
            self.assertEqual(world.allocation.requests[-1][0], "builtin")


class RefusalTests(SynchronousTestCase):
    """What is refused before anything is submitted."""

    def test_table(self) -> None:
        """Each wrong list and what is said of it."""
        for opcode, text in (
            (AllocateInstances(iallocator="hail"), "no instances were given"),
            (op(create("a.example.com"), create("A.example.com")), "a.example.com is in the list more than"),
            (op(create("a", iallocator="hail")), "instance a names an allocator"),
            (
                op(create("a", pnode="node1"), create("b"), iallocator=None),
                "for instance a and not for b",
            ),
            (op(create("a", pnode="node1")), "either nodes for the instances or an allocator"),
            (op(create("a", pnode="nosuch"), iallocator=None), "nosuch"),
            (op(create("a", hypervisor="lxc")), "instance a: hypervisor 'lxc' is not enabled"),
            (op(create("a", os_type=None)), "instance a: no OS given"),
            (op(create("inst1.example.com")), "instance inst1.example.com exists already"),
            (op(create("a"), iallocator=None), r"name an allocator \(-I\)"),
        ):
            world = OperationWorld(cluster(instances=1))
            with self.assertRaisesRegex(PrereqError, text):
                world.run(opcode)
            self.assertEqual(world.jobs.submitted, [])

    def test_lost_allocator(self) -> None:
        """An allocator that fails ends the job; nothing is submitted."""
        world = OperationWorld(cluster())
        with self.assertRaisesRegex(AllocatorError, "crashed"):
            world.run(op())
        self.assertEqual((world.jobs.submitted, world.config.changes), ([], []))


class SecretsTests(SynchronousTestCase):
    """Secrets of the instances in a list."""

    op = op(create("a", osparams_secret={"token": "y"}), create("b", osparams_private={"word": "z"}))

    def test_not_written(self) -> None:
        """They are not in the job's document."""
        text = bytes(stored(self.op).input).decode()
        self.assertNotIn('"y"', text)
        self.assertNotIn('"z"', text)
        self.assertIn("<redacted>", text)

    def test_after_a_restart(self) -> None:
        """A job that had secrets and did not begin before a restart says so."""
        job = Job(id=JobId(1), ops=(stored(self.op),))
        (found,) = restored(load(), job)
        assert isinstance(found, PrereqError)
        self.assertIn("'osparams_secret' was forgotten", str(found))

    def test_without_secrets(self) -> None:
        """An opcode without secrets is written as it is."""
        plain = op()
        self.assertEqual(without_secrets(plain), plain)

    def test_submitted(self) -> None:
        """Entries are checked when they are submitted, and need no OP_ID."""
        entry = {"instance_name": "a", "mode": "create", "disks": [], "nics": []}
        raw = {"OP_ID": "OP_INSTANCE_MULTI_ALLOC", "instances": [entry]}
        (found,) = read_opcodes(load(), [raw])
        assert isinstance(found, AllocateInstances)
        self.assertEqual(found.instances[0].instance_name, "a")
        raw["instances"] = [{**entry, "nosuch": 1}]
        with self.assertRaisesRegex(PrereqError, "nosuch") as caught:
            read_opcodes(load(), [raw])
        self.assertEqual(caught.exception.code, ErrorCode.INPUT)
        self.assertEqual(msgspec.json.decode(msgspec.json.encode(found))["instances"][0]["mode"], "create")

"""Tests of making node groups."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.locks import LockLevel
from ganeti.model.node import AllocPolicy
from ganeti.ops.group.add import AddGroup
from ganeti.testing.operations import OperationWorld


class AddGroupTests(SynchronousTestCase):
    """OP_GROUP_ADD."""

    def setUp(self) -> None:
        self.world = OperationWorld()

    def refused(self, op: AddGroup, text: str) -> PrereqError:
        """The refusal of an opcode; nothing has changed."""
        before = self.world.cluster.groups
        error: PrereqError = self.assertRaises(PrereqError, self.world.run, op)
        self.assertIn(text, str(error))
        self.assertEqual(self.world.cluster.groups, before)
        return error

    def test_defaults(self) -> None:
        """A group with a name alone is empty and open to allocators (S2.3-008)."""
        self.world.run(AddGroup(group_name="rack1"))
        group = self.world.cluster.group("rack1")
        self.assertEqual((group.alloc_policy, dict(group.ndparams)), (AllocPolicy.PREFERRED, {}))
        self.assertEqual(list(self.world.cluster.members(group.uuid)), [])

    def test_values(self) -> None:
        """Parameters are kept in their proper types."""
        self.world.run(
            AddGroup(
                group_name="rack1",
                alloc_policy=AllocPolicy.UNALLOCABLE,
                ndparams={"ssh_port": "2222"},
                diskparams={"plain": {"stripes": "2"}},
                ipolicy={"vcpu-ratio": 2.0},
            )
        )
        group = self.world.cluster.group("rack1")
        self.assertEqual(group.alloc_policy, AllocPolicy.UNALLOCABLE)
        self.assertEqual(group.ndparams, {"ssh_port": 2222})
        self.assertEqual(group.diskparams, {"plain": {"stripes": 2}})
        self.assertEqual(self.world.cluster.policy_of(group.uuid).vcpu_ratio, 2.0)

    def test_lock(self) -> None:
        """The lock of the new group is added, and stays."""
        op = AddGroup(group_name="rack1")
        plan = self.world.plan(op)
        self.assertEqual((plan.requests, plan.exclusive_cluster), ({}, False))
        self.world.run(op)
        kept = [event.names for event in self.world.locks.events if event.what == "keep_added"]
        self.assertEqual(kept, [frozenset([self.world.cluster.group("rack1").uuid])])
        self.assertEqual(list(plan.add), [LockLevel.NODEGROUP])

    def test_name_taken(self) -> None:
        """Neither the name nor the UUID of another group can be a name."""
        group = self.world.cluster.group("default")
        for name in (group.name, group.uuid):
            error = self.refused(AddGroup(group_name=name), "already")
            self.assertEqual(error.code, ErrorCode.EXISTS)

    def test_wrong_values(self) -> None:
        """What is unknown or contradicts itself is refused by its name."""
        self.refused(AddGroup(group_name="g", ndparams={"ssh_prot": 1}), "ssh_port")
        self.refused(AddGroup(group_name="g", diskparams={"plane": {}}), "'plane'")
        self.refused(AddGroup(group_name="g", diskparams={"plain": {"stripes": 0}}), "stripes")
        self.refused(AddGroup(group_name="g", ipolicy={"vcpu-ration": 1}), "vcpu-ration")
        self.refused(AddGroup(group_name="g", ipolicy={"vcpu-ratio": 0.5}), "vcpu-ratio")
        self.refused(AddGroup(group_name="g", ipolicy={"disk-templates": ["plane"]}), "plane")
        self.refused(AddGroup(group_name=""), "name")

    def test_hooks(self) -> None:
        """Hooks know the name of the group."""
        operation = self.world.operation(AddGroup(group_name="rack1"))
        self.assertEqual(
            operation.hook_env(self.world.cluster), {"OP_TARGET": "rack1", "GROUP_NAME": "rack1"}
        )

"""Plans over all levels: what is held when, and that any mixture of plans comes to an end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import LockError, ProgrammerError
from ganeti.logic.lock_order import LockOrder
from ganeti.logic.lock_tree import MEMBER_LEVELS, Holding, LockTree
from ganeti.model.locks import (
    LockLevel,
    LockMode,
    LockPlan,
    LockRequest,
    all_of_level,
    exclusive,
    shared,
)
from ganeti.testing.locks import Driven

INSTANCE, NODE, NODE_RES, NODEGROUP = (
    LockLevel.INSTANCE,
    LockLevel.NODE,
    LockLevel.NODE_RES,
    LockLevel.NODEGROUP,
)


def raise_it(error: Exception) -> None:
    """What the trees of these tests do about broken callbacks."""
    raise error


class TreeCase(SynchronousTestCase):
    """Two instances, a group and two nodes."""

    def setUp(self) -> None:
        self.tree = LockTree(raise_it)
        self.tree.add(INSTANCE, ["web1", "web2"])
        self.tree.add(NODEGROUP, ["g"])
        self.tree.add(NODE, ["n1", "n2"])

    def hold(self, owner: str, plan: LockPlan) -> Holding:
        """A plan that is granted at once."""
        holding = Holding(self.tree, owner=owner, priority=0)
        driven = Driven(holding.acquire(plan))
        self.assertTrue(driven.is_over and driven.error is None, driven.error)
        return holding

    def error_of(self, owner: str, plan: LockPlan) -> Exception | None:
        """Why a plan is refused."""
        return Driven(Holding(self.tree, owner=owner, priority=0).acquire(plan)).error

    def row(self, name: str) -> Mapping[str, Any]:
        """The row of a lock."""
        return next(row for row in self.tree.rows() if row["name"] == name)

    def held_names(self) -> list[str]:
        """Names of all locks that are held or waited for."""
        return [row["name"] for row in self.tree.rows() if row["owner"] or row["pending"]]


class OrderTests(SynchronousTestCase):
    """The order in which kinds of locks may be acquired."""

    def test_downwards(self) -> None:
        """S2.2-016: acquiring a lower or the same rank is a mistake, upwards is not."""
        order = LockOrder()
        order.enter(INSTANCE)
        order.enter(NODE)
        for rank in (NODE, NODEGROUP, LockLevel.CLUSTER):
            self.assertRaises(ProgrammerError, order.enter, rank)
        order.leave(NODE)
        order.leave(NODE)
        order.enter(NODEGROUP)
        self.assertEqual(order.held, (INSTANCE, NODEGROUP))


class PlanTests(TreeCase):
    """What a plan acquires."""

    def test_levels_in_order(self) -> None:
        """Who waits at a level holds all levels below and none above."""
        self.hold("1", LockPlan(requests={NODEGROUP: exclusive(["g"])}))
        plan = LockPlan(
            requests={NODE: exclusive(["n1"]), NODEGROUP: shared(["g"]), INSTANCE: exclusive(["web1"])}
        )
        Driven(Holding(self.tree, owner="2", priority=0).acquire(plan))
        self.assertEqual(self.held_names(), ["cluster/BGL", "instance/web1", "nodegroup/g"])

    def test_bgl(self) -> None:
        """The BGL is shared by all plans, unless one asks for the cluster alone."""
        first, second = self.hold("1", LockPlan.NOTHING), self.hold("2", LockPlan.NOTHING)
        alone = Driven(Holding(self.tree, owner="3", priority=0).acquire(LockPlan(exclusive_cluster=True)))
        expected = {
            "name": "cluster/BGL",
            "mode": "shared",
            "owner": ["1", "2"],
            "pending": [["exclusive", ["3"]]],
        }
        self.assertEqual(self.row("cluster/BGL"), expected)
        first.close()
        self.assertFalse(alone.is_over)
        second.close()
        self.assertTrue(alone.is_over)

    def test_error_gives_back(self) -> None:
        """An object of a higher level that is gone: nothing of the lower ones stays held."""
        plan = LockPlan(requests={INSTANCE: exclusive(["web1"]), NODE: exclusive(["n9"])})
        self.assertIn("node/n9", str(self.error_of("1", plan)))
        self.assertEqual(self.held_names(), [])

    def test_one_plan_at_a_time(self) -> None:
        """An owner that holds or waits may not begin another plan."""
        self.hold("1", LockPlan.NOTHING)
        self.assertIsInstance(self.error_of("1", LockPlan.NOTHING), ProgrammerError)
        self.assertEqual(self.held_names(), ["cluster/BGL"])

    def test_cluster_level_in_requests(self) -> None:
        """The cluster level has no members to ask for."""
        plan = LockPlan(requests={LockLevel.CLUSTER: exclusive(["BGL"])})
        self.assertIsInstance(self.error_of("1", plan), ProgrammerError)

    def test_names(self) -> None:
        """Names held are told by level, a whole level by its members."""
        holding = self.hold("1", LockPlan(requests={NODE: all_of_level(LockMode.SHARED)}))
        self.assertEqual(holding.names(NODE), {"n1", "n2"})
        self.assertEqual(holding.names(LockLevel.CLUSTER), {"BGL"})
        self.assertEqual(holding.names(INSTANCE), frozenset())


class MembersTests(TreeCase):
    """Locks that come and go with objects."""

    def test_both_levels_of_nodes(self) -> None:
        """NODE and NODE_RES always have the same members."""
        self.assertEqual(self.tree.members(NODE_RES), {"n1", "n2"})
        self.tree.remove(NODE_RES, ["n1"])
        self.tree.add(NODE, ["n2", "n3"])
        for level in (NODE, NODE_RES):
            self.assertEqual(self.tree.members(level), {"n2", "n3"})

    def test_added_vanish(self) -> None:
        """Locks of objects that were not made in the end are gone afterwards, on both levels of nodes."""
        holding = self.hold("1", LockPlan(add={INSTANCE: frozenset({"new"}), NODE: frozenset({"n3"})}))
        self.assertEqual(self.row("node-res/n3")["owner"], ["1"])
        self.assertIsInstance(self.error_of("2", LockPlan(add={INSTANCE: frozenset({"new"})})), LockError)
        holding.close()
        self.assertEqual(self.tree.members(INSTANCE), {"web1", "web2"})
        self.assertEqual(self.tree.members(NODE_RES), {"n1", "n2"})

    def test_added_and_kept(self) -> None:
        """Locks of objects that exist now stay, free."""
        holding = self.hold("1", LockPlan(add={INSTANCE: frozenset({"new"})}))
        holding.keep_added(INSTANCE, ["new"])
        holding.close()
        self.assertEqual(self.row("instance/new")["owner"], None)

    def test_added_and_released(self) -> None:
        """Letting go early of an added lock deletes it unless it was kept."""
        holding = self.hold("1", LockPlan(add={INSTANCE: frozenset({"new1", "new2"})}))
        holding.keep_added(INSTANCE, ["new1"])
        holding.release(INSTANCE)
        self.assertEqual(self.tree.members(INSTANCE), {"new1", "web1", "web2"})

    def test_keep_what_was_not_added(self) -> None:
        """Keeping a lock that the plan did not add is a mistake without the cluster alone."""
        holding = self.hold("1", LockPlan.NOTHING)
        self.assertRaises(ProgrammerError, holding.keep_added, INSTANCE, ["new"])

    def test_forget(self) -> None:
        """The lock of a removed object dies with its owner; who waits for it gets the error."""
        holding = self.hold("1", LockPlan(requests={INSTANCE: exclusive(["web1"])}))
        waiting = Driven(
            Holding(self.tree, owner="2", priority=0).acquire(LockPlan(requests={INSTANCE: shared(["web1"])}))
        )
        holding.forget(INSTANCE, ["web1"])
        self.assertFalse(waiting.is_over)
        holding.close()
        self.assertIsInstance(waiting.error, LockError)
        self.assertEqual((self.tree.members(INSTANCE), self.held_names()), ({"web2"}, []))

    def test_forget_what_is_not_held(self) -> None:
        """Forgetting needs the lock exclusively; so does going on to share it afterwards not work."""
        holding = self.hold("1", LockPlan(requests={INSTANCE: shared(["web1"])}))
        self.assertRaises(ProgrammerError, holding.forget, INSTANCE, ["web1"])
        self.assertRaises(ProgrammerError, holding.forget, INSTANCE, ["web2"])
        other = self.hold("2", LockPlan(requests={INSTANCE: exclusive(["web2"])}))
        other.forget(INSTANCE, ["web2"])
        self.assertRaises(ProgrammerError, other.downgrade, INSTANCE)

    def test_rename(self) -> None:
        """A rename holds both names and leaves the new one."""
        plan = LockPlan(requests={INSTANCE: exclusive(["web1"])}, add={INSTANCE: frozenset({"web9"})})
        holding = self.hold("1", plan)
        holding.keep_added(INSTANCE, ["web9"])
        holding.forget(INSTANCE, ["web1"])
        holding.close()
        self.assertEqual((self.tree.members(INSTANCE), self.held_names()), ({"web2", "web9"}, []))

    def test_with_the_cluster_alone(self) -> None:
        """Adding and removing nodes under the exclusive BGL needs no other lock."""
        holding = self.hold("1", LockPlan(exclusive_cluster=True))
        holding.keep_added(NODE, ["n3"])
        holding.forget(NODE, ["n1"])
        holding.close()
        self.assertEqual(self.tree.members(NODE), {"n2", "n3"})
        self.assertEqual(self.tree.members(NODE_RES), {"n2", "n3"})
        self.assertEqual(self.held_names(), [])


class HoldingTests(TreeCase):
    """Letting go early."""

    def test_release_and_downgrade(self) -> None:
        """Some names, a whole level, the mode of a level."""
        plan = LockPlan(requests={NODE: all_of_level(LockMode.EXCLUSIVE), NODE_RES: exclusive(["n1"])})
        holding = self.hold("1", plan)
        holding.release(NODE, ["n1"])
        holding.downgrade(NODE)
        self.assertEqual(self.row("node/n2")["mode"], "shared")
        holding.release(NODE_RES)
        self.assertEqual(self.held_names(), ["cluster/BGL", "node/n2"])

    def test_bgl_goes_last(self) -> None:
        """The BGL may be downgraded at any time, and let go only when nothing else is held."""
        plan = LockPlan(exclusive_cluster=True, requests={INSTANCE: exclusive(["web1"])})
        holding = self.hold("1", plan)
        self.assertRaises(ProgrammerError, holding.release, LockLevel.CLUSTER)
        holding.downgrade(LockLevel.CLUSTER)
        self.hold("2", LockPlan.NOTHING)
        holding.release(INSTANCE)
        holding.release(LockLevel.CLUSTER)
        self.assertEqual(self.row("cluster/BGL")["owner"], ["2"])

    def test_close_twice(self) -> None:
        """Closing again does nothing."""
        holding = self.hold("1", LockPlan(requests={INSTANCE: exclusive(["web1"])}))
        holding.close()
        holding.close()
        self.assertEqual(self.held_names(), [])

    def test_rows(self) -> None:
        """Rows are nice-sorted, free locks and those of whole levels among them."""
        self.tree.add(INSTANCE, ["web10"])
        names = [row["name"] for row in self.tree.rows()]
        self.assertEqual(
            names,
            [
                "cluster/BGL",
                "instance/[lockset]",
                "instance/web1",
                "instance/web2",
                "instance/web10",
                "network/[lockset]",
                "node-res/[lockset]",
                "node-res/n1",
                "node-res/n2",
                "node/[lockset]",
                "node/n1",
                "node/n2",
                "nodegroup/[lockset]",
                "nodegroup/g",
            ],
        )
        self.assertEqual(
            self.tree.rows()[1], {"name": names[1], "mode": None, "owner": None, "pending": None}
        )


NAMES = "abc"
REQUESTS = st.builds(
    LockRequest,
    names=st.none() | st.frozensets(st.sampled_from(NAMES), min_size=1),
    mode=st.sampled_from(LockMode),
    opportunistic=st.booleans(),
)
PLANS = st.builds(
    LockPlan,
    requests=st.dictionaries(st.sampled_from((INSTANCE, NODEGROUP, NODE)), REQUESTS, max_size=3),
    add=st.dictionaries(
        st.sampled_from((INSTANCE, NODE)), st.frozensets(st.sampled_from("cd"), min_size=1), max_size=2
    ),
    exclusive_cluster=st.integers(0, 5).map(lambda number: not number),
)


class TreeMachine(RuleBasedStateMachine):
    """Jobs that acquire any plans, and end, give up, downgrade, keep and forget at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = LockTree(raise_it)
        for level in MEMBER_LEVELS:
            if level is not NODE_RES:
                self.tree.add(level, NAMES)
        self.number = 0
        self.jobs: dict[str, tuple[Holding, Driven[None], LockPlan]] = {}

    @rule(plan=PLANS, priority=st.integers(-1, 1))
    def acquire(self, plan: LockPlan, priority: int) -> None:
        """A job comes with a plan; it may ask for what does not exist."""
        self.number += 1
        holding = Holding(self.tree, owner=str(self.number), priority=priority)
        driven = Driven(holding.acquire(plan))
        self.jobs[holding.owner] = (holding, driven, plan)

    @precondition(lambda self: self.jobs)
    @rule(pick=st.integers(0, 100), fate=st.sampled_from(["keep", "forget", "downgrade", "none"]))
    def end(self, pick: int, fate: str) -> None:
        """A job ends: one that waits by giving up."""
        owner = list(self.jobs)[pick % len(self.jobs)]
        holding, driven, plan = self.jobs.pop(owner)
        if not driven.is_over:
            driven.give_up()
        elif driven.error is None:
            self.use(holding, plan, fate)
            holding.close()
        self.forget_failed()

    @precondition(lambda self: self.jobs)
    @rule(pick=st.integers(0, 100), priority=st.integers(-1, 1))
    def change_priority(self, pick: int, priority: int) -> None:
        """A job gets another priority."""
        owner = list(self.jobs)[pick % len(self.jobs)]
        waits = not self.jobs[owner][1].is_over
        assert self.tree.change_priority(owner, priority) is waits
        self.forget_failed()

    def use(self, holding: Holding, plan: LockPlan, fate: str) -> None:
        """What an operation does with its locks before it ends."""
        if fate == "keep":
            for level, names in plan.add.items():
                holding.keep_added(level, names)
        elif fate == "forget" and INSTANCE in plan.requests:
            if plan.requests[INSTANCE].mode is LockMode.EXCLUSIVE:
                holding.forget(INSTANCE, holding.names(INSTANCE))
        elif fate == "downgrade" and INSTANCE in plan.requests and not plan.add:
            holding.downgrade(INSTANCE)

    def forget_failed(self) -> None:
        """Jobs whose objects went while they waited are over."""
        failed = [owner for owner, (_, driven, _) in self.jobs.items() if driven.error is not None]
        for owner in failed:
            assert isinstance(self.jobs.pop(owner)[1].error, LockError)

    @invariant()
    def locks_and_jobs_agree(self) -> None:
        """Exclusive owners are alone, and locks belong to jobs that are there."""
        self.forget_failed()
        for row in self.tree.rows():
            owners = row["owner"] or []
            assert row["mode"] != "exclusive" or len(owners) == 1
            assert set(owners) <= set(self.jobs)
            assert owners or not row["pending"]
        assert self.tree.members(NODE) == self.tree.members(NODE_RES)

    @invariant()
    def who_is_granted_holds_the_plan(self) -> None:
        """A plan that was granted is held completely."""
        for holding, driven, plan in self.jobs.values():
            if driven.is_over:
                for level, wanted in plan.requests.items():
                    if wanted.names is not None and not wanted.opportunistic:
                        assert wanted.names <= holding.names(level)

    def teardown(self) -> None:
        """When those who hold end one after the other everybody gets a turn: there is no deadlock."""
        self.forget_failed()
        while self.jobs:
            ready = [owner for owner, (_, driven, _) in self.jobs.items() if driven.is_over]
            assert ready, "everybody waits for somebody"
            self.jobs.pop(ready[0])[0].close()
            self.forget_failed()
        assert not any(row["owner"] or row["pending"] for row in self.tree.rows())


class TreeMachineTests(SynchronousTestCase):
    """Runs the machine."""

    def test_any_mixture_of_plans(self) -> None:
        """S2.3-118: whatever plans meet, owners exclude each other, and all come to an end."""
        run_state_machine_as_test(
            TreeMachine, settings=settings(max_examples=150, stateful_step_count=30, deadline=None)
        )

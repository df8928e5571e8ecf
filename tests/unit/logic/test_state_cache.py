"""Tests of the cluster state cache: what gets in, what goes, and that nothing wrong is ever given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.state_cache import StateCache, agree, is_less
from ganeti.model.calls.disks import StorageSpace
from ganeti.model.calls.instances import RunningInstance, RunState
from ganeti.model.calls.report import KnownReport
from ganeti.model.calls.system import NodeCapacity, NodeInfoResult
from ganeti.model.capacity import CapacityParams, CapacitySettings, GroupCapacity
from ganeti.model.cluster import Cluster
from ganeti.model.delta import stamp
from ganeti.model.ids import GroupId, InstanceId, NodeId
from ganeti.testing.clusters import (
    changed_instance,
    cluster,
    group_id,
    instance_id,
    node_id,
    with_instance,
    with_node,
    with_settings,
)

NOW = 1_800_000_000.0
CLUSTER = cluster(nodes=4, groups=2, instances=2)
"""Nodes 1 and 3 with inst1 in group 1, 2 and 4 with inst2 in group 2."""
PARAMETERS = CapacityParams(
    max_inst_spec=(4096, 102400, 4), default_template="drbd", max_cpu_ratio=4.0, max_disk_usage=1.0
)


def info(
    *, free: int = 4096, total: int = 8192, cpus: int = 8, disk: int = 100_000, size: int = 200_000
) -> NodeInfoResult:
    """What a node says."""
    return NodeInfoResult(
        boot_id="b",
        storage=(StorageSpace(type="lvm-vg", name="xenvg", storage_free=disk, storage_size=size),),
        hypervisors={
            "fake": NodeCapacity(memory_total=total, memory_free=free, memory_dom0=512, cpu_total=cpus)
        },
    )


def state(at: float = NOW, *running: RunningInstance, **figures: int) -> KnownReport:
    """A full answer."""
    return KnownReport(info=info(**figures), running={one.name: one for one in running}, at=at)


class CacheCase(SynchronousTestCase):
    """A cache that knows all four nodes and the capacity of both groups."""

    def setUp(self) -> None:
        """Everything was learned now."""
        self.cache = StateCache()
        for number in (1, 2, 3, 4):
            self.learn(number)
        for number in (1, 2):
            self.compute(number)

    def learn(self, number: int, at: float = NOW, ticket: int | None = None, **figures: int) -> None:
        """A node answers."""
        ticket = self.cache.ticket() if ticket is None else ticket
        self.cache.learned(CLUSTER, node_id(number), state(at, **figures), ticket)

    def compute(self, group: int, ticket: int | None = None) -> None:
        """The capacity of a group is computed."""
        found = GroupCapacity(params=PARAMETERS, tspecs=((1, 1, 1, group),), ctime=NOW)
        self.cache.computed(group_id(group), found, self.cache.ticket() if ticket is None else ticket)

    def known(self, now: float = NOW) -> tuple[set[int], set[int]]:
        """Numbers of nodes and groups of which something counts."""
        nodes = {number for number in range(1, 6) if self.cache.node(node_id(number), now=now) is not None}
        groups = {
            number
            for number in range(1, 4)
            if self.cache.capacity(group_id(number), PARAMETERS, now=now) is not None
        }
        return nodes, groups


class LearnTests(CacheCase):
    """Full and partial answers."""

    def test_cold(self) -> None:
        """A new cache knows nothing (S2.3-040, S2.3-041)."""
        self.cache = StateCache()
        self.assertEqual(self.known(), (set(), set()))
        self.assertEqual(list(self.cache.rows(now=NOW)), [])

    def test_by_group(self) -> None:
        """Nodes are kept by group (S2.3-042)."""
        self.assertEqual(set(self.cache.nodes(group_id(1), now=NOW)), {node_id(1), node_id(3)})
        self.assertEqual(dict(self.cache.nodes(GroupId("none"), now=NOW)), {})

    def test_lifetime(self) -> None:
        """Everything lives an hour; a clock that was set back gives it no more (S2.3-052)."""
        self.assertEqual(self.known(NOW + 3599), ({1, 2, 3, 4}, {1, 2}))
        self.assertEqual(self.known(NOW + 3601), (set(), set()))
        self.assertEqual(self.known(NOW - 10), (set(), set()))

    def test_capacity_follows_specs(self) -> None:
        """Less than before takes the capacity of the group away, more does not (S2.3-047)."""
        cases: tuple[tuple[dict[str, int], bool], ...] = (
            ({}, True),
            ({"free": 4096 - 64}, True),
            ({"free": 4096 - 65}, False),
            ({"free": 6000}, True),
            ({"total": 8191}, False),
            ({"total": 9000, "cpus": 16, "disk": 150_000, "size": 300_000}, True),
            ({"cpus": 7}, False),
            ({"disk": 99_999}, False),
            ({"size": 199_999}, False),
        )
        for figures, stays in cases:
            with self.subTest(figures=figures):
                self.setUp()
                self.learn(1, **figures)
                self.assertEqual(self.known(), ({1, 2, 3, 4}, {1, 2} if stays else {2}))

    def test_small_losses_add_up(self) -> None:
        """Memory that is lost bit by bit is less in the end; what counts is what the capacity was made of."""
        for step in range(1, 4):
            self.learn(1, free=4096 - 30 * step)
            self.assertEqual(1 in self.known()[1], step < 3)
        self.compute(1)
        self.learn(1, free=4096 - 100)
        self.assertIn(1, self.known()[1])

    def test_partial_that_agrees(self) -> None:
        """A partial answer that says the same changes nothing, also where it is newer (S2.3-045)."""
        part = msgspec.structs.replace(info(free=4100), storage=())
        self.assertTrue(self.cache.seen(node_id(1), part))
        self.assertEqual(self.known(), ({1, 2, 3, 4}, {1, 2}))
        self.assertEqual(self.cache.node(node_id(1), now=NOW), state())

    def test_partial_that_differs(self) -> None:
        """One that does not takes the whole state of the node and the group's capacity (S2.3-048)."""
        for part in (
            msgspec.structs.replace(info(free=1000), storage=()),
            msgspec.structs.replace(info(disk=1), hypervisors={}),
            msgspec.structs.replace(info(), hypervisors={}, storage=(), boot_id="after a crash"),
        ):
            with self.subTest(part=part):
                self.setUp()
                self.assertFalse(self.cache.seen(node_id(1), part))
                self.assertEqual(self.known(), ({2, 3, 4}, {2}))

    def test_partial_of_instances(self) -> None:
        """An instance that runs otherwise than known takes the state of its node; its time does not count."""
        one = RunningInstance(name="a", memory=128, vcpus=1, time=1.0)
        self.cache.learned(CLUSTER, node_id(1), state(NOW, one), self.cache.ticket())
        later = msgspec.structs.replace(one, time=99.0)
        self.assertTrue(self.cache.seen(node_id(1), running={"a": later}))
        stopped = msgspec.structs.replace(one, state=RunState.PAUSED)
        self.assertFalse(self.cache.seen(node_id(1), running={"a": stopped}))
        self.assertEqual(self.known()[0], {2, 3, 4})

    def test_partial_of_the_unknown(self) -> None:
        """Of a node of which nothing is known a partial answer says nothing."""
        self.assertTrue(self.cache.seen(NodeId("nobody"), info()))

    def test_unknown_node(self) -> None:
        """The answer of a node that has left the cluster is dropped."""
        self.learn(5)
        self.assertEqual(self.known()[0], {1, 2, 3, 4})

    def test_late_answers(self) -> None:
        """What was asked for before something was dropped does not come back with the answer."""
        drops: tuple[Callable[[], None], ...] = (
            lambda: self.cache.drop_nodes([node_id(1)]),
            lambda: self.cache.drop_instances(CLUSTER, [instance_id(1)]),
            lambda: self.cache.drop_group(group_id(1)),
            lambda: self.cache.drop_all(),
        )
        for drop in drops:
            self.setUp()
            ticket = self.cache.ticket()
            drop()
            self.learn(1, ticket=ticket)
            self.compute(1, ticket=ticket)
            self.assertNotIn(1, self.known()[0])
            self.assertNotIn(1, self.known()[1])
            self.learn(1)
            self.compute(1)
            self.assertIn(1, self.known()[0])
            self.assertIn(1, self.known()[1])

    def test_other_parameters(self) -> None:
        """Capacity that was computed with other parameters is forgotten (S2.3-083)."""
        others = msgspec.structs.replace(PARAMETERS, max_cpu_ratio=2.0)
        self.assertIsNone(self.cache.capacity(group_id(1), others, now=NOW))
        self.assertEqual(self.known()[1], {2})

    def test_rows(self) -> None:
        """Everything that counts, with its age."""
        rows = list(self.cache.rows(now=NOW + 60))
        self.assertEqual(len(rows), 6)
        self.assertIn((group_id(1), node_id(3), 60.0), rows)
        self.assertIn((group_id(2), None, 60.0), rows)


class DropTests(CacheCase):
    """The matrix of SX-004: what goes when something changes."""

    def changed(self, new: Cluster) -> tuple[set[int], set[int]]:
        """What counts after a change of the configuration."""
        after, delta = stamp(CLUSTER, new, now=NOW)
        assert delta is not None
        self.cache.config_changed(CLUSTER, after, delta)
        return self.known()

    def test_matrix(self) -> None:
        """Of each change the nodes and the groups of which something still counts."""
        everything = ({1, 2, 3, 4}, {1, 2})
        cases: Mapping[str, tuple[Callable[[], object], tuple[set[int], set[int]]]] = {
            "a node": (lambda: self.cache.drop_nodes([node_id(3)]), ({1, 2, 4}, {2})),
            "nodes of both groups": (
                lambda: self.cache.drop_nodes([node_id(1), node_id(2)]),
                ({3, 4}, set()),
            ),
            "an instance": (lambda: self.cache.drop_instances(CLUSTER, [instance_id(2)]), ({1, 3, 4}, {1})),
            "an instance that is gone": (
                lambda: self.cache.drop_instances(CLUSTER, [InstanceId("gone")]),
                everything,
            ),
            "a group": (lambda: self.cache.drop_group(group_id(1)), ({2, 4}, {2})),
            "everything": (lambda: self.cache.drop_all(), (set(), set())),
        }
        for what, (drop, expected) in cases.items():
            with self.subTest(what=what):
                self.setUp()
                drop()
                self.assertEqual(self.known(), expected)

    def test_configuration(self) -> None:
        """The same for changes of the configuration."""
        everything = ({1, 2, 3, 4}, {1, 2})
        smaller = msgspec.structs.replace(CLUSTER, instances=CLUSTER.instances.without(instance_id(1)))
        group = CLUSTER.groups[group_id(2)]

        def with_group(**changes: Any) -> Cluster:
            new = msgspec.structs.replace(group, **changes)
            return msgspec.structs.replace(CLUSTER, groups=CLUSTER.groups.with_item(group.uuid, new))

        cases: Mapping[str, tuple[Cluster, tuple[set[int], set[int]]]] = {
            "instance added": (with_instance(CLUSTER, "inst5.example.com"), ({1, 2, 3, 4}, {2})),
            "instance removed": (smaller, ({1, 2, 3, 4}, {2})),
            "instance modified": (
                changed_instance(CLUSTER, "inst2.example.com", beparams={"maxmem": 64, "minmem": 64}),
                ({1, 2, 3, 4}, {1}),
            ),
            "group of a node": (with_node(CLUSTER, "node1", group=group_id(2)), ({2, 3, 4}, set())),
            "node offline": (with_node(CLUSTER, "node4", offline=True), ({1, 2, 3}, {1})),
            "node drained": (with_node(CLUSTER, "node4", drained=True), ({1, 2, 3}, {1})),
            "tags of a node": (with_node(CLUSTER, "node4", tags=("a",)), everything),
            "policy of a group": (with_group(ipolicy={"vcpu-ratio": 2.0}), ({1, 2, 3, 4}, {1})),
            "name of a group": (with_group(name="rack"), everything),
            "capacity parameters of a group": (
                with_group(capacity_params=CapacitySettings(max_cpu_ratio=2.0)),
                ({1, 2, 3, 4}, {1}),
            ),
            "capacity parameters of the cluster": (
                with_settings(CLUSTER, capacity_params=CapacitySettings(max_cpu_ratio=2.0)),
                ({1, 2, 3, 4}, set()),
            ),
            "policy of the cluster": (
                with_settings(
                    CLUSTER, ipolicy=msgspec.structs.replace(CLUSTER.settings.ipolicy, vcpu_ratio=2.0)
                ),
                ({1, 2, 3, 4}, set()),
            ),
            "tags of the cluster": (with_settings(CLUSTER, tags=("a",)), everything),
        }
        for what, (new, expected) in cases.items():
            with self.subTest(what=what):
                self.setUp()
                self.assertEqual(self.changed(new), expected)

    def test_moved_node(self) -> None:
        """A node that changed its group is learned anew, in the new group."""
        new = with_node(CLUSTER, "node1", group=group_id(2))
        self.changed(new)
        self.cache.learned(new, node_id(1), state(), self.cache.ticket())
        self.assertIn(node_id(1), self.cache.nodes(group_id(2), now=NOW))
        self.assertNotIn(node_id(1), self.cache.nodes(group_id(1), now=NOW))


class CompareTests(SynchronousTestCase):
    """Answers against each other."""

    def test_missing_parts(self) -> None:
        """A storage unit or hypervisor that is gone is less; one that is new is not."""
        bare = msgspec.structs.replace(info(), storage=(), hypervisors={})
        self.assertTrue(is_less(bare, info()))
        self.assertFalse(is_less(info(), bare))
        self.assertFalse(agree(info(), bare))
        self.assertTrue(agree(bare, info()))


class CacheMachine(RuleBasedStateMachine):
    """Against a list of what happened: the cache gives what was learned last, and nothing dropped."""

    tickets: Bundle[tuple[int, int]] = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.cache = StateCache()
        self.now = NOW
        self.step = 0
        self.learned_at: dict[int, tuple[int, float]] = {}
        """Of each node: when in the order of things it was asked, and at what time."""
        self.dropped_at: dict[int, int] = {}

    @rule(target=tickets)
    def ask(self) -> tuple[int, int]:
        """Somebody asks nodes; the answers may come any time later."""
        self.step += 1
        return self.cache.ticket(), self.step

    @rule(ticket=consumes(tickets), number=st.integers(1, 4))
    def answer(self, ticket: tuple[int, int], number: int) -> None:
        """A node answers."""
        self.cache.learned(CLUSTER, node_id(number), state(self.now), ticket[0])
        if ticket[1] > self.dropped_at.get(number, -1):
            self.learned_at[number] = (ticket[1], self.now)

    @rule(numbers=st.sets(st.integers(1, 4)))
    def drop(self, numbers: set[int]) -> None:
        """The states of some nodes are dropped."""
        self.cache.drop_nodes([node_id(number) for number in numbers])
        self._dropped(numbers)

    @rule(number=st.integers(1, 2))
    def drop_group(self, number: int) -> None:
        """A group is dropped."""
        self.cache.drop_group(group_id(number))
        self._dropped({number, number + 2})

    @rule()
    def drop_all(self) -> None:
        """Everything is dropped."""
        self.cache.drop_all()
        self._dropped({1, 2, 3, 4})

    @rule(seconds=st.sampled_from([1.0, 1800.0, 3600.0]))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds

    def _dropped(self, numbers: set[int]) -> None:
        self.step += 1
        for number in numbers:
            self.dropped_at[number] = self.step
            self.learned_at.pop(number, None)

    @invariant()
    def gives_what_was_learned(self) -> None:
        """No more and no less than in the list."""
        for number in range(1, 5):
            found = self.cache.node(node_id(number), now=self.now)
            learned = self.learned_at.get(number)
            if learned is None or self.now - learned[1] >= 3600.0:
                assert found is None, (number, found)
            else:
                assert found is not None and found.at == learned[1], (number, found, learned)


CacheMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestCacheMachine = CacheMachine.TestCase

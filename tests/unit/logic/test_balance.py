"""Plans for a more even group: every step is the best one, keeps the rules, and has the stated score."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.balance import NEGLIGIBLE, Balancing, Limits, Plan, balance, question_for
from ganeti.logic.balance_board import CHANGES_DISKS, Board, MoveKind, Piece, Restrictions, places_after
from ganeti.logic.balance_search import MoveSearch
from ganeti.logic.node_figures import backend_reader
from ganeti.logic.node_state import NodeState, demand_of_instance, node_states
from ganeti.logic.placement_tags import tag_rules
from ganeti.logic.redundancy import stranded_node
from ganeti.logic.score import cluster_score
from ganeti.model.allocation import ClusterView
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.instance import AdminState, Instance
from ganeti.testing.clusters import (
    changed_instance,
    cluster,
    group_id,
    node_id,
    with_instance,
    with_node,
    with_settings,
)
from ganeti.testing.placement_worlds import Machine, exclusive_case, placement_view, random_case

DEFAULT = group_id(1)
NOISE = 1e-7
"""Where all nodes are equal a spread is the root of a difference of nearly equal floats."""
SEEDS = st.integers(0, 10**6)


def world(seed: int) -> tuple[ClusterView, GroupId]:
    """A cluster of any kind, every other one with tags, and its first group."""
    view, _ = random_case(seed, "drbd", most_nodes=9, is_tagged=seed % 2 == 1)
    return msgspec.structs.replace(view, candidates=None), DEFAULT


def limits(seed: int) -> Limits:
    """Some limits or other."""
    rng = Random(seed)
    return Limits(
        max_moves=rng.choice((None, None, 0, 1, 4)),
        min_gain=rng.choice((0.0, 0.01, 0.5)),
        min_gain_limit=rng.choice((0.1, 3.0, 1000.0)),
        min_score=rng.choice((1e-9, 1e-9, 2.0)),
    )


def restrictions(view: ClusterView, seed: int) -> Restrictions:
    """Some restrictions or other."""
    rng = Random(seed)
    names = sorted(view.cluster.instances)
    some = frozenset(name for name in names if rng.random() < 0.5)
    return Restrictions(
        disk_moves=rng.random() < 0.8,
        instance_moves=rng.random() < 0.8,
        evacuate_only=rng.random() < 0.2,
        only=rng.choice((None, None, some)),
        without=rng.choice((frozenset(), some)),
    )


def any_limits(seed: int) -> tuple[ClusterView, Limits, Restrictions, Plan]:
    """A plan with some limits and restrictions."""
    view, group = world(seed)
    asked, allowed = limits(seed), restrictions(view, seed)
    return view, asked, allowed, balance(view, group, asked, allowed)


def all_moves(board: Board) -> Iterator[tuple[float, int, MoveKind, int | None]]:
    """Every move that the rules allow with the score after it: what the search must find the best of."""
    for number, piece in enumerate(board.pieces):
        for kind in piece.kinds:
            everywhere = [place for place, state in enumerate(board.states) if state.is_online]
            for target in [None] if kind is MoveKind.FAILOVER else everywhere:
                if target in piece.nodes:
                    continue
                changed = board.outcome(piece, kind, target)
                if changed is not None:
                    after = [changed.get(place, state) for place, state in enumerate(board.states)]
                    yield cluster_score(after), number, kind, target


def replayed(view: ClusterView, plan: Plan) -> ClusterView:
    """The cluster with a plan carried out: configuration changed, facts as the nodes would then report."""
    value = view.cluster
    for move in plan.moves:
        value = moved(value, value.instances[move.instance], move.after)
    return _with_facts(view, value)


def moved(value: Cluster, instance: Instance, nodes: tuple[NodeId, ...]) -> Cluster:
    """The cluster with an instance elsewhere."""
    disks = {disk.uuid: _on(disk, nodes) for disk in value.disks_of(instance)}
    value = msgspec.structs.replace(value, disks=value.disks.with_items(disks))
    return changed_instance(value, instance.name, primary_node=nodes[0])


def _on(disk: Disk, nodes: tuple[NodeId, ...]) -> Disk:
    """A disk with all its parts on other nodes."""
    children = tuple(_on(child, nodes) for child in disk.children)
    return msgspec.structs.replace(disk, nodes=nodes, children=children)


def _with_facts(view: ClusterView, value: Cluster) -> ClusterView:
    """Facts for a changed configuration: what is free moves with the instances."""
    before, after = (_used(cluster) for cluster in (view.cluster, value))
    facts = {}
    for node, told in view.facts.items():
        memory, disk = (was - now for was, now in zip(before[node], after[node]))
        facts[node] = msgspec.structs.replace(
            told,
            storage=tuple(
                msgspec.structs.replace(space, storage_free=(space.storage_free or 0) + disk)
                for space in told.storage
            ),
            hypervisors={
                name: msgspec.structs.replace(capacity, memory_free=capacity.memory_free + memory)
                for name, capacity in told.hypervisors.items()
            },
        )
    running = {
        node: {name: one for told in view.running.values() for name, one in told.items()} for node in facts
    }
    return ClusterView(cluster=value, facts=facts, running=running)


def _used(value: Cluster) -> dict[NodeId, tuple[int, int]]:
    """Memory of running instances and disk space, for each node."""
    backend, rules = backend_reader(value.settings), tag_rules(value)
    sums = {node: [0, 0] for node in value.nodes}
    for instance in value.instances.values():
        demand = demand_of_instance(instance, value, backend(instance), rules)
        sums[instance.primary_node][0] += demand.up_memory
        for node in value.nodes_of(instance) if demand.is_local else ():
            sums[node][1] += demand.disk
    return {node: (memory, disk) for node, (memory, disk) in sums.items()}


def states_of(view: ClusterView) -> dict[NodeId, NodeState]:
    """The nodes of a view."""
    return {state.node: state for state in node_states(view, question_for(view.cluster))}


class SearchTests(SynchronousTestCase):
    """The search finds what trying everything finds."""

    @settings(max_examples=60, deadline=None)
    @given(SEEDS)
    def test_best(self, seed: int) -> None:
        """At every step, whatever may be moved: no allowed move has a lower score."""
        self.compare(*world(seed), seed)

    @settings(max_examples=60, deadline=None)
    @given(SEEDS)
    def test_exclusive_storage(self, seed: int) -> None:
        """The same where disks have spindles for themselves."""
        view, _ = exclusive_case(seed, is_everywhere=True)
        self.compare(msgspec.structs.replace(view, candidates=None), DEFAULT, seed)

    def compare(self, view: ClusterView, group: GroupId, seed: int) -> None:
        """Up to four steps of a cluster."""
        board = Board(view, node_states(view, question_for(view.cluster)), group, restrictions(view, seed))
        for _ in range(4):
            tried = list(all_moves(board))
            found = MoveSearch(board).best(below=board.score.value)
            lowest = min((score for score, *_ in tried), default=board.score.value)
            if found is None:
                self.assertGreaterEqual(lowest, board.score.value - NOISE)
                return
            scores = {(number, kind, target): score for score, number, kind, target in tried}
            self.assertAlmostEqual(scores[found.number, found.kind, found.target], found.score, delta=NOISE)
            self.assertLessEqual(found.score, lowest + NOISE)
            board.move(found.number, found.kind, found.target)

    def test_ties(self) -> None:
        """Of equal moves the one of the first instance to the first node is made."""
        value = cluster(nodes=4, enabled_hypervisors=("kvm",))
        for name in ("b", "a"):
            value = with_instance(value, name, primary="node1", template="sharedfile", hypervisor="kvm")
        plan = balance(placement_view(value), DEFAULT, Limits(max_moves=1), Restrictions())
        self.assertEqual(plan.moves[0].instance, value.instance("a").uuid)
        self.assertEqual(plan.moves[0].after, (node_id(2),))


class PlanTests(SynchronousTestCase):
    """What every plan keeps."""

    @settings(max_examples=60, deadline=None)
    @given(SEEDS)
    def test_scores(self, seed: int) -> None:
        """Each step lowers the score by its gain; carried out, the cluster has the stated score."""
        view, _, _, plan = any_limits(seed)
        score = plan.score_before
        for move in plan.moves:
            self.assertGreater(move.gain, 0)
            self.assertAlmostEqual(score - move.gain, move.score, delta=1e-12)
            score = move.score
        self.assertEqual(score, plan.score_after)
        self.assertTrue(not plan.moves or plan.moves[-1].gain >= NEGLIGIBLE)
        states = [state for state in states_of(replayed(view, plan)).values() if state.group == plan.group]
        self.assertAlmostEqual(cluster_score(states), plan.score_after, delta=1e-9)

    @settings(max_examples=60, deadline=None)
    @given(SEEDS)
    def test_limits(self, seed: int) -> None:
        """Number and gain of the moves, and when it is good enough."""
        _, asked, _, plan = any_limits(seed)
        if asked.max_moves is not None:
            self.assertLessEqual(len(plan.moves), asked.max_moves)
        for move in plan.moves:
            before = move.score + move.gain
            self.assertGreater(before, asked.min_score)
            if before <= asked.min_gain_limit:
                self.assertGreaterEqual(move.gain, asked.min_gain - 1e-8)

    @settings(max_examples=60, deadline=None)
    @given(SEEDS)
    def test_restrictions(self, seed: int) -> None:
        """Nothing is moved that should not be, nor in a way that was ruled out."""
        view, _, allowed, plan = any_limits(seed)
        usable = {node.uuid for node in view.cluster.nodes.values() if node.may_get_instances}
        for move in plan.moves:
            instance = view.cluster.instances[move.instance]
            self.assertTrue(allowed.allow(instance))
            self.assertTrue(allowed.disk_moves or move.kind not in CHANGES_DISKS)
            self.assertTrue(allowed.instance_moves or move.before[0] == move.after[0])
            self.assertFalse(allowed.evacuate_only and usable.issuperset(move.before))
            self.assertNotIn(view.cluster.disk_template(instance), ("plain", "file"))

    @settings(max_examples=60, deadline=None)
    @given(SEEDS)
    def test_cut(self, seed: int) -> None:
        """A plan may be cut anywhere and made again from there: the end is the same (as stable as hbal)."""
        view, group = world(seed)
        whole = balance(view, group, Limits(max_moves=6), Restrictions())
        first = balance(view, group, Limits(max_moves=3), Restrictions())
        self.assertEqual(whole.moves[: len(first.moves)], first.moves)

    @settings(max_examples=60, deadline=None)
    @given(SEEDS)
    @example(seed=722).via("an instance leaves a drained node although others could not be restarted then")
    def test_rules(self, seed: int) -> None:
        """No node breaks a rule after the plan that it kept before; unusable ones get nothing new."""
        view, group = world(seed)
        plan = balance(view, group, Limits(), Restrictions())
        before, after = states_of(view), states_of(replayed(view, plan))
        usable = {node for node, state in before.items() if state.is_online}
        for move in plan.moves:
            self.assertLessEqual(set(move.after) - set(move.before), usable)
            self.assertEqual({before[node].group for node in move.after}, {group})
        if any(not usable.issuperset(move.before) for move in plan.moves):
            # Away from unusable nodes soft rules may be broken; only what a node has counts then.
            for node in usable:
                self.assertGreater(after[node].unallocated, min(0, before[node].unallocated - 1))
                self.assertGreater(after[node].free_disk, min(0, before[node].free_disk - 1))
            return
        for node in usable:
            self.assertLessEqual(set(broken(after[node])), set(broken(before[node])), before[node].name)
        groups = [
            [one for one in states.values() if one.is_online and one.group == group]
            for states in (before, after)
        ]
        self.assertTrue(stranded_node(groups[0]) or not stranded_node(groups[1]))


def broken(state: NodeState) -> Iterator[str]:
    """Rules that a node breaks."""
    if state.fails_n1:
        yield "redundancy"
    if state.used_cpus / state.total_cpus > state.vcpu_ratio:
        yield "processors"
    if not state.has_exclusive_storage and state.spindles > state.spindle_limit:
        yield "spindles"
    if state.unallocated <= 0:
        yield "memory"
    if state.free_disk <= 0:
        yield "disk"
    if state.tag_conflicts:
        yield "tags"


class CaseTests(SynchronousTestCase):
    """Small cases whose answer is known."""

    def plan(self, value: Cluster, **changes: object) -> Plan:
        """The plan for a cluster of equal nodes."""
        return balance(placement_view(value), DEFAULT, Limits(), Restrictions(**changes))  # type: ignore[arg-type]

    def value(self, *places: str, nodes: int = 4, template: str = "drbd", **options: object) -> Cluster:
        """A cluster with instances on these nodes: `12` is primary node1, secondary node2."""
        value = cluster(nodes=nodes, enabled_hypervisors=("kvm",))
        for number, place in enumerate(places):
            value = with_instance(
                value,
                f"i{number}",
                primary=f"node{place[0]}",
                secondary=f"node{place[1]}" if template == "drbd" else None,
                template=template,
                memory=4096,
                hypervisor="kvm",
                **options,
            )
        return value

    def test_nothing(self) -> None:
        """Even groups are left alone, as are empty ones."""
        for value in (self.value(), self.value("12", "21", nodes=2)):
            plan = self.plan(value)
            self.assertEqual((plan.moves, plan.score_before), ((), plan.score_after))

    def test_failover(self) -> None:
        """Two nodes and no third: one instance changes sides."""
        plan = self.plan(self.value("12", "12", nodes=2))
        self.assertEqual([move.kind for move in plan.moves], [MoveKind.FAILOVER])

    def test_shared(self) -> None:
        """Instances on shared storage spread over the nodes."""
        plan = self.plan(self.value("1", "1", "1", "1", template="sharedfile"))
        self.assertEqual({move.after[0] for move in plan.moves}, {node_id(2), node_id(3), node_id(4)})

    def test_plain(self) -> None:
        """What is on one node only stays."""
        self.assertEqual(self.plan(self.value("1", "1", "1", template="plain")).moves, ())

    def test_no_disk_moves(self) -> None:
        """Without copying disks only primary and secondary change places, and shared storage moves."""
        plan = self.plan(self.value("12", "12", "12", "12"), disk_moves=False)
        self.assertEqual({move.kind for move in plan.moves}, {MoveKind.FAILOVER})
        plan = self.plan(self.value("1", "1", template="sharedfile"), disk_moves=False)
        self.assertEqual({move.kind for move in plan.moves}, {MoveKind.RELOCATE})

    def test_unbalanced_instances(self) -> None:
        """Instances for which nothing is kept free (`auto_balance` off) are not moved."""
        value = self.value("1", "1", "1", template="sharedfile")
        for instance in tuple(value.instances.values()):
            beparams = {**instance.beparams, "auto_balance": False}
            value = changed_instance(value, instance.name, beparams=beparams)
        self.assertEqual(self.plan(value).moves, ())

    def test_drained(self) -> None:
        """A drained node is emptied, and gets nothing."""
        value = with_node(self.value("12", "21", "13", "34"), "node1.example.com", drained=True)
        plan = self.plan(value, evacuate_only=True)
        where = {move.instance: move.after for move in plan.moves}
        self.assertEqual(len(where), 3)
        self.assertNotIn(node_id(1), [node for nodes in where.values() for node in nodes])

    def test_down(self) -> None:
        """From a node that is down nothing is copied: instances fail over first."""
        value = with_node(self.value("12", "13"), "node1.example.com", offline=True, master_candidate=False)
        plan = self.plan(value)
        self.assertEqual(len(plan.moves), 2)
        for move in plan.moves:
            self.assertIn(move.kind, (MoveKind.FAILOVER_AND_REPLACE, MoveKind.REPLACE_PRIMARY))

    def test_all_nodes_down(self) -> None:
        """Where no node can be used nothing is moved."""
        value = self.value("12", nodes=2)
        for name in ("node1.example.com", "node2.example.com"):
            value = with_node(value, name, drained=True)
        self.assertEqual(self.plan(value).moves, ())

    def test_silent(self) -> None:
        """From and to a node that should answer but does not nothing is moved."""
        value = self.value("1", "1", "2", "2", "2", template="sharedfile")
        view = placement_view(value, without_facts=frozenset({node_id(1)}))
        plan = balance(view, DEFAULT, Limits(), Restrictions())
        self.assertNotEqual(plan.moves, ())
        for move in plan.moves:
            self.assertNotIn(node_id(1), (*move.before, *move.after))

    def test_other_group(self) -> None:
        """Each group is a world of its own."""
        value = cluster(nodes=4, groups=2, enabled_hypervisors=("kvm",))
        for number in range(4):
            value = with_instance(
                value, f"i{number}", primary="node1", template="sharedfile", hypervisor="kvm"
            )
        plan = balance(placement_view(value), DEFAULT, Limits(), Restrictions())
        self.assertEqual({move.after for move in plan.moves}, {(node_id(3),)})

    def test_exclusive_tags(self) -> None:
        """Two instances with the same exclusive tag part, and never come together."""
        value = with_settings(self.value(template="sharedfile"), tags=("htools:iextags:svc",))
        for name in ("a", "b", "c"):
            value = with_instance(
                value, name, primary="node1", template="sharedfile", tags=("svc:web",), hypervisor="kvm"
            )
        places = {one.primary_node for one in replayed_cluster(value, self.plan(value)).instances.values()}
        self.assertEqual(len(places), 3)

    def test_migration_tags(self) -> None:
        """Instances leave a node only for those that take what comes from there, also on the way."""
        value = with_settings(self.value("12", "12", "12", "12"), tags=("htools:migration:cpu",))
        for number, tag in ((1, "cpu:new"), (2, "cpu:old"), (3, "cpu:new"), (4, "cpu:old")):
            value = with_node(value, f"node{number}.example.com", tags=(tag,))
        for move in self.plan(value).moves:
            self.assertIn(move.after[0], (node_id(1), node_id(3)))
            self.assertIn(move.kind, (MoveKind.REPLACE, MoveKind.REPLACE_AND_FAILOVER))

    def test_stopped(self) -> None:
        """Stopped instances are moved as well."""
        self.assertNotEqual(
            self.plan(self.value("1", "1", "1", template="sharedfile", admin_state=AdminState.DOWN)).moves, ()
        )

    def test_tight(self) -> None:
        """Where no memory is left nothing is moved there."""
        value = self.value("1", "1", template="sharedfile")
        small = {node_id(number): Machine(memory=4096) for number in (2, 3, 4)}
        plan = balance(placement_view(value, small), DEFAULT, Limits(), Restrictions())
        self.assertEqual(plan.moves, ())

    def test_step_by_step(self) -> None:
        """A plan that is made in steps is the same; when it is complete it stays so."""
        view = placement_view(self.value("12", "12", "12", "13"))
        balancing = Balancing(view, DEFAULT, Limits(), Restrictions())
        count = 0
        while balancing.next_move() is not None:
            count += 1
        self.assertIsNone(balancing.next_move())
        self.assertEqual(balancing.plan, balance(view, DEFAULT, Limits(), Restrictions()))
        self.assertGreaterEqual(count, len(balancing.plan.moves))

    def test_where_an_instance_goes(self) -> None:
        """The established moves: where primary and secondary are afterwards."""
        value = self.value("12")
        board = Board(
            placement_view(value),
            node_states(placement_view(value), question_for(value)),
            DEFAULT,
            Restrictions(),
        )
        (piece,) = board.pieces
        self.assertIsInstance(piece, Piece)
        found = {kind: places_after(piece, kind, 2) for kind in piece.kinds}
        self.assertEqual(
            found,
            {
                MoveKind.FAILOVER: (1, 0),
                MoveKind.REPLACE: (0, 2),
                MoveKind.REPLACE_AND_FAILOVER: (2, 0),
                MoveKind.FAILOVER_AND_REPLACE: (1, 2),
                MoveKind.REPLACE_PRIMARY: (2, 1),
            },
        )


def replayed_cluster(value: Cluster, plan: Plan) -> Cluster:
    """The configuration after a plan."""
    for move in plan.moves:
        value = moved(value, value.instances[move.instance], move.after)
    return value

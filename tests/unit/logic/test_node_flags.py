"""Roles of nodes: the matrix of requests, and the candidate pool."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

import ganeti
from ganeti.errors import ErrorCode, PrereqError
from ganeti.logic.node_flags import (
    FlagRequest,
    candidates,
    demotion_allowed,
    eligible,
    flag_problem,
    nodes_to_promote,
    plan_flags,
    pool_size_wanted,
    should_promote_itself,
)
from ganeti.model.cluster import Cluster
from ganeti.model.node import NodeRole
from ganeti.testing.clusters import cluster, node, node_id, with_node, with_settings
from ganeti.testing.sources import Source, sources

MODULES = [
    source
    for source in sources(Path(ganeti.__file__).parent, "ganeti")
    if not source.name.startswith(("ganeti.testing", "ganeti.plugins"))
]

FLAGS_OF = {
    "C": {"master_candidate": True},
    "R": {},
    "D": {"drained": True},
    "O": {"offline": True},
}
NONE_SET = {"master_candidate": False, "drained": False, "offline": False}

# Role before; request; role after (pool of 1, so that nobody promotes itself).
MATRIX = """
C  master_candidate=yes  C
C  master_candidate=no   R
C  drained=yes           D
C  drained=no            C
C  offline=yes           O
C  offline=no            C
C  master_capable=no     R
R  master_candidate=yes  C
R  master_candidate=no   R
R  drained=yes           D
R  drained=no            R
R  offline=yes           O
R  offline=no            R
R  master_capable=no     R
D  master_candidate=yes  C
D  master_candidate=no   D
D  drained=yes           D
D  drained=no            R
D  offline=yes           O
D  offline=no            D
O  master_candidate=yes  C
O  master_candidate=no   O
O  drained=yes           D
O  drained=no            O
O  offline=yes           O
O  offline=no            R
O  master_capable=no     O
"""


def with_role(role: str, *, pool: int = 1, nodes: int = 3) -> Cluster:
    """A cluster in which node2 has a role and the others are candidates."""
    value = with_settings(cluster(nodes=nodes), candidate_pool_size=pool)
    return with_node(value, "node2", **{**NONE_SET, **FLAGS_OF[role]})


def request(text: str) -> FlagRequest:
    """`drained=yes,auto_promote=yes`"""
    return FlagRequest(
        **{name: value == "yes" for name, value in (part.split("=") for part in text.split(","))}
    )


class TransitionTests(SynchronousTestCase):
    """One node, one request."""

    def plan(self, value: Cluster, text: str, name: str = "node2") -> str:
        """Letter of the role after a request."""
        change = plan_flags(value, value.node(name), request(text))
        self.assertIsNone(flag_problem(change.node))
        return change.new_role.value

    def refused(self, value: Cluster, text: str, name: str = "node2") -> PrereqError:
        """Why a request is refused."""
        error = self.assertRaises(PrereqError, plan_flags, value, value.node(name), request(text))
        assert isinstance(error, PrereqError)
        return error

    def test_matrix(self) -> None:
        """Every role with every request leads to the role of the table, with the flags of that role."""
        for line in MATRIX.strip().splitlines():
            before, text, after = line.split()
            value = with_role(before)
            change = plan_flags(value, value.node("node2"), request(text))
            self.assertEqual(change.new_role.value, after, line)
            expected = {**NONE_SET, **FLAGS_OF[after]}
            self.assertEqual({name: getattr(change.node, name) for name in NONE_SET}, expected, line)
            self.assertEqual(change.was_demoted, before == "C" and after != "C")
            self.assertEqual(change.was_promoted, before != "C" and after == "C")
            self.assertEqual(change.comes_online, before == "O" and after != "O")

    def test_self_promotion(self) -> None:
        """A node that comes back takes a free place in the pool; one that stays away does not."""
        for role, text in (("D", "drained=no"), ("O", "offline=no")):
            self.assertEqual(self.plan(with_role(role, pool=10), text), "C")
            self.assertEqual(self.plan(with_role(role, pool=2), text), "R")
        value = with_node(with_role("R", pool=10), "node2", master_capable=False)
        self.assertEqual(self.plan(value, "master_capable=yes"), "C")
        value = with_node(with_role("O", pool=10), "node2", master_capable=False)
        self.assertEqual(self.plan(value, "master_capable=yes"), "O")

    def test_two_at_once(self) -> None:
        """Two flags cannot be set with one request."""
        names = ("master_candidate", "drained", "offline", "master_capable", "vm_capable")
        for one, other in product(names, names):
            if one != other:
                self.assertEqual(self.refused(with_role("R"), f"{one}=yes,{other}=yes").code, ErrorCode.INPUT)

    def test_master(self) -> None:
        """The master keeps its role; other flags of it may change."""
        value = cluster()
        for text in ("offline=yes", "drained=yes", "master_candidate=no", "drained=no", "master_capable=no"):
            self.assertIn(
                "failover" if "capable" not in text else "fail", str(self.refused(value, text, "node1"))
            )
        change = plan_flags(value, value.node("node1"), request("vm_capable=no"))
        self.assertEqual(change.new_role, NodeRole.MASTER)
        self.assertTrue(change.node.master_candidate)

    def test_not_capable(self) -> None:
        """A node that is not master capable cannot become a candidate."""
        value = with_node(with_role("R"), "node2", master_capable=False)
        self.assertEqual(self.refused(value, "master_candidate=yes").code, ErrorCode.STATE)

    def test_instances(self) -> None:
        """A node with instances, primary or secondary, stays capable of them."""
        value = cluster(nodes=3, instances=("web",))
        error = self.refused(value, "vm_capable=no")
        self.assertEqual(error.code, ErrorCode.STATE)
        self.assertIn("web.example.com", str(error))
        self.assertFalse(plan_flags(value, value.node("node3"), request("vm_capable=no")).node.vm_capable)

    def test_pool(self) -> None:
        """A demotion that leaves a place which another could take needs auto_promote."""
        value = with_settings(cluster(nodes=4), candidate_pool_size=3)
        value = with_node(value, "node4", master_candidate=False)
        for text in ("offline=yes", "drained=yes", "master_candidate=no", "master_capable=no"):
            self.assertIn("auto-promote", str(self.refused(value, text)))
            self.plan(value, f"{text},auto_promote=yes")

    def test_notes(self) -> None:
        """Unsetting what is not set is ignored, and told."""
        value = with_role("R")
        change = plan_flags(value, value.node("node2"), request("drained=no"))
        self.assertEqual(change.notes, ("ignoring request to unset flag drained, already unset",))
        self.assertEqual(change.node, value.node("node2"))


class PoolTests(SynchronousTestCase):
    """The candidate pool."""

    def test_size(self) -> None:
        """As many as possible, at most the size; drained, offline and incapable nodes do not count."""
        value = with_settings(cluster(nodes=6), candidate_pool_size=4)
        self.assertEqual(pool_size_wanted(value), 4)
        value = with_node(value, "node2", drained=True, master_candidate=False)
        value = with_node(value, "node3", offline=True, master_candidate=False)
        value = with_node(value, "node4", master_capable=False, master_candidate=False)
        self.assertEqual(pool_size_wanted(value), 3)
        self.assertEqual(pool_size_wanted(value, [node_id(5)]), 2)

    def test_promotion(self) -> None:
        """Just as many nodes are chosen as are missing, among those that may be."""
        value = with_settings(cluster(nodes=5), candidate_pool_size=3)
        for number in (2, 3, 4, 5):
            value = with_node(value, f"node{number}", master_candidate=False)
        value = with_node(value, "node2", drained=True)
        chosen = nodes_to_promote(value, Random(1))
        self.assertEqual(len(chosen), 2)
        self.assertTrue(set(chosen) <= {node_id(3), node_id(4), node_id(5)})
        self.assertEqual(set(nodes_to_promote(value, Random(1), [node_id(3)])), {node_id(4), node_id(5)})
        self.assertEqual(nodes_to_promote(cluster(), Random(1)), ())

    def test_random(self) -> None:
        """Which ones is left to chance."""
        value = with_settings(cluster(nodes=9), candidate_pool_size=1)
        for number in range(2, 10):
            value = with_node(value, f"node{number}", master_candidate=False)
        value = with_settings(value, candidate_pool_size=2)
        self.assertGreater(len({nodes_to_promote(value, Random(seed)) for seed in range(40)}), 4)

    def test_one_place(self) -> None:
        """Candidates are chosen by functions of the whole cluster, its groups included, and nowhere else.

        So a minimum for each group has one place (S2.3-028).
        """
        deciding, promote = "ganeti.logic.node_flags", "ganeti.ops.node.common.promote"
        makers = {source.name for source in MODULES if _makes_candidates(source)}
        adding = {"ganeti.ops.node.common", "ganeti.vcluster.join"}
        self.assertEqual(makers, {deciding, "ganeti.daemons.bootstrap", *adding})
        for source in MODULES:
            imports = set(source.imports())
            if promote in imports or source.name == "ganeti.vcluster.join":
                self.assertIn(f"{deciding}.nodes_to_promote", imports, source)

    def test_new_node(self) -> None:
        """A new node joins a pool that has room."""
        for pool, expected in ((3, False), (4, True), (10, True)):
            value = with_settings(cluster(nodes=3), candidate_pool_size=pool)
            grown = value.nodes.with_item(node_id(4), node(4, master_candidate=False))
            self.assertEqual(
                should_promote_itself(_with_nodes(value, grown), node_id(4)), expected, f"pool of {pool}"
            )
        incapable = value.nodes.with_item(node_id(4), node(4, master_candidate=False, master_capable=False))
        self.assertFalse(should_promote_itself(_with_nodes(value, incapable), node_id(4)))

    @given(st.lists(st.sampled_from("CRDO"), min_size=1, max_size=6), st.integers(1, 7), st.integers(0, 5))
    def test_filled(self, roles: list[str], pool: int, seed: int) -> None:
        """Promoting those chosen fills the pool; then demotions are allowed as they should be."""
        value = with_settings(cluster(nodes=len(roles) + 1), candidate_pool_size=pool)
        for number, role in enumerate(roles, 2):
            value = with_node(value, f"node{number}", **{**NONE_SET, **FLAGS_OF[role]})
        for chosen in nodes_to_promote(value, Random(seed)):
            value = with_node(value, chosen, master_candidate=True)
        self.assertGreaterEqual(len(candidates(value)), pool_size_wanted(value))
        self.assertEqual(nodes_to_promote(value, Random(seed)), ())
        for one in candidates(value):
            others = len(candidates(value)) - 1
            possible = min(pool, len(eligible(value)) - 1)
            self.assertEqual(demotion_allowed(value, one), others >= possible)

    def test_flag_problems(self) -> None:
        """Combinations that no role has are told."""
        self.assertIsNone(flag_problem(node(1)))
        self.assertIn("only one", str(flag_problem(node(1, offline=True, drained=True))))
        self.assertIn("not master capable", str(flag_problem(node(1, master_capable=False))))


def _with_nodes(value: Cluster, nodes: object) -> Cluster:
    import msgspec

    return msgspec.structs.replace(value, nodes=nodes)


def _makes_candidates(source: Source) -> bool:
    """Whether a module makes nodes that are master candidates."""
    return any(
        keyword.arg == "master_candidate" and getattr(keyword.value, "value", False) is True
        for _, call in source.calls()
        for keyword in call.keywords
    )

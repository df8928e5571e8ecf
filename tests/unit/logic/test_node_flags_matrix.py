"""Every combination of flags of a node with every request (S2.3-102, S2.3-103, S2.3-107)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ErrorCode, PrereqError
from ganeti.logic.node_flags import FlagChange, FlagRequest, flag_problem, plan_flags
from ganeti.model.cluster import Cluster
from ganeti.model.node import Node
from ganeti.testing.clusters import cluster, with_instance, with_node, with_settings

ROLES = ("master_candidate", "drained", "offline")
FLAGS = (*ROLES, "master_capable", "vm_capable")

# What a node may be: the role flag that is set (or none), master_capable, vm_capable.
STATES = tuple(
    (role, capable, hosts)
    for role, capable, hosts in product((None, *ROLES), (True, False), (True, False))
    if not (role == "master_candidate" and not capable)
)
CHOICES = (None, True, False)
POOLS = (1, 2, 10)
"""Of the other two nodes both, one and none too many are candidates."""


def world(role: str | None, capable: bool, hosts: bool, pool: int, has_instance: bool) -> Cluster:
    """node1 is the master, node3 a candidate, node4 could be one; node2 is in this state."""
    value = with_settings(cluster(nodes=4), candidate_pool_size=pool)
    value = with_node(value, "node4", master_candidate=False)
    flags: dict[str, Any] = {name: name == role for name in ROLES}
    value = with_node(value, "node2", **flags, master_capable=capable, vm_capable=hosts)
    return with_instance(value, "web", primary="node2", template="file") if has_instance else value


def requests() -> Iterator[FlagRequest]:
    """Every combination of flags wanted, not wanted, and left alone."""
    for values in product(CHOICES, repeat=len(FLAGS)):
        for auto_promote in (False, True):
            yield FlagRequest(**dict(zip(FLAGS, values)), auto_promote=auto_promote)


def refusals(node: Node, request: FlagRequest, pool: int, *, has_instance: bool) -> set[ErrorCode]:
    """Reasons to refuse, row by row of the table in operations.md section 2.1; empty: it is allowed."""
    wanted = {name: getattr(request, name) for name in FLAGS}
    found = set()
    if sum(value is True for value in wanted.values()) > 1:
        found.add(ErrorCode.INPUT)
    capable = node.master_capable if request.master_capable is None else request.master_capable
    if wanted["master_candidate"] and not capable:
        found.add(ErrorCode.STATE)
    if request.vm_capable is False and has_instance:
        found.add(ErrorCode.STATE)
    leaves = request.master_candidate is False or request.master_capable is False
    leaves = leaves or bool(request.offline or request.drained)
    # Without node2 there are two candidates, and node4 could be one.
    others, possible = 2, 3
    if node.master_candidate and leaves and not request.auto_promote and others < min(possible, pool):
        found.add(ErrorCode.STATE)
    return found


class MatrixTests(SynchronousTestCase):
    """plan_flags."""

    def test_every_combination(self) -> None:
        """Refused is what the table says, and nothing else; what is allowed leads to a sound node."""
        for state, pool, has_instance in product(STATES, POOLS, (False, True)):
            value = world(*state, pool, has_instance)
            node = value.node("node2")
            for request in requests():
                expected = refusals(node, request, pool, has_instance=has_instance)
                where = f"{state} pool {pool} {has_instance} {request}"
                try:
                    change = plan_flags(value, node, request)
                except PrereqError as error:
                    self.assertIn(error.code, expected, where)
                else:
                    self.assertEqual(expected, set(), where)
                    self.check(node, request, change, pool, where)

    def check(self, before: Node, request: FlagRequest, change: FlagChange, pool: int, where: str) -> None:
        """A request that is allowed is carried out, and touches nothing else."""
        after = change.node
        self.assertIsNone(flag_problem(after), where)
        for name in ("master_capable", "vm_capable"):
            wanted = getattr(request, name)
            self.assertEqual(getattr(after, name), getattr(before, name) if wanted is None else wanted, where)
        for name in ROLES:
            if getattr(request, name) is True:
                self.assertTrue(getattr(after, name), where)
        self.check_unset(before, request, after, pool, where)
        same = {name: getattr(before, name) for name in FLAGS}
        self.assertEqual(msgspec.structs.replace(after, **same), before, where)

    def check_unset(self, before: Node, request: FlagRequest, after: Node, pool: int, where: str) -> None:
        """A node that gives up its role becomes a candidate where one is missing, else a regular node."""
        roles = {name for name in ROLES if getattr(after, name)}
        if any(getattr(request, name) for name in ROLES):
            return
        old = next((name for name in ROLES if getattr(before, name)), None)
        gives_up = old is not None and getattr(request, old) is False
        if old == "master_candidate":
            gives_up = gives_up or not after.master_capable
        becomes_capable = bool(request.master_capable) and not before.master_capable
        has_room = pool > 2 and after.master_capable
        if gives_up and old != "master_candidate":
            self.assertEqual(roles, {"master_candidate"} if has_room else set(), where)
        elif gives_up:
            self.assertEqual(roles, set(), where)
        elif old is None and becomes_capable and has_room and request.master_candidate is None:
            self.assertEqual(roles, {"master_candidate"}, where)
        elif old is not None:
            self.assertEqual(roles, {old}, where)

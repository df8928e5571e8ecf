"""Spindles: a share of them on ordinary nodes, whole ones on nodes with exclusive storage."""

from __future__ import annotations

from typing import Any

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.allocate import scene_of, solve
from ganeti.logic.allocator_protocol import document
from ganeti.logic.dedicated import has_exclusive_storage
from ganeti.logic.node_figures import SPINDLE_REPORT, question_of
from ganeti.logic.node_state import NodeState, demand_of_request
from ganeti.model.allocation import Allocate, ClusterView
from ganeti.model.calls.disks import StorageSpace
from ganeti.model.ipolicy import InstancePolicy, SpecRange
from ganeti.testing.clusters import cluster, group_id, with_instance, with_settings
from ganeti.testing.placement_worlds import placement_view, request_for

FREE = (8, 6, 4)
"""Spindles that are free on each node, of eight."""


def world(*, is_exclusive: bool = True) -> ClusterView:
    """Three nodes in one group."""
    value = cluster(nodes=3, enabled_hypervisors=("kvm",))
    group = msgspec.structs.replace(
        value.groups[group_id(1)], ndparams={"exclusive_storage": is_exclusive, "spindle_count": 2}
    )
    value = msgspec.structs.replace(value, groups=value.groups.with_item(group.uuid, group))
    view = placement_view(value)
    facts = {}
    for (node, found), free in zip(view.facts.items(), FREE, strict=True):
        space = StorageSpace(type=SPINDLE_REPORT, name="xenvg", storage_free=free, storage_size=8)
        facts[node] = msgspec.structs.replace(found, storage=(*found.storage, space))
    return msgspec.structs.replace(view, facts=facts)


def place(view: ClusterView, **wanted: Any) -> str:
    """Number of the node, or why there is none."""
    solution = solve(Allocate(instance=request_for(**wanted)), view)
    if solution.failed:
        return solution.failed[0][1]
    return view.cluster.nodes[solution.placements[0].nodes[0]].name[4]


class ExclusiveTests(SynchronousTestCase):
    """Nodes on which every disk has its own spindles."""

    def test_room(self) -> None:
        """What the disks take together has to be free; what lacks is told."""
        self.assertEqual(place(world(), disk_spindles=(7,)), "1")
        self.assertIn(place(world(), disks=(1024, 1024), disk_spindles=(3, 3)), ("1", "2"))
        text = place(world(), disk_spindles=(9,))
        self.assertIn("node1.example.com: 1 spindles missing (9 needed, 8 usable)", text)
        self.assertIn("node3.example.com: 5 spindles missing (9 needed, 4 usable)", text)

    def test_nothing_said(self) -> None:
        """A disk that does not say how many it takes has no place."""
        for spindles in ((), (None,)):
            self.assertIn("does not say how many spindles", place(world(), disk_spindles=spindles))
        self.assertIn("does not say", place(world(), disks=(1024, 1024), disk_spindles=(1, None)))

    def test_spindle_use(self) -> None:
        """The share of spindles, which counts on other nodes, does not count here."""
        self.assertIn(place(world(), spindle_use=12, disk_spindles=(1,)), ("1", "2", "3"))

    def test_policy(self) -> None:
        """The policy is about the spindles of the disks."""
        view = world()
        policy: InstancePolicy = view.cluster.settings.ipolicy
        (bounds,) = policy.minmax
        narrow = SpecRange(min=bounds.min, max=msgspec.structs.replace(bounds.max, spindle_use=2))
        value = with_settings(view.cluster, ipolicy=msgspec.structs.replace(policy, minmax=(narrow,)))
        view = msgspec.structs.replace(view, cluster=value)
        self.assertIn("a spindle use of 3 (allowed: 1 to 2)", place(view, disk_spindles=(3,)))
        self.assertIn(place(view, spindle_use=12, disk_spindles=(2,)), ("1", "2", "3"))

    def test_counted(self) -> None:
        """An instance that is placed takes its spindles, and gives them back."""
        view = world()
        request = request_for(disk_spindles=(3,))
        demand = demand_of_request(request, view.cluster)
        scene = scene_of(view, question_of(Allocate(instance=request), view.cluster))
        state: NodeState = scene.states[0]
        self.assertEqual(state.with_primary(demand).free_spindles, 5)
        self.assertEqual(state.with_primary(demand).without_primary(demand), state)

    def test_least_loss(self) -> None:
        """Of the nodes with room the one that loses the fewest other instances; else the fullest one."""
        view = world()
        self.assertEqual(place(view, disk_spindles=(1,)), "3")
        value = with_instance(
            view.cluster, "old", primary="node1", template="plain", disk_sizes=(400000,), memory=128
        )
        facts = placement_view(value).facts
        fuller = msgspec.structs.replace(
            view,
            cluster=value,
            facts={
                node: msgspec.structs.replace(found, storage=(*found.storage, view.facts[node].storage[-1]))
                for node, found in facts.items()
            },
        )
        self.assertEqual(place(fuller, disk_spindles=(1,)), "1")

    def test_mixed_cluster(self) -> None:
        """Where some nodes are ordinary ones the score of the cluster decides, as ever."""
        value = cluster(nodes=4, groups=2, enabled_hypervisors=("kvm",))
        group = msgspec.structs.replace(value.groups[group_id(1)], ndparams={"exclusive_storage": True})
        value = msgspec.structs.replace(value, groups=value.groups.with_item(group.uuid, group))
        self.assertTrue(has_exclusive_storage(value, group_id(1)))
        self.assertEqual(place(placement_view(value), disk_spindles=(1,)), "4")

    def test_document(self) -> None:
        """External allocators are told."""
        found = document(Allocate(instance=request_for(disk_spindles=(3,))), world())
        self.assertEqual(
            found["request"]["disks"], [{"size": 10240, "mode": "rw", "type": "plain", "spindles": 3}]
        )
        self.assertEqual(found["nodes"]["node3.example.com"]["free_spindles"], 4)


class SharedTests(SynchronousTestCase):
    """Ordinary nodes."""

    def test_share(self) -> None:
        """Spindle use counts up to the ratio of the policy; spindles of disks do not."""
        view = world(is_exclusive=False)
        self.assertEqual(place(view, disk_spindles=(9,)), "3")
        value = view.cluster
        for number in (1, 2, 3):
            for index in range(6):
                value = with_instance(
                    value,
                    f"old{number}{index}",
                    primary=f"node{number}",
                    template="plain",
                    beparams={"maxmem": 128, "minmem": 128, "spindle_use": 10},
                )
        full = msgspec.structs.replace(view, cluster=value)
        self.assertIn("1 spindles missing (5 needed, 4 usable)", place(full, spindle_use=5))

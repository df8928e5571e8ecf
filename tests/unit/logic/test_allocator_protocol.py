"""The established documents for external allocators, and the answers to them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import AllocatorError
from ganeti.logic.allocator_answers import check_solution, decode
from ganeti.logic.allocator_protocol import encode
from ganeti.logic.capacity_params import filled_params
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
from ganeti.model.instance import AdminState
from ganeti.model.node import AllocPolicy
from ganeti.model.spec import NicSpec
from ganeti.testing.allocator_behaviours import with_policy
from ganeti.testing.clusters import cluster, group_id, node_id, with_instance, with_node, with_settings
from ganeti.testing.placement_worlds import placement_view, random_case, request_for

DYNAMIC = {
    "total_memory",
    "reserved_memory",
    "free_memory",
    "total_disk",
    "free_disk",
    "total_spindles",
    "free_spindles",
    "total_cpus",
    "reserved_cpus",
    "i_pri_memory",
    "i_pri_up_memory",
}


def written(request: AllocationRequest, view: ClusterView | None = None) -> Any:
    """The document of a request."""
    return json.loads(encode(request, view or placement_view(cluster(nodes=2))))


class EncodeTests(SynchronousTestCase):
    """What external allocators are told."""

    def test_top(self) -> None:
        """The document has exactly the established keys."""
        self.assertEqual(
            sorted(written(Allocate(instance=request_for()))),
            [
                "cluster_name",
                "cluster_tags",
                "enabled_hypervisors",
                "instances",
                "ipolicy",
                "nodegroups",
                "nodes",
                "request",
                "version",
            ],
        )

    def test_groups(self) -> None:
        """S2.3-014: groups are there with their policy, filled from the cluster's."""
        view = placement_view(with_policy(cluster(nodes=1), 1, AllocPolicy.LAST_RESORT))
        group = written(Allocate(instance=request_for()), view)["nodegroups"][group_id(1)]
        self.assertEqual((group["name"], group["alloc_policy"]), ("default", "last_resort"))
        self.assertEqual(group["ipolicy"]["vcpu-ratio"], 4.0)
        self.assertIn("memory-size", group["ipolicy"]["minmax"][0]["max"])

    def test_nodes(self) -> None:
        """S2.3-104: every node is there; those that may run instances have figures, drained ones too."""
        value = with_node(cluster(nodes=4), "node1", offline=True, master_candidate=False)
        value = with_node(value, "node2", drained=True, master_candidate=False)
        value = with_node(value, "node3", vm_capable=False)
        nodes = written(Allocate(instance=request_for()), placement_view(value))["nodes"]
        with_figures = {name.partition(".")[0] for name, node in nodes.items() if set(node) >= DYNAMIC}
        self.assertEqual((len(nodes), with_figures), (4, {"node2", "node4"}))
        self.assertEqual(nodes["node3.example.com"]["vm_capable"], False)

    def test_silent_node(self) -> None:
        """A node that did not answer is shown as offline."""
        view = placement_view(cluster(nodes=2), without_facts=frozenset({node_id(1)}))
        node = written(Allocate(instance=request_for()), view)["nodes"]["node1.example.com"]
        self.assertTrue(node["offline"])
        self.assertNotIn("free_memory", node)

    def test_free_memory(self) -> None:
        """What a ballooned instance may claim back is not free; sums count all and running primaries."""
        value = with_instance(cluster(nodes=1), "up", primary="node1", template="plain", memory=4096)
        value = with_instance(
            value, "down", primary="node1", template="plain", memory=512, admin_state=AdminState.DOWN
        )
        view = placement_view(value)
        small = msgspec.structs.replace(view.running[node_id(1)]["up.example.com"], memory=1024)
        view = msgspec.structs.replace(view, running={node_id(1): {"up.example.com": small}})
        node = written(Allocate(instance=request_for()), view)["nodes"]["node1.example.com"]
        self.assertEqual(node["free_memory"], 65536 - 1024 - 4096 - 3072)
        self.assertEqual((node["i_pri_memory"], node["i_pri_up_memory"]), (4608, 4096))

    def test_instances(self) -> None:
        """An instance has its nodes, primary first, and its size with what mirroring takes."""
        value = with_instance(
            cluster(nodes=2), "web", primary="node2", secondary="node1", disk_sizes=(1024, 2048), vcpus=3
        )
        found = written(Allocate(instance=request_for()), placement_view(value))["instances"][
            "web.example.com"
        ]
        self.assertEqual(found["nodes"], ["node2.example.com", "node1.example.com"])
        self.assertEqual((found["disk_space_total"], found["vcpus"]), (1024 + 2048 + 2 * 128, 3))
        self.assertEqual((found["admin_state"], found["disk_template"]), ("up", "drbd"))
        self.assertEqual(found["nics"][0]["mode"], "bridged")
        self.assertNotIn("forthcoming", found)

    def test_allocate(self) -> None:
        """A request has what the established one has."""
        nics = (NicSpec(mac="aa:00:00:00:00:01", link="br7"),)
        request = Allocate(
            instance=request_for(disk_template="drbd", group=group_id(1), tags=("a",), nics=nics)
        )
        asked = written(request, placement_view(cluster(nodes=2), candidates=frozenset({node_id(2)})))[
            "request"
        ]
        self.assertEqual(
            (asked["type"], asked["required_nodes"], asked["group_name"]), ("allocate", 2, "default")
        )
        self.assertEqual(asked["disks"], [{"size": 10240, "mode": "rw", "type": "drbd"}])
        self.assertEqual(asked["disk_space_total"], 10368)
        self.assertEqual(asked["nics"][0]["bridge"], "br7")
        self.assertEqual(asked["restrict-to-nodes"], ["node2.example.com"])

    def test_multi_allocate(self) -> None:
        """Several requests stand in a list, without a type of their own."""
        asked = written(MultiAllocate(instances=(request_for("a.example.com"), request_for())))["request"]
        self.assertEqual([one["name"] for one in asked["instances"]], ["a.example.com", "new.example.com"])
        self.assertNotIn("type", asked["instances"][0])

    def test_relocate(self) -> None:
        """Relocation names one instance and the node it leaves."""
        view = placement_view(cluster(nodes=2, instances=1))
        asked = written(Relocate(instance="inst1.example.com", relocate_from=(node_id(2),)), view)["request"]
        self.assertEqual(
            asked,
            {
                "type": "relocate",
                "name": "inst1.example.com",
                "disk_space_total": 1152,
                "required_nodes": 1,
                "relocate_from": ["node2.example.com"],
            },
        )

    def test_evacuations(self) -> None:
        """Evacuation and change of group have their established keys."""
        evacuation = Evacuate(instances=("web",), mode=EvacuationMode.SECONDARY_ONLY)
        self.assertEqual(written(evacuation)["request"]["evac_mode"], "secondary-only")
        change = ChangeGroup(instances=("web",), target_groups=(group_id(1),))
        self.assertEqual(written(change)["request"]["target_groups"], [group_id(1)])

    def test_age(self) -> None:
        """The age of what is known of the nodes is said where it is known."""
        view = placement_view(cluster(nodes=1))
        self.assertNotIn("cache_ctime", written(Allocate(instance=request_for()), view))
        old = msgspec.structs.replace(view, ctime=1700000000.5)
        self.assertEqual(written(Allocate(instance=request_for()), old)["cache_ctime"], 1700000000.5)

    def test_tags(self) -> None:
        """Tags of the cluster are passed on, exclusion prefixes among them."""
        view = placement_view(with_settings(cluster(nodes=1), tags=("htools:iextags:svc",)))
        self.assertEqual(
            written(Allocate(instance=request_for()), view)["cluster_tags"], ["htools:iextags:svc"]
        )

    @given(seed=st.integers(0, 10**6))
    def test_always_complete(self, seed: int) -> None:
        """Whatever the cluster, every node that an allocator may use has every figure, as a number."""
        view, request = random_case(seed, "drbd")
        for node in written(Allocate(instance=request), view)["nodes"].values():
            if node["vm_capable"] and not node["offline"]:
                self.assertTrue(all(isinstance(node[key], int) for key in DYNAMIC))


class DecodeTests(SynchronousTestCase):
    """What is made of answers."""

    request = Allocate(instance=request_for(disk_template="drbd"))

    def view(self) -> ClusterView:
        """Two groups: node1, node3, node5, node7 and node2, node4; three of the first are unusable."""
        value = with_node(cluster(nodes=8, groups=2), "node3", offline=True, master_candidate=False)
        value = with_node(value, "node5", drained=True, master_candidate=False)
        value = with_node(value, "node6", vm_capable=False)
        return placement_view(value, without_facts=frozenset({node_id(8)}))

    def refused(self, names: Any, *, request: AllocationRequest | None = None, **view: Any) -> str:
        """The error for an answer with these nodes (short names)."""
        result = [f"{name}.example.com" for name in names]
        answer = json.dumps({"success": True, "info": "", "result": result})
        with self.assertRaises(AllocatorError) as caught:
            decode(request or self.request, msgspec.structs.replace(self.view(), **view), answer)
        return str(caught.exception)

    def test_pair(self) -> None:
        """Names become nodes, the primary first."""
        answer = '{"success": true, "info": "fine", "result": ["node7.example.com", "node1.example.com"]}'
        solution = decode(self.request, self.view(), answer)
        self.assertEqual(solution.placements[0].nodes, (node_id(7), node_id(1)))
        self.assertEqual(solution.info, "fine")

    def test_old_key(self) -> None:
        """Old allocators write `nodes` in place of `result`."""
        answer = '{"success": true, "info": "", "nodes": ["node1.example.com", "node7.example.com"]}'
        self.assertEqual(len(decode(self.request, self.view(), answer).placements), 1)

    def test_mistakes(self) -> None:
        """Each mistake is named with its node."""
        cases = {
            ("node9", "node1"): "'node9.example.com', which is no node",
            ("node3", "node1"): "on node3.example.com, which is offline",
            ("node1", "node5"): "on node5.example.com, which is drained",
            ("node6", "node2"): "on node6.example.com, which is not for instances",
            ("node8", "node2"): "on node8.example.com, which does not answer",
            ("node1", "node2"): "different groups",
            ("node1", "node1"): "twice on the same node",
            ("node1",): "on 1 nodes (node1.example.com) where 2 are needed",
            ("node1", "node7", "node2"): "where 2 are needed",
            (): "on 0 nodes (none)",
        }
        for names, text in cases.items():
            self.assertIn(text, self.refused(names))

    def test_wrong_group(self) -> None:
        """An answer outside the group that was asked for is refused."""
        request = Allocate(instance=request_for(group=group_id(2)))
        self.assertIn("but group group2 was asked for", self.refused(["node1"], request=request))

    def test_unallocable_group(self) -> None:
        """S2.3-009: an external allocator does not get around the policy either."""
        value = with_policy(self.view().cluster, 2, AllocPolicy.UNALLOCABLE)
        self.assertIn("unallocable", self.refused(["node2", "node4"], cluster=value))

    def test_candidates(self) -> None:
        """An answer outside the candidates is refused."""
        text = self.refused(["node1", "node7"], candidates=frozenset({node_id(1)}))
        self.assertIn("node7.example.com, which it was not allowed to use", text)

    def test_rubbish(self) -> None:
        """What is not the protocol is quoted."""
        for answer in ("killed", '{"success": "yes", "info": ""}', '{"success": true}', "[1]"):
            with self.assertRaisesRegex(AllocatorError, "it wrote: "):
                decode(self.request, self.view(), answer)
        with self.assertRaisesRegex(AllocatorError, "wrong form"):
            decode(self.request, self.view(), '{"success": true, "info": "", "result": {"a": 1}}')

    @given(answer=st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
    def test_never_crashes(self, answer: str) -> None:
        """Whatever a program writes, it is understood or an AllocatorError."""
        wrapped = json.dumps({"success": True, "info": "", "result": answer})
        for text in (answer, wrapped, wrapped.replace('"' + answer + '"', answer)):
            with self.assertRaises(AllocatorError):
                decode(self.request, self.view(), text)

    def test_several(self) -> None:
        """Failed instances come as names or with a reason."""
        names = ("a", "b", "c")
        request = MultiAllocate(instances=tuple(request_for(name) for name in names))
        result = [[["a", ["node1.example.com"]]], ["b", ["c", "too large"]]]
        answer = json.dumps({"success": True, "info": "", "result": result})
        solution = decode(request, self.view(), answer)
        self.assertEqual(solution.failed, (("b", ""), ("c", "too large")))
        self.assertEqual(solution.placements[0].instance, "a")

    def test_unasked(self) -> None:
        """Answers about other instances, or not about all, are refused."""
        request = MultiAllocate(instances=(request_for("a"), request_for("b")))
        for result, text in (
            ([[["x", ["node1.example.com"]]], ["a", "b"]], "x, which was not asked for"),
            ([[], ["a"]], "did not answer about b"),
            ([[["a", ["node1.example.com"]]], ["a", "b"]], "more than once"),
        ):
            answer = json.dumps({"success": True, "info": "", "result": result})
            with self.assertRaisesRegex(AllocatorError, text):
                decode(request, self.view(), answer)

    def test_relocation(self) -> None:
        """A relocated instance stays in its group and leaves the node."""
        value = with_instance(cluster(nodes=6, groups=2), "web", primary="node1", secondary="node3")
        view = placement_view(value)
        request = Relocate(instance="web.example.com", relocate_from=(node_id(3),))
        for number, text in ((2, "not in its group"), (3, "which it was to leave"), (1, "primary")):
            placement = Placement(instance="web.example.com", nodes=(node_id(number),))
            with self.assertRaisesRegex(AllocatorError, text):
                check_solution(request, view, Solution(placements=(placement,)))

    def test_evacuation(self) -> None:
        """Moves come with the jobs that make them."""
        result = [
            [["web", "default", ["node1.example.com", "node7.example.com"]]],
            [["db", None]],
            [[{"OP_ID": "OP_INSTANCE_MIGRATE", "instance_name": "web"}]],
        ]
        request = Evacuate(instances=("web", "db"), mode=EvacuationMode.ALL)
        answer = json.dumps({"success": True, "info": "", "result": result})
        solution = decode(request, self.view(), answer)
        self.assertEqual(solution.jobs[0][0]["OP_ID"], "OP_INSTANCE_MIGRATE")
        self.assertEqual(solution.failed, (("db", ""),))

    def test_forbidden_operation(self) -> None:
        """Jobs may only move instances."""
        request = Evacuate(instances=(), mode=EvacuationMode.ALL)
        answer = '{"success": true, "info": "", "result": [[], [], [[{"OP_ID": "OP_CLUSTER_DESTROY"}]]]}'
        with self.assertRaisesRegex(AllocatorError, "OP_CLUSTER_DESTROY"):
            decode(request, self.view(), answer)


class CapacityAnswerTests(SynchronousTestCase):
    """Answers to questions about capacity (iallocator.md section 4)."""

    def setUp(self) -> None:
        """One group is asked for."""
        self.view = placement_view(cluster(nodes=2, groups=2, enabled_hypervisors=("kvm",)))
        group = self.view.cluster.groups[group_id(1)]
        self.params = filled_params(self.view.cluster, group)
        self.request = Capacity(params={group.uuid: self.params})

    def decoded(self, groups: object, **more: object) -> Solution:
        """What becomes of an answer."""
        reply = {"success": True, "info": "ok", "result": {"cluster": [], "node_groups": groups}, **more}
        return decode(self.request, self.view, json.dumps(reply))

    def test_request(self) -> None:
        """The document names the groups and their parameters, filled in (S2.3-081)."""
        told = json.loads(encode(self.request, self.view))
        self.assertEqual(told["request"]["type"], "capacity")
        self.assertEqual(told["request"]["groups"], [group_id(1)])
        self.assertEqual(told["request"]["params"][group_id(1)]["max_inst_spec"], [32768, 1048576, 8])
        self.assertEqual(told["nodegroups"][group_id(2)]["capacity_params"]["max_cpu_ratio"], 4.0)

    def test_tiers(self) -> None:
        """Tiers become values; parameters that the answer repeats are not needed."""
        answer = {"tspecs": [[4096, 40960, 4, 7], [2048, 40960, 2, 3]], "max_cpu_ratio": 4.0}
        found = self.decoded({group_id(1): answer}).capacity[group_id(1)]
        self.assertEqual(found.tspecs, ((4096, 40960, 4, 7), (2048, 40960, 2, 3)))
        self.assertEqual(found.params, self.params)

    def test_wrong(self) -> None:
        """Answers of a wrong form, about other groups or with impossible numbers are refused by name."""
        one = group_id(1)
        for groups, text in (
            ({}, "did not tell the capacity of group default"),
            ({one: {"tspecs": []}, group_id(2): {"tspecs": []}}, "group2, which was not asked for"),
            ({one: {"tspecs": []}, "x": {"tspecs": []}}, "group x, which was not asked for"),
            ({one: {"tspecs": [[1, 2, 3]]}}, "wrong form"),
            ({one: {"tspecs": [["a", 2, 3, 4]]}}, "wrong form"),
            ({one: {}}, "wrong form"),
            ([], "wrong form"),
            ({one: {"tspecs": [[1, 2, 3, -4]]}}, "which cannot be"),
            ({one: {"tspecs": [[-1, 2, 3, 4]]}}, "which cannot be"),
            ({one: {"tspecs": [[1, 2, 3, 4], [2, 2, 3, 4]]}}, "do not decrease"),
        ):
            with self.assertRaisesRegex(AllocatorError, text):
                self.decoded(groups)

    def test_refusal(self) -> None:
        """An allocator that cannot count says so in its words."""
        with self.assertRaisesRegex(AllocatorError, "cannot tell the capacity: unknown request"):
            self.decoded({}, success=False, info="unknown request")

"""Where instances are put, through the real tools and daemons: groups, batches, flags of nodes."""

from __future__ import annotations

import json
import tempfile
from typing import Any

from tests.integration.operations_case import SMALL, OperationsCase, begin, end

setUpModule, tearDownModule = begin, end


class PlacementCase(OperationsCase):
    """Three nodes, two of them in groups of their own."""

    def setUp(self) -> None:
        """node2 is in rack2, node3 in rack3."""
        for number in (2, 3):
            self.gnt(f"gnt-group add rack{number}")
            self.addCleanup(self.gnt, f"gnt-group remove rack{number}")
        self.addCleanup(self.gnt, "gnt-group assign-nodes -f default node2 node3")
        for number in (2, 3):
            self.gnt(f"gnt-group assign-nodes rack{number} node{number}")

    def place(self, name: str, *options: str) -> str:
        """Primary node of a new instance for which the built-in allocator looks."""
        (node,) = self.of("instance", self.add(name, "-I", "builtin", *options), "pnode")
        return str(node).partition(".")[0]

    def refuse(self, *options: str, texts: tuple[str, ...]) -> None:
        """An instance that cannot be made."""
        self.refused(f"gnt-instance add {' '.join((*SMALL, *options))} refused.virtual", *texts)


class GroupListTests(PlacementCase):
    """`gnt-instance add --node-group`."""

    def test_lists(self) -> None:
        """Only groups of the list are used, in the order of their policies (S2.3-011, S2.3-015)."""
        self.assertEqual(self.place("one", "-g", "rack2"), "node2")
        self.assertEqual(self.place("other", "--node-group=rack3"), "node3")
        self.gnt("gnt-group modify --alloc-policy last_resort rack3")
        for number, options in enumerate((("-g", "rack3,rack2"), ("-g", "rack3", "-g", "rack2"))):
            self.assertEqual(self.place(f"several{number}", *options), "node2")
        self.gnt("gnt-group modify --alloc-policy unallocable rack2")
        self.assertEqual(self.place("last", "-g", "rack3,rack2"), "node3")

    def test_unallocable(self) -> None:
        """Of groups that take nothing there is no choice, and that is said (S2.3-009, S2.3-015)."""
        for number in (2, 3):
            self.gnt(f"gnt-group modify --alloc-policy unallocable rack{number}")
        self.refuse("-I", "builtin", "-g", "rack2,rack3", texts=("groups rack2, rack3 are unallocable",))
        self.assertEqual(self.place("elsewhere"), "node1")

    def test_last_resort(self) -> None:
        """A last resort is taken only when nothing else works (S2.3-010)."""
        self.gnt("gnt-group modify --alloc-policy last_resort rack2")
        self.gnt("gnt-group modify --alloc-policy unallocable rack3")
        self.assertEqual(self.place("first"), "node1")
        self.gnt("gnt-node modify -D yes --auto-promote node2")
        self.addCleanup(self.gnt, "gnt-node modify -D no node2")
        self.refuse("-I", "builtin", "-g", "rack2", texts=("node2.virtual: is drained",))

    def test_contradictions(self) -> None:
        """Nodes must be in the groups that are named."""
        self.refuse("-n", "node1", "-g", "rack2", texts=("node node1.virtual is in group default",))
        self.refuse("-I", "builtin", "-g", "nosuch", texts=("nosuch",))

    def test_busy_group(self) -> None:
        """A job that holds all nodes of one group does not hold up an instance for another one (S2.3-055)."""
        self.gnt("gnt-debug delay --submit --no-master -n node3 20")
        number = self.newest_job()["id"]
        self.addCleanup(self.cluster.gnt, f"gnt-job cancel {number}", check=False)
        self.wait_for("job", str(number), ["running"], "status")
        self.assertEqual(self.place("beside", "-g", "rack2"), "node2")
        self.assertEqual(self.of("job", str(number), "status"), ["running"])


class BatchCreateTests(PlacementCase):
    """`gnt-instance batch-create`."""

    def batch(self, *entries: dict[str, Any]) -> str:
        """A file with small instances; they go with the test."""
        common = {
            "disk_template": "sharedfile",
            "disks": [{"size": "4m"}],
            "nics": [],
            "beparams": {"memory": 64},
            "os_type": "noop",
        }
        for entry in entries:
            name = entry["instance_name"]
            self.addCleanup(self.cluster.gnt, f"gnt-instance remove -f {name}", check=False)
        with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
            json.dump([{**common, **entry} for entry in entries], file)
        return file.name

    def test_created(self) -> None:
        """Each has a place of its own and a job of its own; a dry run makes none."""
        entries = [{"instance_name": f"batch{number}.virtual"} for number in range(3)]
        path = self.batch(*entries, {"instance_name": "batch3.virtual", "target_groups": ["rack2"]})
        before = self.newest_job()["id"]
        self.gnt(f"gnt-instance batch-create --dry-run -I builtin {path}")
        printed = self.gnt(f"gnt-instance batch-create -I builtin {path}")
        self.assertTrue(printed.endswith("All instances created successfully.\n"), printed)
        self.assertEqual(self.newest_job()["id"], before + 6)
        for number in range(4):
            name = f"batch{number}.virtual"
            self.assertIn(f" for {name} ...", printed)
            self.assertEqual(self.of("instance", name, "status"), ["running"])
        self.assertEqual(self.of("instance", "batch3.virtual", "pnode"), ["node2.virtual"])

    def test_one_too_many(self) -> None:
        """One without a place does not stop the others; it is named, with the reason."""
        large = {"instance_name": "large.virtual", "beparams": {"memory": "900g"}}
        path = self.batch({"instance_name": "small.virtual"}, large)
        done = self.cluster.gnt(f"gnt-instance batch-create -I builtin {path}", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("There were 1 errors during the creation", done.stdout)
        self.assertIn("no place for instance large.virtual", done.stdout)
        self.assertEqual(self.of("instance", "small.virtual", "status"), ["running"])

    def test_given_nodes(self) -> None:
        """Nodes can be given for all of them."""
        path = self.batch(
            *({"instance_name": f"given{n}.virtual", "pnode": f"node{n}.virtual"} for n in (1, 2))
        )
        self.gnt(f"gnt-instance batch-create {path}")
        for number in (1, 2):
            pnode = self.of("instance", f"given{number}.virtual", "pnode")
            self.assertEqual(pnode, [f"node{number}.virtual"])


class TagTests(OperationsCase):
    """Tags that say where instances go."""

    def place(self, name: str, *options: str) -> str:
        """Primary node of a new instance for which the built-in allocator looks."""
        (node,) = self.of("instance", self.add(name, "-I", "builtin", *options), "pnode")
        return str(node).partition(".")[0]

    def tag(self, kind: str, name: str, *tags: str) -> None:
        """Tags that go with the test."""
        self.gnt(f"gnt-{kind} add-tags", *([name] if name else []), *tags)
        self.addCleanup(self.gnt, f"gnt-{kind} remove-tags", *([name] if name else []), *tags)

    def test_locations(self) -> None:
        """An instance goes to the location that it wants, and those of one kind to different ones."""
        self.tag(
            "cluster", "", "htools:nlocation:power", "htools:desiredlocation:power", "htools:iextags:svc"
        )
        for node, place in (("node1", "a"), ("node2", "b"), ("node3", "b")):
            self.tag("node", node, f"power:{place}")
        self.assertEqual(self.place("wants", "--tags", "power:a"), "node1")
        self.gnt("gnt-instance remove -f wants.virtual")
        self.assertIn(self.place("first", "--tags", "power:b,svc:web"), ("node2", "node3"))
        self.assertEqual(self.place("second", "--tags", "svc:web"), "node1")
        self.gnt("gnt-cluster verify")

    def test_migration(self) -> None:
        """An instance leaves its node only for one that takes it; the error says what is in the way."""
        self.tag("cluster", "", "htools:migration:cpu")
        self.tag("node", "node1", "cpu:new")
        self.tag("node", "node3", "cpu:new")
        name = self.add("moves", "-n", "node1")
        self.gnt(f"gnt-instance migrate -f -I builtin {name}")
        self.assertEqual(self.of("instance", name, "pnode"), ["node3.virtual"])
        self.gnt("gnt-node remove-tags node1 cpu:new")
        self.addCleanup(self.gnt, "gnt-node add-tags node1 cpu:new")
        self.refused(
            f"gnt-instance migrate -f -I builtin {name}",
            "node1.virtual: instances cannot be migrated to it from a node with the tag 'cpu:new'",
        )


class NodeFlagTests(OperationsCase):
    """Nodes that host no instances, or are no master candidates."""

    def modify(self, node: str, *options: str) -> None:
        """A change of a node."""
        self.gnt("gnt-node modify --auto-promote", *options, node)

    def test_each_kind(self) -> None:
        """A candidate without instances, a host that is no candidate, and one that is neither (S2.3-107)."""
        self.modify("node2", "--vm-capable=no")
        self.addCleanup(self.modify, "node2", "--vm-capable=yes")
        self.modify("node3", "--master-capable=no")
        self.addCleanup(self.modify, "node3", "--master-capable=yes")
        for number in range(3):
            self.assertNotEqual(
                self.of("instance", self.add(f"host{number}", "-I", "builtin"), "pnode"), ["node2.virtual"]
            )
        here = self.add("there", "-n", "node3")
        self.refused(f"gnt-instance add {' '.join(SMALL)} -n node2 no.virtual", "vm_capable is off")
        self.refused("gnt-node modify -C yes node3", "not master capable")
        self.refused("gnt-node modify --vm-capable=no node3", here, "move them first")
        self.gnt(f"gnt-instance remove -f {here}")
        self.gnt("gnt-cluster verify")
        self.assertEqual(
            self.of("node", "node2", "master_candidate", "vm_capable", "master_capable"), [True, False, True]
        )
        self.modify("node2", "--master-capable=no")
        self.addCleanup(self.modify, "node2", "--master-capable=yes")
        self.assertEqual(
            self.of("node", "node2", "master_candidate", "vm_capable", "role"), [False, False, "R"]
        )
        self.gnt("gnt-cluster verify")

    def test_race(self) -> None:
        """A node never has both: an instance and vm_capable off (S2.3-106)."""
        self.addCleanup(self.modify, "node3", "--vm-capable=yes")
        ends = set()
        for number in range(6):
            name = f"race{number}.virtual"
            self.addCleanup(self.cluster.gnt, f"gnt-instance remove -f {name}", check=False)
            client = self.cluster.client()
            create = {
                "OP_ID": "OP_INSTANCE_CREATE",
                "instance_name": name,
                "mode": "create",
                "disk_template": "diskless",
                "disks": [],
                "nics": [],
                "beparams": {"memory": 64},
                "pnode": "node3.virtual",
            }
            modify = {"OP_ID": "OP_NODE_SET_PARAMS", "node_name": "node3.virtual", "vm_capable": False}
            jobs = [client.submit([one]) for one in ((create, modify) if number % 2 else (modify, create))]
            ended = self.cluster.wait_for_jobs(*jobs)
            ends.add(tuple(sorted(ended.values())))
            capable, instances = self.of("node", "node3", "vm_capable", "pinst_cnt")
            self.assertTrue(capable or instances == 0, (capable, instances))
            self.cluster.gnt(f"gnt-instance remove -f {name}", check=False)
            self.modify("node3", "--vm-capable=yes")
        self.assertEqual(ends, {("error", "success")})

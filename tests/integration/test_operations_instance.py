"""The life of instances through the real tools and daemons."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.operations_case import SMALL, OperationsCase, begin, end

setUpModule, tearDownModule = begin, end

NODES = ("node1.virtual", "node2.virtual", "node3.virtual")


class AddTests(OperationsCase):
    """gnt-instance add."""

    def test_allocator(self) -> None:
        """Without a node the cluster's allocator chooses one; the instance is installed and runs."""
        printed = self.gnt("gnt-instance add", *SMALL, "alloc.virtual")
        self.assertIn("Selected nodes for instance alloc.virtual via iallocator builtin", printed)
        status, node, os_name, ram = self.of("instance", "alloc", "status", "pnode", "os", "oper_ram")
        self.assertEqual((status, os_name, ram), ("running", "noop", 64))
        self.assertIn(node, NODES)
        disks = Path(self.cluster.layout.shared_dir, "alloc.virtual").iterdir()
        self.assertEqual([disk.stat().st_size for disk in disks], [4 << 20])

    def test_given_node(self) -> None:
        """A node that was asked for is taken."""
        name = self.add("given", "-n", "node3")
        self.assertEqual(self.of("instance", name, "pnode", "status"), ["node3.virtual", "running"])

    def test_no_start(self) -> None:
        """`--no-start` leaves it down, both in fact and in the configuration."""
        name = self.add("nostart", "--no-start")
        self.assertEqual(self.of("instance", name, "status", "admin_state"), ["ADMIN_down", "down"])

    def test_no_install(self) -> None:
        """`--no-install` runs no OS script, needs no OS and does not start."""
        self.gnt("gnt-instance add --no-install -t diskless --no-nics -n node1 noinstall.virtual")
        self.assertEqual(self.of("instance", "noinstall", "status", "os"), ["ADMIN_down", ""])

    def test_dry_run(self) -> None:
        """`--dry-run` tells nothing is wrong, and makes nothing."""
        before = self.cluster.serial()
        self.gnt("gnt-instance add --dry-run", *SMALL, "dry.virtual")
        self.assertEqual(self.cluster.serial(), before)
        self.assertNotIn("dry.virtual", self.gnt("gnt-instance list"))
        self.refused("gnt-instance add --dry-run -o nope -t diskless --no-nics -n node1 dry.virtual", "nope")

    def test_devices(self) -> None:
        """Disks and interfaces are as asked for; addresses are made up from the cluster's prefix."""
        options = "-o noop -t file --disk 0:size=8m,name=data --disk 1:size=4m,mode=ro -B memory=64,vcpus=2"
        network = "--net 0:mode=routed,ip=198.51.100.7,link=100 --net 1:mac=aa:00:00:12:34:56,mode=routed"
        command = f"gnt-instance add {options} {network},ip=198.51.100.8 -n node2 devices.virtual"
        self.gnt(command)
        sizes, modes, ips, macs, vcpus = self.of(
            "instance", "devices", "disk.sizes", "nic.modes", "nic.ips", "nic.macs", "vcpus"
        )
        self.assertEqual((sizes, modes, vcpus), ([8, 4], ["routed", "routed"], 2))
        self.assertEqual(ips, ["198.51.100.7", "198.51.100.8"])
        self.assertEqual(macs[1], "aa:00:00:12:34:56")
        self.assertTrue(macs[0].startswith("aa:00:00:"))
        info = self.gnt("gnt-instance info devices")
        self.assertIn("access mode: ro", info)
        self.assertIn("name: data", info)

    def test_tags(self) -> None:
        """Tags can be given at once."""
        name = self.add("tagged", "--tags", "web,blue")
        self.assertEqual(self.gnt(f"gnt-instance list-tags {name}").split(), ["blue", "web"])

    def test_os_variant(self) -> None:
        """A variant belongs to the OS; one that is not listed needs force."""
        self.add(
            "variant", size=("-o", "tiny+default", "-t", "sharedfile", "--disk", "0:size=4m", "--no-nics")
        )
        self.assertEqual(self.of("instance", "variant", "os"), ["tiny+default"])
        bad = "-o tiny+other -t sharedfile --disk 0:size=4m --no-nics -n node1"
        self.refused(f"gnt-instance add {bad} variant2.virtual", "other")

    def test_refused(self) -> None:
        """Everything that cannot be is refused before anything changes; object and remedy are named."""
        self.add("taken", "-n", "node1")
        good = "-o noop -t sharedfile --disk 0:size=4m --no-nics -B memory=64 -n node1"
        for options, name, texts in (
            (good, "taken.virtual", ("taken.virtual", "already")),
            (good.replace("noop", "absent"), "a.virtual", ("absent",)),
            (good.replace("node1", "node9"), "a.virtual", ("node9",)),
            (good + " -H xen-pvm", "a.virtual", ("xen-pvm", "enabled")),
            (good + " -H fake:colour=blue", "a.virtual", ("colour",)),
            (good.replace("memory=64", "memroy=64"), "a.virtual", ("memroy", "maxmem")),
            (good.replace("memory=64", "memory=8"), "a.virtual", ("memory", "32")),
            (good.replace("memory=64", "memory=64,vcpus=0"), "a.virtual", ("vcpus",)),
            (good.replace("sharedfile", "plain"), "a.virtual", ("plain", "enabled")),
            (good.replace("size=4m", "mode=rw"), "a.virtual", ("size",)),
            (good.replace("64", "31g") + " --disk 1:size=4m,mode=xx", "a.virtual", ("mode",)),
            (good + " -I builtin", "a.virtual", ("node",)),
        ):
            self.refused(f"gnt-instance add {options} {name}", *texts)

    def test_no_room(self) -> None:
        """More memory than any node has: the allocator says how much is missing where (environment)."""
        self.cluster.gnt("gnt-cluster modify --ipolicy-bounds-specs", self._bounds(memory=10_000_000))
        self.addCleanup(
            self.cluster.gnt, "gnt-cluster modify --ipolicy-bounds-specs", self._bounds(memory=32768)
        )
        big = "-o noop -t sharedfile --disk 0:size=4m --no-nics -B memory=900g"
        self.refused(f"gnt-instance add {big} big.virtual", "memory")
        self.refused(f"gnt-instance add {big} -n node1 big.virtual", "node1.virtual", "memory")

    def _bounds(self, *, memory: int) -> str:
        rest = "cpu-count={0},disk-count={1},disk-size={2},nic-count={3},spindle-use={0}"
        low = rest.format(1, 0, 1, 0)
        high = rest.format(8, 16, 1048576, 8)
        return f"min:memory-size=32,{low}/max:memory-size={memory},{high}"


class StateTests(OperationsCase):
    """Start, stop, restart, change."""

    def test_stop_and_start(self) -> None:
        """Shutdown and startup change state and configuration; both may be repeated."""
        name = self.add("updown")
        for _ in range(2):
            self.gnt(f"gnt-instance shutdown {name}")
            self.assertEqual(self.of("instance", name, "status"), ["ADMIN_down"])
        for _ in range(2):
            self.gnt(f"gnt-instance startup {name}")
            self.assertEqual(self.of("instance", name, "status"), ["running"])

    def test_no_remember(self) -> None:
        """`--no-remember` changes only what is, not what should be."""
        name = self.add("noremember")
        self.gnt(f"gnt-instance shutdown --no-remember {name}")
        self.assertEqual(self.of("instance", name, "status"), ["ERROR_down"])
        self.gnt(f"gnt-instance startup {name}")
        self.gnt(f"gnt-instance shutdown {name}")
        self.gnt(f"gnt-instance startup --no-remember {name}")
        self.assertEqual(self.of("instance", name, "status"), ["ERROR_up"])

    def test_selection(self) -> None:
        """Instances are chosen by node, by tag, or all at once."""
        names = [self.add(f"many{number}", "-n", "node2", "--tags", "many") for number in range(2)]
        self.gnt("gnt-instance shutdown --force-multiple --tags many")
        self.assertEqual([self.of("instance", name, "status")[0] for name in names], ["ADMIN_down"] * 2)
        self.gnt("gnt-instance startup --force-multiple --node node2")
        self.assertEqual([self.of("instance", name, "status")[0] for name in names], ["running"] * 2)

    def test_reboot(self) -> None:
        """All three types of reboot leave it running; a stopped one is started; other types are refused."""
        name = self.add("reboots")
        for kind in ("soft", "hard", "full"):
            self.gnt(f"gnt-instance reboot --type={kind} {name}")
            self.assertEqual(self.of("instance", name, "status", "admin_state"), ["running", "up"])
        self.gnt(f"gnt-instance shutdown {name}")
        self.gnt(f"gnt-instance reboot --type=full {name}")
        self.assertEqual(self.of("instance", name, "status"), ["running"])
        self.refused(f"gnt-instance reboot --type=lukewarm {name}", "lukewarm", "soft", code=2)

    def test_modify(self) -> None:
        """Parameters are changed, shown as the instance's own, and reset by `default`."""
        name = self.add("modified")
        self.gnt(f"gnt-instance modify -B memory=96,vcpus=2,auto_balance=no {name}")
        self.assertEqual(
            self.of("instance", name, "be/maxmem", "be/vcpus", "be/auto_balance"), [96, 2, False]
        )
        self.gnt(f"gnt-instance modify -O note=red {name}")
        self.assertIn("note: red", self.gnt(f"gnt-instance info {name}"))
        self.gnt(f"gnt-instance modify -O -note {name}")
        self.assertNotIn("note: red", self.gnt(f"gnt-instance info {name}"))
        self.gnt(f"gnt-instance modify -B vcpus=default {name}")
        self.assertEqual(self.of("instance", name, "be/vcpus"), [1])
        self.refused(
            f"gnt-instance modify -H migration_mode=non-live {name}", "migration_mode", "whole cluster"
        )
        self.gnt(f"gnt-instance modify -o tiny {name}")
        self.assertEqual(self.of("instance", name, "os"), ["tiny"])

    def test_modify_refused(self) -> None:
        """Unknown parameters, wrong values, and a call without any change."""
        name = self.add("unmodified")
        self.refused(f"gnt-instance modify {name}", "at least one")
        self.refused(f"gnt-instance modify -B colour=1 {name}", "colour")
        self.refused(f"gnt-instance modify -B memory=lots {name}", "lots")
        self.refused(f"gnt-instance modify -H colour=1 {name}", "colour")
        self.refused(f"gnt-instance modify -O colour=red {name}", "noop", "colour", "note")
        self.refused(f"gnt-instance modify -B memory=40000 {name}", "memory", "32768")
        self.refused("gnt-instance modify -B memory=64 nobody", "nobody")

    def test_offline(self) -> None:
        """An instance that is marked offline cannot be started until it is online again."""
        name = self.add("parked")
        self.refused(f"gnt-instance modify --offline {name}", name)
        self.gnt(f"gnt-instance shutdown {name}")
        self.gnt(f"gnt-instance modify --offline {name}")
        self.assertEqual(self.of("instance", name, "status"), ["ADMIN_offline"])
        self.refused(f"gnt-instance startup {name}", name, "--online")
        self.gnt(f"gnt-instance modify --online {name}")
        self.gnt(f"gnt-instance startup {name}")
        self.assertEqual(self.of("instance", name, "status"), ["running"])

    def test_info(self) -> None:
        """Everything about an instance; statically without asking its node; as JSON."""
        name = self.add("informed", "-n", "node2")
        info = self.gnt(f"gnt-instance info {name}")
        for text in (
            f"- Instance name: {name}",
            "State: configured to be up, actual state is up",
            "primary: node2.virtual",
            "Operating system: noop",
            "Hypervisor: fake",
            "Disk template: sharedfile",
            "memory: default (64)",
        ):
            self.assertIn(text, info)
        static = self.gnt(f"gnt-instance info -s {name}")
        self.assertIn("State: configured to be up\n", static)
        (found,) = json.loads(self.gnt(f"gnt-instance info --output json {name}"))
        self.assertEqual(found["name"], name)
        self.refused("gnt-instance info nobody.virtual", "nobody.virtual")

    def test_console(self) -> None:
        """A running instance has a console; a stopped one is told about."""
        name = self.add("console")
        self.assertTrue(self.gnt(f"gnt-instance console --show-cmd {name}").strip())
        self.gnt(f"gnt-instance shutdown {name}")
        self.refused(f"gnt-instance console --show-cmd {name}", name, "startup")

    def test_remove(self) -> None:
        """After removal neither instance nor disk is left; without force there is a question."""
        name = self.add("removed")
        self.refused(f"gnt-instance remove {name}")
        self.gnt(f"gnt-instance remove -f {name}")
        self.assertFalse(Path(self.cluster.layout.shared_dir, name).exists())
        self.refused(f"gnt-instance list {name}", name)
        self.refused(f"gnt-instance remove -f {name}", name)


class MoveTests(OperationsCase):
    """Migration and failover."""

    def test_migrate(self) -> None:
        """Live and not, to a given node, and where the allocator says; it runs in one place then."""
        name = self.add("moves", "-n", "node1")
        for options, expected in (
            ("-n node2", "node2.virtual"),
            ("--non-live -n node3", "node3.virtual"),
            ("--migration-mode=live -n node1", "node1.virtual"),
        ):
            self.gnt(f"gnt-instance migrate -f {options} {name}")
            self.assertEqual(self.of("instance", name, "pnode", "status"), [expected, "running"])
        self.gnt(f"gnt-instance migrate -f {name}")
        node, status = self.of("instance", name, "pnode", "status")
        self.assertNotEqual(node, "node1.virtual")
        self.assertEqual(status, "running")
        self.assertEqual(self._places(name), [node])
        self.refused(f"gnt-instance migrate -f -n {node} {name}", node)
        self.refused(f"gnt-instance migrate -n node1 {name}")

    def test_all_of_a_node(self) -> None:
        """All instances of a node migrate, or fail over; those of others stay."""
        for (left,) in self.rows("gnt-instance list", "-o name"):
            self.gnt(f"gnt-instance remove -f {left}")
        names = [self.add(f"all{number}", "-n", "node1") for number in (1, 2)]
        other = self.add("other", "-n", "node2")
        printed = self.gnt("gnt-node migrate -f -n node3 node1")
        self.assertTrue(printed.endswith("All instances migrated successfully.\n"), printed)
        for name in names:
            self.assertEqual(self.of("instance", name, "pnode", "status"), ["node3.virtual", "running"])
        self.assertEqual(self.of("instance", other, "pnode"), ["node2.virtual"])
        self.assertIn("No primary instances on node node1", self.gnt("gnt-node migrate -f node1"))
        self.refused("gnt-node migrate -f -n node3 node3", "node3")
        self.assertIn("evacuated successfully", self.gnt("gnt-node evacuate -f -p node3"))
        places = [self.of("instance", name, "pnode", "status") for name in names]
        self.assertEqual([status for _, status in places], ["running", "running"])
        self.assertNotIn("node3.virtual", [node for node, _ in places])
        self.refused("gnt-node evacuate -f -p -n node1 node2")
        for name in names:
            self.gnt(f"gnt-instance migrate -f -n node3 {name}")
        self.assertIn("All 2 instance(s) failed over", self.gnt("gnt-node failover -f node3"))
        for name in names:
            node, status = self.of("instance", name, "pnode", "status")
            self.assertNotEqual(node, "node3.virtual")
            self.assertEqual(status, "running")

    def _places(self, name: str) -> list[str]:
        return [
            node.name
            for node in self.cluster.layout.nodes
            if Path(self.cluster.layout.paths(node).hypervisor_dir("fake"), name).exists()
        ]

    def test_migrate_stopped(self) -> None:
        """What does not run cannot be migrated, unless a failover would do."""
        name = self.add("stopped", "-n", "node1", "--no-start")
        self.refused(f"gnt-instance migrate -f -n node2 {name}", name, "failover")
        self.gnt(f"gnt-instance migrate -f --allow-failover -n node2 {name}")
        self.assertEqual(self.of("instance", name, "pnode", "status"), ["node2.virtual", "ADMIN_down"])

    def test_cleanup(self) -> None:
        """After an interrupted migration the configuration follows where the instance really runs."""
        name = self.add("lost", "-n", "node1")
        paths = [self.cluster.layout.paths(node).hypervisor_dir("fake") for node in self.cluster.layout.nodes]
        Path(paths[2]).mkdir(parents=True, exist_ok=True)
        Path(paths[0], name).rename(Path(paths[2], name))
        self.gnt(f"gnt-instance migrate -f --cleanup {name}")
        self.assertEqual(self.of("instance", name, "pnode", "status"), ["node3.virtual", "running"])
        self.gnt(f"gnt-instance migrate -f --cleanup {name}")
        self.assertEqual(self.of("instance", name, "pnode", "status"), ["node3.virtual", "running"])

    def test_failover(self) -> None:
        """Stopped here, started there; what was down stays down."""
        name = self.add("fails", "-n", "node1")
        self.gnt(f"gnt-instance failover -f -n node2 {name}")
        self.assertEqual(self.of("instance", name, "pnode", "status"), ["node2.virtual", "running"])
        self.gnt(f"gnt-instance shutdown {name}")
        self.gnt(f"gnt-instance failover -f -n node3 {name}")
        self.assertEqual(self.of("instance", name, "pnode", "status"), ["node3.virtual", "ADMIN_down"])
        self.assertEqual(self._places(name), [])

    def test_local_disks(self) -> None:
        """An instance whose disks one node alone has cannot move; the message says why."""
        self.add(
            "local", size=("-o", "noop", "-t", "file", "--disk", "0:size=4m", "--no-nics", "-n", "node1")
        )
        self.refused("gnt-instance migrate -f -n node2 local", "local.virtual", "file")
        self.refused("gnt-instance failover -f -n node2 local", "local.virtual", "file")

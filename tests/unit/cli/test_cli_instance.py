"""gnt-instance."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.cli.cli_fakes import FakeMaster, FakeWorld, table

NAMES = {"name": ("Instance", "text"), "status": ("Status", "text"), "oper_ram": ("Memory", "unit")}
ROWS = table(NAMES, ["db1.ex.org", "running", 2048], ["web.ex.org", "ADMIN_down", [3, None]])

INSTANCES: list[dict[str, Any]] = [
    {
        "name": "db1",
        "pnode": "n1",
        "snodes": ["n2"],
        "tags": ["prod"],
        "pnode.group": "g1",
        "pnode.group.uuid": "u1",
    },
    {
        "name": "web",
        "pnode": "n2",
        "snodes": [],
        "tags": [],
        "pnode.group": "g2",
        "pnode.group.uuid": "u2",
    },
]
NODE_TAGS = {"n1": ["ssd"], "n2": []}

INFO: dict[str, Any] = {
    "name": "db1.ex.org",
    "config_state": "up",
    "run_state": "up",
    "pnode": "n1.ex.org",
    "pnode_group_uuid": "1c2d",
    "pnode_group_name": "default",
    "snodes": ["n2.ex.org"],
    "snodes_group_uuids": ["1c2d"],
    "snodes_group_names": ["default"],
    "os": "debian+trixie",
    "nics": [[None, "77aa", None, "aa:00:00:12:34:56", "bridged", "br0", None, None, None]],
    "disk_template": "drbd",
    "disks": [],
    "hypervisor": "kvm",
    "network_port": 11007,
    "hv_instance": {"acpi": False},
    "hv_actual": {"acpi": False, "boot_order": "disk", "vnc_bind_address": "0.0.0.0"},
    "be_instance": {"maxmem": 2048},
    "be_actual": {"always_failover": False, "maxmem": 2048},
    "os_instance": {},
    "os_actual": {},
    "serial_no": 3,
    "mtime": 1767607331.0,
    "ctime": 1767607200.0,
    "uuid": "6f0e",
}
LEAF: dict[str, Any] = {
    "iv_name": "",
    "dev_type": "plain",
    "drbd_info": None,
    "logical_id": ["xenvg", "6f0e.disk0_data"],
    "pstatus": ["/dev/xenvg/6f0e.disk0_data", 254, 0, None, None, False, 1],
    "sstatus": None,
    "children": [],
    "mode": "rw",
    "size": 10240,
    "spindles": None,
    "name": None,
    "uuid": "88bc",
}
DRBD: dict[str, Any] = {
    **LEAF,
    "dev_type": "drbd",
    "logical_id": [],
    "drbd_info": {
        "primary_node": "n1.ex.org",
        "primary_minor": 0,
        "secondary_node": "n2.ex.org",
        "secondary_minor": 0,
        "port": 11000,
    },
    "pstatus": ["/dev/drbd0", 147, 0, None, None, False, 1],
    "sstatus": ["/dev/drbd0", 147, 0, 12.34, 80, True, 3],
    "children": [LEAF],
    "uuid": "88bb",
}


class SelectionMaster(FakeMaster):
    """Knows two instances on two nodes."""

    def _Query(self, what: str, fields: list[str], wanted: Any) -> Any:
        if what == "job":
            return super()._Query(what, fields, wanted)
        if what == "node":
            tests = wanted[1:]
            names = [
                name
                for name, tags in NODE_TAGS.items()
                if any(name == test[2] or test[2] in tags for test in tests)
            ]
            return {"fields": [], "data": [[[0, name]] for name in names]}
        if wanted is not None:
            tests = wanted[1:] if wanted[0] == "|" else [wanted]
            return {"fields": [], "data": [[[0, test[2]]] for test in tests]}
        return {"fields": [], "data": [[[0, row[field]] for field in fields] for row in INSTANCES]}


class ListTests(SynchronousTestCase):
    """gnt-instance list."""

    def test_table(self) -> None:
        """The default columns are asked for and shown as a table."""
        master = FakeMaster({"Query": ROWS})
        world = FakeWorld(master)
        self.assertEqual(world.run("gnt-instance list"), 0)
        self.assertEqual(
            world.out_text,
            "Instance   Status     Memory\ndb1.ex.org running      2.0G\nweb.ex.org ADMIN_down      -\n",
        )
        self.assertEqual(
            master.calls[0][1],
            ["instance", ["name", "hypervisor", "os", "pnode", "status", "oper_ram"], None],
        )

    def test_output(self) -> None:
        """`-o` replaces the columns, a leading plus adds to them; `table` and `json` are formats."""
        for given, wanted in (
            ("name,status", ["name", "status"]),
            ("+tags,uuid", ["name", "hypervisor", "os", "pnode", "status", "oper_ram", "tags", "uuid"]),
            ("table", ["name", "hypervisor", "os", "pnode", "status", "oper_ram"]),
            ("name --output=json", ["name"]),
        ):
            master = FakeMaster({"Query": ROWS})
            FakeWorld(master).run(f"gnt-instance list -o {given}")
            self.assertEqual(master.calls[0][1][1], wanted)

    def test_json(self) -> None:
        """JSON has plain values, null where there is none."""
        world = FakeWorld(FakeMaster({"Query": ROWS}))
        world.run("gnt-instance list --output json")
        self.assertEqual(
            json.loads(world.out_text)[1], {"name": "web.ex.org", "status": "ADMIN_down", "oper_ram": None}
        )

    def test_filter(self) -> None:
        """Names, globs and filter strings become filters."""
        for words, wanted in (
            (["a", "b"], ["|", ["==", "name", "a"], ["==", "name", "b"]]),
            (["oper_ram > 5"], [">", "oper_ram", 5]),
            (["-F", "admin_up"], ["?", "admin_up"]),
        ):
            master = FakeMaster({"Query": ROWS})
            FakeWorld(master).run("gnt-instance list", *words)
            self.assertEqual(master.calls[0][1][2], wanted)

    def test_unknown_field(self) -> None:
        """The output is printed, the field named, exit code 14."""
        answer = table({"name": ("Instance", "text"), "nam": ("nam", "unknown")}, ["x", [1, None]])
        world = FakeWorld(FakeMaster({"Query": answer}))
        self.assertEqual(world.run("gnt-instance list -o name,nam"), 14)
        self.assertEqual(world.out_text, "Instance nam\nx        ??\n")
        self.assertEqual(world.err_text, "Warning: Queried for unknown fields nam\n")

    def test_list_fields(self) -> None:
        """Name, type, title and description."""
        field = {
            "name": "admin_state",
            "title": "InstanceState",
            "kind": "text",
            "doc": "Desired state of instance",
        }
        master = FakeMaster({"QueryFields": {"fields": [field]}})
        world = FakeWorld(master)
        world.run("gnt-instance list-fields admin_state")
        self.assertEqual(
            world.out_text,
            "Name        Type Title         Description\n"
            "admin_state Text InstanceState Desired state of instance\n",
        )
        self.assertEqual(master.calls[0][1], ["instance", ["admin_state"]])


class SelectionTests(SynchronousTestCase):
    """Which instances startup, shutdown and reboot act on."""

    def run_it(self, words: str, *, replies: tuple[str, ...] = ("y",)) -> tuple[int, list[str], FakeWorld]:
        """Exit code, instances acted on, and the world."""
        master = SelectionMaster()
        world = FakeWorld(master, replies=replies)
        code = world.run(f"gnt-instance {words}")
        return code, [op["instance_name"] for op in master.opcodes], world

    def test_modes(self) -> None:
        """By node, role, group, tag; S2.3-030: by node group, too."""
        for words, wanted in (
            ("--node n2", ["db1", "web"]),
            ("--primary n2", ["web"]),
            ("--secondary n2", ["db1"]),
            ("--node-group g1", ["db1"]),
            ("--node-group u2", ["web"]),
            ("--all", ["db1", "web"]),
            ("--tags prod", ["db1"]),
            ("--node-tags ssd", ["db1"]),
            ("--pri-node-tags ssd", ["db1"]),
        ):
            code, names, world = self.run_it(f"startup {words}")
            self.assertEqual((code, names, len(world.questions)), (0, wanted, 1), words)

    def test_one_instance(self) -> None:
        """One named instance needs no question."""
        code, names, world = self.run_it("reboot db1")
        self.assertEqual((code, names, world.questions), (0, ["db1"], []))
        self.assertEqual(world.out_text, "Waiting for job 17 for db1 ...\n")

    def test_question(self) -> None:
        """Several instances are listed; `-f` is not enough to leave the question out."""
        code, names, world = self.run_it("shutdown -f db1 web", replies=("n",))
        self.assertEqual((code, names), (1, []))
        self.assertEqual(
            world.questions,
            [
                "The shutdown will operate on 2 instances.\nDo you want to continue?\n"
                "Affected instances:\n  db1\n  web"
            ],
        )

    def test_long_list(self) -> None:
        """More than 20 names are shown only on request."""
        names = " ".join(f"i{number}" for number in range(21))
        code, chosen, world = self.run_it(f"shutdown {names}", replies=("v", "y"))
        self.assertEqual((code, len(chosen)), (0, 21))
        self.assertNotIn("i20", world.questions[0])
        self.assertIn("  i20", world.questions[1])

    def test_force_multiple(self) -> None:
        """The option that leaves the question out."""
        self.assertEqual(self.run_it("shutdown --force-multiple --all")[2].questions, [])

    def test_nothing_named(self) -> None:
        """What is missing is named."""
        for words, missing in (("", "instance names"), ("--tags", "instance tags"), ("--node", "node names")):
            code, _, world = self.run_it(f"startup {words}")
            self.assertEqual(code, 1)
            self.assertIn(f"No {missing} passed", world.err_text)

    def test_empty_cluster(self) -> None:
        """Shutting down all of nothing is fine."""
        world = FakeWorld(FakeMaster({"Query": {"fields": [], "data": []}}))
        self.assertEqual(world.run("gnt-instance shutdown --all"), 0)
        self.assertIn("Cluster is empty, no instances to shutdown", world.err_text)


class AddTests(SynchronousTestCase):
    """gnt-instance add."""

    def opcode(self, words: str) -> dict[str, Any]:
        """What is submitted."""
        master = FakeMaster()
        world = FakeWorld(master)
        self.assertEqual(world.run(f"gnt-instance add {words} web.ex.org"), 0, world.err_text)
        return master.opcodes[0]

    def test_everything(self) -> None:
        """Options become parameters."""
        self.assertEqual(
            self.opcode(
                "-t drbd -o debian+trixie -n n1:n2 --disk 0:size=10g --disk 1:size=1g,mode=ro "
                "--net 0:link=br1 -B maxmem=1g -H kvm:acpi=no --no-start --tags a,b "
                "--no-wait-for-sync -O dns=1.1.1.1"
            ),
            {
                "OP_ID": "OP_INSTANCE_CREATE",
                "mode": "create",
                "instance_name": "web.ex.org",
                "disk_template": "drbd",
                "os_type": "debian+trixie",
                "pnode": "n1",
                "snode": "n2",
                "disks": [{"size": 10240}, {"size": 1024, "mode": "ro"}],
                "nics": [{"link": "br1"}],
                "beparams": {"maxmem": "1g"},
                "hypervisor": "kvm",
                "hvparams": {"acpi": "no"},
                "osparams": {"dns": "1.1.1.1"},
                "start": False,
                "wait_for_sync": False,
                "tags": ["a", "b"],
            },
        )

    def test_short_forms(self) -> None:
        """One disk by its size, one interface with defaults, no start without an OS."""
        opcode = self.opcode("-s 1g --no-install --no-name-check")
        self.assertEqual((opcode["disks"], opcode["nics"]), ([{"size": 1024}], [{}]))
        self.assertEqual((opcode["no_install"], opcode["start"]), (True, False))

    def test_diskless(self) -> None:
        """No disks and no interfaces."""
        opcode = self.opcode("-t diskless --no-nics -o x")
        self.assertEqual((opcode["disks"], opcode["nics"]), ([], []))

    def test_contradictions(self) -> None:
        """What does not fit together is refused before anything is submitted."""
        for words, text in (
            ("-t plain", "No disk was given"),
            ("-s 1g --disk 0:size=1g", "not both"),
            ("-t diskless -s 1g", "cannot have disks"),
            ("-s 1g --net 0:link=x --no-nics", "not both"),
            ("-s 1g -H kvm:a=b -H fake", "exactly one hypervisor"),
        ):
            master = FakeMaster()
            world = FakeWorld(master)
            self.assertEqual(world.run(f"gnt-instance add {words} web"), 1)
            self.assertIn(text, world.err_text)
            self.assertEqual(master.calls, [])


class ChangeTests(SynchronousTestCase):
    """modify, remove, migrate, failover."""

    def test_modify(self) -> None:
        """What changed is listed, with the reminder about the next start."""
        result = [["be/maxmem", 1024], ["mac", "x"]]
        master = FakeMaster(results={"OP_INSTANCE_SET_PARAMS": result})
        world = FakeWorld(master)
        self.assertEqual(world.run("gnt-instance modify -B maxmem=1g -O -dns web"), 0, world.err_text)
        self.assertTrue(
            world.out_text.startswith("Modified instance web\n - be/maxmem -> 1024\n - mac   -> x\n")
        )
        self.assertEqual(
            (master.opcodes[0]["beparams"], master.opcodes[0]["osparams"]), ({"maxmem": "1g"}, {"dns": None})
        )

    def test_modify_states(self) -> None:
        """--offline and --online set one parameter."""
        for flag, wanted in (("--offline", True), ("--online", False)):
            master = FakeMaster(results={"OP_INSTANCE_SET_PARAMS": []})
            world = FakeWorld(master)
            self.assertEqual((world.run(f"gnt-instance modify {flag} web"), world.out_text), (0, ""))
            self.assertIs(master.opcodes[0]["offline"], wanted)

    def test_modify_nothing(self) -> None:
        """Without a change there is nothing to submit."""
        world = FakeWorld(FakeMaster())
        self.assertEqual(world.run("gnt-instance modify web"), 1)
        self.assertEqual(world.err_text, "Please give at least one of the parameters.\n")

    def test_questions(self) -> None:
        """remove, migrate and failover ask, unless -f; no is exit code 1."""
        for command in ("remove", "migrate", "failover"):
            master = FakeMaster()
            world = FakeWorld(master, replies=["n"])
            self.assertEqual((world.run(f"gnt-instance {command} web"), master.calls), (1, []))
            self.assertIn("web", world.questions[0])
            world = FakeWorld(master)
            self.assertEqual((world.run(f"gnt-instance {command} -f web"), world.questions), (0, []))

    def test_failover_of_degraded_disks(self) -> None:
        """--ignore-consistency asks even with -f."""
        world = FakeWorld(FakeMaster(), replies=["n"])
        self.assertEqual(world.run("gnt-instance failover -f --ignore-consistency web"), 1)
        self.assertEqual(len(world.questions), 1)

    def test_one_destination(self) -> None:
        """A node or an allocator, not both."""
        world = FakeWorld(FakeMaster())
        self.assertEqual(world.run("gnt-instance migrate -f -n n2 -I builtin web"), 1)
        self.assertIn("not both", world.err_text)

    def test_non_live(self) -> None:
        """--non-live clears what the opcode calls live."""
        master = FakeMaster()
        FakeWorld(master).run("gnt-instance migrate -f --non-live web")
        self.assertIs(master.opcodes[0]["live"], False)


class InfoTests(SynchronousTestCase):
    """gnt-instance info."""

    def text(self, **changes: Any) -> str:
        """What is printed of one instance."""
        result = {"db1.ex.org": {**INFO, **changes}}
        world = FakeWorld(FakeMaster(results={"OP_INSTANCE_QUERY_DATA": result}))
        self.assertEqual(world.run("gnt-instance info db1.ex.org"), 0)
        return world.out_text

    def test_head(self) -> None:
        """Keys in the established order, inherited values as default."""
        text = self.text(nics=[])
        self.assertTrue(text.startswith("- Instance name: db1.ex.org\n  UUID: 6f0e\n  Serial number: 3\n"))
        self.assertIn(
            "  State: configured to be up, actual state is up\n  Nodes: \n    - primary: n1.ex.org\n"
            "      group: default (UUID 1c2d)\n"
            "    - secondaries: n2.ex.org (group default, group UUID 1c2d)\n"
            "  Operating system: debian+trixie\n  Operating system parameters: \n"
            "  Allocated network port: 11007\n  Hypervisor: kvm\n"
            "  console connection: vnc to n1.ex.org:11007 (display 5107)\n"
            "  Hypervisor parameters: \n    acpi: False\n    boot_order: default (disk)\n",
            text,
        )
        self.assertIn(
            "  Back-end parameters: \n    always_failover: default (False)\n    maxmem: 2048\n"
            "    memory: default (2048)\n  NICs: \n  Disk template: drbd\n  Disks: \n",
            text,
        )

    def test_nic(self) -> None:
        """A network interface; what is absent is None, a missing VLAN empty."""
        self.assertIn(
            "  NICs: \n    - nic/0: \n      MAC: aa:00:00:12:34:56\n      IP: None\n      mode: bridged\n"
            "      link: br0\n      vlan: \n      network: None\n      UUID: 77aa\n      name: None\n",
            self.text(),
        )

    def test_disks(self) -> None:
        """Mirrored disks with both ends and their children."""
        self.assertIn(
            "    - disk/0: drbd, size 10.0G\n      access mode: rw\n      nodeA: n1.ex.org, minor=0\n"
            "      nodeB: n2.ex.org, minor=0\n      port: 11000\n"
            "      on primary: /dev/drbd0 (147:0) in sync, status ok\n"
            "      on secondary: /dev/drbd0 (147:0) *RECOVERING* 12.34%, ETA 80s, status *DEGRADED*"
            " *UNCERTAIN STATE*\n"
            "      name: None\n      UUID: 88bb\n      child devices: \n"
            "        - child 0: plain, size 10.0G\n"
            "          logical_id: xenvg/6f0e.disk0_data\n"
            "          on primary: /dev/xenvg/6f0e.disk0_data (254:0)\n          name: None\n"
            "          UUID: 88bc\n",
            self.text(disks=[DRBD]),
        )

    def test_file_disk(self) -> None:
        """Other disks show their identity as a list."""
        disk = {**LEAF, "dev_type": "sharedfile", "logical_id": ["loop", "/srv/a"], "pstatus": None}
        self.assertIn("      logical_id: [loop, /srv/a]\n      name: None\n", self.text(disks=[disk]))

    def test_static(self) -> None:
        """Without a report of the node the second half of the state is left out."""
        self.assertIn("  State: configured to be up\n", self.text(run_state=None))

    def test_consoles(self) -> None:
        """The forms of a VNC console."""
        for address, wanted in (
            ("127.0.0.1", "vnc to 127.0.0.1:11007 (node n1.ex.org) (display 5107)"),
            ("/run/vnc", "vnc to n1.ex.org:/run/vnc"),
        ):
            text = self.text(hv_actual={"vnc_bind_address": address})
            self.assertIn(f"  console connection: {wanted}\n", text)
        self.assertNotIn("console", self.text(hv_actual={"vnc_bind_address": ""}))

    def test_names_or_all(self) -> None:
        """One of both, and the list when there is none."""
        for words in ("info", "info --all x"):
            self.assertEqual(FakeWorld(FakeMaster()).run(f"gnt-instance {words}"), 1)
        world = FakeWorld(FakeMaster(results={"OP_INSTANCE_QUERY_DATA": {}}))
        self.assertEqual((world.run("gnt-instance show --all"), world.out_text), (1, "No instances.\n"))


class ConsoleTests(SynchronousTestCase):
    """gnt-instance console."""

    def world(self, **console: Any) -> FakeWorld:
        """A cluster whose consoles are like this."""
        result = {"instance": "web", "kind": "ssh", "host": "n1", "port": None, "user": "root", **console}
        return FakeWorld(FakeMaster(results={"OP_INSTANCE_CONSOLE": result}), codes=[3])

    def test_ssh(self) -> None:
        """The command runs on the node; its exit code is ours."""
        world = self.world(command=["socat", "a b"])
        self.assertEqual(world.run("gnt-instance console web"), 3)
        self.assertEqual(world.programs, [(["ssh", "-q", "-t", "root@n1", "socat 'a b'"], None)])

    def test_show_command(self) -> None:
        """--show-cmd only prints it."""
        world = self.world(command=["socat"], port=2222)
        self.assertEqual(world.run("gnt-instance console --show-cmd web"), 0)
        self.assertEqual((world.out_text, world.programs), ("ssh -q -t -p 2222 root@n1 socat\n", []))

    def test_local_script(self) -> None:
        """A site may reach its nodes by a script of its own."""
        from pathlib import Path

        root = Path(self.mktemp())
        script = root / "etc/ganeti/node-shell"
        script.parent.mkdir(parents=True)
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)
        world = FakeWorld(
            FakeMaster(results={"OP_INSTANCE_CONSOLE": {"kind": "ssh", "host": "n1", "command": ["x"]}}),
            environ={"GANETI_ROOTDIR": str(root)},
        )
        self.assertEqual(world.run("gnt-instance console web"), 0)
        self.assertEqual(world.programs[0][0], [str(script), "n1", "x"])

    def test_other_kinds(self) -> None:
        """Where VNC and SPICE listen, and plain messages."""
        for console, wanted in (
            (
                {"kind": "vnc", "port": 11007, "display": 5107},
                "Instance web has VNC listening on n1:11007 (display 5107), URL <vnc://n1:11007/>\n",
            ),
            ({"kind": "spice", "port": 11007}, "Instance web has SPICE listening on n1:11007\n"),
            ({"kind": "msg", "message": "none"}, "none\n"),
        ):
            world = self.world(**console)
            self.assertEqual((world.run("gnt-instance console web"), world.out_text), (0, wanted))


class TagTests(SynchronousTestCase):
    """Tags of any object."""

    def test_add(self) -> None:
        """Arguments and a file, put together."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("from-file\n\n")
        master = FakeMaster()
        world = FakeWorld(master)
        self.assertEqual(world.run(f"gnt-instance add-tags --from {path} web a b"), 0, world.err_text)
        wanted = {"OP_ID": "OP_TAGS_SET", "kind": "instance", "name": "web", "tags": ["a", "b", "from-file"]}
        self.assertEqual(master.opcodes, [wanted])

    def test_cluster(self) -> None:
        """The cluster has no name."""
        master = FakeMaster()
        FakeWorld(master).run("gnt-cluster remove-tags a")
        self.assertEqual(
            master.opcodes, [{"OP_ID": "OP_TAGS_DEL", "kind": "cluster", "name": None, "tags": ["a"]}]
        )

    def test_none(self) -> None:
        """Without tags nothing is submitted."""
        world = FakeWorld(FakeMaster())
        self.assertEqual(world.run("gnt-node add-tags n1"), 1)
        self.assertIn("No tags", world.err_text)

    def test_list(self) -> None:
        """One on each line, sorted."""
        master = FakeMaster({"QueryTags": ["b", "a"]})
        world = FakeWorld(master)
        world.run("gnt-node list-tags n1")
        self.assertEqual((world.out_text, master.calls), ("a\nb\n", [("QueryTags", ["node", "n1"])]))

    def test_search(self) -> None:
        """Path and tag; exit code 1 when nothing matches."""
        world = FakeWorld(FakeMaster(results={"OP_TAGS_SEARCH": [["/nodes/n1", "b"], ["/cluster", "a"]]}))
        self.assertEqual(
            (world.run("gnt-cluster search-tags ."), world.out_text), (0, "/cluster a\n/nodes/n1 b\n")
        )
        world = FakeWorld(FakeMaster(results={"OP_TAGS_SEARCH": []}))
        self.assertEqual((world.run("gnt-cluster search-tags ."), world.out_text), (1, ""))
